/* io_uring.c - requests through one io_uring per struct io. */
#define _GNU_SOURCE 1 /* cpu_set_t, in liburing.h */

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <time.h>

#include "executor/io_internal.h"

/* A kernel short of memory answers EAGAIN or EBUSY; 1 ms apart, this is about a second. */
#define BUSY_TRIES_MAX 1000

static bool opcodes_supported(struct io_uring *ring)
{
    struct io_uring_probe *const probe = io_uring_get_probe_ring(ring);
    const bool ok =
        probe && io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_WRITE);

    io_uring_free_probe(probe);
    return ok;
}

/* One empty request there and back: a sandbox may allow the set-up call and refuse the one that submits. */
static int round_trip(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    int rc;

    io_uring_prep_nop(io_uring_get_sqe(ring));
    rc = io_uring_submit(ring);
    if (rc < 0)
        return rc;
    do
        rc = io_uring_wait_cqe(ring, &cqe);
    while (rc == -EINTR);
    if (rc < 0)
        return rc;
    io_uring_cqe_seen(ring, cqe);
    return 0;
}

static enum status uring_start(void **state, int depth, struct error *err)
{
    struct io_uring *const ring = calloc(1, sizeof *ring);
    int rc;

    if (!ring)
        return error_errno(err, ENOMEM, "io_uring");
    rc = io_uring_queue_init((unsigned)depth, ring, 0);
    if (rc < 0)
        goto no_ring;
    rc = opcodes_supported(ring) ? round_trip(ring) : -ENOSYS;
    if (rc < 0)
        goto no_use;
    *state = ring;
    return STATUS_OK;
no_use:
    io_uring_queue_exit(ring);
no_ring:
    free(ring);
    return error_errno(err, -rc, "io_uring");
}

static void uring_push(void *state, struct io_request *r)
{
    /* The submission queue has room for `depth`, and io.c never has more out: this is never NULL. */
    struct io_uring_sqe *const sqe = io_uring_get_sqe(state);
    char *const buffer = r->buffer + r->done;
    const unsigned bytes = (unsigned)(r->bytes - r->done);
    const uint64_t offset = (uint64_t)(r->offset + r->done);

    if (r->write)
        io_uring_prep_write(sqe, r->fd, buffer, bytes, offset);
    else
        io_uring_prep_read(sqe, r->fd, buffer, bytes, offset);
    io_uring_sqe_set_data(sqe, r);
}

static int submit(struct io_uring *ring, bool wait)
{
    return wait ? io_uring_submit_and_wait(ring, 1) : io_uring_submit(ring);
}

static int uring_advance(void *state, bool wait)
{
    struct io_uring *const ring = state;
    const struct timespec pause = {.tv_nsec = 1000000};
    int rc, tries = 0;

    while ((rc = submit(ring, wait)) < 0) {
        if (rc == -EINTR)
            continue;
        if ((rc != -EAGAIN && rc != -EBUSY) || ++tries > BUSY_TRIES_MAX)
            return rc;
        if (io_uring_cq_ready(ring))
            return 0; /* taking these makes the room that the kernel lacked */
        nanosleep(&pause, NULL);
    }
    return 0;
}

static struct io_request *uring_take(void *state)
{
    struct io_uring_cqe *cqe;
    struct io_request *r;

    if (io_uring_peek_cqe(state, &cqe) < 0 || !cqe)
        return NULL;
    r = io_uring_cqe_get_data(cqe);
    r->result = cqe->res;
    io_uring_cqe_seen(state, cqe);
    return r;
}

static void uring_stop(void *state)
{
    io_uring_queue_exit(state);
    free(state);
}

const struct io_backend io_backend_uring = {
    .name = "io_uring",
    .start = uring_start,
    .push = uring_push,
    .advance = uring_advance,
    .take = uring_take,
    .stop = uring_stop,
};
