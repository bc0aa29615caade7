/* test_io_queue.c - the request queue over a backend of the test's own, which answers as no disk does on demand: short
 * counts, interruptions, I/O errors, a broken ring. And every allocation failing once. */
#define _GNU_SOURCE 1

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/io_internal.h"

#define BLOCK      IO_ALIGN
#define PUSHES_MAX 4096

/* ---- the backend: requests complete one per round, first in first out, with the answer of a script ---- */

struct push {
    int64_t offset, bytes; /* of what is left of the request */
    const struct io_job *job;
    int out; /* requests of that job out at this moment, itself included */
};

static struct script {
    int64_t (*answer)(const struct io_request *r, int call); /* bytes or -errno; NULL: all of it */
    int advance_fails_at;                                    /* round, counted from 1; 0 never */
    int calls, rounds;
    int n_pushes, out, out_max;
    struct push push[PUSHES_MAX];
    struct io_request *first, **end;
    struct io_request *finished;
} script;

static enum status fake_start(void **state, int depth, struct error *err)
{
    (void)depth;
    (void)err;
    script.end = &script.first;
    *state = &script;
    return STATUS_OK;
}

static void fake_push(void *state, struct io_request *r)
{
    struct push *const p = &script.push[script.n_pushes++];

    cr_assert_eq(state, &script);
    cr_assert_leq(script.n_pushes, PUSHES_MAX);
    r->next = NULL;
    *script.end = r;
    script.end = &r->next;
    script.out++;
    if (script.out > script.out_max)
        script.out_max = script.out;
    *p = (struct push){r->offset + r->done, r->bytes - r->done, r->job, 0};
    for (const struct io_request *q = script.first; q; q = q->next)
        p->out += q->job == r->job;
}

static int fake_advance(void *state, bool wait)
{
    struct io_request *const r = script.first;

    (void)state;
    script.rounds++;
    if (script.rounds == script.advance_fails_at)
        return -EIO;
    if (!wait || script.finished)
        return 0;
    cr_assert_not_null(r, "waiting for a completion with nothing out");
    script.first = r->next;
    if (!script.first)
        script.end = &script.first;
    script.out--;
    r->result = script.answer ? script.answer(r, script.calls) : r->bytes - r->done;
    script.calls++;
    if (!r->write)
        for (int64_t i = 0; i < r->result; i++)
            r->buffer[r->done + i] = (char)((r->offset + r->done + i) % 251);
    script.finished = r;
    return 0;
}

static struct io_request *fake_take(void *state)
{
    struct io_request *const r = script.finished;

    (void)state;
    script.finished = NULL;
    return r;
}

static void fake_stop(void *state)
{
    (void)state;
}

static const struct io_backend fake = {"fake", fake_start, fake_push, fake_advance, fake_take, fake_stop};

static struct io *queue(int depth, int64_t request_bytes)
{
    const struct io_options o = {.depth = depth, .request_bytes = request_bytes};
    struct error err = {0};
    struct io *io;

    cr_assert_eq(io_new_on(&io, &o, &fake, &err), STATUS_OK, "%s", err.text);
    return io;
}

static void expect_pattern(const char *p, int64_t bytes)
{
    int64_t i = 0;

    while (i < bytes && (unsigned char)p[i] == i % 251)
        i++;
    cr_assert_eq(i, bytes, "byte %lld: expected %d, found %d", (long long)i, (int)(i % 251), (unsigned char)p[i]);
}

/* ---- how jobs are cut and queued ---- */

/* Two jobs of 5 blocks, one block a request, depth 4. Submitting both starts 4 of the first. Waiting for the first: its 0th
 * completes and its 4th starts; its 1st completes and the second job's 0th starts while 2, 3 and 4 of the first are out. */
Test(queue, the_next_job_starts_while_the_first_is_still_out)
{
    struct io *const io = queue(4, BLOCK);
    static char buffer[2][5 * BLOCK];
    struct error err = {0};
    int64_t job[2];

    for (int i = 0; i < 2; i++) {
        const struct io_extent e = {-1, false, i * 5 * BLOCK, 5 * BLOCK, buffer[i]};
        cr_assert_eq(io_submit(io, &e, 1, &job[i], &err), STATUS_OK);
    }
    cr_assert_eq(script.n_pushes, 4);
    cr_assert_eq(io_wait(io, job[0], &err), STATUS_OK);
    /* The first job's 5 are done; all slots it freed are the second's: 4 of its 5 are out. */
    cr_assert_eq(script.n_pushes, 9);
    cr_assert_eq(script.out, 4);
    for (int i = 0; i < 9; i++)
        cr_assert_eq(script.push[i].offset, i * BLOCK, "request %d", i);
    cr_assert_neq(script.push[5].job, script.push[4].job);
    cr_assert_eq(script.push[4].out, 4); /* 1, 2, 3 and 4 */
    cr_assert_eq(script.push[5].out, 1);
    cr_assert_eq(io_wait(io, job[1], &err), STATUS_OK);
    cr_assert_eq(script.out_max, 4);
    io_free(io);
}

/* 2.5 requests of 2 blocks: 8192, 8192 and 4096 bytes; then an extent of 100 bytes. */
Test(queue, extents_are_cut_at_the_request_size)
{
    struct io *const io = queue(8, 2 * BLOCK);
    static char buffer[6 * BLOCK];
    const struct io_extent e[] = {{-1, true, 7, 5 * BLOCK, buffer}, {-1, true, 99, 0, NULL}, {-1, true, 50000, 100, buffer}};
    const int64_t expected[][2] = {{7, 8192}, {7 + 8192, 8192}, {7 + 16384, 4096}, {50000, 100}};

    cr_assert_eq(io_run(io, e, 3, NULL), STATUS_OK);
    cr_assert_eq(script.n_pushes, 4);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(script.push[i].offset, expected[i][0]);
        cr_assert_eq(script.push[i].bytes, expected[i][1]);
    }
    io_free(io);
}

Test(queue, waiting_for_a_late_job_moves_the_early_ones)
{
    struct io *const io = queue(2, BLOCK);
    static char buffer[3][4 * BLOCK];
    int64_t job[3];

    for (int i = 0; i < 3; i++) {
        const struct io_extent e = {-1, false, 0, 4 * BLOCK, buffer[i]};
        cr_assert_eq(io_submit(io, &e, 1, &job[i], NULL), STATUS_OK);
    }
    cr_assert_eq(io_wait(io, job[2], NULL), STATUS_OK);
    cr_assert_eq(script.calls, 12); /* first in, first out: all 3 x 4 requests are through */
    cr_assert_eq(io_wait(io, job[0], NULL), STATUS_OK);
    cr_assert_eq(io_wait(io, job[1], NULL), STATUS_OK);
    cr_assert_eq(script.calls, 12);
    for (int i = 0; i < 3; i++)
        expect_pattern(buffer[i], 4 * BLOCK);
    io_free(io);
}

/* ---- short counts and interruptions ---- */

static int64_t one_third(const struct io_request *r, int call)
{
    (void)call;
    return (r->bytes - r->done + 2) / 3;
}

/* Each call moves a third, rounded up, of what is left. 8 bytes: 3, then 2 of 5, 1 of 3, 1 of 2, 1 of 1: 5 calls. */
Test(queue, a_short_write_is_continued_where_it_stopped)
{
    struct io *const io = queue(1, 2 * BLOCK);
    static char buffer[8];
    const struct io_extent e = {-1, true, 100, 8, buffer};
    const int64_t expected[] = {100, 103, 105, 106, 107};

    script.answer = one_third;
    cr_assert_eq(io_run(io, &e, 1, NULL), STATUS_OK);
    cr_assert_eq(script.n_pushes, 5);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(script.push[i].offset, expected[i]);
    io_free(io);
}

static int temporary_file(int64_t bytes, int flags)
{
    bool direct;
    int fd;

    cr_assert_eq(io_open_scratch(".", bytes, &fd, &direct, NULL), STATUS_OK);
    if (fcntl(fd, F_SETFL, flags) != 0) {
        close(fd);
        cr_skip_test("no direct I/O on this file system");
    }
    return fd;
}

/* The file has 8 blocks, so none of these is its end. */
Test(queue, a_short_read_is_continued_where_it_stopped)
{
    struct io *const io = queue(3, 4 * BLOCK);
    static char buffer[8 * BLOCK];
    const struct io_extent e = {temporary_file(8 * BLOCK, 0), false, 0, 8 * BLOCK, buffer};

    script.answer = one_third;
    cr_assert_eq(io_run(io, &e, 1, NULL), STATUS_OK);
    expect_pattern(buffer, 8 * BLOCK);
    io_free(io);
    close(e.fd);
}

static int64_t five_thousand(const struct io_request *r, int call)
{
    (void)call;
    return r->bytes - r->done < 5000 ? r->bytes - r->done : 5000;
}

/* A direct descriptor cannot go on at byte 5000. 3 blocks: 5000 bytes, so on at 4096; 5000 more are 9096, so on at 8192. */
Test(queue, a_short_direct_read_goes_on_at_a_block)
{
    struct io *const io = queue(1, 4 * BLOCK);
    static _Alignas(BLOCK) char buffer[3 * BLOCK];
    const struct io_extent e = {temporary_file(8 * BLOCK, O_DIRECT), false, 0, 3 * BLOCK, buffer};

    script.answer = five_thousand;
    cr_assert_eq(io_run(io, &e, 1, NULL), STATUS_OK);
    cr_assert_eq(script.n_pushes, 3);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(script.push[i].offset, i * BLOCK);
    expect_pattern(buffer, 3 * BLOCK);
    io_free(io);
    close(e.fd);
}

static int64_t interrupted_twice_each(const struct io_request *r, int call)
{
    return call % 3 == 0 ? -EINTR : call % 3 == 1 ? -EAGAIN : r->bytes - r->done;
}

Test(queue, interruptions_are_tried_again)
{
    struct io *const io = queue(1, BLOCK);
    static char buffer[4 * BLOCK];
    const struct io_extent e = {-1, false, 0, 4 * BLOCK, buffer};

    script.answer = interrupted_twice_each;
    cr_assert_eq(io_run(io, &e, 1, NULL), STATUS_OK);
    cr_assert_eq(script.calls, 12); /* 4 requests, 3 calls each */
    expect_pattern(buffer, 4 * BLOCK);
    io_free(io);
}

static int64_t always_again(const struct io_request *r, int call)
{
    (void)r;
    (void)call;
    return -EAGAIN;
}

static int64_t always_nothing(const struct io_request *r, int call)
{
    (void)r;
    (void)call;
    return 0;
}

static void gives_up(int64_t (*answer)(const struct io_request *, int), const char *text)
{
    struct io *const io = queue(1, BLOCK);
    static char buffer[BLOCK];
    const struct io_extent e = {-1, true, 0, BLOCK, buffer};
    struct error err = {0};

    script.answer = answer;
    cr_assert_eq(io_run(io, &e, 1, &err), STATUS_RUNTIME);
    cr_assert_eq(script.calls, 1001); /* the call and 1000 retries */
    cr_assert_str_eq(err.text, text);
    io_free(io);
}

Test(queue, a_device_that_is_never_ready_ends_the_job)
{
    gives_up(always_again, "write of 4096 bytes at 0: Resource temporarily unavailable");
}

Test(queue, a_device_that_takes_nothing_ends_the_job)
{
    gives_up(always_nothing, "write of 4096 bytes at 0: Input/output error");
}

/* ---- errors ---- */

static int64_t third_call_fails(const struct io_request *r, int call)
{
    return call == 2 ? -EIO : r->bytes - r->done;
}

/* Ten blocks at depth 2. The third call, for block 2, fails; by then block 3 is out, and 4 to 9 are never started. */
Test(queue, an_io_error_names_its_request_and_stops_its_job)
{
    struct io *const io = queue(2, BLOCK);
    static char buffer[10 * BLOCK];
    const struct io_extent bad = {-1, false, 0, 10 * BLOCK, buffer}, good = {-1, false, 0, 2 * BLOCK, buffer};
    struct error err = {0};
    int64_t job[2];

    script.answer = third_call_fails;
    cr_assert_eq(io_submit(io, &bad, 1, &job[0], &err), STATUS_OK);
    cr_assert_eq(io_submit(io, &good, 1, &job[1], &err), STATUS_OK);
    cr_assert_eq(io_wait(io, job[0], &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "read of 4096 bytes at 8192: Input/output error");
    cr_assert_eq(io_wait(io, job[1], NULL), STATUS_OK);
    expect_pattern(buffer, 2 * BLOCK);
    cr_assert_eq(script.n_pushes, 4 + 2);
    io_free(io);
}

Test(queue, a_broken_backend_fails_every_job_and_is_freed)
{
    struct io *const io = queue(2, BLOCK);
    static char buffer[8 * BLOCK];
    const struct io_extent e = {-1, false, 0, 4 * BLOCK, buffer};
    struct error err = {0}, err2 = {0};
    int64_t job[2];

    script.advance_fails_at = 3; /* the two submits are rounds 1 and 2 */
    for (int i = 0; i < 2; i++)
        cr_assert_eq(io_submit(io, &e, 1, &job[i], NULL), STATUS_OK);
    cr_assert_eq(io_wait(io, job[1], &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "fake: Input/output error");
    cr_assert_eq(io_wait(io, job[0], &err2), STATUS_RUNTIME);
    io_free(io); /* does not hang */
}

static int64_t fails_twice(const struct io_request *r, int call)
{
    return call == 1 ? -EIO : call == 2 ? -ENOSPC : r->bytes - r->done;
}

Test(queue, the_first_error_of_a_job_wins)
{
    struct io *const io = queue(4, BLOCK);
    static char buffer[4 * BLOCK];
    const struct io_extent e = {-1, true, 0, 4 * BLOCK, buffer};
    struct error err = {0};

    script.answer = fails_twice;
    cr_assert_eq(io_run(io, &e, 1, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "write of 4096 bytes at 4096: Input/output error");
    io_free(io);
}

/* ---- every allocation failing once: the same sources again, under other names, over an allocator that counts ---- */

static int allocations, failing_allocation; /* counted from 1; 0 fails none */

static void *counting_calloc(size_t n, size_t size)
{
    return ++allocations == failing_allocation ? NULL : calloc(n, size);
}

#define calloc             counting_calloc
#define io_new             counted_io_new
#define io_new_on          counted_io_new_on
#define io_free            counted_io_free
#define io_method          counted_io_method
#define io_submit          counted_io_submit
#define io_wait            counted_io_wait
#define io_run             counted_io_run
#define io_open_read       counted_io_open_read
#define io_open_scratch    counted_io_open_scratch
#define io_backend_uring   counted_io_backend_uring
#define io_backend_threads counted_io_backend_threads
#define submit             counted_submit
enum status io_new(struct io **out, const struct io_options *o, struct error *err);
enum status io_new_on(struct io **out, const struct io_options *o, const struct io_backend *backend, struct error *err);
void io_free(struct io *io);
const char *io_method(const struct io *io);
enum status io_submit(struct io *io, const struct io_extent *extents, int n, int64_t *job, struct error *err);
enum status io_wait(struct io *io, int64_t job, struct error *err);
enum status io_run(struct io *io, const struct io_extent *extents, int n, struct error *err);
enum status io_open_read(const char *path, int *fd, bool *direct, struct error *err);
enum status io_open_scratch(const char *directory, int64_t bytes, int *fd, bool *direct, struct error *err);
extern const struct io_backend io_backend_uring, io_backend_threads;
#include "executor/io.c"
#include "executor/io_threads.c"
#include "executor/io_uring.c"

static enum status write_and_read(bool threads, int fd, struct error *err)
{
    static char out[3 * BLOCK], in[3 * BLOCK];
    const struct io_options o = {.depth = 2, .request_bytes = BLOCK, .force_threads = threads};
    const struct io_extent write = {fd, true, 0, sizeof out, out}, read = {fd, false, 0, sizeof in, in};
    struct io *io = NULL;
    enum status s;

    memset(out, 0x17, sizeof out);
    memset(in, 0, sizeof in);
    s = io_new(&io, &o, err);
    if (s == STATUS_OK)
        s = io_run(io, &write, 1, err);
    if (s == STATUS_OK)
        s = io_run(io, &read, 1, err);
    if (s == STATUS_OK)
        cr_assert_eq(memcmp(in, out, sizeof in), 0);
    io_free(io);
    return s;
}

/* Either the run succeeds all the same (a ring that cannot be had means threads) or it says that memory is short; what is
 * lost on the way is for the sanitizers' build to find. Returns how many runs failed. */
static int fail_each_allocation(bool threads)
{
    const int fd = temporary_file(3 * BLOCK, 0);
    int failed = 0;

    allocations = failing_allocation = 0;
    cr_assert_eq(write_and_read(threads, fd, NULL), STATUS_OK);
    for (int n = 1, total = allocations; n <= total; n++) {
        struct error err = {0};
        enum status s;

        allocations = 0;
        failing_allocation = n;
        s = write_and_read(threads, fd, &err);
        if (s == STATUS_OK)
            continue;
        failed++;
        cr_assert_eq(s, STATUS_RUNTIME);
        cr_assert_not_null(strstr(err.text, "Cannot allocate memory"), "allocation %d: %s", n, err.text);
    }
    close(fd);
    return failed;
}

/* The queue, its requests, the pool; then a job and its extents, twice: all 7 end the run. */
Test(queue, every_allocation_failing_once_is_reported_with_threads)
{
    cr_assert_eq(fail_each_allocation(true), 7);
    cr_assert_eq(allocations, 7);
}

/* Of the same 7 the first 3 only lose the ring; the 4 of the jobs end the run. */
Test(queue, every_allocation_failing_once_is_reported_with_a_ring)
{
    struct io *io;

    cr_assert_eq(io_new(&io, NULL, NULL), STATUS_OK);
    if (strcmp(io_method(io), "io_uring") != 0) {
        io_free(io);
        cr_skip_test("io_uring is refused here");
    }
    io_free(io);
    cr_assert_eq(fail_each_allocation(false), 4);
}
