/* scene.h - a model on a machine with a workload and a policy, and what follows from them: placement, table, schedule, simulation. */
#ifndef BALLAST_TESTS_SCENE_H
#define BALLAST_TESTS_SCENE_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "executor/sim/sim.h"
#include "model/cost.h"
#include "model/placement.h"
#include "tests/machine.h"

#define CLOSE(a, b) cr_assert_lt(fabs((a) - (b)), 1e-9 * fabs(b) + 1e-15, "%.12g is not %.12g", (double)(a), (double)(b))

static inline struct arch load(const char *name)
{
    struct arch a = {0};
    struct error err = {0};
    cr_assert_eq(arch_load(&a, name, &err), STATUS_OK, "%s", err.text);
    return a;
}

/* The default policy with the sizes of a block. */
static inline struct policy block_policy(int tiers, int batch, int batches)
{
    struct policy p;
    policy_default(&p, tiers);
    p.gpu_batch_size = batch;
    p.num_gpu_batches = batches;
    return p;
}

static inline void move_all(struct policy *p, enum tensor_class cls, int tier)
{
    for (int t = 0; t < TIERS_MAX; t++)
        p->fraction[cls][t] = t == tier;
}

/* Not to be moved once it has a schedule: `set` points into it. */
struct scene {
    struct arch a;
    struct hardware hw;
    struct workload w;
    struct policy p;
    struct placement pl;
    struct cost cost;
    struct prediction predicted; /* of what is placed */
    struct schedule s;
    struct run_setting set;
    struct trace t;
    struct trace_summary sum;
};

/* The default policy with FlexGen's percentages and the sizes of a block. */
static inline void scene_open(struct scene *c, const char *model, const struct hardware *hw, struct workload w,
                              const char *percent, int batch, int batches)
{
    struct error err = {0};
    *c = (struct scene){.a = load(model), .hw = *hw, .w = w};
    c->p = block_policy(hw->n_tiers, batch, batches);
    cr_assert_eq(policy_percent(&c->p, percent, &c->hw, &err), STATUS_OK, "%s", err.text);
}

/* What follows, up to the schedule. */
static inline void scene_make(struct scene *c)
{
    struct error err = {0};
    cr_assert_eq(placement_new(&c->pl, &c->a, &c->hw, &c->w, &c->p, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(cost_build(&c->cost, &c->a, &c->hw, &c->w, &c->p, &err), STATUS_OK, "%s", err.text);
    cost_predict(&c->cost, (const double(*)[TIERS_MAX])c->pl.realised, &c->predicted);
    cr_assert_eq(schedule_new(&c->s, &c->a, &c->hw, &c->w, &c->p, &c->pl, &err), STATUS_OK, "%s", err.text);
    c->set = (struct run_setting){"test", &c->a, &c->hw, &c->w, &c->p, &c->pl, &c->predicted};
}

/* A made scene on the simulator's clock. */
static inline void scene_simulate(struct scene *c)
{
    struct error err = {0};
    trace_init(&c->t);
    cr_assert_eq(simulate(&c->s, &c->set, &c->t, &err), STATUS_OK, "%s", err.text);
    trace_summarise(&c->t, &c->sum);
}

/* What the table says of one step, with the tokens that are there then; a decode step of the table itself is the mean. */
static inline double scene_step_s(const struct scene *c, int64_t step)
{
    const struct workload one = {.prompt_tokens = c->w.prompt_tokens + (step > 0 ? step - 1 : 0), .gen_tokens = 2};
    struct cost cost;
    struct error err = {0};
    cr_assert_eq(cost_build(&cost, &c->a, &c->hw, &one, &c->p, &err), STATUS_OK, "%s", err.text);
    return cost_step_s(&cost, step > 0 ? PHASE_DECODE : PHASE_PREFILL, (const double(*)[TIERS_MAX])c->pl.realised, NULL, NULL);
}

static inline void scene_close(struct scene *c)
{
    trace_free(&c->t);
    schedule_free(&c->s);
    placement_free(&c->pl);
    arch_free(&c->a);
}

#endif
