/* sample.c - the next token from logits, in the arithmetic of draw.h.
 *
 * Greedy is the first of equal maxima. A draw gives every token a weight, in `scratch`:
 *   temperature divides the logits; it does not change their order, so it enters only the weights exp((l - max) / temperature);
 *   top-k keeps every token whose logit is at least the k-th largest one (ties with the k-th stay, as in the reference);
 *   top-p keeps the shortest run of the most probable tokens (equal ones by rising id) whose probability reaches top_p;
 *   the others' weights become 0, and the draw falls on the first token at which the sum of weights by id exceeds it.
 *
 * Logits that are not numbers never win: NaN counts as minus infinity. A logit of plus infinity is certain: the first one is
 * taken. If every logit is minus infinity or NaN, the answer is token 0.
 */
#include "executor/sample.h"
#include "executor/draw.h"

#include <assert.h>
#include <math.h>

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

/* The largest order for which the tokens from it on up weigh at least `enough`, byte by byte from the top: four passes, whatever the
 * values. weight NULL: every token weighs 1. *left is what the tokens above that order leave of enough. */
static uint32_t order_reaching(const float *logits, const uint64_t *weight, int64_t n, uint64_t enough, uint64_t *left)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint64_t sum[256] = {0};
        for (int64_t i = 0; i < n; i++) {
            const uint32_t order = float_order(logits[i]);
            const uint64_t w = weight ? weight[i] : 1;
            sum[order >> shift & 0xFF] += (order & mask) == prefix ? w : 0;
        }
        uint32_t byte = 255;
        while (enough > sum[byte]) {
            enough -= sum[byte--];
        }
        prefix |= byte << shift;
        mask |= 0xFFu << shift;
    }
    *left = enough;
    return prefix;
}

static uint64_t total(const uint64_t *weight, int64_t n)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += weight[i];
    }
    return sum;
}

static void keep_top_p(const float *logits, uint64_t *weight, int64_t n, double top_p)
{
    uint64_t left;
    const uint32_t least = order_reaching(logits, weight, n, draw_enough(top_p, total(weight, n)), &left);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t order = float_order(logits[i]);
        if (order < least || (order == least && left == 0)) {
            weight[i] = 0;
        } else if (order == least) {
            left -= weight[i] < left ? weight[i] : left;
        }
    }
}

int32_t sample_token(const struct sampling *s, const float *logits, int64_t n, int64_t sequence, int64_t position, void *scratch)
{
    assert(n > 0 && n < DRAW_VOCAB_MAX);
    float max;
    const int32_t first = first_maximum(logits, n, &max);
    if (s->temperature == 0 || isinf(max)) {
        return first;
    }
    uint64_t *weight = scratch, left;
    const uint32_t least = s->top_k > 0 && s->top_k < n ? order_reaching(logits, NULL, n, (uint64_t)s->top_k, &left) : 0;
    for (int64_t i = 0; i < n; i++) {
        weight[i] = float_order(logits[i]) >= least ? draw_weight(logits[i], max, s->temperature) : 0;
    }
    if (s->top_p < 1) {
        keep_top_p(logits, weight, n, s->top_p);
    }
    uint64_t target = draw_target(s->seed, sequence, position, total(weight, n));
    int64_t id = 0;
    while (target >= weight[id]) {
        target -= weight[id++];
    }
    return (int32_t)id;
}
