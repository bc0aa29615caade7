/* planner_cases.h - small models, random machines and a seeded random source for the tests of the planner. */
#ifndef BALLAST_TESTS_PLANNER_CASES_H
#define BALLAST_TESTS_PLANNER_CASES_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "solver/search.h"
#include "tests/machine.h"

#define MIB (1024.0 * 1024)

/* -- random numbers with a printed seed ------------------------------------------------------------------------------ */

static uint64_t random_state;

static inline void seed_from_environment(const char *test)
{
    const char *text = getenv("BALLAST_SEED");

    random_state = text ? strtoull(text, NULL, 10) : 20240717;
    printf("%s: BALLAST_SEED=%llu\n", test, (unsigned long long)random_state);
}

static inline double uniform(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static inline int pick(int n)
{
    return (int)(uniform() * n);
}

static inline double log_uniform(double low, double high)
{
    return low * pow(high / low, uniform());
}

/* -- small models and machines --------------------------------------------------------------------------------------- */

static inline void small_arch(struct arch *a, int hidden, int blocks, int vocab)
{
    char text[1024];
    struct error err = {0};
    const int n = snprintf(text, sizeof(text),
                           "{\"model_type\": \"opt\", \"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": 4,"
                           " \"ffn_dim\": %d, \"vocab_size\": %d, \"max_position_embeddings\": 2048, \"word_embed_proj_dim\": %d,"
                           " \"activation_function\": \"relu\", \"do_layer_norm_before\": true,"
                           " \"_remove_final_layer_norm\": false, \"enable_bias\": true, \"tie_word_embeddings\": %s,"
                           " \"layer_norm_elementwise_affine\": true, \"bos_token_id\": 2, \"eos_token_id\": 2,"
                           " \"pad_token_id\": 1, \"torch_dtype\": \"float16\"}",
                           hidden, blocks, 4 * hidden, vocab, hidden, blocks % 2 ? "true" : "false");

    memset(a, 0, sizeof(*a));
    cr_assert_eq(arch_parse(a, "small", text, (size_t)n, &err), STATUS_OK, "%s", err.text);
}

static inline void random_unit(struct compute *u)
{
    for (int f = 0; f < FORMAT_COUNT; f++) {
        u->matmul[f] = (struct curve){.n = 2, .x = {1, 256}, .y = {log_uniform(1e8, 1e11), log_uniform(1e9, 1e12)}};
        u->attention_decode_bytes_per_s[f] = log_uniform(1e8, 1e10);
    }
    u->attention_prefill_flops_per_s = log_uniform(1e9, 1e12);
    u->memory_bytes_per_s = log_uniform(1e9, 1e11);
    u->launch_s = log_uniform(1e-7, 1e-5);
    u->workspace_bytes = 0;
}

static inline void make_it_queue(struct compute *u, double launch_s)
{
    u->threads = 0;
    u->launch_s = launch_s;
}

/* Rates over three decades; capacities around the size of the small models, so that some do not fit at all. */
static inline struct hardware random_machine(int n_tiers)
{
    struct hardware hw = test_machine(n_tiers, "f32");

    for (int k = 0; k < n_tiers; k++)
        hw.tier[k].capacity_bytes = (int64_t)log_uniform(k == n_tiers - 1 ? 1e6 : 5e5, 3e7);
    for (int i = 0; i < n_tiers - 1; i++) {
        hw.link[i].read_bytes_per_s = flat(log_uniform(1e7, 1e10));
        hw.link[i].write_bytes_per_s = flat(log_uniform(1e7, 1e10));
        hw.link[i].read_latency_s = hw.link[i].write_latency_s = uniform() < 0.5 ? 0 : log_uniform(1e-6, 1e-4);
    }
    for (int u = 0; u < hw.n_computes; u++)
        random_unit(&hw.compute[u]);
    if (pick(2)) /* launches behind work, and sometimes the other way round */
        make_it_queue(&hw.compute[0], log_uniform(1e-7, 1e-3));
    return hw;
}

/* The machine of a program that waits at every turn (model/turns.h). */
static inline void make_it_wait(struct hardware *hw)
{
    hw->runtime.staging_bytes_per_s = flat(log_uniform(1e8, 1e10));
    hw->runtime.pageable_write_bytes_per_s = log_uniform(1e8, 1e10);
    hw->runtime.dequantise_bytes_per_s = log_uniform(1e8, 1e10);
    hw->compute[0].whole_batch = true;
}

/* One of three waits, and half have a page cache for a part of the small models. */
static inline void random_program(struct hardware *hw)
{
    if (pick(3) == 0)
        make_it_wait(hw);
    hw->page_cache_bytes = pick(2) ? log_uniform(1e4, 1e7) : 0;
}

/* One block, or in one of three cases a number of sequences that few blocks divide. */
static inline struct workload random_workload(void)
{
    struct workload w = {.prompt_tokens = 1 + pick(64), .gen_tokens = 1 + pick(16)};

    w.sequences = pick(3) == 0 ? 1 + pick(30) : 0;
    return w;
}

static inline struct search_options random_options(void)
{
    static const int bits[] = {0, 4, 16};
    struct search_options o;

    search_options_default(&o);
    o.tolerance = 0;
    o.max_block = 1 + pick(6);
    o.schedule = pick(3) - 1;
    o.overlap = pick(3) - 1;
    o.weight_bits = bits[pick(3)];
    o.cache_bits = bits[pick(3)];
    o.prefetch = pick(4);
    if (pick(4) == 0)
        o.attention_near_cache = 0;
    if (pick(4) == 0)
        o.num_gpu_batches = 1;
    if (pick(4) == 0)
        o.forbid = 1u << (pick(CLASS_COUNT) * TIERS_MAX);
    return o;
}

/* 96 MiB of RAM over a disk of 1 GB/s: a model of about 100 MiB that runs from the disk. */
static inline void disk_bound(struct arch *a, struct hardware *hw, struct workload *w, struct search_options *o)
{
    small_arch(a, 512, 16, 1000);
    *hw = test_machine(2, "f32");
    hw->tier[0].capacity_bytes = (int64_t)(96 * MIB);
    hw->compute[0].workspace_bytes = 0;
    *w = (struct workload){.prompt_tokens = 64, .gen_tokens = 16};
    search_options_default(o);
    o->weight_bits = o->cache_bits = 16;
}

static inline struct plan plan_of(const struct arch *a, const struct hardware *hw, const struct workload *w,
                                  const struct search_options *o)
{
    struct plan p;
    struct error err = {0};

    cr_assert_eq(search(a, hw, w, o, &p, &err), STATUS_OK, "%s", err.text);
    return p;
}

static inline int64_t block_of(const struct arch *a, const struct hardware *hw, const struct workload *w,
                               const struct search_options *o)
{
    const struct plan p = plan_of(a, hw, w, o);

    return policy_block(&p.policy);
}

#endif
