/* What low precision may change, derived and held.
 *
 * 4-bit weights: the executor must compute exactly the model whose weights are the unpacked ones. That model is written to disk in f32 and
 * run in f32; the two may differ by f32 rounding only, 1e-4.
 *
 * bf16 products: every product rounds each weight and each activation to 8 significant bits, an independent relative error of the same
 * distribution for both. What the weights' part does to the logits is measured without the bf16 code: the same model with its weights
 * rounded to bf16, run in f32, differs by S (root mean square). The activations' part is as large, so both together are sqrt(2) S; twice that
 * is allowed, which a sum of thousands of independent errors does not reach. If bf16 accumulated in less than f32, or rounded a residual,
 * errors would grow with the length of the sums and exceed it.
 *
 * 4-bit cache: keys and values are rounded to steps of (max - min) / 15 of their group of 64. The same reasoning: an f32 cache whose
 * entries pass through the scalar pack and unpack is the model; attention over the packed cache may differ from it by f32 rounding. That is
 * tested kernel by kernel (test_kernels_attention.c); here the effect on the logits must stay a perturbation. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/cpu/kernels.h"
#include "executor/safetensors.h"
#include "tests/run_fixture.h"

/* -- a model with every matrix passed through `change`, stored in f32 or bf16 ------------------------------------------- */

typedef void change_fn(float *w, int64_t rows, int64_t cols);

static void through_q4(float *w, int64_t rows, int64_t cols)
{
    void *packed = malloc((size_t)format_matrix_bytes(FORMAT_Q4, rows, cols));
    q4_pack_matrix(w, rows, cols, packed);
    q4_unpack_matrix(packed, rows, cols, w);
    free(packed);
}

static void through_bf16(float *w, int64_t rows, int64_t cols)
{
    void *half = malloc((size_t)(rows * cols * 2));
    from_f32(FORMAT_BF16, w, rows * cols, half);
    to_f32(FORMAT_BF16, half, rows * cols, w);
    free(half);
}

static float *read_tensor(const struct st_model *m, const struct st_tensor *t, int64_t n)
{
    char *raw = malloc((size_t)t->bytes);
    float *out = malloc((size_t)n * sizeof *out);
    int fd = open(m->path[t->file], O_RDONLY);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, raw, (size_t)t->bytes, t->offset), (ssize_t)t->bytes);
    close(fd);
    to_f32(t->format, raw, n, out);
    free(raw);
    return out;
}

static bool is_product_matrix(const struct st_tensor *t)
{
    return t->n_dims == 2 && !strstr(t->name, "embed_tokens") && !strstr(t->name, "embed_positions");
}

static void write_config(const struct fixture *f, const char *directory)
{
    char path[256], text[4096];
    snprintf(path, sizeof path, "%s/config.json", f->directory);
    FILE *in = fopen(path, "r");
    size_t n = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    text[n] = '\0';
    char *dtype = strstr(text, "float16");
    cr_assert_not_null(dtype);
    memcpy(dtype, "float32", 7);
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *out = fopen(path, "w");
    fputs(text, out);
    fclose(out);
}

static void write_changed(const struct fixture *f, change_fn *change, const char *directory)
{
    struct st_model m = {0};
    struct error err = {0};
    char path[256], *header = calloc(1, 1 << 16);
    size_t used = 1;
    int64_t at = 0;
    mkdir(directory, 0777);
    write_config(f, directory);
    cr_assert_eq(st_open(&m, f->directory, &err), STATUS_OK, "%s", err.text);
    header[0] = '{';
    for (int i = 0; i < m.n_tensors; i++) {
        const struct st_tensor *t = &m.tensor[i];
        int64_t n = t->shape[0] * (t->n_dims == 2 ? t->shape[1] : 1);
        char shape[64];
        snprintf(shape, sizeof shape, t->n_dims == 2 ? "%lld,%lld" : "%lld", (long long)t->shape[0], (long long)t->shape[1]);
        used += (size_t)sprintf(header + used, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]}",
                                i ? "," : "", t->name, shape, (long long)at, (long long)(at + n * 4));
        at += n * 4;
    }
    header[used++] = '}';
    while (used % 8)
        header[used++] = ' ';
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    FILE *out = fopen(path, "wb");
    uint64_t length = used;
    fwrite(&length, 8, 1, out);
    fwrite(header, 1, used, out);
    for (int i = 0; i < m.n_tensors; i++) {
        const struct st_tensor *t = &m.tensor[i];
        int64_t n = t->shape[0] * (t->n_dims == 2 ? t->shape[1] : 1);
        float *w = read_tensor(&m, t, n);
        if (is_product_matrix(t))
            change(w, t->shape[0], t->shape[1]);
        fwrite(w, 4, (size_t)n, out);
        free(w);
    }
    cr_assert_eq(fclose(out), 0);
    free(header);
    st_free(&m);
}

static void run_changed(const struct fixture *f, change_fn *change, const char *directory, struct prompt_logits *out)
{
    struct arch a = {0};
    struct error err = {0};
    write_changed(f, change, directory);
    cr_assert_eq(arch_load(&a, directory, &err), STATUS_OK, "%s", err.text);
    run_prompts(f, &a, directory, "f32", 16, 16, out);
    arch_free(&a);
}

/* -- the tests ---------------------------------------------------------------------------------------------------------- */

/* The untied model: its look-up table stays as stored in both runs, while its head is packed. */
Test(tolerance, packed_weights_compute_the_unpacked_model)
{
    struct fixture f;
    struct prompt_logits packed, unpacked, exact;
    fixture_load(&f, "opt-tiny-untied");
    run_prompts(&f, &f.arch, f.directory, "f32", 4, 16, &packed);
    run_changed(&f, through_q4, "build/tolerance-q4", &unpacked);
    run_prompts(&f, &f.arch, f.directory, "f32", 16, 16, &exact);
    cr_assert_lt(difference_max(&packed, &unpacked), 1e-4, "off by %g", difference_max(&packed, &unpacked));
    cr_assert_gt(difference_rms(&packed, &exact), 1e-2, "packing changed nothing: it did not happen");
    free(packed.value);
    free(unpacked.value);
    free(exact.value);
    fixture_free(&f);
}

Test(tolerance, bf16_products_err_as_much_as_rounding_both_operands)
{
    struct fixture f;
    struct prompt_logits bf16, rounded, exact;
    fixture_load(&f, "opt-tiny-untied");
    run_prompts(&f, &f.arch, f.directory, "f32", 16, 16, &exact);
    run_changed(&f, through_bf16, "build/tolerance-bf16", &rounded);
    double s = difference_rms(&rounded, &exact);
    run_prompts(&f, &f.arch, f.directory, "bf16", 16, 16, &bf16);
    double measured = difference_rms(&bf16, &exact);
    printf("bf16: logits differ by %.3g (rms), rounded weights alone by %.3g, allowed %.3g\n", measured, s, 2 * sqrt(2) * s);
    cr_assert_gt(s, 0);
    cr_assert_lt(measured, 2 * sqrt(2) * s);
    cr_assert_gt(measured, 0.1 * s, "bf16 did not happen");
    free(bf16.value);
    free(rounded.value);
    free(exact.value);
    fixture_free(&f);
}

/* Uniform error of a step of (max - min)/15 has a deviation of range/15/sqrt(12) = range/52; a group of 64 normal values spans about 4.7
 * deviations, so an element's relative error is 4.7/52 = 9 %, some 46 times that of bf16 (2^-8/sqrt(12) of a value between 1 and 2,
 * about 0.2 % at most). Keys and values are two of the operands whose rounding to bf16 the test above measures, so the logits may differ by
 * at most 46 times what rounding every weight to bf16 does, doubled as above. */
Test(tolerance, a_packed_cache_is_a_perturbation)
{
    struct fixture f;
    struct prompt_logits packed, rounded, exact;
    fixture_load(&f, "opt-tiny-untied");
    run_prompts(&f, &f.arch, f.directory, "f32", 16, 16, &exact);
    run_changed(&f, through_bf16, "build/tolerance-cache", &rounded);
    run_prompts(&f, &f.arch, f.directory, "f32", 16, 4, &packed);
    double s = difference_rms(&rounded, &exact), measured = difference_rms(&packed, &exact);
    printf("4-bit cache: logits differ by %.3g (rms), allowed %.3g\n", measured, 2 * 46 * s);
    cr_assert_lt(measured, 2 * 46 * s);
    cr_assert_gt(measured, 0, "packing did not happen");
    free(packed.value);
    free(rounded.value);
    free(exact.value);
    fixture_free(&f);
}
