#include "model/in_use.h"

#include "model/integers.h"
#include "model/stream.h"

/* Bytes of a batch on a tier: its cache of one token, all layers. */
static int64_t cache_token_bytes(const struct placement *pl, int64_t batch, int tier)
{
    int64_t sum = 0;
    for (int i = 0; i < pl->n_layers; i++)
        sum += placement_cache_stride(pl, i, (int)(batch % pl->n_batches), tier);
    return sum;
}

/* Pass by pass: the cache of all under way, and their hidden states. In its last step a batch has the tokens of the one before, because the
 * last one's cache is written as it leaves. */
static int64_t batches_most(const struct placement *pl, const struct workload *w, const struct policy *p, enum phase ph, int tier)
{
    int64_t batches = stream_batches(w, p), passes = stream_passes(w, p), low = 0, high = 0, most = 0;
    for (int64_t pass = 0; pass < passes; pass++) {
        int64_t sum = 0;
        bool enters = false;
        while (low < high && stream_entry(w, p, low) + w->gen_tokens <= pass)
            low++;
        for (; high < batches && stream_entry(w, p, high) <= pass; high++)
            enters = true;
        if (enters != (ph == PHASE_PREFILL))
            continue;
        for (int64_t b = low; b < high; b++) {
            int64_t step = pass - stream_entry(w, p, b);
            int64_t written = step + 1 < w->gen_tokens ? w->prompt_tokens + step : step > 0 ? w->prompt_tokens + step - 1 : 0;
            sum += cache_token_bytes(pl, b, tier) * written +
                   placement_hidden_bytes(pl, (int)(b % pl->n_batches), tier, step == 0 ? w->prompt_tokens : 1);
        }
        most = max64(most, sum);
    }
    return most;
}

/* What comes up through the tier for the visits that share its ring: as many in a row as it has slots, of a pass that begins again. */
static int64_t ring_most(const struct placement *pl, const struct arch *a, const struct policy *p, int tier)
{
    int64_t most = 0;
    for (int first = 0; first < pl->n_layers && tier + 1 < pl->n_tiers; first++) {
        int64_t sum = 0;
        for (int layer = first, visits = 0; visits < p->prefetch; layer = (layer + 1) % pl->n_layers) {
            struct weight_piece piece[WEIGHT_PIECES_MAX];
            if (a->layer[layer].kind == LAYER_EMBED)
                continue;
            for (int n = placement_pieces(pl, a, layer, tier, piece); n-- > 0;)
                sum += piece[n].bytes;
            visits++;
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
