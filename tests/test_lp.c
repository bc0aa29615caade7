/* The placement LP: worked examples by hand, and for random tables a certificate of optimality that does not use the solver:
 * a placement that fits, prices that are feasible, and the same objective for both. */
#include <criterion/criterion.h>
#include <glpk.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "solver/lp.h"

#define GB 1e9

/* -- random numbers with a printed seed ------------------------------------------------------------------------------ */

static uint64_t random_state;

static void seed_from_environment(const char *test)
{
    const char *text = getenv("BALLAST_SEED");

    random_state = text ? strtoull(text, NULL, 10) : 20240717;
    printf("%s: BALLAST_SEED=%llu\n", test, (unsigned long long)random_state);
}

static double uniform(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static double log_uniform(double low, double high)
{
    return low * pow(high / low, uniform());
}

/* -- tables --------------------------------------------------------------------------------------------------------- */

/* Two tiers, two resources: resource 0 reads from tier 1 what lives there, resource 1 computes for a fixed time. */
static struct cost two_tiers(double read_s, double compute_s, double weight_bytes)
{
    struct cost c = {.n_tiers = 2, .n_resources = 2, .overlap = true, .steps = {1, 10}, .tokens = 11};

    for (int p = 0; p < PHASE_COUNT; p++) {
        c.busy[p][0].coef[CLASS_WEIGHT][1] = read_s;
        c.busy[p][1].base = compute_s;
        for (int k = 0; k < 2; k++)
            c.peak[p][k].coef[CLASS_WEIGHT][k] = weight_bytes;
    }
    return c;
}

static struct lp_solution solve(const struct cost *c, const double capacity_bytes[TIERS_MAX], uint32_t forbid,
                                enum status expected)
{
    struct lp_solution out;
    struct lp *lp;

    cr_assert_eq(lp_new(&lp, c->n_tiers, c->n_resources, NULL), STATUS_OK);
    cr_assert_eq(lp_solve(lp, c, capacity_bytes, forbid, &out, NULL), expected);
    lp_free(lp);
    return out;
}

Test(lp, a_link_bound_step_puts_as_much_as_fits_on_the_upper_tier)
{
    /* 8 GB of weights, 2 GB of tier 0: 3/4 stays below and takes 3/4 * 4 s = 3 s a step, more than the 1 s of computing.
     * T = 11 steps * 3 s = 33 s. One byte more above saves 11 * 4 s / 8e9 B = 5.5e-9 s. */
    const struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    const struct lp_solution s = solve(&c, capacity, 0, STATUS_OK);

    cr_assert_float_eq(s.fraction[CLASS_WEIGHT][0], 0.25, 1e-9);
    cr_assert_float_eq(s.total_s, 33, 1e-7);
    cr_assert_float_eq(s.capacity_dual[0][0] + s.capacity_dual[1][0], -5.5e-9, 1e-17);
    cr_assert_float_eq(s.row_dual[PHASE_DECODE][0][0], 10, 1e-9, "the link binds in all 10 steps");
    cr_assert_float_eq(s.row_dual[PHASE_DECODE][0][1], 0, 1e-9);
}

Test(lp, a_compute_bound_step_has_no_price_on_memory)
{
    /* Reading 3/4 takes 3 s, computing 5 s: T = 11 * 5 s and memory is worth nothing. */
    const struct cost c = two_tiers(4, 5, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    const struct lp_solution s = solve(&c, capacity, 0, STATUS_OK);

    cr_assert_float_eq(s.total_s, 55, 1e-7);
    cr_assert_eq(s.capacity_dual[0][0] + s.capacity_dual[1][0], 0);
    cr_assert_float_eq(s.row_dual[PHASE_DECODE][0][1], 10, 1e-9);
}

Test(lp, among_equal_placements_the_upper_tiers_win)
{
    /* Compute-bound as above: any share from 0 to 1/4 gives 55 s; 1/4 is preferred, and what costs nothing goes up whole. */
    const struct cost c = two_tiers(4, 5, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    const struct lp_solution s = solve(&c, capacity, 0, STATUS_OK);

    cr_assert_float_eq(s.fraction[CLASS_WEIGHT][0], 0.25, 1e-9);
    cr_assert_float_eq(s.fraction[CLASS_CACHE][0], 1, 1e-12);
    cr_assert_float_eq(s.fraction[CLASS_ACTIVATION][0], 1, 1e-12);
}

Test(lp, without_overlap_times_add_up)
{
    /* 3 s of reading and 1 s of computing one after the other, 11 steps; nobody waits: 11 * 4 s. */
    struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    struct lp_solution s;

    c.overlap = false;
    c.n_fills = 1;
    c.fill[0] = (struct fill){.phase = PHASE_DECODE, .row = 0, .cause = 1, .s.base = 0.5};
    s = solve(&c, capacity, 0, STATUS_OK);
    cr_assert_float_eq(s.total_s, 44, 1e-7);
    for (int r = 0; r < 2; r++)
        cr_assert_float_eq(cost_resource_weight(&c, r, s.row_dual[PHASE_DECODE][0]), 10, 1e-9, "every resource counts");
}

Test(lp, a_phase_without_steps_is_ignored_whatever_it_holds)
{
    /* n = 1: no decode step. 1 step * 3 s. */
    struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    struct lp_solution s;

    c.steps[PHASE_DECODE] = 0;
    c.busy[PHASE_DECODE][0].coef[CLASS_CACHE][0] = NAN;
    c.peak[PHASE_DECODE][0].base = INFINITY;
    s = solve(&c, capacity, 0, STATUS_OK);
    cr_assert_float_eq(s.total_s, 3, 1e-9);
    cr_assert_eq(s.row_dual[PHASE_DECODE][0][0], 0);
}

Test(lp, a_forbidden_tier_stays_empty)
{
    /* Weights may not live on tier 0: all is read, 11 * 4 s. */
    const struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    const struct lp_solution s = solve(&c, capacity, 1u << (CLASS_WEIGHT * TIERS_MAX), STATUS_OK);

    cr_assert_eq(s.fraction[CLASS_WEIGHT][0], 0);
    cr_assert_float_eq(s.total_s, 44, 1e-7);
}

Test(lp, all_tiers_forbidden_is_a_mistake_of_the_caller)
{
    const struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    struct error err = {0};
    struct lp_solution out;
    struct lp *lp;

    cr_assert_eq(lp_new(&lp, 2, 2, NULL), STATUS_OK);
    cr_assert_eq(lp_solve(lp, &c, capacity, 3u << (CLASS_CACHE * TIERS_MAX), &out, &err), STATUS_INVALID);
    cr_assert_neq(strstr(err.text, "cache"), NULL, "%s", err.text);
    lp_free(lp);
}

Test(lp, the_least_overshoot_is_reported_when_nothing_fits)
{
    /* 8 GB of weights, 2 + 5 GB of room: 1 GB is missing wherever it goes. With a base of 3 GB on tier 0 another 1 GB is. */
    struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 5 * GB};
    struct lp_solution s = solve(&c, capacity, 0, STATUS_DOES_NOT_FIT);

    cr_assert_float_eq(s.missing_bytes, 1 * GB, 10);
    for (int p = 0; p < PHASE_COUNT; p++)
        c.peak[p][0].base = 3 * GB;
    s = solve(&c, capacity, 0, STATUS_DOES_NOT_FIT);
    cr_assert_float_eq(s.missing_bytes, 4 * GB, 10, "8 + 3 GB into 2 + 5 GB");
    cr_assert_float_eq(s.overshoot_bytes[0] + s.overshoot_bytes[1], s.missing_bytes, 1);
    cr_assert_geq(s.overshoot_bytes[0], 1 * GB - 10, "the base alone is 1 GB over");
}

Test(lp, one_more_byte_than_fits_does_not_fit)
{
    /* 8e9 bytes into 3e9 + 5e9 fits; into 1000 bytes less it does not, and 1000 bytes are missing. */
    const struct cost c = two_tiers(4, 1, 8 * GB);
    const double exact[TIERS_MAX] = {3 * GB + 1, 5 * GB}, less[TIERS_MAX] = {3 * GB - 1000, 5 * GB};

    solve(&c, exact, 0, STATUS_OK);
    cr_assert_float_eq(solve(&c, less, 0, STATUS_DOES_NOT_FIT).missing_bytes, 1000, 1);
}

Test(lp, a_table_that_is_not_finite_is_refused)
{
    struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB}, endless[TIERS_MAX] = {2 * GB, INFINITY};

    solve(&c, endless, 0, STATUS_INVALID);
    c.busy[PHASE_PREFILL][1].coef[CLASS_CACHE][1] = NAN;
    solve(&c, capacity, 0, STATUS_INVALID);
    c = two_tiers(4, 1, 8 * GB);
    c.peak[PHASE_DECODE][1].base = INFINITY;
    solve(&c, capacity, 0, STATUS_INVALID);
}

/* -- random tables and the certificate ------------------------------------------------------------------------------ */

static void random_form(struct form *f, int n_tiers, double low, double high)
{
    f->base = uniform() < 0.5 ? 0 : log_uniform(low, high);
    for (int cls = 0; cls < CLASS_COUNT; cls++)
        for (int k = 0; k < n_tiers; k++)
            f->coef[cls][k] = uniform() < 0.3 ? 0 : log_uniform(low, high);
}

/* Times from microseconds to hours, sizes from MB to TB: worse than any machine. */
static void random_table(struct cost *c, int n_tiers, int n_resources)
{
    memset(c, 0, sizeof(*c));
    c->n_tiers = n_tiers;
    c->n_resources = n_resources;
    c->overlap = uniform() < 0.8;
    c->steps[PHASE_PREFILL] = 1;
    c->steps[PHASE_DECODE] = uniform() < 0.1 ? 0 : floor(log_uniform(1, 1000));
    for (int p = 0; p < PHASE_COUNT; p++) {
        for (int r = 0; r < n_resources; r++) {
            random_form(&c->busy[p][r], n_tiers, 1e-6, 1e3);
            if (uniform() < 0.2 && c->n_fills < FILLS_MAX) {
                struct fill *f = &c->fill[c->n_fills++];
                f->phase = p;
                f->row = r;
                random_form(&f->s, n_tiers, 1e-6, 1e2);
            }
        }
        for (int k = 0; k < n_tiers; k++)
            random_form(&c->peak[p][k], n_tiers, 1e6, 1e12);
    }
}

/* The same with groups of resources that contend, and half of them in stages. */
static void random_groups_and_stages(struct cost *c)
{
    c->n_contentions = (int)(uniform() * 3);
    for (int g = 0; g < c->n_contentions; g++)
        for (int r = 0; r < c->n_resources; r++)
            c->share[g][r] = uniform() < 0.5 ? uniform() : 0;
    c->n_stages = c->n_fills > 2 ? 0 : 1 + (int)(uniform() * 3);
    c->n_fills = c->n_stages > 0 ? 0 : c->n_fills;
    for (int k = 0; k < c->n_stages; k++) {
        c->stage_times[k] = floor(uniform() * 20);
        for (int p = 0; p < PHASE_COUNT; p++)
            for (int r = 0; r < c->n_resources; r++)
                random_form(&c->stage[p][k][r], c->n_tiers, 1e-3, 1e3);
    }
}

static const struct form *disk_row(const struct cost *c, int stage)
{
    const int disk_read = resource_link_read(c->n_tiers - 2);

    return c->n_stages > 0 ? &c->stage[PHASE_DECODE][stage][disk_read] : &c->busy[PHASE_DECODE][disk_read];
}

/* Half of those with a page cache: of the disk's row all or a part is its own reading. */
static void random_page_cache(struct cost *c)
{
    if (uniform() < 0.5)
        return;
    c->page_cache_s = log_uniform(1e-3, 1e4);
    for (int cls = 0; cls < CLASS_COUNT && c->n_stages > 0; cls++) { /* a step reads what its stages read */
        double *step_s = &c->busy[PHASE_DECODE][resource_link_read(c->n_tiers - 2)].coef[cls][c->n_tiers - 1];
        *step_s = 0;
        for (int k = 0; k < c->n_stages; k++)
            *step_s += c->stage_times[k] * disk_row(c, k)->coef[cls][c->n_tiers - 1];
    }
    for (int k = 0; k < (c->n_stages > 0 ? c->n_stages : 1); k++)
        for (int cls = 0; cls < CLASS_COUNT; cls++)
            c->disk_s[k][cls] = disk_row(c, k)->coef[cls][c->n_tiers - 1] * (uniform() < 0.5 ? 1 : uniform());
}

/* The longest of the resources and the groups, worked out from busy times; `served_s` of the disk's reads come from memory. */
static double longest_s(const struct cost *c, const struct form busy[RESOURCES_MAX],
                        const double fraction[CLASS_COUNT][TIERS_MAX], int phase, double served_s)
{
    const int disk_read = resource_link_read(c->n_tiers - 2);
    double most = 0;

    for (int r = 0; r < c->n_resources; r++) {
        double s = form_at(&busy[r], fraction) - (r == disk_read ? served_s : 0);
        for (int i = 0; i < c->n_fills; i++)
            s += c->fill[i].phase == phase && c->fill[i].row == r ? form_at(&c->fill[i].s, fraction) : 0;
        most = fmax(most, s);
    }
    for (int g = 0; g < c->n_contentions; g++) {
        double shared = 0;
        for (int r = 0; r < c->n_resources; r++)
            shared += c->share[g][r] * (form_at(&busy[r], fraction) - (r == disk_read ? served_s : 0));
        most = fmax(most, shared);
    }
    return most;
}

/* Of a stage; without stages of the step. */
static double served_s(const struct cost *c, int phase, int stage, const double cached[CLASS_COUNT])
{
    double sum = 0;

    for (int cls = 0; cls < CLASS_COUNT && phase == PHASE_DECODE; cls++)
        sum += c->disk_s[stage][cls] * cached[cls];
    return sum;
}

static double objective_s(const struct cost *c, const struct lp_solution *s)
{
    double total = 0;

    for (int p = 0; p < PHASE_COUNT; p++) {
        double most = c->n_stages > 0 ? 0 : longest_s(c, c->busy[p], s->fraction, p, served_s(c, p, 0, s->cached)), sum = 0;
        for (int k = 0; k < c->n_stages; k++)
            most += c->stage_times[k] * longest_s(c, c->stage[p][k], s->fraction, p, served_s(c, p, k, s->cached));
        for (int r = 0; r < c->n_resources; r++)
            sum += form_at(&c->busy[p][r], s->fraction);
        for (int k = 0; k < (c->n_stages > 0 ? c->n_stages : 1); k++)
            sum -= (c->n_stages > 0 ? c->stage_times[k] : 1) * served_s(c, p, k, s->cached);
        if (c->steps[p] > 0)
            total += c->steps[p] * (c->overlap ? most : sum);
    }
    return total;
}

/* No more is served than there is of a class on the disk, nor than the page cache can. */
static void assert_cached(const struct cost *c, const struct lp_solution *s)
{
    double all_s = 0;

    for (int cls = 0; cls < CLASS_COUNT; cls++)
        cr_assert(s->cached[cls] >= 0 && s->cached[cls] <= s->fraction[cls][c->n_tiers - 1]);
    for (int k = 0; k < (c->n_stages > 0 ? c->n_stages : 1); k++)
        all_s += (c->n_stages > 0 ? c->stage_times[k] : 1) * served_s(c, PHASE_DECODE, k, s->cached);
    cr_assert_leq(all_s, c->page_cache_s * (1 + 1e-8));
}

static void assert_primal(const struct cost *c, const double capacity[TIERS_MAX], uint32_t forbid, const struct lp_solution *s)
{
    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        double sum = 0;
        for (int k = 0; k < c->n_tiers; k++) {
            cr_assert(s->fraction[cls][k] >= 0 && s->fraction[cls][k] <= 1 + 1e-12);
            cr_assert(!(forbid >> (cls * TIERS_MAX + k) & 1) || s->fraction[cls][k] == 0);
            sum += s->fraction[cls][k];
        }
        cr_assert_float_eq(sum, 1, 1e-12);
    }
    for (int p = 0; p < PHASE_COUNT; p++)
        for (int k = 0; c->steps[p] > 0 && k < c->n_tiers; k++)
            cr_assert_leq(form_at(&c->peak[p][k], s->fraction), capacity[k] * (1 + 1e-9), "tier %d: %.15g of %.15g", k,
                          form_at(&c->peak[p][k], s->fraction), capacity[k]);
    assert_cached(c, s);
    cr_assert_float_eq(objective_s(c, s), s->total_s, 1e-12 * s->total_s);
}

static double minimum_over_tiers(const struct cost *c, uint32_t forbid, double reduced[CLASS_COUNT][TIERS_MAX])
{
    double sum = 0;

    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        double least = INFINITY;
        for (int k = 0; k < c->n_tiers; k++)
            if (!(forbid >> (cls * TIERS_MAX + k) & 1))
                least = fmin(least, reduced[cls][k]);
        sum += least;
    }
    return sum;
}

/* The dual objective: with y >= 0, sum over the rows r of stage k of y[p][k][r] = steps[p] * times[k], mu >= 0 and q >= 0,
 *   D = sum y * row.base + sum mu * (peak.base - capacity) - q * served
 *       + sum over classes of the least over tiers of (sum y * row.coef + sum mu * peak.coef),
 * on the disk with the lesser of 0 and q * cached - sum y * saved, is at most T for every placement that fits. D = T proves T optimal. */
static double dual_objective_s(const struct cost *c, const double capacity[TIERS_MAX], uint32_t forbid,
                               const struct lp_solution *s)
{
    double reduced[CLASS_COUNT][TIERS_MAX] = {{0}}, memory[CLASS_COUNT] = {0}, sum = 0;

    for (int p = 0; p < PHASE_COUNT; p++) {
        if (!(c->steps[p] > 0))
            continue;
        for (int stage = 0; stage < cost_stages(c); stage++) {
            const double times = c->steps[p] * cost_stage_times(c, stage);
            double y_sum = 0;
            for (int r = 0; r < cost_rows(c); r++) {
                const double y = s->row_dual[p][stage][r];
                struct form f;
                cr_assert_geq(y, 0);
                y_sum += y;
                cost_row(c, (enum phase)p, stage, r, &f);
                sum += y * f.base;
                for (int i = 0; i < CLASS_COUNT * TIERS_MAX; i++)
                    reduced[i / TIERS_MAX][i % TIERS_MAX] += y * f.coef[i / TIERS_MAX][i % TIERS_MAX];
                double saved_s[CLASS_COUNT];
                cost_row_saved(c, (enum phase)p, stage, r, saved_s);
                for (int cls = 0; cls < CLASS_COUNT; cls++)
                    memory[cls] -= y * saved_s[cls];
            }
            cr_assert(fabs(y_sum - times) <= 1e-8 * times, "%.15g of %.15g", y_sum, times);
        }
        for (int k = 0; k < c->n_tiers; k++) {
            const double mu = -s->capacity_dual[p][k];
            cr_assert_geq(mu, 0);
            sum += mu * (c->peak[p][k].base - capacity[k]);
            for (int i = 0; i < CLASS_COUNT * TIERS_MAX; i++)
                reduced[i / TIERS_MAX][i % TIERS_MAX] += mu * c->peak[p][k].coef[i / TIERS_MAX][i % TIERS_MAX];
        }
    }
    if (c->page_cache_s > 0 && c->steps[PHASE_DECODE] > 0) {
        cr_assert_leq(s->page_cache_dual, 0);
        sum += s->page_cache_dual * c->page_cache_s;
        for (int cls = 0; cls < CLASS_COUNT; cls++)
            reduced[cls][c->n_tiers - 1] += fmin(0, memory[cls] - s->page_cache_dual * cost_cached_s(c, cls));
    }
    return sum + minimum_over_tiers(c, forbid, reduced);
}

/* A random placement that fits cannot need less than nothing: when the LP says it does not fit, none may. */
static void assert_no_random_placement_fits(const struct cost *c, const double capacity[TIERS_MAX], uint32_t forbid)
{
    for (int trial = 0; trial < 200; trial++) {
        double f[CLASS_COUNT][TIERS_MAX] = {{0}};
        bool fits = true;
        for (int cls = 0; cls < CLASS_COUNT; cls++) {
            double sum = 0;
            for (int k = 0; k < c->n_tiers; k++)
                sum += f[cls][k] = forbid >> (cls * TIERS_MAX + k) & 1 ? 0 : -log(uniform() + 1e-300);
            for (int k = 0; k < c->n_tiers; k++)
                f[cls][k] /= sum;
        }
        for (int p = 0; p < PHASE_COUNT; p++)
            for (int k = 0; c->steps[p] > 0 && k < c->n_tiers; k++)
                fits = fits && form_at(&c->peak[p][k], f) <= capacity[k];
        cr_assert(!fits);
    }
}

/* Capacities around what a random table needs, so that about half of them bind and some do not fit. */
static void random_capacity(const struct cost *c, double capacity[TIERS_MAX])
{
    for (int k = 0; k < c->n_tiers; k++)
        capacity[k] = log_uniform(1e10, 1e13);
}

static uint32_t random_forbid(int n_tiers)
{
    uint32_t forbid = 0;

    for (int cls = 0; cls < CLASS_COUNT; cls++)
        if (uniform() < 0.2)
            forbid |= 1u << (cls * TIERS_MAX + (int)(uniform() * n_tiers));
    return forbid;
}

static void check_random_tables(int n_tiers, int n_resources, bool grouped, int count, int *feasible)
{
    struct lp *lp;

    cr_assert_eq(lp_new(&lp, n_tiers, n_resources, NULL), STATUS_OK);
    for (int i = 0; i < count; i++) {
        double capacity[TIERS_MAX] = {0}, dual_s;
        const uint32_t forbid = random_forbid(n_tiers);
        struct lp_solution s;
        struct cost c;
        enum status status;
        random_table(&c, n_tiers, n_resources);
        if (grouped) {
            random_groups_and_stages(&c);
            random_page_cache(&c);
        }
        random_capacity(&c, capacity);
        struct error err = {0};
        status = lp_solve(lp, &c, capacity, forbid, &s, &err);
        cr_assert(status == STATUS_OK || status == STATUS_DOES_NOT_FIT, "table %d: %s", i, err.text);
        if (status == STATUS_DOES_NOT_FIT) {
            cr_assert_gt(s.missing_bytes, 0);
            assert_no_random_placement_fits(&c, capacity, forbid);
            continue;
        }
        ++*feasible;
        assert_primal(&c, capacity, forbid, &s);
        dual_s = dual_objective_s(&c, capacity, forbid, &s);
        cr_assert_float_eq(dual_s, s.total_s, 1e-7 * s.total_s, "table %d: dual %.12g, primal %.12g", i, dual_s, s.total_s);
    }
    lp_free(lp);
}

Test(lp, random_tables_are_solved_to_a_certificate)
{
    int feasible = 0;

    seed_from_environment("random_tables_are_solved_to_a_certificate");
    check_random_tables(2, 3, false, 1500, &feasible);
    check_random_tables(3, 6, false, 1500, &feasible);
    check_random_tables(4, 8, false, 1500, &feasible);
    cr_assert(feasible > 1000 && feasible < 4400, "%d of 4500 fit: the test should see both", feasible);
}

Test(lp, tables_with_groups_and_stages_are_solved_to_a_certificate)
{
    int feasible = 0;

    seed_from_environment("tables_with_groups_and_stages_are_solved_to_a_certificate");
    check_random_tables(2, 3, true, 500, &feasible);
    check_random_tables(3, 6, true, 500, &feasible);
    cr_assert(feasible > 200 && feasible < 980, "%d of 1000 fit: the test should see both", feasible);
}

/* Many tables in a row from one warm start give what a fresh problem gives. */
Test(lp, a_warm_start_changes_nothing)
{
    double capacity[TIERS_MAX] = {1e12, 1e12, 1e13};
    struct lp *lp;

    seed_from_environment("a_warm_start_changes_nothing");
    cr_assert_eq(lp_new(&lp, 3, 6, NULL), STATUS_OK);
    for (int i = 0; i < 200; i++) {
        struct lp_solution warm, cold;
        struct cost c;
        enum status status;
        random_table(&c, 3, 6);
        status = lp_solve(lp, &c, capacity, 0, &warm, NULL);
        cold = solve(&c, capacity, 0, status);
        cr_assert(status != STATUS_OK || fabs(warm.total_s - cold.total_s) <= 1e-9 * cold.total_s, "%.15g, %.15g", warm.total_s,
                  cold.total_s);
        cr_assert(status == STATUS_OK || fabs(warm.missing_bytes - cold.missing_bytes) <= 1e-6 * cold.missing_bytes);
    }
    lp_free(lp);
}

/* The dual of a capacity is the slope of T: T(capacity + d) - T(capacity) lies between d times the duals at both ends, since T is
 * convex in the capacity. */
Test(lp, capacity_duals_are_slopes)
{
    int binding = 0;

    seed_from_environment("capacity_duals_are_slopes");
    for (int i = 0; i < 300; i++) {
        double capacity[TIERS_MAX] = {log_uniform(1e11, 1e13), log_uniform(1e11, 1e13), 1e13}, more[TIERS_MAX];
        struct lp_solution s, t;
        struct lp *lp;
        struct cost c;
        random_table(&c, 3, 6);
        cr_assert_eq(lp_new(&lp, 3, 6, NULL), STATUS_OK);
        if (lp_solve(lp, &c, capacity, 0, &s, NULL) == STATUS_OK) {
            const double d = 1e-3 * capacity[0];
            memcpy(more, capacity, sizeof(more));
            more[0] += d;
            cr_assert_eq(lp_solve(lp, &c, more, 0, &t, NULL), STATUS_OK);
            const double before = d * (s.capacity_dual[0][0] + s.capacity_dual[1][0]);
            const double after = d * (t.capacity_dual[0][0] + t.capacity_dual[1][0]), change = t.total_s - s.total_s;
            cr_assert(before - 1e-8 * s.total_s <= change && change <= after + 1e-8 * s.total_s, "%g <= %g <= %g", before, change,
                      after);
            binding += before < 0;
        }
        lp_free(lp);
    }
    cr_assert_gt(binding, 20, "%d binding capacities: the test should see some", binding);
}

/* -- failures ------------------------------------------------------------------------------------------------------- */

/* GLPK aborts when memory runs out. lp.c drops GLPK's environment, with all problems in it, and starts again: this solve and
 * those of other problems work. `room` KiB are left to GLPK, so that every step of the solve runs out once. */
Test(lp, glpk_running_out_of_memory_does_not_end_the_program)
{
    const struct cost c = two_tiers(4, 1, 8 * GB);
    const double capacity[TIERS_MAX] = {2 * GB, 100 * GB};
    struct lp *lp, *other;
    struct lp_solution s;
    int restarts = 0;

    cr_assert_eq(lp_new(&lp, 2, 2, NULL), STATUS_OK);
    cr_assert_eq(lp_new(&other, 2, 2, NULL), STATUS_OK);
    for (int room = 0; room < 64; room++) {
        size_t used, after;
        void *fill;
        cr_assert_eq(lp_solve(other, &c, capacity, 0, &s, NULL), STATUS_OK);
        cr_assert_float_eq(s.total_s, 33, 1e-7);
        glp_mem_usage(NULL, NULL, &used, NULL);
        glp_mem_limit(64);
        fill = glp_alloc(1, (int)((64u << 20) - used - (size_t)room * 1024 - 64));
        cr_assert_eq(lp_solve(lp, &c, capacity, 0, &s, NULL), STATUS_OK);
        cr_assert_float_eq(s.total_s, 33, 1e-7);
        glp_mem_usage(NULL, NULL, &after, NULL);
        if (after < 32u << 20) {
            restarts++; /* the filling went with the old environment */
            continue;
        }
        glp_free(fill);
        glp_mem_limit(1 << 20);
    }
    cr_assert_gt(restarts, 0, "the limit never bit");
    lp_free(lp);
    lp_free(other);
    lp_free(NULL);
}
