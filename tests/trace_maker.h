/* trace_maker.h - traces for tests: a small pipeline (loads ahead of compute, stores behind it) with every resource in order. */
#ifndef BALLAST_TESTS_TRACE_MAKER_H
#define BALLAST_TESTS_TRACE_MAKER_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "traces/trace.h"

/* A machine with disk and RAM (gpu = 0: 3 resources), or with a GPU in front of them (6 resources). */
struct maker {
    int gpu, steps, layers, batches;
    double unit_s;  /* about the time of one weight load */
    double jitter;  /* 0.2: durations vary by +-20 % */
    uint64_t state; /* of the random numbers: not 0 */
};

static inline uint64_t maker_random(struct maker *m)
{
    m->state ^= m->state << 13;
    m->state ^= m->state >> 7;
    m->state ^= m->state << 17;
    return m->state;
}

static inline double maker_uniform(struct maker *m)
{
    return (double)(maker_random(m) >> 11) / 9007199254740992.0;
}

enum maker_kind { MK_LOAD_WEIGHT, MK_LOAD_CACHE, MK_COMPUTE, MK_STORE_CACHE, MK_STAGE_WEIGHT, MK_KINDS };

static inline void maker_names(struct trace *t, const struct maker *m)
{
    static const char *const kind[] = {"load_weight", "load_cache", "compute", "store_cache", "stage_weight"};
    static const char *const small[] = {"disk->ram", "ram->disk", "cpu"};
    static const char *const large[] = {"disk->cpu", "cpu->disk", "gpu", "cpu->gpu", "gpu->cpu", "cpu"};
    static const char *const tier[2][3] = {{"ram", "disk", ""}, {"gpu", "cpu", "disk"}};
    t->n_kinds = m->gpu ? MK_KINDS : MK_KINDS - 1;
    t->n_resources = m->gpu ? 6 : 3;
    t->n_tiers = m->gpu ? 3 : 2;
    for (int i = 0; i < t->n_kinds; i++)
        snprintf(t->kind_name[i], sizeof t->kind_name[i], "%s", kind[i]);
    for (int i = 0; i < t->n_resources; i++)
        snprintf(t->resource_name[i], sizeof t->resource_name[i], "%s", m->gpu ? large[i] : small[i]);
    for (int i = 0; i < t->n_tiers; i++)
        snprintf(t->tier_name[i], sizeof t->tier_name[i], "%s", tier[m->gpu][i]);
    snprintf(t->version, sizeof t->version, "0.1.0");
    snprintf(t->machine, sizeof t->machine, m->gpu ? "t4-gcp" : "laptop");
    snprintf(t->model, sizeof t->model, m->gpu ? "opt-30b" : "opt-1.3b");
    snprintf(t->workload, sizeof t->workload, "prompt=512 gen=%d block=4x%d", m->steps, m->batches);
    snprintf(t->policy, sizeof t->policy, "--percent 20 80 0 100 0 100 --gpu-batch-size 4 --num-gpu-batches %d", m->batches);
}

struct maker_run {
    struct trace *t;
    struct maker *m;
    int64_t free_ns[TRACE_RESOURCES_MAX];
    int step, layer;
};

/* Puts one operation at the earliest moment at which its resource and the operation it waits for are done; returns its op. */
static inline int maker_put(struct maker_run *r, int kind, int resource, int batch, double units, int waits_for)
{
    const double factor = 1 + r->m->jitter * (2 * maker_uniform(r->m) - 1);
    const int64_t ns = (int64_t)(units * factor * r->m->unit_s * 1e9) + 1;
    int64_t start = r->free_ns[resource];
    if (waits_for >= 0 && r->t->event[waits_for].end_ns > start)
        start = r->t->event[waits_for].end_ns;
    const struct trace_event e = {.op = (int32_t)r->t->n_events,
                                  .kind = (int16_t)kind,
                                  .resource = (int16_t)resource,
                                  .step = r->step,
                                  .layer = r->layer,
                                  .batch = batch,
                                  .bytes = kind == MK_COMPUTE ? 0 : (int64_t)(units * 1e8),
                                  .flops = kind == MK_COMPUTE ? units * 1e12 / 3 : 0,
                                  .start_ns = start,
                                  .end_ns = start + ns,
                                  .waits_for = waits_for};
    r->free_ns[resource] = e.end_ns;
    trace_add_event(r->t, &e, NULL);
    return e.op;
}

static inline void maker_layer(struct maker_run *r)
{
    const double phase = r->step == 0 ? 6 : 1;
    int ready = maker_put(r, MK_LOAD_WEIGHT, 0, -1, 1, -1);
    if (r->m->gpu)
        ready = maker_put(r, MK_STAGE_WEIGHT, 3, -1, 0.4, ready);
    for (int b = 0; b < r->m->batches; b++) {
        if (r->step > 0)
            ready = maker_put(r, MK_LOAD_CACHE, r->m->gpu ? 3 : 0, b, 0.15, ready);
        const int done = maker_put(r, MK_COMPUTE, 2, b, 0.5 * phase / r->m->batches, ready);
        maker_put(r, MK_STORE_CACHE, r->m->gpu ? 4 : 1, b, 0.05 * phase, done);
    }
}

/* Resident bytes: the near tier saws by one layer, the next one grows with the cache, the last one stands. */
static inline void maker_samples(struct trace *t, const struct maker *m)
{
    int64_t end = 0;
    for (int64_t i = 0; i < t->n_events; i++)
        end = t->event[i].end_ns > end ? t->event[i].end_ns : end;
    const int64_t n = (int64_t)m->steps * m->layers * 2;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = end / n * i;
        const struct trace_sample near = {.at_ns = at, .tier = 0, .bytes = 2600000000 + (i % 4) * 310000000 + i * 900000000 / n};
        const struct trace_sample next = {.at_ns = at, .tier = 1, .bytes = 40000000000 + i * 20000000000 / n};
        const struct trace_sample last = {.at_ns = at, .tier = 2, .bytes = 900000};
        trace_add_sample(t, &near, NULL);
        trace_add_sample(t, &next, NULL);
        if (t->n_tiers > 2 && i == 0)
            trace_add_sample(t, &last, NULL);
    }
    for (int i = 0; i < t->n_tiers; i++) {
        for (int64_t k = 0; k < t->n_samples; k++)
            if (t->sample[k].tier == i && t->sample[k].bytes > t->measured_peak_bytes[i])
                t->measured_peak_bytes[i] = t->sample[k].bytes;
        t->predicted_peak_bytes[i] = (double)t->measured_peak_bytes[i];
    }
}

/* Fills *t; the caller frees it. */
static inline void maker_make(struct trace *t, struct maker *m, enum trace_origin origin)
{
    trace_init(t);
    t->origin = origin;
    maker_names(t, m);
    struct maker_run r = {.t = t, .m = m};
    for (r.step = 0; r.step < m->steps; r.step++)
        for (r.layer = 0; r.layer < m->layers; r.layer++)
            maker_layer(&r);
    maker_samples(t, m);
    if (origin == TRACE_SIMULATED)
        memset(t->measured_peak_bytes, 0, sizeof t->measured_peak_bytes);
    t->generated_tokens = 4LL * m->batches * m->steps;
}

/* Two steps of one layer on a disk link and a CPU:
 *
 *     disk->ram   0..100 load   100..200 load
 *     cpu                       100..250 compute      250..300 compute
 *     step        0             1 (load), 0 (compute) 1                     */
static inline void maker_small(struct trace *t)
{
    static const struct trace_event event[] = {
        {.op = 0, .kind = 0, .resource = 0, .step = 0, .batch = -1, .bytes = 1000, .start_ns = 0, .end_ns = 100, .waits_for = -1},
        {.op = 1, .kind = 1, .resource = 1, .step = 0, .flops = 1.5e12, .start_ns = 100, .end_ns = 250, .waits_for = 0},
        {.op = 2,
         .kind = 0,
         .resource = 0,
         .step = 1,
         .batch = -1,
         .bytes = 1000,
         .start_ns = 100,
         .end_ns = 200,
         .waits_for = 0},
        {.op = 3, .kind = 1, .resource = 1, .step = 1, .flops = 0.1, .start_ns = 250, .end_ns = 300, .waits_for = 2},
    };
    static const struct trace_sample sample[] = {{.at_ns = 0, .tier = 0, .bytes = 1000},
                                                 {.at_ns = 0, .tier = 1, .bytes = 5000},
                                                 {.at_ns = 100, .tier = 0, .bytes = 2000}};
    trace_init(t);
    strcpy(t->version, "0.1.0");
    strcpy(t->machine, "laptop, \"old\"");
    strcpy(t->model, "opt-125m");
    strcpy(t->workload, "prompt=512 gen=2 block=8x1");
    strcpy(t->policy, "--percent 0 100 0 100 0 100");
    t->generated_tokens = 16;
    t->predicted_prefill_s = 2.4e-7;
    t->predicted_decode_s = 6e-8;
    t->predicted_low_s = 2.8e-7;
    t->predicted_high_s = 3.5e-7;
    t->n_kinds = t->n_resources = t->n_tiers = 2;
    strcpy(t->kind_name[0], "load_weight");
    strcpy(t->kind_name[1], "compute");
    strcpy(t->resource_name[0], "disk->ram");
    strcpy(t->resource_name[1], "cpu, all 8 cores");
    strcpy(t->tier_name[0], "ram");
    strcpy(t->tier_name[1], "disk");
    t->predicted_busy_s[0][0] = t->predicted_busy_s[1][0] = 1e-7;
    t->predicted_busy_s[0][1] = 1.4e-7;
    t->predicted_busy_s[1][1] = 5e-8;
    t->predicted_peak_bytes[0] = 2000;
    t->predicted_peak_bytes[1] = 5000;
    t->measured_peak_bytes[0] = 2000;
    t->measured_peak_bytes[1] = 5000;
    for (size_t i = 0; i < sizeof event / sizeof *event; i++)
        trace_add_event(t, &event[i], NULL);
    for (size_t i = 0; i < sizeof sample / sizeof *sample; i++)
        trace_add_sample(t, &sample[i], NULL);
}

#endif
