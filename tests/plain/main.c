/* main.c - runs the tests that were linked with it: PROGRAM [--tap=FILE] [PART OF A NAME]... Criterion's other options are ignored, so that
 * scripts/run_tests.sh runs both kinds. Exit 1 if a test failed. */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/emu/emu.h"

static struct plain_test *first, **last = &first;
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

static int run(const struct plain_test *t, FILE *tap)
{
    emu_reset(); /* no test may see what the last one has set */
    int outcome = setjmp(leave);
    if (outcome == PASSED)
        t->run();
    fprintf(tap, "%s - %s::%s%s%s\n", outcome == FAILED ? "not ok" : "ok", t->suite, t->name,
            outcome == SKIPPED ? " # SKIP " : "", outcome == SKIPPED ? why : "");
    if (outcome == FAILED)
        fprintf(stderr, "%s::%s: %s\n", t->suite, t->name, why);
    fflush(tap);
    return outcome == FAILED;
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

int main(int argc, char **argv)
{
    FILE *tap = stdout;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--tap=", 6) == 0)
            tap = fopen(argv[i] + 6, "w");
    }
    if (!tap) {
        fprintf(stderr, "%s: cannot write the file of --tap\n", argv[0]);
        return 3;
    }
    for (const struct plain_test *t = first; t; t = t->next)
        if (wanted(t, argc, argv))
            failed |= run(t, tap);
    return fclose(tap) == 0 ? failed : 3;
}
