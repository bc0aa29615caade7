/* progress.h - long work shows its rate and remaining time on a terminal, and nothing in a pipe. */
#ifndef BALLAST_CLI_PROGRESS_H
#define BALLAST_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "reading weights" */
    const char *unit; /* "B" for bytes, else as written: "tok" */
    bool on;          /* stderr is a terminal */
    double start_s, shown_s;
};

void progress_start(struct progress *p, const char *what, const char *unit);
void progress_show(struct progress *p, double done,
                   double total); /* at most ten times a second; ends the line at done == total */

#endif
