#include "model/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX_BYTES ((size_t)64 << 20)

void *json_allocate(size_t n)
{
    json_malloc_t allocator;
    json_free_t release;
    json_get_alloc_funcs(&allocator, &release);
    return allocator(n);
}

void json_deallocate(void *p)
{
    json_malloc_t allocator;
    json_free_t release;
    json_get_alloc_funcs(&allocator, &release);
    if (p)
        release(p);
}

/* -- loading ------------------------------------------------------------------------------------------------------- */

/* Parses f->text, which f owns. */
static enum status parse_text(struct json_file *f, size_t n, struct error *err)
{
    json_error_t why = {0};
    f->root = json_loadb(f->text, n, JSON_REJECT_DUPLICATES, &why);
    if (f->root)
        return STATUS_OK;
    /* jansson leaves the text empty when it is an allocation inside it that failed. */
    if (json_error_code(&why) == json_error_out_of_memory || !why.text[0])
        return error_set(err, STATUS_RUNTIME, "%s: out of memory", f->path);
    return error_at(err, STATUS_INVALID, f->path, why.line, "not valid JSON: %s", why.text);
}

static void set_path(struct json_file *f, const char *path)
{
    memset(f, 0, sizeof *f);
    snprintf(f->path, sizeof f->path, "%s", path);
}

enum status json_file_parse(struct json_file *f, const char *path, const char *text, size_t n, struct error *err)
{
    set_path(f, path);
    if (n > TEXT_MAX_BYTES)
        return error_at(err, STATUS_INVALID, path, 0, "expected at most %zu bytes of JSON, found %zu", TEXT_MAX_BYTES, n);
    f->text = json_allocate(n + 1);
    if (!f->text)
        return error_set(err, STATUS_RUNTIME, "%s: out of memory", path);
    memcpy(f->text, text, n);
    f->text[n] = '\0';
    enum status status = parse_text(f, n, err);
    if (status)
        json_file_free(f);
    return status;
}

/* Moves the text into a buffer of `size` bytes; NULL if there is no memory, and the old one is kept. */
static char *resize(char *text, size_t used, size_t size)
{
    char *larger = json_allocate(size);
    if (!larger)
        return NULL;
    if (used)
        memcpy(larger, text, used);
    json_deallocate(text);
    return larger;
}

/* Reads to the end of the file: its size is only a hint, as pipes have none. */
static enum status read_all(struct json_file *f, int fd, size_t hint, size_t *n, struct error *err)
{
    size_t size = 0, used = 0;
    for (;;) {
        if (used + 1 >= size) {
            size = size ? 2 * size : hint + 2;
            char *text = resize(f->text, used, size);
            if (!text)
                return error_set(err, STATUS_RUNTIME, "%s: out of memory", f->path);
            f->text = text;
        }
        ssize_t got = read(fd, f->text + used, size - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, errno, "%s: cannot read", f->path);
        used += (size_t)got;
        if (used > TEXT_MAX_BYTES)
            return error_at(err, STATUS_INVALID, f->path, 0, "expected at most %zu bytes of JSON, found more", TEXT_MAX_BYTES);
        if (got == 0)
            break;
    }
    f->text[used] = '\0';
    *n = used;
    return STATUS_OK;
}

enum status json_file_load(struct json_file *f, const char *path, struct error *err)
{
    enum status status;
    struct stat st;
    size_t n = 0;
    set_path(f, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "%s: cannot open", path);
    if (fstat(fd, &st)) {
        status = error_errno(err, errno, "%s: cannot read", path);
        goto out;
    }
    size_t hint = S_ISREG(st.st_mode) && st.st_size >= 0 && (uint64_t)st.st_size <= TEXT_MAX_BYTES ? (size_t)st.st_size : 4096;
    status = read_all(f, fd, hint, &n, err);
    if (!status)
        status = parse_text(f, n, err);
out:
    close(fd);
    if (status)
        json_file_free(f);
    return status;
}

void json_file_free(struct json_file *f)
{
    json_decref(f->root);
    json_deallocate(f->text);
    f->root = NULL;
    f->text = NULL;
}

/* -- lines --------------------------------------------------------------------------------------------------------- */

/* jansson keeps no line numbers. Objects iterate in the order of the text, so the n-th object met in a walk of the tree is
 * the n-th '{' outside strings, and the k-th key of an object is the k-th member of its text: no string is decoded here. */
struct cursor {
    const char *p;
    int line;
};

/* Steps over one character, or over one whole string. The text is known to be valid JSON and ends with a NUL. */
static void step(struct cursor *c)
{
    if (*c->p == '\n')
        c->line++;
    if (*c->p == '"')
        for (c->p++; *c->p && *c->p != '"'; c->p++)
            if (*c->p == '\\' && c->p[1])
                c->p++;
    if (*c->p)
        c->p++;
}

/* True once `target` is met; *n counts the objects before it. The depth is bounded by jansson's parser (2048). */
static bool count_objects_before(json_t *v, const json_t *target, int *n)
{
    size_t i;
    json_t *child;
    const char *key;
    if (v == target)
        return true;
    if (json_is_object(v)) {
        ++*n;
        json_object_foreach(v, key, child) if (count_objects_before(child, target, n)) return true;
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, child) if (count_objects_before(child, target, n)) return true;
    }
    return false;
}

/* At the '{' of the object. */
static struct cursor find_object(const struct json_file *f, const json_t *object)
{
    struct cursor c = {f->text, 1};
    int skip = 0;
    if (!json_is_object(object) || !count_objects_before(f->root, object, &skip))
        return c;
    for (; *c.p; step(&c))
        if (*c.p == '{' && skip-- == 0)
            break;
    return c;
}

static int key_index(json_t *object, const char *key)
{
    int i = 0;
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (strcmp(name, key) == 0)
            return i;
        i++;
    }
    return -1;
}

/* The line of the key, or of the object if the key is not there. */
static int line_of(const struct json_object *o, const char *key)
{
    struct cursor c = find_object(o->file, o->value);
    int index = key && json_is_object(o->value) ? key_index(o->value, key) : -1;
    int line = c.line, depth = 0;
    if (index < 0)
        return line;
    for (; *c.p; step(&c)) {
        if (*c.p == '{' || *c.p == '[')
            depth++;
        else if (*c.p == '}' || *c.p == ']')
            depth--;
        else if (*c.p == ',' && depth == 1)
            index--;
        else if (*c.p == '"' && depth == 1 && index == 0)
            return c.line;
        if (depth == 0)
            break;
    }
    return line;
}

/* -- complaints ---------------------------------------------------------------------------------------------------- */

enum status json_complain(const struct json_object *o, const char *key, struct error *err, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;
    if (!err || err->status != STATUS_OK)
        return STATUS_INVALID;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int line = line_of(o, key);
    if (!key && !o->where[0])
        return error_at(err, STATUS_INVALID, o->file->path, line, "%s", text);
    return error_at(err, STATUS_INVALID, o->file->path, line, "key '%s%s%s': %s", o->where, o->where[0] && key ? "." : "",
                    key ? key : "", text);
}

/* What was found, in words. */
static const char *describe(const json_t *v, char *buf, size_t n)
{
    if (!v)
        return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        snprintf(buf, n, "a list of %zu", json_array_size(v));
        break;
    case JSON_STRING:
        snprintf(buf, n, "the text \"%.60s\"", json_string_value(v));
        break;
    case JSON_INTEGER:
        snprintf(buf, n, "the number %" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        snprintf(buf, n, "the number %.12g", json_real_value(v));
        break;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return buf;
}

static enum status unexpected(const struct json_object *o, const char *key, struct error *err, const char *expected)
{
    char found[128];
    return json_complain(o, key, err, "expected %s, found %s", expected,
                         describe(json_object_get(o->value, key), found, sizeof found));
}

/* -- objects ------------------------------------------------------------------------------------------------------- */

enum status json_root(const struct json_file *f, struct json_object *out, struct error *err)
{
    char found[128];
    *out = (struct json_object){.file = f, .value = f->root};
    if (!json_is_object(f->root))
        return json_complain(out, NULL, err, "expected an object, found %s", describe(f->root, found, sizeof found));
    return STATUS_OK;
}

static bool listed(const char *key, const char *const *keys)
{
    for (; *keys; keys++)
        if (strcmp(key, *keys) == 0)
            return true;
    return false;
}

static void join(const char *const *keys, char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; keys[i] && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s", i ? ", " : "", keys[i]);
}

enum status json_only(const struct json_object *o, const char *const *keys, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(o->value, key, value)
    {
        if (listed(key, keys))
            continue;
        char known[400], shown[61];
        join(keys, known, sizeof known);
        snprintf(shown, sizeof shown, "%.60s", key);
        return json_complain(o, key, err, "expected only the keys %s; found the unknown key '%s'", known, shown);
    }
    return STATUS_OK;
}

static const json_t *get(const struct json_object *o, const char *key)
{
    return json_object_get(o->value, key);
}

bool json_has(const struct json_object *o, const char *key)
{
    const json_t *v = get(o, key);
    return v && !json_is_null(v);
}

enum status json_child(const struct json_object *o, const char *key, struct json_object *out, struct error *err)
{
    json_t *v = json_object_get(o->value, key);
    if (!json_is_object(v))
        return unexpected(o, key, err, "an object");
    struct json_object child = {.file = o->file, .value = v};
    /* A path too long for its field is only cut short in messages. */
    if (snprintf(child.where, sizeof child.where, "%s%s%s", o->where, o->where[0] ? "." : "", key) < 0)
        child.where[0] = '\0';
    *out = child;
    return STATUS_OK;
}

enum status json_list(const struct json_object *o, const char *key, size_t min, size_t max, size_t *n, struct error *err)
{
    const json_t *v = get(o, key);
    if (!json_is_array(v))
        return unexpected(o, key, err, "a list");
    size_t size = json_array_size(v);
    if (size < min || size > max) {
        char expected[80];
        if (min == max)
            snprintf(expected, sizeof expected, "a list of %zu", min);
        else
            snprintf(expected, sizeof expected, "a list of %zu to %zu", min, max);
        return unexpected(o, key, err, expected);
    }
    *n = size;
    return STATUS_OK;
}

enum status json_item(const struct json_object *o, const char *key, size_t i, struct json_object *out, struct error *err)
{
    const json_t *list = get(o, key);
    if (!json_is_array(list))
        return unexpected(o, key, err, "a list");
    json_t *v = json_array_get(list, i);
    if (!json_is_object(v)) {
        char found[128];
        return json_complain(o, key, err, "expected an object as item %zu, found %s", i, describe(v, found, sizeof found));
    }
    struct json_object item = {.file = o->file, .value = v};
    if (snprintf(item.where, sizeof item.where, "%s%s%s[%zu]", o->where, o->where[0] ? "." : "", key, i) < 0)
        item.where[0] = '\0';
    *out = item;
    return STATUS_OK;
}

/* -- values -------------------------------------------------------------------------------------------------------- */

enum status json_text(const struct json_object *o, const char *key, char *out, size_t n, struct error *err)
{
    const json_t *v = get(o, key);
    if (!json_is_string(v))
        return unexpected(o, key, err, "a text");
    size_t length = json_string_length(v);
    if (length >= n)
        return json_complain(o, key, err, "expected a text of at most %zu bytes, found %zu bytes", n - 1, length);
    memcpy(out, json_string_value(v), length + 1);
    return STATUS_OK;
}

enum status json_number(const struct json_object *o, const char *key, double min, double max, double *out, struct error *err)
{
    const json_t *v = get(o, key);
    double value = json_number_value(v);
    if (!json_is_number(v) || !(value >= min && value <= max)) {
        char expected[80];
        snprintf(expected, sizeof expected, "a number from %.10g to %.10g", min, max);
        return unexpected(o, key, err, expected);
    }
    *out = value;
    return STATUS_OK;
}

enum status json_int(const struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *out, struct error *err)
{
    const json_t *v = get(o, key);
    json_int_t value = json_integer_value(v);
    if (!json_is_integer(v) || value < min || value > max) {
        char expected[80];
        if (min == max)
            snprintf(expected, sizeof expected, "the whole number %" PRId64, min);
        else
            snprintf(expected, sizeof expected, "a whole number from %" PRId64 " to %" PRId64, min, max);
        return unexpected(o, key, err, expected);
    }
    *out = value;
    return STATUS_OK;
}

enum status json_bool(const struct json_object *o, const char *key, bool *out, struct error *err)
{
    const json_t *v = get(o, key);
    if (!json_is_boolean(v))
        return unexpected(o, key, err, "true or false");
    *out = json_is_true(v);
    return STATUS_OK;
}

enum status json_quantity(const struct json_object *o, const char *key, enum unit_kind kind, double *out, struct error *err)
{
    const json_t *v = get(o, key);
    if (!json_is_string(v) || units_parse(json_string_value(v), kind, out))
        return unexpected(o, key, err, units_expected(kind));
    return STATUS_OK;
}
