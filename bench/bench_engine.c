/* What running a schedule costs beyond the work itself, and what recording adds: OPT-1.3B's schedule with operations that do nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "executor/engine.h"
#include "executor/now.h"
#include "executor/sim/sim.h"
#include "model/placement.h"

static enum status nothing(void *context, const struct op *op, struct error *err)
{
    (void)context;
    (void)op;
    (void)err;
    return STATUS_OK;
}

/* Two clock readings and the event that is stored, as the engine does for every operation. */
static double recording_s(int64_t n)
{
    struct trace t;
    double start = now_s();
    trace_init(&t);
    trace_reserve(&t, n, 0, NULL);
    for (int64_t i = 0; i < n; i++) {
        struct trace_event e = {.op = (int32_t)i, .waits_for = -1};
        e.start_ns = (int64_t)(now_s() * 1e9);
        e.end_ns = (int64_t)(now_s() * 1e9);
        trace_add_event(&t, &e, NULL);
    }
    trace_free(&t);
    return now_s() - start;
}

/* Seconds of this process: what other processes take does not count. */
static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The shortest of five runs each: durations and the clock alone; the whole simulation with its trace and samples. */
static enum status simulated_s(const struct schedule *s, const struct run_setting *set, double *clock_s, double *all_s,
                               struct error *err)
{
    double *duration_s = malloc((size_t)s->n_ops * sizeof *duration_s), total_s;
    struct clock_input in = clock_setting(s, set);
    enum status status = duration_s ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory");
    in.duration_s = duration_s;
    *clock_s = *all_s = INFINITY;
    for (int i = 0; i < 5 && status == STATUS_OK; i++) {
        struct trace t;
        double start = cpu_s();
        status = op_durations(s, set, duration_s, err);
        if (status == STATUS_OK)
            status = clock_run(&in, NULL, &total_s, err);
        *clock_s = fmin(*clock_s, cpu_s() - start);
        trace_init(&t);
        start = cpu_s();
        if (status == STATUS_OK)
            status = simulate(s, set, &t, err);
        *all_s = fmin(*all_s, cpu_s() - start);
        trace_free(&t);
    }
    free(duration_s);
    return status;
}

int main(void)
{
    struct arch a = {0};
    struct hardware hw;
    struct workload w = {512, 32, 0};
    struct policy p;
    struct placement pl = {0};
    struct schedule s = {0};
    struct error err = {0};
    if (hardware_load(&hw, "t4-gcp", &err) || arch_load(&a, "opt-1.3b", &err))
        goto failed;
    policy_default(&p, hw.n_tiers);
    if (policy_percent(&p, "20 30 20 30 50 20", &hw, &err))
        goto failed;
    p.gpu_batch_size = 8;
    p.num_gpu_batches = 4;
    double start = cpu_s();
    if (placement_new(&pl, &a, &hw, &w, &p, &err) || schedule_new(&s, &a, &hw, &w, &p, &pl, &err))
        goto failed;
    double made = cpu_s() - start;
    struct engine_work work = {.begin = nothing};
    start = now_s();
    if (engine_run(&s, resource_count(&hw), &work, NULL, NULL, &err))
        goto failed;
    double ran = now_s() - start;
    struct prediction prediction = {0};
    struct run_setting set = {"bench", &a, &hw, &w, &p, &pl, &prediction};
    double clocked, simulated;
    if (simulated_s(&s, &set, &clocked, &simulated, &err))
        goto failed;
    printf("operations,make_ns_per_op,engine_ns_per_op,record_ns_per_op,clock_ns_per_op,simulate_ns_per_op\n");
    printf("%d,%.0f,%.0f,%.0f,%.0f,%.0f\n", s.n_ops, 1e9 * made / s.n_ops, 1e9 * ran / s.n_ops,
           1e9 * recording_s(s.n_ops) / s.n_ops, 1e9 * clocked / s.n_ops, 1e9 * simulated / s.n_ops);
    schedule_free(&s);
    placement_free(&pl);
    arch_free(&a);
    return 0;
failed:
    fprintf(stderr, "bench_engine: %s\n", err.text);
    schedule_free(&s);
    placement_free(&pl);
    arch_free(&a);
    return (int)err.status;
}
