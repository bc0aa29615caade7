/* machine.h - small machines for tests, made in memory: no file, no measurement. */
#ifndef BALLAST_TESTS_MACHINE_H
#define BALLAST_TESTS_MACHINE_H

#include <stdio.h>
#include <string.h>

#include "model/hardware.h"

static inline struct curve flat(double rate)
{
    return (struct curve){.n = 1, .x = {1}, .y = {rate}};
}

static inline struct compute test_unit(const char *name, int tier, const char *math)
{
    struct compute u = {.tier = tier,
                        .activation = FORMAT_F32,
                        .threads = 2,
                        .attention_prefill_flops_per_s = 50e9,
                        .memory_bytes_per_s = 10e9,
                        .launch_s = 5e-6,
                        .workspace_bytes = 24 << 20};
    snprintf(u.name, sizeof u.name, "%s", name);
    snprintf(u.math, sizeof u.math, "%s", math);
    for (int f = 0; f < FORMAT_COUNT; f++) {
        u.matmul[f] = flat(100e9);
        u.attention_decode_bytes_per_s[f] = 10e9;
    }
    return u;
}

/* {ram, disk}, or {device, ram, disk} with a compute unit on each of the first two. */
static inline struct hardware test_machine(int n_tiers, const char *math)
{
    static const char *const two[] = {"ram", "disk"}, *const three[] = {"device", "ram", "disk"};
    struct hardware hw = {.name = "test", .estimate = "measured", .n_tiers = n_tiers, .n_computes = n_tiers - 1};
    for (int t = 0; t < n_tiers; t++) {
        snprintf(hw.tier[t].name, sizeof hw.tier[t].name, "%s", (n_tiers == 3 ? three : two)[t]);
        hw.tier[t].kind = t == n_tiers - 1 ? TIER_DISK : n_tiers == 3 && t == 0 ? TIER_DEVICE : TIER_HOST;
        hw.tier[t].capacity_bytes = 1LL << 30;
        if (t < n_tiers - 1)
            hw.link[t] = (struct link){.read_bytes_per_s = flat(1e9),
                                       .write_bytes_per_s = flat(1e9),
                                       .pageable_read_bytes_per_s = flat(0.3e9)};
    }
    hw.compute[0] = test_unit(n_tiers == 3 ? "device" : "cpu", 0, math);
    if (n_tiers == 3)
        hw.compute[1] = test_unit("cpu", 1, math);
    return hw;
}

#endif
