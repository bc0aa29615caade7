/* replan.h - shadow prices against the truth: what one more unit brings when everything is planned again. */
#ifndef BALLAST_SOLVER_REPLAN_H
#define BALLAST_SOLVER_REPLAN_H

#include "solver/search.h"

/* Fills price[i].replanned of a plan that search() made with the same arguments: the relaxed optimum over the whole space with one more
 * GiB, GB/s or percent, less that without. A price is a slope at one batch size; this may be more, as sizes and switches move too, or
 * less, as something else binds before the unit is used up. */
enum status replan_prices(const struct arch *a, const struct hardware *hw, const struct workload *w,
                          const struct search_options *o, struct plan *p, struct error *err);

#endif
