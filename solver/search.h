/* search.h - the outer search: batch sizes and switches (the schedule among them), an LP for each, the best executable policy, and why it is the best. */
#ifndef BALLAST_SOLVER_SEARCH_H
#define BALLAST_SOLVER_SEARCH_H

#include "model/cost.h"
#include "solver/lp.h"

/* Values that a batch size may have: ranges in ascending order, apart. None: all. */
#define SIZE_RANGES_MAX 64
struct sizes {
    int n;
    struct size_range {
        int low, high;
    } range[SIZE_RANGES_MAX];
};

struct search_options {
    int gpu_batch_size, num_gpu_batches;         /* > 0: fixed; 0: searched */
    struct sizes gpu_batch_sizes, batch_numbers; /* among these, where it is not fixed */
    int64_t max_block;                           /* most sequences in a block: 0 = 65536 */
    double max_latency_s;                        /* 0: none. Latency of all sequences, or of a block without a number of them */
    int weight_bits, cache_bits;                 /* 16 or 4: fixed; 0: searched; */
    int attention_near_cache;                    /* 0 or 1: fixed; -1: searched (1 only where a second compute unit exists) */
    double attention_sparsity;                   /* never searched: it changes what is generated */
    int schedule, overlap;                       /* enum schedule_kind, 0 or 1: fixed; -1: searched */
    int prefetch;                                /* weight ring depth: > 0: fixed; 0: searched, 1 to 3 */
    bool whole_tensors, pageable_weights;        /* of all policies: what another program does (policy.h) */
    double tolerance; /* a box that can be better by no more than this part is not looked into: 1e-4 by default */
    /* The proof is given up after so many, 50000 by default: 0 = none. The bound is then that of what is left. */
    int64_t max_boxes;
    uint32_t forbid;                /* class/tier pairs fixed at 0, as in lp_solve */
    struct fraction_range fraction; /* within these; each class must be able to sum to 1 */
    /* Turns relaxed fractions into what can be executed and returns its exact peak bytes (placement.h); NULL: the relaxed
     * ones. */
    enum status (*realise)(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                           int64_t peak_bytes[TIERS_MAX], struct error *err);
};
void search_options_default(struct search_options *o);

struct shadow_price {
    char what[48];   /* "ram capacity", "disk->ram bandwidth", "cpu rate" */
    double per_unit; /* tokens/s per GiB, per GB/s, or per 1 % of a compute rate */
    char unit[16];   /* "GiB", "GB/s", "1 %" */
    double
        replanned; /* tokens/s gained by one more unit when all is planned again, NAN if too many blocks are as good to tell; 0 until
                       * replan_prices (replan.h) */
};

struct plan {
    struct policy policy;
    struct prediction prediction;    /* of the executable policy */
    double relaxed_throughput_tok_s; /* of the LP optimum before rounding, at this policy's batch sizes and switches */
    double bound_tok_s;              /* no placement of any batch sizes and switches of the space exceeds this */
    bool given_up;                   /* so many blocks are as good that max_boxes came before the tolerance */
    int64_t peak_bytes[TIERS_MAX];   /* exact, if realise was given */
    int n_prices;
    struct shadow_price price[TIERS_MAX + RESOURCES_MAX];
    int64_t lps;                          /* LPs solved */
    int64_t points, points_solved, boxes; /* of the space: settings, those whose own LP was solved, boxes bounded */
};

/* STATUS_DOES_NOT_FIT: the message says the bytes missing at batch 1, the tier, and three remedies that would work for this case
 * (checked: e.g. "--compress-weight", "--budget ram=3.2GiB", a shorter prompt). */
enum status search(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                   struct plan *out, struct error *err);

#endif
