/* test_kernels_attention.c - attention over every cache format against the scalar reference, and what it must not depend on. */
#include <math.h>

#include "tests/kernel_test.h"

#define VEC_WIDTH 1
#include "executor/cpu/vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 8
#include "executor/cpu/vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 16
#include "executor/cpu/vec.h"
#undef VEC_WIDTH

/* -- the exponential --------------------------------------------------------------------------------------------------------- */
static void exp_w1_array(const float *x, float *y)
{
    for (int i = 0; i < 16; i++)
        y[i] = exp_w1(x[i]);
}

TARGET_W8 static void exp_w8_array(const float *x, float *y)
{
    store_w8(y, exp_w8(load_w8(x)));
    store_w8(y + 8, exp_w8(load_w8(x + 8)));
}

TARGET_W16 static void exp_w16_array(const float *x, float *y)
{
    store_w16(y, exp_w16(load_w16(x)));
}

static void check_exp(const float *x, const float *y, int isa)
{
    for (int i = 0; i < 16; i++) {
        const double expected = exp((double)x[i]);
        const double ulp = ldexp(1.0, ilogb(expected) - 23);
        if (x[i] < -87.0f)
            cr_assert_eq(y[i], 0.0f, "isa %d: exp(%a) = %g", isa, x[i], y[i]);
        else
            cr_assert_leq(fabs(y[i] - expected), 2 * ulp, "isa %d: exp(%.9g) = %.9g, expected %.9g", isa, x[i], y[i], expected);
    }
}

Test(attention, exponential_is_within_two_ulp)
{
    static void (*const exp_array[])(const float *, float *) = {exp_w1_array, exp_w8_array, exp_w16_array};
    float x[16], y[16];

    for (int isa = 0; isa < isa_count(); isa++) {
        for (float begin = -100.0f; begin < 88.0f; begin += 16 * 0.0021f) {
            for (int i = 0; i < 16; i++)
                x[i] = fminf(begin + 0.0021f * (float)i, 88.0f);
            exp_array[isa](x, y);
            check_exp(x, y, isa);
        }
        for (int i = 0; i < 16; i++)
            x[i] = i % 2 ? -INFINITY : 0.0f;
        exp_array[isa](x, y);
        for (int i = 0; i < 16; i++)
            cr_assert_eq(y[i], i % 2 ? 0.0f : 1.0f);
    }
}

/* -- one case of attention
 * ----------------------------------------------------------------------------------------------------- */
struct attention_case {
    enum format format;
    struct attention_shape shape;
    int64_t sequences, first, tokens, ld;
    int threads, shift;
    enum cpu_isa isa;
    int32_t pad[16];
    bool sequence_major; /* cache (sequences, tokens) instead of (tokens, sequences) */
};

struct cache {
    struct guarded memory;
    struct cache_view view;
};

static int64_t width_of(const struct attention_case *t)
{
    return t->shape.kv_heads * t->shape.head_dim;
}

static struct cache cache_new(const struct attention_case *t)
{
    const int64_t vector = format_vector_bytes(t->format, width_of(t)), context = t->first + t->tokens;
    struct cache c = {.memory = guarded_new(2 * vector * context * t->sequences, t->shift)};

    c.view = (struct cache_view){t->format,
                                 (char *)c.memory.data,
                                 t->sequence_major ? 2 * vector : 2 * vector * t->sequences,
                                 t->sequence_major ? 2 * vector * context : 2 * vector,
                                 vector,
                                 NULL,
                                 0};
    return c;
}

/* Stores in two goes, as prefill and then more. */
static void cache_fill(const struct attention_case *t, const struct cache *c, struct pool *p, const float *k, const float *v,
                       int64_t ld)
{
    const int64_t context = t->first + t->tokens;

    if (t->sequences == 1 && t->first > 0) {
        cache_store(p, &c->view, 1, 0, t->first, width_of(t), k, v, ld);
        cache_store(p, &c->view, 1, t->first, t->tokens, width_of(t), k + t->first * ld, v + t->first * ld, ld);
    } else {
        cache_store(p, &c->view, t->sequences, 0, context, width_of(t), k, v, ld);
    }
}

static void run_attention(const struct attention_case *t, const struct cache *c, const float *q, float *out)
{
    struct pool *p = pool_of(t->threads);
    struct guarded scratch = guarded_new(attention_scratch_bytes(t->threads, &t->shape), t->shift);

    cpu_isa_force(t->isa);
    attention(p, &t->shape, &c->view, t->sequences, t->first, t->tokens, t->pad, q, t->ld, out, scratch.data);
    guarded_check_and_free(&scratch, "scratch of attention()");
    pool_free(p);
}

static const char *case_text(const struct attention_case *t)
{
    static char text[250];

    snprintf(text, sizeof text,
             "%s isa %d, heads %lld/%lld x %lld, sequences %lld, first %lld, tokens %lld, threads %d, pad %d %d",
             format_name(t->format), (int)t->isa, (long long)t->shape.heads, (long long)t->shape.kv_heads,
             (long long)t->shape.head_dim, (long long)t->sequences, (long long)t->first, (long long)t->tokens, t->threads,
             t->pad[0], t->pad[1]);
    return text;
}

/* Error of one output, for |q|, |k|, |v| <= 1 (decoded Q4 stays below 1.01), u = 2^-24. A score: the scaled query is rounded
 * twice and its sum has e terms, each below scale: off by d = (e + 4) u e scale, plus 1.5u |score| for the subtraction of the
 * maximum. A weight e^z: relatively 2d + 3u e scale + 4u (2 ulp) + a shrink factor's 4u per block of 32 tokens. Sums of n
 * terms: n u more, for the values and for the weights. The result is an average of values below 1.01, so all of these count
 * once for the numerator and once for the denominator. Q4 decoding: 3u. */
static double rounding_bound(const struct attention_case *t)
{
    const double e = (double)t->shape.head_dim, n = (double)(t->first + t->tokens), u = 0x1p-24;
    const double score = (e + 4) * u * e * t->shape.scale;
    const double weight = 2 * score + 3 * u * e * t->shape.scale + 4 * u + 4 * u * (n / 32 + 2);

    return 1.01 * 2 * (weight + n * u) + 4 * u;
}

/* Multiply-adds of the scalar reference, which would take minutes under the sanitizers if left to chance. */
static int64_t work_of(const struct attention_case *t)
{
    return t->sequences * t->tokens * (t->first + t->tokens) * t->shape.heads * t->shape.head_dim;
}

/* Fewer sequences, then fewer key heads; never fewer tokens, so that several blocks and chunks stay covered. */
static void limit_work(struct attention_case *t)
{
    const int64_t most = 2000000, group = t->shape.heads / t->shape.kv_heads;

    while (t->sequences > 1 && work_of(t) > most)
        t->sequences--;
    while (t->shape.kv_heads > 1 && work_of(t) > most)
        t->shape.heads = --t->shape.kv_heads * group;
}

static struct attention_case random_case(uint64_t *seed, bool decode)
{
    static const int64_t dims[] = {1, 4, 16, 20, 33, 64, 80, 128};
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_Q4};
    struct attention_case t = {
        .format = formats[random_in(seed, 0, 2)],
        .shape = {.kv_heads = random_in(seed, 1, 4), .head_dim = dims[random_in(seed, 0, 7)]},
        .sequences = random_in(seed, 1, 6),
        .first = random_in(seed, 0, random_in(seed, 0, 3) ? 70 : 400),
        .tokens = decode ? 1 : random_in(seed, 2, 150),
        .threads = (int)random_in(seed, 1, 3),
        .shift = (int)random_in(seed, 0, 7),
        .isa = (enum cpu_isa)random_in(seed, 0, isa_count() - 1),
        .sequence_major = random_in(seed, 0, 1),
    };

    if (random_in(seed, 0, 7) == 0) { /* more heads on one key head than a block has rows */
        t.shape.kv_heads = 1;
        t.shape.head_dim = 16;
        t.tokens = decode ? 1 : random_in(seed, 2, 20);
        t.shape.heads = random_in(seed, 5, 70);
    } else {
        t.shape.heads = t.shape.kv_heads * random_in(seed, 1, 4);
    }
    limit_work(&t);
    t.shape.scale = 1.0 / sqrt((double)t.shape.head_dim);
    t.ld = t.shape.heads * t.shape.head_dim + random_in(seed, 0, 3);
    for (int i = 0; i < 16; i++)
        t.pad[i] = random_in(seed, 0, 1) ? 0 : (int32_t)random_in(seed, 0, t.first + t.tokens);
    return t;
}

static void check_case(const struct attention_case *t, uint64_t *seed)
{
    const int64_t width = width_of(t), ld = width + 2, context = t->first + t->tokens, outputs = t->sequences * t->tokens * t->ld;
    float *k = random_array(seed, t->sequences * context * ld), *v = random_array(seed, t->sequences * context * ld);
    float *q = random_array(seed, outputs), *out = malloc((size_t)outputs * sizeof *out),
          *expected = malloc((size_t)outputs * sizeof *out);
    struct pool *p = pool_of(t->threads);
    struct cache c = cache_new(t);
    const double bound = rounding_bound(t);

    cpu_isa_force(t->isa);
    cache_fill(t, &c, p, k, v, ld);
    memcpy(expected, q, (size_t)outputs * sizeof *q);
    memcpy(out, q, (size_t)outputs * sizeof *q); /* out is q: in place */
    ref_attention(&t->shape, &c.view, t->sequences, t->first, t->tokens, t->pad, q, t->ld, expected);
    run_attention(t, &c, out, out);
    for (int64_t i = 0; i < outputs; i++)
        cr_assert_leq(fabs((double)out[i] - expected[i]), bound, "%s: row %lld, column %lld: %.9g, expected %.9g within %g",
                      case_text(t), (long long)(i / t->ld), (long long)(i % t->ld), out[i], expected[i], bound);
    guarded_check_and_free(&c.memory, "cache");
    pool_free(p);
    free(k);
    free(v);
    free(q);
    free(out);
    free(expected);
}

Test(attention, one_token_by_hand)
{
    /* One head of one element, scale 1, keys 0 and ln 3, values 4 and 8, query 1: weights 1/4 and 3/4, result 1 + 6 = 7. With
     * the first token padding: 8. */
    const struct attention_case t =
        {.format = FORMAT_F32, .shape = {1, 1, 1, 1.0}, .sequences = 1, .first = 1, .tokens = 1, .ld = 1, .threads = 1};
    const float k[2] = {0.0f, 1.09861229f}, v[2] = {4.0f, 8.0f}, q[1] = {1.0f};
    float out[1];

    for (int isa = 0; isa < isa_count(); isa++) {
        struct attention_case now = t;
        struct cache c = cache_new(&t);
        now.isa = (enum cpu_isa)isa;
        cache_fill(&t, &c, NULL, k, v, 1);
        run_attention(&now, &c, q, out);
        cr_assert_float_eq(out[0], 7.0, 1e-5);
        now.pad[0] = 1;
        run_attention(&now, &c, q, out);
        cr_assert_float_eq(out[0], 8.0, 1e-6);
        now.pad[0] = 2; /* nothing visible */
        run_attention(&now, &c, q, out);
        cr_assert_eq(out[0], 0.0f);
        guarded_check_and_free(&c.memory, "cache");
    }
}

Test(attention, prefill_by_hand)
{
    /* The same cache, both queries 1: the first sees only its own value 4, the second the mixture 7. */
    const struct attention_case t =
        {.format = FORMAT_F32, .shape = {1, 1, 1, 1.0}, .sequences = 1, .first = 0, .tokens = 2, .ld = 1, .threads = 1};
    const float k[2] = {0.0f, 1.09861229f}, v[2] = {4.0f, 8.0f}, q[2] = {1.0f, 1.0f};
    float out[2];

    for (int isa = 0; isa < isa_count(); isa++) {
        struct attention_case now = t;
        struct cache c = cache_new(&t);
        now.isa = (enum cpu_isa)isa;
        cache_fill(&t, &c, NULL, k, v, 1);
        run_attention(&now, &c, q, out);
        cr_assert_float_eq(out[0], 4.0, 1e-6);
        cr_assert_float_eq(out[1], 7.0, 1e-5);
        guarded_check_and_free(&c.memory, "cache");
    }
}

Test(attention, decode_agrees_with_the_reference)
{
    uint64_t seed = test_seed("decode_agrees_with_the_reference");

    for (int round = 0; round < 250; round++) {
        const struct attention_case t = random_case(&seed, true);
        check_case(&t, &seed);
    }
}

Test(attention, prefill_agrees_with_the_reference, .timeout = 120)
{
    uint64_t seed = test_seed("prefill_agrees_with_the_reference");

    for (int round = 0; round < 40; round++) {
        const struct attention_case t = random_case(&seed, false);
        check_case(&t, &seed);
    }
}

/* The same cache in shuffled pages, with rows between them that belong to nobody. */
static struct cache paged_new(const struct attention_case *t, int64_t page_tokens, int32_t *page, uint64_t *seed)
{
    const int64_t vector = format_vector_bytes(t->format, width_of(t)), context = t->first + t->tokens;
    const int64_t pages = (context + page_tokens - 1) / page_tokens, rows = (pages + 3) * page_tokens;
    struct cache c = {.memory = guarded_new(2 * vector * rows * t->sequences, t->shift)};

    for (int64_t i = 0; i < pages + 3; i++)
        page[i] = (int32_t)i;
    for (int64_t i = pages + 2; i > 0; i--) {
        const int64_t j = random_in(seed, 0, i);
        const int32_t swap = page[i];
        page[i] = page[j];
        page[j] = swap;
    }
    c.view = (struct cache_view){t->format,
                                 (char *)c.memory.data,
                                 t->sequence_major ? 2 * vector : 2 * vector * t->sequences,
                                 t->sequence_major ? 2 * vector * rows : 2 * vector,
                                 vector,
                                 page,
                                 page_tokens};
    return c;
}

Test(attention, pages_in_any_order_give_the_same_bits)
{
    uint64_t seed = test_seed("pages_in_any_order_give_the_same_bits");
    int32_t page[600];

    for (int round = 0; round < 120; round++) {
        const struct attention_case t = random_case(&seed, round % 4 > 0);
        const int64_t ld = width_of(&t) + 2, context = t.first + t.tokens, outputs = t.sequences * t.tokens * t.ld;
        float *k = random_array(&seed, t.sequences * context * ld), *v = random_array(&seed, t.sequences * context * ld);
        float *q = random_array(&seed, outputs), *out = calloc((size_t)outputs, sizeof *out),
              *paged_out = calloc((size_t)outputs, sizeof *out);
        struct pool *p = pool_of(t.threads);
        struct cache c = cache_new(&t), paged = paged_new(&t, random_in(&seed, 1, 40), page, &seed);

        cpu_isa_force(t.isa);
        cache_fill(&t, &c, p, k, v, ld);
        cache_fill(&t, &paged, p, k, v, ld);
        run_attention(&t, &c, q, out);
        run_attention(&t, &paged, q, paged_out);
        cr_assert_arr_eq(out, paged_out, (size_t)outputs * sizeof *out, "%s, pages of %lld", case_text(&t),
                         (long long)paged.view.page_tokens);
        guarded_check_and_free(&c.memory, "cache");
        guarded_check_and_free(&paged.memory, "paged cache");
        pool_free(p);
        free(k);
        free(v);
        free(q);
        free(out);
        free(paged_out);
    }
}

Test(attention, more_heads_on_a_key_head_than_a_block_has_rows)
{
    /* A block has 64 rows: 64 heads fill one with a single query, 65 and 150 need two and three blocks of heads. */
    uint64_t seed = test_seed("more_heads_on_a_key_head_than_a_block_has_rows");
    const int64_t group[] = {63, 64, 65, 150};

    for (int round = 0; round < 24; round++) {
        struct attention_case t = random_case(&seed, round % 6 == 5);
        t.shape = (struct attention_shape){2 * group[round % 4], 2, 16, 0.25};
        t.sequences = 1 + round % 2;
        t.first = 10;
        t.tokens = round % 6 == 5 ? 1 : 5;
        t.ld = t.shape.heads * 16;
        t.pad[0] = round % 3 * 5;
        t.pad[1] = 3;
        check_case(&t, &seed);
    }
}

Test(attention, large_scores_do_not_overflow)
{
    /* Keys 200 * (+-1) and a query of ones: scores up to 200 * e, far beyond what e^x can say in f32. The largest wins alone. */
    struct attention_case t =
        {.format = FORMAT_F16, .shape = {1, 1, 16, 1.0}, .sequences = 1, .first = 99, .tokens = 1, .ld = 16, .threads = 2};
    float k[100 * 16], v[100 * 16], q[16], out[16];

    for (int i = 0; i < 100 * 16; i++) {
        k[i] = i / 16 == 42 ? 200.0f : -200.0f;
        v[i] = (float)(i / 16);
    }
    for (int i = 0; i < 16; i++)
        q[i] = 1.0f;
    for (int isa = 0; isa < isa_count(); isa++) {
        struct cache c = cache_new(&t);
        t.isa = (enum cpu_isa)isa;
        cache_fill(&t, &c, NULL, k, v, 16);
        run_attention(&t, &c, q, out);
        for (int i = 0; i < 16; i++)
            cr_assert_eq(out[i], 42.0f);
        guarded_check_and_free(&c.memory, "cache");
    }
}

/* -- sparse decode ----------------------------------------------------------------------------------------------------------- */

/* With scratch for the scores of `at_once` sequences. */
static void run_sparse(const struct attention_case *t, const struct cache *c, double fraction, int64_t at_once, const float *q,
                       float *out)
{
    const int64_t least = sparse_attention_scratch_bytes(t->threads, &t->shape, t->first + 1),
                  bytes = least + (at_once - 1) * (least - attention_scratch_bytes(t->threads, &t->shape));
    struct pool *p = pool_of(t->threads);
    struct guarded scratch = guarded_new(bytes, t->shift);

    cpu_isa_force(t->isa);
    sparse_attention(p, &t->shape, &c->view, t->sequences, t->first, fraction, t->pad, q, t->ld, out, scratch.data, bytes);
    guarded_check_and_free(&scratch, "scratch of sparse_attention()");
    pool_free(p);
}

Test(attention, sparse_decode_by_hand)
{
    /* One head of one element, scale 1, query 1, keys ln 3, 0, ln 2, 0: weights 3/7, 1/7, 2/7, 1/7. Of the three earlier tokens the fractions
     * 0.3, 0.4 and 0.7 keep none, one and two, beside the newest: of values 7, 14, 21, 28 that is 4, 4 + 3 and 4 + 3 + 6. */
    struct attention_case t =
        {.format = FORMAT_F32, .shape = {1, 1, 1, 1.0}, .sequences = 1, .first = 3, .tokens = 1, .ld = 1, .threads = 1};
    const float k[4] = {1.09861229f, 0.0f, 0.69314718f, 0.0f}, v[4] = {7.0f, 14.0f, 21.0f, 28.0f}, q[1] = {1.0f};
    float out[1];

    for (int isa = 0; isa < isa_count(); isa++) {
        struct cache c = cache_new(&t);
        t.isa = (enum cpu_isa)isa;
        cache_fill(&t, &c, NULL, k, v, 1);
        run_sparse(&t, &c, 0.3, 1, q, out);
        cr_assert_float_eq(out[0], 4.0, 1e-5);
        run_sparse(&t, &c, 0.4, 1, q, out);
        cr_assert_float_eq(out[0], 7.0, 1e-5);
        run_sparse(&t, &c, 0.7, 1, q, out);
        cr_assert_float_eq(out[0], 13.0, 1e-5);
        guarded_check_and_free(&c.memory, "cache");
    }
}

Test(attention, sparse_decode_agrees_with_the_reference)
{
    /* Scores are exact with a scale that is a power of two; what is left of rounding_bound is for weights and sums. */
    static const double fractions[] = {0.1, 0, 0.35, 1};
    uint64_t seed = test_seed("sparse_decode_agrees_with_the_reference");
    int32_t page[600];

    for (int round = 0; round < 200; round++) {
        struct attention_case t = random_case(&seed, true);
        t.shape.scale = 0.25;
        const int64_t width = width_of(&t), rows = t.sequences * (t.first + 1), outputs = t.sequences * t.ld;
        const double fraction = fractions[random_in(&seed, 0, 3)], bound = rounding_bound(&t);
        float *k = random_array(&seed, rows * width), *v = random_array(&seed, rows * width), *q = random_array(&seed, outputs);
        float *out = malloc((size_t)outputs * sizeof *out), *expected = malloc((size_t)outputs * sizeof *out);
        struct cache c = round % 2 ? paged_new(&t, random_in(&seed, 1, 40), page, &seed) : cache_new(&t);

        make_exact(q, outputs, k, rows, width);
        cpu_isa_force(t.isa);
        cache_fill(&t, &c, NULL, k, v, width);
        memcpy(out, q, (size_t)outputs * sizeof *q);
        memcpy(expected, q, (size_t)outputs * sizeof *q);
        ref_sparse_attention(&t.shape, &c.view, t.sequences, t.first, fraction, t.pad, q, t.ld, expected);
        run_sparse(&t, &c, fraction, random_in(&seed, 1, t.sequences), out, out);
        for (int64_t i = 0; i < outputs; i++)
            cr_assert_leq(fabs((double)out[i] - expected[i]), bound, "%s, fraction %g: [%lld] is %.9g, expected %.9g within %g",
                          case_text(&t), fraction, (long long)i, out[i], expected[i], bound);
        guarded_check_and_free(&c.memory, "cache");
        free(k), free(v), free(q), free(out), free(expected);
    }
}

Test(attention, sparse_bits_do_not_depend_on_threads_or_scratch)
{
    uint64_t seed = test_seed("sparse_bits_do_not_depend_on_threads_or_scratch");

    for (int round = 0; round < 30; round++) {
        struct attention_case t = random_case(&seed, true);
        const int64_t ld = width_of(&t), outputs = t.sequences * t.ld, stored = t.sequences * (t.first + 1) * ld;
        float *k = random_array(&seed, stored), *v = random_array(&seed, stored), *q = random_array(&seed, outputs);
        float *one = calloc((size_t)outputs, sizeof *one), *several = calloc((size_t)outputs, sizeof *several);
        struct cache c = cache_new(&t);

        cache_fill(&t, &c, NULL, k, v, ld);
        t.threads = 1;
        run_sparse(&t, &c, 0.2, 1, q, one);
        for (t.threads = 2; t.threads <= 3; t.threads++) {
            run_sparse(&t, &c, 0.2, t.threads, q, several);
            cr_assert(memcmp(one, several, (size_t)outputs * sizeof *one) == 0, "%s", case_text(&t));
        }
        guarded_check_and_free(&c.memory, "cache");
        free(k), free(v), free(q), free(one), free(several);
    }
}

/* -- what the result must not depend on -------------------------------------------------------------------------------------- */
Test(attention, bits_do_not_depend_on_threads)
{
    uint64_t seed = test_seed("bits_do_not_depend_on_threads");

    for (int round = 0; round < 30; round++) {
        struct attention_case t = random_case(&seed, round % 3 > 0);
        if (round % 3 == 1)
            t.first = 600 + round; /* more chunks than slots */
        const int64_t ld = width_of(&t), outputs = t.sequences * t.tokens * t.ld,
                      stored = t.sequences * (t.first + t.tokens) * ld;
        float *k = random_array(&seed, stored), *v = random_array(&seed, stored), *q = random_array(&seed, outputs);
        float *one = calloc((size_t)outputs, sizeof *one), *several = calloc((size_t)outputs, sizeof *several);
        struct cache c = cache_new(&t);
        cache_fill(&t, &c, NULL, k, v, ld);
        t.threads = 1;
        run_attention(&t, &c, q, one);
        for (t.threads = 2; t.threads <= 3; t.threads++) {
            run_attention(&t, &c, q, several);
            cr_assert(memcmp(one, several, (size_t)outputs * sizeof *one) == 0, "%s", case_text(&t));
        }
        guarded_check_and_free(&c.memory, "cache");
        free(k);
        free(v);
        free(q);
        free(one);
        free(several);
    }
}

/* A sequence with `pad` garbage tokens in front gives the bits of the sequence without them. */
static void check_padding(struct attention_case *t, int32_t pad, uint64_t *seed)
{
    const int64_t ld = width_of(t), outputs = t->tokens * t->ld, n = t->first + t->tokens;
    float *k = random_array(seed, (pad + n) * ld), *v = random_array(seed, (pad + n) * ld), *q = random_array(seed, outputs);
    float *plain = calloc((size_t)outputs, sizeof *plain), *padded = calloc((size_t)outputs, sizeof *padded);
    struct cache c = cache_new(t);

    cache_fill(t, &c, NULL, k + pad * ld, v + pad * ld, ld);
    run_attention(t, &c, q, plain);
    guarded_check_and_free(&c.memory, "cache");
    for (int64_t i = 0; i < pad * ld; i++)
        k[i] = v[i] = NAN; /* must not be read at all */
    t->first += pad;
    t->pad[0] = pad;
    c = cache_new(t);
    cache_fill(t, &c, NULL, k, v, ld);
    run_attention(t, &c, q, padded);
    cr_assert(memcmp(plain, padded, (size_t)outputs * sizeof *plain) == 0, "%s", case_text(t));
    guarded_check_and_free(&c.memory, "cache");
    free(k);
    free(v);
    free(q);
    free(plain);
    free(padded);
}

Test(attention, padding_leaves_no_trace)
{
    uint64_t seed = test_seed("padding_leaves_no_trace");

    for (int round = 0; round < 40; round++) {
        struct attention_case t = random_case(&seed, round % 2);
        t.sequences = 1;
        t.pad[0] = 0;
        check_padding(&t, (int32_t)random_in(&seed, 1, 200), &seed);
    }
}

Test(attention, queries_inside_the_padding_give_zeros)
{
    struct attention_case t = {.format = FORMAT_F16,
                               .shape = {4, 2, 16, 0.25},
                               .sequences = 2,
                               .first = 0,
                               .tokens = 9,
                               .ld = 64,
                               .threads = 2,
                               .pad = {5, 9}};
    uint64_t seed = test_seed("queries_inside_the_padding_give_zeros");
    float *k = random_array(&seed, 18 * 32), *q = random_array(&seed, 18 * 64);
    struct cache c = cache_new(&t);

    cache_fill(&t, &c, NULL, k, k, 32);
    t.isa = ISA_AVX512;
    run_attention(&t, &c, q, q);
    for (int row = 0; row < 18; row++)
        for (int j = 0; j < 64; j++)
            cr_assert(row >= 5 && row < 9 ? q[row * 64 + j] != 0.0f : q[row * 64 + j] == 0.0f, "row %d", row);
    guarded_check_and_free(&c.memory, "cache");
    free(k);
    free(q);
}
