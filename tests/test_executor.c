/* The executor against the reference implementation: the same tokens for every placement, schedule and batch split, and logits of every
 * position within 1e-4 in f32. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/run.h"
#include "model/stream.h"
#include "tests/fixture.h"
#include "tests/machine.h"

static const char *const MODELS[] = {"opt-tiny-pre", "opt-tiny-post", "opt-tiny-shard", "opt-tiny-bf16", "opt-tiny-untied"};
enum { N_MODELS = sizeof MODELS / sizeof MODELS[0] };

/* What a run left behind, to be compared. */
struct outcome {
    const struct fixture *f;
    double worst; /* |logit - reference| over every position */
    int64_t logits;
    struct generated out[FIXTURE_PROMPTS];
    int64_t peak[TIERS_MAX];
};

static void compare_logits(int64_t sequence, int64_t position, int64_t begin, int64_t count, const float *logits, void *arg)
{
    struct outcome *o = arg;
    if (sequence >= FIXTURE_PROMPTS) /* fill */
        return;
    const float *reference = o->f->logits + (o->f->first_row[sequence] + position) * o->f->arch.vocab + begin;
    for (int64_t i = 0; i < count; i++)
        o->worst = fmax(o->worst, fabs((double)logits[i] - (double)reference[i]));
    o->logits += count;
}

static enum status run_fixture(const struct fixture *f, const struct hardware *hw, const struct policy *p, struct outcome *o,
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
    struct run_options ro = {.setting = {"test", &f->arch, hw, &w, p, &pl, &prediction},
                             .model_directory = f->directory,
                             .scratch_directory = "build",
                             .threads = 2,
                             .pad_token = 1,
                             .logits = compare_logits,
                             .arg = o};
    sampling_default(&ro.sampling);
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
    return s;
}

static void free_outcome(struct outcome *o)
{
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        free(o->out[i].tokens);
}

/* Logits that must have been compared: positions 0 .. length + new_tokens - 2 of every prompt. */
static int64_t expected_logits(const struct fixture *f)
{
    int64_t rows = 0;
    for (int i = 0; i < FIXTURE_PROMPTS; i++)
        rows += f->prompt[i].n_ids + f->new_tokens - 1;
    return rows * f->arch.vocab;
}

static void assert_same_tokens(const struct fixture *f, const struct outcome *o, const char *what)
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
};
enum { N_PLACED = sizeof PLACED / sizeof PLACED[0] };

static struct policy placed_policy(const struct placed *c, const struct hardware *hw)
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

static void every_placement(const char *model)
{
    struct fixture f;
    fixture_load(&f, model);
    for (int i = 0; i < N_PLACED; i++) {
        const struct placed *c = &PLACED[i];
        struct hardware hw = test_machine(c->n_tiers, "f32");
        struct policy p = placed_policy(c, &hw);
        struct outcome o;
        struct error err = {0};
        char what[128];
        snprintf(what, sizeof what, "%s, %d tiers, %s, %dx%d, %s%s", model, c->n_tiers, c->percent, c->batch, c->batches,
                 schedule_name(c->schedule), c->near ? ", near the cache" : "");
        cr_assert_eq(run_fixture(&f, &hw, &p, &o, NULL, &err), STATUS_OK, "%s: %s", what, err.text);
        assert_same_tokens(&f, &o, what);
        cr_assert_eq(o.logits, expected_logits(&f), "%s: %lld logits were compared", what, (long long)o.logits);
        cr_assert_lt(o.worst, 1e-4, "%s: a logit is off by %g", what, o.worst);
        for (int t = 0; t < hw.n_tiers; t++)
            cr_assert_eq(o.peak[t], 0, "%s: tier %s differs from the plan by %lld bytes", what, hw.tier[t].name,
                         (long long)o.peak[t]);
        free_outcome(&o);
    }
    fixture_free(&f);
}

Test(executor, pre_norm_in_fp16_is_the_reference_for_every_placement)
{
    every_placement(MODELS[0]);
}
Test(executor, post_norm_with_projections_is_the_reference_for_every_placement)
{
    every_placement(MODELS[1]);
}
Test(executor, odd_sizes_in_shards_are_the_reference_for_every_placement)
{
    every_placement(MODELS[2]);
}
Test(executor, gelu_in_bf16_is_the_reference_for_every_placement)
{
    every_placement(MODELS[3]);
}
Test(executor, untied_without_biases_is_the_reference_for_every_placement)
{
    every_placement(MODELS[4]);
}

/* Compression changes the numbers, but what is executed depends on the policy's bits alone, not on where things are. */
static void same_everywhere(const char *math, int weight_bits, int cache_bits)
{
    struct fixture f;
    struct outcome first = {0};
    fixture_load(&f, "opt-tiny-pre");
    for (int i = 0; i < N_PLACED; i++) {
        struct hardware hw = test_machine(PLACED[i].n_tiers, math);
        struct policy p = placed_policy(&PLACED[i], &hw);
        struct outcome o;
        struct error err = {0};
        p.weight_bits = weight_bits;
        p.cache_bits = cache_bits;
        cr_assert_eq(run_fixture(&f, &hw, &p, &o, NULL, &err), STATUS_OK, "case %d: %s", i, err.text);
        for (int k = 0; k < FIXTURE_PROMPTS && i > 0; k++)
            cr_assert_arr_eq(o.out[k].tokens, first.out[k].tokens, (size_t)f.new_tokens * sizeof(int32_t), "case %d, prompt %d",
                             i, k);
        if (i == 0)
            first = o;
        else
            free_outcome(&o);
    }
    free_outcome(&first);
    fixture_free(&f);
}

Test(executor, packed_weights_give_the_same_tokens_everywhere)
{
    same_everywhere("f32", 4, 16);
}
Test(executor, a_packed_cache_gives_the_same_tokens_everywhere)
{
    same_everywhere("f32", 16, 4);
}
Test(executor, bf16_gives_the_same_tokens_everywhere)
{
    same_everywhere("bf16", 16, 16);
}

/* -- a trace says what happened ---------------------------------------------------------------------------------------- */

Test(executor, the_trace_has_every_operation_after_what_it_waited_for)
{
    struct fixture f;
    struct hardware hw = test_machine(3, "f32");
    struct policy p = placed_policy(&PLACED[12], &hw);
    struct outcome o;
    struct error err = {0};
    struct trace t;
    struct workload w = {12, 12, 0};
    struct placement pl;
    struct schedule schedule;
    trace_init(&t);
    fixture_load(&f, "opt-tiny-pre");
    cr_assert_eq(run_fixture(&f, &hw, &p, &o, &t, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(placement_new(&pl, &f.arch, &hw, &w, &p, &err), STATUS_OK);
    cr_assert_eq(schedule_new(&schedule, &f.arch, &hw, &w, &p, &pl, &err), STATUS_OK);
    cr_assert_eq(t.n_events, schedule.n_ops);
    for (int64_t i = 0; i < t.n_events; i++) {
        const struct op *op = &schedule.op[i];
        cr_assert_eq(t.event[i].kind, op->kind);
        for (int d = 0; d < op->n_deps; d++)
            cr_assert_leq(t.event[op->dep[d]].end_ns, t.event[i].start_ns, "operation %lld started before %d ended", (long long)i,
                          op->dep[d]);
    }
    schedule_free(&schedule);
    placement_free(&pl);
    trace_free(&t);
    free_outcome(&o);
    fixture_free(&f);
}

/* -- the simulator's trace is the executor's, but for the times ---------------------------------------------------------- */

/* The order on every resource: as in the list, whoever made the trace. */
static void assert_in_order(const struct trace *t, const char *what)
{
    int64_t last_end[RESOURCES_MAX] = {0};
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        cr_assert_geq(e->start_ns, last_end[e->resource], "%s: operation %d starts before the one before it on %s ends", what,
                      e->op, t->resource_name[e->resource]);
        last_end[e->resource] = e->end_ns;
    }
}

static void assert_agree(const struct trace *run, const struct trace *sim, const char *what)
{
    cr_assert_eq(run->n_events, sim->n_events, "%s: %lld operations ran, %lld were simulated", what, (long long)run->n_events,
                 (long long)sim->n_events);
    for (int64_t i = 0; i < run->n_events; i++) {
        const struct trace_event *r = &run->event[i], *s = &sim->event[i];
        cr_assert(r->op == s->op && r->kind == s->kind && r->resource == s->resource && r->step == s->step &&
                      r->layer == s->layer && r->batch == s->batch && r->bytes == s->bytes && r->flops == s->flops,
                  "%s: operation %d differs", what, r->op);
    }
    assert_in_order(run, what);
    assert_in_order(sim, what);
}

Test(executor, runs_the_operations_that_are_simulated_in_the_same_order)
{
    struct fixture f;
    fixture_load(&f, "opt-tiny-pre");
    for (int i = 0; i < N_PLACED; i++) {
        struct hardware hw = test_machine(PLACED[i].n_tiers, "f32");
        struct policy p = placed_policy(&PLACED[i], &hw);
        struct workload w = {12, f.new_tokens, FIXTURE_PROMPTS};
        struct prediction prediction = {0};
        struct placement pl;
        struct schedule schedule;
        struct outcome o;
        struct trace run, sim;
        struct error err = {0};
        trace_init(&run);
        trace_init(&sim);
        cr_assert_eq(run_fixture(&f, &hw, &p, &o, &run, &err), STATUS_OK, "case %d: %s", i, err.text);
        cr_assert_eq(placement_new(&pl, &f.arch, &hw, &w, &p, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(schedule_new(&schedule, &f.arch, &hw, &w, &p, &pl, &err), STATUS_OK, "%s", err.text);
        struct run_setting set = {"test", &f.arch, &hw, &w, &p, &pl, &prediction};
        cr_assert_eq(simulate(&schedule, &set, &sim, &err), STATUS_OK, "%s", err.text);
        assert_agree(&run, &sim, PLACED[i].percent);
        schedule_free(&schedule);
        placement_free(&pl);
        trace_free(&run);
        trace_free(&sim);
        free_outcome(&o);
    }
    fixture_free(&f);
}

/* -- what goes wrong --------------------------------------------------------------------------------------------------- */

Test(executor, a_budget_too_small_names_tier_and_bytes)
{
    struct fixture f;
    struct hardware hw = test_machine(2, "f32");
    struct policy p;
    struct outcome o;
    struct error err = {0};
    fixture_load(&f, "opt-tiny-pre");
    policy_default(&p, 2);
    hw.tier[0].capacity_bytes = 1 << 20;
    cr_assert_eq(run_fixture(&f, &hw, &p, &o, NULL, &err), STATUS_DOES_NOT_FIT);
    cr_assert_not_null(strstr(err.text, "ram"), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "missing"), "%s", err.text);
    fixture_free(&f);
}

Test(executor, a_prompt_longer_than_the_workload_is_refused)
{
    struct fixture f;
    struct hardware hw = test_machine(2, "f32");
    struct policy p;
    struct outcome o;
    struct error err = {0};
    fixture_load(&f, "opt-tiny-pre");
    policy_default(&p, 2);
    f.prompt[0].n_ids = 13; /* the workload has 12; the ids are not read */
    cr_assert_eq(run_fixture(&f, &hw, &p, &o, NULL, &err), STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "13 tokens"), "%s", err.text);
    f.prompt[0].n_ids = 5;
    fixture_free(&f);
}

Test(executor, a_missing_scratch_directory_is_named)
{
    struct fixture f;
    struct hardware hw = test_machine(2, "f32");
    struct policy p;
    struct placement pl;
    struct workload w = {12, 12, 0};
    struct prediction prediction = {0};
    struct runner *r;
    struct error err = {0};
    fixture_load(&f, "opt-tiny-pre");
    policy_default(&p, 2);
    cr_assert_eq(policy_percent(&p, "100 0 0 0 100 0", &hw, &err), STATUS_OK);
    cr_assert_eq(placement_new(&pl, &f.arch, &hw, &w, &p, &err), STATUS_OK);
    struct run_options ro = {.setting = {"test", &f.arch, &hw, &w, &p, &pl, &prediction},
                             .model_directory = f.directory,
                             .scratch_directory = "build/no-such-directory",
                             .threads = 1};
    cr_assert_eq(runner_open(&r, &ro, &err), STATUS_RUNTIME);
    cr_assert_not_null(strstr(err.text, "no-such-directory"), "%s", err.text);
    placement_free(&pl);
    fixture_free(&f);
}
