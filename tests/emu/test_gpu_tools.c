/* test_gpu_tools.c - the table of tools of the CUDA part, over the emulation: what it says of a machine, and when there is nothing to say. */
#include <criterion/criterion.h>
#include <string.h>

#include "executor/gpu_tools.h"
#include "tests/emu/emu.h"

static const struct gpu_tools *const tools = &ballast_gpu_tools;

Test(gpu_tools, the_system_and_its_device_are_described)
{
    struct gpu_system system;
    struct gpu_description d;
    struct error err = {0};
    emu_memory(1 << 20, 1 << 20);
    cr_assert_eq(tools->version, GPU_TOOLS_VERSION);
    cr_assert_eq(tools->system(&system, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(system.devices, 1);
    cr_assert_eq(system.runtime.major, 13); /* CUDART_VERSION of the emulation is 13000 */
    cr_assert_eq(system.runtime.minor, 0);
    cr_assert_eq(tools->describe(0, &d, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(d.memory_bytes, 1 << 20);
    cr_assert_eq(d.free_bytes, 1 << 20);
    cr_assert(strstr(d.name, "no GPU"));
    cr_assert_str_eq(d.pci, "0000:00:00.0");
}

static void refuses(int driver, int devices, const char *expected)
{
    struct gpu_system system;
    struct error err = {0};
    emu_system(driver, devices);
    cr_assert_eq(tools->system(&system, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, expected), "found \"%s\"", err.text);
    cr_assert_eq(system.build.major, 13); /* known all the same */
    emu_system(13000, 1);
}

Test(gpu_tools, a_machine_without_driver_or_device_is_refused_in_one_line)
{
    refuses(0, 0, "no NVIDIA driver is loaded here");
    refuses(12040, 1, "CUDA up to 12.4, and the CUDA part is built with 13.0");
    refuses(13000, 0, "cudaErrorNoDevice (no CUDA-capable device is detected)");
}

Test(gpu_tools, a_failed_call_is_named_with_its_place)
{
    struct gpu_description d;
    for (int call = 1; call <= 4; call++) { /* properties, device, memory, address */
        static const char *const name[] = {"cudaGetDeviceProperties", "cudaSetDevice", "cudaMemGetInfo", "cudaDeviceGetPCIBusId"};
        struct error err = {0};
        emu_fail_at(call);
        cr_assert_eq(tools->describe(0, &d, &err), STATUS_RUNTIME);
        cr_assert(strstr(err.text, name[call - 1]) && strstr(err.text, "executor/cuda/devices.cu:"), "%s", err.text);
    }
    emu_fail_at(0);
}
