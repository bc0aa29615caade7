/* figure.c - the temporary data file, the quoting of variables, and gnuplot as a child process without a shell. */
#define _GNU_SOURCE /* asprintf, mkostemp, pipe2 */

#include "plots/figure.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model/atomic_file.h"

extern char **environ;

/* -- building -------------------------------------------------------------------------------------------------------- */

enum status figure_open(struct figure *f, struct error *err)
{
    const char *dir = getenv("TMPDIR");
    *f = (struct figure){0};
    if (asprintf(&f->data_path, "%s/ballast-plot-XXXXXX", dir && *dir ? dir : "/tmp") < 0) {
        f->data_path = NULL;
        return error_errno(err, ENOMEM, "plot");
    }
    const int fd = mkostemp(f->data_path, O_CLOEXEC);
    if (fd < 0) {
        const enum status s = error_errno(err, errno, "%s", f->data_path);
        free(f->data_path);
        f->data_path = NULL;
        return s;
    }
    f->data = fdopen(fd, "w");
    f->vars = open_memstream(&f->vars_text, &f->vars_n);
    if (f->data && f->vars)
        return STATUS_OK;
    if (!f->data)
        close(fd);
    figure_close(f);
    return error_errno(err, ENOMEM, "plot");
}

void figure_close(struct figure *f)
{
    if (f->data)
        fclose(f->data);
    if (f->vars)
        fclose(f->vars);
    if (f->data_path)
        unlink(f->data_path);
    free(f->data_path);
    free(f->vars_text);
    *f = (struct figure){0};
}

/* A gnuplot string in which everything that could end it or start a substitution is an octal escape. */
static void put_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (isalnum(*p) || strchr(" ,.:;=/_-+()", *p))
            fputc(*p, out);
        else
            fprintf(out, "\\%03o", *p < 0x20 || *p == 0x7f ? ' ' : *p);
    }
    fputc('"', out);
}

void figure_text(struct figure *f, const char *name, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(f->vars, "%s=", name);
    put_quoted(f->vars, text);
    fputc(';', f->vars);
}

void figure_number(struct figure *f, const char *name, double value)
{
    fprintf(f->vars, "%s=%.10g;", name, value);
}

void figure_size(struct figure *f, double width, double height)
{
    figure_number(f, "width", width);
    figure_number(f, "height", height);
}

void figure_texts(struct figure *f, const char *name, int n, const char *const *texts)
{
    fprintf(f->vars, "array %s[%d];", name, n > 0 ? n : 1);
    for (int i = 0; i < n; i++) {
        fprintf(f->vars, "%s[%d]=", name, i + 1);
        put_quoted(f->vars, texts[i]);
        fputc(';', f->vars);
    }
}

static struct plot_unit pick_unit(const struct plot_unit *unit, int n, double max)
{
    int i = 0;
    while (i + 1 < n && max < 2 * unit[i].scale) /* at least two of a unit, else the next smaller one */
        i++;
    return unit[i];
}

struct plot_unit plot_time_unit(double max_s)
{
    static const struct plot_unit unit[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}};
    return pick_unit(unit, 4, max_s);
}

struct plot_unit plot_bytes_unit(double max_bytes)
{
    static const struct plot_unit unit[] = {{1099511627776.0, "TiB"},
                                            {1073741824.0, "GiB"},
                                            {1048576.0, "MiB"},
                                            {1024.0, "KiB"},
                                            {1, "B"}};
    return pick_unit(unit, 5, max_bytes);
}

/* -- the scripts ----------------------------------------------------------------------------------------------------- */

/* The directory two levels above the running program: build/ballast and bin/ballast both have their tree there. */
static bool program_root(char root[PATH_MAX])
{
    const ssize_t n = readlink("/proc/self/exe", root, PATH_MAX - 1);
    if (n <= 0)
        return false;
    root[n] = 0;
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(root, '/');
        if (!slash)
            return false;
        *slash = 0;
    }
    return true;
}

/* Puts the first directory that has the script into `dir`. */
static enum status find_script(const char *script, char dir[PATH_MAX], struct error *err)
{
    static const char *const below[] = {"plots", "share/ballast/plots"};
    const char *given = getenv("BALLAST_PLOTS");
    char root[PATH_MAX], path[PATH_MAX + 64];
    const bool has_root = program_root(root);
    for (int i = 0; i < 4; i++) {
        int n = -1;
        if (i == 0 && given && *given)
            n = snprintf(dir, PATH_MAX, "%s", given);
        else if (i > 0 && i < 3 && has_root)
            n = snprintf(dir, PATH_MAX, "%s/%s", root, below[i - 1]);
        else if (i == 3)
            n = snprintf(dir, PATH_MAX, "./plots");
        if (n < 0 || n >= PATH_MAX)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, script);
        if (access(path, R_OK) == 0)
            return STATUS_OK;
    }
    return error_set(err, STATUS_RUNTIME,
                     "plot: expected the script %s in $BALLAST_PLOTS, beside the program or in ./plots, "
                     "found none",
                     script);
}

/* -- gnuplot --------------------------------------------------------------------------------------------------------- */

enum { SAID_MAX = 4096 };

/* What the child writes, up to SAID_MAX - 1 bytes; the rest is read and dropped so that it can end. */
static void listen_to(int fd, char said[SAID_MAX])
{
    char rest[512];
    size_t used = 0;
    ssize_t n;
    do {
        const bool room = used < SAID_MAX - 1;
        n = read(fd, room ? said + used : rest, room ? SAID_MAX - 1 - used : sizeof rest);
        if (n > 0 && room)
            used += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    said[used] = 0;
}

/* Starts gnuplot with its output going to the pipe; returns an errno. */
static int start_gnuplot(const char *vars, const char *script_path, int pipe_fd, pid_t *pid)
{
    char *const argv[] = {"gnuplot", "-d", "-e", (char *)vars, (char *)script_path, NULL}; /* -d: no ~/.gnuplot */
    posix_spawn_file_actions_t actions;
    int code = posix_spawn_file_actions_init(&actions);
    if (code)
        return code;
    if (!(code = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)) &&
        !(code = posix_spawn_file_actions_adddup2(&actions, pipe_fd, STDOUT_FILENO)) &&
        !(code = posix_spawn_file_actions_adddup2(&actions, pipe_fd, STDERR_FILENO)))
        code = posix_spawnp(pid, "gnuplot", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

/* The line of gnuplot's message that says what is wrong: it shows the source and a caret first. */
static const char *complaint(char said[SAID_MAX])
{
    const char *best = "it said nothing";
    for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n")) {
        const size_t blanks = strspn(line, " \t^");
        if (line[blanks] && (strstr(line, "line ") || strcmp(best, "it said nothing") == 0))
            best = line + blanks;
    }
    return best;
}

static enum status run_gnuplot(const char *vars, const char *script_path, struct error *err)
{
    enum status s = STATUS_OK;
    char said[SAID_MAX];
    int ends[2] = {-1, -1}, how = 0;
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_errno(err, errno, "plot: a pipe to gnuplot");
    const int code = start_gnuplot(vars, script_path, ends[1], &pid);
    close(ends[1]);
    if (code == ENOENT)
        s = error_set(err, STATUS_RUNTIME,
                      "plot: expected gnuplot in PATH, found none: install it (Debian, Ubuntu: apt install "
                      "gnuplot-nox)");
    else if (code)
        s = error_errno(err, code, "plot: starting gnuplot");
    if (s == STATUS_OK) {
        listen_to(ends[0], said);
        while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
            ;
        if (WIFSIGNALED(how))
            s = error_set(err, STATUS_RUNTIME, "plot: gnuplot was ended by signal %d", WTERMSIG(how));
        else if (WEXITSTATUS(how) == 127)
            s = error_set(err, STATUS_RUNTIME, "plot: gnuplot could not be started");
        else if (WEXITSTATUS(how) != 0)
            s = error_set(err, STATUS_RUNTIME, "plot: gnuplot failed: %s", complaint(said));
    }
    close(ends[0]);
    return s;
}

static bool has_suffix(const char *path, const char *suffix)
{
    const size_t n = strlen(path), k = strlen(suffix);
    return n > k && strcmp(path + n - k, suffix) == 0;
}

/* Finishes the variables and closes both streams. */
static enum status finish(struct figure *f, const char *dir, const char *picture, const char *out_path, struct error *err)
{
    figure_text(f, "in", "%s", f->data_path);
    figure_text(f, "format", "%s", has_suffix(out_path, ".svg") ? "svg" : "png");
    fputs("out=", f->vars);
    put_quoted(f->vars, picture);
    fputs(";plots=", f->vars);
    put_quoted(f->vars, dir);
    const bool bad = ferror(f->data) | fclose(f->data) | fclose(f->vars);
    f->data = f->vars = NULL;
    return bad ? error_set(err, STATUS_RUNTIME, "plot: %s could not be written", f->data_path) : STATUS_OK;
}

enum status figure_draw(struct figure *f, const char *script, const char *out_path, struct error *err)
{
    char dir[PATH_MAX], script_path[PATH_MAX + 64];
    char *picture = NULL;
    struct atomic_file out;
    enum status s = find_script(script, dir, err);
    if (s == STATUS_OK)
        s = atomic_file_open(&out, out_path, err);
    if (s != STATUS_OK)
        return s;
    snprintf(script_path, sizeof script_path, "%s/%s", dir, script);
    /* gnuplot writes it by name; one that starts with '|' would be a command to it. */
    if (asprintf(&picture, "%s%s", *out.name == '/' ? "" : "./", out.name) < 0) {
        picture = NULL;
        s = error_errno(err, ENOMEM, "%s", out_path);
    }
    if (s == STATUS_OK)
        s = finish(f, dir, picture, out_path, err);
    if (s == STATUS_OK)
        s = run_gnuplot(f->vars_text, script_path, err);
    free(picture);
    return atomic_file_close(&out, s, err);
}
