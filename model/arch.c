/* arch.c - loading an architecture, whatever its family, and the sums over its layers. */
#define _GNU_SOURCE 1 /* memrchr */
#include "model/arch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/arch_family.h"
#include "model/data.h"

static const struct arch_family *const families[] = {&arch_opt};

#define N_FAMILIES (sizeof families / sizeof families[0])

const char *const arch_harmless_keys[] = {
    /* where the file comes from */
    "_commit_hash", "_name_or_path", "architectures", "dtype", "model_type", "torch_dtype", "transformers_version",
    /* training */
    "activation_dropout", "attention_dropout", "dropout", "gradient_checkpointing", "init_std", "initializer_range", "layerdrop",
    "problem_type", "finetuning_task", "id2label", "label2id",
    /* what the library's functions return, and how it computes the same */
    "_attn_implementation", "_attn_implementation_autoset", "attn_implementation", "chunk_size_feed_forward", "output_attentions",
    "output_hidden_states", "return_dict", "tokenizer_class", "torchscript", "use_bfloat16", "use_cache", "tf_legacy_loss",
    /* defaults for generation, which the workload and the command line decide here */
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length",
    "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores", "prefix",
    "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "task_specific_params",
    "temperature", "top_k", "top_p", "typical_p", NULL};

const char *layer_kind_name(enum layer_kind kind)
{
    static const char *const names[] = {"embed", "attention", "mlp", "head"};
    return kind >= LAYER_EMBED && kind <= LAYER_HEAD ? names[kind] : "?";
}

/* ---- reading config.json, for the families ---------------------------------------------------------------------- */

static bool in_list(const char *const *list, const char *key)
{
    while (*list && strcmp(*list, key) != 0)
        list++;
    return *list != NULL;
}

enum status arch_known_keys(const struct json_object *config, const char *family, const char *const *keys, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(config->value, key, value)
    {
        if (json_is_null(value) || in_list(keys, key) || in_list(arch_harmless_keys, key))
            continue;
        return json_complain(config, key, err,
                             "expected no field that is unknown for family \"%s\" and might change the result, found one",
                             family);
    }
    return STATUS_OK;
}

enum status arch_optional_int(const struct json_object *o, const char *key, int64_t min, int64_t max, int64_t absent,
                              int64_t *out, struct error *err)
{
    *out = absent;
    return json_has(o, key) ? json_int(o, key, min, max, out, err) : STATUS_OK;
}

enum status arch_optional_bool(const struct json_object *o, const char *key, bool absent, bool *out, struct error *err)
{
    *out = absent;
    return json_has(o, key) ? json_bool(o, key, out, err) : STATUS_OK;
}

enum status arch_require_bool(const struct json_object *o, const char *key, bool value, struct error *err)
{
    bool found;
    enum status s = arch_optional_bool(o, key, value, &found, err);
    if (s == STATUS_OK && found != value)
        s = json_complain(o, key, err, "expected %s (nothing else is supported), found %s", value ? "true" : "false",
                          found ? "true" : "false");
    return s;
}

enum status arch_token_id(const struct json_object *o, const char *key, int64_t vocab, int64_t absent, int64_t *out,
                          struct error *err)
{
    if (json_object_get(o->value, key) && !json_has(o, key))
        absent = -1;
    else if (absent >= vocab)
        absent = -1; /* the library's default is for a larger vocabulary */
    return arch_optional_int(o, key, 0, vocab - 1, absent, out, err);
}

enum status arch_weight_format(const struct json_object *o, enum format *out, struct error *err)
{
    static const struct {
        const char *name;
        enum format format;
    } known[] = {{"float32", FORMAT_F32}, {"float16", FORMAT_F16}, {"bfloat16", FORMAT_BF16}};
    const char *key = json_has(o, "dtype") ? "dtype" : "torch_dtype";
    char text[32];
    *out = FORMAT_F32;
    if (!json_has(o, key))
        return STATUS_OK;
    enum status s = json_text(o, key, text, sizeof text, err);
    if (s != STATUS_OK)
        return s;
    const char *name = strncmp(text, "torch.", 6) == 0 ? text + 6 : text;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].format;
            return STATUS_OK;
        }
    }
    return json_complain(o, key, err, "expected \"float32\", \"float16\" or \"bfloat16\", found \"%s\"", text);
}

/* ---- building layers, for the families -------------------------------------------------------------------------- */

enum status arch_new_layers(struct arch *a, int64_t n, struct error *err)
{
    json_malloc_t allocator;
    json_free_t release;
    if (n > ARCH_LAYERS_MAX)
        return error_set(err, STATUS_INVALID, "model %s: expected at most %d layers (parts of the head included), found %lld",
                         a->name, ARCH_LAYERS_MAX, (long long)n);
    json_get_alloc_funcs(&allocator, &release);
    a->layer = allocator((size_t)n * sizeof *a->layer);
    if (!a->layer)
        return error_set(err, STATUS_RUNTIME, "model %s: out of memory for %lld layers", a->name, (long long)n);
    memset(a->layer, 0, (size_t)n * sizeof *a->layer);
    a->n_layers = (int)n;
    return STATUS_OK;
}

static struct tensor *add_tensor(struct layer *l, enum tensor_role role, int64_t rows, int64_t cols)
{
    if (l->n_tensors >= LAYER_TENSORS_MAX)
        abort(); /* a family file with more tensors than the header allows: our own mistake */
    struct tensor *t = &l->tensor[l->n_tensors++];
    *t = (struct tensor){.role = role, .rows = rows, .cols = cols, .row_begin = 0, .row_end = rows};
    return t;
}

struct tensor *arch_add_matrix(struct layer *l, enum tensor_role role, bool placed, int64_t rows, int64_t cols, const char *name,
                               ...)
{
    va_list args;
    struct tensor *t = add_tensor(l, role, rows, cols);
    t->placed = placed;
    va_start(args, name);
    vsnprintf(t->name, sizeof t->name, name, args);
    va_end(args);
    return t;
}

struct tensor *arch_add_vector(struct layer *l, enum tensor_role role, int64_t n, const char *name, ...)
{
    va_list args;
    struct tensor *t = add_tensor(l, role, 1, n);
    va_start(args, name);
    vsnprintf(t->name, sizeof t->name, name, args);
    va_end(args);
    return t;
}

int64_t arch_head_part_rows(int64_t rows, int64_t cols, int64_t limit)
{
    int64_t most = limit / cols / 64 * 64;
    if (most < 64)
        most = 64;
    int64_t parts = (rows + most - 1) / most;
    int64_t even = (rows + parts - 1) / parts;
    return (even + 63) / 64 * 64; /* at most `most`, which is a multiple of 64 itself */
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static const struct arch_family *find_family(const char *model_type)
{
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i]->model_type, model_type) == 0)
            return families[i];
    return NULL;
}

static enum status choose_family(const struct json_object *config, const struct arch_family **out, struct error *err)
{
    char type[64];
    enum status s = json_text(config, "model_type", type, sizeof type, err);
    if (s != STATUS_OK)
        return s;
    *out = find_family(type);
    if (*out)
        return STATUS_OK;
    char known[128] = "";
    for (size_t i = 0; i < N_FAMILIES; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? ", " : "", families[i]->model_type);
    }
    return json_complain(config, "model_type", err, "expected a supported model family (%s), found \"%s\"", known, type);
}

/* DIR/config.json is named after DIR, any other file after itself without ".json". */
static void name_from_path(char *name, size_t n, const char *path)
{
    const char *end = path + strlen(path);
    const char *slash = memrchr(path, '/', (size_t)(end - path));
    const char *base = slash ? slash + 1 : path;
    if (strcmp(base, "config.json") == 0 && slash) {
        for (end = slash; end > path && end[-1] == '/';)
            end--;
        slash = memrchr(path, '/', (size_t)(end - path));
        base = slash ? slash + 1 : path;
    } else if (end - base > 5 && strcmp(end - 5, ".json") == 0) {
        end -= 5;
    }
    if (end == base)
        snprintf(name, n, "model");
    else
        snprintf(name, n, "%.*s", (int)(end - base < 4096 ? end - base : 4096), base);
}

/* The same kind, sizes and five numbers; names and positions do not count. */
static bool costs_the_same(const struct layer *x, const struct layer *y)
{
    bool same = x->kind == y->kind && x->n_tensors == y->n_tensors && x->a == y->a && x->b == y->b && x->window == y->window &&
                x->state_const == y->state_const && x->state_per_token == y->state_per_token;
    for (int j = 0; same && j < x->n_tensors; j++) {
        const struct tensor *s = &x->tensor[j], *t = &y->tensor[j];
        same = s->role == t->role && s->rows == t->rows && s->cols == t->cols && s->placed == t->placed &&
               s->row_end - s->row_begin == t->row_end - t->row_begin;
    }
    return same;
}

/* A model is a few different layers many times over: sums over layers need only look at the first of each. */
static void count_alike(struct arch *a)
{
    for (int i = 0; i < a->n_layers; i++) {
        int first = 0;
        while (first < i && !(a->layer[first].alike && costs_the_same(&a->layer[first], &a->layer[i])))
            first++;
        a->layer[first].alike++;
    }
}

static enum status from_config(struct arch *a, const struct json_file *file, struct error *err)
{
    struct json_object config;
    const struct arch_family *family = NULL;
    enum status s = json_root(file, &config, err);
    if (s == STATUS_OK)
        s = choose_family(&config, &family, err);
    if (s == STATUS_OK) {
        snprintf(a->family, sizeof a->family, "%s", family->model_type);
        s = family->read(a, &config, err);
    }
    if (s == STATUS_OK)
        s = family->build(a, err);
    if (s == STATUS_OK)
        count_alike(a);
    return s;
}

/* Takes the file if it could be read, frees it in any case. */
static enum status from_file(struct arch *a, enum status read, struct json_file *file, struct error *err)
{
    const enum status s = read == STATUS_OK ? from_config(a, file, err) : read;
    json_file_free(file);
    if (s != STATUS_OK)
        arch_free(a);
    return s;
}

enum status arch_parse(struct arch *a, const char *path, const char *text, size_t n, struct error *err)
{
    struct json_file file = {0};
    memset(a, 0, sizeof *a);
    name_from_path(a->name, sizeof a->name, path);
    return from_file(a, json_file_parse(&file, path, text, n, err), &file, err);
}

static enum status load_file(struct arch *a, const char *path, struct error *err)
{
    struct json_file file = {0};
    char *real = realpath(path, NULL); /* so that "." has a name */
    memset(a, 0, sizeof *a);
    name_from_path(a->name, sizeof a->name, real ? real : path);
    free(real);
    return from_file(a, json_file_load(&file, path, err), &file, err);
}

static enum status load_preset(struct arch *a, const char *name, struct error *err)
{
    char path[128];
    size_t n = 0;
    const char *text = data_find("models", name, &n);
    if (!text) {
        char known[300];
        return error_set(
            err, STATUS_INVALID,
            "model '%.200s': expected a directory with config.json, a configuration file or a preset (%s), found none", name,
            data_names("models", known, sizeof known));
    }
    snprintf(path, sizeof path, "models/%.100s.json", name);
    return arch_parse(a, path, text, n, err);
}

enum status arch_load(struct arch *a, const char *model, struct error *err)
{
    struct stat st;
    char path[4096];
    memset(a, 0, sizeof *a);
    if (stat(model, &st) != 0)
        return load_preset(a, model, err);
    if (!S_ISDIR(st.st_mode))
        return load_file(a, model, err);
    if (snprintf(path, sizeof path, "%s/config.json", model) >= (int)sizeof path)
        return error_set(err, STATUS_INVALID, "model '%.200s...': expected a path of fewer than %zu characters", model,
                         sizeof path);
    if (stat(path, &st) != 0)
        return error_set(err, STATUS_INVALID, "%.700s: expected a model directory with config.json, found none", model);
    return load_file(a, path, err);
}

void arch_free(struct arch *a)
{
    json_malloc_t allocator;
    json_free_t release;
    json_get_alloc_funcs(&allocator, &release);
    if (a->layer)
        release(a->layer);
    memset(a, 0, sizeof *a);
}

char *arch_config_json(const struct arch *a)
{
    const struct arch_family *family = find_family(a->family);
    json_t *config = json_object();
    char *text = NULL;
    if (family && config && family->write(a, config) == 0)
        text = json_dumps(config, JSON_INDENT(2));
    json_decref(config);
    return text;
}
