/* test_emulation.c - the host emulation itself: it must let happen what a GPU may do. */
#include <cuda_runtime.h>
#include <math.h>
#include <signal.h>

#include "tests/emu/emu.h"
#include "tests/kernel_test.h"

int self_reverse(cudaStream_t s, const float *x, float *y, int barrier);
int self_warp(cudaStream_t s, const float *x, float *sum, unsigned *positive);

enum { N = 64 };

static cudaStream_t new_stream(void)
{
    cudaStream_t s;
    cr_assert_eq(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), 0);
    return s;
}

Test(emulation, a_barrier_makes_the_others_writes_visible_and_its_absence_shows)
{
    float x[N], y[N];
    int wrong = 0;
    cudaStream_t s = new_stream();
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    for (int barrier = 1; barrier >= 0; barrier--) {
        emu_mode(EMU_EAGER, test_seed("barrier"));
        cr_assert_eq(self_reverse(s, x, y, barrier), 0);
        for (int i = 0; i < N; i++)
            wrong += y[i] != (float)(N - 1 - i); /* garbage is NaN, unequal to anything */
        if (barrier)
            cr_assert_eq(wrong, 0);
        else
            cr_assert_gt(wrong, 0, "the race went unnoticed");
    }
    cudaStreamDestroy(s);
}

Test(emulation, shuffles_and_ballots_see_their_own_warp)
{
    /* warp 0 holds 0..31, of which 31 are positive, with sum 496; warp 1 holds -32..-63: sum -(32 + ... + 63) = -1520 */
    float x[N], sum[N];
    unsigned positive[N];
    cudaStream_t s = new_stream();
    for (int i = 0; i < N; i++)
        x[i] = (float)(i < 32 ? i : -i);
    emu_mode(EMU_EAGER, test_seed("warp"));
    cr_assert_eq(self_warp(s, x, sum, positive), 0);
    for (int i = 0; i < N; i++) {
        cr_assert_eq(sum[i], i < 32 ? 496.0f : -1520.0f);
        cr_assert_eq(positive[i], i < 32 ? 0xfffffffeu : 0u);
    }
    cudaStreamDestroy(s);
}

Test(emulation, what_nobody_waits_for_does_not_happen_and_events_order_streams)
{
    float x[N] = {0}, *up, *down;
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t e;
    cr_assert_eq(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), 0);
    cr_assert_eq(cudaHostAlloc((void **)&up, sizeof x, 0), 0);
    cr_assert_eq(cudaHostAlloc((void **)&down, sizeof x, 0), 0);
    memset(up, 0, sizeof x);
    memset(down, 0, sizeof x);
    up[0] = 1;
    emu_mode(EMU_LATE, test_seed("late"));
    cr_assert_eq(cudaMemcpyAsync(down, up, sizeof x, cudaMemcpyDefault, a), 0);
    cr_assert_eq(cudaEventRecord(e, a), 0);
    cr_assert_eq(down[0], 0.0f, "the copy did not wait to be asked for");
    up[0] = 2; /* too early: the copy may read it, and here it does */
    cr_assert_eq(cudaStreamWaitEvent(b, e, 0), 0);
    cr_assert_eq(cudaStreamSynchronize(b), 0);
    cr_assert_eq(down[0], 2.0f, "stream b waited for the event without what comes before it");
    emu_mode(EMU_EAGER, 0);
    cudaEventDestroy(e);
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
    cudaFreeHost(up);
    cudaFreeHost(down);
}

Test(emulation, device_memory_has_a_limit_and_calls_can_fail)
{
    void *p, *q;
    emu_memory(1000, 1000);
    cr_assert_eq(cudaMalloc(&p, 600), 0);
    cr_assert_eq(cudaMalloc(&q, 401), cudaErrorMemoryAllocation, "600 + 401 bytes of 1000: expected out of memory");
    cr_assert_eq(cudaMalloc(&q, 400), 0);
    cr_assert_eq(emu_device_used(), 1000);
    cudaFree(p);
    emu_fail_at(2);
    cr_assert_eq(cudaMalloc(&p, 1), 0);
    cudaFree(p); /* the second call: fails, and keeps the memory */
    emu_fail_at(0);
    cr_assert_eq(emu_device_used(), 401);
    cudaFree(p);
    cudaFree(q);
    cr_assert_eq(emu_device_used(), 0);
}

Test(emulation, a_copy_reaches_closed_device_memory)
{
    float x = 1, y = 0, *p;
    emu_close_device(1);
    cr_assert_eq(cudaMalloc((void **)&p, sizeof x), 0);
    cr_assert_eq(cudaMemcpy(p, &x, sizeof x, cudaMemcpyDefault), 0);
    cr_assert_eq(cudaMemcpy(&y, p, sizeof x, cudaMemcpyDefault), 0);
    cr_assert_eq(y, 1.0f);
    cudaFree(p);
    emu_close_device(0);
}

Test(emulation, the_host_does_not_reach_closed_device_memory, .signal = SIGSEGV)
{
    volatile float *p;
    signal(SIGSEGV, SIG_DFL); /* a sanitizer has its own idea */
    emu_close_device(1);
    cr_assert_eq(cudaMalloc((void **)&p, sizeof *p), 0);
    *p = 1;
}
