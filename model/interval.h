/* interval.h - the error bar of a prediction: how far the machine's rates vary, carried through the cost table. */
#ifndef BALLAST_MODEL_INTERVAL_H
#define BALLAST_MODEL_INTERVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "model/cost.h"

/* The latency of the block that is not reached (low) and not passed (high) one time in twenty each: a 90 % interval. */
struct interval {
    double low_s, high_s;
};

/* Every resource runs at its rate times exp(spread * z), with one standard normal z a resource and run, independent of the others; the
 * quantiles are those of INTERVAL_DRAWS such runs of the table, always the same draws. false, and zeros, if no resource that is used
 * has a known spread. Includes only what the profile says of its rates: not what the model leaves out. */
#define INTERVAL_DRAWS 1000
double resource_spread(const struct hardware *hw, int resource);
void resource_set_spread(struct hardware *hw, int resource, double spread);
/* Standard normal; `state` is the seed, and moves on. */
double draw_normal(uint64_t *state);
/* Sorts n >= 1 values and takes their 5 % and 95 % quantiles. */
struct interval interval_of(double *value, int n);
bool cost_interval(const struct cost *c, const struct hardware *hw, const double fraction[CLASS_COUNT][TIERS_MAX],
                   struct interval *out);
/* The same quantiles of the throughput of one policy over that of another, each with draws of its own: spreads of a fit are mostly the scatter of
 * single runs, which two policies do not share. false: as above. */
bool cost_gain_interval(const struct cost *from, const double from_fraction[CLASS_COUNT][TIERS_MAX], const struct cost *to,
                        const double to_fraction[CLASS_COUNT][TIERS_MAX], const struct hardware *hw, double *low, double *high);

#endif
