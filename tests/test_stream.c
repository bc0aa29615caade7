/* Who is under way when: worked examples, and pages that nobody shares. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/cost.h"
#include "model/placement.h"
#include "model/stream.h"
#include "tests/machine.h"

static struct policy diagonal(int batch, int batches)
{
    struct policy p;
    policy_default(&p, 2);
    p.schedule = SCHEDULE_DIAGONAL;
    p.gpu_batch_size = batch;
    p.num_gpu_batches = batches;
    return p;
}

/* 6 tokens, 3 under way: one enters every 2 passes, 7 batches for 14 sequences: the last at pass 12, 18 passes. */
Test(stream, a_diagonal_enters_every_n_over_k_passes)
{
    struct workload w = {10, 6, 14};
    struct policy p = diagonal(2, 3);
    cr_assert_eq(stream_batches(&w, &p), 7);
    for (int b = 0; b < 7; b++)
        cr_assert_eq(stream_entry(&w, &p, b), 2 * b);
    cr_assert_eq(stream_passes(&w, &p), 18);
    cr_assert_eq(stream_entering_most(&w, &p), 1);
    /* pass 5: batches 0, 1, 2 at steps 5, 3, 1; the next pass is the first of batch 3 */
    cr_assert(!stream_ends_pass(&w, &p, 1, 3));
    cr_assert(stream_ends_pass(&w, &p, 2, 1));
}

/* 4 tokens, 6 under way: b * 4 / 6, rounded down. */
Test(stream, more_batches_than_tokens_enter_together)
{
    static const int entry[] = {0, 0, 1, 2, 2, 3, 4, 4};
    struct workload w = {10, 4, 8};
    struct policy p = diagonal(1, 6);
    for (int b = 0; b < 8; b++)
        cr_assert_eq(stream_entry(&w, &p, b), entry[b]);
    cr_assert_eq(stream_entering_most(&w, &p), 2);
}

Test(stream, zigzag_goes_together_and_row_one_by_one)
{
    struct workload w = {10, 6, 14};
    struct policy p = diagonal(2, 3);
    p.schedule = SCHEDULE_ZIGZAG;
    cr_assert_eq(stream_batches(&w, &p), 3);
    cr_assert_eq(stream_passes(&w, &p), 6);
    p.schedule = SCHEDULE_ROW;
    cr_assert_eq(stream_entry(&w, &p, 2), 12);
    cr_assert_eq(stream_passes(&w, &p), 18);
}

/* s = 16, n = 65: full length is 80 tokens, 5 pages. 4 under way, 65/4 apart: when one is at step 64 the others are at 48, 32 and 16 (of
 * entries 0, 16, 32, 48: pass 64). 80, 64, 48 and 32 tokens are 5 + 4 + 3 + 2 = 14 pages against 20 for whole batches. After other
 * entries (pass 65 + 15 = 80, steps 64, 48, 32 and 15) it is 5 + 4 + 3 + 2 again. */
Test(stream, a_diagonal_holds_the_cache_of_batches_at_different_steps)
{
    struct workload w = {16, 65, 0};
    struct policy p = diagonal(1, 4);
    cr_assert_eq(stream_cache_tokens(&w, &p), 14 * 16);
    p.schedule = SCHEDULE_ZIGZAG;
    cr_assert_eq(stream_cache_tokens(&w, &p), 4 * 80);
}

/* The theorem's ratio for n >> s: (2s + 2n) / (2s + n), here 2 * 1040 / 1056 = 1.97, less 8 tokens a batch in half-empty pages. */
Test(stream, long_answers_need_nearly_half_the_cache)
{
    struct workload w = {16, 1024, 0};
    struct policy p = diagonal(1, 64);
    double ratio = 64.0 * 1039 / (double)stream_cache_tokens(&w, &p);
    cr_assert(ratio > 1.90 && ratio < 1.97, "%g", ratio);
}

static uint64_t state;

static int64_t below(int64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)n);
}

/* In every pass the pages of all under way differ and are within the number planned, and at some pass all are in use. */
Test(stream, random_streams_never_share_a_page)
{
    const char *seed = getenv("BALLAST_SEED");
    struct error err = {0};
    state = seed ? strtoull(seed, NULL, 10) : 5;
    printf("stream: BALLAST_SEED=%llu\n", (unsigned long long)state);
    for (int i = 0; i < 200; i++) {
        struct workload w = {1 + below(60), 1 + below(90), 0};
        struct policy p = diagonal(1 + (int)below(3), 1 + (int)below(9));
        w.sequences = below(60);
        int32_t *page;
        int64_t planned = stream_cache_tokens(&w, &p) / CACHE_PAGE_TOKENS, per_batch = stream_pages_per_batch(&w), most = 0;
        cr_assert_eq(stream_pages_new(&page, &w, &p, &err), STATUS_OK);
        for (int64_t pass = 0; pass < stream_passes(&w, &p); pass++) {
            char *used = calloc((size_t)planned, 1);
            int64_t n = 0;
            for (int64_t b = 0; b < stream_batches(&w, &p); b++) {
                int64_t step = pass - stream_entry(&w, &p, b), tokens = w.prompt_tokens + step;
                if (step < 0 || step >= w.gen_tokens)
                    continue;
                tokens = tokens < cache_tokens(&w) ? tokens : cache_tokens(&w);
                for (int64_t q = 0; q * CACHE_PAGE_TOKENS < tokens; q++, n++) {
                    int32_t at = page[b * per_batch + q];
                    cr_assert(at >= 0 && at < planned, "case %d", i);
                    cr_assert_eq(used[at], 0, "case %d, pass %lld: page %d twice", i, (long long)pass, at);
                    used[at] = 1;
                }
            }
            most = n > most ? n : most;
            free(used);
        }
        /* 2k batches are enough for one full period */
        if (stream_batches(&w, &p) >= 2 * p.num_gpu_batches)
            cr_assert_eq(most, planned, "case %d: %lld of %lld pages", i, (long long)most, (long long)planned);
        free(page);
    }
}

/* What the sums mean, pass by pass. */
static void count_by_passes(const struct workload *w, const struct policy *p, struct stream_sum sum[2])
{
    double decoding[2] = {0}, seen[2] = {0}, entering[2] = {0}, passes[2] = {0};
    for (int64_t pass = 0; pass < stream_passes(w, p); pass++) {
        int64_t at_step[2] = {0}, tokens = 0; /* at their prefill; at a later step */
        for (int64_t b = 0; b < stream_batches(w, p); b++) {
            int64_t step = pass - stream_entry(w, p, b);
            if (step >= 0 && step < w->gen_tokens) {
                at_step[step > 0]++;
                tokens += step > 0 ? w->prompt_tokens + step : 0;
            }
        }
        int kind = at_step[0] == 0;
        passes[kind]++;
        entering[kind] += (double)at_step[0];
        decoding[kind] += (double)at_step[1];
        seen[kind] += (double)tokens;
    }
    for (int kind = 0; kind < 2; kind++)
        sum[kind] = (struct stream_sum){passes[kind], entering[kind] * p->gpu_batch_size, decoding[kind] * p->gpu_batch_size,
                                        decoding[kind] > 0 ? seen[kind] / decoding[kind] : (double)w->prompt_tokens};
}

#define CLOSE(a, b) cr_assert_float_eq(a, b, 1e-9 * (b) + 1e-12, "case %d: %.12g is not %.12g", i, (double)(a), (double)(b))

Test(stream, sums_are_those_of_all_passes)
{
    state = 7;
    for (int i = 0; i < 500; i++) {
        struct workload w = {1 + below(60), 1 + below(40), below(3) ? below(90) : 0};
        struct policy p = diagonal(1 + (int)below(3), 1 + (int)below(60));
        struct stream_sum sum[2], oracle[2];
        stream_count(&w, &p, sum);
        count_by_passes(&w, &p, oracle);
        for (int kind = 0; kind < 2; kind++) {
            CLOSE(sum[kind].passes, oracle[kind].passes);
            CLOSE(sum[kind].entering, oracle[kind].entering);
            CLOSE(sum[kind].decoding, oracle[kind].decoding);
            CLOSE(sum[kind].visible, oracle[kind].visible);
        }
    }
}

/* Everything for the same number of sequences: a box's sums are at most those of its points, and not idly so. */
Test(stream, a_box_of_sizes_is_below_its_points)
{
    double tight = 0;
    int n = 0;
    state = 11;
    for (int i = 0; i < 3000; i++) {
        struct workload w = {1 + below(60), 1 + below(40), below(3) ? 1 + below(2000) : 0};
        struct policy low = diagonal(1 + (int)below(8), 1 + (int)below(60)), high = low, p;
        struct stream_sum box[2], sum[2];
        high.gpu_batch_size += (int)below(8);
        high.num_gpu_batches += (int)below(30);
        if (low.num_gpu_batches <= w.gen_tokens && high.num_gpu_batches > w.gen_tokens)
            high.num_gpu_batches = (int)w.gen_tokens;
        p = diagonal(low.gpu_batch_size + (int)below(high.gpu_batch_size - low.gpu_batch_size + 1),
                     low.num_gpu_batches + (int)below(high.num_gpu_batches - low.num_gpu_batches + 1));
        double most = (double)(policy_block(&p) + below(100)),
               per = w.sequences ? 1 : (double)policy_block(&low) / (double)policy_block(&p);
        stream_count_least(&w, &low, &high, most, box);
        stream_count(&w, &p, sum);
        for (int kind = 0; kind < 2; kind++) {
            cr_assert_leq(box[kind].passes, sum[kind].passes * per * (1 + 1e-12), "case %d.%d: passes", i, kind);
            cr_assert_leq(box[kind].entering, sum[kind].entering * per * (1 + 1e-12), "case %d.%d: entering", i, kind);
            cr_assert_leq(box[kind].decoding, sum[kind].decoding * per * (1 + 1e-12), "case %d.%d: decoding", i, kind);
            if (sum[kind].decoding > 0)
                cr_assert_leq(box[kind].visible, sum[kind].visible * (1 + 1e-12), "case %d.%d: visible", i, kind);
        }
        /* of one number of batches, in all and under way, all but the passes scale with the size of a batch */
        if (low.num_gpu_batches == high.num_gpu_batches && stream_batches(&w, &low) == stream_batches(&w, &high)) {
            double size = w.sequences ? (double)p.gpu_batch_size / low.gpu_batch_size : 1;
            for (int kind = 0; kind < 2; kind++)
                CLOSE(box[kind].decoding * size, sum[kind].decoding * per);
        }
        if (policy_block(&high) == policy_block(&low)) {
            tight += (box[0].decoding + box[1].decoding) / (sum[0].decoding + sum[1].decoding + 1e-9);
            n++;
        }
    }
    cr_assert(n > 10 && tight / n > 0.7, "%d boxes of one size hold %.2f of their decode steps", n, tight / n);
}

/* 4 tokens, 2 under way, 4 batches of 1: entries 0, 2, 4, 6, 10 passes. With entries 0 2 4 6; without 1 3 5 7 8 9. Decode batches with an
 * entry: 0, 1, 1, 1 = 3 in 4; without: 1, 2, 2, 2, 1, 1 = 9 in 6. */
Test(stream, the_cost_table_averages_over_passes_with_and_without_entries)
{
    struct arch a = {0};
    struct hardware hw = test_machine(2, "bf16");
    struct workload w = {64, 4, 4};
    struct policy p = diagonal(1, 2), one = diagonal(1, 1);
    struct cost c, z;
    struct error err = {0};
    cr_assert_eq(arch_load(&a, "opt-125m", &err), STATUS_OK);
    cr_assert_eq(cost_build(&c, &a, &hw, &w, &p, &err), STATUS_OK);
    cr_assert_eq(c.steps[PHASE_PREFILL], 4);
    cr_assert_eq(c.steps[PHASE_DECODE], 6);
    cr_assert_eq(c.tokens, 16);
    /* stored rows of cache: a prompt of 64 and 3/4 of a token, or 9/6 of one; each 12 layers of 2 * 768 fp16, at 1 GB/s, in whole
     * sectors of 4096 bytes on the disk: 3072 bytes are one sector */
    double row = 12 * 4096 / 1e9;
    cr_assert_float_eq(c.busy[PHASE_PREFILL][resource_link_write(0)].coef[CLASS_CACHE][1], (64 + 0.75) * row, 1e-9);
    cr_assert_float_eq(c.busy[PHASE_DECODE][resource_link_write(0)].coef[CLASS_CACHE][1], 1.5 * row, 1e-9);
    /* all batches' work is the same as one by one: 4 prefills and 12 decode steps, but for weights, which pass 10 times, not 16 */
    cr_assert_eq(cost_build(&z, &a, &hw, &w, &one, &err), STATUS_OK);
    int unit = resource_compute(&hw, 0);
    double together = 0, single = 0;
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        together += c.steps[ph] * c.busy[ph][unit].base;
        single += z.steps[ph] * z.busy[ph][unit].base;
    }
    cr_assert_float_eq(together, single, 1e-9 * single);
    cr_assert_eq(z.steps[PHASE_PREFILL] + z.steps[PHASE_DECODE], 16);
    arch_free(&a);
}
