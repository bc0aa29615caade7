/* ordered.c - see ordered.h. A chunk goes through its worker's pipe as its length and its bytes. */
#define _GNU_SOURCE /* pipe2 */
#include "cli/ordered.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
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

static int ranks(const struct ordered *o)
{
    return o->ranks.size > 1 ? o->ranks.size : 1;
}

/* Of the rank's chunks, the first one and the way from one to the next. */
static int64_t rank_first(const struct ordered *o)
{
    return o->first + o->ranks.rank * o->chunk;
}

static int64_t rank_step(const struct ordered *o)
{
    return ranks(o) * o->chunk;
}

static _Noreturn void work(const struct ordered *o, int worker, int fd)
{
    FILE *out = fdopen(fd, "w");
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* whoever reads is gone: so is the work */
    for (int64_t first = rank_first(o) + worker * rank_step(o); first < o->last; first += o->workers * rank_step(o)) {
        char *text = NULL;
        size_t bytes = 0;
        if (!out || make_text(o, first, chunk_end(o, first), &text, &bytes, NULL) != STATUS_OK ||
            fwrite(&bytes, sizeof bytes, 1, out) != 1 || fwrite(text, 1, bytes, out) != bytes || fflush(out)) {
            _exit(STATUS_RUNTIME);
        }
        free(text);
    }
    _exit(STATUS_OK);
}

struct worker {
    pid_t pid;
    FILE *in;
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
                close(fileno(w[k].in));
            }
            work(o, j, ends[1]);
        }
        close(ends[1]);
        w[j].in = w[j].pid > 0 ? fdopen(ends[0], "r") : NULL;
        if (!w[j].in) {
            close(ends[0]);
            return error_errno(err, errno, "starting worker %d of %d", j + 1, o->workers);
        }
    }
    return STATUS_OK;
}

/* The rank's own chunk that begins at `first`: made here, or by the worker whose turn it is. */
static enum status own_chunk(const struct ordered *o, const struct worker *w, int64_t first, char **text, size_t *bytes,
                             struct error *err)
{
    if (o->workers <= 1) {
        return make_text(o, first, chunk_end(o, first), text, bytes, err);
    }
    FILE *in = w[(first - rank_first(o)) / rank_step(o) % o->workers].in;
    if (fread(bytes, sizeof *bytes, 1, in) != 1 || !(*text = malloc(*bytes + 1)) || fread(*text, 1, *bytes, in) != *bytes) {
        return error_set(err, STATUS_RUNTIME, "the worker of points %lld to %lld ended early", (long long)first + 1,
                         (long long)chunk_end(o, first));
    }
    return STATUS_OK;
}

/* Rank 0 takes every chunk in order; the others send theirs. */
static enum status collect(const struct ordered *o, const struct worker *w, struct error *err)
{
    const bool taker = o->ranks.rank == 0;
    enum status status = STATUS_OK;
    int64_t first = taker ? o->first : rank_first(o);
    while (first < o->last && status == STATUS_OK) {
        const int from = (int)((first - o->first) / o->chunk % ranks(o));
        char *text = NULL;
        size_t bytes = 0;
        status = from == o->ranks.rank ? own_chunk(o, w, first, &text, &bytes, err)
                                       : ranks_receive(&o->ranks, from, &text, &bytes, err);
        if (status == STATUS_OK && taker) {
            status = o->take(o->arg, first, chunk_end(o, first), text, bytes, err);
        } else if (status == STATUS_OK) {
            ranks_send(&o->ranks, text, bytes);
        }
        free(text);
        first = taker ? chunk_end(o, first) : first + rank_step(o);
    }
    return status;
}

static void stop(const struct ordered *o, struct worker *w)
{
    for (int j = 0; j < o->workers; j++) {
        if (w[j].in) {
            fclose(w[j].in);
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

enum status ordered_run(const struct ordered *o, struct error *err)
{
    if (o->workers <= 1) {
        return collect(o, NULL, err);
    }
    struct worker *w = calloc((size_t)o->workers, sizeof *w);
    if (!w) {
        return error_set(err, STATUS_RUNTIME, "out of memory for %d workers", o->workers);
    }
    enum status status = start(o, w, err);
    if (status == STATUS_OK) {
        status = collect(o, w, err);
    }
    stop(o, w);
    free(w);
    return status;
}
