/* devices.cu - which GPUs there are. What CUDA's runtime cannot say (the driver's own version, the PCIe link) comes from NVML, which is
 * part of the driver and opened when it is there. */
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

#include "executor/cuda/check.cuh"
#include "executor/cuda/measure.h"

/* -- NVML: the few calls that are used, by their names in the library; 0 is success -------------------------------------- */

struct nvml {
    void *library;
    int (*start)(void);
    int (*stop)(void);
    int (*driver)(char *text, unsigned bytes);
    int (*by_pci)(const char *pci, void **device);
    int (*generation)(void *device, unsigned *out);
    int (*lanes)(void *device, unsigned *out);
    int (*most_generation)(void *device, unsigned *out);
    int (*most_lanes)(void *device, unsigned *out);
};

template <class F> static bool find(void *library, const char *name, F *out)
{
    *out = reinterpret_cast<F>(dlsym(library, name));
    return *out != nullptr;
}

/* False: not here, which only leaves gaps. */
static bool nvml_open(struct nvml *n)
{
    *n = {};
    n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return false;
    void *l = n->library;
    const bool all =
        find(l, "nvmlInit_v2", &n->start) && find(l, "nvmlShutdown", &n->stop) &&
        find(l, "nvmlSystemGetDriverVersion", &n->driver) && find(l, "nvmlDeviceGetHandleByPciBusId_v2", &n->by_pci) &&
        find(l, "nvmlDeviceGetCurrPcieLinkGeneration", &n->generation) && find(l, "nvmlDeviceGetCurrPcieLinkWidth", &n->lanes) &&
        find(l, "nvmlDeviceGetMaxPcieLinkGeneration", &n->most_generation) &&
        find(l, "nvmlDeviceGetMaxPcieLinkWidth", &n->most_lanes);
    if (all && n->start() == 0)
        return true;
    dlclose(n->library);
    return false;
}

static void nvml_close(struct nvml *n)
{
    n->stop();
    dlclose(n->library);
}

static void ask_driver(char *text, unsigned bytes)
{
    struct nvml n;
    text[0] = '\0';
    if (!nvml_open(&n))
        return;
    if (n.driver(text, bytes) != 0)
        text[0] = '\0';
    nvml_close(&n);
}

static void ask_pcie(const char *pci, struct gpu_pcie *out)
{
    struct nvml n;
    void *device;
    *out = {};
    if (!nvml_open(&n))
        return;
    if (n.by_pci(pci, &device) == 0 &&
        (n.generation(device, &out->generation) || n.lanes(device, &out->lanes) ||
         n.most_generation(device, &out->most_generation) || n.most_lanes(device, &out->most_lanes)))
        *out = {};
    nvml_close(&n);
}

/* -- CUDA -------------------------------------------------------------------------------------------------------------- */

static struct gpu_version version(int number) /* 13020 is 13.2 */
{
    return {number / 1000, number % 1000 / 10};
}

static enum status describe_system(struct gpu_system *out, struct error *err)
{
    int driver = 0, runtime = 0;
    *out = {};
    ask_driver(out->driver, sizeof out->driver);
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess)
        runtime = 0;
    out->driver_cuda = version(driver);
    out->runtime = version(runtime);
    out->build = version(CUDART_VERSION);
    if (driver == 0)
        return error_set(err, STATUS_RUNTIME, "no NVIDIA driver is loaded here (libcuda.so.1)");
    if (out->driver_cuda.major < out->build.major)
        return error_set(err, STATUS_RUNTIME,
                         "the NVIDIA driver %s runs CUDA up to %d.%d, and the CUDA part is built with %d.%d: a newer driver is "
                         "needed, or a CUDA part built with CUDA %d",
                         out->driver[0] ? out->driver : "here", out->driver_cuda.major, out->driver_cuda.minor, out->build.major,
                         out->build.minor, out->driver_cuda.major);
    return GPU_TRY(err, cudaGetDeviceCount(&out->devices));
}

static enum status describe_device(int device, struct gpu_description *out, struct error *err)
{
    cudaDeviceProp p;
    size_t free_bytes, all;
    *out = {};
    enum status s = GPU_TRY(err, cudaGetDeviceProperties(&p, device));
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaSetDevice(device));
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaMemGetInfo(&free_bytes, &all));
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaDeviceGetPCIBusId(out->pci, sizeof out->pci, device));
    if (s != STATUS_OK)
        return s;
    snprintf(out->name, sizeof out->name, "%.95s", p.name);
    out->compute = {p.major, p.minor};
    out->multiprocessors = p.multiProcessorCount;
    out->memory_bytes = (int64_t)all;
    out->free_bytes = (int64_t)free_bytes;
    out->l2_bytes = p.l2CacheSize;
    ask_pcie(out->pci, &out->pcie);
    return STATUS_OK;
}

extern "C" const struct gpu_tools ballast_gpu_tools = {GPU_TOOLS_VERSION, describe_system,  describe_device,  gpu_bench_open,
                                                       gpu_bench_close,   gpu_bench_copy,   gpu_bench_pin,    gpu_bench_product,
                                                       gpu_bench_unpack,  gpu_bench_attend, gpu_bench_passes, gpu_bench_launches};
