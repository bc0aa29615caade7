/* ordered.h - work shared out over processes and the ranks of an MPI job, its output taken in order.
 *
 * Items are cut into chunks, dealt out in turn to the ranks and by each to its workers; rank 0 takes each whole and in order.
 * Processes rather than threads: GLPK keeps global state, and a worker that dies takes nothing with it.
 */
#ifndef BALLAST_CLI_ORDERED_H
#define BALLAST_CLI_ORDERED_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/ranks.h"
#include "model/error.h"

struct ordered {
    struct ranks ranks;  /* a zeroed one is this process alone */
    int workers;         /* of each rank; 1: in this process */
    int64_t first, last; /* items first .. last - 1 */
    int64_t chunk;       /* items made together */
    void *arg;           /* for both */
    /* Writes items first .. last - 1 to `out`. */
    void (*make)(void *arg, int64_t first, int64_t last, FILE *out);
    /* Gets what make wrote, on rank 0. Stops the work unless it returns STATUS_OK. */
    enum status (*take)(void *arg, int64_t first, int64_t last, const char *text, size_t bytes, struct error *err);
};

enum status ordered_run(const struct ordered *o, struct error *err);

#endif
