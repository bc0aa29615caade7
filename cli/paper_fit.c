#include "cli/paper_fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/interval.h"
#include "solver/fit.h"

#define GIGA 1e9
#define TERA 1e12
#define MIB  1048576.0

enum rate {
    MATMUL,
    MEMORY,
    ATTENTION_PREFILL,
    ATTENTION_DECODE,
    CPU_ATTENTION,
    DEQUANTISE,
    LINK,
    STAGING_SMALL,
    STAGING_LARGE,
    PAGEABLE_WRITE,
    DISK_READ,
    DISK_WRITE,
    LAUNCH,
    CPU_LAUNCH,
    RATES
};

#define FIXED(name, value)                                                                                                       \
    {                                                                                                                            \
        name, (value), (value), (value)                                                                                          \
    }

/* What a data sheet, another table or FlexGen's own calibration of this machine says is taken from there (facts/flexgen.md, flexgen_costmodel_constants.csv,
 * hardware.csv). Four rates are fitted, each known to several rows; their bounds are physical and none binds. The bounds of the two staging rates
 * and of dequantisation were set after first fits had been seen, but wide of them. */
static const struct rate_choice {
    struct fit_parameter p;
    const char *source;
} RATE[RATES] = {
    [MATMUL] = {FIXED("gpu matmul", 21.24 * TERA), "FlexGen's mm_flops_p; table 8's compute time means 20.6"},
    [MEMORY] = {FIXED("gpu memory", 320 * GIGA), "data sheet"},
    [ATTENTION_PREFILL] = {FIXED("gpu attention in prefill", 4.985 * TERA), "FlexGen's bmm_flops_p, halved: visible pairs only"},
    [ATTENTION_DECODE] = {FIXED("gpu attention in decode", 79 * GIGA), "FlexGen's bmm_flops_g, a byte per FLOP"},
    [CPU_ATTENTION] = {{"cpu attention in decode", 12.3 * GIGA, 1.23 * GIGA, 128 * GIGA},
                       "starts at FlexGen's cpu_flops; a tenth of it (its floor for small sizes) to six channels of DDR4-2666"},
    [DEQUANTISE] = {{"dequantise", 32 * GIGA, 16 * GIGA, 42 * GIGA},
                    "gpu memory over 20 and over 7.5: passes over the 16-bit bytes, of which FlexGen's code makes at least 7.5"},
    [LINK] = {FIXED("cpu-gpu link", 12.1 * GIGA), "PCIe 3 x16, measured elsewhere"},
    [STAGING_SMALL] = {{"staging, copies of 32 MiB", 12 * GIGA, 1.04 * GIGA, 64 * GIGA},
                       "FlexGen's gtoc_bdw_cache, the slowest copy, to half of the CPU's memory: read and written"},
    [STAGING_LARGE] = {{"staging, copies of 512 MiB", 6 * GIGA, 1.04 * GIGA, 64 * GIGA}, "as the small ones"},
    [PAGEABLE_WRITE] = {FIXED("pageable write", 1.04 * GIGA), "FlexGen's gtoc_bdw_cache"},
    [DISK_READ] = {FIXED("disk read", 2.8 * GIGA), "table 8's cache read; dd has 1.6"},
    [DISK_WRITE] = {FIXED("disk write", 2.4 * GIGA), "table 8's cache write; dd has 1.3"},
    [LAUNCH] = {FIXED("gpu launch", 50e-6), "t4-gcp: ten kernels"},
    [CPU_LAUNCH] = {FIXED("cpu launch", 20e-6), "t4-gcp"},
};

struct fit_row {
    const struct published_row *row;
    struct setting s;
    int group;
};

struct data {
    struct hardware base; /* what is not fitted */
    int n;
    struct fit_row *row; /* (n) owned */
    int n_groups;
    char group[8][40];
};

/* -- from rates to a machine ------------------------------------------------------------------------------------------------ */

static struct curve constant(double size, double rate)
{
    return (struct curve){.n = 1, .x = {size}, .y = {rate}};
}

/* The weights are read once, and then the products are computed: seconds of one weight element for `rows` rows. */
static double product_s(const double *v, double rows)
{
    return 2 / v[MEMORY] + 2 * rows / v[MATMUL];
}

static void set_products(struct compute *gpu, const double *v)
{
    struct curve f16 = {.n = 17}, q4 = {.n = 17};
    for (int i = 0; i < f16.n; i++) {
        double rows = ldexp(1, i);
        f16.x[i] = q4.x[i] = rows;
        f16.y[i] = 2 * rows / product_s(v, rows);
        q4.y[i] = 2 * rows / (product_s(v, rows) + 2 / v[DEQUANTISE]);
    }
    memset(gpu->matmul, 0, sizeof gpu->matmul);
    gpu->matmul[FORMAT_F16] = f16;
    gpu->matmul[FORMAT_Q4] = q4;
}

static void set_rates(struct hardware *hw, const double *v)
{
    struct compute *gpu = &hw->compute[0], *cpu = &hw->compute[1];
    const double size = 64.0 * 1024 * 1024;
    set_products(gpu, v);
    gpu->memory_bytes_per_s = v[MEMORY];
    gpu->attention_prefill_flops_per_s = v[ATTENTION_PREFILL];
    memset(gpu->attention_decode_bytes_per_s, 0, sizeof gpu->attention_decode_bytes_per_s);
    gpu->attention_decode_bytes_per_s[FORMAT_F16] = v[ATTENTION_DECODE];
    gpu->attention_decode_bytes_per_s[FORMAT_Q4] = 0.5625 / (2 / v[ATTENTION_DECODE] + 2 / v[DEQUANTISE]);
    gpu->launch_s = v[LAUNCH];
    gpu->whole_batch = true;
    cpu->attention_decode_bytes_per_s[FORMAT_F16] = v[CPU_ATTENTION];
    cpu->launch_s = v[CPU_LAUNCH];
    hw->link[0].read_bytes_per_s = hw->link[0].write_bytes_per_s = constant(size, v[LINK]);
    hw->link[1].read_bytes_per_s = constant(size, v[DISK_READ]);
    hw->link[1].write_bytes_per_s = constant(size, v[DISK_WRITE]);
    hw->runtime =
        (struct runtime){.staging_bytes_per_s = {.n = 2, .x = {32 * MIB, 512 * MIB}, .y = {v[STAGING_SMALL], v[STAGING_LARGE]}},
                         .pageable_write_bytes_per_s = v[PAGEABLE_WRITE],
                         .dequantise_bytes_per_s = v[DEQUANTISE]};
}

/* One Python thread launches the GPU's work and is blocked by the CPU's; one pool of threads copies from and to the disk, and what
 * comes from there on to the GPU. */
static void set_groups(struct hardware *hw)
{
    struct contention thread = {.name = "host-thread"}, drive = {.name = "drive"};
    thread.share[resource_compute(hw, 0)] = thread.share[resource_compute(hw, 1)] = 1;
    drive.share[resource_link_read(1)] = drive.share[resource_link_write(1)] = 1;
    hw->n_contentions = 2;
    hw->contention[0] = thread;
    hw->contention[1] = drive;
}

/* -- rows ------------------------------------------------------------------------------------------------------------------------ */

/* Rows of FlexGen's own runs that say something of their own: of tables 14 to 16 and 3 those of its systems, of table 4 all but "All optimizations"
 * (table 15's again); two digits at least. Table 8 has given the disk's rates, table 24 is left to test them. */
static bool is_fitted(const struct published_row *row)
{
    const char *t = row->table;
    bool own = strncmp(row->system, "FlexGen", 7) == 0;
    bool main_table = strcmp(t, "14") == 0 || strcmp(t, "15") == 0 || strcmp(t, "16") == 0 || strcmp(t, "3") == 0;
    bool ablation = strcmp(t, "4") == 0 && strcmp(row->system, "All optimizations") != 0;
    return row->value >= 0.1 && ((own && main_table) || ablation);
}

/* Table 3 has the decode rates of table 15's runs: both are left out together. */
static int group_of(struct data *d, const struct published_row *row)
{
    const char *name = strcmp(row->table, "3") == 0 ? "15" : row->table;
    int g = 0;
    while (g < d->n_groups && strcmp(d->group[g], name) != 0)
        g++;
    if (g == d->n_groups)
        snprintf(d->group[d->n_groups++], sizeof d->group[0], "%s", name);
    return g;
}

static enum status open_rows(struct data *d, const struct published *p, struct error *err)
{
    enum status status = hardware_load(&d->base, "t4-gcp", err);
    d->row = calloc((size_t)p->n + 1, sizeof *d->row);
    if (!d->row)
        return error_set(err, STATUS_RUNTIME, "out of memory");
    for (int i = 0; i < p->n && status == STATUS_OK; i++) {
        bool fits;
        struct fit_row *r = &d->row[d->n];
        if (!is_fitted(&p->row[i]))
            continue;
        r->row = &p->row[i];
        r->group = group_of(d, r->row);
        /* only for the placement, which no rate has a part in: t4-gcp itself has none for pageable weights */
        status = published_open(r->row, "t4-flexgen", &r->s, &fits, err);
        d->n++;
    }
    return status;
}

static void close_rows(struct data *d)
{
    for (int i = 0; d->row && i < d->n; i++)
        setting_close(&d->row[i].s);
    free(d->row);
}

static struct hardware machine_at(const struct data *d, const double *value)
{
    struct hardware hw = d->base;
    set_rates(&hw, value);
    set_groups(&hw);
    return hw;
}

static enum status predict_on(struct setting *s, const struct hardware *hw, struct prediction *p, struct error *err)
{
    enum status status = cost_build(&s->cost, &s->arch, hw, &s->workload, &s->policy, err);
    if (status == STATUS_OK)
        cost_predict(&s->cost, (const double(*)[TIERS_MAX])s->placement.realised, p);
    return status;
}

static enum status residuals(const double *value, double *out, void *arg, struct error *err)
{
    struct data *d = arg;
    struct hardware hw = machine_at(d, value);
    for (int i = 0; i < d->n; i++) {
        struct setting *s = &d->row[i].s;
        struct prediction p;
        enum status status = predict_on(s, &hw, &p, err);
        if (status != STATUS_OK)
            return status;
        out[i] = log(published_metric(d->row[i].row->metric, s, p.prefill_s, p.decode_s) / d->row[i].row->value);
    }
    return STATUS_OK;
}

/* -- the error bar ---------------------------------------------------------------------------------------------------------------- */

/* Of every resource, the parts of the rows' times that it is busy, added up; divided by `latency_s` (n), or by the rows' own if that is not
 * there yet. */
static enum status busy_parts(struct data *d, const double *value, double *latency_s, bool known, double part[RESOURCES_MAX],
                              struct error *err)
{
    struct hardware hw = machine_at(d, value);
    memset(part, 0, RESOURCES_MAX * sizeof *part);
    for (int i = 0; i < d->n; i++) {
        struct setting *s = &d->row[i].s;
        struct prediction p;
        enum status status = predict_on(s, &hw, &p, err);
        if (status != STATUS_OK)
            return status;
        latency_s[i] = known ? latency_s[i] : p.latency_s;
        for (int r = 0; r < resource_count(&hw); r++)
            part[r] += (p.busy_s[PHASE_PREFILL][r] + p.busy_s[PHASE_DECODE][r]) / latency_s[i];
    }
    return STATUS_OK;
}

/* Of a resource's time: what the rows scatter about the fit, which is the model's error as much as the rates', and the errors of the fitted
 * rates carried through to it. docs/calibrate.md, "Spread". */
static enum status set_spreads(struct data *d, const struct fit_result *r, struct hardware *hw, struct error *err)
{
    const double step = 1e-4;
    double value[RATES], low[RESOURCES_MAX], high[RESOURCES_MAX], slope[RESOURCES_MAX][RATES] = {{0}};
    double *latency_s = calloc((size_t)d->n, sizeof *latency_s);
    if (!latency_s)
        return error_set(err, STATUS_RUNTIME, "out of memory");
    for (int i = 0; i < RATES; i++)
        value[i] = r->estimate[i].value;
    enum status status = busy_parts(d, value, latency_s, false, low, err);
    for (int i = 0; i < RATES && status == STATUS_OK; i++) {
        if (r->estimate[i].state != FIT_DETERMINED)
            continue;
        value[i] = r->estimate[i].value * exp(-step);
        status = busy_parts(d, value, latency_s, true, low, err);
        value[i] = r->estimate[i].value * exp(step);
        status = status == STATUS_OK ? busy_parts(d, value, latency_s, true, high, err) : status;
        value[i] = r->estimate[i].value;
        for (int k = 0; k < resource_count(hw); k++)
            slope[k][i] = low[k] > 0 ? log(high[k] / low[k]) / (2 * step) : 0;
    }
    for (int k = 0; k < resource_count(hw); k++)
        resource_set_spread(hw, k, sqrt(r->variance + fit_carried_variance(r, RATES, slope[k])));
    free(latency_s);
    return status;
}

/* -- the report -------------------------------------------------------------------------------------------------------------------- */

static enum status print_rates(const struct fit_result *r, enum output_format format, struct error *err)
{
    struct table t;
    table_init(&t);
    table_column(&t, "rate", COLUMN_TEXT);
    table_column(&t, "value", COLUMN_NUMBER);
    table_column(&t, "error_percent", COLUMN_NUMBER);
    table_column(&t, "state", COLUMN_TEXT);
    table_column(&t, "lower", COLUMN_NUMBER);
    table_column(&t, "upper", COLUMN_NUMBER);
    table_column(&t, "source", COLUMN_TEXT);
    for (int i = 0; i < RATES; i++) {
        table_text(&t, RATE[i].p.name);
        table_number(&t, r->estimate[i].value);
        table_number(&t, 100 * r->estimate[i].relative);
        table_text(&t, fit_state_name(r->estimate[i].state));
        table_number(&t, RATE[i].p.lower);
        table_number(&t, RATE[i].p.upper);
        table_text(&t, RATE[i].source);
    }
    enum status status = table_write(&t, format, stdout, err);
    table_free(&t);
    return status;
}

static enum status print_rows(const struct data *d, const double *in_sample, const double *left_out, enum output_format format,
                              struct error *err)
{
    struct table t;
    table_init(&t);
    published_columns(&t);
    table_column(&t, "error_percent", COLUMN_NUMBER);
    table_column(&t, "left_out_percent", COLUMN_NUMBER);
    for (int i = 0; i < d->n; i++) {
        published_cells(&t, d->row[i].row);
        table_number(&t, 100 * (exp(in_sample[i]) - 1));
        table_number(&t, 100 * (exp(left_out[i]) - 1));
    }
    printf("\n");
    enum status status = table_write(&t, format, stdout, err);
    table_free(&t);
    return status;
}

/* Mean and worst of |predicted / published - 1| over the rows of a group; -1: all. */
static void print_errors(const char *name, const struct data *d, int group, const double *in_sample, const double *left_out)
{
    double sum[2] = {0, 0}, worst[2] = {0, 0};
    int n = 0;
    for (int i = 0; i < d->n; i++) {
        double e[2] = {fabs(exp(in_sample[i]) - 1), fabs(exp(left_out[i]) - 1)};
        if (group >= 0 && d->row[i].group != group)
            continue;
        n++;
        for (int k = 0; k < 2; k++) {
            sum[k] += e[k];
            worst[k] = fmax(worst[k], e[k]);
        }
    }
    printf("%s, %d rows: off by %.1f %% on average and %.1f %% at worst; left out, %.1f %% and %.1f %%.\n", name, n,
           100 * sum[0] / n, 100 * worst[0], 100 * sum[1] / n, 100 * worst[1]);
}

static enum status report(struct data *d, const struct fit_problem *problem, const struct fit_result *r,
                          enum output_format format, struct error *err)
{
    double value[RATES], *in_sample = calloc((size_t)d->n * 2, sizeof *in_sample);
    int *group = calloc((size_t)d->n, sizeof *group);
    enum status status = in_sample && group ? print_rates(r, format, err) : error_set(err, STATUS_RUNTIME, "out of memory");
    for (int i = 0; i < RATES; i++)
        value[i] = r->estimate[i].value;
    for (int i = 0; group && i < d->n; i++)
        group[i] = d->row[i].group;
    if (status == STATUS_OK)
        status = residuals(value, in_sample, d, err);
    if (status == STATUS_OK)
        status = fit_leave_out(problem, group, d->n_groups, in_sample + d->n, err);
    if (status == STATUS_OK && format == OUTPUT_MD)
        status = print_rows(d, in_sample, in_sample + d->n, format, err);
    if (status == STATUS_OK && format == OUTPUT_MD) {
        printf("\n");
        for (int g = 0; g < d->n_groups; g++) {
            char name[60];
            snprintf(name, sizeof name, "Table %s", strcmp(d->group[g], "15") == 0 ? "15 with 3" : d->group[g]);
            print_errors(name, d, g, in_sample, in_sample + d->n);
        }
        print_errors("All", d, -1, in_sample, in_sample + d->n);
    }
    free(in_sample);
    free(group);
    return status;
}

enum status paper_fit(const struct published *p, const char *path, enum output_format format, struct error *err)
{
    static const char source[] =
        "`ballast paper flexgen fit` (papers/flexgen/fit.md): attention on the CPU, dequantisation and staging copies are fitted to FlexGen's rows of tables "
        "3, 4 and 14 to 16; the other rates of links, products, attention and copies are fixed to what it names beside them. Products: 2 bytes per weight at "
        "the memory rate plus 2 FLOP per row; q4 adds the dequantisation. Spreads: the scatter of the rows, and the errors of the fitted rates carried through. Capacities, latencies, launch times, workspaces, CPU products: of t4-gcp.";
    struct data d = {0};
    struct fit_parameter parameter[RATES];
    struct fit_result r;
    enum status status = open_rows(&d, p, err);
    struct fit_problem problem = {.n_parameters = RATES,
                                  .n_residuals = d.n,
                                  .parameter = parameter,
                                  .huber = 0.1,
                                  .starts = 4,
                                  .residuals = residuals,
                                  .arg = &d};
    for (int i = 0; i < RATES; i++)
        parameter[i] = RATE[i].p;
    if (status == STATUS_OK)
        status = fit_solve(&problem, &r, err);
    if (status == STATUS_OK)
        status = report(&d, &problem, &r, format, err);
    if (status == STATUS_OK && path) {
        double value[RATES];
        for (int i = 0; i < RATES; i++)
            value[i] = r.estimate[i].value;
        set_rates(&d.base, value);
        set_groups(&d.base);
        snprintf(d.base.name, sizeof d.base.name, "t4-flexgen");
        status = set_spreads(&d, &r, &d.base, err);
        if (status == STATUS_OK)
            status = hardware_save(&d.base, path, source, err);
    }
    close_rows(&d);
    return status;
}
