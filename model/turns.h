/* turns.h - the cost table of a runtime that waits at every turn, as FlexGen's does (hardware.h, struct runtime).
 *
 * A turn is one batch passing one layer. In turn (j, k) of layer j and batch k such a runtime loads the weights of layer j+1 (k = 0 only), the
 * cache of batch k+1, stores what batch k-1 made, computes, and then waits for all of it. So a step takes the sum over its turns
 * of their busiest rows, not the busiest row of the sum. Turns of equal work are one stage of the table. docs/cost-model.md, "Turns".
 */
#ifndef BALLAST_MODEL_TURNS_H
#define BALLAST_MODEL_TURNS_H

#include "model/cost.h"

/* Fills steps, stages and busy times of a table over a box of batch sizes, the least that low's block takes in any block up to most_block; a point
 * is a box of one size. Row by row each batch makes all its turns alone, with weights of its own. */
void turns_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                 const struct policy *low, const struct policy *high, double most_block);
/* Whether a box can have stages that say something: its points have them, with overlap, and nearly as many batches. */
bool turns_can_be_staged(const struct policy *low, const struct policy *high);

/* For other boxes: adds to the busy times, which have the products already, what else such a runtime does, at least. A step takes at least its longest row's sum over the turns. */
void turns_bound(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                 const struct policy *low, const struct policy *high, double most_block);

/* Seconds of one batch's computation in a layer on a unit, with the batch's cache on the tiers in these fractions: what the table adds up. `visible`
 * tokens are in the cache at the end of a step of that phase. */
double turns_compute_s(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct policy *p,
                       const struct layer *l, enum phase ph, double visible, int unit, const double cache_fraction[TIERS_MAX]);

#endif
