#include "model/cost.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/fill.h"
#include "model/placement.h"
#include "model/stream.h"
#include "model/turns.h"

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

void form_add(struct form *sum, const struct form *f, double scale, int n_tiers)
{
    sum->base += scale * f->base;
    for (int cl = 0; cl < CLASS_COUNT; cl++)
        for (int t = 0; t < n_tiers; t++)
            sum->coef[cl][t] += scale * f->coef[cl][t];
}

/* What a quantity may be anywhere in a box of batch sizes; low == high at a point. */
struct span {
    double low, high;
};

/* One builder for a point (low == high) and for the bound over a box. Times are those of `block` sequences, the smallest block of the
 * box, at the least that a sequence costs anywhere in it; bytes kept are those of the smallest sizes. docs/planner.md, "The bound". */
struct build {
    struct cost *c;
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct policy *p, *high; /* smallest sizes and the switches; largest sizes */
    enum format weights, cache;
    enum format products, attended; /* what the first unit works on: 16 bits where a runtime expands 4 first */
    int pageable;                   /* the tier whose weights are in pageable memory, or -1 */
    double block, placed_bytes;
    double visible, visible_most; /* mean tokens in the cache over the decode steps: the least, the most in the box */
    double batches;               /* fewest batches that `block` sequences take: the number of batches, at a point */
    double passes;                /* part of a pass over the weights that `block` sequences pay: 1 at a point */
    bool near;
};

static double transfers_s(const struct hardware *hw, int link, bool write, double bytes, double transfers, struct span size)
{
    return cost_transfers_s(hw, link, write, bytes, transfers, size.low, size.high);
}

static struct span times(struct span s, double factor)
{
    return (struct span){s.low * factor, s.high * factor};
}

static struct span gpu_batch(const struct build *b)
{
    return (struct span){b->p->gpu_batch_size, b->high->gpu_batch_size};
}

static const struct span NO_PADDING = {1, 1};

/* Adds bytes that live on a tier of class `cl` and must reach tier `at`, or leave it, in `transfers` transfers of `size` each. What
 * lives on the disk is `padding` times as long. */
static void add_traffic(struct build *b, enum phase ph, enum tensor_class cl, int at, bool write, double bytes, double transfers,
                        struct span size, struct span padding)
{
    for (int home = at + 1; home < b->hw->n_tiers; home++) {
        struct span pad = home == b->hw->n_tiers - 1 ? padding : NO_PADDING, padded = {size.low * pad.low, size.high * pad.high};
        for (int link = at; link < home; link++) {
            int r = write ? resource_link_write(link) : resource_link_read(link);
            bool pageable = cl == CLASS_WEIGHT && link == home - 1 && home == b->pageable;
            b->c->busy[ph][r].coef[cl][home] +=
                pageable ? cost_pageable_s(b->hw, link, bytes * pad.low, transfers, padded.low, padded.high)
                         : transfers_s(b->hw, link, write, bytes * pad.low, transfers, padded);
        }
    }
}

static double sector_padding(double bytes)
{
    return ceil(bytes / DISK_ALIGN) * DISK_ALIGN / bytes;
}

/* A token's rows of a batch take whole sectors on the disk. The padding goes up and down with the batch: up to PADDINGS_MAX sizes are
 * looked at one by one, over more it is anything from none to one sector more than the smallest batch. */
#define PADDINGS_MAX 64
static struct span cache_padding(const struct build *b, const struct layer *l)
{
    double row = (double)cache_row_bytes(l, b->cache);
    int low = b->p->gpu_batch_size, high = b->high->gpu_batch_size;
    if (high - low >= PADDINGS_MAX)
        return (struct span){1, 1 + DISK_ALIGN / (low * row)};
    struct span padding = {INFINITY, 0};
    for (int g = low; g <= high; g++) {
        padding.low = fmin(padding.low, sector_padding(g * row));
        padding.high = fmax(padding.high, sector_padding(g * row));
    }
    return padding;
}

/* Part of the weights that a kind of layers has. Of the head's parts those from `first` on. */
static double weight_share(const struct build *b, enum layer_kind kind, int first)
{
    double sum = 0;
    for (int i = 0, n = 0; i < b->a->n_layers; i++)
        if (b->a->layer[i].kind == kind && n++ >= first)
            sum += (double)layer_placed_bytes(&b->a->layer[i], b->weights);
    return sum / b->placed_bytes;
}

/* Whether a kind's layers are computed in a slot of a chain. Of two slots attention and MLP have one each. */
static bool takes_slot(const struct build *b, enum chain chain, enum layer_kind kind)
{
    if (chain > CHAIN_NEAR_SLOT || b->p->prefetch > 2 || kind == LAYER_EMBED || (chain == CHAIN_NEAR_SLOT && !b->near))
        return false;
    if (chain == CHAIN_OTHER_SLOT)
        return kind == LAYER_MLP;
    return b->p->prefetch == 1 || kind == LAYER_ATTENTION;
}

/* Adds a share of the weights that live on tier `from` and below, over a link. */
static void add_load(struct build *b, enum phase ph, enum chain chain, int link, int from, double share)
{
    const int r = resource_link_read(link);
    for (int home = from; home < b->hw->n_tiers; home++)
        b->c->chain[ph][chain][r].coef[CLASS_WEIGHT][home] += share * b->c->busy[ph][r].coef[CLASS_WEIGHT][home];
}

/* How many times as long a layer takes over link 1 as over link 0; 0 without one. */
static double lower_over_upper(const struct build *b)
{
    const double layer = (double)largest_layer_bytes(b->a, b->weights);
    return b->hw->n_tiers > 2 ? cost_transfer_s(b->hw, 1, false, layer) / cost_transfer_s(b->hw, 0, false, layer) : 0;
}

/* Weights that come up from tier 2 part by part over both links: all of one and a part of the other, as the slower has it. */
static void add_both_loads(struct build *b, enum phase ph, enum chain chain, double share)
{
    const double parts = b->p->schedule == SCHEDULE_ROW ? 1 : fmin(WEIGHT_PARTS_MAX, b->high->num_gpu_batches);
    const bool low = b->p->prefetch == 2 || lower_over_upper(b) > 1;
    add_load(b, ph, chain, 1, 2, low ? share : share / parts);
    add_load(b, ph, chain, 0, 2, low ? share / parts : share);
}

/* The parts of the head that have no room in the other slots of the ring, over link 0; or that have none in tier 1's ring either, over link 1,
 * if that takes longer. */
static void add_late_heads(struct build *b, enum phase ph, double late)
{
    const double low = weight_share(b, LAYER_HEAD, 2 * b->p->prefetch - 1);
    add_load(b, ph, CHAIN_HEAD, 0, 1, late);
    if (low * lower_over_upper(b) > late) {
        add_load(b, ph, CHAIN_HEAD, 0, 2, -late);
        add_load(b, ph, CHAIN_HEAD, 1, 2, low);
    }
}

/* A slot on tier 0 is taken while its weights come up, one on tier 1 until their last part has gone up. Parts of the head that the other slots
 * of the ring have no room for come after the layers. With one slot each, tier 1's is filled while a layer is computed: for attention the MLP before it
 * may take longer, for the MLP its reading. */
static void add_chain_loads(struct build *b, enum phase ph)
{
    const bool one = b->p->prefetch == 1, two = b->p->prefetch == 2;
    const double attention = weight_share(b, LAYER_ATTENTION, 0), mlp = weight_share(b, LAYER_MLP, 0),
                 head = weight_share(b, LAYER_HEAD, 0), late = weight_share(b, LAYER_HEAD, b->p->prefetch - 1);
    const double slot = one ? attention + mlp + head : two ? attention + late : 0;
    add_load(b, ph, CHAIN_SLOT, 0, 1, slot);
    add_load(b, ph, CHAIN_NEAR_SLOT, 0, 1, b->near ? slot : 0);
    add_load(b, ph, CHAIN_OTHER_SLOT, 0, 1, one && b->hw->n_tiers > 2 ? attention : two ? mlp + late : 0);
    add_both_loads(b, ph, CHAIN_OTHER_SLOT, one ? mlp + head : 0);
    add_both_loads(b, ph, CHAIN_LOWER_SLOT, one ? attention + mlp + head : two ? mlp : 0);
    add_load(b, ph, CHAIN_LOWER_SLOT, lower_over_upper(b) > 1, 2, two ? late : 0);
    add_late_heads(b, ph, late);
}

static void add_weights(struct build *b, enum phase ph)
{
    double visits = 0;
    for (int i = 0; i < b->a->n_layers; i++)
        if (b->a->layer[i].alike && b->a->layer[i].kind != LAYER_EMBED && layer_placed_bytes(&b->a->layer[i], b->weights) > 0)
            visits += b->a->layer[i].alike;
    bool row = b->p->schedule == SCHEDULE_ROW; /* every batch passes over the weights by itself */
    double visit = b->placed_bytes / visits;
    struct span size = {visit / (row ? 1 : b->high->num_gpu_batches), visit / (row ? 1 : b->p->num_gpu_batches)};
    add_traffic(b, ph, CLASS_WEIGHT, 0, false, b->placed_bytes * (row ? b->batches : b->passes), visits * b->batches, size,
                NO_PADDING);
    if (b->c->n_chains > 0)
        add_chain_loads(b, ph);
}

static void add_cache(struct build *b, enum phase ph, enum phase work)
{
    int attend_at = b->near ? 1 : 0;
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        double row = (double)cache_row_bytes(l, b->cache), seen = b->visible - 1, s = (double)b->w->prompt_tokens;
        if (row == 0 || !l->alike)
            continue;
        double bytes = l->alike * b->block * row, transfers = l->alike * b->batches;
        struct span padding = cache_padding(b, l), size = times(gpu_batch(b), row);
        struct span loaded = {size.low * seen, size.high * (b->visible_most - 1)};
        if (work == PHASE_PREFILL) {
            add_traffic(b, ph, CLASS_CACHE, 0, true, bytes * s, transfers, times(size, s), padding);
        } else {
            add_traffic(b, ph, CLASS_CACHE, attend_at, false, bytes * seen, transfers, loaded, padding);
            add_traffic(b, ph, CLASS_CACHE, attend_at, true, bytes, transfers, size, padding);
        }
    }
}

/* Hidden states go down after every layer but the last head part and come up before every layer but the embedding. */
static void add_hidden(struct build *b, enum phase ph, enum phase work)
{
    double tokens = work == PHASE_PREFILL ? (double)b->w->prompt_tokens : 1;
    double row = (double)hidden_row_bytes(b->a, &b->hw->compute[0]) * tokens;
    double loads = 0, stores = 0;
    for (int i = 0; i < b->a->n_layers; i++) {
        loads += b->a->layer[i].kind != LAYER_EMBED ? b->a->layer[i].alike : 0;
        stores += b->a->layer[i].kind != LAYER_HEAD ? b->a->layer[i].alike : 0;
    }
    struct span size = times(gpu_batch(b), row);
    add_traffic(b, ph, CLASS_ACTIVATION, 0, false, b->block * row * loads, b->batches * loads, size, NO_PADDING);
    add_traffic(b, ph, CLASS_ACTIVATION, 0, true, b->block * row * stores, b->batches * stores, size, NO_PADDING);
}

/* Of all like a layer: queries, keys and values of the sequences whose cache is below go down, results come up. */
static double near_transfer_s(const struct build *b, const struct layer *l, bool down)
{
    double row = (double)(b->a->heads * b->a->head_dim) * 4 + (down ? (double)l->state_per_token * 4 : 0);
    return l->alike * transfers_s(b->hw, 0, down, b->block * row, b->batches, times(gpu_batch(b), row));
}

static void add_near(struct build *b, enum phase ph)
{
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        if (l->kind != LAYER_ATTENTION || !l->alike)
            continue;
        for (int home = 1; home < b->hw->n_tiers; home++) {
            b->c->busy[ph][resource_link_write(0)].coef[CLASS_CACHE][home] += near_transfer_s(b, l, true);
            b->c->busy[ph][resource_link_read(0)].coef[CLASS_CACHE][home] += near_transfer_s(b, l, false);
        }
    }
}

/* The second unit's attention in a chain, `s` for all batches like a layer, and of one batch what comes before and after: its projections, `first_s`,
 * and its way down and up. */
static void add_chain_attention(const struct build *b, struct form row[RESOURCES_MAX], const struct layer *l, double first_s,
                                double s)
{
    const double one = b->p->schedule == SCHEDULE_ROW ? 1 : 1.0 / b->high->num_gpu_batches;
    row[resource_compute(b->hw, 0)].base += one * first_s;
    for (int home = 1; home < b->hw->n_tiers; home++) {
        row[resource_compute(b->hw, 1)].coef[CLASS_CACHE][home] += s;
        row[resource_link_write(0)].coef[CLASS_CACHE][home] += one * near_transfer_s(b, l, true);
        row[resource_link_read(0)].coef[CLASS_CACHE][home] += one * near_transfer_s(b, l, false);
    }
}

/* A layer's computing in the chains, `s` on the first unit. A slot is in use until its layer's last batch is through, and near the cache that is
 * also when the second unit, `near_s`, has attended for all of them; the first unit's MLPs go on meanwhile, and prompts if batches enter. */
static void add_chain_compute(struct build *b, enum phase ph, const struct layer *l, double s, bool near, double near_s)
{
    const int gpu = resource_compute(b->hw, 0);
    struct form(*chain)[RESOURCES_MAX] = b->c->chain[ph];
    if (b->c->n_chains == 0)
        return;
    for (int slot = CHAIN_SLOT; slot <= CHAIN_NEAR_SLOT; slot++)
        if (takes_slot(b, (enum chain)slot, l->kind) && (slot != CHAIN_NEAR_SLOT || l->kind != LAYER_ATTENTION))
            chain[slot][gpu].base += s;
    if (near_s > 0 && takes_slot(b, CHAIN_NEAR_SLOT, l->kind))
        add_chain_attention(b, chain[CHAIN_NEAR_SLOT], l, s, near_s);
    if (near && ph == PHASE_DECODE && near_s > 0)
        add_chain_attention(b, chain[CHAIN_HEAD], l, s, near_s);
    else if (l->kind != LAYER_HEAD && !(near && ph == PHASE_DECODE))
        chain[CHAIN_HEAD][gpu].base += s;
}

/* A layer near the cache: what is left to the first unit, and the second's attention, which is returned. */
static double add_near_compute(struct build *b, enum phase ph, const struct layer *l, double project_s, double home_s)
{
    const struct compute *cpu = &b->hw->compute[1];
    struct form *unit0 = &b->c->busy[ph][resource_compute(b->hw, 0)], *unit1 = &b->c->busy[ph][resource_compute(b->hw, 1)];
    double below = l->alike * (b->batches * cpu->launch_s +
                               cost_attend_s(cpu, l, b->cache, b->p->attention_sparsity, b->block, 1, b->visible));
    unit0->base += l->alike * project_s;
    unit0->coef[CLASS_CACHE][0] += l->alike * home_s;
    for (int home = 1; home < b->hw->n_tiers; home++)
        unit1->coef[CLASS_CACHE][home] += below;
    return below;
}

static void add_compute(struct build *b, enum phase ph, enum phase work)
{
    const struct compute *unit = &b->hw->compute[0];
    int64_t tokens = work == PHASE_PREFILL ? b->w->prompt_tokens : 1, low = b->p->gpu_batch_size, high = b->high->gpu_batch_size;
    double visible = work == PHASE_PREFILL ? (double)tokens : b->visible;
    double sparsity = b->p->attention_sparsity;
    bool near = b->near && work == PHASE_DECODE;
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        if (!l->alike)
            continue;
        if (near && l->kind == LAYER_ATTENTION) {
            struct near_times n =
                cost_near_s(unit, b->a, l, b->products, b->attended, sparsity, b->block, b->batches, low, high, visible);
            double below = add_near_compute(b, ph, l, n.project_s, n.home_s);
            add_chain_compute(b, ph, l, l->alike * n.project_s, true, below);
            continue;
        }
        int64_t scored = l->kind == LAYER_HEAD && hardware_waits(b->hw) ? tokens : 1; /* positions: turns.h */
        double s = l->alike * cost_layers_s(unit, b->a, l, b->products, b->attended, sparsity, b->block * (double)scored,
                                            b->batches, low * scored, high * scored, tokens, visible);
        b->c->busy[ph][resource_compute(b->hw, 0)].base += s;
        add_chain_compute(b, ph, l, s, near, 0);
    }
}

/* The rows of the token table that are on the disk are fetched one by one, and the compute unit waits for them. */
static void add_lookup(struct build *b, enum phase ph, enum phase work)
{
    int disk = b->hw->n_tiers - 1;
    double s = cost_lookup_s(b->hw, b->a, b->block * (work == PHASE_PREFILL ? (double)b->w->prompt_tokens : 1));
    struct form *unit = &b->c->busy[ph][resource_compute(b->hw, 0)];
    if (b->weights == FORMAT_Q4) /* looked up at the stored precision, in the model's file */
        unit->base += s;
    else
        unit->coef[CLASS_WEIGHT][disk] += s;
}

/* One tier's memory; docs/cost-model.md "Peak memory". The same regions as placement.h. Every term grows with both sizes (the padded
 * length of a batch too), so the smallest need the least. */
static void add_memory(struct build *b, struct form peak[TIERS_MAX])
{
    const struct arch *a = b->a;
    int disk = b->hw->n_tiers - 1;
    double cap = (double)cache_tokens(b->w), cache_layer = 0, cache_all = 0, padding = 1;
    double hidden_batch = (double)(b->p->gpu_batch_size * b->w->prompt_tokens * hidden_row_bytes(a, &b->hw->compute[0]));
    double hidden = hidden_batch * b->p->num_gpu_batches;
    if (b->p->schedule == SCHEDULE_DIAGONAL) /* whole prompts of those that enter, a token of everyone */
        hidden = hidden_batch * (double)stream_entering_most(b->w, b->p) + hidden / (double)b->w->prompt_tokens;
    double cache_most = (double)stream_cache_tokens(b->w, b->p);
    double ring = (double)b->p->prefetch * (double)largest_layer_bytes(a, b->weights);
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        if (!l->alike)
            continue;
        double batch = (double)cache_row_bytes(l, b->cache) * b->p->gpu_batch_size;
        cache_all += l->alike * batch * cache_most;
        cache_layer = fmax(cache_layer, batch * cap);
        padding = batch > 0 ? sector_padding(batch) : padding;
        peak[0].base += l->alike * (double)layer_resident_bytes(l);
    }
    for (int t = 0; t < b->hw->n_tiers; t++) {
        struct workspace part = workspace_of(a, b->hw, t, b->w, b->p);
        peak[t].base += (double)workspace_bytes(&part);
        peak[t].coef[CLASS_WEIGHT][t] += b->placed_bytes;
        peak[t].coef[CLASS_CACHE][t] += cache_all * (t == disk ? padding : 1);
        peak[t].coef[CLASS_ACTIVATION][t] += hidden;
        for (int home = t + 1; t < disk && home <= disk; home++) {
            peak[t].coef[CLASS_WEIGHT][home] += ring;
            peak[t].coef[CLASS_CACHE][home] += 2 * cache_layer * (home == disk ? padding : 1);
            peak[t].coef[CLASS_ACTIVATION][home] += 3 * hidden_batch;
        }
    }
}

static enum status check_rates(const struct build *b, struct error *err)
{
    if (b->pageable > 0 && b->hw->link[b->pageable - 1].pageable_read_bytes_per_s.n == 0)
        return error_set(err, STATUS_INVALID,
                         "hardware %s: the link between %s and %s has no pageable_read rate, which the policy's pageable weights "
                         "need",
                         b->hw->name, b->hw->tier[b->pageable - 1].name, b->hw->tier[b->pageable].name);
    for (int i = 0; i < b->a->n_layers; i++) /* the embedding multiplies in f32, whatever the weights are */
        if (b->a->layer[i].kind == LAYER_EMBED && layer_tensor(&b->a->layer[i], ROLE_PROJECT_IN) &&
            b->hw->compute[0].matmul[FORMAT_F32].n == 0)
            return error_set(err, STATUS_INVALID,
                             "hardware %s: compute '%s' has no matmul rate for f32, in which %s projects its embedding",
                             b->hw->name, b->hw->compute[0].name, b->a->name);
    for (int u = 0; u < (b->near ? 2 : 1); u++) {
        const struct compute *unit = &b->hw->compute[u];
        enum format weights = u == 0 ? b->products : b->weights, cache = u == 0 ? b->attended : b->cache;
        if (u == 0 && cost_matmul_rate(unit, weights)->n == 0)
            return error_set(err, STATUS_INVALID, "hardware %s: compute '%s' has no matmul rate for %s weights", b->hw->name,
                             unit->name, format_name(b->weights));
        if (unit->attention_decode_bytes_per_s[cache] <= 0)
            return error_set(err, STATUS_INVALID, "hardware %s: compute '%s' has no attention_decode rate for a %s cache",
                             b->hw->name, unit->name, format_name(b->cache));
    }
    return STATUS_OK;
}

/* Busy times of `batches` batches, all at their prefill or all decoding, in a step of phase `ph`. */
static void add_work(struct build *b, enum phase ph, enum phase work)
{
    if (b->batches <= 0)
        return;
    add_compute(b, ph, work);
    if (hardware_waits(b->hw)) /* a box: turns_bound has the rest */
        return;
    add_cache(b, ph, work);
    add_hidden(b, ph, work);
    add_lookup(b, ph, work);
    if (b->near && work == PHASE_DECODE)
        add_near(b, ph);
}

/* A block prefills in one step and decodes in n - 1. */
static void separate_steps(struct build *b)
{
    int64_t n = b->w->gen_tokens, s = b->w->prompt_tokens;
    b->c->steps[PHASE_PREFILL] = 1;
    b->c->steps[PHASE_DECODE] = (double)(n - 1);
    b->c->tokens = b->block * (double)n;
    b->visible = b->visible_most = n > 1 ? visible_mean(s, n - 1, 0) : (double)s;
    for (int ph = 0; ph < PHASE_COUNT; ph++)
        add_work(b, ph, ph);
}

/* Diagonal: a step of the prefill phase is a pass in which batches enter while the others decode, one of the decode phase a pass in which
 * all decode. Both are the mean over the whole stream, the first and last n passes with fewer batches included. */
static void mixed_steps(struct build *b, bool point, double most)
{
    struct stream_sum sum[PHASE_COUNT];
    double all = b->w->sequences > 0 ? (double)b->w->sequences : b->block;
    if (point)
        stream_count(b->w, b->p, sum);
    else
        stream_count_least(b->w, b->p, b->high, most, sum);
    if (!point && sum[PHASE_DECODE].passes > 0) /* the page cache helps in every pass, of which a point may have more */
        b->c->page_cache_s *= stream_passes_most(b->w, b->p, b->high) / sum[PHASE_DECODE].passes;
    b->c->tokens = all * (double)b->w->gen_tokens;
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        const struct stream_sum *s = &sum[ph];
        const double sequences[PHASE_COUNT] = {s->entering, s->decoding};
        b->c->steps[ph] = s->passes;
        b->visible = s->visible;
        b->visible_most = point ? s->visible : (double)(b->w->prompt_tokens + b->w->gen_tokens - 1);
        for (int work = 0; work < PHASE_COUNT && s->passes > 0; work++) {
            b->block = sequences[work] / s->passes;
            b->batches = b->block / b->high->gpu_batch_size;
            add_work(b, ph, work);
        }
    }
}

/* Blocks of B until N sequences are served, the last as long as the others: ceil(N / B). In a box a block costs B / block of the table's,
 * so all of them ceil(N / B) * B / block, and ceil(N / B) * B is at least N, and at least as many of the smallest blocks as there are of
 * the largest. */
static void repeat_blocks(struct cost *c, const struct workload *w, double block, double most)
{
    double n = (double)w->sequences;
    if (w->sequences == 0)
        return;
    c->runs = fmax(n, block * ceil(n / most)) / block;
    c->tokens = n * (double)w->gen_tokens;
    for (int ph = 0; ph < PHASE_COUNT; ph++)
        c->steps[ph] *= c->runs;
}

enum status cost_build_bound(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                             const struct policy *low, const struct policy *high, int64_t most_block, struct error *err)
{
    double most = fmin((double)policy_block(high), (double)most_block);
    struct build b = {.c = c,
                      .a = a,
                      .hw = hw,
                      .w = w,
                      .p = low,
                      .high = high,
                      .weights = policy_weight_format(low, a),
                      .cache = policy_cache_format(low, &hw->compute[0]),
                      .pageable = pageable_tier(hw, low),
                      .block = (double)policy_block(low),
                      .batches = (double)policy_block(low) / high->gpu_batch_size,
                      .passes = (double)policy_block(low) / most,
                      .near = low->attention_near_cache};
    bool waits = hardware_waits(hw);
    bool point = low->gpu_batch_size == high->gpu_batch_size && low->num_gpu_batches == high->num_gpu_batches;
    bool diagonal = low->schedule == SCHEDULE_DIAGONAL, in_turns = waits && turns_can_be_staged(low, high);
    if (waits && diagonal)
        return error_set(err, STATUS_INVALID, "hardware %s: its runtime waits at every turn and has no diagonal schedule",
                         hw->name);
    if (diagonal) { /* its table is for a pass, which every batch under way shares */
        b.batches = low->num_gpu_batches;
        b.passes = 1;
    }
    b.products = waits && b.weights == FORMAT_Q4 ? FORMAT_F16 : b.weights;
    b.attended = waits && b.cache == FORMAT_Q4 ? FORMAT_F16 : b.cache;
    enum status s = check_rates(&b, err);
    if (s != STATUS_OK)
        return s;
    memset(c, 0, sizeof *c);
    c->n_tiers = hw->n_tiers;
    c->n_resources = resource_count(hw);
    c->overlap = low->overlap;
    c->runs = 1;
    c->n_chains = waits ? 0 : CHAIN_COUNT;
    c->page_cache_s = cost_page_cache_s(hw) * (low->schedule == SCHEDULE_ROW ? low->num_gpu_batches : 1); /* in each pass */
    c->n_contentions = hw->n_contentions;
    for (int g = 0; g < hw->n_contentions; g++)
        memcpy(c->share[g], hw->contention[g].share, sizeof c->share[g]);
    for (int i = 0; i < a->n_layers; i++)
        if (a->layer[i].alike && a->layer[i].kind != LAYER_EMBED)
            b.placed_bytes += a->layer[i].alike * (double)layer_placed_bytes(&a->layer[i], b.weights);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        if (!waits)
            add_weights(&b, ph);
        add_memory(&b, c->peak[ph]);
    }
    if (in_turns)
        turns_build(c, a, hw, w, low, high, most);
    else if (diagonal)
        mixed_steps(&b, point, most);
    else
        separate_steps(&b);
    if (waits && !in_turns)
        turns_bound(c, a, hw, w, low, high, most);
    for (int cl = 0; cl < CLASS_COUNT && !waits; cl++)
        c->disk_s[0][cl] = c->busy[PHASE_DECODE][resource_link_read(hw->n_tiers - 2)].coef[cl][hw->n_tiers - 1];
    if (!diagonal)
        repeat_blocks(c, w, (double)policy_block(low), most);
    if (point && !waits)
        fill_build(c, a, hw, w, low);
    return STATUS_OK;
}

enum status cost_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                       const struct policy *p, struct error *err)
{
    return cost_build_bound(c, a, hw, w, p, p, policy_block(p), err);
}
