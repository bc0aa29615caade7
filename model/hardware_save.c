/* Writing a machine: the mirror image of hardware_json.c. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/atomic_file.h"
#include "model/hardware.h"
#include "model/hardware_json.h"
#include "model/units.h"

static const char *quantity(double value, enum unit_kind kind, char buf[48])
{
    return units_write(value, kind, buf, 48);
}

static void print_size_curve(FILE *out, const char *key, const struct curve *c)
{
    char size[48], rate[48];
    fprintf(out, "      \"%s\": [\n", key);
    for (int i = 0; i < c->n; i++)
        fprintf(out, "        {\"size\": \"%s\", \"rate\": \"%s\"}%s\n", quantity(c->x[i], UNIT_BYTES, size),
                quantity(c->y[i], UNIT_BYTES_PER_S, rate), i + 1 < c->n ? "," : "");
    fprintf(out, "      ],\n");
}

static void print_rows_curve(FILE *out, const struct curve *c)
{
    char rate[48];
    for (int i = 0; i < c->n; i++)
        fprintf(out, "          {\"rows\": %.0f, \"rate\": \"%s\"}%s\n", c->x[i], quantity(c->y[i], UNIT_FLOPS_PER_S, rate),
                i + 1 < c->n ? "," : "");
}

/* Left out when it is not known. */
static void print_spread(FILE *out, const char *key, double spread)
{
    char text[48];
    if (spread > 0)
        fprintf(out, "      \"%s\": \"%s\",\n", key, quantity(fmin(spread, SPREAD_MAX), UNIT_SHARE, text));
}

static void print_tiers(FILE *out, const struct hardware *hw, const char *source)
{
    static const char *const kinds[] = {[TIER_DEVICE] = "device", [TIER_HOST] = "host", [TIER_DISK] = "disk"};
    char capacity[48];
    fprintf(out, "  \"tiers\": [\n");
    for (int i = 0; i < hw->n_tiers; i++)
        fprintf(out, "    {\"name\": \"%s\", \"kind\": \"%s\", \"capacity\": \"%s\", \"source\": %s}%s\n", hw->tier[i].name,
                kinds[hw->tier[i].kind], quantity((double)hw->tier[i].capacity_bytes, UNIT_BYTES, capacity), source,
                i + 1 < hw->n_tiers ? "," : "");
    fprintf(out, "  ],\n");
}

static void print_links(FILE *out, const struct hardware *hw, const char *source)
{
    char latency[48];
    fprintf(out, "  \"links\": [\n");
    for (int i = 0; i + 1 < hw->n_tiers; i++) {
        const struct link *l = &hw->link[i];
        fprintf(out, "    {\n      \"upper\": \"%s\", \"lower\": \"%s\",\n", hw->tier[i].name, hw->tier[i + 1].name);
        print_size_curve(out, "read", &l->read_bytes_per_s);
        print_size_curve(out, "write", &l->write_bytes_per_s);
        if (l->pageable_read_bytes_per_s.n > 0)
            print_size_curve(out, "pageable_read", &l->pageable_read_bytes_per_s);
        if (l->pinning_bytes_per_s > 0)
            fprintf(out, "      \"pinning\": \"%s\",\n", quantity(l->pinning_bytes_per_s, UNIT_BYTES_PER_S, latency));
        fprintf(out, "      \"read_latency\": \"%s\",\n", quantity(l->read_latency_s, UNIT_SECONDS, latency));
        fprintf(out, "      \"write_latency\": \"%s\",\n", quantity(l->write_latency_s, UNIT_SECONDS, latency));
        print_spread(out, "read_spread", l->read_spread);
        print_spread(out, "write_spread", l->write_spread);
        fprintf(out, "      \"source\": %s\n    }%s\n", source, i + 2 < hw->n_tiers ? "," : "");
    }
    fprintf(out, "  ],\n");
}

static void print_matmul(FILE *out, const struct compute *c)
{
    const char *separator = "\n";
    fprintf(out, "      \"matmul\": {");
    for (int f = 0; f < FORMAT_COUNT; f++) {
        if (c->matmul[f].n == 0)
            continue;
        fprintf(out, "%s        \"%s\": [\n", separator, format_name((enum format)f));
        print_rows_curve(out, &c->matmul[f]);
        fprintf(out, "        ]");
        separator = ",\n";
    }
    fprintf(out, "\n      },\n");
}

static void print_attention_decode(FILE *out, const struct compute *c)
{
    const char *separator = "";
    char rate[48];
    fprintf(out, "      \"attention_decode\": {");
    for (int f = 0; f < FORMAT_COUNT; f++) {
        if (c->attention_decode_bytes_per_s[f] == 0)
            continue;
        fprintf(out, "%s\"%s\": \"%s\"", separator, format_name((enum format)f),
                quantity(c->attention_decode_bytes_per_s[f], UNIT_BYTES_PER_S, rate));
        separator = ", ";
    }
    fprintf(out, "},\n");
}

static void print_compute(FILE *out, const struct hardware *hw, const struct compute *c, const char *source)
{
    char text[48];
    fprintf(out, "    {\n      \"name\": \"%s\", \"tier\": \"%s\",\n", c->name, hw->tier[c->tier].name);
    fprintf(out, "      \"activation\": \"%s\", \"math\": \"%s\", \"threads\": %d,\n", format_name(c->activation), c->math,
            c->threads);
    print_matmul(out, c);
    fprintf(out, "      \"attention_prefill\": \"%s\",\n", quantity(c->attention_prefill_flops_per_s, UNIT_FLOPS_PER_S, text));
    print_attention_decode(out, c);
    fprintf(out, "      \"memory_bandwidth\": \"%s\",\n", quantity(c->memory_bytes_per_s, UNIT_BYTES_PER_S, text));
    fprintf(out, "      \"launch\": \"%s\",\n", quantity(c->launch_s, UNIT_SECONDS, text));
    fprintf(out, "      \"workspace\": \"%s\",\n", quantity((double)c->workspace_bytes, UNIT_BYTES, text));
    print_spread(out, "spread", c->spread);
    fprintf(out, "      \"source\": %s\n    }", source);
}

static void print_runtime(FILE *out, const struct hardware *hw, const char *source)
{
    const struct runtime *rt = &hw->runtime;
    char text[48];
    if (!hardware_waits(hw))
        return;
    fprintf(out, ",\n  \"runtime\": {\n      \"waits\": \"turn\",\n");
    print_size_curve(out, "staging", &rt->staging_bytes_per_s);
    fprintf(out, "      \"pageable_write\": \"%s\",\n", quantity(rt->pageable_write_bytes_per_s, UNIT_BYTES_PER_S, text));
    fprintf(out, "      \"dequantise\": \"%s\",\n", quantity(rt->dequantise_bytes_per_s, UNIT_BYTES_PER_S, text));
    fprintf(out, "      \"source\": %s\n  }", source);
}

static void print_contentions(FILE *out, const struct hardware *hw, const char *source)
{
    char name[40], text[48];
    for (int i = 0; i < hw->n_contentions; i++) {
        const struct contention *c = &hw->contention[i];
        const char *separator = "";
        fprintf(out, "%s    {\"name\": \"%s\", \"resources\": {", i ? ",\n" : ",\n  \"contention\": [\n", c->name);
        for (int r = 0; r < resource_count(hw); r++)
            if (c->share[r] > 0) {
                fprintf(out, "%s\"%s\": \"%s\"", separator, resource_name(hw, r, name), quantity(c->share[r], UNIT_SHARE, text));
                separator = ", ";
            }
        fprintf(out, "},\n     \"source\": %s}%s", source, i + 1 < hw->n_contentions ? "" : "\n  ]");
    }
}

/* `source` is a JSON string with its quotes. */
static void print_hardware(FILE *out, const struct hardware *hw, const char *source)
{
    fprintf(out, "{\n  \"ballast_hardware\": 1,\n  \"name\": \"%s\",\n  \"estimate\": \"%s\",\n", hw->name, hw->estimate);
    print_tiers(out, hw, source);
    print_links(out, hw, source);
    fprintf(out, "  \"compute\": [\n");
    for (int i = 0; i < hw->n_computes; i++) {
        print_compute(out, hw, &hw->compute[i], source);
        fprintf(out, "%s\n", i + 1 < hw->n_computes ? "," : "");
    }
    fprintf(out, "  ]");
    print_runtime(out, hw, source);
    print_contentions(out, hw, source);
    fprintf(out, "\n}\n");
}

/* The text as a quoted JSON string, to be freed; NULL if it is not UTF-8 or there is no memory. */
static char *quote(const char *text)
{
    json_t *value = json_string(text);
    char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    return quoted;
}

/* Reads the text back before any file is touched: what could not be loaded again is not written. */
static enum status check_text(const char *path, const char *text, size_t n, struct error *err)
{
    struct hardware again;
    struct error why = {0};
    enum status status = hardware_parse(&again, "the new profile", text, n, &why);
    return status ? error_set(err, status, "%s: not written: %s", path, why.text) : STATUS_OK;
}

enum status hardware_save(const struct hardware *hw, const char *path, const char *source, struct error *err)
{
    enum status status;
    char *text = NULL, *quoted = quote(source);
    size_t n = 0;
    FILE *out = NULL;
    struct atomic_file file;
    if (!quoted) {
        status = error_set(err, STATUS_INVALID, "%s: not written: expected a source in UTF-8", path);
        goto out;
    }
    out = open_memstream(&text, &n);
    if (!out) {
        status = error_set(err, STATUS_RUNTIME, "%s: out of memory", path);
        goto out;
    }
    print_hardware(out, hw, quoted);
    int failed = ferror(out);
    if (fclose(out) || failed) {
        status = error_set(err, STATUS_RUNTIME, "%s: out of memory", path);
        goto out;
    }
    if ((status = check_text(path, text, n, err)) || (status = atomic_file_open(&file, path, err)))
        goto out;
    fwrite(text, 1, n, file.file);
    status = atomic_file_close(&file, status, err);
out:
    free(text);
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    if (quoted)
        release(quoted);
    return status;
}
