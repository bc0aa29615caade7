/* Rounding a policy to rows and sequences: nothing is lost, fractions are kept, and the cost table's peaks agree within 1 %. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/cost.h"
#include "model/placement.h"
#include "model/shorten.h"
#include "tests/machine.h"

static uint64_t state;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 9007199254740992.0;
}

static void random_fractions(struct policy *p, int n_tiers)
{
    for (int c = 0; c < CLASS_COUNT; c++) {
        double left = 1;
        for (int t = 0; t < n_tiers - 1; t++) {
            p->fraction[c][t] = uniform() < 0.2 ? 0 : left * uniform();
            left -= p->fraction[c][t];
        }
        p->fraction[c][n_tiers - 1] = left;
    }
}

static struct placement place(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct policy *p)
{
    struct placement pl;
    struct error err = {0};
    cr_assert_eq(placement_new(&pl, a, hw, w, p, &err), STATUS_OK, "%s", err.text);
    return pl;
}

static void assert_complete(const struct placement *pl, const struct arch *a)
{
    for (int i = 1; i < a->n_layers; i++) {
        const struct layer *l = &a->layer[i];
        for (int j = 0; j < l->n_tensors; j++) {
            const struct row_cut *cut = placement_cut(pl, i, j);
            if (!l->tensor[j].placed)
                continue;
            cr_assert_eq(cut->row[0], l->tensor[j].row_begin);
            cr_assert_eq(cut->row[pl->n_tiers], l->tensor[j].row_end);
            for (int t = 0; t < pl->n_tiers; t++)
                cr_assert_leq(cut->row[t], cut->row[t + 1]);
        }
        for (int k = 0; k < pl->n_batches && l->state_per_token > 0; k++) {
            int sum = 0;
            for (int t = 0; t < pl->n_tiers; t++)
                sum += placement_cache_count(pl, i, k, t);
            cr_assert_eq(sum, pl->batch_size);
        }
    }
}

Test(placement, random_policies_keep_every_row_and_sequence_and_the_predicted_peaks)
{
    static const char *const models[] = {"opt-1.3b", "opt-6.7b", "opt-30b"};
    const char *seed = getenv("BALLAST_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 42;
    printf("placement: BALLAST_SEED=%llu\n", (unsigned long long)state);
    for (int i = 0; i < 60; i++) {
        struct arch a = {0};
        struct error err = {0};
        struct hardware hw = test_machine(2 + i % 2, "bf16");
        struct workload w = {64 + (int64_t)(uniform() * 500), 1 + (int64_t)(uniform() * 64), 0};
        struct policy p;
        struct cost c;
        struct prediction predicted;
        cr_assert_eq(arch_load(&a, models[i % 3], &err), STATUS_OK, "%s", err.text);
        policy_default(&p, hw.n_tiers);
        random_fractions(&p, hw.n_tiers);
        p.gpu_batch_size = 1 + (int)(uniform() * 40);
        p.num_gpu_batches = 1 + (int)(uniform() * 6);
        p.weight_bits = uniform() < 0.3 ? 4 : 16;
        p.cache_bits = uniform() < 0.3 ? 4 : 16;
        p.attention_near_cache = hw.n_tiers == 3 && uniform() < 0.5;
        struct placement pl = place(&a, &hw, &w, &p);
        assert_complete(&pl, &a);
        cr_assert_eq(cost_build(&c, &a, &hw, &w, &p, &err), STATUS_OK, "%s", err.text);
        cost_predict(&c, (const double(*)[TIERS_MAX])pl.realised, &predicted);
        for (int t = 0; t < hw.n_tiers; t++) {
            double exact = (double)placement_peak(&pl, t), linear = predicted.peak_bytes[PHASE_PREFILL][t];
            /* What the linear form cannot see: slots hold whole sequences (two cache slots and three hidden slots may each be one
             * sequence larger than the share, at every hop), ring slots are padded by 8 KiB a piece, and on the disk a token's rows of
             * each layer and batch end at a sector, which the form knows for a whole batch only. */
            double sequence = (double)cache_row_bytes(&a.layer[1], pl.cache) * (double)pl.cache_tokens;
            double hidden = (double)(w.prompt_tokens * pl.hidden_row_bytes);
            double slack = 0.01 * exact + 4 * sequence + 6 * hidden * 2 + 3 * 12 * 8192.0;
            if (t == hw.n_tiers - 1 || pl.region_bytes[t][REGION_CACHE_SLOTS] > 0)
                slack += 4096.0 * (double)pl.cache_tokens * (t == hw.n_tiers - 1 ? (double)a.blocks * p.num_gpu_batches : 2);
            cr_assert_lt(fabs(exact - linear), slack, "case %d, %s, tier %d: %.0f bytes, the table says %.0f", i, a.name, t,
                         exact, linear);
        }
        for (int k = 0; k < CLASS_COUNT; k++)
            for (int t = 0; t < hw.n_tiers; t++)
                cr_assert_lt(fabs(pl.realised[k][t] - p.fraction[k][t]),
                             k == CLASS_WEIGHT  ? 1e-3
                             : k == CLASS_CACHE ? 0.5 / a.blocks
                                                : 1.0,
                             "class %d tier %d: %g became %g", k, t, p.fraction[k][t], pl.realised[k][t]);
        placement_free(&pl);
        arch_free(&a);
    }
}

/* The planner's fractions have 17 digits; a few decimals of a percent do, and never make a policy that fits one that does not. */
Test(placement, shortened_percentages_place_nearly_the_same_and_fit)
{
    const char *seed = getenv("BALLAST_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 42;
    printf("placement: BALLAST_SEED=%llu\n", (unsigned long long)state);
    for (int i = 0; i < 40; i++) {
        struct arch a = {0};
        struct error err = {0};
        struct hardware hw = test_machine(2 + i % 2, "bf16");
        struct workload w = {64, 8, 0};
        struct policy p, q;
        cr_assert_eq(arch_load(&a, "opt-6.7b", &err), STATUS_OK, "%s", err.text);
        policy_default(&p, hw.n_tiers);
        random_fractions(&p, hw.n_tiers);
        p.gpu_batch_size = 1 + (int)(uniform() * 40);
        p.num_gpu_batches = 1 + (int)(uniform() * 6);
        struct placement x = place(&a, &hw, &w, &p);
        for (int t = 0; t < hw.n_tiers; t++) /* not a byte more than it takes; the last tier takes what is rounded off */
            hw.tier[t].capacity_bytes = placement_peak(&x, t) + (t == hw.n_tiers - 1 ? 64 << 20 : 0);
        q = p;
        cr_assert_eq(policy_shorten(&a, &hw, &w, 0, &q, &err), STATUS_OK, "%s", err.text);
        struct placement y = place(&a, &hw, &w, &q);
        cr_assert_eq(placement_check(&y, &hw, &err), STATUS_OK, "case %d: %s", i, err.text);
        for (int c = 0; c < CLASS_COUNT; c++)
            for (int t = 0; t < hw.n_tiers; t++)
                cr_assert_leq(fabs(x.realised[c][t] - y.realised[c][t]), 1e-4);
        placement_free(&x);
        placement_free(&y);
        arch_free(&a);
    }
    struct arch a = {0};
    struct hardware hw = test_machine(2, "bf16");
    struct policy p;
    cr_assert_eq(arch_load(&a, "opt-6.7b", NULL), STATUS_OK);
    policy_default(&p, 2);
    hw.tier[0].capacity_bytes = hw.tier[1].capacity_bytes = 1LL << 40;
    p.fraction[CLASS_WEIGHT][0] = 0.23401234567;
    p.fraction[CLASS_WEIGHT][1] = 1 - 0.23401234567;
    cr_assert_eq(policy_shorten(&a, &hw, &(struct workload){64, 8, 0}, 0, &p, NULL), STATUS_OK);
    cr_assert_float_eq(p.fraction[CLASS_WEIGHT][0], 0.234, 1e-12);
    arch_free(&a);
}

Test(placement, half_the_weights_of_opt_125m_by_hand)
{
    struct arch a = {0};
    struct hardware hw = test_machine(2, "f32");
    struct workload w = {16, 4, 0};
    struct policy p;
    cr_assert_eq(arch_load(&a, "opt-125m", NULL), STATUS_OK);
    policy_default(&p, 2);
    p.fraction[CLASS_WEIGHT][0] = p.fraction[CLASS_WEIGHT][1] = 0.5;
    struct placement pl = place(&a, &hw, &w, &p);
    /* 123 532 032 - 2 050 * 768 positions and the vectors are placed; in fp16 half of 2 * placed elements is on each tier */
    int64_t placed = 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 50272 * 768;
    cr_assert_eq(pl.region_bytes[0][REGION_WEIGHTS] + pl.region_bytes[1][REGION_WEIGHTS], 2 * placed);
    cr_assert_leq(llabs((long long)(pl.region_bytes[0][REGION_WEIGHTS] - placed)), 2 * 3072);
    /* a ring of 3 visits; the largest layer is an MLP of 2 * 768 * 3072 * 2 bytes, half of it streamed, each of two pieces padded */
    int64_t streamed = 2 * 768 * 3072;
    cr_assert_geq(pl.region_bytes[0][REGION_WEIGHT_RING], 3 * streamed);
    cr_assert_leq(pl.region_bytes[0][REGION_WEIGHT_RING], 3 * (streamed + 2 * 3 * 4096 + 2 * 2 * 3072));
    /* the cache of 16 + 4 - 1 tokens, f32: 12 layers x 19 x 2 x 768 x 4 bytes */
    cr_assert_eq(pl.region_bytes[0][REGION_CACHE], 12 * 19 * 2 * 768 * 4);
    placement_free(&pl);
    arch_free(&a);
}

Test(placement, what_exceeds_a_tier_is_said_in_bytes)
{
    struct arch a = {0};
    struct hardware hw = test_machine(2, "f32");
    struct workload w = {16, 4, 0};
    struct policy p;
    struct error err = {0};
    cr_assert_eq(arch_load(&a, "opt-1.3b", NULL), STATUS_OK);
    policy_default(&p, 2);
    struct placement pl = place(&a, &hw, &w, &p);
    char missing[40];
    snprintf(missing, sizeof missing, "%lld bytes", (long long)placement_peak(&pl, 0));
    cr_assert_eq(placement_check(&pl, &hw, &err), STATUS_DOES_NOT_FIT);
    cr_assert_not_null(strstr(err.text, "tier ram"), "%s", err.text);
    cr_assert_not_null(strstr(err.text, missing), "%s", err.text);
    placement_free(&pl);
    arch_free(&a);
}

/* OPT-125M's attention is four matrices of 768 x 768, whose middles lie at 1/8, 3/8, 5/8 and 7/8, its MLP two at 1/4 and 3/4; a part of the head is one. */
Test(placement, whole_tensors_go_where_their_middles_fall)
{
    static const struct {
        double gpu, cpu;
        int home[6]; /* q, k, v, o, fc1, fc2 */
        int head;
    } cases[] = {
        {0.2, 0.8, {1, 1, 1, 0, 1, 1}, 1}, /* disk none, CPU up to 4/5 */
        {0.1, 0.9, {1, 1, 1, 1, 1, 1}, 1}, /* 7/8 is below 9/10 */
        {0, 0.5, {2, 2, 1, 1, 2, 1}, 1},   /* disk up to 1/2, which is the CPU's */
        {1, 0, {0, 0, 0, 0, 0, 0}, 0},
    };
    struct arch a = {0};
    struct hardware hw = test_machine(3, "f16");
    struct workload w = {.prompt_tokens = 8, .gen_tokens = 4};
    struct error err = {0};
    cr_assert_eq(arch_load(&a, "opt-125m", &err), STATUS_OK, "%s", err.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const enum tensor_role roles[] = {ROLE_Q, ROLE_K, ROLE_V, ROLE_O, ROLE_FC1, ROLE_FC2};
        struct policy p;
        double bytes[3] = {0}, all = 0;
        policy_default(&p, 3);
        p.whole_tensors = true;
        p.fraction[CLASS_WEIGHT][0] = cases[i].gpu;
        p.fraction[CLASS_WEIGHT][1] = cases[i].cpu;
        p.fraction[CLASS_WEIGHT][2] = 1 - cases[i].gpu - cases[i].cpu;
        struct placement pl = place(&a, &hw, &w, &p);
        assert_complete(&pl, &a);
        for (int l = 1; l < a.n_layers; l++)
            for (int j = 0; j < a.layer[l].n_tensors; j++) {
                const struct tensor *t = &a.layer[l].tensor[j];
                const struct row_cut *cut = placement_cut(&pl, l, j);
                int home = cases[i].head;
                if (!t->placed)
                    continue;
                for (int r = 0; r < 6; r++)
                    home = t->role == roles[r] ? cases[i].home[r] : home;
                cr_assert_eq(cut->row[home], t->row_begin, "case %zu, layer %d, %s", i, l, t->name);
                cr_assert_eq(cut->row[home + 1], t->row_end, "case %zu, layer %d, %s", i, l, t->name);
                bytes[home] += (double)((t->row_end - t->row_begin) * t->cols);
                all += (double)((t->row_end - t->row_begin) * t->cols);
            }
        for (int t = 0; t < 3; t++)
            cr_assert_float_eq(pl.realised[CLASS_WEIGHT][t], bytes[t] / all, 1e-12);
        placement_free(&pl);
    }
    arch_free(&a);
}

/* Of the host's memory beside a device everything is page-locked, or everything but the weights: at 2 GB/s that takes block / 2e9 s. */
Test(placement, pageable_weights_are_not_part_of_the_pinned_block)
{
    struct arch a = {0};
    struct error err = {0};
    struct hardware hw = test_machine(3, "bf16");
    struct workload w = {64, 8, 0};
    struct policy p;
    cr_assert_eq(arch_load(&a, "opt-1.3b", &err), STATUS_OK, "%s", err.text);
    policy_default(&p, 3);
    cr_assert_eq(policy_percent(&p, "20 50 0 100 0 100", &hw, &err), STATUS_OK, "%s", err.text);
    struct placement pinned = place(&a, &hw, &w, &p);
    p.pageable_weights = true;
    struct placement pl = place(&a, &hw, &w, &p);
    cr_assert_eq(placement_block(&pinned, 1), placement_peak(&pinned, 1));
    cr_assert_eq(placement_pinning_s(&pinned, &hw), 0.0, "no rate is known");
    cr_assert_eq(placement_peak(&pl, 1), placement_peak(&pinned, 1) + UPLOAD_BYTES);
    cr_assert_eq(placement_block(&pl, 1), placement_peak(&pl, 1) - pl.region_bytes[1][REGION_WEIGHTS]);
    cr_assert_eq(placement_block(&pl, 0), placement_peak(&pl, 0));
    hw.link[0].pinning_bytes_per_s = 2e9;
    cr_assert_float_eq(placement_pinning_s(&pl, &hw), (double)placement_block(&pl, 1) / 2e9, 1e-12);
    placement_free(&pinned);
    placement_free(&pl);
    arch_free(&a);
}

Test(placement, logits_are_where_tokens_are_chosen_for_as_many_batches_as_must_wait)
{
    /* OPT-30B's table is smaller than its MLP: a head of one part, done with a batch before the next comes. OPT-1.3B's is larger, a head of several
     * parts, each for all batches in turn; row by row a batch goes through all of them. Logits: 4 bytes times 50272, in whole pages. */
    static const struct {
        const char *model;
        enum schedule_kind schedule;
        int batches;
    } cases[] = {{"opt-30b", SCHEDULE_ZIGZAG, 1},
                 {"opt-1.3b", SCHEDULE_ZIGZAG, 5},
                 {"opt-1.3b", SCHEDULE_DIAGONAL, 5},
                 {"opt-1.3b", SCHEDULE_ROW, 1}};
    struct hardware hw = test_machine(3, "f16");
    struct workload w = {.prompt_tokens = 8, .gen_tokens = 10};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arch a = {0};
        struct policy p;
        cr_assert_eq(arch_load(&a, cases[i].model, NULL), STATUS_OK);
        policy_default(&p, 3);
        p.gpu_batch_size = 3;
        p.num_gpu_batches = 5;
        p.schedule = cases[i].schedule;
        const int64_t bytes = 4 * 50272 * 3 * cases[i].batches, pages = (bytes + DISK_ALIGN - 1) / DISK_ALIGN;
        cr_assert_eq(workspace_of(&a, &hw, 0, &w, &p).logits_bytes, pages * DISK_ALIGN, "case %zu", i);
        cr_assert_eq(workspace_of(&a, &hw, 1, &w, &p).logits_bytes, 0, "case %zu", i);
        arch_free(&a);
    }
}
