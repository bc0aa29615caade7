/* measure.h - the measuring half of the table in executor/gpu_tools.h, which says what each does. */
#ifndef BALLAST_EXECUTOR_CUDA_MEASURE_H
#define BALLAST_EXECUTOR_CUDA_MEASURE_H

#include "executor/gpu_tools.h"

enum status gpu_bench_open(struct gpu_bench **out, const struct gpu_bench_options *o, struct error *err);
void gpu_bench_close(struct gpu_bench *b);
enum status gpu_bench_copy(struct gpu_bench *b, const struct gpu_copy *c, double *seconds, struct error *err);
enum status gpu_bench_pin(struct gpu_bench *b, int64_t bytes, double *seconds, struct error *err);
enum status gpu_bench_product(struct gpu_bench *b, const struct gpu_product *p, double *seconds, struct error *err);
enum status gpu_bench_unpack(struct gpu_bench *b, int64_t rows, int64_t cols, double *seconds, struct error *err);
enum status gpu_bench_attend(struct gpu_bench *b, const struct gpu_attend *a, double *seconds, struct error *err);
enum status gpu_bench_passes(struct gpu_bench *b, int64_t m, int64_t d, double *seconds, struct error *err);
enum status gpu_bench_launches(struct gpu_bench *b, int kernels, double *seconds, struct error *err);

#endif
