/* prompts.c - prompts from JSON lines, and results to JSON lines. The formats are described in docs/prompts.md. */
#include "executor/prompts.h"
#include "model/mix.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading a line ---- */

/* What a line is read with, and where it is. */
struct reader {
    const char *path;
    int line;
    const struct tokenizer *tokenizer;
    int64_t vocab;
};

static enum status out_of_memory(const struct reader *r, struct error *err)
{
    return error_at(err, STATUS_RUNTIME, r->path, r->line, "out of memory for a prompt");
}

static const char *type_name(const json_t *value)
{
    static const char *const names[] =
        {[JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
         [JSON_REAL] = "a number",    [JSON_TRUE] = "true",    [JSON_FALSE] = "false",     [JSON_NULL] = "null"};
    return value != NULL ? names[json_typeof(value)] : "nothing";
}

/* Shortest text that reads back as the same number. */
static void format_real(char *out, size_t n, double value)
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(out, n, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            break;
        }
    }
}

static enum status set_id(struct prompt *p, const json_t *id, int64_t index, const struct reader *r, struct error *err)
{
    char number[64];
    const char *text = number;
    if (id == NULL) {
        (void)snprintf(number, sizeof number, "%lld", (long long)index);
    } else if (json_is_integer(id)) {
        (void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(id));
    } else if (json_is_real(id)) {
        format_real(number, sizeof number, json_real_value(id));
    } else if (json_is_string(id)) {
        text = json_string_value(id);
    } else {
        return error_at(err, STATUS_INVALID, r->path, r->line, "key 'id': expected a string or a number, found %s",
                        type_name(id));
    }
    p->id = strdup(text);
    return p->id != NULL ? STATUS_OK : out_of_memory(r, err);
}

static enum status check_id(int64_t id, int64_t index, const struct reader *r, struct error *err)
{
    if (id >= 0 && id < r->vocab) {
        return STATUS_OK;
    }
    return error_at(err, STATUS_INVALID, r->path, r->line,
                    "token %lld: expected an id from 0 to %lld (the model's vocabulary), found %lld", (long long)index,
                    (long long)r->vocab - 1, (long long)id);
}

static enum status set_tokens(struct prompt *p, const json_t *tokens, const struct reader *r, struct error *err)
{
    if (!json_is_array(tokens) || json_array_size(tokens) == 0) {
        return error_at(err, STATUS_INVALID, r->path, r->line, "key 'tokens': expected a list of token ids, found %s",
                        json_is_array(tokens) ? "an empty one" : type_name(tokens));
    }
    p->ids = malloc(json_array_size(tokens) * sizeof *p->ids);
    if (p->ids == NULL) {
        return out_of_memory(r, err);
    }
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *id = json_array_get(tokens, i);
        if (!json_is_integer(id)) {
            return error_at(err, STATUS_INVALID, r->path, r->line, "key 'tokens', item %zu: expected an integer, found %s", i,
                            json_is_real(id) ? "a fraction" : type_name(id));
        }
        const enum status status = check_id(json_integer_value(id), (int64_t)i, r, err);
        if (status != STATUS_OK) {
            return status;
        }
        p->ids[p->n_ids++] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

static enum status encode_text(struct prompt *p, const json_t *text, const struct reader *r, struct error *err)
{
    struct error why = {0};
    size_t n = 0;
    const enum status status =
        tokenizer_encode(r->tokenizer, json_string_value(text), json_string_length(text), true, &p->ids, &n, &why);
    p->n_ids = (int64_t)n;
    if (status != STATUS_OK) {
        return error_at(err, status, r->path, r->line, "key 'prompt': %s", why.text);
    }
    if (n == 0) {
        return error_at(err, STATUS_INVALID, r->path, r->line, "key 'prompt': expected a text of at least one token, found none");
    }
    for (int64_t i = 0; i < p->n_ids; i++) {
        if (check_id(p->ids[i], i, r, err) != STATUS_OK) {
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

static enum status set_text(struct prompt *p, const json_t *text, const struct reader *r, struct error *err)
{
    if (!json_is_string(text)) {
        return error_at(err, STATUS_INVALID, r->path, r->line, "key 'prompt': expected a string, found %s", type_name(text));
    }
    if (r->tokenizer == NULL) {
        return error_at(err, STATUS_INVALID, r->path, r->line,
                        "key 'prompt': expected \"tokens\" with ids, found a text, and this model has no tokenizer");
    }
    p->text = strdup(json_string_value(text));
    return p->text != NULL ? encode_text(p, text, r, err) : out_of_memory(r, err);
}

static enum status check_keys(const json_t *object, const struct reader *r, struct error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object)) {
        return error_at(err, STATUS_INVALID, r->path, r->line,
                        "expected an object {\"prompt\": ...} or {\"tokens\": [...]}, found %s", type_name(object));
    }
    json_object_foreach((json_t *)object, key, value)
    {
        if (strcmp(key, "prompt") != 0 && strcmp(key, "tokens") != 0 && strcmp(key, "id") != 0) {
            return error_at(err, STATUS_INVALID, r->path, r->line,
                            "expected the keys \"prompt\" or \"tokens\" and \"id\", found '%.80s'", key);
        }
    }
    const bool text = json_object_get(object, "prompt") != NULL;
    const bool tokens = json_object_get(object, "tokens") != NULL;
    if (text == tokens) {
        return error_at(err, STATUS_INVALID, r->path, r->line, "expected one of the keys \"prompt\" and \"tokens\", found %s",
                        text ? "both" : "neither");
    }
    return STATUS_OK;
}

static enum status read_object(struct prompt *p, const json_t *object, int64_t index, const struct reader *r, struct error *err)
{
    const json_t *text = json_object_get(object, "prompt");
    enum status status = check_keys(object, r, err);
    if (status == STATUS_OK) {
        status = set_id(p, json_object_get(object, "id"), index, r, err);
    }
    if (status == STATUS_OK) {
        status = text != NULL ? set_text(p, text, r, err) : set_tokens(p, json_object_get(object, "tokens"), r, err);
    }
    return status;
}

static enum status read_line(struct prompt *p, const char *line, size_t n, int64_t index, const struct reader *r,
                             struct error *err)
{
    json_error_t e;
    json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &e);
    if (object == NULL) {
        return error_at(err, json_error_code(&e) == json_error_out_of_memory ? STATUS_RUNTIME : STATUS_INVALID, r->path, r->line,
                        "column %d: expected one JSON object, found: %s", e.column, e.text);
    }
    const enum status status = read_object(p, object, index, r, err);
    json_decref(object);
    return status;
}

/* ---- reading a file ---- */

static bool is_blank(const char *line, size_t n)
{
    size_t i = 0;
    while (i < n && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r')) {
        i++;
    }
    return i == n;
}

static void free_prompt(struct prompt *p)
{
    free(p->id);
    free(p->text);
    free(p->ids);
    *p = (struct prompt){0};
}

void prompts_free(struct prompts *p)
{
    if (p == NULL) {
        return;
    }
    for (int64_t i = 0; i < p->n; i++) {
        free_prompt(&p->prompt[i]);
    }
    free(p->prompt);
    *p = (struct prompts){0};
}

static enum status append(struct prompts *p, int64_t *capacity, const char *line, size_t n, const struct reader *r,
                          struct error *err)
{
    if (p->n == *capacity) {
        const int64_t wanted = *capacity > 0 ? 2 * *capacity : 16;
        struct prompt *fresh = realloc(p->prompt, (size_t)wanted * sizeof *fresh);
        if (fresh == NULL) {
            return out_of_memory(r, err);
        }
        p->prompt = fresh;
        *capacity = wanted;
    }
    struct prompt *q = &p->prompt[p->n];
    *q = (struct prompt){0};
    const enum status status = read_line(q, line, n, p->n, r, err);
    if (status == STATUS_OK) {
        p->n++;
    } else {
        free_prompt(q);
    }
    return status;
}

enum status prompts_parse(struct prompts *p, const char *path, const char *text, size_t n, const struct tokenizer *t,
                          int64_t vocab, struct error *err)
{
    struct reader r = {.path = path, .line = 1, .tokenizer = t, .vocab = vocab};
    int64_t capacity = 0;
    enum status status = STATUS_OK;
    *p = (struct prompts){0};
    for (size_t at = 0; at < n && status == STATUS_OK; r.line += r.line < INT_MAX) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t line_n = end != NULL ? (size_t)(end - text) - at : n - at;
        if (!is_blank(text + at, line_n)) {
            status = append(p, &capacity, text + at, line_n, &r, err);
        }
        at += line_n + 1;
    }
    if (status == STATUS_OK && p->n == 0) {
        status = error_at(err, STATUS_INVALID, path, 0,
                          "expected at least one line {\"prompt\": ...} or {\"tokens\": [...]}, found none");
    }
    if (status != STATUS_OK) {
        prompts_free(p);
    }
    return status;
}

static enum status read_all(FILE *f, const char *path, char **text, size_t *n, struct error *err)
{
    size_t capacity = 0, got = 0;
    do {
        if (capacity - *n < 65536) {
            const size_t wanted = capacity > 0 ? 2 * capacity : 131072;
            char *fresh = realloc(*text, wanted);
            if (fresh == NULL) {
                return error_at(err, STATUS_RUNTIME, path, 0, "out of memory after %zu bytes", *n);
            }
            *text = fresh;
            capacity = wanted;
        }
        errno = 0;
        got = fread(*text + *n, 1, capacity - *n, f);
        *n += got;
    } while (got > 0);
    return ferror(f) ? error_errno(err, errno, "%s", path) : STATUS_OK;
}

enum status prompts_load(struct prompts *p, const char *path, const struct tokenizer *t, int64_t vocab, struct error *err)
{
    const bool from_stdin = strcmp(path, "-") == 0;
    const char *name = from_stdin ? "(stdin)" : path;
    char *text = NULL;
    size_t n = 0;
    *p = (struct prompts){0};
    FILE *f = from_stdin ? stdin : fopen(path, "rbe");
    if (f == NULL) {
        return error_errno(err, errno, "%s", path);
    }
    enum status status = read_all(f, name, &text, &n, err);
    if (status == STATUS_OK) {
        status = prompts_parse(p, name, text, n, t, vocab, err);
    }
    free(text);
    if (!from_stdin) {
        fclose(f);
    }
    return status;
}

/* ---- random prompts ---- */

/* Uniform in [0, range) up to a bias of range / 2^64. */
static int64_t below(uint64_t x, int64_t range)
{
    return (int64_t)((unsigned __int128)x * (uint64_t)range >> 64);
}

/* Each token is a hash of its place, so that prompt i is the same for any n. */
static bool fill_random(struct prompt *p, int64_t index, int64_t tokens, int64_t first_id, int64_t vocab, uint64_t seed)
{
    char id[32];
    (void)snprintf(id, sizeof id, "%lld", (long long)index);
    p->id = strdup(id);
    p->ids = malloc((size_t)tokens * sizeof *p->ids);
    if (p->id == NULL || p->ids == NULL) {
        return false;
    }
    const uint64_t row = mix_hash(mix_hash(seed) ^ (uint64_t)index);
    for (int64_t k = 0; k < tokens; k++) {
        p->ids[k] = (int32_t)(first_id + below(mix_hash(row ^ (uint64_t)k), vocab - first_id));
    }
    p->n_ids = tokens;
    return true;
}

enum status prompts_random(struct prompts *p, int64_t n, int64_t tokens, int64_t first_id, int64_t vocab, uint64_t seed,
                           struct error *err)
{
    *p = (struct prompts){0};
    if (n < 1 || tokens < 1 || n > INT32_MAX || tokens > INT32_MAX) {
        return error_set(err, STATUS_INVALID,
                         "random prompts: expected at least one prompt of at least one token, found %lld of %lld", (long long)n,
                         (long long)tokens);
    }
    if (first_id < 0 || first_id >= vocab || vocab > (int64_t)INT32_MAX + 1) {
        return error_set(err, STATUS_INVALID, "random prompts: expected 0 <= first id < vocabulary <= 2^31, found %lld and %lld",
                         (long long)first_id, (long long)vocab);
    }
    p->prompt = calloc((size_t)n, sizeof *p->prompt);
    bool room = p->prompt != NULL;
    for (; p->n < n && room; p->n++) {
        room = fill_random(&p->prompt[p->n], p->n, tokens, first_id, vocab, seed);
    }
    if (!room) {
        prompts_free(p);
        return error_set(err, STATUS_RUNTIME, "out of memory for %lld random prompts of %lld tokens", (long long)n,
                         (long long)tokens);
    }
    return STATUS_OK;
}

/* ---- results ---- */

/* Sets a string; false when it is no UTF-8 or memory is out. */
static bool set_string(json_t *object, const char *key, const char *text, size_t n)
{
    return json_object_set_new(object, key, json_stringn(text, n)) == 0;
}

static json_t *id_list(const int32_t *tokens, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n && list != NULL; i++) {
        if (json_array_append_new(list, json_integer(tokens[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* The text of the tokens that the tokenizer knows. A model may have a few more rows than its tokenizer has tokens (padding of
 * the embedding); an id from there is listed, but has no text. */
static enum status set_answer(json_t *object, const int32_t *tokens, int64_t n, const struct tokenizer *t, struct error *err)
{
    char *text = NULL;
    size_t text_n = 0;
    int64_t known = 0;
    int32_t *ids = malloc((size_t)(n > 0 ? n : 1) * sizeof *ids);
    if (ids == NULL) {
        return error_set(err, STATUS_RUNTIME, "out of memory for a result");
    }
    for (int64_t i = 0; i < n; i++) {
        if (tokens[i] < tokenizer_vocab(t)) {
            ids[known++] = tokens[i];
        }
    }
    enum status status = tokenizer_decode(t, ids, (size_t)known, true, &text, &text_n, err);
    if (status == STATUS_OK && !set_string(object, "text", text, text_n)) {
        status = error_set(err, STATUS_RUNTIME, "out of memory for a result");
    }
    free(text);
    free(ids);
    return status;
}

static enum status print_line(FILE *out, const json_t *object, struct error *err)
{
    char *line = json_dumps(object, JSON_COMPACT);
    if (line == NULL) {
        return error_set(err, STATUS_RUNTIME, "out of memory for a result");
    }
    const bool ok = fputs(line, out) >= 0 && fputc('\n', out) != EOF;
    free(line);
    return ok ? STATUS_OK : error_errno(err, errno, "writing a result");
}

enum status prompts_write_result(FILE *out, const struct prompt *p, const int32_t *tokens, int64_t n, bool stopped,
                                 const struct tokenizer *t, struct error *err)
{
    json_t *object = json_object();
    enum status status = STATUS_OK;
    if (object == NULL || !set_string(object, "id", p->id, strlen(p->id)) ||
        (p->text != NULL && !set_string(object, "prompt", p->text, strlen(p->text)))) {
        status = error_set(err, STATUS_RUNTIME, "result: expected an id and a prompt in UTF-8 and enough memory for them");
        goto done;
    }
    if (t != NULL) {
        status = set_answer(object, tokens, n, t, err);
    }
    if (status == STATUS_OK && (json_object_set_new(object, "tokens", id_list(tokens, n)) != 0 ||
                                json_object_set_new(object, "finish", json_string(stopped ? "stop" : "length")) != 0)) {
        status = error_set(err, STATUS_RUNTIME, "out of memory for a result");
    }
    if (status == STATUS_OK) {
        status = print_line(out, object, err);
    }
done:
    json_decref(object);
    return status;
}
