/* test_tokenizer.c - encode and decode against the reference's own answers (tests/fixtures/make_tokenizer.py), and bad files. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/tokenizer.h"
#include "executor/tokenizer_internal.h"

#define FIXTURES "tests/fixtures/"

/* ---- help ---- */

static struct tokenizer *load(const char *name)
{
    char path[256];
    struct error err = {0};
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, FIXTURES "%s", name);
    cr_assert_eq(tokenizer_load(&t, path, &err), STATUS_OK, "%s", err.text);
    return t;
}

static char *from_hex(const char *hex, size_t *n)
{
    *n = strlen(hex) / 2;
    char *bytes = malloc(*n + 1);
    for (size_t i = 0; i < *n; i++) {
        unsigned value = 0;
        cr_assert_eq(sscanf(hex + 2 * i, "%2x", &value), 1);
        bytes[i] = (char)value;
    }
    return bytes;
}

static bool same_ids(const int32_t *ids, size_t n, const json_t *list)
{
    bool same = n == json_array_size(list);
    for (size_t i = 0; i < n && same; i++) {
        same = ids[i] == json_integer_value(json_array_get(list, i));
    }
    return same;
}

static void check_encode(const struct tokenizer *t, const json_t *c, bool special, const char *folder)
{
    size_t n, n_ids;
    int32_t *ids = NULL;
    struct error err = {0};
    char *text = from_hex(json_string_value(json_object_get(c, "hex")), &n);
    cr_assert_eq(tokenizer_encode(t, text, n, special, &ids, &n_ids, &err), STATUS_OK, "%s", err.text);
    cr_expect(same_ids(ids, n_ids, json_object_get(c, special ? "ids_special" : "ids")), "%s, case '%s', special %d", folder,
              json_string_value(json_object_get(c, "name")), special);
    free(ids);
    free(text);
}

static void check_decode(const struct tokenizer *t, const json_t *c, bool skip, const char *folder)
{
    const json_t *list = json_object_get(c, "ids_special");
    const json_t *expected = json_object_get(c, skip ? "decoded_skip" : "decoded");
    const size_t n_ids = json_array_size(list);
    int32_t *ids = malloc((n_ids + 1) * sizeof *ids);
    struct error err = {0};
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    cr_assert_eq(tokenizer_decode(t, ids, n_ids, skip, &text, &n, &err), STATUS_OK, "%s", err.text);
    cr_expect(n == json_string_length(expected) && memcmp(text, json_string_value(expected), n + 1) == 0,
              "%s, case '%s', skip %d: '%s'", folder, json_string_value(json_object_get(c, "name")), skip, text);
    free(text);
    free(ids);
}

/* All cases of a folder; at least `least` of them, so that an empty file cannot pass. */
static void check_cases(const char *folder, size_t least, int64_t vocab)
{
    char path[256];
    json_error_t e;
    struct tokenizer *t = load(folder);
    snprintf(path, sizeof path, FIXTURES "%s/cases.json", folder);
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, &e);
    cr_assert_not_null(cases, "%s: %s", path, e.text);
    cr_assert_geq(json_array_size(cases), least);
    cr_assert_eq(tokenizer_vocab(t), vocab);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        check_encode(t, c, false, folder);
        check_encode(t, c, true, folder);
        check_decode(t, c, false, folder);
        check_decode(t, c, true, folder);
    }
    json_decref(cases);
    tokenizer_free(t);
}

Test(tokenizer, older_form_agrees_with_the_reference)
{
    check_cases("tokenizer-gpt2", 100, 800);
}

Test(tokenizer, tokenizer_json_agrees_with_the_reference)
{
    check_cases("tokenizer-json", 100, 800);
}

Test(tokenizer, small_vocabulary_agrees_with_the_reference)
{
    check_cases("tokenizer-512", 100, 512);
}

Test(tokenizer, rarer_settings_agree_with_the_reference)
{
    /* 400 trained tokens and [L], [LR], TOOL, TOO, [R], étoile, <x, <x y, <x y z>: 409. */
    check_cases("tokenizer-flags", 100, 409);
}

Test(tokenizer, whole_words_and_unknown_bytes_agree_with_the_reference)
{
    /* <unk>, 26 letters, th, the, he, other, Ġ: 32. */
    check_cases("tokenizer-whole", 10, 32);
}

/* ---- the parts ---- */

Test(tokenizer, the_byte_alphabet_is_a_permutation)
{
    /* 188 printable bytes stand for themselves; the other 68 are U+0100 to U+0143 in order. Space is the 33rd of those
     * (0..31 come first): U+0120, the well-known "Ġ". The last, 0xAD, is U+0143. */
    bool taken[BYTE_ALPHABET] = {false};
    for (int i = 0; i < 256; i++) {
        const uint32_t point = byte_to_unicode((uint8_t)i);
        cr_assert_lt(point, (uint32_t)BYTE_ALPHABET);
        cr_assert_not(taken[point], "byte %d", i);
        taken[point] = true;
        char utf8[2], back[2];
        const size_t n = byte_to_utf8((uint8_t)i, utf8);
        cr_assert_eq(token_bytes(utf8, n, back), 1);
        cr_assert_eq((uint8_t)back[0], i);
    }
    cr_assert_eq(byte_to_unicode(' '), 0x120);
    cr_assert_eq(byte_to_unicode(0xAD), 0x143);
    cr_assert_eq(byte_to_unicode('A'), 'A');
}

Test(tokenizer, content_outside_the_alphabet_stands_for_itself)
{
    /* A space is not in the alphabet (it would be "Ġ"), so "a b" is an added token's own text; so is "Ġ" + U+590F. */
    char out[8];
    cr_assert_eq(token_bytes("a b", 3, out), 3);
    cr_assert_eq(memcmp(out, "a b", 3), 0);
    cr_assert_eq(token_bytes("\xC4\xA0\xE5\xA4\x8F", 5, out), 5);
    cr_assert_eq(memcmp(out, "\xC4\xA0\xE5\xA4\x8F", 5), 0);
    cr_assert_eq(token_bytes("\xC4\xA0"
                             "a",
                             3, out),
                 2); /* " a" */
    cr_assert_eq(memcmp(out, " a", 2), 0);
}

static void check_repair(const char *text, size_t n, const char *expected)
{
    size_t out_n;
    char *out = utf8_repair(text, n, &out_n);
    cr_expect_str_eq(out, expected);
    cr_expect_eq(out_n, strlen(expected));
    cr_expect(utf8_valid(out, out_n));
    free(out);
}

Test(tokenizer, ill_formed_utf8_becomes_replacement_characters)
{
#define R "\xEF\xBF\xBD"
    check_repair("a\x80z", 3, "a" R "z");                    /* a continuation alone */
    check_repair("\xE5\xA4", 2, R);                          /* the start of a character is one stretch */
    check_repair("\xE5\xA4(", 3, R "(");                     /* and ends where it goes wrong */
    check_repair("\xC0\xAF", 2, R R);                        /* C0 starts nothing, AF continues nothing */
    check_repair("\xE0\x80\xAF", 3, R R R);                  /* E0 wants A0..BF next */
    check_repair("\xED\xA0\x80", 3, R R R);                  /* ED wants 80..9F next: no surrogates */
    check_repair("\xF4\x90\x80\x80", 4, R R R R);            /* F4 wants 80..8F next: U+10FFFF is the last */
    check_repair("\xF4\x8F\xBF\xBF", 4, "\xF4\x8F\xBF\xBF"); /* which is fine */
    check_repair("\xF0\x9F\x98", 3, R);
#undef R
}

Test(tokenizer, white_space_is_unicode_white_space)
{
    /* The 25 White_Space characters of Unicode, from its list PropList.txt. */
    static const unsigned list[] = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,   0xA0,   0x1680,
                                    0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                    0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
    size_t found = 0;
    for (unsigned point = 0; point < 0x10000; point++) {
        unsigned char s[3] = {(unsigned char)(0xE0 | point >> 12), (unsigned char)(0x80 | (point >> 6 & 0x3F)),
                              (unsigned char)(0x80 | (point & 0x3F))};
        size_t n = 3;
        if (point < 0x80) {
            s[0] = (unsigned char)point;
            n = 1;
        } else if (point < 0x800) {
            s[0] = (unsigned char)(0xC0 | point >> 6);
            s[1] = (unsigned char)(0x80 | (point & 0x3F));
            n = 2;
        }
        if (utf8_space(s, n) > 0) {
            cr_assert_lt(found, sizeof list / sizeof list[0], "U+%04X", point);
            cr_assert_eq(point, list[found], "U+%04X", point);
            cr_assert_eq(utf8_space(s, n), n);
            found++;
        }
    }
    cr_assert_eq(found, 25);
}

/* ---- round trips and hostile texts ---- */

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void check_round_trip(const struct tokenizer *t, const char *text, size_t n)
{
    int32_t *ids = NULL;
    size_t n_ids = 0, back_n = 0, repaired_n = 0;
    char *back = NULL;
    char *repaired = utf8_repair(text, n, &repaired_n);
    cr_assert_eq(tokenizer_encode(t, text, n, false, &ids, &n_ids, NULL), STATUS_OK);
    cr_assert_eq(tokenizer_decode(t, ids, n_ids, false, &back, &back_n, NULL), STATUS_OK);
    cr_assert(back_n == repaired_n && memcmp(back, repaired, back_n) == 0);
    free(ids);
    free(back);
    free(repaired);
}

Test(tokenizer, decoding_what_was_encoded_gives_the_text_back)
{
    /* Every byte has a token and nothing is stripped, so the only change is that of ill-formed UTF-8. */
    const unsigned seed = 12345;
    struct tokenizer *t = load("tokenizer-512");
    srand(seed);
    for (int i = 0; i < 500; i++) {
        char text[64];
        const size_t n = (size_t)rand() % sizeof text;
        for (size_t k = 0; k < n; k++) {
            text[k] = (char)(i % 2 != 0 ? rand() % 256 : rand() % 2 != 0 ? ' ' : 'a' + rand() % 6);
        }
        check_round_trip(t, text, n);
    }
    tokenizer_free(t);
}

Test(tokenizer, a_hostile_megabyte_is_quick, .timeout = 60)
{
    /* One word of 2^20 letters: about 2^20 merges with a heap of 2^21 pairs, 20 steps each. That is 10^8 simple steps, well below
     * 10 s even under the sanitizers; a quadratic merge would take 2^40. The same for one long stretch of white space, of
     * punctuation, and of almost-special tokens. */
    static const char *const fill[] = {"a", "e ", " ", "!", "\n", "</s", "\x80", "\xE5\xA4\x8F", "'"};
    const size_t n = 1 << 20;
    char *text = malloc(n);
    struct tokenizer *t = load("tokenizer-512");
    for (size_t f = 0; f < sizeof fill / sizeof fill[0]; f++) {
        for (size_t i = 0; i < n; i++) {
            text[i] = fill[f][i % strlen(fill[f])];
        }
        const double start_s = now_s();
        check_round_trip(t, text, n);
        cr_expect_lt(now_s() - start_s, 10.0, "fill '%s'", fill[f]);
    }
    tokenizer_free(t);
    free(text);
}

Test(tokenizer, an_empty_text_has_only_the_leading_token)
{
    /* OPT puts "</s>", id 2, first. */
    struct tokenizer *t = load("tokenizer-gpt2");
    int32_t *ids = NULL;
    size_t n = 9;
    cr_assert_eq(tokenizer_encode(t, "", 0, true, &ids, &n, NULL), STATUS_OK);
    cr_assert(n == 1 && ids[0] == 2);
    free(ids);
    cr_assert_eq(tokenizer_encode(t, NULL, 0, false, &ids, &n, NULL), STATUS_OK);
    cr_assert(n == 0 && ids != NULL);
    free(ids);
    tokenizer_free(t);
}

Test(tokenizer, ids_outside_the_vocabulary_are_refused)
{
    struct tokenizer *t = load("tokenizer-512");
    const int32_t bad[] = {512, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        struct error err = {0};
        char *text = NULL;
        size_t n;
        const int32_t ids[2] = {5, bad[i]};
        cr_assert_eq(tokenizer_decode(t, ids, 2, false, &text, &n, &err), STATUS_INVALID);
        cr_assert_null(text);
        cr_assert(strstr(err.text, "token 1 to decode: expected an id from 0 to 511, found") != NULL, "%s", err.text);
    }
    tokenizer_free(t);
}
