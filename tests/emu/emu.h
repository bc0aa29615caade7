/* emu.h - controls of the host emulation of CUDA: tests include it, the code under test never does.
 *
 * tests/emu/ holds a cuda_runtime.h, cuda_fp16.h and cuda_bf16.h of its own. With that directory first in the include path the
 * same .cu files compile as C++ and run on the CPU:
 *
 *   Kernels. Blocks run one after the other; the threads of a block are fibers, switched at __syncthreads, __syncwarp, shuffles,
 *   ballots and the tensor cores' mma alone, in an order drawn from the seed, so that what a missing barrier would allow does happen. Shared memory is allocated
 *   for each block and starts as NaNs. A barrier that not all can reach is reported as a deadlock.
 *   Streams. An operation may run at any time from its issue until something synchronises with it. EMU_EAGER runs it at once;
 *   EMU_LATE as late as the ordering allows; EMU_SEEDED at a time drawn from the seed.
 *   Memory. cudaMalloc has a limit; allocations start as NaNs, and under AddressSanitizer they have red zones. Or the host cannot reach
 *   them: only kernels and copies can.
 *   cuBLAS. Products go through oneDNN, with cuBLAS's column-major arguments.
 *   Failures. The n-th runtime call from now on can be made to fail, and products to come out wrong.
 *
 * What it does not show: races between blocks, wrong memory orders, alignment faults of vector loads (UBSan sees those), time.
 */
#ifndef BALLAST_TESTS_EMU_EMU_H
#define BALLAST_TESTS_EMU_EMU_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum emu_order { EMU_EAGER, EMU_LATE, EMU_SEEDED };

void emu_reset(void);                               /* as it was at the start; what is still allocated or queued is dropped */
void emu_mode(enum emu_order order, uint64_t seed); /* also the order of fibers, unless EMU_EAGER with seed 0 */
void emu_memory(int64_t device_bytes, int64_t pinned_bytes);
void emu_system(int driver, int devices); /* the newest CUDA of the driver (13000; 0: there is none), and how many devices (1) */
void emu_capability(int major);           /* the major number of the compute capability (8): what the backend may use */
void emu_close_device(
    int close); /* from now on the host's own reads and writes of device memory are faults; call it with none allocated */
void emu_fail_at(int64_t n); /* the n-th runtime call from now on fails; 0: none does */
enum emu_mistake { EMU_NO_MISTAKE, EMU_F16_SUMS, EMU_LOST_SLICE };
void emu_blas_mistake(enum emu_mistake m); /* products sum in fp16, or leave out the last 16 of k */
int64_t emu_calls(void);                   /* runtime calls since emu_fail_at */
int64_t emu_launches(void);                /* kernels run so far */
int64_t emu_device_used(void);             /* bytes allocated now */

#ifdef __cplusplus
}
#endif
#endif
