/* The schedule as data: dependencies point backwards, slots are not overwritten while in use, bytes are those of the cost table. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/stream.h"
#include "tests/scene.h"

/* A prompt of 64 tokens and 4 generated. */
static void open_scene(struct scene *c, const char *model, int n_tiers, const char *percent, int batch, int batches)
{
    const struct hardware hw = test_machine(n_tiers, "bf16");
    scene_open(c, model, &hw, (struct workload){64, 4, 0}, percent, batch, batches);
}

static int64_t sum_bytes(const struct scene *c, int kind, int link, int step)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < c->s.n_ops; i++)
        if (c->s.op[i].kind == kind && c->s.op[i].link == link && c->s.op[i].step == step)
            sum += c->s.op[i].bytes;
    return sum;
}

static int count(const struct scene *c, int kind)
{
    int n = 0;
    for (int32_t i = 0; i < c->s.n_ops; i++)
        n += c->s.op[i].kind == kind;
    return n;
}

Test(schedule, every_layer_of_every_step_computes_every_batch_once)
{
    struct scene c;
    open_scene(&c, "opt-125m", 2, "50 0 50 0 100 0", 2, 3);
    scene_make(&c);
    /* 12 blocks, 3 batches, 4 steps; the table of 50272 rows is cut into parts no larger than an MLP (2*3072 rows of 768): 9 parts */
    int parts = c.a.n_layers - 1 - 24;
    cr_assert_eq(count(&c, OP_ATTENTION), 12 * 3 * 4);
    cr_assert_eq(count(&c, OP_MLP), 12 * 3 * 4);
    cr_assert_eq(count(&c, OP_EMBED), 3 * 4);
    cr_assert_eq(count(&c, OP_HEAD), parts * 3 * 4);
    scene_close(&c);
}

Test(schedule, every_step_streams_what_lives_below_once)
{
    struct scene c;
    open_scene(&c, "opt-125m", 3, "25 25 100 0 100 0", 2, 3);
    scene_make(&c);
    for (int step = 0; step < 4; step++) {
        cr_assert_eq(sum_bytes(&c, OP_LOAD_WEIGHTS, 0, step),
                     c.pl.region_bytes[1][REGION_WEIGHTS] + c.pl.region_bytes[2][REGION_WEIGHTS]);
        cr_assert_eq(sum_bytes(&c, OP_LOAD_WEIGHTS, 1, step), c.pl.region_bytes[2][REGION_WEIGHTS]);
    }
    scene_close(&c);
}

Test(schedule, a_cache_on_the_disk_is_stored_in_full_and_loaded_up_to_the_last_step)
{
    struct scene c;
    open_scene(&c, "opt-1.3b", 2, "100 0 0 0 100 0", 2, 2);
    scene_make(&c);
    /* 24 layers x 4 sequences x 2 * 2048 fp16 elements a token: 786 432 bytes, all multiples of the sector */
    int64_t token = 24 * 4 * 2 * 2048 * 2;
    cr_assert_eq(sum_bytes(&c, OP_STORE_CACHE, 0, 0), 64 * token);
    cr_assert_eq(sum_bytes(&c, OP_LOAD_CACHE, 0, 0), 0);
    for (int step = 1; step < 4; step++) {
        cr_assert_eq(sum_bytes(&c, OP_STORE_CACHE, 0, step), token);
        cr_assert_eq(sum_bytes(&c, OP_LOAD_CACHE, 0, step), (64 + step - 1) * token);
    }
    scene_close(&c);
}

/* Whatever is split off to the cache's tier, a step's computations add up to the model's FLOPs. */
Test(schedule, computations_carry_the_flops_of_their_step)
{
    for (int near = 0; near < 2; near++) {
        struct scene c;
        open_scene(&c, "opt-125m", 3, "20 30 50 0 100 0", 2, 3);
        c.p.attention_near_cache = near;
        scene_make(&c);
        double sum[4] = {0};
        for (int32_t i = 0; i < c.s.n_ops; i++) {
            cr_assert(c.s.op[i].link < 0 || c.s.op[i].flops == 0);
            sum[c.s.op[i].step] += c.s.op[i].flops;
        }
        cr_assert_float_eq(sum[0], 6 * arch_prefill_flops(&c.a, 64), 1);
        for (int step = 1; step < 4; step++)
            cr_assert_float_eq(sum[step], 6 * arch_decode_flops(&c.a, 64 + step), 1);
        scene_close(&c);
    }
}

/* -- random policies ---------------------------------------------------------------------------------------------------- */

static uint64_t state;

static int below(int n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)n);
}

/* Everything that is certain to have ended when `i` starts: the operation before it on its resource, its dependencies, and all before these. */
static void reach(const struct schedule *s, bool *before, int32_t i, int32_t previous)
{
    size_t n = (size_t)s->n_ops;
    for (int d = -1; d < s->op[i].n_deps; d++) {
        int32_t j = d < 0 ? previous : s->op[i].dep[d];
        if (j < 0)
            continue;
        before[(size_t)i * n + (size_t)j] = true;
        for (size_t k = 0; k < n; k++)
            before[(size_t)i * n + k] |= before[(size_t)j * n + k];
    }
}

/* For every operation, which ones are certain to have ended: (n_ops, n_ops). Goes through the lanes as the engine does; all of them must come
 * to their ends. */
static bool *reachability(const struct schedule *s)
{
    size_t n = (size_t)s->n_ops;
    bool *before = calloc(n * n, sizeof *before), *done = calloc(n, sizeof *done), moved = true;
    int32_t at[RESOURCES_MAX], n_done = 0;
    memcpy(at, s->first, sizeof at);
    while (moved) {
        moved = false;
        for (int r = 0; r < RESOURCES_MAX; r++) {
            bool ready = at[r] < s->first[r + 1];
            for (int d = 0; ready && d < s->op[s->lane[at[r]]].n_deps; d++)
                ready = done[s->op[s->lane[at[r]]].dep[d]];
            if (!ready)
                continue;
            reach(s, before, s->lane[at[r]], at[r] > s->first[r] ? s->lane[at[r] - 1] : -1);
            done[s->lane[at[r]++]] = moved = true;
            n_done++;
        }
    }
    cr_assert_eq(n_done, s->n_ops, "%d of %d operations can run", n_done, s->n_ops);
    free(done);
    return before;
}

/* Two operations conflict if they use one slot of one tier for different visits and one of them fills it; one must then wait for the other. */
static bool fills_ring(const struct op *op, int tier)
{
    return op->kind == OP_LOAD_WEIGHTS && op->link == tier;
}

static bool uses_ring(const struct op *op, int tier)
{
    bool compute = op->link < 0 && op->kind != OP_EMBED && op->kind != OP_ATTEND;
    return op->slot >= 0 &&
           ((op->kind == OP_LOAD_WEIGHTS && (op->link == tier || op->link == tier - 1)) || (compute && tier == 0));
}

/* A pass visits a layer once. */
static bool same_visit(const struct scene *c, const struct op *a, const struct op *b)
{
    return a->layer == b->layer &&
           stream_entry(&c->w, &c->p, a->batch) + a->step == stream_entry(&c->w, &c->p, b->batch) + b->step;
}

static void assert_rings_are_safe(const struct scene *c, const bool *before)
{
    size_t n = (size_t)c->s.n_ops;
    for (int tier = 0; tier < c->hw.n_tiers - 1; tier++)
        for (int32_t i = 0; i < c->s.n_ops; i++)
            for (int32_t j = 0; j < i; j++) {
                const struct op *a = &c->s.op[j], *b = &c->s.op[i];
                if (uses_ring(a, tier) && uses_ring(b, tier) && (fills_ring(a, tier) || fills_ring(b, tier)) &&
                    a->slot == b->slot && !same_visit(c, a, b))
                    cr_assert(before[(size_t)i * n + (size_t)j], "operations %d and %d may use ring slot %d of tier %d at once",
                              j, i, a->slot, tier);
            }
}

/* The tier whose cells of cache an operation reads or writes; -1 for none. */
static int cells_of(const struct op *op)
{
    if (op->kind == OP_ATTENTION || op->kind == OP_QKV)
        return 0;
    if (op->kind == OP_ATTEND)
        return 1;
    return op->kind == OP_LOAD_CACHE || op->kind == OP_STORE_CACHE ? op->link + 1 : -1;
}

static bool share_a_page(const struct scene *c, const int32_t *page, const struct op *a, const struct op *b)
{
    int64_t n = stream_pages_per_batch(&c->w);
    int64_t tokens_a = step_first_token(&c->w, a->step) + step_tokens(&c->w, a->step),
            tokens_b = step_first_token(&c->w, b->step) + step_tokens(&c->w, b->step);
    for (int64_t i = 0; i * CACHE_PAGE_TOKENS < tokens_a; i++)
        for (int64_t j = 0; j * CACHE_PAGE_TOKENS < tokens_b; j++)
            if (page[a->batch * n + i] == page[b->batch * n + j])
                return true;
    return false;
}

/* -- what two operations may not do at once, on any tier --------------------------------------------------------------------- */

typedef bool conflict(const struct scene *c, const struct op *a, const struct op *b);

static void assert_apart(const struct scene *c, const bool *before, conflict *in_conflict, const char *what)
{
    size_t n = (size_t)c->s.n_ops;
    for (int32_t i = 0; i < c->s.n_ops; i++)
        for (int32_t j = 0; j < i; j++)
            if (in_conflict(c, &c->s.op[j], &c->s.op[i]))
                cr_assert(before[(size_t)i * n + (size_t)j], "operations %d (%s) and %d (%s) may use one %s at once", j,
                          op_kind_name((enum op_kind)c->s.op[j].kind), i, op_kind_name((enum op_kind)c->s.op[i].kind), what);
}

static bool same_turn(const struct op *a, const struct op *b)
{
    return a->batch == b->batch && a->step == b->step && a->layer == b->layer;
}

static bool one_batch(const struct scene *c, const struct op *a, const struct op *b)
{
    (void)c;
    return a->link < 0 && b->link < 0 && a->batch == b->batch && !same_turn(a, b);
}

static bool near(const struct op *op)
{
    return op->kind >= OP_QKV && op->kind <= OP_OUT;
}

static bool one_place(const struct scene *c, const struct op *a, const struct op *b)
{
    (void)c;
    return near(a) && near(b) && a->near_slot == b->near_slot && !same_turn(a, b);
}

/* Through a tier's slot goes what lives below it. */
static bool uses_hidden_slot(const struct scene *c, const struct op *op, int tier)
{
    bool moves = op->kind == OP_LOAD_HIDDEN || op->kind == OP_STORE_HIDDEN, works = op->link < 0 && op->kind != OP_ATTEND;
    int below = 0;
    for (int home = tier + 1; home < c->hw.n_tiers; home++)
        below += placement_hidden_count(&c->pl, op->batch, home);
    return below > 0 && ((moves && (op->link == tier || op->link == tier - 1)) || (works && tier == 0));
}

static bool one_hidden_slot(const struct scene *c, const struct op *a, const struct op *b)
{
    bool any = false;
    for (int tier = 0; tier < c->hw.n_tiers - 1; tier++)
        any |= uses_hidden_slot(c, a, tier) && uses_hidden_slot(c, b, tier);
    return any && a->hidden_slot == b->hidden_slot && !same_turn(a, b);
}

/* Hidden states of whole prompts, and logits. */
static bool one_room(const struct scene *c, const struct op *a, const struct op *b)
{
    const int rooms = (int)c->pl.entering_most, k = c->p.num_gpu_batches;
    bool prompts = c->p.schedule == SCHEDULE_DIAGONAL && a->step == 0 && b->step == 0 && a->batch % rooms == b->batch % rooms,
         logits = a->kind == OP_HEAD && b->kind == OP_HEAD && a->batch % k == b->batch % k;
    return a->link < 0 && b->link < 0 && a->batch != b->batch && (prompts || logits);
}

/* What a pass samples may be the last that is wanted, and its batches may leave before others enter. */
static bool one_end(const struct scene *c, const struct op *a, const struct op *b)
{
    return a->kind == OP_HEAD && b->kind == OP_EMBED &&
           stream_entry(&c->w, &c->p, a->batch) + a->step < stream_entry(&c->w, &c->p, b->batch) + b->step;
}

/* A page that another batch has used is free for certain when an operation takes it. */
static void assert_pages_are_safe(const struct scene *c, const bool *before)
{
    size_t n = (size_t)c->s.n_ops;
    int32_t *page;
    cr_assert_eq(stream_pages_new(&page, &c->w, &c->p, NULL), STATUS_OK);
    for (int32_t i = 0; i < c->s.n_ops; i++)
        for (int32_t j = 0; j < i; j++) {
            const struct op *a = &c->s.op[j], *b = &c->s.op[i];
            if (a->layer == b->layer && a->batch != b->batch && cells_of(a) >= 0 && cells_of(a) == cells_of(b) &&
                share_a_page(c, page, a, b))
                cr_assert(before[(size_t)i * n + (size_t)j], "operations %d and %d may use one page at once", j, i);
        }
    free(page);
}

static void assert_order(const struct scene *c)
{
    for (int32_t i = 0; i < c->s.n_ops; i++)
        for (int d = 0; d < c->s.op[i].n_deps; d++) {
            cr_assert_lt(c->s.op[i].dep[d], i);
            cr_assert_geq(c->s.op[i].dep[d], 0);
        }
}

Test(schedule, random_policies_never_overwrite_what_is_in_use)
{
    static const char *const percent[] = {"0 0 0 0 0 0", "30 0 40 0 50 0", "100 0 0 0 0 0", "0 0 100 0 100 0"};
    static const char *const percent3[] = {"0 0 0 0 0 0", "20 30 30 30 10 80", "0 100 0 100 0 100", "50 0 0 50 100 0"};
    const char *seed = getenv("BALLAST_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 7;
    printf("schedule: BALLAST_SEED=%llu\n", (unsigned long long)state);
    for (int i = 0; i < 40; i++) {
        struct scene c;
        int tiers = 2 + below(2);
        open_scene(&c, "tests/fixtures/opt-tiny-pre", tiers, tiers == 2 ? percent[below(4)] : percent3[below(4)], 1 + below(4),
                   1 + below(4));
        c.w = (struct workload){12, 1 + below(4), 0};
        c.p.prefetch = 1 + below(4);
        c.p.overlap = below(5) > 0;
        c.p.attention_near_cache = tiers == 3 && below(2);
        c.p.schedule = (enum schedule_kind)below(SCHEDULE_COUNT);
        if (c.p.schedule == SCHEDULE_DIAGONAL) {
            c.w = (struct workload){4 + below(12), 1 + below(6), 0};
            c.w.sequences = c.p.gpu_batch_size * (1 + below(7));
        }
        scene_make(&c);
        assert_order(&c);
        bool *before = reachability(&c.s);
        assert_rings_are_safe(&c, before);
        assert_apart(&c, before, one_batch, "batch");
        assert_apart(&c, before, one_place, "place for queries");
        assert_apart(&c, before, one_hidden_slot, "slot of hidden states");
        assert_apart(&c, before, one_room, "room");
        assert_apart(&c, before, one_end, "end of a pass");
        if (c.p.schedule == SCHEDULE_DIAGONAL)
            assert_pages_are_safe(&c, before);
        free(before);
        scene_close(&c);
    }
}

/* -- the simulator -------------------------------------------------------------------------------------------------------- */

Test(simulator, a_disk_bound_run_takes_the_disks_time)
{
    struct scene c;
    open_scene(&c, "opt-1.3b", 2, "0 0 100 0 100 0", 1, 1);
    scene_make(&c);
    scene_simulate(&c);
    /* 4 steps of reading everything at 1 GB/s; on top at most the first layer's load and the last layer's products */
    double all = 4 * (double)c.pl.region_bytes[1][REGION_WEIGHTS] / 1e9;
    cr_assert_geq(c.sum.total_s, all - 1e-6);
    cr_assert_leq(c.sum.total_s, all * 1.02);
    cr_assert_eq(c.sum.busiest, resource_link_read(0));
    cr_assert_eq(c.t.origin, TRACE_SIMULATED);
    scene_close(&c);
}

Test(simulator, without_overlap_the_total_is_the_sum)
{
    struct scene c;
    open_scene(&c, "opt-125m", 3, "20 30 50 0 100 0", 2, 2);
    c.p.overlap = false;
    scene_make(&c);
    scene_simulate(&c);
    double sum = 0;
    for (int64_t i = 0; i < c.t.n_events; i++)
        sum += 1e-9 * (double)(c.t.event[i].end_ns - c.t.event[i].start_ns);
    cr_assert_lt(fabs(sum - 1e-9 * (double)c.t.event[c.t.n_events - 1].end_ns), 1e-6);
    scene_close(&c);
}
