/* arch_family.h - what a model family's file gives to arch.c, and what arch.c gives to it. Private to model/arch*.c.
 *
 * A new family is one new file with a struct arch_family in it, and one line in the table in arch.c.
 */
#ifndef BALLAST_MODEL_ARCH_FAMILY_H
#define BALLAST_MODEL_ARCH_FAMILY_H

#include <jansson.h>

#include "model/arch.h"
#include "model/json.h"

struct arch_family {
    const char *model_type; /* as config.json says it, and struct arch's `family` */
    /* Fills the sizes and switches of `a` (zeroed, but for its name) from config.json. */
    enum status (*read)(struct arch *a, const struct json_object *config, struct error *err);
    /* Builds a->layer from them. On failure the caller frees `a`. */
    enum status (*build)(struct arch *a, struct error *err);
    /* Adds to a config.json object all that `read` needs. 0, or -1 when out of memory. */
    int (*write)(const struct arch *a, json_t *config);
};

extern const struct arch_family arch_opt;

/* Upper bounds of sizes. With them no product of a layer or of a whole model comes near 2^63: the largest layer has fewer than
 * 2^44 elements, the tables fewer than 2^45, a model fewer than 2^55. */
#define ARCH_HIDDEN_MAX    (1 << 20)
#define ARCH_FFN_MAX       (1 << 22)
#define ARCH_BLOCKS_MAX    1024
#define ARCH_VOCAB_MAX     (1 << 24)
#define ARCH_POSITIONS_MAX (1 << 24)
#define ARCH_LAYERS_MAX    8192 /* the layers of a model, parts of the head included */

/* The fields that every Hugging Face config.json may carry and that do not change what a forward pass computes; NULL-ended. */
extern const char *const arch_harmless_keys[];
/* Fails on a key that is neither in `keys` nor in arch_harmless_keys. */
enum status arch_known_keys(const struct json_object *config, const char *family, const char *const *keys, struct error *err);

/* Getters for fields that may be absent, which then mean what the Hugging Face library takes them for. */
enum status arch_optional_int(const struct json_object *o, const char *key, int64_t min, int64_t max, int64_t absent,
                              int64_t *out, struct error *err);
enum status arch_optional_bool(const struct json_object *o, const char *key, bool absent, bool *out, struct error *err);
/* A field that must have one value, if it is there at all. */
enum status arch_require_bool(const struct json_object *o, const char *key, bool value, struct error *err);
/* bos, eos or pad token: `absent` if the key is missing, -1 if it is null (the model has none). */
enum status arch_token_id(const struct json_object *o, const char *key, int64_t vocab, int64_t absent, int64_t *out,
                          struct error *err);
/* "dtype", or "torch_dtype" as older files say it; F32 if there is neither. */
enum status arch_weight_format(const struct json_object *o, enum format *out, struct error *err);

/* a->layer with n zeroed layers. Memory comes from jansson's allocator, so that one hook makes any allocation fail. */
enum status arch_new_layers(struct arch *a, int64_t n, struct error *err);
/* Appends a tensor to a layer; `name` is a printf format. Borrowed. */
struct tensor *arch_add_matrix(struct layer *l, enum tensor_role role, bool placed, int64_t rows, int64_t cols, const char *name,
                               ...) __attribute__((format(printf, 6, 7)));
struct tensor *arch_add_vector(struct layer *l, enum tensor_role role, int64_t n, const char *name, ...)
    __attribute__((format(printf, 4, 5)));

/* Rows of one part of the head: (rows, cols) cut into the fewest parts of at most `limit` elements, of nearly equal size, at
 * multiples of 64 rows. A part has at least 64 rows even if those exceed the limit. */
int64_t arch_head_part_rows(int64_t rows, int64_t cols, int64_t limit);

#endif
