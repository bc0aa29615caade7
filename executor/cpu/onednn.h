/* onednn.h - the few products we ask of oneDNN. onednn.c is the only file that includes its headers (2.x and 3.x).
 *
 * One shape of product, so that a handful of compiled primitives serves every matrix: C (m, n) = A (m, k) * B (k, n), or
 * C += A * B, with k a multiple of 32 and at most PRODUCT_K, n = 64 for each of up to PRODUCT_PANELS panels, A and C dense and
 * row-major, C in f32. A panel is 64 rows of a weight matrix; panels lie one after the other.
 */
#ifndef BALLAST_EXECUTOR_CPU_ONEDNN_H
#define BALLAST_EXECUTOR_CPU_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/cpu/kernels.h"

#define PRODUCT_N      64
#define PRODUCT_PANELS 2
#define PRODUCT_K      2048

/* How a panel lies in memory, with n = 0..63 the row of the weight matrix. */
enum panel_layout {
    PANEL_ROWS,    /* element (k, n) at n*K + k: the rows themselves */
    PANEL_BLOCKED, /* f32: at (k/16)*16*64 + (k%16)*64 + n; bf16: at (k/32)*32*64 + (k%32/2)*128 + n*2 + k%2 */
};

/* What the library computes fastest; the same answer throughout the process for one math. */
enum panel_layout onednn_panel_layout(enum math math);

struct product; /* compiled; lives until the process ends */
enum status onednn_product(const struct product **out, enum math math, enum panel_layout layout, int64_t m, int64_t n, int64_t k,
                           bool add, struct error *err);
/* Library scratch one call may use: a bound over all products of the above shape, refused at onednn_product() if exceeded. */
#define PRODUCT_SCRATCH_BYTES (1 << 20)
/* 0, or the library's error code. Thread-safe with scratch (64-byte aligned) of its own; runs in the calling thread alone. */
int onednn_run(const struct product *product, const void *a, const void *b, float *c, void *scratch);

void onednn_version(char *buf, size_t n); /* "oneDNN 2.6.3" */

#endif
