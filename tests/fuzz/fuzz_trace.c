/* fuzz_trace.c - any bytes as a trace: refused with one line, or read; and what is read writes out and reads back the same,
 * and can be summarised, validated and written as Chrome JSON. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/trace.h"
#include "traces/validate.h"

static char path[64];

static void check(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_trace: %s\n", what);
    abort();
}

static void round_trip(const struct trace *t)
{
    struct trace back;
    struct error err = {0};
    check(trace_write_csv(t, path, &err) == STATUS_OK, err.text);
    check(trace_read_csv(&back, path, &err) == STATUS_OK, err.text);
    check(back.n_events == t->n_events && back.n_samples == t->n_samples, "counts differ");
    for (int64_t i = 0; i < t->n_events; i++)
        check(t->event[i].op == back.event[i].op && t->event[i].flops == back.event[i].flops &&
                  t->event[i].start_ns == back.event[i].start_ns && t->event[i].end_ns == back.event[i].end_ns,
              "an event differs");
    trace_free(&back);
}

static void use(const struct trace *t)
{
    struct trace_summary summary;
    struct validate_limits limits;
    struct validate_report report;
    trace_summarise(t, &summary);
    validate_limits_default(&limits);
    (void)validate_traces(&t, 1, &limits, &report, NULL);
    check(trace_write_chrome(&t, 1, path, NULL) == STATUS_OK, "no Chrome JSON");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct trace t;
    struct error err = {0};
    if (!path[0])
        snprintf(path, sizeof path, "/tmp/ballast-fuzz-trace-%ld", (long)getpid());
    if (trace_parse_csv(&t, "fuzz", (const char *)data, n, &err) == STATUS_OK) {
        round_trip(&t);
        use(&t);
        trace_free(&t);
        unlink(path);
    } else {
        check(err.status == STATUS_INVALID && strncmp(err.text, "fuzz:", 5) == 0, "a failure without a line");
        check(t.event == NULL && t.sample == NULL, "a failure that leaves something");
    }
    return 0;
}
