/* schedule_internal.h - what the builders of schedules share: schedule.c for ballast's engine, schedule_turns.c for a runtime that waits. */
#ifndef BALLAST_EXECUTOR_SCHEDULE_INTERNAL_H
#define BALLAST_EXECUTOR_SCHEDULE_INTERNAL_H

#include "executor/order.h"
#include "executor/schedule.h"

#define NONE      (-1)
#define LINKS_MAX (TIERS_MAX - 1)
#define PARTS_MAX WEIGHT_PARTS_MAX

/* The operations that last used a slot, or produced what a later one reads. */
struct cache_use {
    int32_t load[LINKS_MAX], store[LINKS_MAX], compute;
};

struct builder {
    struct schedule *s;
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct policy *p;
    const struct placement *pl;
    struct error *err;
    enum status status;
    int links, prefetch, parts, cells; /* cells: batches under way at most, which share what is kept by batch */
    struct order order;
    bool near;
    /* ring: per slot, the last computations of the visit that used it by rank, and the loads by link and part */
    int32_t (*ring_compute)[RANKS];             /* (prefetch) */
    int32_t (*ring_load)[LINKS_MAX][PARTS_MAX]; /* (prefetch) */
    struct cache_use cache_slot[2];
    struct cache_use hidden_slot[3];
    int32_t (*stored_cache)[LINKS_MAX];  /* (n_layers * cells): last store by link */
    int32_t (*stored_hidden)[LINKS_MAX]; /* (cells) */
    int32_t *batch_op;                   /* (cells): what its next computation follows */
    int32_t near_out[2];                 /* OP_OUT of the last to use each place for queries, keys and values */
    int64_t near_turns;
    int32_t pass_end[2][RANKS]; /* the last computations by rank: of the pass before, of this one */
};

/* Appends an operation that waits for those of deps (n) that are not NONE; returns its number. */
int32_t builder_emit(struct builder *b, struct op op, const int32_t *deps, int n);

/* Operations of a turn, still without dependencies. The bytes that cross `link` for it: its layer's weights (*pageable of them out of pageable memory), of `tokens` tokens of cache, its
 * hidden states. */
struct op builder_transfer(const struct builder *b, const struct turn *t, enum op_kind kind, int link, int64_t bytes);
enum op_kind builder_kind(const struct builder *b, const struct turn *t); /* of its whole computation */
struct op builder_compute(const struct builder *b, const struct turn *t, enum op_kind kind, int unit);
int64_t builder_weight_bytes(const struct builder *b, const struct turn *t, int link, int part, int64_t *pageable);
int64_t builder_cache_bytes(const struct builder *b, const struct turn *t, int link, int64_t tokens);
int64_t builder_hidden_bytes(const struct builder *b, const struct turn *t, int link);
double builder_flops(const struct builder *b, const struct turn *t);
/* Of the attention over what lives below the first tier; the sequences whose cache does are counted in *below. */
double builder_attend_flops(const struct builder *b, const struct turn *t, int *below);
bool builder_attends(const struct builder *b, const struct turn *t);      /* its layer has attention */
bool builder_attends_near(const struct builder *b, const struct turn *t); /* if it has, near the cache */

/* The whole schedule of a runtime that waits at every turn. */
void builder_turns(struct builder *b);

#endif
