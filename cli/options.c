/* options.c - the table of options, and getopt_long driven by it. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/units.h"

enum option_kind {
    KIND_TEXT,    /* const char * */
    KIND_INT,     /* int64_t in [min, max] */
    KIND_NUMBER,  /* double in [min, max] */
    KIND_SECONDS, /* double: seconds, or with a unit */
    KIND_SET,     /* bool = true */
    KIND_ON,      /* int = 1 */
    KIND_OFF,     /* int = 0 */
    KIND_SWITCH,  /* int = 1, or the true/false that follows, as FlexGen's own option has it */
    KIND_INT32,   /* int in [min, max] */
    KIND_SEED,    /* uint64_t */
    KIND_BUDGET,
    KIND_SCALE,
    KIND_FIX,
    KIND_WHAT_IF,
    KIND_CHANGE,
    KIND_HOLD_OUT,
    KIND_BOUND,
    KIND_REPORT,
    KIND_PERCENT,
    KIND_WEIGHTS,
    KIND_FORMAT,
    KIND_SCHEDULE,
    KIND_NOISE,
};

struct option_spec {
    unsigned group;
    char letter;              /* 0: none */
    const char *name, *value; /* value: its name in the help, NULL for a flag */
    enum option_kind kind;
    size_t offset; /* into struct options */
    double min, max;
    const char *help;
};

#define AT(field) offsetof(struct options, field)
#define BATCH_MAX 65536

static const struct option_spec OPTIONS[] = {
    {OPTION_MODEL, 'm', "model", "MODEL", KIND_TEXT, AT(model), 0, 0,
     "Hugging Face directory, its config.json, or a preset (opt-1.3b)"},
    {OPTION_HARDWARE, 'H', "hardware", "FILE", KIND_TEXT, AT(hardware), 0, 0,
     "profile of the machine, or a built-in one (t4-gcp)"},
    {OPTION_HARDWARE, 0, "hardware-set", "FIELD=VALUE", KIND_CHANGE, 0, 0, 0,
     "another machine: gpu.capacity=24GiB, \"cpu->gpu.rate=2x\"; may be repeated"},
    {OPTION_HARDWARE, 0, "budget", "TIER=SIZE", KIND_BUDGET, 0, 0, 0, "use at most this of a tier: gpu=16GiB; may be repeated"},
    {OPTION_HARDWARE, 0, "page-cache", "SIZE", KIND_TEXT, AT(page_cache), 0, 0,
     "predict as if the page cache served so much of each decode step's disk reads (none)"},
    {OPTION_HARDWARE, 0, "scale", "NAME=FACTOR", KIND_SCALE, 0, 0, 0,
     "a link or unit so many times as fast: \"disk->ram=2\", cpu=0.5; may be repeated"},
    {OPTION_WORKLOAD, 'p', "prompt-tokens", "N", KIND_INT, AT(prompt_tokens), 1, 1 << 24, "tokens of every prompt (512)"},
    {OPTION_WORKLOAD, 'n', "gen-tokens", "N", KIND_INT, AT(gen_tokens), 1, 1 << 24, "tokens to generate (32)"},
    {OPTION_WORKLOAD, 0, "sequences", "N", KIND_INT, AT(sequences), 1, 1 << 30, "sequences to serve in all (one block)"},

    {OPTION_POLICY, 0, "policy", "FILE", KIND_TEXT, AT(policy), 0, 0, "policy as JSON; the flags below change parts of it"},
    {OPTION_FLEXGEN, 0, "percent", "\"wg wc cg cc hg hc\"", KIND_PERCENT, 0, 0, 0,
     "percent of weights, cache, activations on tiers 0 and 1; the rest is on disk"},
    {OPTION_FLEXGEN, 'b', "gpu-batch-size", "N", KIND_INT, AT(gpu_batch_size), 1, BATCH_MAX, "sequences computed together"},
    {OPTION_FLEXGEN, 0, "num-gpu-batches", "N", KIND_INT, AT(num_gpu_batches), 1, BATCH_MAX,
     "batches that share one pass over the weights"},
    {OPTION_FLEXGEN, 0, "compress-weight", NULL, KIND_ON, AT(compress_weight), 0, 0, "weights in 4 bits"},
    {OPTION_FLEXGEN, 0, "no-compress-weight", NULL, KIND_OFF, AT(compress_weight), 0, 0, "weights as stored in the model"},
    {OPTION_FLEXGEN, 0, "compress-cache", NULL, KIND_ON, AT(compress_cache), 0, 0, "attention cache in 4 bits"},
    {OPTION_FLEXGEN, 0, "no-compress-cache", NULL, KIND_OFF, AT(compress_cache), 0, 0, "attention cache uncompressed"},
    {OPTION_FLEXGEN, 0, "cpu-cache-compute", NULL, KIND_ON, AT(cpu_cache_compute), 0, 0, "attend where the cache is"},
    {OPTION_FLEXGEN, 0, "no-cpu-cache-compute", NULL, KIND_OFF, AT(cpu_cache_compute), 0, 0, "attend on tier 0"},
    {OPTION_FLEXGEN, 0, "attn-sparsity", "X", KIND_NUMBER, AT(attn_sparsity), 0, 1,
     "add the values of this part of the earlier tokens, the best scored (1)"},
    {OPTION_FLEXGEN, 0, "overlap", NULL, KIND_SWITCH, AT(overlap), 0, 0, "transfers and computing proceed at once"},
    {OPTION_FLEXGEN, 0, "no-overlap", NULL, KIND_OFF, AT(overlap), 0, 0, "one operation at a time"},
    {OPTION_FLEXGEN, 0, "whole-tensors", NULL, KIND_ON, AT(whole_tensors), 0, 0, "no matrix of weights is cut"},
    {OPTION_FLEXGEN, 0, "pageable-weights", NULL, KIND_ON, AT(pageable_weights), 0, 0, "weights not page-locked"},
    {OPTION_FLEXGEN, 0, "prefetch", "N", KIND_INT, AT(prefetch), 1, 64,
     "layers loaded ahead, the current one included (3; searched)"},
    {OPTION_FLEXGEN, 0, "schedule", "zigzag|row|diagonal", KIND_SCHEDULE, 0, 0, 0,
     "all batches together, batch by batch, or staggered: as one ends another enters (zigzag)"},

    {OPTION_SEARCH, 0, "latency", "SECONDS", KIND_SECONDS, AT(latency_s), 0, 0,
     "longest time that all sequences (or one block) may take"},
    {OPTION_SEARCH, 0, "set", "NAME=VALUE", KIND_FIX, 0, 0, 0,
     "fix a variable: gbs, batches, w.gpu=20% (or 20%-40%), c.cpu, h.disk, weight_bits, cache_bits, attention=TIER, schedule, overlap, "
     "prefetch; may be repeated"},
    {OPTION_SEARCH, 0, "max-block", "N", KIND_INT, AT(max_block), 1, BATCH_MAX, "most sequences in a block"},
    {OPTION_PLAN, 0, "pareto", "N", KIND_INT, AT(pareto), 2, 1000,
     "the best policies at about N latencies, from the shortest to the best's"},
    {OPTION_NOISE, 0, "noise", "SEED[:N]", KIND_NOISE, 0, 0, 0,
     "an interval for the throughput: N replays (200) with the spread of the profile's rates"},
    {OPTION_PLAN, 0, "what-if", "FIELD=VALUE", KIND_WHAT_IF, 0, 0, 0,
     "plan for another machine too, side by side: gpu.capacity=24GiB, \"cpu->gpu=24GB/s\", gpu.rate=2; may be repeated"},
    {OPTION_PLAN, 0, "policy-out", "FILE", KIND_TEXT, AT(policy_out), 0, 0, "write the policy as JSON"},

    {OPTION_RUN, 0, "prompts", "FILE", KIND_TEXT, AT(prompts), 0, 0,
     "JSON lines of prompts, - for stdin; without it random tokens"},
    {OPTION_RUN, 0, "backend", "cpu|cuda", KIND_TEXT, AT(backend), 0, 0,
     "what works on the first tier (cuda if that is a GPU's)"},
    {OPTION_RUN, 0, "weights", "random[:SEED]", KIND_WEIGHTS, 0, 0, 0, "make a model of this shape with random weights"},
    {OPTION_RUN, 0, "weights-dir", "DIR", KIND_TEXT, AT(weights_dir), 0, 0, "where random weights are made and kept"},
    {OPTION_SCRATCH, 0, "scratch-dir", "DIR", KIND_TEXT, AT(scratch_dir), 0, 0, "the disk tier: where scratch files go"},
    {OPTION_SAMPLING, 0, "seed", "N", KIND_SEED, AT(sampling.seed), 0, 0, "seed of sampling and of random prompts (0)"},
    {OPTION_SAMPLING, 0, "temperature", "X", KIND_NUMBER, AT(sampling.temperature), 0, 1000, "0 takes the likeliest token (0)"},
    {OPTION_SAMPLING, 0, "top-k", "N", KIND_INT32, AT(sampling.top_k), 0, 1 << 24, "sample among the N likeliest; 0: off (0)"},
    {OPTION_SAMPLING, 0, "top-p", "X", KIND_NUMBER, AT(sampling.top_p), 0, 1, "sample among the likeliest that add up to X (1)"},
    {OPTION_THREADS, 't', "threads", "N", KIND_INT, AT(threads), 1, 1024, "threads that compute (one per core)"},
    {OPTION_REPETITIONS, 'r', "repetitions", "N", KIND_INT, AT(repetitions), 1, 1000, "measured repetitions, after a warm-up"},
    {OPTION_REPETITIONS, 0, "no-warmup", NULL, KIND_SET, AT(no_warmup), 0, 0, "leave the warm-up out"},
    {OPTION_FORMAT, 'o', "output", "md|csv|json|jsonl", KIND_FORMAT, 0, 0, 0, "format of the results on stdout (md)"},
    {OPTION_PROFILE, 0, "emulate-device", "SIZE", KIND_TEXT, AT(emulate_device), 0, 0,
     "a third tier in front: memory of this size, reached by copies as a GPU's is"},
    {OPTION_PROFILE, 0, "no-gpu", NULL, KIND_SET, AT(no_gpu), 0, 0, "leave the GPU out"},
    {OPTION_PROFILE, 0, "math", "f32|bf16", KIND_TEXT, AT(math), 0, 0,
     "operands of the matrix products (bf16 where the CPU has it)"},
    {OPTION_PROFILE, 'r', "repetitions", "N", KIND_INT, AT(repetitions), 1, 100,
     "rounds of about 3 seconds that are averaged (12)"},
    {OPTION_SWEEP, 0, "vary", "FLAG=yes,no", KIND_TEXT, AT(vary), 0, 0,
     "a flag both ways: compress-weight, overlap, ...; may be repeated"},
    {OPTION_SWEEP, 'j', "jobs", "N", KIND_INT, AT(jobs), 1, 1024, "points computed at once (one per core)"},
    {OPTION_PLOT, 0, "x", "COLUMN", KIND_TEXT, AT(plot_x), 0, 0, "along the bottom (gpu-batch-size)"},
    {OPTION_PLOT, 0, "y", "COLUMN", KIND_TEXT, AT(plot_y), 0, 0,
     "along the side (throughput_tok_s; of a heatmap workload.prompt_tokens)"},
    {OPTION_PLOT, 0, "value", "COLUMN", KIND_TEXT, AT(plot_value), 0, 0, "the colour of a heatmap (throughput_tok_s)"},
    {OPTION_PLOT, 0, "group", "COLUMN", KIND_TEXT, AT(plot_group), 0, 0, "a line for each of its values"},
    {OPTION_FILE, 'o', "output", "FILE", KIND_TEXT, AT(file), 0, 0, "file to write"},
    {OPTION_TRACE, 0, "trace", "FILE", KIND_TEXT, AT(trace), 0, 0, "write the trace as CSV"},
    {OPTION_TRACE, 0, "chrome-trace", "FILE", KIND_TEXT, AT(chrome_trace), 0, 0, "write the trace as Chrome JSON, for Perfetto"},
    {OPTION_FIT, 0, "hold-out", "TRACE", KIND_HOLD_OUT, 0, 0, 0, "a trace to predict and not to fit; may be repeated"},
    {OPTION_FIT, 0, "bound", "RATE=LOW-HIGH", KIND_BOUND, 0, 0, 0,
     "as factors \"disk->ram.rate=0.5-2\" or values \"cpu.launch=1us-1ms\"; may be repeated"},
    {OPTION_FIT, 0, "report", "md|json", KIND_REPORT, 0, 0, 0, "format of what is said on stdout (md)"},
    {OPTION_LIMITS, 0, "mean", "X", KIND_NUMBER, AT(limits.mean_error), 0, 1e6, "largest mean error of throughput (0.10)"},
    {OPTION_LIMITS, 0, "worst", "X", KIND_NUMBER, AT(limits.worst_error), 0, 1e6, "largest error of one throughput (0.20)"},
    {OPTION_LIMITS, 0, "peak", "X", KIND_NUMBER, AT(limits.peak_error), 0, 1e6, "largest error of peak bytes (0.01)"},
};
enum { N_OPTIONS = sizeof OPTIONS / sizeof OPTIONS[0] };

/* What getopt_long returns for option i. */
enum { CODE_BASE = 1000 };

/* -- messages ------------------------------------------------------------------------------------------------------ */

int command_fail(const char *command, const struct error *err)
{
    fprintf(stderr, "ballast: %s: %s\n", command, err->text[0] ? err->text : "failed without a message");
    return err->status != STATUS_OK ? (int)err->status : (int)STATUS_RUNTIME;
}

static void print_option(const struct option_spec *s)
{
    char left[64];
    snprintf(left, sizeof left, "%c%c%c --%s%s%s", s->letter ? '-' : ' ', s->letter ? s->letter : ' ', s->letter ? ',' : ' ',
             s->name, s->value ? " " : "", s->value ? s->value : "");
    if (strlen(left) > 32) {
        printf("  %s\n  %-32s %s\n", left, "", s->help);
    } else {
        printf("  %-32s %s\n", left, s->help);
    }
}

static void print_usage(const struct command_usage *u)
{
    printf("usage: ballast %s %s\n\n%s\n\n", u->name, u->arguments, u->about);
    for (int i = 0; i < N_OPTIONS; i++) {
        if (OPTIONS[i].group & u->groups) {
            print_option(&OPTIONS[i]);
        }
    }
    printf("  -h, --help%22s this help\n", "");
}

/* -- values ---------------------------------------------------------------------------------------------------------- */

/* "-p" if the option was or can be given that way, else "--budget". */
static const char *spelled(const struct option_spec *s, char buf[64])
{
    if (s->letter) {
        snprintf(buf, 64, "-%c/--%s", s->letter, s->name);
    } else {
        snprintf(buf, 64, "--%s", s->name);
    }
    return buf;
}

static enum status wrong_value(const struct option_spec *s, const char *expected, const char *found, struct error *err)
{
    char buf[64];
    return error_set(err, STATUS_INVALID, "%s: expected %s, found \"%s\"", spelled(s, buf), expected, found);
}

static enum status parse_int(const struct option_spec *s, const char *text, int64_t *out, struct error *err)
{
    char *end, expected[96];
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)*text) || errno || (double)value < s->min || (double)value > s->max) {
        snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", s->min, s->max);
        return wrong_value(s, expected, text, err);
    }
    *out = value;
    return STATUS_OK;
}

static enum status parse_number(const struct option_spec *s, const char *text, double *out, struct error *err)
{
    char *end, expected[96];
    double value = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)*text) || !(value >= s->min && value <= s->max)) {
        snprintf(expected, sizeof expected, "a number from %g to %g", s->min, s->max);
        return wrong_value(s, expected, text, err);
    }
    *out = value;
    return STATUS_OK;
}

static enum status parse_seconds(const struct option_spec *s, const char *text, double *out, struct error *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end) {
        if (units_parse(text, UNIT_SECONDS, &value) != 0) {
            return wrong_value(s, "seconds, such as 30 or \"500 ms\"", text, err);
        }
    }
    if (!(value > 0 && isfinite(value))) {
        return wrong_value(s, "more than 0 seconds", text, err);
    }
    *out = value;
    return STATUS_OK;
}

static enum status parse_seed(const struct option_spec *s, const char *text, uint64_t *out, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno) {
        return wrong_value(s, "a whole number from 0", text, err);
    }
    *out = value;
    return STATUS_OK;
}

static enum status parse_weights(const struct option_spec *s, const char *text, struct options *o, struct error *err)
{
    size_t n = strlen("random");
    if (strncmp(text, "random", n) != 0 || (text[n] != '\0' && text[n] != ':')) {
        return wrong_value(s, "random or random:SEED", text, err);
    }
    o->weights_random = true;
    return text[n] == ':' ? parse_seed(s, text + n + 1, &o->weights_seed, err) : STATUS_OK;
}

static enum status parse_noise(const struct option_spec *s, const char *text, struct options *o, struct error *err)
{
    char *end, seed[32];
    size_t n = strcspn(text, ":");
    o->noise = true;
    o->replays = 200;
    if (n == 0 || n >= sizeof seed) {
        return wrong_value(s, "SEED or SEED:N", text, err);
    }
    if (text[n] == ':') {
        o->replays = strtoll(text + n + 1, &end, 10);
        if (end == text + n + 1 || *end || o->replays < 20 || o->replays > 100000) {
            return wrong_value(s, "20 to 100000 replays in SEED:N", text, err);
        }
    }
    snprintf(seed, sizeof seed, "%.*s", (int)n, text);
    return parse_seed(s, seed, &o->noise_seed, err);
}

static bool looks_like_number(const char *text)
{
    char *end;
    strtod(text, &end);
    return end != text && *end == '\0';
}

/* FlexGen's own spelling is six arguments; ours may also be one. Four tiers may have nine. */
static enum status take_percent(const struct option_spec *s, const char *text, struct options *o, int argc, char **argv,
                                struct error *err)
{
    if (text[0] == '\0') { /* which would stand for no policy */
        return wrong_value(s, "six percentages", text, err);
    }
    size_t used = (size_t)snprintf(o->percent, sizeof o->percent, "%s", text);
    int numbers = 1;
    while (looks_like_number(text) && numbers < CLASS_COUNT * (TIERS_MAX - 1) && optind < argc &&
           looks_like_number(argv[optind])) {
        used += used < sizeof o->percent ? (size_t)snprintf(o->percent + used, sizeof o->percent - used, " %s", argv[optind]) : 0;
        optind++;
        numbers++;
    }
    return used < sizeof o->percent ? STATUS_OK : wrong_value(s, "six percentages", text, err);
}

/* "--overlap", "--overlap True" and "--overlap false" are FlexGen's; ours are --overlap and --no-overlap. */
static int take_switch(int argc, char **argv)
{
    if (optind < argc) {
        bool yes = strcasecmp(argv[optind], "true") == 0;
        if (yes || strcasecmp(argv[optind], "false") == 0) {
            optind++;
            return yes;
        }
    }
    return 1;
}

/* Options that may be repeated REPEATS_MAX times. */
static enum status keep_text(const struct option_spec *s, const char *text, const char **list, int *n, struct error *err)
{
    if (*n == REPEATS_MAX) {
        return wrong_value(s, "at most 16 of them", text, err);
    }
    list[(*n)++] = text;
    return STATUS_OK;
}

static enum status add_budget(const struct option_spec *s, const char *text, struct options *o, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || equals[1] == '\0') {
        return wrong_value(s, "TIER=SIZE such as gpu=16GiB", text, err);
    }
    return keep_text(s, text, o->budget, &o->n_budgets, err);
}

static enum status add_scale(const struct option_spec *s, const char *text, struct options *o, struct error *err)
{
    const char *equals = strchr(text, '=');
    char *end;
    if (!equals || equals == text || !(strtod(equals + 1, &end) > 0) || *end || !isfinite(strtod(equals + 1, NULL))) {
        return wrong_value(s, "NAME=FACTOR with a factor above 0, such as \"disk->ram=2\"", text, err);
    }
    return keep_text(s, text, o->scale, &o->n_scales, err);
}

static enum status add_change(const struct option_spec *s, const char *text, struct options *o, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || equals[1] == '\0') {
        return wrong_value(s, "FIELD=VALUE such as gpu.capacity=24GiB", text, err);
    }
    return keep_text(s, text, o->change, &o->n_changes, err);
}

static enum status add_text(const struct option_spec *s, const char *text, const char **list, int *n, int max, struct error *err)
{
    char expected[40];
    if (*n == max || text[0] == '\0') {
        snprintf(expected, sizeof expected, *n == max ? "at most %d of them" : "a value", max);
        return wrong_value(s, expected, text, err);
    }
    list[(*n)++] = text;
    return STATUS_OK;
}

static enum status set_option(struct options *o, const struct option_spec *s, const char *value, int argc, char **argv,
                              struct error *err)
{
    void *field = (char *)o + s->offset;
    int64_t integer;
    enum status status = STATUS_OK;
    switch (s->kind) {
    case KIND_TEXT:
        if (value[0] == '\0') {
            return wrong_value(s, s->value, value, err);
        }
        *(const char **)field = value;
        return STATUS_OK;
    case KIND_INT:
        return parse_int(s, value, field, err);
    case KIND_INT32:
        status = parse_int(s, value, &integer, err);
        if (status == STATUS_OK) {
            *(int *)field = (int)integer;
        }
        return status;
    case KIND_NUMBER:
        return parse_number(s, value, field, err);
    case KIND_SECONDS:
        return parse_seconds(s, value, field, err);
    case KIND_SEED:
        return parse_seed(s, value, field, err);
    case KIND_SET:
        *(bool *)field = true;
        return STATUS_OK;
    case KIND_ON:
    case KIND_OFF:
        *(int *)field = s->kind == KIND_ON;
        return STATUS_OK;
    case KIND_SWITCH:
        *(int *)field = take_switch(argc, argv);
        return STATUS_OK;
    case KIND_BUDGET:
        return add_budget(s, value, o, err);
    case KIND_SCALE:
        return add_scale(s, value, o, err);
    case KIND_CHANGE:
        return add_change(s, value, o, err);
    case KIND_HOLD_OUT:
        return add_text(s, value, o->hold_out, &o->n_hold_outs, HOLD_OUTS_MAX, err);
    case KIND_BOUND:
        return add_text(s, value, o->bound, &o->n_bounds, BOUNDS_MAX, err);
    case KIND_REPORT:
        return output_format_parse(value, &o->report) == 0 && (o->report == OUTPUT_MD || o->report == OUTPUT_JSON)
                   ? STATUS_OK
                   : wrong_value(s, s->value, value, err);
    case KIND_FIX:
        return keep_text(s, value, o->fix, &o->n_fixes, err); /* read when the machine's tiers are known */
    case KIND_WHAT_IF:
        return keep_text(s, value, o->what_if, &o->n_what_ifs, err);
    case KIND_PERCENT:
        return take_percent(s, value, o, argc, argv, err);
    case KIND_NOISE:
        return parse_noise(s, value, o, err);
    case KIND_WEIGHTS:
        return parse_weights(s, value, o, err);
    case KIND_FORMAT:
        return output_format_parse(value, &o->format) == 0 ? STATUS_OK : wrong_value(s, s->value, value, err);
    case KIND_SCHEDULE:
        o->schedule = value;
        return schedule_named(value, &(enum schedule_kind){0}) ? STATUS_OK : wrong_value(s, s->value, value, err);
    }
    return status;
}

/* -- getopt_long ----------------------------------------------------------------------------------------------------- */

struct getopt_tables {
    char letters[3 * N_OPTIONS + 4];
    struct option names[N_OPTIONS + 2];
};

static void fill_tables(struct getopt_tables *t, unsigned groups)
{
    char *letter = t->letters;
    struct option *name = t->names;
    memset(t, 0, sizeof *t);
    *letter++ = ':'; /* a missing value is told apart from an unknown option */
    *letter++ = 'h';
    *name++ = (struct option){"help", no_argument, NULL, 'h'};
    for (int i = 0; i < N_OPTIONS; i++) {
        const struct option_spec *s = &OPTIONS[i];
        if (!(s->group & groups)) {
            continue;
        }
        *name++ = (struct option){s->name, s->value ? required_argument : no_argument, NULL, CODE_BASE + i};
        if (s->letter) {
            *letter++ = s->letter;
            if (s->value) {
                *letter++ = ':';
            }
        }
    }
}

/* The option behind a letter or a code; NULL if this command has none. */
static const struct option_spec *find_option(int code, unsigned groups)
{
    if (code >= CODE_BASE && code < CODE_BASE + N_OPTIONS) {
        return &OPTIONS[code - CODE_BASE];
    }
    for (int i = 0; code && i < N_OPTIONS; i++) {
        if (OPTIONS[i].letter == code && (OPTIONS[i].group & groups)) {
            return &OPTIONS[i];
        }
    }
    return NULL;
}

static enum status unknown_option(const struct getopt_tables *t, const char *word, int letter, struct error *err)
{
    const char *names[N_OPTIONS + 2];
    char bare[64];
    int n = 0;
    if (letter) {
        return error_set(err, STATUS_INVALID, "unknown option \"-%c\"", letter);
    }
    for (const struct option *o = t->names; o->name; o++) {
        names[n++] = o->name;
    }
    names[n] = NULL;
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *near = nearest_name(bare, names);
    if (near) {
        return error_set(err, STATUS_INVALID, "unknown option \"--%s\": did you mean \"--%s\"?", bare, near);
    }
    return error_set(err, STATUS_INVALID, "unknown option \"--%s\"", bare);
}

static enum status refuse(const struct getopt_tables *t, int code, unsigned groups, char **argv, struct error *err)
{
    char buf[64];
    const struct option_spec *s = find_option(optopt, groups);
    if (code == ':') {
        return error_set(err, STATUS_INVALID, "%s: expected %s, found nothing", s ? spelled(s, buf) : argv[optind - 1],
                         s ? s->value : "a value");
    }
    if (optopt >= CODE_BASE || optopt == 'h') {
        return error_set(err, STATUS_INVALID, "%s: expected no value, found \"%s\"", s ? spelled(s, buf) : "--help",
                         argv[optind - 1]);
    }
    return unknown_option(t, argv[optind - 1], optopt, err);
}

void options_default(struct options *o, const char *command)
{
    memset(o, 0, sizeof *o);
    o->command = command;
    o->prompt_tokens = 512;
    o->gen_tokens = 32;
    o->compress_weight = o->compress_cache = o->cpu_cache_compute = o->overlap = -1;
    o->attn_sparsity = -1;
    o->format = OUTPUT_MD;
    sampling_default(&o->sampling);
    validate_limits_default(&o->limits);
}

/* Calls take(arg, spec, text) for every option; STATUS_OK with *help set after -h. Leaves optind at the first argument. */
typedef enum status take_fn(void *arg, const struct option_spec *s, const char *text, int argc, char **argv, struct error *err);

static enum status scan(const struct command_usage *u, int argc, char **argv, take_fn *take, void *arg, bool *help,
                        struct error *err)
{
    struct getopt_tables t;
    int code;
    fill_tables(&t, u->groups);
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    while ((code = getopt_long(argc, argv, t.letters, t.names, NULL)) != -1) {
        if (code == 'h') {
            *help = true;
            return STATUS_OK;
        }
        if (code == '?' || code == ':') {
            return refuse(&t, code, u->groups, argv, err);
        }
        enum status status = take(arg, find_option(code, u->groups), optarg, argc, argv, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (optind < argc && !(u->groups & OPTION_ARGUMENTS)) {
        return error_set(err, STATUS_INVALID, "unexpected argument \"%s\"", argv[optind]);
    }
    return STATUS_OK;
}

static bool scanned(const struct command_usage *u, int argc, char **argv, take_fn *take, void *arg, int *code)
{
    struct error err = {0};
    bool help = false;
    if (scan(u, argc, argv, take, arg, &help, &err) != STATUS_OK) {
        *code = command_fail(u->name, &err);
        return false;
    }
    if (help) {
        print_usage(u);
        *code = STATUS_OK;
        return false;
    }
    return true;
}

static enum status take_value(void *o, const struct option_spec *s, const char *text, int argc, char **argv, struct error *err)
{
    return set_option(o, s, text, argc, argv, err);
}

bool options_parse(struct options *o, const struct command_usage *u, int argc, char **argv, int *code)
{
    options_default(o, u->name);
    if (!scanned(u, argc, argv, take_value, o, code)) {
        return false;
    }
    o->n_arguments = argc - optind;
    o->argument = argv + optind;
    return true;
}

enum status options_read(struct options *o, const struct command_usage *u, int argc, char **argv, struct error *err)
{
    bool help = false;
    options_default(o, u->name);
    enum status status = scan(u, argc, argv, take_value, o, &help, err);
    return help ? error_set(err, STATUS_INVALID, "unexpected option \"--help\"") : status;
}

/* -- one by one -------------------------------------------------------------------------------------------------------- */

struct uses {
    struct option_use *out;
    int n;
};

static enum status take_use(void *arg, const struct option_spec *s, const char *text, int argc, char **argv, struct error *err)
{
    struct uses *u = arg;
    (void)argc;
    (void)argv;
    if (u->n == USES_MAX) {
        return error_set(err, STATUS_INVALID, "expected at most %d options", USES_MAX);
    }
    u->out[u->n++] = (struct option_use){(int)(s - OPTIONS), s->value ? text : NULL};
    return STATUS_OK;
}

bool options_uses(struct option_use out[USES_MAX], int *n, const struct command_usage *u, int argc, char **argv, int *code)
{
    struct uses uses = {out, 0};
    bool ok = scanned(u, argc, argv, take_use, &uses, code);
    *n = uses.n;
    return ok;
}

enum status options_set(struct options *o, int option, const char *text, struct error *err)
{
    return set_option(o, &OPTIONS[option], text, 0, NULL, err);
}

const char *option_name(int option)
{
    return OPTIONS[option].name;
}

int option_named(const char *name)
{
    for (int i = 0; i < N_OPTIONS; i++) {
        if (strcmp(OPTIONS[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

bool option_counts(int option)
{
    return OPTIONS[option].kind == KIND_INT || OPTIONS[option].kind == KIND_INT32;
}

bool option_takes_pair(int option)
{
    return OPTIONS[option].kind == KIND_BUDGET || OPTIONS[option].kind == KIND_SCALE || OPTIONS[option].kind == KIND_CHANGE ||
           OPTIONS[option].kind == KIND_FIX;
}

bool option_measures(int option)
{
    return OPTIONS[option].kind == KIND_SECONDS || OPTIONS[option].kind == KIND_NUMBER ||
           (option_takes_pair(option) && OPTIONS[option].kind != KIND_FIX);
}
