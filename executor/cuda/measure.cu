/* measure.cu - how long a GPU takes: copies over its link, products, attention, passes over memory, launches.
 *
 * As nvbandwidth does it: the streams are held until all copies are queued, so that the time of queueing them is not in the result; a
 * warm-up comes first; the median of the samples counts; and what was copied is compared. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "executor/cuda/blas.h"
#include "executor/cuda/check.cuh"
#include "executor/cuda/device.cuh"
#include "executor/cuda/measure.h"
#include "executor/cuda/staging.h"

enum { COPIES_MAX = 32, COPIES_MIN = 4, BLAS_BYTES = 32 << 20 };

struct gpu_bench {
    struct gpu_bench_options o;
    cudaStream_t stream[2]; /* up, down; kernels go on the first */
    cudaEvent_t begin[2], end[2];
    char *operand, *x, *y, *unpacked; /* on the device; the last: weights that were 4-bit */
    char *pinned[2], *paged[2];       /* to copy from, and to */
    char *upload;                     /* pinned, of staged copies */
    struct staging staging;
    char *trial;      /* pinned to see how long it takes */
    volatile int *go; /* (2) pinned: the held streams wait for the first; in the second they say that they have given up */
    struct blas *blas;
    char *blas_workspace;
    int processors;
    int64_t walked; /* of operands, by what was measured so far */
};

static double now_s()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/* -- memory ------------------------------------------------------------------------------------------------------------ */

static enum status take_device(char **p, int64_t bytes, const char *what, struct error *err)
{
    const int code = cudaMalloc(reinterpret_cast<void **>(p), (size_t)bytes);
    size_t left = 0, all = 0;
    if (code != cudaErrorMemoryAllocation || cudaMemGetInfo(&left, &all) != cudaSuccess)
        return gpu_try(err, code, "cudaMalloc", __FILE__, __LINE__);
    cudaGetLastError(); /* it has been reported */
    return error_set(
        err, STATUS_RUNTIME,
        "%s:%d: cudaMalloc of %lld bytes for %s: cudaErrorMemoryAllocation (out of memory): %lld of the device's %lld "
        "bytes are free",
        __FILE__, __LINE__, (long long)bytes, what, (long long)left, (long long)all);
}

static enum status take_pinned(char **p, int64_t bytes, const char *what, struct error *err)
{
    char call[96];
    snprintf(call, sizeof call, "cudaHostAlloc of %lld bytes for %s", (long long)bytes, what);
    return gpu_try(err, cudaHostAlloc(reinterpret_cast<void **>(p), (size_t)bytes, cudaHostAllocMapped), call, __FILE__,
                   __LINE__);
}

static enum status take_pageable(char **p, int64_t bytes, struct error *err)
{
    *p = static_cast<char *>(malloc((size_t)bytes));
    return *p ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory: %lld pageable bytes to copy", (long long)bytes);
}

static enum status take_all(struct gpu_bench *b, struct error *err)
{
    const struct gpu_bench_options *o = &b->o;
    char *go = nullptr;
    enum status s = take_device(&b->operand, o->device_bytes, "operands", err);
    if (s == STATUS_OK)
        s = take_device(&b->x, o->row_bytes, "rows", err);
    if (s == STATUS_OK)
        s = take_device(&b->y, o->row_bytes, "rows", err);
    if (s == STATUS_OK)
        s = take_device(&b->unpacked, o->row_bytes, "unpacked weights", err);
    if (s == STATUS_OK)
        s = take_device(&b->blas_workspace, BLAS_BYTES, "cuBLAS", err);
    if (s == STATUS_OK)
        s = take_pinned(&go, 2 * sizeof *b->go, "flags", err);
    b->go = reinterpret_cast<volatile int *>(go);
    if (s == STATUS_OK)
        s = take_pinned(&b->upload, o->upload_bytes, "staging", err);
    if (s == STATUS_OK)
        s = staging_open(&b->staging, b->upload, o->upload_bytes, err);
    for (int i = 0; i < 2 && s == STATUS_OK; i++) {
        s = take_pinned(&b->pinned[i], o->host_bytes, "copies", err);
        if (s == STATUS_OK)
            s = take_pageable(&b->paged[i], o->host_bytes, err);
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaStreamCreateWithFlags(&b->stream[i], cudaStreamNonBlocking));
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaEventCreateWithFlags(&b->begin[i], cudaEventDefault));
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaEventCreateWithFlags(&b->end[i], cudaEventDefault));
    }
    return s;
}

/* `bytes` of a buffer on the device from the numbers, over and over. */
static enum status fill(struct gpu_bench *b, char *to, int64_t bytes, struct error *err)
{
    enum status s = STATUS_OK;
    for (int64_t at = 0; at < bytes && s == STATUS_OK; at += b->o.host_bytes)
        s = GPU_TRY(err, cudaMemcpyAsync(to + at, b->pinned[0], (size_t)std::min(b->o.host_bytes, bytes - at), cudaMemcpyDefault,
                                         b->stream[0]));
    return s;
}

static enum status fill_all(struct gpu_bench *b, struct error *err)
{
    memcpy(b->pinned[0], b->o.numbers, (size_t)b->o.host_bytes);
    memcpy(b->paged[0], b->o.numbers, (size_t)b->o.host_bytes);
    b->o.numbers = nullptr; /* borrowed until here */
    enum status s = fill(b, b->operand, b->o.device_bytes, err);
    if (s == STATUS_OK)
        s = fill(b, b->x, b->o.row_bytes, err);
    if (s == STATUS_OK)
        s = fill(b, b->y, b->o.row_bytes, err);
    return s == STATUS_OK ? GPU_TRY(err, cudaStreamSynchronize(b->stream[0])) : s;
}

void gpu_bench_close(struct gpu_bench *b)
{
    if (!b)
        return;
    blas_close(b->blas);
    cudaFree(b->blas_workspace);
    for (int i = 0; i < 2; i++) {
        if (b->stream[i])
            cudaStreamDestroy(b->stream[i]);
        if (b->begin[i])
            cudaEventDestroy(b->begin[i]);
        if (b->end[i])
            cudaEventDestroy(b->end[i]);
        cudaFreeHost(b->pinned[i]);
        free(b->paged[i]);
    }
    staging_close(&b->staging);
    cudaFreeHost(b->upload);
    cudaFreeHost(b->trial);
    cudaFreeHost(const_cast<int *>(b->go));
    cudaFree(b->operand);
    cudaFree(b->x);
    cudaFree(b->y);
    cudaFree(b->unpacked);
    delete b;
}

enum status gpu_bench_open(struct gpu_bench **out, const struct gpu_bench_options *o, struct error *err)
{
    *out = nullptr;
    if (o->samples < 1 || o->host_bytes < 1 || o->upload_bytes < 2 || o->device_bytes < 2 * o->host_bytes)
        return error_set(err, STATUS_INVALID,
                         "measuring a GPU: expected a sample or more, a buffer to stage in, and operands for two host buffers");
    struct gpu_bench *b = new gpu_bench();
    b->o = *o;
    enum status s = GPU_TRY(err, cudaSetDevice(o->device));
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaDeviceGetAttribute(&b->processors, cudaDevAttrMultiProcessorCount, o->device));
    if (s == STATUS_OK)
        s = take_all(b, err);
    if (s == STATUS_OK)
        s = fill_all(b, err);
    if (s == STATUS_OK)
        s = blas_open(&b->blas, b->stream[0], b->blas_workspace, BLAS_BYTES, err);
    if (s == STATUS_OK)
        *out = b;
    else
        gpu_bench_close(b);
    return s;
}

/* -- samples ------------------------------------------------------------------------------------------------------------- */

/* The median of one sample's seconds, after one that does not count. */
static enum status median(const struct gpu_bench *b, const std::function<enum status(double *seconds)> &sample, double *seconds)
{
    std::vector<double> all((size_t)b->o.samples);
    double warm_up;
    enum status s = sample(&warm_up);
    for (size_t i = 0; i < all.size() && s == STATUS_OK; i++)
        s = sample(&all[i]);
    if (s != STATUS_OK)
        return s;
    std::sort(all.begin(), all.end());
    *seconds = all[all.size() / 2];
    return STATUS_OK;
}

/* The device's time between two events of stream i. */
static enum status elapsed(struct gpu_bench *b, int i, double *seconds, struct error *err)
{
    float ms;
    enum status s = GPU_TRY(err, cudaEventSynchronize(b->end[i]));
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaEventElapsedTime(&ms, b->begin[i], b->end[i]));
    *seconds = s == STATUS_OK ? ms / 1e3 : 0;
    return s;
}

/* -- copies -------------------------------------------------------------------------------------------------------------- */

#ifdef BALLAST_EMULATED
/* Kernels run in the thread that launches them: one that waits for the host would wait for ever, and there is no time to hide. */
static int hold(struct gpu_bench *, int)
{
    return 0;
}
#else
/* Gives up after some seconds: where a launch waits for its kernel (CUDA_LAUNCH_BLOCKING, a debugger), the host never comes to say go. */
#define HOLD_CYCLES (INT64_C(1) << 33)
__global__ void hold_kernel(volatile int *go)
{
    const int64_t begin = clock64();
    while (go[0] == 0 && go[1] == 0)
        if (clock64() - begin > HOLD_CYCLES)
            go[1] = 1;
}
static int hold(struct gpu_bench *b, int i)
{
    return launch(hold_kernel, dim3(1), dim3(1), b->stream[i], b->go);
}
#endif

/* Copies up end in one part of the operands, copies down begin in another. */
static char *device_side(const struct gpu_bench *b, int i)
{
    return b->operand + i * b->o.host_bytes;
}

static int copies(const struct gpu_bench *b, const struct gpu_copy *c)
{
    return (int)std::clamp(b->o.host_bytes / c->bytes, (int64_t)COPIES_MIN, (int64_t)COPIES_MAX);
}

static char *const *host_side(const struct gpu_bench *b, const struct gpu_copy *c)
{
    return c->host == GPU_PINNED ? b->pinned : b->paged;
}

/* Transfers 0..n-1 of one direction, side by side in the buffers while there is room. */
static enum status queue_copies(struct gpu_bench *b, const struct gpu_copy *c, int i, struct error *err)
{
    char *const *host = host_side(b, c);
    enum status s = STATUS_OK;
    for (int k = 0; k < copies(b, c) && s == STATUS_OK; k++) {
        const int64_t at = k % (b->o.host_bytes / c->bytes) * c->bytes;
        char *device = device_side(b, i) + at;
        if (c->host == GPU_STAGED)
            s = staging_copy(&b->staging, b->stream[0], device, host[0] + at, c->bytes, err);
        else
            s = i == 0
                    ? GPU_TRY(err, cudaMemcpyAsync(device, host[0] + at, (size_t)c->bytes, cudaMemcpyHostToDevice, b->stream[0]))
                    : GPU_TRY(err, cudaMemcpyAsync(host[1] + at, device, (size_t)c->bytes, cudaMemcpyDeviceToHost, b->stream[1]));
    }
    return s;
}

static enum status copy_held(struct gpu_bench *b, const struct gpu_copy *c, double *seconds, struct error *err)
{
    const bool wanted[2] = {c->up, c->down};
    enum status s = STATUS_OK;
    b->go[0] = b->go[1] = 0;
    *seconds = 0;
    for (int i = 0; i < 2 && s == STATUS_OK; i++) {
        if (!wanted[i])
            continue;
        s = GPU_TRY(err, hold(b, i));
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaEventRecord(b->begin[i], b->stream[i]));
        if (s == STATUS_OK)
            s = queue_copies(b, c, i, err);
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaEventRecord(b->end[i], b->stream[i]));
    }
    b->go[0] = 1; /* also after a failure: nothing may be left waiting */
    for (int i = 0; i < 2 && s == STATUS_OK; i++) {
        double one = 0;
        if (wanted[i])
            s = elapsed(b, i, &one, err);
        *seconds = std::max(*seconds, one / copies(b, c));
    }
    if (s == STATUS_OK && b->go[1])
        s = error_set(err, STATUS_RUNTIME,
                      "copies: their stream was not held until all were queued: do launches wait for their kernels?");
    return s;
}

static enum status copy_one_way(struct gpu_bench *b, const struct gpu_copy *c, int i, struct error *err)
{
    enum status s = queue_copies(b, c, i, err);
    return s == STATUS_OK ? GPU_TRY(err, cudaStreamSynchronize(b->stream[i])) : s;
}

/* Pageable memory cannot be queued: the call copies it itself, all or most of it. Both directions at once are two threads then. */
static enum status copy_pageable(struct gpu_bench *b, const struct gpu_copy *c, double *seconds, struct error *err)
{
    struct error other = {};
    enum status s = STATUS_OK;
    const double start = now_s();
    std::thread down;
    if (c->down)
        down = std::thread([&] {
            if (GPU_TRY(&other, cudaSetDevice(b->o.device)) == STATUS_OK)
                copy_one_way(b, c, 1, &other);
        });
    if (c->up)
        s = copy_one_way(b, c, 0, err);
    if (c->down)
        down.join();
    *seconds = (now_s() - start) / copies(b, c);
    return s == STATUS_OK && other.status != STATUS_OK ? error_set(err, other.status, "%s", other.text) : s;
}

/* Both sides of what moves are cleared of what they should become. */
static enum status clear(struct gpu_bench *b, const struct gpu_copy *c, struct error *err)
{
    if (c->down)
        memset(host_side(b, c)[1], 0, (size_t)b->o.host_bytes);
    enum status s =
        c->up ? GPU_TRY(err, cudaMemsetAsync(device_side(b, 0), 0, (size_t)b->o.host_bytes, b->stream[0])) : STATUS_OK;
    return s == STATUS_OK ? GPU_TRY(err, cudaStreamSynchronize(b->stream[0])) : s;
}

/* Everything that was copied is the numbers, wherever it lies. */
static enum status compare(struct gpu_bench *b, const struct gpu_copy *c, struct error *err)
{
    const size_t bytes = (size_t)(std::min((int64_t)copies(b, c), b->o.host_bytes / c->bytes) * c->bytes);
    enum status s = STATUS_OK;
    if (c->down && memcmp(host_side(b, c)[1], b->paged[0], bytes) != 0)
        return error_set(err, STATUS_RUNTIME, "copies of %lld bytes from the device brought other bytes", (long long)c->bytes);
    if (!c->up)
        return STATUS_OK;
    s = GPU_TRY(err, cudaMemcpyAsync(b->pinned[1], device_side(b, 0), bytes, cudaMemcpyDeviceToHost, b->stream[0]));
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaStreamSynchronize(b->stream[0]));
    if (s == STATUS_OK && memcmp(b->pinned[1], b->paged[0], bytes) != 0)
        s = error_set(err, STATUS_RUNTIME, "copies of %lld bytes to the device brought other bytes", (long long)c->bytes);
    /* the rest of the landing place are numbers again, for products to come */
    return s == STATUS_OK ? fill(b, device_side(b, 0), b->o.host_bytes, err) : s;
}

enum status gpu_bench_copy(struct gpu_bench *b, const struct gpu_copy *c, double *seconds, struct error *err)
{
    if (c->bytes < 1 || c->bytes > b->o.host_bytes || !(c->up || c->down) || (c->host == GPU_STAGED && c->down))
        return error_set(err, STATUS_INVALID,
                         "copies: expected a direction (staged ones go up) and at most %lld bytes, found %lld",
                         (long long)b->o.host_bytes, (long long)c->bytes);
    enum status s = clear(b, c, err);
    if (s == STATUS_OK)
        s = median(
            b, [&](double *t) { return c->host == GPU_PINNED ? copy_held(b, c, t, err) : copy_pageable(b, c, t, err); }, seconds);
    return s == STATUS_OK ? compare(b, c, err) : s;
}

enum status gpu_bench_pin(struct gpu_bench *b, int64_t bytes, double *seconds, struct error *err)
{
    return median(
        b,
        [&](double *t) {
            const double start = now_s();
            enum status s = take_pinned(&b->trial, bytes, "timing", err);
            *t = now_s() - start;
            if (s == STATUS_OK)
                s = GPU_TRY(err, cudaFreeHost(b->trial));
            if (s == STATUS_OK)
                b->trial = nullptr;
            return s;
        },
        seconds);
}

/* -- kernels ------------------------------------------------------------------------------------------------------------- */

/* A sample lasts about so long, and is of CALLS_MAX calls at most. */
#define SAMPLE_SECONDS 0.002
enum { CALLS_MAX = 16 };

/* The next `bytes` of the operands, so that a sample does not find in the caches what the last one left there. */
static char *walk(struct gpu_bench *b, int64_t bytes)
{
    if (b->walked + bytes > b->o.device_bytes)
        b->walked = 0;
    char *p = b->operand + b->walked;
    b->walked += (bytes + 255) / 256 * 256;
    return p;
}

static enum status fits(const struct gpu_bench *b, int64_t operand_bytes, int64_t row_bytes, struct error *err)
{
    if (operand_bytes <= b->o.device_bytes && row_bytes <= b->o.row_bytes)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "measuring a GPU: %lld bytes of operands and %lld of rows, expected at most %lld and %lld",
                     (long long)operand_bytes, (long long)row_bytes, (long long)b->o.device_bytes, (long long)b->o.row_bytes);
}

/* The time of one call of many on the stream: `call` starts it. */
static enum status time_calls(struct gpu_bench *b, const std::function<enum status()> &call, double *seconds, struct error *err)
{
    int calls = 1; /* the warm-up, which says how many */
    const auto sample = [&](double *t) {
        enum status s = GPU_TRY(err, cudaEventRecord(b->begin[0], b->stream[0]));
        for (int i = 0; i < calls && s == STATUS_OK; i++)
            s = call();
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaEventRecord(b->end[0], b->stream[0]));
        if (s == STATUS_OK)
            s = elapsed(b, 0, t, err);
        *t /= calls;
        calls = *t > 0 ? (int)std::clamp(SAMPLE_SECONDS / *t, 1.0, (double)CALLS_MAX) : CALLS_MAX;
        return s;
    };
    return median(b, sample, seconds);
}

enum status gpu_bench_product(struct gpu_bench *b, const struct gpu_product *p, double *seconds, struct error *err)
{
    const int64_t bytes = format_matrix_bytes(p->format, p->rows, p->cols);
    const bool packed = p->format == FORMAT_Q4;
    const enum format dense = packed ? FORMAT_F16 : p->format;
    float *y = reinterpret_cast<float *>(b->y);
    enum status s = fits(b, bytes, std::max(p->m * std::max(p->rows, p->cols) * 4, packed ? 2 * p->rows * p->cols : 0), err);
    if (s != STATUS_OK)
        return s;
    const auto call = [&] {
        const char *w = walk(b, bytes);
        if (packed && p->m <= GPU_PRODUCT_Q4_ROWS) /* as the backend has it */
            return GPU_TRY(err, gpu_product_q4(b->stream[0], w, p->rows, p->cols, b->x, p->cols, p->m, y, FORMAT_F32, p->rows));
        enum status done = STATUS_OK;
        if (packed) {
            done = GPU_TRY(err, gpu_unpack_q4(b->stream[0], w, p->rows, p->cols, b->unpacked, dense));
            w = b->unpacked;
        }
        return done == STATUS_OK
                   ? blas_product(b->blas, dense, w, p->rows, p->cols, b->x, p->cols, p->m, y, FORMAT_F32, p->rows, err)
                   : done;
    };
    return time_calls(b, call, seconds, err);
}

enum status gpu_bench_unpack(struct gpu_bench *b, int64_t rows, int64_t cols, double *seconds, struct error *err)
{
    const int64_t bytes = format_matrix_bytes(FORMAT_Q4, rows, cols);
    const enum status s = fits(b, bytes, format_matrix_bytes(FORMAT_F16, rows, cols), err);
    const auto call = [&] {
        return GPU_TRY(err, gpu_unpack_q4(b->stream[0], walk(b, bytes), rows, cols, b->unpacked, FORMAT_F16));
    };
    return s == STATUS_OK ? time_calls(b, call, seconds, err) : s;
}

/* As the backend attends: prompts on the tensor cores, decode split over the cache. */
enum status gpu_bench_attend(struct gpu_bench *b, const struct gpu_attend *a, double *seconds, struct error *err)
{
    const int64_t width = (int64_t)a->heads * a->head_dim, row = format_vector_bytes(a->cache, width);
    const int64_t queries = a->sequences * a->tokens, visible = a->first + a->tokens, layer = 2 * row * a->sequences * visible;
    const struct gpu_heads h = {a->heads, a->heads, a->head_dim, 1 / sqrtf((float)a->head_dim)};
    const int splits = gpu_attention_splits(&h, b->processors, queries, visible);
    const int64_t pad_bytes = (a->sequences * (int64_t)sizeof(int32_t) + 255) / 256 * 256;
    const int32_t *pad = reinterpret_cast<const int32_t *>(b->y); /* none; parts of splits behind it */
    float *q = reinterpret_cast<float *>(b->x), *out = reinterpret_cast<float *>(b->unpacked);
    float *scratch = reinterpret_cast<float *>(b->y + pad_bytes);
    enum status s = fits(b, layer, queries * width * 4, err);
    if (s == STATUS_OK)
        s = fits(b, 0, pad_bytes + gpu_attention_scratch_bytes(&h, a->sequences, a->tokens, splits), err);
    if (s == STATUS_OK)
        s = GPU_TRY(err, cudaMemsetAsync(b->y, 0, (size_t)pad_bytes, b->stream[0]));
    if (s != STATUS_OK)
        return s;
    const auto call = [&] {
        const struct gpu_cache c = {a->cache, walk(b, layer), 2 * row * a->sequences, 2 * row, row, nullptr, 0};
        return a->tokens > 1
                   ? GPU_TRY(err,
                             gpu_prefill_attention(b->stream[0], &h, &c, a->sequences, a->first, a->tokens, pad, q, width, out))
                   : GPU_TRY(err,
                             gpu_attention(b->stream[0], &h, &c, a->sequences, a->first, 1, pad, q, width, out, splits, scratch));
    };
    return time_calls(b, call, seconds, err);
}

enum status gpu_bench_passes(struct gpu_bench *b, int64_t m, int64_t d, double *seconds, struct error *err)
{
    const int64_t bytes = format_matrix_bytes(FORMAT_F16, m, d);
    enum status s = fits(b, bytes, bytes, err);
    if (s != STATUS_OK)
        return s;
    const auto call = [&] {
        const void *h = walk(b, bytes);
        enum status done = GPU_TRY(err, gpu_norm(b->stream[0], h, FORMAT_F16, m, d, nullptr, nullptr, 1e-5f, b->y, FORMAT_F16));
        return done == STATUS_OK ? GPU_TRY(err, gpu_add(b->stream[0], b->y, FORMAT_F16, h, FORMAT_F16, nullptr, m, d)) : done;
    };
    return time_calls(b, call, seconds, err);
}

/* Two operations at most are between their launch and the wait for their end (executor/engine.c). */
static enum status queue_operations(struct gpu_bench *b, int kernels, struct error *err)
{
    enum status s = STATUS_OK;
    for (int k = 0; k < GPU_LAUNCHES && s == STATUS_OK; k++) {
        for (int i = 0; i < kernels && s == STATUS_OK; i++)
            s = GPU_TRY(err, gpu_add(b->stream[0], b->y, FORMAT_F16, b->x, FORMAT_F16, nullptr, 1, 1));
        if (s == STATUS_OK)
            s = GPU_TRY(err, cudaEventRecord(b->end[k % 2], b->stream[0]));
        if (k > 0 && s == STATUS_OK)
            s = GPU_TRY(err, cudaEventSynchronize(b->end[(k - 1) % 2]));
    }
    return s == STATUS_OK ? GPU_TRY(err, cudaEventSynchronize(b->end[(GPU_LAUNCHES - 1) % 2])) : s;
}

enum status gpu_bench_launches(struct gpu_bench *b, int kernels, double *seconds, struct error *err)
{
    return median(
        b,
        [&](double *t) {
            const double start = now_s();
            const enum status s = queue_operations(b, kernels, err);
            *t = (now_s() - start) / GPU_LAUNCHES;
            return s;
        },
        seconds);
}
