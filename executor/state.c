#include "executor/state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/integers.h"

static int cell(const struct state *s, int layer, int batch)
{
    return (layer * s->pl->n_batches + batch) * TIERS_MAX;
}

/* Offsets of every cell inside its tier's region, in the order of layers and batches; the same sizes as placement.c adds up. */
static void lay_out(struct state *s)
{
    int64_t next[TIERS_MAX] = {0};
    for (int i = 0; i < s->pl->n_layers; i++)
        for (int k = 0; k < s->pl->n_batches; k++)
            for (int u = 0; u < s->pl->n_tiers; u++) {
                s->cache_at[cell(s, i, k) + u] = next[u];
                next[u] += placement_cache_stride(s->pl, i, k, u) * s->pl->cache_tokens;
            }
    int disk = s->pl->n_tiers - 1;
    int64_t hidden[TIERS_MAX] = {0};
    hidden[disk] = next[disk];
    for (int k = 0; k < s->pl->n_batches; k++)
        for (int u = 0; u < s->pl->n_tiers; u++) {
            int64_t bytes = placement_hidden_count(s->pl, k, u) * s->pl->prompt_tokens * s->pl->hidden_row_bytes;
            s->hidden_at[k * TIERS_MAX + u] = hidden[u];
            hidden[u] += u == 0 ? bytes : round_up(bytes, IO_ALIGN);
        }
    s->scratch_bytes = hidden[disk];
}

enum status state_open(struct state *s, const struct placement *pl, const struct workload *w, bool near,
                       const struct state_memory *m, const char *scratch_directory, struct error *err)
{
    size_t cells = (size_t)pl->n_layers * (size_t)pl->n_batches * TIERS_MAX;
    *s = (struct state){.pl = pl, .w = w, .m = *m, .scratch_fd = -1, .near = near};
    s->cache_at = calloc(cells, sizeof *s->cache_at);
    s->hidden_at = calloc((size_t)pl->n_batches * TIERS_MAX, sizeof *s->hidden_at);
    if (!s->cache_at || !s->hidden_at) {
        state_close(s);
        return error_set(err, STATUS_RUNTIME, "out of memory for %zu cache cells", cells);
    }
    lay_out(s);
    bool direct;
    enum status status = STATUS_OK;
    if (s->scratch_bytes > 0)
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

static struct span cache_span(const struct state *s, const struct op *op, int home, int64_t first, int64_t tokens)
{
    int64_t stride = placement_cache_stride(s->pl, op->layer, op->batch, home), from = first * stride;
    int64_t at = s->cache_at[cell(s, op->layer, op->batch) + home] + from;
    struct span span = {.upper = cache_slot(s, op->link, op->cache_slot, op->layer, op->batch, home) + from,
                        .offset = at,
                        .bytes = tokens * stride};
    if (home > op->link + 1)
        span.lower = cache_slot(s, op->link + 1, op->cache_slot, op->layer, op->batch, home) + from;
    else if (home < s->pl->n_tiers - 1)
        span.lower = s->m.cache[home] + at;
    return span;
}

static struct span hidden_span(const struct state *s, const struct op *op, int home, int64_t tokens)
{
    int64_t at = s->hidden_at[op->batch * TIERS_MAX + home];
    struct span span = {.upper = hidden_slot(s, op->link, op->hidden_slot, op->batch, home),
                        .offset = at,
                        .bytes = placement_hidden_count(s->pl, op->batch, home) * tokens * s->pl->hidden_row_bytes};
    if (home > op->link + 1)
        span.lower = hidden_slot(s, op->link + 1, op->hidden_slot, op->batch, home);
    else if (home < s->pl->n_tiers - 1)
        span.lower = s->m.hidden[home] + at;
    return span;
}

enum status state_move(const struct state *s, const struct op *op, const struct backend *backend, struct io *io, int64_t *job,
                       struct error *err)
{
    struct io_extent extent[TIERS_MAX];
    bool cache = op->kind == OP_LOAD_CACHE || op->kind == OP_STORE_CACHE;
    bool down = op->kind == OP_STORE_CACHE || op->kind == OP_STORE_HIDDEN;
    int64_t first = step_first_token(s->w, op->step), tokens = step_tokens(s->w, op->step);
    int n = 0;
    *job = -1;
    for (int home = op->link + 1; home < s->pl->n_tiers; home++) {
        struct span span = !cache ? hidden_span(s, op, home, tokens)
                           : down ? cache_span(s, op, home, first, tokens)
                                  : cache_span(s, op, home, 0, first);
        if (span.bytes == 0)
            continue;
        if (!span.lower)
            extent[n++] = (struct io_extent){.fd = s->scratch_fd,
                                             .write = down,
                                             .offset = span.offset,
                                             .bytes = round_up(span.bytes, IO_ALIGN),
                                             .buffer = span.upper};
        else if (down)
            backend->copy(span.lower, span.upper, span.bytes);
        else
            backend->copy(span.upper, span.lower, span.bytes);
    }
    return n ? io_submit(io, extent, n, job, err) : STATUS_OK;
}

/* -- views ------------------------------------------------------------------------------------------------------------ */

static void add_cache(struct batch *out, int begin, int count, char *base, int64_t stride)
{
    if (count > 0)
        out->cache[out->n_cache++] = (struct cache_segment){begin, count, base, stride};
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
            u == 0 ? s->m.hidden[0] + s->hidden_at[op->batch * TIERS_MAX] : hidden_slot(s, 0, op->hidden_slot, op->batch, u);
        if (count > 0)
            out->hidden[out->n_hidden++] = (struct hidden_segment){begin, count, (float *)base};
        begin += count;
        count = placement_cache_count(s->pl, op->layer, op->batch, u);
        if (count > 0 && (u == 0 || !near))
            add_cache(out, cached, count,
                      u == 0 ? s->m.cache[0] + s->cache_at[cell(s, op->layer, op->batch)]
                             : cache_slot(s, 0, op->cache_slot, op->layer, op->batch, u),
                      placement_cache_stride(s->pl, op->layer, op->batch, u));
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
        if (count > 0)
            add_cache(out, begin, count,
                      u == 1 ? s->m.cache[1] + s->cache_at[cell(s, op->layer, op->batch) + 1]
                             : cache_slot(s, 1, op->cache_slot, op->layer, op->batch, u),
                      placement_cache_stride(s->pl, op->layer, op->batch, u));
        begin += count;
    }
    out->sequences = begin;
}
