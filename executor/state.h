/* state.h - where every sequence's cache and hidden states are: in their home on a memory tier, in the scratch file, or in a slot. */
#ifndef BALLAST_EXECUTOR_STATE_H
#define BALLAST_EXECUTOR_STATE_H

#include <stdint.h>

#include "executor/backend.h"
#include "executor/io.h"
#include "executor/schedule.h"
#include "model/placement.h"

struct state_memory {
    char *cache[TIERS_MAX], *cache_slots[TIERS_MAX]; /* region bases */
    char *hidden[TIERS_MAX], *hidden_slots[TIERS_MAX];
};

struct state {
    const struct placement *pl;
    const struct workload *w;
    struct state_memory m;
    /* Offsets in a tier's region or in the scratch file. Paged, a layer's batches share the space of its first. */
    int64_t *cache_at;  /* (n_layers, n_batches, TIERS_MAX) */
    int64_t *hidden_at; /* (n_batches, TIERS_MAX) */
    int64_t *prompt_at; /* (entering_most, TIERS_MAX): paged, of whole prompts, and hidden_at of single tokens */
    int32_t *page;      /* (batches, pages_per_batch): see stream.h; NULL: not paged */
    int64_t pages_per_batch;
    struct io_extent *extents[2]; /* (TIERS_MAX * (pages_per_batch + 1)) of the disk's reader and writer */
    int scratch_fd;               /* one file: the disk's cache, then its hidden states */
    int64_t scratch_bytes;
    bool near;
};

enum status state_open(struct state *s, const struct placement *pl, const struct workload *w, const struct policy *p,
                       const struct state_memory *m, const char *scratch_directory, struct error *err);
void state_close(struct state *s); /* a zeroed struct is fine */

/* One transfer of a batch's cache or hidden states: starts its copies on the lane and submits its disk requests (*job = -1 if none). */
enum status state_move(const struct state *s, const struct op *op, const struct lane *lane, struct io *io, int64_t *job,
                       struct error *err);

/* The segments of a batch while its slots hold what is below tier 0. Near the cache (decode): tier 0's own cache only. */
void state_view(const struct state *s, const struct op *op, struct batch *out);
/* The cache segments that tier 1's unit attends over, numbered from the first sequence below tier 0. */
void state_view_near(const struct state *s, const struct op *op, struct batch *out);

#endif
