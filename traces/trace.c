/* trace.c - the trace in memory: growth and summaries. The file formats are in trace_csv.c and chrome.c. */
#include "traces/trace.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

void trace_init(struct trace *t)
{
    memset(t, 0, sizeof *t);
    t->origin = TRACE_MEASURED;
}

void trace_free(struct trace *t)
{
    if (!t)
        return;
    free(t->event);
    free(t->sample);
    trace_init(t);
}

/* Makes room for `wanted` items of `size` bytes in *items; never shrinks. */
static enum status reserve(void **items, int64_t *capacity, int64_t wanted, size_t size, const char *what, struct error *err)
{
    if (wanted <= *capacity)
        return STATUS_OK;
    if ((uint64_t)wanted > SIZE_MAX / size)
        return error_set(err, STATUS_RUNTIME, "trace: %lld %s do not fit in memory", (long long)wanted, what);
    void *grown = realloc(*items, (size_t)wanted * size);
    if (!grown)
        return error_set(err, STATUS_RUNTIME, "trace: out of memory for %lld %s", (long long)wanted, what);
    *items = grown;
    *capacity = wanted;
    return STATUS_OK;
}

enum status trace_reserve(struct trace *t, int64_t n_events, int64_t n_samples, struct error *err)
{
    void *events = t->event, *samples = t->sample;
    enum status s = reserve(&events, &t->cap_events, n_events, sizeof *t->event, "events", err);
    t->event = events;
    if (s == STATUS_OK)
        s = reserve(&samples, &t->cap_samples, n_samples, sizeof *t->sample, "samples", err);
    t->sample = samples;
    return s;
}

static int64_t grown_capacity(int64_t n, int64_t capacity)
{
    if (n < capacity)
        return capacity;
    return capacity < FIRST_CAPACITY ? FIRST_CAPACITY : 2 * capacity;
}

enum status trace_add_event(struct trace *t, const struct trace_event *e, struct error *err)
{
    enum status s = trace_reserve(t, grown_capacity(t->n_events, t->cap_events), 0, err);
    if (s == STATUS_OK)
        t->event[t->n_events++] = *e;
    return s;
}

enum status trace_add_sample(struct trace *t, const struct trace_sample *sample, struct error *err)
{
    enum status s = trace_reserve(t, 0, grown_capacity(t->n_samples, t->cap_samples), err);
    if (s == STATUS_OK)
        t->sample[t->n_samples++] = *sample;
    return s;
}

/* First start, last end of step 0 and last end of all, in ns. */
struct extent {
    int64_t first_ns, prefill_end_ns, last_ns;
};

static struct extent extent_of(const struct trace *t)
{
    struct extent x = {0};
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        if (i == 0)
            x = (struct extent){e->start_ns, e->start_ns, e->end_ns};
        if (e->start_ns < x.first_ns)
            x.first_ns = e->start_ns;
        if (e->end_ns > x.last_ns)
            x.last_ns = e->end_ns;
    }
    x.prefill_end_ns = x.first_ns;
    for (int64_t i = 0; i < t->n_events; i++)
        if (t->event[i].step == 0 && t->event[i].end_ns > x.prefill_end_ns)
            x.prefill_end_ns = t->event[i].end_ns;
    return x;
}

void trace_summarise(const struct trace *t, struct trace_summary *out)
{
    memset(out, 0, sizeof *out);
    const struct extent x = extent_of(t);
    out->total_s = (double)(x.last_ns - x.first_ns) / 1e9;
    out->prefill_s = (double)(x.prefill_end_ns - x.first_ns) / 1e9;
    out->decode_s = (double)(x.last_ns - x.prefill_end_ns) / 1e9;
    /* Sums of whole ns stay exact in a double for 104 days; only the result is scaled. */
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        out->busy_s[e->step != 0][e->resource] += (double)(e->end_ns - e->start_ns);
        out->bytes[e->resource] += (double)e->bytes;
    }
    for (int r = 0; r < t->n_resources; r++) {
        out->busy_s[0][r] /= 1e9;
        out->busy_s[1][r] /= 1e9;
        const int b = out->busiest;
        if (out->busy_s[0][r] + out->busy_s[1][r] > out->busy_s[0][b] + out->busy_s[1][b])
            out->busiest = r;
    }
    if (out->total_s > 0)
        out->throughput_tok_s = (double)t->generated_tokens / out->total_s;
}
