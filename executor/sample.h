/* sample.h - choose the next token from logits: greedy, or seeded temperature / top-k / top-p. */
#ifndef BALLAST_EXECUTOR_SAMPLE_H
#define BALLAST_EXECUTOR_SAMPLE_H

#include <stdint.h>

#include "model/error.h"

struct sampling {
    double temperature; /* 0: greedy (first of equal maxima) */
    int top_k;          /* 0: off */
    double top_p;       /* 1: off; in (0, 1] */
    uint64_t seed;
};
void sampling_default(struct sampling *s); /* greedy, seed 0 */
enum status sampling_check(const struct sampling *s, struct error *err);

/* The draw depends only on (seed, sequence, position) and the logits, so that any placement and batch split gives the same
 * tokens. Order as in Hugging Face: temperature, then top-k, then top-p. `scratch` holds n * 8 bytes, aligned to 8. */
int32_t sample_token(const struct sampling *s, const float *logits, int64_t n, int64_t sequence, int64_t position, void *scratch);

#endif
