#include "executor/order.h"

static bool under_way(const struct order *o, int64_t batch, int64_t pass)
{
    int64_t entry = stream_entry(o->w, o->p, batch);
    return entry <= pass && pass < entry + o->w->gen_tokens;
}

static void take_batch(const struct order *o, struct turn *t, int64_t batch)
{
    t->batch = (int)batch;
    t->step = (int)(t->pass - stream_entry(o->w, o->p, batch));
}

static void open_pass(const struct order *o, struct turn *t)
{
    while (!under_way(o, t->low, t->pass))
        t->low++;
    while (t->high < o->batches && under_way(o, t->high, t->pass))
        t->high++;
    take_batch(o, t, t->low);
}

static void number_visit(const struct order *o, struct turn *t)
{
    bool embed = o->a->layer[t->layer].kind == LAYER_EMBED;
    t->first = t->batch == t->low;
    t->last = t->batch == t->high - 1;
    t->visits += t->first && !embed;
    t->visit = embed ? -1 : t->visits - 1;
}

struct turn turn_first(const struct order *o)
{
    struct turn t = {0};
    open_pass(o, &t);
    number_visit(o, &t);
    return t;
}

bool turn_next(const struct order *o, const struct turn *t, struct turn *out)
{
    *out = *t;
    out->number++;
    out->attention += o->a->layer[t->layer].kind == LAYER_ATTENTION;
    if (t->batch + 1 < t->high) {
        take_batch(o, out, t->batch + 1);
    } else if (++out->layer < o->a->n_layers) {
        take_batch(o, out, t->low);
    } else {
        out->layer = 0;
        if (++out->pass == o->passes)
            return false;
        open_pass(o, out);
    }
    number_visit(o, out);
    return true;
}
