/* Finding tensors: the fixtures, hostile headers, truncated files, shard indexes that do not agree with their files. */
#define _GNU_SOURCE 1
#include <criterion/criterion.h>

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/safetensors.h"
#include "tests/failing_json.h"

static char dir[] = "/tmp/ballast-test-safetensors-XXXXXX";

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

static const char *in_dir(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

/* A file of this header and as many zero bytes of data; returns its size. */
static size_t write_tensors(const char *name, const char *header, size_t data_bytes)
{
    static unsigned char bytes[65536];
    const size_t n = strlen(header);
    cr_assert_lt(8 + n + data_bytes, sizeof bytes);
    memset(bytes, 0, sizeof bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(n >> (8 * i));
    memcpy(bytes + 8, header, n);
    write_file(name, bytes, 8 + n + data_bytes);
    return 8 + n + data_bytes;
}

static enum status parse_header(struct st_model *m, const char *header, int64_t data_bytes, struct error *err)
{
    *m = (struct st_model){0};
    const int64_t n = (int64_t)strlen(header);
    return st_parse_header(m, "some/file.safetensors", header, n, 8 + n + data_bytes, err);
}

/* ---- good files --------------------------------------------------------------------------------------------------- */

static void check_fixture(const char *name, int files)
{
    char path[256];
    struct arch a;
    struct st_model m;
    struct error err = {0};
    int64_t bytes = 0;
    snprintf(path, sizeof path, "tests/fixtures/%s", name);
    cr_assert_eq(arch_load(&a, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(st_open(&m, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(m.n_files, files);
    for (int i = 0; i < a.n_layers; i++)
        for (int j = 0; j < a.layer[i].n_tensors; j++) {
            const struct st_tensor *t;
            cr_assert_eq(st_resolve(&m, &a.layer[i].tensor[j], &t, &err), STATUS_OK, "%s", err.text);
            cr_assert_eq(t->format, a.weight_format, "config.json and file agree on the dtype");
        }
    for (int i = 0; i < m.n_tensors; i++)
        bytes += m.tensor[i].bytes;
    /* Every parameter is in the files once, and nothing else is. */
    cr_assert_eq(bytes, format_matrix_bytes(a.weight_format, 1, arch_parameters(&a)), "%s", name);
    st_free(&m);
    arch_free(&a);
}

Test(open, fixtures_resolve_completely)
{
    check_fixture("opt-tiny-pre", 1);
    check_fixture("opt-tiny-post", 1);
    check_fixture("opt-tiny-shard", 3);
    check_fixture("opt-tiny-bf16", 1);
    check_fixture("opt-tiny-untied", 1);
}

/* The library wrote norm gains of about 1 (1 + 0.2 * noise): the offset points at them and not elsewhere. */
Test(open, offsets_point_at_the_data)
{
    struct st_model m;
    struct error err = {0};
    float gain[60];
    cr_assert_eq(st_open(&m, "tests/fixtures/opt-tiny-shard", &err), STATUS_OK, "%s", err.text);
    const struct st_tensor *t = st_find(&m, "model.decoder.layers.2.final_layer_norm.weight");
    cr_assert(t && t->format == FORMAT_F32 && t->n_dims == 1 && t->shape[0] == 60 && t->bytes == 240);
    int fd = open(m.path[t->file], O_RDONLY);
    cr_assert_eq(pread(fd, gain, sizeof gain, t->offset), (ssize_t)sizeof gain);
    double sum = 0;
    for (int i = 0; i < 60; i++)
        sum += (double)gain[i];
    /* The mean of 60 has a deviation of 0.2/sqrt(60) = 0.026; four of them are 0.1. */
    cr_assert(sum / 60 > 0.9 && sum / 60 < 1.1, "mean %g", sum / 60);
    close(fd);
    cr_assert_null(st_find(&m, "model.decoder.layers.2.final_layer_norm.weigh"));
    cr_assert_null(st_find(&m, ""));
    st_free(&m);
}

Test(header, tensors_are_sorted_and_placed)
{
    struct st_model m;
    struct error err = {0};
    /* z: 2*3 F16 = 12 bytes, then a: 4 F32 = 16 bytes; a scalar BF16 is 2 bytes; an empty one none. 30 in all. */
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"z\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                                 "\"none\":{\"dtype\":\"F16\",\"shape\":[0,3],\"data_offsets\":[12,12]},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[12,28]},"
                                 "\"s\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[28,30]}}   ";
    cr_assert_eq(parse_header(&m, header, 30, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(m.n_tensors, 4);
    cr_assert_str_eq(m.tensor[0].name, "a");
    cr_assert_eq(m.tensor[0].offset, 8 + (int64_t)strlen(header) + 12);
    cr_assert_eq(st_find(&m, "s")->n_dims, 0);
    cr_assert_eq(st_find(&m, "z")->bytes, 12);
    cr_assert_eq(st_find(&m, "none")->bytes, 0);
    st_free(&m);
}

Test(header, an_empty_one_is_a_model_without_tensors)
{
    struct st_model m;
    struct error err = {0};
    cr_assert_eq(parse_header(&m, "{}", 0, &err), STATUS_OK, "%s", err.text);
    cr_assert_null(st_find(&m, "a"));
    st_free(&m);
}

/* ---- looking up --------------------------------------------------------------------------------------------------- */

static const char lookup_header[] = "{\"q\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                                    "\"model.q\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[12,36]},"
                                    "\"int\":{\"dtype\":\"I8\",\"shape\":[2,3],\"data_offsets\":[36,42]},"
                                    "\"vector\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[42,48]},"
                                    "\"cube\":{\"dtype\":\"F16\",\"shape\":[1,1,3],\"data_offsets\":[48,54]}}";

Test(resolve, the_prefixed_name_comes_first)
{
    struct st_model m;
    struct error err = {0};
    const struct st_tensor *t;
    cr_assert_eq(parse_header(&m, lookup_header, 54, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(st_resolve(&m, &(struct tensor){.name = "q", .rows = 2, .cols = 3}, &t, &err), STATUS_OK);
    cr_assert_str_eq(t->name, "model.q");
    cr_assert_eq(st_resolve(&m, &(struct tensor){.name = "vector", .rows = 1, .cols = 3}, &t, &err), STATUS_OK);
    cr_assert_eq(t->bytes, 6);
    st_free(&m);
}

static void check_refused(const struct st_model *m, const char *name, int64_t rows, int64_t cols, const char *says)
{
    struct tensor t = {.rows = rows, .cols = cols};
    const struct st_tensor *found;
    struct error err = {0};
    snprintf(t.name, sizeof t.name, "%s", name);
    cr_assert_eq(st_resolve(m, &t, &found, &err), STATUS_INVALID, "%s", name);
    cr_assert_null(found);
    cr_assert(strstr(err.text, "some/file.safetensors: ") && strstr(err.text, name) && strstr(err.text, says), "%s", err.text);
}

Test(resolve, what_does_not_fit_is_refused)
{
    struct st_model m;
    struct error err = {0};
    cr_assert_eq(parse_header(&m, lookup_header, 54, &err), STATUS_OK, "%s", err.text);
    check_refused(&m, "absent", 2, 3, "found neither");
    check_refused(&m, "q", 3, 2, "expected shape (3, 2) as config.json says, found (2, 3)");
    check_refused(&m, "vector", 3, 1, "found (3)");
    check_refused(&m, "cube", 1, 3, "found (1, 1, 3)");
    check_refused(&m, "int", 2, 3, "dtype F32, F16 or BF16");
    st_free(&m);
}

/* ---- hostile headers ---------------------------------------------------------------------------------------------- */

#define ENTRY(dtype, shape, offsets) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header;
    int64_t data_bytes;
    const char *says;
} hostile[] = {
    {"", 0, "JSON"},
    {"{", 0, "JSON"},
    {"[]", 0, "JSON object"},
    {"{} x", 0, "JSON"},
    {"{\"a\":{\"dtype\":\"F16\"}}", 0, "dtype, shape and data_offsets"},
    {"{\"a\":5}", 0, "dtype, shape and data_offsets"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,4]}}",
     4, "duplicate"},
    {ENTRY("\"F17\"", "[1]", "[0,2]"), 2, "tensor 'a': dtype: expected a safetensors dtype such as \"F16\", found \"F17\""},
    {ENTRY("16", "[1]", "[0,2]"), 2, "found 16"},
    {ENTRY("\"F16\"", "1", "[0,2]"), 2, "at most 4 sizes, found 1"},
    {ENTRY("\"F16\"", "[1,1,1,1,1]", "[0,2]"), 2, "at most 4 sizes"},
    {ENTRY("\"F16\"", "[-1]", "[0,2]"), 2, "at least 0, found [-1]"},
    {ENTRY("\"F16\"", "[1.5]", "[0,3]"), 3, "whole numbers"},
    {ENTRY("\"F4\"", "[3]", "[0,1]"), 1, "a whole number of bytes"},
    /* 2^31 * 2^31 * 2 elements of 16 bits are 2^67 bits */
    {ENTRY("\"F16\"", "[2147483648,2147483648,2]", "[0,2]"), 2, "fewer than 2^63 bits"},
    /* 2^60 elements: 2^64 bits, which is 0 if one does not look */
    {ENTRY("\"F16\"", "[1152921504606846976]", "[0,0]"), 0, "fewer than 2^63 bits"},
    {ENTRY("\"F16\"", "[1]", "[0]"), 2, "[begin, end]"},
    {ENTRY("\"F16\"", "[1]", "[0,2,4]"), 2, "[begin, end]"},
    {ENTRY("\"F16\"", "[1]", "[2,0]"), 2, "[begin, end]"},
    {ENTRY("\"F16\"", "[1]", "[-2,0]"), 2, "[begin, end]"},
    {ENTRY("\"F16\"", "[1]", "[0,\"2\"]"), 2, "[begin, end]"},
    {ENTRY("\"F16\"", "[1]", "[0,2]"), 1, "truncated"},
    {ENTRY("\"F16\"", "[1]", "[9223372036854775805,9223372036854775807]"), 2, "at most 2"},
    {ENTRY("\"F16\"", "[2]", "[0,2]"), 2, "expected 4 bytes as dtype and shape say, found [0,2]"},
    {ENTRY("\"F16\"", "[1]", "[0,2]"), 3, "expected 2 bytes of data as the header says, found 3"},
    {ENTRY("\"F16\"", "[1]", "[1,3]"), 3, "expected to begin at byte 0"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[2,6]}}",
     6, "tensor 'b': expected to begin at byte 4"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[4,6]}}",
     6, "tensor 'b': expected to begin at byte 2"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}",
     2, "expected to begin at byte 2"},
    {"{\"__metadata__\":3}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"k\":3}}", 0, "expected a text at 'k'"},
    {"{\"\\u0000\":3}", 0, "JSON"},
    {"{\"\xff\":3}", 0, "JSON"},
    {"{\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
     "\":3}",
     0, "at most 127 bytes"},
};

Test(header, hostile_ones_are_refused)
{
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        struct st_model m;
        struct error err = {0};
        cr_assert_eq(parse_header(&m, hostile[i].header, hostile[i].data_bytes, &err), STATUS_INVALID, "case %zu: %s", i,
                     err.text);
        cr_assert(strncmp(err.text, "some/file.safetensors: ", 23) == 0, "case %zu: %s", i, err.text);
        cr_assert(strstr(err.text, hostile[i].says), "case %zu: no '%s' in: %s", i, hostile[i].says, err.text);
        st_free(&m);
    }
}

Test(header, a_deep_one_is_refused)
{
    struct st_model m;
    struct error err = {0};
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    cr_assert_eq(parse_header(&m, deep, 0, &err), STATUS_INVALID);
    st_free(&m);
    free(deep);
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

static void expect_refused(const char *says)
{
    struct st_model m;
    struct error err = {0};
    cr_assert_eq(st_open(&m, dir, &err), STATUS_INVALID, "%s", err.text);
    cr_assert(strstr(err.text, says), "no '%s' in: %s", says, err.text);
    cr_assert(!m.tensor && !m.path, "nothing is left to free");
}

Test(files, every_truncation_is_refused, .init = make_dir, .fini = remove_dir)
{
    static const char header[] = "{\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[12,28]}}";
    struct st_model m;
    struct error err = {0};
    const size_t whole = write_tensors("model.safetensors", header, 28);
    cr_assert_eq(st_open(&m, dir, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(m.n_tensors, 2);
    st_free(&m);
    for (size_t n = whole; n-- > 0;) {
        cr_assert_eq(truncate(in_dir("model.safetensors"), (off_t)n), 0);
        expect_refused("model.safetensors");
    }
}

static void write_length(uint64_t length, size_t file_bytes)
{
    unsigned char bytes[64] = {0};
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> (8 * i));
    memcpy(bytes + 8, "{}", 2);
    write_file("model.safetensors", bytes, file_bytes);
}

Test(files, hostile_header_lengths_are_refused, .init = make_dir, .fini = remove_dir)
{
    static const uint64_t lengths[] = {3, 100, UINT64_MAX, UINT64_MAX - 8, (uint64_t)INT64_MAX, (uint64_t)INT64_MAX + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        write_length(lengths[i], 10);
        expect_refused("header length: expected at most 2 ");
    }
    write_length(100000001, 10); /* more than the format allows, in a file that has the room (a hole) */
    cr_assert_eq(truncate(in_dir("model.safetensors"), 200000000), 0);
    expect_refused("header length: expected at most 100000000, found 100000001");
    write_length(0, 10);
    expect_refused("JSON");
}

Test(files, what_is_no_model_is_refused, .init = make_dir, .fini = remove_dir)
{
    struct st_model m;
    struct error err = {0};
    expect_refused("expected model.safetensors or model.safetensors.index.json");
    cr_assert_eq(mkdir(in_dir("model.safetensors"), 0755), 0);
    expect_refused("expected a file");
    cr_assert_eq(rmdir(in_dir("model.safetensors")), 0);
    cr_assert_eq(mkfifo(in_dir("model.safetensors"), 0644), 0);
    expect_refused("expected a file");
    cr_assert_eq(st_open(&m, "/no/such/directory", &err), STATUS_INVALID);
    char long_path[600];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    err = (struct error){0};
    cr_assert_eq(st_open(&m, long_path, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "path of at most 511 bytes"), "%s", err.text);
}

/* ---- the shard index ---------------------------------------------------------------------------------------------- */

#define ONE(name) "{\"" name "\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}"

static void write_index(const char *map)
{
    char text[2000];
    snprintf(text, sizeof text, "{\n\"metadata\": {\"total_size\": 4},\n\"weight_map\": {\n%s\n}}\n", map);
    write_file("model.safetensors.index.json", text, strlen(text));
}

Test(shards, index_and_files_that_agree, .init = make_dir, .fini = remove_dir)
{
    struct st_model m;
    struct error err = {0};
    write_tensors("x.safetensors", ONE("a"), 2);
    write_tensors("y.safetensors", ONE("b"), 2);
    write_index("\"b\": \"y.safetensors\",\n\"a\": \"x.safetensors\"");
    cr_assert_eq(st_open(&m, dir, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(m.n_files, 2);
    cr_assert(strstr(m.path[st_find(&m, "a")->file], "/x.safetensors"));
    cr_assert(strstr(m.path[st_find(&m, "b")->file], "/y.safetensors"));
    st_free(&m);
}

Test(shards, a_single_file_wins_over_an_index, .init = make_dir, .fini = remove_dir)
{
    struct st_model m;
    struct error err = {0};
    write_tensors("model.safetensors", ONE("a"), 2);
    write_index("\"b\": \"y.safetensors\"");
    cr_assert_eq(st_open(&m, dir, &err), STATUS_OK, "%s", err.text);
    cr_assert(m.n_tensors == 1 && st_find(&m, "a"));
    st_free(&m);
}

Test(shards, disagreement_is_refused_with_the_line, .init = make_dir, .fini = remove_dir)
{
    write_tensors("x.safetensors", ONE("a"), 2);
    write_tensors("y.safetensors", ONE("b"), 2);
    write_index("\"b\": \"y.safetensors\",\n\"a\": \"y.safetensors\"");
    expect_refused("expected this tensor in y.safetensors, found none");
    write_index("\"b\": \"x.safetensors\",\n\"a\": \"y.safetensors\"");
    expect_refused(
        "index.json:5: key 'weight_map.a': tensor 'a': expected \"x.safetensors\", which has it, found \"y.safetensors\"");
    write_index("\"b\": \"y.safetensors\",\n\"a\": \"x.safetensors\",\n\"c\": \"x.safetensors\"");
    expect_refused("index.json:6: key 'weight_map.c': expected this tensor in x.safetensors, found none");
    write_tensors("x.safetensors", ONE("b"), 2);
    write_index("\"b\": \"y.safetensors\",\n\"a\": \"x.safetensors\"");
    expect_refused("tensor 'b': expected in one file, found also in");
    write_tensors("x.safetensors", ONE("c"), 2);
    expect_refused("tensor 'c': expected \"x.safetensors\", which has it, found \"nothing\"");
}

Test(shards, bad_names_are_refused, .init = make_dir, .fini = remove_dir)
{
    struct st_model m;
    struct error err = {0};
    write_index("\"a\": \"../x.safetensors\"");
    expect_refused("index.json:4: key 'weight_map.a': expected the name of a file beside the index");
    write_index("\"a\": \"/etc/passwd\"");
    expect_refused("the name of a file beside the index");
    write_index("\"a\": \"\"");
    expect_refused("the name of a file beside the index");
    write_index("\"a\": 3");
    expect_refused("found \"no text\"");
    write_file("model.safetensors.index.json", "{}", 2);
    expect_refused("weight_map");
    write_index("\"a\": \"gone.safetensors\"");
    cr_assert_eq(st_open(&m, dir, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "gone.safetensors: cannot open: No such file"), "%s", err.text);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

Test(memory, every_allocation_may_fail)
{
    enum status s = STATUS_RUNTIME;
    int n = 0;
    for (; s != STATUS_OK && n < 100000; n++) {
        struct st_model m;
        struct error err = {0};
        json_fails_after(n);
        s = st_open(&m, "tests/fixtures/opt-tiny-shard", &err);
        cr_assert_eq(s, err.status, "allocation %d: %s", n, err.text);
        cr_assert(s == STATUS_OK ? m.n_files == 3 : m.tensor == NULL, "allocation %d", n);
        st_free(&m);
    }
    json_fails_no_more();
    cr_assert(s == STATUS_OK && n > 100, "%d allocations", n);
}
