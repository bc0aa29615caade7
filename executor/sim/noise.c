/* noise.c - the clock again and again, on machines a little faster or slower than the profile's. */
#include <math.h>
#include <stdlib.h>

#include "executor/sim/clock.h"
#include "executor/sim/sim.h"

static bool has_spread(const struct hardware *hw)
{
    bool known = false;
    for (int r = 0; r < resource_count(hw); r++)
        known |= resource_spread(hw, r) > 0;
    return known;
}

static void slow_down(const struct schedule *schedule, const struct hardware *hw, uint64_t *state, const double *alone_s,
                      const struct clock_input *in, struct clock_input *out, double *duration_s)
{
    double factor[RESOURCES_MAX];
    *out = *in;
    out->duration_s = duration_s;
    for (int r = 0; r < in->n_resources; r++) {
        factor[r] = exp(resource_spread(hw, r) * draw_normal(state));
        out->latency_s[r] *= factor[r];
    }
    for (int k = 0; k < OP_KIND_COUNT && in->queueing >= 0; k++)
        out->launch_s[k] *= factor[in->queueing];
    for (int32_t i = 0; i < schedule->n_ops; i++)
        duration_s[i] = alone_s[i] * factor[schedule->op[i].resource];
}

enum status simulate_noise(const struct schedule *schedule, const struct run_setting *s, uint64_t seed, int replays,
                           struct interval *latency, struct error *err)
{
    if (!has_spread(s->hardware))
        return error_set(err, STATUS_INVALID,
                         "profile %s does not say how far its rates vary (read_spread, write_spread, spread)", s->hardware->name);
    size_t n = (size_t)schedule->n_ops + 1;
    double *alone_s = malloc(n * sizeof *alone_s), *duration_s = malloc(n * sizeof *duration_s);
    double *total_s = malloc((size_t)replays * sizeof *total_s);
    struct clock_input in = clock_setting(schedule, s), slow;
    enum status status = alone_s && duration_s && total_s
                             ? op_durations(schedule, s, alone_s, err)
                             : error_set(err, STATUS_RUNTIME, "out of memory for %d operations", schedule->n_ops);
    for (int i = 0; i < replays && status == STATUS_OK; i++) {
        slow_down(schedule, s->hardware, &seed, alone_s, &in, &slow, duration_s);
        status = clock_run(&slow, NULL, &total_s[i], err);
    }
    if (status == STATUS_OK)
        *latency = interval_of(total_s, replays);
    free(alone_s);
    free(duration_s);
    free(total_s);
    return status;
}
