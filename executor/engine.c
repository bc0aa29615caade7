#include "executor/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "executor/now.h"
#include "executor/sim/sim.h"

#define NONE    (-1)
#define SKIPPED (-2) /* waits_for of an operation that did not run */

struct engine {
    const struct schedule *s;
    const struct engine_work *work;
    const atomic_bool *stop;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    atomic_bool *done;         /* (n_ops) */
    struct clock_time *timing; /* (n_ops) */
    atomic_bool failed;
    enum status status;
    struct error *err;
    int64_t zero_ns;
};

struct worker {
    struct engine *e;
    int32_t n;
    const int32_t *op; /* (n) its operations, in order */
    int32_t in_flight; /* begun, not finished; or NONE */
    int64_t last_end_ns;
    pthread_t thread;
    bool started;
};

static void fail(struct engine *e, enum status status, const struct error *cause)
{
    pthread_mutex_lock(&e->mutex);
    if (!atomic_load(&e->failed)) {
        e->status = status;
        error_set(e->err, status, "%s", cause->text);
        atomic_store(&e->failed, true);
    }
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
}

/* Whether a dependency other than `but` has not ended. */
static bool pending(const struct engine *e, const struct op *op, int32_t but)
{
    for (int i = 0; i < op->n_deps; i++)
        if (op->dep[i] != but && !atomic_load_explicit(&e->done[op->dep[i]], memory_order_acquire))
            return true;
    return false;
}

static bool wait_ready(struct engine *e, const struct op *op, int32_t but)
{
    if (pending(e, op, but)) {
        pthread_mutex_lock(&e->mutex);
        while (pending(e, op, but) && !atomic_load(&e->failed))
            pthread_cond_wait(&e->changed, &e->mutex);
        pthread_mutex_unlock(&e->mutex);
    }
    return !atomic_load(&e->failed);
}

static void mark_done(struct engine *e, int32_t id)
{
    pthread_mutex_lock(&e->mutex);
    atomic_store_explicit(&e->done[id], true, memory_order_release);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
}

/* Whether the operation may begin while `in_flight` is between begin and finish. A unit's queue makes a computation wait for the one before; a
 * transfer's bytes may take other ways. */
static bool may_follow(const struct engine *e, const struct op *op, int32_t in_flight)
{
    if (op->link >= 0)
        return !pending(e, op, NONE);
    return e->work->queues && e->work->queues(e->work->context, op) && !pending(e, op, in_flight);
}

static bool begin(struct engine *e, int32_t id)
{
    struct error cause = {0};
    e->timing[id].start_ns = now_ns() - e->zero_ns;
    enum status s = e->work->begin(e->work->context, &e->s->op[id], &cause);
    if (s != STATUS_OK)
        fail(e, s, &cause);
    return s == STATUS_OK;
}

/* The dependency that ended last, all having done so; -1: there is none. */
static int32_t last_dependency(const struct engine *e, const struct op *op)
{
    int32_t last = NONE;
    for (int i = 0; i < op->n_deps; i++)
        if (last < 0 || e->timing[op->dep[i]].end_ns > e->timing[last].end_ns)
            last = op->dep[i];
    return last;
}

/* Ends what is in flight, if anything is. The operation's time starts when the one before it on its resource has ended. */
static bool finish(struct worker *w)
{
    struct engine *e = w->e;
    const int32_t id = w->in_flight;
    struct error cause = {0};
    w->in_flight = NONE;
    if (id == NONE)
        return true;
    const struct op *op = &e->s->op[id];
    struct clock_time *t = &e->timing[id];
    enum status s = e->work->finish ? e->work->finish(e->work->context, op, &cause) : STATUS_OK;
    t->end_ns = now_ns() - e->zero_ns;
    t->start_ns = t->start_ns < w->last_end_ns ? w->last_end_ns : t->start_ns;
    t->waits_for = last_dependency(e, op);
    w->last_end_ns = t->end_ns;
    if (s != STATUS_OK) {
        fail(e, s, &cause);
        return false;
    }
    mark_done(e, id);
    if (e->work->done)
        e->work->done(e->work->context, op);
    return true;
}

/* Begins an operation as soon as it may and ends the one before; leaves it in flight. */
static bool run(struct worker *w, int32_t id)
{
    struct engine *e = w->e;
    const struct op *op = &e->s->op[id];
    /* Nobody waits for an operation with another one unfinished. */
    if (w->in_flight != NONE && !may_follow(e, op, w->in_flight) && !finish(w))
        return false;
    if (!wait_ready(e, op, w->in_flight))
        return false;
    if (e->stop && atomic_load(e->stop)) { /* nothing is wanted any more */
        if (!finish(w))
            return false;
        e->timing[id].waits_for = SKIPPED;
        mark_done(e, id);
        return true;
    }
    if (!begin(e, id))
        return false;
    const bool ended = finish(w);
    w->in_flight = id;
    return ended;
}

static void *work_loop(void *arg)
{
    struct worker *w = arg;
    int32_t i = 0;
    while (i < w->n && run(w, w->op[i]))
        i++;
    finish(w); /* after a failure too: its memory may be given back */
    return NULL;
}

static enum status record(const struct engine *e, struct trace *trace, struct error *err)
{
    enum status s = trace_reserve(trace, e->s->n_ops, 0, err);
    for (int32_t i = 0; i < e->s->n_ops && s == STATUS_OK; i++)
        if (e->timing[i].waits_for != SKIPPED)
            s = trace_add_op(trace, e->s, i, &e->timing[i], err);
    return s;
}

static void start_workers(struct engine *e, struct worker *w, int n)
{
    const struct schedule *s = e->s;
    for (int r = 0; r < n; r++)
        w[r] = (struct worker){.e = e, .n = s->first[r + 1] - s->first[r], .op = s->lane + s->first[r], .in_flight = NONE};
    for (int r = 0; r < n; r++) {
        if (w[r].n == 0)
            continue;
        int failure = pthread_create(&w[r].thread, NULL, work_loop, &w[r]);
        if (failure) {
            struct error cause = {0};
            fail(e, error_errno(&cause, failure, "cannot start a thread"), &cause);
            break;
        }
        w[r].started = true;
    }
}

enum status engine_run(const struct schedule *s, int n_resources, const struct engine_work *work, const atomic_bool *stop,
                       struct trace *trace, struct error *err)
{
    struct engine e = {.s = s, .work = work, .stop = stop, .err = err};
    struct worker *w = calloc((size_t)n_resources, sizeof *w);
    pthread_mutex_init(&e.mutex, NULL);
    pthread_cond_init(&e.changed, NULL);
    e.done = calloc((size_t)s->n_ops + 1, sizeof *e.done);
    e.timing = calloc((size_t)s->n_ops + 1, sizeof *e.timing);
    if (!w || !e.done || !e.timing) {
        e.status = error_set(err, STATUS_RUNTIME, "out of memory for %d operations", s->n_ops);
    } else {
        e.zero_ns = now_ns();
        start_workers(&e, w, n_resources);
        for (int r = 0; r < n_resources; r++)
            if (w[r].started)
                pthread_join(w[r].thread, NULL);
        if (e.status == STATUS_OK && trace)
            e.status = record(&e, trace, err);
    }
    free(w);
    free(e.done);
    free(e.timing);
    pthread_cond_destroy(&e.changed);
    pthread_mutex_destroy(&e.mutex);
    return e.status;
}
