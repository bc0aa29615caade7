/* clock.h - the event-driven clock: every operation of a schedule from its start to its end, by the engine's rules.
 *
 * - A resource runs its operations in the order of its lane, one at a time; an operation starts when its dependencies have ended.
 * - A link begins its next transfer when the one in flight starts moving bytes, if the next is ready by then (executor/engine.c): its
 *   latency then passes behind the one in flight. One that becomes ready later is begun when the one in flight has ended.
 * - So does a unit that queues, where the one in flight may be what the next waits for: launching it, which the host does one operation after the
 *   other, passes behind the work of the one in flight.
 * - Resources may share something. While the shares of those at work in a contention exceed 1, all of them slow down by that sum; a
 *   resource in several goes by the most crowded.
 */
#ifndef BALLAST_EXECUTOR_SIM_CLOCK_H
#define BALLAST_EXECUTOR_SIM_CLOCK_H

#include "executor/schedule.h"
#include "model/cost.h"

struct clock_input {
    const struct schedule *schedule; /* dependencies point backwards */
    int n_resources;
    const double *duration_s;        /* (n_ops) alone, latency included */
    double latency_s[RESOURCES_MAX]; /* the part of a transfer that may pass behind another; 0 for compute */
    int queueing;                    /* the unit that queues, or -1 */
    double launch_s[OP_KIND_COUNT];  /* of its operations' durations what the host takes before the unit can work */
    int n_contentions;
    const struct contention *contention; /* (n_contentions) */
};

struct clock_time {
    int64_t start_ns, end_ns;
    int32_t waits_for; /* the dependency whose end it had to wait for; -1: none */
};

/* Runs everything; *total_s is the last end. `times` (n_ops) may be NULL. */
enum status clock_run(const struct clock_input *in, struct clock_time *times, double *total_s, struct error *err);

/* Which resources choose. */
enum choice {
    CHOICE_LINKS, /* units keep to the list */
    CHOICE_ALL
};

/* The same with lanes still to be found: a resource that is free takes, of the operations that are ready, one of the most urgent rank
 * (op_rank); of a rank they go in list order. Fills lane (n_ops) like the schedule's. clock_run over these lanes gives the same times. */
enum status clock_arrange(const struct clock_input *in, enum choice choice, int32_t *lane, double *total_s, struct error *err);

#endif
