#include "solver/replan.h"

#include <stdio.h>

/* Gains are small parts of the throughput: proven closer than a plan needs to be. */
#define REPLAN_TOLERANCE 1e-6

/* One more unit of what price `index` is of: tiers first, then resources, as search() lists them. */
static struct hardware with_one_more(const struct hardware *hw, int index)
{
    struct hardware more = *hw;
    const int resource = index - hw->n_tiers, links = hw->n_tiers - 1;
    char text[96], name[40];

    if (resource < 0) {
        more.tier[index].capacity_bytes += 1LL << 30;
        return more;
    }
    if (resource >= 2 * links) {
        snprintf(text, sizeof(text), "%s=1.01", hw->compute[resource - 2 * links].name);
    } else {
        const struct link *link = &hw->link[resource / 2];
        const struct curve *rate = resource % 2 ? &link->write_bytes_per_s : &link->read_bytes_per_s;
        const double last = rate->y[rate->n - 1];
        snprintf(text, sizeof(text), "%s=%.17g", resource_name(hw, resource, name), (last + 1e9) / last);
    }
    hardware_scale(&more, text, NULL); /* the name is the machine's own */
    return more;
}

static enum status relaxed_optimum(const struct arch *a, const struct hardware *hw, const struct workload *w,
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

enum status replan_prices(const struct arch *a, const struct hardware *hw, const struct workload *w,
                          const struct search_options *o, struct plan *p, struct error *err)
{
    double before_tok_s, after_tok_s;
    enum status status = relaxed_optimum(a, hw, w, o, &before_tok_s, err);

    for (int i = 0; i < p->n_prices && status == STATUS_OK; i++) {
        const struct hardware more = with_one_more(hw, i);
        status = relaxed_optimum(a, &more, w, o, &after_tok_s, err);
        p->price[i].replanned = after_tok_s - before_tok_s;
    }
    return status;
}
