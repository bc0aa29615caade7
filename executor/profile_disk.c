#include "executor/profile_disk.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "executor/arena.h"
#include "executor/io.h"
#include "executor/now.h"
#include "executor/profile_rounds.h"
#include "model/mix.h"

#define SMALL_BYTES                                                                                                              \
    (128 << 10) /* below: many extents in one job, as look-ups are; from here on: one extent a job, two jobs in flight */
/* Transfers land all over a buffer the size of a weight ring: a disk reads faster into a few megabytes that stay in the CPU's cache. */
#define BUFFER_BYTES (256LL << 20)
#define LOOK_SECONDS 0.12 /* at each size, in each round */
#define BOTH_BYTES   (4LL << 20)
#define BOTH_SECONDS 0.25

struct profile_disk {
    struct arena arena;
    struct io *io, *io_beside; /* as each direction of a link has its own */
    int fd;
    int64_t file_bytes;
    char *buffer;     /* (BUFFER_BYTES) */
    int64_t position; /* where the next large transfer begins: layers lie in the order in which they are read */
    uint64_t seed;
    struct tally read, write;
    double at_once; /* the mean over the rounds: the rates of both directions at once, each over its own alone, summed */
};

static int64_t random_offset(struct profile_disk *d, int64_t bytes)
{
    return (int64_t)(mix64(d->seed += MIX_STEP) % (uint64_t)((d->file_bytes - bytes) / IO_ALIGN + 1)) * IO_ALIGN;
}

static enum status small_transfers(struct profile_disk *d, int64_t bytes, bool write, double *rate, struct error *err)
{
    struct io_extent e[64];
    double start = now_s();
    int64_t done = 0;
    do {
        for (int i = 0; i < 64; i++)
            e[i] = (struct io_extent){.fd = d->fd,
                                      .write = write,
                                      .offset = random_offset(d, bytes),
                                      .bytes = bytes,
                                      .buffer = d->buffer + i * bytes};
        enum status s = io_run(d->io, e, write ? 1 : 64, err); /* appended rows go out one at a time */
        if (s != STATUS_OK)
            return s;
        done += bytes * (write ? 1 : 64);
    } while (now_s() - start < LOOK_SECONDS / 2);
    *rate = (double)done / (now_s() - start);
    return STATUS_OK;
}

/* Transfers of one size one after the other, two in flight. */
struct stream {
    struct io *io;
    int fd;
    bool write;
    int64_t bytes, file_bytes;
    int64_t position; /* in the file */
    char *buffer;
    int64_t buffer_bytes;
    double seconds; /* at least, and two transfers */
    double rate;    /* found */
};

static struct io_extent next_transfer(struct stream *t, int64_t *at)
{
    int64_t offset = t->position + t->bytes <= t->file_bytes ? t->position : 0;
    struct io_extent e = {.fd = t->fd, .write = t->write, .offset = offset, .bytes = t->bytes, .buffer = t->buffer + *at};
    t->position = offset + t->bytes;
    *at = *at + 2 * t->bytes <= t->buffer_bytes ? *at + t->bytes : 0;
    return e;
}

static enum status run_stream(struct stream *t, struct error *err)
{
    int64_t job[2], done = 0, at = 0;
    double start = now_s();
    int in_flight = 0, turn = 0;
    enum status s = STATUS_OK;
    while (s == STATUS_OK && (now_s() - start < t->seconds || done < 2 * t->bytes)) {
        struct io_extent e = next_transfer(t, &at);
        s = io_submit(t->io, &e, 1, &job[turn], err);
        turn ^= 1;
        if (s == STATUS_OK && ++in_flight == 2) {
            s = io_wait(t->io, job[turn], err);
            in_flight--;
            done += t->bytes;
        }
    }
    if (s == STATUS_OK && in_flight)
        s = io_wait(t->io, job[turn ^ 1], err);
    t->rate = (double)(done + t->bytes) / (now_s() - start);
    return s;
}

static enum status large_transfers(struct profile_disk *d, int64_t bytes, bool write, double *rate, struct error *err)
{
    struct stream t = {.io = d->io,
                       .fd = d->fd,
                       .write = write,
                       .bytes = bytes,
                       .file_bytes = d->file_bytes,
                       .position = d->position,
                       .buffer = d->buffer,
                       .buffer_bytes = BUFFER_BYTES,
                       .seconds = LOOK_SECONDS};
    enum status s = run_stream(&t, err);
    d->position = t.position;
    *rate = t.rate;
    return s;
}

static enum status measure_curve(struct profile_disk *d, bool write, struct curve *c, struct error *err)
{
    static const int64_t sizes[] = {4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, BOTH_BYTES, 16 << 20, 64 << 20, 128 << 20};
    enum status s = STATUS_OK;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && s == STATUS_OK; i++) {
        double rate;
        s = (sizes[i] < SMALL_BYTES ? small_transfers : large_transfers)(d, sizes[i], write, &rate, err);
        if (s == STATUS_OK)
            curve_add(c, (double)sizes[i], rate);
    }
    return s;
}

struct beside {
    struct stream stream;
    enum status status;
    struct error err;
};

static void *run_beside(void *arg)
{
    struct beside *b = arg;
    b->status = run_stream(&b->stream, &b->err);
    return NULL;
}

/* Reads from the first half of the file, writes to the second, at the same time. */
static enum status both_at_once(struct profile_disk *d, double *read, double *write, struct error *err)
{
    struct stream reads = {.io = d->io,
                           .fd = d->fd,
                           .bytes = BOTH_BYTES,
                           .file_bytes = d->file_bytes / 2,
                           .buffer = d->buffer,
                           .buffer_bytes = BUFFER_BYTES / 2,
                           .seconds = BOTH_SECONDS};
    struct beside b = {.stream = reads};
    b.stream.io = d->io_beside;
    b.stream.write = true;
    b.stream.file_bytes = d->file_bytes;
    b.stream.position = d->file_bytes / 2 / BOTH_BYTES * BOTH_BYTES;
    b.stream.buffer = d->buffer + BUFFER_BYTES / 2;
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_beside, &b) != 0)
        return error_set(err, STATUS_RUNTIME, "cannot start a thread that writes while another reads");
    enum status s = run_stream(&reads, err);
    pthread_join(thread, NULL);
    *read = reads.rate;
    *write = b.stream.rate;
    return s != STATUS_OK || b.status == STATUS_OK ? s : error_set(err, b.status, "%s", b.err.text);
}

static enum status fill_file(struct profile_disk *d, struct error *err)
{
    int64_t chunk = 64 << 20;
    for (int64_t i = 0; i < chunk / 8; i++)
        ((uint64_t *)d->buffer)[i] = mix64(d->seed += MIX_STEP);
    for (int64_t at = 0; at < d->file_bytes; at += chunk) {
        struct io_extent e = {.fd = d->fd, .write = true, .offset = at, .bytes = chunk, .buffer = d->buffer};
        enum status s = io_run(d->io, &e, 1, err);
        if (s != STATUS_OK)
            return s;
    }
    return fsync(d->fd) == 0 ? STATUS_OK : error_set(err, STATUS_RUNTIME, "cannot write the sample file");
}

enum status profile_disk_open(struct profile_disk **out, const struct profile_options *o, struct error *err)
{
    void *base;
    bool direct;
    struct profile_disk *d = *out = calloc(1, sizeof *d);
    if (!d)
        return error_set(err, STATUS_RUNTIME, "out of memory");
    d->fd = -1;
    d->file_bytes = o->disk_sample_bytes ? o->disk_sample_bytes : 2LL << 30;
    d->seed = 1;
    arena_init(&d->arena, "profile", BUFFER_BYTES);
    enum status s = arena_take(&d->arena, "transfers", BUFFER_BYTES, &base, err);
    d->buffer = base;
    if (s == STATUS_OK)
        s = io_new(&d->io, NULL, err);
    if (s == STATUS_OK)
        s = io_new(&d->io_beside, NULL, err);
    if (s == STATUS_OK)
        s = io_open_scratch(o->scratch_directory, d->file_bytes, &d->fd, &direct, err);
    return s == STATUS_OK ? fill_file(d, err) : s;
}

void profile_disk_close(struct profile_disk *d)
{
    if (!d)
        return;
    io_free(d->io);
    io_free(d->io_beside);
    if (d->fd >= 0)
        close(d->fd);
    arena_free(&d->arena);
    free(d);
}

enum status profile_disk_round(struct profile_disk *d, struct link *l, int round, struct error *err)
{
    struct curve read = {.n = 0}, write = {.n = 0};
    double read_beside = 0, write_beside = 0;
    enum status s = measure_curve(d, false, &read, err);
    if (s == STATUS_OK)
        s = measure_curve(d, true, &write, err);
    if (s == STATUS_OK)
        s = both_at_once(d, &read_beside, &write_beside, err);
    if (s != STATUS_OK)
        return s;
    curve_blend(&l->read_bytes_per_s, &read, round);
    curve_blend(&l->write_bytes_per_s, &write, round);
    tally_count(&d->read, curve_level(&read, SMALL_BYTES));
    tally_count(&d->write, curve_level(&write, SMALL_BYTES));
    double at_once = read_beside / curve_at(&read, BOTH_BYTES) + write_beside / curve_at(&write, BOTH_BYTES);
    d->at_once += (at_once - d->at_once) / (round + 1);
    return STATUS_OK;
}

void profile_disk_finish(struct profile_disk *d, struct hardware *hw, struct profile_range *reads)
{
    int link = hw->n_tiers - 2;
    hw->link[link].read_spread = sqrt(tally_variance(&d->read));
    hw->link[link].write_spread = sqrt(tally_variance(&d->write));
    contention_of_pair(hw, "drive", resource_link_read(link), resource_link_write(link), d->at_once);
    if (reads)
        *reads = d->read.range;
}
