/* bench_io.c - what the queue of executor/io.h gets out of a disk: one CSV row per measurement.
 *
 *     bench_io [-p sequential|scattered|random] [-r request_bytes] [-d depth] [-e extent_bytes] [-j job_bytes] [-b bytes]
 *              [-n rounds] [-t] FILE
 *     bench_io [-n rounds] [-b bytes]
 *
 * sequential reads the first `bytes` of FILE in order, scattered reads the same extents in shuffled order, random reads
 * `bytes` in extents chosen at random. Four jobs are in flight, each with a buffer of its own of job_bytes (8 MiB); the
 * sum is worth varying, since some disks are faster into less memory. -t asks for the threads method. Without FILE a scratch
 * file of `bytes` is written in the current directory, read in all three ways and gone afterwards.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/arena.h"
#include "executor/io.h"
#include "executor/now.h"

#define JOB_BYTES  (INT64_C(8) << 20)
#define JOBS_AHEAD 4
#define SEED       UINT64_C(88172645463325252)

enum pattern { SEQUENTIAL, SCATTERED, RANDOM, N_PATTERNS };
static const char *const pattern_names[N_PATTERNS] = {"sequential", "scattered", "random"};

struct settings {
    struct io_options io;
    enum pattern pattern;
    bool write;
    int64_t extent_bytes, job_bytes, bytes;
};

struct bench {
    struct settings set;
    struct io *io;
    int fd;
    bool direct;
    int64_t n_extents, n_jobs;
    int64_t *order; /* (n_extents): the file's extents, as they are visited */
    int per_job;
    struct io_extent *batch; /* (per_job) */
    struct arena arena;
    void *buffer; /* (JOBS_AHEAD, per_job, extent_bytes) */
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void choose_order(struct bench *b, int64_t file_extents, uint64_t seed)
{
    for (int64_t i = 0; i < b->n_extents; i++)
        b->order[i] = b->set.pattern == RANDOM ? (int64_t)(next_random(&seed) % (uint64_t)file_extents) : i;
    if (b->set.pattern != SCATTERED)
        return;
    for (int64_t i = b->n_extents - 1; i > 0; i--) {
        const int64_t j = (int64_t)(next_random(&seed) % (uint64_t)(i + 1)), kept = b->order[i];
        b->order[i] = b->order[j];
        b->order[j] = kept;
    }
}

static enum status submit(struct bench *b, int64_t number, int64_t *job, struct error *err)
{
    const int64_t first = number * b->per_job, bytes = b->set.extent_bytes;
    char *const slot = (char *)b->buffer + number % JOBS_AHEAD * b->per_job * bytes;
    int n = 0;

    for (; n < b->per_job && first + n < b->n_extents; n++)
        b->batch[n] = (struct io_extent){b->fd, b->set.write, b->order[first + n] * bytes, bytes, slot + n * bytes};
    return io_submit(b->io, b->batch, n, job, err);
}

static enum status move_all(struct bench *b, double *seconds, struct error *err)
{
    const double start_s = now_s();
    int64_t job[JOBS_AHEAD];
    enum status s = STATUS_OK;

    for (int64_t i = 0; s == STATUS_OK && i < b->n_jobs; i++) {
        if (i >= JOBS_AHEAD)
            s = io_wait(b->io, job[i % JOBS_AHEAD], err);
        if (s == STATUS_OK)
            s = submit(b, i, &job[i % JOBS_AHEAD], err);
    }
    for (int64_t i = b->n_jobs > JOBS_AHEAD ? b->n_jobs - JOBS_AHEAD : 0; s == STATUS_OK && i < b->n_jobs; i++)
        s = io_wait(b->io, job[i % JOBS_AHEAD], err);
    *seconds = now_s() - start_s;
    return s;
}

static enum status prepare(struct bench *b, struct error *err)
{
    const int64_t extent_bytes = b->set.extent_bytes;
    struct stat st;
    enum status s;

    if (fstat(b->fd, &st) < 0 || b->set.bytes < extent_bytes || st.st_size < b->set.bytes)
        return error_set(err, STATUS_INVALID, "expected %" PRId64 " to %" PRId64 " bytes to move, found %" PRId64, extent_bytes,
                         (int64_t)st.st_size, b->set.bytes);
    b->n_extents = b->set.bytes / extent_bytes;
    b->per_job = extent_bytes < b->set.job_bytes ? (int)(b->set.job_bytes / extent_bytes) : 1;
    b->n_jobs = (b->n_extents + b->per_job - 1) / b->per_job;
    b->order = calloc((size_t)b->n_extents, sizeof *b->order);
    b->batch = calloc((size_t)b->per_job, sizeof *b->batch);
    if (!b->order || !b->batch)
        return error_errno(err, ENOMEM, "the order of %" PRId64 " extents", b->n_extents);
    choose_order(b, st.st_size / extent_bytes, SEED);
    s = arena_take(&b->arena, "buffers", JOBS_AHEAD * b->per_job * extent_bytes, &b->buffer, err);
    if (s == STATUS_OK)
        memset(b->buffer, 0x5a, (size_t)(JOBS_AHEAD * b->per_job * extent_bytes)); /* page faults are not the disk's time */
    return s == STATUS_OK ? io_new(&b->io, &b->set.io, err) : s;
}

static void print_row(const struct bench *b, double seconds)
{
    const double bytes = (double)(b->n_extents * b->set.extent_bytes);

    printf("%s,%s,%s,%s,%" PRId64 ",%d,%" PRId64 ",%" PRId64 ",%.0f,%.6f,%.4f,%.0f\n", io_method(b->io),
           b->direct ? "direct" : "buffered", b->set.write ? "write" : "read", pattern_names[b->set.pattern],
           b->set.io.request_bytes, b->set.io.depth, b->set.extent_bytes, b->per_job * b->set.extent_bytes, bytes, seconds,
           bytes / seconds * 1e-9, bytes / (double)b->set.extent_bytes / seconds);
    fflush(stdout);
}

static enum status measure(const struct settings *set, int fd, bool direct, int rounds, struct error *err)
{
    struct bench b = {.set = *set, .fd = fd, .direct = direct};
    enum status s;
    double seconds;

    arena_init(&b.arena, "ram", INT64_MAX);
    s = prepare(&b, err);
    for (int i = 0; s == STATUS_OK && i < rounds; i++) {
        s = move_all(&b, &seconds, err);
        if (s == STATUS_OK)
            print_row(&b, seconds);
    }
    io_free(b.io);
    arena_free(&b.arena);
    free(b.batch);
    free(b.order);
    return s;
}

/* Written, then read: in order, in shuffled 8 MiB pieces, and 4 and 8 KiB at random at depth 32. */
static enum status measure_scratch(int64_t bytes, int rounds, struct error *err)
{
    const struct io_options whole = {8, 1 << 20, false}, small = {32, 1 << 20, false};
    const struct settings cases[] = {
        {whole, SEQUENTIAL, true, JOB_BYTES, JOB_BYTES, bytes}, {whole, SEQUENTIAL, false, JOB_BYTES, JOB_BYTES, bytes},
        {whole, SCATTERED, false, JOB_BYTES, JOB_BYTES, bytes}, {small, RANDOM, false, 4096, JOB_BYTES, bytes / 8},
        {small, RANDOM, false, 8192, JOB_BYTES, bytes / 8},
    };
    int fd;
    bool direct;
    enum status s = io_open_scratch(".", bytes, &fd, &direct, err);

    if (s != STATUS_OK)
        return s;
    for (size_t i = 0; s == STATUS_OK && i < sizeof cases / sizeof *cases; i++)
        s = measure(&cases[i], fd, direct, rounds, err);
    close(fd);
    return s;
}

static enum status measure_file(struct settings *set, const char *path, int rounds, struct error *err)
{
    struct stat st;
    int fd;
    bool direct;
    enum status s = io_open_read(path, &fd, &direct, err);

    if (s != STATUS_OK)
        return s;
    if (set->bytes == 0 && fstat(fd, &st) == 0)
        set->bytes = st.st_size;
    s = measure(set, fd, direct, rounds, err);
    close(fd);
    return s;
}

static bool parse_pattern(const char *name, enum pattern *pattern)
{
    for (int i = 0; i < N_PATTERNS; i++)
        if (strcmp(name, pattern_names[i]) == 0) {
            *pattern = (enum pattern)i;
            return true;
        }
    return false;
}

static bool parse_bytes(const char *text, int64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *value > 0;
}

static bool parse_options(int argc, char **argv, struct settings *set, int *rounds)
{
    int64_t value;
    int c;

    while ((c = getopt(argc, argv, "p:r:d:e:j:b:n:t")) != -1) {
        if (c == 't')
            set->io.force_threads = true;
        else if (c == 'p' ? !parse_pattern(optarg, &set->pattern) : c == '?' || !parse_bytes(optarg, &value))
            return false;
        else if (c == 'r')
            set->io.request_bytes = value;
        else if (c == 'd')
            set->io.depth = (int)value;
        else if (c == 'e')
            set->extent_bytes = value;
        else if (c == 'j')
            set->job_bytes = value;
        else if (c == 'b')
            set->bytes = value;
        else if (c == 'n')
            *rounds = (int)value;
    }
    return argc - optind <= 1;
}

int main(int argc, char **argv)
{
    struct settings set = {.io = {8, 1 << 20, false}, .extent_bytes = JOB_BYTES, .job_bytes = JOB_BYTES};
    struct error err = {0};
    enum status s;
    int rounds = 3;

    if (!parse_options(argc, argv, &set, &rounds)) {
        fprintf(stderr, "usage: bench_io [-p sequential|scattered|random] [-r request_bytes] [-d depth] [-e extent_bytes]"
                        " [-j job_bytes] [-b bytes] [-n rounds] [-t] [FILE]\n");
        return STATUS_INVALID;
    }
    printf("method,mode,op,pattern,request_bytes,depth,extent_bytes,job_bytes,bytes,seconds,gb_per_s,extents_per_s\n");
    s = optind < argc ? measure_file(&set, argv[optind], rounds, &err)
                      : measure_scratch(set.bytes ? set.bytes : INT64_C(1) << 30, rounds, &err);
    if (s != STATUS_OK)
        fprintf(stderr, "bench_io: %s\n", err.text);
    return (int)s;
}
