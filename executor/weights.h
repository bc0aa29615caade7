/* weights.h - where every row of every matrix is, and how it gets to where it is needed.
 *
 * Rows whose home is a memory tier are read once into that tier's region. Rows whose home is the disk stay in the model's own
 * files and are read from there at every visit; with 4-bit weights they are packed once into the scratch file instead.
 */
#ifndef BALLAST_EXECUTOR_WEIGHTS_H
#define BALLAST_EXECUTOR_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "executor/backend.h"
#include "executor/io.h"
#include "executor/safetensors.h"
#include "executor/schedule.h"
#include "model/arch.h"
#include "model/placement.h"

/* Home of one placed tensor of one layer. */
struct weight_home {
    char *memory[TIERS_MAX]; /* first row on that tier; NULL if none or the disk */
    int fd;                  /* of the rows on the disk, the first at offset */
    int64_t offset;
};

struct weights {
    const struct arch *a;
    const struct placement *pl;
    struct st_model files;
    int *fd;                              /* (files.n_files) open for direct reading */
    struct weight_home *home;             /* (n_layers, LAYER_TENSORS_MAX) */
    const float *(*resident)[ROLE_COUNT]; /* (n_layers): vectors and small tables */
    char *ring[TIERS_MAX];
    int64_t slot_bytes[TIERS_MAX];
    int scratch_fd;
    int64_t scratch_bytes; /* 4-bit rows on the disk */
};

struct weights_memory {
    char *resident; /* region bases by tier */
    char *weights[TIERS_MAX];
    char *ring[TIERS_MAX];
    char *staging; /* the host's, aligned, for reading while loading; free for other use afterwards */
    int64_t staging_bytes;
    int threads;      /* to pack with, at most */
    struct lane lane; /* to where weights belong; borrowed for the time of weights_open */
};

/* Opens the files, checks every tensor's shape and reads what belongs in memory. progress may be NULL. */
enum status weights_open(struct weights *w, const char *directory, const struct arch *a, const struct placement *pl, int prefetch,
                         const struct weights_memory *m, const char *scratch_directory, struct io *io,
                         void (*progress)(int64_t done, int64_t total, void *arg), void *arg, struct error *err);
void weights_close(struct weights *w); /* a zeroed struct is fine */

/* Starts the copies of one OP_LOAD_WEIGHTS on the lane and submits its reads to `io` (*job = -1 if none). */
enum status weights_load(const struct weights *w, const struct op *op, const struct lane *lane, struct io *io, int64_t *job,
                         struct error *err);

/* Where the layer's tensors are while slot `slot` of tier 0's ring holds its visit. */
void weights_view(const struct weights *w, int layer, int slot, struct layer_weights *out);

/* Looks up rows of the token table at stored precision: vector[i] (count) becomes the address of that of ids[i], where it lives or, if that is the
 * disk or pageable memory beside a device, in `room`. That is the host's, aligned to IO_ALIGN, with weights_lookup_stride() bytes for each of
 * them: on the way a row has whole sectors. */
int64_t weights_lookup_stride(const struct weights *w);
enum status weights_lookup(const struct weights *w, const int32_t *ids, int64_t count, char *room, const void **vector,
                           struct io *io, struct error *err);

#endif
