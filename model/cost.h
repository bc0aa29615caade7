/* cost.h - the one home of every time and size formula: predict, plan and simulate all read it.
 *
 * For fixed batch sizes and switches the cost of a policy is a table of linear forms over its placement fractions: busy time
 * of each resource per phase, and peak bytes of each tier per phase. Prediction evaluates the table, the LP minimises over it,
 * the simulator uses the same primitives operation by operation. docs/cost-model.md derives every term.
 */
#ifndef BALLAST_MODEL_COST_H
#define BALLAST_MODEL_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "model/arch.h"
#include "model/hardware.h"
#include "model/policy.h"
#include "model/workload.h"

enum phase { PHASE_PREFILL, PHASE_DECODE, PHASE_COUNT };
const char *phase_name(enum phase p); /* "prefill", "decode" */

/* base + sum over (class, tier) of coef[class][tier] * fraction[class][tier] */
struct form {
    double base;
    double coef[CLASS_COUNT][TIERS_MAX];
};
double form_at(const struct form *f, const double fraction[CLASS_COUNT][TIERS_MAX]);
void form_add(struct form *sum, const struct form *f, double scale, int n_tiers); /* adds scale * f */

/* Seconds of a stage of a step (its only one, 0, without stages) in which `row` waits for `cause`: both are resources. */
#define FILLS_MAX 16
struct fill {
    int phase, stage, row, cause;
    struct form s;
};

/* What several resources do one after the other, whatever the rest does: rows of their own (docs/cost-model.md, "Chains"). */
enum chain {
    CHAIN_SLOT,       /* a slot of a weight ring of one or two: loading and computing of attention layers, ... */
    CHAIN_OTHER_SLOT, /* ... and of MLP layers */
    CHAIN_NEAR_SLOT,  /* the first of them, where the second unit attends */
    CHAIN_LOWER_SLOT, /* the slot of MLP layers on tier 1: loading, and the last part on its way up */
    CHAIN_HEAD,       /* all layers computed, then the head's weights loaded that the ring has no slot for */
    CHAIN_NEAR,       /* attention near the cache: the way of a batch, or what a place for its queries is taken for */
    CHAIN_COUNT
};

#define STAGES_MAX    9
#define COST_ROWS_MAX (RESOURCES_MAX + CONTENTIONS_MAX + CHAIN_COUNT)

struct cost {
    int n_tiers, n_resources;
    bool overlap;              /* step time = max over resources; else their sum */
    double runs;               /* of the schedule, one after the other, until all sequences are served (stream_runs) */
    double steps[PHASE_COUNT]; /* of all runs. Of one block 1 prefill, n-1 decode; diagonal: passes with and without entries */
    double tokens;             /* generated and asked for: sequences * n, or what one run has room for */
    struct form busy[PHASE_COUNT][RESOURCES_MAX]; /* s per step of the whole block; decode: mean over the n-1 steps */
    /* Where a runtime waits, a step is stages one after the other: how often each comes in a step, and what a resource is busy in one.
     * No stages: the step is one. */
    int n_stages;
    double stage_times[STAGES_MAX];
    struct form stage[PHASE_COUNT][STAGES_MAX][RESOURCES_MAX];
    /* What the page cache serves of a decode step's reads from the disk, in the disk's seconds (0: no page cache), and the seconds of a stage in
     * which it reads a class that is all there: less than its busy time where a thread goes on to the links above. */
    double page_cache_s;
    double disk_s[STAGES_MAX][CLASS_COUNT];
    int n_contentions; /* groups of resources: at least the sum of share * busy passes */
    double share[CONTENTIONS_MAX][RESOURCES_MAX];
    int n_chains;                                               /* CHAIN_COUNT; 0 where a runtime waits */
    struct form chain[PHASE_COUNT][CHAIN_COUNT][RESOURCES_MAX]; /* s per step, by resource */
    struct form peak[PHASE_COUNT][TIERS_MAX];                   /* bytes */
    int n_fills;                                                /* without overlap they do not count */
    struct fill fill[FILLS_MAX];
};

/* Builds the table for the model, machine, workload and the policy's batch sizes and switches (its fractions are not read).
 * Fails if the machine has no rate for a format that the policy needs. */
enum status cost_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                       const struct policy *p, struct error *err);

/* The table that bounds a box of batch sizes: all (gpu_batch_size, num_gpu_batches) from those of `low` to those of `high` whose block
 * has at most `most_block` sequences; the switches are low's. For every point of the box and every placement:
 *     steps * busy / tokens here <= the same there,  peak here <= peak there
 * so that tokens / T of this table is at least its throughput and T of this table at most its latency. low == high gives cost_build's
 * table. The diagonal's num_gpu_batches are at most gen_tokens in all of the box, or above in all of it. Expects low's block, and that of either low size with the other high one, to be at most most_block. */
enum status cost_build_bound(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                             const struct policy *low, const struct policy *high, int64_t most_block, struct error *err);

/* A stage of a step takes at least each of its rows: the resources, the groups that contend, the chains. Without overlap the only row is the sum of
 * all resources. A table without stages has one. */
int cost_stages(const struct cost *c);
double cost_stage_times(const struct cost *c, int stage);
int cost_rows(const struct cost *c);
void cost_row(const struct cost *c, enum phase ph, int stage, int row, struct form *out);
/* The page cache as fractions of the classes: `cached` of each is what lives on the disk and is served from memory. A row is so much shorter
 * when all of a class is, and together they may be no more than sum of cost_cached_s * cached <= page_cache_s. */
void cost_row_saved(const struct cost *c, enum phase ph, int stage, int row, double saved_s[CLASS_COUNT]);
double cost_cached_s(const struct cost *c, int cls);
/* The same part of everything that is read, which is what is predicted. */
void cost_cached_evenly(const struct cost *c, const double fraction[CLASS_COUNT][TIERS_MAX], double cached[CLASS_COUNT]);
/* What one resource is busy in a stage, and how much that counts when the rows of the stage count `weight`. */
double cost_stage_busy_s(const struct cost *c, enum phase ph, int stage, int resource,
                         const double fraction[CLASS_COUNT][TIERS_MAX], const double cached[CLASS_COUNT]);
/* Seconds of a stage that the planner's rows wait for the resource, or that it has in a chain, each times the weight of the row. */
double cost_fill_s(const struct cost *c, enum phase ph, int stage, int resource, const double fraction[CLASS_COUNT][TIERS_MAX],
                   const double cached[CLASS_COUNT], const double weight[COST_ROWS_MAX]);
double cost_resource_weight(const struct cost *c, int resource, const double weight[COST_ROWS_MAX]);
/* Seconds of one step: the sum over stages of their longest row. `cached` NULL: evenly. `slow`: each resource takes so many times as long,
 * NULL: 1. */
double cost_step_s(const struct cost *c, enum phase ph, const double fraction[CLASS_COUNT][TIERS_MAX],
                   const double cached[CLASS_COUNT], const double slow[RESOURCES_MAX]);

struct prediction {
    double prefill_s, decode_s, latency_s, throughput_tok_s; /* of all runs together, all their steps */
    double busy_s[PHASE_COUNT][RESOURCES_MAX];               /* per phase, all its steps */
    double peak_bytes[PHASE_COUNT][TIERS_MAX];
    double in_use_bytes[PHASE_COUNT][TIERS_MAX]; /* the most at once (in_use.h); cost_predict leaves 0 */
    double pinning_s;                            /* before the first run (placement.h), in no other time; cost_predict leaves 0 */
    int bound_by[PHASE_COUNT];                   /* the busiest resource */
    double latency_low_s, latency_high_s;        /* its error bar, see interval.h; cost_predict leaves 0: none */
};
void cost_predict(const struct cost *c, const double fraction[CLASS_COUNT][TIERS_MAX], struct prediction *out);

/* -- primitives, also used by the simulator ------------------------------------------------------------------------- */

/* Seconds for one transfer of `bytes` over link `link`. */
double cost_transfer_s(const struct hardware *hw, int link, bool write, double bytes);
/* `bytes` in `transfers` transfers of low to high each, at the best rate in that span. */
double cost_transfers_s(const struct hardware *hw, int link, bool write, double bytes, double transfers, double low, double high);
/* What the disk needs for the bytes that the page cache serves of a pass's reads; 0: there is none. */
double cost_page_cache_s(const struct hardware *hw);
/* The same up over the link for what lies in pageable memory of its lower tier (hardware.h, pageable_read). */
double cost_pageable_s(const struct hardware *hw, int link, double bytes, double transfers, double low, double high);
/* Seconds to copy `bytes` of pageable memory into a pinned buffer (hardware.h, struct runtime), low to high at a time. */
double cost_staging_s(const struct hardware *hw, double bytes, double low, double high);
/* Seconds on `unit` for one layer over `sequences` sequences of `tokens` new tokens each, `visible` tokens in the cache at the
 * end (prefill: tokens == visible). `sparsity` is the policy's. */
double cost_layer_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                    enum format cache, double sparsity, int sequences, int64_t tokens, double visible);
/* `sequences` sequences in `operations` operations of `low` to `high` sequences each, at the best rate in that span. */
double cost_layers_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                     enum format cache, double sparsity, double sequences, double operations, int64_t low, int64_t high,
                     int64_t tokens, double visible);
/* cost_layer_s without the launch. */
double cost_work_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                   enum format cache, double sparsity, int sequences, int64_t tokens, double visible);
/* What operations take one after the other that have so much to launch and so much work: the longer of both on a unit that queues
 * (compute_queues), else the sum. */
double cost_operations_s(const struct compute *unit, double launch_s, double work_s);
/* Attention near the cache cuts a layer in two: with as many key and value heads as queries three quarters of its products, and of its
 * launches, come before attention. project_s is what both halves take on the first unit when all cache is below, home_s what comes on
 * top when none is; arguments as of cost_layers_s, for a decode step. */
#define NEAR_FIRST_HALF 0.75
struct near_times {
    double project_s, home_s;
};
struct near_times cost_near_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                              enum format cache, double sparsity, double sequences, double operations, int64_t low, int64_t high,
                              double visible);
/* Seconds to fetch `rows` rows of the token table from the disk, one by one, for the embedding. */
double cost_lookup_s(const struct hardware *hw, const struct arch *a, double rows);
/* The attention part of the work alone (cache read, softmax); the rest is norm and projections. */
double cost_attend_s(const struct compute *unit, const struct layer *l, enum format cache, double sparsity, double sequences,
                     int64_t tokens, double visible);
/* Of products with weights of this format; no samples (n 0): not measured. */
const struct curve *cost_matmul_rate(const struct compute *unit, enum format weights);

#endif
