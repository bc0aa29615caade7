/* run_fixture.h - run a tiny model through the executor in memory and collect its logits. */
#ifndef BALLAST_TESTS_RUN_FIXTURE_H
#define BALLAST_TESTS_RUN_FIXTURE_H

#include <math.h>

#include "executor/run.h"
#include "tests/fixture.h"
#include "tests/machine.h"

/* Logits of the real prompt positions of every prompt, one after the other: (rows, vocab). */
struct prompt_logits {
    const struct fixture *f;
    float *value; /* owned */
    int64_t first[FIXTURE_PROMPTS], n;
};

static inline void collect_logits(int64_t sequence, int64_t position, int64_t begin, int64_t count, const float *logits,
                                  void *arg)
{
    struct prompt_logits *l = arg;
    if (sequence < FIXTURE_PROMPTS && position < l->f->prompt[sequence].n_ids)
        memcpy(l->value + (l->first[sequence] + position) * l->f->arch.vocab + begin, logits, (size_t)count * sizeof *logits);
}

/* Prefill only: one generated token, so that no token choice can make two runs part ways. */
static inline void run_prompts(const struct fixture *f, const struct arch *a, const char *directory, const char *math,
                               int weight_bits, int cache_bits, struct prompt_logits *out)
{
    struct hardware hw = test_machine(2, math);
    struct workload w = {12, 1, 0};
    struct policy p;
    struct placement pl;
    struct prediction prediction = {0};
    struct runner *r;
    struct error err = {0};
    struct generated g[FIXTURE_PROMPTS];
    *out = (struct prompt_logits){.f = f};
    for (int i = 0; i < FIXTURE_PROMPTS; i++) {
        out->first[i] = out->n;
        out->n += f->prompt[i].n_ids;
    }
    out->value = calloc((size_t)(out->n * f->arch.vocab), sizeof *out->value);
    policy_default(&p, 2);
    p.gpu_batch_size = FIXTURE_PROMPTS;
    p.weight_bits = weight_bits;
    p.cache_bits = cache_bits;
    cr_assert_eq(placement_new(&pl, a, &hw, &w, &p, &err), STATUS_OK, "%s", err.text);
    struct run_options ro = {.setting = {"test", a, &hw, &w, &p, &pl, &prediction},
                             .model_directory = directory,
                             .scratch_directory = "build",
                             .threads = 2,
                             .pad_token = 1,
                             .logits = collect_logits,
                             .arg = out};
    sampling_default(&ro.sampling);
    cr_assert_eq(runner_open(&r, &ro, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(runner_generate(r, f->prompt, FIXTURE_PROMPTS, 0, g, NULL, &err), STATUS_OK, "%s", err.text);
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        free(g[i].tokens);
    runner_close(r);
    placement_free(&pl);
}

/* Between the logits of two runs, over every position. */
static inline double difference_rms(const struct prompt_logits *a, const struct prompt_logits *b)
{
    double sum = 0;
    for (int64_t i = 0; i < a->n * a->f->arch.vocab; i++)
        sum += ((double)a->value[i] - (double)b->value[i]) * ((double)a->value[i] - (double)b->value[i]);
    return sqrt(sum / (double)(a->n * a->f->arch.vocab));
}

static inline double difference_max(const struct prompt_logits *a, const struct prompt_logits *b)
{
    double most = 0;
    for (int64_t i = 0; i < a->n * a->f->arch.vocab; i++)
        most = fmax(most, fabs((double)a->value[i] - (double)b->value[i]));
    return most;
}

#endif
