/* emu_internal.h - between runtime.cc, fibers.cc and cublas.cc. */
#ifndef BALLAST_TESTS_EMU_EMU_INTERNAL_H
#define BALLAST_TESTS_EMU_EMU_INTERNAL_H

#include <cuda_runtime.h>

#include "model/mix.h"
#include "tests/emu/emu.h"

namespace emu
{

inline uint64_t next_random(uint64_t *state)
{
    return mix64(*state += MIX_STEP);
}

/* Under the runtime's lock. random may be NULL: threads in order. */
void run_grid(const std::function<void()> &body, dim3 grid, dim3 block, size_t shared_bytes, uint64_t *random);
/* The host's own work as an operation of a stream; a cudaError_t. */
int host_work(std::function<void()> work, CUstream_st *stream);

} // namespace emu

#endif
