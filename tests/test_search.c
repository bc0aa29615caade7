/* The outer search, against an exhaustive oracle on small random machines and against itself with one thing changed. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/placement.h"
#include "solver/exhaustive.h"
#include "solver/point.h"
#include "solver/replan.h"
#include "solver/search.h"
#include "tests/failing_allocations.h"
#include "tests/planner_cases.h"

/* -- against the oracle ---------------------------------------------------------------------------------------------- */

static void compare_with_oracle(int machine, int n_tiers, int grid, double sparsity, int *fitted)
{
    struct hardware hw = random_machine(n_tiers);
    struct search_options o = random_options();
    const struct workload w = random_workload();
    struct arch a;
    struct policy oracle_policy;
    struct plan p;
    struct error err = {0};
    enum status status;
    double oracle;

    o.attention_sparsity = sparsity;
    if (sparsity < 1)
        o.forbid = 0;
    small_arch(&a, 32 << pick(3), 1 + pick(4), 64 << pick(4));
    random_program(&hw);
    if (hardware_waits(&hw)) { /* such a program has no diagonal, and a ring of three */
        o.schedule = o.schedule == SCHEDULE_DIAGONAL ? -1 : o.schedule;
        o.prefetch = o.prefetch > 0 ? o.prefetch : 3;
    }
    oracle = exhaustive_best(&a, &hw, &w, &o, grid, &oracle_policy);
    status = search(&a, &hw, &w, &o, &p, &err);
    if (status == STATUS_OK) {
        ++*fitted;
        /* the LP chooses what the page cache serves, a prediction has everything served alike: the bound holds for it */
        if (hw.page_cache_bytes == 0)
            cr_assert_geq(p.prediction.throughput_tok_s, oracle * (1 - 1e-9), "machine %d: planner %.12g, oracle %.12g (%d x %d)",
                          machine, p.prediction.throughput_tok_s, oracle, oracle_policy.gpu_batch_size,
                          oracle_policy.num_gpu_batches);
        cr_assert_geq(p.bound_tok_s, oracle * (1 - 1e-9), "machine %d: the bound is below what the oracle found", machine);
        cr_assert_leq(p.bound_tok_s, p.relaxed_throughput_tok_s * (1 + 3e-9), "machine %d: a gap",
                      machine); /* rounded up by 1e-9 */
        if (hw.page_cache_bytes == 0)
            cr_assert_float_eq(p.relaxed_throughput_tok_s, p.prediction.throughput_tok_s, 1e-9 * p.relaxed_throughput_tok_s);
        for (int k = 0; k < n_tiers; k++)
            cr_assert_leq(p.peak_bytes[k], hw.tier[k].capacity_bytes + 1, "tier %d", k);
        cr_assert_eq(p.policy.attention_sparsity, sparsity);
        cr_assert_eq(policy_check(&p.policy, &hw, "plan", &err), STATUS_OK, "machine %d: %s", machine, err.text);
    } else {
        cr_assert_eq(status, STATUS_DOES_NOT_FIT, "machine %d: %s", machine, err.text);
        cr_assert_eq(oracle, 0, "machine %d: the oracle fits, the planner says: %s", machine, err.text);
    }
    arch_free(&a);
}

/* n machines of two tiers and n of three, with their sparsities; at least `least` fit, and not all. */
static void compare_machines(const char *test, int n, double two, double three, int least)
{
    int fitted = 0;

    seed_from_environment(test);
    for (int i = 0; i < n; i++) {
        compare_with_oracle(i, 2, 8, two, &fitted);
        compare_with_oracle(n + i, 3, 3, three, &fitted);
    }
    cr_assert(fitted >= least && fitted < 2 * n, "%d of %d fit: the test should see both", fitted, 2 * n);
}

/* The planner's fractions are real and its batch sizes and switches the oracle's, so it is at least as good everywhere. */
Test(search, is_never_worse_than_trying_everything)
{
    compare_machines("is_never_worse_than_trying_everything", 100, 1, 1, 100);
}

/* Sparse attention leaves the cache fewer tiers, and which depends on where attention runs. */
Test(search, with_sparse_attention_is_never_worse_than_trying_everything)
{
    compare_machines("with_sparse_attention_is_never_worse_than_trying_everything", 40, 0.1, 0.3, 30);
}

/* The bound that skips LPs: for any two points of one problem, the prices of one bound the optimum of the other from below, and
 * its own prices give its own optimum. */
Test(search, prices_of_any_point_bound_every_other)
{
    int solved = 0, tight = 0;

    seed_from_environment("prices_of_any_point_bound_every_other");
    for (int i = 0; i < 100; i++) {
        struct hardware hw = random_machine(2 + i % 2);
        const struct workload w = random_workload();
        struct search_options o;
        struct arch a;
        struct problem pr;
        struct policy switches[SWITCHES_MAX];
        struct point one = {0}, two = {0};
        random_program(&hw);
        search_options_default(&o);
        small_arch(&a, 64, 2, 256);
        cr_assert_eq(problem_new(&pr, &a, &hw, &w, &o, NULL), STATUS_OK);
        const int n = problem_switches(&pr, switches);
        one.policy = switches[pick(n)];
        two.policy = switches[pick(n)];
        two.policy.gpu_batch_size = 1 + pick(4);
        two.policy.num_gpu_batches = 1 + pick(4);
        if (point_build(&pr, &one, NULL) == STATUS_OK && point_build(&pr, &two, NULL) == STATUS_OK &&
            point_solve(&pr, &one, NULL) == STATUS_OK && point_solve(&pr, &two, NULL) == STATUS_OK) {
            const double bound = point_least_total_s(&pr, &two.cost, &one.solution), own = two.solution.total_s;
            cr_assert_leq(bound, own * (1 + 1e-9), "pair %d", i);
            cr_assert_float_eq(point_least_total_s(&pr, &two.cost, &two.solution), own, 1e-7 * own, "pair %d", i);
            cr_assert_not(point_cannot_fit(&pr, &two.cost));
            solved++;
            tight += bound > 0.5 * own;
        }
        problem_free(&pr);
        arch_free(&a);
    }
    cr_assert_gt(solved, 30, "%d pairs", solved);
    cr_assert_gt(tight, 10, "%d useful bounds", tight);
}

/* Branch and bound against the LP of every single point: the same optimum, and fewer LPs. */
Test(search, branch_and_bound_finds_what_all_integer_sizes_hold)
{
    int64_t lps = 0, points = 0;

    seed_from_environment("branch_and_bound_finds_what_all_integer_sizes_hold");
    for (int i = 0; i < 40; i++) {
        struct hardware hw = random_machine(2 + i % 2);
        const struct workload w = random_workload();
        struct search_options o = random_options();
        struct arch a;
        struct problem pr;
        struct policy switches[SWITCHES_MAX];
        struct plan p;
        double best = 0;
        o.max_block = 8 + pick(40);
        random_program(&hw);
        small_arch(&a, 64, 2, 256);
        cr_assert_eq(problem_new(&pr, &a, &hw, &w, &o, NULL), STATUS_OK);
        const int n = problem_switches(&pr, switches);
        for (int j = 0; j < n; j++)
            for (int g = 1; g <= o.max_block; g++)
                for (int k = 1; k <= o.max_block / g; k++) {
                    struct point pt = {.policy = switches[j]};
                    if (o.num_gpu_batches > 0 && k != o.num_gpu_batches)
                        continue;
                    pt.policy.gpu_batch_size = g;
                    pt.policy.num_gpu_batches = k;
                    if (point_build(&pr, &pt, NULL) == STATUS_OK && point_solve(&pr, &pt, NULL) == STATUS_OK)
                        best = fmax(best, pt.relaxed_throughput_tok_s);
                    points++;
                }
        if (search(&a, &hw, &w, &o, &p, NULL) == STATUS_OK) {
            cr_assert_float_eq(p.relaxed_throughput_tok_s, best, 1e-9 * best, "machine %d", i);
            cr_assert_geq(p.bound_tok_s, best * (1 - 1e-9), "machine %d", i);
            lps += p.lps;
        } else {
            cr_assert_eq(best, 0, "machine %d", i);
        }
        problem_free(&pr);
        arch_free(&a);
    }
    printf("%lld LPs for %lld points\n", (long long)lps, (long long)points);
    cr_assert_lt(lps, points / 4);
}

/* A proof that is given up after a box has the bound of what is left: above the optimum, which a full one finds. */
Test(search, a_proof_that_is_given_up_still_bounds)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;

    disk_bound(&a, &hw, &w, &o);
    const struct plan full = plan_of(&a, &hw, &w, &o);
    o.max_boxes = 1;
    const struct plan cut = plan_of(&a, &hw, &w, &o);
    cr_assert(cut.given_up && !full.given_up);
    cr_assert_lt(cut.boxes, full.boxes);
    cr_assert_geq(cut.bound_tok_s, full.relaxed_throughput_tok_s * (1 - 1e-9));
    cr_assert_leq(cut.relaxed_throughput_tok_s, full.bound_tok_s);
    cr_assert_gt(cut.bound_tok_s, full.bound_tok_s * (1 + o.tolerance), "nothing was left out");
    arch_free(&a);
}

/* -- options --------------------------------------------------------------------------------------------------------- */

Test(search, what_is_fixed_stays_fixed)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;

    disk_bound(&a, &hw, &w, &o);
    o.gpu_batch_size = 5;
    o.num_gpu_batches = 3;
    o.weight_bits = 4;
    o.prefetch = 2;
    o.schedule = SCHEDULE_ROW;
    o.overlap = 0;
    o.forbid = 1u << (CLASS_CACHE * TIERS_MAX + 1);
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_eq(p.policy.gpu_batch_size, 5);
    cr_assert_eq(p.policy.num_gpu_batches, 3);
    cr_assert_eq(p.policy.weight_bits, 4);
    cr_assert_eq(p.policy.cache_bits, 16);
    cr_assert_eq(p.policy.prefetch, 2);
    cr_assert_eq(p.policy.schedule, SCHEDULE_ROW);
    cr_assert_not(p.policy.overlap);
    cr_assert_eq(p.policy.fraction[CLASS_CACHE][1], 0);
    arch_free(&a);
}

/* Fixing fractions to what the free plan chose changes nothing; fixing them elsewhere is kept, and never better. */
Test(search, fractions_stay_within_what_is_fixed)
{
    int kept = 0;

    seed_from_environment("fractions_stay_within_what_is_fixed");
    for (int i = 0; i < 60; i++) {
        const int n_tiers = 2 + i % 2, cls = pick(CLASS_COUNT), k = pick(n_tiers);
        const struct hardware hw = random_machine(n_tiers);
        const struct workload w = random_workload();
        struct search_options o = random_options();
        struct arch a;
        struct plan free_plan, p;
        small_arch(&a, 64, 2, 256);
        o.forbid = 0;
        if (search(&a, &hw, &w, &o, &free_plan, NULL) == STATUS_OK) {
            const double best = free_plan.relaxed_throughput_tok_s;
            for (int c = 0; c < CLASS_COUNT; c++)
                for (int t = 0; t < n_tiers; t++) {
                    o.fraction.low[c][t] = fmax(0, free_plan.policy.fraction[c][t] - 1e-9);
                    o.fraction.high[c][t] = fmin(1, free_plan.policy.fraction[c][t] + 1e-9);
                }
            p = plan_of(&a, &hw, &w, &o);
            cr_assert_float_eq(p.relaxed_throughput_tok_s, best, 1e-6 * best, "machine %d", i);
            for (int c = 0; c < CLASS_COUNT; c++)
                for (int t = 0; t < n_tiers; t++) {
                    o.fraction.low[c][t] = 0;
                    o.fraction.high[c][t] = 1;
                }
            o.fraction.low[cls][k] = uniform() * 0.5;
            o.fraction.high[cls][k] = o.fraction.low[cls][k] + (i % 3 ? 0.1 : 0);
            if (search(&a, &hw, &w, &o, &p, NULL) == STATUS_OK) {
                cr_assert_geq(p.policy.fraction[cls][k], o.fraction.low[cls][k] - 1e-9, "machine %d", i);
                cr_assert_leq(p.policy.fraction[cls][k], o.fraction.high[cls][k] + 1e-9, "machine %d", i);
                cr_assert_leq(p.relaxed_throughput_tok_s, best * (1 + 1e-9), "machine %d", i);
                kept++;
            }
        }
        arch_free(&a);
    }
    cr_assert_gt(kept, 20, "%d fixed plans fit", kept);
}

Test(search, the_block_is_as_large_as_helps_but_not_larger_than_asked)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;

    disk_bound(&a, &hw, &w, &o); /* bound by reading weights: every further sequence is nearly free */
    o.max_block = 7;
    cr_assert_eq(block_of(&a, &hw, &w, &o), 7);
    o.max_block = 1;
    cr_assert_eq(block_of(&a, &hw, &w, &o), 1);
    arch_free(&a);
}

Test(search, a_latency_limit_is_kept_or_refused)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan free_plan, p;
    struct error err = {0};

    disk_bound(&a, &hw, &w, &o);
    free_plan = plan_of(&a, &hw, &w, &o);
    o.max_latency_s = free_plan.prediction.latency_s / 2;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_leq(p.prediction.latency_s, o.max_latency_s);
    cr_assert_lt(p.prediction.throughput_tok_s, free_plan.prediction.throughput_tok_s);
    o.max_latency_s = 1e-3; /* reading some 50 MiB a step at 1 GB/s takes far longer */
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &err), STATUS_DOES_NOT_FIT);
    cr_assert_neq(strstr(err.text, "at most 0.001 s"), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "--latency "), NULL, "%s", err.text);
    o.max_latency_s = atof(strstr(err.text, "--latency ") + 10);
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_leq(p.prediction.latency_s, o.max_latency_s);
    arch_free(&a);
}

Test(search, a_prompt_without_decoding_is_planned_too)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;

    disk_bound(&a, &hw, &w, &o);
    w.gen_tokens = 1;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_eq(p.prediction.decode_s, 0);
    cr_assert_gt(p.prediction.throughput_tok_s, 0);
    arch_free(&a);
}

Test(search, switches_without_a_measured_rate_are_left_out_unless_asked_for)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;
    struct error err = {0};

    disk_bound(&a, &hw, &w, &o);
    hw.compute[0].matmul[FORMAT_Q4].n = 0;
    o.weight_bits = 0;
    cr_assert_eq(plan_of(&a, &hw, &w, &o).policy.weight_bits, 16);
    o.weight_bits = 4;
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &err), STATUS_INVALID);
    cr_assert_neq(strstr(err.text, "q4"), NULL, "%s", err.text);
    /* a batch of one has schedules without a box, which says nothing of rates */
    struct error one = {0};
    o.schedule = -1;
    o.max_block = 1;
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &one), STATUS_INVALID);
    cr_assert_neq(strstr(one.text, "q4"), NULL, "%s", one.text);
    arch_free(&a);
}

Test(search, impossible_options_are_refused_with_what_was_expected)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;
    struct error near = {0}, block = {0}, bits = {0};

    disk_bound(&a, &hw, &w, &o);
    o.attention_near_cache = 1; /* one unit only */
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &near), STATUS_INVALID);
    cr_assert_neq(strstr(near.text, "second compute unit"), NULL, "%s", near.text);
    o.attention_near_cache = -1;
    o.gpu_batch_size = 8;
    o.num_gpu_batches = 8;
    o.max_block = 63;
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &block), STATUS_INVALID);
    cr_assert_neq(strstr(block.text, "at most 63"), NULL, "%s", block.text);
    o.max_block = 64;
    o.weight_bits = 8;
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &bits), STATUS_INVALID);
    cr_assert_neq(strstr(bits.text, "found 8"), NULL, "%s", bits.text);
    arch_free(&a);
}

/* -- executable policies ---------------------------------------------------------------------------------------------- */

Test(search, the_executable_policy_fits_byte_for_byte_and_is_nearly_as_good)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;
    struct placement pl;

    disk_bound(&a, &hw, &w, &o);
    o.realise = placement_realise;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_eq(placement_new(&pl, &a, &hw, &w, &p.policy, NULL), STATUS_OK);
    cr_assert_eq(placement_check(&pl, &hw, NULL), STATUS_OK);
    for (int k = 0; k < hw.n_tiers; k++)
        cr_assert_eq(placement_peak(&pl, k), p.peak_bytes[k], "planned is executed, tier %d", k);
    cr_assert_geq(p.prediction.throughput_tok_s, 0.95 * p.relaxed_throughput_tok_s);
    placement_free(&pl);
    arch_free(&a);
}

static int64_t greedy_extra_bytes;

/* As executed, but with so much more on tier 0. */
static enum status realise_with_extra(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                                      int64_t peak_bytes[TIERS_MAX], struct error *err)
{
    const enum status status = placement_realise(a, hw, w, p, peak_bytes, err);

    peak_bytes[0] += greedy_extra_bytes;
    return status;
}

Test(search, exact_peaks_that_exceed_a_tier_move_the_placement_down)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan plain, p;

    disk_bound(&a, &hw, &w, &o);
    o.gpu_batch_size = o.num_gpu_batches = 4;
    o.realise = placement_realise;
    plain = plan_of(&a, &hw, &w, &o);
    greedy_extra_bytes = (int64_t)(20 * MIB);
    o.realise = realise_with_extra;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_leq(p.peak_bytes[0], hw.tier[0].capacity_bytes);
    cr_assert_lt(p.policy.fraction[CLASS_WEIGHT][0], plain.policy.fraction[CLASS_WEIGHT][0]);
    cr_assert_geq(p.peak_bytes[0], hw.tier[0].capacity_bytes * 8 / 10, "but no further than needed");
    arch_free(&a);
}

static enum status realise_single(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                                  int64_t peak_bytes[TIERS_MAX], struct error *err)
{
    if (policy_block(p) > 2)
        return error_set(err, STATUS_DOES_NOT_FIT, "only two at a time");
    return placement_realise(a, hw, w, p, peak_bytes, err);
}

static enum status realise_nothing(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                                   int64_t peak_bytes[TIERS_MAX], struct error *err)
{
    (void)a, (void)hw, (void)w, (void)p, (void)peak_bytes;
    return error_set(err, STATUS_RUNTIME, "broken");
}

Test(search, a_smaller_block_is_tried_when_none_of_the_best_can_be_executed)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;
    struct error err = {0};

    disk_bound(&a, &hw, &w, &o);
    o.realise = realise_single;
    cr_assert_leq(block_of(&a, &hw, &w, &o), 2);
    o.realise = realise_nothing;
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "broken");
    arch_free(&a);
}

/* -- shadow prices --------------------------------------------------------------------------------------------------- */

static double price_of(const struct plan *p, const char *what)
{
    for (int i = 0; i < p->n_prices; i++)
        if (strcmp(p->price[i].what, what) == 0)
            return p->price[i].per_unit;
    cr_assert_fail("no price of %s", what);
    return 0;
}

/* Plans again with a little more of one thing: d units gain d * price tokens/s, to first order. The second order is about
 * d / size relative: d is 1e-4 of the whole, so 1e-3 is generous and a wrong unit or a forgotten phase is far outside. */
static void assert_price(const struct arch *a, const struct hardware *more, const struct workload *w,
                         const struct search_options *o, const struct plan *before, const char *what, double units)
{
    const double gain = plan_of(a, more, w, o).relaxed_throughput_tok_s - before->relaxed_throughput_tok_s;
    const double price = price_of(before, what);

    cr_assert_float_eq(gain, units * price, 1e-3 * fabs(gain) + 1e-9 * before->relaxed_throughput_tok_s,
                       "%s: gain %.9g, price %.9g", what, gain, units * price);
}

Test(search, prices_tell_what_a_little_more_would_bring)
{
    struct arch a;
    struct hardware hw, more;
    struct workload w;
    struct search_options o;
    struct plan p;
    const int64_t extra_bytes = 10000;

    disk_bound(&a, &hw, &w, &o);
    o.gpu_batch_size = o.num_gpu_batches = 2;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_gt(price_of(&p, "ram capacity"), 0);
    cr_assert_gt(price_of(&p, "disk->ram bandwidth"), 0);
    cr_assert_eq(price_of(&p, "disk capacity"), 0);
    more = hw;
    more.tier[0].capacity_bytes += extra_bytes;
    assert_price(&a, &more, &w, &o, &p, "ram capacity", (double)extra_bytes / (1024 * MIB));
    more = hw;
    more.link[0].read_bytes_per_s = flat(1.0001e9); /* 0.0001 GB/s more */
    assert_price(&a, &more, &w, &o, &p, "disk->ram bandwidth", 1e-4);
    arch_free(&a);
}

Test(search, planning_again_stands_beside_the_price)
{
    struct arch a;
    struct hardware hw, more;
    struct workload w;
    struct search_options o;
    struct plan p;

    disk_bound(&a, &hw, &w, &o);
    o.tolerance = 1e-6;
    o.max_block = 32;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_eq(replan_prices(&a, &hw, &w, &o, &p, NULL), STATUS_OK);
    const double before = p.relaxed_throughput_tok_s;
    for (int i = 0; i < p.n_prices; i++) {
        more = hw;
        if (strcmp(p.price[i].what, "ram capacity") == 0)
            more.tier[0].capacity_bytes += 1LL << 30;
        else if (strcmp(p.price[i].what, "disk->ram bandwidth") == 0)
            more.link[0].read_bytes_per_s = flat(2e9); /* 1 GB/s and 1 GB/s more */
        else
            continue;
        const double gain = plan_of(&a, &more, &w, &o).relaxed_throughput_tok_s - before;
        cr_assert_gt(gain, 0);
        cr_assert_float_eq(p.price[i].replanned, gain, 3e-6 * (before + gain), "%s", p.price[i].what);
    }
    cr_assert_float_eq(price_of(&p, "disk capacity"), 0, 1e-12);
    arch_free(&a);
}

Test(search, a_compute_bound_plan_prices_the_compute_rate_only)
{
    struct arch a;
    struct hardware hw, more;
    struct workload w;
    struct search_options o;
    struct plan p;

    disk_bound(&a, &hw, &w, &o);
    hw.tier[0].capacity_bytes = 1LL << 30;
    hw.compute[0].launch_s = 0;
    o.gpu_batch_size = o.num_gpu_batches = 2;
    p = plan_of(&a, &hw, &w, &o);
    cr_assert_eq(price_of(&p, "ram capacity"), 0);
    cr_assert_eq(price_of(&p, "disk->ram bandwidth"), 0);
    /* All is computing: one percent more rate is one percent more tokens a second. */
    cr_assert_float_eq(price_of(&p, "cpu rate"), 0.01 * p.relaxed_throughput_tok_s, 1e-6 * p.relaxed_throughput_tok_s);
    more = hw;
    for (int f = 0; f < FORMAT_COUNT; f++) {
        more.compute[0].matmul[f].y[0] *= 1.0001; /* 0.01 of one percent, of every rate the unit has */
        more.compute[0].attention_decode_bytes_per_s[f] *= 1.0001;
    }
    more.compute[0].attention_prefill_flops_per_s *= 1.0001;
    more.compute[0].memory_bytes_per_s *= 1.0001;
    assert_price(&a, &more, &w, &o, &p, "cpu rate", 0.01);
    arch_free(&a);
}

/* -- the size of the work, and failures ------------------------------------------------------------------------------- */

Test(search, the_largest_preset_takes_a_few_thousand_lps)
{
    /* 32 combinations of switches and 727 thousand pairs of sizes with a product up to 65536 each: 23 million points. */
    struct arch a = {0};
    struct hardware hw;
    const struct workload w = {.prompt_tokens = 512, .gen_tokens = 32};
    struct search_options o;
    struct error err = {0};
    struct plan p;

    cr_assert_eq(arch_load(&a, "opt-175b", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_load(&hw, "t4-gcp", &err), STATUS_OK, "%s", err.text);
    search_options_default(&o);
    o.realise = placement_realise;
    p = plan_of(&a, &hw, &w, &o);
    printf("opt-175b on t4-gcp: %lld LPs\n", (long long)p.lps);
    cr_assert_gt(p.points, 20000000); /* those with one batch are the same in every schedule */
    cr_assert_leq(p.lps, 5000);
    cr_assert_leq(p.bound_tok_s, p.relaxed_throughput_tok_s * (1 + 1.01e-4), "proven to the tolerance");
    cr_assert_geq(p.prediction.throughput_tok_s, 0.99 * p.relaxed_throughput_tok_s);
    arch_free(&a);
}

#if CAN_FAIL_ALLOCATIONS
static enum status plan_once(void)
{
    static struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;

    if (a.n_layers == 0) {
        const long armed = allocations_until_failure; /* only the search is on trial */
        allocations_until_failure = 0;
        disk_bound(&a, &hw, &w, &o);
        arch_free(&a);
        small_arch(&a, 64, 2, 256);
        allocations_until_failure = armed;
    }
    hw = test_machine(2, "f32");
    w = (struct workload){.prompt_tokens = 8, .gen_tokens = 4};
    search_options_default(&o);
    o.max_block = 4;
    o.weight_bits = o.cache_bits = 16;
    o.realise = placement_realise;
    return search(&a, &hw, &w, &o, &p, NULL);
}
#endif

Test(search, every_failing_allocation_is_a_status)
{
#if CAN_FAIL_ALLOCATIONS
    spare_jansson();
    cr_assert_gt(fail_each_allocation(plan_once), 0);
#else
    cr_skip_test("the sanitizer owns the allocator");
#endif
}
