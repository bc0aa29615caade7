#include "executor/state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/integers.h"
#include "model/stream.h"

static int64_t *cache_at(const struct state *s, int layer, int batch)
{
    int cell = s->page ? 0 : batch % s->pl->n_batches;
    return &s->cache_at[(layer * s->pl->n_batches + cell) * TIERS_MAX];
}

/* Where the hidden states of a batch are when each sequence has `tokens` of them. */
static int64_t *hidden_at(const struct state *s, int batch, int64_t tokens)
{
    if (s->page && tokens > 1)
        return &s->prompt_at[batch % s->pl->entering_most * TIERS_MAX];
    return &s->hidden_at[batch % s->pl->n_batches * TIERS_MAX];
}

/* Offsets of every cell inside its tier's region, in the order of layers and batches; the same sizes as placement.c adds up. */
static void lay_out(struct state *s)
{
    int64_t next[TIERS_MAX] = {0}, hidden[TIERS_MAX] = {0};
    int disk = s->pl->n_tiers - 1;
    for (int i = 0; i < s->pl->n_layers; i++)
        for (int k = 0; k < (s->page ? 1 : s->pl->n_batches); k++)
            for (int u = 0; u <= disk; u++) {
                cache_at(s, i, k)[u] = next[u];
                next[u] += placement_cache_stride(s->pl, i, k, u) * (s->page ? s->pl->layer_cache_tokens : s->pl->cache_tokens);
            }
    hidden[disk] = next[disk];
    for (int k = 0; k < s->pl->n_batches; k++)
        for (int u = 0; u <= disk; u++) {
            s->hidden_at[k * TIERS_MAX + u] = hidden[u];
            hidden[u] += placement_hidden_bytes(s->pl, k, u, s->page ? 1 : s->pl->prompt_tokens);
        }
    for (int k = 0; k < s->pl->entering_most && s->page; k++)
        for (int u = 0; u <= disk; u++) {
            s->prompt_at[k * TIERS_MAX + u] = hidden[u];
            hidden[u] += placement_hidden_bytes(s->pl, k, u, s->pl->prompt_tokens);
        }
    s->scratch_bytes = hidden[disk];
}

enum status state_open(struct state *s, const struct placement *pl, const struct workload *w, const struct policy *p,
                       const struct state_memory *m, const char *scratch_directory, struct error *err)
{
    size_t cells = (size_t)pl->n_layers * (size_t)pl->n_batches * TIERS_MAX;
    enum status status = STATUS_OK;
    *s = (struct state){.pl = pl, .w = w, .m = *m, .scratch_fd = -1, .near = p->attention_near_cache};
    if (pl->paged) {
        s->pages_per_batch = stream_pages_per_batch(w);
        status = stream_pages_new(&s->page, w, p, err);
    }
    size_t extents = (size_t)(TIERS_MAX * (s->pages_per_batch + 1));
    s->cache_at = calloc(cells, sizeof *s->cache_at);
    s->hidden_at = calloc((size_t)pl->n_batches * TIERS_MAX, sizeof *s->hidden_at);
    s->prompt_at = calloc((size_t)pl->entering_most * TIERS_MAX, sizeof *s->prompt_at);
    s->extents[0] = calloc(extents, sizeof **s->extents);
    s->extents[1] = calloc(extents, sizeof **s->extents);
    if (status == STATUS_OK && (!s->cache_at || !s->hidden_at || !s->prompt_at || !s->extents[0] || !s->extents[1]))
        status = error_set(err, STATUS_RUNTIME, "out of memory for %zu cache cells", cells);
    if (status == STATUS_OK)
        lay_out(s);
    bool direct;
    if (status == STATUS_OK && s->scratch_bytes > 0)
        status = io_open_scratch(scratch_directory, s->scratch_bytes, &s->scratch_fd, &direct, err);
    if (status != STATUS_OK)
        state_close(s);
    return status;
}

void state_close(struct state *s)
{
    if (s->pl && s->scratch_fd >= 0)
        close(s->scratch_fd);
    free(s->cache_at);
    free(s->hidden_at);
    free(s->prompt_at);
    free(s->page);
    free(s->extents[0]);
    free(s->extents[1]);
    memset(s, 0, sizeof *s);
    s->scratch_fd = -1;
}

/* -- slots: the parts from deeper tiers come first, so that what the disk reads and writes is aligned -------------------------- */

static char *cache_slot(const struct state *s, int at, int slot, int layer, int batch, int home)
{
    char *p = s->m.cache_slots[at] + slot * s->pl->cache_slot_bytes[at];
    for (int u = s->pl->n_tiers - 1; u > home; u--)
        p += placement_cache_stride(s->pl, layer, batch, u) * s->pl->cache_tokens;
    return p;
}

static char *hidden_slot(const struct state *s, int at, int slot, int batch, int home)
{
    char *p = s->m.hidden_slots[at] + slot * s->pl->hidden_slot_bytes[at];
    for (int u = s->pl->n_tiers - 1; u > home; u--)
        p += round_up(placement_hidden_count(s->pl, batch, u) * s->pl->prompt_tokens * s->pl->hidden_row_bytes, IO_ALIGN);
    return p;
}

/* -- moving ----------------------------------------------------------------------------------------------------------- */

struct span {
    char *upper, *lower; /* lower is NULL on the disk */
    int64_t offset;      /* there */
    int64_t bytes;
};

/* Tokens from `token` on that lie in consecutive rows of the batch's cell, at most `most`; *row is the first's. A slot is never paged. */
static int64_t run_of_rows(const struct state *s, const struct op *op, int64_t token, int64_t most, int64_t *row)
{
    *row = token;
    if (!s->page)
        return most;
    const int32_t *page = &s->page[op->batch * s->pages_per_batch];
    int64_t q = token / CACHE_PAGE_TOKENS, end = (q + 1) * CACHE_PAGE_TOKENS;
    *row = page[q] * CACHE_PAGE_TOKENS + token % CACHE_PAGE_TOKENS;
    for (; end < token + most && page[q + 1] == page[q] + 1; q++)
        end += CACHE_PAGE_TOKENS;
    return min64(end - token, most);
}

/* At most `most` tokens from `token` on; *tokens says how many. */
static struct span cache_span(const struct state *s, const struct op *op, int home, int64_t token, int64_t most, int64_t *tokens)
{
    int64_t stride = placement_cache_stride(s->pl, op->layer, op->batch, home), row = token;
    bool from_slot = home > op->link + 1;
    *tokens = from_slot ? most : run_of_rows(s, op, token, most, &row);
    int64_t at = cache_at(s, op->layer, op->batch)[home] + row * stride;
    struct span span = {.upper = cache_slot(s, op->link, op->cache_slot, op->layer, op->batch, home) + token * stride,
                        .offset = at,
                        .bytes = *tokens * stride};
    if (from_slot)
        span.lower = cache_slot(s, op->link + 1, op->cache_slot, op->layer, op->batch, home) + token * stride;
    else if (home < s->pl->n_tiers - 1)
        span.lower = s->m.cache[home] + at;
    return span;
}

static struct span hidden_span(const struct state *s, const struct op *op, int home, int64_t tokens)
{
    int64_t at = hidden_at(s, op->batch, tokens)[home];
    struct span span = {.upper = hidden_slot(s, op->link, op->hidden_slot, op->batch, home),
                        .offset = at,
                        .bytes = placement_hidden_count(s->pl, op->batch, home) * tokens * s->pl->hidden_row_bytes};
    if (home > op->link + 1)
        span.lower = hidden_slot(s, op->link + 1, op->hidden_slot, op->batch, home);
    else if (home < s->pl->n_tiers - 1)
        span.lower = s->m.hidden[home] + at;
    return span;
}

/* Starts to copy the span, or adds a request to the disk's. */
static enum status move_span(const struct state *s, const struct span *span, bool down, const struct lane *lane, int *n,
                             struct error *err)
{
    if (span->bytes == 0)
        return STATUS_OK;
    if (span->lower)
        return lane_copy(lane, down ? span->lower : span->upper, down ? span->upper : span->lower, span->bytes, err);
    s->extents[down][(*n)++] = (struct io_extent){.fd = s->scratch_fd,
                                                  .write = down,
                                                  .offset = span->offset,
                                                  .bytes = round_up(span->bytes, IO_ALIGN),
                                                  .buffer = span->upper};
    return STATUS_OK;
}

enum status state_move(const struct state *s, const struct op *op, const struct lane *lane, struct io *io, int64_t *job,
                       struct error *err)
{
    bool cache = op->kind == OP_LOAD_CACHE || op->kind == OP_STORE_CACHE;
    bool down = op->kind == OP_STORE_CACHE || op->kind == OP_STORE_HIDDEN;
    int64_t cached = step_first_token(s->w, op->step), new = step_tokens(s->w, op->step);
    int64_t begin = down ? cached : 0, end = down ? cached + new : cached, tokens;
    int n = 0;
    enum status status = STATUS_OK;
    *job = -1;
    for (int home = op->link + 1; home < s->pl->n_tiers && status == STATUS_OK; home++) {
        if (!cache) {
            struct span span = hidden_span(s, op, home, new);
            status = move_span(s, &span, down, lane, &n, err);
        }
        for (int64_t token = begin; cache && token < end && status == STATUS_OK; token += tokens) {
            struct span span = cache_span(s, op, home, token, end - token, &tokens);
            status = move_span(s, &span, down, lane, &n, err);
        }
    }
    return status == STATUS_OK && n ? io_submit(io, s->extents[down], n, job, err) : status;
}

/* -- views ------------------------------------------------------------------------------------------------------------ */

static void add_cache(const struct state *s, const struct op *op, struct batch *out, int begin, int count, int home, bool in_slot,
                      int at)
{
    struct cache_segment *seg = &out->cache[out->n_cache];
    if (count == 0)
        return;
    out->n_cache++;
    *seg = (struct cache_segment){begin, count, NULL, placement_cache_stride(s->pl, op->layer, op->batch, home), NULL, 0};
    if (in_slot) {
        seg->base = cache_slot(s, at, op->cache_slot, op->layer, op->batch, home);
        return;
    }
    seg->base = s->m.cache[home] + cache_at(s, op->layer, op->batch)[home];
    if (s->page) {
        seg->page = &s->page[op->batch * s->pages_per_batch];
        seg->page_tokens = CACHE_PAGE_TOKENS;
    }
}

void state_view(const struct state *s, const struct op *op, struct batch *out)
{
    int begin = 0, cached = 0;
    bool near = s->near && op->step > 0;
    out->sequences = s->pl->batch_size;
    out->tokens = step_tokens(s->w, op->step);
    out->first = step_first_token(s->w, op->step);
    out->n_hidden = out->n_cache = 0;
    for (int u = 0; u < s->pl->n_tiers; u++) {
        int count = placement_hidden_count(s->pl, op->batch, u);
        char *base =
            u == 0 ? s->m.hidden[0] + hidden_at(s, op->batch, out->tokens)[0] : hidden_slot(s, 0, op->hidden_slot, op->batch, u);
        if (count > 0)
            out->hidden[out->n_hidden++] = (struct hidden_segment){begin, count, base};
        begin += count;
        count = placement_cache_count(s->pl, op->layer, op->batch, u);
        if (u == 0 || !near)
            add_cache(s, op, out, cached, count, u, u > 0, 0);
        cached += count;
    }
}

void state_view_near(const struct state *s, const struct op *op, struct batch *out)
{
    int begin = 0;
    out->tokens = step_tokens(s->w, op->step);
    out->first = step_first_token(s->w, op->step);
    out->n_hidden = out->n_cache = 0;
    for (int u = 1; u < s->pl->n_tiers; u++) {
        int count = placement_cache_count(s->pl, op->layer, op->batch, u);
        add_cache(s, op, out, begin, count, u, u > 1, 1);
        begin += count;
    }
    out->sequences = begin;
}
