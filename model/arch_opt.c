/* arch_opt.c - the OPT family (Hugging Face model_type "opt"): learned positions, softmax attention over all heads, a two-matrix
 * MLP and biases. OPT-350M differs: norms after the residual, and embeddings narrower than the model with two projections. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "model/arch_family.h"

/* The library adds 2 rows to the position table and starts counting at row 2. */
#define OPT_POSITION_OFFSET 2
/* The library's LayerNorm has this fixed in its code; no field sets it. */
#define OPT_NORM_EPSILON    1e-5

static const char *const opt_keys[] = {"_remove_final_layer_norm",
                                       "activation_function",
                                       "add_cross_attention",
                                       "bos_token_id",
                                       "do_layer_norm_before",
                                       "enable_bias",
                                       "eos_token_id",
                                       "ffn_dim",
                                       "hidden_size",
                                       "is_decoder",
                                       "is_encoder_decoder",
                                       "layer_norm_elementwise_affine",
                                       "max_position_embeddings",
                                       "num_attention_heads",
                                       "num_hidden_layers",
                                       "pad_token_id",
                                       "tie_word_embeddings",
                                       "vocab_size",
                                       "word_embed_proj_dim",
                                       NULL};

/* ---- config.json ------------------------------------------------------------------------------------------------ */

static enum status read_sizes(struct arch *a, const struct json_object *o, struct error *err)
{
    enum status s;
    if ((s = json_int(o, "hidden_size", 1, ARCH_HIDDEN_MAX, &a->hidden, err)) ||
        (s = json_int(o, "num_attention_heads", 1, a->hidden, &a->heads, err)) ||
        (s = json_int(o, "num_hidden_layers", 1, ARCH_BLOCKS_MAX, &a->blocks, err)) ||
        (s = json_int(o, "ffn_dim", 1, ARCH_FFN_MAX, &a->ffn, err)) ||
        (s = json_int(o, "vocab_size", 2, ARCH_VOCAB_MAX, &a->vocab, err)) ||
        (s = json_int(o, "max_position_embeddings", 1, ARCH_POSITIONS_MAX, &a->max_positions, err)) ||
        (s = arch_optional_int(o, "word_embed_proj_dim", 1, ARCH_HIDDEN_MAX, a->hidden, &a->embed_width, err)))
        return s;
    if (a->hidden % a->heads != 0)
        return json_complain(o, "num_attention_heads", err, "expected a divisor of hidden_size %" PRId64 ", found %" PRId64,
                             a->hidden, a->heads);
    a->kv_heads = a->heads;
    a->head_dim = a->hidden / a->heads;
    a->position_offset = OPT_POSITION_OFFSET;
    return STATUS_OK;
}

static enum status read_activation(struct arch *a, const struct json_object *o, struct error *err)
{
    char text[64];
    enum status s = json_text(o, "activation_function", text, sizeof text, err);
    if (s != STATUS_OK)
        return s;
    if (strcmp(text, "relu") == 0)
        a->activation = ACTIVATION_RELU;
    else if (strcmp(text, "gelu") == 0)
        a->activation = ACTIVATION_GELU;
    else
        return json_complain(o, "activation_function", err, "expected \"relu\" or \"gelu\", found \"%s\"", text);
    return STATUS_OK;
}

static enum status read_switches(struct arch *a, const struct json_object *o, struct error *err)
{
    enum status s;
    bool removed = false;
    if ((s = json_bool(o, "do_layer_norm_before", &a->norm_before, err)) ||
        (s = arch_optional_bool(o, "_remove_final_layer_norm", false, &removed, err)) ||
        (s = arch_optional_bool(o, "enable_bias", true, &a->bias, err)) ||
        (s = arch_optional_bool(o, "tie_word_embeddings", true, &a->tied, err)) ||
        (s = arch_require_bool(o, "layer_norm_elementwise_affine", true, err)) ||
        (s = arch_require_bool(o, "is_encoder_decoder", false, err)) ||
        (s = arch_require_bool(o, "add_cross_attention", false, err)))
        return s;
    a->final_norm = a->norm_before && !removed;
    a->norm_epsilon = OPT_NORM_EPSILON;
    return STATUS_OK;
}

/* A model of this type with another kind of head (classification, question answering) does not generate. */
static enum status check_architectures(const struct json_object *o, struct error *err)
{
    json_t *list = json_object_get(o->value, "architectures");
    if (!json_has(o, "architectures"))
        return STATUS_OK;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && (strcmp(name, "OPTForCausalLM") == 0 || strcmp(name, "OPTModel") == 0))
            return STATUS_OK;
    }
    return json_complain(o, "architectures", err, "expected a list with \"OPTForCausalLM\" or \"OPTModel\", found neither");
}

static enum status read_opt(struct arch *a, const struct json_object *o, struct error *err)
{
    enum status s;
    if ((s = arch_known_keys(o, arch_opt.model_type, opt_keys, err)) || (s = check_architectures(o, err)) ||
        (s = read_sizes(a, o, err)) || (s = read_activation(a, o, err)) || (s = read_switches(a, o, err)) ||
        (s = arch_token_id(o, "bos_token_id", a->vocab, 2, &a->bos_token, err)) ||
        (s = arch_token_id(o, "eos_token_id", a->vocab, 2, &a->eos_token, err)) ||
        (s = arch_token_id(o, "pad_token_id", a->vocab, 1, &a->pad_token, err)))
        return s;
    return arch_weight_format(o, &a->weight_format, err);
}

static const char *dtype_name(enum format format)
{
    return format == FORMAT_F32 ? "float32" : format == FORMAT_BF16 ? "bfloat16" : "float16";
}

static int set_token(json_t *o, const char *key, int64_t id)
{
    return json_object_set_new(o, key, id < 0 ? json_null() : json_integer(id));
}

static int write_opt(const struct arch *a, json_t *o)
{
    return -(json_object_set_new(o, "model_type", json_string(arch_opt.model_type)) ||
             json_object_set_new(o, "architectures", json_pack("[s]", "OPTForCausalLM")) ||
             json_object_set_new(o, "hidden_size", json_integer(a->hidden)) ||
             json_object_set_new(o, "num_hidden_layers", json_integer(a->blocks)) ||
             json_object_set_new(o, "num_attention_heads", json_integer(a->heads)) ||
             json_object_set_new(o, "ffn_dim", json_integer(a->ffn)) ||
             json_object_set_new(o, "vocab_size", json_integer(a->vocab)) ||
             json_object_set_new(o, "max_position_embeddings", json_integer(a->max_positions)) ||
             json_object_set_new(o, "word_embed_proj_dim", json_integer(a->embed_width)) ||
             json_object_set_new(o, "activation_function", json_string(a->activation == ACTIVATION_GELU ? "gelu" : "relu")) ||
             json_object_set_new(o, "do_layer_norm_before", json_boolean(a->norm_before)) ||
             json_object_set_new(o, "_remove_final_layer_norm", json_boolean(a->norm_before && !a->final_norm)) ||
             json_object_set_new(o, "enable_bias", json_boolean(a->bias)) ||
             json_object_set_new(o, "tie_word_embeddings", json_boolean(a->tied)) || set_token(o, "bos_token_id", a->bos_token) ||
             set_token(o, "eos_token_id", a->eos_token) || set_token(o, "pad_token_id", a->pad_token) ||
             json_object_set_new(o, "torch_dtype", json_string(dtype_name(a->weight_format))));
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

static bool has_projections(const struct arch *a)
{
    return a->embed_width != a->hidden;
}

static void build_embed(const struct arch *a, struct layer *l)
{
    l->kind = LAYER_EMBED;
    arch_add_matrix(l, ROLE_EMBED_TOKENS, true, a->vocab, a->embed_width, "decoder.embed_tokens.weight");
    arch_add_matrix(l, ROLE_EMBED_POSITIONS, false, a->max_positions + a->position_offset, a->hidden,
                    "decoder.embed_positions.weight");
    if (has_projections(a)) {
        arch_add_matrix(l, ROLE_PROJECT_IN, false, a->hidden, a->embed_width, "decoder.project_in.weight");
        l->a = 2.0 * (double)a->hidden * (double)a->embed_width;
    }
}

static void build_attention(const struct arch *a, struct layer *l, int block)
{
    static const struct {
        enum tensor_role weight, bias;
        const char *name;
    } part[] = {{ROLE_Q, ROLE_Q_BIAS, "q_proj"},
                {ROLE_K, ROLE_K_BIAS, "k_proj"},
                {ROLE_V, ROLE_V_BIAS, "v_proj"},
                {ROLE_O, ROLE_O_BIAS, "out_proj"}};
    const int64_t d = a->hidden;
    l->kind = LAYER_ATTENTION;
    l->block = block;
    arch_add_vector(l, ROLE_NORM_GAIN, d, "decoder.layers.%d.self_attn_layer_norm.weight", block);
    arch_add_vector(l, ROLE_NORM_BIAS, d, "decoder.layers.%d.self_attn_layer_norm.bias", block);
    for (int i = 0; i < 4; i++) {
        arch_add_matrix(l, part[i].weight, true, d, d, "decoder.layers.%d.self_attn.%s.weight", block, part[i].name);
        if (a->bias)
            arch_add_vector(l, part[i].bias, d, "decoder.layers.%d.self_attn.%s.bias", block, part[i].name);
    }
    /* facts/architectures.md section 2.1: a = 2*P with the biases in P, b = 4*H*e, m = 2*G*e; with G*e = H*e = d here. */
    l->a = 2.0 * (4.0 * (double)d * (double)d + (a->bias ? 4.0 * (double)d : 0.0));
    l->b = 4.0 * (double)(a->heads * a->head_dim);
    l->state_per_token = 2 * a->kv_heads * a->head_dim;
}

static void build_mlp(const struct arch *a, struct layer *l, int block)
{
    l->kind = LAYER_MLP;
    l->block = block;
    arch_add_vector(l, ROLE_NORM_GAIN, a->hidden, "decoder.layers.%d.final_layer_norm.weight", block);
    arch_add_vector(l, ROLE_NORM_BIAS, a->hidden, "decoder.layers.%d.final_layer_norm.bias", block);
    arch_add_matrix(l, ROLE_FC1, true, a->ffn, a->hidden, "decoder.layers.%d.fc1.weight", block);
    if (a->bias)
        arch_add_vector(l, ROLE_FC1_BIAS, a->ffn, "decoder.layers.%d.fc1.bias", block);
    arch_add_matrix(l, ROLE_FC2, true, a->hidden, a->ffn, "decoder.layers.%d.fc2.weight", block);
    if (a->bias)
        arch_add_vector(l, ROLE_FC2_BIAS, a->hidden, "decoder.layers.%d.fc2.bias", block);
    /* Two matrices. worked_examples.csv leaves these biases out of the FLOPs, and is matched exactly. */
    l->a = 4.0 * (double)a->hidden * (double)a->ffn;
}

static void build_head_part(const struct arch *a, struct layer *l, int part, int64_t part_rows)
{
    const char *table = a->tied ? "decoder.embed_tokens.weight" : "lm_head.weight";
    l->kind = LAYER_HEAD;
    l->block = part;
    if (part == 0 && a->final_norm) {
        arch_add_vector(l, ROLE_NORM_GAIN, a->hidden, "decoder.final_layer_norm.weight");
        arch_add_vector(l, ROLE_NORM_BIAS, a->hidden, "decoder.final_layer_norm.bias");
    }
    if (part == 0 && has_projections(a)) {
        arch_add_matrix(l, ROLE_PROJECT_OUT, false, a->embed_width, a->hidden, "decoder.project_out.weight");
        l->a += 2.0 * (double)a->embed_width * (double)a->hidden;
    }
    struct tensor *t = arch_add_matrix(l, ROLE_EMBED_TOKENS, true, a->vocab, a->embed_width, "%s", table);
    t->row_begin = part * part_rows;
    t->row_end = t->row_begin + part_rows < a->vocab ? t->row_begin + part_rows : a->vocab;
    l->a += 2.0 * (double)(t->row_end - t->row_begin) * (double)a->embed_width;
}

static enum status build_opt(struct arch *a, struct error *err)
{
    const int64_t attention = 4 * a->hidden * a->hidden, mlp = 2 * a->hidden * a->ffn;
    /* All are stored in one format, so elements compare as bytes do. */
    const int64_t part_rows = arch_head_part_rows(a->vocab, a->embed_width, attention > mlp ? attention : mlp);
    const int64_t parts = (a->vocab + part_rows - 1) / part_rows;
    enum status s = arch_new_layers(a, 1 + 2 * a->blocks + parts, err);
    if (s != STATUS_OK)
        return s;
    struct layer *l = a->layer;
    build_embed(a, l++);
    for (int block = 0; block < a->blocks; block++) {
        build_attention(a, l++, block);
        build_mlp(a, l++, block);
    }
    for (int part = 0; part < parts; part++)
        build_head_part(a, l++, part, part_rows);
    return STATUS_OK;
}

const struct arch_family arch_opt = {.model_type = "opt", .read = read_opt, .build = build_opt, .write = write_opt};
