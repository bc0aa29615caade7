/* fixes.c - --set NAME=VALUE: one variable of the search fixed, the rest solved. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

static enum status wrong(const char *text, const char *expected, struct error *err)
{
    const char *equals = strchr(text, '=');
    return error_set(err, STATUS_INVALID, "--set %.*s: expected %s, found \"%.60s\"", (int)(equals - text), text, expected,
                     equals + 1);
}

/* Notes a value for a variable that is open, or has that value already; -1 and 0 mean open, by variable. */
static enum status note(const char *text, int *out, int open, int value, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (*out != open && *out != value) {
        return error_set(err, STATUS_INVALID, "--set %.*s: expected what is fixed already (%d), found \"%.60s\"",
                         (int)(equals - text), text, *out, equals + 1);
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
    return note(text, out, 0, (int)n, err);
}

static enum status fix_bits(const char *text, int *out, struct error *err)
{
    const char *value = strchr(text, '=') + 1;
    if (strcmp(value, "4") != 0 && strcmp(value, "16") != 0) {
        return wrong(text, "4 or 16", err);
    }
    return note(text, out, 0, atoi(value), err);
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
    return note(text, out, -1, is_one, err);
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
        return fix_whole(text, 65536, &s->gpu_batch_size, err);
    }
    if (strcmp(name, "batches") == 0 || strcmp(name, "num_gpu_batches") == 0) {
        return fix_whole(text, 65536, &s->num_gpu_batches, err);
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
        return schedule_named(equals + 1, &schedule) ? note(text, &s->schedule, -1, (int)schedule, err)
                                                     : wrong(text, SCHEDULE_NAMES, err);
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
