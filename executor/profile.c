#include "executor/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/arena.h"
#include "executor/cpu/kernels.h"
#include "executor/now.h"
#include "executor/profile_disk.h"
#include "executor/profile_gpu.h"
#include "executor/profile_rounds.h"
#include "model/mix.h"

static int rounds(const struct profile_options *o)
{
    return o->rounds > 0 ? o->rounds : 12;
}

static void tell(const struct profile_options *o, const char *what, int round)
{
    char text[64];
    snprintf(text, sizeof text, "%s (%d of %d)", what, round + 1, rounds(o));
    if (o->progress)
        o->progress(text, o->arg);
}

struct tallies {
    struct tally unit, product;
};

/* -- compute ---------------------------------------------------------------------------------------------------------- */

/* Operands out of the caches: products cycle through this much. The shapes are a layer's of OPT-1.3B: four square matrices, one
 * up, one down. */
#define OPERAND_BYTES (768LL << 20)
#define ROWS_MAX      1024

struct bench {
    struct pool *pool;
    enum math math;
    int threads;
    struct arena arena;
    char *operand; /* (OPERAND_BYTES) */
    float *x, *y;  /* (ROWS_MAX, 8192) each */
    void *scratch;
    int round;
    int64_t calls; /* so far: each has other operands */
    struct error *err;
    enum status status;
};

/* Calls fn(b, i) until `seconds` have gone; the mean time of a call. */
static double time_calls(struct bench *b, void (*fn)(struct bench *b, int64_t i, void *arg), void *arg, double seconds)
{
    if (b->round == 0)
        fn(b, b->calls++, arg); /* warm up: primitives are made at first use */
    double start = now_s(), end;
    int64_t n = 0;
    do {
        fn(b, b->calls++, arg);
        n++;
        end = now_s();
    } while (end - start < seconds);
    return (end - start) / (double)n;
}

struct product_case {
    enum format format;
    int64_t m, rows, cols;
};

static void call_product(struct bench *b, int64_t i, void *arg)
{
    const struct product_case *c = arg;
    int64_t bytes = format_matrix_bytes(c->format, c->rows, c->cols), count = OPERAND_BYTES / bytes;
    struct weight_rows w = {c->format, b->operand + i % count * bytes, 0, c->rows, c->cols};
    enum status s = linear(b->pool, b->math, &w, NULL, false, b->x, c->cols, c->m, b->y, c->rows, b->scratch, b->err);
    b->status = s != STATUS_OK ? s : b->status;
}

#define PRODUCT_SECONDS 0.006 /* and one product at least */

/* The curve of this round. */
static struct curve measure_products(struct bench *b, struct compute *unit, enum format format, int round)
{
    struct curve one = {.n = 0};
    static const int64_t rows[] = {1, 2, 4, 6, 8, 12, 16, 17, 20, 24, 32, 33, 48, 64, 128, 256, 512, 1024};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct product_case square = {format, rows[i], 2048, 2048}, up = {format, rows[i], 8192, 2048},
                            down = {format, rows[i], 2048, 8192};
        double t = 4 * time_calls(b, call_product, &square, PRODUCT_SECONDS) + time_calls(b, call_product, &up, PRODUCT_SECONDS) +
                   time_calls(b, call_product, &down, PRODUCT_SECONDS);
        curve_add(&one, (double)rows[i], 2.0 * 3 * 8192 * 2048 * (double)rows[i] / t);
    }
    curve_blend(&unit->matmul[format], &one, round);
    return one;
}

/* 32 heads of 64, as OPT-1.3B. */
static const struct attention_shape SHAPE = {32, 32, 64, 0.125};

struct attention_case {
    enum format format;
    int64_t sequences, tokens, first;
    const int32_t *pad;
};

static void call_attention(struct bench *b, int64_t i, void *arg)
{
    const struct attention_case *c = arg;
    int64_t row = format_vector_bytes(c->format, 2048), layer = 2 * row * c->sequences * (c->first + c->tokens);
    struct cache_view view =
        {c->format, b->operand + i % (OPERAND_BYTES / layer) * layer, 2 * row * c->sequences, 2 * row, row, NULL, 0};
    attention(b->pool, &SHAPE, &view, c->sequences, c->first, c->tokens, c->pad, b->x, 2048, b->y, b->scratch);
}

/* The geometric mean of its rates in this round. */
static double measure_attention(struct bench *b, struct compute *unit, enum format cache, int round)
{
    static const int32_t pad[8] = {0};
    struct attention_case prefill = {cache, 2, 512, 0, pad};
    double t = time_calls(b, call_attention, &prefill, 0.05);
    double rate = 2 * 4.0 * 2048 * 512 * 513 / 2 / t, sum = log(rate);
    rate_blend(&unit->attention_prefill_flops_per_s, rate, round);
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q4};
    for (int i = 0; i < 3; i++) {
        struct attention_case decode = {formats[i], 8, 1, 511, pad};
        double bytes = 8 * 512.0 * 2 * (double)format_vector_bytes(formats[i], 2048);
        rate = bytes / time_calls(b, call_attention, &decode, 0.03);
        rate_blend(&unit->attention_decode_bytes_per_s[formats[i]], rate, round);
        sum += log(rate);
    }
    return exp(sum / 4);
}

static void call_passes(struct bench *b, int64_t i, void *arg)
{
    (void)arg;
    float *x = (float *)(b->operand + i % 16 * ((int64_t)ROWS_MAX * 2048 * 4));
    layer_norm(b->pool, x, ROWS_MAX, 2048, NULL, NULL, 1e-5, b->y);
    add_rows(b->pool, x, b->y, (int64_t)ROWS_MAX * 2048);
}

static void call_nothing(void *arg, int task, int thread)
{
    (void)arg;
    (void)task;
    (void)thread;
}

/* An attention layer is about ten jobs of the pool. */
static void call_launches(struct bench *b, int64_t i, void *arg)
{
    (void)i;
    (void)arg;
    for (int k = 0; k < 10; k++)
        pool_run(b->pool, 2 * b->threads, call_nothing, NULL);
}

/* Bits that are ordinary numbers in every format, +-1 to 1.5 as fp16 and about 2^-7 as f32: subnormal ones take longer. */
static void fill_operands(char *operand, int64_t bytes)
{
    uint64_t seed = 7;
    for (int64_t i = 0; i < bytes / 8; i++)
        ((uint64_t *)operand)[i] = (mix64(seed += MIX_STEP) & 0x81ff81ff81ff81ffu) | 0x3c003c003c003c00u;
}

static enum status bench_open(struct bench *b, int threads, enum math math, struct error *err)
{
    int64_t scratch = linear_scratch_bytes(threads, MATH_BF16, ROWS_MAX, 8192) +
                      linear_scratch_bytes(threads, MATH_F32, ROWS_MAX, 8192) + attention_scratch_bytes(threads, &SHAPE);
    int64_t rows = (int64_t)ROWS_MAX * 8192 * 4;
    void *operand, *x, *y;
    *b = (struct bench){.math = math, .threads = threads, .err = err};
    arena_init(&b->arena, "profile", 4LL << 30);
    enum status s = arena_take(&b->arena, "operands", OPERAND_BYTES, &operand, err);
    if (s == STATUS_OK)
        s = arena_take(&b->arena, "x", rows, &x, err);
    if (s == STATUS_OK)
        s = arena_take(&b->arena, "y", rows, &y, err);
    if (s == STATUS_OK)
        s = arena_take(&b->arena, "scratch", scratch, &b->scratch, err);
    if (s == STATUS_OK)
        s = pool_new(&b->pool, threads, err);
    if (s != STATUS_OK)
        return s;
    b->operand = operand;
    b->x = x;
    b->y = y;
    fill_operands(b->operand, OPERAND_BYTES);
    for (int64_t i = 0; i < rows / 4; i++)
        b->x[i] = (float)(i % 17) / 17 - 0.5f;
    return STATUS_OK;
}

/* Scratch for the widest rows of the OPT family (ffn of OPT-175B) and sparse attention over its longest sequences, so that one profile serves
 * every model. */
static int64_t scratch_bytes(int threads, enum math math)
{
    static const struct attention_shape wide = {96, 96, 128, 0.1};
    int64_t products = linear_scratch_bytes(threads, math, 1, 49152), f32 = linear_scratch_bytes(threads, MATH_F32, 1, 49152);
    int64_t attend = sparse_attention_scratch_bytes(threads, &wide, 2048);
    products = products > f32 ? products : f32;
    return ((products > attend ? products : attend) + (1 << 20) - 1) >> 20 << 20;
}

static void describe_compute(struct compute *unit, const struct bench *b)
{
    unit->activation = FORMAT_F32;
    unit->threads = b->threads;
    snprintf(unit->math, sizeof unit->math, "%s", b->math == MATH_BF16 ? "bf16" : "f32");
    unit->workspace_bytes = scratch_bytes(b->threads, b->math);
}

static enum status measure_compute(struct bench *b, struct compute *unit, struct tallies *tallies, int round)
{
    b->round = round;
    struct curve f16 = measure_products(b, unit, FORMAT_F16, round);
    struct curve q4 = measure_products(b, unit, FORMAT_Q4, round), f32 = measure_products(b, unit, FORMAT_F32, round);
    double attention = measure_attention(b, unit, b->math == MATH_BF16 ? FORMAT_F16 : FORMAT_F32, round);
    tally_count(&tallies->product, curve_at(&f16, 512));
    tally_count(&tallies->unit, pow(curve_level(&f16, 1) * curve_level(&q4, 1) * curve_level(&f32, 1) * attention, 0.25));
    rate_blend(&unit->memory_bytes_per_s, 5.0 * ROWS_MAX * 2048 * 4 / time_calls(b, call_passes, NULL, 0.03), round);
    double launch_s = time_calls(b, call_launches, NULL, 0.01);
    unit->launch_s += (launch_s - unit->launch_s) / (round + 1); /* a time already */
    return b->status;
}

/* -- copies ----------------------------------------------------------------------------------------------------------- */

#define COPY_BYTES (256LL << 20) /* out of the caches */
#define COPIES     16

static enum status copy_open(struct arena *arena, void **src, void **dst, struct error *err)
{
    enum status s = arena_take(arena, "from", COPY_BYTES, src, err);
    if (s == STATUS_OK)
        s = arena_take(arena, "to", COPY_BYTES, dst, err);
    if (s == STATUS_OK) {
        memset(*src, 1, COPY_BYTES);
        memset(*dst, 2, COPY_BYTES);
    }
    return s;
}

static void measure_copies(const char *src, char *dst, struct link *l, int round)
{
    struct curve one = {.n = 0};
    for (int64_t bytes = 16 << 10; bytes <= 64 << 20; bytes *= 4) {
        double start = now_s();
        for (int i = 0; i < COPIES; i++) {
            int64_t at = i * bytes % (COPY_BYTES - bytes + 1);
            memcpy(dst + at, src + at, (size_t)bytes);
        }
        curve_add(&one, (double)bytes, (double)(COPIES * bytes) / (now_s() - start));
    }
    curve_blend(&l->read_bytes_per_s, &one, round);
    curve_blend(&l->write_bytes_per_s, &one, round);
}

/* -- the machine -------------------------------------------------------------------------------------------------------- */

static void set_spread(struct compute *cpu, const struct tallies *t, struct profile_steadiness *out)
{
    cpu->spread = sqrt(tally_variance(&t->unit));
    if (out)
        out->product = t->product.range;
}

static void set_tier(struct tier *t, const char *name, enum tier_kind kind, int64_t bytes)
{
    snprintf(t->name, sizeof t->name, "%s", name);
    t->kind = kind;
    t->capacity_bytes = bytes;
}

static void describe_machine(struct hardware *hw, const struct profile_options *o)
{
    bool three = o->gpu || o->device_bytes > 0;
    int ram = three ? 1 : 0;
    memset(hw, 0, sizeof *hw);
    snprintf(hw->name, sizeof hw->name, "%s", o->name);
    snprintf(hw->estimate, sizeof hw->estimate, "measured");
    hw->n_tiers = three ? 3 : 2;
    hw->n_computes = three ? 2 : 1;
    if (three)
        set_tier(&hw->tier[0], o->gpu ? "gpu" : "device", TIER_DEVICE, o->device_bytes);
    set_tier(&hw->tier[ram], "ram", TIER_HOST, o->ram_bytes);
    set_tier(&hw->tier[ram + 1], "disk", TIER_DISK, o->disk_bytes);
}

/* What measuring holds open. */
struct parts {
    struct arena arena;
    struct profile_disk *disk;
    struct bench bench;
    struct profile_gpu *gpu;
    void *from, *to; /* of copies within memory, to an emulated device */
};

static enum status open_parts(struct parts *p, const struct profile_options *o, struct error *err)
{
    bool bf16 = o->math ? strcmp(o->math, "bf16") == 0 : cpu_has_bf16();
    *p = (struct parts){0};
    arena_init(&p->arena, "profile", 1LL << 30);
    enum status s = profile_disk_open(&p->disk, o, err);
    if (s == STATUS_OK && o->device_bytes > 0 && !o->gpu)
        s = copy_open(&p->arena, &p->from, &p->to, err);
    if (s == STATUS_OK)
        s = bench_open(&p->bench, o->threads, bf16 ? MATH_BF16 : MATH_F32, err);
    if (s == STATUS_OK && o->gpu)
        s = profile_gpu_open(&p->gpu, o, p->bench.operand, err);
    return s;
}

static void close_parts(struct parts *p)
{
    profile_gpu_close(p->gpu);
    profile_disk_close(p->disk);
    pool_free(p->bench.pool);
    arena_free(&p->bench.arena);
    arena_free(&p->arena);
}

static enum status measure_round(struct parts *p, struct hardware *hw, const struct profile_options *o, struct tallies *tallies,
                                 int round, struct error *err)
{
    int cpu = o->gpu ? 1 : 0;
    tell(o, "disk", round);
    enum status s = profile_disk_round(p->disk, &hw->link[hw->n_tiers - 2], round, err);
    if (p->from)
        measure_copies(p->from, p->to, &hw->link[0], round);
    if (s == STATUS_OK && p->gpu) {
        tell(o, "GPU", round);
        s = profile_gpu_round(p->gpu, hw, round, err);
    }
    tell(o, "matrix products and attention", round);
    return s == STATUS_OK ? measure_compute(&p->bench, &hw->compute[cpu], tallies, round) : s;
}

/* An emulated device is the CPU twice. */
static void finish(struct parts *p, struct hardware *hw, const struct profile_options *o, const struct tallies *tallies)
{
    int cpu = hw->n_computes - 1;
    struct compute *measured = &hw->compute[p->gpu ? cpu : 0];
    describe_compute(measured, &p->bench);
    set_spread(measured, tallies, o->steadiness);
    profile_disk_finish(p->disk, hw, o->steadiness ? &o->steadiness->disk_read : NULL);
    if (p->gpu) {
        profile_gpu_finish(p->gpu, hw);
    } else if (cpu > 0) {
        hw->compute[cpu] = *measured;
        snprintf(measured->name, sizeof measured->name, "device");
    }
    hw->compute[cpu].tier = cpu;
    snprintf(hw->compute[cpu].name, sizeof hw->compute[cpu].name, "cpu");
}

enum status profile_measure(struct hardware *hw, const struct profile_options *o, struct error *err)
{
    struct parts parts;
    struct tallies tallies = {0};
    describe_machine(hw, o);
    tell(o, "preparing", 0);
    enum status s = open_parts(&parts, o, err);
    for (int round = 0; round < rounds(o) && s == STATUS_OK; round++)
        s = measure_round(&parts, hw, o, &tallies, round, err);
    if (s == STATUS_OK)
        finish(&parts, hw, o, &tallies);
    close_parts(&parts);
    return s;
}
