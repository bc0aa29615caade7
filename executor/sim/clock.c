#include "executor/sim/clock.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define NONE (-1)

/* Operations that run in this order. */
struct queue {
    const int32_t *op; /* (n) */
    int32_t n, at;     /* at: the next */
    int32_t watched;   /* the dependency that keeps it from starting; NONE if there is none */
    bool early;        /* it was ready when the operation now at work started */
};

/* A resource: one queue, or when the order is still to be found one for each rank, the most urgent first. */
struct lane {
    struct queue queue[RANKS];
    int n_queues;
    int32_t op; /* at work */
    bool working;
    int32_t waits_for;
    double start_s, end_s;
    double launched_s; /* on a unit that queues: when the host had launched it */
    double pace;       /* seconds that pass for a second of work, at least 1 */
};

struct clock {
    const struct clock_input *in;
    struct lane lane[RESOURCES_MAX];
    bool *done; /* (n_ops) */
    struct clock_time *times;
    int32_t *started[RESOURCES_MAX]; /* where each resource's next operation is noted; NULL if nobody asks */
    double load[CONTENTIONS_MAX];
};

/* Index of a dependency other than `but` that has not ended, or NONE. */
static int32_t unfinished(const struct clock *c, int32_t id, int32_t but)
{
    const struct op *op = &c->in->schedule->op[id];
    for (int i = 0; i < op->n_deps; i++)
        if (!c->done[op->dep[i]] && op->dep[i] != but)
            return op->dep[i];
    return NONE;
}

/* Whether the next may start; *last is the dependency that it was seen to wait for. */
static bool is_ready(const struct clock *c, struct queue *q, int32_t *last)
{
    if (q->at == q->n || (q->watched != NONE && !c->done[q->watched]))
        return false;
    *last = q->watched;
    q->watched = unfinished(c, q->op[q->at], NONE);
    return q->watched == NONE;
}

/* Whether the engine begins an operation beside the one at work on its resource. */
static bool may_follow(const struct clock *c, int32_t id, int32_t at_work)
{
    const struct op *op = &c->in->schedule->op[id];
    if (op->resource == c->in->queueing)
        return !op_needs_idle_unit(op) && unfinished(c, id, at_work) == NONE;
    return c->in->latency_s[op->resource] > 0 && unfinished(c, id, NONE) == NONE;
}

/* When an operation ends that starts now, the one before it on its lane having started at start_s. */
static double end_of(const struct clock *c, struct lane *l, int32_t id, bool early, double now_s)
{
    const struct op *op = &c->in->schedule->op[id];
    const double alone_s = c->in->duration_s[id];
    if (op->resource != c->in->queueing)
        return now_s + fmax(0, alone_s - (early ? fmin(c->in->latency_s[op->resource], now_s - l->start_s) : 0));
    const double launch_s = c->in->launch_s[op->kind];
    l->launched_s = (early ? fmax(l->start_s, l->launched_s) : now_s) + launch_s;
    return fmax(now_s, l->launched_s) + fmax(0, alone_s - launch_s);
}

/* Starts the most urgent operation that is ready, if there is one. */
static void start(struct clock *c, int resource, double now_s)
{
    struct lane *l = &c->lane[resource];
    struct queue *q = l->queue;
    while (q < l->queue + l->n_queues && !is_ready(c, q, &l->waits_for))
        q++;
    if (q == l->queue + l->n_queues)
        return;
    l->op = q->op[q->at++];
    l->working = true;
    l->end_s = end_of(c, l, l->op, q->early, now_s);
    l->start_s = now_s;
    l->pace = 1;
    if (c->started[resource])
        *c->started[resource]++ = l->op;
    for (int k = 0; k < l->n_queues; k++) {
        q = &l->queue[k];
        q->early = q->at < q->n && may_follow(c, q->op[q->at], l->op);
    }
}

static void end(struct clock *c, struct lane *l)
{
    c->done[l->op] = true;
    l->working = false;
    if (c->times)
        c->times[l->op] = (struct clock_time){(int64_t)(l->start_s * 1e9 + 0.5), (int64_t)(l->end_s * 1e9 + 0.5), l->waits_for};
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

static bool watches(const struct lane *l, int32_t op)
{
    bool any = false;
    for (int k = 0; k < l->n_queues; k++)
        any |= l->queue[k].watched == op;
    return any;
}

static double run(struct clock *c)
{
    double now_s = 0;
    struct lane *l;
    for (int r = 0; r < c->in->n_resources; r++)
        start(c, r, 0);
    share_out(c, 0);
    while ((l = next_to_end(c))) {
        const int32_t ended = l->op;
        now_s = l->end_s;
        end(c, l);
        for (int r = 0; r < c->in->n_resources; r++)
            if (&c->lane[r] == l || (!c->lane[r].working && watches(&c->lane[r], ended)))
                start(c, r, now_s);
        if (c->in->n_contentions)
            share_out(c, now_s);
    }
    return now_s;
}

static enum status no_memory(const struct clock_input *in, struct error *err)
{
    return error_set(err, STATUS_RUNTIME, "out of memory for a simulation of %d operations", in->schedule->n_ops);
}

enum status clock_run(const struct clock_input *in, struct clock_time *times, double *total_s, struct error *err)
{
    const struct schedule *s = in->schedule;
    struct clock c = {.in = in, .times = times, .done = calloc((size_t)s->n_ops + 1, sizeof *c.done)};
    if (!c.done)
        return no_memory(in, err);
    for (int r = 0; r < in->n_resources; r++) {
        c.lane[r] = (struct lane){.n_queues = 1, .pace = 1};
        c.lane[r].queue[0] = (struct queue){.op = s->lane + s->first[r], .n = s->first[r + 1] - s->first[r], .watched = NONE};
    }
    *total_s = run(&c);
    free(c.done);
    return STATUS_OK;
}

static int rank_of(const struct op *op, enum choice choice)
{
    return choice == CHOICE_LINKS && op->link < 0 ? 0 : op_rank(op);
}

/* Deals the list to a queue for each resource and rank. */
static void deal(struct clock *c, enum choice choice, int32_t *list)
{
    const struct schedule *s = c->in->schedule;
    int32_t n[RESOURCES_MAX][RANKS] = {{0}};
    for (int32_t i = 0; i < s->n_ops; i++)
        n[s->op[i].resource][rank_of(&s->op[i], choice)]++;
    for (int r = 0; r < c->in->n_resources; r++) {
        c->lane[r] = (struct lane){.n_queues = RANKS, .pace = 1};
        for (int k = 0; k < RANKS; list += n[r][k++])
            c->lane[r].queue[k] = (struct queue){.op = list, .watched = NONE};
    }
    for (int32_t i = 0; i < s->n_ops; i++) {
        struct queue *q = &c->lane[s->op[i].resource].queue[rank_of(&s->op[i], choice)];
        ((int32_t *)q->op)[q->n++] = i;
    }
}

enum status clock_arrange(const struct clock_input *in, enum choice choice, int32_t *lane, double *total_s, struct error *err)
{
    const struct schedule *s = in->schedule;
    struct clock c = {.in = in, .done = calloc((size_t)s->n_ops + 1, sizeof *c.done)};
    int32_t *list = malloc(((size_t)s->n_ops + 1) * sizeof *list);
    if (c.done && list) {
        deal(&c, choice, list);
        for (int r = 0; r < in->n_resources; r++)
            c.started[r] = lane + s->first[r];
        *total_s = run(&c);
    }
    enum status status = c.done && list ? STATUS_OK : no_memory(in, err);
    free(c.done);
    free(list);
    return status;
}
