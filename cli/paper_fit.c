#include "cli/paper_fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "solver/fit.h"

#define GIGA 1e9
#define TERA 1e12

enum rate {
    MATMUL,
    MEMORY,
    ATTENTION_PREFILL,
    ATTENTION_DECODE,
    CPU_ATTENTION,
    DEQUANTISE,
    LINK,
    STAGING,
    PAGEABLE_WRITE,
    DISK_READ,
    DISK_WRITE,
    LAUNCH,
    CPU_LAUNCH,
    RATES
};

/* Start and bounds. Memory, link and CPU: up to the data sheet (facts/hardware.csv: T4, PCIe 3 x16, six channels of DDR4-2666). Products: a quarter around
 * the 20.6 TFLOP/s that table 8's compute time means for a prefill of 256 prompts (data sheet: 65.13, which a T4 of 70 W cannot hold); without that the
 * rows would trade them for the cache's way down. Disk: between dd and what table 8's breakdown implies. CPU launch: about ten operators of a framework, of
 * at most 1 ms; the rows know only its sum with attention. */
static const struct fit_parameter RATE[RATES] = {
    [MATMUL] = {"gpu matmul", 21 * TERA, 15 * TERA, 26 * TERA},
    [MEMORY] = {"gpu memory", 256 * GIGA, 160 * GIGA, 320 * GIGA},
    [ATTENTION_PREFILL] = {"gpu attention in prefill", 2 * TERA, 0.3 * TERA, 9.97 * TERA},
    [ATTENTION_DECODE] = {"gpu attention in decode", 79 * GIGA, 20 * GIGA, 320 * GIGA},
    [CPU_ATTENTION] = {"cpu attention in decode", 12.3 * GIGA, 3 * GIGA, 128 * GIGA},
    [DEQUANTISE] = {"dequantise", 28 * GIGA, 5 * GIGA, 320 * GIGA},
    [LINK] = {"cpu-gpu link", 12.1 * GIGA, 10 * GIGA, 15.75 * GIGA},
    [STAGING] = {"staging copy", 5 * GIGA, 1 * GIGA, 64 * GIGA},
    [PAGEABLE_WRITE] = {"pageable write", 1.04 * GIGA, 0.5 * GIGA, 15.75 * GIGA},
    [DISK_READ] = {"disk read", 2 * GIGA, 1.6 * GIGA, 2.8 * GIGA},
    [DISK_WRITE] = {"disk write", 1.3 * GIGA, 1 * GIGA, 2.4 * GIGA},
    [LAUNCH] = {"gpu launch", 0.5e-3, 0.01e-3, 5e-3},
    [CPU_LAUNCH] = {"cpu launch", 5e-3, 0.01e-3, 10e-3},
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
    cpu->attention_decode_bytes_per_s[FORMAT_F16] = v[CPU_ATTENTION];
    cpu->launch_s = v[CPU_LAUNCH];
    hw->link[0].read_bytes_per_s = hw->link[0].write_bytes_per_s = constant(size, v[LINK]);
    hw->link[1].read_bytes_per_s = constant(size, v[DISK_READ]);
    hw->link[1].write_bytes_per_s = constant(size, v[DISK_WRITE]);
    hw->runtime = (struct runtime){.staging_bytes_per_s = v[STAGING],
                                   .pageable_write_bytes_per_s = v[PAGEABLE_WRITE],
                                   .dequantise_bytes_per_s = v[DEQUANTISE]};
}

/* One Python thread launches the GPU's work and is blocked by the CPU's; one pool of threads copies from and to the disk, and what
 * comes from there on to the GPU. */
static void set_groups(struct hardware *hw)
{
    struct contention thread = {.name = "host-thread"}, copies = {.name = "copy-threads"};
    thread.share[resource_compute(hw, 0)] = thread.share[resource_compute(hw, 1)] = 1;
    copies.share[resource_link_read(0)] = copies.share[resource_link_read(1)] = copies.share[resource_link_write(1)] = 1;
    hw->n_contentions = 2;
    hw->contention[0] = thread;
    hw->contention[1] = copies;
}

/* -- rows ------------------------------------------------------------------------------------------------------------------------ */

/* Rows of FlexGen's own runs that say something of their own: of tables 14 to 16 and 3 those of its systems, of table 4 all but "All optimizations"
 * (table 15's again); two digits at least. Tables 8 and 24 contradict these and are only reported. */
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
        status = published_open(r->row, "t4-gcp", &r->s, &fits, err);
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

static enum status residuals(const double *value, double *out, void *arg, struct error *err)
{
    struct data *d = arg;
    struct hardware hw = d->base;
    set_rates(&hw, value);
    set_groups(&hw);
    for (int i = 0; i < d->n; i++) {
        struct setting *s = &d->row[i].s;
        struct prediction p;
        enum status status = cost_build(&s->cost, &s->arch, &hw, &s->workload, &s->policy, err);
        if (status != STATUS_OK)
            return status;
        cost_predict(&s->cost, s->policy.fraction, &p);
        out[i] = log(published_metric(d->row[i].row->metric, s, p.prefill_s, p.decode_s) / d->row[i].row->value);
    }
    return STATUS_OK;
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
    for (int i = 0; i < RATES; i++) {
        table_text(&t, RATE[i].name);
        table_number(&t, r->estimate[i].value);
        table_number(&t, 100 * r->estimate[i].relative);
        table_text(&t, fit_state_name(r->estimate[i].state));
        table_number(&t, RATE[i].lower);
        table_number(&t, RATE[i].upper);
    }
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
        "Rates of the links, of attention, of products, of copies and the two launch times: fitted by `ballast paper flexgen fit` to FlexGen's rows of "
        "tables 3, 4 and 14 to 16, inside the bounds that it prints; papers/flexgen/README.md. Products: 2 bytes per weight at the memory rate plus 2 "
        "FLOP per row at the fitted rate; q4 adds the fitted dequantisation. Capacities, latencies, workspaces, CPU products: of t4-gcp.";
    struct data d = {0};
    struct fit_result r;
    enum status status = open_rows(&d, p, err);
    struct fit_problem problem = {.n_parameters = RATES,
                                  .n_residuals = d.n,
                                  .parameter = RATE,
                                  .huber = 0.1,
                                  .starts = 4,
                                  .residuals = residuals,
                                  .arg = &d};
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
        status = hardware_save(&d.base, path, source, err);
    }
    close_rows(&d);
    return status;
}
