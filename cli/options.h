/* options.h - the options that commands share, each spelled and explained once.
 *
 * A command names the groups it accepts; any other option is refused by name. What is not given keeps its default, and
 * whatever a search may choose is marked as not given (0, or -1 for switches).
 *
 *     struct options o;
 *     int code;
 *     if (!options_parse(&o, &usage, argc, argv, &code)) { return code; }      help or a complaint was printed
 */
#ifndef BALLAST_CLI_OPTIONS_H
#define BALLAST_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/output.h"
#include "executor/sample.h"
#include "model/arch.h"
#include "model/error.h"
#include "model/hardware.h"
#include "model/policy.h"
#include "model/workload.h"
#include "solver/search.h"
#include "traces/validate.h"

enum option_group {
    OPTION_MODEL = 1 << 0,        /* -m */
    OPTION_HARDWARE = 1 << 1,     /* -H, --hardware-set, --budget, --scale */
    OPTION_WORKLOAD = 1 << 2,     /* -p, -n, --sequences */
    OPTION_POLICY = 1 << 3,       /* --policy */
    OPTION_FLEXGEN = 1 << 4,      /* --percent, -b, --num-gpu-batches, --compress-*, --cpu-cache-compute, --overlap, ... */
    OPTION_SEARCH = 1 << 5,       /* --set, --latency, --max-block */
    OPTION_RUN = 1 << 6,          /* --prompts, --backend, --weights, --weights-dir */
    OPTION_SCRATCH = 1 << 7,      /* --scratch-dir */
    OPTION_SAMPLING = 1 << 8,     /* --seed, --temperature, --top-k, --top-p */
    OPTION_THREADS = 1 << 9,      /* -t */
    OPTION_REPETITIONS = 1 << 10, /* -r, --no-warmup */
    OPTION_FORMAT = 1 << 11,      /* -o md|csv|json|jsonl */
    OPTION_FILE = 1 << 12,        /* -o FILE; not together with OPTION_FORMAT */
    OPTION_TRACE = 1 << 13,       /* --trace, --chrome-trace */
    OPTION_LIMITS = 1 << 14,      /* --mean, --worst, --peak */
    OPTION_ARGUMENTS = 1 << 15,   /* arguments that are no options */
    OPTION_PROFILE = 1 << 16,     /* --emulate-device, --no-gpu, --math, -r */
    OPTION_SWEEP = 1 << 17,       /* --vary, --jobs */
    OPTION_PLOT = 1 << 18,        /* --x, --y, --value, --group */
    OPTION_PLAN = 1 << 19,        /* --pareto, --what-if, --policy-out */
    OPTION_FIT = 1 << 20,         /* --hold-out, --bound, --report */
    OPTION_NOISE = 1 << 21,       /* --noise */
};

struct command_usage {
    const char *name;      /* "plan" */
    const char *arguments; /* after the name: "-m MODEL -H FILE [OPTIONS]" */
    const char *about;     /* one or a few lines */
    unsigned groups;       /* enum option_group */
};

#define REPEATS_MAX   16 /* of one option */
#define BOUNDS_MAX    32
#define HOLD_OUTS_MAX 64

struct options {
    const char *command;
    const char *model, *hardware;
    int n_budgets;
    const char *budget[REPEATS_MAX]; /* "gpu=16GiB" */
    int n_changes;
    const char *change[REPEATS_MAX]; /* "gpu.capacity=24GiB" */
    const char *page_cache;          /* "30GiB"; NULL: none */
    int n_scales;
    const char *scale[REPEATS_MAX];    /* "disk->ram=0.5" */
    int64_t prompt_tokens, gen_tokens; /* 512, 32 */
    int64_t sequences;                 /* 0: one block */

    const char *policy;                                              /* file; NULL: not given */
    char percent[192];                                               /* "wg wc cg cc hg hc"; "": not given */
    int64_t gpu_batch_size, num_gpu_batches, prefetch;               /* 0: not given */
    int compress_weight, compress_cache, cpu_cache_compute, overlap; /* 0, 1; -1: not given */
    double attn_sparsity;                                            /* -1: not given */
    int whole_tensors, pageable_weights;                             /* 0, 1 */
    const char *schedule;                                            /* a name of schedule_named; NULL: not given */

    int n_what_ifs;
    const char *what_if[REPEATS_MAX]; /* "gpu.capacity=24GiB" */
    int n_fixes;
    const char *fix[REPEATS_MAX]; /* "gbs=48", "w.gpu=20%" */
    double latency_s;             /* 0: no limit */
    int64_t max_block;            /* 0: no limit */
    int64_t pareto;               /* points of the front; 0: only the best */
    bool noise;
    uint64_t noise_seed;
    int64_t replays; /* of --noise */
    const char *policy_out;

    const char *prompts, *weights_dir, *scratch_dir, *backend; /* NULL: not given */
    bool weights_random;
    uint64_t weights_seed;
    struct sampling sampling;
    int64_t threads;     /* 0: as many as the machine has cores */
    int64_t repetitions; /* 0: the command's default */
    bool no_warmup;

    enum output_format format;
    const char *file;           /* -o FILE */
    const char *emulate_device; /* size of the device's memory; NULL: none */
    const char *math;           /* NULL: not given */
    bool no_gpu;
    const char *trace, *chrome_trace;
    struct validate_limits limits;
    const char *vary;                                      /* the last one; all of them by options_uses */
    int64_t jobs;                                          /* 0: one per core */
    const char *plot_x, *plot_y, *plot_value, *plot_group; /* names of columns; NULL: not given */

    int n_hold_outs, n_bounds;
    const char *hold_out[HOLD_OUTS_MAX]; /* traces */
    const char *bound[BOUNDS_MAX];       /* "disk->ram.rate=0.5-2" */
    enum output_format report;           /* md or json */

    int n_arguments;
    char **argument; /* (n_arguments) borrowed from argv */
};

/* Fills o from argv (argv[0] is the command). Returns false when the command should return *code at once: after -h, or after a
 * one-line complaint on stderr. */
bool options_parse(struct options *o, const struct command_usage *u, int argc, char **argv, int *code);

/* The same for words that nobody typed (a trace's header): a complaint goes into err, and help is one. */
enum status options_read(struct options *o, const struct command_usage *u, int argc, char **argv, struct error *err);

/* -- the same one by one, for commands that give an option many values --------------------------------------------------- */

/* An option as it was given. */
struct option_use {
    int option;       /* for the functions below */
    const char *text; /* NULL for a flag; borrowed from argv */
};
#define USES_MAX 64

/* The options of argv in the order given, their texts unread. As options_parse, false when the command should return *code. */
bool options_uses(struct option_use out[USES_MAX], int *n, const struct command_usage *u, int argc, char **argv, int *code);
void options_default(struct options *o, const char *command);
/* Reads one text as options_parse does; on top of what o holds. */
enum status options_set(struct options *o, int option, const char *text, struct error *err);
const char *option_name(int option); /* "prompt-tokens" */
int option_named(const char *name);  /* or -1 */
bool option_counts(int option);      /* takes a whole number, so that a range is a list of them */
bool option_takes_pair(int option);  /* takes NAME=VALUE */
bool option_measures(int option);    /* takes a number that may have a unit */

/* Prints "ballast: plan: text" on stderr and returns the exit code. */
int command_fail(const char *command, const struct error *err);

/* The name in the NULL-ended list within two letters of `name`; NULL if there is none. */
const char *nearest_name(const char *name, const char *const *names);

/* -- from options to the structs they stand for (inputs.c) -------------------------------------------------------------- */

enum status options_model(const struct options *o, struct arch *a, struct error *err);        /* caller frees with arch_free */
enum status options_profile(const struct options *o, struct hardware *hw, struct error *err); /* as it is in its file */
enum status options_change(const struct options *o, struct hardware *hw,
                           struct error *err); /* changes, then budgets, then scales */
enum status options_hardware(const struct options *o, struct hardware *hw, struct error *err); /* both */
enum status options_workload(const struct options *o, const struct arch *a, struct workload *w, struct error *err);
/* The traces are the command's arguments: an error if there are none. */
enum status options_traces(const struct options *o, struct error *err);
/* The policy file, or the defaults and --percent; then every flag that was given on top. Checked. */
enum status options_policy(const struct options *o, const struct hardware *hw, struct policy *p, struct error *err);
/* What the flags and --set fix and what stays open; `realise` is left NULL. Fails on --percent, which leaves nothing to search, and on
 * fixes that contradict a flag or each other. */
enum status options_search(const struct options *o, const struct hardware *hw, struct search_options *s, struct error *err);
/* hw with all of --what-if: a field, "A->B=24GB/s" for a link's rate, or "gpu.rate=2" for all rates of a unit. */
enum status options_what_if(const struct options *o, struct hardware *hw, struct error *err);
/* One "NAME=VALUE" of --set on top of what is fixed already (fixes.c). */
enum status fix_variable(const char *text, const struct hardware *hw, struct search_options *s, struct error *err);

#endif
