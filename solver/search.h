/* search.h - the outer search: batch sizes and switches, an LP for each, the best executable policy, and why it is the best. */
#ifndef BALLAST_SOLVER_SEARCH_H
#define BALLAST_SOLVER_SEARCH_H

#include "model/cost.h"
#include "solver/lp.h"

struct search_options {
    int gpu_batch_size, num_gpu_batches; /* > 0: fixed; 0: searched */
    int64_t max_block;           /* most sequences in a block: 0 = 65536. Fewer sequences to serve means a smaller block */
    double max_latency_s;        /* 0: none. Latency of the whole block */
    int weight_bits, cache_bits; /* 16 or 4: fixed; 0: searched; */
    int attention_near_cache;    /* 0 or 1: fixed; -1: searched (1 only where a second compute unit exists) */
    int prefetch;                /* weight ring depth: 0 = 3 */
    uint32_t forbid;             /* class/tier pairs fixed at 0, as in lp_solve */
    /* Turns relaxed fractions into what can be executed and returns its exact peak bytes (placement.h); NULL: the relaxed
     * ones. */
    enum status (*realise)(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                           int64_t peak_bytes[TIERS_MAX], struct error *err);
};
void search_options_default(struct search_options *o);

/* The batch sizes that the search starts from: `fixed` alone if it is > 0, else 1, 2, 3, 4, 6, 8, 12, ... (`dense`: also 10, 20,
 * 40, ...) up to `limit`, and `limit` itself. Returns how many. */
#define BATCH_SIZES_MAX 64
int search_batch_sizes(int fixed, int64_t limit, bool dense, int out[BATCH_SIZES_MAX]);

struct shadow_price {
    char what[48];   /* "ram capacity", "disk->ram bandwidth", "cpu rate" */
    double per_unit; /* tokens/s per GiB, per GB/s, or per 1 % of a compute rate */
    char unit[16];   /* "GiB", "GB/s", "1 %" */
};

struct plan {
    struct policy policy;
    struct prediction prediction;    /* of the executable policy */
    double relaxed_throughput_tok_s; /* of the LP optimum before rounding */
    int64_t peak_bytes[TIERS_MAX];   /* exact, if realise was given */
    int n_prices;
    struct shadow_price price[TIERS_MAX + RESOURCES_MAX];
    int64_t lps; /* LPs solved */
};

/* STATUS_DOES_NOT_FIT: the message says the bytes missing at batch 1, the tier, and three remedies that would work for this case
 * (checked: e.g. "--compress-weight", "--budget ram=3.2GiB", a shorter prompt). */
enum status search(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                   struct plan *out, struct error *err);

#endif
