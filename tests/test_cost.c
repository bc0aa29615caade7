/* The cost table against arithmetic by hand, on a machine with round rates and OPT-125M's shape. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "tests/scene.h"

static struct cost build(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct policy *p)
{
    struct cost c;
    struct error err = {0};
    cr_assert_eq(cost_build(&c, a, hw, w, p, &err), STATUS_OK, "%s", err.text);
    return c;
}

Test(cost, a_transfer_takes_its_latency_and_its_bytes_over_the_bandwidth)
{
    struct hardware hw = test_machine(2, "f32");
    hw.link[0].read_latency_s = 1e-3;
    /* 2 GB over 1 GB/s and 1 ms: 2.001 s; writes have no latency here; nothing takes no time */
    CLOSE(cost_transfer_s(&hw, 0, false, 2e9), 2.001);
    CLOSE(cost_transfer_s(&hw, 0, true, 2e9), 2.0);
    CLOSE(cost_transfer_s(&hw, 0, false, 0), 0.0);
}

/* 1.3 G weights of two bytes, all in the host's pageable memory, come up once a step: link 0 is busy bytes / 0.5 GB/s instead of bytes /
 * 1 GB/s. What lives on the disk comes up out of the pinned ring, and the host's memory holds UPLOAD_BYTES more. */
Test(cost, pageable_weights_come_up_at_a_rate_of_their_own)
{
    struct arch a = load("opt-1.3b");
    struct hardware hw = test_machine(3, "f32");
    struct workload w = {16, 4, 0};
    struct policy p;
    struct error err = {0};
    const int up = resource_link_read(0);
    policy_default(&p, 3);
    struct cost pinned = build(&a, &hw, &w, &p);
    p.pageable_weights = true;
    struct cost unknown;
    hw.link[0].pageable_read_bytes_per_s.n = 0;
    cr_assert_eq(cost_build(&unknown, &a, &hw, &w, &p, &err), STATUS_INVALID);
    cr_assert_str_eq(err.text,
                     "hardware test: the link between device and ram has no pageable_read rate, which the policy's pageable "
                     "weights need");
    hw.link[0].pageable_read_bytes_per_s = flat(0.5e9);
    struct cost c = build(&a, &hw, &w, &p);
    for (int ph = 0; ph < PHASE_COUNT; ph++) {
        CLOSE(c.busy[ph][up].coef[CLASS_WEIGHT][1], 2 * pinned.busy[ph][up].coef[CLASS_WEIGHT][1]);
        CLOSE(c.busy[ph][up].coef[CLASS_WEIGHT][2], pinned.busy[ph][up].coef[CLASS_WEIGHT][2]);
        CLOSE(c.busy[ph][up].coef[CLASS_CACHE][1], pinned.busy[ph][up].coef[CLASS_CACHE][1]);
        CLOSE(c.peak[ph][1].base, pinned.peak[ph][1].base + UPLOAD_BYTES);
        CLOSE(c.peak[ph][0].base, pinned.peak[ph][0].base);
    }
    cr_assert_eq(hardware_scale(&hw, "ram->device=2", &err), STATUS_OK, "%s", err.text);
    struct cost faster = build(&a, &hw, &w, &p);
    CLOSE(faster.busy[0][up].coef[CLASS_WEIGHT][1], c.busy[0][up].coef[CLASS_WEIGHT][1] / 2);
    /* without a device there is nothing that memory must be pinned for */
    struct hardware two = test_machine(2, "f32");
    policy_default(&p, 2);
    struct cost plain = build(&a, &two, &w, &p);
    p.pageable_weights = true;
    struct cost same = build(&a, &two, &w, &p);
    cr_assert_eq(memcmp(&same, &plain, sizeof same), 0);
    arch_free(&a);
}

Test(cost, an_mlp_layer_is_its_products_its_passes_and_its_launch)
{
    struct arch a = load("opt-125m"); /* d = 768, f = 3072 */
    struct hardware hw = test_machine(2, "f32");
    const struct layer *mlp = &a.layer[2];
    cr_assert_eq(mlp->kind, LAYER_MLP);
    /* 4 sequences x 16 tokens = 64 rows: 2 * 2*768*3072 * 64 FLOPs at 100 GFLOP/s, 64 rows * 5*768 * 4 B at 10 GB/s, 5 us */
    double products = 2.0 * 2 * 768 * 3072 * 64 / 100e9, passes = 64.0 * 5 * 768 * 4 / 10e9;
    CLOSE(cost_layer_s(&hw.compute[0], &a, mlp, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), products + passes + 5e-6);
    arch_free(&a);
}

/* On a device one operation is launched while another is at work, so it takes the longer of both: of 10 operations all launches or all work. The
 * embedding begins on an idle unit. A runtime's unit has both, and so has a processor. */
Test(cost, a_launch_passes_behind_work_where_a_unit_queues)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(3, "f32");
    struct compute *u = &hw.compute[0];
    const struct layer *mlp = &a.layer[2], *embed = &a.layer[0];
    const double work = cost_work_s(u, &a, mlp, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), passes = 64.0 * 3 * 768 * 4 / 10e9;
    CLOSE(cost_layer_s(u, &a, mlp, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), 5e-6 + work);
    u->threads = 0;
    CLOSE(cost_layer_s(u, &a, mlp, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), work);
    u->launch_s = 1.5 * work;
    CLOSE(cost_layer_s(u, &a, mlp, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), 1.5 * work);
    CLOSE(cost_layers_s(u, &a, mlp, FORMAT_F16, FORMAT_F16, 1, 40, 10, 4, 4, 16, 16), 15 * work);
    CLOSE(cost_layer_s(u, &a, embed, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), 1.5 * work + passes);
    u->whole_batch = true;
    CLOSE(cost_layer_s(u, &a, mlp, FORMAT_F16, FORMAT_F16, 1, 4, 16, 16), 2.5 * work);
    arch_free(&a);
}

/* Near the cache a layer is two operations. Products and passes take P, attention at home A. The launch L = P + 2/3 A is longer than what is before
 * and behind attention, but with all cache at home the first half works 3/4 P + A against 3/4 P + 1/2 A of launching. */
Test(cost, near_the_cache_each_half_of_a_layer_hides_its_launch)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(3, "f32");
    struct compute *u = &hw.compute[0];
    const double attend = cost_attend_s(u, &a.layer[1], FORMAT_F16, 1, 4, 1, 100),
                 rest = cost_work_s(u, &a, &a.layer[1], FORMAT_F16, FORMAT_F16, 1, 4, 1, 100) - attend;
    struct near_times n = cost_near_s(u, &a, &a.layer[1], FORMAT_F16, FORMAT_F16, 1, 4, 1, 4, 4, 100);
    CLOSE(n.project_s, 5e-6 + rest);
    CLOSE(n.home_s, attend);
    u->threads = 0;
    u->launch_s = rest + attend * 2 / 3;
    n = cost_near_s(u, &a, &a.layer[1], FORMAT_F16, FORMAT_F16, 1, 4, 1, 4, 4, 100);
    CLOSE(n.project_s, rest + attend * 2 / 3);
    CLOSE(n.home_s, attend / 2);
    arch_free(&a);
}

Test(cost, attention_counts_visible_pairs_in_prefill_and_cache_bytes_in_decode)
{
    struct arch a = load("opt-125m"); /* H = 12, e = 64 */
    struct hardware hw = test_machine(2, "f32");
    const struct layer *l = &a.layer[1];
    /* prefill of 16 tokens: 16*17/2 = 136 pairs, 4*12*64 FLOPs each, 3 sequences, 50 GFLOP/s */
    CLOSE(cost_attend_s(&hw.compute[0], l, FORMAT_F16, 1, 3, 16, 16), 3 * 136 * 4.0 * 768 / 50e9);
    /* decode with 100 tokens: 100 keys and values of 768 fp16 elements, 3 sequences, 10 GB/s */
    CLOSE(cost_attend_s(&hw.compute[0], l, FORMAT_F16, 1, 3, 1, 100), 3 * 100 * 2 * 768 * 2.0 / 10e9);
    /* sparse, 0.1: all 100 keys, and the values of the newest and of 9.9 of the 99 others */
    CLOSE(cost_attend_s(&hw.compute[0], l, FORMAT_F16, 0.1, 3, 1, 100), 3 * (100 + 1 + 9.9) * 768 * 2.0 / 10e9);
    CLOSE(cost_attend_s(&hw.compute[0], l, FORMAT_F16, 0.1, 3, 16, 16), 3 * 136 * 4.0 * 768 / 50e9);
    arch_free(&a);
}

Test(cost, weights_on_the_disk_cross_the_link_once_a_step)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "f32");
    struct workload w = {32, 5, 0};
    struct policy p;
    policy_default(&p, 2);
    p.gpu_batch_size = 4;
    struct cost c = build(&a, &hw, &w, &p);
    /* 12 blocks of 4*768^2 + 2*768*3072 and the table of 50272*768, fp16, over 1 GB/s, for all of it on the disk */
    double bytes = 2.0 * (12 * (4.0 * 768 * 768 + 2.0 * 768 * 3072) + 50272.0 * 768);
    CLOSE(c.busy[PHASE_DECODE][resource_link_read(0)].coef[CLASS_WEIGHT][1], bytes / 1e9);
    CLOSE(c.busy[PHASE_PREFILL][resource_link_read(0)].coef[CLASS_WEIGHT][1], bytes / 1e9);
    CLOSE(c.steps[PHASE_DECODE], 4.0);
    CLOSE(c.tokens, 20.0);
    arch_free(&a);
}

/* 4 x 2 = 8 sequences a block, 5 tokens each. 20 of them take three blocks, the last with 4 copies that nobody asked for: three times the
 * time of a block for 20 * 5 tokens. 8 take one block, and so do 3. */
Test(cost, sequences_are_served_block_after_block)
{
    static const struct {
        int64_t sequences;
        double runs;
    } cases[] = {{20, 3}, {8, 1}, {3, 1}, {16, 2}, {17, 3}};
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "f32");
    struct workload w = {32, 5, 0};
    struct policy p;
    struct prediction block, all;
    p = block_policy(2, 4, 2);
    struct cost c = build(&a, &hw, &w, &p);
    cost_predict(&c, p.fraction, &block);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        w.sequences = cases[i].sequences;
        c = build(&a, &hw, &w, &p);
        cost_predict(&c, p.fraction, &all);
        CLOSE(c.runs, cases[i].runs);
        CLOSE(c.tokens, 5.0 * (double)cases[i].sequences);
        CLOSE(c.steps[PHASE_DECODE], 4 * cases[i].runs);
        CLOSE(all.latency_s, cases[i].runs * block.latency_s);
        CLOSE(all.throughput_tok_s, c.tokens / all.latency_s);
        CLOSE(all.peak_bytes[PHASE_DECODE][0], block.peak_bytes[PHASE_DECODE][0]);
    }
    arch_free(&a);
}

Test(cost, a_cache_on_the_disk_is_written_in_prefill_and_read_whole_in_decode)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "bf16");
    struct workload w = {32, 5, 0};
    struct policy p;
    policy_default(&p, 2);
    p.gpu_batch_size = 4;
    struct cost c = build(&a, &hw, &w, &p);
    double row = 12 * 2 * 768 * 2.0; /* bytes of a token over all layers */
    /* prefill writes 4 sequences of 32 tokens; a decode step reads what is there, 32, 33, 34, 35 before steps 1..4: 33.5 on average */
    CLOSE(c.busy[PHASE_PREFILL][resource_link_write(0)].coef[CLASS_CACHE][1], 4 * 32 * row / 1e9);
    CLOSE(c.busy[PHASE_DECODE][resource_link_read(0)].coef[CLASS_CACHE][1], 4 * 33.5 * row / 1e9);
    CLOSE(c.busy[PHASE_DECODE][resource_link_write(0)].coef[CLASS_CACHE][1], 4 * row / 1e9);
    arch_free(&a);
}

Test(cost, attention_near_the_cache_moves_queries_not_the_cache)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(3, "bf16");
    struct workload w = {32, 5, 0};
    struct policy p;
    policy_default(&p, 3);
    p.gpu_batch_size = 4;
    p.attention_near_cache = true;
    struct cost c = build(&a, &hw, &w, &p);
    /* per layer 4 sequences x 768 floats up, 3 x 768 down; nothing of the cache on tier 1 crosses link 0 upwards */
    CLOSE(c.busy[PHASE_DECODE][resource_link_read(0)].coef[CLASS_CACHE][1], 12 * 4 * 768 * 4.0 / 1e9);
    CLOSE(c.busy[PHASE_DECODE][resource_link_write(0)].coef[CLASS_CACHE][1], 12 * 4 * 3 * 768 * 4.0 / 1e9);
    /* unit 1 reads 4 sequences x 34.5 visible tokens x 2*768 fp16 at 10 GB/s, and starts 12 times */
    CLOSE(c.busy[PHASE_DECODE][resource_compute(&hw, 1)].coef[CLASS_CACHE][1], 12 * (4 * 34.5 * 2 * 768 * 2.0 / 10e9 + 5e-6));
    arch_free(&a);
}

Test(cost, prediction_takes_the_busiest_resource_or_without_overlap_the_sum)
{
    struct cost c = {.n_tiers = 2, .n_resources = 3, .overlap = true, .steps = {1, 10}, .tokens = 44};
    double f[CLASS_COUNT][TIERS_MAX] = {{0.25, 0.75}, {1, 0}, {1, 0}};
    struct prediction p;
    c.busy[PHASE_PREFILL][2].base = 2;
    c.busy[PHASE_DECODE][0].coef[CLASS_WEIGHT][1] = 0.4; /* 0.3 s a step */
    c.busy[PHASE_DECODE][2].base = 0.1;
    cost_predict(&c, f, &p);
    CLOSE(p.prefill_s, 2.0);
    CLOSE(p.decode_s, 10 * 0.3);
    CLOSE(p.throughput_tok_s, 44 / 5.0);
    cr_assert_eq(p.bound_by[PHASE_PREFILL], 2);
    cr_assert_eq(p.bound_by[PHASE_DECODE], 0);
    c.overlap = false;
    cost_predict(&c, f, &p);
    CLOSE(p.decode_s, 10 * (0.3 + 0.1));
}

Test(cost, a_group_takes_its_shares_of_the_busy_times)
{
    struct cost c = {.n_tiers = 2, .n_resources = 3, .overlap = true, .steps = {1, 0}, .tokens = 1, .n_contentions = 1};
    double f[CLASS_COUNT][TIERS_MAX] = {{1}, {1}, {1}};
    struct prediction p;
    c.busy[PHASE_PREFILL][0].base = 2;
    c.busy[PHASE_PREFILL][1].base = 1;
    c.busy[PHASE_PREFILL][2].base = 2.2;
    c.share[0][0] = 1;
    c.share[0][1] = 0.6;
    cost_predict(&c, f, &p); /* 2 s + 60 % of 1 s is more than the 2.2 s of the busiest resource */
    CLOSE(p.prefill_s, 2.6);
    c.share[0][1] = 0.1; /* 2.1 s is not */
    cost_predict(&c, f, &p);
    CLOSE(p.prefill_s, 2.2);
    c.overlap = false; /* one after the other nothing is shared */
    cost_predict(&c, f, &p);
    CLOSE(p.prefill_s, 5.2);
}

Test(cost, the_page_cache_serves_what_it_can_of_a_decode_steps_reads)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "f32");
    struct workload w = {.prompt_tokens = 32, .gen_tokens = 5};
    struct policy p;
    struct prediction plain, some, all;
    struct cost c;
    struct error err = {0};
    struct form row;
    policy_default(&p, 2);
    p.gpu_batch_size = 1;
    move_all(&p, CLASS_WEIGHT, 1);
    c = build(&a, &hw, &w, &p);
    cost_predict(&c, p.fraction, &plain);
    cr_assert_eq(hardware_page_cache(&hw, "50 MB", &err), STATUS_OK, "%s", err.text);
    c = build(&a, &hw, &w, &p);
    cost_predict(&c, p.fraction, &some);
    /* 50 MB less over 1 GB/s in each of four decode steps, which the disk bounds; a prefill reads everything for the first time */
    CLOSE(plain.busy_s[PHASE_DECODE][0] - some.busy_s[PHASE_DECODE][0], 4 * 0.05);
    CLOSE(plain.decode_s - some.decode_s, 4 * 0.05);
    CLOSE(some.prefill_s, plain.prefill_s);
    /* what the planner sees is what is predicted: its row less what is cached of the weights, 50 MB of those that are read */
    double saved_s[CLASS_COUNT], cached[CLASS_COUNT], weights_s = c.busy[PHASE_DECODE][0].coef[CLASS_WEIGHT][1];
    cost_row(&c, PHASE_DECODE, 0, resource_link_read(0), &row);
    cost_row_saved(&c, PHASE_DECODE, 0, resource_link_read(0), saved_s);
    cost_cached_evenly(&c, p.fraction, cached);
    CLOSE(cached[CLASS_WEIGHT], 0.05 / weights_s);
    CLOSE(4 * (form_at(&row, p.fraction) - saved_s[CLASS_WEIGHT] * cached[CLASS_WEIGHT]), some.decode_s);
    cr_assert_eq(hardware_page_cache(&hw, "1 GiB", &err), STATUS_OK, "%s", err.text);
    c = build(&a, &hw, &w, &p);
    cost_predict(&c, p.fraction, &all);
    CLOSE(all.busy_s[PHASE_DECODE][0], 0.0); /* more than is read: nothing is left, and not less */
    cr_assert_eq(hardware_page_cache(&hw, "2 GiB", &err), STATUS_INVALID, "more than the machine has memory");
    cr_assert_str_eq(err.text, "page cache: expected at most the 1 GiB of tier ram of test, found 2 GiB");
    arch_free(&a);
}

Test(cost, nothing_computes_before_the_first_weights_have_come)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(3, "f32");
    struct workload w = {.prompt_tokens = 32, .gen_tokens = 1};
    struct policy p;
    struct prediction out;
    p = block_policy(3, 64, 4);
    move_all(&p, CLASS_WEIGHT, 2);
    struct cost c = build(&a, &hw, &w, &p);
    cost_predict(&c, p.fraction, &out);
    /* computing is longest, and starts when 4*768^2 weights of 2 bytes have come: all over the lower link at 1 GB/s, the last of four parts over
     * the upper one */
    cr_assert_eq(out.bound_by[PHASE_PREFILL], resource_compute(&hw, 0));
    CLOSE(out.prefill_s, out.busy_s[PHASE_PREFILL][resource_compute(&hw, 0)] + 2.0 * 4 * 768 * 768 / 1e9 * (1 + 0.25));
    arch_free(&a);
}

Test(cost, attention_near_the_cache_is_a_chain_when_there_are_few_batches)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(3, "bf16");
    struct workload w = {.prompt_tokens = 32, .gen_tokens = 5};
    struct policy p;
    struct form row;
    policy_default(&p, 3);
    p.gpu_batch_size = 4;
    p.attention_near_cache = true;
    move_all(&p, CLASS_CACHE, 1);
    struct cost c = build(&a, &hw, &w, &p);
    const int chain = c.n_resources + c.n_contentions + CHAIN_NEAR, cpu = resource_compute(&hw, 1);
    /* Per layer, in a step: 4 sequences attended to, 4 * 3*768 floats down and 4 * 768 up at 1 GB/s, the rest of the attention layer, the MLP. */
    double attend = 4 * 34.5 * 2 * 768 * 2.0 / 10e9 + 5e-6, moved = 4 * 4 * 768 * 4.0 / 1e9, ends = 0;
    double whole = cost_layer_s(&hw.compute[0], &a, &a.layer[1], FORMAT_F16, FORMAT_F16, 1, 4, 1, 34.5),
           home = cost_attend_s(&hw.compute[0], &a.layer[1], FORMAT_F16, 1, 4, 1, 34.5), rest = whole - home;
    double mlp = cost_layer_s(&hw.compute[0], &a, &a.layer[2], FORMAT_F16, FORMAT_F16, 1, 4, 1, 34.5);
    for (int i = 0; i < a.n_layers; i++)
        if (a.layer[i].kind == LAYER_HEAD || a.layer[i].kind == LAYER_EMBED)
            ends += cost_layer_s(&hw.compute[0], &a, &a.layer[i], FORMAT_F16, FORMAT_F16, 1, 4, 1, 34.5);
    cost_row(&c, PHASE_DECODE, 0, chain, &row);
    CLOSE(form_at(&row, p.fraction), 12 * (attend + moved + rest + mlp) + ends);
    /* The second unit waits once a step: what is left of the last layer, the ends and the projections of the next step's first. */
    cost_row(&c, PHASE_DECODE, 0, cpu, &row);
    CLOSE(form_at(&row, p.fraction), 12 * attend + moved + rest + mlp + ends);
    /* Three sequences at home: the first unit attends over them, and a quarter goes down and comes up. */
    p.fraction[CLASS_CACHE][0] = 0.75;
    p.fraction[CLASS_CACHE][1] = 0.25;
    cost_row(&c, PHASE_DECODE, 0, chain, &row);
    CLOSE(form_at(&row, p.fraction), 12 * (0.25 * (attend + moved) + 0.75 * home + rest + mlp) + ends);
    /* Six batches have two places for their queries: three after the other at each, from the first projection to the last. */
    p.num_gpu_batches = 6;
    c = build(&a, &hw, &w, &p);
    cost_row(&c, PHASE_DECODE, 0, chain, &row);
    CLOSE(form_at(&row, p.fraction), 12 * 3 * (0.25 * (attend + moved) + 0.75 * home + rest));
    arch_free(&a);
}

/* 12 blocks and a head of 9 parts (50272 rows in parts of at most 6144 of 768): 33 visits. All layers are computed while the ring fills; what it has
 * no slot for comes after. */
Test(cost, the_heads_weights_wait_for_the_layers_but_for_what_the_ring_holds)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "bf16");
    struct workload w = {.prompt_tokens = 32, .gen_tokens = 5};
    struct policy p;
    struct form row;
    p = block_policy(2, 4, 3);
    move_all(&p, CLASS_WEIGHT, 1);
    double layers = 0;
    for (int i = 0; i < a.n_layers; i++)
        if (a.layer[i].kind != LAYER_HEAD)
            layers += 3 * cost_layer_s(&hw.compute[0], &a, &a.layer[i], FORMAT_F16, FORMAT_F16, 1, 4, 1, 34.5);
    for (p.prefetch = 1; p.prefetch <= 4; p.prefetch++) {
        struct cost c = build(&a, &hw, &w, &p);
        const double first = (double)layer_placed_bytes(&a.layer[25], FORMAT_F16), head = 2.0 * 50272 * 768;
        cr_assert_eq(a.layer[25].kind, LAYER_HEAD);
        cost_row(&c, PHASE_DECODE, 0, c.n_resources + CHAIN_HEAD, &row);
        CLOSE(form_at(&row, p.fraction), layers + (head - (p.prefetch - 1) * first) / 1e9);
    }
    arch_free(&a);
}

/* Two slots: attention and MLP have one each, and after the layers 8 of the head's 9 parts come: 50272 rows less 8650752 bytes of the first. */
Test(cost, two_slots_are_taken_by_attention_and_mlp)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "bf16");
    struct workload w = {.prompt_tokens = 32, .gen_tokens = 5};
    struct policy p;
    struct form row;
    p = block_policy(2, 4, 3);
    p.prefetch = 2;
    move_all(&p, CLASS_WEIGHT, 1);
    struct cost c = build(&a, &hw, &w, &p);
    const double late = (2.0 * 50272 * 768 - 8650752) / 1e9;
    for (int i = 0; i < 2; i++) {
        const struct layer *l = &a.layer[1 + i]; /* attention has 4 matrices of 768^2, MLP two of 768 * 3072 */
        double load = 2.0 * (i ? 8 : 4) * 768 * 768 / 1e9;
        double compute = 3 * cost_layer_s(&hw.compute[0], &a, l, FORMAT_F16, FORMAT_F16, 1, 4, 1, 34.5);
        cost_row(&c, PHASE_DECODE, 0, c.n_resources + CHAIN_SLOT + i, &row);
        CLOSE(form_at(&row, p.fraction), 12 * (load + compute) + late);
    }
    arch_free(&a);
}

Test(cost, a_profile_without_the_needed_rate_is_refused_by_name)
{
    struct arch a = load("opt-125m");
    struct hardware hw = test_machine(2, "f32");
    struct workload w = {32, 5, 0};
    struct policy p;
    struct cost c;
    struct error err = {0};
    policy_default(&p, 2);
    p.weight_bits = 4;
    hw.compute[0].matmul[FORMAT_Q4].n = 0;
    cr_assert_eq(cost_build(&c, &a, &hw, &w, &p, &err), STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "q4"), "%s", err.text);
    arch_free(&a);
    /* OPT-350M projects its embedding in f32 */
    a = load("opt-350m");
    policy_default(&p, 2);
    hw.compute[0].matmul[FORMAT_F32].n = 0;
    err = (struct error){0};
    cr_assert_eq(cost_build(&c, &a, &hw, &w, &p, &err), STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "f32, in which opt-350m"), "%s", err.text);
    arch_free(&a);
}

Test(cost, more_visible_tokens_never_cost_less)
{
    struct arch a = load("opt-1.3b");
    struct hardware hw = test_machine(2, "bf16");
    for (int i = 1; i < a.n_layers; i++)
        for (int64_t t = 1; t < 2000; t += 333)
            cr_assert_geq(cost_layer_s(&hw.compute[0], &a, &a.layer[i], FORMAT_F16, FORMAT_F16, 1, 2, 1, (double)(t + 1)),
                          cost_layer_s(&hw.compute[0], &a, &a.layer[i], FORMAT_F16, FORMAT_F16, 1, 2, 1, (double)t));
    arch_free(&a);
}
