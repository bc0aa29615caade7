/* test_cuda_bounds.c - the GPU's backend in 16 and 4 bits, emulated: the logits of every fixture in every placement that has a device are within
 * the bound that tests/exact_model.h derives, and those of wrong kernels are not.
 *
 * Each fixture runs in each placement in one of the ways below, so that in the end every way has met every placement and every fixture; with
 * BALLAST_TEST_ALL in the environment, in all of them, as on a GPU. */
#include "executor/backend_table.h"
#include "tests/emu/emu.h"
#include "tests/exact_model.h"
#include "tests/executor_cases.h"
#include "tests/kernel_test.h"

struct way {
    const char *name, *math;
    enum format hidden;
    int weight_bits, cache_bits;
};
static const struct way F32 = {"f32", "f32", FORMAT_F32, 16, 16}, WAYS[] = {{"16 bits", "f16", FORMAT_F16, 16, 16},
                                                                            {"4-bit weights", "f16", FORMAT_F16, 4, 16},
                                                                            {"a 4-bit cache", "f16", FORMAT_F16, 16, 4},
                                                                            {"4 bits", "f16", FORMAT_F16, 4, 4},
                                                                            {"4-bit weights in f32", "f32", FORMAT_F32, 4, 16}};
enum { N_WAYS = sizeof WAYS / sizeof WAYS[0] };

/* Where executor/cuda/backend_cuda.cu rounds. */
static struct rounding rounding_of(const struct way *w, const struct arch *a)
{
    const bool f32 = strcmp(w->math, "f32") == 0;
    return (struct rounding){.hidden = w->hidden,
                             .operand = f32                   ? FORMAT_F32
                                        : w->weight_bits == 4 ? FORMAT_F16
                                                              : a->weight_format,
                             .prompt = f32 ? FORMAT_F32 : FORMAT_F16,
                             .cache = w->cache_bits == 4 ? FORMAT_Q4
                                      : f32              ? FORMAT_F32
                                                         : FORMAT_F16,
                             .weight_bits = w->weight_bits};
}

static void run_way(const struct fixture *f, const struct placed *c, const struct way *w, struct outcome *o)
{
    struct hardware hw = machine_of(c, w->math, ballast_backend.backend);
    struct policy p = placed_policy(c, &hw);
    struct error err = {0};
    hw.compute[0].activation = w->hidden;
    p.weight_bits = w->weight_bits;
    p.cache_bits = w->cache_bits;
    cr_assert_eq(run_fixture(f, &hw, &p, ballast_backend.backend, o, NULL, &err), STATUS_OK, "%s, %s: %s", f->directory, w->name,
                 err.text);
    cr_assert_eq(o->n_logits, expected_logits(f));
}

/* Of the tokens that the run generated; kept while runs generate the same, which they do but for a near tie. */
static void reference_of(struct exact_reference *x, const struct outcome *o, const struct way *w, int32_t *tokens)
{
    const struct rounding how = rounding_of(w, &o->f->arch);
    const int64_t n = o->f->new_tokens;
    const int32_t *generated[FIXTURE_PROMPTS];
    bool same = x->f;
    for (int i = 0; i < FIXTURE_PROMPTS; i++) {
        generated[i] = tokens + i * n;
        same = same && memcmp(generated[i], o->out[i].tokens, (size_t)n * sizeof *tokens) == 0;
        memcpy(tokens + i * n, o->out[i].tokens, (size_t)n * sizeof *tokens);
    }
    if (same)
        return;
    exact_reference_free(x);
    exact_reference_new(x, o->f, generated, &how);
}

/* All placements of one fixture in one way, from the `turn`th on. */
static void every_placement_within(const struct fixture *f, const struct way *w, int turn)
{
    struct exact_reference x = {0};
    int32_t tokens[FIXTURE_PROMPTS * f->new_tokens];
    const bool all = getenv("BALLAST_TEST_ALL");
    for (int i = 0, n = 0; i < N_PLACED; i++) {
        struct outcome o;
        if (!case_of(&PLACED[i], ballast_backend.backend) || (n++ % N_WAYS != turn && !all))
            continue;
        run_way(f, &PLACED[i], w, &o);
        reference_of(&x, &o, w, tokens);
        const struct logit_error e = logit_error(&x, o.logits);
        printf("%s, %s, placement %d: logits are off by %.2f sqrt(V) at most, %.2f rms\n", f->directory, w->name, i, e.most,
               e.rms);
        cr_assert(within_bound(&x, &e), "%s, %s, placement %d: a logit is off by %g sqrt(V), all by %g rms", f->directory,
                  w->name, i, e.most, e.rms);
        free_outcome(&o);
    }
    exact_reference_free(&x);
}

static void every_way(int model, enum emu_order order)
{
    struct fixture f;
    emu_mode(order, order == EMU_EAGER ? 0 : test_seed("streams"));
    fixture_load(&f, MODELS[model]);
    for (int w = 0; w < N_WAYS; w++)
        every_placement_within(&f, &WAYS[w], (model + w) % N_WAYS);
    fixture_free(&f);
}

Test(cuda_bounds, pre_norm_in_fp16)
{
    every_way(0, EMU_SEEDED);
}
Test(cuda_bounds, post_norm_with_projections)
{
    every_way(1, EMU_LATE);
}
Test(cuda_bounds, odd_sizes_in_shards)
{
    every_way(2, EMU_EAGER);
}
Test(cuda_bounds, gelu_in_bf16)
{
    every_way(3, EMU_SEEDED);
}
Test(cuda_bounds, untied_without_biases)
{
    emu_close_device(1);
    every_way(4, EMU_EAGER);
}

/* Turing has no products in bf16: they are made in f32, as where the unit's math says f32, and the bound is that of f32 operands, which products in
 * bf16 do not keep. */
Test(cuda_bounds, bf16_weights_are_multiplied_in_f32_where_there_is_no_bf16)
{
    struct fixture f;
    struct rounding how;
    fixture_load(&f, "opt-tiny-bf16");
    how = rounding_of(&WAYS[0], &f.arch);
    how.operand = FORMAT_F32;
    for (int major = 7; major <= 8; major++) {
        struct outcome o;
        struct exact_reference x;
        const int32_t *generated[FIXTURE_PROMPTS];
        emu_capability(major);
        run_way(&f, &PLACED[9], &WAYS[0], &o);
        for (int i = 0; i < FIXTURE_PROMPTS; i++)
            generated[i] = o.out[i].tokens;
        exact_reference_new(&x, &f, generated, &how);
        const struct logit_error e = logit_error(&x, o.logits);
        printf("bf16 on compute capability %d: off by %.2f sqrt(V) of f32 operands at most, %.2f rms\n", major, e.most, e.rms);
        cr_assert_eq(within_bound(&x, &e), major == 7, "compute capability %d: %g sqrt(V) rms", major, e.rms);
        exact_reference_free(&x);
        free_outcome(&o);
    }
    fixture_free(&f);
}

/* -- what must exceed it --------------------------------------------------------------------------------------------------- */

/* Does a run whose kernels or epsilon are wrong leave the bound? */
static bool exceeded(const char *model, const struct way *w, enum emu_mistake mistake, double epsilon_factor)
{
    struct fixture f;
    struct outcome o;
    struct exact_reference x = {0};
    fixture_load(&f, model);
    int32_t tokens[FIXTURE_PROMPTS * f.new_tokens];
    const double epsilon = f.arch.norm_epsilon;
    emu_blas_mistake(mistake);
    f.arch.norm_epsilon = epsilon * epsilon_factor;
    run_way(&f, &PLACED[9], w, &o);
    f.arch.norm_epsilon = epsilon;
    emu_blas_mistake(EMU_NO_MISTAKE);
    reference_of(&x, &o, w, tokens);
    const struct logit_error e = logit_error(&x, o.logits);
    const bool out = !within_bound(&x, &e);
    printf("%s, %s, mistake %d, epsilon times %g: off by %.2f sqrt(V) at most, %.2f rms\n", model, w->name, mistake,
           epsilon_factor, e.most, e.rms);
    exact_reference_free(&x);
    free_outcome(&o);
    fixture_free(&f);
    return out;
}

/* Sums in fp16 show where 16 partial sums of a product are rounded to fp16, not among roundings to bf16; epsilon where it is not small beside the
 * variance: pre-norm, whose first hidden states are small. */
Test(cuda_bounds, wrong_kernels_exceed_them)
{
    static const struct {
        int model;
        const struct way *way;
        enum emu_mistake mistake;
        double epsilon;
    } cases[] = {{0, &F32, EMU_F16_SUMS, 1},        {0, &F32, EMU_NO_MISTAKE, 1.1},   {0, &WAYS[0], EMU_F16_SUMS, 1},
                 {1, &WAYS[0], EMU_F16_SUMS, 1},    {2, &WAYS[0], EMU_F16_SUMS, 1},   {0, &WAYS[0], EMU_LOST_SLICE, 1},
                 {3, &WAYS[0], EMU_LOST_SLICE, 1},  {4, &WAYS[2], EMU_LOST_SLICE, 1}, {0, &WAYS[0], EMU_NO_MISTAKE, 100},
                 {2, &WAYS[1], EMU_NO_MISTAKE, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert(exceeded(MODELS[cases[i].model], cases[i].way, cases[i].mistake, cases[i].epsilon), "case %zu", i);
}
