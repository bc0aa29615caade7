/* format.h - how tensor elements are stored, and what that costs in bytes. The one home of element and row sizes. */
#ifndef BALLAST_MODEL_FORMAT_H
#define BALLAST_MODEL_FORMAT_H

#include <stdint.h>

/* Q4 is FlexGen's group-wise asymmetric min-max compression (FlexGen section 4, facts/flexgen.md "Compression"): per group of
 * 64 an fp16 scale and an fp16 minimum, 4 bits an element, 4.5 bits in total. */
enum format { FORMAT_F32, FORMAT_F16, FORMAT_BF16, FORMAT_Q4, FORMAT_COUNT };

#define Q4_GROUP 64

const char *format_name(enum format format);          /* "f32", "f16", "bf16", "q4" */
int format_parse(const char *name, enum format *out); /* 0, or -1 if the name is unknown */

/* Bytes of a weight matrix of (rows, cols). F32/F16/BF16: row-major, rows*cols elements. Q4 groups run along the rows (the
 * output channel, as FlexGen does): blocks of up to 64 rows, each block = cols fp16 scales, cols fp16 minima, then
 * r*ceil(cols/2) packed bytes, all padded to an even count; so a matrix may be cut at multiples of 64 rows and the pieces add up to the
 * whole. */
int64_t format_matrix_bytes(enum format format, int64_t rows, int64_t cols);

/* Rows at which a matrix may be cut: 1, or Q4_GROUP for Q4. */
int64_t format_row_step(enum format format);

/* Bytes of one cached vector of `elements` (one token's keys, or values, of one sequence). Q4 groups run along the vector:
 * ceil(elements/2) packed bytes, padded to an even count, then per group an fp16 scale and an fp16 minimum. */
int64_t format_vector_bytes(enum format format, int64_t elements);

#endif
