/* in_use.h - the most bytes in use at once on a tier in each phase of a run: what is in the regions that placement.h takes for all of it.
 *
 * Cache grows by a token a step, hidden states shrink from whole prompts to one token, and of the weight ring so many visits are under way as
 * it has slots. All other regions count whole. A run never uses more; zig-zag and row by row reach it, as far as the ring is full: a run bound by
 * a link has less under way. Regions do not shrink, so budgets are held against their sum, not against this.
 */
#ifndef BALLAST_MODEL_IN_USE_H
#define BALLAST_MODEL_IN_USE_H

#include "model/cost.h"
#include "model/placement.h"

int64_t in_use_most(const struct placement *pl, const struct arch *a, const struct workload *w, const struct policy *p,
                    enum phase ph, int tier);
/* What is never counted: the regions that are in use throughout. */
int64_t in_use_always(const struct placement *pl, int tier);

#endif
