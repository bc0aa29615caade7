#include "executor/profile_gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "executor/profile_rounds.h"
#include "model/placement.h"

struct size {
    int64_t hidden;                   /* width of the layer whose products and attention are measured */
    int64_t rows_most;                /* of a product: 1, 2, 4, ... */
    int64_t host_bytes, device_bytes; /* as gpu_bench_options; transfers are 2^-14 to 1 of host_bytes */
    int samples;
};
/* A layer of OPT-6.7B; copies up to 256 MiB, and operands far beyond any cache. */
static const struct size FULL = {4096, 4096, PROFILE_NUMBERS_BYTES, 2LL << 30, 3};
/* For the emulation: enough to see that everything is asked for. */
static const struct size SMALL = {64, 128, 1 << 20, 4 << 20, 1};

struct profile_gpu {
    const struct gpu_tools *tools;
    struct gpu_bench *bench;
    struct size size;
    struct gpu_description device;
    struct profile_gpu_rates *out; /* may be NULL */
    struct profile_gpu_rates rates;
    struct tally read, write, unit;
};

enum status profile_gpu_open(struct profile_gpu **out, const struct profile_options *o, const void *numbers, struct error *err)
{
    struct profile_gpu *g = calloc(1, sizeof *g);
    *out = g;
    if (!g)
        return error_set(err, STATUS_RUNTIME, "out of memory");
    g->tools = o->gpu;
    g->out = o->gpu_rates;
    enum status s = g->tools->describe(0, &g->device, err);
    g->size = gpu_is_emulated(&g->device) ? SMALL : FULL;
    struct gpu_bench_options bo = {.host_bytes = g->size.host_bytes,
                                   .upload_bytes = UPLOAD_BYTES,
                                   .device_bytes = g->size.device_bytes,
                                   .row_bytes = 4 * g->size.hidden * 4 *
                                                (g->size.rows_most > g->size.hidden ? g->size.rows_most : g->size.hidden),
                                   .numbers = numbers,
                                   .samples = g->size.samples};
    return s == STATUS_OK ? g->tools->open(&g->bench, &bo, err) : s;
}

void profile_gpu_close(struct profile_gpu *g)
{
    if (g)
        g->tools->close(g->bench);
    free(g);
}

/* -- the link ------------------------------------------------------------------------------------------------------------ */

/* The rate of each direction. */
static enum status copy_rate(struct profile_gpu *g, enum gpu_host_memory host, bool up, bool down, int64_t bytes, double *rate,
                             struct error *err)
{
    struct gpu_copy c = {host, up, down, bytes};
    double seconds;
    enum status s = g->tools->copy(g->bench, &c, &seconds, err);
    *rate = s == STATUS_OK ? (double)bytes / seconds : 0;
    return s;
}

/* `t` may be NULL. */
static enum status direction(struct profile_gpu *g, enum gpu_host_memory host, bool up, struct curve *mean, struct tally *t,
                             int round, struct error *err)
{
    struct curve one = {.n = 0};
    enum status s = STATUS_OK;
    for (int64_t bytes = g->size.host_bytes >> 14; bytes <= g->size.host_bytes && s == STATUS_OK; bytes *= 4) {
        double rate;
        s = copy_rate(g, host, up, !up, bytes, &rate, err);
        curve_add(&one, (double)bytes, rate);
    }
    if (s != STATUS_OK)
        return s;
    curve_blend(mean, &one, round);
    if (t)
        tally_count(t, curve_level(&one, (double)(g->size.host_bytes >> 4)));
    return STATUS_OK;
}

/* At one large size: both directions together, and pageable memory. */
static enum status together(struct profile_gpu *g, int round, struct error *err)
{
    const struct {
        enum gpu_host_memory host;
        bool up, down;
        double *mean;
    } cases[] = {{GPU_PINNED, true, false, &g->rates.up},
                 {GPU_PINNED, false, true, &g->rates.down},
                 {GPU_PINNED, true, true, &g->rates.both},
                 {GPU_PAGEABLE, true, false, &g->rates.pageable_up},
                 {GPU_PAGEABLE, false, true, &g->rates.pageable_down},
                 {GPU_PAGEABLE, true, true, &g->rates.pageable_both}};
    enum status s = STATUS_OK;
    g->rates.bytes = g->size.host_bytes / 4;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0] && s == STATUS_OK; i++) {
        double rate;
        s = copy_rate(g, cases[i].host, cases[i].up, cases[i].down, g->rates.bytes, &rate, err);
        if (s == STATUS_OK)
            rate_blend(cases[i].mean, rate, round);
    }
    return s;
}

static enum status pinning(struct profile_gpu *g, double *mean, int round, struct error *err)
{
    double seconds;
    enum status s = g->tools->pin(g->bench, g->size.host_bytes, &seconds, err);
    if (s == STATUS_OK)
        rate_blend(mean, (double)g->size.host_bytes / seconds, round);
    return s;
}

/* -- the unit ------------------------------------------------------------------------------------------------------------ */

/* Weights that a layer of this width has: four square matrices, one up, one down. */
static enum status product_rate(struct profile_gpu *g, enum format format, int64_t m, double *rate, struct error *err)
{
    const int64_t h = g->size.hidden;
    const struct {
        int64_t rows, cols, times;
    } shapes[] = {{h, h, 4}, {4 * h, h, 1}, {h, 4 * h, 1}};
    double total = 0;
    for (int i = 0; i < 3; i++) {
        const struct gpu_product p = {format, m, shapes[i].rows, shapes[i].cols};
        double seconds;
        enum status s = g->tools->product(g->bench, &p, &seconds, err);
        if (s != STATUS_OK)
            return s;
        total += (double)shapes[i].times * seconds;
    }
    *rate = 2.0 * 12 * (double)(h * h * m) / total;
    return STATUS_OK;
}

static bool has_format(const struct profile_gpu *g, enum format format)
{
    return format != FORMAT_BF16 || g->device.compute.major >= 8; /* since Ampere */
}

/* The logarithm of the level of all formats goes into *sum. */
static enum status products(struct profile_gpu *g, struct compute *unit, int round, double *sum, int *n, struct error *err)
{
    static const enum format formats[] = {FORMAT_F16, FORMAT_BF16, FORMAT_F32, FORMAT_Q4};
    enum status s = STATUS_OK;
    for (int f = 0; f < 4 && s == STATUS_OK; f++) {
        struct curve one = {.n = 0};
        if (!has_format(g, formats[f]))
            continue;
        for (int64_t m = 1; m <= g->size.rows_most && s == STATUS_OK; m *= 2) {
            double rate = 0;
            s = product_rate(g, formats[f], m, &rate, err);
            curve_add(&one, (double)m, rate);
        }
        if (s != STATUS_OK)
            return s;
        curve_blend(&unit->matmul[formats[f]], &one, round);
        *sum += log(curve_level(&one, 1));
        *n += 1;
    }
    return s;
}

/* Heads of 128, or one head. Prompts of an eighth of the width: 512 tokens in full size. */
static enum status attention(struct profile_gpu *g, struct compute *unit, int round, double *sum, int *n, struct error *err)
{
    const int64_t width = g->size.hidden, tokens = width / 8;
    const int head_dim = width < 128 ? (int)width : 128, heads = (int)width / head_dim;
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q4};
    const struct gpu_attend prefill = {FORMAT_F16, heads, head_dim, 2, tokens, 0};
    double seconds, rate;
    enum status s = g->tools->attend(g->bench, &prefill, &seconds, err);
    if (s != STATUS_OK)
        return s;
    rate = 2 * 4.0 * (double)width * (double)(tokens * (tokens + 1) / 2) / seconds;
    rate_blend(&unit->attention_prefill_flops_per_s, rate, round);
    *sum += log(rate);
    *n += 1;
    for (int i = 0; i < 3; i++) {
        const struct gpu_attend decode = {formats[i], heads, head_dim, 8, 1, tokens - 1};
        s = g->tools->attend(g->bench, &decode, &seconds, err);
        if (s != STATUS_OK)
            return s;
        rate = 8.0 * (double)tokens * 2 * (double)format_vector_bytes(formats[i], width) / seconds;
        rate_blend(&unit->attention_decode_bytes_per_s[formats[i]], rate, round);
        *sum += log(rate);
        *n += 1;
    }
    return STATUS_OK;
}

/* 4-bit weights into 16 bits, passes over memory, and launches: an attention layer is about ten kernels. */
static enum status other_rates(struct profile_gpu *g, struct compute *unit, int round, struct error *err)
{
    const int64_t h = g->size.hidden;
    double seconds;
    enum status s = g->tools->unpack(g->bench, h, h, &seconds, err);
    if (s != STATUS_OK)
        return s;
    rate_blend(&g->rates.dequantise, (double)format_matrix_bytes(FORMAT_F16, h, h) / seconds, round);
    s = g->tools->passes(g->bench, g->size.rows_most, g->size.hidden, &seconds, err);
    if (s != STATUS_OK)
        return s;
    rate_blend(&unit->memory_bytes_per_s, 5.0 * (double)(g->size.rows_most * g->size.hidden) * 2 / seconds, round);
    s = g->tools->launches(g->bench, 10, &seconds, err);
    if (s == STATUS_OK)
        unit->launch_s += (seconds - unit->launch_s) / (round + 1);
    return s;
}

enum status profile_gpu_round(struct profile_gpu *g, struct hardware *hw, int round, struct error *err)
{
    struct link *l = &hw->link[0];
    struct compute *unit = &hw->compute[0];
    double sum = 0;
    int n = 0;
    enum status s = direction(g, GPU_PINNED, true, &l->read_bytes_per_s, &g->read, round, err);
    if (s == STATUS_OK)
        s = direction(g, GPU_PINNED, false, &l->write_bytes_per_s, &g->write, round, err);
    if (s == STATUS_OK)
        s = direction(g, GPU_STAGED, true, &l->pageable_read_bytes_per_s, NULL, round, err);
    if (s == STATUS_OK)
        s = pinning(g, &l->pinning_bytes_per_s, round, err);
    if (s == STATUS_OK)
        s = together(g, round, err);
    if (s == STATUS_OK)
        s = products(g, unit, round, &sum, &n, err);
    if (s == STATUS_OK)
        s = attention(g, unit, round, &sum, &n, err);
    if (s == STATUS_OK)
        s = other_rates(g, unit, round, err);
    if (s == STATUS_OK)
        tally_count(&g->unit, exp(sum / n));
    return s;
}

void profile_gpu_finish(struct profile_gpu *g, struct hardware *hw)
{
    struct compute *unit = &hw->compute[0];
    snprintf(unit->name, sizeof unit->name, "gpu");
    snprintf(unit->math, sizeof unit->math, "f16");
    if (gpu_is_emulated(&g->device))
        snprintf(hw->estimate, sizeof hw->estimate, "emulated");
    hw->tier[0].capacity_bytes = g->device.free_bytes / 20 * 19; /* contexts and libraries take memory of their own */
    unit->activation = FORMAT_F16;
    unit->workspace_bytes = 256LL << 20;
    unit->spread = sqrt(tally_variance(&g->unit));
    hw->link[0].read_spread = sqrt(tally_variance(&g->read));
    hw->link[0].write_spread = sqrt(tally_variance(&g->write));
    contention_of_pair(hw, "link", resource_link_read(0), resource_link_write(0),
                       g->rates.both / g->rates.up + g->rates.both / g->rates.down);
    if (g->out)
        *g->out = g->rates;
}
