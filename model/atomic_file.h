/* atomic_file.h - a file that appears whole or not at all: written beside its name, synced, renamed when it is complete.
 *
 *     struct atomic_file f;
 *     enum status s = atomic_file_open(&f, path, err);
 *     if (s == STATUS_OK) { fprintf(f.file, ...); s = atomic_file_close(&f, s, err); }
 */
#ifndef BALLAST_MODEL_ATOMIC_FILE_H
#define BALLAST_MODEL_ATOMIC_FILE_H

#include <stdio.h>

#include "model/error.h"

struct atomic_file {
    FILE *file;
    char *name;       /* what `file` is called meanwhile, for another program to write to */
    char *target;     /* what it will be called, symbolic links followed; NULL: `name` is written in place */
    const char *path; /* as given; borrowed: must outlive this */
};

/* An existing file keeps its mode; what is no regular file (a pipe, /dev/stdout) is written in place. */
enum status atomic_file_open(struct atomic_file *f, const char *path, struct error *err);
/* Ends the file. It takes its name if `so_far` is STATUS_OK and every byte was written; else an old file is as it was, nothing is
 * left behind, and the failure is returned. */
enum status atomic_file_close(struct atomic_file *f, enum status so_far, struct error *err);

/* Whether the file could be written now: for a command that works for long before it writes. Nothing is changed. NULL, for nothing to write, is
 * fine. */
enum status atomic_file_try(const char *path, struct error *err);

#endif
