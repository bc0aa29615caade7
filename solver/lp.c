/* lp.c - the placement LP on GLPK.
 *
 * Columns: fraction[class][tier], then t[p][stage], then one overshoot per tier (fixed at 0 except in the elastic problem), then with a page
 *          cache cached[class].
 * Rows:    one sum per class, then t[p][stage] >= each row of the stage (cost_row), then peak[p][tier] <= capacity[tier], then with a page
 *          cache cached[class] <= fraction[class][disk] and what is cached <= what is served.
 *
 * Every row is scaled to numbers around 1: times by the largest busy coefficient of the phase, bytes by the capacity or
 * the largest peak coefficient of the tier, the objective by the larger phase. GLPK's own scaling and presolver stay off, so that
 * the basis of the last table is a start for the next one.
 */
#include "solver/lp.h"

#include <assert.h>
#include <glpk.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX    (CLASS_COUNT + PHASE_COUNT * (STAGES_MAX * COST_ROWS_MAX + TIERS_MAX) + CLASS_COUNT + 1)
#define COLS_MAX    (CLASS_COUNT * TIERS_MAX + PHASE_COUNT * STAGES_MAX + TIERS_MAX + CLASS_COUNT)
#define ENTRIES_MAX (ROWS_MAX * (CLASS_COUNT * (TIERS_MAX + 1) + 2))

/* Of primal values and reduced costs. Scaled coefficients are at most about 1 and doubles carry 1e-16, so this leaves room for
 * the round-off of a 27-row basis; at 1e-11 GLPK starts to cycle. */
#define TOLERANCE      1e-9
/* Far above the few dozen that such a problem takes: stops a cycle. */
#define ITERATIONS_MAX 2000
/* Capacities are narrowed by this part, so that round-off in the fractions cannot lift a peak above its tier. */
#define CAPACITY_HAIR  1e-12
/* A fraction below this is round-off, not placement: of 1 TB it is less than a byte. */
#define FRACTION_DUST  1e-13

/* Scaled value * unit = real value. */
struct units_of_lp {
    double time_s[PHASE_COUNT], bytes[TIERS_MAX], objective_s;
};

struct lp {
    int n_tiers, n_resources, n_stages, n_rows; /* stages and rows of the table that prob was built for */
    bool has_page_cache;                        /* that table has one */
    glp_prob *prob;                             /* NULL until built, and again after GLPK gave up */
    unsigned generation;                        /* of the GLPK environment that prob belongs to */
    bool has_basis;
    int row_stat[1 + ROWS_MAX], col_stat[1 + COLS_MAX]; /* last optimal basis, index 0 unused */
    struct units_of_lp unit;
    const struct cost *table; /* borrowed during a solve, with the next three */
    const double *capacity_bytes;
    uint32_t forbid;
    const struct fraction_range *range; /* borrowed; NULL: 0 to 1 */
    bool elastic;
    int n_entries, row[1 + ENTRIES_MAX], col[1 + ENTRIES_MAX];
    double value[1 + ENTRIES_MAX];
    int outcome; /* GLP_OPT, GLP_NOFEAS or GLP_UNDEF */
};

/* -- GLPK's way to fail: it prints, calls a hook, then aborts. The hook jumps out; the environment is lost with all that is in
 * it, so a counter tells problems of the old one from the new. ------------------------------------------------------- */

static _Thread_local unsigned environment_generation;

static void jump_out(void *info)
{
    longjmp(*(jmp_buf *)info, 1);
}

static int swallow_text(void *info, const char *text)
{
    (void)info;
    (void)text;
    return 1;
}

/* Runs body(lp); -1 if GLPK gave up (no memory, a broken problem). */
static int guarded(struct lp *lp, void (*body)(struct lp *))
{
    jmp_buf on_error;

    if (glp_init_env() == 2) /* no memory; without this call GLPK would abort before there is a hook */
        return -1;
    if (setjmp(on_error)) {
        glp_free_env();
        environment_generation++;
        lp->prob = NULL;
        lp->has_basis = false;
        return -1;
    }
    glp_term_hook(swallow_text, NULL);
    glp_error_hook(jump_out, &on_error);
    body(lp);
    glp_error_hook(NULL, NULL);
    glp_term_hook(NULL, NULL);
    return 0;
}

static void forget_stale_problem(struct lp *lp)
{
    if (lp->generation != environment_generation) {
        lp->prob = NULL;
        lp->has_basis = false;
        lp->generation = environment_generation;
    }
}

/* -- numbering ------------------------------------------------------------------------------------------------------ */

static int col_fraction(const struct lp *lp, int cls, int tier)
{
    return 1 + cls * lp->n_tiers + tier;
}

static int col_time(const struct lp *lp, int phase, int stage)
{
    return 1 + CLASS_COUNT * lp->n_tiers + phase * lp->n_stages + stage;
}

static int col_overshoot(const struct lp *lp, int tier)
{
    return 1 + CLASS_COUNT * lp->n_tiers + PHASE_COUNT * lp->n_stages + tier;
}

static int col_cached(const struct lp *lp, int cls)
{
    return col_overshoot(lp, lp->n_tiers) + cls;
}

static int row_sum(int cls)
{
    return 1 + cls;
}

static int row_busy(const struct lp *lp, int phase, int stage, int row)
{
    return 1 + CLASS_COUNT + (phase * lp->n_stages + stage) * lp->n_rows + row;
}

static int row_peak(const struct lp *lp, int phase, int tier)
{
    return 1 + CLASS_COUNT + PHASE_COUNT * lp->n_stages * lp->n_rows + phase * lp->n_tiers + tier;
}

/* Of a class, and after the last class of all together. */
static int row_cached(const struct lp *lp, int cls)
{
    return row_peak(lp, PHASE_COUNT, 0) + cls;
}

static int row_count(const struct lp *lp)
{
    return row_cached(lp, 0) - 1 + (lp->has_page_cache ? CLASS_COUNT + 1 : 0);
}

static int col_count(const struct lp *lp)
{
    return col_cached(lp, 0) - 1 + (lp->has_page_cache ? CLASS_COUNT : 0);
}

/* -- loading a table ------------------------------------------------------------------------------------------------ */

static bool has_phase(const struct cost *c, int phase)
{
    return c->steps[phase] > 0;
}

static double form_size(const struct form *f, int n_tiers)
{
    double size = 0;

    for (int cls = 0; cls < CLASS_COUNT; cls++)
        for (int k = 0; k < n_tiers; k++)
            size = fmax(size, fabs(f->coef[cls][k]));
    return size;
}

/* Bytes by the capacity when that is the smaller, so that the tolerance is a part of the tier and not of the model. */
static double unit_of_tier(const struct lp *lp, int tier)
{
    double size = 0;

    for (int p = 0; p < PHASE_COUNT; p++)
        if (has_phase(lp->table, p))
            size = fmax(size, form_size(&lp->table->peak[p][tier], lp->n_tiers));
    if (size == 0)
        return fmax(1, lp->capacity_bytes[tier]);
    return fmax(fmin(size, lp->capacity_bytes[tier]), size * 1e-6);
}

static double unit_of_phase(const struct lp *lp, int phase)
{
    double size = 0;
    struct form f;

    for (int k = 0; has_phase(lp->table, phase) && k < lp->n_stages; k++)
        for (int r = 0; cost_stage_times(lp->table, k) > 0 && r < lp->n_rows; r++) {
            cost_row(lp->table, (enum phase)phase, k, r, &f);
            size = fmax(size, fmax(fabs(f.base), form_size(&f, lp->n_tiers)));
        }
    return size > 0 ? size : 1;
}

static void choose_units(struct lp *lp)
{
    const struct cost *c = lp->table;

    lp->unit = (struct units_of_lp){0};
    for (int p = 0; p < PHASE_COUNT; p++) {
        lp->unit.time_s[p] = unit_of_phase(lp, p);
        lp->unit.objective_s = fmax(lp->unit.objective_s, c->steps[p] * lp->unit.time_s[p]);
    }
    for (int k = 0; k < c->n_tiers; k++)
        lp->unit.bytes[k] = unit_of_tier(lp, k);
    lp->unit.objective_s = lp->unit.objective_s > 0 ? lp->unit.objective_s : 1;
}

static void entry(struct lp *lp, int row, int col, double value)
{
    if (value == 0)
        return;
    lp->n_entries++;
    assert(lp->n_entries <= ENTRIES_MAX);
    lp->row[lp->n_entries] = row;
    lp->col[lp->n_entries] = col;
    lp->value[lp->n_entries] = value;
}

static void entries_of_form(struct lp *lp, int row, const struct form *f, double unit)
{
    for (int cls = 0; cls < CLASS_COUNT; cls++)
        for (int k = 0; k < lp->n_tiers; k++)
            entry(lp, row, col_fraction(lp, cls, k), f->coef[cls][k] / unit);
}

static void load_busy_row(struct lp *lp, int phase, int stage, int r)
{
    const int row = row_busy(lp, phase, stage, r);
    struct form f;

    if (!has_phase(lp->table, phase) || lp->elastic || !(cost_stage_times(lp->table, stage) > 0)) {
        glp_set_row_bnds(lp->prob, row, GLP_FR, 0, 0);
        return;
    }
    cost_row(lp->table, (enum phase)phase, stage, r, &f);
    entries_of_form(lp, row, &f, lp->unit.time_s[phase]);
    if (lp->has_page_cache) {
        double saved_s[CLASS_COUNT];
        cost_row_saved(lp->table, (enum phase)phase, stage, r, saved_s);
        for (int cls = 0; cls < CLASS_COUNT; cls++)
            entry(lp, row, col_cached(lp, cls), -saved_s[cls] / lp->unit.time_s[phase]);
    }
    entry(lp, row, col_time(lp, phase, stage), -1);
    glp_set_row_bnds(lp->prob, row, GLP_UP, 0, -f.base / lp->unit.time_s[phase]);
}

static void load_peak_row(struct lp *lp, int phase, int tier)
{
    const int row = row_peak(lp, phase, tier);
    const struct form *f = &lp->table->peak[phase][tier];
    const double capacity = lp->capacity_bytes[tier] * (1 - CAPACITY_HAIR);

    if (!has_phase(lp->table, phase)) {
        glp_set_row_bnds(lp->prob, row, GLP_FR, 0, 0);
        return;
    }
    entries_of_form(lp, row, f, lp->unit.bytes[tier]);
    entry(lp, row, col_overshoot(lp, tier), -1);
    glp_set_row_bnds(lp->prob, row, GLP_UP, 0, (capacity - f->base) / lp->unit.bytes[tier]);
}

static void load_page_cache(struct lp *lp)
{
    const int all = row_cached(lp, CLASS_COUNT);

    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        entry(lp, row_cached(lp, cls), col_cached(lp, cls), 1);
        entry(lp, row_cached(lp, cls), col_fraction(lp, cls, lp->n_tiers - 1), -1);
        glp_set_row_bnds(lp->prob, row_cached(lp, cls), GLP_UP, 0, 0);
        entry(lp, all, col_cached(lp, cls), cost_cached_s(lp->table, cls) / lp->table->page_cache_s);
    }
    glp_set_row_bnds(lp->prob, all, GLP_UP, 0, 1);
}

static void load_objective(struct lp *lp)
{
    double largest = 0;

    for (int j = 1; j <= col_count(lp); j++)
        glp_set_obj_coef(lp->prob, j, 0);
    for (int p = 0; p < PHASE_COUNT && !lp->elastic; p++)
        for (int k = 0; has_phase(lp->table, p) && k < lp->n_stages; k++)
            glp_set_obj_coef(lp->prob, col_time(lp, p, k),
                             lp->table->steps[p] * cost_stage_times(lp->table, k) * lp->unit.time_s[p] / lp->unit.objective_s);
    for (int k = 0; k < lp->n_tiers; k++)
        largest = fmax(largest, lp->unit.bytes[k]);
    for (int k = 0; k < lp->n_tiers && lp->elastic; k++)
        glp_set_obj_coef(lp->prob, col_overshoot(lp, k), ldexp(lp->unit.bytes[k] / largest, lp->n_tiers - 1 - k));
}

static void load_columns(struct lp *lp)
{
    for (int cls = 0; cls < CLASS_COUNT; cls++)
        for (int k = 0; k < lp->n_tiers; k++) {
            const bool absent = lp->forbid >> (cls * TIERS_MAX + k) & 1;
            const double low = lp->range && !absent ? lp->range->low[cls][k] : 0, high = absent      ? 0
                                                                                         : lp->range ? lp->range->high[cls][k]
                                                                                                     : 1;
            glp_set_col_bnds(lp->prob, col_fraction(lp, cls, k), low == high ? GLP_FX : high < 1 ? GLP_DB : GLP_LO, low, high);
        }
    for (int p = 0; p < PHASE_COUNT; p++)
        for (int k = 0; k < lp->n_stages; k++) {
            const bool used = has_phase(lp->table, p) && cost_stage_times(lp->table, k) > 0 && !lp->elastic;
            glp_set_col_bnds(lp->prob, col_time(lp, p, k), used ? GLP_FR : GLP_FX, 0, 0);
        }
    for (int k = 0; k < lp->n_tiers; k++)
        glp_set_col_bnds(lp->prob, col_overshoot(lp, k), lp->elastic ? GLP_LO : GLP_FX, 0, 0);
    for (int cls = 0; lp->has_page_cache && cls < CLASS_COUNT; cls++)
        glp_set_col_bnds(lp->prob, col_cached(lp, cls), GLP_LO, 0, 0);
}

static void load_rows(struct lp *lp)
{
    lp->n_entries = 0;
    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        for (int k = 0; k < lp->n_tiers; k++)
            entry(lp, row_sum(cls), col_fraction(lp, cls, k), 1);
        glp_set_row_bnds(lp->prob, row_sum(cls), GLP_FX, 1, 1);
    }
    for (int p = 0; p < PHASE_COUNT; p++) {
        for (int k = 0; k < lp->n_stages; k++)
            for (int r = 0; r < lp->n_rows; r++)
                load_busy_row(lp, p, k, r);
        for (int k = 0; k < lp->n_tiers; k++)
            load_peak_row(lp, p, k);
    }
    if (lp->has_page_cache)
        load_page_cache(lp);
    glp_load_matrix(lp->prob, lp->n_entries, lp->row, lp->col, lp->value);
}

/* -- solving -------------------------------------------------------------------------------------------------------- */

static void save_basis(struct lp *lp)
{
    for (int i = 1; i <= row_count(lp); i++)
        lp->row_stat[i] = glp_get_row_stat(lp->prob, i);
    for (int j = 1; j <= col_count(lp); j++)
        lp->col_stat[j] = glp_get_col_stat(lp->prob, j);
    lp->has_basis = true;
}

static void start_basis(struct lp *lp, bool warm)
{
    if (!warm) {
        glp_std_basis(lp->prob);
        return;
    }
    for (int i = 1; i <= row_count(lp); i++)
        glp_set_row_stat(lp->prob, i, lp->row_stat[i]);
    for (int j = 1; j <= col_count(lp); j++)
        glp_set_col_stat(lp->prob, j, lp->col_stat[j]);
}

/* Values and prices from a fresh factorisation of the final basis: those of the simplex carry the round-off of its updates and
 * of the perturbation it uses against cycling, up to 1e-6. */
static int refresh(struct lp *lp)
{
    if (glp_factorize(lp->prob) != 0 || glp_warm_up(lp->prob) != 0)
        return GLP_UNDEF;
    return glp_get_status(lp->prob);
}

static int simplex(struct lp *lp, int method)
{
    glp_smcp options;
    int status;

    glp_init_smcp(&options);
    options.msg_lev = GLP_MSG_OFF;
    options.meth = method;
    options.presolve = GLP_OFF;
    options.it_lim = ITERATIONS_MAX;
    options.tol_bnd = options.tol_dj = TOLERANCE;
    if (glp_simplex(lp->prob, &options) != 0)
        return GLP_UNDEF;
    status = glp_get_status(lp->prob);
    if (status == GLP_OPT)
        status = refresh(lp);
    return status == GLP_OPT || status == GLP_NOFEAS ? status : GLP_UNDEF;
}

/* When T is small against the objective's unit (the best placement avoids the expensive places), the tolerance on prices is
 * coarse against T: once more with T as the unit, from the basis just found. */
static void sharpen_prices(struct lp *lp)
{
    const double total = glp_get_obj_val(lp->prob);

    if (total <= 0 || total > 0.1)
        return;
    lp->unit.objective_s *= fmax(total, 1e-9);
    load_objective(lp);
    lp->outcome = simplex(lp, GLP_PRIMAL);
}

/* Warm dual simplex; when the old basis is of no use to the new table (singular, or lost), a cold start. */
static void load_and_solve(struct lp *lp)
{
    if (!lp->prob) {
        lp->prob = glp_create_prob();
        glp_add_rows(lp->prob, row_count(lp));
        glp_add_cols(lp->prob, col_count(lp));
    }
    choose_units(lp);
    load_columns(lp);
    load_objective(lp);
    load_rows(lp);
    lp->outcome = GLP_UNDEF;
    if (lp->has_basis && !lp->elastic) {
        start_basis(lp, true);
        lp->outcome = simplex(lp, GLP_DUALP);
    }
    if (lp->outcome == GLP_UNDEF) {
        start_basis(lp, false);
        lp->outcome = simplex(lp, GLP_DUALP);
    }
    if (lp->outcome == GLP_UNDEF) {
        start_basis(lp, false);
        lp->outcome = simplex(lp, GLP_PRIMAL);
    }
    if (lp->outcome == GLP_OPT && !lp->elastic)
        sharpen_prices(lp);
    if (lp->outcome == GLP_OPT && !lp->elastic)
        save_basis(lp);
}

/* Fixes what has a reduced cost, which leaves exactly the optimal face; returns how many columns and rows may still move. */
static int fix_to_optimal_face(struct lp *lp)
{
    int may_move = 0;

    for (int j = 1; j <= col_count(lp); j++) {
        if (glp_get_col_stat(lp->prob, j) == GLP_BS || glp_get_col_type(lp->prob, j) == GLP_FX)
            continue;
        if (fabs(glp_get_col_dual(lp->prob, j)) > TOLERANCE)
            glp_set_col_bnds(lp->prob, j, GLP_FX, glp_get_col_prim(lp->prob, j), 0);
        else
            may_move++;
    }
    for (int i = 1; i <= row_count(lp); i++) {
        if (glp_get_row_stat(lp->prob, i) == GLP_BS || glp_get_row_type(lp->prob, i) == GLP_FX)
            continue;
        if (fabs(glp_get_row_dual(lp->prob, i)) > TOLERANCE)
            glp_set_row_bnds(lp->prob, i, GLP_FX, glp_get_row_prim(lp->prob, i), 0);
        else
            may_move++;
    }
    return may_move;
}

/* Among all placements with the same T, the one with the most on the upper tiers: a second LP over the optimal face, from the
 * optimal basis. T itself cannot change by more than the tolerance on reduced costs. */
static void prefer_upper_tiers(struct lp *lp)
{
    if (fix_to_optimal_face(lp) == 0)
        return;
    for (int j = 1; j <= col_count(lp); j++)
        glp_set_obj_coef(lp->prob, j, 0);
    for (int cls = 0; cls < CLASS_COUNT; cls++)
        for (int k = 1; k < lp->n_tiers; k++)
            glp_set_obj_coef(lp->prob, col_fraction(lp, cls, k), k);
    lp->outcome = simplex(lp, GLP_PRIMAL);
}

/* -- reading the result --------------------------------------------------------------------------------------------- */

/* The weights of a stage's rows sum to how often it comes. Those of a stage that hardly counts in T are exact to the tolerance of
 * T only, so they are scaled to that sum. */
static void normalise_weights(const struct cost *c, int phase, int stage, double weight[COST_ROWS_MAX])
{
    const double times = c->steps[phase] * cost_stage_times(c, stage);
    const int n = cost_rows(c);
    double sum = 0;

    for (int r = 0; r < n; r++)
        sum += weight[r];
    for (int r = 0; r < n; r++)
        weight[r] = n == 1 ? times : sum > 0 ? weight[r] * times / sum : 0;
}

static void read_duals(const struct lp *lp, struct lp_solution *out)
{
    for (int p = 0; p < PHASE_COUNT; p++) {
        if (!has_phase(lp->table, p))
            continue;
        for (int k = 0; k < lp->n_stages; k++) {
            for (int r = 0; r < lp->n_rows; r++) {
                const double dual = -glp_get_row_dual(lp->prob, row_busy(lp, p, k, r));
                out->row_dual[p][k][r] = fmax(0, dual * lp->unit.objective_s / lp->unit.time_s[p]);
            }
            normalise_weights(lp->table, p, k, out->row_dual[p][k]);
        }
        for (int k = 0; k < lp->n_tiers; k++) {
            const double dual = glp_get_row_dual(lp->prob, row_peak(lp, p, k)) * lp->unit.objective_s / lp->unit.bytes[k];
            out->capacity_dual[p][k] = fmin(0, dual);
        }
    }
    if (lp->has_page_cache)
        out->page_cache_dual =
            fmin(0, glp_get_row_dual(lp->prob, row_cached(lp, CLASS_COUNT)) * lp->unit.objective_s / lp->table->page_cache_s);
}

static void read_fractions(const struct lp *lp, struct lp_solution *out)
{
    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        double sum = 0;
        for (int k = 0; k < lp->n_tiers; k++) {
            const double f = glp_get_col_prim(lp->prob, col_fraction(lp, cls, k));
            out->fraction[cls][k] = f > FRACTION_DUST ? f : 0;
            sum += out->fraction[cls][k];
        }
        for (int k = 0; k < lp->n_tiers; k++)
            out->fraction[cls][k] /= sum;
        if (lp->has_page_cache)
            out->cached[cls] =
                fmin(fmax(0, glp_get_col_prim(lp->prob, col_cached(lp, cls))), out->fraction[cls][lp->n_tiers - 1]);
    }
}

static double total_s(const struct cost *c, const struct lp_solution *s)
{
    double total = 0;

    for (int p = 0; p < PHASE_COUNT; p++)
        total += has_phase(c, p) ? c->steps[p] * cost_step_s(c, (enum phase)p, s->fraction, s->cached, NULL) : 0;
    return total;
}

static void read_overshoot(const struct lp *lp, struct lp_solution *out)
{
    double largest = -1;

    for (int k = 0; k < lp->n_tiers; k++) {
        const double bytes = glp_get_col_prim(lp->prob, col_overshoot(lp, k)) * lp->unit.bytes[k];
        out->overshoot_bytes[k] = fmax(0, bytes);
        out->missing_bytes += out->overshoot_bytes[k];
        if (bytes > largest) {
            largest = bytes;
            out->missing_tier = k;
        }
    }
}

/* -- the interface -------------------------------------------------------------------------------------------------- */

static bool form_is_finite(const struct form *f, int n_tiers)
{
    double sum = f->base;

    for (int cls = 0; cls < CLASS_COUNT; cls++)
        for (int k = 0; k < n_tiers; k++)
            sum += f->coef[cls][k];
    return isfinite(sum);
}

static enum status check_table(const struct cost *c, const double capacity_bytes[TIERS_MAX], uint32_t forbid, struct error *err)
{
    const uint32_t all = (1u << c->n_tiers) - 1;

    for (int cls = 0; cls < CLASS_COUNT; cls++)
        if ((forbid >> (cls * TIERS_MAX) & all) == all)
            return error_set(err, STATUS_INVALID, "placement of %s: expected an allowed tier, found all forbidden",
                             class_name(cls));
    for (int k = 0; k < c->n_tiers; k++)
        if (!isfinite(capacity_bytes[k]))
            return error_set(err, STATUS_INVALID, "capacity of tier %d: expected a finite size, found %g", k, capacity_bytes[k]);
    for (int p = 0; p < PHASE_COUNT; p++) {
        bool finite = isfinite(c->steps[p]);
        for (int r = 0; has_phase(c, p) && r < c->n_resources; r++)
            finite = finite && form_is_finite(&c->busy[p][r], c->n_tiers);
        for (int k = 0; has_phase(c, p) && k < c->n_tiers; k++)
            finite = finite && form_is_finite(&c->peak[p][k], c->n_tiers);
        if (!finite)
            return error_set(err, STATUS_INVALID, "cost table: expected finite numbers, found others in phase %d", p);
    }
    return STATUS_OK;
}

enum status lp_new(struct lp **out, int n_tiers, int n_resources, struct error *err)
{
    struct lp *lp;

    assert(n_tiers >= 1 && n_tiers <= TIERS_MAX && n_resources >= 1 && n_resources <= RESOURCES_MAX);
    *out = lp = calloc(1, sizeof(*lp));
    if (!lp)
        return error_set(err, STATUS_RUNTIME, "no memory for the placement problem");
    lp->n_tiers = n_tiers;
    lp->n_resources = n_resources;
    lp->generation = environment_generation;
    return STATUS_OK;
}

void lp_free(struct lp *lp)
{
    if (!lp)
        return;
    forget_stale_problem(lp);
    if (lp->prob)
        glp_delete_prob(lp->prob);
    free(lp);
}

void lp_limit(struct lp *lp, const struct fraction_range *range)
{
    lp->range = range;
}

/* GLPK gives up with an assertion, not a status, when the last basis has become structurally singular because coefficients
 * vanished from the table. So one more try, from a new problem. */
static int solve_table(struct lp *lp)
{
    if (guarded(lp, load_and_solve) == 0)
        return 0;
    forget_stale_problem(lp);
    return guarded(lp, load_and_solve);
}

static enum status gave_up(struct error *err)
{
    return error_set(err, STATUS_RUNTIME, "the placement problem was not solved: GLPK gave up (no memory, or no stable basis)");
}

static enum status solve_elastic(struct lp *lp, struct lp_solution *out, struct error *err)
{
    lp->elastic = true;
    if (solve_table(lp) != 0 || lp->outcome != GLP_OPT)
        return gave_up(err);
    read_overshoot(lp, out);
    read_fractions(lp, out);
    return error_set(err, STATUS_DOES_NOT_FIT, "no placement fits: %.0f bytes missing, most on tier %d", out->missing_bytes,
                     out->missing_tier);
}

/* A table of another shape needs another problem. */
static void fit_shape(struct lp *lp, const struct cost *c)
{
    const bool has_page_cache = c->page_cache_s > 0;

    if (lp->n_stages == cost_stages(c) && lp->n_rows == cost_rows(c) && lp->has_page_cache == has_page_cache)
        return;
    if (lp->prob)
        glp_delete_prob(lp->prob);
    lp->prob = NULL;
    lp->has_basis = false;
    lp->n_stages = cost_stages(c);
    lp->n_rows = cost_rows(c);
    lp->has_page_cache = has_page_cache;
}

enum status lp_solve(struct lp *lp, const struct cost *c, const double capacity_bytes[TIERS_MAX], uint32_t forbid,
                     struct lp_solution *out, struct error *err)
{
    enum status status = check_table(c, capacity_bytes, forbid, err);

    assert(c->n_tiers == lp->n_tiers && c->n_resources == lp->n_resources);
    memset(out, 0, sizeof(*out));
    if (status != STATUS_OK)
        return status;
    forget_stale_problem(lp);
    fit_shape(lp, c);
    lp->table = c;
    lp->capacity_bytes = capacity_bytes;
    lp->forbid = forbid;
    lp->elastic = false;
    if (solve_table(lp) != 0 || lp->outcome == GLP_UNDEF)
        return gave_up(err);
    if (lp->outcome == GLP_NOFEAS)
        return solve_elastic(lp, out, err);
    read_duals(lp, out);
    read_fractions(lp, out);
    if (guarded(lp, prefer_upper_tiers) == 0 && lp->outcome == GLP_OPT)
        read_fractions(lp, out);
    out->total_s = total_s(c, out);
    return STATUS_OK;
}
