/* tokenizer_files.c - reads a model directory: tokenizer.json alone, or vocab.json + merges.txt with their companions.
 *
 * The companions matter in the older form only, in the order of the reference: added_tokens_decoder of tokenizer_config.json,
 * or in its absence special_tokens_map.json (over tokenizer_config.json) and added_tokens.json.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

/* ---- files ---- */

enum status tokenizer_read_file(char **text, size_t *n, const char *path, struct error *err)
{
    enum status status = STATUS_OK;
    size_t capacity = 0;
    char *buffer = NULL;
    *text = NULL;
    *n = 0;
    FILE *f = fopen(path, "rbe");
    if (f == NULL) {
        return error_errno(err, errno, "%s", path);
    }
    size_t got = 0;
    do {
        if (!grow(&buffer, &capacity, *n + 65536, 1)) {
            status = error_at(err, STATUS_RUNTIME, path, 0, "out of memory after %zu bytes", *n);
            goto done;
        }
        errno = 0;
        got = fread(buffer + *n, 1, capacity - *n, f);
        *n += got;
    } while (got > 0 && *n <= TOKEN_MAX_FILE_BYTES);
    if (ferror(f)) {
        status = error_errno(err, errno, "%s", path);
    } else if (*n > TOKEN_MAX_FILE_BYTES) {
        status = error_at(err, STATUS_INVALID, path, 0, "expected at most %d bytes, found more", TOKEN_MAX_FILE_BYTES);
    }
done:
    fclose(f);
    if (status == STATUS_OK) {
        *text = buffer;
    } else {
        free(buffer);
    }
    return status;
}

enum status tokenizer_read_json(json_t **root, const char *path, const char *text, size_t n, struct error *err)
{
    json_error_t e;
    *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (*root != NULL) {
        return STATUS_OK;
    }
    if (json_error_code(&e) == json_error_out_of_memory) {
        return error_at(err, STATUS_RUNTIME, path, 0, "out of memory for %zu bytes of JSON", n);
    }
    return error_at(err, STATUS_INVALID, path, e.line > 0 ? e.line : 0, "expected JSON, found: %s",
                    quote(e.text, strlen(e.text)).text);
}

static enum status load_json(json_t **root, const char *path, struct error *err)
{
    char *text = NULL;
    size_t n = 0;
    enum status status = tokenizer_read_file(&text, &n, path, err);
    if (status == STATUS_OK) {
        status = tokenizer_read_json(root, path, text, n, err);
    }
    free(text);
    return status;
}

struct path {
    char text[4096];
};

static enum status join_path(struct path *p, const char *directory, const char *name, struct error *err)
{
    const int n = snprintf(p->text, sizeof p->text, "%s/%s", directory, name);
    return n < (int)sizeof p->text ? STATUS_OK : error_set(err, STATUS_INVALID, "%.200s...: expected a shorter path", directory);
}

static bool file_exists(const char *path)
{
    FILE *f = fopen(path, "rbe");
    const bool exists =
        f != NULL || (errno != ENOENT && errno != ENOTDIR); /* one that cannot be read fails later, with its reason */
    if (f != NULL) {
        fclose(f);
    }
    return exists;
}

/* *root stays NULL when there is no such file. */
static enum status load_companion(json_t **root, struct path *p, const char *directory, const char *name, struct error *err)
{
    enum status status = join_path(p, directory, name, err);
    if (status == STATUS_OK && file_exists(p->text)) {
        status = load_json(root, p->text, err);
    }
    if (status == STATUS_OK && *root != NULL && !json_is_object(*root)) {
        status = error_at(err, STATUS_INVALID, p->text, 0, "expected an object, found %s", json_found(*root).text);
    }
    return status;
}

/* ---- merges.txt ---- */

/* "left right"; a first line "#version" and empty lines are skipped. */
static enum status read_merge_line(struct tokenizer *t, const char *line, size_t n, const char *path, int number,
                                   struct error *err)
{
    static const char version[] = "#version";
    const size_t version_n = sizeof version - 1;
    if (n > 0 && line[n - 1] == '\r') {
        n--;
    }
    if (n == 0 || (n >= version_n && memcmp(line, version, version_n) == 0)) {
        return STATUS_OK;
    }
    const char *space = memchr(line, ' ', n);
    const size_t left_n = space != NULL ? (size_t)(space - line) : 0;
    const size_t right_n = space != NULL ? n - left_n - 1 : 0;
    if (left_n == 0 || right_n == 0 || memchr(space + 1, ' ', right_n) != NULL) {
        return error_at(err, STATUS_INVALID, path, number, "expected two tokens with one space between, found \"%s\"",
                        quote(line, n).text);
    }
    return bpe_add_merge(&t->bpe, &t->vocabulary, line, left_n, space + 1, right_n, path, number, err);
}

static enum status read_merges_text(struct tokenizer *t, const char *text, size_t n, const char *path, struct error *err)
{
    enum status status = STATUS_OK;
    int number = 1;
    for (size_t at = 0; at < n && status == STATUS_OK; number++) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t line_n = end != NULL ? (size_t)(end - text) - at : n - at;
        status = read_merge_line(t, text + at, line_n, path, number, err);
        at += line_n + 1;
    }
    return status;
}

/* ---- the companions of vocab.json ---- */

/* The special tokens a directory can name, in the order of the reference. */
static const char *const named_keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
enum { N_NAMED = sizeof named_keys / sizeof named_keys[0] };

struct companions {
    struct path config_path, special_path, added_path;
    json_t *config, *special, *added; /* tokenizer_config.json, special_tokens_map.json, added_tokens.json; NULL: absent */
};

static void companions_free(struct companions *c)
{
    json_decref(c->config);
    json_decref(c->special);
    json_decref(c->added);
}

static enum status companions_load(struct companions *c, const char *directory, struct error *err)
{
    enum status status = load_companion(&c->config, &c->config_path, directory, "tokenizer_config.json", err);
    const bool complete = status == STATUS_OK && json_object_get(c->config, "added_tokens_decoder") != NULL;
    if (status == STATUS_OK && !complete) {
        status = load_companion(&c->special, &c->special_path, directory, "special_tokens_map.json", err);
    }
    if (status == STATUS_OK && !complete) {
        status = load_companion(&c->added, &c->added_path, directory, "added_tokens.json", err);
    }
    return status;
}

/* The value of a key and the file it is from: special_tokens_map.json before tokenizer_config.json. */
static const json_t *companion_value(const struct companions *c, const char *key, const char **path)
{
    const json_t *value = json_object_get(c->special, key);
    *path = value != NULL ? c->special_path.text : c->config_path.text;
    value = value != NULL ? value : json_object_get(c->config, key);
    return json_is_null(value) ? NULL : value;
}

static bool names(const json_t *value, const char *content)
{
    const json_t *text = json_is_string(value) ? value : json_object_get(value, "content");
    return json_is_string(text) && strcmp(json_string_value(text), content) == 0;
}

static bool is_named(const struct companions *c, const char *content)
{
    const char *path;
    bool found = false;
    for (int i = 0; i < N_NAMED && !found; i++) {
        found = names(companion_value(c, named_keys[i], &path), content);
    }
    return found;
}

/* added_tokens.json: {"content": id}. */
static enum status add_from_list(struct tokenizer *t, const struct companions *c, struct error *err)
{
    const char *content;
    json_t *id;
    json_object_foreach(c->added, content, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0) {
            return error_at(err, STATUS_INVALID, c->added_path.text, 0, "key '%s': expected an id of 0 or more, found %s",
                            quote(content, strlen(content)).text, json_found(id).text);
        }
        const bool special = is_named(c, content);
        const struct added_spec spec = {.content = content,
                                        .length = strlen(content),
                                        .id = json_integer_value(id),
                                        .special = special,
                                        .normalized = !special};
        const enum status status = tokenizer_add_token(t, &spec, c->added_path.text, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* added_tokens_decoder of tokenizer_config.json: {"id": {"content": ...}}. */
static enum status add_from_decoder(struct tokenizer *t, const struct companions *c, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(c->config, "added_tokens_decoder"), key, value)
    {
        char where[128], *end = NULL;
        (void)snprintf(where, sizeof where, "added_tokens_decoder.%s", quote(key, strlen(key)).text);
        struct added_spec spec = {.id = strtoll(key, &end, 10), .normalized = true};
        if (key[0] < '0' || key[0] > '9' || *end != '\0') {
            return error_at(err, STATUS_INVALID, c->config_path.text, 0, "key '%s': expected an id, found \"%s\"", where,
                            quote(key, strlen(key)).text);
        }
        enum status status = tokenizer_read_added(value, c->config_path.text, where, &spec, err);
        if (status == STATUS_OK) {
            spec.special = spec.special || is_named(c, spec.content);
            status = tokenizer_add_token(t, &spec, c->config_path.text, err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status add_special(struct tokenizer *t, const json_t *value, const char *path, const char *where, struct error *err)
{
    struct added_spec spec = {.id = -1};
    const enum status status = tokenizer_read_added(value, path, where, &spec, err);
    spec.special = true;
    return status == STATUS_OK ? tokenizer_add_token(t, &spec, path, err) : status;
}

/* GPT-2's default for bos, eos and unk, where the vocabulary has it. */
static enum status add_default(struct tokenizer *t, const char *path, struct error *err)
{
    static const char content[] = "<|endoftext|>";
    const struct added_spec spec = {.content = content, .length = sizeof content - 1, .id = -1, .special = true};
    return vocabulary_find(&t->vocabulary, content, spec.length) >= 0 ? tokenizer_add_token(t, &spec, path, err) : STATUS_OK;
}

static enum status add_named(struct tokenizer *t, const struct companions *c, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < N_NAMED && status == STATUS_OK; i++) {
        const char *path;
        const json_t *value = companion_value(c, named_keys[i], &path);
        if (value != NULL) {
            status = add_special(t, value, path, named_keys[i], err);
        } else if (i < 3) {
            status = add_default(t, path, err);
        }
    }
    return status;
}

static enum status add_further(struct tokenizer *t, const struct companions *c, const char *key, struct error *err)
{
    enum status status = STATUS_OK;
    const char *path;
    const json_t *list = companion_value(c, key, &path);
    if (list != NULL && !json_is_array(list)) {
        return error_at(err, STATUS_INVALID, path, 0, "key '%s': expected a list of tokens, found %s", key,
                        json_found(list).text);
    }
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++) {
        status = add_special(t, json_array_get(list, i), path, key, err);
    }
    return status;
}

/* add_bos_token or add_eos_token: the id of the named token goes to the list. */
static enum status set_automatic(struct tokenizer *t, const struct companions *c, const char *flag, const char *named,
                                 struct id_list *out, struct error *err)
{
    static const char fallback[] = "<|endoftext|>";
    const char *path;
    const json_t *on = json_object_get(c->config, flag);
    if (on != NULL && !json_is_boolean(on)) {
        return error_at(err, STATUS_INVALID, c->config_path.text, 0, "key '%s': expected true or false, found %s", flag,
                        json_found(on).text);
    }
    if (!json_is_true(on)) {
        return STATUS_OK;
    }
    const json_t *token = companion_value(c, named, &path);
    const json_t *text = json_is_string(token) ? token : json_object_get(token, "content");
    const char *content = json_is_string(text) ? json_string_value(text) : fallback;
    const int32_t id = vocabulary_find(&t->vocabulary, content, strlen(content));
    if (id < 0) {
        return error_at(err, STATUS_INVALID, c->config_path.text, 0, "key '%s': expected a %s of the vocabulary, found \"%s\"",
                        flag, named, quote(content, strlen(content)).text);
    }
    return id_list_add(out, id) ? STATUS_OK : error_at(err, STATUS_RUNTIME, c->config_path.text, 0, "out of memory");
}

/* Other classes cut words in other ways, or add other tokens. */
static enum status check_class(const struct companions *c, struct error *err)
{
    static const char *const known[] = {"GPT2Tokenizer", "GPT2TokenizerFast"};
    const json_t *class = json_object_get(c->config, "tokenizer_class");
    bool ok = class == NULL || json_is_null(class);
    for (size_t i = 0; i < sizeof known / sizeof known[0] && json_is_string(class); i++) {
        ok = ok || strcmp(json_string_value(class), known[i]) == 0;
    }
    return ok ? STATUS_OK
              : error_at(err, STATUS_INVALID, c->config_path.text, 0,
                         "key 'tokenizer_class': expected \"GPT2Tokenizer\" (or a tokenizer.json beside it), found %s",
                         json_found(class).text);
}

static enum status apply_companions(struct tokenizer *t, const struct companions *c, struct error *err)
{
    const json_t *space = json_object_get(c->config, "add_prefix_space");
    const json_t *decoder = json_object_get(c->config, "added_tokens_decoder");
    t->add_prefix_space = json_is_true(space);
    if (space != NULL && !json_is_boolean(space)) {
        return error_at(err, STATUS_INVALID, c->config_path.text, 0, "key 'add_prefix_space': expected true or false, found %s",
                        json_found(space).text);
    }
    if (decoder != NULL && !json_is_object(decoder)) {
        return error_at(err, STATUS_INVALID, c->config_path.text, 0, "key 'added_tokens_decoder': expected an object, found %s",
                        json_found(decoder).text);
    }
    enum status status = check_class(c, err);
    status = status == STATUS_OK ? add_from_decoder(t, c, err) : status;
    status = status == STATUS_OK ? add_from_list(t, c, err) : status;
    status = status == STATUS_OK ? add_named(t, c, err) : status;
    status = status == STATUS_OK ? add_further(t, c, "additional_special_tokens", err) : status;
    status = status == STATUS_OK ? add_further(t, c, "extra_special_tokens", err) : status;
    status = status == STATUS_OK ? set_automatic(t, c, "add_bos_token", "bos_token", &t->prefix, err) : status;
    return status == STATUS_OK ? set_automatic(t, c, "add_eos_token", "eos_token", &t->suffix, err) : status;
}

/* ---- vocab.json + merges.txt ---- */

static enum status read_vocab_file(struct tokenizer *t, const char *path, struct error *err)
{
    json_t *vocab = NULL;
    enum status status = load_json(&vocab, path, err);
    if (status == STATUS_OK) {
        status = tokenizer_read_vocab(t, vocab, path, "(top)", err);
    }
    json_decref(vocab);
    bpe_set_bytes(&t->bpe, &t->vocabulary);
    return status;
}

static enum status read_merges_file(struct tokenizer *t, const char *directory, struct error *err)
{
    struct path path;
    char *text = NULL;
    size_t n = 0;
    enum status status = join_path(&path, directory, "merges.txt", err);
    if (status == STATUS_OK) {
        status = tokenizer_read_file(&text, &n, path.text, err);
    }
    if (status == STATUS_OK) {
        status = read_merges_text(t, text, n, path.text, err);
    }
    free(text);
    return status;
}

static enum status read_older_form(struct tokenizer *t, const char *directory, const char *vocab_path, struct error *err)
{
    struct companions c = {0};
    enum status status = read_vocab_file(t, vocab_path, err);
    status = status == STATUS_OK ? read_merges_file(t, directory, err) : status;
    status = status == STATUS_OK ? companions_load(&c, directory, err) : status;
    status = status == STATUS_OK ? apply_companions(t, &c, err) : status;
    status = status == STATUS_OK ? pretokenizer_compile(&t->words, err) : status;
    companions_free(&c);
    return status;
}

/* ---- entry points ---- */

static enum status keep_or_free(struct tokenizer **out, struct tokenizer *t, enum status status)
{
    *out = status == STATUS_OK ? t : NULL;
    if (status != STATUS_OK) {
        tokenizer_free(t);
    }
    return status;
}

enum status tokenizer_parse(struct tokenizer **out, const char *path, const char *text, size_t n, struct error *err)
{
    json_t *root = NULL;
    struct tokenizer *t = tokenizer_new(err);
    enum status status = t != NULL ? tokenizer_read_json(&root, path, text, n, err) : STATUS_RUNTIME;
    if (status == STATUS_OK) {
        status = tokenizer_read_tokenizer_json(t, root, path, err);
    }
    json_decref(root);
    return keep_or_free(out, t, status);
}

static enum status load_tokenizer_json(struct tokenizer **out, const char *path, struct error *err)
{
    char *text = NULL;
    size_t n = 0;
    enum status status = tokenizer_read_file(&text, &n, path, err);
    if (status == STATUS_OK) {
        status = tokenizer_parse(out, path, text, n, err);
    }
    free(text);
    return status;
}

static enum status load_older_form(struct tokenizer **out, const char *directory, const char *vocab_path, struct error *err)
{
    struct tokenizer *t = tokenizer_new(err);
    const enum status status = t != NULL ? read_older_form(t, directory, vocab_path, err) : STATUS_RUNTIME;
    return keep_or_free(out, t, status);
}

enum status tokenizer_load(struct tokenizer **out, const char *directory, struct error *err)
{
    struct path whole, vocab;
    *out = NULL;
    enum status status = join_path(&whole, directory, "tokenizer.json", err);
    if (status == STATUS_OK) {
        status = join_path(&vocab, directory, "vocab.json", err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (file_exists(whole.text)) {
        return load_tokenizer_json(out, whole.text, err);
    }
    if (file_exists(vocab.text)) {
        return load_older_form(out, directory, vocab.text, err);
    }
    return error_at(err, STATUS_INVALID, directory, 0, "expected tokenizer.json, or vocab.json and merges.txt, found neither");
}
