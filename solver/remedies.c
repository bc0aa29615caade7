#include "solver/remedies.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/units.h"
#include "solver/point.h"

#define REMEDIES_MAX           3
/* A remedy's budget is rounded up, then raised by this until the exact peaks fit too. */
#define BUDGET_STEP            1.02
#define BUDGET_TRIES           24
#define OTHER_BUDGET_DOUBLINGS 4

/* One question to the planner; each remedy is a copy with one thing changed. */
struct attempt {
    const struct arch *a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
};

/* The smallest batch of an attempt: either it fits, or what is missing for the switches that miss least. */
struct outcome {
    bool fits;
    struct policy policy;
    struct lp_solution solution;
};

struct remedies {
    int n;
    char text[REMEDIES_MAX][128];
};

/* -- does it fit? --------------------------------------------------------------------------------------------------- */

static enum status try_switches(struct problem *pr, const struct policy *policy, struct outcome *out, struct error *err)
{
    struct point pt = {.policy = *policy};
    struct error inner = {0};
    enum status status = point_plan(pr, &pt, &inner);

    if (status == STATUS_RUNTIME)
        return error_set(err, status, "%s", inner.text);
    out->fits = status == STATUS_OK;
    if (status == STATUS_DOES_NOT_FIT &&
        (out->solution.missing_bytes <= 0 || pt.solution.missing_bytes < out->solution.missing_bytes)) {
        out->policy = pt.policy;
        out->solution = pt.solution;
    }
    return STATUS_OK;
}

static enum status try_smallest(const struct attempt *at, struct outcome *out, struct error *err)
{
    struct policy policies[SWITCHES_MAX];
    struct problem pr;
    enum status status = problem_new(&pr, at->a, &at->hw, &at->w, &at->o, err);
    const int n = status == STATUS_OK ? problem_switches(&pr, policies) : 0;

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < n && status == STATUS_OK && !out->fits; i++)
        status = try_switches(&pr, &policies[i], out, err);
    problem_free(&pr);
    return status;
}

static bool fits(const struct attempt *at)
{
    struct outcome out;

    return try_smallest(at, &out, NULL) == STATUS_OK && out.fits;
}

/* -- the remedies --------------------------------------------------------------------------------------------------- */

static void remedy(struct remedies *r, const struct attempt *at, const char *text)
{
    if (r->n < REMEDIES_MAX && fits(at))
        snprintf(r->text[r->n++], sizeof(r->text[0]), "%s", text);
}

static void try_smaller_batch(struct remedies *r, const struct attempt *base)
{
    struct attempt at = *base;

    if (base->o.gpu_batch_size <= 1 && base->o.num_gpu_batches <= 1)
        return;
    at.o.gpu_batch_size = at.o.num_gpu_batches = 1; /* these go before a list */
    remedy(r, &at, "--gpu-batch-size 1 --num-gpu-batches 1");
}

enum { REMEDY_WEIGHT = 1, REMEDY_CACHE = 2, REMEDY_RING = 4, REMEDY_SETS = 8 };

/* Which of the three are still open: only what the options fixed the other way. */
static unsigned open_switches(const struct search_options *o)
{
    return (o->weight_bits == 16 ? REMEDY_WEIGHT : 0u) | (o->cache_bits == 16 ? REMEDY_CACHE : 0u) |
           (o->prefetch > 1 ? REMEDY_RING : 0u);
}

static void apply_set(unsigned set, struct search_options *o, char *text, size_t n)
{
    if (set & REMEDY_WEIGHT)
        o->weight_bits = 4;
    if (set & REMEDY_CACHE)
        o->cache_bits = 4;
    if (set & REMEDY_RING)
        o->prefetch = 1;
    snprintf(text, n, "%s%s%s", set & REMEDY_WEIGHT ? " --compress-weight" : "", set & REMEDY_CACHE ? " --compress-cache" : "",
             set & REMEDY_RING ? " --prefetch 1" : "");
}

/* Dense attention, whose cache may be anywhere; else compression and a shallower weight ring, alone or together: the first set that fits, small
 * sets first. */
static void try_switches_off(struct remedies *r, const struct attempt *base)
{
    static const unsigned order[REMEDY_SETS - 1] = {1, 2, 4, 3, 5, 6, 7};
    const unsigned open = open_switches(&base->o);
    const int before = r->n;
    struct attempt dense = *base;

    dense.o.attention_sparsity = 1;
    if (base->o.attention_sparsity < 1)
        remedy(r, &dense, "--attn-sparsity 1");
    for (int i = 0; i < REMEDY_SETS - 1 && r->n == before; i++) {
        struct attempt at = *base;
        char text[64];
        if ((order[i] & open) != order[i])
            continue;
        apply_set(order[i], &at.o, text, sizeof(text));
        remedy(r, &at, text + 1);
    }
}

/* Rounds up to what a person would type, within a few percent: 2.2GiB, 812MiB, 300KiB. */
static double round_up_bytes(double bytes, char *text, size_t n)
{
    static const struct {
        const char *name;
        double bytes;
    } unit[] = {{"GiB", 1024.0 * 1024 * 1024}, {"MiB", 1024.0 * 1024}, {"KiB", 1024.0}};
    int u = 0;
    double count;

    while (u < 2 && bytes < unit[u].bytes)
        u++;
    count = bytes / unit[u].bytes;
    count = count < 100 ? ceil(count * 10) / 10 : ceil(count);
    snprintf(text, n, "%.10g%s", count, unit[u].name);
    return floor(count * unit[u].bytes); /* as the budget option reads it */
}

static void budget_text(const struct attempt *at, const struct hardware *before, char *text, size_t n)
{
    size_t used = 0;

    text[0] = 0;
    for (int k = 0; k < at->hw.n_tiers; k++) {
        char size[32];
        if (at->hw.tier[k].capacity_bytes == before->tier[k].capacity_bytes)
            continue;
        round_up_bytes((double)at->hw.tier[k].capacity_bytes, size, sizeof(size));
        used += (size_t)snprintf(text + used, n - used, "%s--budget %s=%s", used ? " " : "", at->hw.tier[k].name, size);
        if (used >= n)
            return;
    }
}

/* Gives the tiers that overshoot what they lack, and follows the overshoot until the exact peaks fit. */
static void try_budget(struct remedies *r, const struct attempt *base, const struct outcome *smallest)
{
    struct attempt at = *base;
    struct outcome out = *smallest;
    double need[TIERS_MAX], factor = 1;
    char text[128], size[32];

    for (int k = 0; k < at.hw.n_tiers; k++)
        need[k] = (double)at.hw.tier[k].capacity_bytes;
    for (int round = 0; round < BUDGET_TRIES && !out.fits; round++) {
        for (int k = 0; k < at.hw.n_tiers; k++) {
            if (out.solution.overshoot_bytes[k] <= 0)
                continue;
            need[k] = fmax(need[k], (double)at.hw.tier[k].capacity_bytes + out.solution.overshoot_bytes[k]) * factor;
            at.hw.tier[k].capacity_bytes = (int64_t)round_up_bytes(need[k], size, sizeof(size));
        }
        factor = BUDGET_STEP;
        if (try_smallest(&at, &out, NULL) != STATUS_OK)
            return;
    }
    if (!out.fits)
        return;
    budget_text(&at, &base->hw, text, sizeof(text));
    remedy(r, &at, text);
}

/* Whether one tier alone, with so much, makes it fit. */
static bool fits_with(struct attempt *at, int tier, double bytes, char *text, size_t n)
{
    char size[32];

    at->hw.tier[tier].capacity_bytes = (int64_t)round_up_bytes(bytes, size, sizeof(size));
    snprintf(text, n, "--budget %s=%s", at->hw.tier[tier].name, size);
    return fits(at);
}

/* Another tier that would do it alone: doubles until it fits, then halves the doubt. */
static void try_other_budget(struct remedies *r, const struct attempt *base, const struct outcome *smallest, int tier)
{
    struct attempt at = *base;
    const double have = (double)base->hw.tier[tier].capacity_bytes;
    double good = have + smallest->solution.missing_bytes, bad = have;
    char text[64];

    if (smallest->solution.overshoot_bytes[tier] > 0 || r->n == REMEDIES_MAX)
        return;
    for (int i = 0; !fits_with(&at, tier, good, text, sizeof(text)); i++) {
        if (i == OTHER_BUDGET_DOUBLINGS)
            return;
        bad = good;
        good = have + 2 * (good - have);
    }
    while (good - bad > 0.05 * (good - have)) {
        const double middle = bad + (good - bad) / 2;
        if (fits_with(&at, tier, middle, text, sizeof(text)))
            good = middle;
        else
            bad = middle;
    }
    if (fits_with(&at, tier, good, text, sizeof(text)))
        remedy(r, &at, text);
}

/* The largest value of *field in [1, most] that fits, 0 if none. Memory grows with both lengths, so bisection finds it. */
static int64_t largest_that_fits(struct attempt *at, int64_t *field, int64_t most)
{
    int64_t good = 0, bad = most + 1;

    while (bad - good > 1) {
        const int64_t middle = good + (bad - good) / 2;
        *field = middle;
        if (fits(at))
            good = middle;
        else
            bad = middle;
    }
    return good;
}

static void try_length(struct remedies *r, const struct attempt *base, bool prompt)
{
    struct attempt at = *base;
    int64_t *field = prompt ? &at.w.prompt_tokens : &at.w.gen_tokens;
    int64_t length = largest_that_fits(&at, field, *field - 1);
    char text[64];

    if (length < 1)
        return;
    length = length >= 64 ? length / 16 * 16 : length;
    *field = length;
    snprintf(text, sizeof(text), "-%c %lld", prompt ? 'p' : 'n', (long long)length);
    remedy(r, &at, text);
}

/* At most one smaller batch and one switch or set of them, so the budget always has a place. */
static void find_remedies(struct remedies *r, const struct attempt *base, const struct outcome *smallest)
{
    try_smaller_batch(r, base);
    try_switches_off(r, base);
    try_budget(r, base, smallest);
    if (r->n < REMEDIES_MAX)
        try_length(r, base, true);
    if (r->n < REMEDIES_MAX)
        try_length(r, base, false);
    for (int k = base->hw.n_tiers - 1; k >= 0; k--)
        try_other_budget(r, base, smallest, k);
}

/* -- the message ---------------------------------------------------------------------------------------------------- */

static void batch_text(const struct policy *p, char *text, size_t n)
{
    if (p->gpu_batch_size == 1 && p->num_gpu_batches == 1)
        snprintf(text, n, "batch 1");
    else
        snprintf(text, n, "batch %d x %d", p->gpu_batch_size, p->num_gpu_batches);
}

static void remedies_text(const struct remedies *r, char *text, size_t n)
{
    size_t used = 0;

    text[0] = 0;
    for (int i = 0; i < r->n && used < n; i++)
        used += (size_t)snprintf(text + used, n - used, "%s%s", i == 0 ? "; try " : i == r->n - 1 ? " or " : ", ", r->text[i]);
}

static enum status explain(const struct attempt *at, const struct outcome *smallest, const struct remedies *r, struct error *err)
{
    const int k = smallest->solution.missing_tier;
    const double have = (double)at->hw.tier[k].capacity_bytes, missing = smallest->solution.overshoot_bytes[k];
    char missing_text[32], need_text[32], have_text[32], batch[64], tries[512];

    batch_text(&smallest->policy, batch, sizeof(batch));
    remedies_text(r, tries, sizeof(tries));
    units_format(have + missing, UNIT_BYTES, need_text, sizeof(need_text));
    units_format(have, UNIT_BYTES, have_text, sizeof(have_text));
    if (strcmp(need_text, have_text) == 0) { /* a little is missing of a lot */
        snprintf(need_text, sizeof(need_text), "%.0f B", have + missing);
        snprintf(have_text, sizeof(have_text), "%.0f B", have);
    }
    return error_set(err, STATUS_DOES_NOT_FIT, "does not fit: %s missing on %s at %s (needs %s of %s)%s",
                     units_format(missing, UNIT_BYTES, missing_text, sizeof(missing_text)), at->hw.tier[k].name, batch, need_text,
                     have_text, tries);
}

enum status remedies_explain(const struct arch *a, const struct hardware *hw, const struct workload *w,
                             const struct search_options *o, struct error *err)
{
    const struct attempt base = {.a = a, .hw = *hw, .w = *w, .o = *o};
    struct outcome smallest;
    struct remedies found = {0};
    enum status status = try_smallest(&base, &smallest, err);

    if (status != STATUS_OK)
        return status;
    if (smallest.fits || smallest.solution.missing_bytes <= 0)
        return error_set(err, STATUS_RUNTIME, "the search found no policy although the smallest batch fits");
    find_remedies(&found, &base, &smallest);
    return explain(&base, &smallest, &found, err);
}
