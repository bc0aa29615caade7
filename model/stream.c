#include "model/stream.h"

#include <math.h>
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

int64_t stream_runs(const struct workload *w, const struct policy *p)
{
    int64_t room = stream_sequences(w, p);
    return w->sequences > room ? (w->sequences + room - 1) / room : 1;
}

int64_t stream_entering_most(const struct workload *w, const struct policy *p)
{
    int64_t k = p->num_gpu_batches;
    return is_diagonal(p) ? (k + w->gen_tokens - 1) / w->gen_tokens : p->schedule == SCHEDULE_ROW ? 1 : k;
}

/* -- what a diagonal's passes add up to ------------------------------------------------------------------------------- */

/* Decode steps in passes with entries; and these steps' numbers, added up. */
struct mixed {
    double taken, numbers;
};

/* Fewer batches than tokens: every batch enters in a pass of its own, and batch j decodes in those of the next k - 1. Its step there is the
 * difference of the entries; summed over all pairs, an entry counts once for each earlier batch, less once for each later one. */
static struct mixed mixed_few(const struct workload *w, const struct policy *p, int64_t b)
{
    int64_t k = p->num_gpu_batches;
    struct mixed m = {.taken = (double)(k - 1) * ((double)b - (double)k / 2)};
    for (int64_t i = 1; i < k; i++)
        m.numbers += (double)(k - i) * (double)(stream_entry(w, p, b - i) - stream_entry(w, p, i - 1));
    return m;
}

/* More batches than tokens: every pass up to the last entry has one, so a batch takes all its steps there but those that come later. */
static struct mixed mixed_many(const struct workload *w, const struct policy *p, int64_t b)
{
    double n = (double)w->gen_tokens;
    int64_t k = p->num_gpu_batches, last = stream_entry(w, p, b - 1);
    struct mixed m = {.taken = (double)(b - k) * (n - 1), .numbers = (double)(b - k) * n * (n - 1) / 2};
    for (int64_t j = b - k; j < b; j++) {
        double steps = fmin(n - 1, (double)(last - stream_entry(w, p, j)));
        m.taken += steps;
        m.numbers += steps * (steps + 1) / 2;
    }
    return m;
}

void stream_count(const struct workload *w, const struct policy *p, struct stream_sum sum[2])
{
    int64_t b = stream_batches(w, p), k = p->num_gpu_batches, passes = stream_passes(w, p);
    double n = (double)w->gen_tokens, s = (double)w->prompt_tokens, g = p->gpu_batch_size;
    bool few = k <= w->gen_tokens;
    struct mixed m = few ? mixed_few(w, p, b) : mixed_many(w, p, b);
    double taken = (double)b * (n - 1) - m.taken, numbers = (double)b * n * (n - 1) / 2 - m.numbers;
    sum[0].passes = (double)(few ? b : stream_entry(w, p, b - 1) + 1);
    sum[1].passes = (double)passes - sum[0].passes;
    sum[0].entering = (double)b * g;
    sum[1].entering = 0;
    sum[0].decoding = m.taken * g;
    sum[1].decoding = taken * g;
    sum[0].visible = m.taken > 0 ? s + m.numbers / m.taken : s;
    sum[1].visible = taken > 0 ? s + numbers / taken : s;
}

/* docs/planner.md, "The diagonal's box", derives each line; k is num_gpu_batches, b all batches of a run. */
void stream_count_least(const struct workload *w, const struct policy *low, const struct policy *high, double most_block,
                        struct stream_sum sum[2])
{
    double n = (double)w->gen_tokens, s = (double)w->prompt_tokens, all = (double)w->sequences;
    double g1 = low->gpu_batch_size, g2 = high->gpu_batch_size, k1 = low->num_gpu_batches, k2 = high->num_gpu_batches;
    double most = fmin(g2 * k2, most_block), block = g1 * k1;
    bool few = k2 <= n;
    if (k1 == k2 && stream_batches(w, low) == stream_batches(w, high)) { /* the size of a batch changes nothing else */
        stream_count(w, low, sum);
        for (int kind = 0; kind < 2 && all == 0; kind++)
            sum[kind].passes *= block / most;
        return;
    }
    double late = few ? n / 2 - (k2 < n ? (k2 - 1) / (n - k2) : n) : n / 2; /* mean step where nobody enters */
    if (all > 0) {
        double b = fmax(ceil(all / g2), k1), seqs = fmax(all, fmax(block, b * g1));
        double last = fmax(floor((b - 1) * n / k2), fmax(floor(n * all / most - n / k1), n - ceil(n / k1)));
        double half = fmax(all - fmin(most, all) / 2, block / 2); /* least of S - g k / 2: S is at least all, and g k */
        sum[0].passes = few ? b : last + 1;
        sum[1].passes = few ? fmax(floor((b - 1) * n / k2) + n - b, n - 1) : n - 1;
        sum[0].entering = seqs;
        sum[0].decoding = few ? (k1 - 1) * half : (n - 1) * fmax(0, half - g2 / 2);
        sum[1].decoding = few ? seqs * (n - k2) + (k1 - 1) * block / 2 : block * fmax(0, n / 2 - 2);
        double rho = fmax(1, b / k2);
        double early = few ? n * (3 * rho - 2) / (3 * (2 * rho - 1)) - 1 : (1 + (n - 1) * (1 - (1 + 1 / k1) / (2 * rho))) / 2;
        sum[0].visible = s + fmax(1, early);
    } else { /* one block: b is k; everything for `block` sequences */
        sum[0].passes = few ? k1 * g1 / g2 : n * block / most;
        sum[1].passes = few ? (2 * n - n / k2 - (k2 - 1) / k2 - k2) / k2 * block / g2 : (n - 1) * block / most;
        sum[0].entering = block;
        sum[0].decoding = (few ? k1 - 1 : n - 1) * block / 2;
        sum[1].decoding = block * (few ? n - (k2 + 1) / 2 : (n - 1) * (1 - 1 / k1) / 2);
        sum[0].visible = s + fmax(1, few ? n / 3 - 1 : (1 + (n - 1) / 2) / 2);
    }
    sum[1].entering = 0;
    sum[1].visible = s + fmax(1, late);
}

/* k <= n: F(b-1) + n - b <= (b-1) n/k + n - b = b (n/k - 1) + n - n/k, which grows with b and falls with k; b = k: at most 2n - 1 - k. */
double stream_passes_most(const struct workload *w, const struct policy *low, const struct policy *high)
{
    double n = (double)w->gen_tokens, k1 = low->num_gpu_batches;
    double b = fmax(ceil((double)w->sequences / low->gpu_batch_size), high->num_gpu_batches);
    if (high->num_gpu_batches > w->gen_tokens)
        return n - 1;
    return w->sequences > 0 ? b * (n / k1 - 1) + n : 2 * n - k1;
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

/* In the steady state k batches are under way. The sum over them falls only when one leaves, so it is largest in the pass before an entry, when
 * somebody is at step n - 1 and who entered i batches later is floor((i n + r) / k) steps behind, for an r from 0 to k - 1. All are furthest
 * on for r = 0, which batch 0 sees. */
static int64_t pages_most(const struct workload *w, const struct policy *p)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < p->num_gpu_batches; i++)
        sum += pages_at(w, w->gen_tokens - 1 - stream_entry(w, p, i));
    return sum;
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
