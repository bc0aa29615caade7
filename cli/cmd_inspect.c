/* cmd_inspect.c - ballast inspect: what a model is made of. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"

/* Caches are counted in 16 bits, whatever a machine or a policy makes of them. */
#define CACHE_ELEMENT_BYTES 2

/* All layers of one kind together. */
struct kind_total {
    int64_t count, parameters, bytes, cache_bytes_per_token;
    double decode_flops, prefill_flops;
};

static struct kind_total total_of(const struct arch *a, enum layer_kind kind, int64_t prompt, int64_t visible)
{
    struct kind_total k = {0};
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        if (l->kind == kind) {
            k.count++;
            k.parameters += layer_parameters(l);
            k.bytes += layer_placed_bytes(l, a->weight_format) + layer_resident_bytes(l);
            k.cache_bytes_per_token += l->state_per_token * CACHE_ELEMENT_BYTES;
            k.decode_flops += layer_decode_flops(l, visible);
            k.prefill_flops += layer_prefill_flops(l, prompt);
        }
    }
    return k;
}

static void add_row(struct table *t, const char *name, const struct kind_total *k)
{
    table_text(t, name);
    table_int(t, k->count);
    table_int(t, k->parameters);
    table_int(t, k->bytes);
    table_number(t, k->decode_flops);
    table_number(t, k->prefill_flops);
    table_int(t, k->cache_bytes_per_token);
}

static void fill_layers(struct table *t, const struct arch *a, const struct options *o)
{
    int64_t visible = o->prompt_tokens + o->gen_tokens;
    table_column(t, "layer", COLUMN_TEXT);
    table_column(t, "count", COLUMN_INT);
    table_column(t, "parameters", COLUMN_INT);
    table_column(t, "bytes", COLUMN_BYTES);
    table_column(t, "decode_flops", COLUMN_FLOPS);
    table_column(t, "prefill_flops", COLUMN_FLOPS);
    table_column(t, "cache_bytes_per_token", COLUMN_BYTES);
    for (int kind = LAYER_EMBED; kind <= LAYER_HEAD; kind++) {
        struct kind_total k = total_of(a, (enum layer_kind)kind, o->prompt_tokens, visible);
        add_row(t, layer_kind_name((enum layer_kind)kind), &k);
    }
}

/* Constant state and cache of one sequence with `visible` tokens. */
static int64_t state_bytes(const struct arch *a, int64_t visible)
{
    int64_t elements = 0;
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        int64_t kept = l->window && l->window < visible ? l->window : visible;
        elements += l->state_const + l->state_per_token * kept;
    }
    return elements * CACHE_ELEMENT_BYTES;
}

/* Weights as the model files hold them: a tied table counts once. */
static int64_t file_bytes(const struct arch *a)
{
    return arch_parameters(a) * format_matrix_bytes(a->weight_format, 1, 1);
}

static void fill_totals(struct table *t, const struct arch *a, const struct options *o)
{
    int64_t visible = o->prompt_tokens + o->gen_tokens;
    table_column(t, "model", COLUMN_TEXT);
    table_column(t, "family", COLUMN_TEXT);
    table_column(t, "parameters", COLUMN_INT);
    table_column(t, "active_parameters", COLUMN_INT);
    table_column(t, "weight_format", COLUMN_TEXT);
    table_column(t, "weight_bytes", COLUMN_BYTES);
    table_column(t, "cache_bytes_per_token", COLUMN_BYTES);
    table_column(t, "tokens", COLUMN_INT);
    table_column(t, "state_bytes", COLUMN_BYTES);
    table_column(t, "decode_flops", COLUMN_FLOPS);
    table_column(t, "prefill_flops", COLUMN_FLOPS);
    table_text(t, a->name);
    table_text(t, a->family);
    table_int(t, arch_parameters(a));
    table_int(t, arch_parameters(a)); /* no family so far leaves parameters out for a token */
    table_text(t, format_name(a->weight_format));
    table_int(t, file_bytes(a));
    table_int(t, arch_cache_elements_per_token(a) * CACHE_ELEMENT_BYTES);
    table_int(t, visible);
    table_int(t, state_bytes(a, visible));
    table_number(t, arch_decode_flops(a, visible));
    table_number(t, arch_prefill_flops(a, o->prompt_tokens));
}

static enum status print(const struct arch *a, const struct options *o, struct error *err)
{
    struct table layers, totals;
    enum status status = STATUS_OK;
    table_init(&layers);
    table_init(&totals);
    fill_layers(&layers, a, o);
    fill_totals(&totals, a, o);
    switch (o->format) {
    case OUTPUT_CSV:
        status = table_write(&layers, o->format, stdout, err);
        break;
    case OUTPUT_MD:
        status = table_write_one(&totals, o->format, stdout, err);
        printf("\nLayers by kind, a sequence of %lld + %lld tokens:\n\n", (long long)o->prompt_tokens, (long long)o->gen_tokens);
        if (status == STATUS_OK) {
            status = table_write(&layers, o->format, stdout, err);
        }
        if (a->tied) {
            printf("\nThe embedding table is also the head; the total counts it once.\n");
        }
        break;
    case OUTPUT_JSON:
    case OUTPUT_JSONL:
        table_column(&totals, "layers", COLUMN_TEXT);
        table_json(&totals, table_rows_json(&layers));
        status = table_write_one(&totals, o->format, stdout, err);
        break;
    }
    table_free(&layers);
    table_free(&totals);
    return status;
}

int cmd_inspect(int argc, char **argv)
{
    static const struct command_usage USAGE =
        {"inspect", "-m MODEL [OPTIONS]",
         "Prints a model's layers: parameters, bytes, FLOPs of decoding one token with all p + n visible and of the prefill of\n"
         "one sequence, and state. Caches are counted in 16 bits.",
         OPTION_MODEL | OPTION_WORKLOAD | OPTION_FORMAT};
    struct options o;
    struct arch a = {0};
    struct workload w;
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (options_model(&o, &a, &err) == STATUS_OK && options_workload(&o, &a, &w, &err) == STATUS_OK) {
        print(&a, &o, &err);
    }
    arch_free(&a);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
