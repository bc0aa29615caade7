/* test_sample.c - greedy choice, the sets that top-k and top-p leave, and the distribution of the draws. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/draw.h"
#include "executor/sample.h"

/* A scratch of exactly the promised size, so that a sanitizer sees a write behind it. */
static int32_t pick(const struct sampling *s, const float *logits, int64_t n, int64_t sequence, int64_t position)
{
    void *scratch = malloc((size_t)n * 8);
    memset(scratch, (int)(position & 0xFF), (size_t)n * 8);
    const int32_t id = sample_token(s, logits, n, sequence, position, scratch);
    free(scratch);
    cr_assert(id >= 0 && id < n);
    return id;
}

Test(sample, the_default_is_greedy_and_takes_the_first_of_equal_maxima)
{
    struct sampling s;
    sampling_default(&s);
    cr_assert_eq(sampling_check(&s, NULL), STATUS_OK);
    cr_assert_eq(pick(&s, (float[]){1, 3, 2, 3, 3}, 5, 0, 0), 1);
    cr_assert_eq(pick(&s, (float[]){-7, -7}, 2, 5, 9), 0);
    cr_assert_eq(pick(&s, (float[]){0.0f, -0.0f, 1e-30f}, 3, 0, 0), 2);
    cr_assert_eq(pick(&s, (float[]){4}, 1, 0, 0), 0);
}

Test(sample, values_that_are_no_numbers_are_handled_as_documented)
{
    const struct sampling all[] = {{.temperature = 0, .top_p = 1},
                                   {.temperature = 1, .top_p = 1},
                                   {.temperature = 1, .top_k = 2, .top_p = 0.5},
                                   {.temperature = 1, .top_k = 1, .top_p = 1}};
    for (int i = 0; i < 4; i++) {
        for (int64_t position = 0; position < 50; position++) {
            /* NaN and minus infinity never win, while there is a number. */
            cr_assert_eq(pick(&all[i], (float[]){NAN, -INFINITY, -3e38f, NAN}, 4, 0, position), 2);
            /* Plus infinity is certain, the first one of several. */
            cr_assert_eq(pick(&all[i], (float[]){NAN, 5, INFINITY, INFINITY}, 4, 0, position), 2);
            /* Nothing to choose from: token 0. */
            cr_assert_eq(pick(&all[i], (float[]){NAN, NAN, -INFINITY}, 3, 0, position), 0);
            cr_assert_eq(pick(&all[i], (float[]){-INFINITY, -INFINITY}, 2, 0, position), 0);
        }
    }
}

Test(sample, bad_settings_say_what_was_expected)
{
    const struct {
        struct sampling s;
        const char *message;
    } bad[] = {{{.temperature = -1, .top_p = 1}, "temperature: expected 0 (greedy) or more, found -1"},
               {{.temperature = NAN, .top_p = 1}, "temperature: expected"},
               {{.temperature = INFINITY, .top_p = 1}, "temperature: expected"},
               {{.top_k = -5, .top_p = 1}, "top_k: expected 0 (off) or more, found -5"},
               {{.top_p = 0}, "top_p: expected more than 0 and at most 1 (off), found 0"},
               {{.top_p = 1.5}, "found 1.5"},
               {{.top_p = NAN}, "top_p: expected"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        cr_expect_eq(sampling_check(&bad[i].s, &err), STATUS_INVALID, "case %zu", i);
        cr_expect(strstr(err.text, bad[i].message) != NULL, "%s", err.text);
    }
}

Test(sample, a_draw_depends_on_seed_sequence_and_position_alone)
{
    /* 64 equal logits: two independent draws agree once in 64. Of 1000 neighbouring pairs 15.6 agree on average, with a standard
     * deviation of 3.9; 6 deviations above is 39. */
    float logits[64] = {0};
    struct sampling s = {.temperature = 1, .top_p = 1, .seed = 7};
    struct sampling other = {.temperature = 1, .top_p = 1, .seed = 8};
    int by_seed = 0, by_sequence = 0, by_position = 0, swapped = 0, shifted = 0;
    for (int64_t i = 0; i < 1000; i++) {
        const int32_t id = pick(&s, logits, 64, i, 2 * i);
        cr_assert_eq(id, pick(&s, logits, 64, i, 2 * i));
        by_seed += id == pick(&other, logits, 64, i, 2 * i);
        by_sequence += id == pick(&s, logits, 64, i + 1, 2 * i);
        by_position += id == pick(&s, logits, 64, i, 2 * i + 1);
        swapped += id == pick(&s, logits, 64, 2 * i + 1, i);
        shifted += id == pick(&other, logits, 64, i - 1, 2 * i); /* seed + sequence is the same */
    }
    cr_expect_lt(by_seed, 39);
    cr_expect_lt(by_sequence, 39);
    cr_expect_lt(by_position, 39);
    cr_expect_lt(swapped, 39);
    cr_expect_lt(shifted, 39);
}

/* ---- the weights ---- */

Test(sample, a_weight_is_the_exponential)
{
    /* In units of 2^-32: every term of the series is off by less than 2 (its coefficient and its product), the next by as much times t < 0.7:
     * less than 2 / 0.3 = 6.7 together; t by less than 2, the rest of the series by 1/8. That is below 9, and the power at least 2^31: a relative
     * error below 2^-27. The shift drops less than one unit of the weight. */
    cr_assert_eq(draw_weight(3.5f, 3.5f, 0.7), UINT64_C(1) << DRAW_BITS);
    cr_assert_eq(draw_weight(-INFINITY, 0, 1), 0);
    cr_assert_eq(draw_weight(NAN, 0, 1), 0);
    cr_assert_eq(draw_weight(-3e38f, 3e38f, 1e-300), 0);
    for (int i = 0; i < 100000; i++) {
        const float logit = -32.0f * (float)i / 100000;
        const double units = exp((double)logit / 1.5) * 0x1p43;
        cr_assert_leq(fabs((double)draw_weight(logit, 0, 1.5) - units), 1 + 0x1p-27 * units, "logit %.9g", logit);
    }
}

/* ---- the distribution ---- */

/* The value that chi-square with `df` degrees of freedom exceeds once in a million: Wilson and Hilferty's cube, z = 4.753. */
static double chi_square_limit(int df)
{
    const double a = 2.0 / (9.0 * df);
    return df * pow(1 - a + 4.753424 * sqrt(a), 3);
}

/* Chi-square of `draws` draws against the expected probabilities; a token of probability 0 must never come. */
static void check_distribution(const struct sampling *s, const float *logits, int n, const double *expected, bool along_sequences)
{
    enum { DRAWS = 100000 };
    int count[64] = {0};
    int df = -1;
    double chi = 0;
    for (int i = 0; i < DRAWS; i++) {
        count[pick(s, logits, n, along_sequences ? i : 3, along_sequences ? 11 : i)]++;
    }
    for (int i = 0; i < n; i++) {
        if (expected[i] > 0) {
            const double mean = expected[i] * DRAWS;
            cr_assert_geq(mean, 5); /* chi-square wants no rare cells */
            chi += (count[i] - mean) * (count[i] - mean) / mean;
            df++;
        } else {
            cr_expect_eq(count[i], 0, "token %d", i);
        }
    }
    cr_expect_lt(chi, chi_square_limit(df), "chi-square %g with %d degrees of freedom, seed %llu", chi, df,
                 (unsigned long long)s->seed);
}

Test(sample, draws_follow_the_softmax)
{
    /* p_i is proportional to exp(l_i / T). */
    float logits[16];
    double expected[16], sum = 0;
    for (int along = 0; along < 2; along++) {
        for (double temperature = 0.5; temperature < 3; temperature *= 2) {
            sum = 0;
            for (int i = 0; i < 16; i++) {
                logits[i] = (float)((i * 7 % 16) * 0.2 - 30);
                expected[i] = exp((i * 7 % 16) * 0.2 / temperature);
                sum += expected[i];
            }
            for (int i = 0; i < 16; i++) {
                expected[i] /= sum;
            }
            const struct sampling s = {.temperature = temperature, .top_p = 1, .seed = 42};
            check_distribution(&s, logits, 16, expected, along != 0);
        }
    }
}

Test(sample, top_k_renormalises_what_it_keeps)
{
    /* Weights 1 2 3 4 5; top 3 keeps 3, 4, 5 of 12. */
    const float logits[] = {0, logf(2), logf(3), logf(4), logf(5)};
    const double expected[] = {0, 0, 3 / 12.0, 4 / 12.0, 5 / 12.0};
    const struct sampling s = {.temperature = 1, .top_k = 3, .top_p = 1, .seed = 1};
    check_distribution(&s, logits, 5, expected, false);
}

Test(sample, top_k_keeps_ties_with_the_kth)
{
    /* The second largest of 1 4 2 2 2 is 2, and three tokens have it: weights 4 2 2 2 of 10. */
    const float logits[] = {0, logf(4), logf(2), logf(2), logf(2)};
    const double expected[] = {0, 0.4, 0.2, 0.2, 0.2};
    const struct sampling s = {.temperature = 1, .top_k = 2, .top_p = 1, .seed = 2};
    check_distribution(&s, logits, 5, expected, false);
    /* Both zeros are one value. */
    const struct sampling one = {.temperature = 1, .top_k = 1, .top_p = 1, .seed = 2};
    check_distribution(&one, (float[]){-0.0f, -1, 0.0f}, 3, (double[]){0.5, 0, 0.5}, false);
}

Test(sample, top_p_keeps_the_shortest_run_that_reaches_it)
{
    /* Equal weights of 1/4: 0.5 is reached exactly by two tokens, and equal ones go by id; 0.51 needs a third; a tiny top_p
     * still keeps one. */
    const float logits[4] = {0};
    const struct {
        double top_p;
        double expected[4];
    } cases[] = {{0.5, {0.5, 0.5, 0, 0}},
                 {0.51, {1 / 3.0, 1 / 3.0, 1 / 3.0, 0}},
                 {1e-9, {1, 0, 0, 0}},
                 {0.99, {0.25, 0.25, 0.25, 0.25}}};
    for (int i = 0; i < 4; i++) {
        const struct sampling s = {.temperature = 1, .top_p = cases[i].top_p, .seed = 3};
        if (i == 2) {
            cr_assert_eq(pick(&s, logits, 4, 0, 1), 0);
        } else {
            check_distribution(&s, logits, 4, cases[i].expected, false);
        }
    }
}

Test(sample, top_p_comes_after_temperature_and_top_k)
{
    /* Weights 1 2 3 4. Top 3 leaves 2 3 4 of 9; 4/9 = 0.444 < 0.5 <= 7/9, so 3 and 4 stay. Without top-k it would be 4/10 and
     * 7/10: the same set. At temperature 1/2 the weights are 1 4 9 16; top 3: 16/29 = 0.55 reaches 0.5 alone. */
    const float logits[] = {0, logf(2), logf(3), logf(4)};
    const double expected[] = {0, 0, 3 / 7.0, 4 / 7.0};
    struct sampling s = {.temperature = 1, .top_k = 3, .top_p = 0.5, .seed = 4};
    check_distribution(&s, logits, 4, expected, false);
    s.temperature = 0.5;
    for (int64_t i = 0; i < 1000; i++) {
        cr_assert_eq(pick(&s, logits, 4, i, i), 3);
    }
    /* And without top-k, 16/30 = 0.533: top_p 0.54 then takes two, where with top-k it takes one. */
    s.top_p = 0.54;
    for (int64_t i = 0; i < 1000; i++) {
        cr_assert_eq(pick(&s, logits, 4, i, i), 3);
    }
    const double both[] = {0, 0, 9 / 25.0, 16 / 25.0};
    s.top_k = 0;
    check_distribution(&s, logits, 4, both, false);
}

/* ---- the sets, against a readable reference ---- */

/* Sorts ids by falling logit, equal ones by rising id, and marks what stays. False when rounding decides. */
static bool reference_set(const struct sampling *s, const float *logits, int n, bool *keep)
{
    int order[64];
    double sum = 0, reached = 0;
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && logits[order[at - 1]] < logits[i]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
        keep[i] = false;
    }
    int kept = n;
    if (s->top_k > 0 && s->top_k < n) {
        kept = s->top_k;
        while (kept < n && logits[order[kept]] == logits[order[s->top_k - 1]]) {
            kept++;
        }
    }
    for (int i = 0; i < kept; i++) {
        sum += exp((double)logits[order[i]] / s->temperature);
    }
    for (int i = 0; i < kept && (i == 0 || s->top_p == 1 || reached / sum < s->top_p); i++) {
        keep[order[i]] = true;
        reached += exp((double)logits[order[i]] / s->temperature);
        if (fabs(reached / sum - s->top_p) < 1e-9 && s->top_p < 1) {
            return false;
        }
    }
    return true;
}

Test(sample, the_sets_agree_with_a_sorting_reference)
{
    /* At most 12 logits of 0 to 2 in steps of a quarter, so that ties are common. The rarest of a set has a probability of at
     * least exp(-2) / 12 = 1/89 at temperature 1, and is missed by 2000 draws once in e^22. */
    const unsigned seed = 99;
    int checked = 0;
    srand(seed);
    for (int round = 0; round < 300; round++) {
        float logits[12];
        bool keep[12], seen[12] = {false};
        const int n = 1 + rand() % 12;
        for (int i = 0; i < n; i++) {
            logits[i] = 0.25f * (float)(rand() % 9);
        }
        const struct sampling s = {.temperature = 1 + rand() % 2,
                                   .top_k = rand() % 14,
                                   .top_p = rand() % 3 == 0 ? 1 : (1 + rand() % 998) / 999.0,
                                   .seed = (uint64_t)round};
        if (!reference_set(&s, logits, n, keep)) {
            continue;
        }
        for (int i = 0; i < 2000; i++) {
            seen[pick(&s, logits, n, round, i)] = true;
        }
        for (int i = 0; i < n; i++) {
            cr_expect_eq(seen[i], keep[i], "seed %u, round %d, token %d of %d, top_k %d, top_p %g", seed, round, i, n, s.top_k,
                         s.top_p);
        }
        checked++;
    }
    cr_assert_gt(checked, 200);
}

Test(sample, top_1_is_greedy_on_a_large_vocabulary_of_any_floats)
{
    /* All bit patterns but NaN and infinity, both signs and denormals included; a later equal maximum is as good as the first. */
    enum { N = 50272 };
    float *logits = malloc(N * sizeof *logits);
    uint32_t bits = 12345;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            do {
                bits = bits * 1664525u + 1013904223u;
                const uint32_t mixed = bits ^ bits >> 13;
                memcpy(&logits[i], &mixed, sizeof mixed);
            } while (!isfinite(logits[i]));
        }
        const struct sampling greedy = {.temperature = 0, .top_p = 1};
        const struct sampling top_1 = {.temperature = 1e30, .top_k = 1, .top_p = 1, .seed = 5};
        const struct sampling sure = {.temperature = 1, .top_p = 1e-6, .seed = 5};
        const float best = logits[pick(&greedy, logits, N, 0, round)];
        cr_assert_eq(logits[pick(&top_1, logits, N, 0, round)], best);
        cr_assert_eq(logits[pick(&sure, logits, N, 0, round)], best);
    }
    free(logits);
}

Test(sample, top_k_keeps_exactly_k_distinct_logits_of_a_large_vocabulary)
{
    /* Logits are a permutation of 0 .. 50271 (49999 and 50272 have no common factor), all nearly equal at temperature 1e9: a draw
     * is uniform over the 40 largest. 4000 draws miss one of them with probability 40 * (39/40)^4000 = 4e-43. */
    enum { N = 50272, K = 40 };
    float *logits = malloc(N * sizeof *logits);
    bool seen[K] = {false};
    for (int i = 0; i < N; i++) {
        logits[i] = (float)((int64_t)i * 49999 % N);
    }
    const struct sampling s = {.temperature = 1e9, .top_k = K, .top_p = 1, .seed = 6};
    for (int i = 0; i < 4000; i++) {
        const int rank = N - 1 - (int)logits[pick(&s, logits, N, i, 0)];
        cr_assert_lt(rank, K);
        seen[rank] = true;
    }
    for (int i = 0; i < K; i++) {
        cr_assert(seen[i], "rank %d", i);
    }
    free(logits);
}
