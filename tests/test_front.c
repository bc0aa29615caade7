/* Latency against throughput against every single point of small spaces; what binds first and second against planning again. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/placement.h"
#include "solver/binding.h"
#include "solver/front.h"
#include "solver/point.h"
#include "tests/planner_cases.h"

/* -- the front against all points ------------------------------------------------------------------------------------ */

struct candidate {
    double latency_s, tok_s;
};

static int by_latency(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->latency_s < y->latency_s ? -1 : x->latency_s > y->latency_s;
}

#define CANDIDATES_MAX 100000

/* The LP of each point gives its least latency, which is also its most throughput. Those that no other beats stay, the fastest first. */
static int oracle_front(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                        struct candidate *out)
{
    struct policy switches[SWITCHES_MAX];
    struct problem pr;
    int all = 0, n = 0;
    double best = 0;
    cr_assert_eq(problem_new(&pr, a, hw, w, o, NULL), STATUS_OK);
    const int n_switches = problem_switches(&pr, switches);
    for (int j = 0; j < n_switches; j++)
        for (int g = 1; g <= o->max_block; g++)
            for (int k = 1; k <= o->max_block / g; k++) {
                struct point pt = {.policy = switches[j]};
                pt.policy.gpu_batch_size = g;
                pt.policy.num_gpu_batches = k;
                if (o->num_gpu_batches > 0 && k != o->num_gpu_batches)
                    continue;
                if (point_build(&pr, &pt, NULL) != STATUS_OK || point_solve(&pr, &pt, NULL) != STATUS_OK)
                    continue;
                cr_assert_lt(all, CANDIDATES_MAX);
                out[all++] = (struct candidate){pt.solution.total_s, pt.relaxed_throughput_tok_s};
            }
    problem_free(&pr);
    qsort(out, (size_t)all, sizeof *out, by_latency);
    for (int i = 0; i < all; i++)
        if (out[i].tok_s > best * (1 + 1e-9)) {
            best = out[i].tok_s;
            out[n++] = out[i];
        }
    return n;
}

Test(front, has_the_corners_of_all_points)
{
    struct candidate *oracle = malloc(CANDIDATES_MAX * sizeof *oracle);
    int corners = 0, fronts = 0;
    seed_from_environment("has_the_corners_of_all_points");
    for (int machine = 0; machine < 30; machine++) {
        const struct hardware hw = random_machine(2 + machine % 2);
        struct workload w = random_workload();
        struct search_options o = random_options();
        struct front f;
        struct arch a;
        w.sequences = machine % 10 ? 0 : w.sequences; /* with a number of sequences latency and throughput are one */
        o.max_block = 4 + pick(12);
        small_arch(&a, 64, 2, 256);
        const int n = oracle_front(&a, &hw, &w, &o, oracle);
        const enum status status = front_build(&f, &a, &hw, &w, &o, 1000, NULL);
        if (n == 0)
            cr_assert_eq(status, STATUS_DOES_NOT_FIT);
        else {
            cr_assert_eq(status, STATUS_OK);
            cr_assert(f.complete, "machine %d", machine);
            cr_assert_eq(f.n, n, "machine %d: %d corners, %d of all points", machine, f.n, n);
            for (int i = 0; i < n; i++) {
                const struct plan *p = &f.corner[n - 1 - i].plan;
                cr_assert_float_eq(p->prediction.latency_s, oracle[i].latency_s, 1e-8 * oracle[i].latency_s, "machine %d, %d",
                                   machine, i);
                cr_assert_float_eq(p->prediction.throughput_tok_s, oracle[i].tok_s, 1e-8 * oracle[i].tok_s, "machine %d, %d",
                                   machine, i);
                cr_assert_geq(p->bound_tok_s, oracle[i].tok_s * (1 - 1e-9), "machine %d, %d", machine, i);
            }
            corners += n;
            fronts++;
        }
        front_free(&f);
        arch_free(&a);
    }
    printf("%d corners on %d fronts\n", corners, fronts);
    cr_assert_gt(corners, 3 * fronts, "fronts with a few corners");
    free(oracle);
}

/* A few corners of many: each is one of all, the ends are the ends, and the front says that others are left out. */
Test(front, of_few_plans_keeps_both_ends)
{
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct front few, all;
    disk_bound(&a, &hw, &w, &o);
    o.max_block = 24;
    o.tolerance = 0;
    cr_assert_eq(front_build(&all, &a, &hw, &w, &o, 1000, NULL), STATUS_OK);
    cr_assert(all.complete && all.n > 6, "%d corners", all.n);
    cr_assert_eq(front_build(&few, &a, &hw, &w, &o, 6, NULL), STATUS_OK);
    cr_assert(!few.complete);
    cr_assert_eq(few.n, 6);
    cr_assert_float_eq(few.corner[0].plan.prediction.latency_s, all.corner[0].plan.prediction.latency_s, 1e-9);
    cr_assert_float_eq(few.corner[5].plan.prediction.latency_s, all.corner[all.n - 1].plan.prediction.latency_s, 1e-9);
    for (int i = 0; i < few.n; i++) {
        int found = 0;
        for (int j = 0; j < all.n; j++)
            found += fabs(few.corner[i].plan.prediction.latency_s / all.corner[j].plan.prediction.latency_s - 1) < 1e-9;
        cr_assert_eq(found, 1, "corner %d", i);
    }
    front_free(&few);
    front_free(&all);
    arch_free(&a);
}

/* -- what binds ------------------------------------------------------------------------------------------------------- */

/* By how many percent a percent more of a thing makes the plan's sizes and switches faster, solved again: its share. */
static double gain(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                   int thing)
{
    const struct hardware more = hardware_with(hw, thing, 1.01);
    return 100 * (plan_of(a, &more, w, o).relaxed_throughput_tok_s / plan_of(a, hw, w, o).relaxed_throughput_tok_s - 1);
}

static struct search_options fixed_to(const struct search_options *o, const struct policy *p)
{
    struct search_options f = *o;
    f.gpu_batch_size = p->gpu_batch_size;
    f.num_gpu_batches = p->num_gpu_batches;
    f.weight_bits = p->weight_bits;
    f.cache_bits = p->cache_bits;
    f.attention_near_cache = p->attention_near_cache;
    f.schedule = (int)p->schedule;
    f.overlap = p->overlap;
    f.prefetch = p->prefetch;
    return f;
}

/* A throughput that grows with the first thing by `share` of its percentage, up to each factor; a percent more of the other always gains 0.4. */
struct slopes {
    int n;
    double until[4], share[4];
};

static enum status sloped(void *arg, double factor, int more, double *tok_s, struct error *err)
{
    const struct slopes *s = arg;
    double low = 1, x = factor * (more == 0 ? 1.01 : 1);
    (void)err;
    *tok_s = more == 1 ? pow(1.01, 0.4) : 1;
    for (int i = 0; i < s->n && low < x; i++) {
        const double high = fmin(x, s->until[i]);
        *tok_s *= pow(high / low, s->share[i]);
        low = high;
    }
    return STATUS_OK;
}

/* The first thing's share is 0.6, from 2 to 2.2 it is 0.2, then 0.6 again, from 10 on 0.1: the other leads from 2, and again from 10. At 2 - x, x small, a
 * percent more reaches over the kink for 1 % - x/2; the gain is 0.4 where 0.6 (x/2) + 0.2 (1 % - x/2) = 0.4 %: x = 1 %. */
Test(binding, the_earlier_of_two_crossings_is_found)
{
    struct slopes s = {4, {2, 2.2, 10, 1e9}, {0.6, 0.2, 0.6, 0.1}};
    double factor;
    int second;
    cr_assert_eq(binding_walk(sloped, &s, 2, 0, &factor, &second, NULL), STATUS_OK);
    cr_assert_eq(second, 1);
    cr_assert_float_eq(factor, 1.99, 3e-4, "%.6g", factor); /* found within a part in 10^4 */
    s.n = 1;
    s.until[0] = 1e9;
    cr_assert_eq(binding_walk(sloped, &s, 2, 0, &factor, &second, NULL), STATUS_OK);
    cr_assert_eq(second, -1);
    cr_assert_eq(factor, BINDING_FACTOR_MAX);
    s.share[0] = 0.3; /* the other leads from the start */
    cr_assert_eq(binding_walk(sloped, &s, 2, 0, &factor, &second, NULL), STATUS_OK);
    cr_assert_eq(second, 1);
    cr_assert_float_eq(factor, 1, 2e-4);
}

/* As it is nothing gains more than the first thing; at the factor something else does, and on the way there nothing else does at any of 20 factors. The
 * LP is exact to 1e-9 of the throughput, so a share by a step of a percent to 1e-7. */
Test(binding, the_second_comes_first_where_it_is_said_to)
{
    const double off = 1e-6;
    int checked = 0;
    seed_from_environment("the_second_comes_first_where_it_is_said_to");
    for (int i = 0; i < 60; i++) {
        const struct hardware hw = random_machine(2 + i % 2);
        const struct workload w = random_workload();
        const struct search_options o = random_options();
        struct arch a;
        struct plan p;
        struct binding b;
        small_arch(&a, 64, 2, 256);
        if (search(&a, &hw, &w, &o, &p, NULL) == STATUS_OK) {
            const struct search_options fixed = fixed_to(&o, &p.policy);
            cr_assert_eq(binding_find(&a, &hw, &w, &o, &p, &b, NULL), STATUS_OK);
            for (int k = 0; k < p.n_prices; k++)
                cr_assert_leq(gain(&a, &hw, &w, &fixed, k), gain(&a, &hw, &w, &fixed, b.first) + off,
                              "machine %d: %s gains more than %s", i, p.price[k].what, p.price[b.first].what);
            if (b.second >= 0) {
                const struct hardware above = hardware_with(&hw, b.first, b.factor);
                for (int j = 0; j < 20; j++) {
                    const struct hardware on_the_way = hardware_with(&hw, b.first, pow(b.factor * (1 - 1e-4), uniform()));
                    for (int k = 0; k < p.n_prices && b.factor > 1.001;
                         k++) /* a percent of the share: one part in 10^4 of the factor */
                        cr_assert_leq(gain(&a, &on_the_way, &w, &fixed, k),
                                      gain(&a, &on_the_way, &w, &fixed, b.first) * 1.01 + off, "machine %d: %s leads before %g",
                                      i, p.price[k].what, b.factor);
                }
                cr_assert_leq(gain(&a, &above, &w, &fixed, b.first), gain(&a, &above, &w, &fixed, b.second) + off,
                              "machine %d, above %g", i, b.factor);
                cr_assert(isnan(b.replanned_tok_s) || b.replanned_tok_s >= b.tok_s * (1 - 1e-6), "machine %d", i);
                checked++;
            }
        }
        arch_free(&a);
    }
    printf("%d of 60 machines have a second\n", checked);
    cr_assert_gt(checked, 15);
}
