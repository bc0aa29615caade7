#include "executor/profile_rounds.h"

#include <math.h>
#include <stdio.h>

void curve_add(struct curve *c, double x, double y)
{
    if (c->n < CURVE_MAX && y > 0) {
        c->x[c->n] = x;
        c->y[c->n++] = y;
    }
}

void rate_blend(double *mean, double rate, int round)
{
    *mean = round == 0 || *mean <= 0 ? rate : (round + 1) / (round / *mean + 1 / rate);
}

void curve_blend(struct curve *mean, const struct curve *one, int round)
{
    if (round == 0)
        *mean = *one;
    for (int i = 0; i < mean->n; i++)
        rate_blend(&mean->y[i], one->y[i], round);
}

void tally_count(struct tally *t, double rate)
{
    t->n++;
    t->sum += log(rate);
    t->squares += log(rate) * log(rate);
    t->range.low = t->n == 1 || rate < t->range.low ? rate : t->range.low;
    t->range.high = rate > t->range.high ? rate : t->range.high;
}

double tally_variance(const struct tally *t)
{
    double v = t->n > 1 ? (t->squares - t->sum * t->sum / t->n) / (t->n - 1) : 0;
    return v > 0 ? v : 0; /* round-off */
}

double curve_level(const struct curve *c, double least)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (c->x[i] >= least) {
            sum += log(c->y[i]);
            n++;
        }
    return n > 0 ? exp(sum / n) : 1;
}

void contention_of_pair(struct hardware *hw, const char *name, int resource, int other, double at_once)
{
    if (at_once >= 2 || at_once <= 0)
        return;
    struct contention *c = &hw->contention[hw->n_contentions++];
    snprintf(c->name, sizeof c->name, "%s", name);
    c->share[resource] = c->share[other] = at_once > 1 ? 1 / at_once : 1;
}
