/* What `ballast plan` prints of its proof, read back from Markdown and JSON: no bound below the plan's own throughput, nor below any point of a
 * small space that is solved exhaustively. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "solver/exhaustive.h"
#include "tests/planner_cases.h"

static const char CONFIG[] =
    "{\"model_type\": \"opt\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
    " \"ffn_dim\": 256, \"vocab_size\": 256, \"max_position_embeddings\": 2048, \"word_embed_proj_dim\": 64,"
    " \"activation_function\": \"relu\", \"do_layer_norm_before\": true, \"_remove_final_layer_norm\": false,"
    " \"enable_bias\": true, \"tie_word_embeddings\": false, \"layer_norm_elementwise_affine\": true,"
    " \"bos_token_id\": 2, \"eos_token_id\": 2, \"pad_token_id\": 1, \"torch_dtype\": \"float16\"}";
#define MAX_BLOCK "4"

struct place {
    char dir[64], model[96], hardware[96], out[96];
};

static struct place place_new(void)
{
    struct place at;
    FILE *f;
    snprintf(at.dir, sizeof at.dir, "/tmp/ballast-printed-XXXXXX");
    cr_assert(mkdtemp(at.dir));
    snprintf(at.model, sizeof at.model, "%s/config.json", at.dir);
    snprintf(at.hardware, sizeof at.hardware, "%s/hardware.json", at.dir);
    snprintf(at.out, sizeof at.out, "%s/out", at.dir);
    cr_assert((f = fopen(at.model, "w")));
    fputs(CONFIG, f);
    fclose(f);
    return at;
}

static void place_remove(const struct place *at)
{
    unlink(at->model);
    unlink(at->hardware);
    unlink(at->out);
    rmdir(at->dir);
}

/* What the command prints, NULL if nothing fits; the caller frees. */
static char *planned(const struct place *at, const char *format, const char *more)
{
    char *argv[] =
        {"plan",    "-m", (char *)at->model, "-H",         (char *)at->hardware,         "-p", "16", "-n", "4", "--max-block",
         MAX_BLOCK, "-o", (char *)format,    (char *)more, (char *)(*more ? "4" : NULL), NULL};
    int argc = 13 + (*more ? 2 : 0), code, saved = dup(STDOUT_FILENO);
    size_t n;
    char *text;
    FILE *f;
    argv[argc] = NULL;
    fflush(stdout);
    cr_assert(freopen(at->out, "w", stdout));
    code = cmd_plan(argc, argv);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    cr_assert((f = fopen(at->out, "r")));
    text = calloc(1, 1 << 16);
    n = fread(text, 1, (1 << 16) - 1, f);
    fclose(f);
    cr_assert(code == STATUS_OK || code == STATUS_DOES_NOT_FIT, "exit status %d", code);
    if (code == STATUS_OK && n > 0)
        return text;
    free(text);
    return NULL;
}

/* The number behind the first `after` of a text. */
static double number_after(const char *text, const char *after)
{
    const char *at = strstr(text, after);
    cr_assert(at, "no '%s' in %s", after, text);
    at += strlen(after);
    return strtod(at + strspn(at, " |"), NULL);
}

/* `best`: the most tokens/s of any point. All are printed, so their own comparison has no tolerance. The LP's optimum is exact to 1e-9. */
static void assert_bound(double printed_bound, double printed_tok_s, double best, const char *what, int machine)
{
    cr_assert_geq(printed_bound, printed_tok_s, "machine %d, %s", machine, what);
    cr_assert_geq(printed_bound, best * (1 - 1e-9), "machine %d, %s: %.17g, exhaustively %.17g", machine, what, printed_bound,
                  best);
}

static void assert_rows(const struct place *at, const struct arch *a, const struct hardware *hw, const struct workload *w,
                        struct search_options o, int grid, int machine, int *rows)
{
    char *text = planned(at, "jsonl", "--pareto");
    cr_assert(text);
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *row = json_loads(line, 0, NULL), *limit = json_object_get(row, "latency_limit_s");
        struct policy best;
        double bound = json_number_value(json_object_get(row, "bound_tok_s")),
               tok_s = json_number_value(json_object_get(row, "throughput_tok_s"));
        o.max_latency_s = json_is_null(limit) ? 0 : json_number_value(limit);
        assert_bound(bound, tok_s, exhaustive_best(a, hw, w, &o, grid, &best), "a row of the front", machine);
        cr_assert_float_eq(json_number_value(json_object_get(row, "gap_percent")), 100 * (bound / tok_s - 1), 1e-9);
        cr_assert(o.max_latency_s == 0 || json_number_value(json_object_get(row, "latency_s")) <= o.max_latency_s);
        json_decref(row);
        ++*rows;
    }
    free(text);
}

static void assert_printed(int machine, int n_tiers, int grid, int *fitted, int *rows)
{
    const struct workload w = {.prompt_tokens = 16, .gen_tokens = 4};
    struct place at = place_new();
    struct hardware hw = random_machine(n_tiers);
    struct search_options o;
    struct policy best;
    struct arch a = {0};
    struct error err = {0};
    cr_assert_eq(hardware_save(&hw, at.hardware, "test", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_load(&hw, at.hardware, &err), STATUS_OK, "%s", err.text); /* with the digits that are saved */
    cr_assert_eq(arch_load(&a, at.model, &err), STATUS_OK, "%s", err.text);
    search_options_default(&o);
    o.max_block = atoi(MAX_BLOCK);
    char *md = planned(&at, "md", ""), *text = planned(&at, "json", "");
    if (md && text) {
        const double most = exhaustive_best(&a, &hw, &w, &o, grid, &best);
        json_t *json = json_loads(text, 0, NULL);
        const double tok_s = number_after(md, "| throughput_tok_s");
        assert_bound(number_after(md, "| bound_tok_s"), tok_s, most, "the table", machine);
        assert_bound(number_after(md, "none exceeds"), tok_s, most, "the sentence", machine);
        assert_bound(json_number_value(json_object_get(json, "bound_tok_s")),
                     json_number_value(json_object_get(json, "throughput_tok_s")), most, "JSON", machine);
        assert_rows(&at, &a, &hw, &w, o, grid, machine, rows);
        json_decref(json);
        ++*fitted;
    }
    free(md);
    free(text);
    arch_free(&a);
    place_remove(&at);
}

Test(printed, bounds_bound_what_is_printed_and_every_point)
{
    int fitted = 0, rows = 0;
    seed_from_environment("bounds_bound_what_is_printed_and_every_point");
    for (int i = 0; i < 8; i++) {
        assert_printed(2 * i, 2, 4, &fitted, &rows);
        assert_printed(2 * i + 1, 3, 1, &fitted, &rows);
    }
    printf("%d machines, %d rows of fronts\n", fitted, rows);
    cr_assert(fitted > 4 && rows > 2 * fitted, "%d machines of 16 fit, %d rows", fitted, rows);
}
