/* cmd_profile.c - ballast profile: measure this machine into a hardware profile. */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "executor/cpu/kernels.h"
#include "executor/profile.h"
#include "model/atomic_file.h"
#include "model/units.h"

static void say(const char *what, void *arg)
{
    (void)arg;
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "measuring %s ...\n", what);
    }
}

static enum status free_disk(const char *directory, int64_t *bytes, struct error *err)
{
    struct statvfs v;
    if (statvfs(directory, &v) != 0) {
        return error_set(err, STATUS_RUNTIME, "%s: no such directory for scratch files", directory);
    }
    *bytes = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
    return STATUS_OK;
}

static void print_unit(const struct compute *u)
{
    char a[40], b[40], c[40], threads[32] = "";
    const struct curve *m = &u->matmul[FORMAT_F16];
    if (u->threads > 0) {
        snprintf(threads, sizeof threads, "%d threads, ", u->threads);
    }
    printf("%s: %s%s products %s at %.0f rows and %s at 1 row, attention over a cache %s\n", u->name, threads, u->math,
           units_format(m->y[m->n - 1], UNIT_FLOPS_PER_S, a, sizeof a), m->x[m->n - 1],
           units_format(m->y[0], UNIT_FLOPS_PER_S, b, sizeof b),
           units_format(u->attention_decode_bytes_per_s[FORMAT_F16], UNIT_BYTES_PER_S, c, sizeof c));
}

static void print_gpu_rates(const struct profile_gpu_rates *l, const struct link *link)
{
    const struct curve *staged = &link->pageable_read_bytes_per_s;
    char size[40], a[40], b[40], c[40];
    printf("GPU link, transfers of %s: pinned up %s, down %s, both at once %s each\n",
           units_format((double)l->bytes, UNIT_BYTES, size, sizeof size), units_format(l->up, UNIT_BYTES_PER_S, a, sizeof a),
           units_format(l->down, UNIT_BYTES_PER_S, b, sizeof b), units_format(l->both, UNIT_BYTES_PER_S, c, sizeof c));
    printf("    pageable up %s, down %s, both at once %s each\n", units_format(l->pageable_up, UNIT_BYTES_PER_S, a, sizeof a),
           units_format(l->pageable_down, UNIT_BYTES_PER_S, b, sizeof b),
           units_format(l->pageable_both, UNIT_BYTES_PER_S, c, sizeof c));
    printf("    pageable memory through a pinned buffer, as a run copies it: up %s; memory is page-locked at %s\n",
           units_format(staged->y[staged->n - 1], UNIT_BYTES_PER_S, a, sizeof a),
           units_format(link->pinning_bytes_per_s, UNIT_BYTES_PER_S, b, sizeof b));
    printf("GPU: 4-bit weights unpacked to %s of 16-bit ones\n", units_format(l->dequantise, UNIT_BYTES_PER_S, a, sizeof a));
}

static void print_contention(const struct hardware *hw, const struct contention *c)
{
    const char *before = "together: ";
    for (int r = 0; r < resource_count(hw); r++) {
        char name[40];
        if (c->share[r] > 0) {
            printf("%s%s takes %.0f %% of the %s", before, resource_name(hw, r, name), 100 * c->share[r], c->name);
            before = ", ";
        }
    }
    printf("\n");
}

static void print_summary(const struct hardware *hw, const struct profile_options *p, const char *path)
{
    const struct profile_steadiness *steady = p->steadiness;
    char a[40], b[40];
    for (int i = 0; i < hw->n_tiers - 1; i++) {
        const struct curve *read = &hw->link[i].read_bytes_per_s, *write = &hw->link[i].write_bytes_per_s;
        printf("%s->%s %s, back %s (large transfers)\n", hw->tier[i + 1].name, hw->tier[i].name,
               units_format(read->y[read->n - 1], UNIT_BYTES_PER_S, a, sizeof a),
               units_format(write->y[write->n - 1], UNIT_BYTES_PER_S, b, sizeof b));
    }
    for (int i = 0; i < hw->n_contentions; i++) {
        print_contention(hw, &hw->contention[i]);
    }
    for (int i = 0; i < hw->n_computes; i++) {
        print_unit(&hw->compute[i]);
    }
    if (p->gpu) {
        print_gpu_rates(p->gpu_rates, &hw->link[0]);
    }
    printf("from round to round: large reads %s to %s", units_format(steady->disk_read.low, UNIT_BYTES_PER_S, a, sizeof a),
           units_format(steady->disk_read.high, UNIT_BYTES_PER_S, b, sizeof b));
    printf(", products %s to %s\n", units_format(steady->product.low, UNIT_FLOPS_PER_S, a, sizeof a),
           units_format(steady->product.high, UNIT_FLOPS_PER_S, b, sizeof b));
    if (hardware_is_emulated(hw)) {
        printf("an emulated GPU: no rate of it means anything\n");
    }
    printf("profile written to %s\n", path);
}

/* The GPU's tools, if this machine has one and nothing else is asked for; `what` gets its name. */
static enum status find_gpu(const struct options *o, struct profile_options *p, char *what, size_t n, struct error *err)
{
    const struct gpu_tools *tools;
    struct gpu_system system;
    struct gpu_description device;
    if (o->no_gpu || o->emulate_device || gpu_tools_load(&tools, NULL) != STATUS_OK ||
        tools->system(&system, NULL) != STATUS_OK) {
        return STATUS_OK;
    }
    enum status status = tools->describe(0, &device, err);
    if (status == STATUS_OK) {
        p->gpu = tools;
        snprintf(what, n, "%s (driver %s) and ", device.name, system.driver[0] ? system.driver : "not known");
    }
    return status;
}

static enum status profile(const struct options *o, struct error *err)
{
    struct profile_options p = {.name = "this-machine",
                                .scratch_directory = o->scratch_dir ? o->scratch_dir : ".",
                                .device_bytes = 0,
                                .progress = say};
    struct hardware hw;
    struct profile_steadiness steady = {0};
    struct profile_gpu_rates rates = {0};
    double device;
    char source[320], cpu[96], gpu[160] = "";
    p.threads = o->threads ? (int)o->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    p.ram_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 10 * 9;
    if (o->emulate_device) {
        if (units_parse(o->emulate_device, UNIT_BYTES, &device) != 0 || device < 1) {
            return error_set(err, STATUS_INVALID, "--emulate-device: expected %s, found \"%s\"", units_expected(UNIT_BYTES),
                             o->emulate_device);
        }
        p.device_bytes = (int64_t)device;
        p.name = "this-machine-device";
        p.threads = o->threads ? p.threads : p.threads > 1 ? p.threads - 1 : 1; /* a core is left for the copies */
    }
    if (o->math && strcmp(o->math, "f32") != 0 && strcmp(o->math, "bf16") != 0) {
        return error_set(err, STATUS_INVALID, "--math: expected f32 or bf16, found \"%s\"", o->math);
    }
    p.math = o->math;
    p.rounds = (int)o->repetitions;
    p.steadiness = &steady;
    p.gpu_rates = &rates;
    enum status status = atomic_file_try(o->file, err);
    if (status == STATUS_OK) {
        status = find_gpu(o, &p, gpu, sizeof gpu, err);
    }
    if (status == STATUS_OK) {
        status = free_disk(p.scratch_directory, &p.disk_bytes, err);
    }
    if (status == STATUS_OK) {
        status = profile_measure(&hw, &p, err);
    }
    snprintf(source, sizeof source, "%s by ballast profile on %s%s", status == STATUS_OK && p.gpu ? hw.estimate : "measured", gpu,
             cpu_describe(cpu, sizeof cpu));
    if (status == STATUS_OK) {
        status = hardware_save(&hw, o->file, source, err);
    }
    if (status == STATUS_OK) {
        print_summary(&hw, &p, o->file);
    }
    return status;
}

int cmd_profile(int argc, char **argv)
{
    static const struct command_usage USAGE = {
        "profile", "-o FILE [--scratch-dir DIR] [OPTIONS]",
        "Measures disk, copies, matrix products and attention on this machine, through the code that a run uses, into a hardware\n"
        "profile. A GPU that \"ballast devices\" lists becomes its first tier. Takes 2 GiB of the disk at --scratch-dir, the one\n"
        "that is measured. Run nothing else meanwhile.",
        OPTION_FILE | OPTION_SCRATCH | OPTION_THREADS | OPTION_PROFILE};
    struct options o;
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (!o.file) {
        error_set(&err, STATUS_INVALID, "-o/--output is missing: give the file to write");
    } else {
        profile(&o, &err);
    }
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
