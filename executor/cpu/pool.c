/* pool.c - a fixed set of threads that share out the tasks of one job at a time.
 *
 * A job is announced by a new generation number. Workers wait for it by looking for some microseconds, because the jobs of
 * one layer follow each other closely, and then sleep on a condition, so that they do not take the core from a copy thread.
 *
 * Each worker is bound to a CPU of its own, none to the caller's. Left to the kernel, a worker that is woken often finds itself on the
 * caller's CPU and starts when the caller has finished: a run that waited for the disk before every layer took 1.8 times as long to
 * compute on two CPUs.
 */
#define _GNU_SOURCE /* sched_getcpu, pthread_setaffinity_np */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "executor/cpu/kernels.h"
#include "executor/now.h"

#define SPIN_NS 10000 /* half of what kernels.h allows */

struct worker {
    struct pool *pool;
    pthread_t id;
    int index;
};

struct pool {
    int threads;
    struct worker *worker; /* (threads - 1): all but the caller */
    int started;
    int *cpu; /* (n_cpus) those that the process may use */
    int n_cpus;
    int home;                 /* the caller's CPU when the workers were bound, -1 before */
    pthread_mutex_t run_lock; /* one job at a time */
    pthread_mutex_t lock;
    pthread_cond_t job_begins, job_ends;
    atomic_uint generation;
    atomic_int busy; /* workers that have not finished the current generation */
    bool quit;       /* under lock, before a new generation */
    /* the job, written before the generation */
    void (*fn)(void *arg, int task, int thread);
    void *arg;
    int tasks;
    atomic_int next;
};

static void pause_briefly(void)
{
    for (int i = 0; i < 16; i++)
        __builtin_ia32_pause();
}

static void work(struct pool *p, int thread)
{
    int task;

    while ((task = atomic_fetch_add(&p->next, 1)) < p->tasks)
        p->fn(p->arg, task, thread);
}

static void wait_for_job(struct pool *p, unsigned seen)
{
    const int64_t until = now_ns() + SPIN_NS;

    while (atomic_load(&p->generation) == seen && now_ns() < until)
        pause_briefly();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->generation) == seen)
        pthread_cond_wait(&p->job_begins, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static void finish_job(struct pool *p)
{
    if (atomic_fetch_sub(&p->busy, 1) != 1)
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->job_ends);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    unsigned seen = 0;

    for (;;) {
        wait_for_job(p, seen);
        seen++;
        if (p->quit)
            return NULL;
        work(p, w->index);
        finish_job(p);
    }
}

/* Failures leave the pool unbound, which is only slower. */
static void find_cpus(struct pool *p)
{
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || !(p->cpu = calloc((size_t)CPU_COUNT(&allowed), sizeof *p->cpu)))
        return;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed))
            p->cpu[p->n_cpus++] = i;
}

/* Binds the workers to the CPUs that follow the caller's, unless there are fewer CPUs than threads. */
static void bind_workers(struct pool *p)
{
    const int here = sched_getcpu();
    int at = 0;

    if (here == p->home || p->n_cpus < p->threads)
        return;
    while (at < p->n_cpus && p->cpu[at] != here)
        at++;
    if (at == p->n_cpus)
        return;
    for (int i = 0; i < p->started; i++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(p->cpu[(at + 1 + i) % p->n_cpus], &one);
        pthread_setaffinity_np(p->worker[i].id, sizeof one, &one);
    }
    p->home = here;
}

static void begin_job(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->generation, 1);
    pthread_cond_broadcast(&p->job_begins);
    pthread_mutex_unlock(&p->lock);
}

static void wait_for_workers(struct pool *p)
{
    const int64_t until = now_ns() + SPIN_NS;

    while (atomic_load(&p->busy) > 0 && now_ns() < until)
        pause_briefly();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->busy) > 0)
        pthread_cond_wait(&p->job_ends, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static enum status start_workers(struct pool *p, struct error *err)
{
    for (int i = 0; i < p->threads - 1; i++) {
        p->worker[i] = (struct worker){.pool = p, .index = i + 1};
        const int rc = pthread_create(&p->worker[i].id, NULL, worker_main, &p->worker[i]);
        if (rc != 0)
            return error_errno(err, rc, "cannot start worker thread %d of %d", i + 1, p->threads);
        p->started++;
    }
    return STATUS_OK;
}

enum status pool_new(struct pool **out, int threads, struct error *err)
{
    struct pool *p = NULL;
    enum status status;

    *out = NULL;
    if (threads < 1)
        return error_set(err, STATUS_INVALID, "number of threads: expected at least 1, found %d", threads);
    p = calloc(1, sizeof *p);
    if (!p || !(p->worker = calloc((size_t)threads, sizeof *p->worker))) {
        free(p);
        return error_errno(err, ENOMEM, "cannot make a pool of %d threads", threads);
    }
    p->threads = threads;
    p->home = -1;
    find_cpus(p);
    pthread_mutex_init(&p->run_lock, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->job_begins, NULL);
    pthread_cond_init(&p->job_ends, NULL);
    status = start_workers(p, err);
    if (status != STATUS_OK) {
        pool_free(p);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    p->quit = true;
    begin_job(p);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->worker[i].id, NULL);
    pthread_cond_destroy(&p->job_ends);
    pthread_cond_destroy(&p->job_begins);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->run_lock);
    free(p->cpu);
    free(p->worker);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p ? p->threads : 1;
}

static void run_alone(int tasks, void (*fn)(void *arg, int task, int thread), void *arg)
{
    for (int i = 0; i < tasks; i++)
        fn(arg, i, 0);
}

void pool_run(struct pool *p, int tasks, void (*fn)(void *arg, int task, int thread), void *arg)
{
    if (!p || p->threads == 1 || tasks <= 1) {
        run_alone(tasks, fn, arg);
        return;
    }
    pthread_mutex_lock(&p->run_lock);
    bind_workers(p);
    p->fn = fn;
    p->arg = arg;
    p->tasks = tasks;
    atomic_store(&p->next, 0);
    atomic_store(&p->busy, p->threads - 1);
    begin_job(p);
    work(p, 0);
    wait_for_workers(p);
    pthread_mutex_unlock(&p->run_lock);
}
