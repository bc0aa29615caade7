#include "executor/schedule_internal.h"

#include <stdlib.h>
#include <string.h>

#include "executor/sim/sim.h"
#include "model/cost.h"
#include "model/sparse.h"
#include "model/stream.h"

const char *op_kind_name(enum op_kind kind)
{
    static const char *const names[OP_KIND_COUNT] =
        {"load_weights", "load_cache", "store_cache", "load_hidden", "store_hidden",    "embed", "attention", "mlp",
         "head",         "qkv",        "send_qkv",    "attend",      "return_attended", "out",   "stage",     "turn"};
    return names[kind];
}

int op_rank(const struct op *op)
{
    switch (op->kind) {
    case OP_LOAD_WEIGHTS:
        return 3;
    case OP_LOAD_CACHE:
    case OP_STORE_CACHE:
        return 2;
    case OP_LOAD_HIDDEN:
    case OP_STORE_HIDDEN:
        return 1;
    case OP_OUT:
        return 1;
    case OP_EMBED:
    case OP_ATTENTION:
    case OP_MLP:
    case OP_HEAD:
        return op->step > 0 ? 2 : 3;
    default:
        return 0;
    }
}

bool op_needs_idle_unit(const struct op *op)
{
    return op->kind == OP_EMBED;
}

int64_t step_first_token(const struct workload *w, int step)
{
    return step == 0 ? 0 : w->prompt_tokens + step - 1;
}

int64_t step_tokens(const struct workload *w, int step)
{
    return step == 0 ? w->prompt_tokens : 1;
}

int32_t builder_emit(struct builder *b, struct op op, const int32_t *deps, int n)
{
    struct schedule *s = b->s;
    if (b->status != STATUS_OK)
        return NONE;
    if (s->n_ops == s->cap_ops) {
        int32_t cap = s->cap_ops ? s->cap_ops * 2 : 4096;
        struct op *grown = cap < INT32_MAX / 2 ? realloc(s->op, (size_t)cap * sizeof *grown) : NULL;
        if (!grown) {
            b->status = error_set(b->err, STATUS_RUNTIME, "out of memory for a schedule of more than %d operations", s->n_ops);
            return NONE;
        }
        s->op = grown;
        s->cap_ops = cap;
    }
    for (int i = 0; i < n; i++) {
        bool known = deps[i] == NONE;
        for (int j = 0; j < op.n_deps; j++)
            known |= op.dep[j] == deps[i];
        if (!known && op.n_deps < OP_DEPS_MAX)
            op.dep[op.n_deps++] = deps[i];
        else if (!known)
            b->status = error_set(b->err, STATUS_RUNTIME, "%s has more than %d dependencies", op_kind_name(op.kind), OP_DEPS_MAX);
    }
    if (!b->p->overlap && s->n_ops > 0) { /* one at a time */
        op.dep[0] = s->n_ops - 1;
        op.n_deps = 1;
    }
    s->op[s->n_ops] = op;
    return s->n_ops++;
}

struct op builder_transfer(const struct builder *b, const struct turn *t, enum op_kind kind, int link, int64_t bytes)
{
    bool down = kind == OP_STORE_CACHE || kind == OP_STORE_HIDDEN;
    return (struct op){.kind = (int16_t)kind,
                       .resource = (int16_t)(down ? resource_link_write(link) : resource_link_read(link)),
                       .link = (int16_t)link,
                       .parts = (int16_t)b->parts,
                       .slot = (int16_t)(t->visit < 0 ? -1 : t->visit % b->prefetch),
                       .cache_slot = (int16_t)(t->attention % 2),
                       .hidden_slot = (int16_t)(t->number % 3),
                       .step = t->step,
                       .layer = t->layer,
                       .batch = t->batch,
                       .bytes = bytes};
}

/* The state of a turn over a link, on its way up or down. */
static int32_t move_state(struct builder *b, const struct turn *t, enum op_kind kind, int link, int64_t bytes,
                          const int32_t *deps, int n)
{
    return builder_emit(b, builder_transfer(b, t, kind, link, bytes), deps, n);
}

bool builder_attends(const struct builder *b, const struct turn *t)
{
    return b->a->layer[t->layer].kind == LAYER_ATTENTION;
}

/* -- weights ---------------------------------------------------------------------------------------------------------- */

int64_t builder_weight_bytes(const struct builder *b, const struct turn *t, int link, int part, int64_t *pageable)
{
    struct weight_piece piece[WEIGHT_PIECES_MAX];
    int n = placement_pieces(b->pl, b->a, t->layer, link, piece);
    int64_t step = format_row_step(b->pl->weights), sum = 0;
    *pageable = 0;
    for (int i = 0; i < n; i++) {
        int64_t begin, end, cols = b->a->layer[t->layer].tensor[piece[i].tensor].cols;
        weight_part_rows(&piece[i], step, part, b->parts, &begin, &end);
        int64_t bytes = format_matrix_bytes(b->pl->weights, end - begin, cols);
        sum += bytes;
        if (piece[i].home == link + 1 && piece[i].home == b->pl->pageable)
            *pageable += bytes;
    }
    return sum;
}

/* Part `part` of the weights of `t`'s layer: bottom link first, each hop after the one below it. */
static void load_weights(struct builder *b, const struct turn *t, int part)
{
    int slot = (int)(t->visit % b->prefetch);
    int32_t below = NONE;
    for (int link = b->links - 1; link >= 0; link--) {
        int64_t pageable, bytes = builder_weight_bytes(b, t, link, part, &pageable);
        int32_t deps[RANKS + 1], n = 0;
        if (bytes == 0)
            continue;
        deps[n++] = below;
        for (int k = 0; k < RANKS && link == 0; k++)
            deps[n++] = b->ring_compute[slot][k];
        if (link > 0) /* the slot of the upper tier's ring is free once its last user has gone up: its parts go in order */
            deps[n++] = b->ring_load[slot][link - 1][b->parts - 1];
        struct op load = builder_transfer(b, t, OP_LOAD_WEIGHTS, link, bytes);
        load.part = (int16_t)part;
        load.pageable = pageable;
        below = builder_emit(b, load, deps, n);
        b->ring_load[slot][link][part] = below;
    }
}

/* -- cache ------------------------------------------------------------------------------------------------------------ */

/* Bytes of the cache of (layer, batch) that cross `link`, for `tokens` tokens. */
int64_t builder_cache_bytes(const struct builder *b, const struct turn *t, int link, int64_t tokens)
{
    int64_t sum = 0;
    for (int home = link + 1; home < b->pl->n_tiers; home++)
        sum += placement_cache_stride(b->pl, t->layer, t->batch, home) * tokens;
    return sum;
}

bool builder_attends_near(const struct builder *b, const struct turn *t)
{
    return b->near && t->step > 0;
}

static int32_t *stored(struct builder *b, const struct turn *t)
{
    return b->stored_cache[t->layer * b->cells + t->batch % b->cells];
}

static void load_cache(struct builder *b, const struct turn *t)
{
    struct cache_use *use = &b->cache_slot[t->attention % 2];
    int stop = builder_attends_near(b, t) ? 1 : 0;
    int64_t tokens = step_first_token(b->w, t->step);
    int32_t below = NONE;
    struct cache_use next = {.compute = NONE};
    memset(next.load, -1, sizeof next.load);
    memset(next.store, -1, sizeof next.store);
    for (int link = b->links - 1; link >= stop && tokens > 0; link--) {
        int64_t bytes = builder_cache_bytes(b, t, link, tokens);
        int32_t deps[] = {below, stored(b, t)[link], link > 0 ? use->load[link - 1] : use->compute, use->compute,
                          use->store[link]};
        if (bytes == 0)
            continue;
        below = move_state(b, t, OP_LOAD_CACHE, link, bytes, deps, 5);
        next.load[link] = below;
    }
    /* the slot's earlier stores still guard the new rows written by this turn's compute */
    memcpy(next.store, use->store, sizeof next.store);
    next.compute = use->compute;
    *use = next;
}

static void store_cache(struct builder *b, const struct turn *t, int32_t compute)
{
    struct cache_use *use = &b->cache_slot[t->attention % 2];
    int32_t above = compute;
    use->compute = compute;
    for (int link = builder_attends_near(b, t) ? 1 : 0; link < b->links; link++) {
        int64_t bytes = builder_cache_bytes(b, t, link, step_tokens(b->w, t->step));
        if (bytes == 0)
            continue;
        int32_t deps[] = {above, link + 1 < b->links ? use->store[link + 1] : NONE}; /* the slot below may still be going down */
        above = move_state(b, t, OP_STORE_CACHE, link, bytes, deps, 2);
        use->store[link] = above;
        stored(b, t)[link] = above;
    }
}

/* -- hidden states ---------------------------------------------------------------------------------------------------- */

int64_t builder_hidden_bytes(const struct builder *b, const struct turn *t, int link)
{
    int64_t sum = 0;
    for (int home = link + 1; home < b->pl->n_tiers; home++)
        sum += placement_hidden_count(b->pl, t->batch, home) * b->pl->hidden_row_bytes * step_tokens(b->w, t->step);
    return sum;
}

static void load_hidden(struct builder *b, const struct turn *t)
{
    struct cache_use *use = &b->hidden_slot[t->number % 3];
    int32_t below = NONE, load[LINKS_MAX] = {NONE, NONE, NONE};
    for (int link = b->links - 1; link >= 0 && b->a->layer[t->layer].kind != LAYER_EMBED; link--) {
        int64_t bytes = builder_hidden_bytes(b, t, link);
        int32_t deps[] = {below, b->stored_hidden[t->batch % b->cells][link], link > 0 ? use->load[link - 1] : use->compute,
                          use->store[link]};
        if (bytes == 0)
            continue;
        below = move_state(b, t, OP_LOAD_HIDDEN, link, bytes, deps, 4);
        load[link] = below;
    }
    memcpy(use->load, load, sizeof load);
}

static void store_hidden(struct builder *b, const struct turn *t, int32_t compute)
{
    struct cache_use *use = &b->hidden_slot[t->number % 3];
    int32_t above = compute;
    use->compute = compute;
    for (int link = 0; link < b->links && b->a->layer[t->layer].kind != LAYER_HEAD; link++) {
        int64_t bytes = builder_hidden_bytes(b, t, link);
        int32_t deps[] = {above, link + 1 < b->links ? use->store[link + 1] : NONE};
        if (bytes == 0)
            continue;
        above = move_state(b, t, OP_STORE_HIDDEN, link, bytes, deps, 2);
        use->store[link] = above;
        b->stored_hidden[t->batch % b->cells][link] = above;
    }
}

/* -- compute ---------------------------------------------------------------------------------------------------------- */

/* One sequence's in a decode step. */
static double decode_flops(const struct builder *b, const struct turn *t)
{
    double visible = (double)(step_first_token(b->w, t->step) + 1);
    return layer_decode_flops(&b->a->layer[t->layer], sparse_read(b->p->attention_sparsity, visible));
}

double builder_flops(const struct builder *b, const struct turn *t)
{
    const struct layer *l = &b->a->layer[t->layer];
    double one = t->step == 0 ? layer_prefill_flops(l, b->w->prompt_tokens) : decode_flops(b, t);
    return one * b->p->gpu_batch_size;
}

struct op builder_compute(const struct builder *b, const struct turn *t, enum op_kind kind, int unit)
{
    return (struct op){.kind = (int16_t)kind,
                       .resource = (int16_t)resource_compute(b->hw, unit),
                       .link = -1,
                       .slot = (int16_t)(t->visit < 0 ? -1 : t->visit % b->prefetch),
                       .cache_slot = (int16_t)(t->attention % 2),
                       .hidden_slot = (int16_t)(t->number % 3),
                       .step = t->step,
                       .layer = t->layer,
                       .batch = t->batch};
}

/* What a layer's computation waits for: the batch's last one, its weights (their last part; parts go in order), its hidden states, its cache, and
 * the earlier stores out of the slots it will overwrite. An embedding waits for the end of the pass before: it decides whether there is
 * another, and its batches may leave. */
static int wait_list(const struct builder *b, const struct turn *t, int32_t *deps)
{
    int n = 0;
    if (t->visit >= 0) {
        deps[n++] = b->batch_op[t->batch % b->cells];
        deps[n++] = b->ring_load[t->visit % b->prefetch][0][b->parts - 1];
    } else {
        for (int k = 0; k < RANKS; k++)
            deps[n++] = b->pass_end[0][k];
    }
    deps[n++] = b->hidden_slot[t->number % 3].load[0];
    deps[n++] = b->hidden_slot[t->number % 3].store[0];
    if (builder_attends(b, t)) {
        deps[n++] = b->cache_slot[t->attention % 2].load[0];
        deps[n++] = b->cache_slot[t->attention % 2].store[0];
    }
    return n;
}

/* Notes the last computations of a visit and of a pass. */
static void finish(struct builder *b, const struct turn *t, int32_t compute)
{
    if (b->status != STATUS_OK)
        return;
    const int rank = op_rank(&b->s->op[compute]);
    if (t->visit >= 0) {
        int32_t *last = b->ring_compute[t->visit % b->prefetch];
        for (int k = 0; k < RANKS && t->first; k++)
            last[k] = NONE;
        last[rank] = compute;
    }
    if (t->layer + 1 == b->a->n_layers) {
        b->pass_end[1][rank] = compute;
        if (t->last) {
            memcpy(b->pass_end[0], b->pass_end[1], sizeof b->pass_end[0]);
            memset(b->pass_end[1], -1, sizeof b->pass_end[1]);
        }
    }
    b->batch_op[t->batch % b->cells] = compute;
    store_hidden(b, t, compute);
}

enum op_kind builder_kind(const struct builder *b, const struct turn *t)
{
    static const enum op_kind kinds[] =
        {[LAYER_EMBED] = OP_EMBED, [LAYER_ATTENTION] = OP_ATTENTION, [LAYER_MLP] = OP_MLP, [LAYER_HEAD] = OP_HEAD};
    return kinds[b->a->layer[t->layer].kind];
}

static void compute_layer(struct builder *b, const struct turn *t)
{
    int32_t deps[OP_DEPS_MAX];
    int n = wait_list(b, t, deps);
    struct op op = builder_compute(b, t, builder_kind(b, t), 0);
    op.flops = builder_flops(b, t);
    int32_t id = builder_emit(b, op, deps, n);
    if (builder_attends(b, t))
        store_cache(b, t, id);
    finish(b, t, id);
}

static double out_flops(const struct builder *b, const struct turn *t)
{
    const struct tensor *out = layer_tensor(&b->a->layer[t->layer], ROLE_O);
    return 2.0 * (double)(out->rows * out->cols) * b->p->gpu_batch_size;
}

double builder_attend_flops(const struct builder *b, const struct turn *t, int *below)
{
    const struct layer *l = &b->a->layer[t->layer];
    *below = b->p->gpu_batch_size - placement_cache_count(b->pl, t->layer, t->batch, 0);
    return *below * (decode_flops(b, t) - l->a);
}

/* Attention near the cache, first half: project, send down, attend beside the cache, bring the result up. */
static void near_begin(struct builder *b, const struct turn *t)
{
    int64_t row = (b->a->heads * b->a->head_dim) * 4, kv = b->a->layer[t->layer].state_per_token * 4;
    int32_t deps[OP_DEPS_MAX], last;
    int n = wait_list(b, t, deps), place = (int)(b->near_turns++ % 2), below;
    struct op qkv = builder_compute(b, t, OP_QKV, 0), attend = builder_compute(b, t, OP_ATTEND, 1);
    attend.flops = builder_attend_flops(b, t, &below);
    qkv.flops = builder_flops(b, t) - attend.flops - out_flops(b, t);
    qkv.near_slot = attend.near_slot = (int16_t)place;
    deps[n++] = b->near_out[place];
    last = builder_emit(b, qkv, deps, n);
    if (below > 0) {
        struct op send = builder_compute(b, t, OP_SEND_QKV, 0);
        struct op back = builder_compute(b, t, OP_RETURN_ATTENDED, 0);
        send.resource = (int16_t)resource_link_write(0);
        send.link = back.link = 0;
        send.bytes = below * (row + kv);
        back.resource = (int16_t)resource_link_read(0);
        back.bytes = below * row;
        send.near_slot = back.near_slot = (int16_t)place;
        struct cache_use *use = &b->cache_slot[t->attention % 2];
        int32_t sent = builder_emit(b, send, &last, 1);
        int32_t attend_deps[] = {sent, use->load[1], use->store[1], stored(b, t)[0]};
        int32_t attended = builder_emit(b, attend, attend_deps, 4);
        last = builder_emit(b, back, &attended, 1);
        store_cache(b, t, attended);
    }
    b->batch_op[t->batch % b->cells] = last;
}

/* The other half. Batches take their places in turn, so the one before this has the other. */
static void near_end(struct builder *b, const struct turn *t, int place)
{
    struct op out = builder_compute(b, t, OP_OUT, 0);
    out.flops = out_flops(b, t);
    out.near_slot = (int16_t)place;
    b->near_out[place] = builder_emit(b, out, &b->batch_op[t->batch % b->cells], 1);
    finish(b, t, b->near_out[place]);
}

/* -- the order of operations ------------------------------------------------------------------------------------------- */

/* The weights cursor runs prefetch-1 visits ahead of the computation, a part of a visit for every turn. */
struct weights_cursor {
    struct turn turn;
    int part; /* next part of the current visit */
    bool done;
};

static void cursor_step(struct builder *b, struct weights_cursor *c)
{
    struct turn next;
    c->part = 0;
    do {
        c->done = !turn_next(&b->order, &c->turn, &next);
        c->turn = next;
    } while (!c->done && !(c->turn.first && c->turn.visit >= 0));
}

/* Loads up to `count` parts of visits numbered at most `limit`. */
static void cursor_load(struct builder *b, struct weights_cursor *c, int64_t limit, int count)
{
    while (!c->done && c->turn.visit <= limit && count-- > 0) {
        load_weights(b, &c->turn, c->part);
        if (++c->part == b->parts)
            cursor_step(b, c);
    }
}

static void build(struct builder *b)
{
    struct turn t = turn_first(&b->order), next;
    struct weights_cursor cursor = {.turn = t};
    bool more = true, begun = false; /* begun: the first half of the turn's attention near the cache is there */
    cursor_step(b, &cursor);         /* from the embedding to the first layer with weights */
    cursor_load(b, &cursor, b->prefetch - 2, INT32_MAX);
    while (more && b->status == STATUS_OK) {
        more = turn_next(&b->order, &t, &next);
        bool near = builder_attends(b, &t) && builder_attends_near(b, &t),
             near_next = more && builder_attends(b, &next) && builder_attends_near(b, &next);
        cursor_load(b, &cursor, t.visit, INT32_MAX); /* with a ring of one slot nothing was loaded ahead */
        if (near && !begun)
            near_begin(b, &t);
        begun = false;
        if (more && builder_attends(b, &next))
            load_cache(b, &next);
        if (more && next.batch != t.batch)
            load_hidden(b, &next);
        if (near) { /* the next batch's projections go before this batch's output, so that both units work */
            int place = (int)((b->near_turns + 1) % 2);
            begun = near_next && next.layer == t.layer;
            if (begun)
                near_begin(b, &next);
            near_end(b, &t, place);
        } else {
            compute_layer(b, &t);
        }
        if (more && next.batch == t.batch) /* what this turn stores */
            load_hidden(b, &next);
        /* whatever this visit still owes goes out with its last turn */
        cursor_load(b, &cursor, (t.visit < 0 ? next.visits - 1 : t.visit) + b->prefetch - 1, t.last ? INT32_MAX : 1);
        t = next;
    }
}

/* Where every computation of a pass is alike in rank, units have nothing to choose from. */
static bool units_choose(const struct policy *p)
{
    return p->attention_near_cache || p->schedule == SCHEDULE_DIAGONAL;
}

/* Lanes in the order of the list, or in one that clock_arrange finds where that is faster. A runtime that waits for the last operation of
 * each resource keeps to the list. */
static enum status arrange(struct schedule *s, const struct run_setting *set, struct error *err)
{
    size_t n = (size_t)s->n_ops + 1;
    double *duration_s = malloc(n * sizeof *duration_s), best_s, found_s;
    int32_t *lane = malloc(n * sizeof *lane);
    struct clock_input in = clock_setting(s, set);
    in.duration_s = duration_s;
    enum status status = schedule_deal(s, err);
    if (status != STATUS_OK || hardware_waits(set->hardware))
        goto done;
    if (!(duration_s && lane))
        status = error_set(err, STATUS_RUNTIME, "out of memory for %d operations", s->n_ops);
    if (status == STATUS_OK)
        status = op_durations(s, set, duration_s, err);
    if (status == STATUS_OK)
        status = clock_run(&in, NULL, &best_s, err);
    for (int choice = CHOICE_LINKS; choice <= (units_choose(set->policy) ? CHOICE_ALL : CHOICE_LINKS); choice++) {
        if (status == STATUS_OK)
            status = clock_arrange(&in, (enum choice)choice, lane, &found_s, err);
        if (status != STATUS_OK || found_s >= best_s)
            continue;
        memcpy(s->lane, lane, (size_t)s->n_ops * sizeof *lane);
        best_s = found_s;
    }
done:
    free(duration_s);
    free(lane);
    return status;
}

enum status schedule_new(struct schedule *s, const struct arch *a, const struct hardware *hw, const struct workload *w,
                         const struct policy *p, const struct placement *pl, struct error *err)
{
    struct builder b = {.s = s,
                        .a = a,
                        .hw = hw,
                        .w = w,
                        .p = p,
                        .pl = pl,
                        .err = err,
                        .links = hw->n_tiers - 1,
                        .prefetch = p->prefetch,
                        .cells = p->num_gpu_batches,
                        .order = {a, w, p, stream_batches(w, p), stream_passes(w, p)},
                        .near = p->attention_near_cache};
    size_t cells = (size_t)a->n_layers * (size_t)p->num_gpu_batches;
    memset(s, 0, sizeof *s);
    b.parts = p->schedule == SCHEDULE_ROW || hardware_waits(hw) ? 1
              : p->num_gpu_batches < PARTS_MAX                  ? p->num_gpu_batches
                                                                : PARTS_MAX;
    b.ring_compute = malloc((size_t)p->prefetch * sizeof *b.ring_compute);
    b.ring_load = malloc((size_t)p->prefetch * sizeof *b.ring_load);
    b.stored_cache = malloc(cells * sizeof *b.stored_cache);
    b.stored_hidden = malloc((size_t)p->num_gpu_batches * sizeof *b.stored_hidden);
    b.batch_op = malloc((size_t)p->num_gpu_batches * sizeof *b.batch_op);
    if (b.ring_compute && b.ring_load && b.stored_cache && b.stored_hidden && b.batch_op) {
        memset(b.ring_compute, -1, (size_t)p->prefetch * sizeof *b.ring_compute);
        memset(b.ring_load, -1, (size_t)p->prefetch * sizeof *b.ring_load);
        memset(b.stored_cache, -1, cells * sizeof *b.stored_cache);
        memset(b.stored_hidden, -1, (size_t)p->num_gpu_batches * sizeof *b.stored_hidden);
        memset(b.batch_op, -1, (size_t)p->num_gpu_batches * sizeof *b.batch_op);
        memset(b.near_out, -1, sizeof b.near_out);
        memset(b.pass_end, -1, sizeof b.pass_end);
        memset(b.cache_slot, -1, sizeof b.cache_slot);
        memset(b.hidden_slot, -1, sizeof b.hidden_slot);
        if (hardware_waits(hw))
            builder_turns(&b);
        else
            build(&b);
        struct run_setting set = {.arch = a, .hardware = hw, .workload = w, .policy = p, .placement = pl};
        if (b.status == STATUS_OK)
            b.status = arrange(s, &set, err);
    } else {
        b.status = error_set(err, STATUS_RUNTIME, "out of memory for the schedule");
    }
    free(b.ring_compute);
    free(b.ring_load);
    free(b.stored_cache);
    free(b.stored_hidden);
    free(b.batch_op);
    if (b.status != STATUS_OK)
        schedule_free(s);
    return b.status;
}

enum status schedule_deal(struct schedule *s, struct error *err)
{
    int32_t next[RESOURCES_MAX];
    s->lane = malloc(((size_t)s->n_ops + 1) * sizeof *s->lane);
    if (!s->lane)
        return error_set(err, STATUS_RUNTIME, "out of memory for %d operations", s->n_ops);
    memset(s->first, 0, sizeof s->first);
    for (int32_t i = 0; i < s->n_ops; i++)
        s->first[s->op[i].resource + 1]++;
    for (int r = 0; r < RESOURCES_MAX; r++) {
        s->first[r + 1] += s->first[r];
        next[r] = s->first[r];
    }
    for (int32_t i = 0; i < s->n_ops; i++)
        s->lane[next[s->op[i].resource]++] = i;
    return STATUS_OK;
}

void schedule_free(struct schedule *s)
{
    free(s->op);
    free(s->lane);
    memset(s, 0, sizeof *s);
}
