/* grammar.c - see grammar.h. */
#include "cli/grammar.h"

#include <stdlib.h>
#include <string.h>

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
