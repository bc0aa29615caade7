/* The CPU backend: the layers of a decoder in terms of kernels.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "executor/backend.h"
#include "executor/cpu/kernels.h"
#include "model/integers.h"
#include "model/placement.h"

struct backend_state {
    const struct arch *a;
    struct pool *pool;
    enum math math;
    enum format cache;
    struct attention_shape shape;
    double sparsity;
    int64_t rows; /* computed at a time */
    int64_t q_width, kv_width, qkv_width;
    float *x;      /* (rows, hidden) */
    float *inner;  /* (rows, max(q + 2 kv, ffn)) */
    void *scratch; /* of the kernels */
    int64_t scratch_bytes;
};

/* The host's memory is one tier to another: done when it returns. */
static enum status copy(struct backend_state *b, int queue, void *dst, const void *src, int64_t rows, int64_t bytes,
                        int64_t stride, struct error *err)
{
    (void)b;
    (void)queue;
    (void)err;
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)dst + i * stride, (const char *)src + i * stride, (size_t)bytes);
    return STATUS_OK;
}

/* No device: it is reached like any other. */
static enum status copy_pageable(struct backend_state *b, int queue, void *dst, const void *src, int64_t bytes, struct error *err)
{
    return copy(b, queue, dst, src, 1, bytes, bytes, err);
}

static enum status nothing_to_wait_for(struct backend_state *b, int queue, int number, struct error *err)
{
    (void)b;
    (void)queue;
    (void)number;
    (void)err;
    return STATUS_OK;
}

static void backend_close(struct backend_state *b)
{
    if (!b)
        return;
    pool_free(b->pool);
    free(b);
}

static enum status backend_open(struct backend_state **out, const struct backend_options *o, struct error *err)
{
    const struct arch *a = o->arch;
    struct backend_state *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b)
        return error_set(err, STATUS_RUNTIME, "out of memory");
    if (o->unit->activation != FORMAT_F32) { /* the placement left half the room for them */
        free(b);
        return error_set(err, STATUS_INVALID,
                         "compute '%s' keeps hidden states in %s, the CPU backend in f32: run with a profile of this machine",
                         o->unit->name, format_name(o->unit->activation));
    }
    b->a = a;
    b->math = strcmp(o->unit->math, "f32") == 0 ? MATH_F32 : MATH_BF16;
    b->cache = o->cache;
    b->shape = (struct attention_shape){a->heads, a->kv_heads, a->head_dim, 1 / sqrt((double)a->head_dim)};
    b->sparsity = o->attention_sparsity;
    b->rows = o->rows;
    b->q_width = a->heads * a->head_dim;
    b->kv_width = a->kv_heads * a->head_dim;
    b->qkv_width = b->q_width + 2 * b->kv_width;
    int64_t width = max64(max64(b->qkv_width, a->ffn), a->hidden);
    int64_t widest = max64(max64(a->hidden, a->ffn), b->q_width);
    b->x = o->workspace;
    b->inner = b->x + b->rows * a->hidden;
    b->scratch = b->inner + b->rows * width;
    b->scratch_bytes = o->workspace_bytes - b->rows * (a->hidden + width) * 4;
    int64_t attend = b->sparsity < 1 ? sparse_attention_scratch_bytes(o->threads, &b->shape, o->cache_tokens)
                                     : attention_scratch_bytes(o->threads, &b->shape);
    int64_t need = max64(linear_scratch_bytes(o->threads, b->math, b->rows, widest), attend);
    need = max64(need, 8 + a->vocab * (int64_t)sizeof(uint64_t)); /* of sample_token */
    if (b->scratch_bytes < need) {
        need -= b->scratch_bytes;
        free(b);
        return error_set(err, STATUS_INVALID, "compute '%s': workspace is %lld bytes too small for the kernels' scratch",
                         o->unit->name, (long long)need);
    }
    enum status s = pool_new(&b->pool, o->threads, err);
    if (s != STATUS_OK) {
        free(b);
        return s;
    }
    *out = b;
    return STATUS_OK;
}

/* -- helpers ---------------------------------------------------------------------------------------------------------- */

/* y (m, ldy) = x (m, cols) times the matrix of `role`, all its pieces. */
static enum status product(struct backend_state *b, const struct layer_weights *w, enum tensor_role role, enum tensor_role bias,
                           bool relu, const float *x, int64_t m, float *y, int64_t ldy, struct error *err)
{
    const struct tensor *t = layer_tensor(w->layer, role);
    enum status s = STATUS_OK;
    for (int i = 0; i < w->n_pieces[role] && s == STATUS_OK; i++) {
        const struct matrix_piece *p = &w->piece[role][i];
        struct weight_rows rows = {w->format, p->data, p->row_begin - t->row_begin, p->row_end - t->row_begin, t->cols};
        s = linear(b->pool, b->math, &rows, bias == ROLE_COUNT ? NULL : w->resident[bias], relu, x, t->cols, m, y, ldy,
                   b->scratch, err);
    }
    return s;
}

static enum status resident_product(struct backend_state *b, const struct layer_weights *w, enum tensor_role role, const float *x,
                                    int64_t m, float *y, int64_t ldy, struct error *err)
{
    const struct tensor *t = layer_tensor(w->layer, role);
    struct weight_rows rows = {FORMAT_F32, w->resident[role], 0, t->rows, t->cols};
    return linear(b->pool, MATH_F32, &rows, NULL, false, x, t->cols, m, y, ldy, b->scratch, err);
}

/* The overlap of sequences [begin, end) with a segment; returns how many. */
static int overlap(int begin, int end, int segment_begin, int segment_count, int *from)
{
    int last = segment_begin + segment_count;
    *from = begin > segment_begin ? begin : segment_begin;
    return (end < last ? end : last) - *from;
}

enum direction { GATHER, GATHER_NORM, ADD, ADD_NORM };

/* Between the hidden states of sequences [begin, end) and x (rows of those sequences, contiguous). */
static void with_hidden(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, int begin, int end,
                        enum direction direction)
{
    int64_t d = b->a->hidden, tokens = batch->tokens;
    const float *gain = w->resident[ROLE_NORM_GAIN], *bias = w->resident[ROLE_NORM_BIAS];
    for (int i = 0; i < batch->n_hidden; i++) {
        const struct hidden_segment *seg = &batch->hidden[i];
        int from, n = overlap(begin, end, seg->begin, seg->count, &from);
        if (n <= 0)
            continue;
        float *h = (float *)seg->data + (from - seg->begin) * tokens * d, *x = b->x + (from - begin) * tokens * d;
        switch (direction) {
        case GATHER:
            memcpy(x, h, (size_t)(n * tokens * d) * sizeof *x);
            break;
        case GATHER_NORM:
            layer_norm(b->pool, h, n * tokens, d, gain, bias, b->a->norm_epsilon, x);
            break;
        case ADD:
            add_rows(b->pool, h, x, n * tokens * d);
            break;
        case ADD_NORM:
            add_rows(b->pool, h, x, n * tokens * d);
            layer_norm(b->pool, h, n * tokens, d, gain, bias, b->a->norm_epsilon, h);
            break;
        }
    }
}

static int tile_sequences(const struct backend_state *b, const struct batch *batch)
{
    int64_t n = b->rows / batch->tokens;
    return n < 1 ? 1 : n > batch->sequences ? batch->sequences : (int)n;
}

/* Stores the new keys and values of sequences [begin, end) and attends; q, k, v are rows of qkv, results replace the queries. */
static void attend_segments(struct backend_state *b, const struct layer *l, const struct batch *batch, int begin, int end,
                            float *qkv)
{
    for (int i = 0; i < batch->n_cache; i++) {
        const struct cache_segment *seg = &batch->cache[i];
        int from, n = overlap(begin, end, seg->begin, seg->count, &from);
        if (n <= 0)
            continue;
        int64_t row = cache_row_bytes(l, b->cache);
        struct cache_view view = {b->cache,          seg->base + (from - seg->begin) * row,
                                  seg->token_stride, row,
                                  row / 2,           seg->page,
                                  seg->page_tokens};
        float *q = qkv + (from - begin) * batch->tokens * b->qkv_width;
        cache_store(b->pool, &view, n, batch->first, batch->tokens, b->kv_width, q + b->q_width, q + b->q_width + b->kv_width,
                    b->qkv_width);
        if (b->sparsity < 1 && batch->tokens == 1)
            sparse_attention(b->pool, &b->shape, &view, n, batch->first, b->sparsity, batch->pad + from, q, b->qkv_width, q,
                             b->scratch, b->scratch_bytes);
        else
            attention(b->pool, &b->shape, &view, n, batch->first, batch->tokens, batch->pad + from, q, b->qkv_width, q,
                      b->scratch);
    }
}

static enum status project_qkv(struct backend_state *b, const struct layer_weights *w, int64_t rows, float *qkv,
                               struct error *err)
{
    enum status s = product(b, w, ROLE_Q, ROLE_Q_BIAS, false, b->x, rows, qkv, b->qkv_width, err);
    if (s == STATUS_OK)
        s = product(b, w, ROLE_K, ROLE_K_BIAS, false, b->x, rows, qkv + b->q_width, b->qkv_width, err);
    if (s == STATUS_OK)
        s = product(b, w, ROLE_V, ROLE_V_BIAS, false, b->x, rows, qkv + b->q_width + b->kv_width, b->qkv_width, err);
    return s;
}

/* The output projection reads the results where the queries were, qkv_width apart. */
static enum status project_out(struct backend_state *b, const struct layer_weights *w, int64_t rows, const float *qkv,
                               struct error *err)
{
    const struct tensor *t = layer_tensor(w->layer, ROLE_O);
    enum status s = STATUS_OK;
    for (int i = 0; i < w->n_pieces[ROLE_O] && s == STATUS_OK; i++) {
        const struct matrix_piece *p = &w->piece[ROLE_O][i];
        struct weight_rows piece = {w->format, p->data, p->row_begin, p->row_end, t->cols};
        s = linear(b->pool, b->math, &piece, w->resident[ROLE_O_BIAS], false, qkv, b->qkv_width, rows, b->x, b->a->hidden,
                   b->scratch, err);
    }
    return s;
}

/* -- layers ----------------------------------------------------------------------------------------------------------- */

static enum status layer_attention(struct backend_state *b, const struct layer_weights *w, const struct batch *batch,
                                   struct error *err)
{
    int step = tile_sequences(b, batch);
    enum status s = STATUS_OK;
    for (int begin = 0; begin < batch->sequences && s == STATUS_OK; begin += step) {
        int end = begin + step < batch->sequences ? begin + step : batch->sequences;
        int64_t rows = (end - begin) * batch->tokens;
        with_hidden(b, w, batch, begin, end, b->a->norm_before ? GATHER_NORM : GATHER);
        s = project_qkv(b, w, rows, b->inner, err);
        if (s != STATUS_OK)
            break;
        attend_segments(b, w->layer, batch, begin, end, b->inner);
        s = project_out(b, w, rows, b->inner, err);
        with_hidden(b, w, batch, begin, end, b->a->norm_before ? ADD : ADD_NORM);
    }
    return s;
}

static enum status layer_mlp(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, struct error *err)
{
    int step = tile_sequences(b, batch);
    bool relu = b->a->activation == ACTIVATION_RELU;
    enum status s = STATUS_OK;
    for (int begin = 0; begin < batch->sequences && s == STATUS_OK; begin += step) {
        int end = begin + step < batch->sequences ? begin + step : batch->sequences;
        int64_t rows = (end - begin) * batch->tokens;
        with_hidden(b, w, batch, begin, end, b->a->norm_before ? GATHER_NORM : GATHER);
        s = product(b, w, ROLE_FC1, ROLE_FC1_BIAS, relu, b->x, rows, b->inner, b->a->ffn, err);
        if (s != STATUS_OK)
            break;
        if (!relu)
            gelu_rows(b->pool, b->inner, rows * b->a->ffn);
        s = product(b, w, ROLE_FC2, ROLE_FC2_BIAS, false, b->inner, rows, b->x, b->a->hidden, err);
        with_hidden(b, w, batch, begin, end, b->a->norm_before ? ADD : ADD_NORM);
    }
    return s;
}

static float *hidden_row(const struct batch *batch, int sequence, int64_t token, int64_t d)
{
    for (int i = 0; i < batch->n_hidden; i++) {
        const struct hidden_segment *seg = &batch->hidden[i];
        if (sequence >= seg->begin && sequence < seg->begin + seg->count)
            return (float *)seg->data + ((sequence - seg->begin) * batch->tokens + token) * d;
    }
    return NULL;
}

static enum status layer_head(struct backend_state *b, const struct layer_weights *w, const struct layer_weights *norm,
                              const struct batch *batch, int64_t position, float *logits, struct error *err)
{
    int64_t d = b->a->hidden;
    enum status s = STATUS_OK;
    const struct tensor *table = layer_tensor(w->layer, ROLE_EMBED_TOKENS);
    for (int begin = 0; begin < batch->sequences && s == STATUS_OK; begin += (int)b->rows) {
        int n = batch->sequences - begin < b->rows ? batch->sequences - begin : (int)b->rows;
        float *x = b->x;
        for (int i = 0; i < n; i++)
            memcpy(x + i * d, hidden_row(batch, begin + i, position, d), (size_t)d * sizeof *x);
        if (norm->resident[ROLE_NORM_GAIN])
            layer_norm(b->pool, x, n, d, norm->resident[ROLE_NORM_GAIN], norm->resident[ROLE_NORM_BIAS], b->a->norm_epsilon, x);
        if (norm->resident[ROLE_PROJECT_OUT]) {
            s = resident_product(b, norm, ROLE_PROJECT_OUT, x, n, b->inner, b->a->embed_width, err);
            x = b->inner;
        }
        if (s == STATUS_OK)
            s = product(b, w, ROLE_EMBED_TOKENS, ROLE_COUNT, false, x, n, logits + begin * b->a->vocab + table->row_begin,
                        b->a->vocab, err);
    }
    return s;
}

static enum status choose(struct backend_state *b, const struct sampling *how, const float *logits, int sequences,
                          int64_t sequence, int64_t position, int32_t *token, struct error *err)
{
    (void)err;
    void *scratch = (void *)(((uintptr_t)b->scratch + 7) & ~(uintptr_t)7);
    for (int i = 0; i < sequences; i++)
        token[i] = sample_token(how, logits + i * b->a->vocab, b->a->vocab, sequence + i, position, scratch);
    return STATUS_OK;
}

static enum status layer_embed(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, int64_t row,
                               int64_t count, const void *const *vector, enum format format, struct error *err)
{
    int64_t d = b->a->hidden, e = b->a->embed_width;
    const float *positions = w->resident[ROLE_EMBED_POSITIONS];
    const struct tensor *project = layer_tensor(w->layer, ROLE_PROJECT_IN);
    for (int64_t i = 0; i < count; i++) {
        int sequence = (int)((row + i) / batch->tokens);
        int64_t token = (row + i) % batch->tokens, at = batch->first + token - batch->pad[sequence];
        float *h = hidden_row(batch, sequence, token, d), *x = project ? b->x : h;
        to_f32(format, vector[i], e, x);
        if (project) {
            enum status s = resident_product(b, w, ROLE_PROJECT_IN, x, 1, h, d, err);
            if (s != STATUS_OK)
                return s;
        }
        const float *p =
            positions + ((at < 0 ? -1 : at) + b->a->position_offset) * d; /* padding has position -1, as in the reference */
        for (int64_t c = 0; c < d; c++)
            h[c] += p[c];
    }
    return STATUS_OK;
}

/* -- attention near the cache ------------------------------------------------------------------------------------------ */

static enum status near_qkv(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, float *qkv,
                            struct error *err)
{
    enum status s = STATUS_OK;
    for (int begin = 0; begin < batch->sequences && s == STATUS_OK; begin += (int)b->rows) {
        int end = begin + b->rows < batch->sequences ? begin + (int)b->rows : batch->sequences;
        float *rows = qkv + begin * b->qkv_width;
        with_hidden(b, w, batch, begin, end, b->a->norm_before ? GATHER_NORM : GATHER);
        s = project_qkv(b, w, end - begin, rows, err);
        if (s == STATUS_OK)
            attend_segments(b, w->layer, batch, begin, end, rows);
    }
    return s;
}

static enum status near_attend(struct backend_state *b, const struct layer *l, const struct batch *batch, float *qkv,
                               struct error *err)
{
    (void)err;
    attend_segments(b, l, batch, 0, batch->sequences, qkv);
    return STATUS_OK;
}

static enum status near_out(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, const float *qkv,
                            struct error *err)
{
    enum status s = STATUS_OK;
    for (int begin = 0; begin < batch->sequences && s == STATUS_OK; begin += (int)b->rows) {
        int end = begin + b->rows < batch->sequences ? begin + (int)b->rows : batch->sequences;
        s = project_out(b, w, end - begin, qkv + begin * b->qkv_width, err);
        with_hidden(b, w, batch, begin, end, b->a->norm_before ? ADD : ADD_NORM);
    }
    return s;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .open = backend_open,
    .close = backend_close,
    .copy = copy,
    .copy_pageable = copy_pageable,
    .mark = nothing_to_wait_for,
    .wait = nothing_to_wait_for,
    .embed = layer_embed,
    .attention = layer_attention,
    .mlp = layer_mlp,
    .head = layer_head,
    .choose = choose,
    .qkv = near_qkv,
    .attend = near_attend,
    .out = near_out,
};
