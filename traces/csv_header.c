/* csv_header.c - see csv_header.h. */
#include "traces/csv_header.h"

#include <float.h>
#include <string.h>

#define COUNT_OF(a) ((int)(sizeof(a) / sizeof(a)[0]))

enum { KINDS_MAX = COUNT_OF(((struct trace *)0)->kind_name) };

const char *const trace_column[COLUMNS] = {"op",    "kind",  "resource", "step",   "layer",    "batch",
                                           "bytes", "flops", "start_ns", "end_ns", "waits_for"};

void header_table(struct trace *t, struct header_line h[HEADER_LINES])
{
    const struct header_line table[HEADER_LINES] = {
        {"origin", H_ORIGIN, &t->origin, 0, NULL, 0},
        {"version", H_TEXT, t->version, sizeof t->version, NULL, 0},
        {"machine", H_TEXT, t->machine, sizeof t->machine, NULL, 0},
        {"model", H_TEXT, t->model, sizeof t->model, NULL, 0},
        {"workload", H_TEXT, t->workload, sizeof t->workload, NULL, 0},
        {"policy", H_TEXT, t->policy, sizeof t->policy, NULL, 0},
        {"generated_tokens", H_COUNT, &t->generated_tokens, 0, NULL, 0},
        {"predicted_prefill_s", H_REAL, &t->predicted_prefill_s, 0, NULL, 0},
        {"predicted_decode_s", H_REAL, &t->predicted_decode_s, 0, NULL, 0},
        {"predicted_low_s", H_REAL, &t->predicted_low_s, 0, NULL, 0},
        {"predicted_high_s", H_REAL, &t->predicted_high_s, 0, NULL, 0},
        {"kinds", H_NAMES, t->kind_name, sizeof t->kind_name[0], &t->n_kinds, KINDS_MAX},
        {"resources", H_NAMES, t->resource_name, sizeof t->resource_name[0], &t->n_resources, TRACE_RESOURCES_MAX},
        {"predicted_prefill_busy_s", H_REALS, t->predicted_busy_s[0], sizeof(double), &t->n_resources, 0},
        {"predicted_decode_busy_s", H_REALS, t->predicted_busy_s[1], sizeof(double), &t->n_resources, 0},
        {"tiers", H_NAMES, t->tier_name, sizeof t->tier_name[0], &t->n_tiers, TRACE_TIERS_MAX},
        {"predicted_peak_bytes", H_REALS, t->predicted_peak_bytes, sizeof(double), &t->n_tiers, 0},
        {"measured_peak_bytes", H_COUNTS, t->measured_peak_bytes, sizeof(int64_t), &t->n_tiers, 0},
        {"events", H_COUNT, &t->n_events, 0, NULL, 0},
        {"samples", H_COUNT, &t->n_samples, 0, NULL, 0},
    };
    memcpy(h, table, sizeof table);
}

bool header_text_ok(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

const char *header_names_fault(const char *names, size_t size, int count, bool kinds)
{
    for (int i = 0; i < count; i++) {
        const char *name = names + (size_t)i * size;
        const size_t n = strnlen(name, size);
        if (n == 0 || n == size)
            return "an empty or endless name";
        if (!header_text_ok(name, n))
            return "a name with a control character";
        if (kinds && strcmp(name, KIND_RESIDENT) == 0)
            return "the name '" KIND_RESIDENT "', which is kept for samples";
        for (int j = 0; j < i; j++)
            if (strcmp(name, names + (size_t)j * size) == 0)
                return "the same name twice";
    }
    return NULL;
}

bool header_real_ok(double v)
{
    return v >= 0 && v <= DBL_MAX;
}
