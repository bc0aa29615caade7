/* test_chrome.c - the Chrome trace JSON: parsed again, and checked against the trace. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/trace_maker.h"

static json_t *chrome_json(const struct trace *const *traces, int n)
{
    char path[] = "/tmp/ballast-test-XXXXXX";
    struct error err = {0};
    json_error_t where;
    close(mkstemp(path));
    cr_assert_eq(trace_write_chrome(traces, n, path, &err), STATUS_OK, "%s", err.text);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    cr_assert(root != NULL, "line %d: %s", where.line, where.text);
    unlink(path);
    return root;
}

static const char *text_of(const json_t *event, const char *key)
{
    return json_string_value(json_object_get(event, key));
}

static long long int_of(const json_t *event, const char *key)
{
    return json_integer_value(json_object_get(event, key));
}

static long long ns_of(const json_t *event, const char *key)
{
    return llround(json_number_value(json_object_get(event, key)) * 1000);
}

/* The n-th event with this phase and pid; NULL if there are fewer. */
static const json_t *nth(const json_t *events, char phase, int pid, int n)
{
    size_t i;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        if (text_of(e, "ph")[0] == phase && int_of(e, "pid") == pid && n-- == 0)
            return e;
    }
    return NULL;
}

/* The name that an 'M' event of this kind gives. */
static const char *label(const json_t *events, const char *what, int pid, int tid)
{
    for (int i = 0;; i++) {
        const json_t *e = nth(events, 'M', pid, i);
        if (!e)
            return NULL;
        if (strcmp(text_of(e, "name"), what) == 0 && int_of(e, "tid") == tid)
            return text_of(json_object_get(e, "args"), "name");
    }
}

Test(chrome, chrome_json_has_a_process_a_trace_and_a_thread_a_resource)
{
    struct trace predicted, measured;
    maker_small(&measured);
    maker_small(&predicted);
    predicted.origin = TRACE_SIMULATED;
    const struct trace *both[] = {&predicted, &measured};
    json_t *root = chrome_json(both, 2);
    const json_t *events = json_object_get(root, "traceEvents");
    cr_assert(eq(str, (char *)text_of(root, "displayTimeUnit"), "ms"));
    cr_assert(eq(str, (char *)label(events, "process_name", 1, 0), "simulated (prediction)"));
    cr_assert(eq(str, (char *)label(events, "process_name", 2, 0), "measured"));
    cr_assert(eq(str, (char *)label(events, "thread_name", 1, 1), "disk->ram"));
    cr_assert(eq(str, (char *)label(events, "thread_name", 2, 2), "cpu, all 8 cores"));
    const json_t *traces = json_object_get(json_object_get(root, "metadata"), "traces");
    cr_assert_eq(json_array_size(traces), 2);
    cr_assert(eq(str, (char *)text_of(json_array_get(traces, 1), "machine"), "laptop, \"old\""));
    json_decref(root);
    trace_free(&predicted);
    trace_free(&measured);
}

Test(chrome, chrome_json_has_slices_arrows_and_counters)
{
    struct trace t;
    maker_small(&t);
    const struct trace *one = &t;
    json_t *root = chrome_json(&one, 1);
    const json_t *events = json_object_get(root, "traceEvents");
    for (int i = 0; i < 4; i++) {
        const json_t *x = nth(events, 'X', 1, i);
        cr_assert(eq(str, (char *)text_of(x, "name"), t.kind_name[t.event[i].kind]));
        cr_assert_eq(int_of(x, "tid"), t.event[i].resource + 1);
        cr_assert_eq(ns_of(x, "ts"), t.event[i].start_ns);
        cr_assert_eq(ns_of(x, "dur"), t.event[i].end_ns - t.event[i].start_ns);
        cr_assert_eq(int_of(json_object_get(x, "args"), "op"), i);
        cr_assert_eq(int_of(json_object_get(x, "args"), "bytes"), t.event[i].bytes);
    }
    cr_assert_null(nth(events, 'X', 1, 4));
    /* Waits: op 1 for 0 and op 3 for 2 cross resources; op 2 for 0 stays on the disk and gets no arrow. */
    const int from[] = {0, 2}, to[] = {1, 3};
    for (int i = 0; i < 2; i++) {
        const json_t *s = nth(events, 's', 1, i), *f = nth(events, 'f', 1, i);
        cr_assert_eq(int_of(s, "id"), int_of(f, "id"));
        cr_assert_eq(int_of(s, "tid"), 1);
        cr_assert_eq(int_of(f, "tid"), 2);
        cr_assert_eq(ns_of(s, "ts"), t.event[from[i]].end_ns - 1); /* still inside its slice */
        cr_assert_eq(ns_of(f, "ts"), t.event[to[i]].start_ns);
    }
    cr_assert_neq(int_of(nth(events, 's', 1, 0), "id"), int_of(nth(events, 's', 1, 1), "id"));
    cr_assert_null(nth(events, 's', 1, 2));
    cr_assert(eq(str, (char *)text_of(nth(events, 'C', 1, 2), "name"), "resident ram"));
    cr_assert_eq(ns_of(nth(events, 'C', 1, 2), "ts"), 100);
    cr_assert_eq(int_of(json_object_get(nth(events, 'C', 1, 2), "args"), "bytes"), 2000);
    json_decref(root);
    trace_free(&t);
}

Test(chrome, chrome_slices_of_a_pipeline_nest_and_arrows_touch_their_slices)
{
    struct maker m = {.gpu = 1, .steps = 3, .layers = 5, .batches = 2, .unit_s = 1e-3, .jitter = 0.3, .state = 99};
    struct trace t;
    maker_make(&t, &m, TRACE_MEASURED);
    const struct trace *both[] = {&t, &t};
    json_t *root = chrome_json(both, 2);
    const json_t *events = json_object_get(root, "traceEvents");
    long long ends[3][TRACE_RESOURCES_MAX + 1] = {0}; /* per pid and tid: operations follow each other */
    size_t i, flows = 0;
    json_t *e;
    json_array_foreach(events, i, e)
    {
        const char phase = text_of(e, "ph")[0];
        if (phase == 'X') {
            long long *end = &ends[int_of(e, "pid")][int_of(e, "tid")];
            cr_assert(ge(llong, ns_of(e, "ts"), *end));
            *end = ns_of(e, "ts") + ns_of(e, "dur");
        }
        if (phase == 's') {
            const json_t *f = json_array_get(events, i + 1); /* the pair is written together */
            const struct trace_event *op = &t.event[int_of(e, "id") & 0xffffffff], *on = &t.event[op->waits_for];
            cr_assert_eq(int_of(f, "id"), int_of(e, "id"));
            cr_assert_eq(int_of(e, "id") >> 32, int_of(e, "pid"));
            cr_assert(ns_of(e, "ts") >= on->start_ns && ns_of(e, "ts") < on->end_ns);
            cr_assert_eq(ns_of(f, "ts"), op->start_ns);
            flows++;
        }
    }
    cr_assert_gt(flows, 100);
    json_decref(root);
    trace_free(&t);
}

Test(chrome, chrome_json_stays_json_whatever_the_names_hold)
{
    struct trace t;
    maker_small(&t);
    strcpy(t.model, "a\"b\\c\nd\x01"
                    "e\xff\xc3(\xed\xa0\x80\xf0\x9f\x98\x80"); /* control, broken UTF-8, a surrogate, an emoji */
    strcpy(t.resource_name[0], "\xc3\xa9");
    const struct trace *one = &t;
    json_t *root = chrome_json(&one, 1);
    const json_t *traces = json_object_get(json_object_get(root, "metadata"), "traces");
    /* Each byte that begins no character becomes U+FFFD: ff, c3, then ed a0 80 one by one. */
    cr_assert(eq(str, (char *)text_of(json_array_get(traces, 0), "model"),
                 "a\"b\\c\nd\x01"
                 "e\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80"));
    cr_assert(eq(str, (char *)label(json_object_get(root, "traceEvents"), "thread_name", 1, 1), "\xc3\xa9"));
    json_decref(root);
    trace_free(&t);
}

Test(chrome, chrome_json_takes_one_or_two_traces)
{
    struct trace t;
    struct error err = {0};
    maker_small(&t);
    const struct trace *three[] = {&t, &t, &t};
    cr_assert_eq(trace_write_chrome(three, 3, "never.json", &err), STATUS_INVALID);
    cr_assert_eq(trace_write_chrome(three, 0, "never.json", NULL), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected 1 or 2 traces, found 3") != NULL, "%s", err.text);
    trace_free(&t);
}
