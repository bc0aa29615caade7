/* arena.c - regions of one tier under one limit. */
#include "executor/arena.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

void arena_init(struct arena *a, const char *tier, int64_t budget_bytes)
{
    *a = (struct arena){.budget_bytes = budget_bytes};
    snprintf(a->tier, sizeof a->tier, "%s", tier);
}

static struct arena_region *find_region(struct arena *a, const char *name)
{
    for (int i = 0; i < a->n_regions; i++)
        if (strcmp(a->region[i].name, name) == 0)
            return &a->region[i];
    return NULL;
}

static const struct arena_region *largest_region(const struct arena *a)
{
    const struct arena_region *largest = NULL;

    for (int i = 0; i < a->n_regions; i++)
        if (!largest || a->region[i].bytes > largest->bytes)
            largest = &a->region[i];
    return largest;
}

static enum status over_budget(const struct arena *a, const char *name, int64_t bytes, struct error *err)
{
    const struct arena_region *const largest = largest_region(a);
    /* Unsigned: used + bytes may pass INT64_MAX. */
    const uint64_t missing = (uint64_t)a->used_bytes + (uint64_t)bytes - (uint64_t)a->budget_bytes;
    char holder[80] = "nothing is held";

    if (largest)
        snprintf(holder, sizeof holder, "most is held by %s, %" PRId64 " bytes", largest->name, largest->bytes);
    return error_set(err, STATUS_DOES_NOT_FIT,
                     "%s: region %s asks %" PRId64 " bytes, %" PRId64 " of %" PRId64 " bytes are used, %" PRIu64
                     " bytes are missing; %s",
                     a->tier, name, bytes, a->used_bytes, a->budget_bytes, missing, holder);
}

static enum status check_take(struct arena *a, const char *name, int64_t bytes, struct error *err)
{
    if (bytes < 0)
        return error_set(err, STATUS_RUNTIME, "%s: region %s asks %" PRId64 " bytes: expected 0 or more", a->tier, name, bytes);
    if (strlen(name) >= sizeof a->region[0].name)
        return error_set(err, STATUS_RUNTIME, "%s: region name %s: expected at most %zu characters, found %zu", a->tier, name,
                         sizeof a->region[0].name - 1, strlen(name));
    if (find_region(a, name))
        return error_set(err, STATUS_RUNTIME, "%s: region %s is taken already", a->tier, name);
    if (bytes > a->budget_bytes - a->used_bytes)
        return over_budget(a, name, bytes, err);
    if (a->n_regions == ARENA_REGIONS_MAX)
        return error_set(err, STATUS_RUNTIME, "%s: region %s: expected at most %d regions", a->tier, name, ARENA_REGIONS_MAX);
    return STATUS_OK;
}

static uint64_t round_up(uint64_t bytes, uint64_t step)
{
    return (bytes + step - 1) / step * step;
}

static uint64_t mapped_bytes(int64_t bytes)
{
    return round_up((uint64_t)bytes, (uint64_t)sysconf(_SC_PAGESIZE));
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; glibc 2.35 */
#endif

/* Mapped with room to move, then trimmed to a 2 MiB boundary in front and the last page behind. NULL: see errno. All pages come now:
 * zeroing those of a cache while it fills took a fifth of the first prefill. An older kernel gives them at first touch. */
static void *map_region(int64_t bytes)
{
    const uint64_t length = mapped_bytes(bytes), total = length + HUGE_PAGE_BYTES;
    char *const start = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t head;

    if (start == MAP_FAILED)
        return NULL;
    head = round_up((uint64_t)(uintptr_t)start, HUGE_PAGE_BYTES) - (uint64_t)(uintptr_t)start;
    if (head > 0)
        munmap(start, head);
    munmap(start + head + length, HUGE_PAGE_BYTES - head);
    madvise(start + head, length, MADV_HUGEPAGE); /* a wish: kernels without huge pages refuse it */
    if (madvise(start + head, length, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
        const int cause = errno;
        munmap(start + head, length);
        errno = cause;
        return NULL;
    }
    return start + head;
}

enum status arena_reserve(struct arena *a, const struct memory *m, int64_t bytes, struct error *err)
{
    void *block = NULL;
    enum status s = bytes > a->budget_bytes ? over_budget(a, "block", bytes, err) : STATUS_OK;

    if (s == STATUS_OK && bytes > 0)
        s = m->take(bytes, &block, err);
    if (s != STATUS_OK)
        return s;
    a->memory = m;
    a->block = block;
    a->block_bytes = bytes;
    return STATUS_OK;
}

/* NULL, with ENOMEM: what is left of the block is too small. */
static void *carve_region(struct arena *a, int64_t bytes)
{
    const int64_t at = a->carved_bytes;

    if (bytes > a->block_bytes - at) {
        errno = ENOMEM;
        return NULL;
    }
    a->carved_bytes += (int64_t)round_up((uint64_t)bytes, ARENA_ALIGN);
    return a->block + at;
}

static enum status take_region(struct arena *a, const char *name, int64_t bytes, bool mapped, void **base, struct error *err)
{
    const enum status s = check_take(a, name, bytes, err);
    struct arena_region region = {.bytes = bytes, .mapped = mapped};

    if (base)
        *base = NULL;
    if (s != STATUS_OK || bytes == 0)
        return s;
    snprintf(region.name, sizeof region.name, "%s", name);
    if (base) {
        region.base = mapped ? map_region(bytes) : carve_region(a, bytes);
        if (!region.base)
            return error_errno(err, errno, "%s: region %s of %" PRId64 " bytes", a->tier, name, bytes);
        *base = region.base;
    }
    a->region[a->n_regions++] = region;
    a->used_bytes += bytes;
    if (a->used_bytes > a->peak_bytes)
        a->peak_bytes = a->used_bytes;
    return STATUS_OK;
}

enum status arena_take(struct arena *a, const char *name, int64_t bytes, void **base, struct error *err)
{
    return take_region(a, name, bytes, !a->memory, base, err);
}

enum status arena_take_plain(struct arena *a, const char *name, int64_t bytes, void **base, struct error *err)
{
    return take_region(a, name, bytes, true, base, err);
}

static void unmap_region(const struct arena_region *r)
{
    if (r->base && r->mapped)
        munmap(r->base, mapped_bytes(r->bytes));
}

void arena_release(struct arena *a, const char *name)
{
    struct arena_region *const r = find_region(a, name);

    if (!r)
        return;
    unmap_region(r);
    a->used_bytes -= r->bytes;
    a->n_regions--;
    memmove(r, r + 1, (size_t)(&a->region[a->n_regions] - r) * sizeof *r);
}

void arena_reset_peak(struct arena *a)
{
    a->peak_bytes = a->used_bytes;
}

void arena_free(struct arena *a)
{
    for (int i = 0; i < a->n_regions; i++)
        unmap_region(&a->region[i]);
    if (a->block)
        a->memory->give(a->block);
    a->memory = NULL;
    a->block = NULL;
    a->block_bytes = a->carved_bytes = 0;
    a->n_regions = 0;
    a->used_bytes = 0;
}
