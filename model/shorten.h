/* shorten.h - the percentages of a policy in few digits. */
#ifndef BALLAST_MODEL_SHORTEN_H
#define BALLAST_MODEL_SHORTEN_H

#include "model/arch.h"
#include "model/hardware.h"
#include "model/policy.h"
#include "model/workload.h"

/* Replaces p->fraction by the percentages with the fewest decimals, up to eight, that fit, place every class within 1e-4 of where p does and take
 * no longer than p by more than two parts in 10^5, nor than max_latency_s (0: none), as predicted; if there are none p stays. */
enum status policy_shorten(const struct arch *a, const struct hardware *hw, const struct workload *w, double max_latency_s,
                           struct policy *p, struct error *err);

#endif
