/* sample.cu - the next token from logits, step by step as executor/sample.c has it. One block of threads a row. */
#include "executor/cuda/device.cuh"
#include "executor/cuda/select.cuh"
#include "executor/draw.h"

/* The first of the largest logits: of the largest orders the smallest id. */
static __device__ int64_t first_maximum(const float *row, int64_t vocab)
{
    mass_t best = 0;
    for (int64_t i = threadIdx.x; i < vocab; i += SELECT_THREADS)
        best = larger()(best, (mass_t)float_order(row[i]) << 32 | (0xffffffffu - (uint32_t)i));
    return 0xffffffffu - (uint32_t)block_reduced<SELECT_THREADS>(best, larger());
}

static __device__ int64_t drawn(const struct sampling &how, const float *row, int64_t vocab, float max, int64_t sequence,
                                int64_t position)
{
    const auto order_of = [=](int64_t i) { return float_order(row[i]); };
    uint32_t least = 0; /* of what top-k keeps */
    mass_t left;
    if (how.top_k > 0 && how.top_k < vocab)
        least = order_reaching(
            vocab, order_of, [](int64_t) { return 1; }, (mass_t)how.top_k, &left);
    const auto weight_of = [=, t = how.temperature](int64_t i) -> mass_t {
        return order_of(i) >= least ? draw_weight(row[i], max, t) : 0;
    };
    uint32_t edge = 0; /* top-p keeps what is above it, and of those at it the ones up to `last`; no order is 0 */
    int64_t last = 0;
    if (how.top_p < 1) {
        edge = order_reaching(vocab, order_of, weight_of, draw_enough(how.top_p, mass_of_all(vocab, weight_of)), &left);
        last = element_exceeding(
            vocab, [=](int64_t i) { return order_of(i) == edge ? weight_of(i) : 0; }, left - 1);
    }
    const auto kept_of = [=](int64_t i) -> mass_t {
        const uint32_t order = order_of(i);
        return order > edge || (order == edge && i <= last) ? weight_of(i) : 0;
    };
    return element_exceeding(vocab, kept_of, draw_target(how.seed, sequence, position, mass_of_all(vocab, kept_of)));
}

__global__ void sample_kernel(struct sampling how, const float *logits, int64_t vocab, int64_t sequence, int64_t position,
                              int32_t *token)
{
    const float *row = logits + blockIdx.x * vocab;
    const int64_t first = first_maximum(row, vocab);
    const float max = row[first];
    const int64_t id =
        how.temperature == 0 || !isfinite(max) ? first : drawn(how, row, vocab, max, sequence + blockIdx.x, position);
    if (threadIdx.x == 0)
        token[blockIdx.x] = (int32_t)id;
}

int gpu_sample(gpu_stream s, const struct sampling *how, const float *logits, int64_t rows, int64_t vocab, int64_t sequence,
               int64_t position, int32_t *token)
{
    if (vocab < 1 || vocab >= DRAW_VOCAB_MAX)
        return cudaErrorInvalidValue;
    if (rows == 0)
        return 0;
    return launch(sample_kernel, dim3((unsigned)rows), dim3(SELECT_THREADS), s, *how, logits, vocab, sequence, position, token);
}
