/* remedies.h - what to say, and to try, when no policy fits. */
#ifndef BALLAST_SOLVER_REMEDIES_H
#define BALLAST_SOLVER_REMEDIES_H

#include "solver/search.h"

/* Sets one line: what is missing, on which tier, at the smallest batch, and up to three remedies, each of which was planned and
 * fits. Returns STATUS_DOES_NOT_FIT (or the status of a failure on the way). */
enum status remedies_explain(const struct arch *a, const struct hardware *hw, const struct workload *w,
                             const struct search_options *o, struct error *err);

#endif
