/* gpu_tools.h - what libballast_cuda.so says about GPUs, as the table that it exports (backend_load.h). Readable without CUDA. */
#ifndef BALLAST_EXECUTOR_GPU_TOOLS_H
#define BALLAST_EXECUTOR_GPU_TOOLS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "model/error.h"

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

struct gpu_system {
    int devices;
    char driver[32];                   /* "580.65.06"; empty: not known */
    struct gpu_version driver_cuda;    /* the newest CUDA that the driver runs */
    struct gpu_version runtime, build; /* of the library: what is linked, and what it was compiled with */
};

#define GPU_TOOLS_VERSION 1

struct gpu_tools {
    int version; /* GPU_TOOLS_VERSION */
    /* Fails in one line where there is no device or no driver that this library can use; what is known is in *out all the same. */
    enum status (*system)(struct gpu_system *out, struct error *err);
    enum status (*describe)(int device, struct gpu_description *out, struct error *err);
};

extern const struct gpu_tools ballast_gpu_tools; /* for who links the library's objects: tests */

/* The library's table. */
enum status gpu_tools_load(const struct gpu_tools **out, struct error *err);

#ifdef __cplusplus
}
#endif
#endif
