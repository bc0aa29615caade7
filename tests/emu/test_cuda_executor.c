/* test_cuda_executor.c - the executor with the GPU's backend, emulated, in f32 (test_cuda_bounds.c: in 16 and 4 bits): the tokens and logits of the
 * reference in every placement that has a device, the streams in any order that they allow, and no byte of device memory touched by the host. */
#include "executor/backend_table.h"
#include "tests/emu/emu.h"
#include "tests/executor_cases.h"
#include "tests/kernel_test.h"

static const struct backend *gpu(enum emu_order order)
{
    emu_mode(order, order == EMU_EAGER ? 0 : test_seed("streams"));
    return ballast_backend.backend;
}

Test(cuda_executor, pre_norm_in_fp16_is_the_reference_for_every_placement)
{
    every_placement(MODELS[0], gpu(EMU_SEEDED));
}
Test(cuda_executor, post_norm_with_projections_is_the_reference_for_every_placement)
{
    every_placement(MODELS[1], gpu(EMU_LATE));
}
Test(cuda_executor, odd_sizes_in_shards_are_the_reference_for_every_placement)
{
    every_placement(MODELS[2], gpu(EMU_SEEDED));
}
Test(cuda_executor, gelu_in_bf16_is_the_reference_for_every_placement)
{
    every_placement(MODELS[3], gpu(EMU_LATE));
}
Test(cuda_executor, untied_without_biases_is_the_reference_for_every_placement)
{
    emu_close_device(1);
    every_placement(MODELS[4], gpu(EMU_EAGER));
}

/* As a run is: nothing but the tokens comes down, and they do while other heads are at work. */
Test(cuda_executor, tokens_whose_logits_nobody_sees_are_the_reference_for_every_placement)
{
    every_placement_unseen(MODELS[0], gpu(EMU_LATE));
    every_placement_unseen(MODELS[4], gpu(EMU_SEEDED));
    every_placement_unseen(MODELS[2], gpu(EMU_EAGER));
}

/* 16 prompts of 12 tokens are 192 vectors, of which the buffer they pass through, 1 MiB, holds 127 with two sectors each: the second part is read
 * when the first has gone up. */
Test(cuda_executor, prompts_of_more_vectors_than_their_buffer_holds_are_the_reference)
{
    struct fixture f;
    struct outcome o;
    struct error err = {0};
    const struct placed *c = &PLACED[13]; /* all on the disk */
    struct hardware hw = machine_of(c, "f32", ballast_backend.backend);
    struct policy p = placed_policy(c, &hw);
    p.gpu_batch_size = 16;
    p.num_gpu_batches = 1;
    fixture_load(&f, MODELS[0]);
    cr_assert_eq(run_fixture(&f, &hw, &p, gpu(EMU_LATE), &o, NULL, &err), STATUS_OK, "%s", err.text);
    assert_same_tokens(&f, &o, "a batch of 16");
    free_outcome(&o);
    fixture_free(&f);
}

Test(cuda_executor, sparse_attention_is_the_reference_for_every_placement_in_place)
{
    every_placement_as("opt-tiny-pre", "sparse", gpu(EMU_SEEDED));
    every_placement_as("opt-tiny-shard", "sparse", gpu(EMU_LATE));
}
Test(cuda_executor, sparse_attention_over_a_packed_cache_gives_the_same_tokens_everywhere)
{
    same_everywhere("f32", FORMAT_F32, 16, 4, 0.3, gpu(EMU_SEEDED));
}

Test(cuda_executor, sampled_tokens_are_those_of_their_logits)
{
    samples_are_those_of_their_logits("opt-tiny-shard", &(struct sampling){0.8, 40, 0.9, 7}, gpu(EMU_SEEDED));
}

/* -- what goes wrong --------------------------------------------------------------------------------------------------- */

/* A placement of PLACED. */
static enum status run_placed(const struct fixture *f, const struct placed *c, bool pageable, struct error *err)
{
    struct outcome o;
    struct hardware hw = machine_of(c, "f32", ballast_backend.backend);
    struct policy p = placed_policy(c, &hw);
    p.pageable_weights = pageable;
    enum status s = run_fixture(f, &hw, &p, ballast_backend.backend, &o, NULL, err);
    free_outcome(&o);
    return s;
}

/* In which everything moves and attends near the cache. */
static enum status run_once(const struct fixture *f, struct error *err)
{
    return run_placed(f, &PLACED[16], true, err);
}

/* Of the host's memory all but the weights is pinned, to the byte. */
Test(cuda_executor, pageable_weights_are_not_pinned)
{
    struct fixture f;
    const struct placed *c = &PLACED[10]; /* all on the host */
    struct workload w = {12, 0, FIXTURE_PROMPTS};
    struct placement pl;
    struct error err = {0};
    fixture_load(&f, "opt-tiny-untied");
    struct hardware hw = machine_of(c, "f32", ballast_backend.backend);
    struct policy p = placed_policy(c, &hw);
    p.pageable_weights = true;
    w.gen_tokens = f.new_tokens;
    cr_assert_eq(placement_new(&pl, &f.arch, &hw, &w, &p, &err), STATUS_OK, "%s", err.text);
    const int64_t pinned = placement_peak(&pl, 1) - pl.region_bytes[1][REGION_WEIGHTS];
    cr_assert_gt(pl.region_bytes[1][REGION_WEIGHTS], 0);
    emu_memory(INT64_C(1) << 30, pinned);
    cr_assert_eq(run_placed(&f, c, true, &err), STATUS_OK, "%s", err.text);
    emu_memory(INT64_C(1) << 30, pinned - 1);
    cr_assert_eq(run_placed(&f, c, true, &err), STATUS_DOES_NOT_FIT);
    placement_free(&pl);
    fixture_free(&f);
}

/* Every call of CUDA fails once: each of the first 40, when things are opened, then fewer and fewer. */
Test(cuda_executor, a_call_that_fails_ends_the_run_and_is_named)
{
    struct fixture f;
    fixture_load(&f, "opt-tiny-untied");
    emu_fail_at(0);
    cr_assert_eq(run_once(&f, NULL), STATUS_OK);
    const int64_t calls = emu_calls();
    cr_assert_gt(calls, 1000);
    for (int64_t n = 1; n < calls - 100;
         n += n < 40 ? 1 : n / 4) { /* calls that give things back at the end have nobody to tell */
        struct error err = {0};
        emu_fail_at(n);
        cr_assert_neq(run_once(&f, &err), STATUS_OK, "call %lld of %lld", (long long)n, (long long)calls);
        cr_assert(strstr(err.text, "cuda") || strstr(err.text, "gpu_") || strstr(err.text, "cublas"), "call %lld: %s",
                  (long long)n, err.text);
    }
    emu_fail_at(0);
    fixture_free(&f);
}

Test(cuda_executor, too_little_memory_says_how_much_was_asked_for)
{
    struct fixture f;
    struct error err = {0};
    fixture_load(&f, "opt-tiny-untied");
    emu_memory(100000, INT64_C(1) << 30);
    cr_assert_eq(run_once(&f, &err), STATUS_DOES_NOT_FIT);
    cr_assert(strstr(err.text, "out of memory: 100000 of the device's 100000 bytes are free"), "%s", err.text);
    err = (struct error){0};
    emu_memory(INT64_C(1) << 30, 100000);
    cr_assert_eq(run_once(&f, &err), STATUS_DOES_NOT_FIT);
    cr_assert(strstr(err.text, "cudaHostAlloc of "), "%s", err.text);
    fixture_free(&f);
}

/* A workspace is refused, or it is enough for every kernel and for cuBLAS, which wants 16 KiB: narrow matrices alone need less of it. */
Test(cuda_executor, the_least_workspace_works)
{
    struct fixture f;
    int refused = 0, ran = 0;
    fixture_load(&f, MODELS[4]);
    for (int64_t bytes = 0; bytes <= 96 << 10; bytes += 4 << 10) {
        struct outcome o;
        struct error err = {0};
        struct hardware hw = machine_of(&PLACED[9], "f16", ballast_backend.backend);
        struct policy p = placed_policy(&PLACED[9], &hw);
        hw.compute[0].activation = FORMAT_F16;
        hw.compute[0].workspace_bytes = bytes;
        const enum status s = run_fixture(&f, &hw, &p, ballast_backend.backend, &o, NULL, &err);
        cr_assert(s == STATUS_OK || s == STATUS_INVALID, "%lld bytes: %s", (long long)bytes, err.text);
        refused += s == STATUS_INVALID;
        ran += s == STATUS_OK;
        free_outcome(&o);
    }
    cr_assert_gt(refused, 0);
    cr_assert_gt(ran, 0);
    fixture_free(&f);
}

/* -- what is planned and what is used ------------------------------------------------------------------------------------ */

/* The workspace that is planned for f16 holds all rows of a batch, so a layer takes its kernels once: attention one for the padding, a norm, three
 * biases, a store, attention, a conversion and an addition; the MLP a norm, an activation and an addition; the embedding its own, one for the
 * padding and one that gathers; the head for each position that it scores a conversion before and after a norm; and the choice of tokens one.
 * Products are cuBLAS's. */
Test(cuda_executor, the_planned_workspace_holds_the_rows_of_a_batch)
{
    struct fixture f;
    struct outcome o;
    struct error err = {0};
    const struct placed *c = &PLACED[9]; /* all on the device, a batch of all prompts */
    int64_t step = 1, head = 0;          /* the choice of tokens */
    struct hardware hw = machine_of(c, "f16", ballast_backend.backend);
    hw.compute[0].activation = FORMAT_F16;
    struct policy p = placed_policy(c, &hw);
    fixture_load(&f, MODELS[0]);
    for (int i = 0; i < f.arch.n_layers; i++) {
        const enum layer_kind kind = f.arch.layer[i].kind;
        step += kind == LAYER_EMBED ? 3 : kind == LAYER_ATTENTION ? 9 : kind == LAYER_MLP ? 3 : 0;
        head += kind == LAYER_HEAD ? 3 : 0;
    }
    const int64_t before = emu_launches();
    cr_assert_eq(run_fixture(&f, &hw, &p, gpu(EMU_EAGER), &o, NULL, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(emu_launches() - before, f.new_tokens * step + (12 + f.new_tokens - 1) * head); /* prompts of 12 */
    free_outcome(&o);
    fixture_free(&f);
}
