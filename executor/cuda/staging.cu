#include "executor/cuda/staging.h"

#include <algorithm>
#include <cstring>

enum status staging_open(struct staging *s, void *buffer, int64_t bytes, struct error *err)
{
    enum status status = STATUS_OK;
    *s = {static_cast<char *>(buffer), bytes / 2, {nullptr, nullptr}, 0};
    for (int i = 0; i < 2 && status == STATUS_OK; i++)
        status = GPU_TRY(err, cudaEventCreateWithFlags(&s->gone[i], cudaEventDisableTiming | cudaEventBlockingSync));
    return status;
}

void staging_close(struct staging *s)
{
    for (cudaEvent_t &e : s->gone) {
        if (e)
            cudaEventDestroy(e);
        e = nullptr;
    }
}

enum status staging_copy(struct staging *s, cudaStream_t stream, void *dst, const void *src, int64_t bytes, struct error *err)
{
    enum status status = STATUS_OK;
    for (int64_t at = 0; at < bytes && status == STATUS_OK; at += s->half_bytes, s->next ^= 1) {
        const size_t n = (size_t)std::min(s->half_bytes, bytes - at);
        char *half = s->buffer + s->next * s->half_bytes;
        status = GPU_TRY(err, cudaEventSynchronize(s->gone[s->next])); /* at once if nothing was ever recorded */
        if (status != STATUS_OK)
            break;
        memcpy(half, static_cast<const char *>(src) + at, n);
        status = GPU_TRY(err, cudaMemcpyAsync(static_cast<char *>(dst) + at, half, n, cudaMemcpyHostToDevice, stream));
        if (status == STATUS_OK)
            status = GPU_TRY(err, cudaEventRecord(s->gone[s->next], stream));
    }
    return status;
}
