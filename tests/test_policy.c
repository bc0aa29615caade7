#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/policy.h"

/* A machine of `n_tiers` tiers; three and more have a unit on the second. */
static struct hardware machine(int n_tiers)
{
    static const char *const names[][TIERS_MAX] = {{"ram", "disk"}, {"gpu", "cpu", "disk"}, {"gpu", "cpu", "far", "disk"}};
    struct hardware hw = {.name = "box", .n_tiers = n_tiers, .n_computes = n_tiers > 2 ? 2 : 1};
    for (int t = 0; t < n_tiers; t++)
        snprintf(hw.tier[t].name, sizeof hw.tier[t].name, "%s", names[n_tiers - 2][t]);
    return hw;
}

static const char valid[] = "{\n"
                            " \"ballast_policy\": 1,\n"
                            " \"gpu_batch_size\": 4, \"num_gpu_batches\": 8,\n"
                            " \"weights\": {\"gpu\": 0.2, \"cpu\": 0.8, \"disk\": 0},\n"
                            " \"cache\": {\"gpu\": 0, \"cpu\": 1, \"disk\": 0},\n"
                            " \"activations\": {\"gpu\": 0, \"cpu\": 0.25, \"disk\": 0.75},\n"
                            " \"weight_bits\": 4, \"cache_bits\": 16,\n"
                            " \"attention_near_cache\": true,\n"
                            " \"schedule\": \"row\", \"overlap\": false, \"prefetch\": 2\n"
                            "}\n";

static enum status parse(struct policy *p, const char *text, const struct hardware *hw, struct error *err)
{
    return policy_parse(p, "p.json", text, strlen(text), hw, err);
}

static struct policy sample(void)
{
    struct hardware hw = machine(3);
    struct policy p;
    struct error err = {0};
    cr_assert_eq(parse(&p, valid, &hw, &err), STATUS_OK, "%s", err.text);
    return p;
}

Test(policy, every_field_arrives)
{
    struct policy p = sample();
    cr_assert(p.gpu_batch_size == 4 && p.num_gpu_batches == 8 && policy_block(&p) == 32);
    cr_assert(p.fraction[CLASS_WEIGHT][0] == 0.2 && p.fraction[CLASS_WEIGHT][1] == 0.8 && p.fraction[CLASS_WEIGHT][2] == 0);
    cr_assert(p.fraction[CLASS_CACHE][1] == 1 && p.fraction[CLASS_ACTIVATION][2] == 0.75 && p.fraction[CLASS_ACTIVATION][3] == 0);
    cr_assert(p.weight_bits == 4 && p.cache_bits == 16 && p.attention_near_cache && !p.overlap && p.prefetch == 2);
    cr_assert_eq(p.schedule, SCHEDULE_ROW);
    cr_assert_str_eq(class_name(CLASS_ACTIVATION), "activations");
}

Test(policy, the_default_is_all_on_the_first_tier)
{
    struct hardware hw = machine(3);
    struct policy p;
    policy_default(&p, 3);
    cr_assert_eq(policy_check(&p, &hw, "default", NULL), STATUS_OK);
    cr_assert(policy_block(&p) == 1 && p.weight_bits == 16 && p.cache_bits == 16 && p.overlap && p.prefetch == 3);
    cr_assert(!p.attention_near_cache && p.schedule == SCHEDULE_ZIGZAG);
    for (int c = 0; c < CLASS_COUNT; c++)
        cr_assert(p.fraction[c][0] == 1 && p.fraction[c][1] == 0 && p.fraction[c][2] == 0 && p.fraction[c][3] == 0);
}

Test(policy, blocks_do_not_overflow)
{
    struct policy p = {.gpu_batch_size = 65536, .num_gpu_batches = 65536};
    cr_assert_eq(policy_block(&p), (int64_t)1 << 32);
}

/* -- files --------------------------------------------------------------------------------------------------------- */

static char *edited(const char *old, const char *new)
{
    const char *at = strstr(valid, old);
    cr_assert_not_null(at, "'%s' is not in the text", old);
    size_t size = sizeof valid + strlen(new);
    char *out = malloc(size);
    snprintf(out, size, "%.*s%s%s", (int)(at - valid), valid, new, at + strlen(old));
    return out;
}

static const struct {
    const char *old, *new, *message;
} edits[] = {
    {"\"ballast_policy\": 1", "\"ballast_policy\": 9",
     "p.json:2: key 'ballast_policy': expected the whole number 1, found the number 9"},
    {"\"gpu_batch_size\": 4", "\"gpu_batch_size\": 0",
     "p.json:3: key 'gpu_batch_size': expected a whole number from 1 to 65536, found the number 0"},
    {"\"num_gpu_batches\": 8", "\"num_gpu_batches\": 65537",
     "p.json:3: key 'num_gpu_batches': expected a whole number from 1 to 65536, found the number 65537"},
    {"\"num_gpu_batches\": 8", "\"num_gpu_batches\": \"8\"",
     "p.json:3: key 'num_gpu_batches': expected a whole number from 1 to 65536, found the text \"8\""},
    {", \"disk\": 0}", "}", "p.json:4: key 'weights.disk': expected a number from 0 to 1, found nothing"},
    {"\"disk\": 0}", "\"tape\": 0}",
     "p.json:4: key 'weights.tape': expected only the keys gpu, cpu, disk; found the unknown key 'tape'"},
    {"\"gpu\": 0.2", "\"gpu\": -0.2", "p.json:4: key 'weights.gpu': expected a number from 0 to 1, found the number -0.2"},
    {"\"gpu\": 0.2", "\"gpu\": 0.3", "p.json:4: key 'weights': expected fractions that sum to 1, found a sum of 1.1"},
    {"\"cpu\": 0.25", "\"cpu\": 0.24999",
     "p.json:6: key 'activations': expected fractions that sum to 1, found a sum of 0.99999"},
    {"\"weight_bits\": 4", "\"weight_bits\": 8", "p.json:7: key 'weight_bits': expected 4 or 16, found 8"},
    {"\"attention_near_cache\": true", "\"attention_near_cache\": 1",
     "p.json:8: key 'attention_near_cache': expected true or false, found the number 1"},
    {"\"row\"", "\"column\"", "p.json:9: key 'schedule': expected \"zigzag\", \"row\" or \"diagonal\", found \"column\""},
    {"\"prefetch\": 2", "\"prefetch\": 0",
     "p.json:9: key 'prefetch': expected a whole number from 1 to 1024, found the number 0"},
    {"\"overlap\": false, ", "", "p.json:1: key 'overlap': expected true or false, found nothing"},
    {"\"prefetch\": 2", "\"prefetch\": 2, \"attention_sparsity\": 1.5",
     "p.json:9: key 'attention_sparsity': expected a number from 0 to 1, found the number 1.5"},
    {"\"prefetch\": 2", "\"prefetch\": 2, \"attention_sparsity\": 0",
     "p.json: attention_sparsity: expected more than 0 and at most 1, found 0"},
    {"\"prefetch\": 2", "\"prefetch\": 2, \"sparse\": true",
     "p.json:9: key 'sparse': expected only the keys ballast_policy, gpu_batch_size, num_gpu_batches, weights, cache, "
     "activations, weight_bits, cache_bits, attention_near_cache, attention_sparsity, schedule, overlap, prefetch, whole_tensors, pageable_weights; found the "
     "unknown key 'sparse'"},
};

Test(policy, bad_files_get_one_clear_line)
{
    struct hardware hw = machine(3);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        struct policy p = {.prefetch = 77};
        struct error err = {0};
        char *text = edited(edits[i].old, edits[i].new);
        cr_assert_eq(parse(&p, text, &hw, &err), STATUS_INVALID, "taken: %s", edits[i].new);
        cr_assert_str_eq(err.text, edits[i].message);
        cr_assert_eq(p.prefetch, 77, "the policy is left alone");
        free(text);
    }
}

Test(policy, every_cut_of_a_file_is_refused)
{
    struct hardware hw = machine(3);
    for (size_t n = 0; n + 2 < sizeof valid; n++) {
        struct policy p;
        struct error err = {0};
        cr_assert_eq(policy_parse(&p, "p.json", valid, n, &hw, &err), STATUS_INVALID, "%zu bytes were taken", n);
        cr_assert(err.text[0]);
    }
}

Test(policy, attention_near_the_cache_needs_a_second_unit)
{
    struct hardware hw = machine(3);
    struct policy p;
    struct error err = {0}, check = {0};
    hw.n_computes = 1;
    cr_assert_eq(parse(&p, valid, &hw, &err), STATUS_INVALID);
    cr_assert_str_eq(err.text,
                     "p.json:8: key 'attention_near_cache': expected false, as box has no compute unit on its second tier");
    p = sample();
    cr_assert_eq(policy_check(&p, &hw, "here", &check), STATUS_INVALID);
    cr_assert_str_eq(check.text, "here: attention_near_cache: expected false, as box has no compute unit on its second tier");
}

static void refused(const struct policy *p, const char *message)
{
    struct hardware hw = machine(3);
    struct error err = {0};
    cr_assert_eq(policy_check(p, &hw, "here", &err), STATUS_INVALID, "taken, expected '%s'", message);
    cr_assert_str_eq(err.text, message);
}

Test(policy, check_refuses_what_a_file_could_not_hold)
{
    struct policy p = sample();
    p.fraction[CLASS_CACHE][1] = NAN;
    refused(&p, "here: fraction of the cache on tier cpu: expected 0 to 1, found nan");
    p = sample();
    p.fraction[CLASS_CACHE][3] = 0.1; /* box has three tiers */
    refused(&p, "here: fraction of the cache on tier (absent): expected 0 to 0, found 0.1");
    p = sample();
    p.fraction[CLASS_WEIGHT][2] = 2e-6; /* beyond 1e-6 */
    refused(&p, "here: fractions of the weights: expected a sum of 1, found 1.000002");
    p = sample();
    p.gpu_batch_size = -1;
    refused(&p, "here: gpu_batch_size: expected a whole number from 1 to 65536, found -1");
    p = sample();
    p.num_gpu_batches = 70000;
    refused(&p, "here: num_gpu_batches: expected a whole number from 1 to 65536, found 70000");
    p = sample();
    p.cache_bits = 8;
    refused(&p, "here: cache_bits: expected 4 or 16, found 8");
    p = sample();
    p.prefetch = 0;
    refused(&p, "here: prefetch: expected a whole number from 1 to 1024, found 0");
    p = sample();
    p.fraction[CLASS_WEIGHT][2] = 5e-7; /* within 1e-6 */
    struct hardware hw = machine(3);
    cr_assert_eq(policy_check(&p, &hw, "here", NULL), STATUS_OK);
}

/* -- round trips --------------------------------------------------------------------------------------------------- */

static unsigned short seed[3] = {16, 23, 42};

static int below(int n)
{
    return (int)(erand48(seed) * n);
}

/* Fractions with all their digits, with zeros and ones among them, on the tiers up to `used` and the last. */
static void random_fractions(double *fraction, int n_tiers, int used)
{
    double left = 1;
    for (int t = 0; t < used && t + 1 < n_tiers; t++)
        left -= fraction[t] = below(3) == 0 ? 0 : below(4) == 0 ? left : left * erand48(seed);
    fraction[n_tiers - 1] = left;
}

static struct policy random_policy(int n_tiers, int used)
{
    struct policy p = {.gpu_batch_size = 1 + below(65536),
                       .num_gpu_batches = 1 + below(100),
                       .overlap = below(2),
                       .prefetch = 1 + below(9)};
    p.weight_bits = below(2) ? 4 : 16;
    p.cache_bits = below(2) ? 4 : 16;
    p.attention_near_cache = n_tiers > 2 && below(2);
    p.schedule = below(2) ? SCHEDULE_ROW : SCHEDULE_ZIGZAG;
    p.whole_tensors = below(2);
    p.pageable_weights = below(2);
    p.attention_sparsity = 1;
    for (int c = 0; c < CLASS_COUNT; c++)
        random_fractions(p.fraction[c], n_tiers, used);
    if (below(2)) { /* all of the cache where it is attended to */
        random_fractions(p.fraction[CLASS_CACHE], p.attention_near_cache ? 2 : 1, TIERS_MAX);
        for (int k = p.attention_near_cache ? 2 : 1; k < n_tiers; k++)
            p.fraction[CLASS_CACHE][k] = 0;
        p.attention_sparsity = 1 - erand48(seed);
    }
    return p;
}

static void same_switches(const struct policy *a, const struct policy *b)
{
    cr_assert(a->gpu_batch_size == b->gpu_batch_size && a->num_gpu_batches == b->num_gpu_batches &&
              a->weight_bits == b->weight_bits && a->cache_bits == b->cache_bits &&
              a->attention_near_cache == b->attention_near_cache && a->attention_sparsity == b->attention_sparsity &&
              a->schedule == b->schedule && a->overlap == b->overlap && a->prefetch == b->prefetch &&
              a->whole_tensors == b->whole_tensors && a->pageable_weights == b->pageable_weights);
}

Test(policy, what_is_saved_loads_again_to_the_last_bit)
{
    char directory[] = "/tmp/ballast-test-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/p.json", directory);
    fprintf(stderr, "seed %d %d %d\n", seed[0], seed[1], seed[2]);
    for (int i = 0; i < 150; i++) {
        struct hardware hw = machine(2 + i % 3);
        struct policy p = random_policy(hw.n_tiers, TIERS_MAX), again;
        struct error err = {0};
        cr_assert_eq(policy_save(&p, path, &hw, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(policy_load(&again, path, &hw, &err), STATUS_OK, "%s", err.text);
        same_switches(&p, &again);
        for (int c = 0; c < CLASS_COUNT; c++)
            for (int t = 0; t < TIERS_MAX; t++)
                cr_assert_eq(p.fraction[c][t], again.fraction[c][t]);
    }
    unlink(path);
    cr_assert_eq(rmdir(directory), 0);
}

Test(policy, fractions_are_printed_short)
{
    struct hardware hw = machine(2);
    struct policy p;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    policy_default(&p, 2);
    p.fraction[CLASS_WEIGHT][0] = 0.3;
    p.fraction[CLASS_WEIGHT][1] = 0.7;
    policy_print(&p, &hw, out);
    fclose(out);
    cr_assert(strstr(text, "\"weights\": {\"ram\": 0.3, \"disk\": 0.7},"), "%s", text);
    cr_assert(strstr(text, "\"cache\": {\"ram\": 1, \"disk\": 0},"), "%s", text);
    free(text);
}

Test(policy, an_invalid_policy_is_not_saved)
{
    struct hardware hw = machine(2);
    struct policy p;
    policy_default(&p, 2);
    p.weight_bits = 3;
    cr_assert_eq(policy_save(&p, "/tmp/ballast-never-written.json", &hw, NULL), STATUS_INVALID);
    cr_assert_neq(access("/tmp/ballast-never-written.json", F_OK), 0);
}

/* -- FlexGen's flags ----------------------------------------------------------------------------------------------- */

Test(policy, percent_puts_the_remainder_on_the_disk)
{
    struct hardware hw = machine(3);
    struct policy p;
    policy_default(&p, 3);
    cr_assert_eq(policy_percent(&p, "20 50 0 100 0 75.5", &hw, NULL), STATUS_OK);
    /* weights: 100 - 20 - 50 = 30 on the disk; activations: 100 - 75.5 = 24.5 */
    cr_assert(p.fraction[CLASS_WEIGHT][0] == 0.2 && p.fraction[CLASS_WEIGHT][1] == 0.5 && p.fraction[CLASS_WEIGHT][2] == 0.3);
    cr_assert(p.fraction[CLASS_CACHE][0] == 0 && p.fraction[CLASS_CACHE][1] == 1 && p.fraction[CLASS_CACHE][2] == 0);
    cr_assert(p.fraction[CLASS_ACTIVATION][1] == 0.755 && p.fraction[CLASS_ACTIVATION][2] == 0.245);
    cr_assert_eq(policy_check(&p, &hw, "percent", NULL), STATUS_OK);
}

Test(policy, percent_on_two_tiers)
{
    struct hardware hw = machine(2);
    struct policy p;
    struct error err = {0};
    policy_default(&p, 2);
    cr_assert_eq(policy_percent(&p, "30,0,100,0,50,0", &hw, NULL), STATUS_OK);
    cr_assert(p.fraction[CLASS_WEIGHT][0] == 0.3 && p.fraction[CLASS_WEIGHT][1] == 0.7);
    cr_assert(p.fraction[CLASS_CACHE][0] == 1 && p.fraction[CLASS_CACHE][1] == 0);
    cr_assert(p.fraction[CLASS_ACTIVATION][0] == 0.5 && p.fraction[CLASS_ACTIVATION][1] == 0.5);
    struct policy before = p;
    cr_assert_eq(policy_percent(&p, "30 0 50 50 0 0", &hw, &err), STATUS_INVALID);
    cr_assert_str_eq(err.text,
                     "percent '30 0 50 50 0 0': cache: expected 0 as the second of each pair on the two tiers of box, found 50");
    cr_assert_eq(p.fraction[CLASS_WEIGHT][0], before.fraction[CLASS_WEIGHT][0]);
}

Test(policy, percent_leaves_no_crumbs_of_rounding)
{
    struct hardware hw = machine(3);
    struct policy p;
    policy_default(&p, 3);
    /* 100 - 64.1 - 35.9 is 7e-15 in doubles: no bytes. */
    cr_assert_gt(100 - 64.1 - 35.9, 0);
    cr_assert_eq(policy_percent(&p, "64.1 35.9 0 100 0 100", &hw, NULL), STATUS_OK);
    cr_assert_eq(p.fraction[CLASS_WEIGHT][2], 0);
}

Test(policy, bad_percents)
{
    static const char *const bad[] = {"",
                                      "1 2 3 4 5",
                                      "1 2 3 4 5 6 7",
                                      "1 2 3 4 5 x",
                                      "-1 2 3 4 5 6",
                                      "101 0 0 0 0 0",
                                      "60 41 0 0 0 0",
                                      "nan 0 0 0 0 0",
                                      "inf 0 0 0 0 0",
                                      "1 2 3 4 5 6x",
                                      "1e 2 3 4 5 6",
                                      "1%% 2 3 4 5 6"};
    struct hardware hw = machine(3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct policy p = {.fraction = {{42}}};
        struct error err = {0};
        cr_assert_eq(policy_percent(&p, bad[i], &hw, &err), STATUS_INVALID, "'%s' was taken", bad[i]);
        cr_assert(strncmp(err.text, "percent '", 9) == 0, "%s", err.text);
        cr_assert_eq(p.fraction[0][0], 42, "the policy is left alone");
    }
}

Test(policy, four_tiers_take_three_numbers_a_class)
{
    struct hardware hw = machine(4);
    struct policy p = {0};
    struct error err = {0};
    cr_assert_eq(policy_percent(&p, "10 20 30  0 0 100  50 25 0", &hw, NULL), STATUS_OK);
    cr_assert(p.fraction[CLASS_WEIGHT][2] == 0.3 && fabs(p.fraction[CLASS_WEIGHT][3] - 0.4) < 1e-15);
    cr_assert(p.fraction[CLASS_CACHE][2] == 1 && p.fraction[CLASS_CACHE][3] == 0);
    cr_assert(p.fraction[CLASS_ACTIVATION][1] == 0.25 && p.fraction[CLASS_ACTIVATION][3] == 0.25);
    cr_assert_eq(policy_percent(&p, "10 20 0 100 50 25", &hw, NULL), STATUS_OK); /* the first two of each */
    cr_assert(p.fraction[CLASS_WEIGHT][1] == 0.2 && p.fraction[CLASS_WEIGHT][2] == 0 && p.fraction[CLASS_CACHE][1] == 1);
    cr_assert_eq(policy_percent(&p, "1 2 3 4 5 6 7", &hw, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected six or nine numbers") && strstr(err.text, "number 8 is missing"), "%s", err.text);
    cr_assert_eq(policy_percent(&p, "0 0 0 0 0 0 0 0 0 0", &hw, NULL), STATUS_INVALID);
    cr_assert_eq(policy_percent(&p, "40 40 40 0 0 0 0 0 0", &hw, NULL), STATUS_INVALID);
}

static void has_flags(const struct policy *p, const struct hardware *hw, const char *expected)
{
    char buf[300];
    cr_assert_str_eq(policy_flags(p, hw, buf, sizeof buf), expected);
}

Test(policy, flags_read_like_flexgen)
{
    struct hardware three = machine(3), two = machine(2);
    struct policy p = sample();
    has_flags(&p, &three,
              "--gpu-batch-size 4 --num-gpu-batches 8 --percent \"20 80 0 100 0 25\" --compress-weight --cpu-cache-compute "
              "--schedule row --no-overlap --prefetch 2");
    p.cache_bits = 4;
    p.weight_bits = 16;
    p.attention_near_cache = false;
    p.schedule = SCHEDULE_ZIGZAG;
    p.overlap = true;
    p.fraction[CLASS_WEIGHT][0] = 0.125;
    p.fraction[CLASS_WEIGHT][1] = 0.875;
    has_flags(&p, &three,
              "--gpu-batch-size 4 --num-gpu-batches 8 --percent \"12.5 87.5 0 100 0 25\" --compress-cache "
              "--prefetch 2");
    policy_default(&p, 2);
    p.fraction[CLASS_WEIGHT][0] = 0.3;
    p.fraction[CLASS_WEIGHT][1] = 0.7;
    has_flags(&p, &two, "--gpu-batch-size 1 --num-gpu-batches 1 --percent \"30 0 100 0 100 0\" --prefetch 3");
}

Test(policy, flags_are_cut_to_the_buffer)
{
    struct hardware hw = machine(3);
    struct policy p = sample();
    char whole[300], buf[300];
    policy_flags(&p, &hw, whole, sizeof whole);
    for (size_t n = 1; n <= strlen(whole) + 1; n++) {
        memset(buf, '#', sizeof buf);
        policy_flags(&p, &hw, buf, n);
        cr_assert_eq(strlen(buf), n - 1);
        cr_assert_eq(memcmp(buf, whole, n - 1), 0);
        cr_assert_eq(buf[n], '#');
    }
}

Test(policy, the_percentages_of_the_flags_give_the_same_placement)
{
    fprintf(stderr, "seed %d %d %d\n", seed[0], seed[1], seed[2]);
    for (int i = 0; i < 3000; i++) {
        struct hardware hw = machine(2 + i % 3);
        struct policy p = random_policy(hw.n_tiers, hw.n_tiers - 1), again = {0};
        struct error err = {0};
        char buf[300], percent[200];
        policy_flags(&p, &hw, buf, sizeof buf);
        cr_assert_eq(sscanf(strstr(buf, "--percent \""), "--percent \"%199[^\"]", percent), 1);
        cr_assert_eq(policy_percent(&again, percent, &hw, &err), STATUS_OK, "%s", err.text);
        for (int c = 0; c < CLASS_COUNT; c++)
            for (int t = 0; t < TIERS_MAX; t++)
                /* The remainder loses what is below 1e-9; a percentage may be off in its last bit. */
                cr_assert_leq(fabs(p.fraction[c][t] - again.fraction[c][t]), t + 1 == hw.n_tiers ? 1.001e-9 : 2.3e-16, "%s",
                              percent);
    }
}
