/* schedule_turns.c - the schedule of a runtime that waits at every turn (model/turns.h), as FlexGen's does. */
#include "executor/schedule_internal.h"

#include <string.h>

/* What has been listed of the turn: each operation waits for the end of the turn before, the end waits for all of them. */
struct waiting {
    struct builder *b;
    int32_t over;                /* the end of the turn before */
    int32_t last[RESOURCES_MAX]; /* of this turn, by resource */
};

/* An operation of the turn that also waits for `before`, or `before` if there is nothing to move. */
static int32_t add(struct waiting *w, struct op op, int32_t before)
{
    int32_t deps[] = {w->over, before};
    if (op.link >= 0 && op.bytes == 0)
        return before;
    return w->last[op.resource] = builder_emit(w->b, op, deps, 2);
}

static int64_t bytes_of(const struct builder *b, const struct turn *t, enum op_kind kind, int link)
{
    int64_t none; /* OP_STAGE has what is pageable */
    switch (kind) {
    case OP_LOAD_WEIGHTS:
        return builder_weight_bytes(b, t, link, 0, &none);
    case OP_LOAD_CACHE:
        return builder_cache_bytes(b, t, link, step_first_token(b->w, t->step));
    case OP_STORE_CACHE:
        return builder_cache_bytes(b, t, link, step_tokens(b->w, t->step));
    default:
        return builder_hidden_bytes(b, t, link);
    }
}

/* With overlap the threads that move what lives on the disk do one leg after the other: its operation takes both (op_seconds), so nothing waits for it
 * between the links. */
static bool legs_follow(const struct waiting *w)
{
    return !w->b->p->overlap;
}

/* Up to tier `top` from below, hop by hop; returns the longest. */
static int32_t load(struct waiting *w, const struct turn *t, enum op_kind kind, int top)
{
    int32_t below = NONE, longest = NONE;
    for (int link = w->b->links - 1; link >= top; link--) {
        below = add(w, builder_transfer(w->b, t, kind, link, bytes_of(w->b, t, kind, link)), legs_follow(w) ? below : NONE);
        longest = longest == NONE || legs_follow(w) ? below : longest;
    }
    return longest;
}

static void store(struct waiting *w, const struct turn *t, enum op_kind kind, int top, int32_t above)
{
    for (int link = top; link < w->b->links; link++) {
        int32_t op = add(w, builder_transfer(w->b, t, kind, link, bytes_of(w->b, t, kind, link)), above);
        above = legs_follow(w) ? op : above;
    }
}

/* What crosses the first link from pageable memory: not what comes from the disk. */
static int64_t pageable(const struct builder *b, const struct turn *t, enum op_kind kind)
{
    return b->links > 1 ? bytes_of(b, t, kind, 0) - bytes_of(b, t, kind, b->links - 1) : 0;
}

/* Copy `i` of `copies`, by the second unit. */
static int32_t stage(struct waiting *w, const struct turn *t, int64_t bytes, int copies, int i)
{
    struct op op = builder_compute(w->b, t, OP_STAGE, 1);
    op.bytes = bytes * (i + 1) / copies - bytes * i / copies;
    return op.bytes > 0 ? add(w, op, NONE) : NONE;
}

static void load_weights(struct waiting *w, const struct turn *t)
{
    const struct layer *l = &w->b->a->layer[t->layer];
    int copies = w->b->p->pageable_weights ? layer_matrices(l) : 0;
    int64_t staged = copies > 0 ? pageable(w->b, t, OP_LOAD_WEIGHTS) : 0;
    load(w, t, OP_LOAD_WEIGHTS, 0);
    for (int i = 0; i < copies; i++)
        stage(w, t, staged, copies, i);
}

/* Keys, then values: each goes up when it is staged. */
static void load_staged_cache(struct waiting *w, const struct turn *t)
{
    const struct builder *b = w->b;
    int64_t staged = pageable(b, t, OP_LOAD_CACHE), direct = bytes_of(b, t, OP_LOAD_CACHE, 0) - staged;
    int32_t below = load(w, t, OP_LOAD_CACHE, 1);
    add(w, builder_transfer(b, t, OP_LOAD_CACHE, 0, direct), legs_follow(w) ? below : NONE);
    for (int i = 0; i < 2; i++) {
        int32_t copied = stage(w, t, staged, 2, i);
        add(w, builder_transfer(b, t, OP_LOAD_CACHE, 0, staged * (i + 1) / 2 - staged * i / 2), copied);
    }
}

/* The first turn of the next layer; false after the last one of a pass. */
static bool next_layer(const struct builder *b, const struct turn *t, struct turn *out)
{
    struct turn at = *t;
    while (turn_next(&b->order, &at, out)) {
        if (out->layer != t->layer)
            return out->layer == t->layer + 1;
        at = *out;
    }
    return false;
}

static int cache_top(const struct builder *b, const struct turn *t)
{
    return builder_attends_near(b, t) ? 1 : 0;
}

static void load_for_later(struct waiting *w, const struct turn *t, const struct turn *next)
{
    const struct builder *b = w->b;
    struct turn following;
    if (t->first && next_layer(b, t, &following))
        load_weights(w, &following);
    if (next && builder_attends(b, next)) {
        if (cache_top(b, next) == 0)
            load_staged_cache(w, next);
        else
            load(w, next, OP_LOAD_CACHE, 1);
    }
}

/* Attention near the cache blocks the thread that launches the rest: a contention says so, not the order. */
static int32_t compute(struct waiting *w, const struct turn *t, int32_t before)
{
    struct builder *b = w->b;
    struct op op = builder_compute(b, t, builder_kind(b, t), 0), attend = builder_compute(b, t, OP_ATTEND, 1);
    int below = 0;
    op.flops = builder_flops(b, t);
    if (builder_attends(b, t) && builder_attends_near(b, t))
        attend.flops = builder_attend_flops(b, t, &below);
    op.flops -= attend.flops;
    if (below > 0)
        add(w, attend, before);
    return add(w, op, before);
}

/* Hidden states come up for the next turn and go down from the last; a batch alone has to do all three after one another. */
static void work(struct waiting *w, const struct turn *before, const struct turn *t, const struct turn *next)
{
    const struct builder *b = w->b;
    bool alone = t->high - t->low == 1;
    const struct turn *up = alone ? t : next, *down = alone ? t : before;
    int32_t loaded = NONE;
    if (up && b->a->layer[up->layer].kind != LAYER_EMBED)
        loaded = load(w, up, OP_LOAD_HIDDEN, 0);
    int32_t computed = compute(w, t, alone ? loaded : NONE);
    if (down && b->a->layer[down->layer].kind != LAYER_HEAD)
        store(w, down, OP_STORE_HIDDEN, 0, alone ? computed : NONE);
}

void builder_turns(struct builder *b)
{
    struct waiting w = {.b = b, .over = NONE};
    struct turn t = turn_first(&b->order), before, next;
    bool first = true, more = true;
    for (; more && b->status == STATUS_OK; first = false, before = t, t = next) {
        memset(w.last, -1, sizeof w.last);
        more = turn_next(&b->order, &t, &next);
        load_for_later(&w, &t, more ? &next : NULL);
        if (!first && builder_attends(b, &before))
            store(&w, &before, OP_STORE_CACHE, cache_top(b, &before), NONE);
        work(&w, first ? NULL : &before, &t, more ? &next : NULL);
        w.over = builder_emit(b, builder_compute(b, &t, OP_TURN, 0), w.last, RESOURCES_MAX);
    }
}
