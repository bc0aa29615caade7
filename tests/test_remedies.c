/* What is said when nothing fits: the missing bytes, and remedies that work when they are followed to the letter. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/placement.h"
#include "solver/point.h"
#include "solver/search.h"
#include "tests/planner_cases.h"

/* Applies the one option that starts at `text` to copies of the inputs. */
static void apply_option(const char *text, struct hardware *hw, struct workload *w, struct search_options *o)
{
    char budget[64], tier[16];
    struct hardware big = *hw;
    int length;

    if (strncmp(text, "--compress-weight", 17) == 0) {
        o->weight_bits = 4;
    } else if (strncmp(text, "--compress-cache", 16) == 0) {
        o->cache_bits = 4;
    } else if (strncmp(text, "--attn-sparsity 1", 17) == 0) {
        o->attention_sparsity = 1;
    } else if (strncmp(text, "--prefetch 1", 12) == 0) {
        o->prefetch = 1;
    } else if (strncmp(text, "--gpu-batch-size 1", 18) == 0) {
        o->gpu_batch_size = 1;
    } else if (strncmp(text, "--num-gpu-batches 1", 19) == 0) {
        o->num_gpu_batches = 1;
    } else if (strncmp(text, "-p ", 3) == 0) {
        w->prompt_tokens = atoll(text + 3);
    } else if (strncmp(text, "-n ", 3) == 0) {
        w->gen_tokens = atoll(text + 3);
    } else {
        cr_assert_eq(sscanf(text, "--budget %15[^=]=%n", tier, &length), 1, "unknown remedy '%s'", text);
        snprintf(budget, sizeof(budget), "%.40s", text + 9);
        budget[strcspn(budget, " ,")] = 0;
        big.tier[hardware_tier(hw, tier)].capacity_bytes = INT64_MAX / 2; /* the profile has more than the budget given so far */
        cr_assert_eq(hardware_budget(&big, budget, NULL), STATUS_OK, "%s", budget);
        *hw = big;
    }
}

/* A remedy is one option, or several that go together: "--budget gpu=1GiB --budget cpu=2GiB". */
static void apply_remedy(const char *text, struct hardware *hw, struct workload *w, struct search_options *o)
{
    const size_t comma = (size_t)(strstr(text, ", ") ? strstr(text, ", ") - text : (long)strlen(text));
    const size_t or = (size_t)(strstr(text, " or ") ? strstr(text, " or ") - text : (long)strlen(text));
    const char *end = text + (comma < or ? comma : or);

    apply_option(text, hw, w, o);
    for (const char *at = strstr(text, " --"); at && at < end; at = strstr(at + 1, " --"))
        apply_option(at + 1, hw, w, o);
}

/* Applies every remedy in the message by itself and plans; returns how many there were. */
static int check_remedies(const char *message, const struct arch *a, const struct hardware *hw, const struct workload *w,
                          const struct search_options *o)
{
    const char *at = strstr(message, "; try ");
    int n = 0;

    while (at) {
        struct hardware hw2 = *hw;
        struct workload w2 = *w;
        struct search_options o2 = *o;
        struct plan p;
        struct error err = {0};
        const char *comma, * or ;
        at += n == 0 ? 6 : 0;
        apply_remedy(at, &hw2, &w2, &o2);
        cr_assert_eq(search(a, &hw2, &w2, &o2, &p, &err), STATUS_OK, "%s\n after '%s': %s", message, at, err.text);
        n++;
        comma = strstr(at, ", ");
        or = strstr(at, " or ");
        at = comma ? comma + 2 : or ? or +4 : NULL;
    }
    return n;
}

Test(remedies, what_does_not_fit_is_explained_with_remedies_that_work)
{
    /* Weights and cache may not go to the disk, as when there is none: about 100 MiB into 96. */
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct search_options o;
    struct plan p;
    struct error err = {0};

    disk_bound(&a, &hw, &w, &o);
    o.forbid = 1u << (CLASS_WEIGHT * TIERS_MAX + 1) | 1u << (CLASS_CACHE * TIERS_MAX + 1);
    o.realise = placement_realise;
    hw.tier[0].capacity_bytes = (int64_t)(50 * MIB);
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &err), STATUS_DOES_NOT_FIT);
    printf("%s\n", err.text);
    cr_assert_neq(strstr(err.text, "missing on ram at batch 1 (needs "), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "of 50 MiB)"), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "--compress-weight"), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "--budget ram="), NULL, "%s", err.text);
    cr_assert_eq(strchr(err.text, '\n'), NULL);
    cr_assert_geq(check_remedies(err.text, &a, &hw, &w, &o), 2);
    arch_free(&a);
}

Test(remedies, sparse_attention_that_has_no_room_may_be_given_up)
{
    /* 8 sequences x 511 tokens x 4 layers x 2 x 512 elements of 4 B: 64 MiB of cache in 48 MiB of memory. Only dense attention may have it on the
     * disk, where the weights go too. */
    struct arch a;
    struct hardware hw = test_machine(2, "f32");
    const struct workload w = {.prompt_tokens = 500, .gen_tokens = 12};
    struct search_options o;
    struct plan p;
    struct error err = {0};

    small_arch(&a, 512, 4, 64);
    search_options_default(&o);
    o.attention_sparsity = 0.1;
    o.gpu_batch_size = 1;
    o.num_gpu_batches = 8;
    o.cache_bits = 16;
    o.realise = placement_realise;
    hw.compute[0].workspace_bytes = 1 << 20;
    hw.tier[0].capacity_bytes = (int64_t)(48 * MIB);
    cr_assert_eq(search(&a, &hw, &w, &o, &p, &err), STATUS_DOES_NOT_FIT);
    cr_assert_neq(strstr(err.text, "--attn-sparsity 1"), NULL, "%s", err.text);
    cr_assert_geq(check_remedies(err.text, &a, &hw, &w, &o), 2);
    arch_free(&a);
}

Test(remedies, the_missing_bytes_are_those_of_the_smallest_batch)
{
    /* Only the cache is stuck to RAM: 16 layers * 2 * 512 elements * 4 bytes (f32 unit) * (64 + 16 - 1) tokens = 5177344 bytes a
     * sequence. With 1 MiB less than the message asks for, 1 MiB is missing; with what it asks for, it fits. */
    struct arch a;
    struct hardware hw, less;
    struct workload w;
    struct search_options o;
    struct problem pr;
    struct policy switches[SWITCHES_MAX];
    struct point pt = {0};
    struct plan p;
    double missing;

    disk_bound(&a, &hw, &w, &o);
    o.forbid = 1u << (CLASS_CACHE * TIERS_MAX + 1);
    hw.tier[0].capacity_bytes = (int64_t)(4 * MIB);
    o.gpu_batch_size = o.num_gpu_batches = o.overlap = 1;
    o.schedule = SCHEDULE_ZIGZAG;
    o.prefetch = 3;
    cr_assert_eq(problem_new(&pr, &a, &hw, &w, &o, NULL), STATUS_OK);
    cr_assert_eq(problem_switches(&pr, switches), 1);
    pt.policy = switches[0];
    cr_assert_eq(point_build(&pr, &pt, NULL), STATUS_OK);
    cr_assert_eq(pt.cost.peak[0][0].coef[CLASS_CACHE][0], 5177344);
    cr_assert_eq(point_solve(&pr, &pt, NULL), STATUS_DOES_NOT_FIT);
    missing = pt.solution.missing_bytes;
    problem_free(&pr);
    less = hw;
    less.tier[0].capacity_bytes += (int64_t)ceil(missing) + 1;
    plan_of(&a, &less, &w, &o);
    less.tier[0].capacity_bytes -= (int64_t)MIB;
    cr_assert_eq(search(&a, &less, &w, &o, &p, NULL), STATUS_DOES_NOT_FIT);
    arch_free(&a);
}

static void check_random_misfit(int i, int *explained, int *remedies)
{
    struct hardware hw = random_machine(2 + i % 2);
    struct search_options o = random_options();
    const struct workload w = {.prompt_tokens = 1 + pick(256), .gen_tokens = 1 + pick(64)};
    struct arch a;
    struct plan p;
    struct error err = {0};

    small_arch(&a, 128, 1 + pick(6), 512);
    o.max_block = 64;
    o.gpu_batch_size = pick(2) ? 1 + pick(8) : 0;
    o.realise = placement_realise;
    if (i % 4 == 0) {
        o.attention_sparsity = 0.2;
        o.forbid = 0;
    }
    for (int k = 0; k < hw.n_tiers; k++)
        hw.tier[k].capacity_bytes /= 8;
    if (search(&a, &hw, &w, &o, &p, &err) == STATUS_DOES_NOT_FIT) {
        const int n = check_remedies(err.text, &a, &hw, &w, &o);
        cr_assert_neq(strstr(err.text, "--budget "), NULL, "machine %d: %s", i, err.text);
        cr_assert(n >= 1 && n <= 3, "machine %d: %s", i, err.text);
        ++*explained;
        *remedies += n;
    }
    arch_free(&a);
}

Test(remedies, every_remedy_on_random_machines_works)
{
    int explained = 0, remedies = 0;

    seed_from_environment("every_remedy_on_random_machines_works");
    for (int i = 0; i < 80; i++)
        check_random_misfit(i, &explained, &remedies);
    cr_assert_gt(explained, 20, "%d misfits: the test should see some", explained);
    cr_assert_geq(remedies, explained, "%d remedies for %d misfits", remedies, explained);
}
