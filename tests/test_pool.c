/* test_pool.c - every task runs exactly once, whatever the counts, jobs follow each other without a mix-up, and workers have a CPU each. */
#define _GNU_SOURCE /* pthread_getaffinity_np */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/kernel_test.h"

struct counts {
    atomic_int of_task[1000];
    atomic_int bad_thread, threads;
};

static void count_task(void *arg, int task, int thread)
{
    struct counts *c = arg;

    atomic_fetch_add(&c->of_task[task], 1);
    if (thread < 0 || thread >= c->threads)
        atomic_store(&c->bad_thread, 1);
}

Test(pool, runs_every_task_exactly_once)
{
    const int tasks[] = {0, 1, 2, 3, 7, 1000};

    for (int threads = 1; threads <= 5; threads++) {
        struct pool *p = pool_of(threads);
        cr_assert_eq(pool_threads(p), threads);
        for (int i = 0; i < 6; i++) {
            struct counts *c = calloc(1, sizeof *c);
            c->threads = threads;
            pool_run(p, tasks[i], count_task, c);
            for (int t = 0; t < 1000; t++)
                cr_assert_eq(c->of_task[t], t < tasks[i] ? 1 : 0, "threads %d, tasks %d: task %d ran %d times", threads, tasks[i],
                             t, c->of_task[t]);
            cr_assert(!c->bad_thread);
            free(c);
        }
        pool_free(p);
    }
}

struct sum {
    atomic_llong total;
    long long add;
};

static void add_task(void *arg, int task, int thread)
{
    struct sum *s = arg;

    (void)thread;
    atomic_fetch_add(&s->total, s->add * task);
}

Test(pool, thousands_of_short_jobs_keep_their_arguments)
{
    struct pool *p = pool_of(3);

    for (int job = 0; job < 5000; job++) {
        /* tasks 0..9 add job * task: job * 45 in all, complete when pool_run returns */
        struct sum s = {.add = job};
        pool_run(p, 10, add_task, &s);
        cr_assert_eq(s.total, 45LL * job, "job %d: %lld", job, s.total);
    }
    pool_free(p);
}

static void sleep_ms(int ms)
{
    const struct timespec t = {.tv_nsec = ms * 1000000L};

    nanosleep(&t, NULL);
}

static double process_cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

Test(pool, idle_workers_sleep_and_wake_up_again)
{
    struct pool *p = pool_of(4);
    struct sum s = {.add = 1};

    pool_run(p, 10, add_task, &s);
    /* Three workers may look around for about 20 us each; spinning through the 200 ms would cost 0.2 s or more. */
    const double before = process_cpu_s();
    sleep_ms(200);
    cr_assert_lt(process_cpu_s() - before, 0.05);
    pool_run(p, 10, add_task, &s);
    cr_assert_eq(s.total, 90); /* 45 twice */
    pool_free(p);
}

struct meeting {
    atomic_int present;
};

static void meet_task(void *arg, int task, int thread)
{
    struct meeting *m = arg;

    (void)task;
    (void)thread;
    atomic_fetch_add(&m->present, 1);
    for (int i = 0; i < 5000 && m->present < 3; i++)
        sleep_ms(1);
}

Test(pool, tasks_really_run_at_the_same_time)
{
    struct pool *p = pool_of(3);
    struct meeting m = {0};

    /* Each of three tasks waits for the other two: one thread alone would give up after 5 s each with fewer present. */
    const double begin = (double)time(NULL);
    pool_run(p, 3, meet_task, &m);
    cr_assert_eq(m.present, 3);
    cr_assert_lt((double)time(NULL) - begin, 5.0);
    pool_free(p);
}

Test(pool, no_pool_is_the_caller_alone)
{
    struct sum s = {.add = 1};

    cr_assert_eq(pool_threads(NULL), 1);
    pool_run(NULL, 10, add_task, &s);
    cr_assert_eq(s.total, 45);
    pool_free(NULL);
}

Test(pool, refuses_no_threads)
{
    struct error err = {0};
    struct pool *p = (struct pool *)&err;

    cr_assert_eq(pool_new(&p, 0, &err), STATUS_INVALID);
    cr_assert_null(p);
    cr_assert_str_eq(err.text, "number of threads: expected at least 1, found 0");
}

#define CPUS 64

struct cpus {
    atomic_int arrived;
    int threads, cpus[CPUS]; /* that the thread may use */
    cpu_set_t set[CPUS];
};

/* As many tasks as threads, none of which ends before all have begun: each thread runs one. */
static void note_cpus(void *arg, int task, int thread)
{
    struct cpus *c = arg;

    (void)task;
    pthread_getaffinity_np(pthread_self(), sizeof c->set[thread], &c->set[thread]);
    c->cpus[thread] = CPU_COUNT(&c->set[thread]);
    atomic_fetch_add(&c->arrived, 1);
    while (atomic_load(&c->arrived) < c->threads)
        sched_yield();
}

Test(pool, each_worker_has_a_cpu_of_its_own)
{
    cpu_set_t allowed;

    cr_assert_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    const int threads = CPU_COUNT(&allowed) < CPUS ? CPU_COUNT(&allowed) : CPUS;
    struct pool *p = pool_of(threads);
    struct cpus c = {.threads = threads};
    pool_run(p, threads, note_cpus, &c);
    pool_free(p);
    cr_assert(CPU_EQUAL(&c.set[0], &allowed), "the caller was bound");
    if (threads == 1)
        return; /* nobody to bind */
    cpu_set_t taken;
    CPU_ZERO(&taken);
    for (int i = 1; i < threads; i++) {
        cr_assert_eq(c.cpus[i], 1, "worker %d may use %d CPUs", i, c.cpus[i]);
        CPU_OR(&taken, &taken, &c.set[i]);
    }
    cr_assert_eq(CPU_COUNT(&taken), threads - 1, "%d workers share %d CPUs", threads - 1, CPU_COUNT(&taken));
}

Test(pool, more_threads_than_cpus_are_left_to_the_kernel)
{
    cpu_set_t allowed;

    cr_assert_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    const int threads = CPU_COUNT(&allowed) + 1;
    if (threads > CPUS)
        return;
    struct pool *p = pool_of(threads);
    struct cpus c = {.threads = threads};
    pool_run(p, threads, note_cpus, &c);
    pool_free(p);
    for (int i = 0; i < threads; i++)
        cr_assert(CPU_EQUAL(&c.set[i], &allowed), "thread %d was bound", i);
}
