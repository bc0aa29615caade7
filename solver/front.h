/* front.h - latency against throughput: the plans that no other beats in both, each the proven best within a limit of its own. */
#ifndef BALLAST_SOLVER_FRONT_H
#define BALLAST_SOLVER_FRONT_H

#include "solver/search.h"

/* A corner: within limit_s nothing has more throughput than its bound, and from the plan's own latency up to limit_s no plan was found that has
 * more than this one by the search's tolerance. */
struct corner {
    struct plan plan;
    double limit_s; /* INFINITY: no limit */
};

struct front {
    int n;
    struct corner *corner; /* (n) owned, from the slowest and best to the fastest */
    bool complete;         /* no corner lies between two of these, nor below the last */
};

/* At most `most` >= 2 corners. The first is the best plan that the options allow, the last the fastest that was found; more go where two are
 * farthest apart (by ratio of latency) until no corner is left or there are enough. STATUS_DOES_NOT_FIT as search(). */
enum status front_build(struct front *out, const struct arch *a, const struct hardware *hw, const struct workload *w,
                        const struct search_options *o, int most, struct error *err);
void front_free(struct front *f); /* a zeroed struct is fine */

#endif
