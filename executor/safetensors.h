/* safetensors.h - find tensors in a model directory's *.safetensors files without reading their data.
 *
 * Checks everything a hostile or truncated file can get wrong: header length, JSON, duplicate names, dtype, shape, offsets
 * (order, overlap, holes, bounds against the file size), the shard index. Names are kept as in the file.
 */
#ifndef BALLAST_EXECUTOR_SAFETENSORS_H
#define BALLAST_EXECUTOR_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "model/arch.h"
#include "model/error.h"

struct st_tensor {
    char name[128];
    enum format format; /* F32, F16 or BF16; FORMAT_COUNT: another dtype, which st_resolve refuses */
    int n_dims;
    int64_t shape[4];
    int file;       /* index into st_model.path */
    int64_t offset; /* of the first byte, from the start of the file */
    int64_t bytes;
};

struct st_model {
    int n_files;
    char (*path)[512];
    int n_tensors;
    struct st_tensor *tensor; /* sorted by name */
};

/* model.safetensors, or model.safetensors.index.json and its shards; a model may have at most 4096 shards. Tensors of a dtype
 * other than F32/F16/BF16 are an error only if looked up. */
enum status st_open(struct st_model *m, const char *directory, struct error *err);
void st_free(struct st_model *m);                                            /* a zeroed struct is fine */
const struct st_tensor *st_find(const struct st_model *m, const char *name); /* exact name; NULL if absent */
/* Header of one file from memory (the JSON behind the 8 bytes of length), for fuzzing: file_bytes is the size the whole file would
 * have. Adds to a model; zero it first, and free it also after a failure. */
enum status st_parse_header(struct st_model *m, const char *path, const char *header, int64_t n, int64_t file_bytes,
                            struct error *err);

/* The file tensor for an architecture tensor: tries "model." + name and name, and for a tied head the embedding. Checks its
 * shape against the architecture's. */
enum status st_resolve(const struct st_model *m, const struct tensor *t, const struct st_tensor **out, struct error *err);

/* Writes a Hugging Face directory of shape `a` with seeded random weights in a->weight_format: config.json, one or more
 * safetensors shards of at most 5 GB with an index if there are several. Streams (bounded memory), writes temporary names and renames the
 * directory at the end, so that a killed run leaves no half model; an existing complete directory with the same seed and shape is kept,
 * one with anything else in it is refused.
 * Matrices ~ uniform with standard deviation 0.02, norm gains 1, biases 0. progress may be NULL: called with bytes done and in total. */
enum status st_write_random(const struct arch *a, uint64_t seed, const char *directory,
                            void (*progress)(int64_t done, int64_t total, void *arg), void *arg, struct error *err);

#endif
