/* workload.h - what is asked of the model. */
#ifndef BALLAST_MODEL_WORKLOAD_H
#define BALLAST_MODEL_WORKLOAD_H

#include <stdint.h>

#include "model/error.h"

struct workload {
    int64_t prompt_tokens; /* s: every prompt is padded to this length */
    int64_t gen_tokens;    /* n >= 1: the first comes out of the prefill, n-1 decode steps follow */
    int64_t sequences;     /* to serve in all; 0: one block. Zig-zag and row run block after block, each as if alone */
};

enum status workload_check(const struct workload *w, int64_t max_positions, struct error *err);

#endif
