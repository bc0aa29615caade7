#include "solver/binding.h"

#include <math.h>
#include <stdio.h>

#include "solver/point.h"

/* Gains are small parts of the throughput: proven closer than a plan needs to be. */
#define REPLAN_TOLERANCE 1e-6
#define FACTOR_EXACT     1e-4
#define SHARE_STEP       1e-3
#define THINGS_MAX       (TIERS_MAX + RESOURCES_MAX)

struct hardware hardware_with(const struct hardware *hw, int index, double factor)
{
    struct hardware more = *hw;
    const int resource = index - hw->n_tiers, links = hw->n_tiers - 1;
    char text[96], name[40];

    if (resource < 0) {
        more.tier[index].capacity_bytes = (int64_t)(factor * (double)hw->tier[index].capacity_bytes);
        return more;
    }
    snprintf(text, sizeof(text), "%s=%.17g",
             resource < 2 * links ? resource_name(hw, resource, name) : hw->compute[resource - 2 * links].name, factor);
    hardware_scale(&more, text, NULL); /* the name is the machine's own */
    return more;
}

enum status relaxed_optimum(const struct arch *a, const struct hardware *hw, const struct workload *w,
                            const struct search_options *o, double *out_tok_s, struct error *err)
{
    struct search_options relaxed = *o;
    struct plan p;
    enum status status;

    relaxed.realise = NULL;
    relaxed.tolerance = REPLAN_TOLERANCE;
    status = search(a, hw, w, &relaxed, &p, err);
    *out_tok_s = p.relaxed_throughput_tok_s;
    return status;
}

/* What is asked again and again: the plan's point on other machines. */
struct question {
    const struct arch *a;
    const struct workload *w;
    const struct search_options *o;
    const struct policy *policy;
};

static enum status throughput_on(const struct question *q, const struct hardware *hw, double *tok_s, struct error *err)
{
    struct problem pr;
    struct point pt = {.policy = *q->policy};
    enum status status = problem_new(&pr, q->a, hw, q->w, q->o, err);

    if (status == STATUS_OK)
        status = point_build(&pr, &pt, err);
    if (status == STATUS_OK)
        status = point_solve(&pr, &pt, err);
    problem_free(&pr);
    *tok_s = pt.relaxed_throughput_tok_s;
    return status;
}

/* Shares by a small step and not from the LP's prices: a unit's price counts launches and look-ups too, which its rate does not change. */
static enum status shares_on(const struct question *q, const struct hardware *hw, double share[THINGS_MAX], double *tok_s,
                             struct error *err)
{
    enum status status = throughput_on(q, hw, tok_s, err);

    for (int i = 0; i < hw->n_tiers + resource_count(hw) && status == STATUS_OK; i++) {
        const struct hardware more = hardware_with(hw, i, 1 + SHARE_STEP);
        double more_tok_s;
        status = throughput_on(q, &more, &more_tok_s, err);
        share[i] = (more_tok_s / *tok_s - 1) / SHARE_STEP;
    }
    return status;
}

static int largest(const double share[THINGS_MAX], int n, int but)
{
    int best = -1;

    for (int i = 0; i < n; i++)
        if (i != but && (best < 0 || share[i] > share[best]))
            best = i;
    return best;
}

/* The share of the first falls as there is more of it, by and large; bisection finds a factor at which another one's becomes larger. */
enum status binding_find(const struct arch *a, const struct hardware *hw, const struct workload *w,
                         const struct search_options *o, const struct plan *p, struct binding *out, struct error *err)
{
    const struct question q = {.a = a, .w = w, .o = o, .policy = &p->policy};
    const int n = hw->n_tiers + resource_count(hw);
    double share[THINGS_MAX], low = 1, high = BINDING_FACTOR_MAX, tok_s;
    struct hardware more;
    enum status status = shares_on(&q, hw, share, &tok_s, err);

    if (status != STATUS_OK)
        return status;
    *out = (struct binding){.first = largest(share, n, -1), .second = -1, .factor = high};
    out->first_share = share[out->first];
    more = hardware_with(hw, out->first, high);
    status = shares_on(&q, &more, share, &tok_s, err);
    if (status != STATUS_OK || largest(share, n, -1) == out->first)
        return status;
    while (high / low > 1 + FACTOR_EXACT && status == STATUS_OK) {
        const double middle = sqrt(low * high);
        more = hardware_with(hw, out->first, middle);
        status = shares_on(&q, &more, share, &tok_s, err);
        if (largest(share, n, -1) == out->first)
            low = middle;
        else
            high = middle;
    }
    more = hardware_with(hw, out->first, high);
    if (status == STATUS_OK)
        status = shares_on(&q, &more, share, &out->tok_s, err);
    if (status != STATUS_OK)
        return status;
    out->factor = high;
    out->second = largest(share, n, out->first);
    out->second_share = share[out->second];
    return relaxed_optimum(a, &more, w, o, &out->replanned_tok_s, err);
}
