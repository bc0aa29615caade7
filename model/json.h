/* json.h - strict JSON objects on top of jansson: every key is known, every key that must be there is, and a complaint
 * cites file, line, key, what was expected and what was found. */
#ifndef BALLAST_MODEL_JSON_H
#define BALLAST_MODEL_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/error.h"
#include "model/units.h"

/* A parsed file: the value, and the text it came from so that lines can be cited. */
struct json_file {
    char path[512];
    char *text;
    json_t *root;
};

/* Reads a whole file (at most 64 MiB); duplicate keys are refused. Caller owns it. */
enum status json_file_load(struct json_file *f, const char *path, struct error *err);
/* The same from memory (embedded data, tests, fuzzing); `path` only names it in messages. */
enum status json_file_parse(struct json_file *f, const char *path, const char *text, size_t n, struct error *err);
void json_file_free(struct json_file *f); /* a zeroed struct is fine */

/* Memory of jansson's allocator, so that one hook makes any allocation of a reader fail. */
void *json_allocate(size_t n);
void json_deallocate(void *p); /* NULL is fine */

/* An object inside a file, with its path of keys ("tiers[1]") for messages. */
struct json_object {
    const struct json_file *file;
    json_t *value;
    char where[128];
};

enum status json_root(const struct json_file *f, struct json_object *out, struct error *err);
/* Fails on the first key of `o` that is not in the NULL-ended list. */
enum status json_only(const struct json_object *o, const char *const *keys, struct error *err);
bool json_has(const struct json_object *o, const char *key); /* null counts as absent */
/* Each getter fails if the key is missing or of another type. */
enum status json_text(const struct json_object *o, const char *key, char *out, size_t n, struct error *err);
enum status json_number(const struct json_object *o, const char *key, double min, double max, double *out, struct error *err);
enum status json_int(const struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *out, struct error *err);
enum status json_bool(const struct json_object *o, const char *key, bool *out, struct error *err);
enum status json_quantity(const struct json_object *o, const char *key, enum unit_kind kind, double *out, struct error *err);
enum status json_child(const struct json_object *o, const char *key, struct json_object *out, struct error *err);
enum status json_list(const struct json_object *o, const char *key, size_t min, size_t max, size_t *n, struct error *err);
/* Item i of the list at key, which must be an object. */
enum status json_item(const struct json_object *o, const char *key, size_t i, struct json_object *out, struct error *err);
/* "path:line: key 'where.key': expected ..., found ..." with the line of the key (or of the object). */
enum status json_complain(const struct json_object *o, const char *key, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
