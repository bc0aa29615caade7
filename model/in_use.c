#include "model/in_use.h"

#include "model/integers.h"
#include "model/stream.h"

/* A token of a batch's cache in all layers. */
static int64_t token_bytes(const struct placement *pl, int batch, int tier)
{
    int64_t sum = 0;
    for (int i = 0; i < pl->n_layers; i++)
        sum += placement_cache_stride(pl, i, batch, tier);
    return sum;
}

/* Tokens cached after a step. In its last a batch has those of the one before: the last token's cache is written as it leaves. */
static int64_t tokens_cached(const struct workload *w, int64_t step)
{
    if (step + 1 < w->gen_tokens)
        return w->prompt_tokens + step;
    return step > 0 ? w->prompt_tokens + step - 1 : 0;
}

/* The most that batch k has in a phase. */
static int64_t batch_most(const struct placement *pl, const struct workload *w, enum phase ph, int k, int tier)
{
    if (ph == PHASE_DECODE && w->gen_tokens == 1)
        return 0;
    return token_bytes(pl, k, tier) * tokens_cached(w, ph == PHASE_PREFILL ? 0 : w->gen_tokens - 1) +
           placement_hidden_bytes(pl, k, tier, ph == PHASE_PREFILL ? w->prompt_tokens : 1);
}

/* Diagonal, whose batches are alike: pass by pass, all under way. k batches later all is the same, n passes on, so of a long stream it is enough to see
 * it fill, go round once and end as it does. */
static int64_t passes_most(const struct placement *pl, const struct workload *w, const struct policy *p, enum phase ph, int tier)
{
    int64_t batches = stream_batches(w, p), k = p->num_gpu_batches, low = 0, high = 0, most = 0;
    batches = batches < 3 * k ? batches : 2 * k + batches % k;
    int64_t passes = stream_entry(w, p, batches - 1) + w->gen_tokens;
    int64_t token = token_bytes(pl, 0, tier), whole = placement_hidden_bytes(pl, 0, tier, w->prompt_tokens),
            one = placement_hidden_bytes(pl, 0, tier, 1);
    for (int64_t pass = 0; pass < passes; pass++) {
        int64_t entered = high, sum = 0;
        while (low < high && stream_entry(w, p, low) + w->gen_tokens <= pass)
            low++;
        while (high < batches && stream_entry(w, p, high) <= pass)
            high++;
        for (int64_t b = low; b < high; b++) {
            int64_t step = pass - stream_entry(w, p, b);
            sum += token * tokens_cached(w, step) + (step == 0 ? whole : one);
        }
        if ((high > entered) == (ph == PHASE_PREFILL))
            most = max64(most, sum);
    }
    return most;
}

/* Row by row one batch is under way, zig-zag all of the block. */
static int64_t batches_most(const struct placement *pl, const struct workload *w, const struct policy *p, enum phase ph, int tier)
{
    int64_t most = 0, sum = 0;
    if (p->schedule == SCHEDULE_DIAGONAL)
        return passes_most(pl, w, p, ph, tier);
    for (int k = 0; k < pl->n_batches; k++) {
        int64_t one = batch_most(pl, w, ph, k, tier);
        most = max64(most, one);
        sum += one;
    }
    return p->schedule == SCHEDULE_ROW ? most : sum;
}

/* What comes up through the tier in one visit of a layer. */
static int64_t visit_bytes(const struct placement *pl, const struct arch *a, int layer, int tier)
{
    struct weight_piece piece[WEIGHT_PIECES_MAX];
    int64_t sum = 0;
    for (int n = placement_pieces(pl, a, layer, tier, piece); n-- > 0;)
        sum += piece[n].bytes;
    return sum;
}

/* Of the visits that share the tier's ring: as many in a row as it has slots, of passes that follow each other. */
static int64_t ring_most(const struct placement *pl, const struct arch *a, const struct policy *p, int tier)
{
    int64_t most = 0, sum = 0;
    int first = 0, visits = 0; /* of the window */
    while (first < pl->n_layers && a->layer[first].kind == LAYER_EMBED)
        first++;
    for (int last = first, n = pl->n_layers; tier + 1 < pl->n_tiers && pl->ring_bytes[tier] > 0 && last < 2 * n; last++) {
        if (a->layer[last % n].kind == LAYER_EMBED)
            continue;
        sum += visit_bytes(pl, a, last % n, tier);
        for (visits++; visits > p->prefetch; visits--) {
            sum -= visit_bytes(pl, a, first % n, tier);
            do
                first++;
            while (a->layer[first % n].kind == LAYER_EMBED);
        }
        most = max64(most, sum);
    }
    return most;
}

int64_t in_use_always(const struct placement *pl, int tier)
{
    const int64_t *region = pl->region_bytes[tier];
    return placement_peak(pl, tier) - region[REGION_CACHE] - region[REGION_WEIGHT_RING] - region[REGION_ACTIVATIONS];
}

int64_t in_use_most(const struct placement *pl, const struct arch *a, const struct workload *w, const struct policy *p,
                    enum phase ph, int tier)
{
    return in_use_always(pl, tier) + batches_most(pl, w, p, ph, tier) + ring_most(pl, a, p, tier);
}
