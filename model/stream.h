/* stream.h - which batches are under way in which pass over the layers: the three schedules as one rule.
 *
 * A pass goes through all layers once; in it every batch under way takes its next step (0: prefill, then one a generated token). Batch b
 * enters at pass stream_entry(b) and leaves n passes later.
 *
 *     zig-zag    every batch of the block enters at pass 0
 *     row        one after the other: batch b enters when b-1 has left
 *     diagonal   k = num_gpu_batches are under way, n/k passes apart: when one has its last token, a new one enters with its prompt
 *
 * Source: the zig-zag and diagonal block schedules of FlexGen (arXiv 2303.06865), section 4.2 and appendix A.
 */
#ifndef BALLAST_MODEL_STREAM_H
#define BALLAST_MODEL_STREAM_H

#include "model/policy.h"
#include "model/workload.h"

/* Diagonal: the cache is given out in pages of so many tokens of one batch, so that a batch that has left makes room for others. */
#define CACHE_PAGE_TOKENS 16

/* Batches of one run of the schedule. Zig-zag and row: the block's. Diagonal: enough for the workload's sequences, at least a block's. */
int64_t stream_batches(const struct workload *w, const struct policy *p);
int64_t stream_entry(const struct workload *w, const struct policy *p, int64_t batch); /* its first pass */
int64_t stream_passes(const struct workload *w, const struct policy *p);
/* Whether no later batch is under way in the pass in which `batch` takes that step. */
bool stream_ends_pass(const struct workload *w, const struct policy *p, int64_t batch, int64_t step);
/* Sequences that one run of the schedule has room for. */
int64_t stream_sequences(const struct workload *w, const struct policy *p);
/* Runs that serve the workload, one after the other; the last is as long as the others, its empty places filled with copies. */
int64_t stream_runs(const struct workload *w, const struct policy *p);

/* Most batches that enter in one pass: each needs room for the hidden states of a whole prompt. */
int64_t stream_entering_most(const struct workload *w, const struct policy *p);
/* Most cache of all batches under way, in tokens of one batch: whole batches, or for the diagonal pages. */
int64_t stream_cache_tokens(const struct workload *w, const struct policy *p);

/* What a diagonal's passes add up to over its run: [0] those in which batches enter, [1] the others. */
struct stream_sum {
    double passes;
    double entering, decoding; /* sequences at their prefill; and at later steps, one for each step */
    double visible;            /* tokens that the latter see, the mean */
};
void stream_count(const struct workload *w, const struct policy *p, struct stream_sum sum[2]);
/* For any policy with batch sizes from low's to high's and at most most_block sequences under way, everything per sequence served is at least
 * this, which is for all of the workload's sequences or, without any, for low's block. num_gpu_batches of both are at most gen_tokens, or both
 * above. */
void stream_count_least(const struct workload *w, const struct policy *low, const struct policy *high, double most_block,
                        struct stream_sum sum[2]);

/* At least the passes without entries of any of them, for as many sequences. */
double stream_passes_most(const struct workload *w, const struct policy *low, const struct policy *high);

/* Diagonal: the page of every CACHE_PAGE_TOKENS tokens of every batch, (stream_batches, stream_pages_per_batch), numbered from 0 below
 * stream_cache_tokens / CACHE_PAGE_TOKENS. A page goes to another batch only in a later pass than its last use. The caller frees it. */
int64_t stream_pages_per_batch(const struct workload *w);
enum status stream_pages_new(int32_t **out, const struct workload *w, const struct policy *p, struct error *err);

#endif
