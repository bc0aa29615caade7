/* arena.h - a tier's memory: one hard limit, named regions, recorded peaks.
 *
 * Every byte of weights, cache, activations, staging and workspace is taken here. Taking more than the budget fails with the
 * region, the bytes asked for, in use and allowed; nothing grows silently.
 */
#ifndef BALLAST_EXECUTOR_ARENA_H
#define BALLAST_EXECUTOR_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "model/error.h"

#define ARENA_REGIONS_MAX 64
#define ARENA_ALIGN       4096 /* of a region in a block */

struct arena_region {
    char name[32];
    int64_t bytes;
    void *base;  /* NULL for a tier that is only counted (the disk) */
    bool mapped; /* by itself, not carved out of a block */
};

/* Where one block for a whole tier comes from when it is not this process's own pages: a device, or memory that a device may reach. */
struct memory {
    enum status (*take)(int64_t bytes, void **base, struct error *err); /* at a multiple of ARENA_ALIGN; not zeroed */
    void (*give)(void *base);
};

struct arena {
    char tier[16];
    int64_t budget_bytes, used_bytes, peak_bytes;
    const struct memory *memory; /* of the block; NULL: there is none, every region is mapped by itself */
    char *block;
    int64_t block_bytes, carved_bytes;
    int n_regions;
    struct arena_region region[ARENA_REGIONS_MAX];
};

void arena_init(struct arena *a, const char *tier, int64_t budget_bytes);
/* Takes one block out of which the regions are then carved, each at a multiple of ARENA_ALIGN. m is borrowed until arena_free. */
enum status arena_reserve(struct arena *a, const struct memory *m, int64_t bytes, struct error *err);
/* Takes a region backed by 2 MiB-aligned, zeroed anonymous memory (transparent huge pages asked for), or by the block if there is one;
 * `base` may be NULL to count only. 0 bytes gives a NULL base and no region. */
enum status arena_take(struct arena *a, const char *name, int64_t bytes, void **base, struct error *err);
/* The same, beside the block if there is one. */
enum status arena_take_plain(struct arena *a, const char *name, int64_t bytes, void **base, struct error *err);
void arena_release(struct arena *a, const char *name); /* unknown name: nothing. A block stays carved. */
void arena_reset_peak(struct arena *a);                /* peak := used, at the start of a phase */
void arena_free(struct arena *a);

#endif
