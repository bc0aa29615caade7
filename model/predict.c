/* predict.c - reads a cost table (cost.h): rows, step times, a prediction. */
#include "model/cost.h"

#include <math.h>
#include <string.h>

/* -- the table's rows --------------------------------------------------------------------------------------------------- */

int cost_stages(const struct cost *c)
{
    return c->n_stages > 0 && c->overlap ? c->n_stages : 1;
}

double cost_stage_times(const struct cost *c, int stage)
{
    return c->n_stages > 0 && c->overlap ? c->stage_times[stage] : 1;
}

int cost_rows(const struct cost *c)
{
    return c->overlap ? c->n_resources + c->n_contentions + c->n_rings : 1;
}

static bool has_page_cache(const struct cost *c, enum phase ph, int resource)
{
    return ph == PHASE_DECODE && c->page_cache_s > 0 && resource == resource_link_read(c->n_tiers - 2);
}

/* How much of its busy time the disk keeps when the page cache serves what it can. */
static double page_cache_leaves(const struct cost *c, enum phase ph, int resource, const double fraction[CLASS_COUNT][TIERS_MAX])
{
    double busy = has_page_cache(c, ph, resource) ? form_at(&c->busy[ph][resource], fraction) : 0;
    return busy > 0 ? fmax(0, 1 - c->page_cache_s / busy) : 1;
}

void cost_row(const struct cost *c, enum phase ph, int stage, int row, struct form *out)
{
    const struct form *busy = c->n_stages > 0 && c->overlap ? c->stage[ph][stage] : c->busy[ph];
    const int slot = c->overlap ? row - c->n_resources - c->n_contentions : -1;
    *out = (struct form){0};
    for (int r = 0; slot >= 0 && r < c->n_resources; r++) {
        form_add(out, &c->ring[ph][slot][r], 1, c->n_tiers);
        if (has_page_cache(c, ph, r) && c->ring[ph][slot][r].coef[CLASS_WEIGHT][c->n_tiers - 1] > 0)
            out->base -= c->page_cache_s;
    }
    if (slot >= 0)
        return;
    for (int r = 0; r < c->n_resources; r++) {
        bool alone = c->overlap && row < c->n_resources;
        double share = alone ? row == r : c->overlap ? c->share[row - c->n_resources][r] : 1;
        if (share > 0)
            form_add(out, &busy[r], share, c->n_tiers);
        if (has_page_cache(c, ph, r) && cost_stages(c) == 1)
            out->base -= share * c->page_cache_s;
    }
    for (int i = 0; c->overlap && i < c->n_fills; i++)
        if (c->fill[i].phase == (int)ph && c->fill[i].stage == stage && c->fill[i].row == row)
            form_add(out, &c->fill[i].s, 1, c->n_tiers);
}

double cost_stage_busy_s(const struct cost *c, enum phase ph, int stage, int resource,
                         const double fraction[CLASS_COUNT][TIERS_MAX])
{
    const struct form *busy = c->n_stages > 0 && c->overlap ? &c->stage[ph][stage][resource] : &c->busy[ph][resource];
    return form_at(busy, fraction) * page_cache_leaves(c, ph, resource, fraction);
}

double cost_resource_weight(const struct cost *c, int resource, const double weight[COST_ROWS_MAX])
{
    double sum = c->overlap ? weight[resource] : weight[0];
    for (int g = 0; c->overlap && g < c->n_contentions; g++)
        sum += c->share[g][resource] * weight[c->n_resources + g];
    return sum;
}

static double row_fill_s(const struct cost *c, enum phase ph, int stage, int row, const double fraction[CLASS_COUNT][TIERS_MAX],
                         const double slow[RESOURCES_MAX])
{
    double sum = 0;
    for (int i = 0; i < c->n_fills; i++)
        if (c->fill[i].phase == (int)ph && c->fill[i].stage == stage && c->fill[i].row == row)
            sum += form_at(&c->fill[i].s, fraction) * (slow ? slow[c->fill[i].cause] : 1);
    return sum;
}

static double slot_s(const struct cost *c, enum phase ph, int slot, const double fraction[CLASS_COUNT][TIERS_MAX],
                     const double slow[RESOURCES_MAX])
{
    double sum = 0;
    for (int r = 0; r < c->n_resources; r++)
        sum += form_at(&c->ring[ph][slot][r], fraction) * page_cache_leaves(c, ph, r, fraction) * (slow ? slow[r] : 1);
    return sum;
}

double cost_fill_s(const struct cost *c, enum phase ph, int stage, int resource, const double fraction[CLASS_COUNT][TIERS_MAX],
                   const double weight[COST_ROWS_MAX])
{
    double sum = 0;
    for (int i = 0; c->overlap && i < c->n_fills; i++)
        if (c->fill[i].phase == (int)ph && c->fill[i].stage == stage && c->fill[i].cause == resource)
            sum += form_at(&c->fill[i].s, fraction) * weight[c->fill[i].row];
    for (int j = 0; c->overlap && j < c->n_rings; j++)
        sum += form_at(&c->ring[ph][j][resource], fraction) * page_cache_leaves(c, ph, resource, fraction) *
               weight[c->n_resources + c->n_contentions + j];
    return sum;
}

double cost_step_s(const struct cost *c, enum phase ph, const double fraction[CLASS_COUNT][TIERS_MAX],
                   const double slow[RESOURCES_MAX])
{
    double step = 0;
    for (int stage = 0; stage < cost_stages(c); stage++) {
        double busy[RESOURCES_MAX], most = 0, sum = 0;
        for (int r = 0; r < c->n_resources; r++) {
            busy[r] = cost_stage_busy_s(c, ph, stage, r, fraction) * (slow ? slow[r] : 1);
            most = fmax(most, busy[r] + row_fill_s(c, ph, stage, r, fraction, slow));
            sum += busy[r];
        }
        for (int g = 0; g < c->n_contentions; g++) {
            double shared = 0;
            for (int r = 0; r < c->n_resources; r++)
                shared += c->share[g][r] * busy[r];
            most = fmax(most, shared);
        }
        for (int j = 0; j < c->n_rings; j++)
            most = fmax(most, slot_s(c, ph, j, fraction, slow));
        step += cost_stage_times(c, stage) * (c->overlap ? most : sum);
    }
    return step;
}

void cost_predict(const struct cost *c, const double fraction[CLASS_COUNT][TIERS_MAX], struct prediction *out)
{
    double phase_s[PHASE_COUNT];
    memset(out, 0, sizeof *out);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int r = 0; r < c->n_resources; r++) {
            out->busy_s[ph][r] =
                c->steps[ph] * form_at(&c->busy[ph][r], fraction) * page_cache_leaves(c, (enum phase)ph, r, fraction);
            if (out->busy_s[ph][r] > out->busy_s[ph][out->bound_by[ph]])
                out->bound_by[ph] = r;
        }
        phase_s[ph] = c->steps[ph] * cost_step_s(c, (enum phase)ph, fraction, NULL);
        for (int t = 0; t < c->n_tiers; t++)
            out->peak_bytes[ph][t] = form_at(&c->peak[ph][t], fraction);
    }
    out->prefill_s = phase_s[PHASE_PREFILL];
    out->decode_s = phase_s[PHASE_DECODE];
    out->latency_s = out->prefill_s + out->decode_s;
    out->throughput_tok_s = out->latency_s > 0 ? c->tokens / out->latency_s : 0;
}
