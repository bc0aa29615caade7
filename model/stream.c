#include "model/stream.h"

#include <stdlib.h>

#include "model/integers.h"

static bool is_diagonal(const struct policy *p)
{
    return p->schedule == SCHEDULE_DIAGONAL;
}

int64_t stream_batches(const struct workload *w, const struct policy *p)
{
    int64_t wanted = (w->sequences + p->gpu_batch_size - 1) / p->gpu_batch_size;
    return is_diagonal(p) ? max64(wanted, p->num_gpu_batches) : p->num_gpu_batches;
}

int64_t stream_entry(const struct workload *w, const struct policy *p, int64_t batch)
{
    switch (p->schedule) {
    case SCHEDULE_ROW:
        return batch * w->gen_tokens;
    case SCHEDULE_DIAGONAL:
        return batch * w->gen_tokens / p->num_gpu_batches;
    default:
        return 0;
    }
}

int64_t stream_passes(const struct workload *w, const struct policy *p)
{
    return stream_entry(w, p, stream_batches(w, p) - 1) + w->gen_tokens;
}

bool stream_ends_pass(const struct workload *w, const struct policy *p, int64_t batch, int64_t step)
{
    return batch + 1 == stream_batches(w, p) || stream_entry(w, p, batch + 1) > stream_entry(w, p, batch) + step;
}

int64_t stream_sequences(const struct workload *w, const struct policy *p)
{
    return stream_batches(w, p) * p->gpu_batch_size;
}

int64_t stream_entering_most(const struct workload *w, const struct policy *p)
{
    int64_t k = p->num_gpu_batches;
    return is_diagonal(p) ? (k + w->gen_tokens - 1) / w->gen_tokens : p->schedule == SCHEDULE_ROW ? 1 : k;
}

/* -- pages ------------------------------------------------------------------------------------------------------------ */

static int64_t cache_cap(const struct workload *w)
{
    return w->prompt_tokens + w->gen_tokens - 1;
}

static int64_t pages_of(int64_t tokens)
{
    return (tokens + CACHE_PAGE_TOKENS - 1) / CACHE_PAGE_TOKENS;
}

int64_t stream_pages_per_batch(const struct workload *w)
{
    return pages_of(cache_cap(w));
}

/* Pages of a batch during a step. */
static int64_t pages_at(const struct workload *w, int64_t step)
{
    return pages_of(w->prompt_tokens + step < cache_cap(w) ? w->prompt_tokens + step : cache_cap(w));
}

/* In the steady state k batches are at steps (pass - b n / k) mod n, the same again every n passes. The sum over them falls only when one
 * leaves, so it is largest in the pass before an entry, when somebody is at step n - 1. */
static int64_t pages_most(const struct workload *w, const struct policy *p)
{
    int64_t k = p->num_gpu_batches, n = w->gen_tokens, most = 0;
    for (int64_t last = 0; last < k; last++) {
        int64_t sum = 0, pass = stream_entry(w, p, last) + n - 1;
        for (int64_t b = 0; b < k; b++)
            sum += pages_at(w, (pass - stream_entry(w, p, b) + n) % n);
        most = max64(most, sum);
    }
    return most;
}

int64_t stream_cache_tokens(const struct workload *w, const struct policy *p)
{
    return is_diagonal(p) ? pages_most(w, p) * CACHE_PAGE_TOKENS : p->num_gpu_batches * cache_cap(w);
}

/* Pass by pass: what left in the pass before gives back its pages, then everyone under way takes what the step needs. */
static void give_out(int32_t *page, int32_t *spare, int64_t n_spare, const struct workload *w, const struct policy *p)
{
    int64_t batches = stream_batches(w, p), passes = stream_passes(w, p), per_batch = stream_pages_per_batch(w), low = 0,
            high = 0;
    for (int64_t i = 0; i < n_spare; i++)
        spare[i] = (int32_t)(n_spare - 1 - i);
    for (int64_t pass = 0; pass < passes; pass++) {
        for (; low < high && stream_entry(w, p, low) + w->gen_tokens <= pass; low++)
            for (int64_t q = per_batch; q-- > 0;)
                spare[n_spare++] = page[low * per_batch + q];
        while (high < batches && stream_entry(w, p, high) <= pass)
            high++;
        for (int64_t b = low; b < high; b++) {
            int64_t step = pass - stream_entry(w, p, b);
            for (int64_t q = step == 0 ? 0 : pages_at(w, step - 1); q < pages_at(w, step); q++)
                page[b * per_batch + q] = spare[--n_spare];
        }
    }
}

enum status stream_pages_new(int32_t **out, const struct workload *w, const struct policy *p, struct error *err)
{
    int64_t n = pages_most(w, p);
    int32_t *spare = malloc((size_t)n * sizeof *spare);
    *out = malloc((size_t)(stream_batches(w, p) * stream_pages_per_batch(w)) * sizeof **out);
    if (spare && *out) {
        give_out(*out, spare, n, w, p);
    } else {
        free(*out);
        *out = NULL;
    }
    free(spare);
    return *out ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for %lld pages of cache", (long long)n);
}
