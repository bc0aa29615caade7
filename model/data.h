/* data.h - the files of model/data, and the papers' tables, built into the binary by scripts/embed_data.sh. */
#ifndef BALLAST_MODEL_DATA_H
#define BALLAST_MODEL_DATA_H

#include <stddef.h>

/* The file model/data/<kind>/<name>.json (kind "hardware" or "models") or papers/<name>/published.csv (kind "papers"): its first byte,
 * and its size in *n. It has no NUL at its end. NULL if there is none. */
const char *data_find(const char *kind, const char *name, size_t *n);

/* The i-th name of a kind, in sorted order; NULL past the last. */
const char *data_name(const char *kind, int i);

/* All names of a kind as "a, b, c", cut short to fit; returns buf. */
char *data_names(const char *kind, char *buf, size_t n);

#endif
