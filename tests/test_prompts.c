/* test_prompts.c - prompt files, random prompts and result lines. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/prompts.h"
#include "tests/failing_allocations.h"

#define VOCAB 512

static struct tokenizer *small_tokenizer(void)
{
    struct error err = {0};
    struct tokenizer *t = NULL;
    cr_assert_eq(tokenizer_load(&t, "tests/fixtures/tokenizer-512", &err), STATUS_OK, "%s", err.text);
    return t;
}

static struct prompts parse(const char *text, const struct tokenizer *t)
{
    struct error err = {0};
    struct prompts p;
    cr_assert_eq(prompts_parse(&p, "p.jsonl", text, strlen(text), t, VOCAB, &err), STATUS_OK, "%s", err.text);
    return p;
}

static void check_refused(const char *text, size_t n, const struct tokenizer *t, const char *message)
{
    struct error err = {0};
    struct prompts p;
    char *exact = malloc(n + 1);
    memcpy(exact, text, n);
    exact = realloc(exact, n > 0 ? n : 1); /* no byte behind the text: a sanitizer sees a read there */
    cr_expect_eq(prompts_parse(&p, "p.jsonl", exact, n, t, VOCAB, &err), STATUS_INVALID, "%.80s", text);
    cr_expect(strstr(err.text, message) != NULL, "'%.80s': expected '%s', found '%s'", text, message, err.text);
    cr_expect(strncmp(err.text, "p.jsonl:", 8) == 0, "%s", err.text);
    cr_expect(p.n == 0 && p.prompt == NULL);
    free(exact);
}

Test(prompts, tokens_and_texts_are_read)
{
    /* Lines 2 and 4 are blank. The text gets "</s>" (id 2) in front, as OPT's tokenizer puts it. */
    struct tokenizer *t = small_tokenizer();
    struct prompts p =
        parse("{\"tokens\":[0,511,7]}\n\n{\"id\":\"x\",\"prompt\":\"The </s>\"}\r\n \t\r\n{\"tokens\":[1],\"id\":-12}\n"
              "{\"tokens\":[1],\"id\":0.1}",
              t);
    cr_assert_eq(p.n, 4);
    cr_assert_str_eq(p.prompt[0].id, "0");
    cr_assert_null(p.prompt[0].text);
    cr_assert_eq(p.prompt[0].n_ids, 3);
    cr_assert(p.prompt[0].ids[0] == 0 && p.prompt[0].ids[1] == 511 && p.prompt[0].ids[2] == 7);
    cr_assert_str_eq(p.prompt[1].id, "x");
    cr_assert_str_eq(p.prompt[1].text, "The </s>");
    cr_assert_eq(p.prompt[1].ids[0], 2);
    cr_assert_eq(p.prompt[1].ids[p.prompt[1].n_ids - 1], 2);
    cr_assert_str_eq(p.prompt[2].id, "-12");
    cr_assert_str_eq(p.prompt[3].id, "0.1");
    prompts_free(&p);
    tokenizer_free(t);
}

Test(prompts, an_id_that_is_left_out_is_the_number_of_the_prompt)
{
    struct prompts p = parse("\n{\"tokens\":[1]}\n\n{\"tokens\":[2]}\n{\"tokens\":[3],\"id\":\"7\"}\n{\"tokens\":[4]}", NULL);
    const char *const expected[] = {"0", "1", "7", "3"};
    for (int i = 0; i < 4; i++) {
        cr_assert_str_eq(p.prompt[i].id, expected[i]);
    }
    prompts_free(&p);
}

Test(prompts, bad_lines_are_named_with_their_line)
{
    struct tokenizer *t = small_tokenizer();
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "expected at least one line"},
        {"\n \n\t\r\n", "expected at least one line"},
        {"{\"tokens\":[1]}\n{\"tokens\":[1]\n", "p.jsonl:2: column"},
        {"{\"tokens\":[1]}\n\n[1]\n", "p.jsonl:3: expected an object"},
        {"7\n", "p.jsonl:1:"},
        {"{\"tokens\":[1]} {\"tokens\":[1]}\n", "p.jsonl:1: column"},
        {"{\"tokens\":[1],\"tokens\":[2]}\n", "duplicate object key"},
        {"{}\n", "found neither"},
        {"{\"id\":1}\n", "found neither"},
        {"{\"prompt\":\"a\",\"tokens\":[1]}\n", "found both"},
        {"{\"promt\":\"a\"}\n", "found 'promt'"},
        {"{\"prompt\":\"a\",\"n\":1}\n", "found 'n'"},
        {"{\"prompt\":7}\n", "key 'prompt': expected a string, found a number"},
        {"{\"prompt\":null}\n", "key 'prompt': expected a string, found null"},
        {"{\"prompt\":\"a\\u0000b\"}\n", "\\u0000"},
        {"{\"prompt\":\"\xFF\"}\n", "p.jsonl:1: column"},
        {"{\"prompt\":\"\\ud800\"}\n", "p.jsonl:1: column"},
        {"{\"tokens\":7}\n", "key 'tokens': expected a list of token ids, found a number"},
        {"{\"tokens\":[]}\n", "found an empty one"},
        {"{\"tokens\":[1,512]}\n", "token 1: expected an id from 0 to 511 (the model's vocabulary), found 512"},
        {"{\"tokens\":[-1]}\n", "token 0: expected an id from 0 to 511 (the model's vocabulary), found -1"},
        {"{\"tokens\":[4294967297]}\n", "found 4294967297"},
        {"{\"tokens\":[99999999999999999999]}\n", "p.jsonl:1: column"},
        {"{\"tokens\":[1,\"2\"]}\n", "key 'tokens', item 1: expected an integer, found a string"},
        {"{\"tokens\":[1.0]}\n", "key 'tokens', item 0: expected an integer, found a fraction"},
        {"{\"tokens\":[1],\"id\":null}\n", "key 'id': expected a string or a number, found null"},
        {"{\"tokens\":[1],\"id\":[1]}\n", "key 'id': expected a string or a number, found a list"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_refused(bad[i].text, strlen(bad[i].text), t, bad[i].message);
    }
    check_refused("{\"tokens\":[1]}\0", 15, t, "p.jsonl:1:");
    check_refused("\0", 1, t, "p.jsonl:1:");
    tokenizer_free(t);
}

Test(prompts, a_text_without_a_tokenizer_says_so)
{
    check_refused("{\"prompt\":\"a\"}", 14, NULL, "this model has no tokenizer");
}

Test(prompts, a_text_that_leaves_the_models_vocabulary_is_refused)
{
    /* The tokenizer knows 512 ids, the model only 3: "</s>" (2) fits, "a" does not. */
    static const char text[] = "{\"prompt\":\"a\"}";
    struct tokenizer *t = small_tokenizer();
    struct error err = {0};
    struct prompts p;
    cr_assert_eq(prompts_parse(&p, "p.jsonl", text, strlen(text), t, 3, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "p.jsonl:1: token 1: expected an id from 0 to 2") != NULL, "%s", err.text);
    tokenizer_free(t);
}

Test(prompts, every_truncated_line_is_refused)
{
    static const char text[] = "{\"tokens\":[1,22,333],\"id\":\"abc\\u00e9\\n\"}";
    for (size_t n = 1; n < strlen(text); n++) {
        check_refused(text, n, NULL, "p.jsonl:1:");
    }
}

Test(prompts, a_very_long_line_is_read)
{
    /* 8 MiB of "the the ...": the text comes back whole. */
    const size_t n = 8 << 20;
    static const char front[] = "{\"prompt\":\"", back[] = "\"}\n";
    char *line = malloc(n + sizeof front + sizeof back);
    struct tokenizer *t = small_tokenizer();
    strcpy(line, front);
    for (size_t i = 0; i < n; i++) {
        line[strlen(front) + i] = "the "[i % 4];
    }
    strcpy(line + strlen(front) + n, back);
    struct prompts p = parse(line, t);
    cr_assert_eq(p.n, 1);
    cr_assert_eq(strlen(p.prompt[0].text), n);
    cr_assert_gt(p.prompt[0].n_ids, 1 << 20);
    prompts_free(&p);
    tokenizer_free(t);
    free(line);
}

Test(prompts, a_file_is_loaded_and_a_missing_one_is_named)
{
    char path[] = "/tmp/ballast-prompts-XXXXXX";
    struct error err = {0};
    struct prompts p;
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "{\"tokens\":[5]}\n{\"tokens\":[x]}\n", 30), 30);
    cr_assert_eq(prompts_load(&p, path, NULL, VOCAB, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, path) != NULL && strstr(err.text, ":2: ") != NULL, "%s", err.text);
    cr_assert_eq(ftruncate(fd, 15), 0);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(prompts_load(&p, path, NULL, VOCAB, NULL), STATUS_OK);
    cr_assert(p.n == 1 && p.prompt[0].ids[0] == 5);
    prompts_free(&p);
    cr_assert_eq(unlink(path), 0);
    err = (struct error){0};
    cr_assert_eq(prompts_load(&p, path, NULL, VOCAB, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, path) != NULL && strstr(err.text, "No such file") != NULL, "%s", err.text);
    err = (struct error){0};
    cr_assert_eq(prompts_load(&p, "tests", NULL, VOCAB, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "tests: Is a directory") != NULL, "%s", err.text);
}

Test(prompts, a_dash_is_standard_input)
{
    struct prompts p;
    FILE *in = tmpfile();
    cr_assert_not_null(in);
    cr_assert_geq(fputs("{\"tokens\":[9]}", in), 0);
    rewind(in);
    cr_assert_geq(dup2(fileno(in), STDIN_FILENO), 0);
    cr_assert_eq(prompts_load(&p, "-", NULL, VOCAB, NULL), STATUS_OK);
    cr_assert(p.n == 1 && p.prompt[0].ids[0] == 9);
    prompts_free(&p);
    fclose(in);
}

/* ---- random prompts ---- */

Test(prompts, random_prompts_are_the_same_for_a_seed)
{
    /* 5 and 8 prompts of one seed share their first 5, as each id is a hash of its place. With another seed 8 * 20 = 160 ids of
     * 508 agree 0.3 times on average; 10 is out of reach. */
    struct prompts a, b, c;
    int64_t same = 0;
    cr_assert_eq(prompts_random(&a, 5, 20, 4, VOCAB, 1, NULL), STATUS_OK);
    cr_assert_eq(prompts_random(&b, 8, 20, 4, VOCAB, 1, NULL), STATUS_OK);
    cr_assert_eq(prompts_random(&c, 8, 20, 4, VOCAB, 2, NULL), STATUS_OK);
    cr_assert(a.n == 5 && b.n == 8);
    for (int64_t i = 0; i < 8; i++) {
        cr_assert_eq(b.prompt[i].n_ids, 20);
        cr_assert_null(b.prompt[i].text);
        cr_assert_eq(atoi(b.prompt[i].id), i);
        if (i < 5) {
            cr_assert_eq(memcmp(a.prompt[i].ids, b.prompt[i].ids, 20 * sizeof(int32_t)), 0);
        }
        for (int64_t k = 0; k < 20; k++) {
            cr_assert(b.prompt[i].ids[k] >= 4 && b.prompt[i].ids[k] < VOCAB);
            same += b.prompt[i].ids[k] == c.prompt[i].ids[k];
        }
    }
    cr_assert_lt(same, 10);
    prompts_free(&a);
    prompts_free(&b);
    prompts_free(&c);
}

Test(prompts, random_ids_are_spread_over_the_whole_range)
{
    /* 100000 ids over 10 values: 10000 each, standard deviation sqrt(100000 * 0.1 * 0.9) = 95; 6 deviations are 570. */
    struct prompts p;
    int count[10] = {0};
    cr_assert_eq(prompts_random(&p, 100, 1000, 2, 12, 3, NULL), STATUS_OK);
    for (int64_t i = 0; i < p.n; i++) {
        for (int64_t k = 0; k < p.prompt[i].n_ids; k++) {
            count[p.prompt[i].ids[k] - 2]++;
        }
    }
    for (int i = 0; i < 10; i++) {
        cr_expect_lt(abs(count[i] - 10000), 570, "id %d: %d", i + 2, count[i]);
    }
    prompts_free(&p);
}

Test(prompts, impossible_random_prompts_are_refused)
{
    static const int64_t bad[][4] = {{0, 5, 0, 10},  {5, 0, 0, 10},  {-1, 5, 0, 10},
                                     {1, 5, 10, 10}, {1, 5, -1, 10}, {1, 5, 0, INT64_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        struct prompts p;
        cr_expect_eq(prompts_random(&p, bad[i][0], bad[i][1], bad[i][2], bad[i][3], 0, &err), STATUS_INVALID, "case %zu", i);
        cr_expect(strstr(err.text, "expected") != NULL && p.n == 0 && p.prompt == NULL, "%s", err.text);
    }
}

/* ---- results ---- */

/* The line written for a prompt and an answer. */
static char *result_line(const struct prompt *p, const int32_t *tokens, int64_t n, bool stopped, const struct tokenizer *t)
{
    char *line = NULL;
    size_t size = 0;
    struct error err = {0};
    FILE *out = open_memstream(&line, &size);
    cr_assert_eq(prompts_write_result(out, p, tokens, n, stopped, t, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(fclose(out), 0);
    return line;
}

Test(prompts, a_result_is_one_line_of_json)
{
    struct prompt p = {.id = "7", .text = "say \"hi\"\n"};
    char *line = result_line(&p, (int32_t[]){5, 6}, 2, true, NULL);
    cr_assert_str_eq(line, "{\"id\":\"7\",\"prompt\":\"say \\\"hi\\\"\\n\",\"tokens\":[5,6],\"finish\":\"stop\"}\n");
    free(line);
    p.text = NULL;
    line = result_line(&p, NULL, 0, false, NULL);
    cr_assert_str_eq(line, "{\"id\":\"7\",\"tokens\":[],\"finish\":\"length\"}\n");
    free(line);
}

Test(prompts, a_result_with_a_tokenizer_has_the_text_without_special_tokens)
{
    /* Ids 2 ("</s>") and 512 and above (rows of the model that the tokenizer does not know) have no text. */
    struct tokenizer *t = small_tokenizer();
    const struct prompt p = {.id = "a"};
    int32_t *ids = NULL;
    size_t n;
    cr_assert_eq(tokenizer_encode(t, "The river\n", 10, false, &ids, &n, NULL), STATUS_OK);
    int32_t *answer = malloc((n + 2) * sizeof *answer);
    memcpy(answer, ids, n * sizeof *ids);
    answer[n] = 519;
    answer[n + 1] = 2;
    char *line = result_line(&p, answer, (int64_t)n + 2, true, t);
    json_t *object = json_loads(line, 0, NULL);
    cr_assert_str_eq(json_string_value(json_object_get(object, "text")), "The river\n");
    cr_assert_eq(json_array_size(json_object_get(object, "tokens")), n + 2);
    json_decref(object);
    free(line);
    free(answer);
    free(ids);
    tokenizer_free(t);
}

Test(prompts, results_read_back_as_the_prompts_they_answer)
{
    /* Half a character decodes to a replacement character, so every line is UTF-8. */
    struct tokenizer *t = small_tokenizer();
    const struct prompt p = {.id = "é", .text = "夏"};
    int32_t *ids = NULL;
    size_t n;
    cr_assert_eq(tokenizer_encode(t, "夏", 3, false, &ids, &n, NULL), STATUS_OK);
    char *line = result_line(&p, ids, (int64_t)n - 1, false, t);
    json_t *object = json_loads(line, 0, NULL);
    cr_assert_not_null(object, "%s", line);
    cr_assert_str_eq(json_string_value(json_object_get(object, "text")), "\xEF\xBF\xBD");
    cr_assert_str_eq(json_string_value(json_object_get(object, "prompt")), "夏");
    cr_assert_str_eq(json_string_value(json_object_get(object, "id")), "é");
    json_decref(object);
    free(line);
    free(ids);
    tokenizer_free(t);
}

Test(prompts, a_full_disk_is_an_error)
{
    const struct prompt p = {.id = "0"};
    struct error err = {0};
    FILE *out = fopen("/dev/full", "w");
    cr_assert_not_null(out);
    cr_assert_eq(setvbuf(out, NULL, _IONBF, 0), 0);
    cr_assert_eq(prompts_write_result(out, &p, (int32_t[]){1}, 1, false, NULL, &err), STATUS_RUNTIME);
    cr_assert(strstr(err.text, "writing a result: No space left") != NULL, "%s", err.text);
    fclose(out);
}

/* ---- allocation failures ---- */

#if CAN_FAIL_ALLOCATIONS
static struct tokenizer *shared_tokenizer;

static enum status parse_and_write(void)
{
    static const char text[] = "{\"prompt\":\"The river\"}\n{\"tokens\":[1,2,3],\"id\":\"x\"}\n";
    struct error err = {0};
    struct prompts p = {0}, random = {0};
    FILE *out = NULL;
    enum status status = prompts_parse(&p, "p.jsonl", text, strlen(text), shared_tokenizer, VOCAB, &err);
    if (status == STATUS_OK) {
        status = prompts_random(&random, 3, 4, 0, VOCAB, 0, &err);
    }
    if (status == STATUS_OK) {
        out = fopen("/dev/null", "w");
        status = out != NULL ? STATUS_OK : STATUS_RUNTIME;
    }
    if (status == STATUS_OK) {
        status = prompts_write_result(out, &p.prompt[0], p.prompt[0].ids, p.prompt[0].n_ids, true, shared_tokenizer, &err);
    }
    if (out != NULL) {
        fclose(out);
    }
    prompts_free(&p);
    prompts_free(&random);
    return status;
}

Test(prompts, every_failing_allocation_is_survived)
{
    /* Two prompts have an id and ids each, one a text; three random ones an id and ids: 11 of our own at least. */
    shared_tokenizer = small_tokenizer();
    spare_jansson();
    cr_assert_geq(fail_each_allocation(parse_and_write), 11);
    tokenizer_free(shared_tokenizer);
}
#else
Test(prompts, every_failing_allocation_is_survived)
{
    cr_skip_test("the sanitizer owns the allocator");
}
#endif
