/* profile.h - measure this machine into a hardware profile, through the same kernels, I/O and copies that a run uses. */
#ifndef BALLAST_EXECUTOR_PROFILE_H
#define BALLAST_EXECUTOR_PROFILE_H

#include <stdint.h>

#include "executor/gpu_tools.h"
#include "model/hardware.h"

/* How steady the machine was: lowest and highest rate of a round. */
struct profile_range {
    double low, high;
};
struct profile_steadiness {
    struct profile_range disk_read, product; /* large reads, bytes/s; fp16 weights times 512 rows, FLOP/s */
};

/* What is measured of a GPU beside the profile, in bytes/s: its link at one large size, each direction alone and both at once, and the 16-bit
 * bytes made of 4-bit weights. */
struct profile_gpu_rates {
    int64_t bytes; /* of a transfer */
    double up, down, both;
    double pageable_up, pageable_down, pageable_both;
    double dequantise;
};

struct profile_options {
    const char *name;
    const char *scratch_directory; /* on the disk to measure */
    int threads;                   /* that compute */
    int64_t ram_bytes;             /* capacity of the memory tier */
    int64_t disk_bytes;            /* free space of the disk */
    int64_t device_bytes;          /* > 0: a third tier in front, an arena on the CPU joined by real copies, as a GPU would be */
    const struct gpu_tools *gpu;   /* not NULL: the first tier is this library's first GPU; no device_bytes then */
    struct profile_gpu_rates *gpu_rates;           /* filled if not NULL */
    const char *math;                              /* "f32", "bf16"; NULL: bf16 where the CPU multiplies it natively */
    int64_t disk_sample_bytes;                     /* size of the file that is read; 0: 2 GiB */
    int rounds;                                    /* of every measurement, one after the other; 0: 12 */
    struct profile_steadiness *steadiness;         /* filled if not NULL */
    void (*progress)(const char *what, void *arg); /* may be NULL */
    void *arg;
};

/* Fills a profile: {ram, disk}, {gpu, ram, disk} or {device, ram, disk}. Takes about 3 seconds a round, and as much again for a GPU. A rate is that of the mean time over the
 * rounds; a rate by size is that of transfers of this size one after the other as the engine issues them, so latencies are part of
 * it and the latency fields are 0. A spread is the standard deviation over the rounds of a round's level: the geometric mean of its large
 * transfers, or of all products and attention of a unit; with one round it is not known. */
enum status profile_measure(struct hardware *hw, const struct profile_options *o, struct error *err);

#endif
