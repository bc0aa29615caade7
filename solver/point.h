/* point.h - one point of the search: a batch size and switches, its cost table, its LP, and the policy made executable.
 *
 * Used by search.c, which looks for the best point, and by remedies.c, which looks for one that fits.
 */
#ifndef BALLAST_SOLVER_POINT_H
#define BALLAST_SOLVER_POINT_H

#include "solver/search.h"

/* What is being planned, and the LP that all its points share. All pointers but lp are borrowed. */
struct problem {
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct search_options *o;
    struct lp *lp;
    int64_t lps;
};
/* The values allowed: the fixed one, those listed, or 1 to `most`. */
struct sizes sizes_allowed(int fixed, const struct sizes *listed, int most);
enum status problem_new(struct problem *pr, const struct arch *a, const struct hardware *hw, const struct workload *w,
                        const struct search_options *o, struct error *err);
void problem_free(struct problem *pr); /* a zeroed struct is fine */

/* Every combination of the switches that the options leave open, the plain ones first: zig-zag, overlap, 16 bits before 4, attention
 * on the first unit before the second, a ring of three slots before shallower ones. Batch sizes are the smallest allowed. Returns how many. */
#define PREFETCH_MOST 3 /* in the table no more slots make anything faster */
#define SWITCHES_MAX  (16 * SCHEDULE_COUNT * PREFETCH_MOST)
int problem_switches(const struct problem *pr, struct policy out[SWITCHES_MAX]);

struct point {
    struct policy policy; /* in: batch sizes and switches; out: the fractions too */
    struct cost cost;
    struct lp_solution solution;
    double relaxed_throughput_tok_s;
    struct prediction prediction; /* after point_realise */
    int64_t peak_bytes[TIERS_MAX];
};

/* The cost table of point->policy. */
enum status point_build(const struct problem *pr, struct point *pt, struct error *err);
/* The LP over that table. STATUS_DOES_NOT_FIT leaves the overshoot in pt->solution. */
enum status point_solve(struct problem *pr, struct point *pt, struct error *err);
/* Rounds the solution to an executable policy and predicts that; when the exact peaks exceed a tier, solves again with less of
 * it. Without o->realise the relaxed fractions stand. STATUS_DOES_NOT_FIT leaves the exact overshoot in pt->solution. */
enum status point_realise(struct problem *pr, struct point *pt, struct error *err);
/* The same for few sequences, where a third of a sequence rounds to none or all: if that does not fit, or is not close to the relaxed throughput, also
 * tries hidden states, and cache, whole on each tier, and takes the best. */
enum status point_realise_hard(struct problem *pr, struct point *pt, struct error *err);
/* Build, solve and realise_hard, as far as they go. */
enum status point_plan(struct problem *pr, struct point *pt, struct error *err);

/* Of a solved point: seconds of T that one more byte of a tier saves, and those that a resource is to blame for: the weights of its rows times
 * what it is busy in them. */
double point_capacity_gain_s(const struct point *pt, int tier);
double point_busy_s(const struct point *pt, int resource);

/* A lower bound on T for any placement that fits, by weak duality: `prices` may come from the LP of any other point of the same
 * workload. Far cheaper than the LP itself. */
double point_least_total_s(const struct problem *pr, const struct cost *c, const struct lp_solution *prices);
/* True only if no placement fits; false says nothing. As cheap as the bound above. */
bool point_cannot_fit(const struct problem *pr, const struct cost *c);

#endif
