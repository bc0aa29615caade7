/* tokenizer_json.c - a byte-level BPE from tokenizer.json. Whatever would change the result and is not done here is refused by
 * the name of its field. `truncation` and `padding` are ignored: they shape batches for training, not the tokens of a text. */
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

struct quoted json_found(const json_t *value)
{
    if (value == NULL) {
        return quote("nothing", 7);
    }
    if (json_is_object(value) || json_is_array(value)) {
        return json_is_object(value) ? quote("an object", 9) : quote("a list", 6);
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const struct quoted q = text != NULL ? quote(text, strlen(text)) : quote("a value", 7);
    free(text);
    return q;
}

static enum status complain(const char *path, const char *where, const char *expected, const json_t *found, struct error *err)
{
    return error_at(err, STATUS_INVALID, path, 0, "key '%s': expected %s, found %s", where, expected, json_found(found).text);
}

static enum status only_keys(const json_t *object, const char *const *keys, const char *path, const char *where,
                             struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        const char *const *k = keys;
        while (*k != NULL && strcmp(*k, key) != 0) {
            k++;
        }
        if (*k == NULL) {
            return error_at(err, STATUS_INVALID, path, 0, "key '%s%s%s': expected a known key, found one that is not supported",
                            where, where[0] != '\0' ? "." : "", quote(key, strlen(key)).text);
        }
    }
    return STATUS_OK;
}

/* A flag that may be left out. */
static enum status get_flag(const json_t *object, const char *key, const char *path, const char *where, bool *out,
                            struct error *err)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_boolean(value)) {
        return error_at(err, STATUS_INVALID, path, 0, "key '%s.%s': expected true or false, found %s", where, key,
                        json_found(value).text);
    }
    *out = json_is_true(value);
    return STATUS_OK;
}

/* ---- model ---- */

enum status tokenizer_read_vocab(struct tokenizer *t, const json_t *vocab, const char *path, const char *where, struct error *err)
{
    if (!json_is_object(vocab) || json_object_size(vocab) == 0) {
        return complain(path, where, "an object of tokens and their ids", vocab, err);
    }
    const char *content;
    json_t *id;
    json_object_foreach((json_t *)vocab, content, id)
    {
        if (!json_is_integer(id)) {
            return error_at(err, STATUS_INVALID, path, 0, "key '%s', token \"%s\": expected an integer id, found %s", where,
                            quote(content, strlen(content)).text, json_found(id).text);
        }
        const enum status status = vocabulary_add(&t->vocabulary, content, strlen(content), json_integer_value(id), path, 0, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* The two halves of a merge: ["a", "b"], or "a b" in older files. */
static bool merge_parts(const json_t *merge, const char *part[2], size_t length[2])
{
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge);
        const char *space = strchr(text, ' ');
        if (space == NULL || strchr(space + 1, ' ') != NULL) {
            return false;
        }
        part[0] = text;
        length[0] = (size_t)(space - text);
        part[1] = space + 1;
        length[1] = strlen(space + 1);
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(merge, i);
        if (!json_is_string(item)) {
            return false;
        }
        part[i] = json_string_value(item);
        length[i] = json_string_length(item);
    }
    return json_array_size(merge) == 2;
}

static enum status read_merges(struct tokenizer *t, const json_t *merges, const char *path, struct error *err)
{
    if (!json_is_array(merges)) {
        return complain(path, "model.merges", "a list", merges, err);
    }
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const char *part[2];
        size_t length[2];
        const json_t *merge = json_array_get(merges, i);
        if (!merge_parts(merge, part, length)) {
            return error_at(err, STATUS_INVALID, path, 0, "key 'model.merges[%zu]': expected two tokens, found %s", i,
                            json_found(merge).text);
        }
        const enum status status = bpe_add_merge(&t->bpe, &t->vocabulary, part[0], length[0], part[1], length[1], path, 0, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static bool has_every_byte(const struct bpe *b)
{
    bool all = true;
    for (int i = 0; i < 256; i++) {
        all = all && b->byte_id[i] >= 0;
    }
    return all;
}

static enum status read_unk(struct tokenizer *t, const json_t *model, const char *path, struct error *err)
{
    const json_t *unk = json_object_get(model, "unk_token");
    if (unk != NULL && !json_is_null(unk)) {
        t->bpe.unk_id =
            json_is_string(unk) ? vocabulary_find(&t->vocabulary, json_string_value(unk), json_string_length(unk)) : -1;
        if (t->bpe.unk_id < 0) {
            return complain(path, "model.unk_token", "null or a token of the vocabulary", unk, err);
        }
    }
    if (json_is_true(json_object_get(model, "fuse_unk")) && !has_every_byte(&t->bpe)) {
        return complain(path, "model.fuse_unk", "false (the vocabulary lacks tokens of bytes)",
                        json_object_get(model, "fuse_unk"), err);
    }
    return STATUS_OK;
}

static enum status check_model(const json_t *model, const char *path, struct error *err)
{
    static const char *const keys[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "continuing_subword_prefix",
                                       "end_of_word_suffix",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "ignore_merges",
                                       "vocab",
                                       "merges",
                                       NULL};
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model)) {
        return complain(path, "model", "an object", model, err);
    }
    if (type != NULL ? !json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0
                     : json_object_get(model, "merges") == NULL) {
        return complain(path, "model.type", "\"BPE\"", type, err);
    }
    for (int i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (affix != NULL && !json_is_null(affix) && (!json_is_string(affix) || json_string_length(affix) > 0)) {
            return error_at(err, STATUS_INVALID, path, 0, "key 'model.%s': expected null or \"\", found %s", affixes[i],
                            json_found(affix).text);
        }
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && (!json_is_number(dropout) || json_number_value(dropout) != 0)) {
        return complain(path, "model.dropout", "null or 0", dropout, err);
    }
    if (json_is_true(json_object_get(model, "byte_fallback"))) {
        return complain(path, "model.byte_fallback", "false", json_object_get(model, "byte_fallback"), err);
    }
    return only_keys(model, keys, path, "model", err);
}

static enum status read_model(struct tokenizer *t, const json_t *model, const char *path, struct error *err)
{
    enum status status = check_model(model, path, err);
    if (status == STATUS_OK) {
        status = get_flag(model, "ignore_merges", path, "model", &t->bpe.ignore_merges, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_read_vocab(t, json_object_get(model, "vocab"), path, "model.vocab", err);
    }
    if (status == STATUS_OK) {
        bpe_set_bytes(&t->bpe, &t->vocabulary);
        status = read_merges(t, json_object_get(model, "merges"), path, err);
    }
    return status == STATUS_OK ? read_unk(t, model, path, err) : status;
}

/* ---- added tokens ---- */

enum status tokenizer_read_added(const json_t *value, const char *path, const char *where, struct added_spec *out,
                                 struct error *err)
{
    static const char *const keys[] = {"id",         "content", "single_word", "lstrip", "rstrip",
                                       "normalized", "special", "__type",      NULL};
    const json_t *content = json_is_string(value) ? value : json_object_get(value, "content");
    if (!json_is_string(content)) {
        return error_at(err, STATUS_INVALID, path, 0,
                        "key '%s': expected a token (a text, or an object with \"content\"), found %s", where,
                        json_found(value).text);
    }
    out->content = json_string_value(content);
    out->length = json_string_length(content);
    if (json_is_string(value)) {
        return STATUS_OK;
    }
    bool single_word = false;
    struct {
        const char *key;
        bool *flag;
    } flags[] = {{"single_word", &single_word},
                 {"lstrip", &out->lstrip},
                 {"rstrip", &out->rstrip},
                 {"normalized", &out->normalized},
                 {"special", &out->special}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const enum status status = get_flag(value, flags[i].key, path, where, flags[i].flag, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (single_word) {
        return error_at(err, STATUS_INVALID, path, 0,
                        "key '%s.single_word' of \"%s\": expected false, found true (not supported)", where,
                        quote(out->content, out->length).text);
    }
    return only_keys(value, keys, path, where, err);
}

static enum status read_added_tokens(struct tokenizer *t, const json_t *list, const char *path, struct error *err)
{
    if (list == NULL || json_is_null(list)) {
        return STATUS_OK;
    }
    if (!json_is_array(list)) {
        return complain(path, "added_tokens", "a list", list, err);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[48];
        const json_t *item = json_array_get(list, i);
        const json_t *id = json_object_get(item, "id");
        (void)snprintf(where, sizeof where, "added_tokens[%zu]", i);
        if (!json_is_integer(id)) {
            return error_at(err, STATUS_INVALID, path, 0, "key '%s.id': expected an integer, found %s", where,
                            json_found(id).text);
        }
        if (json_integer_value(id) < 0) {
            return error_at(err, STATUS_INVALID, path, 0, "key '%s.id': expected 0 or more, found %s", where,
                            json_found(id).text);
        }
        struct added_spec spec = {.id = json_integer_value(id), .normalized = true};
        enum status status = tokenizer_read_added(item, path, where, &spec, err);
        if (status == STATUS_OK) {
            status = tokenizer_add_token(t, &spec, path, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* ---- pre-tokenizer and decoder ---- */

static bool has_type(const json_t *object, const char *type)
{
    const json_t *value = json_object_get(object, "type");
    return json_is_string(value) && strcmp(json_string_value(value), type) == 0;
}

static enum status read_pre_tokenizer(struct tokenizer *t, const json_t *pre, const char *path, struct error *err)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
    if (!has_type(pre, "ByteLevel")) {
        const bool object = json_is_object(pre);
        return complain(path, object ? "pre_tokenizer.type" : "pre_tokenizer", "\"ByteLevel\"",
                        object ? json_object_get(pre, "type") : pre, err);
    }
    bool use_regex = true;
    enum status status = get_flag(pre, "add_prefix_space", path, "pre_tokenizer", &t->add_prefix_space, err);
    if (status == STATUS_OK) {
        status = get_flag(pre, "use_regex", path, "pre_tokenizer", &use_regex, err);
    }
    if (status == STATUS_OK) {
        status = only_keys(pre, keys, path, "pre_tokenizer", err);
    }
    return status == STATUS_OK && use_regex ? pretokenizer_compile(&t->words, err) : status;
}

/* ---- post-processor: what add_special puts before and after ---- */

/* The ids that special_tokens gives for a name. */
static enum status template_ids(struct tokenizer *t, const json_t *post, const json_t *name, struct id_list *out,
                                const char *path, struct error *err)
{
    static const char where[] = "post_processor.special_tokens";
    const json_t *entry =
        json_is_string(name) ? json_object_get(json_object_get(post, "special_tokens"), json_string_value(name)) : NULL;
    const json_t *ids = json_object_get(entry, "ids");
    if (!json_is_array(ids)) {
        return error_at(err, STATUS_INVALID, path, 0, "key '%s': expected the ids of %s, found %s", where, json_found(name).text,
                        json_found(ids).text);
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= tokenizer_vocab(t)) {
            return complain(path, where, "ids of the vocabulary", id, err);
        }
        if (!id_list_add(out, (int32_t)json_integer_value(id))) {
            return error_at(err, STATUS_RUNTIME, path, 0, "out of memory for the post-processor");
        }
    }
    return STATUS_OK;
}

/* TemplateProcessing: "single" is special tokens around one sequence. */
static enum status read_template(struct tokenizer *t, const json_t *post, const char *path, struct error *err)
{
    const json_t *single = json_object_get(post, "single");
    size_t sequences = 0;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        if (special == NULL) {
            if (json_object_get(item, "Sequence") == NULL) {
                return complain(path, "post_processor.single", "items SpecialToken and Sequence", item, err);
            }
            sequences++;
            continue;
        }
        const enum status status =
            template_ids(t, post, json_object_get(special, "id"), sequences == 0 ? &t->prefix : &t->suffix, path, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return sequences == 1 ? STATUS_OK : complain(path, "post_processor.single", "a list with one Sequence", single, err);
}

/* RobertaProcessing: ["</s>", 2] under a key. */
static enum status read_pair_id(struct tokenizer *t, const json_t *post, const char *key, struct id_list *out, const char *path,
                                struct error *err)
{
    const json_t *id = json_array_get(json_object_get(post, key), 1);
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= tokenizer_vocab(t)) {
        return error_at(err, STATUS_INVALID, path, 0, "key 'post_processor.%s': expected a token and its id, found %s", key,
                        json_found(json_object_get(post, key)).text);
    }
    return id_list_add(out, (int32_t)json_integer_value(id))
               ? STATUS_OK
               : error_at(err, STATUS_RUNTIME, path, 0, "out of memory for the post-processor");
}

static enum status read_post_processor(struct tokenizer *t, const json_t *post, const char *path, struct error *err)
{
    if (post == NULL || json_is_null(post) || has_type(post, "ByteLevel")) { /* ByteLevel only trims offsets */
        return STATUS_OK;
    }
    if (t->prefix.n + t->suffix.n > 0) {
        return complain(path, "post_processor.processors", "one that adds tokens", post, err);
    }
    if (has_type(post, "TemplateProcessing")) {
        return read_template(t, post, path, err);
    }
    if (has_type(post, "RobertaProcessing")) {
        const enum status status = read_pair_id(t, post, "cls", &t->prefix, path, err);
        return status == STATUS_OK ? read_pair_id(t, post, "sep", &t->suffix, path, err) : status;
    }
    return complain(path, "post_processor.type",
                    "\"TemplateProcessing\", \"RobertaProcessing\", \"ByteLevel\" or \"Sequence\" of these",
                    json_is_object(post) ? json_object_get(post, "type") : post, err);
}

static enum status read_post_processors(struct tokenizer *t, const json_t *post, const char *path, struct error *err)
{
    if (!has_type(post, "Sequence")) {
        return read_post_processor(t, post, path, err);
    }
    const json_t *list = json_object_get(post, "processors");
    enum status status = json_is_array(list) ? STATUS_OK : complain(path, "post_processor.processors", "a list", list, err);
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++) {
        status = read_post_processor(t, json_array_get(list, i), path, err);
    }
    return status;
}

/* ---- the file ---- */

static enum status check_top(const json_t *root, const char *path, struct error *err)
{
    static const char *const keys[] = {"version",       "truncation",     "padding", "added_tokens", "normalizer",
                                       "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    if (!json_is_object(root)) {
        return error_at(err, STATUS_INVALID, path, 0, "expected an object, found %s", json_found(root).text);
    }
    const json_t *normalizer = json_object_get(root, "normalizer");
    if (normalizer != NULL && !json_is_null(normalizer)) {
        return complain(path, "normalizer.type", "no normalizer", json_object_get(normalizer, "type"), err);
    }
    const json_t *decoder = json_object_get(root, "decoder");
    if (!has_type(decoder, "ByteLevel")) {
        return complain(path, "decoder.type", "\"ByteLevel\"", json_object_get(decoder, "type"), err);
    }
    return only_keys(root, keys, path, "", err);
}

enum status tokenizer_read_tokenizer_json(struct tokenizer *t, const json_t *root, const char *path, struct error *err)
{
    enum status status = check_top(root, path, err);
    if (status == STATUS_OK) {
        status = read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), path, err);
    }
    if (status == STATUS_OK) {
        status = read_model(t, json_object_get(root, "model"), path, err);
    }
    if (status == STATUS_OK) {
        status = read_added_tokens(t, json_object_get(root, "added_tokens"), path, err);
    }
    return status == STATUS_OK ? read_post_processors(t, json_object_get(root, "post_processor"), path, err) : status;
}
