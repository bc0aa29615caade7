/* trace_csv.c - writes the CSV of record: a header of "# key: value" lines in one fixed order, one column row, one row an event,
 * then one row a sample (kind "resident"). docs/traces.md shows the format. Reading is in csv_reader.c.
 */
#include <csv.h>
#include <stdlib.h>
#include <string.h>

#include "model/atomic_file.h"
#include "traces/csv_header.h"

/* A name as a CSV field: libcsv quotes it if it has to be quoted. */
static void put_name(FILE *f, const char *name)
{
    if (strpbrk(name, ",\" "))
        csv_fwrite(f, name, strlen(name));
    else
        fputs(name, f);
}

/* The shortest text that strtod turns back into the same double. */
static void put_real(FILE *f, double v)
{
    char text[40];
    if (v < 9007199254740992.0 && v == (double)(int64_t)v) {
        snprintf(text, sizeof text, "%lld", (long long)v);
    } else {
        snprintf(text, sizeof text, "%.15g", v);
        if (strtod(text, NULL) != v)
            snprintf(text, sizeof text, "%.17g", v);
    }
    fputs(text, f);
}

static void put_item(FILE *f, const struct header_line *h, int i)
{
    if (h->type == H_NAMES)
        put_name(f, (const char *)h->at + (size_t)i * h->size);
    else if (h->type == H_REALS)
        put_real(f, ((const double *)h->at)[i]);
    else
        fprintf(f, "%lld", (long long)((const int64_t *)h->at)[i]);
}

static void put_header_line(FILE *f, const struct header_line *h)
{
    fprintf(f, "# %s:", h->key);
    if (h->type == H_ORIGIN) {
        fprintf(f, " %s", trace_origin_name(*(const enum trace_origin *)h->at));
    } else if (h->type == H_TEXT) {
        fprintf(f, "%s%s", *(const char *)h->at ? " " : "", (const char *)h->at);
    } else if (h->type == H_COUNT) {
        fprintf(f, " %lld", (long long)*(const int64_t *)h->at);
    } else if (h->type == H_REAL) {
        fputc(' ', f);
        put_real(f, *(const double *)h->at);
    } else {
        for (int i = 0; i < *h->count; i++) {
            fputc(i ? ',' : ' ', f);
            put_item(f, h, i);
        }
    }
    fputc('\n', f);
}

/* NULL, or what in this header line could not be read back. */
static const char *header_fault(const struct header_line *h)
{
    if (h->type == H_TEXT) {
        const size_t n = strnlen(h->at, h->size);
        return n == h->size || !header_text_ok(h->at, n) ? "text that is not one clean line" : NULL;
    }
    if (h->type == H_NAMES) {
        if (*h->count < 0 || *h->count > h->max)
            return "a count out of range";
        return header_names_fault(h->at, h->size, *h->count, strcmp(h->key, "kinds") == 0);
    }
    if (h->type == H_REAL && !header_real_ok(*(const double *)h->at))
        return "a number that is negative or not finite";
    for (int i = 0; h->type == H_REALS && i < *h->count; i++)
        if (!header_real_ok(((const double *)h->at)[i]))
            return "a number that is negative or not finite";
    return NULL;
}

/* Refuses what could not be written at all: the rest of an odd event is written as it is, so that it can be looked at. */
static enum status check_writable(const struct trace *t, const struct header_line *h, const char *path, struct error *err)
{
    for (int i = 0; i < HEADER_LINES; i++) {
        const char *fault = header_fault(&h[i]);
        if (fault)
            return error_set(err, STATUS_INVALID, "%s: trace header '%s' holds %s", path, h[i].key, fault);
    }
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        if (e->kind < 0 || e->kind >= t->n_kinds || e->resource < 0 || e->resource >= t->n_resources || !header_real_ok(e->flops))
            return error_set(err, STATUS_INVALID, "%s: trace event %lld has an unknown kind, an unknown resource or bad flops",
                             path, (long long)i);
    }
    for (int64_t i = 0; i < t->n_samples; i++)
        if (t->sample[i].tier < 0 || t->sample[i].tier >= t->n_tiers)
            return error_set(err, STATUS_INVALID, "%s: trace sample %lld is of an unknown tier", path, (long long)i);
    return STATUS_OK;
}

/* An integer and the comma after it, without printf: a trace has ten of them a row and a million rows. */
static char *format_int(char *p, int64_t v)
{
    char digits[24];
    int n = 0;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        digits[n++] = (char)('0' + u % 10);
    while ((u /= 10) != 0);
    if (v < 0)
        *p++ = '-';
    while (n > 0)
        *p++ = digits[--n];
    *p++ = ',';
    return p;
}

static void put_event(FILE *f, const struct trace *t, const struct trace_event *e)
{
    char text[160];
    fwrite(text, 1, (size_t)(format_int(text, e->op) - text), f);
    put_name(f, t->kind_name[e->kind]);
    fputc(',', f);
    put_name(f, t->resource_name[e->resource]);
    char *p = text;
    *p++ = ',';
    p = format_int(p, e->step);
    p = format_int(p, e->layer);
    p = format_int(p, e->batch);
    p = format_int(p, e->bytes);
    fwrite(text, 1, (size_t)(p - text), f);
    put_real(f, e->flops);
    p = text;
    *p++ = ',';
    p = format_int(p, e->start_ns);
    p = format_int(p, e->end_ns);
    p = format_int(p, e->waits_for);
    p[-1] = '\n';
    fwrite(text, 1, (size_t)(p - text), f);
}

static void put_sample(FILE *f, const struct trace *t, const struct trace_sample *s)
{
    fputs("," KIND_RESIDENT ",", f);
    put_name(f, t->tier_name[s->tier]);
    fprintf(f, ",,,,%lld,,%lld,,\n", (long long)s->bytes, (long long)s->at_ns);
}

enum status trace_write_csv(const struct trace *t, const char *path, struct error *err)
{
    struct trace shallow = *t; /* the table points at what it only reads here */
    struct header_line h[HEADER_LINES];
    header_table(&shallow, h);
    struct atomic_file o;
    enum status s = check_writable(t, h, path, err);
    if (s == STATUS_OK)
        s = atomic_file_open(&o, path, err);
    if (s != STATUS_OK)
        return s;
    fputs("# ballast-trace: " TRACE_CSV_VERSION "\n", o.file);
    for (int i = 0; i < HEADER_LINES; i++)
        put_header_line(o.file, &h[i]);
    for (int i = 0; i < COLUMNS; i++)
        fprintf(o.file, "%s%c", trace_column[i], i + 1 < COLUMNS ? ',' : '\n');
    for (int64_t i = 0; i < t->n_events; i++)
        put_event(o.file, t, &t->event[i]);
    for (int64_t i = 0; i < t->n_samples; i++)
        put_sample(o.file, t, &t->sample[i]);
    return atomic_file_close(&o, s, err);
}
