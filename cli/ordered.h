/* ordered.h - work shared out over processes, its output taken in order.
 *
 * Items are cut into chunks; worker j makes chunks j, j + workers, ... and each arrives whole and in its turn. Processes rather than
 * threads: GLPK keeps global state, and a worker that dies takes nothing with it.
 */
#ifndef BALLAST_CLI_ORDERED_H
#define BALLAST_CLI_ORDERED_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "model/error.h"

struct ordered {
    int workers;         /* 1: in this process */
    int64_t first, last; /* items first .. last - 1 */
    int64_t chunk;       /* items made together */
    void *arg;           /* for both */
    /* Writes items first .. last - 1 to `out`. */
    void (*make)(void *arg, int64_t first, int64_t last, FILE *out);
    /* Gets what make wrote. Stops the work unless it returns STATUS_OK. */
    enum status (*take)(void *arg, int64_t first, int64_t last, const char *text, size_t bytes, struct error *err);
};

enum status ordered_run(const struct ordered *o, struct error *err);

#endif
