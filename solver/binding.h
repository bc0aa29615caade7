/* binding.h - what a plan is bound by, in an order: what binds first, how much more of it there may be until something else binds, and what. */
#ifndef BALLAST_SOLVER_BINDING_H
#define BALLAST_SOLVER_BINDING_H

#include "solver/search.h"

/* Things are numbered as search() lists its prices: tiers, then resources. Their share is by how many percent the throughput grows with one
 * percent more of them, at the plan's batch sizes and switches. */
struct binding {
    int first, second; /* second -1: first binds however much there is of it */
    double first_share, second_share;
    double factor; /* the least that much more of the first for which the second's share is the larger one (binding_walk) */
    double tok_s;  /* relaxed throughput with that, at these batch sizes and switches */
    double replanned_tok_s; /* and with everything planned again, NAN as in relaxed_optimum */
};

#define BINDING_FACTOR_MAX 100.0

/* The throughput with `factor` times as much of the first thing and, unless `more` is -1, a percent more of that thing. It must not fall
 * with any of them. */
typedef enum status throughput_fn(void *arg, double factor, int more, double *tok_s, struct error *err);

/* Of n things `first` has the largest share at 1. The least factor at which another's is larger, and whose: up to there the first is shown to
 * lead, but for gaps of less than one part in 10^4 at both ends of which it does. *second -1: none up to BINDING_FACTOR_MAX. */
enum status binding_walk(throughput_fn *f, void *arg, int n, int first, double *factor, int *second, struct error *err);

enum status binding_find(const struct arch *a, const struct hardware *hw, const struct workload *w,
                         const struct search_options *o, const struct plan *p, struct binding *out, struct error *err);

/* The machine with `factor` times as much of thing `index`: a tier's capacity, a link's rates in one direction, all rates of a unit. */
struct hardware hardware_with(const struct hardware *hw, int index, double factor);
/* The relaxed optimum over the whole space, proven to 1e-6; NAN if so many blocks are as good that this takes too long. */
enum status relaxed_optimum(const struct arch *a, const struct hardware *hw, const struct workload *w,
                            const struct search_options *o, double *out_tok_s, struct error *err);

#endif
