/* engine.h - runs a schedule for real: one thread per resource, each going through its lane, joined by the operations' dependencies.
 *
 * An operation may be begun before the previous one on its resource has finished, so that the device's queue does not drain between
 * operations: a transfer when all that it depends on is done, a computation that queues also while the one before it, on which it may depend, is
 * still at work. Times go into the trace as they happen; recording is two clock readings and one store an operation. What was begun early starts
 * when the one before it ends.
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
    /* Called on the resource's own thread. begin starts the operation, finish returns when it is done; a finish that has nothing to wait for may be
     * NULL. At most two operations of a resource are between begin and finish; they are finished in order, also when another one has failed.
     * One whose begin fails is not finished. */
    enum status (*begin)(void *context, const struct op *op, struct error *err);
    enum status (*finish)(void *context, const struct op *op, struct error *err);
    /* Whether a computation may begin while the one before it on its unit is between begin and finish: the unit works them off in order,
     * and begin reads nothing that the one before makes. NULL: none may. */
    bool (*queues)(void *context, const struct op *op);
    /* Called on the thread that finishes an operation, for progress; may be NULL. */
    void (*done)(void *context, const struct op *op);
};

/* Runs everything, or stops at the first failure and returns it. Events are appended to *trace (which may be NULL) in schedule order.
 * Once *stop is true (every sequence has ended) what has not begun is skipped and left out of the trace. stop may be NULL. */
enum status engine_run(const struct schedule *s, int n_resources, const struct engine_work *work, const atomic_bool *stop,
                       struct trace *trace, struct error *err);

#endif
