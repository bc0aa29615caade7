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
    return c->overlap ? c->n_resources + c->n_contentions + c->n_chains : 1;
}

/* How much a resource counts in a row of resources: the row is its own, a group's, or without overlap the only one. */
static double row_share(const struct cost *c, int row, int resource)
{
    if (!c->overlap)
        return 1;
    return row < c->n_resources ? row == resource : c->share[row - c->n_resources][resource];
}

/* The chain that a row is about; -1: none. */
static int row_chain(const struct cost *c, int row)
{
    return c->overlap ? row - c->n_resources - c->n_contentions : -1;
}

static const struct form *stage_busy(const struct cost *c, enum phase ph, int stage)
{
    return c->n_stages > 0 && c->overlap ? c->stage[ph][stage] : c->busy[ph];
}

/* The fill of a row after `f`, or its first after NULL; NULL: no more. */
static const struct fill *next_fill(const struct cost *c, enum phase ph, int stage, int row, const struct fill *f)
{
    const struct fill *end = c->overlap ? c->fill + c->n_fills : c->fill;
    for (f = f ? f + 1 : c->fill; f < end; f++)
        if (f->phase == (int)ph && f->stage == stage && f->row == row)
            return f;
    return NULL;
}

void cost_row(const struct cost *c, enum phase ph, int stage, int row, struct form *out)
{
    const int chain = row_chain(c, row);
    *out = (struct form){0};
    for (int r = 0; r < c->n_resources; r++) {
        double share = chain >= 0 ? 1 : row_share(c, row, r);
        if (share > 0)
            form_add(out, chain >= 0 ? &c->chain[ph][chain][r] : &stage_busy(c, ph, stage)[r], share, c->n_tiers);
    }
    for (const struct fill *f = NULL; (f = next_fill(c, ph, stage, row, f));)
        form_add(out, &f->s, 1, c->n_tiers);
}

/* -- the page cache ------------------------------------------------------------------------------------------------------- */

static int disk_read(const struct cost *c)
{
    return resource_link_read(c->n_tiers - 2);
}

/* In a stage of a decode step, all of a class; without overlap the stage is the step. */
static double stage_disk_s(const struct cost *c, enum phase ph, int stage, int cls)
{
    double sum = 0;
    if (ph != PHASE_DECODE || c->page_cache_s <= 0)
        return 0;
    if (c->n_stages == 0 || c->overlap)
        return c->disk_s[stage][cls];
    for (int k = 0; k < c->n_stages; k++)
        sum += c->stage_times[k] * c->disk_s[k][cls];
    return sum;
}

/* Of a chain. */
static double chain_disk_s(const struct cost *c, enum phase ph, int chain, int cls)
{
    return ph == PHASE_DECODE && c->page_cache_s > 0 ? c->chain[ph][chain][disk_read(c)].coef[cls][c->n_tiers - 1] : 0;
}

double cost_cached_s(const struct cost *c, int cls)
{
    double sum = 0;
    for (int k = 0; k < cost_stages(c); k++)
        sum += cost_stage_times(c, k) * stage_disk_s(c, PHASE_DECODE, k, cls);
    return sum;
}

void cost_row_saved(const struct cost *c, enum phase ph, int stage, int row, double saved_s[CLASS_COUNT])
{
    const int chain = row_chain(c, row);
    for (int cl = 0; cl < CLASS_COUNT; cl++)
        saved_s[cl] =
            chain >= 0 ? chain_disk_s(c, ph, chain, cl) : row_share(c, row, disk_read(c)) * stage_disk_s(c, ph, stage, cl);
}

void cost_cached_evenly(const struct cost *c, const double fraction[CLASS_COUNT][TIERS_MAX], double cached[CLASS_COUNT])
{
    double reads_s = 0;
    for (int cl = 0; cl < CLASS_COUNT && c->page_cache_s > 0; cl++)
        reads_s += cost_cached_s(c, cl) * fraction[cl][c->n_tiers - 1];
    for (int cl = 0; cl < CLASS_COUNT; cl++)
        cached[cl] = fraction[cl][c->n_tiers - 1] * (reads_s > c->page_cache_s ? c->page_cache_s / reads_s : 1);
}

/* -- the rows at a placement ------------------------------------------------------------------------------------------------ */

double cost_stage_busy_s(const struct cost *c, enum phase ph, int stage, int resource,
                         const double fraction[CLASS_COUNT][TIERS_MAX], const double cached[CLASS_COUNT])
{
    double s = form_at(&stage_busy(c, ph, stage)[resource], fraction);
    for (int cl = 0; cl < CLASS_COUNT && resource == disk_read(c); cl++)
        s -= stage_disk_s(c, ph, stage, cl) * cached[cl];
    return fmax(0, s);
}

static double chain_busy_s(const struct cost *c, enum phase ph, int chain, int resource,
                           const double fraction[CLASS_COUNT][TIERS_MAX], const double cached[CLASS_COUNT])
{
    double s = form_at(&c->chain[ph][chain][resource], fraction);
    for (int cl = 0; cl < CLASS_COUNT && resource == disk_read(c); cl++)
        s -= chain_disk_s(c, ph, chain, cl) * cached[cl];
    return fmax(0, s);
}

double cost_resource_weight(const struct cost *c, int resource, const double weight[COST_ROWS_MAX])
{
    const int n = c->overlap ? c->n_resources + c->n_contentions : 1;
    double sum = 0;
    for (int row = 0; row < n; row++)
        sum += row_share(c, row, resource) * weight[row];
    return sum;
}

double cost_fill_s(const struct cost *c, enum phase ph, int stage, int resource, const double fraction[CLASS_COUNT][TIERS_MAX],
                   const double cached[CLASS_COUNT], const double weight[COST_ROWS_MAX])
{
    double sum = 0;
    for (int i = 0; c->overlap && i < c->n_fills; i++)
        if (c->fill[i].phase == (int)ph && c->fill[i].stage == stage && c->fill[i].cause == resource)
            sum += form_at(&c->fill[i].s, fraction) * weight[c->fill[i].row];
    for (int j = 0; c->overlap && j < c->n_chains; j++)
        sum += chain_busy_s(c, ph, j, resource, fraction, cached) * weight[c->n_resources + c->n_contentions + j];
    return sum;
}

/* The longest row of a stage, by the busy times of the resources. */
static double longest_row_s(const struct cost *c, enum phase ph, int stage, const double busy_s[RESOURCES_MAX],
                            const double fraction[CLASS_COUNT][TIERS_MAX], const double cached[CLASS_COUNT],
                            const double slow[RESOURCES_MAX])
{
    double most = 0;
    for (int row = 0; row < cost_rows(c); row++) {
        const int chain = row_chain(c, row);
        double sum = 0;
        for (int r = 0; r < c->n_resources; r++)
            sum += chain >= 0 ? chain_busy_s(c, ph, chain, r, fraction, cached) * (slow ? slow[r] : 1)
                              : row_share(c, row, r) * busy_s[r];
        for (const struct fill *f = NULL; (f = next_fill(c, ph, stage, row, f));)
            sum += form_at(&f->s, fraction) * (slow ? slow[f->cause] : 1);
        most = fmax(most, sum);
    }
    return most;
}

double cost_step_s(const struct cost *c, enum phase ph, const double fraction[CLASS_COUNT][TIERS_MAX],
                   const double cached[CLASS_COUNT], const double slow[RESOURCES_MAX])
{
    double step = 0, evenly[CLASS_COUNT] = {0};
    if (!cached && c->page_cache_s > 0)
        cost_cached_evenly(c, fraction, evenly);
    cached = cached ? cached : evenly;
    for (int stage = 0; stage < cost_stages(c); stage++) {
        double busy_s[RESOURCES_MAX];
        for (int r = 0; r < c->n_resources; r++)
            busy_s[r] = cost_stage_busy_s(c, ph, stage, r, fraction, cached) * (slow ? slow[r] : 1);
        step += cost_stage_times(c, stage) * longest_row_s(c, ph, stage, busy_s, fraction, cached, slow);
    }
    return step;
}

void cost_predict(const struct cost *c, const double fraction[CLASS_COUNT][TIERS_MAX], struct prediction *out)
{
    double phase_s[PHASE_COUNT], cached[CLASS_COUNT] = {0}, served_s = 0;
    memset(out, 0, sizeof *out);
    if (c->page_cache_s > 0)
        cost_cached_evenly(c, fraction, cached);
    for (int cl = 0; cl < CLASS_COUNT; cl++)
        served_s += cost_cached_s(c, cl) * cached[cl];
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int r = 0; r < c->n_resources; r++) {
            bool served = ph == PHASE_DECODE && r == disk_read(c);
            out->busy_s[ph][r] = c->steps[ph] * fmax(0, form_at(&c->busy[ph][r], fraction) - (served ? served_s : 0));
            if (out->busy_s[ph][r] > out->busy_s[ph][out->bound_by[ph]])
                out->bound_by[ph] = r;
        }
        phase_s[ph] = c->steps[ph] * cost_step_s(c, (enum phase)ph, fraction, cached, NULL);
        for (int t = 0; t < c->n_tiers; t++)
            out->peak_bytes[ph][t] = form_at(&c->peak[ph][t], fraction);
    }
    out->prefill_s = phase_s[PHASE_PREFILL];
    out->decode_s = phase_s[PHASE_DECODE];
    out->latency_s = out->prefill_s + out->decode_s;
    out->throughput_tok_s = out->latency_s > 0 ? c->tokens / out->latency_s : 0;
}
