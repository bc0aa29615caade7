/* lp.h - the placement LP: the best fractions for one cost table, and what limits them. The only user of glpk.h is lp.c.
 *
 * minimise  T = sum over phases of steps[p] * (sum over stages of times * t[p][stage])
 * subject to t[p][stage] >= every row of the stage (cost_row: resources and groups that contend, or without overlap their sum),
 *            peak[p][tier] <= capacity[tier],  fractions of each class sum to 1 and lie in [0, 1].
 * With a page cache also cached[class] >= 0, at most the class's fraction on the disk and together at most what is served
 * (cost_cached_s); a row is shorter by cost_row_saved * cached. What is predicted has everything cached evenly, which is one of these.
 */
#ifndef BALLAST_SOLVER_LP_H
#define BALLAST_SOLVER_LP_H

#include "model/cost.h"

struct lp_solution {
    double fraction[CLASS_COUNT][TIERS_MAX], cached[CLASS_COUNT];
    double total_s; /* T, with that cached */
    /* Dual values: how much T changes per unit. */
    double capacity_dual[PHASE_COUNT][TIERS_MAX];            /* s per byte of tier capacity, <= 0 */
    double page_cache_dual;                                  /* s per second of page_cache_s, <= 0 */
    double row_dual[PHASE_COUNT][STAGES_MAX][COST_ROWS_MAX]; /* weight of each row (cost_row), >= 0: which ones bind */
    /* When it does not fit: the cheapest overshoot over any placement, if a byte of a tier costs twice one of the tier below: all
     * its bytes, the tier with most of them, and each tier's part; `fraction` is that placement. */
    double missing_bytes;
    int missing_tier;
    double overshoot_bytes[TIERS_MAX];
};

/* One GLPK problem kept between calls of the same shape, so that a new table warm-starts from the last basis (dual simplex). */
struct lp;
enum status lp_new(struct lp **out, int n_tiers, int n_resources, struct error *err);
void lp_free(struct lp *lp);

/* Further limits on the fractions, within 0 and 1, for all solves that follow. Each class must be able to sum to 1 within them. */
struct fraction_range {
    double low[CLASS_COUNT][TIERS_MAX], high[CLASS_COUNT][TIERS_MAX];
};
void lp_limit(struct lp *lp, const struct fraction_range *range); /* borrowed; NULL: none */

/* STATUS_DOES_NOT_FIT (with missing_* filled) when no fractions satisfy the capacities. A class tier in `forbid` is fixed at 0:
 * bit (class * TIERS_MAX + tier). */
enum status lp_solve(struct lp *lp, const struct cost *c, const double capacity_bytes[TIERS_MAX], uint32_t forbid,
                     struct lp_solution *out, struct error *err);

#endif
