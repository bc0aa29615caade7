/* backend_cuda.cu - the layers of a decoder on a GPU, in terms of kernels.h and blas.h.
 *
 * Everything of an operation goes to the compute queue's stream in order, and no function waits for it: the next operation's may be queued behind. So
 * all that the host hands over but for copies from and to pinned memory goes as arguments. Each link has a stream of its own. What a product multiplies is made in the format of its weights, or f32 where the unit's math says so, by the product
 * before it if there is nothing else between them; other intermediate results are f32. Like the CPU's, the unit works on as many rows at a time as its workspace holds; a sequence of more is cut by tokens.
 */
#include <algorithm>
#include <cmath>
#include <cstring>

#include "executor/cuda/blas.h"
#include "executor/cuda/check.cuh"
#include "executor/cuda/kernels.h"
#include "executor/cuda/staging.h"

extern "C" {
#include "executor/backend_table.h"
#include "model/device_rows.h"
}

enum { ALIGN = 256 };

#define TRY(call)                                                                                                                \
    do {                                                                                                                         \
        const enum status try_status = (call);                                                                                   \
        if (try_status != STATUS_OK)                                                                                             \
            return try_status;                                                                                                   \
    } while (0)
#define GPU(call) TRY(GPU_TRY(err, call))

struct backend_state {
    const struct arch *a;
    enum format cache, hidden; /* as they are kept */
    bool f32;                  /* products multiply f32 */
    bool bf16;                 /* the device multiplies it, since Ampere */
    cudaStream_t stream[RESOURCES_MAX];
    cudaEvent_t done[RESOURCES_MAX][2];
    cudaStream_t compute; /* one of them */
    struct blas *blas;
    struct staging staging;
    struct gpu_heads heads;
    double sparsity;
    int processors;
    int64_t q_width, kv_width, qkv_width;
    int64_t rows;  /* at a time: of each of the next three as device_rows.h has it */
    char *operand; /* of what is multiplied */
    float *inner;  /* q, k, v or the MLP's inner rows; token vectors */
    float *out;    /* the layer's output */
    char *scratch; /* pads and pages of the operation's batch; behind them converted weights, or parts of attention */
    int64_t scratch_bytes, used;
    int32_t *pad, *page; /* in the scratch */
};

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static enum status device_take(int64_t bytes, void **base, struct error *err)
{
    const cudaError_t e = cudaMalloc(base, (size_t)bytes);
    size_t left = 0, all = 0;
    if (e != cudaErrorMemoryAllocation)
        return gpu_try(err, e, "cudaMalloc", __FILE__, __LINE__);
    cudaGetLastError(); /* said here */
    cudaMemGetInfo(&left, &all);
    return error_set(err, STATUS_DOES_NOT_FIT,
                     "cudaMalloc of %lld bytes: out of memory: %lld of the device's %lld bytes are free", (long long)bytes,
                     (long long)left, (long long)all);
}

static void device_give(void *base)
{
    cudaFree(base);
}

static enum status host_take(int64_t bytes, void **base, struct error *err)
{
    const cudaError_t e = cudaHostAlloc(base, (size_t)bytes, cudaHostAllocPortable);
    if (e != cudaErrorMemoryAllocation)
        return gpu_try(err, e, "cudaHostAlloc", __FILE__, __LINE__);
    cudaGetLastError();
    return error_set(err, STATUS_DOES_NOT_FIT, "cudaHostAlloc of %lld bytes: out of memory that can be pinned", (long long)bytes);
}

static void host_give(void *base)
{
    cudaFreeHost(base);
}

static void backend_close(struct backend_state *b)
{
    for (int i = 0; b && i < RESOURCES_MAX; i++) {
        if (b->stream[i])
            cudaStreamSynchronize(b->stream[i]); /* after a failure it may still be at work */
        for (int k = 0; k < 2; k++)
            if (b->done[i][k])
                cudaEventDestroy(b->done[i][k]);
    }
    if (b) {
        blas_close(b->blas);
        staging_close(&b->staging);
    }
    for (int i = 0; b && i < RESOURCES_MAX; i++)
        if (b->stream[i])
            cudaStreamDestroy(b->stream[i]);
    delete b;
}

static int64_t element_bytes(enum format format)
{
    return format_matrix_bytes(format, 1, 1);
}

static int64_t aligned(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* What a product multiplies. */
static enum format operand_format(const struct backend_state *b, enum format weights)
{
    if (b->f32 || (weights == FORMAT_BF16 && !b->bf16))
        return FORMAT_F32;
    return weights == FORMAT_Q4 ? FORMAT_F16 : weights;
}

/* Divides the workspace: rows first, the rest is scratch, of which cuBLAS has a part. */
static enum status divide(struct backend_state *b, const struct backend_options *o, int64_t *blas_bytes, struct error *err)
{
    const struct arch *a = o->arch;
    const int64_t widest = std::max(std::max(a->hidden, a->ffn), std::max(b->q_width, a->embed_width));
    const struct device_rows one = device_rows_of(a, element_bytes(operand_format(b, a->weight_format)));
    const int64_t row = one.operand + one.inner + one.out;
    b->rows = std::min(o->rows, (o->workspace_bytes - o->unit->workspace_bytes) / row);
    const int64_t operand = aligned(b->rows * one.operand), inner = aligned(b->rows * one.inner),
                  out = aligned(b->rows * one.out);
    b->operand = static_cast<char *>(o->workspace);
    b->inner = reinterpret_cast<float *>(b->operand + operand);
    b->out = reinterpret_cast<float *>(b->operand + operand + inner);
    b->scratch = b->operand + operand + inner + out;
    b->scratch_bytes = (o->workspace_bytes - operand - inner - out) / ALIGN * ALIGN;
    *blas_bytes = std::max(b->scratch_bytes / 4 / ALIGN * ALIGN, (int64_t)BLAS_WORKSPACE_LEAST);
    b->scratch_bytes -= *blas_bytes;
    /* weights are converted at least 64 rows at a time */
    const int64_t need = aligned(Q4_GROUP * widest * 4) + 64 * ALIGN;
    if (b->rows < 1 || b->scratch_bytes < need)
        return error_set(err, STATUS_INVALID,
                         "compute '%s': a workspace of %lld bytes is too small for the kernels: a row takes %lld, scratch %lld",
                         o->unit->name, (long long)o->workspace_bytes, (long long)row,
                         (long long)(need + std::max(need / 3 + ALIGN, (int64_t)BLAS_WORKSPACE_LEAST)));
    return STATUS_OK;
}

static enum status make_streams(struct backend_state *b, struct error *err)
{
    for (int i = 0; i < RESOURCES_MAX; i++) {
        GPU(cudaStreamCreateWithFlags(&b->stream[i], cudaStreamNonBlocking));
        for (int k = 0; k < 2; k++)
            GPU(cudaEventCreateWithFlags(&b->done[i][k], cudaEventDisableTiming | cudaEventBlockingSync));
    }
    return STATUS_OK;
}

static enum status open_all(struct backend_state *b, const struct backend_options *o, struct error *err)
{
    int64_t blas_bytes = 0;
    int major;
    GPU(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    b->bf16 = major >= 8;
    TRY(divide(b, o, &blas_bytes, err));
    TRY(make_streams(b, err));
    b->compute = b->stream[o->queue];
    GPU(cudaDeviceGetAttribute(&b->processors, cudaDevAttrMultiProcessorCount, 0));
    if (o->upload_bytes > 0)
        TRY(staging_open(&b->staging, o->upload, o->upload_bytes, err));
    return blas_open(&b->blas, b->compute, b->scratch + b->scratch_bytes, blas_bytes, err);
}

static enum status backend_open(struct backend_state **out, const struct backend_options *o, struct error *err)
{
    const struct arch *a = o->arch;
    *out = nullptr;
    if (a->head_dim > GPU_HEAD_DIM_MAX)
        return error_set(err, STATUS_INVALID, "compute '%s': heads of %lld elements, expected at most %d", o->unit->name,
                         (long long)a->head_dim, GPU_HEAD_DIM_MAX);
    struct backend_state *b = new backend_state();
    b->a = a;
    b->cache = o->cache;
    b->hidden = o->unit->activation;
    b->sparsity = o->attention_sparsity;
    b->f32 = strcmp(o->unit->math, "f32") == 0;
    b->heads = {(int)a->heads, (int)a->kv_heads, (int)a->head_dim, (float)(1 / sqrt((double)a->head_dim))};
    b->q_width = a->heads * a->head_dim;
    b->kv_width = a->kv_heads * a->head_dim;
    b->qkv_width = b->q_width + 2 * b->kv_width;
    const enum status s = open_all(b, o, err);
    if (s == STATUS_OK)
        *out = b;
    else
        backend_close(b);
    return s;
}

/* -- moving ----------------------------------------------------------------------------------------------------------- */

static enum status copy(struct backend_state *b, int queue, void *dst, const void *src, int64_t rows, int64_t bytes,
                        int64_t stride, struct error *err)
{
    if (rows == 1)
        return GPU_TRY(err, cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDefault, b->stream[queue]));
    return GPU_TRY(err, cudaMemcpy2DAsync(dst, (size_t)stride, src, (size_t)stride, (size_t)bytes, (size_t)rows,
                                          cudaMemcpyDefault, b->stream[queue]));
}

static enum status copy_pageable(struct backend_state *b, int queue, void *dst, const void *src, int64_t bytes, struct error *err)
{
    return staging_copy(&b->staging, b->stream[queue], dst, src, bytes, err);
}

static enum status mark(struct backend_state *b, int queue, int number, struct error *err)
{
    return GPU_TRY(err, cudaEventRecord(b->done[queue][number], b->stream[queue]));
}

static enum status wait(struct backend_state *b, int queue, int number, struct error *err)
{
    return GPU_TRY(err, cudaEventSynchronize(b->done[queue][number]));
}

/* -- an operation ----------------------------------------------------------------------------------------------------- */

static enum status upload(struct backend_state *b, const int32_t *from, int64_t n, int32_t **to, struct error *err)
{
    const int64_t bytes = aligned(n * (int64_t)sizeof *from);
    if (bytes > b->scratch_bytes - b->used)
        return error_set(err, STATUS_INVALID, "the workspace has no room for %lld bytes of padding and pages", (long long)bytes);
    *to = reinterpret_cast<int32_t *>(b->scratch + b->used);
    b->used += bytes;
    return GPU_TRY(err, gpu_put(b->compute, *to, from, n));
}

/* What kernels need to know of the batch goes into the scratch. */
static enum status begin_operation(struct backend_state *b, const struct batch *batch, struct error *err)
{
    b->used = 0;
    b->page = nullptr;
    TRY(upload(b, batch->pad, batch->sequences, &b->pad, err));
    for (int i = 0; i < batch->n_cache; i++) { /* the same table for all segments that are in pages */
        const struct cache_segment *seg = &batch->cache[i];
        if (seg->page && !b->page)
            TRY(upload(b, seg->page, (batch->first + batch->tokens + seg->page_tokens - 1) / seg->page_tokens, &b->page, err));
    }
    return STATUS_OK;
}

/* What is computed at a time: new tokens [from, to) of sequences [begin, end), several sequences only with all their tokens. */
struct tile {
    int begin, end;
    int64_t from, to;
};

static int64_t tile_rows(const struct tile *t)
{
    return (t->end - t->begin) * (t->to - t->from);
}

static struct tile tile_at(const struct backend_state *b, const struct batch *batch, int sequence, int64_t token)
{
    const int64_t whole = b->rows / batch->tokens;
    if (whole == 0)
        return {sequence, sequence + 1, token, std::min(token + b->rows, batch->tokens)};
    return {sequence, (int)std::min((int64_t)batch->sequences, sequence + whole), 0, batch->tokens};
}

static struct tile first_tile(const struct backend_state *b, const struct batch *batch)
{
    return tile_at(b, batch, 0, 0);
}

static bool next_tile(const struct backend_state *b, const struct batch *batch, struct tile *t)
{
    const bool more = t->to < batch->tokens;
    if (!more && t->end == batch->sequences)
        return false;
    *t = more ? tile_at(b, batch, t->begin, t->to) : tile_at(b, batch, t->end, 0);
    return true;
}

/* -- products --------------------------------------------------------------------------------------------------------- */

/* y (m, ldy) of format yf, f32 or xf: columns [0, rows) = x (m, cols; ldx) of format xf times w (rows, cols) of any format. */
static enum status multiply(struct backend_state *b, enum format format, const char *w, int64_t rows, int64_t cols, const void *x,
                            enum format xf, int64_t ldx, int64_t m, char *y, enum format yf, int64_t ldy, struct error *err)
{
    if (format == xf)
        return blas_product(b->blas, format, w, rows, cols, x, ldx, m, y, yf, ldy, err);
    if (format == FORMAT_Q4 && xf == FORMAT_F16 && m <= GPU_PRODUCT_Q4_ROWS)
        return GPU_TRY(err, gpu_product_q4(b->compute, w, rows, cols, x, ldx, m, y, yf, ldy));
    const int64_t step = (b->scratch_bytes - b->used) / (cols * element_bytes(xf)) / Q4_GROUP * Q4_GROUP;
    char *converted = b->scratch + b->used;
    if (step == 0)
        return error_set(err, STATUS_INVALID, "the workspace has no room for %d rows of %lld weights", Q4_GROUP, (long long)cols);
    for (int64_t at = 0; at < rows; at += step) {
        const int64_t n = std::min(step, rows - at);
        const char *from = w + format_matrix_bytes(format, at, cols);
        if (format == FORMAT_Q4)
            GPU(gpu_unpack_q4(b->compute, from, n, cols, converted, xf));
        else
            GPU(gpu_convert(b->compute, from, format, cols, n, cols, converted, xf, cols));
        TRY(blas_product(b->blas, xf, converted, n, cols, x, ldx, m, y + at * element_bytes(yf), yf, ldy, err));
    }
    return STATUS_OK;
}

/* y (m, ldy) of format yf, f32 or the operands', = x times the matrix of `role`, all its pieces, without its bias. */
static enum status product_in(struct backend_state *b, const struct layer_weights *w, enum tensor_role role, const void *x,
                              int64_t ldx, int64_t m, void *y, enum format yf, int64_t ldy, struct error *err)
{
    const struct tensor *t = layer_tensor(w->layer, role);
    for (int i = 0; i < w->n_pieces[role]; i++) {
        const struct matrix_piece *p = &w->piece[role][i];
        TRY(multiply(b, w->format, static_cast<const char *>(p->data), p->row_end - p->row_begin, t->cols, x,
                     operand_format(b, w->format), ldx, m,
                     static_cast<char *>(y) + (p->row_begin - t->row_begin) * element_bytes(yf), yf, ldy, err));
    }
    return STATUS_OK;
}

static enum status product(struct backend_state *b, const struct layer_weights *w, enum tensor_role role, const void *x,
                           int64_t ldx, int64_t m, float *y, int64_t ldy, struct error *err)
{
    return product_in(b, w, role, x, ldx, m, y, FORMAT_F32, ldy, err);
}

/* f32 rows (m, d; ld) as what `weights` are multiplied with: themselves, or their copy in the operand rows. */
static enum status as_operand(struct backend_state *b, enum format weights, const float *x, int64_t ld, int64_t m, int64_t d,
                              const void **operand, int64_t *operand_ld, struct error *err)
{
    const enum format format = operand_format(b, weights);
    *operand = x;
    *operand_ld = ld;
    if (format == FORMAT_F32)
        return STATUS_OK;
    *operand = b->operand;
    *operand_ld = d;
    return GPU_TRY(err, gpu_convert(b->compute, x, FORMAT_F32, ld, m, d, b->operand, format, d));
}

/* -- hidden states ---------------------------------------------------------------------------------------------------- */

/* The part of a hidden segment that is in a tile: `rows` rows at h, and where they are among the tile's. */
struct hidden_part {
    char *h;
    int64_t rows, at;
};

static bool part_of(const struct backend_state *b, const struct batch *batch, const struct tile *t, int segment,
                    struct hidden_part *out)
{
    const struct hidden_segment *seg = &batch->hidden[segment];
    const int from = std::max(t->begin, seg->begin), to = std::min(t->end, seg->begin + seg->count);
    const int64_t tokens = t->to - t->from;
    if (from >= to)
        return false;
    *out = {static_cast<char *>(seg->data) +
                ((from - seg->begin) * batch->tokens + t->from) * b->a->hidden * element_bytes(b->hidden),
            (to - from) * tokens, (from - t->begin) * tokens};
    return true;
}

/* The layer's input, normed if the norm comes first, as operand for its products. */
static enum status gather(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, const struct tile *t,
                          struct error *err)
{
    const enum format format = operand_format(b, w->format);
    const int64_t d = b->a->hidden;
    struct hidden_part p;
    for (int i = 0; i < batch->n_hidden; i++) {
        if (!part_of(b, batch, t, i, &p))
            continue;
        char *x = b->operand + p.at * d * element_bytes(format);
        if (b->a->norm_before)
            GPU(gpu_norm(b->compute, p.h, b->hidden, p.rows, d, w->resident[ROLE_NORM_GAIN], w->resident[ROLE_NORM_BIAS],
                         (float)b->a->norm_epsilon, x, format));
        else
            GPU(gpu_convert(b->compute, p.h, b->hidden, d, p.rows, d, x, format, d));
    }
    return STATUS_OK;
}

/* Adds the layer's output and its last bias, and norms if the norm comes last. */
static enum status scatter(struct backend_state *b, const struct layer_weights *w, const struct batch *batch,
                           const struct tile *t, enum tensor_role bias, struct error *err)
{
    const int64_t d = b->a->hidden;
    struct hidden_part p;
    for (int i = 0; i < batch->n_hidden; i++) {
        if (!part_of(b, batch, t, i, &p))
            continue;
        GPU(gpu_add(b->compute, p.h, b->hidden, b->out + p.at * d, FORMAT_F32, w->resident[bias], p.rows, d));
        if (!b->a->norm_before)
            GPU(gpu_norm(b->compute, p.h, b->hidden, p.rows, d, w->resident[ROLE_NORM_GAIN], w->resident[ROLE_NORM_BIAS],
                         (float)b->a->norm_epsilon, p.h, b->hidden));
    }
    return STATUS_OK;
}

/* -- attention -------------------------------------------------------------------------------------------------------- */

/* Queries, keys and values (m, qkv_width) of the operand rows. */
static enum status project_qkv(struct backend_state *b, const struct layer_weights *w, int64_t m, float *qkv, struct error *err)
{
    const struct {
        enum tensor_role role, bias;
        int64_t at, width;
    } parts[] = {{ROLE_Q, ROLE_Q_BIAS, 0, b->q_width},
                 {ROLE_K, ROLE_K_BIAS, b->q_width, b->kv_width},
                 {ROLE_V, ROLE_V_BIAS, b->q_width + b->kv_width, b->kv_width}};
    for (const auto &p : parts) {
        TRY(product(b, w, p.role, b->operand, b->a->hidden, m, qkv + p.at, b->qkv_width, err));
        if (w->resident[p.bias])
            GPU(gpu_bias(b->compute, qkv + p.at, b->qkv_width, w->resident[p.bias], m, p.width));
    }
    return STATUS_OK;
}

/* One, if there is no room for the parts of more. */
static int splits_for(const struct backend_state *b, int64_t sequences, int64_t tokens, int64_t visible)
{
    const int splits = gpu_attention_splits(&b->heads, b->processors, sequences * tokens, visible);
    const bool room = gpu_attention_scratch_bytes(&b->heads, sequences, tokens, splits) <= b->scratch_bytes - b->used;
    return room ? splits : 1;
}

/* As many sequences at a time as there is room for the scores of. */
static enum status attend_sparsely(struct backend_state *b, const struct gpu_cache *c, int64_t sequences, int64_t first,
                                   const int32_t *pad, float *q, struct error *err)
{
    const int64_t room = b->scratch_bytes - b->used, one = gpu_sparse_attention_scratch_bytes(&b->heads, 1, first);
    const int64_t step = room / one;
    struct gpu_cache part = *c;
    if (step == 0)
        return error_set(err, STATUS_INVALID, "the workspace has no room for %lld bytes of one sequence's scores",
                         (long long)one);
    for (int64_t i = 0; i < sequences; i += step) {
        const int64_t n = std::min(step, sequences - i);
        part.base = c->base + i * c->sequence_stride;
        GPU(gpu_sparse_attention(b->compute, &b->heads, &part, n, first, b->sparsity, pad + i, q + i * b->qkv_width, b->qkv_width,
                                 q + i * b->qkv_width, gpu_attention_splits(&b->heads, b->processors, n, first + 1),
                                 reinterpret_cast<float *>(b->scratch + b->used)));
    }
    return STATUS_OK;
}

/* Stores the new keys and values of the tile's sequences whose cache the batch has, and attends; results replace the queries. */
static enum status attend_segments(struct backend_state *b, const struct batch *batch, const struct tile *t, float *qkv,
                                   struct error *err)
{
    const int64_t vector = format_vector_bytes(b->cache, b->kv_width), first = batch->first + t->from, tokens = t->to - t->from;
    for (int i = 0; i < batch->n_cache; i++) {
        const struct cache_segment *seg = &batch->cache[i];
        const int from = std::max(t->begin, seg->begin), n = std::min(t->end, seg->begin + seg->count) - from;
        if (n <= 0)
            continue;
        const struct gpu_cache c = {b->cache,
                                    seg->base + (from - seg->begin) * 2 * vector,
                                    seg->token_stride,
                                    2 * vector,
                                    vector,
                                    seg->page ? b->page : nullptr,
                                    seg->page_tokens};
        float *q = qkv + (from - t->begin) * tokens * b->qkv_width, *k = q + b->q_width, *v = k + b->kv_width;
        GPU(gpu_cache_store(b->compute, &c, n, first, tokens, b->kv_width, k, v, FORMAT_F32, b->qkv_width));
        if (b->sparsity < 1 && batch->tokens == 1)
            TRY(attend_sparsely(b, &c, n, first, b->pad + from, q, err));
        else if (tokens > 1 && !b->f32)
            GPU(gpu_prefill_attention(b->compute, &b->heads, &c, n, first, tokens, b->pad + from, q, b->qkv_width, q));
        else
            GPU(gpu_attention(b->compute, &b->heads, &c, n, first, tokens, b->pad + from, q, b->qkv_width, q,
                              splits_for(b, n, tokens, first + tokens), reinterpret_cast<float *>(b->scratch + b->used)));
    }
    return STATUS_OK;
}

static enum status project_out(struct backend_state *b, const struct layer_weights *w, int64_t m, const float *qkv,
                               struct error *err)
{
    const void *x;
    int64_t ld;
    TRY(as_operand(b, w->format, qkv, b->qkv_width, m, b->q_width, &x, &ld, err));
    return product(b, w, ROLE_O, x, ld, m, b->out, b->a->hidden, err);
}

static enum status layer_attention(struct backend_state *b, const struct layer_weights *w, const struct batch *batch,
                                   struct error *err)
{
    struct tile t = first_tile(b, batch);
    TRY(begin_operation(b, batch, err));
    do {
        TRY(gather(b, w, batch, &t, err));
        TRY(project_qkv(b, w, tile_rows(&t), b->inner, err));
        TRY(attend_segments(b, batch, &t, b->inner, err));
        TRY(project_out(b, w, tile_rows(&t), b->inner, err));
        TRY(scatter(b, w, batch, &t, ROLE_O_BIAS, err));
    } while (next_tile(b, batch, &t));
    return STATUS_OK;
}

static enum status near_qkv(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, float *qkv,
                            struct error *err)
{
    struct tile t = first_tile(b, batch);
    TRY(begin_operation(b, batch, err));
    do {
        float *rows = qkv + t.begin * b->qkv_width;
        TRY(gather(b, w, batch, &t, err));
        TRY(project_qkv(b, w, tile_rows(&t), rows, err));
        TRY(attend_segments(b, batch, &t, rows, err));
    } while (next_tile(b, batch, &t));
    return STATUS_OK;
}

static enum status near_attend(struct backend_state *b, const struct layer *, const struct batch *batch, float *qkv,
                               struct error *err)
{
    const struct tile all = {0, batch->sequences, 0, batch->tokens};
    TRY(begin_operation(b, batch, err));
    TRY(attend_segments(b, batch, &all, qkv, err));
    return STATUS_OK;
}

static enum status near_out(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, const float *qkv,
                            struct error *err)
{
    struct tile t = first_tile(b, batch);
    b->used = 0;
    do {
        TRY(project_out(b, w, tile_rows(&t), qkv + t.begin * b->qkv_width, err));
        TRY(scatter(b, w, batch, &t, ROLE_O_BIAS, err));
    } while (next_tile(b, batch, &t));
    return STATUS_OK;
}

/* -- the other layers ------------------------------------------------------------------------------------------------- */

static enum status layer_mlp(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, struct error *err)
{
    const enum format format = operand_format(b, w->format); /* of the inner rows too */
    const int64_t ffn = b->a->ffn;
    struct tile t = first_tile(b, batch);
    b->used = 0;
    do {
        const int64_t m = tile_rows(&t);
        TRY(gather(b, w, batch, &t, err));
        TRY(product_in(b, w, ROLE_FC1, b->operand, b->a->hidden, m, b->inner, format, ffn, err));
        GPU(gpu_activate(b->compute, b->inner, format, w->resident[ROLE_FC1_BIAS], b->a->activation, m, ffn));
        TRY(product(b, w, ROLE_FC2, b->inner, ffn, m, b->out, b->a->hidden, err));
        TRY(scatter(b, w, batch, &t, ROLE_FC2_BIAS, err));
    } while (next_tile(b, batch, &t));
    return STATUS_OK;
}

static enum status resident_product(struct backend_state *b, const struct layer_weights *w, enum tensor_role role, const float *x,
                                    int64_t m, float *y, struct error *err)
{
    const struct tensor *t = layer_tensor(w->layer, role);
    return blas_product(b->blas, FORMAT_F32, w->resident[role], t->rows, t->cols, x, t->cols, m, y, FORMAT_F32, t->rows, err);
}

/* The hidden states of sequences [begin, end) at `position`, normed and projected as the head wants them: f32 rows, *x says where. */
static enum status head_input(struct backend_state *b, const struct layer_weights *norm, const struct batch *batch, int begin,
                              int end, int64_t position, const float **x, struct error *err)
{
    const struct tile t = {begin, end, position, position + 1};
    const int64_t d = b->a->hidden;
    struct hidden_part p;
    for (int i = 0; i < batch->n_hidden; i++)
        if (part_of(b, batch, &t, i, &p))
            GPU(gpu_convert(b->compute, p.h, b->hidden, batch->tokens * d, p.rows, d, b->out + p.at * d, FORMAT_F32, d));
    *x = b->out;
    if (norm->resident[ROLE_NORM_GAIN])
        GPU(gpu_norm(b->compute, b->out, FORMAT_F32, end - begin, d, norm->resident[ROLE_NORM_GAIN],
                     norm->resident[ROLE_NORM_BIAS], (float)b->a->norm_epsilon, b->out, FORMAT_F32));
    if (!norm->resident[ROLE_PROJECT_OUT])
        return STATUS_OK;
    *x = b->inner;
    return resident_product(b, norm, ROLE_PROJECT_OUT, b->out, end - begin, b->inner, err);
}

static enum status layer_head(struct backend_state *b, const struct layer_weights *w, const struct layer_weights *norm,
                              const struct batch *batch, int64_t position, float *logits, struct error *err)
{
    const struct tensor *table = layer_tensor(w->layer, ROLE_EMBED_TOKENS);
    const int64_t e = table->cols, vocab = b->a->vocab;
    b->used = 0;
    for (int begin = 0; begin < batch->sequences; begin += (int)b->rows) {
        const int end = (int)std::min((int64_t)batch->sequences, begin + b->rows);
        const float *rows;
        TRY(head_input(b, norm, batch, begin, end, position, &rows, err));
        GPU(gpu_convert(b->compute, rows, FORMAT_F32, e, end - begin, e, b->operand, operand_format(b, w->format), e));
        TRY(product(b, w, ROLE_EMBED_TOKENS, b->operand, e, end - begin, logits + begin * vocab + table->row_begin, vocab, err));
    }
    return STATUS_OK;
}

static enum status choose(struct backend_state *b, const struct sampling *how, const float *logits, int sequences,
                          int64_t sequence, int64_t position, int32_t *token, struct error *err)
{
    const int64_t bytes = sequences * (int64_t)sizeof *token;
    int32_t *chosen = reinterpret_cast<int32_t *>(b->scratch);
    if (bytes > b->scratch_bytes)
        return error_set(err, STATUS_INVALID, "the workspace has no room for %d tokens", sequences);
    GPU(gpu_sample(b->compute, how, logits, sequences, b->a->vocab, sequence, position, chosen));
    return GPU_TRY(err, cudaMemcpyAsync(token, chosen, (size_t)bytes, cudaMemcpyDeviceToHost, b->compute));
}

/* Rows [row, row + n) of the batch, whose vectors (n, stride bytes apart) are on the device. */
static enum status embed_rows(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, int64_t row,
                              int64_t n, const char *vectors, int64_t stride, enum format format, struct error *err)
{
    const int64_t d = b->a->hidden;
    for (int i = 0; i < batch->n_hidden; i++) {
        const struct hidden_segment *seg = &batch->hidden[i];
        const int64_t begin = seg->begin * batch->tokens, from = std::max(row, begin),
                      to = std::min(row + n, (seg->begin + seg->count) * batch->tokens);
        if (from < to)
            GPU(gpu_embed(b->compute, vectors + (from - row) * stride, stride, format, from, to - from, batch->tokens,
                          batch->first, b->pad, w->resident[ROLE_EMBED_POSITIONS], b->a->position_offset, d,
                          static_cast<char *>(seg->data) + (from - begin) * d * element_bytes(b->hidden), b->hidden));
    }
    return STATUS_OK;
}

static enum status layer_embed(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, int64_t row,
                               int64_t count, const void *const *vector, enum format format, struct error *err)
{
    const int64_t e = b->a->embed_width, stride = e * element_bytes(format);
    TRY(begin_operation(b, batch, err));
    for (int64_t at = 0; at < count; at += b->rows) {
        const int64_t n = std::min(b->rows, count - at);
        const char *there = reinterpret_cast<char *>(b->inner);
        GPU(gpu_gather(b->compute, b->inner, vector + at, n, stride));
        if (!w->resident[ROLE_PROJECT_IN]) {
            TRY(embed_rows(b, w, batch, row + at, n, there, stride, format, err));
            continue;
        }
        GPU(gpu_convert(b->compute, there, format, e, n, e, b->out, FORMAT_F32, e));
        TRY(resident_product(b, w, ROLE_PROJECT_IN, b->out, n, b->inner, err));
        TRY(embed_rows(b, w, batch, row + at, n, there, b->a->hidden * 4, FORMAT_F32, err));
    }
    return STATUS_OK;
}

/* -- the table -------------------------------------------------------------------------------------------------------- */

static const struct memory device = {device_take, device_give}, host = {host_take, host_give};

static const struct backend backend_gpu = {
    "cuda", true,        &device,         &host,     backend_open, backend_close, copy,     copy_pageable, mark,
    wait,   layer_embed, layer_attention, layer_mlp, layer_head,   choose,        near_qkv, near_attend,   near_out,
};

extern "C" const struct backend_table ballast_backend = {BACKEND_TABLE_VERSION, &backend_gpu};
