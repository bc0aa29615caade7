/* backend.h - the seam between the schedule and a compute device: one function table, every function of it used.
 *
 * A backend computes layers on buffers it is handed; it owns no weights, cache or hidden states. Shapes are (sequences, tokens, width),
 * row-major. A batch may be split: its hidden states and its cache come in segments of consecutive sequences.
 */
#ifndef BALLAST_EXECUTOR_BACKEND_H
#define BALLAST_EXECUTOR_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/arena.h"
#include "executor/sample.h"
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
    void *data;       /* (count, tokens, hidden) in the unit's activation format */
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
    double attention_sparsity; /* the policy's: in decode attention is sparse if it is below 1 */
    int64_t cache_tokens;      /* most of a sequence */
    int threads;
    int queue;       /* of copy(), on which the unit itself works too */
    void *workspace; /* borrowed: struct workspace's unit_bytes. Nothing in it is kept from one call to the next. */
    int64_t workspace_bytes;
    int64_t rows; /* computed at a time, if the workspace holds them */
    void *upload; /* borrowed: struct workspace's upload_bytes of the host, for copy_pageable; 0 bytes: it is not called */
    int64_t upload_bytes;
};

struct backend_state;

/* Tensors, rows of q, k, v and logits are in memory of the unit's tier, whatever that is; `pad`, `page` and tokens in the host's; token vectors in
 * either, of the host's what is not pageable.
 *
 * Computations are started in order on the unit's own queue, with the copies that are started there. One has ended when a wait for a later mark of
 * that queue has returned; until then it uses all that it was handed, but for the structs themselves, `pad`, `page` and the addresses of vectors, which
 * have been read when its function returns. */
struct backend {
    const char *name;
    /* Whether a computation may still be at work when its function returns. */
    bool queues;
    /* One block for a tier of a device, and for the host tier it copies from and to, but for what is pageable; NULL: plain memory. */
    const struct memory *device, *host;
    /* Fails if the workspace is too small for the kernels. */
    enum status (*open)(struct backend_state **out, const struct backend_options *o, struct error *err);
    void (*close)(struct backend_state *b); /* NULL is fine; waits for what is still at work after a failure */
    /* Starts a copy of `rows` times `bytes` bytes, both `stride` bytes apart; dst and src are memory of any two tiers. Copies of one queue, a
     * resource's number, are done in order, those of different queues at once. */
    enum status (*copy)(struct backend_state *b, int queue, void *dst, const void *src, int64_t rows, int64_t bytes,
                        int64_t stride, struct error *err);
    /* As copy, up to the unit's tier out of plain memory that a device does not reach; always on the same queue. */
    enum status (*copy_pageable)(struct backend_state *b, int queue, void *dst, const void *src, int64_t bytes,
                                 struct error *err);
    /* wait returns when what was started on the queue before the last mark with the same number, 0 or 1, is done. */
    enum status (*mark)(struct backend_state *b, int queue, int number, struct error *err);
    enum status (*wait)(struct backend_state *b, int queue, int number, struct error *err);
    /* Hidden rows row.. of the batch become the `count` token vectors (stored format, each at its address) plus their positions. */
    enum status (*embed)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, int64_t row,
                         int64_t count, const void *const *vector, enum format format, struct error *err);
    enum status (*attention)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch,
                             struct error *err);
    enum status (*mlp)(struct backend_state *b, const struct layer_weights *w, const struct batch *batch, struct error *err);
    /* Logits of the token at `position` of each sequence into columns of logits (sequences, vocab): the part's rows of the table. */
    enum status (*head)(struct backend_state *b, const struct layer_weights *w, const struct layer_weights *norm,
                        const struct batch *batch, int64_t position, float *logits, struct error *err);
    /* token[i] = sample_token for row i of logits (sequences, vocab), which is sequence `sequence` + i of the run, at `position`. */
    enum status (*choose)(struct backend_state *b, const struct sampling *how, const float *logits, int sequences,
                          int64_t sequence, int64_t position, int32_t *token, struct error *err);
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

/* A queue of a unit, for who only copies. */
struct lane {
    const struct backend *backend;
    struct backend_state *unit;
    int queue;
};
enum status lane_copy(const struct lane *l, void *dst, const void *src, int64_t bytes, struct error *err); /* starts it */
enum status lane_copy_pageable(const struct lane *l, void *dst, const void *src, int64_t bytes, struct error *err);
enum status lane_wait(const struct lane *l, struct error *err); /* for all so far */
enum status lane_copy_now(const struct lane *l, void *dst, const void *src, int64_t bytes, struct error *err);

#endif
