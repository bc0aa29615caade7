/* trace.h - what ran, when, on which resource: recorded by the executor, computed by the simulator, the same columns.
 *
 * A trace is a header (who, what, where) and a list of events. The CSV is the format of record; Chrome trace JSON is written
 * from one or two traces (predicted and measured as two processes) for Perfetto.
 */
#ifndef BALLAST_TRACES_TRACE_H
#define BALLAST_TRACES_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "model/error.h"

#define TRACE_RESOURCES_MAX 16
#define TRACE_TIERS_MAX     4

/* Emulated: a run on the host emulation of a GPU (tests/emu), whose bytes and order are real and whose times mean nothing. */
enum trace_origin { TRACE_MEASURED, TRACE_SIMULATED, TRACE_EMULATED, TRACE_ORIGINS };
const char *trace_origin_name(enum trace_origin o); /* "measured", ... */

struct trace_event {
    int32_t op;       /* position in the schedule, from 0 */
    int16_t kind;     /* index into trace.kind_name */
    int16_t resource; /* index into trace.resource_name */
    int32_t step, layer, batch;
    int64_t bytes;            /* moved; 0 for compute */
    double flops;             /* 0 for transfers */
    int64_t start_ns, end_ns; /* since the start of the run */
    int32_t waits_for;        /* op id of the last dependency to finish, -1 if none: drawn as a flow */
};

/* Resident bytes of one tier from a moment on (a step function). */
struct trace_sample {
    int64_t at_ns;
    int16_t tier;
    int64_t bytes;
};

struct trace {
    enum trace_origin origin;
    char version[32], machine[64], model[64], workload[64]; /* workload: "prompt=512 gen=32 block=8x1" */
    char policy[512];                                       /* policy_flags() */
    double predicted_prefill_s, predicted_decode_s;         /* of the cost table; 0 if unknown */
    double predicted_low_s, predicted_high_s;               /* 90 % interval of the total; 0 if it has none */
    int n_kinds, n_resources, n_tiers;
    char kind_name[24][24];
    char resource_name[TRACE_RESOURCES_MAX][40];
    double predicted_busy_s[2][TRACE_RESOURCES_MAX]; /* per phase (prefill, decode) and resource */
    char tier_name[TRACE_TIERS_MAX][16];
    double predicted_peak_bytes[TRACE_TIERS_MAX];
    int64_t measured_peak_bytes[TRACE_TIERS_MAX]; /* 0 in a simulated trace */
    int64_t in_use_bytes[2][TRACE_TIERS_MAX];     /* the most at once in each phase; not in files: 0 in a trace that was read */
    int64_t generated_tokens;
    int64_t n_events, cap_events;
    struct trace_event *event; /* (n_events) owned, in order of op */
    int64_t n_samples, cap_samples;
    struct trace_sample *sample; /* (n_samples) owned, in order of time */
};

void trace_init(struct trace *t); /* zeroed, origin measured */
void trace_free(struct trace *t);
/* Room for n events (and samples) in one allocation, so that recording inside the run is one store. */
enum status trace_reserve(struct trace *t, int64_t n_events, int64_t n_samples, struct error *err);
enum status trace_add_event(struct trace *t, const struct trace_event *e, struct error *err);
enum status trace_add_sample(struct trace *t, const struct trace_sample *s, struct error *err);

/* CSV: '#' header lines "# key: value", then a header row and one row an event; samples follow as rows of kind "resident".
 * Written to a temporary file and renamed. Reading is strict: a wrong header, column, number, order or truncated file fails
 * with file and line. Both go through libcsv. */
enum status trace_write_csv(const struct trace *t, const char *path, struct error *err);
enum status trace_read_csv(struct trace *t, const char *path, struct error *err);
enum status trace_parse_csv(struct trace *t, const char *path, const char *text, size_t n, struct error *err);

/* Chrome trace JSON of up to two traces: pid 1 = first, pid 2 = second, a thread per resource, flows for waits_for, counters
 * of resident bytes per tier. */
enum status trace_write_chrome(const struct trace *const *traces, int n, const char *path, struct error *err);

/* -- summaries, shared by validate, plots and reports --------------------------------------------------------------- */

struct trace_summary {
    double total_s, prefill_s, decode_s;   /* prefill = passes with a batch at step 0; decode = the rest */
    double busy_s[2][TRACE_RESOURCES_MAX]; /* per phase */
    double bytes[TRACE_RESOURCES_MAX];
    int busiest; /* resource with the largest total busy time */
    double throughput_tok_s;
};
void trace_summarise(const struct trace *t, struct trace_summary *out);

#endif
