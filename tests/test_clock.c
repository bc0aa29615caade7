/* The event-driven clock: worked arithmetic, its rules on random schedules, and busy times that are the cost table's. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/in_use.h"
#include "tests/scene.h"

#define OPS_MAX 300

/* A schedule by hand: resources 0, 1 are links, 2, 3 compute. */
struct hand {
    struct schedule s;
    struct op op[OPS_MAX];
    double duration_s[OPS_MAX];
    struct contention contention[2];
    struct clock_time time[OPS_MAX];
    struct clock_input in;
    double total_s;
};

static void begin(struct hand *h)
{
    memset(h, 0, sizeof *h);
    h->s.op = h->op;
    h->in.schedule = &h->s;
    h->in.n_resources = 4;
    h->in.queueing = -1;
    h->in.duration_s = h->duration_s;
    h->in.contention = h->contention;
}

/* Resource 2 queues, and launching takes 2 s. */
static void begin_queueing(struct hand *h)
{
    begin(h);
    h->in.queueing = 2;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        h->in.launch_s[k] = 2;
}

static int32_t add(struct hand *h, int resource, double duration_s, int32_t dep)
{
    int32_t i = h->s.n_ops++;
    h->op[i] = (struct op){.resource = (int16_t)resource, .link = (int16_t)(resource < 2 ? 0 : -1)};
    h->duration_s[i] = duration_s;
    if (dep >= 0)
        h->op[i].dep[h->op[i].n_deps++] = dep;
    return i;
}

static void run(struct hand *h)
{
    struct error err = {0};
    cr_assert_eq(schedule_deal(&h->s, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(clock_run(&h->in, h->time, &h->total_s, &err), STATUS_OK, "%s", err.text);
    free(h->s.lane);
}

#define AT(i, from, to)                                                                                                          \
    do {                                                                                                                         \
        cr_assert_eq(h.time[i].start_ns, (int64_t)llround((from)*1e9), "%d starts at %lld", i, (long long)h.time[i].start_ns);   \
        cr_assert_eq(h.time[i].end_ns, (int64_t)llround((to)*1e9), "%d ends at %lld", i, (long long)h.time[i].end_ns);           \
    } while (0)

Test(clock, operations_wait_for_their_resource_and_their_dependencies)
{
    struct hand h;
    begin(&h);
    add(&h, 0, 2, -1); /* 0..2 */
    add(&h, 2, 3, 0);  /* after the load: 2..5 */
    add(&h, 0, 1, -1); /* right behind: 2..3 */
    add(&h, 2, 1, 2);  /* loaded at 3, the unit is free at 5: 5..6, and it waited for the unit, not for the load */
    add(&h, 0, 1, 3);  /* 6..7 */
    run(&h);
    AT(0, 0, 2);
    AT(1, 2, 5);
    AT(2, 2, 3);
    AT(3, 5, 6);
    AT(4, 6, 7);
    cr_assert_eq(h.time[1].waits_for, 0);
    cr_assert_eq(h.time[2].waits_for, -1);
    cr_assert_eq(h.time[3].waits_for, -1);
    cr_assert_eq(h.time[4].waits_for, 3);
    cr_assert_float_eq(h.total_s, 7, 1e-12);
}

/* Latency 0.5 s: 1.5 s a transfer alone. The second is ready when the first starts, so only its bytes' 1 s follow: 1.5..2.5. The third
 * waits for a computation that ends at 2.2, while the second moves: begun at 2.5, latency and all: 2.5..4. */
Test(clock, the_latency_of_a_queued_transfer_passes_behind_the_one_in_flight)
{
    struct hand h;
    begin(&h);
    h.in.latency_s[0] = 0.5;
    add(&h, 2, 2.2, -1);
    add(&h, 0, 1.5, -1);
    add(&h, 0, 1.5, -1);
    add(&h, 0, 1.5, 0);
    run(&h);
    AT(1, 0, 1.5);
    AT(2, 1.5, 2.5);
    AT(3, 2.5, 4);
}

/* Launching takes 2 s, work 1, 1, 5, 1 and 1 s. Of the first both show: 0..3. The second is launched behind it, from 2 to 4, and works till 5; the third,
 * launched from 4 to 6, till 11. Behind that the fourth is launched: 11..12. The fifth waits for another unit's work until 12.5: 2 s and 1 s. Each
 * depends on the one before. */
Test(clock, a_unit_that_queues_launches_one_operation_behind_the_other)
{
    static const double work_s[] = {1, 1, 5, 1, 1};
    struct hand h;
    begin_queueing(&h);
    h.op[add(&h, 3, 12.5, -1)].kind = OP_ATTEND;
    for (int i = 1; i <= 5; i++)
        h.op[add(&h, 2, 2 + work_s[i - 1], i > 1 ? i - 1 : -1)].kind = OP_MLP;
    h.op[5].dep[h.op[5].n_deps++] = 0;
    run(&h);
    AT(0, 0, 12.5);
    AT(1, 0, 3);
    AT(2, 3, 5);
    AT(3, 5, 11);
    AT(4, 11, 12);
    AT(5, 12.5, 15.5);
}

/* The second begins on an idle unit: launched from 3 on. */
Test(clock, an_embedding_is_launched_when_the_unit_is_idle)
{
    struct hand h;
    begin_queueing(&h);
    for (int i = 0; i < 3; i++)
        h.op[add(&h, 2, 3, -1)].kind = i == 1 ? OP_EMBED : OP_MLP;
    run(&h);
    AT(0, 0, 3);
    AT(1, 3, 6);
    AT(2, 6, 8);
}

/* A bus that both links fill alone: 1 + 1 = 2, each at half its speed while both work. Link 0 has 2 s of work, link 1 has 3 s. Until 4 s
 * both work: 2 s of work done by each. Then link 1's last second alone: 4..5. */
Test(clock, two_transfers_share_a_bus)
{
    struct hand h;
    begin(&h);
    h.in.n_contentions = 1;
    h.contention[0].share[0] = h.contention[0].share[1] = 1;
    add(&h, 0, 2, -1);
    add(&h, 1, 3, -1);
    run(&h);
    AT(0, 0, 4);
    AT(1, 0, 5);
}

/* Shares 0.75 and 0.5: 1.25 together. Link 1 comes in at 1 s, when the unit ends. Link 0 has done 1 s of its 3 s; the other 2 take
 * 2.5: 1..3.5. Link 1 has 4 s: 2 done by 3.5, the other 2 alone: 5.5. */
Test(clock, a_latecomer_slows_what_is_under_way)
{
    struct hand h;
    begin(&h);
    h.in.n_contentions = 1;
    h.contention[0].share[0] = 0.75;
    h.contention[0].share[1] = 0.5;
    add(&h, 2, 1, -1);
    add(&h, 0, 3, -1);
    add(&h, 1, 4, 0);
    run(&h);
    AT(0, 0, 1);
    AT(1, 0, 3.5);
    AT(2, 1, 5.5);
}

/* Shares that add up to 1 cost nothing, and of two groups the more crowded one counts: 0.6 + 0.6 = 1.2 against 1 + 1 = 2. */
Test(clock, full_is_not_crowded_and_the_most_crowded_group_counts)
{
    struct hand h;
    begin(&h);
    h.in.n_contentions = 1;
    h.contention[0].share[0] = 0.25;
    h.contention[0].share[1] = 0.75;
    add(&h, 0, 1, -1);
    add(&h, 1, 1, -1);
    run(&h);
    AT(0, 0, 1);
    AT(1, 0, 1);
    begin(&h);
    h.in.n_contentions = 2;
    h.contention[0].share[0] = h.contention[0].share[1] = 0.6;
    h.contention[1].share[1] = h.contention[1].share[2] = 1;
    add(&h, 0, 1, -1); /* in the first group only: 1.2 while link 1 works */
    add(&h, 1, 1, -1); /* in both: 2 while the unit works */
    add(&h, 2, 1, -1);
    run(&h);
    AT(0, 0, 1.2);
    AT(1, 0, 2);
    AT(2, 0, 2);
}

/* -- random schedules ---------------------------------------------------------------------------------------------------- */

static uint64_t state;

static int below(int n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)n);
}

static void seed_from_environment(void)
{
    const char *seed = getenv("BALLAST_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 11;
    printf("clock: BALLAST_SEED=%llu\n", (unsigned long long)state);
}

static void random_schedule(struct hand *h)
{
    begin(h);
    int n = 1 + below(OPS_MAX);
    for (int i = 0; i < n; i++) {
        add(h, below(4), below(5) == 0 ? 0 : 1e-3 * (1 + below(1000)), i > 0 && below(4) ? below(i) : -1);
        if (i > 1 && below(2))
            h->op[i].dep[h->op[i].n_deps++] = i - 1;
    }
}

/* Latest end of what an operation has to wait for: the one before it on its resource, and its dependencies. */
static int64_t ready_ns(const struct hand *h, int32_t i, const int32_t last[4])
{
    int64_t ready = last[h->op[i].resource] >= 0 ? h->time[last[h->op[i].resource]].end_ns : 0;
    for (int d = 0; d < h->op[i].n_deps; d++)
        if (h->time[h->op[i].dep[d]].end_ns > ready)
            ready = h->time[h->op[i].dep[d]].end_ns;
    return ready;
}

Test(clock, random_schedules_start_everything_as_soon_as_the_rules_allow)
{
    seed_from_environment();
    for (int k = 0; k < 300; k++) {
        struct hand h;
        random_schedule(&h);
        run(&h);
        int32_t last[4] = {-1, -1, -1, -1};
        for (int32_t i = 0; i < h.s.n_ops; i++) {
            cr_assert_eq(h.time[i].start_ns, ready_ns(&h, i, last), "case %d, operation %d", k, i);
            /* both ends are rounded to a ns */
            cr_assert_leq(fabs((double)(h.time[i].end_ns - h.time[i].start_ns) - 1e9 * h.duration_s[i]), 1.0);
            last[h.op[i].resource] = i;
        }
    }
}

/* With everything in one group that each resource fills alone, work is only shared out: the bus does one second of work a second while
 * anything runs, so no operation is shorter than alone, and when something is always ready the total is the sum. */
Test(clock, sharing_keeps_the_order_and_loses_no_work)
{
    seed_from_environment();
    for (int k = 0; k < 300; k++) {
        struct hand h;
        double sum = 0;
        random_schedule(&h);
        h.in.n_contentions = 1;
        for (int r = 0; r < 4; r++)
            h.contention[0].share[r] = 1;
        run(&h);
        int32_t last[4] = {-1, -1, -1, -1};
        for (int32_t i = 0; i < h.s.n_ops; i++) {
            sum += h.duration_s[i];
            cr_assert_eq(h.time[i].start_ns, ready_ns(&h, i, last), "case %d, operation %d", k, i);
            cr_assert_geq((double)(h.time[i].end_ns - h.time[i].start_ns), 1e9 * h.duration_s[i] - 1.0);
            last[h.op[i].resource] = i;
        }
        cr_assert_float_eq(h.total_s, sum, 1e-9 * sum + 1e-12, "case %d: %.12g of %.12g s", k, h.total_s, sum);
    }
}

/* -- against the cost table ------------------------------------------------------------------------------------------------ */

/* Rates that do not depend on the size, no latency: a resource is busy as long as the table says, but for rows and sequences that
 * are whole and sectors that are full. */
static void assert_busy(const char *percent, bool near, double sparsity, bool overlap, enum schedule_kind kind,
                        double page_cache_bytes, bool pageable)
{
    struct hardware hw = test_machine(3, "bf16");
    struct scene c;
    char buf[40];
    hw.page_cache_bytes = page_cache_bytes;
    /* 12 sequences each: 3 batches */
    scene_open(&c, "opt-1.3b", &hw, (struct workload){64, 5, 12}, percent, 4, kind == SCHEDULE_DIAGONAL ? 2 : 3);
    c.p.attention_near_cache = near;
    c.p.attention_sparsity = sparsity;
    c.p.overlap = overlap;
    c.p.schedule = kind;
    c.p.pageable_weights = pageable;
    scene_make(&c);
    scene_simulate(&c);
    for (int r = 0; r < resource_count(&hw); r++) {
        double table = c.predicted.busy_s[0][r] + c.predicted.busy_s[1][r], simulated = c.sum.busy_s[0][r] + c.sum.busy_s[1][r];
        cr_assert_leq(fabs(table - simulated), 0.01 * table + 1e-9, "%s, schedule %d: %s is busy for %.9g s, the table says %.9g",
                      percent, (int)kind, resource_name(&hw, r, buf), simulated, table);
    }
    scene_close(&c);
}

Test(simulator, every_resource_is_busy_as_long_as_the_table_says)
{
    static const enum schedule_kind kinds[] = {SCHEDULE_ZIGZAG, SCHEDULE_ROW, SCHEDULE_DIAGONAL};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int overlap = 0; overlap < 2; overlap++) {
            assert_busy("0 0 0 0 0 0", false, 1, overlap, kinds[k], 0, false);
            assert_busy("25 25 50 25 50 25", false, 1, overlap, kinds[k], 0, false);
            assert_busy("0 100 0 100 0 100", false, 1, overlap, kinds[k], 0, false);
            assert_busy("0 50 0 100 100 0", true, 1, overlap, kinds[k], 0, false);
            assert_busy("0 0 0 0 0 0", false, 1, overlap, kinds[k], 700e6,
                        false); /* of 2.5 GB of weights and up to 150 MB of cache a pass */
            assert_busy("0 0 0 0 0 0", false, 1, overlap, kinds[k], 9e9, false);
            assert_busy("0 100 0 100 0 100", false, 1, overlap, kinds[k], 0, true);
            assert_busy("25 25 50 25 50 25", false, 1, overlap, kinds[k], 0,
                        true); /* what comes from the disk goes up from pinned memory */
            assert_busy("0 50 0 100 100 0", true, 0.1, overlap, kinds[k], 0, false);
            assert_busy("0 50 100 0 0 100", false, 0.3, overlap, kinds[k], 0, false);
        }
}

/* On a unit that queues, of a prefill and one decode step; `late_s`: how much the table may be above them, its line between no cache at home and all. */
static void assert_operations(const char *percent, bool near, double launch_s, double late_s)
{
    struct hardware hw = test_machine(3, "bf16");
    struct scene c;
    double sum_s = 0;
    hw.compute[0].threads = 0;
    hw.compute[0].launch_s = launch_s;
    scene_open(&c, "opt-125m", &hw, (struct workload){64, 2, 0}, percent, 4, 3);
    c.p.attention_near_cache = near;
    scene_make(&c);
    const int unit = resource_compute(&hw, 0);
    for (int32_t i = 0; i < c.s.n_ops; i++)
        sum_s += c.s.op[i].resource == unit ? op_busy_s(&c.s.op[i], &c.set) : 0;
    const double table_s = c.predicted.busy_s[0][unit] + c.predicted.busy_s[1][unit];
    cr_assert(table_s >= sum_s * (1 - 1e-12) && table_s <= sum_s * (1 + 1e-12) + late_s,
              "%s, launch %g s: %.12g s, the table says %.12g", percent, launch_s, sum_s, table_s);
    scene_close(&c);
}

/* In decode an operation works for 0.2 ms (attention, without that over the cache) to 0.4 ms. Half of the cache at home is two sequences of each of 36 layers and batches, over 65
 * tokens of 2 * 768 fp16 elements at 10 GB/s. */
Test(simulator, queued_operations_add_up_to_the_table)
{
    static const double launch_s[] = {0, 1e-5, 2e-4, 3e-4, 1e-2};
    const double attend_s = 4 * 65 * 2 * 768 * 2.0 / 10e9;
    for (size_t i = 0; i < sizeof launch_s / sizeof launch_s[0]; i++) {
        assert_operations("100 0 100 0 100 0", false, launch_s[i], 0);
        assert_operations("25 25 50 25 50 25", false, launch_s[i], 0);
        assert_operations("0 50 0 100 100 0", true, launch_s[i], 0);
        assert_operations("0 50 100 0 100 0", true, launch_s[i], 0);
        assert_operations("0 50 50 50 100 0", true, launch_s[i], 36 * attend_s / 4);
    }
}

/* All on a device that queues, whatever launching takes there: a pass is the sum of the longer of launch and work, and at most one launch
 * (docs/cost-model.md, "Launches"), of which the table has the embedding's work. Step by step: the table's decode step is of the mean tokens. */
Test(simulator, a_unit_that_queues_takes_the_tables_time_within_a_launch_a_pass)
{
    double most = 0;
    seed_from_environment();
    for (int i = 0; i < 24; i++) {
        struct hardware hw = test_machine(3, "bf16");
        struct scene c;
        double table_s = 0;
        hw.compute[0].threads = 0;
        hw.compute[0].launch_s = 1e-5 * pow(10, 3 * below(1000) / 1000.0); /* an operation works for about 1 ms */
        scene_open(&c, "opt-125m", &hw, (struct workload){1 + below(40), 2 + below(8), 0}, "100 0 100 0 100 0", 1 + below(4),
                   1 + below(3));
        c.p.schedule = below(2) ? SCHEDULE_ROW : SCHEDULE_ZIGZAG;
        c.p.overlap = below(2);
        scene_make(&c);
        scene_simulate(&c);
        for (int64_t step = 0; step < c.w.gen_tokens; step++)
            table_s += scene_step_s(&c, step);
        const double passes = (double)c.w.gen_tokens * (c.p.schedule == SCHEDULE_ROW ? c.p.num_gpu_batches : 1);
        const double more_s = c.sum.total_s - table_s;
        cr_assert(fabs(more_s) < passes * hw.compute[0].launch_s + 1e-9,
                  "machine %d: %g s simulated, %g s predicted, %g launches between", i, c.sum.total_s, table_s,
                  more_s / hw.compute[0].launch_s);
        most = fmax(most, fabs(more_s) / (passes * hw.compute[0].launch_s));
        scene_close(&c);
    }
    printf("clock: up to %.2f launches a pass from what is predicted\n", most);
}

/* -- noise ------------------------------------------------------------------------------------------------------------------ */

/* A run that only the disk binds takes exp(0.1 z) times as long when the disk's spread is 10 %: 9 in 10 within exp(-+ 0.1 * 1.645). The
 * quantiles of 2000 draws are known within 0.005 / 0.103 / sqrt(2000 / (0.05 * 0.95)): 4 standard deviations are 0.02 * 1.9. */
Test(simulator, noise_gives_the_quantiles_of_what_binds)
{
    const struct hardware hw = test_machine(2, "bf16");
    struct interval one, again, other;
    struct scene c;
    struct error err = {0};
    scene_open(&c, "opt-1.3b", &hw, (struct workload){16, 3, 0}, "0 0 100 0 100 0", 1, 1);
    scene_make(&c);
    cr_assert_eq(simulate_noise(&c.s, &c.set, 1, 100, &one, &err), STATUS_INVALID, "no spread is known");
    c.hw.link[0].read_spread = 0.1;
    err = (struct error){0};
    scene_simulate(&c);
    cr_assert_eq(simulate_noise(&c.s, &c.set, 1, 2000, &one, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(simulate_noise(&c.s, &c.set, 1, 2000, &again, &err), STATUS_OK);
    cr_assert_eq(simulate_noise(&c.s, &c.set, 2, 2000, &other, &err), STATUS_OK);
    cr_assert(one.low_s == again.low_s && one.high_s == again.high_s);
    cr_assert(one.low_s != other.low_s);
    /* what the disk does not bind is a few per cent of the run, so the logarithms are within that of -+ 0.1645 */
    cr_assert_float_eq(log(one.low_s / c.sum.total_s), -0.1645, 0.02);
    cr_assert_float_eq(log(one.high_s / c.sum.total_s), 0.1645, 0.02);
    scene_close(&c);
}

/* -- resident bytes ---------------------------------------------------------------------------------------------------------- */

static int64_t level(const struct trace *t, int tier, bool last)
{
    int64_t most = 0;
    for (int64_t i = 0; i < t->n_samples; i++)
        if (t->sample[i].tier == tier)
            most = last || t->sample[i].bytes > most ? t->sample[i].bytes : most;
    return most;
}

/* The levels never exceed the regions, and at the end all cache has gone and no weights are under way. */
static void assert_levels(const char *percent, bool near, enum schedule_kind kind)
{
    const struct hardware hw = test_machine(3, "bf16");
    struct scene c;
    scene_open(&c, "opt-125m", &hw, (struct workload){40, 30, 12}, percent, 2, 3);
    c.p.attention_near_cache = near;
    c.p.schedule = kind;
    scene_make(&c);
    scene_simulate(&c);
    for (int u = 0; u < 3; u++) {
        int64_t cache = c.pl.region_bytes[u][REGION_CACHE], ring = c.pl.region_bytes[u][REGION_WEIGHT_RING];
        int64_t peak = placement_peak(&c.pl, u), empty = in_use_always(&c.pl, u), most = level(&c.t, u, false);
        cr_assert_leq(most, peak, "%s, %s, tier %d", percent, schedule_name(kind), u);
        for (int ph = 0; ph < PHASE_COUNT; ph++) {
            int64_t limit = in_use_most(&c.pl, &c.a, &c.w, &c.p, (enum phase)ph, u);
            cr_assert_leq(limit, peak);
            cr_assert_leq(c.t.in_use_bytes[ph][u], limit, "%s, %s, tier %d, %s", percent, schedule_name(kind), u, phase_name(ph));
            if (ring == 0 && kind != SCHEDULE_DIAGONAL)
                cr_assert_eq(c.t.in_use_bytes[ph][u], limit, "%s, %s, tier %d, %s: %lld of %lld", percent, schedule_name(kind), u,
                             phase_name(ph), (long long)c.t.in_use_bytes[ph][u], (long long)limit);
        }
        /* the last sample is the highest level of the last thousandth of the run, which may see the last layers' cache go */
        cr_assert_leq(level(&c.t, u, true), empty + cache / 2 + ring);
        cr_assert_geq(level(&c.t, u, true), empty);
    }
    scene_close(&c);
}

Test(simulator, levels_stay_inside_the_regions_and_fall_at_the_end)
{
    for (int kind = 0; kind < SCHEDULE_COUNT; kind++) {
        assert_levels("0 0 0 0 0 0", false, (enum schedule_kind)kind);
        assert_levels("25 25 50 25 50 25", false, (enum schedule_kind)kind);
        assert_levels("100 0 100 0 100 0", false, (enum schedule_kind)kind);
        assert_levels("0 50 0 100 100 0", true, (enum schedule_kind)kind);
    }
}

/* Of 3 batches of 2 under way: a stream of 3 batches more, or of 300 million, has the same in use at most. */
Test(simulator, a_long_stream_uses_what_a_shorter_one_does)
{
    const struct hardware hw = test_machine(3, "bf16");
    for (int64_t batches = 6; batches < 9; batches++) {
        struct scene c;
        scene_open(&c, "opt-125m", &hw, (struct workload){40, 31, 2 * batches}, "25 25 50 25 50 25", 2, 3);
        c.p.schedule = SCHEDULE_DIAGONAL;
        scene_make(&c);
        for (int u = 0; u < 3; u++) {
            for (int ph = 0; ph < PHASE_COUNT; ph++) {
                int64_t most = in_use_most(&c.pl, &c.a, &c.w, &c.p, (enum phase)ph, u);
                for (int64_t more = 3; more <= 300000000; more *= 10000) {
                    struct workload longer = c.w;
                    longer.sequences += 2 * more;
                    cr_assert_eq(in_use_most(&c.pl, &c.a, &longer, &c.p, (enum phase)ph, u), most,
                                 "%lld + %lld batches, tier %d, %s", (long long)batches, (long long)more, u,
                                 phase_name((enum phase)ph));
                }
            }
        }
        scene_close(&c);
    }
}
