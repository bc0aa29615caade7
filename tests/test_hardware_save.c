/* Machines written to files: what is saved loads again, and a failure loses nothing. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/hardware.h"

static struct hardware preset(const char *name)
{
    struct hardware hw;
    struct error err = {0};
    cr_assert_eq(hardware_load(&hw, name, &err), STATUS_OK, "%s", err.text);
    cr_assert_str_eq(hw.name, name);
    return hw;
}

/* A directory that disappears with the test. */
static char directory[] = "/tmp/ballast-test-XXXXXX";
static char path[64];

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/hw.json", directory);
}

static void tear_down(void)
{
    unlink(path);
    cr_assert_eq(rmdir(directory), 0, "%s: something is left behind", directory);
}

/* The relation that nine digits keep. */
static void same(double a, double b)
{
    cr_assert_leq(fabs(a - b), 5.001e-9 * fabs(a), "%.17g became %.17g", a, b);
}

static void same_curve(const struct curve *a, const struct curve *b)
{
    cr_assert_eq(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        cr_assert_eq(a->x[i], b->x[i], "sizes and rows are exact: %.17g became %.17g", a->x[i], b->x[i]);
        same(a->y[i], b->y[i]);
    }
}

static void same_compute(const struct compute *a, const struct compute *b)
{
    cr_assert_str_eq(a->name, b->name);
    cr_assert_str_eq(a->math, b->math);
    cr_assert(a->tier == b->tier && a->activation == b->activation && a->threads == b->threads &&
              a->workspace_bytes == b->workspace_bytes);
    for (int f = 0; f < FORMAT_COUNT; f++) {
        same_curve(&a->matmul[f], &b->matmul[f]);
        same(a->attention_decode_bytes_per_s[f], b->attention_decode_bytes_per_s[f]);
    }
    same(a->attention_prefill_flops_per_s, b->attention_prefill_flops_per_s);
    same(a->memory_bytes_per_s, b->memory_bytes_per_s);
    same(a->launch_s, b->launch_s);
    same(a->spread, b->spread);
}

static void same_hardware(const struct hardware *a, const struct hardware *b)
{
    cr_assert_str_eq(a->name, b->name);
    cr_assert_str_eq(a->estimate, b->estimate);
    cr_assert(a->n_tiers == b->n_tiers && a->n_computes == b->n_computes);
    for (int i = 0; i < a->n_tiers; i++) {
        cr_assert_str_eq(a->tier[i].name, b->tier[i].name);
        cr_assert(a->tier[i].kind == b->tier[i].kind && a->tier[i].capacity_bytes == b->tier[i].capacity_bytes);
    }
    for (int i = 0; i + 1 < a->n_tiers; i++) {
        same_curve(&a->link[i].read_bytes_per_s, &b->link[i].read_bytes_per_s);
        same_curve(&a->link[i].write_bytes_per_s, &b->link[i].write_bytes_per_s);
        same_curve(&a->link[i].pageable_read_bytes_per_s, &b->link[i].pageable_read_bytes_per_s);
        same(a->link[i].pinning_bytes_per_s, b->link[i].pinning_bytes_per_s);
        same(a->link[i].read_latency_s, b->link[i].read_latency_s);
        same(a->link[i].write_latency_s, b->link[i].write_latency_s);
        same(a->link[i].read_spread, b->link[i].read_spread);
        same(a->link[i].write_spread, b->link[i].write_spread);
    }
    for (int i = 0; i < a->n_computes; i++)
        same_compute(&a->compute[i], &b->compute[i]);
}

static unsigned short seed[3] = {4, 8, 15};

static double magnitude(double low, double high)
{
    return pow(10, low + erand48(seed) * (high - low));
}

static int below(int n)
{
    return (int)(erand48(seed) * n);
}

static struct curve random_curve(void)
{
    struct curve c = {.n = 1 + below(CURVE_MAX)};
    double x = 0;
    for (int i = 0; i < c.n; i++) {
        c.x[i] = x += 1 + below(1000000);
        c.y[i] = magnitude(3, 15);
    }
    return c;
}

static struct compute random_compute(int tier)
{
    struct compute c = {.tier = tier, .threads = below(100), .activation = below(2) ? FORMAT_F16 : FORMAT_F32};
    snprintf(c.name, sizeof c.name, "unit_%d", tier);
    snprintf(c.math, sizeof c.math, "%s", (const char *[]){"f32", "bf16", "f16"}[below(3)]);
    for (int f = 0; f < FORMAT_COUNT; f++)
        if (f == FORMAT_F16 || below(2)) {
            c.matmul[f] = random_curve();
            c.attention_decode_bytes_per_s[f] = magnitude(3, 13);
        }
    c.attention_prefill_flops_per_s = magnitude(6, 15);
    c.memory_bytes_per_s = magnitude(6, 13);
    c.launch_s = below(4) ? magnitude(-8, 0) : 0;
    c.workspace_bytes = below(1 << 30);
    c.spread = below(2) ? magnitude(-4, 0) : 0;
    return c;
}

static struct hardware random_hardware(void)
{
    struct hardware hw = {.n_tiers = 2 + below(TIERS_MAX - 1)};
    snprintf(hw.name, sizeof hw.name, "random-%d", below(1000));
    snprintf(hw.estimate, sizeof hw.estimate, "%s", (const char *[]){"measured", "mixed", "datasheet", "emulated"}[below(4)]);
    for (int i = 0; i < hw.n_tiers; i++) {
        snprintf(hw.tier[i].name, sizeof hw.tier[i].name, "tier%d", i);
        hw.tier[i].kind = i + 1 == hw.n_tiers ? TIER_DISK : i == 0 && below(2) ? TIER_DEVICE : TIER_HOST;
        hw.tier[i].capacity_bytes = 1 + (int64_t)magnitude(0, 15);
    }
    for (int i = 0; i + 1 < hw.n_tiers; i++)
        hw.link[i] = (struct link){random_curve(),
                                   random_curve(),
                                   below(2) ? random_curve() : (struct curve){.n = 0},
                                   below(2) ? magnitude(3, 12) : 0,
                                   magnitude(-7, -1),
                                   below(3) ? magnitude(-7, -1) : 0,
                                   magnitude(-4, 0),
                                   below(2) ? magnitude(-4, 0) : 0};
    hw.n_computes = hw.n_tiers > 2 ? 1 + below(2) : 1;
    for (int i = 0; i < hw.n_computes; i++)
        hw.compute[i] = random_compute(i);
    return hw;
}

Test(hardware_save, what_is_saved_loads_again, .init = set_up, .fini = tear_down)
{
    fprintf(stderr, "seed %d %d %d\n", seed[0], seed[1], seed[2]);
    for (int i = 0; i < 60; i++) {
        struct hardware hw = random_hardware(), again;
        struct error err = {0};
        cr_assert_eq(hardware_save(&hw, path, "a \"quoted\"\n\\ source, caf\xc3\xa9", &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(hardware_load(&again, path, &err), STATUS_OK, "%s", err.text);
        same_hardware(&hw, &again);
    }
}

/* A run beside others measures a link that varies a hundredfold: the rest of it is worth keeping. */
Test(hardware_save, a_spread_beyond_the_format_is_its_largest, .init = set_up, .fini = tear_down)
{
    struct hardware hw = preset("t4-gcp"), again;
    struct error err = {0};
    hw.link[1].write_spread = 4.6;
    hw.compute[0].spread = 2.1;
    cr_assert_eq(hardware_save(&hw, path, "noisy", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_load(&again, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(again.link[1].write_spread, 2);
    cr_assert_eq(again.compute[0].spread, 2);
}

/* The whole file, which the caller frees. */
static char *contents(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_gt(getdelim(&text, &size, EOF, f), 0);
    fclose(f);
    return text;
}

Test(hardware_save, saved_twice_is_the_same_file, .init = set_up, .fini = tear_down)
{
    struct hardware hw = random_hardware();
    struct error err = {0};
    cr_assert_eq(hardware_save(&hw, path, "copy", &err), STATUS_OK, "%s", err.text);
    char *first = contents();
    cr_assert_eq(hardware_load(&hw, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_save(&hw, path, "copy", &err), STATUS_OK, "%s", err.text);
    char *second = contents();
    cr_assert_str_eq(first, second);
    free(first);
    free(second);
}

static off_t size_of_file(void)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

Test(hardware_save, a_full_disk_keeps_the_old_file, .init = set_up, .fini = tear_down)
{
    struct hardware hw = preset("t4-gcp");
    struct error err = {0};
    cr_assert_eq(hardware_save(&hw, path, "old", &err), STATUS_OK, "%s", err.text);
    off_t before = size_of_file();
    /* A limit on file sizes fails in write() like a full disk does. */
    struct rlimit limit, old;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){.rlim_cur = 1000, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    enum status status = hardware_save(&hw, path, "new and longer", &err);
    setrlimit(RLIMIT_FSIZE, &old);
    cr_assert_eq(status, STATUS_RUNTIME);
    cr_assert(strstr(err.text, "hw.json: cannot write, any old file is kept: File too large"), "%s", err.text);
    cr_assert_eq(size_of_file(), before);
    cr_assert_eq(hardware_load(&hw, path, NULL), STATUS_OK);
}

Test(hardware_save, what_could_not_be_loaded_is_not_saved, .init = set_up, .fini = tear_down)
{
    struct hardware hw = preset("l4"), broken = hw;
    struct error rate = {0}, source = {0}, bytes = {0};
    cr_assert_eq(hardware_save(&hw, path, "old", NULL), STATUS_OK);
    off_t before = size_of_file();
    broken.compute[0].memory_bytes_per_s = 0;
    cr_assert_eq(hardware_save(&broken, path, "new", &rate), STATUS_INVALID);
    cr_assert(strstr(rate.text, "memory_bandwidth"), "%s", rate.text);
    cr_assert_eq(hardware_save(&hw, path, "", &source), STATUS_INVALID);
    cr_assert(strstr(source.text, "source"), "%s", source.text);
    cr_assert_eq(hardware_save(&hw, path, "\xff", &bytes), STATUS_INVALID);
    cr_assert(strstr(bytes.text, "UTF-8"), "%s", bytes.text);
    cr_assert_eq(size_of_file(), before);
}

Test(hardware_save, places_that_cannot_be_written)
{
    struct hardware hw = preset("l4");
    struct error absent = {0}, is_directory = {0};
    cr_assert_eq(hardware_save(&hw, "/no/such/directory/hw.json", "x", &absent), STATUS_RUNTIME);
    cr_assert(strstr(absent.text, "No such file or directory"), "%s", absent.text);
    cr_assert_eq(hardware_save(&hw, "/tmp", "x", &is_directory), STATUS_RUNTIME);
    cr_assert(strstr(is_directory.text, "Is a directory"), "%s", is_directory.text);
}

Test(hardware_save, a_link_is_followed_and_the_mode_kept, .init = set_up, .fini = tear_down)
{
    struct hardware hw = preset("l4");
    struct stat st;
    char name[64];
    snprintf(name, sizeof name, "%s/link", directory);
    cr_assert_eq(hardware_save(&hw, path, "x", NULL), STATUS_OK);
    cr_assert_eq(chmod(path, 0640), 0);
    cr_assert_eq(symlink("hw.json", name), 0);
    cr_assert_eq(hardware_save(&hw, name, "y", NULL), STATUS_OK);
    cr_assert(lstat(name, &st) == 0 && S_ISLNK(st.st_mode));
    cr_assert(stat(path, &st) == 0 && (st.st_mode & 07777) == 0640);
    unlink(name);
}
