/* runtime.cc - memory, streams and events of the host emulation. One lock: operations run in whichever thread makes them run. */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <sys/mman.h>

#include "tests/emu/emu_internal.h"

/* What an event stood for when it was recorded: `at` operations of a stream, and when the last of them ended. */
struct mark {
    CUstream_st *stream;
    uint64_t at;
    double ended_ms;
};

struct operation {
    std::function<void()> run;
    std::shared_ptr<mark> after;
};

struct CUstream_st {
    std::deque<operation> queue;
    uint64_t issued = 0, done = 0;
    bool running = false;
};

struct CUevent_st {
    std::shared_ptr<mark> last;
};

namespace
{

std::recursive_mutex lock;
emu_order order = EMU_EAGER;
uint64_t seed = 0;
const int64_t MEMORY_BYTES = INT64_C(1) << 30;
int64_t device_limit = MEMORY_BYTES, pinned_limit = MEMORY_BYTES, device_used = 0, pinned_used = 0;
int64_t calls = 0, fail_call = 0, launches = 0;
int driver_version = CUDART_VERSION, device_count = 1, capability = 8;
std::map<char *, size_t> device, pinned;
bool closed = false; /* device memory, while neither a kernel nor a copy is at work */
int at_work = 0;
std::vector<CUstream_st *> streams;
cudaError_t last_error = cudaSuccess;

double now_ms()
{
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

cudaError_t say(cudaError_t e)
{
    if (e != cudaSuccess)
        last_error = e;
    return e;
}

bool fails()
{
    return ++calls == fail_call;
}

#define ENTER                                                                                                                    \
    std::lock_guard<std::recursive_mutex> held(lock);                                                                            \
    if (fails())                                                                                                                 \
    return say(cudaErrorUnknown)

const size_t PAGE = 4096;

size_t pages(size_t bytes)
{
    return (bytes + PAGE) / PAGE * PAGE; /* one byte at least */
}

void close_blocks(int access)
{
    for (const auto &block : device)
        if (mprotect(block.first, pages(block.second), access) != 0)
            abort();
}

/* The time in which device memory may be touched. Under the lock, like everything. */
struct work {
    work()
    {
        if (at_work++ == 0 && closed)
            close_blocks(PROT_READ | PROT_WRITE);
    }
    ~work()
    {
        if (--at_work == 0 && closed)
            close_blocks(PROT_NONE);
    }
};

void run_until(CUstream_st *s, uint64_t n);

void run_one(CUstream_st *s)
{
    operation op = std::move(s->queue.front());
    s->queue.pop_front();
    s->running = true;
    if (op.after)
        run_until(op.after->stream, op.after->at);
    if (op.run) {
        work now;
        op.run();
    }
    s->running = false;
    s->done++;
}

/* Somebody else's turn, now and then. */
void run_some()
{
    while (order == EMU_SEEDED && emu::next_random(&seed) % 3 == 0) {
        CUstream_st *s = streams[emu::next_random(&seed) % streams.size()];
        if (!s->queue.empty() && !s->running)
            run_one(s);
    }
}

void run_until(CUstream_st *s, uint64_t n)
{
    while (s->done < n) {
        run_some();
        if (s->done < n)
            run_one(s);
    }
}

void issue(CUstream_st *s, std::function<void()> run, std::shared_ptr<mark> after = nullptr)
{
    s->queue.push_back(operation{std::move(run), std::move(after)});
    s->issued++;
    if (order == EMU_EAGER)
        run_until(s, s->issued);
    else
        run_some();
}

bool inside(const std::map<char *, size_t> &blocks, const void *p)
{
    auto next = blocks.upper_bound((char *)p);
    return next != blocks.begin() && (char *)p < std::prev(next)->first + std::prev(next)->second;
}

/* Memory that can be closed has pages of its own, and no red zones. */
void *pages_or_heap(bool own_pages, size_t bytes)
{
    void *p = nullptr;
    if (own_pages)
        p = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else if (posix_memalign(&p, PAGE, bytes ? bytes : 1) != 0)
        p = nullptr;
    return p == MAP_FAILED ? nullptr : p;
}

cudaError_t take(std::map<char *, size_t> &blocks, int64_t *used, int64_t limit, void **p, size_t bytes)
{
    const bool own_pages = closed && &blocks == &device;
    *p = (int64_t)bytes > limit - *used ? nullptr : pages_or_heap(own_pages, bytes);
    if (!*p)
        return say(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes); /* a NaN in every format */
    if (own_pages && at_work == 0)
        mprotect(*p, pages(bytes), PROT_NONE);
    blocks[(char *)*p] = bytes;
    *used += (int64_t)bytes;
    return cudaSuccess;
}

void drop(std::map<char *, size_t> &blocks, std::map<char *, size_t>::iterator it)
{
    if (closed && &blocks == &device)
        munmap(it->first, pages(it->second));
    else
        free(it->first);
    blocks.erase(it);
}

cudaError_t give(std::map<char *, size_t> &blocks, int64_t *used, void *p)
{
    auto it = blocks.find((char *)p);
    if (!p)
        return cudaSuccess;
    if (it == blocks.end())
        return say(cudaErrorInvalidValue);
    for (CUstream_st *s : streams) /* freeing waits for the device */
        run_until(s, s->issued);
    *used -= (int64_t)it->second;
    drop(blocks, it);
    return cudaSuccess;
}

void copy_rows(char *dst, size_t dst_pitch, const char *src, size_t src_pitch, size_t width, size_t height)
{
    for (size_t r = 0; r < height; r++)
        memcpy(dst + r * dst_pitch, src + r * src_pitch, width);
}

bool pageable(const void *p)
{
    return !inside(device, p) && !inside(pinned, p);
}

} // namespace

namespace emu
{
int launch(std::function<void()> body, dim3 grid, dim3 block, size_t shared_bytes, CUstream_st *stream)
{
    ENTER;
    if (grid.x * grid.y * grid.z == 0 || block.x * block.y * block.z == 0 || block.x * block.y * block.z > 1024 ||
        shared_bytes > 48 << 10)
        return say(cudaErrorInvalidValue);
    issue(stream, [=] {
        launches++;
        run_grid(body, grid, block, shared_bytes, order == EMU_EAGER && seed == 0 ? nullptr : &seed);
    });
    return cudaSuccess;
}

int host_work(std::function<void()> work, CUstream_st *stream)
{
    ENTER;
    issue(stream, std::move(work));
    return cudaSuccess;
}
} // namespace emu

extern "C" {

void emu_mode(enum emu_order o, uint64_t s)
{
    std::lock_guard<std::recursive_mutex> held(lock);
    order = o;
    seed = s;
}
void emu_memory(int64_t device_bytes, int64_t pinned_bytes)
{
    device_limit = device_bytes;
    pinned_limit = pinned_bytes;
}
void emu_reset(void)
{
    std::lock_guard<std::recursive_mutex> held(lock);
    while (!streams.empty()) { /* of a test that failed half way: what it had queued is dropped */
        delete streams.back();
        streams.pop_back();
    }
    for (auto *blocks : {&device, &pinned})
        while (!blocks->empty())
            drop(*blocks, blocks->begin());
    device_used = pinned_used = 0;
    order = EMU_EAGER;
    seed = 0;
    device_limit = pinned_limit = MEMORY_BYTES;
    driver_version = CUDART_VERSION;
    device_count = 1;
    capability = 8;
    calls = fail_call = 0;
    closed = false;
    last_error = cudaSuccess;
    emu_blas_mistake(EMU_NO_MISTAKE);
}
void emu_system(int driver, int devices)
{
    driver_version = driver;
    device_count = devices;
}
void emu_capability(int major)
{
    capability = major;
}
void emu_close_device(int close)
{
    if (!device.empty())
        abort();
    closed = close;
}
void emu_fail_at(int64_t n)
{
    calls = 0;
    fail_call = n;
}
int64_t emu_calls(void)
{
    return calls;
}
int64_t emu_launches(void)
{
    return launches;
}
int64_t emu_device_used(void)
{
    return device_used;
}

cudaError_t cudaGetLastError()
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : e == cudaErrorNoDevice       ? "cudaErrorNoDevice"
           : e == cudaSuccess             ? "cudaSuccess"
                                          : "cudaErrorUnknown";
}
const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "out of memory"
           : e == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
           : e == cudaSuccess             ? "no error"
                                          : "unknown error";
}

cudaError_t cudaDriverGetVersion(int *version)
{
    ENTER;
    *version = driver_version;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    ENTER;
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count)
{
    ENTER;
    *count = device_count;
    return device_count > 0 ? cudaSuccess : say(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device)
{
    ENTER;
    return device < device_count ? cudaSuccess : say(cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    ENTER;
    *p = cudaDeviceProp{"host emulation, no GPU", 0, 0, 1, 0};
    return device < device_count ? cudaSuccess : say(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    ENTER;
    snprintf(text, (size_t)bytes, "0000:00:%02X.0", (unsigned)device & 31);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all)
{
    ENTER;
    *free_bytes = (size_t)(device_limit - device_used);
    *all = (size_t)device_limit;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int)
{
    ENTER;
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? capability : 1; /* one multiprocessor */
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    ENTER;
    return take(device, &device_used, device_limit, p, bytes);
}
cudaError_t cudaFree(void *p)
{
    ENTER;
    return give(device, &device_used, p);
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    ENTER;
    return take(pinned, &pinned_used, pinned_limit, p, bytes);
}
cudaError_t cudaFreeHost(void *p)
{
    ENTER;
    return give(pinned, &pinned_used, p);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind)
{
    ENTER; /* our streams do not wait for the default one, nor it for them */
    work now;
    memcpy(dst, src, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width, size_t height,
                              cudaMemcpyKind, cudaStream_t s)
{
    ENTER;
    issue(s, [=] { copy_rows((char *)dst, dst_pitch, (const char *)src, src_pitch, width, height); });
    if (pageable(dst) || pageable(src)) /* such copies may return late: the emulation always does */
        run_until(s, s->issued);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    return cudaMemcpy2DAsync(dst, bytes, src, bytes, bytes, 1, kind, s);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    ENTER;
    issue(s, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    ENTER;
    *s = new CUstream_st;
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    ENTER;
    run_until(s, s->issued);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s)
            streams.erase(streams.begin() + (long)i);
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    ENTER;
    run_until(s, s->issued);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    ENTER;
    if (e->last)
        issue(s, nullptr, e->last);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    ENTER;
    *e = new CUevent_st;
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    ENTER;
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    ENTER;
    auto m = std::make_shared<mark>(mark{s, s->issued + 1, 0});
    e->last = m;
    issue(s, [m] { m->ended_ms = now_ms(); });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    ENTER;
    if (e->last)
        run_until(e->last->stream, e->last->at);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    ENTER;
    run_some();
    return !e->last || e->last->stream->done >= e->last->at ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    ENTER;
    if (!from->last || !to->last || to->last->stream->done < to->last->at)
        return say(cudaErrorNotReady);
    *ms = (float)(to->last->ended_ms - from->last->ended_ms);
    return cudaSuccess;
}

} /* extern "C" */
