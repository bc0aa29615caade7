#include "executor/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "executor/now.h"
#include "executor/sim/sim.h"

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

/* Index of the first unfinished dependency, or -1. */
static int pending(const struct engine *e, const struct op *op)
{
    for (int i = 0; i < op->n_deps; i++)
        if (!atomic_load_explicit(&e->done[op->dep[i]], memory_order_acquire))
            return i;
    return -1;
}

static bool wait_ready(struct engine *e, const struct op *op)
{
    if (pending(e, op) >= 0) {
        pthread_mutex_lock(&e->mutex);
        while (pending(e, op) >= 0 && !atomic_load(&e->failed))
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

static bool begin(struct engine *e, int32_t id, int64_t previous_end_ns)
{
    const struct op *op = &e->s->op[id];
    struct clock_time *t = &e->timing[id];
    struct error cause = {0};
    t->start_ns = now_ns() - e->zero_ns;
    t->waits_for = -1;
    if (t->start_ns < previous_end_ns)
        t->start_ns = previous_end_ns;
    for (int i = 0; i < op->n_deps; i++)
        if (t->waits_for < 0 || e->timing[op->dep[i]].end_ns > e->timing[t->waits_for].end_ns)
            t->waits_for = op->dep[i];
    enum status s = e->work->begin(e->work->context, op, &cause);
    if (s != STATUS_OK)
        fail(e, s, &cause);
    return s == STATUS_OK;
}

static bool finish(struct engine *e, int32_t id)
{
    const struct op *op = &e->s->op[id];
    struct error cause = {0};
    enum status s = e->work->finish ? e->work->finish(e->work->context, op, &cause) : STATUS_OK;
    e->timing[id].end_ns = now_ns() - e->zero_ns;
    if (s != STATUS_OK) {
        fail(e, s, &cause);
        return false;
    }
    mark_done(e, id);
    if (e->work->done)
        e->work->done(e->work->context, op);
    return true;
}

static void *work_loop(void *arg)
{
    struct worker *w = arg;
    struct engine *e = w->e;
    int32_t in_flight = -1; /* begun, not finished */
    int64_t last_end_ns = 0;
    for (int32_t i = 0; i < w->n; i++) {
        const struct op *op = &e->s->op[w->op[i]];
        /* A second transfer may start while the first is in flight, but nobody waits for it with one unfinished. */
        if (in_flight >= 0 && (op->link < 0 || pending(e, op) >= 0)) {
            if (!finish(e, in_flight))
                return NULL;
            last_end_ns = e->timing[in_flight].end_ns;
            in_flight = -1;
        }
        if (!wait_ready(e, op))
            return NULL;
        if (e->stop && atomic_load(e->stop)) { /* nothing is wanted any more */
            if (in_flight >= 0 && !finish(e, in_flight))
                return NULL;
            in_flight = -1;
            e->timing[w->op[i]].waits_for = SKIPPED;
            mark_done(e, w->op[i]);
            continue;
        }
        if (!begin(e, w->op[i], last_end_ns))
            return NULL;
        if (in_flight >= 0) {
            if (!finish(e, in_flight))
                return NULL;
            last_end_ns = e->timing[in_flight].end_ns;
            if (e->timing[w->op[i]].start_ns < last_end_ns)
                e->timing[w->op[i]].start_ns = last_end_ns;
        }
        in_flight = w->op[i];
        if (op->link < 0) {
            if (!finish(e, in_flight))
                return NULL;
            last_end_ns = e->timing[in_flight].end_ns;
            in_flight = -1;
        }
    }
    if (in_flight >= 0)
        finish(e, in_flight);
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
        w[r] = (struct worker){.e = e, .n = s->first[r + 1] - s->first[r], .op = s->lane + s->first[r]};
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
