/* resident.h - bytes in use on each tier while a schedule advances, from a trace of it: simulated or measured, the same rule.
 *
 * Regions are taken for the whole run; what is in them comes and goes. Counted as it does: cache, a token's from the end of the operation that
 * wrote it to its home until its batch has its last token; hidden states, from a batch's embedding to its last head part; and the weight ring, a
 * part from the start of its load until the layer has been computed (tier 0) or the part has gone up. All other regions count whole.
 * model/in_use.h says how high each phase can come.
 */
#ifndef BALLAST_EXECUTOR_SIM_RESIDENT_H
#define BALLAST_EXECUTOR_SIM_RESIDENT_H

#include "executor/sim/sim.h"

/* At most so many samples a tier: a longer run has the highest level of each of so many stretches of time. */
#define RESIDENT_SAMPLES_MAX 1000

/* Adds samples, and the highest level of each phase, to a trace that has the schedule's events, or those that ran. */
enum status trace_resident(const struct schedule *schedule, const struct run_setting *s, struct trace *t, struct error *err);

#endif
