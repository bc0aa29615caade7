/* io_internal.h - the seam between the request queue (io.c) and what moves the bytes (io_uring.c, io_threads.c).
 *
 * io.c cuts jobs into requests, keeps at most `depth` of them with the backend, continues short ones and retries interrupted
 * ones. A backend only starts a request once and says what one system call said. Tests put a backend of their own here.
 */
#ifndef BALLAST_EXECUTOR_IO_INTERNAL_H
#define BALLAST_EXECUTOR_IO_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/io.h"

struct io_job;

struct io_request {
    struct io_job *job;
    int fd;
    bool write;
    int64_t offset, bytes;
    int64_t done;            /* bytes moved so far: the next call starts at offset + done */
    char *buffer;            /* of `bytes` bytes, for `offset` */
    int retries;             /* calls in a row that moved nothing forward */
    int64_t result;          /* of the last call, by the backend: bytes moved, or -errno */
    struct io_request *next; /* in whichever list holds it: one owner at a time */
};

struct io_backend {
    const char *name;
    /* *state is owned by the caller until stop(). */
    enum status (*start)(void **state, int depth, struct error *err);
    /* Queues bytes done..bytes of a request; never more than `depth` are queued or running. */
    void (*push)(void *state, struct io_request *r);
    /* Starts what was queued. With `wait`, blocks until at least one request can be taken. 0 or -errno. */
    int (*advance)(void *state, bool wait);
    /* A finished request with its result, or NULL. */
    struct io_request *(*take)(void *state);
    void (*stop)(void *state); /* nothing is running any more */
};

extern const struct io_backend io_backend_uring, io_backend_threads;

/* io_new over a given backend. */
enum status io_new_on(struct io **out, const struct io_options *o, const struct io_backend *backend, struct error *err);

#endif
