/* sample.c - the next token from logits.
 *
 * Greedy is the first of equal maxima. A draw goes through candidates, (logit, id) pairs in `scratch`:
 *   temperature divides the logits; it does not change their order, so it enters only the weights exp((l - max) / temperature);
 *   top-k keeps every token whose logit is at least the k-th largest one (ties with the k-th stay, as in the reference);
 *   top-p keeps the shortest run of the most probable tokens (equal ones by rising id) whose probability reaches top_p.
 *
 * Logits that are not numbers never win: NaN counts as minus infinity. A logit of plus infinity is certain: the first one is
 * taken. If every logit is minus infinity or NaN, the answer is token 0.
 */
#include "executor/sample.h"
#include "model/mix.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct candidate {
    float logit;
    int32_t id;
};
_Static_assert(sizeof(struct candidate) == 8, "scratch is documented as n * 8 bytes");

void sampling_default(struct sampling *s)
{
    *s = (struct sampling){.temperature = 0, .top_k = 0, .top_p = 1, .seed = 0};
}

enum status sampling_check(const struct sampling *s, struct error *err)
{
    if (!isfinite(s->temperature) || s->temperature < 0) {
        return error_set(err, STATUS_INVALID, "temperature: expected 0 (greedy) or more, found %g", s->temperature);
    }
    if (s->top_k < 0) {
        return error_set(err, STATUS_INVALID, "top_k: expected 0 (off) or more, found %d", s->top_k);
    }
    if (!(s->top_p > 0 && s->top_p <= 1)) {
        return error_set(err, STATUS_INVALID, "top_p: expected more than 0 and at most 1 (off), found %g", s->top_p);
    }
    return STATUS_OK;
}

static float clean(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

/* No comparison with NaN is true, so NaN loses to everything. */
static int32_t first_maximum(const float *logits, int64_t n, float *max)
{
    int64_t at = 0;
    *max = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (logits[i] > *max) {
            *max = logits[i];
            at = i;
        }
    }
    return (int32_t)at;
}

/* ---- the draw: a hash of the place, not a stream, so that no order of work can change it ---- */

/* Uniform in [0, 1), a multiple of 2^-53. */
static double draw(uint64_t seed, int64_t sequence, int64_t position)
{
    const uint64_t x = mix_hash(mix_hash(mix_hash(seed) ^ (uint64_t)sequence) ^ (uint64_t)position);
    return (double)(x >> 11) * 0x1p-53;
}

/* ---- top-k ---- */

/* Floats as unsigned numbers in the same order; both zeros are one. */
static uint32_t order_of(float logit)
{
    uint32_t bits;
    logit += 0.0f; /* -0 becomes +0 */
    memcpy(&bits, &logit, sizeof bits);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/* The k-th largest order among the candidates, byte by byte from the top: four passes, whatever the values. */
static uint32_t kth_order(const struct candidate *c, int64_t n, int64_t k)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int64_t count[256] = {0};
        for (int64_t i = 0; i < n; i++) {
            const uint32_t order = order_of(c[i].logit);
            count[order >> shift & 0xFF] += (order & mask) == prefix;
        }
        uint32_t byte = 255;
        while (k > count[byte]) {
            k -= count[byte--];
        }
        prefix |= byte << shift;
        mask |= 0xFFu << shift;
    }
    return prefix;
}

/* Returns how many candidates stay, in order of id. */
static int64_t keep_top_k(struct candidate *c, int64_t n, int64_t k)
{
    const uint32_t least = kth_order(c, n, k);
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (order_of(c[i].logit) >= least) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

/* ---- top-p ---- */

static bool before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct candidate *heap, int64_t n, int64_t i)
{
    const struct candidate moved = heap[i];
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        child += child + 1 < n && before(heap[child + 1], heap[child]);
        if (!before(heap[child], moved)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static double weight(struct candidate c, float max, double temperature)
{
    return exp(((double)c.logit - max) / temperature);
}

static double sum_of_weights(const struct candidate *c, int64_t n, float max, double temperature)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += weight(c[i], max, temperature);
    }
    return sum;
}

/* The m best candidates are moved to the end of the n, best last; returns m. A heap makes it O(n + m log n): m is small when the
 * model is sure. */
static int64_t keep_top_p(struct candidate *c, int64_t n, double top_p, float max, double temperature)
{
    const double enough = top_p * sum_of_weights(c, n, max, temperature);
    for (int64_t i = n / 2 - 1; i >= 0; i--) {
        sift_down(c, n, i);
    }
    double reached = 0;
    int64_t kept = 0;
    while (kept < n && reached < enough) { /* enough is above 0: one at least */
        const struct candidate best = c[0];
        const int64_t last = n - 1 - kept++;
        c[0] = c[last];
        c[last] = best;
        sift_down(c, last, 0);
        reached += weight(best, max, temperature);
    }
    return kept;
}

/* ---- the choice ---- */

static int32_t choose(const struct candidate *c, int64_t n, double u, float max, double temperature)
{
    const double target = u * sum_of_weights(c, n, max, temperature);
    double reached = 0;
    int32_t last = c[0].id; /* the last one of any weight, should rounding keep the sum below the target */
    for (int64_t i = 0; i < n; i++) {
        const double w = weight(c[i], max, temperature);
        reached += w;
        if (target < reached) {
            return c[i].id;
        }
        last = w > 0 ? c[i].id : last;
    }
    return last;
}

int32_t sample_token(const struct sampling *s, const float *logits, int64_t n, int64_t sequence, int64_t position, void *scratch)
{
    assert(n > 0);
    float max;
    const int32_t first = first_maximum(logits, n, &max);
    if (s->temperature == 0 || isinf(max)) {
        return first;
    }
    struct candidate *c = scratch;
    for (int64_t i = 0; i < n; i++) {
        c[i] = (struct candidate){.logit = clean(logits[i]), .id = (int32_t)i};
    }
    int64_t kept = s->top_k > 0 && s->top_k < n ? keep_top_k(c, n, s->top_k) : n;
    if (s->top_p < 1) {
        const int64_t best = keep_top_p(c, kept, s->top_p, max, s->temperature);
        c += kept - best;
        kept = best;
    }
    return choose(c, kept, draw(s->seed, sequence, position), max, s->temperature);
}
