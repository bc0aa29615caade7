/* The order of the list: on random machines and placements a simulated run is as fast as the busiest resource of each layer allows. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "tests/planner_cases.h"
#include "tests/scene.h"

#define BATCHES_MAX 12

/* A scene and its operations on the clock. */
struct timed {
    struct scene c;
    double *duration_s; /* (n_ops) */
    struct clock_input in;
};

static void random_rates(struct hardware *hw)
{
    for (int l = 0; l + 1 < hw->n_tiers; l++) {
        hw->link[l].read_bytes_per_s = flat(log_uniform(0.3e9, 10e9));
        hw->link[l].write_bytes_per_s = flat(log_uniform(0.3e9, 10e9));
    }
    for (int u = 0; u < hw->n_computes; u++) {
        struct compute *unit = &hw->compute[u];
        for (int f = 0; f < FORMAT_COUNT; f++) {
            unit->matmul[f] = flat(log_uniform(1e9, 100e9));
            unit->attention_decode_bytes_per_s[f] = log_uniform(0.1e9, 10e9);
        }
        unit->attention_prefill_flops_per_s = log_uniform(1e9, 100e9);
    }
}

static void random_fractions(double *f, int n_tiers)
{
    double rest = 1;
    for (int t = 0; t < n_tiers - 1; t++) {
        f[t] = pick(3) == 0 ? 0 : pick(3) == 0 ? rest : rest * uniform();
        rest -= f[t];
    }
    f[n_tiers - 1] = rest;
}

static void random_scene(struct scene *c)
{
    struct hardware hw = test_machine(2 + (pick(4) > 0), "bf16");
    const struct workload w = {8 + pick(100), 3 + pick(4), 0};
    random_rates(&hw);
    scene_open(c, "opt-125m", &hw, w, "100 0 100 0 100 0", 1 + pick(8), 1 + pick(BATCHES_MAX));
    for (int cl = 0; cl < CLASS_COUNT; cl++)
        random_fractions(c->p.fraction[cl], c->hw.n_tiers);
    c->p.prefetch = 2 + pick(3);
    c->p.attention_near_cache = c->hw.n_tiers == 3 && pick(2);
}

/* OPT-6.7B on the T4 with its cache on the host and attended to there. */
static void near_scene(struct scene *c, struct workload w, const char *percent, int batch, int batches)
{
    struct hardware hw;
    struct error err = {0};
    cr_assert_eq(hardware_load(&hw, "t4-gcp", &err), STATUS_OK, "%s", err.text);
    scene_open(c, "opt-6.7b", &hw, w, percent, batch, batches);
    c->p.attention_near_cache = true;
}

static void make(struct timed *t)
{
    struct error err = {0};
    scene_make(&t->c);
    t->in = clock_setting(&t->c.s, &t->c.set);
    t->duration_s = malloc((size_t)t->c.s.n_ops * sizeof *t->duration_s);
    t->in.duration_s = t->duration_s;
    cr_assert_eq(op_durations(&t->c.s, &t->c.set, t->duration_s, &err), STATUS_OK);
}

static double simulated_s(const struct timed *t)
{
    double s;
    cr_assert_eq(clock_run(&t->in, NULL, &s, NULL), STATUS_OK);
    return s;
}

static void close_timed(struct timed *t)
{
    free(t->duration_s);
    scene_close(&t->c);
}

/* -- bounds ------------------------------------------------------------------------------------------------------------------ */

static double busiest_s(const struct timed *t)
{
    const struct scene *c = &t->c;
    double busy[RESOURCES_MAX] = {0}, most = 0;
    for (int32_t i = 0; i < c->s.n_ops; i++) /* a latency may pass behind the transfer before */
        busy[c->s.op[i].resource] += t->duration_s[i] - t->in.latency_s[c->s.op[i].resource];
    for (int r = 0; r < RESOURCES_MAX; r++)
        most = fmax(most, busy[r]);
    return most;
}

/* What a layer's visit has to do on each resource, with the weights that are loaded meanwhile, and the longest way of one batch through it. */
struct visit {
    double work_s[RESOURCES_MAX], batch_s[BATCHES_MAX], part_s;
};

/* A visit is a line where batches pass stations one after the other. With n batches alike, whose steps take p_r, the last one leaves after
 * (n-1) max p_r + sum p_r, so at most the work of the busiest station and one batch's way. Visit after visit, after the weights that
 * are loaded ahead of the first. */
static double bound_s(const struct timed *t)
{
    const struct scene *c = &t->c;
    int layers = c->a.n_layers, n = layers * (int)c->w.gen_tokens, ahead = c->p.prefetch - 1;
    struct visit *visit = calloc((size_t)n, sizeof *visit);
    double sum = 0;
    for (int32_t i = 0; i < c->s.n_ops; i++) {
        const struct op *op = &c->s.op[i];
        int at = op->step * layers + op->layer;
        bool weights = op->kind == OP_LOAD_WEIGHTS;
        /* weights are used by visits, of which an embedding is none */
        int loaded = at - ahead - (op->layer <= ahead);
        if (weights && loaded <= 0) {
            sum += t->duration_s[i];
            continue;
        }
        struct visit *v = &visit[weights ? loaded : at];
        v->work_s[op->resource] += t->duration_s[i];
        if (weights)
            v->part_s = fmax(v->part_s, t->duration_s[i]);
        else
            v->batch_s[op->batch] += t->duration_s[i];
    }
    for (int i = 0; i < n; i++) {
        double most = 0, way = 0;
        for (int r = 0; r < RESOURCES_MAX; r++)
            most = fmax(most, visit[i].work_s[r]);
        for (int k = 0; k < c->p.num_gpu_batches; k++)
            way = fmax(way, visit[i].batch_s[k]);
        sum += most + way + visit[i].part_s * (c->hw.n_tiers - 1);
    }
    free(visit);
    return sum;
}

Test(order, a_run_is_as_fast_as_the_busiest_resource_of_each_layer_allows)
{
    seed_from_environment("order");
    for (int i = 0; i < 300; i++) {
        struct timed t;
        char flags[256];
        random_scene(&t.c);
        make(&t);
        double s = simulated_s(&t), least = busiest_s(&t), most = bound_s(&t);
        policy_flags(&t.c.p, &t.c.hw, flags, sizeof flags);
        cr_assert_geq(s, least * (1 - 1e-9), "case %d: %s takes %g s, its busiest resource %g s", i, flags, s, least);
        cr_assert_leq(s, most, "case %d: %s takes %g s, its layers one after the other at most %g s", i, flags, s, most);
        close_timed(&t);
    }
}

/* Of an order that the clock finds. Its lanes keep the list's order of a rank, and it is right about the time that they take. */
static double found_s(struct timed *t, enum choice choice)
{
    double found_s;
    struct schedule *s = &t->c.s;
    int32_t *given = s->lane, *found = malloc((size_t)s->n_ops * sizeof *found);
    cr_assert_eq(clock_arrange(&t->in, choice, found, &found_s, NULL), STATUS_OK);
    s->lane = found;
    cr_assert_float_eq(simulated_s(t), found_s, 1e-9 * found_s);
    for (int r = 0; r < RESOURCES_MAX; r++) {
        int32_t last[RANKS] = {-1, -1, -1, -1};
        for (int32_t k = s->first[r]; k < s->first[r + 1]; k++) {
            const struct op *op = &s->op[found[k]];
            int rank = choice == CHOICE_LINKS && op->link < 0 ? 0 : op_rank(op);
            cr_assert_gt(found[k], last[rank]);
            cr_assert_eq(op->resource, r);
            last[rank] = found[k];
        }
    }
    s->lane = given;
    free(found);
    return found_s;
}

static double listed_s(struct timed *t)
{
    int32_t *given = t->c.s.lane;
    cr_assert_eq(schedule_deal(&t->c.s, NULL), STATUS_OK);
    double s = simulated_s(t);
    free(t->c.s.lane);
    t->c.s.lane = given;
    return s;
}

Test(order, lanes_keep_the_order_of_a_rank_and_the_fastest_is_taken)
{
    seed_from_environment("order");
    for (int i = 0; i < 100; i++) {
        struct timed t;
        random_scene(&t.c);
        make(&t);
        double s = simulated_s(&t), found = fmin(found_s(&t, CHOICE_LINKS), found_s(&t, CHOICE_ALL));
        cr_assert_float_eq(s, fmin(listed_s(&t), found), 1e-9 * s);
        close_timed(&t);
    }
}

/* Attention near the cache: what comes up waits for at most the part of the weights that is on the link, once a layer on the way from its last
 * batch to the next layer's first. In list order it would wait for whole layers, and they for it. */
Test(order, a_result_waits_for_one_part_of_weights_at_most)
{
    struct timed t;
    near_scene(&t.c, (struct workload){256, 12, 0}, "20 80 0 100 100 0", 16, 4);
    make(&t);
    double part_s = cost_transfer_s(&t.c.hw, 0, false, 0.8 * 2 * 4096 * 16384 * 2 / 4); /* of an MLP, of which 80 % come up */
    double waits_s = 11 * 32 * part_s, predicted_s = t.c.predicted.latency_s, listed = listed_s(&t);
    cr_assert_leq(simulated_s(&t), predicted_s + waits_s);
    cr_assert_gt(listed, predicted_s + waits_s, "the list alone takes %g s: then this test shows nothing", listed);
    close_timed(&t);
}

/* Weights and cache on the host: early steps are bound by the link, late ones by the second unit, so the table, whose decode step is the mean, says less.
 * Step by step it is what is simulated, but for the latency of transfers that passes behind others, and a part of weights a layer that a result may
 * find on the link. */
Test(order, step_by_step_the_table_is_what_is_simulated)
{
    struct timed t;
    double steps_s = 0, hidden_s = 0;
    near_scene(&t.c, (struct workload){16, 96, 0}, "0 100 0 100 100 0", 32, 10);
    make(&t);
    for (int64_t step = 0; step < t.c.w.gen_tokens; step++)
        steps_s += scene_step_s(&t.c, step);
    for (int32_t i = 0; i < t.c.s.n_ops; i++)
        hidden_s += t.in.latency_s[t.c.s.op[i].resource];
    const double part_s = cost_transfer_s(&t.c.hw, 0, false, 2.0 * 2 * 4096 * 16384 / 8); /* of an MLP's 8 */
    const double s = simulated_s(&t), waits_s = 95 * 32 * part_s, mean_s = t.c.predicted.latency_s;
    cr_assert_geq(s, steps_s - hidden_s, "%g s simulated, %g s step by step", s, steps_s);
    cr_assert_leq(s, steps_s + waits_s, "%g s simulated, %g s step by step, %g s of waits", s, steps_s, waits_s);
    cr_assert_gt(steps_s, mean_s * 1.02, "%g s by the mean step, %g s step by step: then this test shows nothing", mean_s,
                 steps_s);
    close_timed(&t);
}
