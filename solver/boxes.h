/* boxes.h - boxes of batch sizes that may hold a better point, the most promising first: a heap. */
#ifndef BALLAST_SOLVER_BOXES_H
#define BALLAST_SOLVER_BOXES_H

#include <stdbool.h>
#include <stddef.h>

#include "model/policy.h"
#include "solver/lp.h"

/* All batch sizes from low's to high's with low's switches. */
struct box {
    struct policy low, high;
    double bound_tok_s;        /* no point of it is faster */
    struct lp_solution prices; /* of its LP, or of the box it was cut from */
};

struct boxes {
    size_t n, cap;
    struct box *at; /* (cap) owned; a zeroed struct is an empty heap */
};
bool boxes_push(struct boxes *b, const struct box *box); /* false: no memory */
bool boxes_pop(struct boxes *b, struct box *out);        /* the largest bound; false: empty */
void boxes_free(struct boxes *b);

#endif
