/* The executor against the reference implementation: the same tokens for every placement, schedule and batch split, and logits of every
 * position within the bound that tests/exact_model.h derives for f32. */
#include "model/in_use.h"
#include "tests/executor_cases.h"

Test(executor, pre_norm_in_fp16_is_the_reference_for_every_placement)
{
    every_placement(MODELS[0], NULL);
}
Test(executor, post_norm_with_projections_is_the_reference_for_every_placement)
{
    every_placement(MODELS[1], NULL);
}
Test(executor, odd_sizes_in_shards_are_the_reference_for_every_placement)
{
    every_placement(MODELS[2], NULL);
}
Test(executor, gelu_in_bf16_is_the_reference_for_every_placement)
{
    every_placement(MODELS[3], NULL);
}
Test(executor, untied_without_biases_is_the_reference_for_every_placement)
{
    every_placement(MODELS[4], NULL);
}

Test(executor, packed_weights_give_the_same_tokens_everywhere)
{
    same_everywhere("f32", FORMAT_F32, 4, 16, 1, NULL);
}
Test(executor, a_packed_cache_gives_the_same_tokens_everywhere)
{
    same_everywhere("f32", FORMAT_F32, 16, 4, 1, NULL);
}
Test(executor, bf16_gives_the_same_tokens_everywhere)
{
    same_everywhere("bf16", FORMAT_F32, 16, 16, 1, NULL);
}

Test(executor, sparse_attention_is_the_reference_for_every_placement_in_place)
{
    every_placement_as("opt-tiny-pre", "sparse", NULL);
    every_placement_as("opt-tiny-shard", "sparse", NULL);
}
Test(executor, sparse_attention_over_a_packed_cache_gives_the_same_tokens_everywhere)
{
    same_everywhere("f32", FORMAT_F32, 16, 4, 0.3, NULL);
}

Test(executor, sampled_tokens_are_those_of_their_logits)
{
    samples_are_those_of_their_logits("opt-tiny-shard", &(struct sampling){0.8, 40, 0.9, 7}, NULL);
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
    cr_assert_eq(run_fixture(&f, &hw, &p, NULL, &o, &t, &err), STATUS_OK, "%s", err.text);
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

/* The order on every resource: as in its lane, whoever made the trace. */
static void assert_in_order(const struct trace *t, const struct schedule *s, const char *what)
{
    for (int r = 0; r < t->n_resources; r++)
        for (int32_t i = s->first[r] + 1; i < s->first[r + 1]; i++)
            cr_assert_geq(t->event[s->lane[i]].start_ns, t->event[s->lane[i - 1]].end_ns,
                          "%s: operation %d starts before %d ends, which comes before it on %s", what, s->lane[i], s->lane[i - 1],
                          t->resource_name[r]);
}

static void assert_agree(const struct trace *run, const struct trace *sim, const struct schedule *schedule, const char *what)
{
    cr_assert_eq(run->n_events, sim->n_events, "%s: %lld operations ran, %lld were simulated", what, (long long)run->n_events,
                 (long long)sim->n_events);
    for (int64_t i = 0; i < run->n_events; i++) {
        const struct trace_event *r = &run->event[i], *s = &sim->event[i];
        cr_assert(r->op == s->op && r->kind == s->kind && r->resource == s->resource && r->step == s->step &&
                      r->layer == s->layer && r->batch == s->batch && r->bytes == s->bytes && r->flops == s->flops,
                  "%s: operation %d differs", what, r->op);
    }
    assert_in_order(run, schedule, what);
    assert_in_order(sim, schedule, what);
}

/* No phase has more in use than was planned. On tier 0 all of it is reached where no weights pass through: computations come in the same
 * order whatever their times. */
static void assert_in_use(const struct trace *t, const struct placement *pl, const struct arch *a, const struct workload *w,
                          const struct policy *p, const char *what)
{
    for (int ph = 0; ph < PHASE_COUNT; ph++)
        for (int u = 0; u < pl->n_tiers; u++) {
            int64_t most = in_use_most(pl, a, w, p, (enum phase)ph, u);
            cr_assert_leq(t->in_use_bytes[ph][u], most, "%s: %s, tier %d", what, phase_name((enum phase)ph), u);
            if (u == 0 && pl->ring_bytes[0] == 0 && p->schedule != SCHEDULE_DIAGONAL)
                cr_assert_eq(t->in_use_bytes[ph][u], most, "%s: %s, %lld of %lld", what, phase_name((enum phase)ph),
                             (long long)t->in_use_bytes[ph][u], (long long)most);
        }
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
        cr_assert_eq(run_fixture(&f, &hw, &p, NULL, &o, &run, &err), STATUS_OK, "case %d: %s", i, err.text);
        cr_assert_eq(placement_new(&pl, &f.arch, &hw, &w, &p, &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(schedule_new(&schedule, &f.arch, &hw, &w, &p, &pl, &err), STATUS_OK, "%s", err.text);
        struct run_setting set = {"test", &f.arch, &hw, &w, &p, &pl, &prediction};
        cr_assert_eq(simulate(&schedule, &set, &sim, &err), STATUS_OK, "%s", err.text);
        assert_agree(&run, &sim, &schedule, PLACED[i].percent);
        assert_in_use(&run, &pl, &f.arch, &w, &p, PLACED[i].percent);
        assert_in_use(&sim, &pl, &f.arch, &w, &p, PLACED[i].percent);
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
    cr_assert_eq(run_fixture(&f, &hw, &p, NULL, &o, NULL, &err), STATUS_DOES_NOT_FIT);
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
    cr_assert_eq(run_fixture(&f, &hw, &p, NULL, &o, NULL, &err), STATUS_INVALID);
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
