/* test_validate.c - errors per term, the verdict, and what is refused. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "tests/trace_maker.h"
#include "traces/validate.h"

#define NEAR(a, b) cr_assert(epsilon_eq(dbl, (a), (b), 1e-9))

/* A run of 6 s on one disk link and one CPU. Step 0 is 0..2 s, the rest 2..6 s.
 *     disk  load 0..1 s (step 0), load 2..5 s (step 1)
 *     cpu   compute 1..2 s (step 0), compute 5..6 s (step 1)
 * predicted: prefill 2.2 s, decode 4.4 s, so 6.6 s; busy as below. */
static void make_run(struct trace *t, enum trace_origin origin)
{
    static const struct trace_event event[] = {
        {.op = 0, .kind = 0, .resource = 0, .step = 0, .start_ns = 0, .end_ns = 1000000000, .waits_for = -1},
        {.op = 1, .kind = 1, .resource = 1, .step = 0, .start_ns = 1000000000, .end_ns = 2000000000, .waits_for = 0},
        {.op = 2, .kind = 0, .resource = 0, .step = 1, .start_ns = 2000000000, .end_ns = 5000000000, .waits_for = -1},
        {.op = 3, .kind = 1, .resource = 1, .step = 1, .start_ns = 5000000000, .end_ns = 6000000000, .waits_for = 2},
    };
    trace_init(t);
    t->origin = origin;
    strcpy(t->model, "opt-125m");
    strcpy(t->machine, "laptop");
    t->n_kinds = t->n_resources = 2;
    t->n_tiers = 1;
    strcpy(t->kind_name[0], "load");
    strcpy(t->kind_name[1], "compute");
    strcpy(t->resource_name[0], "disk->ram");
    strcpy(t->resource_name[1], "cpu");
    strcpy(t->tier_name[0], "ram");
    t->generated_tokens = 12;
    t->predicted_prefill_s = 2.2;
    t->predicted_decode_s = 4.4;
    t->predicted_busy_s[0][0] = 1.1;
    t->predicted_busy_s[0][1] = 0.9;
    t->predicted_busy_s[1][0] = 3;
    t->predicted_busy_s[1][1] = 1.2;
    t->predicted_peak_bytes[0] = 1000;
    t->measured_peak_bytes[0] = origin == TRACE_MEASURED ? 1000 : 0;
    for (size_t i = 0; i < sizeof event / sizeof *event; i++)
        cr_assert_eq(trace_add_event(t, &event[i], NULL), STATUS_OK);
}

static struct validate_report check(const struct trace *const *traces, int n)
{
    struct validate_limits limits;
    struct validate_report r;
    struct error err = {0};
    validate_limits_default(&limits);
    cr_assert_eq(validate_traces(traces, n, &limits, &r, &err), STATUS_OK, "%s", err.text);
    return r;
}

static const struct validate_term *term(const struct validate_report *r, const char *name)
{
    for (int i = 0; i < r->n_terms; i++)
        if (strcmp(r->term[i].name, name) == 0)
            return &r->term[i];
    return NULL;
}

static enum status refused(const struct trace *t, struct error *err)
{
    struct validate_limits limits;
    struct validate_report r;
    *err = (struct error){0};
    validate_limits_default(&limits);
    return validate_traces(&t, 1, &limits, &r, err);
}

Test(validate, each_term_has_its_relative_error)
{
    struct trace t;
    make_run(&t, TRACE_MEASURED);
    const struct trace *one = &t;
    const struct validate_report r = check(&one, 1);
    /* throughput: predicted 12 / 6.6, measured 12 / 6: 6 / 6.6 - 1 */
    NEAR(term(&r, "throughput")->signed_mean, 6 / 6.6 - 1);
    NEAR(term(&r, "prefill")->signed_mean, (2.2 - 2) / 2);
    NEAR(term(&r, "decode")->signed_mean, (4.4 - 4) / 4);
    NEAR(term(&r, "prefill disk->ram busy")->signed_mean, (1.1 - 1) / 1);
    NEAR(term(&r, "prefill cpu busy")->signed_mean, (0.9 - 1) / 1);
    NEAR(term(&r, "prefill cpu busy")->abs_mean, 0.1);
    NEAR(term(&r, "decode disk->ram busy")->signed_mean, 0);
    NEAR(term(&r, "decode cpu busy")->signed_mean, (1.2 - 1) / 1);
    NEAR(term(&r, "peak ram")->signed_mean, 0);
    cr_assert(eq(int, r.n_terms, 8));
    cr_assert(r.pass); /* 9.1 % is within 10 % */
    trace_free(&t);
}

Test(validate, terms_come_in_the_order_of_a_report)
{
    static const char *const order[] = {"throughput",       "prefill",
                                        "decode",           "prefill disk->ram busy",
                                        "prefill cpu busy", "decode disk->ram busy",
                                        "decode cpu busy",  "peak ram"};
    struct trace a, b;
    make_run(&a, TRACE_MEASURED);
    make_run(&b, TRACE_MEASURED);
    b.predicted_busy_s[0][0] = 0; /* every term of both, but the first trace lacks one: it is seen late and still sorted */
    a.predicted_busy_s[0][0] = 0;
    a.event[0].end_ns = a.event[0].start_ns;
    const struct trace *both[] = {&a, &b};
    const struct validate_report r = check(both, 2);
    cr_assert_eq(r.n_terms, 8);
    cr_assert_eq(term(&r, "prefill disk->ram busy")->n, 1);
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(r.term[i].name, order[i]);
    cr_assert_str_eq(r.term[7].name, order[7]);
    for (int i = 3; i < 5; i++)
        cr_assert_eq(strncmp(r.term[i].name, "prefill ", 8), 0);
    trace_free(&a);
    trace_free(&b);
}

Test(validate, the_statistics_of_ten_runs)
{
    /* Run k = 1..10 of 6 s is predicted as 6 s / (1 + e) with e = k / 100, so its throughput error is e; the sixth is negative.
     * signed mean: (1+2+3+4+5-6+7+8+9+10) / 10 = 4.3 %; mean abs 5.5 %; p90 is the ceil(0.9 * 10) = 9th of 10 sizes: 9 %. */
    struct trace t[10];
    const struct trace *all[10];
    for (int k = 1; k <= 10; k++) {
        make_run(&t[k - 1], TRACE_MEASURED);
        const double e = (k == 6 ? -k : k) / 100.0;
        t[k - 1].predicted_prefill_s = 2 / (1 + e);
        t[k - 1].predicted_decode_s = 4 / (1 + e);
        all[k - 1] = &t[k - 1];
    }
    struct validate_report r = check(all, 10);
    const struct validate_term *tp = term(&r, "throughput");
    cr_assert_eq(tp->n, 10);
    NEAR(tp->signed_mean, 0.043);
    NEAR(tp->abs_mean, 0.055);
    NEAR(tp->abs_p90, 0.09);
    NEAR(tp->abs_worst, 0.10);
    r = check(all, 9); /* ceil(8.1) = 9th of 9: the worst */
    NEAR(term(&r, "throughput")->abs_p90, 0.09);
    r = check(all, 1);
    NEAR(term(&r, "throughput")->abs_p90, 0.01);
    for (int k = 0; k < 10; k++)
        trace_free(&t[k]);
}

Test(validate, what_takes_less_than_a_hundredth_of_the_run_is_left_out)
{
    struct trace t;
    make_run(&t, TRACE_MEASURED);
    const struct trace *one = &t;
    t.event[1].end_ns = t.event[1].start_ns + 59000000; /* 0.059 s of 6 s measured, 0.059 s predicted: below 0.06 s */
    t.predicted_busy_s[0][1] = 0.059;
    struct validate_report r = check(&one, 1);
    cr_assert_null(term(&r, "prefill cpu busy"));
    /* One of both is above: it is a term, and the error is relative to 0.06 s. */
    t.predicted_busy_s[0][1] = 0.12;
    r = check(&one, 1);
    NEAR(term(&r, "prefill cpu busy")->signed_mean, (0.12 - 0.059) / 0.06);
    /* Predicted, but it never ran: still a finite error. */
    t.event[1].end_ns = t.event[1].start_ns;
    r = check(&one, 1);
    NEAR(term(&r, "prefill cpu busy")->signed_mean, (0.12 - 0) / 0.06);
    trace_free(&t);
}

Test(validate, the_verdict_follows_each_limit)
{
    struct trace t;
    make_run(&t, TRACE_MEASURED);
    const struct trace *one = &t;
    t.predicted_prefill_s = 2.7; /* 7.1 s predicted: 6 / 7.1 - 1 = -15.5 %: above the mean of 10 % */
    struct validate_report r = check(&one, 1);
    cr_assert_not(r.pass);
    cr_assert_eq(strncmp(r.verdict, "FAIL: throughput off by 15.5 % on average (limit 10 %)", 54), 0, "%s", r.verdict);
    t.predicted_prefill_s = 2.2;
    t.measured_peak_bytes[0] = 1020; /* (1000 - 1020) / 1020 = 1.96 %: above 1 % */
    r = check(&one, 1);
    cr_assert_not(r.pass);
    cr_assert(strstr(r.verdict, "peak ram off by 1.96 % at worst (limit 1 %)") != NULL, "%s", r.verdict);
    t.measured_peak_bytes[0] = 1010; /* 0.99 % */
    r = check(&one, 1);
    cr_assert(r.pass);
    cr_assert_eq(strncmp(r.verdict, "PASS: ", 6), 0);
    trace_free(&t);
}

Test(validate, an_error_bar_is_forgiven_and_named)
{
    /* The run took 6 s; 4.8 s were predicted, 4.5 to 6.4 s the bar. Off by 6 / 4.8 - 1 = 25 %, inside the bar, whose half width is
     * 0.95 / 4.8 = 19.8 %. */
    struct trace t;
    make_run(&t, TRACE_MEASURED);
    const struct trace *one = &t;
    t.predicted_prefill_s = 1.6;
    t.predicted_decode_s = 3.2;
    t.predicted_low_s = 4.5;
    t.predicted_high_s = 6.4;
    struct validate_report r = check(&one, 1);
    NEAR(term(&r, "throughput")->abs_worst, 0.25);
    NEAR(r.beyond_worst, 0);
    NEAR(r.bar_half_width, 0.95 / 4.8);
    cr_assert(r.pass);
    cr_assert(strstr(r.verdict, "25 % at worst (limit 20 %); 1 of 1 inside the error bar (+-20 %)") != NULL, "%s", r.verdict);
    /* Up to 5 s: 6 / 5 - 1 = 20 % beyond it, above the mean of 10 %. */
    t.predicted_high_s = 5;
    r = check(&one, 1);
    NEAR(r.beyond_worst, 0.2);
    cr_assert_eq(r.n_bars, 1);
    cr_assert_eq(r.n_inside, 0);
    cr_assert_not(r.pass);
    /* From 8 to 9 s: 1 - 6 / 8 = 25 % before it. */
    t.predicted_prefill_s = 5.3;
    t.predicted_low_s = 8;
    t.predicted_high_s = 9;
    r = check(&one, 1);
    NEAR(r.beyond_mean, 0.25);
    trace_free(&t);
}

Test(validate, one_bad_run_fails_although_the_mean_is_fine)
{
    struct trace t[3];
    const struct trace *all[3] = {&t[0], &t[1], &t[2]};
    for (int i = 0; i < 3; i++) {
        make_run(&t[i], TRACE_MEASURED);
        t[i].predicted_prefill_s = 2;
        t[i].predicted_decode_s = 4;
    }
    t[2].predicted_decode_s = 6 / 1.24 - 2; /* +24 % and twice 0: 8 % on average */
    const struct validate_report r = check(all, 3);
    NEAR(term(&r, "throughput")->abs_mean, 0.08);
    NEAR(term(&r, "throughput")->abs_worst, 0.24);
    cr_assert_not(r.pass);
    for (int i = 0; i < 3; i++)
        trace_free(&t[i]);
}

Test(validate, a_simulated_trace_is_no_measurement)
{
    struct trace sim, run;
    make_run(&sim, TRACE_SIMULATED);
    make_run(&run, TRACE_MEASURED);
    sim.predicted_decode_s = 100; /* absurd, and nobody looks */
    const struct trace_sample sample = {.at_ns = 5, .tier = 0, .bytes = 1005}, less = {.at_ns = 5, .tier = 0, .bytes = 900};
    cr_assert_eq(trace_add_sample(&sim, &less, NULL), STATUS_OK);
    const struct trace *both[] = {&sim, &run};
    struct validate_report r = check(both, 2);
    cr_assert_eq(r.n_traces, 2);
    cr_assert_eq(r.n_simulated, 1);
    cr_assert_eq(term(&r, "throughput")->n, 1);
    /* Its capacity counts, under its own name; less than there is room for is no error, more is: (1000 - 1005) / 1005. */
    NEAR(term(&r, "simulated peak ram")->signed_mean, 0);
    NEAR(term(&r, "peak ram")->signed_mean, 0);
    r = check(both, 1);
    cr_assert_null(term(&r, "throughput"));
    cr_assert(r.pass);
    cr_assert(strstr(r.verdict, "no measured trace, so no time was validated") != NULL, "%s", r.verdict);
    cr_assert_eq(trace_add_sample(&sim, &sample, NULL), STATUS_OK);
    r = check(both, 1);
    NEAR(term(&r, "simulated peak ram")->signed_mean, -5 / 1005.0);
    trace_free(&sim);
    trace_free(&run);
}

Test(validate, a_run_without_a_prediction_does_not_pass)
{
    struct trace t;
    make_run(&t, TRACE_MEASURED);
    t.predicted_prefill_s = t.predicted_decode_s = 0;
    const struct trace *one = &t;
    const struct validate_report r = check(&one, 1);
    cr_assert_not(r.pass);
    cr_assert(strstr(r.verdict, "no measured trace carries a prediction") != NULL, "%s", r.verdict);
    trace_free(&t);
}

Test(validate, the_order_of_events_is_checked)
{
    struct trace t;
    struct error err;
    make_run(&t, TRACE_SIMULATED);
    cr_assert_eq(refused(&t, &err), STATUS_OK);
    t.event[2].start_ns = 999999999; /* 1 ns before op 0 leaves the disk */
    cr_assert_eq(refused(&t, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "one operation at a time on disk->ram, found op 2 starting at 999999999 ns before op 0 ends at "
                               "1000000000 ns") != NULL,
              "%s", err.text);
    t.event[2].start_ns = 6000000000;
    cr_assert_eq(refused(&t, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "op 2: expected an end after its start at 6000000000 ns, found 5000000000") != NULL, "%s",
              err.text);
    t.event[2].start_ns = t.event[2].end_ns = 500000000; /* no duration: it takes nobody's place */
    cr_assert_eq(refused(&t, &err), STATUS_OK, "%s", err.text);
    t.event[2].resource = 2;
    cr_assert_eq(refused(&t, &err), STATUS_INVALID);
    trace_free(&t);
}

Test(validate, an_overlap_is_found_wherever_it_is)
{
    const uint64_t seed = 7;
    struct maker m = {.gpu = 1, .steps = 3, .layers = 4, .batches = 3, .unit_s = 1e-3, .jitter = 0.4, .state = seed};
    struct trace t;
    struct error err;
    cr_log_info("seed %llu", (unsigned long long)seed);
    maker_make(&t, &m, TRACE_MEASURED);
    cr_assert_eq(refused(&t, &err), STATUS_OK, "%s", err.text);
    int tried = 0;
    for (int64_t i = 0; i < t.n_events; i++) { /* pull each event 1 ns into the end of one on the same resource, if it touches */
        for (int64_t k = 0; k < t.n_events; k++)
            if (t.event[k].resource == t.event[i].resource && t.event[k].end_ns == t.event[i].start_ns) {
                t.event[i].start_ns--;
                cr_assert_eq(refused(&t, &err), STATUS_INVALID, "event %lld", (long long)i);
                t.event[i].start_ns++;
                tried++;
            }
    }
    cr_assert_gt(tried, 20);
    trace_free(&t);
}

Test(validate, an_empty_list_and_too_many_terms_are_refused)
{
    struct validate_limits limits;
    struct validate_report r;
    struct error err = {0};
    validate_limits_default(&limits);
    cr_assert_eq(validate_traces(NULL, 0, &limits, &r, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected at least one trace") != NULL);
    /* 3 totals, then 4 busy terms and 1 peak a trace whose names are all its own: 13 traces bring 3 + 5 * 13 = 68 > 64. */
    struct trace t[13];
    const struct trace *all[13];
    for (int i = 0; i < 13; i++) {
        make_run(&t[i], TRACE_MEASURED);
        snprintf(t[i].resource_name[0], sizeof t[i].resource_name[0], "disk %d", i);
        snprintf(t[i].resource_name[1], sizeof t[i].resource_name[1], "cpu %d", i);
        snprintf(t[i].tier_name[0], sizeof t[i].tier_name[0], "ram %d", i);
        all[i] = &t[i];
    }
    err = (struct error){0};
    cr_assert_eq(validate_traces(all, 12, &limits, &r, &err), STATUS_OK, "%s", err.text); /* 63 */
    cr_assert_eq(r.n_terms, 63);
    cr_assert_eq(validate_traces(all, 13, &limits, &r, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "at most 64 terms") != NULL, "%s", err.text);
    for (int i = 0; i < 13; i++)
        trace_free(&t[i]);
}

/* The report as text; the caller frees it. */
static char *printed(const struct validate_report *r, const char *format)
{
    char *text = NULL;
    size_t n = 0;
    struct error err = {0};
    FILE *f = open_memstream(&text, &n);
    cr_assert_eq(validate_print(r, format, f, &err), STATUS_OK, "%s", err.text);
    fclose(f);
    return text;
}

Test(validate, the_report_prints_in_four_formats)
{
    struct trace t;
    make_run(&t, TRACE_MEASURED);
    strcpy(t.resource_name[1], "cpu, \"all\"");
    const struct trace *one = &t;
    const struct validate_report r = check(&one, 1);
    char *md = printed(&r, "md"), *csv = printed(&r, "csv"), *json = printed(&r, "json"), *jsonl = printed(&r, "jsonl");

    cr_assert(strstr(md, "| term | n | signed mean % | mean abs % | p90 abs % | worst % |\n") != NULL);
    cr_assert(strstr(md, "| throughput | 1 | -9.09 | 9.09 | 9.09 | 9.09 |\n") != NULL, "%s", md); /* 6 / 6.6 - 1 */
    cr_assert(strstr(md, "\nPASS: ") != NULL);

    cr_assert_eq(strncmp(csv, "term,n,signed_mean_pct,abs_mean_pct,abs_p90_pct,abs_worst_pct\n", 62), 0);
    cr_assert(strstr(csv, "prefill disk->ram busy,1,10,10,10,10\n") != NULL, "%s", csv);
    cr_assert(strstr(csv, "\"decode cpu, \"\"all\"\" busy\",1,20,20,20,20\n") != NULL, "%s", csv);
    cr_assert(strstr(csv, "\n# PASS: ") != NULL);

    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(root, "%s", json);
    const json_t *pass = json_object_get(root, "pass");
    cr_assert_eq(json_typeof(pass), JSON_TRUE);
    cr_assert_str_eq(json_string_value(json_object_get(root, "verdict")), r.verdict);
    const json_t *terms = json_object_get(root, "terms");
    cr_assert_eq(json_array_size(terms), (size_t)r.n_terms);
    cr_assert(epsilon_eq(dbl, json_number_value(json_object_get(json_array_get(terms, 1), "signed_mean_pct")), 10, 1e-4));
    json_decref(root);

    int lines = 0;
    for (char *line = strtok(jsonl, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        json_t *object = json_loads(line, 0, NULL);
        cr_assert_not_null(json_object_get(object, lines < r.n_terms ? "term" : "verdict"), "%s", line);
        json_decref(object);
    }
    cr_assert_eq(lines, r.n_terms + 1);

    struct error err = {0};
    cr_assert_eq(validate_print(&r, "xml", stdout, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected format md, csv, json or jsonl, found 'xml'") != NULL);
    free(md);
    free(csv);
    free(json);
    free(jsonl);
    trace_free(&t);
}
