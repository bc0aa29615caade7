/* kernels.h - our CUDA kernels, as functions that start them on a stream. Readable from C.
 *
 * Each returns 0, or the cudaError_t of a launch that failed; results are there once the stream has come so far. Pointers are device
 * memory (or pinned host memory), shapes are row-major, "formats" are F32, F16 or BF16 unless said otherwise. Arithmetic is f32. The
 * reference beside each is in executor/cpu/kernels.h and says what is computed; tests/emu/test_cuda_kernels.c derives the bounds.
 */
#ifndef BALLAST_EXECUTOR_CUDA_KERNELS_H
#define BALLAST_EXECUTOR_CUDA_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "executor/sample.h"
#include "model/arch.h"
#include "model/format.h"

typedef struct CUstream_st *gpu_stream;

/* Reference: ref_layer_norm. y = norm(x) * gain + bias over the last dimension; x, y (m, d), y may be x if formats agree. gain and bias
 * (d) f32, both may be NULL. */
int gpu_norm(gpu_stream s, const void *x, enum format x_format, int64_t m, int64_t d, const float *gain, const float *bias,
             float epsilon, void *y, enum format y_format);

/* Reference: add_rows. h (m, d) += x (m, d) + bias (d) f32, which may be NULL. */
int gpu_add(gpu_stream s, void *h, enum format h_format, const void *x, enum format x_format, const float *bias, int64_t m,
            int64_t d);

/* Reference: layer_embed in executor/cpu/backend_cpu.c. Rows row .. row + count of a batch's hidden states (a row is token row % tokens of
 * sequence row / tokens) become their vectors plus their positions: h (count, d) = vector + positions[p + offset], where p is
 * first + token - pad[sequence], or -1 inside the padding. Vector i is d elements at vectors + i * stride bytes, aligned to its elements;
 * pad is (sequences of the batch), positions (max_positions + offset, d) f32; h is that of the first row written. Vectors that need a
 * projection first are projected into f32 rows and come as those. */
int gpu_embed(gpu_stream s, const void *vectors, int64_t stride, enum format format, int64_t row, int64_t count, int64_t tokens,
              int64_t first, const int32_t *pad, const float *positions, int64_t offset, int64_t d, void *h,
              enum format h_format);

/* x (m, d; leading dimension ld) f32 += bias (d). */
int gpu_bias(gpu_stream s, float *x, int64_t ld, const float *bias, int64_t m, int64_t d);

/* Reference: gelu_rows; relu as in ref_linear. x (m, d) = activation(x + bias), in place; bias (d) f32 may be NULL. */
int gpu_activate(gpu_stream s, void *x, enum format format, const float *bias, enum activation activation, int64_t m, int64_t d);

/* Reference: to_f32, from_f32. y (m, d; leading dimension ldy) = x (m, d; ldx) in another format; y may be x if all agree. */
int gpu_convert(gpu_stream s, const void *x, enum format x_format, int64_t ldx, int64_t m, int64_t d, void *y,
                enum format y_format, int64_t ldy);

/* y (n) = x (n), which is plain memory of the host and has been read on return. It travels as arguments of kernels, 960 of them a launch: a copy
 * out of memory that is not page-locked may wait for the stream. */
int gpu_put(gpu_stream s, int32_t *y, const int32_t *x, int64_t n);

/* y (n, bytes) = n rows, each at its address, in device memory or in the host's that is page-locked; addresses, y and bytes are even. Addresses travel
 * as gpu_put's numbers do, 480 a launch. */
int gpu_gather(gpu_stream s, void *y, const void *const *row, int64_t n, int64_t bytes);

/* Reference: ref_linear with FORMAT_Q4. y (m, ldy) of y_format, columns [0, rows) = x (m, cols; leading dimension ldx) fp16 times the
 * 4-bit matrix w (rows, cols), on the tensor cores: weights are unpacked to fp16 on their way there, as gpu_unpack_q4 has them, sums are
 * f32. m from 1 to GPU_PRODUCT_Q4_ROWS is what it is for; any m is right, and any w and x aligned to two bytes. Loads are wide where w and
 * x are aligned to 16 bytes, cols is a multiple of 64 and ldx of 8. */
#define GPU_PRODUCT_Q4_ROWS 64
int gpu_product_q4(gpu_stream s, const void *w, int64_t rows, int64_t cols, const void *x, int64_t ldx, int64_t m, void *y,
                   enum format y_format, int64_t ldy);

/* Reference: q4_unpack_matrix. y (rows, cols) in `format`, F32 or F16, = the 4-bit matrix w, rounded once; for products of more rows than
 * the one above is for, and in f32. Loads and stores are wide where w and y are aligned to 16 bytes and cols is a multiple of 8. */
int gpu_unpack_q4(gpu_stream s, const void *w, int64_t rows, int64_t cols, void *y, enum format format);

/* The cache of some sequences of one layer, as struct cache_view: F32, F16 or Q4. Attention reads it in loads of up to 16 bytes where base,
 * strides and value_offset are multiples of 16 and heads fill the loads (cache.cuh), and element by element elsewhere. */
struct gpu_cache {
    enum format format;
    char *base;
    int64_t token_stride, sequence_stride, value_offset; /* bytes */
    const int32_t *page;                                 /* in device memory; NULL: token t is in row t */
    int64_t page_tokens;
};

/* Reference: cache_store. Rows k, v (sequences * tokens, width; leading dimension ld) become tokens first.. of the cache. */
int gpu_cache_store(gpu_stream s, const struct gpu_cache *c, int64_t sequences, int64_t first, int64_t tokens, int64_t width,
                    const void *k, const void *v, enum format format, int64_t ld);

struct gpu_heads {
    int heads, kv_heads, head_dim; /* head_dim at most GPU_HEAD_DIM_MAX */
    float scale;
};
#define GPU_HEAD_DIM_MAX 256

/* Reference: ref_attention. Query t of sequence i attends to tokens pad[i] .. first + t. q and out are (sequences, tokens, heads *
 * head_dim) with leading dimension ld, f32; out may be q. The visible tokens are cut into `splits` ranges that are attended to on their own;
 * with splits > 1, scratch holds gpu_attention_scratch_bytes and the parts (m, l, o) are merged by
 *     m = max m_j,  l = sum l_j exp(m_j - m),  o = sum o_j exp(m_j - m) / l. */
int gpu_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                  int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out, int splits, float *scratch);
int64_t gpu_attention_scratch_bytes(const struct gpu_heads *h, int64_t sequences, int64_t tokens, int splits);
/* Enough blocks to fill a device of so many multiprocessors, none of them with less than 256 of the visible tokens. */
int gpu_attention_splits(const struct gpu_heads *h, int processors, int64_t queries, int64_t visible);

/* As gpu_attention, on the tensor cores: queries, keys, weights and values are rounded to fp16, sums are f32. For prompts; a warp takes 16
 * queries, however few there are. */
int gpu_prefill_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                          int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out);

/* Reference: ref_sparse_attention. One query a sequence, as gpu_attention with tokens = 1; scratch holds
 * gpu_sparse_attention_scratch_bytes, for any number of splits: the keys are scored in so many ranges. Equal scores are a matter of f32 here. */
int gpu_sparse_attention(gpu_stream s, const struct gpu_heads *h, const struct gpu_cache *c, int64_t sequences, int64_t first,
                         double fraction, const int32_t *pad, const float *q, int64_t ld, float *out, int splits, float *scratch);
int64_t gpu_sparse_attention_scratch_bytes(const struct gpu_heads *h, int64_t sequences, int64_t first);

/* Reference: sample_token, whose tokens these are, bit for bit. token[i] is the choice from row i of logits (rows, vocab) for sequence
 * `sequence` + i at `position`; vocab is below DRAW_VOCAB_MAX. */
int gpu_sample(gpu_stream s, const struct sampling *how, const float *logits, int64_t rows, int64_t vocab, int64_t sequence,
               int64_t position, int32_t *token);

#ifdef __cplusplus
}
#endif
#endif
