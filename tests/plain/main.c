/* main.c - runs the tests that were linked with it: PROGRAM [--tap=FILE] [--limit=SECONDS] [PART OF A NAME]... Criterion's other options are
 * ignored, so that scripts/run_tests.sh runs both kinds. Exit 1 if a test failed.
 *
 * A failure on a GPU can spoil everything after it: an access out of bounds makes every later call of the process fail, a kernel that waits for
 * ever leaves its stream busy. So behind a test that fails, crashes or takes longer than --limit (none without it), the process becomes a
 * new one that runs the rest: --after=N starts behind the N-th test and counts a failure.
 */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/emu/emu.h"

static struct plain_test *first, **last = &first; /* in the order of linking */
static jmp_buf leave;
enum { PASSED, FAILED, SKIPPED };
static char why[1024];

void plain_add(struct plain_test *t)
{
    *last = t;
    last = (struct plain_test **)&t->next;
}

_Noreturn void plain_fail(const char *file, int line, const char *assertion, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = snprintf(why, sizeof why, "%s:%d: expected %s%s", file, line, assertion, format[0] ? ": " : "");
    if (n < (int)sizeof why)
        vsnprintf(why + n, sizeof why - (size_t)n, format, args);
    va_end(args);
    longjmp(leave, FAILED);
}

_Noreturn void cr_skip_test(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    longjmp(leave, SKIPPED);
}

static FILE *tap;
static char **arguments; /* of this program, with room for one more */
static int number;       /* of the test at work, from 1 */
static const struct plain_test *at_work;

static void report(const struct plain_test *t, int outcome)
{
    fprintf(tap, "%s - %s::%s%s%s\n", outcome == FAILED ? "not ok" : "ok", t->suite, t->name,
            outcome == SKIPPED ? " # SKIP " : "", outcome == SKIPPED ? why : "");
    if (outcome == FAILED)
        fprintf(stderr, "%s::%s: %s\n", t->suite, t->name, why);
    fflush(NULL);
}

/* Becomes a new process, which runs what comes after the test at work. */
static _Noreturn void start_anew(void)
{
    char after[32];
    int n = 1;
    snprintf(after, sizeof after, "--after=%d", number);
    for (int i = 1; arguments[i]; i++)
        if (strncmp(arguments[i], "--after=", 8) != 0)
            arguments[n++] = arguments[i];
    arguments[n++] = after;
    arguments[n] = NULL;
    execv("/proc/self/exe", arguments);
    perror("cannot start anew");
    _exit(3);
}

/* More than a handler may do: the process is lost already, and the worst that can come of it is its end. */
static void on_signal(int signal)
{
    snprintf(why, sizeof why, signal == SIGALRM ? "expected an end inside --limit" : "ended by signal %d", signal);
    report(at_work, FAILED);
    start_anew();
}

/* Of the next process none may be blocked; a second signal, from what report() does, ends this one. */
static void catch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER | (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
}

static void run(const struct plain_test *t, unsigned limit_s)
{
    emu_reset(); /* no test may see what the last one has set */
    at_work = t;
    alarm(limit_s);
    int outcome = setjmp(leave);
    if (outcome == PASSED)
        t->run();
    alarm(0);
    report(t, outcome);
    if (outcome == FAILED)
        start_anew();
}

/* Without a part, every test is. */
static int wanted(const struct plain_test *t, int argc, char **argv)
{
    char name[256];
    int parts = 0, found = 0;
    snprintf(name, sizeof name, "%s::%s", t->suite, t->name);
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-') {
            parts++;
            found |= strstr(name, argv[i]) != NULL;
        }
    return parts == 0 || found;
}

/* The text behind --NAME=, or NULL. */
static const char *option(char **argv, const char *name)
{
    const size_t n = strlen(name);
    for (int i = 1; argv[i]; i++)
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            return argv[i] + n + 1;
    return NULL;
}

int main(int argc, char **argv)
{
    const char *file = option(argv, "--tap"), *limit = option(argv, "--limit"), *after = option(argv, "--after");
    const int first_number = after ? atoi(after) + 1 : 1;
    arguments = calloc((size_t)argc + 2, sizeof *arguments);
    tap = file ? fopen(file, after ? "a" : "w") : stdout;
    if (!tap || !arguments) {
        fprintf(stderr, "%s: cannot write the file of --tap\n", argv[0]);
        return 3;
    }
    memcpy(arguments, argv, (size_t)argc * sizeof *arguments);
    catch_signals();
    for (const struct plain_test *t = first; t; t = t->next)
        if (wanted(t, argc, argv) && ++number >= first_number)
            run(t, limit ? (unsigned)atoi(limit) : 0);
    free(arguments);
    return fclose(tap) != 0 ? 3 : after != NULL;
}
