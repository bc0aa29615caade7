/* units.h - quantities with units, to SI and back. A bare number is an error; GB is 1e9 bytes, GiB is 2^30. */
#ifndef BALLAST_MODEL_UNITS_H
#define BALLAST_MODEL_UNITS_H

#include <stddef.h>
#include <stdint.h>

enum unit_kind { UNIT_BYTES, UNIT_BYTES_PER_S, UNIT_FLOPS_PER_S, UNIT_SECONDS, UNIT_SHARE };

/* Parses "12.1 GB/s", "16GiB", "65 TFLOP/s", "5 us", "8 %" (space optional, case as written). Negative, NaN, infinite or trailing
 * text is refused. Returns 0, or -1 and leaves *out alone. */
int units_parse(const char *text, enum unit_kind kind, double *out);
const char *units_expected(enum unit_kind kind); /* for messages: e.g. "a size such as \"16 GiB\"" */

/* For people: "1.23 GB/s", "3.5 GiB", "812 MFLOP/s", "1.2 ms"; returns buf. */
char *units_format(double value, enum unit_kind kind, char *buf, size_t n);

/* For files: text that units_parse turns back into the same double (to 9 significant digits). Bytes are written exactly. */
char *units_write(double value, enum unit_kind kind, char *buf, size_t n);

#endif
