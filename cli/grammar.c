/* grammar.c - see grammar.h. */
#include "cli/grammar.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/units.h"

/* Where in the text we are, and what is allowed. */
struct scan {
    const char *what, *text, *at;
    int64_t min, max;
    struct error *err;
};

/* One item: first, first + step, ... or first, first * step, ... up to last. */
struct range {
    int64_t first, last, step;
    char by; /* '+' or '*' */
};

static enum status complain(const struct scan *s, const char *expected)
{
    if (*s->at == '\0') {
        return error_set(s->err, STATUS_INVALID, "%s: \"%s\": expected %s, found the end of the list", s->what, s->text,
                         expected);
    }
    return error_set(s->err, STATUS_INVALID, "%s: \"%s\": expected %s, found '%c' at character %d", s->what, s->text, expected,
                     *s->at, (int)(s->at - s->text) + 1);
}

static enum status scan_number(struct scan *s, int64_t min, int64_t max, int64_t *out)
{
    const char *start = s->at;
    int64_t value = 0;
    if (*s->at < '0' || *s->at > '9') {
        return complain(s, "a whole number");
    }
    for (; *s->at >= '0' && *s->at <= '9'; s->at++) {
        int digit = *s->at - '0';
        value = value > (INT64_MAX - digit) / 10 ? INT64_MAX : value * 10 + digit;
    }
    if (value < min || value > max) {
        return error_set(s->err, STATUS_INVALID, "%s: \"%s\": expected a number from %lld to %lld, found %.*s", s->what, s->text,
                         (long long)min, (long long)max, (int)(s->at - start > 40 ? 40 : s->at - start), start);
    }
    *out = value;
    return STATUS_OK;
}

static enum status scan_last(struct scan *s, struct range *r)
{
    enum status status = scan_number(s, s->min, s->max, &r->last);
    if (status != STATUS_OK) {
        return status;
    }
    if (r->last < r->first) {
        return error_set(s->err, STATUS_INVALID, "%s: \"%s\": the range %lld-%lld runs backwards", s->what, s->text,
                         (long long)r->first, (long long)r->last);
    }
    if (*s->at != '+' && *s->at != '*') {
        return STATUS_OK;
    }
    r->by = *s->at++;
    status = scan_number(s, r->by == '+' ? 1 : 2, INT64_MAX, &r->step);
    if (status == STATUS_OK && r->by == '*' && r->first == 0) {
        return error_set(s->err, STATUS_INVALID, "%s: \"%s\": a range from 0 cannot grow by a factor", s->what, s->text);
    }
    return status;
}

static enum status scan_range(struct scan *s, struct range *r)
{
    enum status status = scan_number(s, s->min, s->max, &r->first);
    r->last = r->first;
    r->step = 1;
    r->by = '+';
    if (status == STATUS_OK && *s->at == '-') {
        s->at++;
        status = scan_last(s, r);
    }
    if (status == STATUS_OK && *s->at != ',' && *s->at != '\0') {
        status = complain(s, "',' or the end of the list");
    }
    return status;
}

/* The value after v, or -1 if v was the last; never overflows. */
static int64_t range_next(const struct range *r, int64_t v)
{
    if (r->by == '+') {
        return r->last - v < r->step ? -1 : v + r->step;
    }
    return v > r->last / r->step ? -1 : v * r->step;
}

static enum status append_range(struct int_list *l, const struct range *r, size_t *capacity, const struct scan *s)
{
    for (int64_t v = r->first; v >= 0; v = range_next(r, v)) {
        if (l->n == LIST_MAX) {
            return error_set(s->err, STATUS_INVALID, "%s: \"%s\": more than %d values", s->what, s->text, LIST_MAX);
        }
        if (l->n == *capacity) {
            size_t wanted = *capacity ? *capacity * 2 : 16;
            int64_t *grown = realloc(l->value, wanted * sizeof *grown);
            if (!grown) {
                return error_set(s->err, STATUS_RUNTIME, "%s: out of memory for %zu values", s->what, wanted);
            }
            l->value = grown;
            *capacity = wanted;
        }
        l->value[l->n++] = v;
    }
    return STATUS_OK;
}

enum status list_parse(struct int_list *l, const char *what, const char *text, int64_t min, int64_t max, struct error *err)
{
    struct scan s = {what, text, text, min, max, err};
    size_t capacity = 0;
    enum status status;
    memset(l, 0, sizeof *l);
    for (;;) {
        struct range r;
        status = scan_range(&s, &r);
        if (status == STATUS_OK) {
            status = append_range(l, &r, &capacity, &s);
        }
        if (status != STATUS_OK || *s.at == '\0') {
            break;
        }
        s.at++; /* the comma */
    }
    if (status != STATUS_OK) {
        list_free(l);
    }
    return status;
}

void list_free(struct int_list *l)
{
    free(l->value);
    memset(l, 0, sizeof *l);
}

/* -- numbers with units ---------------------------------------------------------------------------------------------- */

/* "12.5 GB/s": the number, and its unit behind it. */
struct quantity {
    double number;
    char unit[16];
};

/* A number and a unit of letters and '/' at *at, moved behind them. */
static bool scan_quantity(const char **at, struct quantity *q)
{
    char *end;
    if (**at < '0' || **at > '9') {
        return false;
    }
    q->number = strtod(*at, &end);
    size_t n = strspn(end, " ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz/");
    snprintf(q->unit, sizeof q->unit, "%.*s", (int)n, end);
    *at = end + n;
    return n < sizeof q->unit && isfinite(q->number);
}

struct quantity_range {
    struct quantity first, last, step;
    char by; /* '+' or '*' */
    bool mixed;
    enum unit_kind kind; /* of a mixed one: all are in SI, without a unit */
};

static bool to_si(struct quantity *q, enum unit_kind kind)
{
    char text[48];
    snprintf(text, sizeof text, "%.17g%s", q->number, q->unit);
    return units_parse(text, kind, &q->number) == 0;
}

/* One unit for all: the one they have, or SI. */
static bool agree(struct quantity_range *r)
{
    const bool stepped = r->by == '+';
    if (strcmp(r->first.unit, r->last.unit) == 0 && (!stepped || strcmp(r->first.unit, r->step.unit) == 0)) {
        return true;
    }
    r->mixed = true;
    for (int kind = UNIT_BYTES; kind <= UNIT_SECONDS; kind++) {
        struct quantity_range si = *r;
        if (to_si(&si.first, kind) && to_si(&si.last, kind) && (!stepped || to_si(&si.step, kind))) {
            *r = si;
            r->kind = kind;
            return true;
        }
    }
    return false;
}

/* The whole of an item is first "-" last, and what follows. */
static bool is_range(const char *item, struct quantity_range *r)
{
    const char *at = item;
    return scan_quantity(&at, &r->first) && *at == '-' && at[1];
}

static enum status scan_quantities(const char *what, const char *item, struct quantity_range *r, struct error *err)
{
    const char *at = item;
    scan_quantity(&at, &r->first);
    at++;
    if (!scan_quantity(&at, &r->last) || (*at != '+' && *at != '*')) {
        return error_set(err, STATUS_INVALID, "--%s: \"%s\": expected FIRST-LAST+STEP or FIRST-LAST*FACTOR", what, item);
    }
    r->by = *at++;
    if (!scan_quantity(&at, &r->step) || *at || (r->by == '*' && r->step.unit[0]) || !agree(r)) {
        return error_set(err, STATUS_INVALID, "--%s: \"%s\": expected a step or factor in the range's unit", what, item);
    }
    if (r->last.number < r->first.number) {
        return error_set(err, STATUS_INVALID, "--%s: \"%s\": the range runs backwards", what, item);
    }
    if (r->by == '+' ? !(r->step.number > 0) : !(r->step.number > 1 && r->first.number > 0)) {
        return error_set(err, STATUS_INVALID,
                         "--%s: \"%s\": expected a step above 0, or a factor above 1 and a range from above 0", what, item);
    }
    return STATUS_OK;
}

static enum status append_text(struct text_list *l, const char *text, const char *what, struct error *err)
{
    char *copy = l->n < LIST_MAX ? strdup(text) : NULL;
    char **grown = l->value;
    if (copy && (l->n & (l->n - 1)) == 0) { /* full at every power of two */
        grown = realloc(l->value, (l->n ? 2 * l->n : 1) * sizeof *grown);
    }
    grown = copy ? grown : NULL;
    if (!grown) {
        free(copy);
        return l->n < LIST_MAX ? error_set(err, STATUS_RUNTIME, "--%s: out of memory for %zu values", what, l->n + 1)
                               : error_set(err, STATUS_INVALID, "--%s: more than %d values", what, LIST_MAX);
    }
    l->value = grown;
    l->value[l->n++] = copy;
    return STATUS_OK;
}

/* A value that misses `last` by rounding only is the last one. */
static enum status append_quantities(struct text_list *l, const struct quantity_range *r, const char *what, struct error *err)
{
    enum status status = STATUS_OK;
    const double last = r->last.number * (1 + 1e-12);
    for (int64_t i = 0; status == STATUS_OK; i++) {
        const double v =
            r->by == '+' ? r->first.number + (double)i * r->step.number : r->first.number * pow(r->step.number, (double)i);
        char text[48];
        if (v > last) {
            break;
        }
        if (r->mixed) {
            units_write(v, r->kind, text, sizeof text);
        } else {
            snprintf(text, sizeof text, "%.12g%s", v, r->first.unit);
        }
        status = append_text(l, text, what, err);
    }
    return status;
}

enum status quantities_parse(struct text_list *l, const char *what, const char *text, struct error *err)
{
    enum status status = STATUS_OK;
    memset(l, 0, sizeof *l);
    for (const char *at = text; status == STATUS_OK;) {
        struct quantity_range r = {0};
        char item[256];
        size_t n = strcspn(at, ",");
        if (n == 0 || n >= sizeof item) {
            status = error_set(err, STATUS_INVALID, "--%s: \"%.100s\": expected values between commas, found %s", what, text,
                               n ? "a very long one" : "none");
            break;
        }
        snprintf(item, sizeof item, "%.*s", (int)n, at);
        if (is_range(item, &r)) {
            status = scan_quantities(what, item, &r, err);
            status = status == STATUS_OK ? append_quantities(l, &r, what, err) : status;
        } else {
            status = append_text(l, item, what, err);
        }
        if (at[n] == '\0') {
            break;
        }
        at += n + 1;
    }
    if (status != STATUS_OK) {
        text_list_free(l);
    }
    return status;
}

void text_list_free(struct text_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->value[i]);
    }
    free(l->value);
    memset(l, 0, sizeof *l);
}
