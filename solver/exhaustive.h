/* exhaustive.h - the oracle of the tests: every fraction on a grid, every batch size and switch; slow and obvious. */
#ifndef BALLAST_SOLVER_EXHAUSTIVE_H
#define BALLAST_SOLVER_EXHAUSTIVE_H

#include "solver/search.h"

/* Best throughput over fractions in steps of 1/grid and all batch sizes and switches that the options allow; 0 if nothing fits. */
double exhaustive_best(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                       int grid, struct policy *best);

#endif
