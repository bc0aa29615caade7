/* placement.h - a policy made executable: whole matrix rows and whole sequences, and the bytes of every region of every tier.
 *
 * The planner's fractions are real numbers; the executor moves rows of matrices and whole sequences. placement_new rounds the
 * fractions (carrying the remainder, so the totals stay within one row or one sequence), and computes the exact size of each region
 * that the executor will take from a tier's arena. The cost table's peak forms are built from the same size functions.
 */
#ifndef BALLAST_MODEL_PLACEMENT_H
#define BALLAST_MODEL_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "model/arch.h"
#include "model/hardware.h"
#include "model/policy.h"
#include "model/workload.h"

/* What a tier's memory is divided into, each in whole pages of DISK_ALIGN bytes. */
enum region {
    REGION_RESIDENT,         /* vectors and small tables, f32, tier 0 only */
    REGION_WEIGHTS,          /* placed matrices that live here */
    REGION_WEIGHT_RING,      /* weights passing through from below */
    REGION_CACHE,            /* cache that lives here */
    REGION_CACHE_SLOTS,      /* two batches of one layer's cache from below */
    REGION_ACTIVATIONS,      /* hidden states of the block that live here */
    REGION_ACTIVATION_SLOTS, /* three batches of hidden states from below */
    REGION_WORKSPACE,        /* intermediate results of one layer, logits, the backend's scratch */
    REGION_COUNT
};
const char *region_name(enum region r); /* "resident weights", "weights", "weight ring", ... */

/* Rows computed at a time inside one operation: a prefill batch is cut into groups of sequences of about this many rows, so
 * that the workspace does not grow with the batch. */
#define WORKSPACE_ROWS 1024

/* Disk transfers are direct: an extent may need up to this much more on each side. */
#define DISK_ALIGN 4096

/* -- sizes, shared with the cost table ------------------------------------------------------------------------------ */
enum format policy_weight_format(const struct policy *p, const struct arch *a); /* as stored, or Q4 */
/* 4 bits: Q4; else F32 on a unit that computes in f32, F16 otherwise. */
enum format policy_cache_format(const struct policy *p, const struct compute *unit);
int64_t cache_row_bytes(const struct layer *l, enum format cache); /* keys and values of one token and sequence; 0: no cache */
int64_t cache_tokens(const struct workload *w);                    /* s + n - 1: the last token is never attended to */
int64_t hidden_row_bytes(const struct arch *a, const struct compute *unit);
int64_t workspace_rows(const struct compute *unit, int64_t sequences, int64_t tokens); /* rows computed at a time */
/* The parts of a tier's workspace, in this order; the first three are whole pages. */
struct workspace {
    /* the first tier of the host, whose memory files are read into */
    int64_t lookup_bytes; /* token vectors on their way from the table */
    int64_t upload_bytes; /* pinned, beside pageable weights: these go up through it */
    int64_t logits_bytes; /* tier 0, where the next tokens are chosen: of workspace_logits batches */
    int64_t unit_bytes;   /* of the tier's compute unit: intermediate results of the largest layer, and its fixed scratch */
    int64_t near_bytes;   /* attention near the cache: queries, keys and values of two batches, the same on tiers 0 and 1 */
};
/* Batches whose logits are kept at once: one, or all under way where other batches pass one part of the head before this one comes to the
 * next. */
int workspace_logits(const struct arch *a, const struct policy *p);
struct workspace workspace_of(const struct arch *a, const struct hardware *hw, int tier, const struct workload *w,
                              const struct policy *p);
int64_t workspace_bytes(const struct workspace *s);
int host_tier(const struct hardware *hw); /* the first that is no device's */
/* The tier whose weights the policy has in pageable memory: the host's beside a device; -1: none. A runtime that waits has rates of its own
 * for such weights (turns.h). */
int pageable_tier(const struct hardware *hw, const struct policy *p);
#define UPLOAD_BYTES (8LL << 20) /* of the buffer that pageable weights go up through, half by half */
int64_t largest_layer_bytes(const struct arch *a, enum format weights); /* placed bytes of the largest layer */

/* -- the placement -------------------------------------------------------------------------------------------------- */
/* First and one-past-last row on each tier: tier t has rows [row[t], row[t+1]) of the tensor. */
struct row_cut {
    int64_t row[TIERS_MAX + 1];
};

struct placement {
    int n_tiers, n_layers, n_batches, batch_size; /* n_batches: under way at once; any other batch number counts modulo it */
    bool paged;                                   /* diagonal: a layer's batches are alike and share pages of cache */
    int64_t layer_cache_tokens;                   /* cache of all batches of a layer on a tier, in tokens of one batch */
    int64_t entering_most;                        /* batches whose whole prompt's hidden states are there at once */
    enum format weights, cache;
    int pageable; /* the tier whose weights are in pageable memory, or -1 */
    int64_t prompt_tokens, cache_tokens, hidden_row_bytes;
    struct row_cut *cut;   /* (n_layers, LAYER_TENSORS_MAX), absolute rows; only placed tensors */
    int32_t *cache_count;  /* (n_layers, n_batches, TIERS_MAX): sequences by tier; the batch's first ones are on tier 0 */
    int32_t *hidden_count; /* (n_batches, TIERS_MAX) */
    int64_t *cache_stride; /* (n_layers, n_batches, TIERS_MAX): bytes from one token to the next */
    int64_t *visit_bytes;  /* (n_layers, TIERS_MAX): what one visit of the layer takes in tier t's weight ring */
    int64_t ring_bytes[TIERS_MAX], cache_slot_bytes[TIERS_MAX], hidden_slot_bytes[TIERS_MAX]; /* of one slot */
    int64_t region_bytes[TIERS_MAX][REGION_COUNT];
    double realised[CLASS_COUNT][TIERS_MAX]; /* the fractions that were achieved, by bytes or sequences */
};

enum status placement_new(struct placement *out, const struct arch *a, const struct hardware *hw, const struct workload *w,
                          const struct policy *p, struct error *err);
void placement_free(struct placement *pl);                    /* a zeroed struct is fine */
int64_t placement_peak(const struct placement *pl, int tier); /* sum of the tier's regions */
bool placement_pageable(const struct placement *pl, int tier, enum region r);
int64_t placement_block(const struct placement *pl, int tier); /* the peak without what is in pageable memory */
/* Seconds that page-locking the host's block takes before a run on a device begins; 0: there is none, or no rate. */
double placement_pinning_s(const struct placement *pl, const struct hardware *hw);
/* STATUS_DOES_NOT_FIT with tier, bytes needed, available and missing if a tier's regions exceed its capacity. */
enum status placement_check(const struct placement *pl, const struct hardware *hw, struct error *err);

const struct row_cut *placement_cut(const struct placement *pl, int layer, int tensor);
int placement_cache_count(const struct placement *pl, int layer, int batch, int tier);
int64_t placement_cache_stride(const struct placement *pl, int layer, int batch, int tier);
int placement_hidden_count(const struct placement *pl, int batch, int tier);
/* Where they live, `tokens` rows of each sequence; below the first tier batches start at a multiple of DISK_ALIGN. */
int64_t placement_hidden_bytes(const struct placement *pl, int batch, int tier, int64_t tokens);

/* One piece of a layer's weights on its way through tier `at`'s ring: rows [row_begin, row_end) of tensor `tensor` whose home is
 * `home` (> at), at `offset` from the start of the visit; `bytes` are the rows' own, the ring leaves room for alignment. */
struct weight_piece {
    int tensor, home;
    int64_t row_begin, row_end, bytes, offset;
};
#define WEIGHT_PIECES_MAX (LAYER_TENSORS_MAX * TIERS_MAX)
/* Fills `out` and returns the number of pieces. */
int placement_pieces(const struct placement *pl, const struct arch *a, int layer, int at,
                     struct weight_piece out[WEIGHT_PIECES_MAX]);
/* Parts that a layer's weights come in: one for each batch, at most so many. */
#define WEIGHT_PARTS_MAX 8
/* Rows of part `part` of `parts` of a piece, cut at multiples of `step` from its first row. */
void weight_part_rows(const struct weight_piece *piece, int64_t step, int part, int parts, int64_t *begin, int64_t *end);

/* For the planner: rounds p->fraction to what can be executed and returns the exact peaks. */
enum status placement_realise(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                              int64_t peak_bytes[TIERS_MAX], struct error *err);

#endif
