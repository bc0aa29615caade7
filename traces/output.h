/* output.h - a text file that appears whole or not at all: written beside its name, renamed when it is complete.
 *
 *     struct output o;
 *     enum status s = output_open(&o, path, err);
 *     if (s == STATUS_OK) { fprintf(o.file, ...); s = output_close(&o, s, err); }
 */
#ifndef BALLAST_TRACES_OUTPUT_H
#define BALLAST_TRACES_OUTPUT_H

#include <stdio.h>

#include "model/error.h"

struct output {
    FILE *file;
    const char *path; /* borrowed: must outlive the output */
    char *temporary;  /* NULL: `path` is no regular file (a pipe, /dev/stdout) and is written directly */
};

enum status output_open(struct output *o, const char *path, struct error *err);
/* Ends the file. It takes its name if `so_far` is STATUS_OK and every byte was written; else nothing is left behind and the
 * failure is returned. */
enum status output_close(struct output *o, enum status so_far, struct error *err);

/* What to write to get `path`: a name beside it, or NULL if it exists and is no regular file, and so is written directly, or if
 * memory is out (errno is ENOMEM then, else 0). The caller frees it. */
char *output_temporary(const char *path);

#endif
