/* emu_internal.h - between runtime.cc and fibers.cc. */
#ifndef BALLAST_TESTS_EMU_EMU_INTERNAL_H
#define BALLAST_TESTS_EMU_EMU_INTERNAL_H

#include <cuda_runtime.h>

#include "tests/emu/emu.h"

namespace emu
{

inline uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Under the runtime's lock. random may be NULL: threads in order. */
void run_grid(const std::function<void()> &body, dim3 grid, dim3 block, size_t shared_bytes, uint64_t *random);

} // namespace emu

#endif
