#include "model/cost.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/placement.h"

const char *phase_name(enum phase p)
{
    return p == PHASE_PREFILL ? "prefill" : "decode";
}

double form_at(const struct form *f, const double fraction[CLASS_COUNT][TIERS_MAX])
{
    double sum = f->base;
    for (int c = 0; c < CLASS_COUNT; c++)
        for (int t = 0; t < TIERS_MAX; t++)
            sum += f->coef[c][t] * fraction[c][t];
    return sum;
}

/* -- primitives ------------------------------------------------------------------------------------------------------- */

double cost_transfer_s(const struct hardware *hw, int link, bool write, double bytes)
{
    const struct link *l = &hw->link[link];
    if (bytes <= 0)
        return 0;
    return (write ? l->write_latency_s : l->read_latency_s) +
           bytes / curve_at(write ? &l->write_bytes_per_s : &l->read_bytes_per_s, bytes);
}

static const struct curve *matmul_rate(const struct compute *unit, enum format weights)
{
    if (unit->matmul[weights].n == 0 && weights == FORMAT_BF16) /* the same bytes, the same products */
        return &unit->matmul[FORMAT_F16];
    return &unit->matmul[weights];
}

static double matmul_s(const struct compute *unit, enum format weights, double elements, double rows, double rows_at_once)
{
    return 2 * elements * rows / curve_at(matmul_rate(unit, weights), rows_at_once);
}

/* Passes over hidden states outside the matrix products, in activation elements per row: norm (read, write), residual (read both, write),
 * and for attention the keys and values written to the cache and read once. */
static double elementwise_elements(const struct arch *a, const struct layer *l)
{
    double hidden = (double)a->hidden;
    switch (l->kind) {
    case LAYER_ATTENTION:
        return 5 * hidden + 2 * (double)l->state_per_token;
    case LAYER_MLP:
        return 5 * hidden;
    case LAYER_EMBED:
        return 3 * hidden;
    default:
        return 2 * hidden;
    }
}

static double matrix_elements(const struct layer *l)
{
    double sum = 0;
    for (int j = 0; j < l->n_tensors; j++)
        if (l->tensor[j].placed || l->tensor[j].role == ROLE_PROJECT_IN || l->tensor[j].role == ROLE_PROJECT_OUT)
            sum += (double)(l->tensor[j].row_end - l->tensor[j].row_begin) * (double)l->tensor[j].cols;
    return sum;
}

double cost_attend_s(const struct compute *unit, const struct layer *l, enum format cache, int sequences, int64_t tokens,
                     double visible)
{
    if (l->kind != LAYER_ATTENTION)
        return 0;
    if (tokens > 1)
        return sequences * l->b * visible_sum(tokens, l->window) / unit->attention_prefill_flops_per_s;
    double seen = l->window > 0 && visible > (double)l->window ? (double)l->window : visible;
    return sequences * seen * (double)cache_row_bytes(l, cache) / unit->attention_decode_bytes_per_s[cache];
}

double cost_layer_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                    enum format cache, int sequences, int64_t tokens, double visible)
{
    bool head = l->kind == LAYER_HEAD; /* scores the last position only */
    double rows = head ? sequences : (double)sequences * (double)tokens;
    double at_once = (double)workspace_rows(sequences, head ? 1 : tokens);
    double element = unit->activation == FORMAT_F32 ? 4 : 2;
    double products = 0;
    if (l->kind == LAYER_EMBED) {
        const struct tensor *in = layer_tensor(l, ROLE_PROJECT_IN);
        products = in ? matmul_s(unit, FORMAT_F32, (double)(in->rows * in->cols), rows, at_once) : 0;
    } else {
        products = matmul_s(unit, weights, matrix_elements(l), rows, at_once);
    }
    return unit->launch_s + products + rows * elementwise_elements(a, l) * element / unit->memory_bytes_per_s +
           cost_attend_s(unit, l, cache, sequences, tokens, visible);
}

/* -- the table -------------------------------------------------------------------------------------------------------- */

struct build {
    struct cost *c;
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct policy *p;
    enum format weights, cache;
    double block, placed_bytes, visible; /* visible: mean tokens in the cache over the decode steps */
    bool near;
};

/* Adds bytes that live on a tier of class `cl` and must reach tier `at`, or leave it, in transfers of about `transfer` bytes. What
 * lives on the disk is `padding` times as long. */
static void add_traffic(struct build *b, enum phase ph, enum tensor_class cl, int at, bool write, double bytes, double transfer,
                        double padding)
{
    if (bytes <= 0)
        return;
    for (int home = at + 1; home < b->hw->n_tiers; home++)
        for (int link = at; link < home; link++) {
            int r = write ? resource_link_write(link) : resource_link_read(link);
            double size = home == b->hw->n_tiers - 1 ? transfer * padding : transfer;
            b->c->busy[ph][r].coef[cl][home] += bytes / transfer * cost_transfer_s(b->hw, link, write, size);
        }
}

/* A token's rows of a batch take whole sectors on the disk. */
static double cache_padding(const struct build *b, const struct layer *l)
{
    double batch = (double)b->p->gpu_batch_size * (double)cache_row_bytes(l, b->cache);
    return ceil(batch / DISK_ALIGN) * DISK_ALIGN / batch;
}

static void add_weights(struct build *b, enum phase ph)
{
    double visits = 0;
    for (int i = 0; i < b->a->n_layers; i++)
        visits += layer_placed_bytes(&b->a->layer[i], b->weights) > 0 && b->a->layer[i].kind != LAYER_EMBED;
    bool row = b->p->schedule == SCHEDULE_ROW; /* every batch passes over the weights by itself */
    int batches = b->p->num_gpu_batches;
    add_traffic(b, ph, CLASS_WEIGHT, 0, false, b->placed_bytes * (row ? batches : 1),
                b->placed_bytes / visits / (row ? 1 : batches), 1);
}

static void add_cache(struct build *b, enum phase ph)
{
    int attend_at = b->near ? 1 : 0;
    for (int i = 0; i < b->a->n_layers; i++) {
        double row = (double)cache_row_bytes(&b->a->layer[i], b->cache), batch = b->p->gpu_batch_size;
        if (row == 0)
            continue;
        double padding = cache_padding(b, &b->a->layer[i]), seen = b->visible - 1;
        if (ph == PHASE_PREFILL) {
            double s = (double)b->w->prompt_tokens;
            add_traffic(b, ph, CLASS_CACHE, 0, true, b->block * row * s, batch * row * s, padding);
        } else {
            add_traffic(b, ph, CLASS_CACHE, attend_at, false, b->block * row * seen, batch * row * seen, padding);
            add_traffic(b, ph, CLASS_CACHE, attend_at, true, b->block * row, batch * row, padding);
        }
    }
}

/* Hidden states go down after every layer but the last head part and come up before every layer but the embedding. */
static void add_hidden(struct build *b, enum phase ph)
{
    double tokens = ph == PHASE_PREFILL ? (double)b->w->prompt_tokens : 1;
    double row = (double)hidden_row_bytes(b->a, &b->hw->compute[0]) * tokens;
    double loads = 0, stores = 0;
    for (int i = 0; i < b->a->n_layers; i++) {
        loads += b->a->layer[i].kind != LAYER_EMBED;
        stores += b->a->layer[i].kind != LAYER_HEAD;
    }
    add_traffic(b, ph, CLASS_ACTIVATION, 0, false, b->block * row * loads, b->p->gpu_batch_size * row, 1);
    add_traffic(b, ph, CLASS_ACTIVATION, 0, true, b->block * row * stores, b->p->gpu_batch_size * row, 1);
}

/* Queries, keys and values of the sequences whose cache is below go down, results come up. */
static void add_near(struct build *b)
{
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        if (l->kind != LAYER_ATTENTION)
            continue;
        double up = (double)(b->a->heads * b->a->head_dim) * 4, down = up + (double)l->state_per_token * 4;
        double batch = b->p->gpu_batch_size;
        for (int home = 1; home < b->hw->n_tiers; home++) {
            b->c->busy[PHASE_DECODE][resource_link_write(0)].coef[CLASS_CACHE][home] +=
                b->p->num_gpu_batches * cost_transfer_s(b->hw, 0, true, batch * down);
            b->c->busy[PHASE_DECODE][resource_link_read(0)].coef[CLASS_CACHE][home] +=
                b->p->num_gpu_batches * cost_transfer_s(b->hw, 0, false, batch * up);
        }
    }
}

static void add_compute(struct build *b, enum phase ph)
{
    int64_t tokens = ph == PHASE_PREFILL ? b->w->prompt_tokens : 1;
    double visible = ph == PHASE_PREFILL ? (double)tokens : b->visible;
    bool near = b->near && ph == PHASE_DECODE;
    struct form *unit0 = &b->c->busy[ph][resource_compute(b->hw, 0)];
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        int batch = b->p->gpu_batch_size, n = b->p->num_gpu_batches;
        double all = cost_layer_s(&b->hw->compute[0], b->a, l, b->weights, b->cache, batch, tokens, visible);
        double attend = cost_attend_s(&b->hw->compute[0], l, b->cache, batch, tokens, visible);
        unit0->base += n * (near ? all - attend : all);
        if (near && l->kind == LAYER_ATTENTION) {
            struct form *unit1 = &b->c->busy[ph][resource_compute(b->hw, 1)];
            double below = cost_attend_s(&b->hw->compute[1], l, b->cache, batch, tokens, visible);
            unit0->coef[CLASS_CACHE][0] += n * attend;
            for (int home = 1; home < b->hw->n_tiers; home++)
                unit1->coef[CLASS_CACHE][home] += n * (b->hw->compute[1].launch_s + below);
        }
    }
}

double cost_lookup_s(const struct hardware *hw, const struct arch *a, double rows)
{
    double row = (double)a->embed_width * (a->weight_format == FORMAT_F32 ? 4 : 2);
    double extent = ceil(row / DISK_ALIGN + 1) * DISK_ALIGN; /* a row may straddle one more sector */
    return rows * extent / curve_at(&hw->link[hw->n_tiers - 2].read_bytes_per_s, extent);
}

/* The rows of the token table that are on the disk are fetched one by one, and the compute unit waits for them. */
static void add_lookup(struct build *b, enum phase ph)
{
    int disk = b->hw->n_tiers - 1;
    double s = cost_lookup_s(b->hw, b->a, b->block * (ph == PHASE_PREFILL ? (double)b->w->prompt_tokens : 1));
    struct form *unit = &b->c->busy[ph][resource_compute(b->hw, 0)];
    if (b->weights == FORMAT_Q4) /* looked up at the stored precision, in the model's file */
        unit->base += s;
    else
        unit->coef[CLASS_WEIGHT][disk] += s;
}

/* One tier's memory; docs/cost-model.md "Peak memory". The same regions as placement.h. */
static void add_memory(struct build *b, struct form peak[TIERS_MAX])
{
    const struct arch *a = b->a;
    int disk = b->hw->n_tiers - 1;
    double cap = (double)cache_tokens(b->w), cache_layer = 0, cache_all = 0, padding = 1;
    double hidden = b->block * (double)b->w->prompt_tokens * (double)hidden_row_bytes(a, &b->hw->compute[0]);
    double ring = (double)b->p->prefetch * (double)largest_layer_bytes(a, b->weights);
    for (int i = 0; i < a->n_layers; i++) {
        double row = (double)cache_row_bytes(&a->layer[i], b->cache) * cap;
        cache_all += row * b->block;
        cache_layer = fmax(cache_layer, row * b->p->gpu_batch_size);
        padding = row > 0 ? cache_padding(b, &a->layer[i]) : padding;
        peak[0].base += (double)layer_resident_bytes(&a->layer[i]);
    }
    peak[0].base += (double)workspace_bytes(a, &b->hw->compute[0], b->w, b->p);
    for (int t = 0; t < b->hw->n_tiers; t++) {
        peak[t].coef[CLASS_WEIGHT][t] += b->placed_bytes;
        peak[t].coef[CLASS_CACHE][t] += cache_all * (t == disk ? padding : 1);
        peak[t].coef[CLASS_ACTIVATION][t] += hidden;
        for (int home = t + 1; t < disk && home <= disk; home++) {
            peak[t].coef[CLASS_WEIGHT][home] += ring;
            peak[t].coef[CLASS_CACHE][home] += 2 * cache_layer * (home == disk ? padding : 1);
            peak[t].coef[CLASS_ACTIVATION][home] += 3 * hidden / b->p->num_gpu_batches;
        }
    }
    if (b->near)
        peak[1].base += (double)(near_rows_bytes(a, b->p) + b->hw->compute[1].workspace_bytes);
}

static enum status check_rates(const struct build *b, struct error *err)
{
    for (int u = 0; u < (b->near ? 2 : 1); u++) {
        const struct compute *unit = &b->hw->compute[u];
        if (u == 0 && matmul_rate(unit, b->weights)->n == 0)
            return error_set(err, STATUS_INVALID, "hardware %s: compute '%s' has no matmul rate for %s weights", b->hw->name,
                             unit->name, format_name(b->weights));
        if (unit->attention_decode_bytes_per_s[b->cache] <= 0)
            return error_set(err, STATUS_INVALID, "hardware %s: compute '%s' has no attention_decode rate for a %s cache",
                             b->hw->name, unit->name, format_name(b->cache));
    }
    return STATUS_OK;
}

enum status cost_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                       const struct policy *p, struct error *err)
{
    struct build b = {.c = c,
                      .a = a,
                      .hw = hw,
                      .w = w,
                      .p = p,
                      .weights = policy_weight_format(p, a),
                      .cache = policy_cache_format(p, &hw->compute[0]),
                      .block = (double)policy_block(p),
                      .near = p->attention_near_cache};
    enum status s = check_rates(&b, err);
    if (s != STATUS_OK)
        return s;
    memset(c, 0, sizeof *c);
    c->n_tiers = hw->n_tiers;
    c->n_resources = resource_count(hw);
    c->overlap = p->overlap;
    c->steps[PHASE_PREFILL] = 1;
    c->steps[PHASE_DECODE] = (double)(w->gen_tokens - 1);
    c->tokens = b.block * (double)w->gen_tokens;
    b.visible = w->gen_tokens > 1 ? visible_mean(w->prompt_tokens, w->gen_tokens - 1, 0) : (double)w->prompt_tokens;
    for (int i = 0; i < a->n_layers; i++)
        if (a->layer[i].kind != LAYER_EMBED)
            b.placed_bytes += (double)layer_placed_bytes(&a->layer[i], b.weights);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        add_weights(&b, ph);
        add_cache(&b, ph);
        add_hidden(&b, ph);
        add_compute(&b, ph);
        add_lookup(&b, ph);
        add_memory(&b, c->peak[ph]);
    }
    if (b.near)
        add_near(&b);
    return STATUS_OK;
}

void cost_predict(const struct cost *c, const double fraction[CLASS_COUNT][TIERS_MAX], struct prediction *out)
{
    double phase_s[PHASE_COUNT];
    memset(out, 0, sizeof *out);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        double most = 0, sum = 0;
        for (int r = 0; r < c->n_resources; r++) {
            double s = form_at(&c->busy[ph][r], fraction);
            out->busy_s[ph][r] = s * c->steps[ph];
            sum += s;
            if (s > most) {
                most = s;
                out->bound_by[ph] = r;
            }
        }
        phase_s[ph] = c->steps[ph] * ((c->overlap ? most : sum) + c->fill_s[ph]);
        for (int t = 0; t < c->n_tiers; t++)
            out->peak_bytes[ph][t] = form_at(&c->peak[ph][t], fraction);
    }
    out->prefill_s = phase_s[PHASE_PREFILL];
    out->decode_s = phase_s[PHASE_DECODE];
    out->latency_s = out->prefill_s + out->decode_s;
    out->throughput_tok_s = out->latency_s > 0 ? c->tokens / out->latency_s : 0;
}
