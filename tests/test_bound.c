/* The table that bounds a box of batch sizes, against the table of every kind of point inside it. */
#include <criterion/criterion.h>

#include "tests/planner_cases.h"

/* Rates that go up and down with the size, as measured ones do. */
static struct curve jagged(double low, double high)
{
    struct curve c = {.n = 5};
    double x = log_uniform(1, 1e4);
    for (int i = 0; i < c.n; i++) {
        c.x[i] = x;
        c.y[i] = log_uniform(low, high);
        x *= log_uniform(1.5, 30);
    }
    return c;
}

static struct hardware jagged_machine(int n_tiers)
{
    struct hardware hw = random_machine(n_tiers);
    for (int i = 0; i < n_tiers - 1; i++) {
        hw.link[i].read_bytes_per_s = jagged(1e7, 1e10);
        hw.link[i].write_bytes_per_s = jagged(1e7, 1e10);
    }
    for (int u = 0; u < hw.n_computes; u++)
        for (int f = 0; f < FORMAT_COUNT; f++)
            hw.compute[u].matmul[f] = jagged(1e8, 1e12);
    return hw;
}

static struct policy random_switches(const struct hardware *hw)
{
    struct policy p;
    policy_default(&p, hw->n_tiers);
    p.weight_bits = pick(2) ? 16 : 4;
    p.cache_bits = pick(2) ? 16 : 4;
    p.attention_near_cache = hw->n_computes > 1 && pick(2);
    p.schedule = (enum schedule_kind)pick(SCHEDULE_COUNT);
    p.overlap = pick(2);
    p.prefetch = 1 + pick(4);
    p.pageable_weights = pick(2);
    p.attention_sparsity = pick(4) ? 1 : 0.25;
    return p;
}

/* A form with each class on one tier: of all other placements it is between these. */
static double corner_of(const struct form *f, int w, int c, int h)
{
    return f->base + f->coef[CLASS_WEIGHT][w] + f->coef[CLASS_CACHE][c] + f->coef[CLASS_ACTIVATION][h];
}

static void assert_form_below(const struct form *low, double scale, const struct form *at, int n_tiers, const char *what, int box)
{
    for (int w = 0; w < n_tiers; w++)
        for (int c = 0; c < n_tiers; c++)
            for (int h = 0; h < n_tiers; h++)
                cr_assert_leq(corner_of(low, w, c, h) * scale, corner_of(at, w, c, h) * (1 + 1e-12),
                              "box %d: %s, weights, cache and hidden states on %d, %d, %d", box, what, w, c, h);
}

static void assert_bounds(const struct cost *bound, const struct cost *at, int box)
{
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        if (!(at->steps[ph] > 0))
            continue;
        /* the same number of tokens: from the smallest block to this one, and from all steps to one */
        const double scale = at->tokens / bound->tokens * bound->steps[ph] / at->steps[ph];
        for (int r = 0; r < at->n_resources; r++)
            assert_form_below(&bound->busy[ph][r], scale, &at->busy[ph][r], at->n_tiers, "busy", box);
        for (int i = 0; i < CHAIN_COUNT; i++)
            for (int r = 0; r < at->n_resources; r++)
                assert_form_below(&bound->chain[ph][i][r], scale, &at->chain[ph][i][r], at->n_tiers, "chain", box);
        for (int t = 0; t < at->n_tiers; t++)
            assert_form_below(&bound->peak[ph][t], 1, &at->peak[ph][t], at->n_tiers, "peak", box);
    }
}

/* T per token at a random placement: what the page cache serves, stages and groups are in it. */
static void assert_faster(const struct cost *bound, const struct cost *at, int box)
{
    double f[CLASS_COUNT][TIERS_MAX] = {{0}};
    struct prediction least, p;
    for (int c = 0; c < CLASS_COUNT; c++) {
        double sum = 0;
        for (int t = 0; t < at->n_tiers; t++)
            sum += f[c][t] = pick(2) ? 0 : uniform();
        for (int t = 0; t < at->n_tiers; t++)
            f[c][t] = sum > 0 ? f[c][t] / sum : t == at->n_tiers - 1;
    }
    cost_predict(bound, f, &least);
    cost_predict(at, f, &p);
    cr_assert_leq(least.latency_s / bound->tokens, p.latency_s / at->tokens * (1 + 1e-12), "box %d", box);
}

/* busy of the bound, per sequence, and its peaks are at most those of any point: so no placement of any point is faster. */
Test(bound, no_point_of_a_box_is_below_its_table)
{
    seed_from_environment("no_point_of_a_box_is_below_its_table");
    for (int box = 0; box < 500; box++) {
        struct hardware hw = jagged_machine(2 + pick(2));
        const struct workload w = random_workload();
        struct policy low = random_switches(&hw), high, p;
        struct arch a;
        struct cost bound, at;
        small_arch(&a, 32 << pick(3), 1 + pick(3), 64 << pick(4));
        hw.page_cache_bytes = pick(2) ? log_uniform(1e4, 1e8) : 0;
        if (low.schedule != SCHEDULE_DIAGONAL && pick(2)) {
            make_it_wait(&hw);
            hw.runtime.staging_bytes_per_s = jagged(1e8, 1e10);
        }
        low.gpu_batch_size = 1 + pick(40);
        low.num_gpu_batches = 1 + pick(40);
        high = p = low;
        high.gpu_batch_size += pick(box % 2 ? 8 : 200);
        high.num_gpu_batches +=
            box % 3 ? pick(200) : pick(1 + low.num_gpu_batches / 3); /* narrow ones have stages, where they wait */
        if (low.schedule == SCHEDULE_DIAGONAL && low.num_gpu_batches <= w.gen_tokens && high.num_gpu_batches > w.gen_tokens)
            high.num_gpu_batches = (int)w.gen_tokens; /* a box lies on one side */
        const int64_t corner = (int64_t)high.gpu_batch_size * low.num_gpu_batches,
                      other = (int64_t)low.gpu_batch_size * high.num_gpu_batches;
        const int64_t least = corner > other ? corner : other, most = least + pick((int)(policy_block(&high) - least + 1));
        cr_assert_eq(cost_build_bound(&bound, &a, &hw, &w, &low, &high, most, NULL), STATUS_OK);
        for (int i = 0; i < 20; i++) {
            p.gpu_batch_size = low.gpu_batch_size + pick(high.gpu_batch_size - low.gpu_batch_size + 1);
            p.num_gpu_batches = low.num_gpu_batches + pick(high.num_gpu_batches - low.num_gpu_batches + 1);
            if (policy_block(&p) > most)
                continue;
            cr_assert_eq(cost_build(&at, &a, &hw, &w, &p, NULL), STATUS_OK);
            assert_bounds(&bound, &at, box);
            assert_faster(&bound, &at, box);
        }
        arch_free(&a);
    }
}

/* 20 sequences in blocks of 1 to 3 batches of 4 to 8. Each takes at least ceil(20 / 24) = 1 largest block, so as many smallest ones, 4 or
 * more; but they are 20: five of the smallest. Blocks of 12 to 15 (3 x 4..5): at least ceil(20 / 15) = 2 of 12 are 24 sequences. */
Test(bound, blocks_hold_all_sequences_and_are_whole)
{
    const struct workload w = {.prompt_tokens = 16, .gen_tokens = 4, .sequences = 20};
    const struct hardware hw = test_machine(2, "f32");
    struct policy low, high;
    struct arch a;
    struct cost bound;
    small_arch(&a, 64, 2, 256);
    policy_default(&low, 2);
    low.gpu_batch_size = 4;
    high = low;
    high.gpu_batch_size = 8;
    high.num_gpu_batches = 3;
    cr_assert_eq(cost_build_bound(&bound, &a, &hw, &w, &low, &high, 24, NULL), STATUS_OK);
    cr_assert_float_eq(bound.steps[PHASE_PREFILL], 5, 1e-12);
    low.num_gpu_batches = 3;
    high.gpu_batch_size = 5;
    cr_assert_eq(cost_build_bound(&bound, &a, &hw, &w, &low, &high, 15, NULL), STATUS_OK);
    cr_assert_float_eq(bound.steps[PHASE_PREFILL], 2, 1e-12);
    cr_assert_float_eq(bound.tokens, 80, 1e-12);
    arch_free(&a);
}

/* 4 to 8 sequences a batch, 2 to 3 batches, no block above 20. What 4 x 2 = 8 sequences cost at the least: their weights are read once for
 * 20, so 8/20 of a pass; their launches are those of batches of 8: one. */
Test(bound, weights_are_shared_by_the_largest_block_and_launches_by_the_largest_batch)
{
    const struct workload w = {.prompt_tokens = 16, .gen_tokens = 4};
    struct hardware hw = test_machine(2, "f32");
    struct policy low, high;
    struct arch a;
    struct cost bound, at;
    small_arch(&a, 64, 2, 256);
    policy_default(&low, 2);
    low.gpu_batch_size = 4;
    low.num_gpu_batches = 2;
    high = low;
    high.gpu_batch_size = 8;
    high.num_gpu_batches = 3;
    cr_assert_eq(cost_build(&at, &a, &hw, &w, &low, NULL), STATUS_OK);
    cr_assert_eq(cost_build_bound(&bound, &a, &hw, &w, &low, &high, 20, NULL), STATUS_OK);
    const double pass = at.busy[PHASE_DECODE][resource_link_read(0)].coef[CLASS_WEIGHT][1];
    cr_assert_float_eq(bound.busy[PHASE_DECODE][resource_link_read(0)].coef[CLASS_WEIGHT][1], pass * 8 / 20, 1e-12 * pass);
    const int cpu = resource_compute(&hw, 0);
    const double saved = at.busy[PHASE_DECODE][cpu].base - bound.busy[PHASE_DECODE][cpu].base;
    cr_assert_float_eq(saved, a.n_layers * hw.compute[0].launch_s, 1e-9 * saved, "one launch a layer instead of two");
    cr_assert_eq(bound.tokens, 8 * 4);
    arch_free(&a);
}
