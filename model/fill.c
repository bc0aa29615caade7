#include "model/fill.h"

#include <math.h>

#include "model/placement.h"
#include "model/stream.h"

static const struct layer *first_of(const struct arch *a, enum layer_kind kind)
{
    for (int i = 0; i < a->n_layers; i++)
        if (a->layer[i].kind == kind)
            return &a->layer[i];
    return NULL;
}

static struct form *add(struct cost *c, enum phase ph, int row, int cause)
{
    struct fill *f = &c->fill[c->n_fills++];
    *f = (struct fill){.phase = ph, .row = row, .cause = cause};
    return &f->s;
}

/* Nothing computes before the first layer's weights are there. They come in as many parts as there are batches, each going up as soon as it
 * has arrived, so the lowest link carries all of them and the ones above it the last part. One step in `steps` is the first. */
static void first_weights(struct cost *c, const struct arch *a, const struct hardware *hw, const struct policy *p, double steps)
{
    const struct layer *l = first_of(a, LAYER_ATTENTION);
    double bytes = l ? (double)layer_placed_bytes(l, policy_weight_format(p, a)) : 0;
    int parts = p->num_gpu_batches, pageable = pageable_tier(hw, p);
    for (int link = 0; link + 1 < hw->n_tiers; link++) {
        struct form *wait = add(c, PHASE_PREFILL, resource_compute(hw, 0), resource_link_read(link));
        for (int home = link + 1; home < hw->n_tiers; home++) {
            double s = home == pageable && link == home - 1 ? cost_pageable_s(hw, link, bytes, 1, bytes, bytes)
                                                            : cost_transfer_s(hw, link, false, bytes);
            wait->coef[CLASS_WEIGHT][home] = s / (link == home - 1 ? 1 : parts) / steps;
        }
    }
}

/* `s` for what of a class lives below the first tier. */
static void below(struct form *f, const struct hardware *hw, enum tensor_class cl, double s)
{
    for (int home = 1; home < hw->n_tiers; home++)
        f->coef[cl][home] += s;
}

/* The decoding batches of a step: those that pass a layer together, how many such passes a step has, and the tokens they see; and batches at
 * their prefill among them. Means, for the diagonal. */
struct company {
    double batches, entering, passes, visible;
};

/* Of one batch in a layer, when attention is near the cache; and of a pass, where all batches wait for all: the embedding of the first, the
 * head of all. */
struct near {
    struct near_times gpu;
    double layers, mlp_s, ends_s, attend_s, up_s, down_s;
};

static struct near near_of(const struct arch *a, const struct hardware *hw, const struct policy *p, struct company with)
{
    const struct compute *gpu = &hw->compute[0];
    enum format weights = policy_weight_format(p, a), cache = policy_cache_format(p, gpu);
    const int batch = p->gpu_batch_size;
    struct near n = {0};
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        if (l->kind == LAYER_ATTENTION && n.layers++ == 0) {
            double up = (double)batch * (double)(a->heads * a->head_dim) * 4;
            n.gpu = cost_near_s(gpu, a, l, weights, cache, p->attention_sparsity, batch, 1, batch, batch, with.visible);
            n.attend_s =
                hw->compute[1].launch_s + cost_attend_s(&hw->compute[1], l, cache, p->attention_sparsity, batch, 1, with.visible);
            n.up_s = cost_transfer_s(hw, 0, false, up);
            n.down_s = cost_transfer_s(hw, 0, true, up + (double)batch * (double)l->state_per_token * 4);
        }
        if (l->kind == LAYER_ATTENTION)
            continue;
        const double s = cost_layer_s(gpu, a, l, weights, cache, p->attention_sparsity, batch, 1, with.visible);
        n.mlp_s = l->kind == LAYER_MLP ? s : n.mlp_s;
        n.ends_s += l->kind == LAYER_EMBED ? s : l->kind == LAYER_HEAD ? s * (with.batches + with.entering) : 0;
    }
    return n;
}

/* Over the batches of a layer: projected, queries and keys sent down, attended to there and at home, the result sent up, projected. */
static void near_chain(struct cost *c, const struct hardware *hw, enum phase ph, const struct near *n, double times)
{
    struct form *chain = c->chain[ph][CHAIN_NEAR], *gpu = &chain[resource_compute(hw, 0)];
    gpu->base += times * n->gpu.project_s;
    gpu->coef[CLASS_CACHE][0] += times * n->gpu.home_s;
    below(&chain[resource_compute(hw, 1)], hw, CLASS_CACHE, times * n->attend_s);
    below(&chain[resource_link_read(0)], hw, CLASS_CACHE, times * n->up_s);
    below(&chain[resource_link_write(0)], hw, CLASS_CACHE, times * n->down_s);
}

/* With one or two batches the way of one through all layers and ends; with more, half of them take their turns at one of two places. */
static void near_rows(struct cost *c, const struct hardware *hw, enum phase ph, const struct near *n, struct company with)
{
    const bool few = with.batches <= 2;
    near_chain(c, hw, ph, n, with.passes * n->layers * (few ? 1 : with.batches / 2));
    if (few)
        c->chain[ph][CHAIN_NEAR][resource_compute(hw, 0)].base += with.passes * (n->layers * n->mlp_s + n->ends_s);
}

/* The second unit waits between passes: for the last batch's way up and the rest of its last layer, the ends, the next first projections and their
 * way down. Hidden states from below have three slots, which turns take one after the other: so it waits in every layer, for the last batch's
 * output and all MLPs but those of four batches, whose turns come before that output or after the next projections. */
static void near_waits(struct cost *c, const struct hardware *hw, enum phase ph, const struct near *n, struct company with)
{
    const int gpu = resource_compute(hw, 0), cpu = resource_compute(hw, 1);
    const double layers = with.passes * (n->layers - 1);
    struct form *work = add(c, ph, cpu, gpu), *up = add(c, ph, cpu, resource_link_read(0)),
                *down = add(c, ph, cpu, resource_link_write(0));
    work->base = with.passes * (n->gpu.project_s + n->mlp_s + n->ends_s);
    work->coef[CLASS_CACHE][0] = with.passes * n->gpu.home_s;
    below(work, hw, CLASS_ACTIVATION, layers * (n->gpu.project_s + fmax(0, with.batches - 4) * n->mlp_s));
    below(up, hw, CLASS_CACHE, with.passes * n->up_s);
    below(down, hw, CLASS_CACHE, with.passes * n->down_s);
    below(up, hw, CLASS_ACTIVATION, layers * n->up_s);
    below(down, hw, CLASS_ACTIVATION, layers * n->down_s);
}

static void near_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct policy *p, enum phase ph,
                       struct company with)
{
    const struct near n = near_of(a, hw, p, with);
    if (n.layers == 0)
        return;
    near_rows(c, hw, ph, &n, with);
    near_waits(c, hw, ph, &n, with);
}

static void diagonal_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                           const struct policy *p)
{
    struct stream_sum sum[PHASE_COUNT];
    stream_count(w, p, sum);
    first_weights(c, a, hw, p, sum[0].passes);
    for (int ph = 0; ph < PHASE_COUNT && p->attention_near_cache; ph++) {
        double all = sum[ph].passes * p->gpu_batch_size, decoding = sum[ph].decoding / all;
        if (decoding > 0) /* where fewer than one decode, there are passes without */
            near_build(c, a, hw, p, (enum phase)ph,
                       (struct company){fmax(1, decoding), sum[ph].entering / all, fmin(1, decoding), sum[ph].visible});
    }
}

void fill_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w, const struct policy *p)
{
    double visible = w->gen_tokens > 1 ? visible_mean(w->prompt_tokens, w->gen_tokens - 1, 0) : 1, k = p->num_gpu_batches;
    bool row = p->schedule == SCHEDULE_ROW;
    if (p->schedule == SCHEDULE_DIAGONAL) {
        diagonal_build(c, a, hw, w, p);
        return;
    }
    first_weights(c, a, hw, p, 1);
    if (p->attention_near_cache && w->gen_tokens > 1)
        near_build(c, a, hw, p, PHASE_DECODE, (struct company){row ? 1 : k, 0, row ? k : 1, visible});
}
