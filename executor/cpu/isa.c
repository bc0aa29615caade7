/* isa.c - what this processor can do, and how a user or a test lowers it. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor/cpu/kernels.h"
#include "executor/cpu/linear_kernels.h"
#include "executor/cpu/onednn.h"

static _Atomic int current_isa = -1; /* -1: not asked yet */

static enum cpu_isa hardware_isa(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return ISA_AVX2; /* every processor with AVX2 and FMA has F16C */
    return ISA_SCALAR;
}

static enum cpu_isa at_most_hardware(enum cpu_isa isa)
{
    const enum cpu_isa most = hardware_isa();

    return isa < most ? isa : most;
}

static enum cpu_isa isa_from_environment(void)
{
    static const char *const name[] = {"scalar", "avx2", "avx512"};
    const char *wanted = getenv("BALLAST_ISA");

    for (int i = 0; wanted && i < 3; i++)
        if (strcmp(wanted, name[i]) == 0)
            return at_most_hardware((enum cpu_isa)i);
    return hardware_isa();
}

enum cpu_isa cpu_isa(void)
{
    if (current_isa < 0)
        current_isa = isa_from_environment();
    return (enum cpu_isa)current_isa;
}

void cpu_isa_force(enum cpu_isa isa)
{
    current_isa = at_most_hardware(isa);
}

bool cpu_has_bf16(void)
{
    return cpu_isa() == ISA_AVX512 && __builtin_cpu_supports("avx512bf16");
}

static bool has_amx_bf16(void)
{
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);
}

/* The kernel grants the tiles' large registers to a process on request only. */
static bool may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

    return has_amx_bf16() && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static _Atomic int amx = -1; /* -1: not asked yet */

bool cpu_has_amx(void)
{
    if (amx < 0)
        amx = may_use_tiles();
    return amx && cpu_has_bf16();
}

void cpu_amx_allow(bool allowed)
{
    amx = allowed && may_use_tiles();
}

static void model_name(char *name, size_t n)
{
    unsigned reg[12] = {0}; /* leaves 0x80000002..4 hold 48 characters of brand */
    const char *begin = (const char *)reg;
    unsigned most;

    most = __get_cpuid_max(0x80000000u, NULL);
    for (unsigned i = 0; i < 3 && most >= 0x80000004u; i++)
        __get_cpuid(0x80000002u + i, &reg[4 * i], &reg[4 * i + 1], &reg[4 * i + 2], &reg[4 * i + 3]);
    while (begin < (const char *)reg + 48 && *begin == ' ')
        begin++;
    snprintf(name, n, "%.*s", (int)((const char *)reg + 48 - begin), *begin ? begin : "unknown processor");
}

const char *cpu_describe(char *buf, size_t n)
{
    static const char *const isa_name[] = {"scalar", "AVX2", "AVX-512"};
    char model[64], library[48];

    model_name(model, sizeof model);
    onednn_version(library, sizeof library);
    snprintf(buf, n, "%s, %s%s%s, %s", model, isa_name[cpu_isa()], cpu_has_bf16() ? " BF16" : "", cpu_has_amx() ? " AMX" : "",
             library);
    return buf;
}
