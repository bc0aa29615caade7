/* What is lost when rates are not the profile's: a schedule has the order that suits the profile (schedule.h). For each resource at half and at twice
 * its rate, the placements of order.sh: how much longer the profile's order takes there than the order made for that machine. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "executor/sim/sim.h"
#include "model/hardware_set.h"
#include "model/placement.h"

#define LOST 0.01 /* counted as lost from here on */

static const int BATCHES[][2] = {{16, 1}, {16, 2}, {16, 4}, {16, 20}, {64, 1}, {64, 2}, {64, 4}};
static const char *const PERCENT[] = {"20 80 0 100 100 0", "0 100 0 100 100 0", "20 50 25 75 0 100", "0 50 0 100 100 0",
                                      "0 100 0 50 0 100"};
enum { N_BATCHES = sizeof BATCHES / sizeof *BATCHES, N_PERCENT = sizeof PERCENT / sizeof *PERCENT };

/* How much longer runs were, as a part of the shorter. */
struct lost {
    int n, above;
    double sum, most;
};

static void check(enum status status, const struct error *err)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_order: %s\n", err->text);
        exit((int)status);
    }
}

/* All rates of one resource; a unit's launches take as much less. */
static struct hardware with_rate(const struct hardware *hw, int resource, double factor)
{
    struct hardware_field field[HARDWARE_FIELDS_MAX];
    struct hardware out = *hw;
    for (int n = hardware_fields(hw, field); n-- > 0;) {
        const struct hardware_field *f = &field[n];
        const bool link = f->kind == FIELD_RATE || f->kind == FIELD_LATENCY,
                   unit = f->kind >= FIELD_MATMUL && f->kind <= FIELD_LAUNCH,
                   time = f->kind == FIELD_LATENCY || f->kind == FIELD_LAUNCH;
        const int of =
            link ? (f->write ? resource_link_write(f->index) : resource_link_read(f->index)) : resource_compute(hw, f->index);
        if ((link || unit) && of == resource)
            hardware_field_put(&out, f, hardware_field_get(hw, f) * (time ? 1 / factor : factor));
    }
    return out;
}

/* Seconds of `order`'s lanes on the machine of `s`: the operations are the same. */
static double seconds(const struct schedule *order, const struct run_setting *s)
{
    struct clock_input in = clock_setting(order, s);
    double *duration_s = malloc(((size_t)order->n_ops + 1) * sizeof *duration_s), total_s;
    struct error err = {0};
    check(duration_s ? op_durations(order, s, duration_s, &err) : error_set(&err, STATUS_RUNTIME, "out of memory"), &err);
    in.duration_s = duration_s;
    check(clock_run(&in, NULL, &total_s, &err), &err);
    free(duration_s);
    return total_s;
}

static void compare(const struct run_setting *a, const struct schedule *order, struct lost lost[RESOURCES_MAX][2])
{
    for (int r = 0; r < resource_count(a->hardware); r++)
        for (int twice = 0; twice < 2; twice++) {
            const struct hardware hw = with_rate(a->hardware, r, twice ? 2 : 0.5);
            struct run_setting b = *a;
            struct schedule own;
            struct error err = {0};
            b.hardware = &hw;
            check(schedule_new(&own, b.arch, &hw, b.workload, b.policy, b.placement, &err), &err);
            double longer = seconds(order, &b) / seconds(&own, &b) - 1;
            struct lost *l = &lost[r][twice];
            l->n++;
            l->sum += longer;
            l->most = fmax(l->most, longer);
            l->above += longer > LOST;
            schedule_free(&own);
        }
}

static void placements(const char *machine, const char *model, struct lost lost[RESOURCES_MAX][2])
{
    const struct workload w = {.prompt_tokens = 256, .gen_tokens = 6};
    struct arch a = {0};
    struct hardware hw;
    struct error err = {0};
    check(arch_load(&a, model, &err), &err);
    check(hardware_load(&hw, machine, &err), &err);
    for (int i = 0; i < N_BATCHES * N_PERCENT * 2; i++) {
        struct policy p;
        struct placement pl;
        policy_default(&p, hw.n_tiers);
        p.gpu_batch_size = BATCHES[i / 2 / N_PERCENT][0];
        p.num_gpu_batches = BATCHES[i / 2 / N_PERCENT][1];
        p.attention_near_cache = i % 2;
        check(policy_percent(&p, PERCENT[i / 2 % N_PERCENT], &hw, &err), &err);
        check(placement_new(&pl, &a, &hw, &w, &p, &err), &err);
        if (placement_check(&pl, &hw, NULL) == STATUS_OK) {
            const struct run_setting s = {.arch = &a, .hardware = &hw, .workload = &w, .policy = &p, .placement = &pl};
            struct schedule order;
            check(schedule_new(&order, &a, &hw, &w, &p, &pl, &err), &err);
            compare(&s, &order, lost);
            schedule_free(&order);
        }
        placement_free(&pl);
    }
    arch_free(&a);
}

int main(void)
{
    static const char *const machines[] = {"t4-gcp", "rtx3090"}, *const models[] = {"opt-30b", "opt-6.7b"};
    struct lost lost[RESOURCES_MAX][2] = {0};
    struct hardware hw;
    struct error err = {0};
    char name[40];
    for (int i = 0; i < 4; i++)
        placements(machines[i / 2], models[i % 2], lost);
    check(hardware_load(&hw, machines[0], &err), &err);
    printf("| resource | rate | placements | mean loss | worst | above %.0f %% |\n|---|---|---:|---:|---:|---:|\n", 100 * LOST);
    for (int r = 0; r < resource_count(&hw); r++)
        for (int twice = 0; twice < 2; twice++) {
            const struct lost *l = &lost[r][twice];
            printf("| %s | %s | %d | %.2f %% | %.1f %% | %d |\n", resource_name(&hw, r, name), twice ? "twice" : "half", l->n,
                   round(1e4 * l->sum / l->n) / 100 + 0.0, 100 * l->most, l->above); /* no -0.00 */
        }
    return 0;
}
