/* ordered.c - see ordered.h. A chunk goes through its worker's pipe as its length and its bytes. */
#define _GNU_SOURCE /* pipe2 */
#include "cli/ordered.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static enum status make_text(const struct ordered *o, int64_t first, int64_t last, char **text, size_t *bytes, struct error *err)
{
    FILE *out = open_memstream(text, bytes);
    if (out) {
        o->make(o->arg, first, last, out);
    }
    if (!out || ferror(out) | fclose(out)) {
        return error_set(err, STATUS_RUNTIME, "out of memory for the rows of %lld points", (long long)(last - first));
    }
    return STATUS_OK;
}

static int64_t chunk_end(const struct ordered *o, int64_t first)
{
    return o->last - first < o->chunk ? o->last : first + o->chunk;
}

static int put(int fd, const void *data, size_t bytes)
{
    for (const char *at = data; bytes > 0;) {
        ssize_t n = write(fd, at, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int get(int fd, void *data, size_t bytes)
{
    for (char *at = data; bytes > 0;) {
        ssize_t n = read(fd, at, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static _Noreturn void work(const struct ordered *o, int worker, int fd)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* whoever reads is gone: so is the work */
    for (int64_t first = o->first + worker * o->chunk; first < o->last; first += o->workers * o->chunk) {
        char *text = NULL;
        size_t bytes = 0;
        if (make_text(o, first, chunk_end(o, first), &text, &bytes, NULL) != STATUS_OK || put(fd, &bytes, sizeof bytes) ||
            put(fd, text, bytes)) {
            _exit(STATUS_RUNTIME);
        }
        free(text);
    }
    _exit(STATUS_OK);
}

struct worker {
    pid_t pid;
    int fd;
};

static enum status start(const struct ordered *o, struct worker *w, struct error *err)
{
    int ends[2];
    for (int j = 0; j < o->workers; j++) {
        if (pipe2(ends, O_CLOEXEC) != 0) {
            return error_errno(err, errno, "starting worker %d of %d", j + 1, o->workers);
        }
        w[j].pid = fork();
        if (w[j].pid == 0) {
            close(ends[0]);
            for (int k = 0; k < j; k++) { /* the others' pipes are theirs */
                close(w[k].fd);
            }
            work(o, j, ends[1]);
        }
        close(ends[1]);
        w[j].fd = ends[0];
        if (w[j].pid < 0) {
            return error_errno(err, errno, "starting worker %d of %d", j + 1, o->workers);
        }
    }
    return STATUS_OK;
}

static enum status collect(const struct ordered *o, const struct worker *w, struct error *err)
{
    enum status status = STATUS_OK;
    int turn = 0;
    for (int64_t first = o->first; first < o->last && status == STATUS_OK; first = chunk_end(o, first)) {
        size_t bytes = 0;
        char *text = NULL;
        if (get(w[turn].fd, &bytes, sizeof bytes) || !(text = malloc(bytes + 1)) || get(w[turn].fd, text, bytes)) {
            status = error_set(err, STATUS_RUNTIME, "the worker of points %lld to %lld ended early", (long long)first + 1,
                               (long long)chunk_end(o, first));
        } else {
            status = o->take(o->arg, first, chunk_end(o, first), text, bytes, err);
        }
        free(text);
        turn = (turn + 1) % o->workers;
    }
    return status;
}

static void stop(const struct ordered *o, struct worker *w)
{
    for (int j = 0; j < o->workers; j++) {
        if (w[j].fd >= 0) {
            close(w[j].fd);
        }
    }
    for (int j = 0; j < o->workers; j++) {
        if (w[j].pid > 0) {
            kill(w[j].pid, SIGTERM); /* without effect on those that are done */
            while (waitpid(w[j].pid, NULL, 0) < 0 && errno == EINTR) {
            }
        }
    }
}

static enum status run_here(const struct ordered *o, struct error *err)
{
    enum status status = STATUS_OK;
    for (int64_t first = o->first; first < o->last && status == STATUS_OK; first = chunk_end(o, first)) {
        char *text = NULL;
        size_t bytes = 0;
        status = make_text(o, first, chunk_end(o, first), &text, &bytes, err);
        if (status == STATUS_OK) {
            status = o->take(o->arg, first, chunk_end(o, first), text, bytes, err);
        }
        free(text);
    }
    return status;
}

enum status ordered_run(const struct ordered *o, struct error *err)
{
    if (o->workers <= 1) {
        return run_here(o, err);
    }
    struct worker *w = calloc((size_t)o->workers, sizeof *w);
    if (!w) {
        return error_set(err, STATUS_RUNTIME, "out of memory for %d workers", o->workers);
    }
    for (int j = 0; j < o->workers; j++) {
        w[j].fd = -1;
    }
    enum status status = start(o, w, err);
    if (status == STATUS_OK) {
        status = collect(o, w, err);
    }
    stop(o, w);
    free(w);
    return status;
}
