/* csv_reader.c - reads the CSV of record, strictly. Every line is one record: no field holds a line feed. The lines are split
 * here, so that a complaint cites the right one; what is inside a line goes through libcsv.
 */
#include <csv.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "traces/csv_header.h"

#define COUNT_OF(a) ((int)(sizeof(a) / sizeof(a)[0]))

enum { FIELD_MAX = 64, FIELDS_MAX = 24 };

struct field {
    size_t n;
    char text[FIELD_MAX]; /* ended by a zero, and may hold others */
};

struct row {
    int n; /* fields seen, may pass FIELDS_MAX */
    size_t longest;
    bool ended;
    struct field field[FIELDS_MAX];
};

struct reader {
    const char *path, *at, *end; /* the rest of the text */
    int line;
    const char *line_text; /* the current line, without its line feed */
    size_t line_n;
    struct csv_parser csv;
    struct row row;
    struct trace *t;
    int64_t events, samples; /* as the header says */
    int last_kind, last_resource;
    struct error *err;
};

/* A piece of the file for a message: short, and on one line whatever it holds. */
static const char *shown(const char *text, size_t n, char buf[48])
{
    const size_t limit = n > 40 ? 40 : n;
    for (size_t i = 0; i < limit; i++)
        buf[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    strcpy(buf + limit, n > 40 ? "..." : "");
    return buf;
}

#define COMPLAIN(r, ...) error_at((r)->err, STATUS_INVALID, (r)->path, (r)->line, __VA_ARGS__)

/* Moves to the next line, which has to exist and to be ended: `what` is what should stand there. */
static enum status next_line(struct reader *r, const char *what)
{
    r->line++;
    if (r->at == r->end)
        return COMPLAIN(r, "expected %s, found the end of the file: it is truncated", what);
    const char *feed = memchr(r->at, '\n', (size_t)(r->end - r->at));
    if (!feed)
        return COMPLAIN(r, "expected %s and a line end, found the end of the file: it is truncated", what);
    r->line_text = r->at;
    r->line_n = (size_t)(feed - r->at);
    r->at = feed + 1;
    if (memchr(r->line_text, '\r', r->line_n)) /* libcsv would end the row here */
        return COMPLAIN(r, "expected lines that end in LF, found a carriage return (CR)");
    return STATUS_OK;
}

static void on_field(void *text, size_t n, void *user)
{
    struct row *row = user;
    if (n > row->longest)
        row->longest = n;
    if (n < FIELD_MAX && row->n < FIELDS_MAX) {
        struct field *f = &row->field[row->n];
        f->n = n;
        memcpy(f->text, text, n);
        f->text[n] = 0;
    }
    row->n++;
}

static void on_row(int end, void *user)
{
    (void)end;
    ((struct row *)user)->ended = true;
}

/* Splits text that is followed by its line feed into r->row. */
static enum status split(struct reader *r, const char *text, size_t n)
{
    r->row.n = 0;
    r->row.longest = 0;
    r->row.ended = n == 0;
    if (n > 0 && csv_parse(&r->csv, text, n + 1, on_field, on_row, &r->row) != n + 1) {
        if (csv_error(&r->csv) == CSV_EPARSE)
            return COMPLAIN(r, "expected comma-separated fields, found a stray double quote");
        return error_at(r->err, STATUS_RUNTIME, r->path, r->line, "%s", csv_strerror(csv_error(&r->csv)));
    }
    if (!r->row.ended)
        return COMPLAIN(r, "expected a closing double quote, found the end of the line");
    if (r->row.longest >= FIELD_MAX)
        return COMPLAIN(r, "expected fields of at most %d characters, found one of %zu", FIELD_MAX - 1, r->row.longest);
    return STATUS_OK;
}

static bool field_is(const struct field *f, const char *text)
{
    return f->n == strlen(text) && memcmp(f->text, text, f->n) == 0;
}

static enum status parse_int(struct reader *r, const char *what, const char *text, size_t n, int64_t min, int64_t max,
                             int64_t *out)
{
    const bool negative = n > 0 && text[0] == '-';
    uint64_t u = 0;
    size_t i = negative;
    bool ok = n > i && n - i <= 19;
    for (; ok && i < n; i++) {
        ok = text[i] >= '0' && text[i] <= '9';
        u = 10 * u + (uint64_t)(text[i] - '0');
    }
    const int64_t v = negative ? -(int64_t)(u & INT64_MAX) : (int64_t)(u & INT64_MAX);
    char buf[48];
    if (!ok || u > INT64_MAX || v < min || v > max)
        return COMPLAIN(r, "'%s': expected an integer from %lld to %lld, found '%s'", what, (long long)min, (long long)max,
                        shown(text, n, buf));
    *out = v;
    return STATUS_OK;
}

static enum status parse_real(struct reader *r, const char *what, const char *text, size_t n, double *out)
{
    const size_t digits = strspn(text, "0123456789");
    char copy[FIELD_MAX], buf[48], *end = NULL;
    if (n == digits && n > 0 && n <= 15) {
        int64_t v = 0;
        const enum status s = parse_int(r, what, text, n, 0, INT64_MAX, &v);
        *out = (double)v;
        return s;
    }
    double v = -1;
    bool whole = false;
    if (n > 0 && n < sizeof copy) { /* the text may go on after n */
        memcpy(copy, text, n);
        copy[n] = 0;
        if (strspn(copy, "0123456789.eE+-") == n) {
            v = strtod(copy, &end);
            whole = end == copy + n;
        }
    }
    if (!whole || !header_real_ok(v))
        return COMPLAIN(r, "'%s': expected a number from 0 up, found '%s'", what, shown(text, n, buf));
    *out = v;
    return STATUS_OK;
}

static enum status parse_text(struct reader *r, const struct header_line *h, const char *text, size_t n)
{
    char buf[48];
    if (n >= h->size || !header_text_ok(text, n))
        return COMPLAIN(r, "'%s': expected at most %zu printable characters, found '%s'", h->key, h->size - 1,
                        shown(text, n, buf));
    memcpy(h->at, text, n);
    return STATUS_OK;
}

static enum status parse_origin(struct reader *r, const struct header_line *h, const char *text, size_t n)
{
    char buf[48];
    for (enum trace_origin o = 0; o < TRACE_ORIGINS; o++) {
        const char *name = trace_origin_name(o);
        if (n == strlen(name) && memcmp(text, name, n) == 0) {
            *(enum trace_origin *)h->at = o;
            return STATUS_OK;
        }
    }
    return COMPLAIN(r, "'origin': expected 'measured', 'simulated' or 'emulated', found '%s'", shown(text, n, buf));
}

static enum status parse_names(struct reader *r, const struct header_line *h)
{
    if (r->row.n > h->max)
        return COMPLAIN(r, "'%s': expected at most %d names, found %d", h->key, h->max, r->row.n);
    for (int i = 0; i < r->row.n; i++) {
        if (r->row.field[i].n >= h->size)
            return COMPLAIN(r, "'%s': expected names of at most %zu characters, found one of %zu", h->key, h->size - 1,
                            r->row.field[i].n);
        if (!header_text_ok(r->row.field[i].text, r->row.field[i].n)) /* a zero byte, too: the names' own check stops there */
            return COMPLAIN(r, "'%s': expected printable names, found a control character", h->key);
        memcpy((char *)h->at + (size_t)i * h->size, r->row.field[i].text, r->row.field[i].n + 1);
    }
    *h->count = r->row.n;
    const char *fault = header_names_fault(h->at, h->size, r->row.n, strcmp(h->key, "kinds") == 0);
    return fault ? COMPLAIN(r, "'%s': expected different printable names, found %s", h->key, fault) : STATUS_OK;
}

static enum status parse_numbers(struct reader *r, const struct header_line *h)
{
    if (r->row.n != *h->count)
        return COMPLAIN(r, "'%s': expected %d numbers, found %d", h->key, *h->count, r->row.n);
    enum status s = STATUS_OK;
    for (int i = 0; s == STATUS_OK && i < r->row.n; i++) {
        const struct field *f = &r->row.field[i];
        s = h->type == H_REALS ? parse_real(r, h->key, f->text, f->n, (double *)h->at + i)
                               : parse_int(r, h->key, f->text, f->n, 0, INT64_MAX, (int64_t *)h->at + i);
    }
    return s;
}

/* The text after "# key:" and a space, or empty; the next line has to have this key. */
static enum status header_value(struct reader *r, const char *key, const char **text, size_t *n)
{
    char what[64], buf[48];
    snprintf(what, sizeof what, "the header line '# %s: ...'", key);
    const enum status s = next_line(r, what);
    if (s != STATUS_OK)
        return s;
    const size_t prefix = strlen(key) + 3;
    const char *line = r->line_text;
    if (r->line_n < prefix || memcmp(line, "# ", 2) != 0 || memcmp(line + 2, key, prefix - 3) != 0 || line[prefix - 1] != ':' ||
        (r->line_n > prefix && line[prefix] != ' '))
        return COMPLAIN(r, "expected %s, found '%s'", what, shown(line, r->line_n, buf));
    const size_t skip = r->line_n > prefix ? prefix + 1 : prefix;
    *text = line + skip;
    *n = r->line_n - skip;
    return STATUS_OK;
}

static enum status read_header_line(struct reader *r, const struct header_line *h)
{
    const char *text = NULL;
    size_t n = 0;
    enum status s = header_value(r, h->key, &text, &n);
    if (s != STATUS_OK)
        return s;
    switch (h->type) {
    case H_ORIGIN:
        return parse_origin(r, h, text, n);
    case H_TEXT:
        return parse_text(r, h, text, n);
    case H_COUNT:
        return parse_int(r, h->key, text, n, 0, INT64_MAX, h->at);
    case H_REAL:
        return parse_real(r, h->key, text, n, h->at);
    default:
        s = split(r, text, n);
    }
    if (s == STATUS_OK)
        s = h->type == H_NAMES ? parse_names(r, h) : parse_numbers(r, h);
    return s;
}

static enum status read_columns(struct reader *r)
{
    enum status s = next_line(r, "the column names");
    if (s == STATUS_OK)
        s = split(r, r->line_text, r->line_n);
    if (s != STATUS_OK)
        return s;
    char buf[48];
    for (int i = 0; i < COLUMNS && i < r->row.n; i++)
        if (!field_is(&r->row.field[i], trace_column[i]))
            return COMPLAIN(r, "expected column %d to be '%s', found '%s'", i + 1, trace_column[i],
                            shown(r->row.field[i].text, r->row.field[i].n, buf));
    return r->row.n == COLUMNS ? STATUS_OK : COMPLAIN(r, "expected %d columns, found %d", COLUMNS, r->row.n);
}

static enum status read_header(struct reader *r)
{
    const char *text = NULL;
    size_t n = 0;
    char buf[48];
    enum status s = header_value(r, "ballast-trace", &text, &n);
    if (s == STATUS_OK && (n != strlen(TRACE_CSV_VERSION) || memcmp(text, TRACE_CSV_VERSION, n) != 0))
        return COMPLAIN(r, "expected trace format version " TRACE_CSV_VERSION ", found '%s'", shown(text, n, buf));
    struct header_line h[HEADER_LINES];
    header_table(r->t, h);
    for (int i = 0; s == STATUS_OK && i < HEADER_LINES; i++)
        s = read_header_line(r, &h[i]);
    /* The counts of the header are promises: the trace has what was read. */
    r->events = r->t->n_events;
    r->samples = r->t->n_samples;
    r->t->n_events = r->t->n_samples = 0;
    return s == STATUS_OK ? read_columns(r) : s;
}

/* Index of a field in a list of names; tries the last answer first. */
static enum status parse_name(struct reader *r, enum column c, const char *names, size_t size, int count, int *last)
{
    const struct field *f = &r->row.field[c];
    if (*last < count && f->n < size && memcmp(names + (size_t)*last * size, f->text, f->n + 1) == 0)
        return STATUS_OK;
    for (int i = 0; i < count; i++)
        if (field_is(f, names + (size_t)i * size)) {
            *last = i;
            return STATUS_OK;
        }
    char buf[48];
    return COMPLAIN(r, "'%s': expected one of the %d names in the header, found '%s'", trace_column[c], count,
                    shown(f->text, f->n, buf));
}

static enum status column_int(struct reader *r, enum column c, int64_t min, int64_t max, int64_t *out)
{
    return parse_int(r, trace_column[c], r->row.field[c].text, r->row.field[c].n, min, max, out);
}

/* The next row, with the right number of fields. */
static enum status next_row(struct reader *r, const char *what)
{
    enum status s = next_line(r, what);
    if (s == STATUS_OK)
        s = split(r, r->line_text, r->line_n);
    if (s == STATUS_OK && r->row.n != COLUMNS)
        s = COMPLAIN(r, "expected %s of %d fields, found %d", what, COLUMNS, r->row.n);
    return s;
}

static enum status read_event(struct reader *r)
{
    struct trace *t = r->t;
    const int64_t previous = t->n_events ? t->event[t->n_events - 1].op : -1;
    int64_t op = 0, step = 0, layer = 0, batch = 0, bytes = 0, start = 0, end = 0, waits = 0;
    double flops = 0;
    enum status s = next_row(r, "an event");
    if (s == STATUS_OK && field_is(&r->row.field[COL_KIND], KIND_RESIDENT))
        return COMPLAIN(r, "expected event %lld of %lld, found a sample", (long long)t->n_events + 1, (long long)r->events);
    if (s != STATUS_OK || (s = column_int(r, COL_OP, previous + 1, INT32_MAX, &op)) != STATUS_OK ||
        (s = parse_name(r, COL_KIND, t->kind_name[0], sizeof t->kind_name[0], t->n_kinds, &r->last_kind)) != STATUS_OK ||
        (s = parse_name(r, COL_RESOURCE, t->resource_name[0], sizeof t->resource_name[0], t->n_resources, &r->last_resource)) !=
            STATUS_OK ||
        (s = column_int(r, COL_STEP, 0, INT32_MAX, &step)) != STATUS_OK ||
        (s = column_int(r, COL_LAYER, -1, INT32_MAX, &layer)) != STATUS_OK ||
        (s = column_int(r, COL_BATCH, -1, INT32_MAX, &batch)) != STATUS_OK ||
        (s = column_int(r, COL_BYTES, 0, INT64_MAX, &bytes)) != STATUS_OK ||
        (s = parse_real(r, "flops", r->row.field[COL_FLOPS].text, r->row.field[COL_FLOPS].n, &flops)) != STATUS_OK ||
        (s = column_int(r, COL_START, 0, INT64_MAX, &start)) != STATUS_OK ||
        (s = column_int(r, COL_END, start, INT64_MAX, &end)) != STATUS_OK ||
        (s = column_int(r, COL_WAITS, -1, op - 1, &waits)) != STATUS_OK)
        return s;
    const struct trace_event e = {.op = (int32_t)op,
                                  .kind = (int16_t)r->last_kind,
                                  .resource = (int16_t)r->last_resource,
                                  .step = (int32_t)step,
                                  .layer = (int32_t)layer,
                                  .batch = (int32_t)batch,
                                  .bytes = bytes,
                                  .flops = flops,
                                  .start_ns = start,
                                  .end_ns = end,
                                  .waits_for = (int32_t)waits};
    return trace_add_event(t, &e, r->err);
}

static enum status read_sample(struct reader *r, int *last_tier)
{
    static const enum column empty[] = {COL_OP, COL_STEP, COL_LAYER, COL_BATCH, COL_FLOPS, COL_END, COL_WAITS};
    struct trace *t = r->t;
    const int64_t previous = t->n_samples ? t->sample[t->n_samples - 1].at_ns : 0;
    char buf[48];
    enum status s = next_row(r, "a sample");
    if (s != STATUS_OK)
        return s;
    const struct field *f = r->row.field;
    if (!field_is(&f[COL_KIND], KIND_RESIDENT))
        return COMPLAIN(r, "'kind': expected '" KIND_RESIDENT "' after %lld events, found '%s'", (long long)r->events,
                        shown(f[COL_KIND].text, f[COL_KIND].n, buf));
    for (int i = 0; i < COUNT_OF(empty); i++)
        if (f[empty[i]].n > 0)
            return COMPLAIN(r, "'%s': expected nothing in a sample, found '%s'", trace_column[empty[i]],
                            shown(f[empty[i]].text, f[empty[i]].n, buf));
    struct trace_sample sample = {0};
    if ((s = parse_name(r, COL_RESOURCE, t->tier_name[0], sizeof t->tier_name[0], t->n_tiers, last_tier)) != STATUS_OK ||
        (s = column_int(r, COL_BYTES, 0, INT64_MAX, &sample.bytes)) != STATUS_OK ||
        (s = column_int(r, COL_START, previous, INT64_MAX, &sample.at_ns)) != STATUS_OK)
        return s;
    sample.tier = (int16_t)*last_tier;
    return trace_add_sample(t, &sample, r->err);
}

/* Room for what the header promises, but not for more than the text can hold: a promise is not worth memory. */
static enum status reserve_rows(struct reader *r)
{
    const int64_t shortest_row = 20, rows = (r->end - r->at) / shortest_row + 1;
    return trace_reserve(r->t, r->events < rows ? r->events : rows, r->samples < rows ? r->samples : rows, r->err);
}

static enum status read_all(struct reader *r)
{
    int last_tier = 0;
    enum status s = read_header(r);
    if (s == STATUS_OK)
        s = reserve_rows(r);
    while (s == STATUS_OK && r->t->n_events < r->events)
        s = read_event(r);
    while (s == STATUS_OK && r->t->n_samples < r->samples)
        s = read_sample(r, &last_tier);
    if (s == STATUS_OK && r->at != r->end) {
        r->line++;
        s = COMPLAIN(r, "expected the end of the file after %lld events and %lld samples, found more", (long long)r->events,
                     (long long)r->samples);
    }
    return s;
}

enum status trace_parse_csv(struct trace *t, const char *path, const char *text, size_t n, struct error *err)
{
    trace_init(t);
    struct reader *r = calloc(1, sizeof *r);
    if (!r)
        return error_errno(err, ENOMEM, "%s", path);
    *r = (struct reader){.path = path, .at = text, .end = text + n, .t = t, .err = err};
    csv_init(&r->csv, CSV_STRICT | CSV_STRICT_FINI);
    const enum status s = read_all(r);
    csv_free(&r->csv);
    free(r);
    if (s != STATUS_OK)
        trace_free(t);
    return s;
}

/* The whole of a file in memory (also of a pipe, whose size is not known before its end). */
static enum status slurp(const char *path, char **text, size_t *n, struct error *err)
{
    enum status s = STATUS_OK;
    char *buf = NULL;
    size_t used = 0, room = 0;
    struct stat st;
    FILE *f = fopen(path, "re");
    if (!f || fstat(fileno(f), &st) != 0) {
        s = error_errno(err, errno, "%s", path);
        goto out;
    }
    do {
        if (room - used < 2) {
            room = room ? 2 * room : S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size + 2 : 65536;
            char *grown = realloc(buf, room);
            if (!grown) {
                s = error_errno(err, ENOMEM, "%s: %zu bytes", path, room);
                goto out;
            }
            buf = grown;
        }
        used += fread(buf + used, 1, room - used - 1, f);
    } while (!feof(f) && !ferror(f));
    if (ferror(f)) {
        s = error_errno(err, errno, "%s: reading", path);
        goto out;
    }
    *text = buf;
    *n = used;
    buf = NULL;
out:
    if (f)
        fclose(f);
    free(buf);
    return s;
}

enum status trace_read_csv(struct trace *t, const char *path, struct error *err)
{
    char *text = NULL;
    size_t n = 0;
    trace_init(t);
    enum status s = slurp(path, &text, &n, err);
    if (s == STATUS_OK)
        s = trace_parse_csv(t, path, text, n, err);
    free(text);
    return s;
}
