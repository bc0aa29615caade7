/* cmd_devices.c - ballast devices: what this machine has, before anything is measured. */
#include <csv.h>
#include <errno.h>
#include <hwloc.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "executor/cpu/kernels.h"
#include "executor/gpu_tools.h"
#include "executor/io.h"

static void add(struct table *t, const char *kind, const char *name, int64_t count, double bytes, const char *detail)
{
    table_text(t, kind);
    table_text(t, name);
    if (count >= 0) {
        table_int(t, count);
    } else {
        table_empty(t);
    }
    table_number(t, bytes);
    table_text(t, detail);
}

#define NO_COUNT (-1)
#define NO_BYTES ((double)NAN)

/* -- memory and disk ------------------------------------------------------------------------------------------------- */

/* "MemAvailable:" of /proc/meminfo in bytes; NaN if it cannot be read. */
static double meminfo_bytes(const char *key)
{
    char line[256];
    double kib = NAN;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%lf", &kib) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib * 1024;
}

/* The memory limit of this control group; NaN if there is none. */
static double control_group_bytes(void)
{
    double bytes = NAN;
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "r");
    if (f) {
        if (fscanf(f, "%lf", &bytes) != 1) {
            bytes = NAN; /* "max" */
        }
        fclose(f);
    }
    return bytes;
}

static void add_memory(struct table *t)
{
    add(t, "tier", "ram", NO_COUNT, meminfo_bytes("MemTotal:"), "installed memory");
    add(t, "tier", "ram", NO_COUNT, meminfo_bytes("MemAvailable:"), "available now");
    double limit = control_group_bytes();
    if (!isnan(limit)) {
        add(t, "tier", "ram", NO_COUNT, limit, "limit of this container");
    }
}

static enum status add_disk(struct table *t, const char *directory, struct error *err)
{
    struct statvfs fs;
    struct io *io = NULL;
    char detail[256];
    if (statvfs(directory, &fs) != 0) {
        return error_errno(err, errno, "%s", directory);
    }
    const char *method = io_new(&io, NULL, NULL) == STATUS_OK ? io_method(io) : "no asynchronous I/O";
    snprintf(detail, sizeof detail, "free in %.180s, through %s", directory, method);
    add(t, "tier", "disk", NO_COUNT, (double)fs.f_bavail * (double)fs.f_frsize, detail);
    io_free(io);
    add(t, "link", "disk->ram", NO_COUNT, NO_BYTES, "not measured: ballast profile does");
    add(t, "link", "ram->disk", NO_COUNT, NO_BYTES, "not measured: ballast profile does");
    return STATUS_OK;
}

/* -- processors ------------------------------------------------------------------------------------------------------ */

static void add_caches(struct table *t, hwloc_topology_t topology)
{
    static const struct {
        hwloc_obj_type_t type;
        const char *name;
    } CACHES[] = {{HWLOC_OBJ_L1CACHE, "L1 data"}, {HWLOC_OBJ_L2CACHE, "L2"}, {HWLOC_OBJ_L3CACHE, "L3"}};
    for (int i = 0; i < 3; i++) {
        hwloc_obj_t first = hwloc_get_obj_by_type(topology, CACHES[i].type, 0);
        if (first) {
            add(t, "cache", CACHES[i].name, hwloc_get_nbobjs_by_type(topology, CACHES[i].type), (double)first->attr->cache.size,
                "each");
        }
    }
}

static void add_numa(struct table *t, hwloc_topology_t topology)
{
    int n = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
    for (int i = 0; i < n; i++) {
        char name[32];
        hwloc_obj_t node = hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, (unsigned)i);
        snprintf(name, sizeof name, "node %u", node->os_index);
        add(t, "numa", name, NO_COUNT, (double)node->attr->numanode.local_memory, "local memory");
    }
}

static void add_processors(struct table *t)
{
    char text[256];
    hwloc_topology_t topology;
    add(t, "compute", "cpu", NO_COUNT, NO_BYTES, cpu_describe(text, sizeof text));
    if (hwloc_topology_init(&topology) != 0) {
        return;
    }
    if (hwloc_topology_load(topology) == 0) {
        add(t, "compute", "cores", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE), NO_BYTES, "");
        add(t, "compute", "threads", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU), NO_BYTES,
            "hardware threads this process may use");
        add_caches(t, topology);
        add_numa(t, topology);
    }
    hwloc_topology_destroy(topology);
}

/* -- GPUs -------------------------------------------------------------------------------------------------------------- */

static const char *version_text(struct gpu_version v, char buf[24])
{
    snprintf(buf, 24, "%d.%d", v.major, v.minor);
    return buf;
}

static void add_pcie(struct table *t, const char *name, const struct gpu_pcie *p)
{
    char link[24], text[96];
    snprintf(link, sizeof link, "ram->%s", name);
    if (p->most_lanes == 0) {
        add(t, "link", link, NO_COUNT, NO_BYTES, "PCIe, not known: the driver's libnvidia-ml.so.1 does not say");
        return;
    }
    snprintf(text, sizeof text, "PCIe generation %u, %u lanes (now generation %u, %u lanes)", p->most_generation, p->most_lanes,
             p->generation, p->lanes);
    add(t, "link", link, NO_COUNT, NO_BYTES, text);
}

/* The first one is "gpu", the tier that a profile has; the others are listed only. */
static enum status add_gpu(struct table *t, const struct gpu_tools *tools, int device, struct error *err)
{
    struct gpu_description d;
    char name[16] = "gpu", text[192], capability[24];
    enum status status = tools->describe(device, &d, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (device > 0) {
        snprintf(name, sizeof name, "gpu%d", device);
    }
    snprintf(text, sizeof text, "%s, compute capability %s, %d multiprocessors, at %s", d.name,
             version_text(d.compute, capability), d.multiprocessors, d.pci);
    add(t, "compute", name, NO_COUNT, NO_BYTES, text);
    add(t, "tier", name, NO_COUNT, (double)d.memory_bytes, "installed memory");
    add(t, "tier", name, NO_COUNT, (double)d.free_bytes, "available now");
    add(t, "cache", name, NO_COUNT, (double)d.l2_bytes, "L2");
    add_pcie(t, name, &d.pcie);
    return STATUS_OK;
}

/* No GPU is not a failure: the reason stands in its place. */
static void add_gpus(struct table *t)
{
    const struct gpu_tools *tools;
    struct gpu_system system = {0};
    struct error err = {0};
    char version[24], text[sizeof err.text + 8];
    if (gpu_tools_load(&tools, &err) == STATUS_OK && tools->system(&system, &err) == STATUS_OK) {
        for (int i = 0; i < system.devices && err.status == STATUS_OK; i++) {
            add_gpu(t, tools, i, &err);
        }
    }
    if (err.status != STATUS_OK) {
        snprintf(text, sizeof text, "%s%s", system.devices == 0 ? "none: " : "", err.text);
        add(t, "compute", "gpu", 0, NO_BYTES, text);
    }
    if (system.driver_cuda.major > 0) {
        snprintf(text, sizeof text, "%s, for CUDA up to %s", system.driver[0] ? system.driver : "version not known",
                 version_text(system.driver_cuda, version));
        add(t, "library", "NVIDIA driver", NO_COUNT, NO_BYTES, text);
    }
    if (system.build.major > 0) {
        add(t, "library", "CUDA runtime", NO_COUNT, NO_BYTES, version_text(system.runtime, version));
    }
}

/* -- libraries ------------------------------------------------------------------------------------------------------- */

static void add_libraries(struct table *t)
{
    char text[64];
    unsigned hwloc = hwloc_get_api_version();
    add(t, "library", "jansson", NO_COUNT, NO_BYTES, JANSSON_VERSION);
    snprintf(text, sizeof text, "%u.%u.%u", hwloc >> 16, hwloc >> 8 & 0xFF, hwloc & 0xFF);
    add(t, "library", "hwloc", NO_COUNT, NO_BYTES, text);
    snprintf(text, sizeof text, "%d.%d.%d", CSV_MAJOR, CSV_MINOR, CSV_RELEASE);
    add(t, "library", "libcsv", NO_COUNT, NO_BYTES, text);
}

static enum status fill(struct table *t, const char *directory, struct error *err)
{
    table_column(t, "kind", COLUMN_TEXT);
    table_column(t, "name", COLUMN_TEXT);
    table_column(t, "count", COLUMN_INT);
    table_column(t, "bytes", COLUMN_BYTES);
    table_column(t, "detail", COLUMN_TEXT);
    add_memory(t);
    enum status status = add_disk(t, directory, err);
    add_processors(t);
    add_gpus(t);
    add_libraries(t);
    return status;
}

int cmd_devices(int argc, char **argv)
{
    static const struct command_usage USAGE =
        {"devices", "[OPTIONS]",
         "Lists memory, disk, processors, GPUs and libraries found here. Nothing is measured: \"ballast profile\" does that.",
         OPTION_SCRATCH | OPTION_FORMAT};
    struct options o;
    struct table t;
    struct error err = {0};
    char directory[512];
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    table_init(&t);
    const char *where = o.scratch_dir ? o.scratch_dir : getcwd(directory, sizeof directory);
    if (fill(&t, where ? where : ".", &err) == STATUS_OK) {
        table_write(&t, o.format, stdout, &err);
    }
    table_free(&t);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
