/* schedule.h - the block schedule as data: a list of operations with a resource, bytes and dependencies.
 *
 * The simulator advances a clock over it, the executor runs it on real threads and streams: same operations, same names. Every
 * resource runs its operations in list order; an operation starts when its resource is free and its dependencies are done.
 * Dependencies always point backwards, so the list cannot deadlock. Buffers are slots fixed here: a weight ring of `prefetch` slots,
 * two cache slots, three hidden-state slots; waiting for a slot is a dependency like any other.
 */
#ifndef BALLAST_EXECUTOR_SCHEDULE_H
#define BALLAST_EXECUTOR_SCHEDULE_H

#include <stdint.h>

#include "model/arch.h"
#include "model/hardware.h"
#include "model/placement.h"
#include "model/policy.h"
#include "model/workload.h"

enum op_kind {
    OP_LOAD_WEIGHTS, /* part of a layer's weights from below tier `link` into its ring slot */
    OP_LOAD_CACHE,   /* a batch's earlier cache from below into its slot */
    OP_STORE_CACHE,  /* the new rows of it, down */
    OP_LOAD_HIDDEN,
    OP_STORE_HIDDEN,
    OP_EMBED,
    OP_ATTENTION,
    OP_MLP,
    OP_HEAD,
    /* attention near the cache: what OP_ATTENTION is cut into */
    OP_QKV,      /* norm, projections and attention over the cache on tier 0 */
    OP_SEND_QKV, /* to tier 1 */
    OP_ATTEND,   /* over the cache on tier 1 and in its slot */
    OP_RETURN_ATTENDED,
    OP_OUT, /* output projection and residual */
    OP_KIND_COUNT
};
const char *op_kind_name(enum op_kind kind); /* "load_weights", ... */

#define OP_DEPS_MAX 8

struct op {
    int16_t kind, resource;
    int16_t link;        /* of a transfer; -1 for compute */
    int16_t part, parts; /* OP_LOAD_WEIGHTS: rows part/parts of each piece */
    int16_t slot;        /* weight ring slot */
    int16_t cache_slot, hidden_slot;
    int32_t step, layer, batch;
    int64_t bytes; /* of a transfer */
    double flops;  /* of a computation */
    int n_deps;
    int32_t dep[OP_DEPS_MAX];
};

struct schedule {
    int32_t n_ops, cap_ops;
    struct op *op; /* (n_ops) owned */
};

enum status schedule_new(struct schedule *s, const struct arch *a, const struct hardware *hw, const struct workload *w,
                         const struct policy *p, const struct placement *pl, struct error *err);
void schedule_free(struct schedule *s); /* a zeroed struct is fine */

/* Tokens in the cache before a step, and new ones in it. */
int64_t step_first_token(const struct workload *w, int step);
int64_t step_tokens(const struct workload *w, int step);

#endif
