/* test_gpu_profile.c - measuring a GPU, over the emulation: what is asked for, its bounds, its failures, and the profile that comes of it. No
 * time in it means anything. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/cuda/kernels.h"
#include "executor/profile_gpu.h"
#include "tests/emu/emu.h"

enum { HOST = 1 << 16, UPLOAD = 3000, DEVICE = 1 << 19, ROWS = 1 << 17 };

static const struct gpu_tools *const tools = &ballast_gpu_tools;

/* 1.0 to 1.5 as fp16, positive as f32 */
static uint32_t *numbers(int64_t bytes)
{
    uint32_t *n = malloc((size_t)bytes);
    for (int64_t i = 0; i < bytes / 4; i++)
        n[i] = 0x3c003c00u | (uint32_t)(i * 2654435761u & 0x01ff01ffu);
    return n;
}

static struct gpu_bench_options sizes(const void *n)
{
    return (struct gpu_bench_options){.host_bytes = HOST,
                                      .upload_bytes = UPLOAD,
                                      .device_bytes = DEVICE,
                                      .row_bytes = ROWS,
                                      .numbers = n,
                                      .samples = 2};
}

static struct gpu_bench *open_bench(void)
{
    struct gpu_bench *b;
    struct error err = {0};
    void *n = numbers(HOST);
    struct gpu_bench_options o = sizes(n);
    cr_assert_eq(tools->open(&b, &o, &err), STATUS_OK, "%s", err.text);
    free(n);
    return b;
}

Test(gpu_profile, copies_of_every_kind_take_time_and_bring_their_bytes)
{
    for (int order = 0; order < 3; order++) {
        emu_mode((enum emu_order)order, 7);
        struct gpu_bench *b = open_bench();
        for (enum gpu_host_memory host = GPU_PAGEABLE; host <= GPU_STAGED; host++) /* staged: in parts of 1500 bytes */
            for (int ways = 1; ways < (host == GPU_STAGED ? 2 : 4); ways++)
                for (int64_t bytes = 1000; bytes <= HOST; bytes *= 8) {
                    struct gpu_copy c = {host, ways & 1, ways & 2, bytes};
                    struct error err = {0};
                    double seconds = 0;
                    cr_assert_eq(tools->copy(b, &c, &seconds, &err), STATUS_OK, "%s", err.text);
                    cr_assert_gt(seconds, 0.0);
                }
        tools->close(b);
    }
    emu_mode(EMU_EAGER, 0);
}

Test(gpu_profile, products_of_every_format_with_few_and_many_rows)
{
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16, FORMAT_Q4};
    struct gpu_bench *b = open_bench();
    for (int f = 0; f < 4; f++)
        for (int64_t m = 1; m <= 128; m *= 128) {
            struct gpu_product p = {formats[f], m, 128, 64};
            struct error err = {0};
            double seconds = 0;
            cr_assert_eq(tools->product(b, &p, &seconds, &err), STATUS_OK, "%s", err.text);
            cr_assert_gt(seconds, 0.0);
        }
    tools->close(b);
}

Test(gpu_profile, attention_passes_and_launches)
{
    struct gpu_bench *b = open_bench();
    struct error err = {0};
    double seconds = 0;
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q4};
    for (int f = 0; f < 3; f++) {
        struct gpu_attend decode = {formats[f], 2, 32, 3, 1, 16}, prefill = {formats[f], 2, 32, 2, 8, 0};
        cr_assert_eq(tools->attend(b, &decode, &seconds, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(tools->attend(b, &prefill, &seconds, &err), STATUS_OK, "%s", err.text);
    }
    cr_assert_eq(tools->passes(b, 16, 64, &seconds, &err), STATUS_OK, "%s", err.text);
    const int64_t before = emu_launches();
    cr_assert_eq(tools->launches(b, 5, &seconds, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(emu_launches() - before, 5 * GPU_LAUNCHES * 3); /* a warm-up and two samples */
    tools->close(b);
}

Test(gpu_profile, attention_is_split_until_the_device_is_full_or_its_parts_are_short)
{
    const struct gpu_heads h = {32, 32, 128, 1};
    /* 132 multiprocessors, four blocks each: 528. 8 sequences and 32 heads are 256 blocks, three times as many are enough. */
    cr_assert_eq(gpu_attention_splits(&h, 132, 8, 2048), 3);
    cr_assert_eq(gpu_attention_splits(&h, 132, 8, 512), 2); /* of 256 tokens */
    cr_assert_eq(gpu_attention_splits(&h, 132, 8, 100), 1);
    cr_assert_eq(gpu_attention_splits(&h, 132, 64, 2048), 1); /* 2048 blocks already */
}

Test(gpu_profile, what_does_not_fit_the_buffers_is_refused)
{
    struct gpu_bench *b = open_bench();
    struct gpu_copy large = {GPU_PINNED, true, false, HOST + 1}, nowhere = {GPU_PINNED, false, false, 1};
    struct gpu_copy staged_down = {GPU_STAGED, false, true, 1};
    struct gpu_product product = {FORMAT_F32, 1, DEVICE, 1};
    struct gpu_attend attend = {FORMAT_F16, 1, 64, 1, 1, DEVICE};
    struct error copies = {0}, products = {0};
    double seconds;
    cr_assert_eq(tools->copy(b, &large, &seconds, &copies), STATUS_INVALID);
    cr_assert(strstr(copies.text, "at most 65536 bytes, found 65537"), "%s", copies.text);
    cr_assert_eq(tools->copy(b, &nowhere, &seconds, NULL), STATUS_INVALID);
    cr_assert_eq(tools->copy(b, &staged_down, &seconds, NULL), STATUS_INVALID);
    cr_assert_eq(tools->product(b, &product, &seconds, &products), STATUS_INVALID);
    cr_assert(strstr(products.text, "2097152 bytes of operands"), "%s", products.text); /* 4 * DEVICE */
    cr_assert_eq(tools->attend(b, &attend, &seconds, NULL), STATUS_INVALID);
    tools->close(b);
}

Test(gpu_profile, out_of_memory_says_what_was_asked_for)
{
    struct gpu_bench *b;
    struct error err = {0};
    void *n = numbers(HOST);
    struct gpu_bench_options o = sizes(n);
    emu_memory(DEVICE - 1, 1 << 30);
    cr_assert_eq(tools->open(&b, &o, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text,
                     "cudaMalloc of 524288 bytes for operands: cudaErrorMemoryAllocation (out of memory): 524287 of the "
                     "device's 524287 bytes are free"),
              "%s", err.text);
    cr_assert_eq(emu_device_used(), 0);
    struct error pinned = {0};
    emu_memory(1 << 30, HOST + UPLOAD); /* the flag and what is staged in come first */
    cr_assert_eq(tools->open(&b, &o, &pinned), STATUS_RUNTIME);
    cr_assert(strstr(pinned.text, "cudaHostAlloc of 65536 bytes for copies: cudaErrorMemoryAllocation (out of memory)"), "%s",
              pinned.text);
    free(n);
}

Test(gpu_profile, every_call_may_fail_and_nothing_is_left_behind)
{
    void *n = numbers(HOST);
    struct gpu_bench_options o = sizes(n);
    struct gpu_copy both = {GPU_PINNED, true, true, HOST / 2}, staged = {GPU_STAGED, true, false, HOST / 2};
    struct gpu_product product = {FORMAT_Q4, 128, 64, 64};
    bool failed = true;
    for (int64_t call = 1; failed; call++) {
        struct gpu_bench *b;
        struct error err = {0};
        double seconds;
        emu_fail_at(call);
        enum status s = tools->open(&b, &o, &err);
        if (s == STATUS_OK)
            s = tools->copy(b, &both, &seconds, &err);
        if (s == STATUS_OK)
            s = tools->copy(b, &staged, &seconds, &err);
        if (s == STATUS_OK)
            s = tools->pin(b, HOST, &seconds, &err);
        if (s == STATUS_OK)
            s = tools->product(b, &product, &seconds, &err);
        failed = s != STATUS_OK;
        cr_assert(!failed || strstr(err.text, "executor/cuda/"), "call %lld: %s", (long long)call, err.text);
        emu_fail_at(0);
        tools->close(b);
        cr_assert_eq(emu_device_used(), 0, "call %lld", (long long)call);
    }
    free(n);
}

Test(gpu_profile, the_profile_has_a_gpu_before_memory_and_disk_and_can_be_loaded_again)
{
    struct hardware hw = {.name = "box",
                          .estimate = "measured",
                          .n_tiers = 3,
                          .tier = {{"gpu", TIER_DEVICE, 0}, {"ram", TIER_HOST, 1 << 30}, {"disk", TIER_DISK, 1 << 30}},
                          .n_computes = 1};
    struct profile_gpu_rates rates = {0};
    struct profile_options o = {.gpu = tools, .gpu_rates = &rates};
    struct profile_gpu *g;
    struct hardware again;
    struct error err = {0};
    char path[] = "/tmp/ballast-gpu-XXXXXX";
    emu_memory(INT64_C(1) << 30, INT64_C(1) << 30); /* a GPU's has other sizes, and takes a while: bench/gpu.sh makes it */
    void *n = numbers(1 << 20);
    cr_assert_eq(profile_gpu_open(&g, &o, n, &err), STATUS_OK, "%s", err.text);
    for (int round = 0; round < 3; round++)
        cr_assert_eq(profile_gpu_round(g, &hw, round, &err), STATUS_OK, "%s", err.text);
    profile_gpu_finish(g, &hw);
    profile_gpu_close(g);
    free(n);
    cr_assert_gt(rates.both, 0.0);
    cr_assert_gt(rates.pageable_both, 0.0);
    cr_assert_gt(rates.dequantise, 0.0);

    hw.link[1] = hw.link[0]; /* the disk, which is not measured here */
    close(mkstemp(path));
    cr_assert_eq(hardware_save(&hw, path, "emulated", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_load(&again, path, &err), STATUS_OK, "%s", err.text);
    unlink(path);
    const struct compute *u = &again.compute[0];
    cr_assert_str_eq(again.estimate, "emulated"); /* never a measurement */
    cr_assert_str_eq(u->name, "gpu");
    cr_assert_str_eq(u->math, "f16");
    cr_assert_eq(u->tier, 0);
    cr_assert_eq(u->threads, 0);
    cr_assert_eq(u->activation, FORMAT_F16);
    cr_assert_eq(u->matmul[FORMAT_F16].n, 8); /* 1, 2, 4, ... 128 rows */
    cr_assert_eq(u->matmul[FORMAT_Q4].n, 8);
    cr_assert_eq(u->matmul[FORMAT_F32].n, 8);
    cr_assert_eq(u->matmul[FORMAT_BF16].n, 0);         /* the emulation's compute capability is below 8 */
    cr_assert_eq(again.link[0].read_bytes_per_s.n, 8); /* 64 B, 256 B, ... 1 MiB */
    cr_assert_eq(again.link[0].write_bytes_per_s.n, 8);
    cr_assert_eq(again.link[0].pageable_read_bytes_per_s.n, 8);
    cr_assert_gt(u->spread, 0.0);
    cr_assert_gt(again.link[0].read_spread, 0.0);
    cr_assert_gt(again.link[0].pinning_bytes_per_s, 0.0);
    cr_assert_gt(u->attention_prefill_flops_per_s, 0.0);
    cr_assert_gt(u->attention_decode_bytes_per_s[FORMAT_Q4], 0.0);
    cr_assert_gt(u->launch_s, 0.0);
}
