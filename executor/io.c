/* io.c - jobs cut into requests, and the requests kept at a fixed depth; files opened for direct I/O. */
#define _GNU_SOURCE 1 /* O_DIRECT, O_TMPFILE, fallocate, asprintf */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "executor/io_internal.h"

#define DEPTH_DEFAULT         16
#define DEPTH_MAX             1024
#define REQUEST_BYTES_DEFAULT (INT64_C(1) << 20)
#define REQUEST_BYTES_MAX     (INT64_C(1) << 30) /* one system call moves less than 2 GiB */
#define RETRIES_MAX           1000
#define RETRIES_AT_ONCE       10 /* then 1 ms apart */

struct io_job {
    int64_t number;
    struct io_extent *extents;
    int n;
    int cursor;           /* the extent that the next request is cut from: n when all are cut */
    int64_t cursor_bytes; /* of that extent, cut already */
    int in_flight;        /* requests */
    struct error error;
    struct io_job *next;
};

struct io {
    const struct io_backend *backend;
    void *state;
    int depth;
    int64_t request_bytes;
    struct io_request *requests; /* (depth) */
    struct io_request *idle;
    int in_flight;
    int64_t jobs_started;
    struct io_job *jobs, **jobs_end; /* submitted and not waited for yet, in order */
    struct io_job *cutting;          /* the first that may have requests to cut, NULL for none */
    int broken;                      /* errno of the backend itself: nothing moves any more */
};

/* ---- requests ---- */

static bool is_direct(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_DIRECT);
}

static const char *verb(bool write)
{
    return write ? "write" : "read";
}

static void job_abandon_rest(struct io_job *job)
{
    job->cursor = job->n;
}

static bool job_is_done(const struct io_job *job)
{
    return job->cursor == job->n && job->in_flight == 0;
}

static void request_finish(struct io *io, struct io_request *r)
{
    r->job->in_flight--;
    io->in_flight--;
    r->next = io->idle;
    io->idle = r;
}

static void request_fail(struct io *io, struct io_request *r, int errno_value)
{
    error_errno(&r->job->error, errno_value, "%s of %" PRId64 " bytes at %" PRId64, verb(r->write), r->bytes, r->offset);
    job_abandon_rest(r->job);
    request_finish(io, r);
}

/* The last, partial block of a file is read as a whole block: what is missing reads as zero. More missing, or an end that is
 * not a block's, means that the file is shorter than its reader believes. */
static void request_at_end_of_file(struct io *io, struct io_request *r)
{
    const int64_t missing = r->bytes - r->done;

    if ((r->offset + r->bytes) % IO_ALIGN == 0 && missing < IO_ALIGN) {
        memset(r->buffer + r->done, 0, (size_t)missing);
    } else {
        error_set(&r->job->error, STATUS_RUNTIME,
                  "unexpected end of file at %" PRId64 ": %" PRId64 " bytes missing from the read of %" PRId64
                  " bytes at %" PRId64,
                  r->offset + r->done, missing, r->bytes, r->offset);
        job_abandon_rest(r->job);
    }
    request_finish(io, r);
}

static void request_retry(struct io *io, struct io_request *r, int errno_value)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    if (++r->retries > RETRIES_MAX) {
        request_fail(io, r, errno_value);
        return;
    }
    if (r->retries > RETRIES_AT_ONCE)
        nanosleep(&pause, NULL);
    io->backend->push(io->state, r);
}

static bool is_at_end_of_file(const struct io_request *r, int64_t moved)
{
    struct stat st;

    return moved == 0 || (fstat(r->fd, &st) == 0 && S_ISREG(st.st_mode) && r->offset + r->done >= st.st_size);
}

/* `moved` bytes were not all: go on from there, on a direct descriptor from the last block boundary. */
static void request_continue(struct io *io, struct io_request *r, int64_t moved)
{
    const int64_t before = r->done;

    r->done += moved;
    if (!r->write && is_at_end_of_file(r, moved)) {
        request_at_end_of_file(io, r);
        return;
    }
    if (is_direct(r->fd))
        r->done -= r->done % IO_ALIGN;
    if (r->done == before) {
        request_retry(io, r, EIO);
        return;
    }
    r->retries = 0;
    io->backend->push(io->state, r);
}

static void request_completed(struct io *io, struct io_request *r)
{
    if (r->result == -EINTR || r->result == -EAGAIN) {
        request_retry(io, r, (int)-r->result);
    } else if (r->result < 0) {
        request_fail(io, r, (int)-r->result);
    } else if (r->done + r->result < r->bytes) {
        request_continue(io, r, r->result);
    } else {
        request_finish(io, r);
    }
}

/* ---- jobs ---- */

/* The first job with bytes left to cut, its cursor on them; NULL when there is none. */
static struct io_job *job_to_cut(struct io *io)
{
    struct io_job *job;

    for (; (job = io->cutting); io->cutting = job->next) {
        while (job->cursor < job->n && job->cursor_bytes == job->extents[job->cursor].bytes) {
            job->cursor++;
            job->cursor_bytes = 0;
        }
        if (job->cursor < job->n)
            return job;
    }
    return NULL;
}

static void cut_request(struct io *io, struct io_job *job)
{
    const struct io_extent *const e = &job->extents[job->cursor];
    const int64_t left = e->bytes - job->cursor_bytes;
    struct io_request *const r = io->idle;

    io->idle = r->next;
    *r = (struct io_request){
        .job = job,
        .fd = e->fd,
        .write = e->write,
        .offset = e->offset + job->cursor_bytes,
        .bytes = left < io->request_bytes ? left : io->request_bytes,
        .buffer = (char *)e->buffer + job->cursor_bytes,
    };
    job->cursor_bytes += r->bytes;
    job->in_flight++;
    io->in_flight++;
    io->backend->push(io->state, r);
}

static void fill_queue(struct io *io)
{
    struct io_job *job;

    while (io->idle && (job = job_to_cut(io)))
        cut_request(io, job);
}

/* One round: new requests out, finished ones in. With `wait`, at least one comes in if any is out. */
static enum status progress(struct io *io, bool wait, struct error *err)
{
    struct io_request *r;
    int rc;

    if (io->broken)
        return error_errno(err, io->broken, "%s", io->backend->name);
    fill_queue(io);
    rc = io->backend->advance(io->state, wait && io->in_flight > 0);
    if (rc < 0) {
        io->broken = -rc;
        return error_errno(err, io->broken, "%s", io->backend->name);
    }
    while ((r = io->backend->take(io->state)))
        request_completed(io, r);
    return STATUS_OK;
}

static enum status check_extent(const struct io_extent *e, struct error *err)
{
    const char *const what = verb(e->write);

    if (e->offset < 0 || e->bytes < 0 || e->offset > INT64_MAX - e->bytes || (e->bytes > 0 && !e->buffer))
        return error_set(err, STATUS_RUNTIME, "%s of %" PRId64 " bytes at %" PRId64 " into buffer %p is not an extent", what,
                         e->bytes, e->offset, e->buffer);
    if ((e->offset | e->bytes | (int64_t)(uintptr_t)e->buffer) % IO_ALIGN != 0 && is_direct(e->fd))
        return error_set(err, STATUS_RUNTIME,
                         "direct %s of %" PRId64 " bytes at %" PRId64 ", buffer %p: expected multiples of %d", what, e->bytes,
                         e->offset, e->buffer, IO_ALIGN);
    return STATUS_OK;
}

static void job_free(struct io_job *job)
{
    if (!job)
        return;
    free(job->extents);
    free(job);
}

static struct io_job *job_new(const struct io_extent *extents, int n)
{
    struct io_job *const job = calloc(1, sizeof *job);

    if (!job)
        return NULL;
    job->extents = calloc((size_t)n + 1, sizeof *extents); /* never a request for 0 bytes, whose answer may be NULL */
    if (!job->extents) {
        job_free(job);
        return NULL;
    }
    if (n > 0)
        memcpy(job->extents, extents, (size_t)n * sizeof *extents);
    job->n = n;
    return job;
}

/* The link that points at the job, NULL for one that was never started or was waited for. */
static struct io_job **job_link(struct io *io, int64_t number)
{
    struct io_job **link = &io->jobs;

    while (*link && (*link)->number != number)
        link = &(*link)->next;
    return *link ? link : NULL;
}

static void job_unlink(struct io *io, struct io_job **link)
{
    struct io_job *const job = *link;

    if (io->cutting == job)
        io->cutting = job->next;
    if (io->jobs_end == &job->next)
        io->jobs_end = link;
    *link = job->next;
}

enum status io_submit(struct io *io, const struct io_extent *extents, int n, int64_t *job_number, struct error *err)
{
    struct io_job *job;

    if (n < 0 || (n > 0 && !extents))
        return error_set(err, STATUS_RUNTIME, "a job of %d extents: expected 0 or more", n);
    for (int i = 0; i < n; i++) {
        const enum status s = check_extent(&extents[i], err);
        if (s != STATUS_OK)
            return s;
    }
    job = job_new(extents, n);
    if (!job)
        return error_errno(err, ENOMEM, "a job of %d extents", n);
    job->number = ++io->jobs_started;
    *io->jobs_end = job;
    io->jobs_end = &job->next;
    if (!io->cutting)
        io->cutting = job;
    *job_number = job->number;
    /* A backend that broke just now is reported by io_wait: the job has its number and must be waited for. */
    progress(io, false, NULL);
    return STATUS_OK;
}

enum status io_wait(struct io *io, int64_t job_number, struct error *err)
{
    struct io_job **const link = job_link(io, job_number);
    enum status s = STATUS_OK;
    struct io_job *job;

    if (!link)
        return error_set(err, STATUS_RUNTIME, "I/O job %" PRId64 " is not in flight", job_number);
    job = *link;
    while (s == STATUS_OK && !job_is_done(job))
        s = progress(io, true, err);
    if (s != STATUS_OK)
        return s;   /* the requests may still point at the job: io_free takes it */
    fill_queue(io); /* the slots that the last round freed belong to the next jobs */
    job_unlink(io, link);
    if (job->error.status != STATUS_OK)
        s = error_set(err, job->error.status, "%s", job->error.text);
    job_free(job);
    return s;
}

enum status io_run(struct io *io, const struct io_extent *extents, int n, struct error *err)
{
    int64_t job;
    const enum status s = io_submit(io, extents, n, &job, err);

    return s == STATUS_OK ? io_wait(io, job, err) : s;
}

/* ---- the queue's life ---- */

static enum status check_options(int depth, int64_t request_bytes, struct error *err)
{
    if (depth < 1 || depth > DEPTH_MAX)
        return error_set(err, STATUS_INVALID, "I/O depth: expected 1 to %d, found %d", DEPTH_MAX, depth);
    if (request_bytes < IO_ALIGN || request_bytes > REQUEST_BYTES_MAX || request_bytes % IO_ALIGN != 0)
        return error_set(err, STATUS_INVALID,
                         "I/O request size: expected a multiple of %d up to %" PRId64 " bytes, found %" PRId64, IO_ALIGN,
                         REQUEST_BYTES_MAX, request_bytes);
    return STATUS_OK;
}

enum status io_new_on(struct io **out, const struct io_options *o, const struct io_backend *backend, struct error *err)
{
    const int depth = o && o->depth ? o->depth : DEPTH_DEFAULT;
    const int64_t request_bytes = o && o->request_bytes ? o->request_bytes : REQUEST_BYTES_DEFAULT;
    enum status s = check_options(depth, request_bytes, err);
    struct io *io = NULL;

    if (s != STATUS_OK)
        return s;
    io = calloc(1, sizeof *io);
    if (!io || !(io->requests = calloc((size_t)depth, sizeof *io->requests))) {
        s = error_errno(err, ENOMEM, "an I/O queue of depth %d", depth);
        goto failed;
    }
    s = backend->start(&io->state, depth, err);
    if (s != STATUS_OK)
        goto failed;
    io->backend = backend;
    io->depth = depth;
    io->request_bytes = request_bytes;
    io->jobs_end = &io->jobs;
    for (int i = 0; i < depth; i++) {
        io->requests[i].next = io->idle;
        io->idle = &io->requests[i];
    }
    *out = io;
    return STATUS_OK;
failed:
    if (io)
        free(io->requests);
    free(io);
    return s;
}

enum status io_new(struct io **out, const struct io_options *o, struct error *err)
{
    const char *const asked = getenv("BALLAST_IO");
    const bool threads = (o && o->force_threads) || (asked && strcmp(asked, "threads") == 0);

    /* A refused io_uring (an old kernel, a container's filter) is no failure, and what else was wrong shows again below. */
    if (!threads && io_new_on(out, o, &io_backend_uring, NULL) == STATUS_OK)
        return STATUS_OK;
    return io_new_on(out, o, &io_backend_threads, err);
}

void io_free(struct io *io)
{
    struct io_job *job;

    if (!io)
        return;
    while (progress(io, true, NULL) == STATUS_OK && (io->in_flight > 0 || job_to_cut(io)))
        ;
    io->backend->stop(io->state);
    while ((job = io->jobs)) {
        io->jobs = job->next;
        job_free(job);
    }
    free(io->requests);
    free(io);
}

const char *io_method(const struct io *io)
{
    return io->backend->name;
}

/* ---- files ---- */

static bool set_direct(int fd, bool direct)
{
    const int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* Whether direct reads work: some file systems take the flag and refuse the read. */
static bool try_direct(int fd)
{
    _Alignas(IO_ALIGN) char block[IO_ALIGN];

    if (!set_direct(fd, true))
        return false;
    if (pread(fd, block, sizeof block, 0) >= 0 || errno != EINVAL)
        return true;
    set_direct(fd, false);
    return false;
}

enum status io_open_read(const char *path, int *fd, bool *direct, struct error *err)
{
    struct stat st;
    int opened;

    /* Looked at first, because opening a pipe would block. */
    if (stat(path, &st) < 0)
        return error_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, STATUS_RUNTIME, "%s: expected a file, found a %s", path,
                         S_ISDIR(st.st_mode) ? "directory" : "device, pipe or socket");
    opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0)
        return error_errno(err, errno, "%s", path);
    *direct = try_direct(opened);
    *fd = opened;
    return STATUS_OK;
}

/* For file systems without O_TMPFILE. Signals wait, so that none can end the process while the file has a name. */
static int open_unlinked(const char *directory)
{
    sigset_t all, before;
    char *path;
    int fd, saved;

    if (asprintf(&path, "%s/.ballast-scratch-XXXXXX", directory) < 0) {
        errno = ENOMEM;
        return -1;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    fd = mkostemp(path, O_CLOEXEC);
    saved = errno;
    if (fd >= 0 && unlink(path) < 0) {
        saved = errno;
        close(fd);
        fd = -1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    free(path);
    errno = saved;
    return fd;
}

static int open_scratch_file(const char *directory)
{
    const int fd = open(directory, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    return open_unlinked(directory);
}

static enum status scratch_does_not_fit(int errno_value, const char *directory, int64_t bytes, int64_t free_bytes,
                                        struct error *err)
{
    const int64_t missing = bytes > free_bytes ? bytes - free_bytes : 0;

    return error_errno(err, errno_value,
                       "scratch file in %s: %" PRId64 " bytes asked, %" PRId64 " bytes free, %" PRId64 " missing", directory,
                       bytes, free_bytes, missing);
}

/* Space for the whole file now, not at the write that finds none. */
static enum status reserve(int fd, const char *directory, int64_t bytes, struct error *err)
{
    struct statvfs fs = {0};
    int64_t free_bytes;
    int rc;

    if (fstatvfs(fd, &fs) < 0)
        return error_errno(err, errno, "scratch file in %s", directory);
    free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    /* Hopeless: do not fill the disk under everyone else to find out. A tmpfs without a limit says 0 blocks. */
    if (fs.f_blocks > 0 && bytes / (int64_t)fs.f_frsize > (int64_t)fs.f_bfree)
        return scratch_does_not_fit(ENOSPC, directory, bytes, free_bytes, err);
    do
        rc = fallocate(fd, 0, 0, bytes) < 0 ? errno : 0;
    while (rc == EINTR);
    if (rc == EOPNOTSUPP || rc == ENOSYS) { /* by the file system, or by a sandbox's kernel */
        if (fs.f_blocks > 0 && bytes > free_bytes)
            return scratch_does_not_fit(ENOSPC, directory, bytes, free_bytes, err);
        rc = ftruncate(fd, bytes) < 0 ? errno : 0;
    }
    if (rc == ENOSPC || rc == EDQUOT || rc == EFBIG)
        return scratch_does_not_fit(rc, directory, bytes, free_bytes, err);
    return rc == 0 ? STATUS_OK : error_errno(err, rc, "scratch file of %" PRId64 " bytes in %s", bytes, directory);
}

enum status io_open_scratch(const char *directory, int64_t bytes, int *fd, bool *direct, struct error *err)
{
    enum status s = STATUS_OK;
    int opened;

    if (bytes < 0)
        return error_set(err, STATUS_RUNTIME, "scratch file in %s: expected 0 bytes or more, found %" PRId64, directory, bytes);
    opened = open_scratch_file(directory);
    if (opened < 0)
        return error_errno(err, errno, "scratch file in %s", directory);
    if (bytes > 0)
        s = reserve(opened, directory, bytes, err);
    if (s != STATUS_OK) {
        close(opened);
        return s;
    }
    *direct = try_direct(opened);
    *fd = opened;
    return STATUS_OK;
}
