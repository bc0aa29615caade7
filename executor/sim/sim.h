/* sim.h - the schedule on the cost model's clock: the same operations as the executor's, with predicted times. */
#ifndef BALLAST_EXECUTOR_SIM_SIM_H
#define BALLAST_EXECUTOR_SIM_SIM_H

#include "executor/schedule.h"
#include "executor/sim/clock.h"
#include "model/cost.h"
#include "model/interval.h"
#include "traces/trace.h"

/* What every trace of a run or simulation carries. */
struct run_setting {
    const char *version; /* of ballast */
    const struct arch *arch;
    const struct hardware *hardware;
    const struct workload *workload;
    const struct policy *policy;
    const struct placement *placement;
    const struct prediction *prediction; /* of the cost table */
};

/* Fills the header, kinds, resources and tiers of an empty trace. */
void trace_describe(struct trace *t, enum trace_origin origin, const struct run_setting *s);

/* The event of operation `number`, whenever it ran. */
enum status trace_add_op(struct trace *t, const struct schedule *schedule, int32_t number, const struct clock_time *time,
                         struct error *err);

/* Seconds the operation takes on its resource alone: the cost table's primitives on its own bytes and rows. */
double op_seconds(const struct op *op, const struct run_setting *s);
/* What one after another takes: without the launch or the work that passes behind another operation's. */
double op_busy_s(const struct op *op, const struct run_setting *s);

/* The same for every operation: out (n_ops). */
enum status op_durations(const struct schedule *schedule, const struct run_setting *s, double *out, struct error *err);

/* Runs the clock (clock.h) over the schedule. *t must be initialised; the caller frees it. */
enum status simulate(const struct schedule *schedule, const struct run_setting *s, struct trace *t, struct error *err);

/* What the clock needs to know, but for the durations; borrows all of it. */
struct clock_input clock_setting(const struct schedule *schedule, const struct run_setting *s);

/* The latency in `replays` runs of the clock on machines whose resources are each at their rate times exp(spread * z): a 90 % interval. The
 * spreads are the profile's (interval.h), z a standard normal for each resource and replay from `seed`. A rate holds for a whole replay: what varied
 * from operation to operation would average out over thousands of them. STATUS_INVALID if the profile has no spread. */
enum status simulate_noise(const struct schedule *schedule, const struct run_setting *s, uint64_t seed, int replays,
                           struct interval *latency, struct error *err);

#endif
