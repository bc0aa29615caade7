#include "solver/binding.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "solver/point.h"

/* Gains are small parts of the throughput: proven closer than a plan needs to be. */
#define REPLAN_TOLERANCE 1e-6
/* Many more than a plan takes: where so many blocks are as good, by less than the gains. */
#define REPLAN_BOXES     20000
/* A hundredth more of a thing: the step of a share. */
#define MORE             1.01
/* Steps of the walk that cannot be shorter, by ratio. */
#define FACTOR_EXACT     1e-4
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
    relaxed.max_boxes = REPLAN_BOXES;
    status = search(a, hw, w, &relaxed, &p, err);
    *out_tok_s = p.given_up ? NAN : p.relaxed_throughput_tok_s;
    return status;
}

/* -- what is asked again and again: the plan's point on other machines ----------------------------------------------------- */

struct question {
    const struct hardware *hw;
    int first; /* the thing that there is more of; -1: not known yet */
    struct problem pr;
    struct point pt;
};

static enum status throughput_with(void *arg, double factor, int more, double *tok_s, struct error *err)
{
    struct question *q = arg;
    struct hardware hw = q->first < 0 ? *q->hw : hardware_with(q->hw, q->first, factor);
    enum status status;

    if (more >= 0)
        hw = hardware_with(&hw, more, MORE);
    q->pr.hw = &hw;
    status = point_build(&q->pr, &q->pt, err);
    if (status == STATUS_OK)
        status = point_solve(&q->pr, &q->pt, err);
    *tok_s = q->pt.relaxed_throughput_tok_s;
    return status;
}

/* Throughputs with a percent more of each of n things, and with none (at [n]). Not from the LP's prices: a unit's price counts launches and
 * look-ups too, which its rate does not change. */
static enum status gains_at(throughput_fn *f, void *arg, double factor, int n, double tok_s[THINGS_MAX + 1], struct error *err)
{
    enum status status = f(arg, factor, -1, &tok_s[n], err);

    for (int i = 0; i < n && status == STATUS_OK; i++)
        status = f(arg, factor, i, &tok_s[i], err);
    return status;
}

static int largest(const double tok_s[THINGS_MAX + 1], int n, int but)
{
    int best = -1;

    for (int i = 0; i < n; i++)
        if (i != but && (best < 0 || tok_s[i] > tok_s[best]))
            best = i;
    return best;
}

static double share(const double tok_s[THINGS_MAX + 1], int n, int i)
{
    return (tok_s[i] / tok_s[n] - 1) / (MORE - 1);
}

/* How far the first can be seen to lead: others gain as the throughput grows, by its share. */
static double step_from(const double tok_s[THINGS_MAX + 1], int n, int first)
{
    const double lead = tok_s[first] / tok_s[largest(tok_s, n, first)] - 1, grows = share(tok_s, n, first);

    return grows > 0 ? fmax(FACTOR_EXACT, 0.9 * lead / grows) : BINDING_FACTOR_MAX;
}

/* No throughput falls when there is more of something. So where the first gains at `low` at least what another gains at `high`, it leads by all in
 * between, and where that cannot be shown the step is halved. */
enum status binding_walk(throughput_fn *f, void *arg, int n, int first, double *factor, int *second, struct error *err)
{
    double at[THINGS_MAX + 1], next[THINGS_MAX + 1], low = 1, step;
    enum status status = gains_at(f, arg, low, n, at, err);

    *second = -1;
    *factor = BINDING_FACTOR_MAX;
    step = status == STATUS_OK ? step_from(at, n, first) : 0;
    while (status == STATUS_OK && low < BINDING_FACTOR_MAX) {
        const double high = fmin(low * (1 + step), BINDING_FACTOR_MAX);
        int best;
        status = gains_at(f, arg, high, n, next, err);
        best = largest(next, n, first);
        if (status == STATUS_OK && at[first] < next[best] && step > FACTOR_EXACT) {
            step = fmax(FACTOR_EXACT, step / 2);
            continue;
        }
        if (status == STATUS_OK && next[first] < next[best]) {
            *factor = high;
            *second = best;
            break;
        }
        low = high;
        memcpy(at, next, sizeof(at));
        step = step_from(at, n, first);
    }
    return status;
}

enum status binding_find(const struct arch *a, const struct hardware *hw, const struct workload *w,
                         const struct search_options *o, const struct plan *p, struct binding *out, struct error *err)
{
    const int n = hw->n_tiers + resource_count(hw);
    struct question q = {.hw = hw, .first = -1, .pt = {.policy = p->policy}};
    double tok_s[THINGS_MAX + 1];
    enum status status = problem_new(&q.pr, a, hw, w, o, err);

    *out = (struct binding){.second = -1};
    if (status == STATUS_OK)
        status = gains_at(throughput_with, &q, 1, n, tok_s, err);
    if (status == STATUS_OK) {
        out->first = q.first = largest(tok_s, n, -1);
        out->first_share = share(tok_s, n, out->first);
        status = binding_walk(throughput_with, &q, n, out->first, &out->factor, &out->second, err);
    }
    if (status == STATUS_OK && out->second >= 0) {
        const struct hardware more = hardware_with(hw, out->first, out->factor);
        status = gains_at(throughput_with, &q, out->factor, n, tok_s, err);
        out->tok_s = tok_s[n];
        out->second_share = share(tok_s, n, out->second);
        if (status == STATUS_OK)
            status = relaxed_optimum(a, &more, w, o, &out->replanned_tok_s, err);
    }
    problem_free(&q.pr);
    return status;
}
