/* setting.h - what predict, simulate and run work on: a model, a machine, a workload, a policy, and what follows from them. */
#ifndef BALLAST_CLI_SETTING_H
#define BALLAST_CLI_SETTING_H

#include "cli/options.h"
#include "executor/sim/sim.h"
#include "model/cost.h"
#include "model/placement.h"
#include "solver/binding.h"
#include "solver/front.h"

struct setting {
    struct arch arch;
    struct hardware profile;  /* as loaded: n_tiers 0 if it was not */
    struct hardware hardware; /* the same with the options' changes and budgets */
    struct workload workload;
    struct policy policy;
    struct placement placement;
    struct cost cost;
    struct prediction prediction; /* of the placement that can be executed; peaks are exact */
    bool planned;                 /* the policy comes from the search */
    struct plan plan;
    struct binding binding; /* after setting_replan */
};

/* Loads what the options name. Without a policy the search finds one. The placement is checked against the budgets. */
enum status setting_open(struct setting *s, const struct options *o, struct error *err);
/* The same for a setting that has been opened with `before` (or failed to be, with s zeroed and before NULL): model and machine are
 * loaded again only if they are others. */
enum status setting_reopen(struct setting *s, const struct options *before, const struct options *o, struct error *err);
/* The same for a policy that is given, whether or not it fits. */
enum status setting_reopen_anyway(struct setting *s, const struct options *before, const struct options *o, bool *fits,
                                  struct error *err);
void setting_close(struct setting *s); /* a zeroed struct is fine */

/* Model, machine and workload only. */
enum status setting_load(struct setting *s, const struct options *o, struct error *err);
/* Only the search, for plan. */
enum status setting_search(struct setting *s, const struct options *o, struct error *err);

/* Latency against throughput of a loaded setting, at most o->pareto plans; the caller frees it. */
enum status setting_front(const struct setting *s, const struct options *o, struct front *out, struct error *err);

/* The prices of s's plan, planned again with one more unit each, and what binds it. */
enum status setting_replan(struct setting *s, const struct options *o, struct error *err);
/* The plan for another machine: *out shares s's model, so close s last and only free out's placement. */
enum status setting_plan_on(struct setting *out, const struct setting *s, const struct hardware *hw, const struct options *o,
                            struct error *err);

struct run_setting setting_view(const struct setting *s); /* borrows from s */

/* The schedule on the cost model's clock; the caller initialises and frees t. */
enum status setting_simulate(const struct setting *s, struct trace *t, struct error *err);
/* Its latency when the machine's rates vary, see simulate_noise. */
enum status setting_replay(const struct setting *s, uint64_t seed, int replays, struct interval *latency, struct error *err);

/* s's prediction with the times of a trace, which is of one run of the schedule: those of all runs (cost.h). */
struct prediction setting_of_trace(const struct setting *s, const struct trace *t);

/* Columns and one row of the results' vocabulary: model, hardware, workload, policy, throughput_tok_s, ... For people (Markdown) the long
 * policy stays out of the table: setting_explain prints it below. */
void setting_columns(struct table *t, const struct setting *s, enum output_format format);
void setting_cells(struct table *t, const struct setting *s, const struct prediction *p, enum output_format format);

/* Whether the profile knows how long memory takes to be page-locked before a run: results then have pinning_s, which no throughput
 * counts. */
bool setting_pins(const struct setting *s);

/* The error bar of the throughput, where the profile knows how far its rates vary (for people: only then): a 90 % interval. */
void setting_bar_columns(struct table *t, const struct setting *s, const char *prefix, enum output_format format);
void setting_bar_cells(struct table *t, const struct setting *s, enum output_format format);
char *setting_bar(const struct setting *s, char *buf, size_t n); /* " (4.1 to 5.2)", or nothing; returns buf */

/* The policy's flags, and what binds in each phase, for people. */
void setting_explain(const struct setting *s, const struct prediction *p, FILE *out);

/* The `ballast run` command line that carries the policy out, for a shell; the caller frees it. NULL: no memory. */
char *setting_command_new(const struct setting *s, const struct options *o);

#endif
