#include "executor/sim/clock.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define NONE (-1)

/* A resource: its operations in order, and the one at work. */
struct lane {
    const int32_t *op; /* (n) */
    int32_t n, at;     /* at: the one at work, or the next */
    bool working;
    int32_t watched; /* the dependency that keeps the next from starting; NONE if there is none */
    int32_t waits_for;
    double start_s, end_s;
    double pace;       /* seconds that pass for a second of work, at least 1 */
    double next_begun; /* when the next transfer was begun behind the one at work; negative: not */
};

struct clock {
    const struct clock_input *in;
    struct lane lane[RESOURCES_MAX];
    bool *done; /* (n_ops) */
    struct clock_time *times;
    double load[CONTENTIONS_MAX];
};

/* Index of a dependency that has not ended, or NONE. */
static int32_t unfinished(const struct clock *c, int32_t id)
{
    const struct op *op = &c->in->schedule->op[id];
    for (int i = 0; i < op->n_deps; i++)
        if (!c->done[op->dep[i]])
            return op->dep[i];
    return NONE;
}

/* Starts the lane's next operation if it is ready. */
static bool start(struct clock *c, int resource, double now_s)
{
    struct lane *l = &c->lane[resource];
    if (l->working || l->at == l->n)
        return false;
    int32_t id = l->op[l->at], last = l->watched;
    l->watched = unfinished(c, id);
    if (l->watched != NONE)
        return false;
    double hidden_s = l->next_begun < 0 ? 0 : fmin(c->in->latency_s[resource], now_s - l->next_begun);
    l->working = true;
    l->waits_for = last;
    l->start_s = now_s;
    l->end_s = now_s + fmax(0, c->in->duration_s[id] - hidden_s);
    l->pace = 1;
    bool queues = c->in->latency_s[resource] > 0 && l->at + 1 < l->n;
    l->next_begun = queues && unfinished(c, l->op[l->at + 1]) == NONE ? now_s : -1;
    return true;
}

static void end(struct clock *c, struct lane *l)
{
    int32_t id = l->op[l->at++];
    c->done[id] = true;
    l->working = false;
    if (c->times)
        c->times[id] = (struct clock_time){(int64_t)(l->start_s * 1e9 + 0.5), (int64_t)(l->end_s * 1e9 + 0.5), l->waits_for};
}

/* How much longer everything of resource r takes now. */
static double pace_of(const struct clock *c, int r)
{
    double pace = 1;
    for (int g = 0; g < c->in->n_contentions; g++)
        if (c->in->contention[g].share[r] > 0)
            pace = fmax(pace, c->load[g]);
    return pace;
}

/* After who is at work has changed: the rest of each operation goes on at its new pace. */
static void share_out(struct clock *c, double now_s)
{
    for (int g = 0; g < c->in->n_contentions; g++) {
        c->load[g] = 0;
        for (int r = 0; r < c->in->n_resources; r++)
            c->load[g] += c->lane[r].working ? c->in->contention[g].share[r] : 0;
    }
    for (int r = 0; r < c->in->n_resources; r++) {
        struct lane *l = &c->lane[r];
        double pace = l->working ? pace_of(c, r) : l->pace;
        if (pace != l->pace) {
            l->end_s = now_s + (l->end_s - now_s) * pace / l->pace;
            l->pace = pace;
        }
    }
}

static struct lane *next_to_end(struct clock *c)
{
    struct lane *first = NULL;
    for (int r = 0; r < c->in->n_resources; r++)
        if (c->lane[r].working && (!first || c->lane[r].end_s < first->end_s))
            first = &c->lane[r];
    return first;
}

static double run(struct clock *c)
{
    double now_s = 0;
    struct lane *l;
    for (int r = 0; r < c->in->n_resources; r++)
        start(c, r, 0);
    share_out(c, 0);
    while ((l = next_to_end(c))) {
        int32_t ended = l->op[l->at];
        now_s = l->end_s;
        end(c, l);
        for (int r = 0; r < c->in->n_resources; r++)
            if (&c->lane[r] == l || c->lane[r].watched == ended)
                start(c, r, now_s);
        if (c->in->n_contentions)
            share_out(c, now_s);
    }
    return now_s;
}

/* The operations of each resource, in order. */
static void deal(struct clock *c, int32_t *list)
{
    const struct schedule *s = c->in->schedule;
    int32_t first[RESOURCES_MAX + 1] = {0}, next[RESOURCES_MAX];
    for (int32_t i = 0; i < s->n_ops; i++)
        first[s->op[i].resource + 1]++;
    for (int r = 0; r < RESOURCES_MAX; r++)
        first[r + 1] += first[r];
    for (int r = 0; r < RESOURCES_MAX; r++) {
        next[r] = first[r];
        c->lane[r] =
            (struct lane){.op = list + first[r], .n = first[r + 1] - first[r], .watched = NONE, .next_begun = -1, .pace = 1};
    }
    for (int32_t i = 0; i < s->n_ops; i++)
        list[next[s->op[i].resource]++] = i;
}

enum status clock_run(const struct clock_input *in, struct clock_time *times, double *total_s, struct error *err)
{
    size_t n = (size_t)in->schedule->n_ops + 1;
    struct clock c = {.in = in, .times = times, .done = calloc(n, sizeof *c.done)};
    int32_t *list = malloc(n * sizeof *list);
    enum status s = STATUS_OK;
    if (c.done && list) {
        deal(&c, list);
        *total_s = run(&c);
    } else {
        s = error_set(err, STATUS_RUNTIME, "out of memory for a simulation of %d operations", in->schedule->n_ops);
    }
    free(c.done);
    free(list);
    return s;
}
