/* The OPT architectures: sums against published numbers, layers against hand counts, and every way a config.json can be wrong. */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/arch.h"
#include "model/arch_family.h"
#include "tests/failing_json.h"

static struct arch load(const char *model)
{
    struct arch a;
    struct error err = {0};
    cr_assert_eq(arch_load(&a, model, &err), STATUS_OK, "%s", err.text);
    return a;
}

static enum status parse(struct arch *a, const char *text, struct error *err)
{
    return arch_parse(a, "dir/some-model/config.json", text, strlen(text), err);
}

/* ---- whole models ------------------------------------------------------------------------------------------------- */

static void check_golden_row(const char *line)
{
    char model[64];
    double billion, decode, prefill;
    int64_t kv_bytes, params;
    cr_assert_eq(sscanf(line, "%63[^,],%lf,%" SCNd64 ",%" SCNd64 ",%lf,%lf", model, &billion, &kv_bytes, &params, &decode,
                        &prefill),
                 6, "%s", line);
    struct arch a = load(model);
    /* Published with three decimals of a billion: half a unit of the last one, 0.5e6, is the most it can be off. */
    cr_assert(fabs((double)arch_parameters(&a) - billion * 1e9) <= 0.5e6 + 1, "%s has %" PRId64, model, arch_parameters(&a));
    cr_assert_eq(arch_cache_elements_per_token(&a) * 2, kv_bytes, "%s: 2 bytes an element", model);
    cr_assert_str_eq(a.name, model);
    cr_assert_eq(a.weight_format, FORMAT_F16);
    if (params) {
        cr_assert_eq(arch_parameters(&a), params, "%s", model);
        cr_assert_eq(arch_decode_flops(&a, 4096), decode, "%s: %.0f", model, arch_decode_flops(&a, 4096));
        cr_assert_eq(arch_prefill_flops(&a, 2048), prefill, "%s: %.0f", model, arch_prefill_flops(&a, 2048));
    }
    arch_free(&a);
}

Test(arch, presets_add_up_to_the_published_numbers)
{
    char line[512];
    int rows = 0;
    FILE *f = fopen("tests/golden/opt_models.csv", "r");
    cr_assert(f, "run from the repository root");
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "opt-", 4) == 0) {
            check_golden_row(line);
            rows++;
        }
    fclose(f);
    cr_assert_eq(rows, 9);
}

Test(arch, opt_30b_by_hand)
{
    struct arch a = load("opt-30b");
    /* d = 7168, f = 4*d, 48 blocks. Largest layer: MLP, 2*d*f = 8*d*d elements; a head row has d, so 8*d = 57344 rows would
     * fit: the 50272 rows are one part. Layers: 1 + 2*48 + 1. */
    cr_assert_eq(a.n_layers, 98);
    const struct layer *attention = &a.layer[1], *mlp = &a.layer[2], *head = &a.layer[97];
    cr_assert_eq(attention->kind, LAYER_ATTENTION);
    cr_assert_eq(mlp->kind, LAYER_MLP);
    cr_assert_eq(head->kind, LAYER_HEAD);
    const double d = 7168;
    cr_assert_eq(attention->a, 2 * (4 * d * d + 4 * d));
    cr_assert_eq(attention->b, 4 * 56 * 128.0);
    cr_assert_eq(attention->state_per_token, 2 * 56 * 128);
    cr_assert_eq(mlp->a, 4 * d * 4 * d);
    cr_assert_eq(head->a, 2 * 50272 * d);
    cr_assert_eq(layer_parameters(attention), 4 * 7168 * 7168 + 4 * 7168 + 2 * 7168, "matrices, biases, norm");
    cr_assert_eq(layer_parameters(mlp), 2 * 7168 * 28672 + (28672 + 7168) + 2 * 7168);
    cr_assert_eq(layer_placed_bytes(attention, FORMAT_F16), 4 * 7168 * 7168 * INT64_C(2));
    cr_assert_eq(layer_resident_bytes(attention), 6 * 7168 * 4, "4 biases and 2 norm vectors in f32");
    cr_assert_eq(layer_resident_bytes(&a.layer[0]), INT64_C(2050) * 7168 * 4, "2048 positions and 2 extra rows");
    cr_assert_eq(layer_decode_flops(mlp, 9), mlp->a, "an MLP does not look back");
    cr_assert_eq(layer_decode_flops(attention, 10) - layer_decode_flops(attention, 9), attention->b);
    cr_assert_eq(layer_prefill_flops(head, 100), head->a, "only the last position is scored");
    cr_assert_str_eq(layer_tensor(&a.layer[95], ROLE_K)->name, "decoder.layers.47.self_attn.k_proj.weight");
    arch_free(&a);
}

Test(arch, opt_350m_has_projections_and_no_final_norm)
{
    struct arch a = load("opt-350m");
    const struct layer *embed = &a.layer[0], *head = &a.layer[1 + 2 * 24];
    cr_assert(!a.norm_before && !a.final_norm && a.tied);
    const struct tensor *in = layer_tensor(embed, ROLE_PROJECT_IN), *out = layer_tensor(head, ROLE_PROJECT_OUT);
    cr_assert(in && in->rows == 1024 && in->cols == 512 && !in->placed);
    cr_assert(out && out->rows == 512 && out->cols == 1024 && !out->placed);
    cr_assert_eq(embed->a, 2 * 1024 * 512.0);
    cr_assert_null(layer_tensor(head, ROLE_NORM_GAIN));
    cr_assert_null(layer_tensor(head + 1, ROLE_PROJECT_OUT), "only the first part projects");
    /* MLP: 2*1024*4096 = 2^23 elements; rows of 512: 16384 = 256*64 fit; 50272 = 3.07 of those: 4 parts of 12568, up to a
     * multiple of 64: 12608; the last has 50272 - 3*12608 = 12448. */
    cr_assert_eq(a.n_layers, 1 + 2 * 24 + 4);
    cr_assert_eq(layer_tensor(head, ROLE_EMBED_TOKENS)->row_end, 12608);
    cr_assert_eq(layer_parameters(head), 12608 * 512 + 512 * 1024);
    cr_assert_eq(layer_parameters(head + 3), 12448 * 512);
    arch_free(&a);
}

Test(arch, sums_of_a_tiny_untied_model_without_biases)
{
    struct arch a = load("tests/fixtures/opt-tiny-untied");
    /* vocabulary 320, width 48, 130 position rows, 2 blocks: 4*48*48 and 2*48*100, each with a norm of 2*48. No final norm. */
    const int64_t table = 320 * 48, positions = 130 * 48, block = 4 * 48 * 48 + 2 * 48 * 100 + 2 * 2 * 48;
    cr_assert_str_eq(a.name, "opt-tiny-untied");
    cr_assert_str_eq(a.family, "opt");
    cr_assert(!a.tied && !a.bias && a.norm_before && !a.final_norm);
    cr_assert_eq(arch_parameters(&a), 2 * table + positions + 2 * block);
    cr_assert_eq(layer_tensor(&a.layer[1], ROLE_Q_BIAS), NULL);
    cr_assert_eq(a.layer[1].a, 2.0 * 4 * 48 * 48, "no biases to count");
    cr_assert_str_eq(layer_tensor(&a.layer[5], ROLE_EMBED_TOKENS)->name, "lm_head.weight");
    arch_free(&a);
}

/* ---- head parts --------------------------------------------------------------------------------------------------- */

/* The fewest parts, by trying. */
static int64_t fewest_parts(int64_t rows, int64_t cols, int64_t limit)
{
    int64_t most = 64;
    while ((most + 64) * cols <= limit)
        most += 64;
    for (int64_t parts = 1;; parts++)
        if (parts * most >= rows)
            return parts;
}

Test(arch, head_parts_are_few_aligned_and_small)
{
    const unsigned seed = 20240817;
    srand(seed);
    for (int i = 0; i < 2000; i++) {
        const int64_t rows = 2 + rand() % 60000, cols = 1 + rand() % 3000, limit = 1 + (int64_t)rand() % 20000000;
        const int64_t part = arch_head_part_rows(rows, cols, limit), parts = (rows + part - 1) / part;
        cr_assert_eq(part % 64, 0, "seed %u, case %d", seed, i);
        cr_assert(part == 64 || part * cols <= limit, "seed %u, case %d", seed, i);
        cr_assert_eq(parts, fewest_parts(rows, cols, limit), "seed %u, case %d: %" PRId64 " x %" PRId64 ", %" PRId64, seed, i,
                     rows, cols, limit);
    }
}

static void check_head_covers_the_table(const char *model)
{
    struct arch a = load(model);
    int64_t next = 0, largest = 0;
    for (int i = 0; i < a.n_layers; i++) {
        const struct layer *l = &a.layer[i];
        const int64_t bytes = layer_placed_bytes(l, a.weight_format);
        if (l->kind == LAYER_ATTENTION || l->kind == LAYER_MLP)
            largest = bytes > largest ? bytes : largest;
        if (l->kind != LAYER_HEAD)
            continue;
        const struct tensor *t = layer_tensor(l, ROLE_EMBED_TOKENS);
        cr_assert_eq(t->row_begin, next, "%s", model);
        cr_assert_eq(t->row_begin % 64, 0, "%s", model);
        cr_assert_leq(bytes, largest, "%s", model);
        next = t->row_end;
    }
    cr_assert_eq(next, a.vocab, "%s", model);
    arch_free(&a);
}

Test(arch, head_parts_cover_the_table)
{
    static const char *const models[] = {"opt-125m",
                                         "opt-350m",
                                         "opt-1.3b",
                                         "opt-2.7b",
                                         "opt-6.7b",
                                         "opt-13b",
                                         "opt-30b",
                                         "opt-66b",
                                         "opt-175b",
                                         "tests/fixtures/opt-tiny-pre",
                                         "tests/fixtures/opt-tiny-shard"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        check_head_covers_the_table(models[i]);
}

/* ---- visible tokens ----------------------------------------------------------------------------------------------- */

Test(arch, visible_tokens_against_counting)
{
    for (int64_t window = 0; window <= 9; window++)
        for (int64_t s = 0; s <= 20; s++) {
            double sum = 0, ahead = 0;
            for (int64_t t = 1; t <= s + 5; t++)
                *(t <= s ? &sum : &ahead) += (double)(window && t > window ? window : t);
            cr_assert_eq(visible_sum(s, window), sum, "s %" PRId64 ", window %" PRId64, s, window);
            cr_assert_float_eq(visible_mean(s, 5, window), ahead / 5, 1e-12);
        }
}

Test(arch, a_window_caps_what_a_token_sees)
{
    const struct layer l = {.kind = LAYER_ATTENTION, .a = 100, .b = 3, .window = 4};
    cr_assert_eq(layer_decode_flops(&l, 3), 100 + 3 * 3);
    cr_assert_eq(layer_decode_flops(&l, 50), 100 + 3 * 4);
    cr_assert_eq(layer_prefill_flops(&l, 6), 6 * 100 + 3 * (1 + 2 + 3 + 4 + 4 + 4));
}

/* ---- config.json -------------------------------------------------------------------------------------------------- */

/* Line numbers matter below: "{" is line 1, model_type line 2, hidden_size line 3 and so on. */
#define SIZES                                                                                                                        \
    "{\n\"model_type\": \"opt\",\n\"hidden_size\": 64,\n\"num_attention_heads\": 4,\n\"num_hidden_layers\": 2,\n\"ffn_dim\": 256,\n" \
    "\"vocab_size\": 512,\n\"max_position_embeddings\": 128,\n"
#define SWITCHES "\"do_layer_norm_before\": true,\n\"activation_function\": \"relu\""
static const char minimal[] = SIZES SWITCHES "\n}\n";

Test(config, absent_fields_mean_what_the_library_says)
{
    struct arch a;
    struct error err = {0};
    cr_assert_eq(parse(&a, minimal, &err), STATUS_OK, "%s", err.text);
    cr_assert_str_eq(a.name, "some-model");
    cr_assert(a.bias && a.tied && a.final_norm && a.norm_before);
    cr_assert_eq(a.embed_width, 64);
    cr_assert_eq(a.weight_format, FORMAT_F32);
    cr_assert(a.bos_token == 2 && a.eos_token == 2 && a.pad_token == 1);
    cr_assert_eq(a.norm_epsilon, 1e-5);
    cr_assert_eq(a.position_offset, 2);
    arch_free(&a);
}

Test(config, what_does_not_matter_is_accepted)
{
    struct arch a;
    struct error err = {0};
    static const char text[] =
        SIZES SWITCHES ",\"use_cache\": false, \"dropout\": 0.1, \"layerdrop\": 0.5, \"prefix\": \"</s>\","
                       "\"transformers_version\": \"4.21.0\", \"init_std\": 0.02, \"pad_token_id\": null,"
                       "\"eos_token_id\": 7, \"torch_dtype\": \"torch.bfloat16\", \"quantization_config\": null,"
                       "\"architectures\": [\"OPTForCausalLM\"], \"activation_dropout\": 0.0}";
    cr_assert_eq(parse(&a, text, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(a.weight_format, FORMAT_BF16);
    cr_assert_eq(a.pad_token, -1, "null: the model has none");
    cr_assert_eq(a.eos_token, 7);
    arch_free(&a);
}

struct wrong {
    const char *text;
    const char *says[3]; /* all of these must be in the message; NULL ends early */
};

static const struct wrong wrongs[] = {
    {"", {"config.json", "JSON", NULL}},
    {"[]", {"expected an object", "a list of 0", NULL}},
    {"{\"model_type\": \"opt\"}", {"hidden_size", "nothing", NULL}},
    {"{\n\n\"model_type\": \"llama\"}", {"config.json:3:", "\"opt\"", "found \"llama\""}},
    {"{\"hidden_size\": 64}", {"model_type", "nothing", NULL}},
    {"{\"model_type\": \"opt\",\n\"hidden_size\": \"64\"}", {"config.json:2:", "hidden_size", "the text \"64\""}},
    {"{\"model_type\": \"opt\",\n\"hidden_size\": 64.5}", {"config.json:2:", "hidden_size", "64.5"}},
    {"{\"model_type\": \"opt\",\"hidden_size\": 0}", {"hidden_size", "from 1 to 1048576", "number 0"}},
    {"{\"model_type\": \"opt\",\"hidden_size\": 2000000}", {"hidden_size", "from 1 to 1048576", "2000000"}},
    {"{\"model_type\": \"opt\",\"hidden_size\": 99999999999999999999}", {"JSON", "integer", NULL}},
    {"{\"model_type\": \"opt\",\"hidden_size\": 64,\"hidden_size\": 64}", {"duplicate", NULL}},
    {"{\"model_type\":\"opt\",\"hidden_size\":64,\n\"num_attention_heads\":5,\"num_hidden_layers\":1,\"ffn_dim\":4,\"vocab_size\":9,"
     "\"max_position_embeddings\":8}",
     {"config.json:2:", "divisor of hidden_size 64", "found 5"}},
    {SIZES "\"activation_function\": \"relu\"}", {"do_layer_norm_before", "nothing", NULL}},
    {SIZES "\"do_layer_norm_before\": true}", {"activation_function", "nothing", NULL}},
    {SIZES "\"do_layer_norm_before\": 1,\n\"activation_function\": \"relu\"}", {"config.json:9:", "true or false", "number 1"}},
    {SIZES "\"do_layer_norm_before\": true,\n\"activation_function\": \"gelu_new\"}",
     {"config.json:10:", "\"relu\" or \"gelu\"", "gelu_new"}},
    {SIZES SWITCHES ",\n\"layer_norm_elementwise_affine\": false}",
     {"config.json:11:", "layer_norm_elementwise_affine", "found false"}},
    {SIZES SWITCHES ",\n\"is_encoder_decoder\": true}", {"config.json:11:", "is_encoder_decoder", "found true"}},
    {SIZES SWITCHES ",\n\"quantization_config\": {}}", {"config.json:11:", "quantization_config", "unknown"}},
    {SIZES SWITCHES ",\n\"sliding_window\": 5}", {"config.json:11:", "sliding_window", "unknown"}},
    {SIZES SWITCHES ",\n\"word_embed_proj_dim\": -5}", {"config.json:11:", "word_embed_proj_dim", "-5"}},
    {SIZES SWITCHES ",\n\"torch_dtype\": \"int8\"}", {"config.json:11:", "torch_dtype", "int8"}},
    {SIZES SWITCHES ",\n\"eos_token_id\": 512}", {"config.json:11:", "from 0 to 511", "512"}},
    {SIZES SWITCHES ",\n\"architectures\": [\"OPTForSequenceClassification\"]}", {"config.json:11:", "architectures", NULL}},
    {SIZES SWITCHES ",\n\"architectures\": 3}", {"config.json:11:", "architectures", NULL}},
    /* 2^24 rows of a table cut at 64 rows, for the layers hold 8 elements: 262144 parts */
    {"{\"model_type\":\"opt\",\"hidden_size\":1,\"num_attention_heads\":1,\"num_hidden_layers\":1,\"ffn_dim\":1,"
     "\"vocab_size\":16777216,\"max_position_embeddings\":8," SWITCHES "}",
     {"at most 8192 layers", "262147", NULL}},
};

Test(config, wrong_ones_are_refused_with_place_expectation_and_finding)
{
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        struct arch a;
        struct error err = {0};
        cr_assert_eq(parse(&a, wrongs[i].text, &err), STATUS_INVALID, "case %zu", i);
        cr_assert_null(a.layer);
        for (int j = 0; j < 3 && wrongs[i].says[j]; j++)
            cr_assert(strstr(err.text, wrongs[i].says[j]), "case %zu: no '%s' in: %s", i, wrongs[i].says[j], err.text);
    }
}

Test(config, every_truncation_is_refused)
{
    const size_t n = strlen(minimal) - 1; /* without the last newline, which may be missing */
    for (size_t i = 0; i < n; i++) {
        struct arch a;
        struct error err = {0};
        cr_assert_eq(arch_parse(&a, "config.json", minimal, i, &err), STATUS_INVALID, "%zu bytes", i);
        cr_assert(err.text[0]);
    }
}

Test(config, the_largest_sizes_do_not_overflow)
{
    struct arch a;
    struct error err = {0};
    static const char text[] =
        "{\"model_type\":\"opt\",\"hidden_size\":1048576,\"num_attention_heads\":1,\"num_hidden_layers\":1024,"
        "\"ffn_dim\":4194304,\"vocab_size\":16777216,\"max_position_embeddings\":16777216," SWITCHES "}";
    cr_assert_eq(parse(&a, text, &err), STATUS_OK, "%s", err.text);
    /* With d = 2^20, f = 4*d: 12*d*d and 4*d + (f + d) + 4*d = 13*d per block; tables of 2^24*d and (2^24 + 2)*d; 2*d. */
    const int64_t d = 1 << 20;
    cr_assert_eq(arch_parameters(&a), 1024 * (12 * d * d + 13 * d) + (1 << 24) * d + ((1 << 24) + 2) * d + 2 * d);
    cr_assert_gt(layer_resident_bytes(&a.layer[0]), 0);
    arch_free(&a);
}

static void check_round_trip(const char *model)
{
    struct arch a = load(model), b;
    struct error err = {0};
    char path[256];
    char *text = arch_config_json(&a);
    cr_assert(text);
    snprintf(path, sizeof path, "%s/config.json", a.name);
    cr_assert_eq(arch_parse(&b, path, text, strlen(text), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(a.n_layers, b.n_layers);
    for (int i = 0; i < a.n_layers; i++)
        cr_assert_eq(memcmp(&a.layer[i], &b.layer[i], sizeof a.layer[i]), 0, "%s: layer %d", model, i);
    free(a.layer);
    free(b.layer);
    a.layer = b.layer = NULL;
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0, "%s", model);
    free(text);
}

Test(config, written_configs_read_back_the_same)
{
    static const char *const models[] = {"opt-350m", "opt-175b", "tests/fixtures/opt-tiny-bf16", "tests/fixtures/opt-tiny-post",
                                         "tests/fixtures/opt-tiny-untied"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        check_round_trip(models[i]);
}

/* ---- where a model comes from ------------------------------------------------------------------------------------- */

Test(load, a_directory_a_file_or_a_preset)
{
    struct arch a = load("tests/fixtures/opt-tiny-pre/"), b = load("tests/fixtures/opt-tiny-pre/config.json"), c;
    struct error err = {0};
    cr_assert_str_eq(a.name, "opt-tiny-pre");
    cr_assert_str_eq(b.name, "opt-tiny-pre");
    cr_assert_eq(arch_parameters(&a), arch_parameters(&b));
    arch_free(&a);
    arch_free(&b);
    cr_assert_eq(arch_load(&c, "no-such-model", &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "no-such-model") && strstr(err.text, "opt-30b"), "%s", err.text);
    err = (struct error){0};
    cr_assert_eq(arch_load(&c, "tests", &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "config.json"), "%s", err.text);
    cr_assert_neq(arch_load(&c, "", NULL), STATUS_OK);
}

Test(load, a_file_is_named_after_itself)
{
    struct arch a = load("model/data/models/opt-1.3b.json");
    cr_assert_str_eq(a.name, "opt-1.3b");
    arch_free(&a);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

Test(memory, every_allocation_may_fail)
{
    enum status s = STATUS_RUNTIME;
    int n = 0;
    for (; s != STATUS_OK && n < 10000; n++) {
        struct arch a;
        struct error err = {0};
        json_fails_after(n);
        s = parse(&a, minimal, &err);
        /* jansson's scanner reports some failed allocations as bad JSON, so the status is not always STATUS_RUNTIME. */
        cr_assert_eq(s, err.status, "allocation %d: %s", n, err.text);
        cr_assert(s == STATUS_OK || a.layer == NULL, "allocation %d", n);
        if (s == STATUS_OK)
            arch_free(&a);
    }
    json_fails_no_more();
    cr_assert(s == STATUS_OK && n > 20, "%d allocations", n);
}

Test(memory, every_allocation_of_writing_may_fail)
{
    struct arch a = load("opt-350m");
    char *text = NULL;
    int n = 0;
    for (; !text && n < 10000; n++) {
        json_fails_after(n);
        text = arch_config_json(&a);
    }
    json_fails_no_more();
    cr_assert(text && n > 20, "%d allocations", n);
    cr_assert(strstr(text, "\"word_embed_proj_dim\": 512"), "what comes out is whole: %s", text);
    free(text);
    arch_free(&a);
}
