/* A runtime that waits at every turn, against arithmetic by hand: OPT-125M's shape on a machine with round rates. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/data.h"
#include "tests/scene.h"

/* {device, ram, disk} with every link at 1 GB/s; copies are staged at 2 GB/s and expanded at 4 GB/s. */
static struct hardware waiting_machine(void)
{
    struct hardware hw = test_machine(3, "f16");
    hw.compute[0].activation = FORMAT_F16;
    hw.runtime = (struct runtime){.staging_bytes_per_s = {.n = 1, .x = {1}, .y = {2e9}},
                                  .pageable_write_bytes_per_s = 0.5e9,
                                  .dequantise_bytes_per_s = 4e9};
    return hw;
}

static void predict(const struct arch *a, const struct hardware *hw, const struct policy *p, struct cost *c,
                    struct prediction *out)
{
    struct workload w = {.prompt_tokens = 32, .gen_tokens = 5};
    struct error err = {0};
    cr_assert_eq(cost_build(c, a, hw, &w, p, &err), STATUS_OK, "%s", err.text);
    cost_predict(c, p->fraction, out);
}

static double layers_s(const struct arch *a, const struct hardware *hw, int layer, int batch, double visible)
{
    return cost_layer_s(&hw->compute[0], a, &a->layer[layer], FORMAT_F16, FORMAT_F16, 1, batch, 1, visible);
}

Test(turns, the_next_layers_weights_come_in_the_first_turn_only)
{
    struct arch a = load("opt-125m"); /* 12 blocks, d = 768, f = 3072; 34.5 tokens visible on average */
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out;
    p = block_policy(3, 4, 3);
    move_all(&p, CLASS_WEIGHT, 1);
    predict(&a, &hw, &p, &c, &out);
    /* A step: in 12 blocks the MLP's 2*768*3072 weights of 2 bytes come over 1 GB/s (9.4 ms) while the first of three batches attends, the
     * attention's 4*768^2 (4.7 ms) while the first passes the MLP; both take longer than computing. The other two batches compute. */
    double attend = layers_s(&a, &hw, 1, 4, 34.5), mlp = layers_s(&a, &hw, 2, 4, 34.5);
    double mlp_load = 2.0 * 2 * 768 * 3072 / 1e9, attention_load = 2.0 * 4 * 768 * 768 / 1e9;
    cr_assert(attend < mlp_load && mlp < attention_load);
    double ends = 0; /* the embedding computes three times, the head's parts are read once: 50272 * 768 weights */
    for (int i = 0; i < a.n_layers; i++)
        if (a.layer[i].kind == LAYER_HEAD || a.layer[i].kind == LAYER_EMBED)
            ends += 3 * layers_s(&a, &hw, i, 4, 34.5);
    ends = fmax(ends, 2.0 * 50272 * 768 / 1e9);
    CLOSE(out.decode_s, 4 * (12 * (mlp_load + attention_load + 2 * attend + 2 * mlp) + ends));
    arch_free(&a);
}

Test(turns, a_pageable_cache_is_copied_by_the_second_unit_on_its_way_up)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out;
    policy_default(&p, 3);
    p.gpu_batch_size = 4;
    move_all(&p, CLASS_CACHE, 1);
    predict(&a, &hw, &p, &c, &out);
    /* 12 layers, 4 sequences, 33.5 tokens of 2*768 elements of 2 bytes on average: over the link at 1 GB/s, copied first at 2 GB/s; four steps */
    double bytes = 12 * 4 * 33.5 * 2 * 768 * 2.0;
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_read(0)], 4 * bytes / 1e9);
    CLOSE(out.busy_s[PHASE_DECODE][resource_compute(&hw, 1)], 4 * bytes / 2e9);
    /* what is new goes down at 0.5 GB/s: one token a step, 32 in prefill */
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_write(0)], 4 * 12 * 4 * 2 * 768 * 2.0 / 0.5e9);
    CLOSE(out.busy_s[PHASE_PREFILL][resource_link_write(0)], 12 * 4 * 32 * 2 * 768 * 2.0 / 0.5e9);
    arch_free(&a);
}

Test(turns, four_bit_tensors_are_expanded_before_each_use)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction plain, packed;
    p = block_policy(3, 4, 3);
    predict(&a, &hw, &p, &c, &plain);
    p.weight_bits = p.cache_bits = 4;
    predict(&a, &hw, &p, &c, &packed);
    /* By each of three batches in each of four steps: all weights (12 blocks of 4*768^2 + 2*768*3072, the head of 50272*768), and the cache of
     * 4 sequences in 12 layers, kept on tier 0 and so expanded whole: 36 tokens of 2*768; 2 bytes made per element at 4 GB/s. */
    double weights = 12 * (4.0 * 768 * 768 + 2.0 * 768 * 3072) + 50272.0 * 768, cache = 12 * 4 * 36 * 2.0 * 768;
    CLOSE(packed.decode_s - plain.decode_s, 4 * 3 * (weights + cache) * 2 / 4e9);
    arch_free(&a);
}

Test(turns, the_values_way_up_hides_behind_the_computing_only)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out;
    hw.runtime.staging_bytes_per_s.y[0] = 0.5e9;
    policy_default(&p, 3);
    p.gpu_batch_size = 4;
    move_all(&p, CLASS_CACHE, 1);
    predict(&a, &hw, &p, &c, &out);
    /* One batch: its next cache comes in the MLP's turn. 4 sequences * 33.5 tokens * 2*768 elements * 2 bytes are staged at 0.5 GB/s, keys and then
     * values; the values alone go up after that, half of the bytes at 1 GB/s. */
    double bytes = 4 * 33.5 * 2 * 768 * 2.0, staged = bytes / 0.5e9, rest = bytes / 2 / 1e9;
    double attend = layers_s(&a, &hw, 1, 4, 34.5), mlp = layers_s(&a, &hw, 2, 4, 34.5), ends = 0;
    cr_assert(mlp < staged + rest && mlp > rest);
    for (int i = 0; i < a.n_layers; i++)
        if (a.layer[i].kind == LAYER_HEAD || a.layer[i].kind == LAYER_EMBED)
            ends += layers_s(&a, &hw, i, 4, 34.5);
    CLOSE(out.decode_s, 4 * (12 * (attend + staged + rest) + ends));
    /* one thread stages and then launches the MLP, which takes longer than the values' way */
    hw.n_contentions = 1;
    hw.contention[0].share[resource_compute(&hw, 0)] = hw.contention[0].share[resource_compute(&hw, 1)] = 1;
    predict(&a, &hw, &p, &c, &out);
    CLOSE(out.decode_s, 4 * (12 * (attend + staged + mlp) + ends));
    arch_free(&a);
}

Test(turns, one_thread_reads_the_disk_and_then_copies_up)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out, apart;
    policy_default(&p, 3);
    move_all(&p, CLASS_WEIGHT, 2);
    predict(&a, &hw, &p, &c, &out);
    /* 12 blocks of 12*768^2 weights and the head's 50272*768, 2 bytes each, over both links at 1 GB/s: four steps */
    double bytes = 2 * (12.0 * 12 * 768 * 768 + 50272.0 * 768);
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_read(0)], 4 * bytes / 1e9);
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_read(1)], 4 * 2 * bytes / 1e9);
    p.overlap = false; /* where all adds up, each counts once */
    predict(&a, &hw, &p, &c, &apart);
    CLOSE(apart.busy_s[PHASE_DECODE][resource_link_read(1)], 4 * bytes / 1e9);
    arch_free(&a);
}

Test(turns, the_page_cache_serves_the_same_part_of_every_turns_reads)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out;
    p = block_policy(3, 4, 3);
    move_all(&p, CLASS_WEIGHT, 2);
    hw.page_cache_bytes = 50e6;
    predict(&a, &hw, &p, &c, &out);
    /* A step reads 12 blocks of 12*768^2 weights and the head's 50272*768 from the disk, 2 bytes each: 50 MB less, over 1 GB/s. The thread takes each
     * load up the other link too, which nothing shortens. So of every load that part of one leg comes off. */
    double mlp_load = 2.0 * 2 * 768 * 3072 / 1e9, attention_load = 2.0 * 4 * 768 * 768 / 1e9, head_load = 2.0 * 50272 * 768 / 1e9;
    double reads = 12 * (mlp_load + attention_load) + head_load, legs = 2 - 0.05 / reads;
    double attend = layers_s(&a, &hw, 1, 4, 34.5), mlp = layers_s(&a, &hw, 2, 4, 34.5), others = 12 * 2 * (attend + mlp);
    cr_assert(attend < mlp_load && mlp < attention_load);
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_read(1)], 4 * (2 * reads - 0.05));
    CLOSE(out.decode_s, 4 * (legs * reads + others));
    /* more than is read: the way up is left, and nothing of the first link is served */
    hw.page_cache_bytes = 5e9;
    predict(&a, &hw, &p, &c, &out);
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_read(1)], 4 * reads);
    CLOSE(out.busy_s[PHASE_DECODE][resource_link_read(0)], 4 * reads);
    CLOSE(out.decode_s, 4 * (reads + others));
    /* one after the other: both legs, all computing, and 50 MB less of the one */
    hw.page_cache_bytes = 50e6;
    p.overlap = false;
    predict(&a, &hw, &p, &c, &out);
    CLOSE(out.decode_s, 4 * (2 * reads - 0.05) + out.busy_s[PHASE_DECODE][resource_compute(&hw, 0)]);
    arch_free(&a);
}

/* The planner's rows at a placement of all classes on the disk: a cached part of each class of its own, the same part of all being one of these. */
Test(turns, the_planners_rows_have_the_page_cache_too)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out;
    double cached[CLASS_COUNT], served_s = 0, step_s = 0;
    p = block_policy(3, 4, 3);
    for (int cl = 0; cl < CLASS_COUNT; cl++) {
        p.fraction[cl][0] = 0.5;
        p.fraction[cl][2] = 0.5;
    }
    hw.page_cache_bytes = 30e6;
    predict(&a, &hw, &p, &c, &out);
    cost_cached_evenly(&c, p.fraction, cached);
    for (int cl = 0; cl < CLASS_COUNT; cl++)
        served_s += cost_cached_s(&c, cl) * cached[cl];
    CLOSE(served_s, 30e6 / 1e9);
    CLOSE(cached[CLASS_WEIGHT], cached[CLASS_CACHE]);
    for (int k = 0; k < cost_stages(&c); k++) {
        double most = 0;
        for (int r = 0; r < cost_rows(&c); r++) {
            struct form row;
            double saved_s[CLASS_COUNT], s;
            cost_row(&c, PHASE_DECODE, k, r, &row);
            cost_row_saved(&c, PHASE_DECODE, k, r, saved_s);
            s = form_at(&row, p.fraction);
            for (int cl = 0; cl < CLASS_COUNT; cl++)
                s -= saved_s[cl] * cached[cl];
            most = fmax(most, s);
        }
        step_s += cost_stage_times(&c, k) * most;
    }
    CLOSE(4 * step_s, out.decode_s);
    arch_free(&a);
}

Test(turns, pageable_weights_are_staged_matrix_by_matrix)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction out;
    /* copies of up to 1.2 MB, a matrix of the attention, at 2 GB/s; from 4.7 MB on, one of the MLP, at 1 GB/s */
    hw.runtime.staging_bytes_per_s = (struct curve){.n = 2, .x = {2.0 * 768 * 768, 2.0 * 768 * 3072}, .y = {2e9, 1e9}};
    policy_default(&p, 3);
    move_all(&p, CLASS_WEIGHT, 1);
    predict(&a, &hw, &p, &c, &out);
    cr_assert_eq(out.busy_s[PHASE_DECODE][resource_compute(&hw, 1)], 0, "page-locked");
    p.pageable_weights = true;
    predict(&a, &hw, &p, &c, &out);
    double head = 2.0 * 50272 * 768; /* in parts that are larger still */
    CLOSE(out.busy_s[PHASE_DECODE][resource_compute(&hw, 1)],
          4 * (12 * (2.0 * 4 * 768 * 768 / 2e9 + 2.0 * 2 * 768 * 3072 / 1e9) + head / 1e9));
    arch_free(&a);
}

Test(turns, units_that_block_one_thread_add_up)
{
    struct arch a = load("opt-125m");
    struct hardware hw = waiting_machine();
    struct policy p;
    struct cost c;
    struct prediction apart, together;
    policy_default(&p, 3);
    p.gpu_batch_size = 4;
    p.attention_near_cache = true;
    move_all(&p, CLASS_CACHE, 1);
    predict(&a, &hw, &p, &c, &apart);
    hw.n_contentions = 1;
    hw.contention[0].share[resource_compute(&hw, 0)] = hw.contention[0].share[resource_compute(&hw, 1)] = 1;
    predict(&a, &hw, &p, &c, &together);
    /* All is on the device but the cache: nothing else takes time, so the two units' times add up to the whole. */
    CLOSE(together.decode_s,
          together.busy_s[PHASE_DECODE][resource_compute(&hw, 0)] + together.busy_s[PHASE_DECODE][resource_compute(&hw, 1)]);
    cr_assert_lt(apart.decode_s, together.decode_s);
    arch_free(&a);
}

/* -- the schedule of turns ------------------------------------------------------------------------------------------------ */

/* The schedule waits in each turn of the embedding and the head too, which the table counts as one stage: at most the work of all resources in it
 * instead of the busiest one's. A step sees up to 36 tokens of cache, the table their mean of 34.5, and no row grows faster than that. */
static void assert_simulated(const char *percent, int batches, bool near, int bits, bool overlap, double page_cache_bytes)
{
    struct hardware hw = waiting_machine();
    struct scene c;
    hw.page_cache_bytes = page_cache_bytes;
    scene_open(&c, "opt-125m", &hw, (struct workload){.prompt_tokens = 32, .gen_tokens = 5}, percent, 4, batches);
    c.p.attention_near_cache = near;
    c.p.weight_bits = c.p.cache_bits = bits;
    c.p.overlap = overlap;
    scene_make(&c);
    scene_simulate(&c);
    double ends = 0;
    for (int ph = 0; ph < PHASE_COUNT; ph++)
        for (int r = 0; r < c.cost.n_resources; r++)
            ends += c.cost.steps[ph] * form_at(&c.cost.stage[ph][c.cost.n_stages - 1][r], c.pl.realised);
    cr_assert_geq(c.sum.total_s, c.predicted.latency_s * 0.99 - ends, "%s: %g s simulated, %g s predicted", percent,
                  c.sum.total_s, c.predicted.latency_s);
    cr_assert_leq(c.sum.total_s, c.predicted.latency_s * 36 / 34.5 + ends, "%s: %g s simulated, %g s predicted", percent,
                  c.sum.total_s, c.predicted.latency_s);
    scene_close(&c);
}

Test(turns, the_schedule_waits_as_the_table_says)
{
    for (int i = 0; i < 16; i++) {
        int batches = i & 1 ? 3 : 1, bits = i & 2 ? 4 : 16;
        bool near = i & 4, overlap = !(i & 8);
        assert_simulated("0 100 0 100 100 0", batches, near, bits, overlap, 0);
        assert_simulated("50 50 50 50 100 0", batches, near, bits, overlap, 0);
        assert_simulated("100 0 0 100 100 0", batches, near, bits, overlap, 0);
        assert_simulated("0 50 0 100 100 0", batches, near, bits, overlap, 0);
        assert_simulated("0 50 0 100 100 0", batches, near, bits, overlap, 40e6);
    }
}

/* Three batches, all weights on the host: a turn begins when everything of the one before has ended, and the weights of the next layer are
 * loaded in the first. */
Test(turns, nothing_of_a_turn_begins_before_the_one_before_is_over)
{
    const struct hardware hw = waiting_machine();
    struct scene c;
    int turns = 0, loads = 0;
    scene_open(&c, "opt-125m", &hw, (struct workload){.prompt_tokens = 32, .gen_tokens = 5}, "0 100 0 100 100 0", 4, 3);
    scene_make(&c);
    scene_simulate(&c);
    int32_t over = -1;
    int64_t ended_ns = 0;
    for (int32_t i = 0; i < c.s.n_ops; i++) {
        const struct op *op = &c.s.op[i];
        const struct trace_event *event = &c.t.event[i];
        if (op->kind == OP_TURN)
            cr_assert_geq(event->start_ns, ended_ns);
        ended_ns = event->end_ns > ended_ns ? event->end_ns : ended_ns;
        bool waits = over < 0;
        for (int d = 0; d < op->n_deps; d++)
            waits |= op->dep[d] == over;
        cr_assert(waits || op->kind == OP_TURN, "operation %d does not wait for the turn before", i);
        if (op->kind == OP_TURN)
            turns++, over = i;
        if (op->kind == OP_LOAD_WEIGHTS)
            loads++;
    }
    cr_assert_eq(turns, 5 * 3 * c.a.n_layers);
    cr_assert_eq(loads, 5 * (c.a.n_layers - 1)); /* each layer but the embedding, once a step */
    scene_close(&c);
}

/* The table over a box of batch sizes has no stages; its time, scaled to a point's block, may not exceed that of the point's turns. */
Test(turns, a_box_bounds_the_turns_of_its_points)
{
    struct arch a = load("opt-1.3b");
    struct hardware hw;
    struct error err = {0};
    struct workload w = {.prompt_tokens = 100, .gen_tokens = 9};
    unsigned short seed[3] = {8, 9, 10};
    int tight = 0;
    cr_assert_eq(hardware_load(&hw, "t4-flexgen", &err), STATUS_OK, "%s", err.text);
    fprintf(stderr, "seed %d %d %d\n", seed[0], seed[1], seed[2]);
    for (int i = 0; i < 400; i++) {
        struct policy low, high, at;
        struct cost box, c;
        struct prediction bound, point;
        policy_default(&low, 3);
        low.gpu_batch_size = 1 + (int)(erand48(seed) * 20);
        low.num_gpu_batches = 1 + (int)(erand48(seed) * 6);
        low.weight_bits = erand48(seed) < 0.5 ? 4 : 16;
        low.cache_bits = erand48(seed) < 0.5 ? 4 : 16;
        low.attention_near_cache = low.cache_bits == 16 && erand48(seed) < 0.5;
        high = low;
        high.gpu_batch_size += 1 + (int)(erand48(seed) * 8);
        high.num_gpu_batches += (int)(erand48(seed) * 4);
        at = low;
        at.gpu_batch_size += (int)(erand48(seed) * (high.gpu_batch_size - low.gpu_batch_size + 1));
        at.num_gpu_batches += (int)(erand48(seed) * (high.num_gpu_batches - low.num_gpu_batches + 1));
        for (int cl = 0; cl < CLASS_COUNT; cl++) {
            double x = erand48(seed), y = erand48(seed);
            at.fraction[cl][0] = x * y;
            at.fraction[cl][1] = x * (1 - y);
            at.fraction[cl][2] = 1 - x;
        }
        cr_assert_eq(cost_build_bound(&box, &a, &hw, &w, &low, &high, policy_block(&high), &err), STATUS_OK, "%s", err.text);
        cr_assert_eq(cost_build(&c, &a, &hw, &w, &at, &err), STATUS_OK, "%s", err.text);
        cost_predict(&box, at.fraction, &bound);
        cost_predict(&c, at.fraction, &point);
        double scale = (double)policy_block(&at) / (double)policy_block(&low);
        cr_assert_leq(bound.latency_s * scale, point.latency_s * (1 + 1e-9), "box %d", i);
        tight += bound.latency_s * scale > 0.5 * point.latency_s;
    }
    cr_assert_gt(tight, 200, "only %d of 400 bounds are above a half: the test should see bounds that say something", tight);
    arch_free(&a);
}

/* -- the key of a profile -------------------------------------------------------------------------------------------------- */

/* The built-in profile with the first `old` replaced. */
static enum status parse_edited(const char *old, const char *new, struct hardware *hw, struct error *err)
{
    size_t n = 0, used;
    const char *text = data_find("hardware", "t4-flexgen", &n), *at = memmem(text, n, old, strlen(old));
    char *edited = malloc(n + strlen(new) + 1);
    cr_assert(at && edited);
    used = (size_t)sprintf(edited, "%.*s%s", (int)(at - text), text, new);
    memcpy(edited + used, at + strlen(old), n - (size_t)(at - text) - strlen(old));
    enum status status = hardware_parse(hw, "box.json", edited, n - strlen(old) + strlen(new), err);
    free(edited);
    return status;
}

Test(turns, a_bad_runtime_gets_one_clear_line)
{
    static const char *const bad[][3] = {
        {"\"waits\": \"turn\"", "\"waits\": \"layer\"", "key 'runtime.waits': expected one of \"turn\", found \"layer\""},
        {"\"waits\": \"turn\",", "", "key 'runtime.waits': expected"},
        {"\"staging\": [", "\"staging\": [], \"stage\": [", "the unknown key 'stage'"},
        {"\"dequantise\": \"", "\"dequantise\": \"x", "key 'runtime.dequantise': expected a rate such as \"12.1 GB/s\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct hardware hw;
        struct error err = {0};
        cr_assert_eq(parse_edited(bad[i][0], bad[i][1], &hw, &err), STATUS_INVALID, "taken: %s", bad[i][1]);
        cr_assert(strstr(err.text, bad[i][2]), "%s", err.text);
    }
}

Test(turns, a_saved_runtime_loads_again)
{
    char path[] = "/tmp/ballast-turns-XXXXXX";
    int fd = mkstemp(path);
    struct hardware hw, again;
    struct error err = {0};
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(hardware_load(&hw, "t4-flexgen", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_save(&hw, path, "test", &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(hardware_load(&again, path, &err), STATUS_OK, "%s", err.text);
    unlink(path);
    cr_assert_eq(again.runtime.staging_bytes_per_s.n, hw.runtime.staging_bytes_per_s.n);
    CLOSE(again.runtime.staging_bytes_per_s.y[0], hw.runtime.staging_bytes_per_s.y[0]);
    CLOSE(again.runtime.pageable_write_bytes_per_s, hw.runtime.pageable_write_bytes_per_s);
    CLOSE(again.runtime.dequantise_bytes_per_s, hw.runtime.dequantise_bytes_per_s);
}
