/* test_options.c - the shared command-line options: defaults, every spelling, and one clear line for what is wrong. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "tests/machine.h"

#define EVERYTHING (~0u & ~(unsigned)OPTION_FILE)

/* Parses the words after the command's name. */
static bool parse(struct options *o, unsigned groups, int *code, int n, const char *const *words)
{
    static char *argv[40];
    const struct command_usage usage = {"plan", "[OPTIONS]", "About.", groups};
    argv[0] = (char *)"plan";
    for (int i = 0; i < n; i++) {
        argv[i + 1] = (char *)words[i];
    }
    argv[n + 1] = NULL;
    return options_parse(o, &usage, n + 1, argv, code);
}
#define WORDS(...)                                                                                                               \
    (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[])                                              \
    {                                                                                                                            \
        __VA_ARGS__                                                                                                              \
    }
#define GOOD(o, ...)                                                                                                             \
    do {                                                                                                                         \
        int code_ = -1;                                                                                                          \
        cr_assert(parse(o, EVERYTHING, &code_, WORDS(__VA_ARGS__)), "exit %d", code_);                                           \
    } while (0)

/* Expects exit code 1 and exactly this line on stderr. */
static void refused(unsigned groups, const char *line, int n, const char *const *words)
{
    struct options o;
    char found[1024];
    int code = -1;
    cr_redirect_stderr();
    cr_assert_not(parse(&o, groups, &code, n, words), "accepted");
    cr_assert_eq(code, STATUS_INVALID);
    FILE *err = cr_get_redirected_stderr();
    fflush(stderr);
    cr_assert_not_null(fgets(found, sizeof found, err));
    cr_assert_str_eq(found, line);
}
#define REFUSED(groups, line, ...) refused(groups, "ballast: plan: " line "\n", WORDS(__VA_ARGS__))

Test(options, what_is_not_given_keeps_its_default)
{
    struct options o;
    GOOD(&o, "-m", "opt-1.3b");
    cr_assert_str_eq(o.model, "opt-1.3b");
    cr_assert_eq(o.prompt_tokens, 512);
    cr_assert_eq(o.gen_tokens, 32);
    cr_assert_eq(o.format, OUTPUT_MD);
    cr_assert_null(o.hardware);
    cr_assert_null(o.policy);
    cr_assert_eq(o.gpu_batch_size, 0);
    cr_assert_eq(o.compress_weight, -1);
    cr_assert_eq(o.overlap, -1);
    cr_assert_eq(o.attn_sparsity, -1);
    cr_assert_eq(o.sampling.top_p, 1.0);
    cr_assert_eq(o.limits.mean_error, 0.10);
    cr_assert_eq(o.n_arguments, 0);
}

Test(options, every_option_lands_in_its_field)
{
    struct options o;
    GOOD(&o, "-H", "t4-gcp", "--budget", "gpu=16GiB", "--budget=cpu=100 GiB", "-p", "128", "-n8", "-b", "4",
         "--num-gpu-batches=9", "--compress-weight", "--no-compress-cache", "--cpu-cache-compute", "--no-overlap", "--prefetch",
         "5", "--schedule", "row", "--latency", "2.5", "--max-block", "64", "-t", "2");
    cr_assert_str_eq(o.hardware, "t4-gcp");
    cr_assert_eq(o.n_budgets, 2);
    cr_assert_str_eq(o.budget[0], "gpu=16GiB");
    cr_assert_str_eq(o.budget[1], "cpu=100 GiB");
    cr_assert_eq(o.prompt_tokens, 128);
    cr_assert_eq(o.gen_tokens, 8);
    cr_assert_eq(o.gpu_batch_size, 4);
    cr_assert_eq(o.num_gpu_batches, 9);
    cr_assert_eq(o.compress_weight, 1);
    cr_assert_eq(o.compress_cache, 0);
    cr_assert_eq(o.cpu_cache_compute, 1);
    cr_assert_eq(o.overlap, 0);
    cr_assert_eq(o.prefetch, 5);
    cr_assert_str_eq(o.schedule, "row");
    cr_assert_eq(o.latency_s, 2.5);
    cr_assert_eq(o.max_block, 64);
    cr_assert_eq(o.threads, 2);
    GOOD(&o, "--weights", "random:18446744073709551615", "--weights-dir", "w", "--scratch-dir", "s", "--seed", "7",
         "--temperature", "0.8", "--top-k", "40", "--top-p", "0.9", "-r", "3", "--no-warmup", "-o", "jsonl", "--trace", "t.csv",
         "--prompts", "-", "--mean", "0.2", "--worst", "0.4", "--peak", "0", "--latency", "500 ms", "a.csv", "b.csv");
    cr_assert(o.weights_random);
    cr_assert_eq(o.weights_seed, UINT64_MAX);
    cr_assert_str_eq(o.weights_dir, "w");
    cr_assert_str_eq(o.scratch_dir, "s");
    cr_assert_eq(o.sampling.seed, 7);
    cr_assert_eq(o.sampling.temperature, 0.8);
    cr_assert_eq(o.sampling.top_k, 40);
    cr_assert_eq(o.sampling.top_p, 0.9);
    cr_assert_eq(o.repetitions, 3);
    cr_assert(o.no_warmup);
    cr_assert_eq(o.format, OUTPUT_JSONL);
    cr_assert_str_eq(o.trace, "t.csv");
    cr_assert_str_eq(o.prompts, "-");
    cr_assert_eq(o.limits.worst_error, 0.4);
    cr_assert_eq(o.limits.peak_error, 0);
    cr_assert_eq(o.latency_s, 0.5);
    cr_assert_eq(o.n_arguments, 2);
    cr_assert_str_eq(o.argument[1], "b.csv");
}

Test(options, flexgens_own_spellings_are_taken)
{
    struct options o;
    GOOD(&o, "--percent", "20", "80", "0", "100", "0", "100", "--gpu-batch-size", "48");
    cr_assert_str_eq(o.percent, "20 80 0 100 0 100");
    cr_assert_eq(o.gpu_batch_size, 48);
    GOOD(&o, "--percent", "20 80 0 100 0 100", "-p", "7");
    cr_assert_str_eq(o.percent, "20 80 0 100 0 100");
    cr_assert_eq(o.prompt_tokens, 7);
    GOOD(&o, "--overlap", "False");
    cr_assert_eq(o.overlap, 0);
    GOOD(&o, "--overlap", "-p", "9");
    cr_assert_eq(o.overlap, 1);
    cr_assert_eq(o.prompt_tokens, 9);
    GOOD(&o, "--weights", "random");
    cr_assert(o.weights_random && o.weights_seed == 0);
    GOOD(&o, "--attn-sparsity", "0.1");
    cr_assert_eq(o.attn_sparsity, 0.1);
}

Test(options, o_is_a_file_where_the_command_says_so)
{
    struct options o;
    int code;
    cr_assert(parse(&o, OPTION_FILE, &code, WORDS("-o", "json")));
    cr_assert_str_eq(o.file, "json");
    cr_assert(parse(&o, OPTION_FORMAT, &code, WORDS("--output=json")));
    cr_assert_null(o.file);
    cr_assert_eq(o.format, OUTPUT_JSON);
}

Test(options, unknown_ones_are_named_and_the_nearest_is_offered)
{
    REFUSED(EVERYTHING, "unknown option \"-z\"", "-z");
}
Test(options, a_misspelled_one)
{
    REFUSED(EVERYTHING, "unknown option \"--bugdet\": did you mean \"--budget\"?", "--bugdet=gpu=1GiB");
}
Test(options, a_far_off_one)
{
    REFUSED(EVERYTHING, "unknown option \"--colour\"", "--colour", "red");
}
Test(options, one_of_another_command)
{
    REFUSED(OPTION_MODEL, "unknown option \"-p\"", "-p", "5");
}
Test(options, a_long_one_of_another_command)
{
    REFUSED(OPTION_MODEL, "unknown option \"--policy\"", "--policy", "p.json");
}
Test(options, a_missing_value)
{
    REFUSED(EVERYTHING, "-p/--prompt-tokens: expected N, found nothing", "-p");
}
Test(options, a_missing_value_of_a_long_one)
{
    REFUSED(EVERYTHING, "--budget: expected TIER=SIZE, found nothing", "--budget");
}
Test(options, a_value_for_a_flag)
{
    REFUSED(EVERYTHING, "--no-overlap: expected no value, found \"--no-overlap=1\"", "--no-overlap=1");
}
Test(options, a_stray_argument)
{
    REFUSED(OPTION_MODEL, "unexpected argument \"x\"", "-m", "opt-1.3b", "x");
}
Test(options, a_number_with_letters)
{
    REFUSED(EVERYTHING, "-p/--prompt-tokens: expected a whole number from 1 to 16777216, found \"12k\"", "-p", "12k");
}
Test(options, a_number_out_of_range)
{
    REFUSED(EVERYTHING, "-n/--gen-tokens: expected a whole number from 1 to 16777216, found \"0\"", "-n", "0");
}
Test(options, a_number_beyond_64_bits)
{
    REFUSED(EVERYTHING, "-b/--gpu-batch-size: expected a whole number from 1 to 65536, found \"99999999999999999999\"", "-b",
            "99999999999999999999");
}
Test(options, not_a_number_at_all)
{
    REFUSED(EVERYTHING, "--top-p: expected a number from 0 to 1, found \"nan\"", "--top-p", "nan");
}
Test(options, a_negative_seed)
{
    REFUSED(EVERYTHING, "--seed: expected a whole number from 0, found \"-1\"", "--seed=-1");
}
Test(options, other_weights_than_random)
{
    REFUSED(EVERYTHING, "--weights: expected random or random:SEED, found \"randomly\"", "--weights", "randomly");
}
Test(options, a_budget_without_a_tier)
{
    REFUSED(EVERYTHING, "--budget: expected TIER=SIZE such as gpu=16GiB, found \"16GiB\"", "--budget", "16GiB");
}
Test(options, too_many_budgets)
{
    REFUSED(EVERYTHING, "--budget: expected at most 16 of them, found \"a=17GiB\"", "--budget", "a=1GiB", "--budget", "a=2GiB",
            "--budget", "a=3GiB", "--budget", "a=4GiB", "--budget", "a=5GiB", "--budget", "a=6GiB", "--budget", "a=7GiB",
            "--budget", "a=8GiB", "--budget", "a=9GiB", "--budget", "a=10GiB", "--budget", "a=11GiB", "--budget", "a=12GiB",
            "--budget", "a=13GiB", "--budget", "a=14GiB", "--budget", "a=15GiB", "--budget", "a=16GiB", "--budget", "a=17GiB");
}
Test(options, an_unknown_format)
{
    REFUSED(EVERYTHING, "-o/--output: expected md|csv|json|jsonl, found \"xml\"", "-o", "xml");
}
Test(options, a_latency_in_another_unit)
{
    REFUSED(EVERYTHING, "--latency: expected seconds, such as 30 or \"500 ms\", found \"3 GiB\"", "--latency", "3 GiB");
}
Test(options, no_time_at_all)
{
    REFUSED(EVERYTHING, "--latency: expected more than 0 seconds, found \"0\"", "--latency", "0");
}

Test(options, the_nearest_name_is_within_two_letters)
{
    static const char *const NAMES[] = {"plan", "plot", "predict", NULL};
    cr_assert_str_eq(nearest_name("pan", NAMES), "plan");  /* one insertion */
    cr_assert_str_eq(nearest_name("plto", NAMES), "plot"); /* two letters swapped; "plan" would be two replacements */
    cr_assert_str_eq(nearest_name("predikct", NAMES), "predict");
    cr_assert_null(nearest_name("simulate", NAMES));
    cr_assert_null(nearest_name("", NAMES), "four insertions for the shortest");
    cr_assert_null(nearest_name("a-name-much-longer-than-any-option-or-command-could-be-called", NAMES));
}

/* -- from options to structs ----------------------------------------------------------------------------------------- */

Test(options, flags_change_parts_of_a_policy)
{
    struct options o;
    struct hardware hw;
    struct policy p;
    struct error err = {0};
    GOOD(&o, "-H", "t4-gcp", "--percent", "20 70 0 100 0 100", "-b", "4", "--num-gpu-batches", "3", "--compress-weight",
         "--no-overlap");
    cr_assert_eq(options_hardware(&o, &hw, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(options_policy(&o, &hw, &p, &err), STATUS_OK, "%s", err.text);
    /* 20 % and 70 % leave 10 % for the third tier. */
    cr_assert_float_eq(p.fraction[CLASS_WEIGHT][0], 0.2, 1e-12);
    cr_assert_float_eq(p.fraction[CLASS_WEIGHT][1], 0.7, 1e-12);
    cr_assert_float_eq(p.fraction[CLASS_WEIGHT][2], 0.1, 1e-12);
    cr_assert_eq(policy_block(&p), 12);
    cr_assert_eq(p.weight_bits, 4);
    cr_assert_eq(p.cache_bits, 16);
    cr_assert_not(p.overlap);
}

Test(options, a_policy_printed_as_flags_is_the_same_policy)
{
    struct options o;
    struct hardware hw;
    struct policy p, again;
    struct error err = {0};
    char flags[512], *words[32];
    int n = 0;
    GOOD(&o, "-H", "t4-gcp", "--percent", "12.5 33.3 10 90 0 100", "-b", "5", "--num-gpu-batches", "2", "--compress-cache",
         "--schedule", "row", "--cpu-cache-compute", "--attn-sparsity", "0.12345678901", "--prefetch", "4");
    cr_assert_eq(options_hardware(&o, &hw, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(options_policy(&o, &hw, &p, &err), STATUS_OK, "%s", err.text);
    policy_flags(&p, &hw, flags, sizeof flags);
    /* Split as a shell would: the only quotes are those around the percentages. */
    for (char *at = flags; *at;) {
        const char *end = *at == '"' ? "\"" : " ";
        at += *at == '"';
        words[n++] = at;
        at += strcspn(at, end);
        while (*at == '"' || *at == ' ') {
            *at++ = '\0';
            if (*at == '"') {
                break;
            }
        }
    }
    int code;
    cr_assert(parse(&o, EVERYTHING, &code, n, (const char *const *)words));
    cr_assert_eq(options_policy(&o, &hw, &again, &err), STATUS_OK, "%s", err.text);
    for (int c = 0; c < CLASS_COUNT; c++) {
        for (int t = 0; t < hw.n_tiers; t++) {
            cr_assert_float_eq(p.fraction[c][t], again.fraction[c][t], 1e-12);
        }
    }
    cr_assert_eq(again.gpu_batch_size, 5);
    cr_assert_eq(again.num_gpu_batches, 2);
    cr_assert_eq(again.cache_bits, 4);
    cr_assert_eq(again.schedule, SCHEDULE_ROW);
    cr_assert(again.attention_near_cache);
    cr_assert_eq(again.attention_sparsity, 0.12345678901);
    cr_assert_eq(again.prefetch, 4);
}

Test(options, a_search_takes_what_is_fixed_and_leaves_the_rest_open)
{
    struct options o;
    struct search_options s;
    const struct hardware hw = test_machine(3, "f32");
    struct error err = {0};
    GOOD(&o, "-b", "8", "--compress-weight", "--no-cpu-cache-compute", "--latency", "60");
    cr_assert_eq(options_search(&o, &hw, &s, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(s.gpu_batch_size, 8);
    cr_assert_eq(s.num_gpu_batches, 0);
    cr_assert_eq(s.weight_bits, 4);
    cr_assert_eq(s.attention_near_cache, 0);
    cr_assert_eq(s.max_latency_s, 60);
    cr_assert_eq(s.attention_sparsity, 1);
    GOOD(&o, "--attn-sparsity", "0.1", "--set", "c.ram=60%"); /* near the cache, which is open */
    cr_assert_eq(options_search(&o, &hw, &s, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(s.attention_sparsity, 0.1);
    GOOD(&o, "--attn-sparsity", "0.1", "--set", "c.ram=60%", "--no-cpu-cache-compute");
    cr_assert_eq(options_search(&o, &hw, &s, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "--attn-sparsity"), "%s", err.text);
    err = (struct error){0};
    GOOD(&o, "--percent", "100 0 100 0 100 0");
    cr_assert_eq(options_search(&o, &hw, &s, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "--percent"));
}

Test(options, what_is_missing_is_said_with_a_way_out)
{
    struct options o;
    struct arch a;
    struct hardware hw;
    struct policy p;
    GOOD(&o, "-p", "1");
    struct error err = {0};
    cr_assert_eq(options_model(&o, &a, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "-m/--model is missing"));
    err = (struct error){0};
    cr_assert_eq(options_hardware(&o, &hw, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "ballast profile"));
    err = (struct error){0};
    o.hardware = "t4-gcp";
    cr_assert_eq(options_hardware(&o, &hw, &err), STATUS_OK);
    cr_assert_eq(options_policy(&o, &hw, &p, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "a policy is missing"));
}
