#include "executor/weights.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/cpu/kernels.h"
#include "model/integers.h"

static int64_t align_down(int64_t n)
{
    return n / IO_ALIGN * IO_ALIGN;
}

static struct weight_home *home_of(const struct weights *w, int layer, int tensor)
{
    return &w->home[layer * LAYER_TENSORS_MAX + tensor];
}

/* The embedding's token table is only looked up: in the head's part if it is tied, else in the file. */
static bool is_placed(const struct weights *w, int layer, int tensor)
{
    const struct layer *l = &w->a->layer[layer];
    return l->tensor[tensor].placed && l->kind != LAYER_EMBED;
}

/* -- loading ---------------------------------------------------------------------------------------------------------- */

struct loader {
    struct weights *w;
    const struct weights_memory *m;
    struct io *io;
    struct pool *pool;
    void (*progress)(int64_t, int64_t, void *);
    void *arg;
    int64_t done, total, since;
    char *next_weights[TIERS_MAX], *next_resident;
};

/* Reads bytes [offset, offset+n) of a file, n at most staging_bytes - 2*IO_ALIGN; *data points into the staging. */
static enum status read_staged(struct loader *l, int fd, int64_t offset, int64_t n, char *staging, char **data, struct error *err)
{
    int64_t begin = align_down(offset), end = round_up(offset + n, IO_ALIGN);
    struct io_extent e = {.fd = fd, .offset = begin, .bytes = end - begin, .buffer = staging};
    enum status s = io_run(l->io, &e, 1, err);
    *data = staging + (offset - begin);
    l->done += n;
    if (l->progress && l->done - l->since > l->total / 200) {
        l->since = l->done;
        l->progress(l->done, l->total, l->arg);
    }
    return s;
}

static enum status load_rows(struct loader *l, const struct st_tensor *t, int64_t row_bytes, int64_t begin, int64_t end,
                             char *dst, struct error *err)
{
    int64_t chunk = l->m->staging_bytes - 2 * IO_ALIGN, offset = t->offset + begin * row_bytes, left = (end - begin) * row_bytes;
    enum status s = STATUS_OK;
    while (left > 0 && s == STATUS_OK) {
        int64_t n = min64(left, chunk);
        char *data;
        s = read_staged(l, l->w->fd[t->file], offset, n, l->m->staging, &data, err);
        if (s == STATUS_OK)
            s = lane_copy_now(&l->m->lane, dst, data, n, err);
        dst += n;
        offset += n;
        left -= n;
    }
    return s;
}

/* The staging is divided into elements in f32 and as stored. */
static enum status load_resident(struct loader *l, int layer, int tensor, const struct st_tensor *t, struct error *err)
{
    const struct tensor *spec = &l->w->a->layer[layer].tensor[tensor];
    int64_t element = format_matrix_bytes(t->format, 1, 1), left = spec->rows * spec->cols, offset = t->offset;
    int64_t chunk = (l->m->staging_bytes - 3 * IO_ALIGN) / (element + 4);
    float *dst = (float *)l->next_resident, *wide = (float *)l->m->staging;
    char *stored = l->m->staging + round_up(chunk * 4, IO_ALIGN);
    enum status s = STATUS_OK;
    l->w->resident[layer][spec->role] = dst;
    l->next_resident += left * 4;
    while (left > 0 && s == STATUS_OK) {
        int64_t n = min64(left, chunk);
        char *data;
        s = read_staged(l, l->w->fd[t->file], offset, n * element, stored, &data, err);
        if (s == STATUS_OK) {
            to_f32(t->format, data, n, wide);
            s = lane_copy_now(&l->m->lane, dst, wide, n * 4, err);
        }
        dst += n;
        offset += n * element;
        left -= n;
    }
    return s;
}

/* -- packing to 4 bits ------------------------------------------------------------------------------------------------- */

struct pack_job {
    const struct st_tensor *t;
    const char *data; /* stored rows */
    float *rows;      /* (threads, Q4_GROUP, cols) */
    char *packed;
    int64_t n, cols;
};

static void pack_block(void *arg, int task, int thread)
{
    struct pack_job *j = arg;
    int64_t begin = (int64_t)task * Q4_GROUP, rows = min64(Q4_GROUP, j->n - begin),
            row_bytes = format_matrix_bytes(j->t->format, 1, j->cols);
    float *wide = j->rows + (int64_t)thread * Q4_GROUP * j->cols;
    to_f32(j->t->format, j->data + begin * row_bytes, rows * j->cols, wide);
    q4_pack_matrix(wide, rows, j->cols, j->packed + (int64_t)task * format_matrix_bytes(FORMAT_Q4, Q4_GROUP, j->cols));
}

/* Packed bytes go either to memory or, in aligned writes, to the scratch file. */
struct pack_sink {
    char *memory;
    int fd;
    int64_t offset, held; /* held: bytes at the start of `buffer` not yet written */
    char *buffer;
};

static enum status sink_put(struct loader *l, struct pack_sink *s, const char *packed, int64_t n, bool last, struct error *err)
{
    if (s->memory) {
        s->memory += n;
        return lane_copy_now(&l->m->lane, s->memory - n, packed, n, err);
    }
    s->held += n; /* `packed` already lies behind what is held */
    int64_t whole = last ? round_up(s->held, IO_ALIGN) : align_down(s->held);
    struct io_extent e = {.fd = s->fd, .write = true, .offset = s->offset, .bytes = whole, .buffer = s->buffer};
    enum status status = whole ? io_run(l->io, &e, 1, err) : STATUS_OK;
    s->offset += whole;
    s->held = last ? 0 : s->held - whole;
    memmove(s->buffer, s->buffer + whole, (size_t)s->held);
    return status;
}

/* Packs rows [begin, end) of a stored matrix. The staging is divided into stored rows, wide rows by thread, and packed bytes. */
static enum status pack_rows(struct loader *l, const struct st_tensor *t, int64_t cols, int64_t begin, int64_t end,
                             struct pack_sink *sink, struct error *err)
{
    int64_t row_bytes = format_matrix_bytes(t->format, 1, cols), block = format_matrix_bytes(FORMAT_Q4, Q4_GROUP, cols);
    int64_t wide = round_up((int64_t)pool_threads(l->pool) * Q4_GROUP * cols * 4, IO_ALIGN);
    int64_t room = l->m->staging_bytes - wide - 5 * IO_ALIGN, blocks = room / (block + Q4_GROUP * row_bytes);
    if (blocks < 1)
        return error_set(err, STATUS_DOES_NOT_FIT,
                         "a workspace of %lld bytes is too small to pack rows of %lld weights to 4 bits",
                         (long long)l->m->staging_bytes, (long long)cols);
    char *stored = l->m->staging + wide;
    sink->buffer = stored + round_up(blocks * Q4_GROUP * row_bytes, IO_ALIGN) + 2 * IO_ALIGN;
    enum status s = STATUS_OK;
    for (int64_t row = begin; row < end && s == STATUS_OK; row += blocks * Q4_GROUP) {
        struct pack_job j = {.t = t,
                             .rows = (float *)l->m->staging,
                             .n = min64(blocks * Q4_GROUP, end - row),
                             .cols = cols,
                             .packed = sink->buffer + sink->held};
        char *data;
        s = read_staged(l, l->w->fd[t->file], t->offset + row * row_bytes, j.n * row_bytes, stored, &data, err);
        if (s != STATUS_OK)
            break;
        j.data = data;
        pool_run(l->pool, (int)((j.n + Q4_GROUP - 1) / Q4_GROUP), pack_block, &j);
        s = sink_put(l, sink, j.packed, format_matrix_bytes(FORMAT_Q4, j.n, cols), row + j.n == end, err);
    }
    return s;
}

/* As many threads as the staging has wide rows for beside a block of 64 of the widest matrix, as stored and packed: placement.c leaves
 * room for several. */
static int pack_threads(const struct loader *l)
{
    const struct arch *a = l->w->a;
    int64_t widest = 1;
    for (int i = 0; i < a->n_layers; i++)
        for (int j = 0; j < a->layer[i].n_tensors; j++)
            widest = is_placed(l->w, i, j) ? max64(widest, a->layer[i].tensor[j].cols) : widest;
    int64_t block = format_matrix_bytes(FORMAT_Q4, Q4_GROUP, widest) + format_matrix_bytes(a->weight_format, Q4_GROUP, widest);
    int64_t fit = (l->m->staging_bytes - block - 6 * IO_ALIGN) / (Q4_GROUP * widest * 4);
    return (int)max64(1, min64(fit, l->m->threads));
}

static enum status load_placed(struct loader *l, int layer, int tensor, const struct st_tensor *t, int64_t *scratch,
                               struct error *err)
{
    const struct tensor *spec = &l->w->a->layer[layer].tensor[tensor];
    const struct row_cut *cut = placement_cut(l->w->pl, layer, tensor);
    struct weight_home *h = home_of(l->w, layer, tensor);
    int disk = l->w->pl->n_tiers - 1;
    bool packed = l->w->pl->weights == FORMAT_Q4;
    int64_t row_bytes = format_matrix_bytes(t->format, 1, spec->cols);
    enum status s = STATUS_OK;
    for (int u = 0; u < l->w->pl->n_tiers && s == STATUS_OK; u++) {
        int64_t begin = cut->row[u], end = cut->row[u + 1],
                bytes = format_matrix_bytes(l->w->pl->weights, end - begin, spec->cols);
        if (begin == end)
            continue;
        if (u < disk) {
            h->memory[u] = l->next_weights[u];
            l->next_weights[u] += bytes;
        } else {
            h->fd = packed ? l->w->scratch_fd : l->w->fd[t->file];
            h->offset = packed ? *scratch : t->offset + begin * row_bytes;
            *scratch += packed ? round_up(bytes, IO_ALIGN) : 0;
        }
        if (packed) {
            struct pack_sink sink = {.memory = h->memory[u], .fd = h->fd, .offset = h->offset};
            s = pack_rows(l, t, spec->cols, begin, end, &sink, err);
        } else if (u < disk) {
            s = load_rows(l, t, row_bytes, begin, end, h->memory[u], err);
        }
    }
    return s;
}

/* Bytes that 4-bit rows on the disk take in the scratch file. */
static int64_t scratch_needed(const struct weights *w)
{
    int disk = w->pl->n_tiers - 1;
    int64_t sum = 0;
    for (int i = 0; i < w->a->n_layers && w->pl->weights == FORMAT_Q4; i++)
        for (int j = 0; j < w->a->layer[i].n_tensors; j++)
            if (is_placed(w, i, j)) {
                const struct row_cut *cut = placement_cut(w->pl, i, j);
                sum +=
                    round_up(format_matrix_bytes(FORMAT_Q4, cut->row[disk + 1] - cut->row[disk], w->a->layer[i].tensor[j].cols),
                             IO_ALIGN);
            }
    return sum;
}

static enum status load_all(struct loader *l, struct error *err)
{
    struct weights *w = l->w;
    int64_t scratch = 0;
    enum status s = STATUS_OK;
    for (int i = 0; i < w->a->n_layers; i++)
        for (int j = 0; j < w->a->layer[i].n_tensors && s == STATUS_OK; j++) {
            const struct tensor *spec = &w->a->layer[i].tensor[j];
            const struct st_tensor *t;
            s = st_resolve(&w->files, spec, &t, err);
            if (s == STATUS_OK && spec->placed && t->format != w->a->weight_format)
                s = error_set(err, STATUS_INVALID, "%s: tensor '%s' is %s, expected %s as config.json says",
                              w->files.path[t->file], t->name, format_name(t->format), format_name(w->a->weight_format));
            if (s != STATUS_OK)
                break;
            if (spec->role == ROLE_EMBED_TOKENS && w->a->layer[i].kind == LAYER_EMBED) { /* for look-ups */
                home_of(w, i, j)->fd = w->fd[t->file];
                home_of(w, i, j)->offset = t->offset;
            }
            if (is_placed(w, i, j))
                s = load_placed(l, i, j, t, &scratch, err);
            else if (!spec->placed)
                s = load_resident(l, i, j, t, err);
        }
    return s;
}

enum status weights_open(struct weights *w, const char *directory, const struct arch *a, const struct placement *pl, int prefetch,
                         const struct weights_memory *m, const char *scratch_directory, struct io *io,
                         void (*progress)(int64_t done, int64_t total, void *arg), void *arg, struct error *err)
{
    struct loader l = {.w = w, .m = m, .io = io, .progress = progress, .arg = arg, .next_resident = m->resident};
    memset(w, 0, sizeof *w);
    w->a = a;
    w->pl = pl;
    w->scratch_fd = -1;
    enum status s = st_open(&w->files, directory, err);
    if (s != STATUS_OK)
        return s;
    w->fd = malloc((size_t)w->files.n_files * sizeof *w->fd);
    w->home = calloc((size_t)a->n_layers * LAYER_TENSORS_MAX, sizeof *w->home);
    w->resident = calloc((size_t)a->n_layers, sizeof *w->resident);
    for (int i = 0; w->fd && i < w->files.n_files; i++)
        w->fd[i] = -1;
    if (!w->fd || !w->home || !w->resident)
        s = error_set(err, STATUS_RUNTIME, "out of memory for %d layers", a->n_layers);
    for (int i = 0; s == STATUS_OK && i < w->files.n_files; i++) {
        bool direct;
        s = io_open_read(w->files.path[i], &w->fd[i], &direct, err);
    }
    for (int t = 0; t < pl->n_tiers; t++) {
        w->ring[t] = m->ring[t];
        w->slot_bytes[t] = pl->ring_bytes[t] / prefetch;
        l.next_weights[t] = m->weights[t];
    }
    bool packed = pl->weights == FORMAT_Q4;
    w->scratch_bytes = scratch_needed(w);
    for (int t = 0; t < pl->n_tiers - (packed ? 0 : 1); t++)
        l.total += packed ? pl->region_bytes[t][REGION_WEIGHTS] * 32 / 9 : pl->region_bytes[t][REGION_WEIGHTS];
    if (s == STATUS_OK && w->scratch_bytes > 0) {
        bool direct;
        s = io_open_scratch(scratch_directory, w->scratch_bytes, &w->scratch_fd, &direct, err);
    }
    if (s == STATUS_OK && packed)
        s = pool_new(&l.pool, pack_threads(&l), err);
    if (s == STATUS_OK)
        s = load_all(&l, err);
    if (progress && s == STATUS_OK)
        progress(l.total, l.total, arg);
    pool_free(l.pool);
    if (s != STATUS_OK)
        weights_close(w);
    return s;
}

void weights_close(struct weights *w)
{
    if (!w->a) /* never opened */
        return;
    for (int i = 0; w->fd && i < w->files.n_files; i++)
        if (w->fd[i] >= 0)
            close(w->fd[i]);
    if (w->scratch_fd >= 0)
        close(w->scratch_fd);
    free(w->fd);
    free(w->home);
    free(w->resident);
    st_free(&w->files);
    memset(w, 0, sizeof *w);
    w->scratch_fd = -1;
}

/* -- moving ----------------------------------------------------------------------------------------------------------- */

/* Direct reads land on aligned addresses: the first row of a piece read from the disk is this far into its place. */
static int64_t landing(const struct weights *w, int at, const struct weight_home *h, int home)
{
    int disk = w->pl->n_tiers - 1;
    return at == disk - 1 && home == disk ? h->offset - align_down(h->offset) : 0;
}

static char *slot_base(const struct weights *w, int tier, int slot)
{
    return w->ring[tier] + slot * w->slot_bytes[tier];
}

/* Where a piece lies in the slot of tier `at`'s ring. */
static char *piece_in_slot(const struct weights *w, int layer, const struct weight_piece *p, int at, int slot)
{
    return slot_base(w, at, slot) + p->offset + landing(w, at, home_of(w, layer, p->tensor), p->home);
}

static char *piece_above(const struct weights *w, int layer, int tensor, int home, int at, int slot)
{
    struct weight_piece piece[WEIGHT_PIECES_MAX];
    int n = placement_pieces(w->pl, w->a, layer, at, piece);
    for (int i = 0; i < n; i++)
        if (piece[i].tensor == tensor && piece[i].home == home)
            return piece_in_slot(w, layer, &piece[i], at, slot);
    return NULL;
}

enum status weights_load(const struct weights *w, const struct op *op, const struct lane *lane, struct io *io, int64_t *job,
                         struct error *err)
{
    struct weight_piece piece[WEIGHT_PIECES_MAX];
    struct io_extent extent[WEIGHT_PIECES_MAX];
    int at = op->link, disk = w->pl->n_tiers - 1, reads = 0;
    int n = placement_pieces(w->pl, w->a, op->layer, at, piece);
    enum status s = STATUS_OK;
    *job = -1;
    for (int i = 0; i < n && s == STATUS_OK; i++) {
        const struct weight_piece *p = &piece[i];
        const struct weight_home *h = home_of(w, op->layer, p->tensor);
        int64_t cols = w->a->layer[op->layer].tensor[p->tensor].cols, begin, end;
        weight_part_rows(p, format_row_step(w->pl->weights), op->part, op->parts, &begin, &end);
        if (begin == end)
            continue;
        int64_t from = format_matrix_bytes(w->pl->weights, begin - p->row_begin, cols);
        int64_t bytes = format_matrix_bytes(w->pl->weights, end - begin, cols);
        char *dst = piece_in_slot(w, op->layer, p, at, op->slot) + from;
        if (p->home == disk && at == disk - 1) {
            int64_t first = align_down(h->offset + from), last = round_up(h->offset + from + bytes, IO_ALIGN);
            extent[reads++] = (struct io_extent){.fd = h->fd,
                                                 .offset = first,
                                                 .bytes = last - first,
                                                 .buffer = dst - (h->offset + from - first)};
        } else {
            const char *src =
                p->home == at + 1 ? h->memory[p->home] : piece_above(w, op->layer, p->tensor, p->home, at + 1, op->slot);
            s = (p->home == at + 1 && p->home == w->pl->pageable ? lane_copy_pageable : lane_copy)(lane, dst, src + from, bytes,
                                                                                                   err);
        }
    }
    return s == STATUS_OK && reads ? io_submit(io, extent, reads, job, err) : s;
}

void weights_view(const struct weights *w, int layer, int slot, struct layer_weights *out)
{
    const struct layer *l = &w->a->layer[layer];
    struct weight_piece piece[WEIGHT_PIECES_MAX];
    int n = placement_pieces(w->pl, w->a, layer, 0, piece);
    memset(out->n_pieces, 0, sizeof out->n_pieces);
    out->layer = l;
    out->format = w->pl->weights;
    memcpy(out->resident, w->resident[layer], sizeof out->resident);
    for (int j = 0; j < l->n_tensors; j++) {
        const struct row_cut *cut = placement_cut(w->pl, layer, j);
        enum tensor_role role = l->tensor[j].role;
        if (!is_placed(w, layer, j))
            continue;
        if (cut->row[1] > cut->row[0])
            out->piece[role][out->n_pieces[role]++] =
                (struct matrix_piece){home_of(w, layer, j)->memory[0], cut->row[0], cut->row[1]};
        for (int i = 0; i < n; i++)
            if (piece[i].tensor == j)
                out->piece[role][out->n_pieces[role]++] =
                    (struct matrix_piece){piece_in_slot(w, layer, &piece[i], 0, slot), piece[i].row_begin, piece[i].row_end};
    }
}

/* -- token vectors ------------------------------------------------------------------------------------------------------ */

static int64_t token_row_bytes(const struct weights *w)
{
    return format_matrix_bytes(w->a->weight_format, 1, w->a->embed_width);
}

int64_t weights_lookup_stride(const struct weights *w)
{
    return round_up(token_row_bytes(w), IO_ALIGN) + IO_ALIGN;
}

/* A row of the table that is in memory as stored, and on which tier; or NULL. */
static const char *row_in_memory(const struct weights *w, int32_t id, int *tier)
{
    for (int i = w->a->n_layers - 1; w->a->tied && w->pl->weights != FORMAT_Q4 && i >= 0; i--) {
        const struct layer *l = &w->a->layer[i];
        if (l->kind != LAYER_HEAD)
            break;
        for (int j = 0; j < l->n_tensors; j++) {
            const struct row_cut *cut = placement_cut(w->pl, i, j);
            for (int u = 0; l->tensor[j].role == ROLE_EMBED_TOKENS && u < w->pl->n_tiers - 1; u++)
                if (id >= cut->row[u] && id < cut->row[u + 1]) {
                    *tier = u;
                    return home_of(w, i, j)->memory[u] + (id - cut->row[u]) * token_row_bytes(w);
                }
        }
    }
    return NULL;
}

static const struct weight_home *token_table(const struct weights *w)
{
    const struct layer *l = &w->a->layer[0];
    for (int j = 0; j < l->n_tensors; j++)
        if (l->tensor[j].role == ROLE_EMBED_TOKENS)
            return home_of(w, 0, j);
    return NULL;
}

/* A row on the disk is read in whole sectors to where its turn in `room` begins, then moves down to its place. */
enum status weights_lookup(const struct weights *w, const int32_t *ids, int64_t count, char *room, const void **vector,
                           struct io *io, struct error *err)
{
    const struct weight_home *table = token_table(w);
    int64_t row_bytes = token_row_bytes(w), stride = weights_lookup_stride(w);
    struct io_extent *extent = malloc((size_t)count * sizeof *extent);
    int reads = 0, tier = 0;
    if (!extent)
        return error_set(err, STATUS_RUNTIME, "out of memory for %lld look-ups", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        const char *row = row_in_memory(w, ids[i], &tier);
        int64_t offset = table->offset + ids[i] * row_bytes, first = align_down(offset);
        vector[i] = row;
        if (row && tier == w->pl->pageable)
            vector[i] = memcpy(room + i * stride, row, (size_t)row_bytes);
        else if (!row)
            extent[reads++] = (struct io_extent){.fd = table->fd,
                                                 .offset = first,
                                                 .bytes = round_up(offset + row_bytes, IO_ALIGN) - first,
                                                 .buffer = room + i * stride};
    }
    enum status s = reads ? io_run(io, extent, reads, err) : STATUS_OK;
    for (int64_t i = 0; i < count && s == STATUS_OK; i++) {
        int64_t offset = table->offset + ids[i] * row_bytes;
        if (!vector[i])
            vector[i] = memmove(room + i * stride, room + i * stride + offset - align_down(offset), (size_t)row_bytes);
    }
    free(extent);
    return s;
}
