/* backend.h - the seam between the schedule and a compute device: one function table, all entries used.
 *
 * A backend computes layers on buffers it is handed; it owns no weights, cache or hidden states. Shapes are (sequences, tokens, width),
 * row-major. A batch may be split: its hidden states and its cache come in segments of consecutive sequences.
 */
#ifndef BALLAST_EXECUTOR_BACKEND_H
#define BALLAST_EXECUTOR_BACKEND_H

#include <stdint.h>

#include "model/arch.h"
#include "model/error.h"
#include "model/hardware.h"

/* Rows [row_begin, row_end) of a placed matrix, row row_begin first, wherever they are for this visit. */
struct matrix_piece {
    const void *data;
    int64_t row_begin, row_end;
};

/* The tensors of one layer, ready to be used. */
struct layer_weights {
    const struct layer *layer;
    enum format format; /* of the pieces */
    int n_pieces[ROLE_COUNT];
    struct matrix_piece piece[ROLE_COUNT][TIERS_MAX]; /* placed matrices */
    const float *resident[ROLE_COUNT];                /* the others, f32; NULL if the layer has none */
};

struct hidden_segment {
    int begin, count; /* sequences of the batch */
    float *data;      /* (count, tokens, hidden) */
};

/* Token t of sequence i of the segment: keys at base + t*token_stride + i*sequence_stride, values value_offset further. With pages, the
 * token in row t is another one: token u is in row page[u / page_tokens] * page_tokens + u % page_tokens. */
struct cache_segment {
    int begin, count;
    char *base;
    int64_t token_stride;
    const int32_t *page; /* NULL: token t is in row t */
    int64_t page_tokens;
};

struct batch {
    int sequences;
    int64_t tokens;     /* new ones of each sequence */
    int64_t first;      /* position of the first new token in the cache, padding included */
    const int32_t *pad; /* (sequences) left padding */
    int n_hidden, n_cache;
    struct hidden_segment hidden[TIERS_MAX];
    struct cache_segment cache[TIERS_MAX];
};

struct backend_options {
    const struct arch *arch;
    const struct compute *unit;
    enum format cache;
    int threads;
    void *workspace; /* borrowed; laid out as workspace_bytes() counts it, without the logits */
    int64_t workspace_bytes;
    int64_t rows; /* computed at a time */
};

struct backend_state;

struct backend {
    const char *name;
    /* Fails if the workspace is too small for the kernels. */
    enum status (*open)(struct backend_state **out, const struct backend_options *o, struct error *err);
    void (*close)(struct backend_state *b); /* NULL is fine */
    /* dst and src are memory of any two tiers. */
    void (*copy)(void *dst, const void *src, int64_t bytes);
    /* Adds `count` rows of looked-up token vectors (stored format, `stride` bytes apart) into hidden rows row.. of the batch, with
     * their positions. */
    enum status (*embed)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, int64_t row,
                         int64_t count, const char *vectors, int64_t stride, enum format format, struct error *err);
    enum status (*attention)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch,
                             struct error *err);
    enum status (*mlp)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, struct error *err);
    /* Logits of the token at `position` of each sequence into columns of logits (sequences, vocab): the part's rows of the table. */
    enum status (*head)(struct backend_state *b, const struct layer_weights *w, const struct layer_weights *norm,
                        const struct batch *batch, int64_t position, float *logits, struct error *err);
    /* Decode in three pieces, for attention near the cache. qkv projects all sequences into qkv (sequences, q+k+v width) and attends
     * for those whose cache segments the batch has; attend does so for the batch's segments elsewhere, over rows of the same layout;
     * out projects the results, which lie where the queries were. */
    enum status (*qkv)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, float *qkv,
                       struct error *err);
    enum status (*attend)(struct backend_state *b, const struct layer *l, const struct batch *batch, float *qkv,
                          struct error *err);
    enum status (*out)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, const float *qkv,
                       struct error *err);
};

extern const struct backend backend_cpu;

#endif
