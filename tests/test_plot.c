/* test_plot.c - each kind of plot makes a picture, and what is wrong is said. Skipped where gnuplot is missing. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "plots/plot.h"
#include "tests/trace_maker.h"

static char folder[64];
static char temporary[80]; /* TMPDIR: empty again after every plot */

static void make_folders(void)
{
    snprintf(folder, sizeof folder, "/tmp/ballast-test-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(temporary, sizeof temporary, "%s/tmp", folder);
    cr_assert_eq(access(folder, W_OK), 0);
    char command[128];
    snprintf(command, sizeof command, "mkdir %s", temporary);
    cr_assert_eq(system(command), 0);
    setenv("TMPDIR", temporary, 1);
}

static int entries(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    cr_assert(d != NULL);
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void remove_folders(void)
{
    cr_assert_eq(entries(temporary), 0, "a temporary file was left behind");
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(plot, .init = make_folders, .fini = remove_folders);

static void need_gnuplot(void)
{
    if (system("gnuplot --version >/dev/null 2>&1") != 0)
        cr_skip_test("gnuplot is not installed");
}

static const char *in_folder(const char *name, char path[160])
{
    snprintf(path, 160, "%s/%s", folder, name);
    return path;
}

static const char *write_text(const char *name, const char *text, char path[160])
{
    FILE *f = fopen(in_folder(name, path), "w");
    cr_assert(f != NULL);
    fputs(text, f);
    fclose(f);
    return path;
}

static const char *write_trace(const char *name, struct maker m, enum trace_origin origin, char path[160])
{
    struct trace t;
    struct error err = {0};
    maker_make(&t, &m, origin);
    cr_assert_eq(trace_write_csv(&t, in_folder(name, path), &err), STATUS_OK, "%s", err.text);
    trace_free(&t);
    return path;
}

static unsigned be32(const unsigned char *p)
{
    return (unsigned)p[0] << 24 | (unsigned)p[1] << 16 | (unsigned)p[2] << 8 | p[3];
}

/* A PNG begins with 8 fixed bytes, then 4 bytes of length, "IHDR", width and height. */
static void assert_png(const char *path, unsigned width, unsigned height)
{
    unsigned char head[24];
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "%s", path);
    cr_assert_eq(fread(head, 1, sizeof head, f), sizeof head);
    fclose(f);
    cr_assert_eq(memcmp(head, "\x89PNG\r\n\x1a\n", 8), 0);
    cr_assert(eq(uint, be32(head + 16), width));
    cr_assert(eq(uint, be32(head + 20), height));
}

/* The picture as text; the caller frees it. */
static char *read_svg(const char *path)
{
    char *text = calloc(1, 1 << 22);
    FILE *f = fopen(path, "r");
    cr_assert(f != NULL, "%s", path);
    cr_assert_gt(fread(text, 1, (1 << 22) - 1, f), 0);
    fclose(f);
    cr_assert(strstr(text, "<svg") != NULL && strstr(text, "</svg>") != NULL);
    return text;
}

static void assert_shows(const char *svg, const char *what)
{
    cr_assert(strstr(svg, what) != NULL, "the picture does not say '%s'", what);
}

static void render(const char *kind, const char *csv, const char *second, const char *out)
{
    struct error err = {0};
    cr_assert_eq(plot_render(kind, csv, second, NULL, out, &err), STATUS_OK, "%s", err.text);
}

static const struct maker laptop = {.steps = 3, .layers = 6, .batches = 1, .unit_s = 2e-3, .jitter = 0.2, .state = 7};
static const struct maker server =
    {.gpu = 1, .steps = 32, .layers = 48, .batches = 4, .unit_s = 40e-3, .jitter = 0.3, .state = 9};

Test(plot, a_timeline_shows_both_traces_on_each_resource)
{
    need_gnuplot();
    char a[160], b[160], out[160];
    write_trace("predicted.csv", laptop, TRACE_SIMULATED, a);
    write_trace("measured.csv", laptop, TRACE_MEASURED, b);
    render("timeline", a, b, in_folder("t.png", out));
    assert_png(out, 1400, 700);
    render("timeline", b, a, in_folder("t.svg", out)); /* the order of the files does not matter */
    char *svg = read_svg(out);
    assert_shows(svg, "opt-1.3b on laptop");
    assert_shows(svg, "the whole run: prefill and 2 decode steps");
    assert_shows(svg, "disk->ram");
    assert_shows(svg, "load_weight");
    assert_shows(svg, "time (ms)");
    const char *first = strstr(svg, ">predicted"), *second = strstr(svg, ">measured");
    cr_assert(first != NULL && second != NULL);
    free(svg);
}

Test(plot, a_long_timeline_is_cut_and_says_so)
{
    need_gnuplot();
    char a[160], out[160];
    /* 48 layers x 4 batches: 192 computes a step, more than a lane can show: a part of one step. */
    write_trace("long.csv", server, TRACE_MEASURED, a);
    render("timeline", a, NULL, in_folder("t.svg", out));
    char *svg = read_svg(out);
    assert_shows(svg, "of decode step 1, 0 is the end of prefill");
    free(svg);
    /* 24 layers: 48 loads a step; three steps and the tail of prefill are below 160. */
    struct maker middle = laptop;
    middle.layers = 24;
    middle.steps = 16;
    write_trace("middle.csv", middle, TRACE_MEASURED, a);
    render("timeline", a, NULL, out);
    svg = read_svg(out);
    assert_shows(svg, "decode steps 1 to 3 of 15");
    free(svg);
    /* Prefill only, and too long: its beginning. */
    middle.steps = 1;
    middle.layers = 400;
    write_trace("prefill.csv", middle, TRACE_MEASURED, a);
    render("timeline", a, NULL, out);
    svg = read_svg(out);
    assert_shows(svg, "of prefill");
    free(svg);
}

Test(plot, memory_has_a_panel_a_tier_in_its_own_unit)
{
    need_gnuplot();
    char a[160], b[160], out[160];
    write_trace("predicted.csv", server, TRACE_SIMULATED, a);
    write_trace("measured.csv", server, TRACE_MEASURED, b);
    render("memory", a, b, in_folder("m.png", out));
    assert_png(out, 1400, 700);
    render("memory", a, b, in_folder("m.svg", out));
    char *svg = read_svg(out);
    assert_shows(svg, "gpu (GiB)");
    assert_shows(svg, "disk (KiB)"); /* 900000 B = 878.9 KiB */
    assert_shows(svg, "peak 878.9 KiB");
    assert_shows(svg, "the highest level in each 1/300 of the run");
    free(svg);
}

Test(plot, scatter_counts_what_is_inside_the_band)
{
    need_gnuplot();
    char a[160], out[160];
    /* Errors: +10 %, -20 %, 0: two of three within 10 %, 10 % on average. */
    write_text("s.csv", "label,measured_s,more,predicted_s\nopt-30b,10,x,11\nopt-30b,10,x,8\n\"a, b\",5,x,5\n", a);
    render("scatter", a, NULL, in_folder("s.png", out));
    assert_png(out, 1100, 700);
    render("scatter", a, NULL, in_folder("s.svg", out));
    char *svg = read_svg(out);
    assert_shows(svg, "2 of 3 within 10 %, off by 10.0 % on average");
    assert_shows(svg, "measured (s)");
    assert_shows(svg, "a, b");
    free(svg);
}

Test(plot, throughput_draws_a_line_a_series)
{
    need_gnuplot();
    char a[160], out[160];
    write_text("t.csv", "# from a sweep\nseries,batch,throughput_tok_s,measured_tok_s\nB,8,4,\nA,1,1,1.1\nA,4,3,\n", a);
    render("throughput", a, NULL, in_folder("t.png", out));
    assert_png(out, 1400, 700);
    render("throughput", a, NULL, in_folder("t.svg", out));
    char *svg = read_svg(out);
    assert_shows(svg, ">A<");
    assert_shows(svg, "measured");
    assert_shows(svg, "throughput (tok/s)");
    free(svg);
    write_text("t.csv", "batch,throughput_tok_s\n3,4\n", a); /* no series, one point */
    render("throughput", a, NULL, out);
}

static void render_columns(const char *kind, const char *csv, const struct plot_columns *columns, const char *out)
{
    struct error err = {0};
    cr_assert_eq(plot_render(kind, csv, NULL, columns, out, &err), STATUS_OK, "%s", err.text);
}

/* A sweep's rows: one that does not fit has no numbers. */
static const char sweep_rows[] = "model,workload.prompt_tokens,gpu-batch-size,budget ram,message,throughput_tok_s\n"
                                 "opt-1.3b,128,1,1GiB,,10\nopt-1.3b,128,4,1GiB,,40\nopt-1.3b,512,1,1GiB,,5\n"
                                 "opt-1.3b,512,4,1GiB,\"too large, by 3 bytes\",\nopt-30b,128,1,2GiB,,1\nopt-30b,128,1,2GiB,,3\n";

Test(plot, line_draws_any_two_columns)
{
    need_gnuplot();
    char a[160], out[160];
    write_text("s.csv", sweep_rows, a);
    render_columns("line", a, &(struct plot_columns){.group = "model"}, in_folder("l.png", out));
    assert_png(out, 1300, 700);
    render_columns("line", a, &(struct plot_columns){.group = "model"}, in_folder("l.svg", out));
    char *svg = read_svg(out);
    assert_shows(svg, "throughput (tok/s) against gpu-batch-size (means of up to 2 rows)");
    assert_shows(svg, "opt-30b");
    free(svg);
    render_columns("line", a, &(struct plot_columns){.x = "budget ram", .y = "throughput_tok_s"}, out);
    svg = read_svg(out);
    assert_shows(svg, "budget ram (GiB)");
    free(svg);
}

Test(plot, heatmap_has_a_cell_for_every_pair)
{
    need_gnuplot();
    char a[160], out[160];
    write_text("s.csv", sweep_rows, a);
    render_columns("heatmap", a, NULL, in_folder("h.png", out));
    assert_png(out, 1200, 800);
    render_columns("heatmap", a, NULL, in_folder("h.svg", out));
    char *svg = read_svg(out);
    assert_shows(svg, "throughput (tok/s) (means of up to 3 rows)"); /* 10, 1 and 3 */
    assert_shows(svg, ">4.67<");
    assert_shows(svg, ">512<");
    free(svg);
}

Test(plot, wrong_columns_are_said)
{
    char a[160], out[160];
    struct error err = {0};
    write_text("s.csv", sweep_rows, a);
    in_folder("x.png", out);
    cr_assert_eq(plot_render("line", a, NULL, &(struct plot_columns){.y = "speed"}, out, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "s.csv:1: expected a column 'speed', found none") != NULL, "%s", err.text);
    err = (struct error){0};
    cr_assert_eq(plot_render("heatmap", a, NULL, &(struct plot_columns){.value = "model"}, out, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "'model': expected a number above 0, found 'opt-1.3b'") != NULL, "%s", err.text);
    cr_assert_neq(access(out, F_OK), 0);
}

Test(plot, a_name_is_never_a_command)
{
    need_gnuplot();
    char a[160], out[160], mark[160], text[1024];
    in_folder("mark", mark);
    snprintf(text, sizeof text,
             "label,predicted,measured\n\"`touch %s`\",1,1\n\"'; system 'touch %s'; '\",2,2\n\"@x \\\"\"%%s {/Bold y}\",3,3\n",
             mark, mark);
    write_text("s.csv", text, a);
    render("scatter", a, NULL, in_folder("s.svg", out));
    cr_assert_neq(access(mark, F_OK), 0, "a label was run");
    char *svg = read_svg(out);
    assert_shows(svg, "{/Bold y}"); /* and it is shown as it is */
    free(svg);
    /* A file name that gnuplot would take for a pipe, in the current folder. */
    char here[512];
    cr_assert(getcwd(here, sizeof here) != NULL);
    struct error err = {0};
    setenv("BALLAST_PLOTS", strcat(here, "/plots"), 1);
    cr_assert_eq(chdir(folder), 0);
    cr_assert_eq(plot_render("scatter", a, NULL, NULL, "|touch mark;.png", &err), STATUS_OK, "%s", err.text);
    cr_assert_neq(access(mark, F_OK), 0, "a file name was run");
    assert_png("|touch mark;.png", 1100, 700);
}

struct complaint {
    const char *kind, *text; /* of the file */
    const char *second, *out;
    const char *says;
};

static const struct complaint complaints[] = {
    {"pie", "", NULL, "t.png", "expected timeline, memory, scatter, throughput, line or heatmap, found 'pie'"},
    {"scatter", "", NULL, "t.gif", "expected a picture that ends in .png or .svg"},
    {"scatter", "", "other.csv", "t.png", "expected one file for scatter, found a second: other.csv"},
    {"scatter", "", NULL, "t.png", "expected a header row, found none"},
    {"scatter", "label,predicted,measured\n", NULL, "t.png", ":1: expected rows, found none"},
    {"scatter", "label,predicted\na,1\n", NULL, "t.png", ":1: expected a column 'measured'"},
    {"scatter", "label,predicted,measured\na,1\n", NULL, "t.png", ":2: expected 3 columns, found 2"},
    {"scatter", "label,predicted,measured\na,1,0\n", NULL, "t.png", ":2: 'measured': expected a number above 0, found '0'"},
    {"scatter", "label,predicted,measured\na,1,2\n\na,x,2", NULL, "t.png", ":4: expected a line end"},
    {"scatter", "label,predicted,measured\na,nan,2\n", NULL, "t.png", ":2: 'predicted': expected a number above 0, found 'nan'"},
    {"scatter", "label,predicted,measured\n\"a,1,2\n", NULL, "t.png", ":2: expected comma-separated fields"},
    {"scatter", "label,predicted_s,measured_tok_s\na,1,2\n", NULL, "t.png", "in one unit, found s and tok/s"},
    {"timeline", "# ballast-trace: 2\n# origin: no\n", NULL, "t.png",
     ":2: 'origin': expected 'measured', 'simulated' or 'emulated'"},
};

Test(plot, what_is_wrong_is_said)
{
    for (size_t i = 0; i < sizeof complaints / sizeof *complaints; i++) {
        const struct complaint *c = &complaints[i];
        char a[160], out[160];
        struct error err = {0};
        write_text("a.csv", c->text, a);
        cr_assert_eq(plot_render(c->kind, a, c->second, NULL, in_folder(c->out, out), &err), STATUS_INVALID, "case %zu", i);
        cr_assert(strstr(err.text, c->says) != NULL, "case %zu: %s", i, err.text);
        cr_assert_neq(access(out, F_OK), 0);
    }
}

Test(plot, a_trace_without_samples_has_no_memory_plot)
{
    char a[160], out[160];
    struct error err = {0};
    struct trace t;
    struct maker m = laptop;
    maker_make(&t, &m, TRACE_MEASURED);
    t.n_samples = 0;
    cr_assert_eq(trace_write_csv(&t, in_folder("t.csv", a), &err), STATUS_OK);
    cr_assert_eq(plot_render("memory", a, NULL, NULL, in_folder("m.png", out), &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected samples of resident bytes, found none") != NULL, "%s", err.text);
    t.n_events = 0;
    err = (struct error){0};
    cr_assert_eq(trace_write_csv(&t, a, &err), STATUS_OK);
    cr_assert_eq(plot_render("timeline", a, NULL, NULL, out, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected a trace with events, found none that took time") != NULL, "%s", err.text);
    trace_free(&t);
}

Test(plot, a_missing_gnuplot_is_said_with_the_remedy)
{
    char a[160], out[160];
    struct error err = {0};
    write_text("s.csv", "label,predicted,measured\na,1,1\n", a);
    char *path = strdup(getenv("PATH"));
    setenv("PATH", folder, 1);
    cr_assert_eq(plot_render("scatter", a, NULL, NULL, in_folder("s.png", out), &err), STATUS_RUNTIME);
    setenv("PATH", path, 1);
    free(path);
    cr_assert(strstr(err.text, "found none: install it") != NULL, "%s", err.text);
    cr_assert_neq(access(out, F_OK), 0);
}

Test(plot, a_failing_script_gives_the_message_of_gnuplot_and_keeps_the_old_picture)
{
    need_gnuplot();
    char a[160], script[160], out[160], text[16] = "";
    struct error err = {0};
    write_text("s.csv", "label,predicted,measured\na,1,1\n", a);
    write_text("s.png", "old", out);
    write_text("scatter.gp", "set output out\nplot no_such_variable\n", script);
    setenv("BALLAST_PLOTS", folder, 1);
    cr_assert_eq(plot_render("scatter", a, NULL, NULL, out, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "gnuplot failed: ") != NULL &&
                  strstr(err.text, "line 2: undefined variable: no_such_variable") != NULL,
              "%s", err.text);
    FILE *f = fopen(out, "r");
    cr_assert(f != NULL && fgets(text, sizeof text, f) != NULL);
    fclose(f);
    cr_assert(eq(str, text, "old"));
    cr_assert_eq(entries(folder), 4); /* s.csv, s.png, scatter.gp and the folder for temporary files */
}
