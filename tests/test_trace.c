/* test_trace.c - the trace in memory and its CSV; test_chrome.c has the Chrome JSON. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/failing_allocations.h"
#include "tests/trace_maker.h"

#define GOLDEN "tests/golden/trace.csv"

/* -- helpers ----------------------------------------------------------------------------------------------------------- */

static char folder[64];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/ballast-test-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
}

static void remove_folder(void)
{
    cr_assert_eq(rmdir(folder), 0, "%s: files were left behind", folder);
}

TestSuite(trace, .init = make_folder, .fini = remove_folder);

static const char *in_folder(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

/* The whole file, ended by a zero; the caller frees it. */
static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "%s", path);
    struct stat st;
    cr_assert_eq(fstat(fileno(f), &st), 0);
    char *text = calloc(1, (size_t)st.st_size + 1);
    *n = fread(text, 1, (size_t)st.st_size, f);
    fclose(f);
    return text;
}

static bool same_event(const struct trace_event *a, const struct trace_event *b)
{
    return a->op == b->op && a->kind == b->kind && a->resource == b->resource && a->step == b->step && a->layer == b->layer &&
           a->batch == b->batch && a->bytes == b->bytes && a->flops == b->flops && a->start_ns == b->start_ns &&
           a->end_ns == b->end_ns && a->waits_for == b->waits_for;
}

static bool same_header(const struct trace *a, const struct trace *b)
{
    if (a->n_kinds != b->n_kinds || a->n_resources != b->n_resources || a->n_tiers != b->n_tiers)
        return false;
    bool same = true;
    for (int i = 0; i < a->n_kinds; i++)
        same &= strcmp(a->kind_name[i], b->kind_name[i]) == 0;
    for (int i = 0; i < a->n_resources; i++)
        same &= strcmp(a->resource_name[i], b->resource_name[i]) == 0 && a->predicted_busy_s[0][i] == b->predicted_busy_s[0][i] &&
                a->predicted_busy_s[1][i] == b->predicted_busy_s[1][i];
    for (int i = 0; i < a->n_tiers; i++)
        same &= strcmp(a->tier_name[i], b->tier_name[i]) == 0 && a->predicted_peak_bytes[i] == b->predicted_peak_bytes[i] &&
                a->measured_peak_bytes[i] == b->measured_peak_bytes[i];
    return same && a->origin == b->origin && strcmp(a->version, b->version) == 0 && strcmp(a->machine, b->machine) == 0 &&
           strcmp(a->model, b->model) == 0 && strcmp(a->workload, b->workload) == 0 && strcmp(a->policy, b->policy) == 0 &&
           a->predicted_prefill_s == b->predicted_prefill_s && a->predicted_decode_s == b->predicted_decode_s &&
           a->predicted_low_s == b->predicted_low_s && a->predicted_high_s == b->predicted_high_s &&
           a->generated_tokens == b->generated_tokens;
}

static void assert_same(const struct trace *a, const struct trace *b)
{
    cr_assert(same_header(a, b));
    cr_assert(eq(i64, a->n_events, b->n_events));
    cr_assert(eq(i64, a->n_samples, b->n_samples));
    for (int64_t i = 0; i < a->n_events; i++)
        cr_assert(same_event(&a->event[i], &b->event[i]), "event %lld", (long long)i);
    for (int64_t i = 0; i < a->n_samples; i++)
        cr_assert(a->sample[i].at_ns == b->sample[i].at_ns && a->sample[i].tier == b->sample[i].tier &&
                      a->sample[i].bytes == b->sample[i].bytes,
                  "sample %lld", (long long)i);
}

/* -- in memory --------------------------------------------------------------------------------------------------------- */

Test(trace, a_summary_splits_at_the_end_of_step_0)
{
    struct trace t;
    struct trace_summary s;
    maker_small(&t);
    trace_summarise(&t, &s);
    /* All: 0..300. The last event of step 0 ends at 250, although step 1 has begun by then. */
    cr_assert(epsilon_eq(dbl, s.total_s, 300e-9, 1e-18));
    cr_assert(epsilon_eq(dbl, s.prefill_s, 250e-9, 1e-18));
    cr_assert(epsilon_eq(dbl, s.decode_s, 50e-9, 1e-18));
    /* disk->ram: 100 and 100; cpu: 150 and 50. */
    cr_assert(epsilon_eq(dbl, s.busy_s[0][0], 100e-9, 1e-18));
    cr_assert(epsilon_eq(dbl, s.busy_s[1][0], 100e-9, 1e-18));
    cr_assert(epsilon_eq(dbl, s.busy_s[0][1], 150e-9, 1e-18));
    cr_assert(epsilon_eq(dbl, s.busy_s[1][1], 50e-9, 1e-18));
    cr_assert(eq(dbl, s.bytes[0], 2000));
    /* 16 tokens in 300 ns. Both resources are busy for 200 ns: the first one counts. */
    cr_assert(epsilon_eq(dbl, s.throughput_tok_s, 16 / 300e-9, 1));
    cr_assert(eq(int, s.busiest, 0));
    t.event[3].end_ns = 301;
    trace_summarise(&t, &s);
    cr_assert(eq(int, s.busiest, 1));
    trace_free(&t);
}

/* Two batches of two tokens under way, one pass apart, three batches in all: passes of {0}, {0, 1}, {1, 2}, {2}; in the first three one is at
 * step 0. One layer, embed 1 ns and head 2 ns a batch, so passes of 3, 6, 6 and 3 ns. */
Test(trace, a_summary_of_batches_at_different_steps_goes_by_their_passes)
{
    static const int pass_of[][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}}; /* batch, step */
    static const int passes[][2] = {{0, 1}, {1, 3}, {3, 5}, {5, 6}};                  /* ranges of the above */
    struct trace t;
    struct trace_summary s;
    int64_t now = 0;
    int32_t op = 0;
    trace_init(&t);
    t.n_kinds = 2;
    snprintf(t.kind_name[0], sizeof t.kind_name[0], "embed");
    snprintf(t.kind_name[1], sizeof t.kind_name[1], "head");
    t.n_resources = 1;
    for (int pass = 0; pass < 4; pass++)
        for (int kind = 0; kind < 2; kind++)
            for (int i = passes[pass][0]; i < passes[pass][1]; i++) {
                struct trace_event e = {.op = op++,
                                        .kind = (int16_t)kind,
                                        .step = pass_of[i][1],
                                        .layer = kind,
                                        .batch = pass_of[i][0],
                                        .start_ns = now,
                                        .end_ns = now + 1 + kind,
                                        .waits_for = -1};
                now = e.end_ns;
                cr_assert_eq(trace_add_event(&t, &e, NULL), STATUS_OK);
            }
    trace_summarise(&t, &s);
    cr_assert_float_eq(s.total_s, 18e-9, 1e-15);
    cr_assert_float_eq(s.prefill_s, 15e-9, 1e-15);
    cr_assert_float_eq(s.decode_s, 3e-9, 1e-15);
    cr_assert_float_eq(s.busy_s[0][0], 15e-9, 1e-15);
    cr_assert_float_eq(s.busy_s[1][0], 3e-9, 1e-15);
    trace_free(&t);
}

Test(trace, a_summary_of_nothing_is_zero)
{
    struct trace t;
    struct trace_summary s;
    trace_init(&t);
    trace_summarise(&t, &s);
    cr_assert(eq(dbl, s.total_s, 0));
    cr_assert(eq(dbl, s.throughput_tok_s, 0));
}

Test(trace, reserving_means_that_adding_does_not_move_the_events)
{
    struct trace t;
    trace_init(&t);
    cr_assert_eq(trace_reserve(&t, 1000, 10, NULL), STATUS_OK);
    const struct trace_event *at = t.event;
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(trace_add_event(&t, &(struct trace_event){.op = i}, NULL), STATUS_OK);
    cr_assert_eq(t.event, at);
    cr_assert_eq(trace_add_event(&t, &(struct trace_event){.op = 1000}, NULL), STATUS_OK);
    for (int i = 0; i <= 1000; i++)
        cr_assert(eq(int, t.event[i].op, i));
    trace_free(&t);
}

Test(trace, a_reservation_beyond_memory_fails_and_keeps_the_trace)
{
    struct trace t;
    struct error err = {0};
    maker_small(&t);
    cr_assert_eq(trace_reserve(&t, INT64_MAX, 0, &err), STATUS_RUNTIME);
    cr_assert(eq(i64, t.n_events, 4));
    cr_assert(eq(int, t.event[3].op, 3));
    trace_free(&t);
}

/* -- CSV --------------------------------------------------------------------------------------------------------------- */

/* BALLAST_UPDATE_GOLDEN=1 build/tests/test_trace writes the golden file anew; read the diff. */
Test(trace, the_csv_is_the_golden_file)
{
    struct trace t, back;
    struct error err = {0};
    char path[128];
    size_t n = 0, golden_n = 0;
    maker_small(&t);
    if (getenv("BALLAST_UPDATE_GOLDEN"))
        cr_assert_eq(trace_write_csv(&t, GOLDEN, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(trace_write_csv(&t, in_folder("t.csv", path), &err), STATUS_OK, "%s", err.text);
    char *text = read_file(path, &n), *golden = read_file(GOLDEN, &golden_n);
    cr_assert(eq(str, text, golden));
    cr_assert_eq(trace_read_csv(&back, GOLDEN, &err), STATUS_OK, "%s", err.text);
    assert_same(&t, &back);
    trace_free(&back);
    trace_free(&t);
    free(text);
    free(golden);
    unlink(path);
}

static void random_text(struct maker *m, char *out, size_t size, bool may_be_empty, int unique)
{
    static const char *const piece[] = {"a", "Z", "9", " ", ",", "\"", "#", ":", "'", "\\", "\xc3\xa9", "->", "`", "%s"};
    const int n = (int)(maker_random(m) % 8) + (may_be_empty ? 0 : 1);
    out[0] = 0;
    for (int i = 0; i < n; i++)
        if (strlen(out) + 10 < size)
            strcat(out, piece[maker_random(m) % (sizeof piece / sizeof *piece)]);
    if (unique >= 0)
        snprintf(out + strlen(out), size - strlen(out), "%d", unique);
}

static int64_t random_int(struct maker *m)
{
    return (int64_t)(maker_random(m) >> (1 + maker_random(m) % 63));
}

static double random_real(struct maker *m)
{
    switch (maker_random(m) % 4) {
    case 0:
        return 0;
    case 1:
        return (double)random_int(m);
    case 2:
        return maker_uniform(m);
    default:
        return ldexp(maker_uniform(m), (int)(maker_random(m) % 2000) - 1000);
    }
}

static void random_header(struct maker *m, struct trace *t)
{
    t->origin = (enum trace_origin)(maker_random(m) % TRACE_ORIGINS);
    random_text(m, t->version, sizeof t->version, true, -1);
    random_text(m, t->machine, sizeof t->machine, true, -1);
    random_text(m, t->model, sizeof t->model, true, -1);
    random_text(m, t->workload, sizeof t->workload, true, -1);
    random_text(m, t->policy, sizeof t->policy, true, -1);
    t->generated_tokens = random_int(m);
    t->predicted_prefill_s = random_real(m);
    t->predicted_decode_s = random_real(m);
    t->predicted_low_s = random_real(m);
    t->predicted_high_s = random_real(m);
    t->n_kinds = (int)(maker_random(m) % 25);
    t->n_resources = (int)(maker_random(m) % (TRACE_RESOURCES_MAX + 1));
    t->n_tiers = (int)(maker_random(m) % (TRACE_TIERS_MAX + 1));
    for (int i = 0; i < t->n_kinds; i++)
        random_text(m, t->kind_name[i], sizeof t->kind_name[i], false, i);
    for (int i = 0; i < t->n_resources; i++) {
        random_text(m, t->resource_name[i], sizeof t->resource_name[i], false, i);
        t->predicted_busy_s[0][i] = random_real(m);
        t->predicted_busy_s[1][i] = random_real(m);
    }
    for (int i = 0; i < t->n_tiers; i++) {
        random_text(m, t->tier_name[i], sizeof t->tier_name[i], false, i);
        t->predicted_peak_bytes[i] = random_real(m);
        t->measured_peak_bytes[i] = random_int(m);
    }
}

static void random_trace(struct maker *m, struct trace *t)
{
    trace_init(t);
    random_header(m, t);
    const int events = t->n_kinds && t->n_resources ? (int)(maker_random(m) % 40) : 0;
    const int samples = t->n_tiers ? (int)(maker_random(m) % 10) : 0;
    int32_t op = -1;
    int64_t at = 0;
    for (int i = 0; i < events; i++) {
        op += 1 + (int32_t)(maker_random(m) % 3);
        const int64_t start = random_int(m) / 2;
        const struct trace_event e = {.op = op,
                                      .kind = (int16_t)(maker_random(m) % (unsigned)t->n_kinds),
                                      .resource = (int16_t)(maker_random(m) % (unsigned)t->n_resources),
                                      .step = (int32_t)(random_int(m) & INT32_MAX),
                                      .layer = (int32_t)(random_int(m) % 99) - 1,
                                      .batch = (int32_t)(random_int(m) % 9) - 1,
                                      .bytes = random_int(m),
                                      .flops = random_real(m),
                                      .start_ns = start,
                                      .end_ns = start + random_int(m) / 2,
                                      .waits_for = (int32_t)(maker_random(m) % ((unsigned)op + 1)) - 1};
        cr_assert_eq(trace_add_event(t, &e, NULL), STATUS_OK);
    }
    for (int i = 0; i < samples; i++) {
        at += random_int(m) / 16;
        const struct trace_sample s = {.at_ns = at,
                                       .tier = (int16_t)(maker_random(m) % (unsigned)t->n_tiers),
                                       .bytes = random_int(m)};
        cr_assert_eq(trace_add_sample(t, &s, NULL), STATUS_OK);
    }
}

Test(trace, any_trace_survives_the_csv_unchanged)
{
    const char *given = getenv("BALLAST_SEED");
    const uint64_t seed = given ? strtoull(given, NULL, 10) : 20240607;
    struct maker m = {.state = seed * 2 + 1};
    char path[128];
    in_folder("t.csv", path);
    cr_log_info("seed %llu", (unsigned long long)seed);
    for (int i = 0; i < 400; i++) {
        struct trace t, back;
        struct error err = {0};
        random_trace(&m, &t);
        cr_assert_eq(trace_write_csv(&t, path, &err), STATUS_OK, "seed %llu, round %d: %s", (unsigned long long)seed, i,
                     err.text);
        cr_assert_eq(trace_read_csv(&back, path, &err), STATUS_OK, "seed %llu, round %d: %s", (unsigned long long)seed, i,
                     err.text);
        assert_same(&t, &back);
        trace_free(&t);
        trace_free(&back);
    }
    unlink(path);
}

Test(trace, every_truncated_file_is_refused_with_its_line)
{
    size_t n = 0;
    char *text = read_file(GOLDEN, &n);
    int line = 1;
    for (size_t cut = 0; cut < n; cut++) {
        struct trace t;
        struct error err = {0};
        char expected[32];
        /* A copy of exactly these bytes, so that a sanitizer sees a read past the end. */
        char *part = malloc(cut ? cut : 1);
        memcpy(part, text, cut);
        cr_assert_eq(trace_parse_csv(&t, "t.csv", part, cut, &err), STATUS_INVALID, "cut at %zu", cut);
        snprintf(expected, sizeof expected, "t.csv:%d: ", line);
        cr_assert_eq(strncmp(err.text, expected, strlen(expected)), 0, "cut at %zu: %s", cut, err.text);
        cr_assert(strstr(err.text, "truncated") != NULL, "cut at %zu: %s", cut, err.text);
        cr_assert_null(t.event);
        free(part);
        line += text[cut] == '\n';
    }
    free(text);
}

Test(trace, every_changed_byte_is_read_or_refused_with_a_line)
{
    static const char values[] = {0, ',', '"', '\n', '\r', '-', '9', 'x', ' ', '#', (char)0xff};
    size_t n = 0;
    char *text = read_file(GOLDEN, &n);
    for (size_t at = 0; at < n; at++)
        for (size_t v = 0; v < sizeof values; v++) {
            struct trace t;
            struct error err = {0};
            const char old = text[at];
            text[at] = values[v];
            const enum status s = trace_parse_csv(&t, "t.csv", text, n, &err);
            text[at] = old;
            cr_assert(s == STATUS_OK || (s == STATUS_INVALID && strncmp(err.text, "t.csv:", 6) == 0), "byte %zu: %d %s", at, s,
                      err.text);
            if (s != STATUS_OK)
                cr_assert(strstr(err.text, "expected") != NULL, "byte %zu: %s", at, err.text);
            trace_free(&t);
        }
    free(text);
}

struct edit {
    const char *old, *new; /* in the golden file */
    int line;
    const char *says;
};

/* Lines: 1 the format, 2 to 21 the header, 22 the columns, 23 to 26 the events, 27 to 29 the samples. */
static const struct edit edits[] = {
    {"# ballast-trace: 2", "# ballast-trace: 1", 1, "expected trace format version 2, found '1'"},
    {"# origin: measured", "# origin: guessed", 2, "expected 'measured', 'simulated' or 'emulated', found 'guessed'"},
    {"# machine: ", "# maschine: ", 4, "'# machine: ...'"},
    {"opt-125m", "0123456789012345678901234567890123456789012345678901234567890123", 5, "at most 63 printable"},
    {"tokens: 16", "tokens: -1", 8, "'generated_tokens': expected an integer from 0"},
    {"tokens: 16", "tokens: 9223372036854775808", 8, "found '9223372036854775808'"},
    {"prefill_s: 2.4e-07", "prefill_s: nan", 9, "'predicted_prefill_s': expected a number from 0 up, found 'nan'"},
    {"prefill_s: 2.4e-07", "prefill_s: 1e999", 9, "found '1e999'"},
    {"prefill_s: 2.4e-07", "prefill_s: 0x10", 9, "found '0x10'"},
    {"kinds: load_weight,compute", "kinds: load_weight,load_weight", 13, "the same name twice"},
    {"kinds: load_weight,compute", "kinds: load_weight,resident", 13, "kept for samples"},
    {"kinds: load_weight,compute", "kinds: load_weight,", 13, "an empty"},
    {"kinds: load_weight,compute", "kinds: load_weight,abcdefghijklmnopqrstuvwxyz", 13, "at most 23 characters, found one of 26"},
    {"prefill_busy_s: 1e-07,1.4e-07", "prefill_busy_s: 1e-07", 15, "expected 2 numbers, found 1"},
    {"tiers: ram,disk", "tiers: a,b,c,d,e", 17, "at most 4 names, found 5"},
    {"# events: 4", "# events: 5", 27, "expected event 5 of 5, found a sample"},
    {"# events: 4", "# events: 3", 26, "'kind': expected 'resident' after 3 events, found 'compute'"},
    {"# events: 4", "# events: 9000000000000000000", 27, "expected event 5 of 9000000000000000000"},
    {"# samples: 3", "# samples: 2", 29, "expected the end of the file"},
    {"# samples: 3", "# samples: 4", 30, "truncated"},
    {"op,kind,resource", "op,resource,kind", 22, "expected column 2 to be 'kind', found 'resource'"},
    {",waits_for\n", "\n", 22, "expected 11 columns, found 10"},
    {",waits_for\n", ",waits_for,more\n", 22, "expected 11 columns, found 12"},
    {"2,load_weight,disk->ram,1,", "1,load_weight,disk->ram,1,", 25, "'op': expected an integer from 2"},
    {"2,load_weight,disk->ram,1,", "2,load,disk->ram,1,", 25, "'kind': expected one of the 2 names in the header, found 'load'"},
    {"2,load_weight,disk->ram,1,", "2,load_weight,\"disk->ram,1,", 25, "double quote"},
    {"2,load_weight,disk->ram,1,", "2,load_weight,disk->ram,", 25, "of 11 fields, found 10"},
    {"2,load_weight,disk->ram,1,", "2,load_weight,disk->ram,one,", 25, "'step': expected an integer from 0 to 2147483647"},
    {"1000,0,100,200,0", "1000,0,200,100,0", 25, "'end_ns': expected an integer from 200"},
    {"1000,0,100,200,0", "1000,0,100,200,2", 25, "'waits_for': expected an integer from -1 to 1, found '2'"},
    {"1000,0,100,200,0", "1000,-1,100,200,0", 25, "'flops': expected a number from 0 up, found '-1'"},
    {"1000,0,100,200,0", "1000,0,100,200,0\r", 25, "carriage return"},
    {",resident,ram,,,,2000,,100,,", ",resident,gpu,,,,2000,,100,,", 29, "found 'gpu'"},
    {",resident,ram,,,,2000,,100,,", "4,resident,ram,,,,2000,,100,,", 29, "'op': expected nothing in a sample"},
    {",resident,ram,,,,2000,,100,,", ",resident,ram,,,,2000,,-1,,", 29, "'start_ns': expected an integer from 0"},
};

Test(trace, what_is_wrong_is_named_with_its_line)
{
    size_t n = 0;
    char *text = read_file(GOLDEN, &n);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        const struct edit *e = &edits[i];
        const char *at = strstr(text, e->old);
        cr_assert(at != NULL, "the golden file has no '%s'", e->old);
        char *changed = calloc(1, n + strlen(e->new) + 1), expected[32];
        memcpy(changed, text, (size_t)(at - text));
        strcat(changed, e->new);
        strcat(changed, at + strlen(e->old));
        struct trace t;
        struct error err = {0};
        cr_assert_eq(trace_parse_csv(&t, "t.csv", changed, strlen(changed), &err), STATUS_INVALID, "'%s'", e->new);
        snprintf(expected, sizeof expected, "t.csv:%d: ", e->line);
        cr_assert_eq(strncmp(err.text, expected, strlen(expected)), 0, "'%s' on line %d: %s", e->new, e->line, err.text);
        cr_assert(strstr(err.text, e->says) != NULL, "'%s': %s", e->new, err.text);
        free(changed);
    }
    free(text);
}

Test(trace, a_file_that_cannot_be_read_is_named)
{
    struct trace t;
    struct error err = {0};
    cr_assert_eq(trace_read_csv(&t, "no/such/file.csv", &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "no/such/file.csv") != NULL);
    cr_assert(strstr(err.text, "No such file") != NULL);
    err = (struct error){0};
    cr_assert_eq(trace_read_csv(&t, "tests", &err), STATUS_RUNTIME); /* a directory */
    cr_assert(strstr(err.text, "tests") != NULL);
}

Test(trace, a_file_that_cannot_be_written_is_named_and_leaves_nothing)
{
    struct trace t;
    struct error err = {0};
    const struct trace *one = &t;
    maker_small(&t);
    cr_assert_eq(trace_write_csv(&t, "no/such/folder/t.csv", &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "no/such/folder/t.csv") != NULL);
    err = (struct error){0};
    cr_assert_eq(trace_write_csv(&t, "/dev/full", &err), STATUS_RUNTIME); /* every write there fails: the disk is full */
    cr_assert(strstr(err.text, "/dev/full") != NULL && strstr(err.text, "No space left") != NULL, "%s", err.text);
    err = (struct error){0};
    cr_assert_eq(trace_write_chrome(&one, 1, "/dev/full", &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "No space left") != NULL, "%s", err.text);
    trace_free(&t);
}

Test(trace, a_trace_that_could_not_be_read_back_is_not_written)
{
    struct trace t;
    char path[128];
    in_folder("t.csv", path);
    for (int fault = 0; fault < 7; fault++) {
        struct error err = {0};
        maker_small(&t);
        switch (fault) {
        case 0:
            t.event[1].kind = 2;
            break;
        case 1:
            t.event[1].resource = -1;
            break;
        case 2:
            t.sample[1].tier = 2;
            break;
        case 3:
            strcpy(t.model, "two\nlines");
            break;
        case 4:
            strcpy(t.kind_name[1], "load_weight");
            break;
        case 5:
            t.predicted_decode_s = NAN;
            break;
        case 6:
            memset(t.machine, 'x', sizeof t.machine);
            break;
        }
        cr_assert_eq(trace_write_csv(&t, path, &err), STATUS_INVALID, "fault %d", fault);
        cr_assert_eq(strncmp(err.text, path, strlen(path)), 0, "%s", err.text);
        cr_assert_neq(access(path, F_OK), 0);
        trace_free(&t);
    }
}

#if CAN_FAIL_ALLOCATIONS
static enum status parse_golden(void)
{
    static char *text; /* read once, before anything fails: the rehearsal below does it */
    static size_t n;
    struct trace t;
    struct error err = {0};
    if (!text)
        text = read_file(GOLDEN, &n);
    const enum status s = trace_parse_csv(&t, GOLDEN, text, n, &err);
    cr_assert(s == STATUS_OK || (s == STATUS_RUNTIME && err.text[0] && !t.event && !t.sample), "%d %s", s, err.text);
    trace_free(&t);
    return s;
}

static const struct trace *to_write;

static enum status write_trace(void)
{
    char path[128];
    struct error err = {0};
    const enum status s = trace_write_csv(to_write, in_folder("t.csv", path), &err);
    cr_assert(s == STATUS_OK || (s == STATUS_RUNTIME && err.text[0]), "%d %s", s, err.text);
    cr_assert_eq(access(path, F_OK) == 0, s == STATUS_OK);
    unlink(path);
    return s;
}

Test(trace, every_failing_allocation_is_reported)
{
    struct trace t;
    spare_jansson();
    maker_small(&t);
    to_write = &t;
    cr_assert_eq(parse_golden(), STATUS_OK);
    cr_assert_geq(fail_each_allocation(parse_golden), 3); /* reader, events, samples; libcsv asks again for less */
    cr_assert_geq(fail_each_allocation(write_trace), 2);  /* the name and the stream */
    trace_free(&t);
}
#endif
