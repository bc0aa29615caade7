#include "model/hardware_set.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes up to here are exact in a double: 8 PiB, as in profiles. */
#define SIZE_MAX_BYTES 9007199254740992.0

/* What a field is called behind its tier, link or unit, and measured in. */
static const struct {
    const char *name;
    enum unit_kind unit;
    bool may_be_zero, by_format;
} kinds[FIELD_KIND_COUNT] = {
    [FIELD_CAPACITY] = {"capacity", UNIT_BYTES, false, false},
    [FIELD_RATE] = {"rate", UNIT_BYTES_PER_S, false, false},
    [FIELD_LATENCY] = {"latency", UNIT_SECONDS, true, false},
    [FIELD_MATMUL] = {"matmul", UNIT_FLOPS_PER_S, false, true},
    [FIELD_ATTENTION_PREFILL] = {"attention_prefill", UNIT_FLOPS_PER_S, false, false},
    [FIELD_ATTENTION_DECODE] = {"attention_decode", UNIT_BYTES_PER_S, false, true},
    [FIELD_MEMORY_BANDWIDTH] = {"memory_bandwidth", UNIT_BYTES_PER_S, false, false},
    [FIELD_LAUNCH] = {"launch", UNIT_SECONDS, true, false},
    [FIELD_WORKSPACE] = {"workspace", UNIT_BYTES, true, false},
};

static void add_unit(const struct hardware *hw, int unit, struct hardware_field *out, int *n)
{
    const struct compute *c = &hw->compute[unit];
    for (int kind = FIELD_MATMUL; kind < FIELD_KIND_COUNT; kind++)
        for (int f = 0; f < (kinds[kind].by_format ? FORMAT_COUNT : 1); f++) {
            const bool there = kind == FIELD_MATMUL             ? c->matmul[f].n > 0
                               : kind == FIELD_ATTENTION_DECODE ? c->attention_decode_bytes_per_s[f] > 0
                                                                : true;
            if (there)
                out[(*n)++] =
                    (struct hardware_field){.kind = (enum hardware_field_kind)kind, .index = unit, .format = (enum format)f};
        }
}

int hardware_fields(const struct hardware *hw, struct hardware_field out[HARDWARE_FIELDS_MAX])
{
    int n = 0;
    for (int t = 0; t < hw->n_tiers; t++)
        out[n++] = (struct hardware_field){.kind = FIELD_CAPACITY, .index = t};
    for (int l = 0; l + 1 < hw->n_tiers; l++)
        for (int write = 0; write < 2; write++) {
            out[n++] = (struct hardware_field){.kind = FIELD_RATE, .index = l, .write = write};
            out[n++] = (struct hardware_field){.kind = FIELD_LATENCY, .index = l, .write = write};
        }
    for (int u = 0; u < hw->n_computes; u++)
        add_unit(hw, u, out, &n);
    return n;
}

char *hardware_field_name(const struct hardware *hw, const struct hardware_field *f, char *buf, size_t n)
{
    const char *what = kinds[f->kind].name;
    if (f->kind == FIELD_CAPACITY)
        snprintf(buf, n, "%s.%s", hw->tier[f->index].name, what);
    else if (f->kind == FIELD_RATE || f->kind == FIELD_LATENCY)
        snprintf(buf, n, "%s->%s.%s", hw->tier[f->write ? f->index : f->index + 1].name,
                 hw->tier[f->write ? f->index + 1 : f->index].name, what);
    else
        snprintf(buf, n, "%s.%s%s%s", hw->compute[f->index].name, what, kinds[f->kind].by_format ? "." : "",
                 kinds[f->kind].by_format ? format_name(f->format) : "");
    return buf;
}

enum unit_kind hardware_field_unit(const struct hardware_field *f)
{
    return kinds[f->kind].unit;
}

enum status hardware_field_find(const struct hardware *hw, const char *name, struct hardware_field *out, struct error *err)
{
    struct hardware_field all[HARDWARE_FIELDS_MAX];
    const int n = hardware_fields(hw, all);
    char buf[64], known[600] = "";
    size_t used = 0;
    for (int i = 0; i < n; i++)
        if (strcmp(hardware_field_name(hw, &all[i], buf, sizeof buf), name) == 0) {
            *out = all[i];
            return STATUS_OK;
        }
    for (int i = 0; i < n && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                                 hardware_field_name(hw, &all[i], buf, sizeof buf));
    return error_set(err, STATUS_INVALID, "expected a field of %s (%s), found '%.60s'", hw->name, known, name);
}

/* -- values ---------------------------------------------------------------------------------------------------------- */

/* The curve of a field, or the one number it is. */
static struct curve *field_curve(struct hardware *hw, const struct hardware_field *f)
{
    if (f->kind == FIELD_MATMUL)
        return &hw->compute[f->index].matmul[f->format];
    return f->write ? &hw->link[f->index].write_bytes_per_s : &hw->link[f->index].read_bytes_per_s;
}

static double *field_number(struct hardware *hw, const struct hardware_field *f)
{
    struct compute *c = &hw->compute[f->index];
    switch (f->kind) {
    case FIELD_LATENCY:
        return f->write ? &hw->link[f->index].write_latency_s : &hw->link[f->index].read_latency_s;
    case FIELD_ATTENTION_PREFILL:
        return &c->attention_prefill_flops_per_s;
    case FIELD_ATTENTION_DECODE:
        return &c->attention_decode_bytes_per_s[f->format];
    case FIELD_MEMORY_BANDWIDTH:
        return &c->memory_bytes_per_s;
    default:
        return &c->launch_s;
    }
}

static double highest(const struct curve *c)
{
    double most = 0;
    for (int i = 0; i < c->n; i++)
        most = fmax(most, c->y[i]);
    return most;
}

double hardware_field_get(const struct hardware *hw, const struct hardware_field *f)
{
    struct hardware *reading = (struct hardware *)hw; /* only read */
    switch (f->kind) {
    case FIELD_CAPACITY:
        return (double)hw->tier[f->index].capacity_bytes;
    case FIELD_WORKSPACE:
        return (double)hw->compute[f->index].workspace_bytes;
    case FIELD_RATE:
    case FIELD_MATMUL:
        return highest(field_curve(reading, f));
    default:
        return *field_number(reading, f);
    }
}

void hardware_field_put(struct hardware *hw, const struct hardware_field *f, double value)
{
    struct curve *c;
    double factor;
    assert(value > 0 || (value == 0 && kinds[f->kind].may_be_zero));
    switch (f->kind) {
    case FIELD_CAPACITY:
        hw->tier[f->index].capacity_bytes = (int64_t)floor(value);
        break;
    case FIELD_WORKSPACE:
        hw->compute[f->index].workspace_bytes = (int64_t)floor(value);
        break;
    case FIELD_RATE:
        link_scale(&hw->link[f->index], f->write, value / highest(field_curve(hw, f)));
        break;
    case FIELD_MATMUL:
        c = field_curve(hw, f);
        factor = value / highest(c);
        for (int i = 0; i < c->n; i++)
            c->y[i] *= factor;
        break;
    default:
        *field_number(hw, f) = value;
    }
}

/* -- from text ------------------------------------------------------------------------------------------------------- */

/* "2x", "0.5x" */
static bool parse_factor(const char *text, double *factor)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *factor = strtod(text, &end);
    return end != text && strcmp(end, "x") == 0 && isfinite(*factor);
}

enum status hardware_set(struct hardware *hw, const char *text, struct error *err)
{
    const char *equals = strchr(text, '=');
    char name[64];
    struct hardware_field f;
    struct error why = {0};
    double value, factor;
    if (!equals)
        return error_set(err, STATUS_INVALID, "hardware '%.100s': expected FIELD=VALUE such as \"%s.capacity=24GiB\"", text,
                         hw->tier[0].name);
    snprintf(name, sizeof name, "%.*s", (int)(equals - text < 63 ? equals - text : 63), text);
    if (hardware_field_find(hw, name, &f, &why) != STATUS_OK)
        return error_set(err, STATUS_INVALID, "hardware '%.60s': %s", text, why.text);
    const enum unit_kind unit = hardware_field_unit(&f);
    if (parse_factor(equals + 1, &factor))
        value = hardware_field_get(hw, &f) * factor;
    else if (units_parse(equals + 1, unit, &value))
        return error_set(err, STATUS_INVALID, "hardware '%.100s': expected %s or a factor such as \"2x\", found '%.60s'", text,
                         units_expected(unit), equals + 1);
    if (unit == UNIT_BYTES)
        value = floor(value);
    if (value < 0 || (value == 0 && !kinds[f.kind].may_be_zero) || !isfinite(value) ||
        (unit == UNIT_BYTES && value > SIZE_MAX_BYTES))
        return error_set(err, STATUS_INVALID, "hardware '%.100s': expected %s, found '%.60s'", text,
                         unit == UNIT_BYTES ? "at least one byte and at most 8 PiB" : "more than 0", equals + 1);
    hardware_field_put(hw, &f, value);
    if (strcmp(hw->estimate, "measured") == 0)
        snprintf(hw->estimate, sizeof hw->estimate, "mixed");
    return STATUS_OK;
}
