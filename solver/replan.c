#include "solver/replan.h"

#include <math.h>

#include "solver/binding.h"

/* One more unit of what price `index` is of. */
static struct hardware with_one_more(const struct hardware *hw, int index)
{
    const int resource = index - hw->n_tiers, links = hw->n_tiers - 1;

    if (resource < 0) {
        const double bytes = (double)hw->tier[index].capacity_bytes;
        return hardware_with(hw, index, (bytes + (double)(1LL << 30)) / bytes);
    }
    if (resource >= 2 * links)
        return hardware_with(hw, index, 1.01);
    const struct link *link = &hw->link[resource / 2];
    const struct curve *rate = resource % 2 ? &link->write_bytes_per_s : &link->read_bytes_per_s;
    return hardware_with(hw, index, (rate->y[rate->n - 1] + 1e9) / rate->y[rate->n - 1]);
}

enum status replan_prices(const struct arch *a, const struct hardware *hw, const struct workload *w,
                          const struct search_options *o, struct plan *p, struct error *err)
{
    double before_tok_s, after_tok_s;
    enum status status = relaxed_optimum(a, hw, w, o, &before_tok_s, err);

    for (int i = 0; i < p->n_prices && isnan(before_tok_s); i++)
        p->price[i].replanned = NAN;
    for (int i = 0; i < p->n_prices && status == STATUS_OK && !isnan(before_tok_s); i++) {
        const struct hardware more = with_one_more(hw, i);
        status = relaxed_optimum(a, &more, w, o, &after_tok_s, err);
        p->price[i].replanned = after_tok_s - before_tok_s;
    }
    return status;
}
