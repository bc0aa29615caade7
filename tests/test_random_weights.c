/* Models with random weights: the values, the files, what a second run finds, and what a failing one leaves. */
#define _GNU_SOURCE 1
#include <criterion/criterion.h>

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor/random_weights.h"

static char dir[] = "/tmp/ballast-test-random-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void make_dir(void)
{
    cr_assert(mkdtemp(dir));
}

static void remove_dir(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path below the test's directory; the caller frees it. */
static char *in_dir(const char *name)
{
    char *path = NULL;
    cr_assert(asprintf(&path, "%s/%s", dir, name) > 0);
    return path;
}

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static struct arch make_arch(int64_t hidden, int64_t blocks, const char *dtype)
{
    struct arch a;
    struct error err = {0};
    char text[600];
    snprintf(text, sizeof text,
             "{\"model_type\":\"opt\",\"hidden_size\":%" PRId64 ",\"num_attention_heads\":2,\"num_hidden_layers\":%" PRId64
             ",\"ffn_dim\":%" PRId64 ",\"vocab_size\":333,\"max_position_embeddings\":20,\"activation_function\":\"relu\","
             "\"do_layer_norm_before\":true,\"word_embed_proj_dim\":%" PRId64
             ",\"tie_word_embeddings\":false,\"torch_dtype\":\"%s\"}",
             hidden, blocks, 4 * hidden, hidden / 2, dtype);
    cr_assert_eq(arch_parse(&a, "random.json", text, strlen(text), &err), STATUS_OK, "%s", err.text);
    return a;
}

static void write_model(const struct arch *a, uint64_t seed, int64_t shard_bytes, const char *path)
{
    const struct random_weights_options o = {.seed = seed, .shard_bytes = shard_bytes};
    struct error err = {0};
    cr_assert_eq(random_weights_write(a, &o, path, &err), STATUS_OK, "%s", err.text);
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static double half_value(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits >> 15 ? -magnitude : magnitude;
}

static double single_value(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static double element(enum format format, const void *bytes, int64_t i)
{
    if (format == FORMAT_F32)
        return single_value(((const uint32_t *)bytes)[i]);
    const uint16_t bits = ((const uint16_t *)bytes)[i];
    return format == FORMAT_F16 ? half_value(bits) : single_value((uint32_t)bits << 16);
}

/* Table entry i is r*((i + 1/2)/32768 - 1) with r = 0.02*sqrt(3), rounded to the format: relative error at most half of the last
 * bit, 2^-11 for f16 (2^-25 absolute below 2^-14), 2^-8 for bf16, 2^-24 for f32. */
static void check_table(enum format format, double relative, double absolute)
{
    static struct random_table t;
    double squares = 0;
    random_table_fill(&t, format);
    for (int i = 0; i < 65536; i++) {
        const double exact = 0.02 * sqrt(3.0) * ((i + 0.5) / 32768.0 - 1.0), got = element(format, t.half, i);
        cr_assert(fabs(got - exact) <= relative * fabs(exact) + absolute, "%s %d: %.9g for %.9g", format_name(format), i, got,
                  exact);
        squares += got * got;
    }
    cr_assert_float_eq(sqrt(squares / 65536), 0.02, 2e-5);
}

Test(values, the_table_is_uniform_and_rounded)
{
    check_table(FORMAT_F16, ldexp(1, -11), ldexp(1, -25));
    check_table(FORMAT_BF16, ldexp(1, -8), 0);
    check_table(FORMAT_F32, ldexp(1, -24), 0);
}

Test(values, constants)
{
    uint16_t half[3] = {7, 7, 7};
    uint32_t single[2] = {7, 7};
    random_constant(FORMAT_F16, 1.0, 2, half);
    cr_assert(half[0] == 0x3c00 && half[1] == 0x3c00 && half[2] == 7);
    random_constant(FORMAT_F16, 0.0, 1, half);
    cr_assert_eq(half[0], 0);
    random_constant(FORMAT_BF16, 1.0, 1, half);
    cr_assert_eq(half[0], 0x3f80);
    random_constant(FORMAT_F32, 1.0, 1, single);
    cr_assert(single[0] == 0x3f800000 && single[1] == 7);
}

static void check_pieces(enum format format, size_t size)
{
    const unsigned seed = 77;
    static struct random_table t;
    static char whole[4 * 1000], pieces[4 * 1000];
    random_table_fill(&t, format);
    random_elements(&t, 5, 0, 1000, whole);
    srand(seed);
    for (int round = 0; round < 200; round++) {
        memset(pieces, 0, sizeof pieces);
        for (int i = 0, n; i < 1000; i += n) {
            n = 1 + rand() % 20;
            n = n < 1000 - i ? n : 1000 - i;
            random_elements(&t, 5, i, n, pieces + (size_t)i * size);
        }
        cr_assert_eq(memcmp(whole, pieces, 1000 * size), 0, "seed %u, round %d", seed, round);
    }
}

Test(values, pieces_add_up_to_the_whole)
{
    check_pieces(FORMAT_F16, 2);
    check_pieces(FORMAT_BF16, 2);
    check_pieces(FORMAT_F32, 4);
}

/* 2^20 draws: mean 0 with deviation 0.02/2^10, neighbours' correlation 0 with deviation 1/2^10; five deviations are allowed. */
static void check_statistics(uint64_t seed, int tensor)
{
    static struct random_table t;
    static float x[1 << 20];
    double sum = 0, squares = 0, neighbours = 0, tensors = 0;
    static float other[1 << 20];
    random_table_fill(&t, FORMAT_F32);
    random_elements(&t, random_key(seed, tensor), 0, 1 << 20, x);
    random_elements(&t, random_key(seed, tensor + 1), 0, 1 << 20, other);
    for (int i = 0; i < 1 << 20; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        neighbours += i ? (double)x[i] * (double)x[i - 1] : 0;
        tensors += (double)x[i] * (double)other[i];
    }
    const double n = 1 << 20, variance = squares / n;
    cr_assert_float_eq(sum / n, 0, 5 * 0.02 / 1024, "seed %" PRIu64, seed);
    cr_assert_float_eq(sqrt(variance), 0.02, 5 * 0.02 / 1024, "seed %" PRIu64, seed);
    cr_assert_float_eq(neighbours / n / variance, 0, 5.0 / 1024, "seed %" PRIu64, seed);
    cr_assert_float_eq(tensors / n / variance, 0, 5.0 / 1024, "seed %" PRIu64, seed);
}

Test(values, look_random)
{
    for (uint64_t seed = 0; seed < 4; seed++)
        check_statistics(seed, (int)seed);
    check_statistics(UINT64_MAX, 1000);
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

/* The bytes of one tensor of a model; the caller frees them. */
static char *read_tensor(const struct st_model *m, const struct st_tensor *t)
{
    char *bytes = malloc((size_t)t->bytes + 1);
    int fd = open(m->path[t->file], O_RDONLY);
    cr_assert_eq(pread(fd, bytes, (size_t)t->bytes, t->offset), t->bytes);
    close(fd);
    return bytes;
}

static void check_tensor(const struct st_model *m, const struct st_tensor *t, enum tensor_role role)
{
    char *bytes = read_tensor(m, t);
    const int64_t size = t->format == FORMAT_F32 ? 4 : 2, n = t->bytes / size;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double x = element(t->format, bytes, i);
        squares += x * x;
        if (role == ROLE_NORM_GAIN)
            cr_assert_eq(x, 1.0, "%s", t->name);
        else if (t->n_dims == 1)
            cr_assert_eq(x, 0.0, "%s", t->name);
    }
    if (t->n_dims == 2) /* uniform: the mean square's deviation is 0.9/sqrt(n) of it; the smallest matrix has 704 elements */
        cr_assert_float_eq(squares / (double)n, 0.0004, 0.0004 * 5 * 0.9 / sqrt((double)n), "%s", t->name);
    free(bytes);
}

static void check_model(const struct arch *a, const char *path, int files)
{
    struct st_model m;
    struct arch back;
    struct error err = {0};
    cr_assert_eq(arch_load(&back, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(arch_parameters(&back), arch_parameters(a));
    cr_assert_eq(st_open(&m, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(m.n_files, files);
    for (int i = 0; i < a->n_layers; i++)
        for (int j = 0; j < a->layer[i].n_tensors; j++) {
            const struct st_tensor *t;
            cr_assert_eq(st_resolve(&m, &back.layer[i].tensor[j], &t, &err), STATUS_OK, "%s", err.text);
            cr_assert_eq(t->format, a->weight_format);
            check_tensor(&m, t, a->layer[i].tensor[j].role);
        }
    st_free(&m);
    arch_free(&back);
}

Test(files, a_model_of_each_format, .init = make_dir, .fini = remove_dir)
{
    static const char *const dtypes[] = {"float32", "float16", "bfloat16"};
    for (int i = 0; i < 3; i++) {
        struct arch a = make_arch(32, 2, dtypes[i]);
        char *path = in_dir(dtypes[i]);
        write_model(&a, 1, RANDOM_WEIGHTS_SHARD_BYTES, path);
        check_model(&a, path, 1);
        free(path);
        arch_free(&a);
    }
}

/* Every tensor of two models has the same bytes (or all of their matrices have not). */
static void compare_models(const char *x, const char *y, bool same)
{
    struct st_model m, n;
    struct error err = {0};
    cr_assert_eq(st_open(&m, x, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(st_open(&n, y, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(m.n_tensors, n.n_tensors);
    for (int i = 0; i < m.n_tensors; i++) {
        char *p = read_tensor(&m, &m.tensor[i]), *q = read_tensor(&n, &n.tensor[i]);
        cr_assert_eq(m.tensor[i].bytes, n.tensor[i].bytes);
        if (same || m.tensor[i].n_dims == 2)
            cr_assert_eq(memcmp(p, q, (size_t)m.tensor[i].bytes) == 0, same, "%s", m.tensor[i].name);
        free(p);
        free(q);
    }
    st_free(&m);
    st_free(&n);
}

Test(files, the_seed_decides_the_bytes_and_the_shards_do_not, .init = make_dir, .fini = remove_dir)
{
    /* 512 wide, 3 blocks of 12*512*512 elements: 19 MB, so that several buffers of 8 MiB are filled and tensors cross them. */
    struct arch a = make_arch(512, 3, "float16");
    char *one = in_dir("one"), *two = in_dir("two"), *other = in_dir("other");
    write_model(&a, 42, RANDOM_WEIGHTS_SHARD_BYTES, one);
    write_model(&a, 42, 3000000, two);
    write_model(&a, 43, RANDOM_WEIGHTS_SHARD_BYTES, other);
    compare_models(one, two, true);
    compare_models(one, other, false);
    free(one);
    free(two);
    free(other);
    arch_free(&a);
}

Test(files, shards_are_cut_between_tensors, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(32, 1, "float32");
    char *path = in_dir("model");
    /* A limit of one byte: every tensor has a shard of its own. Embedding 3 (tokens, positions, projection), attention 4 + 4
     * biases + 2 of the norm, MLP 2 + 2 + 2, head: norm 2, projection, table: 23. */
    write_model(&a, 1, 1, path);
    check_model(&a, path, 23);
    free(path);
    arch_free(&a);
}

Test(files, data_begins_at_a_direct_io_boundary, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(32, 1, "float16");
    struct st_model m;
    struct error err = {0};
    char *path = in_dir("model");
    write_model(&a, 1, RANDOM_WEIGHTS_SHARD_BYTES, path);
    cr_assert_eq(st_open(&m, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(st_find(&m, "model.decoder.embed_tokens.weight")->offset % 4096, 0, "the first tensor in the file");
    st_free(&m);
    free(path);
    arch_free(&a);
}

struct progress {
    int calls;
    int64_t last, total;
};

static void count_progress(int64_t done, int64_t total, void *arg)
{
    struct progress *p = arg;
    cr_assert(done > p->last && done <= total && (p->total == 0 || p->total == total));
    *p = (struct progress){p->calls + 1, done, total};
}

Test(files, progress_ends_at_the_total, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(512, 3, "float16");
    struct progress p = {0};
    struct error err = {0};
    char *path = in_dir("model/");
    cr_assert_eq(st_write_random(&a, 42, path, count_progress, &p, &err), STATUS_OK, "%s", err.text);
    cr_assert(p.calls >= 3 && p.last == p.total && p.total > 2 * arch_parameters(&a), "%d calls, %" PRId64, p.calls, p.total);
    free(path);
    arch_free(&a);
}

/* ---- what is there already ---------------------------------------------------------------------------------------- */

static void expect_refused(const struct arch *a, uint64_t seed, const char *path, const char *says)
{
    struct error err = {0};
    cr_assert_eq(st_write_random(a, seed, path, NULL, NULL, &err), STATUS_INVALID, "%s", err.text);
    cr_assert(strstr(err.text, says), "no '%s' in: %s", says, err.text);
}

Test(existing, the_same_model_is_kept_and_another_is_not_touched, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(32, 1, "float16"), wider = make_arch(34, 1, "float16");
    struct progress p = {0};
    struct error err = {0};
    struct stat before, after;
    char *path = in_dir("model"), *file = in_dir("model/model.safetensors");
    write_model(&a, 7, RANDOM_WEIGHTS_SHARD_BYTES, path);
    cr_assert_eq(stat(file, &before), 0);
    cr_assert_eq(st_write_random(&a, 7, path, count_progress, &p, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(p.calls, 0, "nothing was written");
    expect_refused(&a, 8, path, "with seed 8");
    expect_refused(&wider, 7, path, "found other files");
    cr_assert_eq(stat(file, &after), 0);
    cr_assert(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    cr_assert_eq(truncate(file, before.st_size - 1), 0);
    expect_refused(&a, 7, path, "found other files");
    free(path);
    free(file);
    arch_free(&a);
    arch_free(&wider);
}

Test(existing, an_empty_directory_is_filled_and_a_file_is_not, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(32, 1, "float16");
    struct error err = {0};
    char *path = in_dir("model"), *file = in_dir("model/config.json");
    cr_assert_eq(mkdir(path, 0755), 0);
    write_model(&a, 7, RANDOM_WEIGHTS_SHARD_BYTES, path);
    check_model(&a, path, 1);
    cr_assert_eq(st_write_random(&a, 7, file, NULL, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "config.json: cannot open as a directory"), "%s", err.text);
    free(path);
    free(file);
    arch_free(&a);
}

/* ---- failing ------------------------------------------------------------------------------------------------------ */

static void die_at_once(int64_t done, int64_t total, void *arg)
{
    (void)done, (void)total, (void)arg;
    raise(SIGKILL);
}

Test(failing, a_killed_run_leaves_no_model_and_the_next_one_takes_over, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(512, 3, "float16");
    char *path = in_dir("model"), *partial = in_dir("model.partial"), *file = in_dir("model.partial/model.safetensors");
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        st_write_random(&a, 42, path, die_at_once, NULL, NULL);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it was killed while it wrote");
    cr_assert(!exists(path) && exists(file), "the unfinished file has its temporary place");
    write_model(&a, 42, RANDOM_WEIGHTS_SHARD_BYTES, path);
    check_model(&a, path, 1);
    cr_assert(!exists(partial));
    free(path);
    free(partial);
    free(file);
    arch_free(&a);
}

Test(failing, two_writers_do_not_meet, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(32, 1, "float16");
    struct error err = {0};
    char *path = in_dir("model"), *partial = in_dir("model.partial");
    cr_assert_eq(mkdir(partial, 0755), 0);
    int fd = open(partial, O_RDONLY | O_DIRECTORY);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    cr_assert_eq(st_write_random(&a, 1, path, NULL, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "another process is writing"), "%s", err.text);
    close(fd);
    write_model(&a, 1, RANDOM_WEIGHTS_SHARD_BYTES, path);
    free(path);
    free(partial);
    arch_free(&a);
}

Test(failing, files_of_others_stay, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(32, 1, "float16");
    char *path = in_dir("model"), *partial = in_dir("model.partial"), *file = in_dir("model.partial/thesis.txt");
    cr_assert_eq(mkdir(partial, 0755), 0);
    close(open(file, O_CREAT | O_WRONLY, 0644));
    expect_refused(&a, 1, path, "model.partial: expected no such directory, found one with other files");
    cr_assert(exists(file));
    free(path);
    free(partial);
    free(file);
    arch_free(&a);
}

Test(failing, a_full_disk_is_told_before_with_the_bytes_missing, .init = make_dir, .fini = remove_dir)
{
    /* 1024 blocks of 12 * 2^40 elements of 2 bytes are 2.7e16 bytes, and no disk has them. */
    struct arch a = make_arch(1 << 20, 1024, "float16");
    struct error err = {0};
    char *path = in_dir("model"), *partial = in_dir("model.partial");
    cr_assert_eq(st_write_random(&a, 1, path, NULL, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "expected 2702") && strstr(err.text, "bytes missing"), "%s", err.text);
    cr_assert(!exists(path) && !exists(partial));
    free(path);
    free(partial);
    arch_free(&a);
}

Test(failing, a_write_that_fails_leaves_nothing, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(512, 3, "float16");
    struct error err = {0};
    char *path = in_dir("model"), *partial = in_dir("model.partial");
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {10 << 20, 10 << 20}; /* of the 20 MB */
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    cr_assert_eq(st_write_random(&a, 1, path, NULL, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "model.safetensors: ") && strstr(err.text, "File too large"), "%s", err.text);
    cr_assert(!exists(path) && !exists(partial));
    free(path);
    free(partial);
    arch_free(&a);
}

/* The space is reserved by then, so this fails in the write itself, with others in flight. */
static void forbid_more(int64_t done, int64_t total, void *arg)
{
    const struct rlimit small = {9 << 20, 9 << 20};
    (void)done, (void)total, (void)arg;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
}

Test(failing, a_write_that_fails_half_way_leaves_nothing, .init = make_dir, .fini = remove_dir)
{
    struct arch a = make_arch(512, 3, "float16");
    struct error err = {0};
    char *path = in_dir("model"), *partial = in_dir("model.partial");
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(st_write_random(&a, 1, path, forbid_more, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "model.safetensors: ") && strstr(err.text, "File too large"), "%s", err.text);
    cr_assert(!exists(path) && !exists(partial));
    free(path);
    free(partial);
    arch_free(&a);
}

Test(failing, unusable_arguments)
{
    struct arch a = make_arch(32, 1, "float16");
    struct error err = {0};
    expect_refused(&a, 1, "", "a directory name");
    cr_assert_eq(st_write_random(&a, 1, "/no/such/parent", NULL, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "/no/such/parent.partial: cannot create"), "%s", err.text);
    a.weight_format = FORMAT_Q4;
    expect_refused(&a, 1, "/no/such/parent", "expected format f32, f16 or bf16, found q4");
    arch_free(&a);
}
