/* policy.h - where everything lives and how it is batched: what the planner chooses and the executor carries out. */
#ifndef BALLAST_MODEL_POLICY_H
#define BALLAST_MODEL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "model/error.h"
#include "model/hardware.h"

/* The three classes of tensors that are placed. */
enum tensor_class { CLASS_WEIGHT, CLASS_CACHE, CLASS_ACTIVATION, CLASS_COUNT };
const char *class_name(enum tensor_class c); /* "weights", "cache", "activations" */

enum schedule_kind {
    SCHEDULE_ZIGZAG,   /* all batches of the block take each step together */
    SCHEDULE_ROW,      /* one batch at a time through all layers and steps */
    SCHEDULE_DIAGONAL, /* batches at different steps: as one ends another enters (stream.h) */
    SCHEDULE_COUNT
};
const char *schedule_name(enum schedule_kind k);                /* "zigzag", "row", "diagonal" */
bool schedule_named(const char *name, enum schedule_kind *out); /* false: no such schedule */
#define SCHEDULE_NAMES "zigzag, row or diagonal"

struct policy {
    int gpu_batch_size;                      /* sequences computed together */
    int num_gpu_batches;                     /* batches that share one pass over the weights; block size = product */
    double fraction[CLASS_COUNT][TIERS_MAX]; /* by tier, each class sums to 1 */
    int weight_bits;                         /* 16 (as stored in the model) or 4 */
    int cache_bits;                          /* 16 (the unit's cache format) or 4 */
    bool attention_near_cache;               /* attend on the unit of tier 1 over cache kept there or below */
    double attention_sparsity;               /* of the earlier tokens, those whose values a decode step adds (sparse.h); 1: all */
    enum schedule_kind schedule;
    bool overlap;          /* false: one operation at a time */
    int prefetch;          /* weight ring, in units of the largest layer visit: >= 1, 3 by default */
    bool whole_tensors;    /* each matrix of the weights whole on one tier, as FlexGen gives them out; false: cut by rows */
    bool pageable_weights; /* weights on the host's tier beside a device are not page-locked (placement.h; turns.h) */
};

void policy_default(struct policy *p, int n_tiers); /* all on tier 0, 1x1, 16 bits, every value, zig-zag, overlap */
int64_t policy_block(const struct policy *p);       /* gpu_batch_size * num_gpu_batches */
/* Whether cache that lives on the tier is attended to there, and not where it is copied to: all that sparse attention is for. */
bool policy_attends_in_place(const struct policy *p, int tier);
/* Fractions in [0,1] summing to 1 within 1e-6 for n_tiers tiers, bits known, batch sizes in [1, 65536], near-cache only if a
 * second unit exists, sparse attention only over cache that is attended to in place. `where` names the source in messages. */
enum status policy_check(const struct policy *p, const struct hardware *hw, const char *where, struct error *err);

/* Strict JSON; fractions are objects by tier name. */
enum status policy_load(struct policy *p, const char *path, const struct hardware *hw, struct error *err);
enum status policy_parse(struct policy *p, const char *path, const char *text, size_t n, const struct hardware *hw,
                         struct error *err);
enum status policy_save(const struct policy *p, const char *path, const struct hardware *hw, struct error *err);
void policy_print(const struct policy *p, const struct hardware *hw, FILE *out); /* the same JSON */

/* FlexGen's "wg wc cg cc hg hc" (percent on tier 0 and tier 1, remainder on the disk). On a two-tier machine the second of each
 * pair must be 0; on one of four tiers each class may have three numbers. */
enum status policy_percent(struct policy *p, const char *text, const struct hardware *hw, struct error *err);
/* The flags that give this policy again on a command line: "--gpu-batch-size 4 ... "; returns buf. */
char *policy_flags(const struct policy *p, const struct hardware *hw, char *buf, size_t n);

#endif
