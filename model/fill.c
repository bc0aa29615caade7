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

/* `s` for what lives below the first tier. */
static void below(struct form *f, const struct hardware *hw, double s)
{
    for (int home = 1; home < hw->n_tiers; home++)
        f->coef[CLASS_CACHE][home] = s;
}

/* The decoding batches of a step: those that pass a layer together, how many such passes a step has, and the tokens they see; and batches at
 * their prefill among them. Means, for the diagonal. */
struct company {
    double batches, entering, passes, visible;
};

/* From the last batch's attention on the second unit to the first one's in the next layer: the result goes up, the output projection, the layer
 * of those that enter, the MLP of all batches, the next queries and keys with the attention over what is at home, and these go down. Alone, a
 * batch has the first unit wait for the second in the same way. */
static void near_chain(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                       const struct policy *p, enum phase ph, struct company with)
{
    const struct compute *gpu = &hw->compute[0];
    enum format weights = policy_weight_format(p, a), cache = policy_cache_format(p, gpu);
    int batch = p->gpu_batch_size;
    const struct layer *attention = first_of(a, LAYER_ATTENTION), *mlp = first_of(a, LAYER_MLP);
    double sparsity = p->attention_sparsity, chains = with.passes, layers = 0, on_gpu, at_home, up, down;
    if (!attention || !mlp)
        return;
    for (int i = 0; i < a->n_layers; i++)
        layers += a->layer[i].kind == LAYER_ATTENTION;
    chains *= layers;
    at_home = cost_attend_s(gpu, attention, cache, sparsity, batch, 1, with.visible);
    on_gpu = cost_layer_s(gpu, a, attention, weights, cache, sparsity, batch, 1, with.visible) - at_home +
             with.batches * cost_layer_s(gpu, a, mlp, weights, cache, sparsity, batch, 1, with.visible);
    if (with.entering > 0) {
        int64_t s = w->prompt_tokens;
        on_gpu += with.entering * (cost_layer_s(gpu, a, attention, weights, cache, sparsity, batch, s, (double)s) +
                                   cost_layer_s(gpu, a, mlp, weights, cache, sparsity, batch, s, (double)s));
    }
    up = (double)batch * (double)(a->heads * a->head_dim) * 4;
    down = up + (double)batch * (double)attention->state_per_token * 4;
    const int gpu_row = resource_compute(hw, 0), cpu_row = resource_compute(hw, 1);
    struct form *wait = add(c, ph, cpu_row, gpu_row);
    wait->base = chains * on_gpu;
    wait->coef[CLASS_CACHE][0] = chains * at_home;
    below(add(c, ph, cpu_row, resource_link_read(0)), hw, chains * cost_transfer_s(hw, 0, false, up));
    below(add(c, ph, cpu_row, resource_link_write(0)), hw, chains * cost_transfer_s(hw, 0, true, down));
    if (with.batches > 1) /* the first unit projects one batch while the other is attended to */
        return;
    below(add(c, ph, gpu_row, resource_link_read(0)), hw, chains * cost_transfer_s(hw, 0, false, up));
    below(add(c, ph, gpu_row, resource_link_write(0)), hw, chains * cost_transfer_s(hw, 0, true, down));
    below(add(c, ph, gpu_row, cpu_row), hw,
          chains *
              (hw->compute[1].launch_s + cost_attend_s(&hw->compute[1], attention, cache, sparsity, batch, 1, with.visible)));
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
            near_chain(c, a, hw, w, p, ph,
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
        near_chain(c, a, hw, w, p, PHASE_DECODE, (struct company){row ? 1 : k, 0, row ? k : 1, visible});
}
