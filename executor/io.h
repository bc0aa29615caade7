/* io.h - the disk: direct reads and writes with a queue, through io_uring or, where that is refused, pread/pwrite threads.
 *
 * One struct io belongs to one thread. A job is a batch of extents; several jobs may be in flight, so that the disk does not
 * drain between them. Extents are cut into requests of at most `request_bytes`, `depth` of them at the device at once, in the
 * order submitted. With direct I/O offset, length and buffer must be multiples of IO_ALIGN; a read that meets the end of the
 * file early fails unless it got to the file's last byte (the aligned tail is simply short).
 */
#ifndef BALLAST_EXECUTOR_IO_H
#define BALLAST_EXECUTOR_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "model/error.h"

#define IO_ALIGN 4096

struct io;

struct io_options {
    int depth;             /* requests in flight: default 16 */
    int64_t request_bytes; /* default 1 MiB, a multiple of IO_ALIGN */
    bool force_threads;    /* skip io_uring (also: BALLAST_IO=threads in the environment) */
};

struct io_extent {
    int fd;
    bool write;
    int64_t offset, bytes;
    void *buffer; /* borrowed until the job is done */
};

/* o may be NULL for the defaults. *out is owned by the caller. */
enum status io_new(struct io **out, const struct io_options *o, struct error *err);
void io_free(struct io *io);                /* waits for what is in flight; NULL is fine */
const char *io_method(const struct io *io); /* "io_uring" or "threads" */

/* Starts a job of n extents (copied) and returns its number in *job. */
enum status io_submit(struct io *io, const struct io_extent *extents, int n, int64_t *job, struct error *err);
/* Blocks until that job is done; jobs may be waited for in any order, each once. STATUS_RUNTIME with the path-less cause
 * ("read of 4096 bytes at 0: Input/output error", "unexpected end of file at ...") if one of its requests failed. */
enum status io_wait(struct io *io, int64_t job, struct error *err);
/* submit + wait */
enum status io_run(struct io *io, const struct io_extent *extents, int n, struct error *err);

/* Opens for direct reading; falls back to buffered reading where the file system refuses O_DIRECT (tmpfs) and says so in
 * *direct. After a buffered read the caller may ask the kernel to drop the pages. */
enum status io_open_read(const char *path, int *fd, bool *direct, struct error *err);

/* A scratch file of `bytes` bytes in `directory`, unlinked at once so that a killed run leaves nothing, space reserved with
 * fallocate so that a full disk fails here with the bytes missing. */
enum status io_open_scratch(const char *directory, int64_t bytes, int *fd, bool *direct, struct error *err);

#endif
