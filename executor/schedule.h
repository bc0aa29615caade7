/* schedule.h - the block schedule as data: a list of operations with a resource, bytes and dependencies.
 *
 * The simulator advances a clock over it, the executor runs it on real threads and streams: same operations, same names. Every
 * resource runs its operations in the order of its lane; an operation starts when its resource is free and its dependencies are done.
 * Buffers are slots fixed here: a weight ring of `prefetch` slots, two cache slots, three hidden-state slots; waiting for a slot is a
 * dependency like any other.
 *
 * The list follows from the model, the workload, the policy and the placement; dependencies point backwards in it, so it cannot deadlock. A
 * resource that kept to the list would often stand still: a result of attention near the cache that is not there yet holds up
 * the weights behind it and the MLPs of other batches, and weights whose slot is not free hold up the result. Were each resource to choose as it
 * goes, no two runs would be alike. So the choice is made once, on the cost model's clock (clock_arrange), and kept as the lanes: the order
 * follows from the placement and the profile, and the engine and the simulator share it. Of that order, one in which only links choose, and the list the fastest on that clock is kept.
 * So dependencies say everything that an operation waits for, but for those before it of its own rank.
 */
#ifndef BALLAST_EXECUTOR_SCHEDULE_H
#define BALLAST_EXECUTOR_SCHEDULE_H

#include <stdbool.h>
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
    /* of a runtime that waits at every turn */
    OP_STAGE, /* the second unit copies what comes up out of pageable memory */
    OP_TURN,  /* the end of a turn: no work, only what it waits for */
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
    int16_t near_slot; /* attention near the cache: place of its queries, 0 or 1 */
    int32_t step, layer, batch;
    int64_t bytes;    /* of a transfer or a staging copy */
    int64_t pageable; /* of these, out of pageable memory: OP_LOAD_WEIGHTS */
    double flops;     /* of a computation */
    int n_deps;
    int32_t dep[OP_DEPS_MAX];
};

/* How urgent an operation is among those that its resource could do next, 0 the most. On a link what a computation is about to need goes before
 * weights, which are wanted visits later; on the first unit what the second waits for goes first, and prompts last. Operations of one rank
 * keep the order of the list. */
#define RANKS 4
int op_rank(const struct op *op);

/* Whether a computation begins on the host, with what the one before it on its unit may still be making: an embedding looks up the tokens that were
 * chosen. No other needs the unit idle, if that works off its computations in order. */
bool op_needs_idle_unit(const struct op *op);

struct schedule {
    int32_t n_ops, cap_ops;
    struct op *op; /* (n_ops) owned */
    int32_t *lane; /* (n_ops) owned: the operations of resource r, in order, are lane[first[r] .. first[r+1]) */
    int32_t first[RESOURCES_MAX + 1];
};

enum status schedule_new(struct schedule *s, const struct arch *a, const struct hardware *hw, const struct workload *w,
                         const struct policy *p, const struct placement *pl, struct error *err);
void schedule_free(struct schedule *s); /* a zeroed struct is fine */

/* Fills lane and first from a list made by hand; schedule_new has done it. */
enum status schedule_deal(struct schedule *s, struct error *err);

/* Tokens in the cache before a step, and new ones in it. */
int64_t step_first_token(const struct workload *w, int step);
int64_t step_tokens(const struct workload *w, int step);

#endif
