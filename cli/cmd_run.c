/* cmd_run.c - ballast run: carry out a policy on this machine and compare it with its prediction. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/setting.h"
#include "executor/backend_table.h"
#include "executor/gpu_tools.h"
#include "executor/now.h"
#include "executor/prompts.h"
#include "executor/run.h"
#include "executor/safetensors.h"
#include "executor/tokenizer.h"
#include "model/atomic_file.h"
#include "model/stream.h"

struct run {
    const struct options *o;
    struct setting *s;
    char directory[1024];
    const struct backend *backend;
    struct tokenizer *tokenizer; /* NULL: prompts are token ids */
    struct prompts prompts;
    struct runner *runner;
    struct generated *out; /* (prompts.n) of the last repetition */
    struct progress progress;
    struct trace trace; /* of the first block */
    double *throughput; /* (repetitions) */
    int64_t repetition, done_steps, all_steps;
};

static void show_bytes(int64_t done, int64_t total, void *arg)
{
    struct run *r = arg;
    progress_show(&r->progress, (double)done, (double)total);
}

static void show_step(int step, void *arg)
{
    struct run *r = arg;
    (void)step;
    const struct workload *w = &r->s->workload;
    const struct policy *p = &r->s->policy;
    double tokens = (double)(stream_sequences(w, p) * w->gen_tokens) / (double)stream_passes(w, p);
    r->done_steps++;
    progress_show(&r->progress, (double)r->done_steps * tokens, (double)r->all_steps * tokens);
}

/* -- the model's files -------------------------------------------------------------------------------------------------- */

static enum status make_directory(const char *path, struct error *err)
{
    char part[1024];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(part, 0777); /* what matters is whether the last one exists */
        *slash = '/';
    }
    struct stat st;
    mkdir(part, 0777);
    return stat(part, &st) == 0 && S_ISDIR(st.st_mode) ? STATUS_OK
                                                       : error_set(err, STATUS_RUNTIME, "%s: cannot make the directory", path);
}

static enum status random_directory(struct run *r, struct error *err)
{
    const struct options *o = r->o;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char base[512];
    if (o->weights_dir) {
        snprintf(base, sizeof base, "%s", o->weights_dir);
    } else if (cache && cache[0]) {
        snprintf(base, sizeof base, "%s/ballast", cache);
    } else {
        snprintf(base, sizeof base, "%s/.cache/ballast", home && home[0] ? home : ".");
    }
    snprintf(r->directory, sizeof r->directory, "%s/%s-random-%llu", base, r->s->arch.name, (unsigned long long)o->weights_seed);
    enum status status = make_directory(base, err);
    progress_start(&r->progress, "writing random weights", "B");
    return status == STATUS_OK ? st_write_random(&r->s->arch, o->weights_seed, r->directory, show_bytes, r, err) : status;
}

/* Before a policy is planned, which may take a while. */
static enum status check_weights(const struct options *o, struct error *err)
{
    struct stat st;
    if (!o->weights_random && (stat(o->model, &st) != 0 || !S_ISDIR(st.st_mode))) {
        return error_set(err, STATUS_INVALID, "%s has no weights: give a model directory, or --weights random to make some",
                         o->model);
    }
    return STATUS_OK;
}

static enum status find_weights(struct run *r, struct error *err)
{
    if (r->o->weights_random) {
        return random_directory(r, err);
    }
    snprintf(r->directory, sizeof r->directory, "%s", r->o->model);
    return STATUS_OK;
}

/* -- prompts ------------------------------------------------------------------------------------------------------------ */

static enum status find_prompts(struct run *r, struct error *err)
{
    const struct arch *a = &r->s->arch;
    struct error none = {0};
    int64_t wanted = r->s->workload.sequences > 0 ? r->s->workload.sequences : stream_sequences(&r->s->workload, &r->s->policy);
    if (!r->o->prompts) { /* ids 0..3 are special in OPT's vocabulary */
        return prompts_random(&r->prompts, wanted, r->s->workload.prompt_tokens, a->vocab > 8 ? 4 : 0, a->vocab,
                              r->o->sampling.seed, err);
    }
    /* a prompt file of token ids needs no tokenizer; one of text says so itself */
    if (tokenizer_load(&r->tokenizer, r->directory, &none) != STATUS_OK) {
        r->tokenizer = NULL;
    }
    struct error cause = {0};
    enum status status = prompts_load(&r->prompts, r->o->prompts, r->tokenizer, a->vocab, &cause);
    if (status != STATUS_OK)
        /* what is wrong with the text of a file, not with reading it, a tokenizer may have to do with */
        error_set(err, status, r->tokenizer || status != STATUS_INVALID ? "%s" : "%s (%s)", cause.text, none.text);
    return status;
}

/* -- running ------------------------------------------------------------------------------------------------------------ */

static void drop_results(struct run *r)
{
    for (int64_t i = 0; r->out && i < r->prompts.n; i++) {
        free(r->out[i].tokens);
        r->out[i] = (struct generated){0};
    }
}

/* All prompts, block after block. */
static enum status run_once(struct run *r, bool trace, struct error *err)
{
    int64_t block = stream_sequences(&r->s->workload, &r->s->policy), tokens = 0;
    double start = now_s();
    enum status status = STATUS_OK;
    drop_results(r);
    for (int64_t first = 0; first < r->prompts.n && status == STATUS_OK; first += block) {
        int64_t n = r->prompts.n - first < block ? r->prompts.n - first : block;
        status = runner_generate(r->runner, r->prompts.prompt + first, n, first, r->out + first,
                                 trace && first == 0 ? &r->trace : NULL, err);
    }
    for (int64_t i = 0; i < r->prompts.n && status == STATUS_OK; i++) {
        tokens += r->out[i].n;
    }
    r->throughput[r->repetition] = (double)tokens / (now_s() - start);
    return status;
}

static enum status run_all(struct run *r, struct error *err)
{
    int64_t repetitions = r->o->repetitions ? r->o->repetitions : 1, block = stream_sequences(&r->s->workload, &r->s->policy);
    bool warm_up = repetitions > 1 && !r->o->no_warmup;
    enum status status = STATUS_OK;
    r->out = calloc((size_t)r->prompts.n, sizeof *r->out);
    r->throughput = calloc((size_t)repetitions, sizeof *r->throughput);
    if (!r->out || !r->throughput) {
        return error_set(err, STATUS_RUNTIME, "out of memory for %lld results", (long long)r->prompts.n);
    }
    r->all_steps = (repetitions + warm_up) * ((r->prompts.n + block - 1) / block) * stream_passes(&r->s->workload, &r->s->policy);
    progress_start(&r->progress, "generating", "tok");
    if (warm_up) {
        status = run_once(r, false, err);
    }
    for (r->repetition = 0; r->repetition < repetitions && status == STATUS_OK; r->repetition++) {
        status = run_once(r, r->repetition == 0, err);
    }
    if (r->progress.on && r->done_steps < r->all_steps) { /* every sequence ended early: leave the line */
        fputc('\n', stderr);
    }
    return status;
}

/* A device that the profile measured without threads is a GPU; one of `profile --emulate-device` has the processor's. */
static enum status find_backend(const struct run *r, const struct backend **out, struct error *err)
{
    const struct hardware *hw = &r->s->hardware;
    const bool device = hw->tier[0].kind == TIER_DEVICE, gpu = device && hw->compute[0].threads == 0;
    const char *name = r->o->backend ? r->o->backend : gpu ? "cuda" : "cpu";
    struct error cause = {0};
    *out = &backend_cpu;
    if (strcmp(name, "cpu") == 0) {
        return STATUS_OK;
    }
    if (strcmp(name, "cuda") != 0) {
        return error_set(err, STATUS_INVALID, "--backend: expected cpu or cuda, found '%.40s'", name);
    }
    if (!device || hw->tier[1].kind != TIER_HOST) {
        return error_set(err, STATUS_INVALID, "--backend cuda: expected a device and the host as the first tiers, found %s of %s",
                         hw->tier[device].name, hw->name);
    }
    if (backend_cuda(out, &cause) != STATUS_OK) {
        return error_set(err, cause.status, r->o->backend ? "%s" : "%s (--backend cpu runs on the processor)", cause.text);
    }
    return STATUS_OK;
}

static enum status open_runner(struct run *r, struct error *err)
{
    const struct options *o = r->o;
    struct run_options ro = {.setting = setting_view(r->s),
                             .model_directory = r->directory,
                             .scratch_directory = o->scratch_dir ? o->scratch_dir : ".",
                             .backend = r->backend,
                             .sampling = o->sampling,
                             .pad_token = (int32_t)(r->s->arch.pad_token >= 0 ? r->s->arch.pad_token : 0),
                             .loading = show_bytes,
                             .step_done = show_step,
                             .arg = r};
    int32_t eos = (int32_t)r->s->arch.eos_token;
    ro.threads = o->threads                              ? (int)o->threads
                 : r->s->hardware.compute[0].threads > 0 ? r->s->hardware.compute[0].threads
                                                         : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (o->prompts && eos >= 0) { /* random prompts run to the full length */
        ro.stop_tokens = &eos;
        ro.n_stop = 1;
    }
    progress_start(&r->progress, "reading resident weights", "B");
    return runner_open(&r->runner, &ro, err);
}

/* -- results ------------------------------------------------------------------------------------------------------------ */

static struct prediction measured(const struct run *r)
{
    struct prediction p = setting_of_trace(r->s, &r->trace);
    p.pinning_s = runner_pinning_s(r->runner);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        for (int t = 0; t < r->s->hardware.n_tiers; t++) {
            p.peak_bytes[ph][t] = (double)runner_peak_bytes(r->runner, t);
            p.in_use_bytes[ph][t] = (double)r->trace.in_use_bytes[ph][t];
        }
    }
    return p;
}

static void mean_and_deviation(const double *x, int64_t n, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
    }
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += (x[i] - *mean) * (x[i] - *mean);
    }
    *deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

static enum status print_table(const struct run *r, FILE *out, struct error *err)
{
    struct prediction p = measured(r);
    struct table t;
    struct rusage usage;
    double mean, deviation, predicted = r->s->prediction.throughput_tok_s;
    mean_and_deviation(r->throughput, r->o->repetitions ? r->o->repetitions : 1, &mean, &deviation);
    table_init(&t);
    setting_columns(&t, r->s, r->o->format);
    table_column(&t, "predicted_throughput_tok_s", COLUMN_NUMBER);
    if (setting_pins(r->s)) {
        table_column(&t, "predicted_pinning_s", COLUMN_SECONDS);
    }
    setting_bar_columns(&t, r->s, "predicted_", r->o->format);
    table_column(&t, "relative_error", COLUMN_NUMBER);
    table_column(&t, "mean_throughput_tok_s", COLUMN_NUMBER);
    table_column(&t, "stddev_throughput_tok_s", COLUMN_NUMBER);
    table_column(&t, "max_resident_set_bytes", COLUMN_BYTES);
    table_column(&t, "io", COLUMN_TEXT);
    setting_cells(&t, r->s, &p, r->o->format);
    table_number(&t, predicted);
    if (setting_pins(r->s)) {
        table_number(&t, r->s->prediction.pinning_s);
    }
    setting_bar_cells(&t, r->s, r->o->format);
    table_number(&t, predicted / p.throughput_tok_s - 1);
    table_number(&t, mean);
    table_number(&t, deviation);
    getrusage(RUSAGE_SELF, &usage);
    table_number(&t, (double)usage.ru_maxrss * 1024);
    table_text(&t, runner_io_method(r->runner));
    enum status status = table_write_one(&t, r->o->format, out, err);
    table_free(&t);
    if (status == STATUS_OK && r->o->format == OUTPUT_MD) {
        char bar[64];
        fprintf(out, "\n%s. Predicted %.4g tok/s%s, measured %.4g tok/s (%+.1f %%). Placed as planned, byte for byte.\n",
                hardware_is_emulated(&r->s->hardware) ? "An emulated GPU, not a measurement" : "A measurement", predicted,
                setting_bar(r->s, bar, sizeof bar), p.throughput_tok_s, 100 * (predicted / p.throughput_tok_s - 1));
        setting_explain(r->s, &p, out);
    }
    return status;
}

/* The table comes before the traces, so that a full disk does not take it along. */
static enum status print(struct run *r, struct error *err)
{
    const struct trace *one[] = {&r->trace};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < r->prompts.n && r->o->prompts && status == STATUS_OK; i++) {
        const struct generated *g = &r->out[i];
        status = prompts_write_result(stdout, &r->prompts.prompt[i], g->tokens, g->n, g->stopped, r->tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = print_table(r, r->o->prompts ? stderr : stdout, err);
    }
    if (status == STATUS_OK && r->o->trace) {
        status = trace_write_csv(&r->trace, r->o->trace, err);
    }
    if (status == STATUS_OK && r->o->chrome_trace) {
        status = trace_write_chrome(one, 1, r->o->chrome_trace, err);
    }
    return status;
}

/* On the emulation of a GPU nothing is measured, whatever the profile is. */
static enum status note_emulation(struct run *r, struct error *err)
{
    const struct gpu_tools *tools;
    struct gpu_description d;
    enum status status = r->backend == &backend_cpu ? STATUS_OK : gpu_tools_load(&tools, err);
    if (status == STATUS_OK && r->backend != &backend_cpu) {
        status = tools->describe(0, &d, err);
    }
    if (status == STATUS_OK && r->backend != &backend_cpu && gpu_is_emulated(&d)) {
        snprintf(r->s->hardware.estimate, sizeof r->s->hardware.estimate, "emulated");
    }
    return status;
}

/* A profile of another machine predicts that machine, not this run; nor does the processor stand for a GPU. */
static void warn_foreign(const struct setting *s, const struct backend *backend)
{
    if (hardware_is_emulated(&s->hardware))
        fprintf(stderr, "ballast: run: an emulated GPU: no time of this run is a measurement\n");
    else if (strcmp(s->hardware.estimate, "measured") != 0)
        fprintf(stderr, "ballast: run: profile %s is not a measurement of this machine: its prediction will not hold here\n",
                s->hardware.name);
    if (s->hardware.tier[0].kind == TIER_DEVICE && backend == &backend_cpu)
        fprintf(stderr, "ballast: run: on the processor: tier %s is this machine's memory\n", s->hardware.tier[0].name);
}

static enum status run(struct run *r, struct error *err)
{
    if (r->o->page_cache) {
        return error_set(
            err, STATUS_INVALID,
            "--page-cache predicts programs that read through it: ballast reads around it, so a run has no help from it");
    }
    enum status status = atomic_file_try(r->o->trace, err);
    if (status == STATUS_OK) {
        status = atomic_file_try(r->o->chrome_trace, err);
    }
    if (status == STATUS_OK) {
        status = setting_load(r->s, r->o, err);
    }
    if (status == STATUS_OK) {
        status = check_weights(r->o, err);
    }
    if (status == STATUS_OK) {
        status = setting_reopen(r->s, r->o, r->o, err);
    }
    if (status == STATUS_OK) {
        status = find_backend(r, &r->backend, err);
    }
    if (status == STATUS_OK) {
        status = note_emulation(r, err);
    }
    if (status == STATUS_OK) {
        warn_foreign(r->s, r->backend);
        status = find_weights(r, err);
    }
    if (status == STATUS_OK) {
        status = find_prompts(r, err);
    }
    if (status == STATUS_OK) {
        status = open_runner(r, err);
    }
    if (status == STATUS_OK) {
        status = run_all(r, err);
    }
    return status == STATUS_OK ? print(r, err) : status;
}

int cmd_run(int argc, char **argv)
{
    static const struct command_usage USAGE = {
        "run", "-m MODEL -H FILE [--policy FILE | --percent \"wg wc cg cc hg hc\"] [OPTIONS]",
        "Carries a policy out on this machine and compares it with its prediction. Without a policy, the one that \"ballast plan\"\n"
        "would choose. With --prompts, results go to stdout as JSON lines and the table to stderr.",
        OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_POLICY | OPTION_FLEXGEN | OPTION_SEARCH | OPTION_RUN |
            OPTION_SCRATCH | OPTION_SAMPLING | OPTION_THREADS | OPTION_REPETITIONS | OPTION_FORMAT | OPTION_TRACE};
    struct options o;
    struct setting s = {0};
    struct run r = {.o = &o, .s = &s};
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    trace_init(&r.trace);
    run(&r, &err);
    drop_results(&r);
    runner_close(r.runner);
    trace_free(&r.trace);
    prompts_free(&r.prompts);
    tokenizer_free(r.tokenizer);
    free(r.out);
    free(r.throughput);
    setting_close(&s);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
