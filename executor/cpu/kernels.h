/* kernels.h - the CPU's arithmetic: matrix products through oneDNN, our own attention, norms and 4-bit kernels.
 *
 * Every kernel exists as a readable scalar reference (reference.c, no intrinsics) and vectorised (AVX2, AVX-512, chosen at run
 * time by cpu_isa()); tests compare them. All hidden states are f32. No kernel allocates: scratch comes from the caller.
 * Work is split over a pool of our own threads; oneDNN runs single-threaded inside a task.
 */
#ifndef BALLAST_EXECUTOR_CPU_KERNELS_H
#define BALLAST_EXECUTOR_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/arch.h"
#include "model/error.h"
#include "model/format.h"

/* -- what this CPU can do ------------------------------------------------------------------------------------------- */
enum cpu_isa { ISA_SCALAR, ISA_AVX2, ISA_AVX512 };
enum cpu_isa cpu_isa(void);                    /* best available; BALLAST_ISA=scalar|avx2|avx512 in the environment lowers it */
void cpu_isa_force(enum cpu_isa isa);          /* tests: at most what the CPU has */
bool cpu_has_bf16(void);                       /* AVX-512 BF16 or AMX, so that bf16 products pay */
const char *cpu_describe(char *buf, size_t n); /* model name and "AVX-512 BF16 AMX", oneDNN version */

/* -- threads -------------------------------------------------------------------------------------------------------- */
struct pool;
/* `threads` >= 1 workers including the caller. Workers sleep between jobs (no spinning that would starve copy threads for more
 * than about 20 us), each bound to a CPU other than the caller's, unless the process may use fewer CPUs than threads. */
enum status pool_new(struct pool **out, int threads, struct error *err);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
/* Calls fn(arg, task, thread) for task = 0..tasks-1, dynamically spread; returns when all are done. */
void pool_run(struct pool *p, int tasks, void (*fn)(void *arg, int task, int thread), void *arg);

/* -- matrix products ------------------------------------------------------------------------------------------------ */
enum math { MATH_F32, MATH_BF16 }; /* operands of the products; accumulation is f32 */

/* Rows [row_begin, row_end) of a weight matrix (rows_total, cols) whose bytes start at `data` (row row_begin first). */
struct weight_rows {
    enum format format;
    const void *data; /* any alignment; a Q4 piece starts at a multiple of 64 rows */
    int64_t row_begin, row_end, cols;
};

/* Scratch that linear() needs: bytes, for up to `m` rows of x and `cols` columns. Deterministic formula (no query of the library),
 * so that a plan can count it: the bf16 copy of x (m, cols) plus per-thread panels and library scratch. */
int64_t linear_scratch_bytes(int threads, enum math math, int64_t m, int64_t cols);

/* y[i, r] = sum_c x[i, c] * W[r, c] (+ bias[r]), for r in [row_begin, row_end): y is (m, ldy) and its column r is written, so pieces of one
 * matrix fill their own columns. x is (m, cols) with leading dimension ldx. bias may be NULL and is indexed by r. relu applies max(0,.) after.
 * Weights are converted or dequantised a panel at a time in cache, never written out whole. For small m with Q4 weights the
 * product is computed straight from the packed form. Fails only if oneDNN does. */
enum status linear(struct pool *p, enum math math, const struct weight_rows *w, const float *bias, bool relu, const float *x,
                   int64_t ldx, int64_t m, float *y, int64_t ldy, void *scratch, struct error *err);

/* -- element-wise --------------------------------------------------------------------------------------------------- */
/* y = (x - mean) / sqrt(var + eps) * gain + bias over the last dimension; x, y (m, d), may alias. gain and bias may be NULL. */
void layer_norm(struct pool *p, const float *x, int64_t m, int64_t d, const float *gain, const float *bias, double eps, float *y);
void add_rows(struct pool *p, float *y, const float *x, int64_t n);        /* y += x */
void gelu_rows(struct pool *p, float *y, int64_t n);                       /* exact (erf) gelu in place */
void to_f32(enum format format, const void *src, int64_t n, float *dst);   /* F32, F16, BF16 */
void from_f32(enum format format, const float *src, int64_t n, void *dst); /* round to nearest even */

/* -- 4-bit compression ---------------------------------------------------------------------------------------------- */
/* Layouts as in model/format.h. q = round((x - min) / (max - min) * 15); x' = q * scale + min, scale = (max - min) / 15 as fp16. */
void q4_pack_matrix(const float *w, int64_t rows, int64_t cols, void *dst); /* w (rows, cols); rows may end in a partial block */
void q4_unpack_matrix(const void *src, int64_t rows, int64_t cols, float *w);
void q4_pack_vector(const float *x, int64_t n, void *dst);
void q4_unpack_vector(const void *src, int64_t n, float *x);

/* -- attention ------------------------------------------------------------------------------------------------------ */
/* The cache of some sequences of one layer: for token t (0-based, padding included) and sequence i the key vector (G*e elements in
 * `format`) is at base + t*token_stride + i*sequence_stride, the value vector value_offset bytes further. */
struct cache_view {
    enum format format; /* F32, F16 or Q4 */
    char *base;
    int64_t token_stride, sequence_stride, value_offset;
    /* Paged: row of token t is page[t / page_tokens] * page_tokens + t % page_tokens instead of t. NULL: not. */
    const int32_t *page;
    int64_t page_tokens;
};
/* The row of a token, in units of token_stride. */
static inline int64_t cache_row(const struct cache_view *c, int64_t token)
{
    return c->page ? c->page[token / c->page_tokens] * c->page_tokens + token % c->page_tokens : token;
}

/* Stores rows k, v (sequences, tokens, G*e; leading dimension ld floats between tokens, sequences*tokens rows) as tokens first..first+tokens-1. */
void cache_store(struct pool *p, const struct cache_view *c, int64_t sequences, int64_t first, int64_t tokens, int64_t width,
                 const float *k, const float *v, int64_t ld);

struct attention_shape {
    int64_t heads, kv_heads, head_dim; /* H, G, e */
    double scale;                      /* 1/sqrt(e) */
};
int64_t attention_scratch_bytes(int threads, const struct attention_shape *s); /* deterministic, for prefill and decode */

/* Causal attention of `tokens` queries per sequence over the cache's tokens pad[i] .. first + own index, streaming softmax, no
 * score matrix. q and out are (sequences, tokens, H*e) with leading dimension ld; out may be q. pad[i] is the number of left
 * padding tokens of sequence i (queries inside the padding give zeros). tokens == 1 is decode; both split over threads by sequence, head and,
 * when there are too few of them, by ranges of the cache merged with the rule of facts/architectures.md section 2.1. */
void attention(struct pool *p, const struct attention_shape *s, const struct cache_view *c, int64_t sequences, int64_t first,
               int64_t tokens, const int32_t *pad, const float *q, int64_t ld, float *out, void *scratch);

/* Reference: ref_sparse_attention; as attention() with tokens == 1. Scratch of the least size holds the scores of one sequence of at most `tokens`
 * tokens; with more, more sequences are worked on at once. */
int64_t sparse_attention_scratch_bytes(int threads, const struct attention_shape *s, int64_t tokens);
void sparse_attention(struct pool *p, const struct attention_shape *s, const struct cache_view *c, int64_t sequences,
                      int64_t first, double fraction, const int32_t *pad, const float *q, int64_t ld, float *out, void *scratch,
                      int64_t scratch_bytes);

/* -- the readable reference (reference.c): single-threaded, scalar, double accumulation, same contracts ----------------- */
void ref_linear(const struct weight_rows *w, const float *bias, bool relu, const float *x, int64_t ldx, int64_t m, float *y,
                int64_t ldy);
void ref_layer_norm(const float *x, int64_t m, int64_t d, const float *gain, const float *bias, double eps, float *y);
void ref_attention(const struct attention_shape *s, const struct cache_view *c, int64_t sequences, int64_t first, int64_t tokens,
                   const int32_t *pad, const float *q, int64_t ld, float *out);
/* FlexGen's sparse attention (facts/architectures.md section 3), of one new token a sequence: the softmax is over all visible tokens, but of
 * the values only the newest's and those of the sparse_kept(fraction, visible) largest scores before it are added, with their weights as
 * they are. Of equal scores the earlier tokens' count. */
void ref_sparse_attention(const struct attention_shape *s, const struct cache_view *c, int64_t sequences, int64_t first,
                          double fraction, const int32_t *pad, const float *q, int64_t ld, float *out);

#endif
