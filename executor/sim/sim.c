#include "executor/sim/sim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/sim/clock.h"
#include "executor/sim/resident.h"
#include "model/stream.h"
#include "model/turns.h"

void trace_describe(struct trace *t, enum trace_origin origin, const struct run_setting *s)
{
    char buf[40];
    t->origin = origin;
    snprintf(t->version, sizeof t->version, "%s", s->version);
    snprintf(t->machine, sizeof t->machine, "%s", s->hardware->name);
    snprintf(t->model, sizeof t->model, "%s", s->arch->name);
    snprintf(t->workload, sizeof t->workload, "prompt=%lld gen=%lld block=%dx%d", (long long)s->workload->prompt_tokens,
             (long long)s->workload->gen_tokens, s->policy->gpu_batch_size, s->policy->num_gpu_batches);
    if (s->workload->sequences > 0) {
        size_t used = strlen(t->workload);
        snprintf(t->workload + used, sizeof t->workload - used, " sequences=%lld", (long long)s->workload->sequences);
    }
    policy_flags(s->policy, s->hardware, t->policy, sizeof t->policy);
    int64_t room = stream_sequences(s->workload, s->policy), sequences = s->workload->sequences;
    t->generated_tokens = (sequences > 0 && sequences < room ? sequences : room) * s->workload->gen_tokens;
    t->n_kinds = OP_KIND_COUNT;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        snprintf(t->kind_name[k], sizeof t->kind_name[k], "%s", op_kind_name(k));
    t->n_resources = resource_count(s->hardware);
    t->n_tiers = s->hardware->n_tiers;
    double part = 1 / (double)stream_runs(s->workload, s->policy); /* a trace is of one run of the schedule */
    t->predicted_prefill_s = part * s->prediction->prefill_s;
    t->predicted_decode_s = part * s->prediction->decode_s;
    t->predicted_low_s = part * s->prediction->latency_low_s;
    t->predicted_high_s = part * s->prediction->latency_high_s;
    for (int r = 0; r < t->n_resources; r++) {
        snprintf(t->resource_name[r], sizeof t->resource_name[r], "%s", resource_name(s->hardware, r, buf));
        for (int ph = 0; ph < PHASE_COUNT; ph++)
            t->predicted_busy_s[ph][r] = part * s->prediction->busy_s[ph][r];
    }
    for (int i = 0; i < t->n_tiers; i++) {
        snprintf(t->tier_name[i], sizeof t->tier_name[i], "%s", s->hardware->tier[i].name);
        t->predicted_peak_bytes[i] =
            fmax(s->prediction->peak_bytes[PHASE_PREFILL][i], s->prediction->peak_bytes[PHASE_DECODE][i]);
    }
}

static double lookup_seconds(const struct op *op, const struct run_setting *s)
{
    const struct arch *a = s->arch;
    double rows = (double)s->policy->gpu_batch_size * (double)step_tokens(s->workload, op->step);
    double below = s->placement->weights == FORMAT_Q4 ? 1 : s->placement->realised[CLASS_WEIGHT][s->hardware->n_tiers - 1];
    return below * cost_lookup_s(s->hardware, a, rows);
}

/* The new rows of cache that go down into pageable memory, below tier 0 and above the disk. */
static double pageable_bytes(const struct op *op, const struct run_setting *s)
{
    int64_t row = 0;
    for (int home = 1; home + 1 < s->hardware->n_tiers; home++)
        row += placement_cache_stride(s->placement, op->layer, op->batch, home);
    return (double)(row * step_tokens(s->workload, op->step));
}

/* What moves between the disk and tier 0 takes its thread all the way. */
static double legs_s(const struct op *op, const struct run_setting *s)
{
    bool write = op->resource % 2 == 1, cache = op->kind == OP_LOAD_CACHE || op->kind == OP_STORE_CACHE;
    bool ends_above = cache && s->policy->attention_near_cache && op->step > 0;
    double sum = cost_transfer_s(s->hardware, op->link, write, (double)op->bytes);
    for (int link = 0; s->policy->overlap && !ends_above && op->link == s->hardware->n_tiers - 2 && link < op->link; link++)
        sum += cost_transfer_s(s->hardware, link, write, (double)op->bytes);
    return sum;
}

/* Of a runtime that waits: model/turns.h. */
static double turn_op_seconds(const struct op *op, const struct run_setting *s)
{
    const struct runtime *rt = &s->hardware->runtime;
    const struct layer *l = &s->arch->layer[op->layer];
    double cached[TIERS_MAX] = {0};
    if (op->kind == OP_TURN)
        return 0;
    if (op->kind == OP_STAGE)
        return cost_staging_s(s->hardware, (double)op->bytes, (double)op->bytes, (double)op->bytes);
    if (op->link >= 0) {
        double alone = legs_s(op, s);
        bool pageable = op->kind == OP_STORE_CACHE && op->link == 0;
        return pageable ? fmax(alone, pageable_bytes(op, s) / rt->pageable_write_bytes_per_s) : alone;
    }
    for (int home = 0; home < s->hardware->n_tiers && l->kind == LAYER_ATTENTION; home++)
        cached[home] = placement_cache_count(s->placement, op->layer, op->batch, home) / (double)s->policy->gpu_batch_size;
    return turns_compute_s(s->arch, s->hardware, s->workload, s->policy, l, op->step == 0 ? PHASE_PREFILL : PHASE_DECODE,
                           (double)(step_first_token(s->workload, op->step) + step_tokens(s->workload, op->step)),
                           op->kind == OP_ATTEND, cached);
}

/* What an operation of a kind has to launch of `launch_s`, a layer's. */
static double launch_of(enum op_kind kind, double launch_s)
{
    switch (kind) {
    case OP_QKV:
        return NEAR_FIRST_HALF * launch_s;
    case OP_OUT:
        return (1 - NEAR_FIRST_HALF) * launch_s;
    default:
        return launch_s;
    }
}

double op_seconds(const struct op *op, const struct run_setting *s)
{
    if (hardware_waits(s->hardware))
        return turn_op_seconds(op, s);
    const struct placement *pl = s->placement;
    const struct layer *l = &s->arch->layer[op->layer];
    const struct compute *unit = s->hardware->compute;
    int64_t tokens = step_tokens(s->workload, op->step);
    double visible = (double)(step_first_token(s->workload, op->step) + tokens), sparsity = s->policy->attention_sparsity;
    int all = s->policy->gpu_batch_size, home = all;
    if (op->link >= 0)
        return cost_transfer_s(s->hardware, op->link, op->resource % 2 == 1, (double)(op->bytes - op->pageable)) +
               cost_pageable_s(s->hardware, op->link, (double)op->pageable, 1, (double)op->pageable, (double)op->pageable);
    if (l->kind == LAYER_ATTENTION)
        home = placement_cache_count(pl, op->layer, op->batch, 0);
    double launch = launch_of(op->kind, unit->launch_s);
    double work = cost_work_s(unit, s->arch, l, pl->weights, pl->cache, sparsity, all, tokens, visible);
    double attend = cost_attend_s(unit, l, pl->cache, sparsity, all, tokens, visible);
    switch (op->kind) {
    case OP_EMBED:
        return launch + work + lookup_seconds(op, s);
    case OP_QKV:
        return launch + (work - attend) * NEAR_FIRST_HALF + cost_attend_s(unit, l, pl->cache, sparsity, home, tokens, visible);
    case OP_OUT:
        return launch + (work - attend) * (1 - NEAR_FIRST_HALF);
    case OP_ATTEND:
        return s->hardware->compute[1].launch_s +
               cost_attend_s(&s->hardware->compute[1], l, pl->cache, sparsity, all - home, tokens, visible);
    default:
        return launch + work;
    }
}

double op_busy_s(const struct op *op, const struct run_setting *s)
{
    const struct compute *unit = &s->hardware->compute[0];
    const double launch = launch_of(op->kind, unit->launch_s), alone = op_seconds(op, s);
    const bool first = op->resource == resource_compute(s->hardware, 0);
    return first && !op_needs_idle_unit(op) ? cost_operations_s(unit, launch, alone - launch) : alone;
}

struct clock_input clock_setting(const struct schedule *schedule, const struct run_setting *s)
{
    struct clock_input in = {.schedule = schedule,
                             .n_resources = resource_count(s->hardware),
                             .queueing = -1,
                             .n_contentions = s->hardware->n_contentions,
                             .contention = s->hardware->contention};
    for (int link = 0; link < s->hardware->n_tiers - 1; link++) {
        in.latency_s[resource_link_read(link)] = s->hardware->link[link].read_latency_s;
        in.latency_s[resource_link_write(link)] = s->hardware->link[link].write_latency_s;
    }
    if (compute_queues(&s->hardware->compute[0])) {
        in.queueing = resource_compute(s->hardware, 0);
        for (int k = 0; k < OP_KIND_COUNT; k++)
            in.launch_s[k] = launch_of((enum op_kind)k, s->hardware->compute[0].launch_s);
    }
    return in;
}

enum status trace_add_op(struct trace *t, const struct schedule *schedule, int32_t number, const struct clock_time *time,
                         struct error *err)
{
    const struct op *op = &schedule->op[number];
    struct trace_event e = {.op = number,
                            .kind = op->kind,
                            .resource = op->resource,
                            .step = op->step,
                            .layer = op->layer,
                            .batch = op->batch,
                            .bytes = op->bytes,
                            .flops = op->flops,
                            .start_ns = time->start_ns,
                            .end_ns = time->end_ns,
                            .waits_for = time->waits_for};
    return trace_add_event(t, &e, err);
}

static enum status add_events(const struct schedule *schedule, const struct clock_time *time, struct trace *t, struct error *err)
{
    enum status status = trace_reserve(t, schedule->n_ops, 0, err);
    for (int32_t i = 0; i < schedule->n_ops && status == STATUS_OK; i++)
        status = trace_add_op(t, schedule, i, &time[i], err);
    return status;
}

enum status simulate(const struct schedule *schedule, const struct run_setting *s, struct trace *t, struct error *err)
{
    size_t n = (size_t)schedule->n_ops + 1;
    double *duration_s = malloc(n * sizeof *duration_s), total_s;
    struct clock_time *time = malloc(n * sizeof *time);
    struct clock_input in = clock_setting(schedule, s);
    trace_describe(t, TRACE_SIMULATED, s);
    enum status status =
        duration_s && time ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for %d operations", schedule->n_ops);
    if (status == STATUS_OK)
        status = op_durations(schedule, s, duration_s, err);
    in.duration_s = duration_s;
    if (status == STATUS_OK)
        status = clock_run(&in, time, &total_s, err);
    if (status == STATUS_OK)
        status = add_events(schedule, time, t, err);
    free(duration_s);
    free(time);
    return status == STATUS_OK ? trace_resident(schedule, s, t, err) : status;
}
