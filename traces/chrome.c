/* chrome.c - Chrome trace JSON for Perfetto, streamed: one event a line, nothing held in memory.
 *
 * pid 1, 2: the traces; tid = resource + 1. "X" slices are the operations, "s"/"f" pairs the waits between resources, "C" the
 * resident bytes. Times are microseconds with three decimals, so whole ns survive.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "model/atomic_file.h"
#include "traces/trace.h"

enum { TRACES_MAX = 2 };

struct writer {
    FILE *f;
    bool any; /* an event has been written: the next one needs a comma */
};

/* Bytes of the well-formed UTF-8 sequence at s, 0 if it is none. */
static int utf8_length(const unsigned char *s)
{
    const int n = s[0] < 0x80                   ? 1
                  : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                  : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                  : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool outside = (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90);
    return overlong || outside ? 0 : n;
}

/* A JSON string; a byte that is no UTF-8 becomes the replacement character. */
static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        const int n = utf8_length(s);
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if (*s < 0x20)
            fprintf(f, "\\u%04x", *s);
        else if (n == 0)
            fputs("\\ufffd", f);
        else
            fwrite(s, 1, (size_t)n, f);
        s += n ? n : 1;
    }
    fputc('"', f);
}

static void put_us(FILE *f, const char *key, int64_t ns)
{
    fprintf(f, ",\"%s\":%" PRId64 ".%03" PRId64, key, ns / 1000, ns % 1000);
}

/* Opens an event: {"ph":"X","pid":1,"tid":2 and leaves the rest to the caller. */
static void open_event(struct writer *w, char phase, int pid, int tid)
{
    fprintf(w->f, "%s\n{\"ph\":\"%c\",\"pid\":%d,\"tid\":%d", w->any ? "," : "", phase, pid, tid);
    w->any = true;
}

static void put_name(struct writer *w, const char *name)
{
    fputs(",\"name\":", w->f);
    put_string(w->f, name);
}

static const char *origin_name(const struct trace *t)
{
    return t->origin == TRACE_SIMULATED ? "simulated (prediction)" : trace_origin_name(t->origin);
}

/* A name of a process or a thread, and its place from the top. */
static void put_label(struct writer *w, const char *what, int pid, int tid, const char *name, int place)
{
    char key[32];
    snprintf(key, sizeof key, "%s_name", what);
    open_event(w, 'M', pid, tid);
    put_name(w, key);
    fputs(",\"args\":{\"name\":", w->f);
    put_string(w->f, name);
    fputs("}}", w->f);
    snprintf(key, sizeof key, "%s_sort_index", what);
    open_event(w, 'M', pid, tid);
    put_name(w, key);
    fprintf(w->f, ",\"args\":{\"sort_index\":%d}}", place);
}

static void put_labels(struct writer *w, const struct trace *t, int pid)
{
    put_label(w, "process", pid, 0, origin_name(t), pid);
    for (int r = 0; r < t->n_resources; r++)
        put_label(w, "thread", pid, r + 1, t->resource_name[r], r);
}

static void put_slice(struct writer *w, const struct trace *t, int pid, const struct trace_event *e)
{
    open_event(w, 'X', pid, e->resource + 1);
    put_name(w, t->kind_name[e->kind]);
    put_us(w->f, "ts", e->start_ns);
    put_us(w->f, "dur", e->end_ns > e->start_ns ? e->end_ns - e->start_ns : 0);
    fprintf(w->f,
            ",\"args\":{\"op\":%d,\"step\":%d,\"layer\":%d,\"batch\":%d,\"bytes\":%" PRId64 ",\"flops\":%.17g,"
            "\"waits_for\":%d}}",
            e->op, e->step, e->layer, e->batch, e->bytes, e->flops, e->waits_for);
}

/* The event of operation `op`, NULL if the trace has none: events are in order of op. */
static const struct trace_event *find_op(const struct trace *t, int32_t op)
{
    int64_t low = 0, high = t->n_events;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (t->event[middle].op < op)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->n_events && t->event[low].op == op ? &t->event[low] : NULL;
}

/* One end of an arrow. It binds to the slice that is open at its time on its thread. */
static void put_flow(struct writer *w, char phase, int pid, const struct trace_event *on, int64_t at_ns, int64_t id)
{
    open_event(w, phase, pid, on->resource + 1);
    fprintf(w->f, ",\"name\":\"waits for\",\"cat\":\"flow\",\"id\":%" PRId64, id);
    put_us(w->f, "ts", at_ns);
    fputs(phase == 'f' ? ",\"bp\":\"e\"}" : "}", w->f);
}

static void put_wait(struct writer *w, const struct trace *t, int pid, const struct trace_event *e)
{
    const struct trace_event *d = e->waits_for >= 0 ? find_op(t, e->waits_for) : NULL;
    if (!d || d->resource == e->resource)
        return;
    /* A slice is closed at its end, so the arrow leaves it 1 ns earlier. */
    const int64_t leaves_ns = d->end_ns > d->start_ns ? d->end_ns - 1 : d->start_ns;
    const int64_t id = (int64_t)pid << 32 | e->op;
    put_flow(w, 's', pid, d, leaves_ns, id);
    put_flow(w, 'f', pid, e, e->start_ns, id);
}

static void put_sample(struct writer *w, const struct trace *t, int pid, const struct trace_sample *s)
{
    char name[32];
    snprintf(name, sizeof name, "resident %s", t->tier_name[s->tier]);
    open_event(w, 'C', pid, 0);
    put_name(w, name);
    put_us(w->f, "ts", s->at_ns);
    fprintf(w->f, ",\"args\":{\"bytes\":%" PRId64 "}}", s->bytes);
}

static void put_trace(struct writer *w, const struct trace *t, int pid)
{
    put_labels(w, t, pid);
    for (int64_t i = 0; i < t->n_events; i++)
        put_slice(w, t, pid, &t->event[i]);
    for (int64_t i = 0; i < t->n_events; i++)
        put_wait(w, t, pid, &t->event[i]);
    for (int64_t i = 0; i < t->n_samples; i++)
        put_sample(w, t, pid, &t->sample[i]);
}

static void put_pair(FILE *f, const char *key, const char *value)
{
    fprintf(f, ",\"%s\":", key);
    put_string(f, value);
}

static void put_metadata(FILE *f, const struct trace *t, int pid)
{
    fprintf(f, "{\"pid\":%d", pid);
    put_pair(f, "origin", origin_name(t));
    put_pair(f, "version", t->version);
    put_pair(f, "machine", t->machine);
    put_pair(f, "model", t->model);
    put_pair(f, "workload", t->workload);
    put_pair(f, "policy", t->policy);
    fprintf(f,
            ",\"generated_tokens\":%" PRId64 ",\"predicted_prefill_s\":%.17g,\"predicted_decode_s\":%.17g"
            ",\"predicted_low_s\":%.17g,\"predicted_high_s\":%.17g}",
            t->generated_tokens, t->predicted_prefill_s, t->predicted_decode_s, t->predicted_low_s, t->predicted_high_s);
}

enum status trace_write_chrome(const struct trace *const *traces, int n, const char *path, struct error *err)
{
    if (n < 1 || n > TRACES_MAX)
        return error_set(err, STATUS_INVALID, "%s: expected 1 or %d traces, found %d", path, TRACES_MAX, n);
    struct atomic_file o;
    const enum status s = atomic_file_open(&o, path, err);
    if (s != STATUS_OK)
        return s;
    struct writer w = {.f = o.file};
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", o.file);
    for (int i = 0; i < n; i++)
        put_trace(&w, traces[i], i + 1);
    fputs("\n],\"metadata\":{\"traces\":[", o.file);
    for (int i = 0; i < n; i++) {
        if (i)
            fputc(',', o.file);
        put_metadata(o.file, traces[i], i + 1);
    }
    fputs("]}}\n", o.file);
    return atomic_file_close(&o, s, err);
}
