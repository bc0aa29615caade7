/* atomic_file.h - writes a whole file or leaves the old one as it was. */
#ifndef BALLAST_MODEL_ATOMIC_FILE_H
#define BALLAST_MODEL_ATOMIC_FILE_H

#include <stddef.h>

#include "model/error.h"

/* Writes a temporary file beside `path`, syncs it and renames it over `path`; on failure removes it again. A symbolic link
 * is followed, an existing file keeps its mode, and what is not a regular file (a pipe, /dev/stdout) is written in place. */
enum status atomic_file_write(const char *path, const char *text, size_t n, struct error *err);

#endif
