/* device_rows.h - what a row of a batch takes in the workspace of a device's unit: counted by placement.c, divided up by
 * executor/cuda/backend_cuda.cu. */
#ifndef BALLAST_MODEL_DEVICE_ROWS_H
#define BALLAST_MODEL_DEVICE_ROWS_H

#include <stdint.h>

#include "model/arch.h"

/* Bytes of one row. Products multiply elements of element_bytes, 2 or 4, and sum in f32. */
struct device_rows {
    int64_t operand; /* what the first product multiplies: the norm's output, or attention's */
    int64_t inner;   /* q, k and v in f32, or the MLP's inner row as the second product multiplies it */
    int64_t out;     /* the layer's sum, in f32 */
};
struct device_rows device_rows_of(const struct arch *a, int64_t element_bytes);

#endif
