/* random_weights.h - what st_write_random does, with the size of a shard open for tests. Private to executor/ and its tests. */
#ifndef BALLAST_EXECUTOR_RANDOM_WEIGHTS_H
#define BALLAST_EXECUTOR_RANDOM_WEIGHTS_H

#include "executor/safetensors.h"

#define RANDOM_WEIGHTS_SHARD_BYTES 5000000000 /* as the Hugging Face library cuts files: 5 GB */

struct random_weights_options {
    uint64_t seed;
    int64_t shard_bytes;                                      /* of data; a tensor larger than this has a shard of its own */
    void (*progress)(int64_t done, int64_t total, void *arg); /* may be NULL */
    void *arg;
};

/* While it writes, the files are in "<directory>.partial", which is locked; a later call takes over what a killed one left. */
enum status random_weights_write(const struct arch *a, const struct random_weights_options *o, const char *directory,
                                 struct error *err);

/* The values elements are chosen from, uniform with standard deviation 0.02, as bits of `format` (F32, F16 or BF16). */
struct random_table {
    enum format format;
    union {
        uint16_t half[65536];
        uint32_t single[65536];
    };
};
void random_table_fill(struct random_table *t, enum format format);
uint64_t random_key(uint64_t seed, int tensor);
/* Elements first .. first+n-1 of the tensor with this key. An element depends on key and index only: pieces add up to the
 * whole. */
void random_elements(const struct random_table *t, uint64_t key, int64_t first, int64_t n, void *out);
void random_constant(enum format format, double value, int64_t n, void *out);

#endif
