/* gpu_tools.h - what libballast_cuda.so says about GPUs and measures on one, as the table that it exports (backend_load.h). Readable without
 * CUDA. */
#ifndef BALLAST_EXECUTOR_GPU_TOOLS_H
#define BALLAST_EXECUTOR_GPU_TOOLS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "model/error.h"
#include "model/format.h"

/* -- what there is ------------------------------------------------------------------------------------------------------ */

struct gpu_version {
    int major, minor; /* 0, 0: not known */
};

/* A link that saves power falls back to generation 1 while nothing moves: `most` is what card and slot can do together. 0: not known. */
struct gpu_pcie {
    unsigned generation, lanes, most_generation, most_lanes;
};

struct gpu_description {
    char name[96];
    char pci[20];               /* "0000:3B:00.0" */
    struct gpu_version compute; /* capability: 9.0 */
    int multiprocessors;
    int64_t memory_bytes, free_bytes, l2_bytes;
    struct gpu_pcie pcie;
};

/* Compute capability 0 is the host emulation's (tests/emu), which no GPU has. */
static inline bool gpu_is_emulated(const struct gpu_description *d)
{
    return d->compute.major == 0;
}

struct gpu_system {
    int devices;
    char driver[32];                   /* "580.65.06"; empty: not known */
    struct gpu_version driver_cuda;    /* the newest CUDA that the driver runs */
    struct gpu_version runtime, build; /* of the library: what is linked, and what it was compiled with */
};

/* -- what it takes: seconds, the median of some samples after a warm-up --------------------------------------------------- */

struct gpu_bench; /* a device with buffers and streams */

struct gpu_bench_options {
    int device;
    int64_t host_bytes;   /* of each of four buffers: pinned and pageable, to copy from and to copy to */
    int64_t upload_bytes; /* of the pinned buffer that staged copies go through */
    int64_t device_bytes; /* of operands, at least 2 * host_bytes: what is measured walks through them, past the caches */
    int64_t row_bytes;    /* of each of three buffers, for the rows of products and attention, and for unpacked weights */
    const void *
        numbers; /* (host_bytes) borrowed until open returns: bytes that are ordinary numbers in every format, to fill all buffers with */
    int samples;
};

/* Pageable memory is copied by the driver, or, up only, as a run does it: through a pinned buffer of its own. */
enum gpu_host_memory { GPU_PAGEABLE, GPU_PINNED, GPU_STAGED };

struct gpu_copy {
    enum gpu_host_memory host;
    bool up, down; /* to the device, from it, or both at once */
    int64_t bytes; /* of a transfer */
};

struct gpu_product {
    enum format format;    /* of the weights */
    int64_t m, rows, cols; /* (m, rows) = (m, cols) x (rows, cols) transposed */
};

struct gpu_attend {
    enum format cache;
    int heads, head_dim;
    int64_t sequences, tokens, first; /* as gpu_attention of executor/cuda/kernels.h */
};

#define GPU_LAUNCHES 16

#define GPU_TOOLS_VERSION 4

struct gpu_tools {
    int version; /* GPU_TOOLS_VERSION */
    /* Fails in one line where there is no device or no driver that this library can use; what is known is in *out all the same. */
    enum status (*system)(struct gpu_system *out, struct error *err);
    enum status (*describe)(int device, struct gpu_description *out, struct error *err);

    enum status (*open)(struct gpu_bench **out, const struct gpu_bench_options *o, struct error *err);
    void (*close)(struct gpu_bench *b); /* NULL is fine */
    /* A transfer among many one after the other, queued before the first begins; with both directions, a pair of them. What has
     * arrived is compared with what was sent. */
    enum status (*copy)(struct gpu_bench *b, const struct gpu_copy *c, double *seconds, struct error *err);
    /* Taking page-locked memory, and not giving it back. */
    enum status (*pin)(struct gpu_bench *b, int64_t bytes, double *seconds, struct error *err);
    enum status (*product)(struct gpu_bench *b, const struct gpu_product *p, double *seconds, struct error *err);
    /* A 4-bit matrix into f16. */
    enum status (*unpack)(struct gpu_bench *b, int64_t rows, int64_t cols, double *seconds, struct error *err);
    enum status (*attend)(struct gpu_bench *b, const struct gpu_attend *a, double *seconds, struct error *err);
    /* A norm of (m, d) f16 and an addition to it: 5 * m * d elements moved. */
    enum status (*passes)(struct gpu_bench *b, int64_t m, int64_t d, double *seconds, struct error *err);
    /* An operation of `kernels` that do next to nothing, of GPU_LAUNCHES in a row that are queued as a run's are, each launched while the one before is
     * at work: what the host's clock sees of one. */
    enum status (*launches)(struct gpu_bench *b, int kernels, double *seconds, struct error *err);
};

extern const struct gpu_tools ballast_gpu_tools; /* for who links the library's objects: tests */

/* The library's table. */
enum status gpu_tools_load(const struct gpu_tools **out, struct error *err);

#ifdef __cplusplus
}
#endif
#endif
