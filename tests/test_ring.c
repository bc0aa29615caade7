/* A shallow weight ring: the table against the simulator, which has its slots. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/planner_cases.h"
#include "tests/scene.h"

/* late_s, early_s: what the table leaves out at most, in either direction. */
struct both {
    double table_s, simulated_s, late_s, early_s;
};

/* Seconds of a layer's weights over all links that they cross, and over the first. */
static double load_s(const struct hardware *hw, const struct placement *pl, const struct layer *l, int links)
{
    const double bytes = l->kind == LAYER_EMBED ? 0 : (double)layer_placed_bytes(l, pl->weights);
    double below = 1, s = 0;
    for (int link = 0; link < links; link++) {
        below -= pl->realised[CLASS_WEIGHT][link];
        s += below > 0 ? cost_transfer_s(hw, link, false, bytes) : 0;
    }
    return s;
}

static double longest_load_s(const struct arch *a, const struct hardware *hw, const struct placement *pl, int links)
{
    double longest = 0;
    for (int i = 0; i < a->n_layers; i++)
        longest = fmax(longest, load_s(hw, pl, &a->layer[i], links));
    return longest;
}

/* What the table leaves out of a pass over the layers. It has rows of what goes on and on; a pass begins and ends, with one layer's weights that come
 * before the first computation and one layer that is computed after the last have come. Near the cache, where the first unit is what is busy, one
 * batch's way down, attention and way up come on top in every layer, and its result may find a part of weights on the link. On a unit that queues an
 * operation that has waited shows its launch. */
static double left_out_s(const struct scene *c, int64_t step)
{
    const struct compute *unit = c->hw.compute;
    const int64_t tokens = step_tokens(&c->w, (int)step);
    const double visible = (double)(c->w.prompt_tokens + step),
                 batches = c->p.schedule == SCHEDULE_ROW ? 1 : c->p.num_gpu_batches;
    const double part_s = longest_load_s(&c->a, &c->hw, &c->pl, 1) / fmin(WEIGHT_PARTS_MAX, batches);
    const double row = (double)c->p.gpu_batch_size * (double)(c->a.heads * c->a.head_dim) * 4;
    double compute_s = 0, ways_s = 0;
    for (int i = 0; i < c->a.n_layers; i++) {
        const struct layer *l = &c->a.layer[i];
        const int batch = c->p.gpu_batch_size;
        compute_s =
            fmax(compute_s, batches * cost_layer_s(&unit[0], &c->a, l, c->pl.weights, c->pl.cache, 1, batch, tokens, visible));
        if (step > 0 && c->p.attention_near_cache && l->kind == LAYER_ATTENTION)
            ways_s += cost_transfer_s(&c->hw, 0, true, 3 * row) + cost_transfer_s(&c->hw, 0, false, row) + part_s +
                      cost_attend_s(&unit[1], l, c->pl.cache, 1, batch, 1, visible);
    }
    const double launches_s = compute_queues(unit) ? batches * c->a.n_layers * unit->launch_s : 0;
    return longest_load_s(&c->a, &c->hw, &c->pl, c->hw.n_tiers - 1) + compute_s + ways_s + launches_s;
}

/* Step by step: a maximum of means over steps of unequal length would say less (and does, of the diagonal). The other way round, while a prefill
 * computes the rings fill on every tier, so the decode steps that load have so much less to do; and of one layer a pass, the first, the weights
 * may come while the pass before ends, where a chain has one after the other. */
static struct both latencies(const struct hardware *hw, struct workload w, const struct policy *p)
{
    struct scene c;
    struct both out = {0};
    const double passes = p->schedule == SCHEDULE_ROW ? p->num_gpu_batches : 1;
    scene_open(&c, "opt-125m", hw, w, "100 0 100 0 100 0", 1, 1);
    c.p = *p;
    scene_make(&c);
    scene_simulate(&c);
    const double load_s = longest_load_s(&c.a, hw, &c.pl, hw->n_tiers - 1);
    for (int64_t step = 0; step < w.gen_tokens; step++) {
        out.table_s += scene_step_s(&c, step);
        out.late_s += passes * left_out_s(&c, step);
    }
    out.early_s = (passes * (double)w.gen_tokens + p->prefetch) * load_s;
    out.simulated_s = c.sum.total_s;
    scene_close(&c);
    return out;
}

/* Links and units about as fast as each other, so that a step has something to overlap. */
static struct hardware balanced_machine(int n_tiers)
{
    struct hardware hw = test_machine(n_tiers, "bf16");
    for (int i = 0; i < n_tiers - 1; i++)
        hw.link[i].read_bytes_per_s = flat(log_uniform(0.3e9, 3e9));
    for (int f = 0; f < FORMAT_COUNT; f++)
        hw.compute[0].matmul[f] = flat(log_uniform(5e9, 50e9));
    if (pick(2))
        make_it_queue(&hw.compute[0], log_uniform(1e-5, 1e-3));
    return hw;
}

static struct policy random_policy(int n_tiers, bool near)
{
    struct policy p;
    policy_default(&p, n_tiers);
    p.gpu_batch_size = 2 + pick(8);
    p.num_gpu_batches = 2 + pick(6);
    p.schedule = pick(2) ? SCHEDULE_ROW : SCHEDULE_ZIGZAG;
    p.attention_near_cache = near;
    for (int c = 0; c < CLASS_COUNT; c++) {
        memset(p.fraction[c], 0, sizeof p.fraction[c]);
        p.fraction[c][c == CLASS_WEIGHT ? n_tiers - 1 - pick(n_tiers - 1) : near && c == CLASS_CACHE ? 1 : 0] = 1;
    }
    return p;
}

/* Random machines: the table against the simulator, and how much of what may be left out is; *slower: the most that the ring costs against one of
 * three. */
static void compare(bool near, int depth, double *slower)
{
    double least = INFINITY, most = 0, used = 0;
    *slower = 1;
    for (int i = 0; i < 40; i++) {
        const int n_tiers = near || i % 2 ? 3 : 2;
        const struct hardware hw = balanced_machine(n_tiers);
        const struct workload w = {.prompt_tokens = 8 + pick(64), .gen_tokens = 4 + pick(8)};
        struct policy p = random_policy(n_tiers, near);
        p.prefetch = depth;
        const struct both at = latencies(&hw, w, &p);
        p.prefetch = 3;
        const struct both deep = latencies(&hw, w, &p);
        least = fmin(least, at.simulated_s / at.table_s);
        most = fmax(most, at.simulated_s / at.table_s);
        used = fmax(used, (at.simulated_s - at.table_s) / at.late_s);
        *slower = fmax(*slower, at.simulated_s / deep.simulated_s);
        cr_assert_geq(at.simulated_s, at.table_s - at.early_s, "machine %d: %g s simulated, %g s predicted", i, at.simulated_s,
                      at.table_s);
        cr_assert_leq(at.simulated_s, at.table_s + at.late_s, "machine %d: %g s simulated, %g s predicted", i, at.simulated_s,
                      at.table_s);
        cr_assert_geq(at.table_s, deep.table_s * (1 - 1e-12), "machine %d: fewer slots are no faster", i);
    }
    printf(
        "%d slots, near %d: %.3f to %.3f times the table, %.0f %% of what it may leave out; %.2f times as long as with three\n",
        depth, near, least, most, 100 * used, *slower);
}

Test(ring, a_shallow_one_costs_what_the_simulator_says)
{
    seed_from_environment("a_shallow_one_costs_what_the_simulator_says");
    for (int depth = 1; depth <= 3; depth++)
        for (int near = 0; near < 2; near++) {
            double slower;
            compare(near, depth, &slower);
            cr_assert(depth > 1 || slower > 1.3, "one slot should cost something here");
        }
}
