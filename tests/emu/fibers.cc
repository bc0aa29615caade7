/* fibers.cc - the threads of a block as fibers: barriers, warp exchanges and shared memory of the host emulation. */
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <sys/mman.h>

extern "C" {
#include "executor/cpu/half.h"
}
#include "tests/emu/emu_internal.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

const size_t STACK_BYTES = 128 << 10;
const int LANES = 32, WARPS_MAX = 32, THREADS_MAX = LANES * WARPS_MAX;
const int NOBODY = -1;

struct fiber {
    void *sp = nullptr;
    char *stack = nullptr; /* its lowest byte */
    size_t bytes = STACK_BYTES;
    void *fake = nullptr; /* ASan's */
};

struct thread {
    uint3 at;
    fiber *on = nullptr;    /* once it has begun */
    unsigned mask = 0;      /* of the warp exchange it waits for */
    unsigned exchanges = 0; /* so far */
};

struct warp {
    unsigned char slot[2][LANES][16];                  /* two: a lane is at most one exchange ahead of the others */
    uint32_t all, ready, at_exchange, at_block, ended; /* lanes */
};

struct shared_array {
    const void *place;
    std::unique_ptr<unsigned char[]> bytes;
};

struct block {
    const std::function<void()> *body = nullptr;
    uint64_t *random = nullptr; /* NULL: threads in order */
    int n = 0, ended = 0, at_block = 0, current = NOBODY;
    unsigned warp = 0;  /* the one that runs ahead */
    uint32_t ready = 0; /* warps with such lanes */
    thread threads[THREADS_MAX];
    struct warp warps[WARPS_MAX];
    fiber fibers[THREADS_MAX], *idle[THREADS_MAX]; /* begun in this order, used again last in, first out */
    int n_idle = 0, n_fibers = 0;
    std::vector<shared_array> shared;
    std::unique_ptr<unsigned char[]> dynamic;
    fiber scheduler;
    bool from_scheduler = false;
} g;

/* Saves the callee-saved registers, leaves the stack in *from, takes up the one in to. System V, x86-64. */
extern "C" void emu_switch(void **from, void *to);
asm(".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emu_switch,.-emu_switch\n");

void arrive(fiber *f)
{
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(f ? f->fake : nullptr, &bottom, &bytes); /* NULL: it has just begun */
    if (g.from_scheduler) { /* which has the stack of whoever made the block run */
        g.scheduler.stack = (char *)(uintptr_t)bottom;
        g.scheduler.bytes = bytes;
    }
#else
    (void)f;
#endif
    g.from_scheduler = false;
}

void enter(fiber *from, fiber *to)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->bytes);
#endif
    emu_switch(&from->sp, to->sp);
    arrive(from);
}

/* -- who runs ------------------------------------------------------------------------------------------------------------- */

void make_ready(int w, uint32_t lanes)
{
    g.warps[w].ready |= lanes;
    g.ready |= lanes ? UINT32_C(1) << w : 0;
}

void release_block()
{
    if (g.at_block == 0 || g.at_block + g.ended < g.n)
        return;
    for (int w = 0; w * LANES < g.n; w++) {
        make_ready(w, g.warps[w].at_block);
        g.warps[w].at_block = 0;
    }
    g.at_block = 0;
}

/* Those who wait for an exchange of `mask` go on if all its lanes do or have ended. */
void release_exchange(int w, uint32_t mask)
{
    warp *p = &g.warps[w];
    const uint32_t lanes = mask & p->at_exchange;
    if (mask & p->all & ~(p->at_exchange | p->ended))
        return;
    for (uint32_t left = lanes; left; left &= left - 1)
        if (g.threads[w * LANES + __builtin_ctz(left)].mask != mask)
            return;
    p->at_exchange &= ~lanes;
    make_ready(w, lanes);
}

void end_thread(int i)
{
    warp *p = &g.warps[i / LANES];
    g.threads[i].on = nullptr;
    g.threads[i].exchanges = 0; /* for the next block */
    p->ended |= UINT32_C(1) << i % LANES;
    g.ended++;
    for (uint32_t left = p->at_exchange; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if (p->at_exchange >> lane & 1) /* still */
            release_exchange(i / LANES, g.threads[i / LANES * LANES + lane].mask);
    }
}

/* The first bit of `bits` from `from` on, around. */
int first_from(uint32_t bits, unsigned from)
{
    const uint32_t turned = from ? bits >> from | bits << (32 - from) : bits;
    return (int)((unsigned)__builtin_ctz(turned) + from) % 32;
}

/* The next thread to run; NOBODY when all have ended. At random, but so that a warp tends to run far ahead of the others, as they may on a
 * GPU. */
int choose()
{
    if (!g.ready)
        release_block();
    if (!g.ready) {
        if (g.ended == g.n)
            return NOBODY;
        fprintf(stderr, "emu: deadlock in block %u,%u,%u: %d of %d threads have ended, the others wait for a barrier\n",
                blockIdx.x, blockIdx.y, blockIdx.z, g.ended, g.n);
        abort();
    }
    const uint64_t r = g.random ? emu::next_random(g.random) : 1;
    if (r % 32 == 0)
        g.warp = (unsigned)(r >> 8) % WARPS_MAX;
    const int w = first_from(g.ready, g.warp);
    const int lane = first_from(g.warps[w].ready, g.random ? (unsigned)(r >> 16) % LANES : 0);
    g.warp = (unsigned)w;
    g.warps[w].ready &= ~(UINT32_C(1) << lane);
    if (!g.warps[w].ready)
        g.ready &= ~(UINT32_C(1) << w);
    return w * LANES + lane;
}

void make_current(int i)
{
    g.current = i;
    if (i != NOBODY)
        threadIdx = g.threads[i].at;
}

/* A fiber lives for ever: it runs the body of one thread after the other. A thread that never waits costs no switch. */
[[noreturn]] void fiber_main()
{
    arrive(nullptr);
    for (;;) {
        fiber *const self = g.threads[g.current].on;
        (*g.body)();
        end_thread(g.current);
        const int next = choose();
        make_current(next);
        if (next != NOBODY && !g.threads[next].on) {
            g.threads[next].on = self;
            continue;
        }
        g.idle[g.n_idle++] = self;
        enter(self, next == NOBODY ? &g.scheduler : g.threads[next].on);
    }
}

fiber *idle_fiber()
{
    if (g.n_idle > 0)
        return g.idle[--g.n_idle];
    fiber *f = &g.fibers[g.n_fibers++];
    f->stack = (char *)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED)
        abort();
    void **top = (void **)(f->stack + STACK_BYTES) - 8;
    top[0] = (void *)fiber_main; /* where the first switch returns to, the stack as after a call */
    f->sp = top - 6;             /* six registers */
    return f;
}

/* From `from` to the next thread. */
void run_next(fiber *from)
{
    const int next = choose();
    const bool stays = next == g.current;
    make_current(next);
    if (stays)
        return;
    if (!g.threads[next].on)
        g.threads[next].on = idle_fiber();
    enter(from, g.threads[next].on);
}

/* The running thread waits, as has been noted; others run until it may go on. */
void wait()
{
    run_next(g.threads[g.current].on);
}

void run_block()
{
    g.shared.clear();
    g.ended = g.at_block = 0;
    g.ready = 0;
    g.current = NOBODY;
    for (int w = 0; w * LANES < g.n; w++) {
        warp *p = &g.warps[w];
        p->all = g.n - w * LANES >= LANES ? ~UINT32_C(0) : (UINT32_C(1) << (g.n - w * LANES)) - 1;
        p->ready = p->at_exchange = p->at_block = p->ended = 0;
        make_ready(w, p->all);
    }
    g.from_scheduler = true;
    run_next(&g.scheduler); /* comes back when all have ended */
}

std::unique_ptr<unsigned char[]> garbage(size_t bytes)
{
    std::unique_ptr<unsigned char[]> p(new unsigned char[bytes]);
    memset(p.get(), 0xff, bytes); /* a NaN in every format */
    return p;
}

} // namespace

void __syncthreads()
{
    g.warps[g.current / LANES].at_block |= UINT32_C(1) << g.current % LANES;
    g.at_block++;
    wait();
}

namespace emu
{

unsigned lane()
{
    return (unsigned)g.current % LANES;
}

const unsigned char *exchange(unsigned mask, const void *value, size_t bytes)
{
    const int w = g.current / LANES;
    thread *t = &g.threads[g.current];
    unsigned char(*slot)[16] = g.warps[w].slot[t->exchanges++ % 2];
    if (bytes > 16 || !(mask >> lane() & 1))
        abort();
    memcpy(slot[lane()], value, bytes);
    t->mask = mask;
    g.warps[w].at_exchange |= UINT32_C(1) << lane();
    release_exchange(w, mask);
    wait();
    return slot[0];
}

static float half_of(unsigned pair, int which)
{
    return f16_to_f32((uint16_t)(pair >> 16 * which));
}

void mma_m16n8k8(float c[4], const unsigned a[2], unsigned b)
{
    struct held {
        unsigned a[2], b, unused;
    } all[32], mine = {{a[0], a[1]}, b, 0};
    memcpy(all, exchange(0xffffffffu, &mine, sizeof mine), sizeof all);
    const int g = (int)lane() / 4, t = (int)lane() % 4;
    float row[2][8], column[2][8]; /* of a: g and g + 8; of b: 2t and 2t + 1 */
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 8; k++) {
            row[i][k] = half_of(all[4 * g + k / 2].a[i], k % 2);
            column[i][k] = half_of(all[4 * (2 * t + i) + k / 2].b, k % 2);
        }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 8; k++)
            c[i] += row[i / 2][k] * column[i % 2][k];
}

void *shared(const void *place, size_t bytes)
{
    for (const shared_array &a : g.shared)
        if (a.place == place)
            return a.bytes.get();
    g.shared.push_back({place, garbage(bytes)});
    return g.shared.back().bytes.get();
}

void *shared_dynamic()
{
    return g.dynamic.get();
}

void run_grid(const std::function<void()> &body, dim3 grid, dim3 block, size_t shared_bytes, uint64_t *random)
{
    g.body = &body;
    g.random = random;
    g.warp = 0;
    g.n = (int)(block.x * block.y * block.z);
    gridDim = grid;
    blockDim = block;
    for (int i = 0; i < g.n; i++)
        g.threads[i].at = uint3{(unsigned)i % block.x, (unsigned)i / block.x % block.y, (unsigned)i / (block.x * block.y)};
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = uint3{x, y, z};
                g.dynamic = shared_bytes ? garbage(shared_bytes) : nullptr;
                run_block();
            }
}

} // namespace emu

void __syncwarp(unsigned mask)
{
    emu::exchange(mask, "", 1);
}

unsigned __ballot_sync(unsigned mask, int predicate)
{
    const unsigned char mine = predicate != 0, *all = emu::exchange(mask, &mine, 1);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (unsigned)(mask >> i & 1 ? all[16 * i] : 0) << i;
    return bits;
}
