/* hardware.h - a machine: an ordered list of memory tiers, the links between neighbours, and the compute units on them.
 *
 * Tier 0 is nearest to the accelerator. GPU + CPU + disk is {gpu, cpu, disk}; a machine without a GPU is {ram, disk}. Link i
 * joins tier i (upper) to tier i+1 (lower). The last tier is the disk. Files are strict JSON with units; see docs/formats.md.
 */
#ifndef BALLAST_MODEL_HARDWARE_H
#define BALLAST_MODEL_HARDWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/error.h"
#include "model/format.h"

#define TIERS_MAX    4
#define COMPUTES_MAX 2
#define CURVE_MAX    32

/* What can be busy: link i upwards (read) is 2i, downwards (write) 2i+1, compute unit c is 2*(n_tiers-1)+c. */
#define RESOURCES_MAX   (2 * (TIERS_MAX - 1) + COMPUTES_MAX)
#define CONTENTIONS_MAX 4

/* A rate as a function of size, sampled at increasing x; between samples linear in log-log, outside the nearest sample. */
struct curve {
    int n;
    double x[CURVE_MAX];
    double y[CURVE_MAX];
};
double curve_at(const struct curve *c, double x);                  /* c->n >= 1, x > 0 */
double curve_best(const struct curve *c, double low, double high); /* the largest value anywhere in [low, high] */

/* A spread is the standard deviation of the logarithm of a rate: 0.08 means that it is within 8 % of its mean two times in three.
 * 0: not known, and predictions have no error bar from it. */

enum tier_kind { TIER_DEVICE, TIER_HOST, TIER_DISK };

struct tier {
    char name[16];
    enum tier_kind kind;
    int64_t capacity_bytes; /* what may be used of it: budgets narrow this */
};

struct link {
    struct curve read_bytes_per_s;  /* lower -> upper, by bytes of one transfer */
    struct curve write_bytes_per_s; /* upper -> lower */
    struct curve
        pageable_read_bytes_per_s; /* up out of memory that is not page-locked, through a pinned buffer; n == 0: not known */
    double pinning_bytes_per_s;    /* at which the lower tier's memory is page-locked for the upper one; 0: not known */
    double read_latency_s;         /* added once per transfer */
    double write_latency_s;
    double read_spread, write_spread; /* of the rates from one time to another, see below */
};

struct compute {
    char name[16];
    int tier;                             /* the tier whose memory it works in */
    enum format activation;               /* F32 or F16: how hidden states are kept between layers */
    char math[8];                         /* "f32", "bf16" or "f16": operands of the matrix products */
    int threads;                          /* CPU threads it was measured with; 0 for a device */
    struct curve matmul[FORMAT_COUNT];    /* FLOP/s by rows of the activation, weights in that format; n == 0: not measured */
    double attention_prefill_flops_per_s; /* causal, counted as 4*H*e per (query, visible key) pair */
    double attention_decode_bytes_per_s[FORMAT_COUNT]; /* cache bytes read per second; 0: not measured */
    double memory_bytes_per_s;                         /* element-wise passes */
    double launch_s;                                   /* fixed cost of one operation; see compute_queues */
    bool
        whole_batch; /* computes a batch at once, not about WORKSPACE_ROWS rows at a time: so of the first unit under a runtime */
    int64_t workspace_bytes; /* fixed scratch the backend reserves on `tier` */
    double spread;           /* of all its rates together */
};

/* Resources that share something: a memory bus, a half-duplex drive, a thread that waits for both. A resource that works at its full
 * rate takes `share` of it; when the shares of those at work exceed 1, all of them slow down by the same factor. So a step takes at
 * least the sum of share * busy time over the group. */
struct contention {
    char name[16];
    double share[RESOURCES_MAX]; /* by resource, at most 1; 0: not of the group */
};

/* What a program other than ballast's engine does on the machine: it waits for all its work at every turn of a batch through a layer
 * (turns.h). */
struct runtime {
    struct curve
        staging_bytes_per_s; /* by bytes of one copy: the second unit copies pageable memory (the cache, weights of a policy that says so)
                                       * into a pinned buffer on its way up. n == 0: there is no such program */
    double pageable_write_bytes_per_s; /* cache on its way down into pageable memory */
    double dequantise_bytes_per_s; /* 16-bit bytes made per second from 4-bit tensors before each use, and back for the cache */
};

struct hardware {
    char name[64];
    char
        estimate[16]; /* "measured", "mixed", "datasheet", or "emulated": of a GPU that the CPU plays, whose times mean nothing */
    int n_tiers;
    struct tier tier[TIERS_MAX];
    struct link link[TIERS_MAX - 1];
    int n_computes; /* computes[0] is on tier 0; an optional second one is on tier 1 */
    struct compute compute[COMPUTES_MAX];
    struct runtime runtime;
    double page_cache_bytes; /* of a decode step's disk reads, what the operating system's page cache serves; no profile has it */
    int n_contentions;
    struct contention contention[CONTENTIONS_MAX];
};

/* Loads `path`; if no such file exists and it has no '/', the built-in profile of that name ("t4-gcp"). */
enum status hardware_load(struct hardware *hw, const char *path, struct error *err);
enum status hardware_parse(struct hardware *hw, const char *path, const char *text, size_t n, struct error *err);
/* Writes a file that hardware_load reads back; `source` goes into every "source" field. Atomic: temporary file and rename. */
enum status hardware_save(const struct hardware *hw, const char *path, const char *source, struct error *err);
/* Whether an operation is launched while the one before it is at work: a device's queue takes it so from ballast's engine, but not from a runtime
 * that waits. An operation then takes the longer of its launch and its work, on other units both. */
bool compute_queues(const struct compute *unit);
int hardware_tier(const struct hardware *hw, const char *name); /* index, or -1 */
bool hardware_waits(const struct hardware *hw);                 /* it describes a program that waits at every turn */
bool hardware_is_emulated(const struct hardware *hw);           /* its estimate */

int resource_link_read(int link);
int resource_link_write(int link);
int resource_compute(const struct hardware *hw, int unit);
int resource_count(const struct hardware *hw);
const char *resource_name(const struct hardware *hw, int resource, char buf[40]); /* "disk->ram", "ram->disk", "cpu compute" */
int hardware_resource(const struct hardware *hw, const char *name);               /* the resource of that name, or -1 */

/* Multiplies all bandwidths of one direction. */
void link_scale(struct link *l, bool write, double factor);

/* Parses "gpu=16GiB" and narrows that tier; an unknown tier, or more than the profile has, is an error. */
enum status hardware_budget(struct hardware *hw, const char *text, struct error *err);
/* Parses "30GiB": what the page cache serves of each decode step's reads from the disk. */
enum status hardware_page_cache(struct hardware *hw, const char *text, struct error *err);
/* Parses "disk->ram=2" or "cpu=0.5" and multiplies that direction's bandwidths, or all rates of that compute unit; latencies and
 * launch times stay. */
enum status hardware_scale(struct hardware *hw, const char *text, struct error *err);

#endif
