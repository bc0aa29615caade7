#include "model/placement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/device_rows.h"
#include "model/integers.h"
#include "model/stream.h"
#include "model/units.h"

const char *region_name(enum region r)
{
    static const char *const names[REGION_COUNT] = {"resident",    "weights",     "weight ring",      "cache",
                                                    "cache slots", "activations", "activation slots", "workspace"};
    return names[r];
}

/* -- sizes ----------------------------------------------------------------------------------------------------------- */

enum format policy_weight_format(const struct policy *p, const struct arch *a)
{
    return p->weight_bits == 4 ? FORMAT_Q4 : a->weight_format;
}

enum format policy_cache_format(const struct policy *p, const struct compute *unit)
{
    if (p->cache_bits == 4)
        return FORMAT_Q4;
    return strcmp(unit->math, "f32") == 0 ? FORMAT_F32 : FORMAT_F16;
}

int64_t cache_row_bytes(const struct layer *l, enum format cache)
{
    return l->state_per_token == 0 ? 0 : 2 * format_vector_bytes(cache, l->state_per_token / 2);
}

int64_t cache_tokens(const struct workload *w)
{
    return w->prompt_tokens + w->gen_tokens - 1;
}

int64_t hidden_row_bytes(const struct arch *a, const struct compute *unit)
{
    return a->hidden * (unit->activation == FORMAT_F32 ? 4 : 2);
}

int64_t workspace_rows(const struct compute *unit, int64_t sequences, int64_t tokens)
{
    int64_t at_once = unit->whole_batch ? sequences : max64(1, WORKSPACE_ROWS / tokens);
    return (sequences < at_once ? sequences : at_once) * tokens;
}

/* The widest input of a matrix product, whose low-precision copy is part of the workspace. */
static int64_t widest_input(const struct arch *a)
{
    return max64(max64(a->hidden, a->ffn), a->heads * a->head_dim);
}

int host_tier(const struct hardware *hw)
{
    int t = 0;
    while (hw->tier[t].kind == TIER_DEVICE && t + 2 < hw->n_tiers)
        t++;
    return t;
}

int pageable_tier(const struct hardware *hw, const struct policy *p)
{
    int host = host_tier(hw);
    return p->pageable_weights && host > 0 && !hardware_waits(hw) ? host : -1;
}

/* Room for the token vectors of a look-up, 1 MiB at a time, or for a row of logits, should somebody ask to see them. Beside a device this is
 * also where files are read into and packed by a few threads; the host's own unit leaves more than that. */
static int64_t lookup_bytes(const struct arch *a, bool beside_device)
{
    int64_t packing = 4 * Q4_GROUP * widest_input(a) * (4 + 4 + 1); /* f32 rows, stored rows, packed ones */
    return round_up(max64(max64(1 << 20, 4 * a->vocab), beside_device ? packing : 0), DISK_ALIGN);
}

/* A program that computes a batch at once, as FlexGen prints its working set (facts/flexgen.md, "Peak memory"): the largest of queries, keys, values and
 * output; keys, values and the scores of every pair, twice; the MLP's two rows; the scores of all positions over the vocabulary. */
static int64_t whole_batch_bytes(const struct arch *a, const struct workload *w, const struct policy *p)
{
    int64_t s = w->prompt_tokens, rows = p->gpu_batch_size * s;
    int64_t attention = 4 * rows * a->hidden + 4 * p->gpu_batch_size * a->heads * s * s;
    int64_t layer = max64(max64(8 * rows * a->hidden, attention), 2 * rows * (a->hidden + a->ffn));
    return max64(layer, rows * (4 * a->hidden + 2 * a->vocab));
}

/* A unit that keeps hidden states in f16 is a device's. */
static int64_t layer_bytes(const struct arch *a, const struct compute *unit, const struct workload *w, const struct policy *p)
{
    int64_t operand =
        strcmp(unit->math, "f32") == 0 || (unit->activation == FORMAT_F16 && a->weight_format == FORMAT_F32) ? 4 : 2;
    int64_t rows = max64(workspace_rows(unit, p->gpu_batch_size, w->prompt_tokens), workspace_rows(unit, p->gpu_batch_size, 1));
    int64_t qkv = (a->heads + 2 * a->kv_heads) * a->head_dim;
    if (unit->activation == FORMAT_F16) {
        struct device_rows row = device_rows_of(a, operand);
        return rows * (row.operand + row.inner + row.out);
    }
    int64_t layer = rows * (a->hidden + max64(qkv, a->ffn)) * 4; /* norm output, then q, k, v or the MLP's inner rows */
    int64_t copy = rows * widest_input(a) * operand;             /* what products multiply in their precision */
    int64_t head = (int64_t)p->gpu_batch_size * max64(a->hidden, a->embed_width) * 2 * 4;
    return max64(layer, head) + copy;
}

int workspace_logits(const struct arch *a, const struct policy *p)
{
    bool parts = a->layer[a->n_layers - 1].block > 0;
    return parts && p->schedule != SCHEDULE_ROW ? p->num_gpu_batches : 1;
}

struct workspace workspace_of(const struct arch *a, const struct hardware *hw, int tier, const struct workload *w,
                              const struct policy *p)
{
    struct workspace s = {0};
    bool near = p->attention_near_cache && tier <= 1;
    if (tier == hw->n_tiers - 1) /* nobody works on the disk */
        return s;
    if (tier == host_tier(hw)) {
        s.lookup_bytes = lookup_bytes(a, tier > 0);
        s.upload_bytes = tier == pageable_tier(hw, p) ? UPLOAD_BYTES : 0;
    }
    if (tier == 0 && !hw->compute[0].whole_batch) /* of a whole batch they are among its intermediate results */
        s.logits_bytes = round_up((int64_t)workspace_logits(a, p) * p->gpu_batch_size * a->vocab * 4, DISK_ALIGN);
    if (tier == 0)
        s.unit_bytes =
            round_up((hw->compute[0].whole_batch ? whole_batch_bytes(a, w, p) : layer_bytes(a, &hw->compute[0], w, p)) +
                         hw->compute[0].workspace_bytes,
                     256); /* what follows are f32 */
    else if (near)
        s.unit_bytes = hw->compute[1].workspace_bytes;
    if (near)
        s.near_bytes = 2 * (int64_t)p->gpu_batch_size * (a->heads + 2 * a->kv_heads) * a->head_dim * 4;
    return s;
}

int64_t workspace_bytes(const struct workspace *s)
{
    return s->lookup_bytes + s->upload_bytes + s->logits_bytes + s->unit_bytes + s->near_bytes;
}

int64_t largest_layer_bytes(const struct arch *a, enum format weights)
{
    int64_t largest = 0;
    for (int i = 0; i < a->n_layers; i++)
        if (a->layer[i].alike && a->layer[i].kind != LAYER_EMBED)
            largest = max64(largest, layer_placed_bytes(&a->layer[i], weights));
    return largest;
}

/* The token table of the embedding is not placed: rows are looked up, in the head's part of a tied table or in the model's file. */
static bool layer_is_placed(const struct layer *l)
{
    return l->kind != LAYER_EMBED;
}

static int64_t tensor_bytes(const struct placement *pl, const struct tensor *t, int64_t rows)
{
    return format_matrix_bytes(pl->weights, rows, t->cols);
}

/* -- rounding --------------------------------------------------------------------------------------------------------- */

/* Cuts every placed matrix so that the bytes on the first u tiers follow their share, remainders carried to the next matrix. */
static void cut_weights(struct placement *pl, const struct arch *a, const struct policy *p)
{
    double total = 0, assigned[TIERS_MAX] = {0};
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        for (int j = 0; j < l->n_tensors; j++) {
            const struct tensor *t = &l->tensor[j];
            struct row_cut *cut = &pl->cut[i * LAYER_TENSORS_MAX + j];
            if (!t->placed || !layer_is_placed(l))
                continue;
            int64_t rows = t->row_end - t->row_begin, step = format_row_step(pl->weights), at = 0;
            double row_bytes = (double)tensor_bytes(pl, t, rows) / (double)rows, share = 0;
            total += row_bytes * (double)rows;
            cut->row[0] = t->row_begin;
            for (int u = 0; u < pl->n_tiers - 1; u++) {
                share += p->fraction[CLASS_WEIGHT][u];
                int64_t want = llround((share * total - assigned[u]) / row_bytes / (double)step) * step;
                at = want < at ? at : want > rows ? rows : want;
                assigned[u] += (double)at * row_bytes;
                cut->row[u + 1] = t->row_begin + at;
            }
            cut->row[pl->n_tiers] = t->row_end;
        }
    }
}

/* FlexGen's rule: a layer's matrices lie one after the other along [0, 1), the tiers' shares too, the lowest tier's first; a matrix goes
 * to the tier that its middle falls on. */
static void give_whole(struct placement *pl, const struct arch *a, const struct policy *p)
{
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        double all = (double)layer_placed_bytes(l, pl->weights), before = 0;
        for (int j = 0; j < l->n_tensors; j++) {
            const struct tensor *t = &l->tensor[j];
            struct row_cut *cut = &pl->cut[i * LAYER_TENSORS_MAX + j];
            if (!t->placed || !layer_is_placed(l))
                continue;
            double bytes = (double)tensor_bytes(pl, t, t->row_end - t->row_begin), middle = (before + bytes / 2) / all;
            int home = pl->n_tiers - 1;
            double share = p->fraction[CLASS_WEIGHT][home];
            while (home > 0 && middle >= share)
                share += p->fraction[CLASS_WEIGHT][--home];
            for (int u = 0; u <= pl->n_tiers; u++)
                cut->row[u] = u <= home ? t->row_begin : t->row_end;
            before += bytes;
        }
    }
}

/* Gives each of `n` sequences to the tier that is furthest behind its share; `given` carries over between calls. */
static void share_sequences(int n_tiers, const double *fraction, int n, int64_t *given, int32_t *count)
{
    for (int u = 0; u < n_tiers; u++)
        if (fraction[u] >= 1) { /* nothing to weigh */
            given[u] += n;
            count[u] += n;
            return;
        }
    for (int i = 0; i < n; i++) {
        int64_t all = 1;
        for (int u = 0; u < n_tiers; u++)
            all += given[u];
        int best = 0;
        double most = -1e300;
        for (int u = 0; u < n_tiers; u++) {
            double behind = fraction[u] * (double)all - (double)given[u];
            if (fraction[u] > 0 && behind > most + 1e-9) {
                most = behind;
                best = u;
            }
        }
        given[best]++;
        count[best]++;
    }
}

/* Fills the cell of `batch` and gives out its sequences; the diagonal's batches, which take each other's pages, are all cut alike. */
static void share_cell(struct placement *pl, const struct policy *p, int layer, int64_t row, int64_t *given)
{
    for (int k = 0; k < pl->n_batches; k++) {
        int first = layer * pl->n_batches * TIERS_MAX, cell = first + k * TIERS_MAX;
        if (k > 0 && pl->paged) {
            memcpy(&pl->cache_count[cell], &pl->cache_count[first], TIERS_MAX * sizeof *pl->cache_count);
            memcpy(&pl->cache_stride[cell], &pl->cache_stride[first], TIERS_MAX * sizeof *pl->cache_stride);
            continue;
        }
        share_sequences(pl->n_tiers, p->fraction[CLASS_CACHE], pl->batch_size, given, &pl->cache_count[cell]);
        for (int u = 0; u < pl->n_tiers; u++) {
            int64_t stride = pl->cache_count[cell + u] * row;
            pl->cache_stride[cell + u] = u == pl->n_tiers - 1 ? round_up(stride, DISK_ALIGN) : stride;
        }
    }
}

static void share_cache(struct placement *pl, const struct arch *a, const struct policy *p)
{
    int64_t given[TIERS_MAX] = {0}, all = 0;
    for (int i = 0; i < pl->n_layers; i++) {
        int64_t row = cache_row_bytes(&a->layer[i], pl->cache);
        if (row > 0)
            share_cell(pl, p, i, row, given);
    }
    for (int u = 0; u < pl->n_tiers; u++)
        all += given[u];
    for (int u = 0; u < pl->n_tiers; u++)
        pl->realised[CLASS_CACHE][u] = all ? (double)given[u] / (double)all : p->fraction[CLASS_CACHE][u];
}

static void share_hidden(struct placement *pl, const struct policy *p)
{
    int64_t given[TIERS_MAX] = {0}, all = 0;
    for (int k = 0; k < pl->n_batches; k++) {
        int32_t *count = &pl->hidden_count[k * TIERS_MAX];
        if (k > 0 && pl->paged)
            memcpy(count, pl->hidden_count, TIERS_MAX * sizeof *count);
        else
            share_sequences(pl->n_tiers, p->fraction[CLASS_ACTIVATION], pl->batch_size, given, count);
    }
    for (int u = 0; u < pl->n_tiers; u++)
        all += given[u];
    for (int u = 0; u < pl->n_tiers; u++)
        pl->realised[CLASS_ACTIVATION][u] = (double)given[u] / (double)all;
}

/* -- regions ---------------------------------------------------------------------------------------------------------- */

int placement_pieces(const struct placement *pl, const struct arch *a, int layer, int at,
                     struct weight_piece out[WEIGHT_PIECES_MAX])
{
    const struct layer *l = &a->layer[layer];
    int n = 0, disk = pl->n_tiers - 1;
    int64_t offset = 0;
    if (!layer_is_placed(l))
        return 0;
    for (int j = 0; j < l->n_tensors; j++) {
        const struct row_cut *cut = &pl->cut[layer * LAYER_TENSORS_MAX + j];
        for (int home = at + 1; l->tensor[j].placed && home < pl->n_tiers; home++) {
            int64_t rows = cut->row[home + 1] - cut->row[home];
            if (rows == 0)
                continue;
            struct weight_piece *w = &out[n++];
            *w = (struct weight_piece){.tensor = j,
                                       .home = home,
                                       .row_begin = cut->row[home],
                                       .row_end = cut->row[home + 1],
                                       .bytes = tensor_bytes(pl, &l->tensor[j], rows),
                                       .offset = offset};
            offset += round_up(w->bytes, DISK_ALIGN) + (home == disk ? DISK_ALIGN : 0);
        }
    }
    return n;
}

void weight_part_rows(const struct weight_piece *piece, int64_t step, int part, int parts, int64_t *begin, int64_t *end)
{
    int64_t rows = piece->row_end - piece->row_begin;
    *begin = piece->row_begin + rows * part / parts / step * step;
    *end = part + 1 == parts ? piece->row_end : piece->row_begin + rows * (part + 1) / parts / step * step;
}

static void size_weights(struct placement *pl, const struct arch *a, const struct policy *p)
{
    double placed = 0;
    int disk = pl->n_tiers - 1;
    for (int i = 0; i < pl->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        pl->region_bytes[0][REGION_RESIDENT] += layer_resident_bytes(l);
        for (int j = 0; layer_is_placed(l) && j < l->n_tensors; j++) {
            const struct row_cut *cut = &pl->cut[i * LAYER_TENSORS_MAX + j];
            for (int u = 0; l->tensor[j].placed && u < pl->n_tiers; u++) {
                int64_t bytes = tensor_bytes(pl, &l->tensor[j], cut->row[u + 1] - cut->row[u]);
                pl->region_bytes[u][REGION_WEIGHTS] += bytes;
                placed += (double)bytes;
            }
        }
        for (int at = 0; at < disk; at++) {
            struct weight_piece piece[WEIGHT_PIECES_MAX];
            int n = placement_pieces(pl, a, i, at, piece);
            int64_t bytes = n == 0 ? 0 : piece[n - 1].offset + round_up(piece[n - 1].bytes, DISK_ALIGN) + DISK_ALIGN;
            pl->visit_bytes[i * TIERS_MAX + at] = bytes;
            pl->ring_bytes[at] = max64(pl->ring_bytes[at], bytes * p->prefetch);
        }
    }
    for (int u = 0; u < pl->n_tiers; u++) {
        pl->realised[CLASS_WEIGHT][u] = placed > 0 ? (double)pl->region_bytes[u][REGION_WEIGHTS] / placed : 0;
        pl->region_bytes[u][REGION_WEIGHT_RING] = pl->ring_bytes[u];
    }
}

static void size_cache(struct placement *pl)
{
    for (int cell = 0; cell < pl->n_layers * pl->n_batches; cell++)
        for (int at = 0; at < pl->n_tiers; at++) {
            const int64_t *stride = &pl->cache_stride[(int64_t)cell * TIERS_MAX];
            int64_t below = 0;
            for (int u = at + 1; u < pl->n_tiers; u++)
                below += stride[u] * pl->cache_tokens;
            if (!pl->paged)
                pl->region_bytes[at][REGION_CACHE] += stride[at] * pl->cache_tokens;
            else if (cell % pl->n_batches == 0)
                pl->region_bytes[at][REGION_CACHE] += stride[at] * pl->layer_cache_tokens;
            pl->cache_slot_bytes[at] = max64(pl->cache_slot_bytes[at], round_up(below, DISK_ALIGN));
        }
    for (int at = 0; at < pl->n_tiers - 1; at++)
        pl->region_bytes[at][REGION_CACHE_SLOTS] = 2 * pl->cache_slot_bytes[at];
}

int64_t placement_hidden_bytes(const struct placement *pl, int batch, int tier, int64_t tokens)
{
    int64_t bytes = placement_hidden_count(pl, batch, tier) * tokens * pl->hidden_row_bytes;
    return tier == 0 ? bytes : round_up(bytes, DISK_ALIGN);
}

static void size_hidden(struct placement *pl)
{
    for (int k = 0; k < pl->n_batches; k++)
        for (int at = 0; at < pl->n_tiers; at++) {
            int64_t below = 0, *region = &pl->region_bytes[at][REGION_ACTIVATIONS];
            for (int u = at + 1; u < pl->n_tiers; u++)
                below += placement_hidden_bytes(pl, k, u, pl->prompt_tokens);
            if (!pl->paged)
                *region += placement_hidden_bytes(pl, k, at, pl->prompt_tokens);
            else /* a row each, and whole prompts for those that enter */
                *region += placement_hidden_bytes(pl, k, at, 1) +
                           (k < pl->entering_most ? placement_hidden_bytes(pl, k, at, pl->prompt_tokens) : 0);
            pl->hidden_slot_bytes[at] = max64(pl->hidden_slot_bytes[at], below);
        }
    for (int at = 0; at < pl->n_tiers - 1; at++)
        pl->region_bytes[at][REGION_ACTIVATION_SLOTS] = 3 * pl->hidden_slot_bytes[at];
}

enum status placement_new(struct placement *out, const struct arch *a, const struct hardware *hw, const struct workload *w,
                          const struct policy *p, struct error *err)
{
    size_t cells = (size_t)a->n_layers * (size_t)p->num_gpu_batches * TIERS_MAX;
    *out = (struct placement){.n_tiers = hw->n_tiers,
                              .n_layers = a->n_layers,
                              .n_batches = p->num_gpu_batches,
                              .batch_size = p->gpu_batch_size,
                              .weights = policy_weight_format(p, a),
                              .cache = policy_cache_format(p, &hw->compute[0]),
                              .pageable = pageable_tier(hw, p),
                              .prompt_tokens = w->prompt_tokens,
                              .cache_tokens = cache_tokens(w),
                              .paged = p->schedule == SCHEDULE_DIAGONAL,
                              .layer_cache_tokens = stream_cache_tokens(w, p),
                              .entering_most = stream_entering_most(w, p),
                              .hidden_row_bytes = hidden_row_bytes(a, &hw->compute[0])};
    out->cut = calloc((size_t)a->n_layers * LAYER_TENSORS_MAX, sizeof *out->cut);
    out->cache_count = calloc(cells, sizeof *out->cache_count);
    out->cache_stride = calloc(cells, sizeof *out->cache_stride);
    out->hidden_count = calloc((size_t)p->num_gpu_batches * TIERS_MAX, sizeof *out->hidden_count);
    out->visit_bytes = calloc((size_t)a->n_layers * TIERS_MAX, sizeof *out->visit_bytes);
    if (!out->cut || !out->cache_count || !out->cache_stride || !out->hidden_count || !out->visit_bytes) {
        placement_free(out);
        return error_set(err, STATUS_RUNTIME, "out of memory for the placement of %d layers x %d batches", a->n_layers,
                         p->num_gpu_batches);
    }
    if (p->whole_tensors)
        give_whole(out, a, p);
    else
        cut_weights(out, a, p);
    share_cache(out, a, p);
    share_hidden(out, p);
    size_weights(out, a, p);
    size_cache(out);
    size_hidden(out);
    for (int t = 0; t < hw->n_tiers; t++) {
        struct workspace part = workspace_of(a, hw, t, w, p);
        out->region_bytes[t][REGION_WORKSPACE] = workspace_bytes(&part);
        for (int r = 0; r < REGION_COUNT && t < hw->n_tiers - 1; r++)
            out->region_bytes[t][r] = round_up(out->region_bytes[t][r], DISK_ALIGN);
    }
    return STATUS_OK;
}

void placement_free(struct placement *pl)
{
    free(pl->cut);
    free(pl->cache_count);
    free(pl->cache_stride);
    free(pl->hidden_count);
    free(pl->visit_bytes);
    memset(pl, 0, sizeof *pl);
}

int64_t placement_peak(const struct placement *pl, int tier)
{
    int64_t sum = 0;
    for (int r = 0; r < REGION_COUNT; r++)
        sum += pl->region_bytes[tier][r];
    return sum;
}

bool placement_pageable(const struct placement *pl, int tier, enum region r)
{
    return tier == pl->pageable && r == REGION_WEIGHTS;
}

int64_t placement_block(const struct placement *pl, int tier)
{
    int64_t sum = 0;
    for (int r = 0; r < REGION_COUNT; r++)
        sum += placement_pageable(pl, tier, (enum region)r) ? 0 : pl->region_bytes[tier][r];
    return sum;
}

double placement_pinning_s(const struct placement *pl, const struct hardware *hw)
{
    int host = host_tier(hw);
    double rate = host > 0 ? hw->link[host - 1].pinning_bytes_per_s : 0;
    return rate > 0 ? (double)placement_block(pl, host) / rate : 0;
}

enum status placement_check(const struct placement *pl, const struct hardware *hw, struct error *err)
{
    for (int t = 0; t < pl->n_tiers; t++) {
        int64_t need = placement_peak(pl, t), have = hw->tier[t].capacity_bytes;
        char a[32], b[32], c[32];
        if (need > have)
            return error_set(err, STATUS_DOES_NOT_FIT, "does not fit: tier %s needs %s (%lld bytes) of %s, %s missing",
                             hw->tier[t].name, units_format((double)need, UNIT_BYTES, a, sizeof a), (long long)need,
                             units_format((double)have, UNIT_BYTES, b, sizeof b),
                             units_format((double)(need - have), UNIT_BYTES, c, sizeof c));
    }
    return STATUS_OK;
}

const struct row_cut *placement_cut(const struct placement *pl, int layer, int tensor)
{
    return &pl->cut[layer * LAYER_TENSORS_MAX + tensor];
}

int placement_cache_count(const struct placement *pl, int layer, int batch, int tier)
{
    return pl->cache_count[(layer * pl->n_batches + batch % pl->n_batches) * TIERS_MAX + tier];
}

int64_t placement_cache_stride(const struct placement *pl, int layer, int batch, int tier)
{
    return pl->cache_stride[(layer * pl->n_batches + batch % pl->n_batches) * TIERS_MAX + tier];
}

int placement_hidden_count(const struct placement *pl, int batch, int tier)
{
    return pl->hidden_count[batch % pl->n_batches * TIERS_MAX + tier];
}

enum status placement_realise(const struct arch *a, const struct hardware *hw, const struct workload *w, struct policy *p,
                              int64_t peak_bytes[TIERS_MAX], struct error *err)
{
    struct placement pl;
    enum status s = placement_new(&pl, a, hw, w, p, err);
    if (s != STATUS_OK)
        return s;
    memcpy(p->fraction, pl.realised, sizeof p->fraction);
    for (int t = 0; t < pl.n_tiers; t++)
        peak_bytes[t] = placement_peak(&pl, t);
    placement_free(&pl);
    return STATUS_OK;
}
