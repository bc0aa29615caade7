/* order.h - the order in which batches pass layers: pass by pass, layer by layer, batch by batch (model/stream.h). */
#ifndef BALLAST_EXECUTOR_ORDER_H
#define BALLAST_EXECUTOR_ORDER_H

#include "model/arch.h"
#include "model/stream.h"

/* A batch passing one layer. Numbers count from the start of the run and pick the slots. */
struct turn {
    int step, layer, batch;
    int64_t pass, low, high; /* batches [low, high) are under way in it */
    int64_t number;          /* of all turns */
    int64_t attention;       /* of attention turns */
    int64_t visit;           /* of layer visits that use weights; -1 for the embedding, which has none of its own */
    int64_t visits;          /* begun so far */
    bool first, last;        /* of its visit */
};

/* All pointers are borrowed. */
struct order {
    const struct arch *a;
    const struct workload *w;
    const struct policy *p;
    int64_t batches, passes; /* stream_batches, stream_passes */
};

struct turn turn_first(const struct order *o);
/* Fills the turn after `t`; false at the end. */
bool turn_next(const struct order *o, const struct turn *t, struct turn *out);

#endif
