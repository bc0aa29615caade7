/* test_tokenizer_files.c - good and bad tokenizer files: what is read from them, and what each complaint says. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/tokenizer.h"
#include "tests/failing_allocations.h"

/* ---- bad tokenizer.json ---- */

#define MODEL                                                                                                                    \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<x>\":3},\"merges\":[\"a b\"]}"
#define PRE     "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define DECODER "\"decoder\":{\"type\":\"ByteLevel\"}"
#define ADDED   "\"added_tokens\":[{\"id\":3,\"content\":\"<x>\",\"special\":true}]"
#define POST                                                                                                                     \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}},{\"Sequence\":"         \
    "{\"id\":\"A\"}}],\"special_tokens\":{\"<x>\":{\"ids\":[3]}}}"
static const char good[] = "{\"version\":\"1.0\",\"normalizer\":null," PRE "," POST "," DECODER "," ADDED "," MODEL "}";

/* The good file with the first `from` replaced by `to`. */
static char *changed(const char *from, const char *to)
{
    const char *at = strstr(good, from);
    cr_assert_not_null(at, "'%s' is not in the file", from);
    const size_t n = strlen(good) - strlen(from) + strlen(to) + 1;
    char *text = malloc(n);
    snprintf(text, n, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    return text;
}

static void check_refused(const char *from, const char *to, const char *message)
{
    struct error err = {0};
    struct tokenizer *t = NULL;
    char *text = changed(from, to);
    cr_expect_eq(tokenizer_parse(&t, "t.json", text, strlen(text), &err), STATUS_INVALID, "%s -> %s", from, to);
    cr_expect_null(t);
    cr_expect(strstr(err.text, message) != NULL, "'%s' -> '%s': expected '%s', found '%s'", from, to, message, err.text);
    cr_expect(strncmp(err.text, "t.json:", 7) == 0, "%s", err.text);
    free(text);
}

Test(tokenizer_files, the_good_file_is_good)
{
    /* "ab<x>ba": ab is one merge, <x> an added token, ba has none. */
    struct error err = {0};
    struct tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n;
    cr_assert_eq(tokenizer_parse(&t, "t.json", good, strlen(good), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(tokenizer_encode(t, "ab<x>ba", 7, true, &ids, &n, &err), STATUS_OK, "%s", err.text);
    const int32_t expected[] = {3, 2, 3, 1, 0};
    cr_assert_eq(n, 5);
    cr_assert_eq(memcmp(ids, expected, sizeof expected), 0);
    free(ids);
    /* "c" has no token here and there is no unk_token. */
    cr_assert_eq(tokenizer_encode(t, "abc", 3, true, &ids, &n, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "byte 0x63") != NULL, "%s", err.text);
    cr_assert_null(ids);
    tokenizer_free(t);
}

Test(tokenizer_files, unsupported_fields_are_named)
{
    check_refused("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}",
                  "key 'normalizer.type': expected no normalizer, found \"NFC\"");
    check_refused(PRE, "\"pre_tokenizer\":{\"type\":\"Metaspace\"}",
                  "key 'pre_tokenizer.type': expected \"ByteLevel\", found \"Metaspace\"");
    check_refused(PRE, "\"pre_tokenizer\":null", "key 'pre_tokenizer': expected \"ByteLevel\", found null");
    check_refused("\"use_regex\":true", "\"use_regex\":1", "key 'pre_tokenizer.use_regex': expected true or false, found 1");
    check_refused("\"use_regex\":true", "\"behavior\":1", "key 'pre_tokenizer.behavior'");
    check_refused(DECODER, "\"decoder\":{\"type\":\"WordPiece\"}",
                  "key 'decoder.type': expected \"ByteLevel\", found \"WordPiece\"");
    check_refused(DECODER, "\"decoder\":null", "key 'decoder.type'");
    check_refused("\"type\":\"BPE\"", "\"type\":\"Unigram\"", "key 'model.type': expected \"BPE\", found \"Unigram\"");
    check_refused("\"unk_token\":null", "\"byte_fallback\":true", "key 'model.byte_fallback'");
    check_refused("\"unk_token\":null", "\"dropout\":0.1", "key 'model.dropout'");
    check_refused("\"unk_token\":null", "\"fuse_unk\":true", "key 'model.fuse_unk'");
    check_refused("\"unk_token\":null", "\"continuing_subword_prefix\":\"##\"", "key 'model.continuing_subword_prefix'");
    check_refused("\"unk_token\":null", "\"end_of_word_suffix\":\"</w>\"", "key 'model.end_of_word_suffix'");
    check_refused("\"unk_token\":null", "\"unk_token\":\"c\"", "key 'model.unk_token'");
    check_refused("\"unk_token\":null", "\"extra\":1", "key 'model.extra'");
    check_refused("\"version\"", "\"model2\"", "key 'model2'");
    check_refused("\"special\":true", "\"single_word\":true", "added_tokens[0].single_word");
    check_refused("\"special\":true", "\"other\":true", "key 'added_tokens[0].other'");
    check_refused("TemplateProcessing", "BertProcessing", "key 'post_processor.type'");
}

Test(tokenizer_files, broken_contents_are_named)
{
    check_refused("\"b\":1", "\"b\":0", "\"b\": expected an id of its own, found 0, which is \"a\"");
    check_refused("\"b\":1", "\"b\":-1", "expected an id from 0 to 4194303, found -1");
    check_refused("\"b\":1", "\"b\":4194304", "expected an id from 0 to 4194303, found 4194304");
    check_refused("\"b\":1", "\"b\":1.5", "expected an integer id, found 1.5");
    check_refused("\"b\":1", "\"a\":1", "duplicate object key");
    check_refused("\"b\":1", "\"\":1", "expected a content");
    check_refused("\"a b\"", "\"a c\"", "merge 0 \"a\" \"c\": expected tokens of the vocabulary, found none for its right part");
    check_refused("\"a b\"", "\"c a\"", "found none for its left part");
    check_refused("\"a b\"", "\"b a\"", "found none for its result");
    check_refused("\"a b\"", "\"ab\"", "key 'model.merges[0]': expected two tokens, found \"ab\"");
    check_refused("\"a b\"", "\"a b a\"", "key 'model.merges[0]'");
    check_refused("\"a b\"", "[\"a\",\"b\",\"a\"]", "key 'model.merges[0]'");
    check_refused("\"a b\"", "[\"a\",7]", "key 'model.merges[0]'");
    check_refused("[\"a b\"]", "{}", "key 'model.merges': expected a list");
    check_refused("{\"a\":0,\"b\":1,\"ab\":2,\"<x>\":3}", "{}", "key 'model.vocab'");
    check_refused("\"id\":3", "\"id\":2", "added token \"<x>\": expected its id 3 of the vocabulary, found 2");
    check_refused("\"id\":3", "\"id\":-3", "key 'added_tokens[0].id'");
    check_refused("\"content\":\"<x>\"", "\"content\":\"<y>\"", "expected an id of its own, found 3, which is \"<x>\"");
    check_refused("\"content\":\"<x>\"", "\"content\":null", "key 'added_tokens[0]': expected a token");
    check_refused("\"ids\":[3]", "\"ids\":[4]", "key 'post_processor.special_tokens': expected ids of the vocabulary, found 4");
    check_refused("{\"id\":\"A\"}}", "{\"id\":\"A\"}},{\"Sequence\":{}}", "key 'post_processor.single'");
    check_refused("{\"SpecialToken\":{\"id\":\"<x>\"}}", "7", "key 'post_processor.single'");
    check_refused("{\"version\"", "[{\"version\"", "expected JSON, found:");
}

Test(tokenizer_files, every_truncation_is_refused)
{
    /* A proper prefix of an object is no JSON value. */
    for (size_t n = 0; n < strlen(good); n++) {
        struct error err = {0};
        struct tokenizer *t = NULL;
        char *text = malloc(n + 1); /* of the exact size, so that the sanitizer sees a read behind it */
        memcpy(text, good, n);
        cr_assert_eq(tokenizer_parse(&t, "t.json", text, n, &err), STATUS_INVALID, "%zu bytes", n);
        cr_assert_null(t);
        cr_assert(strncmp(err.text, "t.json:", 7) == 0, "%s", err.text);
        free(text);
    }
}

Test(tokenizer_files, an_added_token_may_not_be_endless)
{
    /* 256 bytes are the limit. */
    char content[300], to[400];
    memset(content, 'y', sizeof content);
    snprintf(to, sizeof to, "\"added_tokens\":[{\"id\":4,\"content\":\"%.257s\"},", content);
    check_refused("\"added_tokens\":[", to, "expected 1 to 256 bytes, found 257");
}

/* ---- model directories ---- */

struct folder {
    char path[64];
};

static struct folder make_folder(void)
{
    struct folder f = {.path = "/tmp/ballast-tokenizer-XXXXXX"};
    cr_assert_not_null(mkdtemp(f.path));
    return f;
}

static void write_file(const struct folder *f, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    FILE *out = fopen(path, "wb");
    cr_assert_not_null(out);
    cr_assert_geq(fputs(text, out), 0);
    cr_assert_eq(fclose(out), 0);
}

static void remove_folder(const struct folder *f)
{
    static const char *const names[] = {"tokenizer.json",          "vocab.json",       "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", f->path, names[i]);
        (void)unlink(path);
    }
    cr_assert_eq(rmdir(f->path), 0);
}

static const char small_vocab[] = "{\"a\":0,\"b\":1,\"ab\":2,\"</s>\":3}";

/* A directory of the small vocabulary and one further or changed file. */
static void check_directory(const char *name, const char *text, enum status expected, const char *message)
{
    struct folder f = make_folder();
    struct error err = {0};
    struct tokenizer *t = NULL;
    write_file(&f, "vocab.json", small_vocab);
    write_file(&f, "merges.txt", "#version: 0.2\na b\n");
    write_file(&f, name, text);
    cr_expect_eq(tokenizer_load(&t, f.path, &err), expected, "%s: %s", name, err.text);
    cr_expect(expected == STATUS_OK ? t != NULL : t == NULL);
    cr_expect(strstr(err.text, message) != NULL, "%s '%s': expected '%s', found '%s'", name, text, message, err.text);
    cr_expect(expected == STATUS_OK || strstr(err.text, name) != NULL, "%s", err.text);
    tokenizer_free(t);
    remove_folder(&f);
}

Test(tokenizer_files, a_directory_without_a_tokenizer_says_what_was_expected)
{
    struct folder f = make_folder();
    struct error err = {0};
    struct tokenizer *t = NULL;
    cr_assert_eq(tokenizer_load(&t, f.path, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "expected tokenizer.json, or vocab.json and merges.txt, found neither") != NULL, "%s", err.text);
    write_file(&f, "vocab.json", small_vocab);
    err = (struct error){0};
    cr_assert_eq(tokenizer_load(&t, f.path, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "merges.txt: No such file") != NULL, "%s", err.text);
    remove_folder(&f);
}

Test(tokenizer_files, bad_files_of_a_directory_are_named)
{
    check_directory("merges.txt", "#version: 0.2\na b\nab\n", STATUS_INVALID,
                    "merges.txt:3: expected two tokens with one space between");
    check_directory("merges.txt", "a b\n a\n", STATUS_INVALID, "merges.txt:2:");
    check_directory("merges.txt", "a b\r\na b c\r\n", STATUS_INVALID, "merges.txt:2:");
    check_directory("merges.txt", "\xFF\xFE x\n", STATUS_INVALID, "merges.txt:1: merge 0 \"??\" \"x\"");
    check_directory("vocab.json", "[1]", STATUS_INVALID, "expected an object of tokens");
    check_directory("vocab.json", "{\"a\":0", STATUS_INVALID, "vocab.json:1: expected JSON");
    check_directory("tokenizer_config.json", "{\"add_bos_token\":1}", STATUS_INVALID, "key 'add_bos_token'");
    check_directory("tokenizer_config.json", "{\"add_bos_token\":true}", STATUS_INVALID,
                    "key 'add_bos_token': expected a bos_token of the vocabulary, found \"<|endoftext|>\"");
    check_directory("tokenizer_config.json", "{\"tokenizer_class\":\"Qwen2Tokenizer\"}", STATUS_INVALID, "key 'tokenizer_class'");
    check_directory("tokenizer_config.json", "{\"add_prefix_space\":\"no\"}", STATUS_INVALID, "key 'add_prefix_space'");
    check_directory("tokenizer_config.json", "{\"bos_token\":7}", STATUS_INVALID, "key 'bos_token': expected a token");
    check_directory("tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"a\"}}}", STATUS_INVALID,
                    "key 'added_tokens_decoder.x': expected an id");
    check_directory("tokenizer_config.json", "[]", STATUS_INVALID, "expected an object");
    check_directory("special_tokens_map.json", "{\"pad_token\":{\"content\":\"a\",\"single_word\":true}}", STATUS_INVALID,
                    "pad_token.single_word");
    check_directory("special_tokens_map.json", "{\"additional_special_tokens\":\"a\"}", STATUS_INVALID,
                    "additional_special_tokens");
    check_directory("added_tokens.json", "{\"a\":1}", STATUS_INVALID, "expected its id 0 of the vocabulary, found 1");
    check_directory("added_tokens.json", "{\"z\":-1}", STATUS_INVALID, "key 'z': expected an id of 0 or more");
    check_directory("tokenizer.json", "{}", STATUS_INVALID, "key 'decoder.type'");
}

/* The ids of "ab</s>zq" with leading tokens, in a directory of the small vocabulary and the given companions. */
static void check_companions(const char *config, const char *map, const char *added, size_t n_expected, const int32_t *expected)
{
    struct folder f = make_folder();
    struct error err = {0};
    struct tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n;
    write_file(&f, "vocab.json", small_vocab);
    write_file(&f, "merges.txt", "a b");
    write_file(&f, "tokenizer_config.json", config);
    write_file(&f, "special_tokens_map.json", map);
    write_file(&f, "added_tokens.json", added);
    cr_assert_eq(tokenizer_load(&t, f.path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(tokenizer_encode(t, "ab</s>zq", 8, true, &ids, &n, &err), STATUS_OK, "%s", err.text);
    cr_expect(n == n_expected && memcmp(ids, expected, n * sizeof *ids) == 0, "%s", config);
    free(ids);
    tokenizer_free(t);
    remove_folder(&f);
}

Test(tokenizer_files, companions_decide_the_special_tokens)
{
    /* a b ab </s> are 0 to 3, "zq" is added as 7. add_bos_token puts bos, here </s>, first; add_eos_token eos last. */
    check_companions("{\"add_bos_token\":true,\"bos_token\":\"</s>\"}", "{}", "{\"zq\":7}", 4, (int32_t[]){3, 2, 3, 7});
    check_companions("{\"bos_token\":\"</s>\"}", "{}", "{\"zq\":7}", 3, (int32_t[]){2, 3, 7});
    check_companions("{\"add_bos_token\":true,\"bos_token\":\"a\"}", "{\"bos_token\":\"</s>\"}", "{\"zq\":7}", 4,
                     (int32_t[]){3, 2, 3, 7}); /* the map comes before the config */
    check_companions("{\"add_eos_token\":true,\"eos_token\":\"</s>\"}", "{}", "{\"zq\":7}", 4, (int32_t[]){2, 3, 7, 3});
    /* A special token that is nowhere gets the next id, 4; with added_tokens_decoder the other two files are not read. */
    check_companions("{\"bos_token\":\"</s>\",\"pad_token\":\"zq\"}", "{}", "{}", 3, (int32_t[]){2, 3, 4});
    check_companions("{\"bos_token\":\"</s>\",\"added_tokens_decoder\":{\"9\":{\"content\":\"zq\"}}}", "{\"x\":0}", "{\"zq\":7}",
                     3, (int32_t[]){2, 3, 9});
    check_companions("{\"additional_special_tokens\":[\"</s>\",{\"content\":\"zq\"}]}", "{}", "{}", 3, (int32_t[]){2, 3, 4});
}

Test(tokenizer_files, an_id_without_a_token_decodes_to_nothing)
{
    /* Ids 0 to 3 and 7 are tokens, 4 to 6 are holes inside the vocabulary of 8. */
    struct folder f = make_folder();
    struct tokenizer *t = NULL;
    char *text = NULL;
    size_t n;
    write_file(&f, "vocab.json", small_vocab);
    write_file(&f, "merges.txt", "");
    write_file(&f, "added_tokens.json", "{\"z q\":7}");
    cr_assert_eq(tokenizer_load(&t, f.path, NULL), STATUS_OK);
    cr_assert_eq(tokenizer_vocab(t), 8);
    cr_assert_eq(tokenizer_decode(t, (int32_t[]){0, 5, 7, 1}, 4, false, &text, &n, NULL), STATUS_OK);
    cr_assert_str_eq(text, "az qb");
    free(text);
    tokenizer_free(t);
    remove_folder(&f);
}

/* ---- allocation failures ---- */

#if CAN_FAIL_ALLOCATIONS
static enum status parse_and_use(void)
{
    static const char text[] = "ab <x> ba\x80";
    struct error err = {0};
    struct tokenizer *t = NULL;
    int32_t *ids = NULL;
    char *back = NULL;
    size_t n = 0, back_n;
    enum status status = tokenizer_parse(&t, "t.json", good, strlen(good), &err);
    if (status == STATUS_OK) {
        status = tokenizer_encode(t, text, 2, true, &ids, &n, &err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_decode(t, ids, n, true, &back, &back_n, &err);
    }
    free(back);
    free(ids);
    tokenizer_free(t);
    return status;
}

static enum status load_and_encode(void)
{
    struct error err = {0};
    struct tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    enum status status = tokenizer_load(&t, "tests/fixtures/tokenizer-512", &err);
    if (status == STATUS_OK) {
        status = tokenizer_encode(t, "The river\xFF</s>", 14, true, &ids, &n, &err);
    }
    free(ids);
    tokenizer_free(t);
    return status;
}

Test(tokenizer_files, every_failing_allocation_is_survived, .timeout = 120)
{
    /* A parse makes far more than 50 allocations, nearly all of which are fatal (PCRE2 may do without its JIT). */
    cr_assert_gt(fail_each_allocation(parse_and_use), 50);
}

Test(tokenizer_files, every_failing_allocation_of_a_directory_is_survived, .timeout = 300)
{
    /* 512 tokens less 4 special ones and 256 bytes are 252 merges, each with an allocation of its own. */
    spare_jansson();
    cr_assert_gt(fail_each_allocation(load_and_encode), 252);
}
#else
Test(tokenizer_files, every_failing_allocation_is_survived)
{
    cr_skip_test("the sanitizer owns the allocator");
}
#endif
