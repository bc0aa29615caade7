#include "model/turns.h"

#include <math.h>
#include <string.h>

#include "model/placement.h"

/* Of a turn among those of its layer. ANY is of a box of batch sizes: what is common to all three. */
enum { FIRST, MIDDLE, LAST, ANY, POSITIONS };
enum { STAGE_ATTENTION, STAGE_MLP = POSITIONS, STAGE_ENDS = 2 * POSITIONS };

struct turns {
    struct cost *c;
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct policy *p;
    int batches, most_batches; /* that share a pass over the weights: fewest, most */
    double passes;             /* such passes, and what they are for the head's weights: less than one where blocks are larger */
    double head_passes;
    enum phase ph;
    int64_t tokens; /* new ones of a step */
    double visible; /* in the cache at its end */
    enum format weights, cache;
    double sequences, transfers; /* that a form is about, and in how many batches they come ... */
    int low, high;               /* ... of how many sequences */
};

typedef struct form row_forms[RESOURCES_MAX];

/* Bytes that move together: all of them, and in how many transfers of what size. A turn has one; a box of batch sizes (turns_bound) some of any size
 * in a span. */
struct load {
    double bytes, transfers, low, high;
};

/* What lives below tier `at` comes up, or goes down: over every link on the way. A host's pageable memory is reached through staging, `copies` of them a
 * transfer (0: page-locked). What lives on the disk is moved by threads that do one leg after the other: such a thread takes the disk's time and that of
 * the links above. */
static void move(const struct turns *b, row_forms f, enum tensor_class cl, int at, bool write, struct load x, int copies)
{
    const struct runtime *rt = &b->hw->runtime;
    const int disk = b->hw->n_tiers - 1, last = write ? resource_link_write(disk - 1) : resource_link_read(disk - 1);
    for (int home = at + 1; home < b->hw->n_tiers; home++) {
        bool staged = copies > 0 && home < disk;
        for (int link = at; link < home; link++) {
            int r = write ? resource_link_write(link) : resource_link_read(link);
            double s = cost_transfers_s(b->hw, link, write, x.bytes, x.transfers, x.low, x.high);
            f[r].coef[cl][home] += fmax(s, staged && write ? x.bytes / rt->pageable_write_bytes_per_s : 0);
            if (home == disk && r != last && b->p->overlap) /* without overlap both add up anyway */
                f[last].coef[cl][home] += s;
        }
        if (staged && !write)
            f[resource_compute(b->hw, 1)].coef[cl][home] += cost_staging_s(b->hw, x.bytes, x.low / copies, x.high / copies);
    }
}

/* What the disk itself takes in rows made by `move`, all of a class being there: its thread's way over the links above comes off. */
static double disk_alone_s(const struct turns *b, const struct form *f, int cl)
{
    const int disk = b->hw->n_tiers - 1;
    double s = f[resource_link_read(disk - 1)].coef[cl][disk];
    for (int link = 0; link < disk - 1 && b->p->overlap; link++)
        s -= f[resource_link_read(link)].coef[cl][disk];
    return fmax(0, s);
}

/* 4-bit tensors are expanded to 16 bits in memory before their use: every batch anew. */
static double expand_s(const struct turns *b, double elements)
{
    return 2 * elements / b->hw->runtime.dequantise_bytes_per_s;
}

static double placed_elements(const struct layer *l)
{
    return (double)layer_placed_bytes(l, FORMAT_F16) / 2;
}

/* The cache of so many sequences: what is visible, or all of it where it stays. */
static void expand_cache(const struct turns *b, struct form *gpu, const struct layer *l, double sequences)
{
    double elements = sequences * (double)l->state_per_token;
    for (int home = 0; b->cache == FORMAT_Q4 && home < b->hw->n_tiers; home++)
        gpu->coef[CLASS_CACHE][home] +=
            expand_s(b, elements * (b->ph == PHASE_DECODE && home == 0 ? (double)cache_tokens(b->w) : b->visible));
}

static void compute(const struct turns *b, row_forms f, const struct layer *l)
{
    const struct compute *unit = &b->hw->compute[0];
    struct form *gpu = &f[resource_compute(b->hw, 0)];
    enum format weights = b->weights == FORMAT_Q4 ? FORMAT_F16 : b->weights,
                cache = b->cache == FORMAT_Q4 ? FORMAT_F16 : b->cache;
    bool near = b->p->attention_near_cache && b->ph == PHASE_DECODE && l->kind == LAYER_ATTENTION;
    int batch = b->p->gpu_batch_size;
    double sparsity = b->p->attention_sparsity;
    int64_t scored = l->kind == LAYER_HEAD ? b->tokens : 1; /* every position of a prompt, though only the last one's are used */
    double attend = cost_attend_s(unit, l, cache, sparsity, batch, b->tokens, b->visible);
    gpu->base += cost_layers_s(unit, b->a, l, weights, cache, sparsity, b->sequences * (double)scored, b->transfers,
                               b->low * scored, b->high * scored, b->tokens / scored, b->visible) -
                 (near ? attend : 0);
    if (b->weights == FORMAT_Q4 && l->kind != LAYER_EMBED)
        gpu->base += b->transfers * expand_s(b, placed_elements(l));
    if (near) {
        gpu->coef[CLASS_CACHE][0] += attend;
        for (int home = 1; home < b->hw->n_tiers; home++)
            f[resource_compute(b->hw, 1)].coef[CLASS_CACHE][home] +=
                b->transfers * b->hw->compute[1].launch_s +
                cost_attend_s(&b->hw->compute[1], l, b->cache, sparsity, batch, b->tokens, b->visible);
    }
    expand_cache(b, gpu, l, batch);
}

/* For so many passes over them. */
static void load_weights(const struct turns *b, row_forms f, const struct layer *l, double passes)
{
    double bytes = (double)layer_placed_bytes(l, b->weights);
    move(b, f, CLASS_WEIGHT, 0, false, (struct load){bytes * passes, passes, bytes, bytes},
         b->p->pageable_weights ? layer_matrices(l) : 0);
}

/* Rows of what every sequence has, in a turn or in the box. */
static struct load rows(const struct turns *b, double row_bytes)
{
    return (struct load){row_bytes * b->sequences, b->transfers, row_bytes * b->low, row_bytes * b->high};
}

/* Keys and values are two copies. */
static void load_cache(const struct turns *b, row_forms f, const struct layer *l)
{
    bool near = b->p->attention_near_cache;
    if (b->ph == PHASE_DECODE)
        move(b, f, CLASS_CACHE, near ? 1 : 0, false, rows(b, (double)cache_row_bytes(l, b->cache) * (b->visible - 1)),
             near ? 0 : 2);
}

static void store_cache(const struct turns *b, row_forms f, const struct layer *l)
{
    bool near = b->ph == PHASE_DECODE && b->p->attention_near_cache;
    move(b, f, CLASS_CACHE, near ? 1 : 0, true, rows(b, (double)cache_row_bytes(l, b->cache) * (double)b->tokens), near ? 0 : 2);
}

static void move_hidden(const struct turns *b, row_forms f)
{
    struct load x = rows(b, (double)hidden_row_bytes(b->a, &b->hw->compute[0]) * (double)b->tokens);
    move(b, f, CLASS_ACTIVATION, 0, false, x, 0);
    move(b, f, CLASS_ACTIVATION, 0, true, x, 0);
}

/* When the values are staged their way over the link has only the computing to hide behind, which is launched then. */
static void wait_for_values(const struct turns *b, int stage, const struct layer *l)
{
    struct load x = rows(b, (double)cache_row_bytes(l, b->cache) * (b->visible - 1) / 2);
    struct fill *wait;
    if (b->ph != PHASE_DECODE || b->p->attention_near_cache)
        return;
    wait = &b->c->fill[b->c->n_fills++];
    *wait = (struct fill){.phase = b->ph, .stage = stage, .row = resource_compute(b->hw, 1), .cause = resource_link_read(0)};
    for (int home = 1; home < b->hw->n_tiers - 1; home++)
        wait->s.coef[CLASS_CACHE][home] = cost_transfers_s(b->hw, 0, false, x.bytes, x.transfers, x.low, x.high);
}

/* The turns of one layer kind at one position among its batches. With one batch the only turn is the last. */
static void layer_turn(const struct turns *b, int stage, const struct layer *l, const struct layer *next, int position)
{
    row_forms *f = &b->c->stage[b->ph][stage];
    int batches = b->batches;
    bool attention = l->kind == LAYER_ATTENTION;
    const struct layer *cached = attention ? l : next;
    compute(b, *f, l);
    move_hidden(b, *f);
    if (position == FIRST || batches == 1)
        load_weights(b, *f, next, b->transfers);
    if (attention ? position != LAST : position == LAST) {
        load_cache(b, *f, cached);
        wait_for_values(b, stage, cached);
    }
    if (attention ? position != FIRST && batches > 1 : position == FIRST || batches == 1)
        store_cache(b, *f, cached);
}

/* How often each position comes for a layer in a pass: of k batches one is the first, one the last. In a box of k1 to k2 these are parts of k1 turns that
 * are there for any k, per batch: at least 1/k2 are first, as many last, 1 - 2/k1 in the middle, and the rest is any. */
static double count_of(const struct turns *b, int position)
{
    double k1 = b->batches, k2 = b->most_batches;
    if (k1 < 2)
        return position == LAST;
    return position == MIDDLE ? k1 - 2 : position == ANY ? 2 - 2 * k1 / k2 : k1 / k2;
}

/* The least of each coefficient over the other positions. */
static void any_turn(const struct turns *b, int stage)
{
    for (int r = 0; r < b->c->n_resources; r++) {
        struct form *any = &b->c->stage[b->ph][stage + ANY][r];
        *any = b->c->stage[b->ph][stage + FIRST][r];
        for (int position = MIDDLE; position <= LAST; position++) {
            const struct form *f = &b->c->stage[b->ph][stage + position][r];
            any->base = fmin(any->base, f->base);
            for (int cl = 0; cl < CLASS_COUNT; cl++)
                for (int t = 0; t < b->hw->n_tiers; t++)
                    any->coef[cl][t] = fmin(any->coef[cl][t], f->coef[cl][t]);
        }
    }
}

/* The embedding and the head parts, after one another. */
static void ends(const struct turns *b)
{
    row_forms *f = &b->c->stage[b->ph][STAGE_ENDS];
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        if (l->kind != LAYER_EMBED && l->kind != LAYER_HEAD)
            continue;
        row_forms one = {{0}}; /* batch */
        compute(b, one, l);
        for (int r = 0; r < b->c->n_resources; r++)
            form_add(&(*f)[r], &one[r], b->p->num_gpu_batches, b->hw->n_tiers);
        if (l->kind == LAYER_HEAD)
            load_weights(b, *f, l, b->head_passes);
    }
}

static void build_phase(const struct turns *b)
{
    const struct layer *attention = NULL, *mlp = NULL;
    double visits = 0;
    for (int i = 0; i < b->a->n_layers; i++) {
        const struct layer *l = &b->a->layer[i];
        visits += l->kind == LAYER_ATTENTION;
        attention = l->kind == LAYER_ATTENTION && !attention ? l : attention;
        mlp = l->kind == LAYER_MLP && !mlp ? l : mlp;
    }
    for (int position = 0; position < POSITIONS; position++) {
        b->c->stage_times[STAGE_ATTENTION + position] = b->c->stage_times[STAGE_MLP + position] =
            visits * b->passes * count_of(b, position);
        if (position != ANY && (position == LAST || b->batches > 1)) {
            layer_turn(b, STAGE_ATTENTION + position, attention, mlp, position);
            layer_turn(b, STAGE_MLP + position, mlp, attention, position);
        }
    }
    if (b->most_batches > b->batches) {
        any_turn(b, STAGE_ATTENTION);
        any_turn(b, STAGE_MLP);
    }
    b->c->stage_times[STAGE_ENDS] = 1;
    ends(b);
    for (int s = 0; s < b->c->n_stages; s++) {
        for (int r = 0; r < b->c->n_resources; r++)
            form_add(&b->c->busy[b->ph][r], &b->c->stage[b->ph][s][r], b->c->stage_times[s], b->hw->n_tiers);
        for (int cl = 0; cl < CLASS_COUNT && b->ph == PHASE_DECODE; cl++)
            b->c->disk_s[s][cl] = disk_alone_s(b, b->c->stage[b->ph][s], cl);
    }
}

/* Tokens in the cache at the end of a step of the phase, on average. */
static double visible_in(const struct workload *w, enum phase ph)
{
    return ph == PHASE_DECODE && w->gen_tokens > 1 ? visible_mean(w->prompt_tokens, w->gen_tokens - 1, 0)
                                                   : (double)w->prompt_tokens;
}

/* A turn of low's batch, at the least that its sequences cost in any batch up to high's. */
static struct turns turns_of(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct policy *low,
                             const struct policy *high, enum phase ph, double visible)
{
    bool row = low->schedule == SCHEDULE_ROW;
    return (struct turns){.a = a,
                          .hw = hw,
                          .w = w,
                          .p = low,
                          .batches = row ? 1 : low->num_gpu_batches,
                          .most_batches = row ? 1 : high->num_gpu_batches,
                          .passes = row ? low->num_gpu_batches : 1,
                          .ph = ph,
                          .tokens = ph == PHASE_PREFILL ? w->prompt_tokens : 1,
                          .visible = visible,
                          .weights = policy_weight_format(low, a),
                          .cache = policy_cache_format(low, &hw->compute[0]),
                          .sequences = low->gpu_batch_size,
                          .transfers = (double)low->gpu_batch_size / high->gpu_batch_size,
                          .low = low->gpu_batch_size,
                          .high = high->gpu_batch_size};
}

double turns_compute_s(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct policy *p,
                       const struct layer *l, enum phase ph, double visible, int unit, const double cache_fraction[TIERS_MAX])
{
    struct turns b = turns_of(a, hw, w, p, p, ph, visible);
    double fraction[CLASS_COUNT][TIERS_MAX] = {{0}};
    row_forms f = {{0}};
    memcpy(fraction[CLASS_CACHE], cache_fraction, sizeof fraction[CLASS_CACHE]);
    compute(&b, f, l);
    return form_at(&f[resource_compute(hw, unit)], fraction);
}

/* Where more than this part of a box's turns may be any, its stages say less than the step as a whole. */
#define ANY_MOST 0.25

bool turns_can_be_staged(const struct policy *low, const struct policy *high)
{
    double k1 = low->num_gpu_batches, k2 = high->num_gpu_batches;
    if (low->schedule == SCHEDULE_ROW || k1 == k2)
        return low->overlap || (low->gpu_batch_size == high->gpu_batch_size && k1 == k2);
    return low->overlap && k1 > 1 && 2 / k1 - 2 / k2 <= ANY_MOST;
}

void turns_build(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                 const struct policy *low, const struct policy *high, double most_block)
{
    c->steps[PHASE_PREFILL] = 1;
    c->steps[PHASE_DECODE] = (double)(w->gen_tokens - 1);
    c->tokens = (double)policy_block(low) * (double)w->gen_tokens;
    c->n_stages = STAGE_ENDS + 1;
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        struct turns b = turns_of(a, hw, w, low, high, (enum phase)ph, visible_in(w, (enum phase)ph));
        b.c = c;
        b.head_passes = low->schedule == SCHEDULE_ROW ? b.passes * b.transfers : (double)policy_block(low) / most_block;
        build_phase(&b);
    }
}

void turns_bound(struct cost *c, const struct arch *a, const struct hardware *hw, const struct workload *w,
                 const struct policy *low, const struct policy *high, double most_block)
{
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        struct turns b = turns_of(a, hw, w, low, high, (enum phase)ph, visible_in(w, (enum phase)ph));
        struct form *gpu = &c->busy[ph][resource_compute(hw, 0)];
        b.c = c;
        b.sequences = (double)policy_block(low); /* all batches together */
        b.transfers *= low->num_gpu_batches;
        for (int i = 0; i < a->n_layers; i++) {
            const struct layer *l = &a->layer[i];
            if (l->kind != LAYER_EMBED) {
                load_weights(&b, c->busy[ph], l, low->schedule == SCHEDULE_ROW ? b.transfers : b.sequences / most_block);
                gpu->base += b.weights == FORMAT_Q4 ? b.transfers * expand_s(&b, placed_elements(l)) : 0;
            }
            if (l->kind == LAYER_ATTENTION || l->kind == LAYER_MLP)
                move_hidden(&b, c->busy[ph]);
            if (l->kind == LAYER_ATTENTION) {
                expand_cache(&b, gpu, l, b.sequences);
                load_cache(&b, c->busy[ph], l);
                store_cache(&b, c->busy[ph], l);
            }
        }
        for (int cl = 0; cl < CLASS_COUNT && ph == PHASE_DECODE; cl++)
            c->disk_s[0][cl] = disk_alone_s(&b, c->busy[ph], cl);
    }
}
