/* engine.h - runs a schedule for real: one thread per resource, each going through its lane, joined by the operations' dependencies.
 *
 * A transfer may be begun before the previous one on its link has finished, so that the device's queue does not drain between
 * operations. Times go into the trace as they happen; recording is two clock readings and one store an operation.
 */
#ifndef BALLAST_EXECUTOR_ENGINE_H
#define BALLAST_EXECUTOR_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "executor/schedule.h"
#include "traces/trace.h"

struct engine_work {
    void *context;
    /* Called on the resource's own thread. begin starts the operation; for compute it also does it, and finish may be NULL work. At
     * most two operations of a link are between begin and finish; they are finished in order. */
    enum status (*begin)(void *context, const struct op *op, struct error *err);
    enum status (*finish)(void *context, const struct op *op, struct error *err);
    /* Called on the thread that finishes an operation, for progress; may be NULL. */
    void (*done)(void *context, const struct op *op);
};

/* Runs everything, or stops at the first failure and returns it. Events are appended to *trace (which may be NULL) in schedule order.
 * Once *stop is true (every sequence has ended) what has not begun is skipped and left out of the trace. stop may be NULL. */
enum status engine_run(const struct schedule *s, int n_resources, const struct engine_work *work, const atomic_bool *stop,
                       struct trace *trace, struct error *err);

#endif
