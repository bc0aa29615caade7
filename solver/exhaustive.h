/* exhaustive.h - the oracle of the tests: every fraction on a grid, every batch size and switch in a list; slow and obvious. */
#ifndef BALLAST_SOLVER_EXHAUSTIVE_H
#define BALLAST_SOLVER_EXHAUSTIVE_H

#include "solver/search.h"

/* Best throughput over fractions in steps of 1/grid and the same batch sizes and switches as search() with these options
 * would consider; 0 if nothing fits. */
double exhaustive_best(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                       int grid, struct policy *best);

#endif
