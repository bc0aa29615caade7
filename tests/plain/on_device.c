/* on_device.c - the controls of the emulation where a GPU runs the kernels. The order of threads is the GPU's own; a test of anything else that
 * only the emulation can do is skipped. */
#include <criterion/criterion.h>

#include "tests/emu/emu.h"

void emu_reset(void)
{
}

void emu_mode(enum emu_order order, uint64_t seed)
{
    (void)order;
    (void)seed;
}

void emu_memory(int64_t device_bytes, int64_t pinned_bytes)
{
    cr_skip_test("only the emulation has as little memory as %lld and %lld bytes", (long long)device_bytes,
                 (long long)pinned_bytes);
}

void emu_system(int driver, int devices)
{
    cr_skip_test("only the emulation pretends to have driver %d and %d devices", driver, devices);
}

void emu_capability(int major)
{
    cr_skip_test("only the emulation pretends to have compute capability %d", major);
}

void emu_close_device(int on) /* a GPU's memory is */
{
    (void)on;
}

void emu_fail_at(int64_t n)
{
    cr_skip_test("only the emulation makes call %lld fail", (long long)n);
}

void emu_blas_mistake(enum emu_mistake m)
{
    cr_skip_test("only the emulation multiplies wrongly on purpose (%d)", m);
}

int64_t emu_calls(void)
{
    cr_skip_test("only the emulation counts calls");
}

int64_t emu_launches(void)
{
    cr_skip_test("only the emulation counts kernels");
}

int64_t emu_device_used(void)
{
    cr_skip_test("only the emulation counts its bytes");
}
