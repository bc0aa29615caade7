#include "model/shorten.h"

#include <math.h>

#include "model/cost.h"
#include "model/placement.h"

#define DECIMALS_MAX 8
#define NEAR         1e-4
#define SLOWER       2e-5

/* How what is rounded off is given out. */
enum rounding { NEAREST, DOWN_REST_ABOVE, DOWN_REST_TO_DISK, ROUNDINGS };

static int last_used(const double *fraction, int n_tiers)
{
    int t = n_tiers - 1;
    while (t > 0 && fraction[t] <= 0)
        t--;
    return t;
}

/* p's fractions in percent with so many decimals. The last tier in use, or the disk, has the rest. */
static struct policy with_decimals(const struct policy *p, int n_tiers, int decimals, enum rounding how)
{
    struct policy q = *p;
    const double unit = pow(10, decimals);
    for (int c = 0; c < CLASS_COUNT; c++) {
        int rest_at = how == DOWN_REST_TO_DISK ? n_tiers - 1 : last_used(p->fraction[c], n_tiers);
        double rest = 100 * unit; /* whole numbers until a percentage is read from them */
        for (int t = 0; t < n_tiers; t++) {
            double x = 100 * p->fraction[c][t] * unit, whole = fmin(how == NEAREST ? round(x) : floor(x), rest);
            q.fraction[c][t] = t == rest_at ? 0 : whole / unit / 100;
            rest -= t == rest_at ? 0 : whole;
        }
        q.fraction[c][rest_at] = rest / unit / 100;
    }
    return q;
}

static bool are_near(const struct placement *x, const struct placement *y)
{
    bool all = true;
    for (int c = 0; c < CLASS_COUNT; c++)
        for (int t = 0; t < x->n_tiers; t++)
            all &= fabs(x->realised[c][t] - y->realised[c][t]) <= NEAR;
    return all;
}

static double latency_s(const struct cost *c, const struct placement *pl)
{
    struct prediction p;
    cost_predict(c, (const double(*)[TIERS_MAX])pl->realised, &p);
    return p.latency_s;
}

enum status policy_shorten(const struct arch *a, const struct hardware *hw, const struct workload *w, double max_latency_s,
                           struct policy *p, struct error *err)
{
    struct placement exact = {0}, other;
    struct cost cost;
    double most_s = 0;
    bool found = false;
    enum status s = cost_build(&cost, a, hw, w, p, err);
    if (s == STATUS_OK)
        s = placement_new(&exact, a, hw, w, p, err);
    if (s == STATUS_OK)
        most_s = fmin(latency_s(&cost, &exact) * (1 + SLOWER), max_latency_s > 0 ? max_latency_s : INFINITY);
    for (int i = 0; i < (DECIMALS_MAX + 1) * ROUNDINGS && !found && s == STATUS_OK; i++) {
        struct policy q = with_decimals(p, exact.n_tiers, i / ROUNDINGS, (enum rounding)(i % ROUNDINGS));
        s = placement_new(&other, a, hw, w, &q, err);
        if (s != STATUS_OK)
            break;
        found = are_near(&exact, &other) && placement_check(&other, hw, NULL) == STATUS_OK && latency_s(&cost, &other) <= most_s;
        *p = found ? q : *p;
        placement_free(&other);
    }
    placement_free(&exact);
    return s;
}
