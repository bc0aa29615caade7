/* csv_header.h - what the writer and the reader of the trace CSV share: the columns and one table of the header lines. */
#ifndef BALLAST_TRACES_CSV_HEADER_H
#define BALLAST_TRACES_CSV_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "traces/trace.h"

#define TRACE_CSV_VERSION "2"
#define KIND_RESIDENT     "resident" /* the kind of a sample */

enum column {
    COL_OP,
    COL_KIND,
    COL_RESOURCE,
    COL_STEP,
    COL_LAYER,
    COL_BATCH,
    COL_BYTES,
    COL_FLOPS,
    COL_START,
    COL_END,
    COL_WAITS,
    COLUMNS
};
extern const char *const trace_column[COLUMNS];

enum header_type { H_ORIGIN, H_TEXT, H_COUNT, H_REAL, H_NAMES, H_REALS, H_COUNTS };

/* One header line: where its value lives. Lists have `count` items of `size` bytes; a names line sets the count, the lines of
 * numbers after it must agree with it. */
struct header_line {
    const char *key;
    enum header_type type;
    void *at;
    size_t size; /* text and names: bytes of one buffer */
    int *count;
    int max;
};

enum { HEADER_LINES = 20 };

/* The header lines of t in the order of the file; they point into t. */
void header_table(struct trace *t, struct header_line h[HEADER_LINES]);

bool header_text_ok(const char *text, size_t n); /* no control character */
bool header_real_ok(double v);                   /* finite, not negative */
/* NULL, or why the names cannot stand in a trace: they are looked up by their text and live on one line. */
const char *header_names_fault(const char *names, size_t size, int count, bool kinds);

#endif
