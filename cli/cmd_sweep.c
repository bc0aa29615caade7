/* cmd_sweep.c - ballast sweep: every combination of lists of option values, a CSV row each.
 *
 * Rows come in the order of the points, however many processes compute them. So what a stopped sweep left in its file is a prefix
 * of what it would have written: a second one checks the last row, cuts off half a line and goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/axes.h"
#include "cli/commands.h"
#include "cli/ordered.h"
#include "cli/progress.h"
#include "cli/setting.h"
#include "model/hardware_set.h"

#define NAMES_MAX 64

struct sweep {
    struct axes axes;
    int n_tiers, n_resources; /* of all machines together */
    char tier[NAMES_MAX][16], resource[NAMES_MAX][40];
    /* the point before, kept for what it shares with the next */
    struct setting setting;
    struct options options;
    bool opened;
    /* where rows go */
    FILE *out;
    const char *path; /* NULL: standard output */
    bool goes_on;     /* behind rows that are there */
    int64_t done;
    struct progress progress;
    struct ranks ranks;
};

/* -- cells -------------------------------------------------------------------------------------------------------------- */

static void put_text(FILE *out, const char *text)
{
    csv_cell(out, text, true);
    fputc(',', out);
}

static void put_number(FILE *out, double value)
{
    char text[40] = "";
    if (isfinite(value)) {
        number_exact(value, text, sizeof text);
    }
    put_text(out, text);
}

/* The comma after the last cell becomes the end of the line. */
static void end_row(char *row, size_t n)
{
    row[n - 1] = '\n';
}

static bool is_varied(const struct axis *x)
{
    static const char *const always[] = {"model", "hardware", "prompt-tokens", "gen-tokens"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(x->name, always[i]) == 0) {
            return false;
        }
    }
    return x->n > 1;
}

static void put_names(const struct sweep *s, FILE *out)
{
    static const char *const first[] = {"model", "hardware", "workload.prompt_tokens", "workload.gen_tokens"};
    static const char *const results[] = {"status",    "message",  "policy",           "throughput_tok_s", "latency_s",
                                          "prefill_s", "decode_s", "bound_by.prefill", "bound_by.decode"};
    char name[96];
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        put_text(out, first[i]);
    }
    for (int i = 0; i < s->axes.n; i++) {
        if (is_varied(&s->axes.axis[i])) {
            put_text(out, s->axes.axis[i].name);
        }
    }
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        put_text(out, results[i]);
    }
    for (int i = 0; i < s->n_tiers; i++) {
        snprintf(name, sizeof name, "peak_bytes.%s", s->tier[i]);
        put_text(out, name);
    }
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int i = 0; i < s->n_resources; i++) {
            snprintf(name, sizeof name, "busy_s.%s.%s", phase_name(ph), s->resource[i]);
            put_text(out, name);
        }
    }
}

/* -- a point -------------------------------------------------------------------------------------------------------------- */

static void put_results(const struct sweep *s, FILE *out)
{
    const struct setting *set = &s->setting;
    const struct hardware *hw = &set->hardware;
    const struct prediction *p = &set->prediction;
    char text[512];
    put_text(out, policy_flags(&set->policy, hw, text, sizeof text));
    put_number(out, p->throughput_tok_s);
    put_number(out, p->latency_s);
    put_number(out, p->prefill_s);
    put_number(out, p->decode_s);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        put_text(out, resource_name(hw, p->bound_by[ph], text));
    }
    for (int i = 0; i < s->n_tiers; i++) {
        int tier = hardware_tier(hw, s->tier[i]);
        put_number(out, tier < 0 ? NAN : fmax(p->peak_bytes[PHASE_PREFILL][tier], p->peak_bytes[PHASE_DECODE][tier]));
    }
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int i = 0; i < s->n_resources; i++) {
            double busy_s = NAN;
            for (int r = 0; r < resource_count(hw); r++) {
                busy_s = strcmp(resource_name(hw, r, text), s->resource[i]) == 0 ? p->busy_s[ph][r] : busy_s;
            }
            put_number(out, busy_s);
        }
    }
}

static void put_point(struct sweep *s, int64_t point, FILE *out)
{
    struct options o;
    struct error err = {0};
    options_default(&o, "sweep");
    enum status status = axes_set(&s->axes, point, &o, &err);
    if (status == STATUS_OK) {
        status = setting_reopen(&s->setting, s->opened ? &s->options : NULL, &o, &err);
        s->options = o;
        s->opened = true;
    }
    put_text(out, o.model ? o.model : "");
    put_text(out, o.hardware ? o.hardware : "");
    put_number(out, (double)o.prompt_tokens);
    put_number(out, (double)o.gen_tokens);
    for (int i = 0; i < s->axes.n; i++) {
        if (is_varied(&s->axes.axis[i])) {
            const char *value = axes_value(&s->axes, i, point), *equals = strchr(value, '=');
            put_text(out, option_takes_pair(s->axes.axis[i].option) && equals ? equals + 1 : value);
        }
    }
    put_number(out, (double)status);
    put_text(out, err.text);
    if (status == STATUS_OK) {
        put_results(s, out);
    } else {
        for (int i = 0; i < 7 + s->n_tiers + PHASE_COUNT * s->n_resources; i++) {
            fputc(',', out);
        }
    }
}

/* A line of its own memory, with or without a point. */
static char *line_of(struct sweep *s, int64_t point, size_t *n)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, n);
    if (!out) {
        return NULL;
    }
    if (point < 0) {
        put_names(s, out);
    } else {
        put_point(s, point, out);
    }
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    end_row(text, *n);
    return text;
}

static void make_rows(void *arg, int64_t first, int64_t last, FILE *out)
{
    for (int64_t i = first; i < last; i++) {
        size_t n;
        char *line = line_of(arg, i, &n);
        if (line) {
            fwrite(line, 1, n, out);
        }
        free(line);
    }
}

static enum status write_text(struct sweep *s, const char *text, size_t n, struct error *err)
{
    if (fwrite(text, 1, n, s->out) != n || fflush(s->out)) {
        return error_errno(err, errno, "%s: cannot write", s->path ? s->path : "standard output");
    }
    return STATUS_OK;
}

static enum status take_rows(void *arg, int64_t first, int64_t last, const char *text, size_t n, struct error *err)
{
    struct sweep *s = arg;
    int64_t lines = 0;
    for (size_t i = 0; i < n; i++) {
        lines += text[i] == '\n';
    }
    if (lines != last - first) {
        return error_set(err, STATUS_RUNTIME, "out of memory for the rows of points %lld to %lld", (long long)first + 1,
                         (long long)last);
    }
    enum status status = write_text(s, text, n, err);
    s->done = last;
    progress_show(&s->progress, (double)s->done, (double)s->axes.points);
    return status;
}

/* -- going on where a file ends --------------------------------------------------------------------------------------------- */

static enum status read_file(const char *path, char **text, size_t *n, struct error *err)
{
    FILE *in = fopen(path, "re");
    struct stat st;
    *text = NULL;
    *n = 0;
    if (!in) {
        return errno == ENOENT ? STATUS_OK : error_errno(err, errno, "%s", path);
    }
    if (fstat(fileno(in), &st) == 0 && S_ISREG(st.st_mode)) {
        *text = malloc((size_t)st.st_size + 1);
        *n = *text ? fread(*text, 1, (size_t)st.st_size, in) : 0;
    }
    bool bad = ferror(in) || (S_ISREG(st.st_mode) && !*text);
    fclose(in);
    return bad ? error_errno(err, EIO, "%s: cannot read", path) : STATUS_OK;
}

/* The line that ends at text[end - 1] is `line`. */
static bool ends_with(const char *text, size_t end, const char *line, size_t n)
{
    return line && end >= n && memcmp(text + end - n, line, n) == 0 && (end == n || text[end - n - 1] == '\n');
}

/* How much of the file is whole rows of this very sweep: *bytes of it, *rows points. */
static enum status look_at_rows(struct sweep *s, const char *text, size_t n, size_t *bytes, int64_t *rows, struct error *err)
{
    int64_t lines = 0;
    size_t end = 0, length;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n') {
            lines++;
            end = i + 1;
        }
    }
    char *line = line_of(s, -1, &length);
    bool ours = lines == 0 || (line && end >= length && memcmp(text, line, length) == 0 && lines - 1 <= s->axes.points);
    free(line);
    if (ours && lines > 1) {
        line = line_of(s, lines - 2, &length);
        ours = ends_with(text, end, line, length);
        free(line);
    }
    if (!ours) {
        return error_set(err, STATUS_INVALID,
                         "%s: expected rows of this sweep to go on from, found others (line %lld): give another file", s->path,
                         (long long)(lines > 1 ? lines : 1));
    }
    *bytes = end;
    *rows = lines > 0 ? lines - 1 : 0;
    return STATUS_OK;
}

static enum status open_rows(struct sweep *s, struct error *err)
{
    char *text = NULL;
    size_t n = 0, whole = 0;
    s->out = stdout;
    if (!s->path) {
        return STATUS_OK;
    }
    enum status status = read_file(s->path, &text, &n, err);
    if (status == STATUS_OK && n > 0) {
        status = look_at_rows(s, text, n, &whole, &s->done, err);
    }
    free(text);
    if (status != STATUS_OK) {
        return status;
    }
    s->out = fopen(s->path, "ae");
    if (!s->out || (n > whole && ftruncate(fileno(s->out), (off_t)whole) != 0)) {
        return error_errno(err, errno, "%s: cannot write", s->path);
    }
    s->goes_on = whole > 0;
    if (s->goes_on) {
        fprintf(stderr, "ballast: sweep: %s has %lld of %lld rows: going on from there\n", s->path, (long long)s->done,
                (long long)s->axes.points);
    }
    return STATUS_OK;
}

static enum status start_rows(struct sweep *s, struct error *err)
{
    size_t n;
    if (s->goes_on) {
        return STATUS_OK;
    }
    char *line = line_of(s, -1, &n);
    enum status status = line ? write_text(s, line, n, err) : error_set(err, STATUS_RUNTIME, "out of memory for a row");
    free(line);
    return status;
}

/* -- the whole -------------------------------------------------------------------------------------------------------------- */

static void add_name(char names[][40], int *n, const char *name)
{
    for (int i = 0; i < *n; i++) {
        if (strcmp(names[i], name) == 0) {
            return;
        }
    }
    if (*n < NAMES_MAX) {
        snprintf(names[(*n)++], sizeof names[0], "%s", name);
    }
}

static const struct axis *axis_named(const struct axes *a, const char *name)
{
    for (int i = 0; i < a->n; i++) {
        if (strcmp(a->axis[i].name, name) == 0) {
            return &a->axis[i];
        }
    }
    return NULL;
}

/* Without a model every point would fail, and with a misspelled one half of them. */
static enum status check_models(const struct axes *a, struct error *err)
{
    const struct axis *x = axis_named(a, "model");
    enum status status = STATUS_OK;
    for (int64_t v = 0; status == STATUS_OK && v < (x ? x->n : 1); v++) {
        struct arch arch;
        struct options o;
        options_default(&o, "sweep");
        o.model = x ? x->value[v] : NULL;
        status = options_model(&o, &arch, err);
        arch_free(&arch);
    }
    return status;
}

/* Whether a machine takes every change of the sweep. */
static enum status check_changes(const struct axes *a, const struct hardware *hw, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < a->n; i++) {
        const struct axis *x = &a->axis[i];
        for (int64_t v = 0; strncmp(x->name, "hardware-set ", 13) == 0 && v < x->n && status == STATUS_OK; v++) {
            struct hardware changed = *hw;
            status = hardware_set(&changed, x->value[v], err);
        }
    }
    return status;
}

/* The tiers and resources of every machine of the sweep. A change that none of them takes is a mistake; of one that some do not take
 * the rows tell. */
static enum status find_names(struct sweep *s, struct error *err)
{
    const struct axis *x = axis_named(&s->axes, "hardware");
    char tiers[NAMES_MAX][40], name[40];
    struct error why = {0};
    bool taken = false;
    enum status status = STATUS_OK;
    for (int64_t v = 0; status == STATUS_OK && v < (x ? x->n : 1); v++) {
        struct hardware hw;
        struct options o;
        options_default(&o, "sweep");
        o.hardware = x ? x->value[v] : NULL;
        status = options_hardware(&o, &hw, err);
        for (int t = 0; status == STATUS_OK && t < hw.n_tiers; t++) {
            add_name(tiers, &s->n_tiers, hw.tier[t].name);
        }
        for (int r = 0; status == STATUS_OK && r < resource_count(&hw); r++) {
            add_name(s->resource, &s->n_resources, resource_name(&hw, r, name));
        }
        taken = status == STATUS_OK && (check_changes(&s->axes, &hw, &why) == STATUS_OK || taken);
    }
    if (status == STATUS_OK && !taken) {
        status = error_set(err, STATUS_INVALID, "%s", why.text);
    }
    for (int t = 0; t < s->n_tiers; t++) {
        snprintf(s->tier[t], sizeof s->tier[t], "%s", tiers[t]);
    }
    return status;
}

/* Rank 0 alone has the file. */
static enum status prepare(struct sweep *s, struct error *err)
{
    enum status status = check_models(&s->axes, err);
    if (status == STATUS_OK) {
        status = find_names(s, err);
    }
    if (status == STATUS_OK && s->ranks.rank == 0) {
        status = open_rows(s, err);
    }
    if (status == STATUS_OK && s->ranks.rank == 0) {
        status = start_rows(s, err);
    }
    return status;
}

static enum status sweep(struct sweep *s, const struct options *own, struct error *err)
{
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    s->path = own->file && strcmp(own->file, "-") != 0 ? own->file : NULL;
    enum status status = prepare(s, err);
    if (status != STATUS_OK) {
        return status;
    }
    ranks_agree(&s->ranks, &s->done);
    int64_t left = s->axes.points - s->done, jobs = own->jobs ? own->jobs : cores;
    int64_t chunk = left / (jobs * s->ranks.size * 32) + 1;
    struct ordered work = {.ranks = s->ranks,
                           .workers = (int)(jobs < left ? jobs : left),
                           .first = s->done,
                           .last = s->axes.points,
                           .chunk = chunk < 64 ? chunk : 64,
                           .arg = s,
                           .make = make_rows,
                           .take = take_rows};
    progress_start(&s->progress, "sweep", "points");
    return ordered_run(&work, err);
}

/* What the sweep itself is told, among the options: where rows go and how many processes make them. */
static enum status own_options(const struct option_use *use, int *n, struct options *own, struct option_use *rest,
                               struct error *err)
{
    enum status status = STATUS_OK;
    int kept = 0;
    options_default(own, "sweep");
    for (int i = 0; i < *n && status == STATUS_OK; i++) {
        const char *name = option_name(use[i].option);
        if (strcmp(name, "output") == 0 || strcmp(name, "jobs") == 0) {
            status = options_set(own, use[i].option, use[i].text, err);
        } else {
            rest[kept++] = use[i];
        }
    }
    *n = kept;
    return status;
}

int cmd_sweep(int argc, char **argv)
{
    static const struct command_usage USAGE = {
        "sweep", "-m MODELS -H FILES [OPTIONS with lists] [-o FILE]",
        "Predicts, or plans where no policy is given, every combination of the values listed: 1,2,8; 1-64*2; 128-512+128; names and\n"
        "sizes between commas; --vary compress-weight=yes,no for a flag. One CSV row a point, in order, last list fastest. With -o, a\n"
        "file that an interrupted sweep left is gone on with. Under mpirun the points are spread over its ranks; rank 0 writes.",
        OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_POLICY | OPTION_FLEXGEN | OPTION_SEARCH | OPTION_FILE |
            OPTION_SWEEP};
    struct option_use use[USES_MAX], rest[USES_MAX];
    struct options own;
    struct error err = {0};
    int n, code;
    if (!options_uses(use, &n, &USAGE, argc, argv, &code)) {
        return code;
    }
    struct sweep *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(&err, STATUS_RUNTIME, "out of memory");
        return command_fail(USAGE.name, &err);
    }
    if (ranks_join(&s->ranks, &err) == STATUS_OK && own_options(use, &n, &own, rest, &err) == STATUS_OK &&
        axes_new(&s->axes, rest, n, &err) == STATUS_OK) {
        sweep(s, &own, &err);
    }
    if (s->path && s->out && fclose(s->out) && err.status == STATUS_OK) {
        error_errno(&err, errno, "%s: cannot write", s->path);
    }
    /* the ranks find the same mistakes in the options: one says them */
    if (err.status != STATUS_OK && (s->ranks.rank == 0 || err.status == STATUS_RUNTIME)) {
        command_fail(USAGE.name, &err);
    }
    ranks_leave(&s->ranks, err.status);
    setting_close(&s->setting);
    axes_free(&s->axes);
    free(s);
    return (int)err.status;
}
