/* fixes.c - --set NAME=VALUE: one variable of the search fixed or narrowed, the rest solved. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/grammar.h"
#include "cli/options.h"

static enum status wrong(const char *text, const char *expected, struct error *err)
{
    const char *equals = strchr(text, '=');
    return error_set(err, STATUS_INVALID, "--set %.*s: expected %s, found \"%.60s\"", (int)(equals - text), text, expected,
                     equals + 1);
}

/* Notes a value for a variable that is open, or has that value already; -1 and 0 mean open, by variable. `already` is how the value it has is called,
 * NULL: as a number. */
static enum status note(const char *text, int *out, int open, int value, const char *already, struct error *err)
{
    char expected[64], number[16];
    if (*out != open && *out != value) {
        snprintf(number, sizeof number, "%d", *out);
        snprintf(expected, sizeof expected, "what is fixed already (%s)", already ? already : number);
        return wrong(text, expected, err);
    }
    *out = value;
    return STATUS_OK;
}

static enum status fix_whole(const char *text, int most, int *out, struct error *err)
{
    const char *value = strchr(text, '=') + 1;
    char *end, expected[64];
    errno = 0;
    long n = strtol(value, &end, 10);
    if (value[strspn(value, "0123456789")] || !*value || *end || errno || n < 1 || n > most) {
        snprintf(expected, sizeof expected, "a whole number from 1 to %d", most);
        return wrong(text, expected, err);
    }
    return note(text, out, 0, (int)n, NULL, err);
}

/* -- batch sizes: a number, a range 16..64 or as in the grammar, a list of them --------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Values that follow each other become a range; false: too many ranges. */
static bool gather(struct int_list *l, struct sizes *out)
{
    qsort(l->value, l->n, sizeof *l->value, ascending);
    out->n = 0;
    for (size_t i = 0; i < l->n; i++) {
        int v = (int)l->value[i];
        if (out->n > 0 && v <= out->range[out->n - 1].high + 1) {
            out->range[out->n - 1].high = v;
        } else if (out->n == SIZE_RANGES_MAX) {
            return false;
        } else {
            out->range[out->n++] = (struct size_range){v, v};
        }
    }
    return true;
}

static enum status too_many_ranges(const char *text, struct error *err)
{
    char expected[64];
    snprintf(expected, sizeof expected, "at most %d ranges", SIZE_RANGES_MAX);
    return wrong(text, expected, err);
}

static enum status read_sizes(const char *text, int most, struct sizes *out, struct error *err)
{
    const char *value = strchr(text, '=') + 1;
    char plain[256] = "", expected[128];
    struct int_list list;
    size_t n = 0;
    for (; *value && n + 1 < sizeof plain; value++) { /* 16..64 is the grammar's 16-64 */
        plain[n++] = value[0] == '.' && value[1] == '.' ? '-' : *value;
        value += value[0] == '.' && value[1] == '.';
    }
    if (*value || list_parse(&list, "", plain, 1, most, NULL) != STATUS_OK) {
        snprintf(expected, sizeof expected, "whole numbers from 1 to %d such as 48, 16..64 or 1,2,4", most);
        return wrong(text, expected, err);
    }
    bool few = gather(&list, out);
    list_free(&list);
    return few ? STATUS_OK : too_many_ranges(text, err);
}

/* The values in both; false: too many ranges. */
static bool intersect(const struct sizes *a, const struct sizes *b, struct sizes *out)
{
    out->n = 0;
    for (int i = 0; i < a->n; i++) {
        for (int j = 0; j < b->n; j++) {
            const struct size_range *x = &a->range[i], *y = &b->range[j];
            struct size_range r = {x->low > y->low ? x->low : y->low, x->high < y->high ? x->high : y->high};
            if (r.low <= r.high && out->n == SIZE_RANGES_MAX) {
                return false;
            }
            if (r.low <= r.high) {
                out->range[out->n++] = r;
            }
        }
    }
    return true;
}

/* Narrows what is allowed so far; one value that is left is a fixed one. */
static enum status fix_sizes(const char *text, int most, int *fixed, struct sizes *listed, struct error *err)
{
    struct sizes asked, before = {1, {{*fixed, *fixed}}};
    enum status status = read_sizes(text, most, &asked, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (*fixed == 0) {
        before = listed->n > 0 ? *listed : (struct sizes){1, {{1, most}}};
    }
    if (!intersect(&before, &asked, listed)) {
        return too_many_ranges(text, err);
    }
    if (listed->n == 0) {
        char expected[64];
        const struct size_range whole = {before.range[0].low, before.range[before.n - 1].high};
        snprintf(expected, sizeof expected,
                 whole.low < whole.high ? "what is fixed already (%d to %d)" : "what is fixed already (%d)", whole.low,
                 whole.high);
        return wrong(text, expected, err);
    }
    *fixed = listed->n == 1 && listed->range[0].low == listed->range[0].high ? listed->range[0].low : 0;
    return STATUS_OK;
}

static enum status fix_bits(const char *text, int *out, struct error *err)
{
    const char *value = strchr(text, '=') + 1;
    if (strcmp(value, "4") != 0 && strcmp(value, "16") != 0) {
        return wrong(text, "4 or 16", err);
    }
    return note(text, out, 0, atoi(value), NULL, err);
}

/* One of two words, for 0 and 1. */
static enum status fix_word(const char *text, const char *zero, const char *one, int *out, struct error *err)
{
    const char *value = strchr(text, '=') + 1;
    char expected[64];
    bool is_one = one && strcmp(value, one) == 0;
    if (!is_one && strcmp(value, zero) != 0) {
        snprintf(expected, sizeof expected, "%s%s%s", zero, one ? " or " : "", one ? one : "");
        return wrong(text, expected, err);
    }
    return note(text, out, -1, is_one, *out == 1 && one ? one : zero, err);
}

/* "20%" or "20%-40%". */
static bool read_percent(const char **at, double *out)
{
    char *end;
    if (!strchr("0123456789.", **at) || !**at) { /* strtod alone would take signs, inf and nan */
        return false;
    }
    double value = strtod(*at, &end);
    if (end == *at || *end != '%' || !(value >= 0 && value <= 100)) {
        return false;
    }
    *at = end + 1;
    *out = value / 100;
    return true;
}

static enum status check_sums(const char *text, int cls, const struct hardware *hw, const struct fraction_range *r,
                              struct error *err)
{
    double low = 0, high = 0;
    for (int k = 0; k < hw->n_tiers; k++) {
        low += r->low[cls][k];
        high += r->high[cls][k];
    }
    if (low > 1 + 1e-9) {
        return error_set(err, STATUS_INVALID, "--set %s: expected at most 100 %% of the %s on all tiers, found %.10g %%", text,
                         class_name(cls), 100 * low);
    }
    if (high < 1 - 1e-9) {
        return error_set(err, STATUS_INVALID, "--set %s: expected room for 100 %% of the %s on all tiers, found %.10g %%", text,
                         class_name(cls), 100 * high);
    }
    return STATUS_OK;
}

/* What is fixed on all tiers but one leaves the rest to that one, exactly. */
static void settle_last(int cls, const struct hardware *hw, struct fraction_range *r)
{
    double rest = 1;
    int open = -1, n_open = 0;
    for (int k = 0; k < hw->n_tiers; k++) {
        if (r->low[cls][k] == r->high[cls][k]) {
            rest -= r->low[cls][k];
        } else {
            open = k;
            n_open++;
        }
    }
    if (n_open == 1 && rest >= r->low[cls][open] && rest <= r->high[cls][open]) {
        r->low[cls][open] = r->high[cls][open] = rest < 1e-9 ? 0 : rest;
    }
}

static enum status fix_fraction(const char *text, int cls, int tier, const struct hardware *hw, struct fraction_range *r,
                                struct error *err)
{
    const char *at = strchr(text, '=') + 1;
    double low, high;
    bool ok = read_percent(&at, &low);
    high = low;
    if (ok && *at == '-') {
        at++;
        ok = read_percent(&at, &high);
    }
    if (!ok || *at || low > high) {
        return wrong(text, "a percentage such as 20%, or a range such as 20%-40%", err);
    }
    if (low > r->high[cls][tier] + 1e-9 || high < r->low[cls][tier] - 1e-9) {
        return error_set(err, STATUS_INVALID, "--set %s: expected a value within what is fixed already (%.10g %% to %.10g %%)",
                         text, 100 * r->low[cls][tier], 100 * r->high[cls][tier]);
    }
    r->low[cls][tier] = fmax(low, r->low[cls][tier]);
    r->high[cls][tier] = fmin(high, r->high[cls][tier]);
    return check_sums(text, cls, hw, r, err);
}

/* "w.gpu" and "weights.gpu": a class and a tier of this machine. */
static bool find_fraction(const char *name, const struct hardware *hw, int *cls, int *tier)
{
    static const char *const letters[CLASS_COUNT] = {"w", "c", "h"};
    const char *dot = strchr(name, '.');
    for (int c = 0; dot && c < CLASS_COUNT; c++) {
        size_t n = (size_t)(dot - name);
        if ((strlen(letters[c]) == n && strncmp(name, letters[c], n) == 0) ||
            (strlen(class_name(c)) == n && strncmp(name, class_name(c), n) == 0)) {
            *cls = c;
            *tier = hardware_tier(hw, dot + 1);
            return *tier >= 0;
        }
    }
    return false;
}

static enum status unknown(const char *name, const struct hardware *hw, struct error *err)
{
    char tiers[96];
    size_t used = 0;
    for (int k = 0; k < hw->n_tiers && used < sizeof tiers; k++) {
        used += (size_t)snprintf(tiers + used, sizeof tiers - used, "%s%s", k ? ", " : "", hw->tier[k].name);
    }
    return error_set(
        err, STATUS_INVALID,
        "--set: expected gbs, batches, weight_bits, cache_bits, attention, schedule, overlap, prefetch, or w, c or h with "
        "a tier (%s) such as w.%s, found \"%s\"",
        tiers, hw->tier[0].name, name);
}

enum status fix_variable(const char *text, const struct hardware *hw, struct search_options *s, struct error *err)
{
    const char *equals = strchr(text, '=');
    const char *below = hw->n_computes > 1 ? hw->tier[hw->compute[1].tier].name : NULL;
    char name[48];
    int cls, tier;
    if (!equals || equals == text || !equals[1]) {
        return error_set(err, STATUS_INVALID, "--set: expected NAME=VALUE such as gbs=48 or w.%s=20%%, found \"%.60s\"",
                         hw->tier[0].name, text);
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    if (strcmp(name, "gbs") == 0 || strcmp(name, "gpu_batch_size") == 0) {
        return fix_sizes(text, 65536, &s->gpu_batch_size, &s->gpu_batch_sizes, err);
    }
    if (strcmp(name, "batches") == 0 || strcmp(name, "num_gpu_batches") == 0) {
        return fix_sizes(text, 65536, &s->num_gpu_batches, &s->batch_numbers, err);
    }
    if (strcmp(name, "prefetch") == 0) {
        return fix_whole(text, 64, &s->prefetch, err);
    }
    if (strcmp(name, "weight_bits") == 0) {
        return fix_bits(text, &s->weight_bits, err);
    }
    if (strcmp(name, "cache_bits") == 0) {
        return fix_bits(text, &s->cache_bits, err);
    }
    if (strcmp(name, "attention") == 0) {
        return fix_word(text, hw->tier[0].name, below, &s->attention_near_cache, err);
    }
    if (strcmp(name, "schedule") == 0) {
        enum schedule_kind schedule;
        if (!schedule_named(equals + 1, &schedule)) {
            return wrong(text, SCHEDULE_NAMES, err);
        }
        return note(text, &s->schedule, -1, (int)schedule,
                    s->schedule >= 0 ? schedule_name((enum schedule_kind)s->schedule) : NULL, err);
    }
    if (strcmp(name, "overlap") == 0) {
        return fix_word(text, "off", "on", &s->overlap, err);
    }
    if (!find_fraction(name, hw, &cls, &tier)) {
        return unknown(name, hw, err);
    }
    enum status status = fix_fraction(text, cls, tier, hw, &s->fraction, err);
    if (status == STATUS_OK) {
        settle_last(cls, hw, &s->fraction);
    }
    return status;
}
