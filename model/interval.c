#include "model/interval.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/mix.h"

static double uniform(uint64_t *state)
{
    return ((double)(mix64(*state += MIX_STEP) >> 11) + 0.5) * 0x1p-53;
}

/* Box and Muller; the second of the pair is left. */
double draw_normal(uint64_t *state)
{
    double u = uniform(state), v = uniform(state);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static double *spread_of(struct hardware *hw, int resource)
{
    int links = hw->n_tiers - 1;
    if (resource >= 2 * links)
        return &hw->compute[resource - 2 * links].spread;
    return resource % 2 ? &hw->link[resource / 2].write_spread : &hw->link[resource / 2].read_spread;
}

double resource_spread(const struct hardware *hw, int resource)
{
    return *spread_of((struct hardware *)hw, resource); /* only read */
}

void resource_set_spread(struct hardware *hw, int resource, double spread)
{
    *spread_of(hw, resource) = spread;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct interval interval_of(double *value, int n)
{
    qsort(value, (size_t)n, sizeof *value, ascending);
    return (struct interval){value[n / 20], value[n - 1 - n / 20]};
}

/* Latencies on INTERVAL_DRAWS machines; false: no resource that is used has a known spread. */
static bool draw_latencies(const struct cost *c, const struct hardware *hw, const double fraction[CLASS_COUNT][TIERS_MAX],
                           uint64_t seed, double total_s[INTERVAL_DRAWS])
{
    uint64_t state = seed;
    bool known = false;
    for (int ph = 0; ph < PHASE_COUNT; ph++)
        for (int r = 0; r < c->n_resources; r++)
            known |= c->steps[ph] > 0 && form_at(&c->busy[ph][r], fraction) > 0 && resource_spread(hw, r) > 0;
    for (int i = 0; i < INTERVAL_DRAWS && known; i++) {
        double slow[RESOURCES_MAX];
        for (int r = 0; r < c->n_resources; r++)
            slow[r] = resource_spread(hw, r) > 0 ? exp(resource_spread(hw, r) * draw_normal(&state)) : 1;
        total_s[i] = 0;
        for (int ph = 0; ph < PHASE_COUNT; ph++)
            total_s[i] += c->steps[ph] * cost_step_s(c, (enum phase)ph, fraction, NULL, slow);
    }
    return known;
}

bool cost_interval(const struct cost *c, const struct hardware *hw, const double fraction[CLASS_COUNT][TIERS_MAX],
                   struct interval *out)
{
    double total_s[INTERVAL_DRAWS];
    *out = (struct interval){0, 0};
    if (!draw_latencies(c, hw, fraction, 1, total_s))
        return false;
    *out = interval_of(total_s, INTERVAL_DRAWS);
    return true;
}

bool cost_gain_interval(const struct cost *from, const double from_fraction[CLASS_COUNT][TIERS_MAX], const struct cost *to,
                        const double to_fraction[CLASS_COUNT][TIERS_MAX], const struct hardware *hw, double *low, double *high)
{
    double before_s[INTERVAL_DRAWS], after_s[INTERVAL_DRAWS];
    if (!draw_latencies(from, hw, from_fraction, 1, before_s) || !draw_latencies(to, hw, to_fraction, 2, after_s))
        return false;
    for (int i = 0; i < INTERVAL_DRAWS; i++)
        after_s[i] = to->tokens / after_s[i] / (from->tokens / before_s[i]);
    struct interval gain = interval_of(after_s, INTERVAL_DRAWS);
    *low = gain.low_s;
    *high = gain.high_s;
    return true;
}
