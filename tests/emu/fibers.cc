/* fibers.cc - the threads of a block as fibers: barriers, warp exchanges and shared memory of the host emulation. */
#include <cstdio>
#include <cstdlib>
#include <map>
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
const int THREADS_MAX = 1024, WARPS_MAX = THREADS_MAX / 32;

enum wait { RUNNING, AT_BLOCK, AT_WARP, ENDED };

struct fiber {
    void *sp = nullptr;
    char *stack = nullptr;
    void *fake = nullptr; /* ASan's */
    uint3 at;
    enum wait wait = ENDED;
    unsigned mask = 0;      /* of the warp exchange it waits for */
    unsigned exchanges = 0; /* so far */
};

struct warp {
    unsigned char slot[2][32][16]; /* two: a lane is at most one exchange ahead of the others */
    int waiting = 0;               /* lanes at an exchange */
};

struct block {
    const std::function<void()> *body = nullptr;
    int n = 0, ended = 0, current = -1;
    fiber fibers[THREADS_MAX];
    warp warps[WARPS_MAX];
    std::vector<int> ready[WARPS_MAX];
    int n_ready = 0;
    std::map<const void *, std::unique_ptr<unsigned char[]>> shared;
    std::unique_ptr<unsigned char[]> dynamic;
    fiber scheduler;
} g;

/* Saves the callee-saved registers, leaves the stack in *from, takes up the one in to. System V, x86-64. */
extern "C" void emu_switch(void **from, void *to);
asm(".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emu_switch,.-emu_switch\n");

#if defined(__SANITIZE_ADDRESS__)
const void *scheduler_stack;
size_t scheduler_bytes;

void arrive(fiber *f, bool learn)
{
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(f->fake, &bottom, &bytes);
    if (learn) { /* came from the scheduler: remember whose stack that is */
        scheduler_stack = bottom;
        scheduler_bytes = bytes;
    }
}
#endif

void enter(fiber *from, fiber *to)
{
#if defined(__SANITIZE_ADDRESS__)
    const bool back = to == &g.scheduler;
    __sanitizer_start_switch_fiber(&from->fake, back ? scheduler_stack : to->stack, back ? scheduler_bytes : STACK_BYTES);
    emu_switch(&from->sp, to->sp);
    arrive(from, from != &g.scheduler);
#else
    emu_switch(&from->sp, to->sp);
#endif
}

void leave() /* the running fiber, to the scheduler */
{
    enter(&g.fibers[g.current], &g.scheduler);
}

/* A fiber lives for ever: it runs the body of one thread after the other. */
[[noreturn]] void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    arrive(&g.fibers[g.current], true);
#endif
    for (;;) {
        (*g.body)();
        g.fibers[g.current].wait = ENDED;
        g.ended++;
        leave();
    }
}

void make_stack(fiber *f)
{
    f->stack = (char *)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED)
        abort();
    void **top = (void **)(f->stack + STACK_BYTES) - 8;
    top[0] = (void *)fiber_main; /* where the first switch returns to, the stack as after a call */
    f->sp = top - 6;             /* six registers */
}

void resume(int i)
{
    fiber *f = &g.fibers[i];
    g.current = i;
    f->wait = RUNNING;
    threadIdx = f->at;
    enter(&g.scheduler, f);
}

void make_ready(int i)
{
    g.ready[i / 32].push_back(i);
    g.n_ready++;
}

/* True if all lanes of `mask` of the warp that begins at thread `begin` wait for the same exchange or have ended. */
bool complete(int begin, unsigned mask)
{
    for (int k = begin; k < begin + 32 && k < g.n; k++)
        if ((mask >> (k - begin) & 1) && g.fibers[k].wait != ENDED && !(g.fibers[k].wait == AT_WARP && g.fibers[k].mask == mask))
            return false;
    return true;
}

void release_if_complete(int begin, unsigned mask, int *waiting)
{
    const bool all = complete(begin, mask);
    for (int k = begin; all && k < begin + 32 && k < g.n; k++)
        if ((mask >> (k - begin) & 1) && g.fibers[k].wait == AT_WARP) {
            g.fibers[k].wait = RUNNING;
            make_ready(k);
            --*waiting;
        }
}

/* Thread i has come to an exchange or has ended: what that completes goes on. */
void release_warp(int i)
{
    const int begin = i / 32 * 32;
    int *waiting = &g.warps[i / 32].waiting;
    if (g.fibers[i].wait == AT_WARP) {
        ++*waiting;
        release_if_complete(begin, g.fibers[i].mask, waiting);
        return;
    }
    for (int k = begin; *waiting > 0 && k < begin + 32 && k < g.n; k++)
        if (g.fibers[k].wait == AT_WARP)
            release_if_complete(begin, g.fibers[k].mask, waiting);
}

void release_block()
{
    for (int i = 0; i < g.n; i++)
        if (g.fibers[i].wait != AT_BLOCK && g.fibers[i].wait != ENDED)
            return;
    for (int i = 0; i < g.n; i++)
        if (g.fibers[i].wait == AT_BLOCK) {
            g.fibers[i].wait = RUNNING;
            make_ready(i);
        }
}

/* The next thread to run. At random, but so that a warp tends to run far ahead of the others, as they may on a GPU. */
int choose(uint64_t *random)
{
    static unsigned w = 0;
    if (random && emu::next_random(random) % 32 == 0)
        w = (unsigned)(emu::next_random(random) % WARPS_MAX);
    while (g.ready[w].empty())
        w = (w + 1) % WARPS_MAX;
    std::vector<int> &lanes = g.ready[w];
    const size_t at = random ? emu::next_random(random) % lanes.size() : 0;
    const int chosen = lanes[at];
    lanes.erase(lanes.begin() + (long)at);
    g.n_ready--;
    return chosen;
}

void run_block(uint64_t *random)
{
    g.shared.clear();
    g.ended = 0;
    for (int i = 0; i < g.n; i++) {
        fiber *f = &g.fibers[i];
        f->at = uint3{(unsigned)i % blockDim.x, (unsigned)i / blockDim.x % blockDim.y, (unsigned)i / (blockDim.x * blockDim.y)};
        f->exchanges = 0;
        f->wait = RUNNING;
        if (!f->stack)
            make_stack(f);
        make_ready(i);
    }
    while (g.ended < g.n) {
        if (g.n_ready == 0)
            release_block();
        if (g.n_ready == 0) {
            fprintf(stderr, "emu: deadlock in block %u,%u,%u: %d of %d threads have ended, the others wait for a barrier\n",
                    blockIdx.x, blockIdx.y, blockIdx.z, g.ended, g.n);
            abort();
        }
        const int i = choose(random);
        resume(i);
        if (g.fibers[i].wait != AT_BLOCK)
            release_warp(i);
    }
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
    g.fibers[g.current].wait = AT_BLOCK;
    leave();
}

namespace emu
{

unsigned lane()
{
    return (unsigned)g.current % 32;
}

const unsigned char *exchange(unsigned mask, const void *value, size_t bytes)
{
    fiber *f = &g.fibers[g.current];
    warp *w = &g.warps[g.current / 32];
    unsigned char(*slot)[16] = w->slot[f->exchanges++ % 2];
    if (bytes > 16 || !(mask >> lane() & 1))
        abort();
    memcpy(slot[lane()], value, bytes);
    f->mask = mask;
    f->wait = AT_WARP;
    leave();
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
    for (int i = 0; i < 4; i++) { /* element (row, column) of c; row of a, column of b */
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < 8; k++)
            c[i] += half_of(all[row % 8 * 4 + k / 2].a[row / 8], k % 2) * half_of(all[column * 4 + k / 2].b, k % 2);
    }
}

void *shared(const void *place, size_t bytes)
{
    auto &p = g.shared[place];
    if (!p)
        p = garbage(bytes);
    return p.get();
}

void *shared_dynamic()
{
    return g.dynamic.get();
}

void run_grid(const std::function<void()> &body, dim3 grid, dim3 block, size_t shared_bytes, uint64_t *random)
{
    g.body = &body;
    g.n = (int)(block.x * block.y * block.z);
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = uint3{x, y, z};
                g.dynamic = garbage(shared_bytes ? shared_bytes : 1);
                run_block(random);
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
