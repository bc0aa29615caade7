/* io_threads.c - requests through `depth` threads that call pread and pwrite: for kernels and containers without io_uring.
 *
 * The owner collects new requests in a list of its own and publishes them all at once; one lock guards the two shared lists.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "executor/io_internal.h"

struct list {
    struct io_request *first, **end;
};

struct pool {
    struct list queued; /* the owner's: not published yet */
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    struct list todo, done; /* under lock */
    bool stopping;          /* under lock */
    int n_threads;
    pthread_t thread[];
};

static void list_init(struct list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_append(struct list *l, struct io_request *r)
{
    r->next = NULL;
    *l->end = r;
    l->end = &r->next;
}

static struct io_request *list_pop(struct list *l)
{
    struct io_request *const r = l->first;

    if (r && !(l->first = r->next))
        l->end = &l->first;
    return r;
}

static int64_t move_bytes(const struct io_request *r)
{
    char *const buffer = r->buffer + r->done;
    const size_t bytes = (size_t)(r->bytes - r->done);
    const off_t offset = r->offset + r->done;
    const ssize_t n = r->write ? pwrite(r->fd, buffer, bytes, offset) : pread(r->fd, buffer, bytes, offset);

    return n < 0 ? -errno : n;
}

static void *worker(void *argument)
{
    struct pool *const p = argument;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct io_request *r;

        while (!(r = list_pop(&p->todo)) && !p->stopping)
            pthread_cond_wait(&p->work, &p->lock);
        if (!r)
            break;
        pthread_mutex_unlock(&p->lock);
        r->result = move_bytes(r);
        pthread_mutex_lock(&p->lock);
        list_append(&p->done, r);
        pthread_cond_signal(&p->finished);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_stop(void *state)
{
    struct pool *const p = state;

    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_threads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* The workers take no signals: those are the program's business. 0 or an errno. */
static int start_workers(struct pool *p, int depth)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->n_threads < depth && rc == 0) {
        rc = pthread_create(&p->thread[p->n_threads], NULL, worker, p);
        if (rc == 0)
            p->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static enum status pool_start(void **state, int depth, struct error *err)
{
    struct pool *const p = calloc(1, sizeof *p + (size_t)depth * sizeof p->thread[0]);
    int rc;

    if (!p)
        return error_errno(err, ENOMEM, "%d I/O threads", depth);
    list_init(&p->queued);
    list_init(&p->todo);
    list_init(&p->done);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->finished, NULL);
    rc = start_workers(p, depth);
    if (rc != 0) {
        pool_stop(p);
        return error_errno(err, rc, "%d I/O threads", depth);
    }
    *state = p;
    return STATUS_OK;
}

static void pool_push(void *state, struct io_request *r)
{
    struct pool *const p = state;

    list_append(&p->queued, r);
}

static int pool_advance(void *state, bool wait)
{
    struct pool *const p = state;
    struct io_request *r;

    pthread_mutex_lock(&p->lock);
    while ((r = list_pop(&p->queued))) {
        list_append(&p->todo, r);
        pthread_cond_signal(&p->work);
    }
    while (wait && !p->done.first)
        pthread_cond_wait(&p->finished, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static struct io_request *pool_take(void *state)
{
    struct pool *const p = state;
    struct io_request *r;

    pthread_mutex_lock(&p->lock);
    r = list_pop(&p->done);
    pthread_mutex_unlock(&p->lock);
    return r;
}

const struct io_backend io_backend_threads = {
    .name = "threads",
    .start = pool_start,
    .push = pool_push,
    .advance = pool_advance,
    .take = pool_take,
    .stop = pool_stop,
};
