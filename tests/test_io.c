/* test_io.c - the disk queue on real files, each body through io_uring and through threads. See also test_io_queue.c
 * and test_io_files.c. */
#define _GNU_SOURCE 1

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor/io.h"

#define BLOCK IO_ALIGN

/* ---- helpers ---- */

static struct io *queue(bool threads, int depth, int64_t request_bytes)
{
    const struct io_options o = {.depth = depth, .request_bytes = request_bytes, .force_threads = threads};
    struct error err = {0};
    struct io *io = NULL;

    cr_assert_eq(io_new(&io, &o, &err), STATUS_OK, "%s", err.text);
    if (!threads && strcmp(io_method(io), "io_uring") != 0) {
        io_free(io);
        cr_skip_test("io_uring is refused here");
    }
    return io;
}

/* One test body, both methods: small requests at depth 4, so that every job is cut and queued. */
#define BOTH_METHODS(name)                                                                                                       \
    static void name(struct io *io);                                                                                             \
    Test(io_uring, name)                                                                                                         \
    {                                                                                                                            \
        struct io *const io = queue(false, 4, 2 * BLOCK);                                                                        \
        name(io);                                                                                                                \
        io_free(io);                                                                                                             \
    }                                                                                                                            \
    Test(io_threads, name)                                                                                                       \
    {                                                                                                                            \
        struct io *const io = queue(true, 4, 2 * BLOCK);                                                                         \
        cr_assert_str_eq(io_method(io), "threads");                                                                              \
        name(io);                                                                                                                \
        io_free(io);                                                                                                             \
    }                                                                                                                            \
    static void name(struct io *io)

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int64_t below(uint64_t *state, int64_t n)
{
    return (int64_t)(next_random(state) % (uint64_t)n);
}

static unsigned char *blocks(int64_t n, int fill)
{
    unsigned char *const p = aligned_alloc(BLOCK, (size_t)(n * BLOCK));

    cr_assert_not_null(p);
    memset(p, fill, (size_t)(n * BLOCK));
    return p;
}

static int scratch(int64_t bytes, bool *direct)
{
    struct error err = {0};
    int fd;

    cr_assert_eq(io_open_scratch(".", bytes, &fd, direct, &err), STATUS_OK, "%s", err.text);
    return fd;
}

/* A file with a name, of bytes 0 1 2 ... 250 0 1 ...; removed by the caller. */
static void named_file(char path[32], int64_t bytes)
{
    int fd;

    strcpy(path, "./.test-io-XXXXXX");
    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    for (int64_t i = 0; i < bytes; i++) {
        const unsigned char c = (unsigned char)(i % 251);
        cr_assert_eq(pwrite(fd, &c, 1, i), 1);
    }
    close(fd);
}

static int open_named(const char *path, bool *direct)
{
    struct error err = {0};
    int fd;

    cr_assert_eq(io_open_read(path, &fd, direct, &err), STATUS_OK, "%s", err.text);
    return fd;
}

static void run_ok(struct io *io, struct io_extent e)
{
    struct error err = {0};

    cr_assert_eq(io_run(io, &e, 1, &err), STATUS_OK, "%s", err.text);
}

static void run_fails(struct io *io, struct io_extent e, const char *text)
{
    struct error err = {0};

    cr_assert_eq(io_run(io, &e, 1, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, text);
}

static void expect_pattern(const unsigned char *p, int64_t offset, int64_t bytes)
{
    int64_t i = 0;

    while (i < bytes && p[i] == (offset + i) % 251)
        i++;
    cr_assert_eq(i, bytes, "byte %lld: expected %d, found %d", (long long)(offset + i), (int)((offset + i) % 251), p[i]);
}

static void expect_fill(const unsigned char *p, int value, int64_t bytes)
{
    int64_t i = 0;

    while (i < bytes && p[i] == value)
        i++;
    cr_assert_eq(i, bytes, "byte %lld: expected %d, found %d", (long long)i, value, p[i]);
}

/* ---- bytes there and back ---- */

#define FILE_BLOCKS 96
#define ROUNDS      60
#define JOBS_MAX    5

/* Cuts the file's blocks at random places into extents, at most n; visits them in random order. */
static int random_extents(uint64_t *seed, int fd, unsigned char *memory, bool write, struct io_extent *e, int n)
{
    int count = 0;

    for (int64_t at = 0; at < FILE_BLOCKS && count < n;) {
        const int64_t skip = below(seed, 4), room = FILE_BLOCKS - at - skip;
        const int64_t take = room < 1 ? 0 : 1 + below(seed, room < 9 ? room : 9);

        at += skip;
        if (take > 0)
            e[count++] = (struct io_extent){fd, write, at * BLOCK, take * BLOCK, memory + at * BLOCK};
        at += take > 0 ? take : 1;
    }
    for (int i = count - 1; i > 0; i--) {
        const int64_t j = below(seed, i + 1);
        const struct io_extent kept = e[i];
        e[i] = e[j];
        e[j] = kept;
    }
    return count;
}

/* The shadow holds what the file should; every round writes one random set of extents from it, then several jobs read other
 * sets and are waited for in random order. */
BOTH_METHODS(random_jobs_read_what_was_written)
{
    struct io_extent e[FILE_BLOCKS];
    unsigned char *const shadow = blocks(FILE_BLOCKS, 0), *read[JOBS_MAX];
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    bool direct;
    const int fd = scratch(FILE_BLOCKS * BLOCK, &direct);

    cr_log_info("seed %" PRIu64, seed);
    for (int j = 0; j < JOBS_MAX; j++)
        read[j] = blocks(FILE_BLOCKS, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct error err = {0};
        int64_t job[JOBS_MAX];
        struct io_extent asked[JOBS_MAX][FILE_BLOCKS];
        int n[JOBS_MAX], count = random_extents(&seed, fd, shadow, true, e, FILE_BLOCKS);

        for (int i = 0; i < count; i++)
            memset(e[i].buffer, (int)(next_random(&seed) & 0xff), (size_t)e[i].bytes);
        cr_assert_eq(io_run(io, e, count, &err), STATUS_OK, "%s", err.text);
        for (int j = 0; j < JOBS_MAX; j++) {
            n[j] = random_extents(&seed, fd, read[j], false, asked[j], FILE_BLOCKS);
            memset(read[j], 0xee, FILE_BLOCKS * BLOCK);
            cr_assert_eq(io_submit(io, asked[j], n[j], &job[j], &err), STATUS_OK, "%s", err.text);
        }
        for (int left = JOBS_MAX; left > 0; left--) {
            const int64_t j = below(&seed, left);

            cr_assert_eq(io_wait(io, job[j], &err), STATUS_OK, "%s", err.text);
            job[j] = job[left - 1];
        }
        for (int j = 0; j < JOBS_MAX; j++)
            for (int i = 0; i < n[j]; i++)
                cr_assert_eq(memcmp(asked[j][i].buffer, shadow + asked[j][i].offset, (size_t)asked[j][i].bytes), 0,
                             "seed 0x9e3779b97f4a7c15, round %d, job %d, extent %d", round, j, i);
    }
    for (int j = 0; j < JOBS_MAX; j++)
        free(read[j]);
    free(shadow);
    close(fd);
}

BOTH_METHODS(a_buffered_file_takes_any_alignment)
{
    char path[32];
    unsigned char buffer[10000];
    int fd;

    named_file(path, 30000);
    fd = open(path, O_RDWR);
    run_ok(io, (struct io_extent){fd, false, 1237, 9001, buffer + 3});
    expect_pattern(buffer + 3, 1237, 9001);
    memset(buffer, 7, sizeof buffer);
    run_ok(io, (struct io_extent){fd, true, 5001, 999, buffer + 1});
    run_ok(io, (struct io_extent){fd, false, 5000, 1001, buffer + 2000});
    /* Byte 5000 is 5000 mod 251 = 231, the 999 after it are the written sevens, byte 6000 is 6000 mod 251 = 227. */
    cr_assert_eq(buffer[2000], 231);
    expect_fill(buffer + 2001, 7, 999);
    cr_assert_eq(buffer[3000], 227);
    close(fd);
    unlink(path);
}

BOTH_METHODS(jobs_are_waited_for_in_any_order_and_once)
{
    bool direct;
    const int fd = scratch(64 * BLOCK, &direct);
    unsigned char *const out = blocks(64, 0), *const in = blocks(64, 0xff);
    struct error err = {0};
    int64_t job[8];

    for (int i = 0; i < 64 * BLOCK; i++)
        out[i] = (unsigned char)(i % 251);
    run_ok(io, (struct io_extent){fd, true, 0, 64 * BLOCK, out});
    for (int i = 0; i < 8; i++) {
        const struct io_extent e = {fd, false, i * 8 * BLOCK, 8 * BLOCK, in + i * 8 * BLOCK};
        cr_assert_eq(io_submit(io, &e, 1, &job[i], &err), STATUS_OK);
    }
    for (int i = 7; i >= 0; i--) {
        cr_assert_eq(io_wait(io, job[i], &err), STATUS_OK, "%s", err.text);
        expect_pattern(in + i * 8 * BLOCK, i * 8 * BLOCK, 8 * BLOCK);
    }
    cr_assert_eq(io_wait(io, job[3], &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "I/O job 5 is not in flight"); /* the write was job 1, so job[3] is 1 + 3 + 1 */
    free(in);
    free(out);
    close(fd);
}

BOTH_METHODS(a_job_of_nothing_is_done_at_once)
{
    bool direct;
    const int fd = scratch(BLOCK, &direct);
    struct error err = {0};

    cr_assert_eq(io_run(io, NULL, 0, &err), STATUS_OK);
    run_ok(io, (struct io_extent){fd, false, 0, 0, NULL});
    close(fd);
}

BOTH_METHODS(freeing_the_queue_finishes_what_was_submitted)
{
    bool direct;
    const int fd = scratch(64 * BLOCK, &direct);
    unsigned char *const out = blocks(64, 0x31), *const in = blocks(64, 0);
    const struct io_extent e = {fd, true, 0, 64 * BLOCK, out};
    struct io *const other = queue(strcmp(io_method(io), "threads") == 0, 2, BLOCK);
    struct error err = {0};
    int64_t job;

    cr_assert_eq(io_submit(other, &e, 1, &job, &err), STATUS_OK);
    io_free(other); /* 64 requests at depth 2: most were not started yet */
    run_ok(io, (struct io_extent){fd, false, 0, 64 * BLOCK, in});
    expect_fill(in, 0x31, 64 * BLOCK);
    free(in);
    free(out);
    close(fd);
}

BOTH_METHODS(a_file_deleted_under_the_queue_is_still_read)
{
    char path[32];
    bool direct;
    int fd;
    unsigned char *const in = blocks(16, 0xff);

    named_file(path, 16 * BLOCK);
    fd = open_named(path, &direct);
    unlink(path);
    run_ok(io, (struct io_extent){fd, false, 0, 16 * BLOCK, in});
    expect_pattern(in, 0, 16 * BLOCK);
    close(fd);
    free(in);
}

/* ---- the end of the file ---- */

/* 10000 bytes are 2 whole blocks and 1808 bytes: the third block reads as those and 12288 - 10000 = 2288 zeros. */
BOTH_METHODS(the_last_partial_block_reads_as_a_block)
{
    char path[32];
    bool direct;
    int fd;
    unsigned char *const in = blocks(8, 0xff);

    named_file(path, 10000);
    fd = open_named(path, &direct);
    run_ok(io, (struct io_extent){fd, false, 0, 3 * BLOCK, in});
    expect_pattern(in, 0, 10000);
    expect_fill(in + 10000, 0, 2288);
    expect_fill(in + 3 * BLOCK, 0xff, 5 * BLOCK);
    run_ok(io, (struct io_extent){fd, false, 2 * BLOCK, BLOCK, in});
    expect_pattern(in, 8192, 1808);
    expect_fill(in + 1808, 0, 2288);
    close(fd);
    unlink(path);
    free(in);
}

/* Requests are 2 blocks. 4 blocks asked of 10000 bytes: the second request, at 8192, finds 1808 bytes and misses 6384. */
BOTH_METHODS(a_file_shorter_than_asked_is_an_error)
{
    char path[32];
    bool direct;
    int fd;
    unsigned char *const in = blocks(8, 0xff);

    named_file(path, 10000);
    fd = open_named(path, &direct);
    run_fails(io, (struct io_extent){fd, false, 0, 4 * BLOCK, in},
              "unexpected end of file at 10000: 6384 bytes missing from the read of 8192 bytes at 8192");
    run_fails(io, (struct io_extent){fd, false, 3 * BLOCK, BLOCK, in},
              "unexpected end of file at 12288: 4096 bytes missing from the read of 4096 bytes at 12288");
    run_ok(io, (struct io_extent){fd, false, 0, BLOCK, in}); /* and the queue still works */
    expect_pattern(in, 0, BLOCK);
    close(fd);
    unlink(path);
    free(in);
}

BOTH_METHODS(an_exact_read_of_a_buffered_file_is_not_padded)
{
    char path[32];
    unsigned char in[5001];
    int fd;

    named_file(path, 5000);
    fd = open(path, O_RDONLY);
    run_ok(io, (struct io_extent){fd, false, 0, 5000, in});
    run_fails(io, (struct io_extent){fd, false, 0, 5001, in},
              "unexpected end of file at 5000: 1 bytes missing from the read of 5001 bytes at 0");
    close(fd);
    unlink(path);
}

/* ---- errors ---- */

BOTH_METHODS(a_bad_descriptor_is_named_by_its_request)
{
    unsigned char *const in = blocks(1, 0);

    run_fails(io, (struct io_extent){-1, false, 0, BLOCK, in}, "read of 4096 bytes at 0: Bad file descriptor");
    run_fails(io, (struct io_extent){-1, true, BLOCK, BLOCK, in}, "write of 4096 bytes at 4096: Bad file descriptor");
    free(in);
}

BOTH_METHODS(writing_a_file_open_for_reading_fails)
{
    char path[32];
    bool direct;
    int fd;
    unsigned char *const out = blocks(1, 0);

    named_file(path, BLOCK);
    fd = open_named(path, &direct);
    run_fails(io, (struct io_extent){fd, true, 0, BLOCK, out}, "write of 4096 bytes at 0: Bad file descriptor");
    close(fd);
    unlink(path);
    free(out);
}

BOTH_METHODS(a_failed_job_leaves_its_neighbours_alone)
{
    bool direct;
    const int fd = scratch(16 * BLOCK, &direct);
    unsigned char *const out = blocks(16, 0x42), *const in = blocks(16, 0);
    const struct io_extent good_write = {fd, true, 0, 16 * BLOCK, out}, good_read = {fd, false, 0, 16 * BLOCK, in},
                           bad = {-1, false, 0, 16 * BLOCK, in};
    struct error err = {0};
    int64_t job[3];

    cr_assert_eq(io_run(io, &good_write, 1, &err), STATUS_OK);
    cr_assert_eq(io_submit(io, &bad, 1, &job[0], &err), STATUS_OK);
    cr_assert_eq(io_submit(io, &good_read, 1, &job[1], &err), STATUS_OK);
    cr_assert_eq(io_submit(io, &bad, 1, &job[2], &err), STATUS_OK);
    cr_assert_eq(io_wait(io, job[1], &err), STATUS_OK, "%s", err.text);
    expect_fill(in, 0x42, 16 * BLOCK);
    cr_assert_eq(io_wait(io, job[2], NULL), STATUS_RUNTIME);
    cr_assert_eq(io_wait(io, job[0], NULL), STATUS_RUNTIME);
    free(in);
    free(out);
    close(fd);
}

BOTH_METHODS(an_unaligned_direct_extent_is_refused_in_words)
{
    bool direct;
    const int fd = scratch(4 * BLOCK, &direct);
    unsigned char *const in = blocks(4, 0);
    const struct io_extent bad[] = {{fd, false, 512, BLOCK, in}, {fd, false, 0, BLOCK - 1, in}, {fd, true, 0, BLOCK, in + 8}};
    const char *const texts[] = {"direct read of 4096 bytes at 512, buffer ", "direct read of 4095 bytes at 0, buffer ",
                                 "direct write of 4096 bytes at 0, buffer "};

    if (!direct)
        cr_skip_test("no direct I/O on this file system");
    for (int i = 0; i < 3; i++) {
        struct error err = {0};
        int64_t job;

        cr_assert_eq(io_submit(io, &bad[i], 1, &job, &err), STATUS_RUNTIME);
        cr_assert_eq(strncmp(err.text, texts[i], strlen(texts[i])), 0, "%s", err.text);
        cr_assert_not_null(strstr(err.text, ": expected multiples of 4096"), "%s", err.text);
    }
    free(in);
    close(fd);
}

BOTH_METHODS(an_impossible_extent_is_refused)
{
    unsigned char c;
    const struct io_extent bad[] = {{0, false, -1, 1, &c},
                                    {0, false, 0, -1, &c},
                                    {0, false, INT64_MAX, 1, &c},
                                    {0, false, 0, 1, NULL}};

    for (int i = 0; i < 4; i++) {
        struct error err = {0};
        int64_t job;

        cr_assert_eq(io_submit(io, &bad[i], 1, &job, &err), STATUS_RUNTIME);
        cr_assert_not_null(strstr(err.text, "is not an extent"), "%s", err.text);
    }
    cr_assert_eq(io_run(io, bad, -1, NULL), STATUS_RUNTIME);
    cr_assert_eq(io_run(io, NULL, 1, NULL), STATUS_RUNTIME);
}

/* Of 4 blocks the limit lets 2 through: the first request of 2 blocks succeeds, the one at 8192 does not. */
BOTH_METHODS(a_write_past_the_size_limit_says_so)
{
    char path[32];
    int fd;
    unsigned char *const out = blocks(4, 1);
    struct rlimit limit;

    named_file(path, 0);
    fd = open(path, O_RDWR);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 2 * BLOCK;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    run_fails(io, (struct io_extent){fd, true, 0, 4 * BLOCK, out}, "write of 8192 bytes at 8192: File too large");
    close(fd);
    unlink(path);
    free(out);
}

/* ---- options and the choice of method ---- */

Test(io, options_outside_their_range_are_refused)
{
    const struct io_options bad[] = {{.depth = -1},
                                     {.depth = 1025},
                                     {.request_bytes = 1000},
                                     {.request_bytes = -4096},
                                     {.request_bytes = (INT64_C(1) << 30) + 4096}};
    const char *const texts[] = {"I/O depth: expected 1 to 1024, found -1", "I/O depth: expected 1 to 1024, found 1025",
                                 "I/O request size: expected a multiple of 4096 up to 1073741824 bytes, found 1000",
                                 "I/O request size: expected a multiple of 4096 up to 1073741824 bytes, found -4096",
                                 "I/O request size: expected a multiple of 4096 up to 1073741824 bytes, found 1073745920"};

    for (int i = 0; i < 5; i++) {
        struct error err = {0};
        struct io *io = NULL;

        cr_assert_eq(io_new(&io, &bad[i], &err), STATUS_INVALID);
        cr_assert_null(io);
        cr_assert_str_eq(err.text, texts[i]);
    }
    io_free(NULL);
}

static void expect_method(const char *method)
{
    struct error err = {0};
    struct io *io;

    cr_assert_eq(io_new(&io, NULL, &err), STATUS_OK, "%s", err.text);
    cr_assert_str_eq(io_method(io), method);
    io_free(io);
}

Test(io, the_environment_can_ask_for_threads)
{
    cr_assert_eq(setenv("BALLAST_IO", "threads", 1), 0);
    expect_method("threads");
}

/* Makes one system call fail from here on, as containers do. */
static void refuse_call(int number, int errno_value)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)errno_value),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof *code, code};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        cr_skip_test("seccomp filters are refused here");
}

Test(io, a_refused_ring_means_threads)
{
    refuse_call(SYS_io_uring_setup, EPERM);
    expect_method("threads");
}

Test(io, a_missing_ring_means_threads)
{
    refuse_call(SYS_io_uring_setup, ENOSYS);
    expect_method("threads");
}

Test(io, a_ring_that_cannot_be_entered_means_threads)
{
    refuse_call(SYS_io_uring_enter, EPERM);
    expect_method("threads");
}

Test(io, a_ring_that_cannot_be_probed_means_threads)
{
    refuse_call(SYS_io_uring_register, EPERM);
    expect_method("threads");
}
