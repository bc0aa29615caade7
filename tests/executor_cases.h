/* executor_cases.h - the tiny models through the executor in many placements, on any backend: one test body for all of them. */
#ifndef BALLAST_TESTS_EXECUTOR_CASES_H
#define BALLAST_TESTS_EXECUTOR_CASES_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/run.h"
#include "model/stream.h"
#include "tests/exact_model.h"
#include "tests/fixture.h"
#include "tests/machine.h"

static const char *const MODELS[] = {"opt-tiny-pre", "opt-tiny-post", "opt-tiny-shard", "opt-tiny-bf16", "opt-tiny-untied"};
enum { N_MODELS = sizeof MODELS / sizeof MODELS[0] };

/* What a run left behind, to be compared. */
struct outcome {
    const struct fixture *f;
    float *logits; /* (rows, vocab) as f->logits, NaN where none came */
    int64_t n_logits;
    struct generated out[FIXTURE_PROMPTS];
    int64_t peak[TIERS_MAX];
};

static inline void keep_logits(int64_t sequence, int64_t position, int64_t begin, int64_t count, const float *logits, void *arg)
{
    struct outcome *o = arg;
    if (sequence >= FIXTURE_PROMPTS) /* fill */
        return;
    memcpy(o->logits + (o->f->first_row[sequence] + position) * o->f->arch.vocab + begin, logits, (size_t)count * sizeof *logits);
    o->n_logits += count;
}

/* Logits that must have been compared: positions 0 .. length + new_tokens - 2 of every prompt. */
static inline int64_t expected_logits(const struct fixture *f)
{
    int64_t rows = 0;
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        rows += f->prompt[i].n_ids + f->new_tokens - 1;
    return rows * f->arch.vocab;
}

/* The largest |logit - reference| over every position. */
static inline double worst_logit(const struct outcome *o)
{
    const int64_t vocab = o->f->arch.vocab;
    double worst = 0;
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        for (int64_t j = 0; j < (o->f->prompt[i].n_ids + o->f->new_tokens - 1) * vocab; j++) {
            const int64_t at = o->f->first_row[i] * vocab + j;
            const double off = fabs((double)o->logits[at] - (double)o->f->logits[at]);
            worst = isnan(off) ? INFINITY : fmax(worst, off);
        }
    return worst;
}

/* Within what rounding to f32 allows. Sparse attention is not in the exact model: which tokens it takes hangs on the scores. */
static inline void assert_logits(const struct outcome *o, const struct exact_reference *x, const char *what)
{
    cr_assert_eq(o->n_logits, expected_logits(o->f), "%s: %lld logits came", what, (long long)o->n_logits);
    if (!x->f) {
        cr_assert_lt(worst_logit(o), 1e-4, "%s: a logit is off by %g", what, worst_logit(o));
        return;
    }
    const struct logit_error e = logit_error(x, o->logits);
    cr_assert(within_bound(x, &e), "%s: a logit is off by %g sqrt(V), all by %g rms", what, e.most, e.rms);
}

/* `how` NULL: greedy. Unless they are `seen`, nobody looks at the logits on their way to the tokens. */
static inline enum status run_sampled(const struct fixture *f, const struct hardware *hw, const struct policy *p,
                                      const struct backend *backend, const struct sampling *how, bool seen, struct outcome *o,
                                      struct trace *trace, struct error *err)
{
    struct workload w = {12, f->new_tokens, FIXTURE_PROMPTS}; /* the diagonal serves them all at once */
    struct placement pl;
    struct prediction prediction = {0};
    struct runner *r = NULL;
    *o = (struct outcome){.f = f};
    enum status s = placement_new(&pl, &f->arch, hw, &w, p, err);
    if (s != STATUS_OK)
        return s;
    o->logits = malloc((size_t)(f->rows * f->arch.vocab) * sizeof *o->logits);
    memset(o->logits, 0xff, (size_t)(f->rows * f->arch.vocab) * sizeof *o->logits);
    struct run_options ro = {.setting = {"test", &f->arch, hw, &w, p, &pl, &prediction},
                             .model_directory = f->directory,
                             .scratch_directory = "build",
                             .backend = backend,
                             .threads = 2,
                             .pad_token = 1,
                             .logits = seen ? keep_logits : NULL,
                             .arg = o};
    sampling_default(&ro.sampling);
    if (how)
        ro.sampling = *how;
    int64_t block = stream_sequences(&w, p);
    s = runner_open(&r, &ro, err);
    for (int64_t first = 0; first < FIXTURE_PROMPTS && s == STATUS_OK; first += block) {
        int64_t n = FIXTURE_PROMPTS - first < block ? FIXTURE_PROMPTS - first : block;
        s = runner_generate(r, f->prompt + first, n, first, o->out + first, first == 0 ? trace : NULL, err);
    }
    for (int t = 0; t < hw->n_tiers && s == STATUS_OK; t++)
        o->peak[t] = runner_peak_bytes(r, t) - placement_peak(&pl, t);
    runner_close(r);
    placement_free(&pl);
    if (s != STATUS_OK) {
        free(o->logits);
        o->logits = NULL;
    }
    return s;
}

static inline enum status run_fixture(const struct fixture *f, const struct hardware *hw, const struct policy *p,
                                      const struct backend *backend, struct outcome *o, struct trace *trace, struct error *err)
{
    return run_sampled(f, hw, p, backend, NULL, true, o, trace, err);
}

static inline void free_outcome(struct outcome *o)
{
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        free(o->out[i].tokens);
    free(o->logits);
}

static inline void assert_same_tokens(const struct fixture *f, const struct outcome *o, const char *what)
{
    for (int i = 0; i < FIXTURE_PROMPTS; i++) {
        cr_assert_eq(o->out[i].n, f->new_tokens, "%s: prompt %d gave %lld tokens", what, i, (long long)o->out[i].n);
        for (int64_t t = 0; t < f->new_tokens; t++)
            cr_assert_eq(o->out[i].tokens[t], f->generated[i][t], "%s: prompt %d, token %lld is %d, the reference has %d", what,
                         i, (long long)t, o->out[i].tokens[t], f->generated[i][t]);
    }
}

/* A placement for a test: FlexGen's six percentages and the switches. */
struct placed {
    int n_tiers;
    const char *percent;
    int batch, batches;
    bool near;
    enum schedule_kind schedule;
    int prefetch;
    bool overlap;
};

static const struct placed PLACED[] = {
    {2, "100 0 100 0 100 0", 4, 1, false, SCHEDULE_ZIGZAG, 3, true},
    {2, "0 0 100 0 100 0", 4, 1, false, SCHEDULE_ZIGZAG, 3, true},
    {2, "37 0 100 0 100 0", 2, 2, false, SCHEDULE_ZIGZAG, 2, true},
    {2, "100 0 0 0 100 0", 4, 1, false, SCHEDULE_ZIGZAG, 3, true},
    {2, "100 0 50 0 50 0", 1, 4, false, SCHEDULE_ZIGZAG, 3, true},
    {2, "0 0 0 0 0 0", 4, 1, false, SCHEDULE_ZIGZAG, 3, true},
    {2, "0 0 0 0 0 0", 1, 4, false, SCHEDULE_ZIGZAG, 1, true},
    {2, "20 0 30 0 40 0", 2, 2, false, SCHEDULE_ROW, 3, true},
    {2, "20 0 30 0 40 0", 3, 1, false, SCHEDULE_ZIGZAG, 3, false}, /* two blocks, the second filled up */
    {3, "100 0 100 0 100 0", 4, 1, false, SCHEDULE_ZIGZAG, 3, true},
    {3, "0 100 0 100 0 100", 2, 2, false, SCHEDULE_ZIGZAG, 3, true},
    {3, "20 30 20 30 50 20", 4, 1, false, SCHEDULE_ZIGZAG, 2, true},
    {3, "20 30 20 30 50 20", 1, 3, false, SCHEDULE_ZIGZAG, 4, true},
    {3, "0 0 0 0 0 0", 2, 2, false, SCHEDULE_ZIGZAG, 3, true},
    {3, "0 0 0 0 0 0", 2, 2, true, SCHEDULE_ZIGZAG, 3, true},
    {3, "10 40 0 50 0 60", 1, 4, true, SCHEDULE_ZIGZAG, 3, true},
    {3, "10 40 30 40 0 60", 4, 1, true, SCHEDULE_ROW, 1, true},
    {3, "50 20 25 50 60 0", 2, 2, true, SCHEDULE_ZIGZAG, 3, false},
    {3, "0 30 0 100 100 0", 3, 1, true, SCHEDULE_ZIGZAG, 3, true},
    {2, "100 0 100 0 100 0", 1, 2, false, SCHEDULE_DIAGONAL, 3, true},
    {2, "30 0 0 0 0 0", 1, 2, false, SCHEDULE_DIAGONAL, 3, true},
    {2, "0 0 50 0 50 0", 1, 3, false, SCHEDULE_DIAGONAL, 2, true},
    {2, "20 0 30 0 40 0", 3, 1, false, SCHEDULE_DIAGONAL, 1, true}, /* one after the other, the second filled up */
    {2, "20 0 30 0 40 0", 2, 2, false, SCHEDULE_DIAGONAL, 3, false},
    {3, "20 30 20 30 50 20", 1, 4, false, SCHEDULE_DIAGONAL, 3, true},
    {3, "0 0 0 0 0 0", 2, 2, true, SCHEDULE_DIAGONAL, 3, true},
    {3, "10 40 0 50 0 60", 1, 2, true, SCHEDULE_DIAGONAL, 3, true},
    {3, "50 20 25 50 60 0", 1, 3, true, SCHEDULE_DIAGONAL, 4, true},
    {3, "30 30 50 50 0 0", 2, 2, true, SCHEDULE_ZIGZAG, 3, true}, /* the cache in place, as for sparse attention it must be */
    {3, "30 30 0 100 40 60", 1, 4, true, SCHEDULE_DIAGONAL, 3, true},
    {3, "0 0 100 0 0 0", 4, 1, false, SCHEDULE_ROW, 3, true},
};
enum { N_PLACED = sizeof PLACED / sizeof PLACED[0] };

static inline struct policy placed_policy(const struct placed *c, const struct hardware *hw)
{
    struct policy p;
    struct error err = {0};
    policy_default(&p, hw->n_tiers);
    cr_assert_eq(policy_percent(&p, c->percent, hw, &err), STATUS_OK, "%s", err.text);
    p.gpu_batch_size = c->batch;
    p.num_gpu_batches = c->batches;
    p.attention_near_cache = c->near;
    p.schedule = c->schedule;
    p.prefetch = c->prefetch;
    p.overlap = c->overlap;
    return p;
}

/* A backend that is not the CPU's has the cases with a device. */
static inline bool case_of(const struct placed *c, const struct backend *backend)
{
    return !backend || c->n_tiers == 3;
}

static inline struct hardware machine_of(const struct placed *c, const char *math, const struct backend *backend)
{
    struct hardware hw = test_machine(c->n_tiers, math);
    if (backend) /* so little that the kernels' rows and scratch come in parts */
        hw.compute[0].workspace_bytes = 256 << 10;
    return hw;
}

static inline void every_placement_as(const char *model, const char *reference, const struct backend *backend)
{
    struct fixture f;
    int n = 0;
    struct exact_reference x = {0};
    fixture_load_reference(&f, model, reference);
    if (f.sparsity == 1) { /* the reference implementation's logits are those of a run in f32 too */
        exact_reference_f32(&x, &f);
        const struct logit_error e = logit_error(&x, f.logits);
        cr_assert(within_bound(&x, &e), "%s: the reference is off by %g sqrt(V), %g rms", model, e.most, e.rms);
    }
    for (int i = 0; i < N_PLACED; i++) {
        const struct placed *c = &PLACED[i];
        struct hardware hw = machine_of(c, "f32", backend);
        struct policy p = placed_policy(c, &hw);
        p.attention_sparsity = f.sparsity;
        if (!case_of(c, backend) || policy_check(&p, &hw, "case", NULL) != STATUS_OK) /* sparse, but not in place */
            continue;
        struct outcome o;
        struct error err = {0};
        char what[160];
        p.pageable_weights = i % 2; /* which nothing but the memory's kind depends on */
        snprintf(what, sizeof what, "%s, %d tiers, %s, %dx%d, %s%s%s", model, c->n_tiers, c->percent, c->batch, c->batches,
                 schedule_name(c->schedule), c->near ? ", near the cache" : "", p.pageable_weights ? ", pageable weights" : "");
        cr_assert_eq(run_fixture(&f, &hw, &p, backend, &o, NULL, &err), STATUS_OK, "%s: %s", what, err.text);
        assert_same_tokens(&f, &o, what);
        assert_logits(&o, &x, what);
        for (int t = 0; t < hw.n_tiers; t++)
            cr_assert_eq(o.peak[t], 0, "%s: tier %s differs from the plan by %lld bytes", what, hw.tier[t].name,
                         (long long)o.peak[t]);
        free_outcome(&o);
        n++;
    }
    cr_assert_geq(n, f.sparsity < 1 ? 5 : 16, "%d placements", n);
    exact_reference_free(&x);
    fixture_free(&f);
}

static inline void every_placement(const char *model, const struct backend *backend)
{
    every_placement_as(model, "reference", backend);
}

/* Nobody looks at the logits, so that heads too are queued behind each other: the tokens alone are compared. */
static inline void every_placement_unseen(const char *model, const struct backend *backend)
{
    struct fixture f;
    fixture_load(&f, model);
    for (int i = 0; i < N_PLACED; i++) {
        struct hardware hw = machine_of(&PLACED[i], "f32", backend);
        struct policy p = placed_policy(&PLACED[i], &hw);
        struct outcome o;
        struct error err = {0};
        if (!case_of(&PLACED[i], backend))
            continue;
        cr_assert_eq(run_sampled(&f, &hw, &p, backend, NULL, false, &o, NULL, &err), STATUS_OK, "case %d: %s", i, err.text);
        assert_same_tokens(&f, &o, PLACED[i].percent);
        free_outcome(&o);
    }
    fixture_free(&f);
}

/* Whoever chooses, and wherever the logits are: every token is sample_token's of the logits of its place, and so the same everywhere. */
static inline void samples_are_those_of_their_logits(const char *model, const struct sampling *how, const struct backend *backend)
{
    struct fixture f;
    struct outcome first = {0};
    fixture_load(&f, model);
    void *scratch = malloc((size_t)f.arch.vocab * sizeof(uint64_t));
    for (int i = 0; i < N_PLACED; i++) {
        if (!case_of(&PLACED[i], backend) || i % 3 != 0)
            continue;
        struct hardware hw = machine_of(&PLACED[i], "f32", backend);
        struct policy p = placed_policy(&PLACED[i], &hw);
        struct outcome o;
        struct error err = {0};
        cr_assert_eq(run_sampled(&f, &hw, &p, backend, how, true, &o, NULL, &err), STATUS_OK, "case %d: %s", i, err.text);
        for (int k = 0; k < FIXTURE_PROMPTS; k++)
            for (int64_t t = 0; t < f.new_tokens; t++) {
                const float *row = o.logits + (f.first_row[k] + f.prompt[k].n_ids - 1 + t) * f.arch.vocab;
                const int32_t want = sample_token(how, row, f.arch.vocab, k, t, scratch);
                cr_assert_eq(o.out[k].tokens[t], want, "case %d, prompt %d, token %lld: %d, expected %d", i, k, (long long)t,
                             o.out[k].tokens[t], want);
                cr_assert(!first.f || first.out[k].tokens[t] == want, "case %d, prompt %d, token %lld", i, k, (long long)t);
            }
        if (first.f)
            free_outcome(&o);
        else
            first = o;
    }
    free_outcome(&first);
    free(scratch);
    fixture_free(&f);
}

/* Compression changes the numbers, but what is executed depends on the policy's bits alone, not on where things are. */
static inline void same_everywhere(const char *math, enum format activation, int weight_bits, int cache_bits, double sparsity,
                                   const struct backend *backend)
{
    struct fixture f;
    struct outcome first = {0};
    bool any = false;
    fixture_load(&f, "opt-tiny-pre");
    for (int i = 0; i < N_PLACED; i++) {
        struct hardware hw = machine_of(&PLACED[i], math, backend);
        hw.compute[0].activation = activation;
        struct policy p = placed_policy(&PLACED[i], &hw);
        p.attention_sparsity = sparsity;
        if (!case_of(&PLACED[i], backend) || (backend && sparsity == 1 && i % 3 != 0)) /* an emulation takes its time */
            continue;
        if (policy_check(&p, &hw, "case", NULL) != STATUS_OK)
            continue;
        struct outcome o;
        struct error err = {0};
        p.weight_bits = weight_bits;
        p.cache_bits = cache_bits;
        cr_assert_eq(run_fixture(&f, &hw, &p, backend, &o, NULL, &err), STATUS_OK, "case %d: %s", i, err.text);
        for (int k = 0; k < FIXTURE_PROMPTS && any; k++)
            cr_assert_arr_eq(o.out[k].tokens, first.out[k].tokens, (size_t)f.new_tokens * sizeof(int32_t), "case %d, prompt %d",
                             i, k);
        if (any)
            free_outcome(&o);
        else
            first = o;
        any = true;
    }
    free_outcome(&first);
    fixture_free(&f);
}

#endif
