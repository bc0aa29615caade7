/* The engine on units that work late, at once or at any time between: whatever it begins early, every operation finds what it needs. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "executor/engine.h"
#include "tests/kernel_test.h"

enum { OPS_MAX = 120, LINKS = 2, RESOURCES = 4 };
enum when { AT_ONCE, LATE, ANY_TIME, WHEN_COUNT };

/* A resource's queue: what has been begun on it, and how much of that has been finished. */
struct queue {
    int32_t op[OPS_MAX];
    int begun, finished;
};

/* A schedule by hand (resources 0 and 1 are links) and the machine that it runs on. An operation's value is made of those that it depends on,
 * as they are when it works: 0 for one that has not worked yet. One that begins on the host reads them when it begins. */
struct machine {
    struct schedule s;
    struct op op[OPS_MAX];
    bool on_host[OPS_MAX];
    enum when when;
    bool queues; /* its units */
    pthread_mutex_t mutex;
    uint64_t seed;
    struct queue queue[RESOURCES];
    bool worked[OPS_MAX];
    uint64_t read[OPS_MAX], value[OPS_MAX];
    int early;       /* computations begun with one at work */
    int32_t fail_at; /* this operation fails ... */
    bool in_finish;  /* ... when it is finished, not begun */
    int32_t stop_at; /* nothing is wanted after this one */
    atomic_bool stop;
};

static uint64_t value_of(const struct machine *m, int32_t id, const uint64_t *value)
{
    uint64_t sum = (uint64_t)id + 1;
    for (int i = 0; i < m->op[id].n_deps; i++) {
        sum += value[m->op[id].dep[i]];
        sum = next_random(&sum);
    }
    return next_random(&sum);
}

static void work(struct machine *m, int32_t id)
{
    if (!m->worked[id])
        m->value[id] = m->on_host[id] ? m->read[id] : value_of(m, id, m->value);
    m->worked[id] = true;
}

/* The operation at `at` in its queue: after those before it on a unit, on its own on a link. */
static void work_off(struct machine *m, const struct queue *q, int at)
{
    for (int i = m->op[q->op[at]].link < 0 ? q->finished : at; i <= at; i++)
        work(m, q->op[i]);
}

static void work_somewhere(struct machine *m)
{
    while (m->when == ANY_TIME && random_in(&m->seed, 0, 2) == 0) {
        const struct queue *q = &m->queue[random_in(&m->seed, 0, RESOURCES - 1)];
        if (q->finished < q->begun)
            work_off(m, q, (int)random_in(&m->seed, q->finished, q->begun - 1));
    }
}

static bool queues(void *context, const struct op *op)
{
    const struct machine *m = context;
    return m->queues && !m->on_host[op - m->op];
}

static enum status failure(const struct machine *m, int32_t id, bool in_finish, struct error *err)
{
    const bool fails = id == m->fail_at && in_finish == m->in_finish;
    return fails ? error_set(err, STATUS_RUNTIME, "operation %d", id) : STATUS_OK;
}

static enum status begin(void *context, const struct op *op, struct error *err)
{
    struct machine *m = context;
    const int32_t id = (int32_t)(op - m->op);
    struct queue *q = &m->queue[op->resource];
    const enum status s = failure(m, id, false, err);
    pthread_mutex_lock(&m->mutex);
    if (s == STATUS_OK) {
        m->read[id] = value_of(m, id, m->value);
        m->early += op->link < 0 && q->begun > q->finished;
        q->op[q->begun++] = id;
        cr_assert_leq(q->begun - q->finished, 2);
        if (m->when == AT_ONCE)
            work_off(m, q, q->begun - 1);
        work_somewhere(m);
    }
    pthread_mutex_unlock(&m->mutex);
    return s;
}

static enum status finish(void *context, const struct op *op, struct error *err)
{
    struct machine *m = context;
    const int32_t id = (int32_t)(op - m->op);
    struct queue *q = &m->queue[op->resource];
    pthread_mutex_lock(&m->mutex);
    work_somewhere(m);
    cr_assert_eq(q->op[q->finished], id, "finished in order");
    work_off(m, q, q->finished);
    q->finished++;
    pthread_mutex_unlock(&m->mutex);
    if (id == m->stop_at)
        m->stop = true;
    return failure(m, id, true, err);
}

static void random_machine(struct machine *m, uint64_t *seed)
{
    *m = (struct machine){.seed = next_random(seed), .fail_at = -1, .stop_at = -1};
    pthread_mutex_init(&m->mutex, NULL);
    m->when = (enum when)random_in(seed, 0, WHEN_COUNT - 1);
    m->queues = random_in(seed, 0, 3) > 0;
    m->s.op = m->op;
    m->s.n_ops = (int32_t)random_in(seed, 1, OPS_MAX);
    for (int32_t i = 0; i < m->s.n_ops; i++) {
        struct op *op = &m->op[i];
        const int resource = (int)random_in(seed, 0, 9); /* mostly the first unit */
        op->resource = (int16_t)(resource < RESOURCES ? resource : LINKS);
        op->link = (int16_t)(op->resource < LINKS ? 0 : -1);
        m->on_host[i] = op->link < 0 && random_in(seed, 0, 3) == 0;
        for (int64_t n = random_in(seed, 0, 3); n > 0 && i > 0; n--)
            op->dep[op->n_deps++] = (int32_t)random_in(seed, i > 6 ? i - 6 : 0, i - 1);
    }
    cr_assert_eq(schedule_deal(&m->s, NULL), STATUS_OK);
}

static enum status run(struct machine *m, struct trace *t, struct error *err)
{
    const struct engine_work work = {.context = m, .begin = begin, .finish = finish, .queues = queues};
    trace_init(t);
    const enum status s = engine_run(&m->s, RESOURCES, &work, &m->stop, t, err);
    for (int r = 0; r < RESOURCES; r++)
        cr_assert_eq(m->queue[r].finished, m->queue[r].begun, "resource %d has unfinished operations", r);
    return s;
}

static void end(struct machine *m, struct trace *t)
{
    trace_free(t);
    free(m->s.lane);
    pthread_mutex_destroy(&m->mutex);
}

Test(engine, every_operation_finds_what_it_depends_on_whenever_units_work)
{
    uint64_t seed = test_seed("every_operation_finds_what_it_depends_on_whenever_units_work");
    int early = 0;
    for (int k = 0; k < 1000; k++) {
        struct machine m;
        struct trace t;
        struct error err = {0};
        uint64_t value[OPS_MAX];
        random_machine(&m, &seed);
        cr_assert_eq(run(&m, &t, &err), STATUS_OK, "case %d: %s", k, err.text);
        cr_assert_eq(t.n_events, m.s.n_ops);
        for (int32_t i = 0; i < m.s.n_ops; i++) {
            value[i] = value_of(&m, i, value);
            cr_assert_eq(m.value[i], value[i], "case %d: operation %d of %d was begun too early", k, i, m.s.n_ops);
        }
        cr_assert(m.queues || m.early == 0);
        early += m.early;
        end(&m, &t);
    }
    cr_assert_gt(early, 1000);
}

/* Of a resource one after the other, after what it depends on; and it waits for the last of that. */
static void assert_times(const struct machine *m, const struct trace *t, int k)
{
    int64_t last_end_ns[RESOURCES] = {0}, end_ns[OPS_MAX];
    bool ran[OPS_MAX] = {false};
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        const struct op *op = &m->op[e->op];
        cr_assert_geq(e->start_ns, last_end_ns[op->resource], "case %d, operation %d", k, e->op);
        cr_assert_geq(e->end_ns, e->start_ns, "case %d, operation %d", k, e->op);
        cr_assert_eq(e->waits_for < 0, op->n_deps == 0, "case %d, operation %d", k, e->op);
        for (int d = 0; d < op->n_deps; d++) {
            cr_assert(ran[op->dep[d]], "case %d: operation %d ran, %d before it did not", k, e->op, op->dep[d]);
            cr_assert_geq(e->start_ns, end_ns[op->dep[d]], "case %d, operation %d", k, e->op);
            cr_assert_geq(end_ns[e->waits_for], end_ns[op->dep[d]], "case %d, operation %d", k, e->op);
        }
        ran[e->op] = true;
        end_ns[e->op] = last_end_ns[op->resource] = e->end_ns;
    }
}

Test(engine, a_trace_has_what_ran_one_after_the_other)
{
    uint64_t seed = test_seed("a_trace_has_what_ran_one_after_the_other");
    for (int k = 0; k < 1000; k++) {
        struct machine m;
        struct trace t;
        struct error err = {0};
        random_machine(&m, &seed);
        m.stop_at = (int32_t)random_in(&seed, 0, 2 * m.s.n_ops); /* half of them go on to the end */
        cr_assert_eq(run(&m, &t, &err), STATUS_OK, "case %d: %s", k, err.text);
        assert_times(&m, &t, k);
        end(&m, &t);
    }
}

Test(engine, a_failure_is_returned_when_nothing_is_at_work_any_more)
{
    uint64_t seed = test_seed("a_failure_is_returned_when_nothing_is_at_work_any_more");
    for (int k = 0; k < 1000; k++) {
        struct machine m;
        struct trace t;
        struct error err = {0};
        char text[32];
        random_machine(&m, &seed);
        m.fail_at = (int32_t)random_in(&seed, 0, m.s.n_ops - 1);
        m.in_finish = random_in(&seed, 0, 1);
        snprintf(text, sizeof text, "operation %d", m.fail_at);
        cr_assert_eq(run(&m, &t, &err), STATUS_RUNTIME);
        cr_assert_str_eq(err.text, text);
        cr_assert_eq(t.n_events, 0);
        end(&m, &t);
    }
}
