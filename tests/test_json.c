/* Strict JSON, the line that a complaint cites, and the one way to fail. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/json.h"
#include "tests/failing_json.h"

/* -- error --------------------------------------------------------------------------------------------------------- */

Test(error, the_first_failure_wins)
{
    struct error err = {0};
    cr_assert_eq(error_set(&err, STATUS_DOES_NOT_FIT, "short by %d bytes", 7), STATUS_DOES_NOT_FIT);
    cr_assert_eq(error_set(&err, STATUS_RUNTIME, "while cleaning up"), STATUS_RUNTIME, "each call returns its own status");
    cr_assert_eq(err.status, STATUS_DOES_NOT_FIT);
    cr_assert_str_eq(err.text, "short by 7 bytes");
    cr_assert_eq(error_at(NULL, STATUS_INVALID, "f", 1, "nobody listens"), STATUS_INVALID);
}

Test(error, places_and_causes)
{
    struct error at = {0}, no_line = {0}, cause = {0};
    error_at(&at, STATUS_INVALID, "a.json", 12, "expected %s", "x");
    cr_assert_str_eq(at.text, "a.json:12: expected x");
    error_at(&no_line, STATUS_INVALID, "a.json", 0, "empty");
    cr_assert_str_eq(no_line.text, "a.json: empty");
    cr_assert_eq(error_errno(&cause, ENOENT, "%s: cannot open", "b"), STATUS_RUNTIME);
    cr_assert_str_eq(cause.text, "b: cannot open: No such file or directory");
}

Test(error, a_message_is_one_line_and_fits)
{
    struct error err = {0}, large = {0};
    char big[2000];
    error_set(&err, STATUS_INVALID, "found '%s'", "a\nb\x1b[2Jc\x7f");
    cr_assert_str_eq(err.text, "found 'a?b?[2Jc?'");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    error_at(&large, STATUS_INVALID, big, 3, "%s", big);
    cr_assert_eq(strlen(large.text), sizeof large.text - 1);
}

/* -- lines --------------------------------------------------------------------------------------------------------- */

static const char nested[] = "{\n"                                  /* 1 */
                             "  \"a\": 1, \"b\": \"{ , \\\" [\",\n" /* 2: structure inside a string does not count */
                             "  \"list\": [ {\"x\": 1},\n"          /* 3 */
                             "    {\"y\": {\"x\": 2},\n"            /* 4 */
                             "     \"x\":\n"                        /* 5 */
                             "       3 } ],\n"                      /* 6 */
                             "  \"c.d[0]\": {\n"                    /* 7: a key that looks like a path */
                             "    \"k\\u00e9\": [1, [2, {}], 3],\n" /* 8 */
                             "    \"z\": null }\n"                  /* 9 */
                             "}\n";

static struct json_object root_of(struct json_file *f, const char *text)
{
    struct error err = {0};
    struct json_object root;
    cr_assert_eq(json_file_parse(f, "t.json", text, strlen(text), &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(json_root(f, &root, &err), STATUS_OK, "%s", err.text);
    return root;
}

static void complains(const struct json_object *o, const char *key, const char *expected)
{
    struct error err = {0};
    cr_assert_eq(json_complain(o, key, &err, "bad"), STATUS_INVALID);
    cr_assert_str_eq(err.text, expected);
}

Test(json, a_complaint_cites_the_line_of_the_key)
{
    struct json_file f;
    struct json_object root = root_of(&f, nested), item, inner, dotted;
    cr_assert_eq(json_item(&root, "list", 1, &item, NULL), STATUS_OK);
    cr_assert_eq(json_child(&item, "y", &inner, NULL), STATUS_OK);
    cr_assert_eq(json_child(&root, "c.d[0]", &dotted, NULL), STATUS_OK);
    complains(&root, NULL, "t.json:1: bad");
    complains(&root, "b", "t.json:2: key 'b': bad");
    complains(&root, "list", "t.json:3: key 'list': bad");
    complains(&root, "missing", "t.json:1: key 'missing': bad");
    complains(&item, NULL, "t.json:4: key 'list[1]': bad");
    complains(&item, "x", "t.json:5: key 'list[1].x': bad");
    complains(&item, "missing", "t.json:4: key 'list[1].missing': bad");
    complains(&inner, "x", "t.json:4: key 'list[1].y.x': bad");
    complains(&dotted, "k\xc3\xa9", "t.json:8: key 'c.d[0].k\xc3\xa9': bad");
    complains(&dotted, "z", "t.json:9: key 'c.d[0].z': bad");
    json_file_free(&f);
}

/* An independent oracle: a generator that writes one key per line and remembers the line of each object. */
struct generator {
    char text[20000];
    size_t used;
    int line, n;
    char name[200][128]; /* the path of keys, by object */
    int object_line[200];
    unsigned seed;
};

static void put(struct generator *g, const char *text)
{
    for (const char *p = text; *p; p++)
        g->line += *p == '\n';
    g->used += (size_t)snprintf(g->text + g->used, sizeof g->text - g->used, "%s", text);
}

static void put_object(struct generator *g, int depth, const char *where)
{
    int me = g->n++, members = rand_r(&g->seed) % 4;
    char key[140];
    snprintf(g->name[me], sizeof g->name[me], "%s", where);
    g->object_line[me] = g->line;
    put(g, "{");
    for (int i = 0; i < members; i++) {
        snprintf(key, sizeof key, "%s\n \"k%d\": ", i ? "," : "", i);
        put(g, key);
        snprintf(key, sizeof key, "%.100s%sk%d", where, where[0] ? "." : "", i);
        if (depth < 4 && g->n < 190 && rand_r(&g->seed) % 2)
            put_object(g, depth + 1, key);
        else
            put(g, rand_r(&g->seed) % 2 ? "\"}{\\\\\"" : "[[], \"{\", 1.5]");
    }
    put(g, "\n}");
}

static void check_objects(const struct generator *g, const struct json_object *o, int *next)
{
    char expected[200];
    const char *key;
    json_t *value;
    int me = (*next)++, member = 0;
    snprintf(expected, sizeof expected, me ? "t.json:%d: key '%s': bad" : "t.json:%d: bad", g->object_line[me], g->name[me]);
    complains(o, NULL, expected);
    json_object_foreach(o->value, key, value)
    {
        struct json_object child;
        if (member++ == 0) {
            snprintf(expected, sizeof expected, "t.json:%d: key '%s%sk0': bad", g->object_line[me] + 1, g->name[me],
                     me ? "." : "");
            complains(o, "k0", expected);
        }
        if (json_is_object(value)) {
            cr_assert_eq(json_child(o, key, &child, NULL), STATUS_OK);
            check_objects(g, &child, next);
        }
    }
}

Test(json, lines_of_generated_objects)
{
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct generator g = {.line = 1, .seed = seed};
        struct json_file f;
        int next = 0;
        put_object(&g, 0, "");
        struct json_object root = root_of(&f, g.text);
        check_objects(&g, &root, &next);
        cr_assert_eq(next, g.n, "seed %u: %d objects checked of %d", seed, next, g.n);
        json_file_free(&f);
    }
    fprintf(stderr, "seeds 1 to 200\n");
}

/* -- getters ------------------------------------------------------------------------------------------------------- */

static const char values[] = "{\"t\": \"text\", \"n\": 1.5, \"i\": 7, \"b\": true, \"q\": \"5 GiB\", \"bare\": 5,\n"
                             " \"o\": {}, \"l\": [1, 2], \"null\": null}";

static void found(enum status status, const struct error *err, const char *expected)
{
    cr_assert_eq(status, STATUS_INVALID);
    cr_assert_str_eq(err->text, expected);
}

Test(json, getters_return_the_value)
{
    struct json_file f;
    struct json_object o = root_of(&f, values), child;
    char text[16];
    double number;
    int64_t whole;
    bool flag = false;
    size_t n;
    cr_assert(!json_text(&o, "t", text, sizeof text, NULL) && strcmp(text, "text") == 0);
    cr_assert(!json_text(&o, "t", text, 5, NULL), "four letters and the end fit five bytes");
    cr_assert(!json_number(&o, "n", 0, 2, &number, NULL) && number == 1.5);
    cr_assert(!json_number(&o, "i", 7, 7, &number, NULL) && number == 7, "a whole number is a number");
    cr_assert(!json_int(&o, "i", 0, 7, &whole, NULL) && whole == 7);
    cr_assert(!json_bool(&o, "b", &flag, NULL) && flag);
    cr_assert(!json_quantity(&o, "q", UNIT_BYTES, &number, NULL) && number == 5368709120.0);
    cr_assert(!json_child(&o, "o", &child, NULL));
    cr_assert(!json_list(&o, "l", 1, 2, &n, NULL) && n == 2);
    cr_assert(json_has(&o, "t") && !json_has(&o, "null") && !json_has(&o, "absent"));
    json_file_free(&f);
}

Test(json, getters_say_what_they_expected_and_found)
{
    struct json_file f;
    struct json_object o = root_of(&f, values), child;
    struct error e[14] = {{0}};
    char text[16];
    double number;
    int64_t whole;
    bool flag;
    size_t n;
    found(json_text(&o, "absent", text, sizeof text, &e[0]), &e[0], "t.json:1: key 'absent': expected a text, found nothing");
    found(json_text(&o, "i", text, sizeof text, &e[1]), &e[1], "t.json:1: key 'i': expected a text, found the number 7");
    found(json_text(&o, "t", text, 4, &e[2]), &e[2], "t.json:1: key 't': expected a text of at most 3 bytes, found 4 bytes");
    found(json_number(&o, "n", 0, 1, &number, &e[3]), &e[3],
          "t.json:1: key 'n': expected a number from 0 to 1, found the number 1.5");
    found(json_number(&o, "t", 0, 1, &number, &e[4]), &e[4],
          "t.json:1: key 't': expected a number from 0 to 1, found the text \"text\"");
    found(json_int(&o, "n", 0, 9, &whole, &e[5]), &e[5],
          "t.json:1: key 'n': expected a whole number from 0 to 9, found the number 1.5");
    found(json_int(&o, "i", 2, 2, &whole, &e[6]), &e[6], "t.json:1: key 'i': expected the whole number 2, found the number 7");
    found(json_bool(&o, "null", &flag, &e[7]), &e[7], "t.json:2: key 'null': expected true or false, found null");
    found(json_quantity(&o, "bare", UNIT_BYTES, &number, &e[8]), &e[8],
          "t.json:1: key 'bare': expected a size such as \"16 GiB\", found the number 5");
    found(json_child(&o, "l", &child, &e[9]), &e[9], "t.json:2: key 'l': expected an object, found a list of 2");
    found(json_list(&o, "l", 3, 3, &n, &e[10]), &e[10], "t.json:2: key 'l': expected a list of 3, found a list of 2");
    found(json_list(&o, "o", 1, 3, &n, &e[11]), &e[11], "t.json:2: key 'o': expected a list, found an object");
    found(json_item(&o, "l", 1, &child, &e[12]), &e[12], "t.json:2: key 'l': expected an object as item 1, found the number 2");
    found(json_item(&o, "l", 9, &child, &e[13]), &e[13], "t.json:2: key 'l': expected an object as item 9, found nothing");
    json_file_free(&f);
}

Test(json, unknown_keys_are_named)
{
    static const char *const all[] = {"t", "n", "i", "b", "q", "bare", "o", "l", "null", NULL}, *const few[] = {"t", "n", NULL};
    struct json_file f;
    struct json_object o = root_of(&f, values);
    struct error err = {0};
    cr_assert_eq(json_only(&o, all, &err), STATUS_OK);
    found(json_only(&o, few, &err), &err, "t.json:1: key 'i': expected only the keys t, n; found the unknown key 'i'");
    json_file_free(&f);
}

/* -- hostile input ------------------------------------------------------------------------------------------------- */

static enum status parse(const char *text, size_t n, struct error *err)
{
    struct json_file f;
    enum status status = json_file_parse(&f, "t.json", text, n, err);
    cr_assert(status == STATUS_OK || (!f.root && !f.text), "a failure keeps nothing");
    json_file_free(&f);
    return status;
}

Test(json, broken_text_is_refused_with_its_line)
{
    static const char *const bad[] =
        {"{\n\n\"a\": }",    "{\n\n\"a\": 1, \"a\": 2}", "{\n\n\"a\": 1} x", "{\n\n\"a\": \"\xff\"}", "{\n\n\"a\": \"\\u0000\"}",
         "{\n\n\"a\": NaN}", "{\n\n\"a\": 1e999}",       "{\n\n'a': 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {0};
        cr_assert_eq(parse(bad[i], strlen(bad[i]), &err), STATUS_INVALID, "%s", bad[i]);
        cr_assert(strncmp(err.text, "t.json:3: ", 10) == 0, "%s", err.text);
    }
}

Test(json, every_cut_of_a_file_is_refused)
{
    for (size_t n = 0; n + 2 < sizeof nested; n++) { /* the last byte cut is the closing brace */
        struct error err = {0};
        cr_assert_eq(parse(nested, n, &err), STATUS_INVALID, "%zu bytes were taken", n);
        cr_assert(strncmp(err.text, "t.json:", 7) == 0, "%s", err.text);
    }
}

Test(json, a_root_that_is_no_object)
{
    struct json_file f;
    struct json_object root;
    struct error err = {0};
    cr_assert_eq(json_file_parse(&f, "t.json", "[1]", 3, &err), STATUS_OK);
    found(json_root(&f, &root, &err), &err, "t.json:1: expected an object, found a list of 1");
    json_file_free(&f);
}

Test(json, deep_nesting_is_refused_or_walked_safely)
{
    enum { DEEP = 1000000, WALKED = 1000 };
    char *text = malloc(DEEP + 1);
    struct error err = {0}, at = {0};
    memset(text, '[', DEEP);
    cr_assert_eq(parse(text, DEEP, &err), STATUS_INVALID);
    /* {"a":{"a":... nested a thousand times, one a line, with a complaint about the innermost. */
    struct json_file f;
    size_t n = 0;
    for (int i = 0; i < WALKED; i++, n += 6)
        memcpy(text + n, "{\"a\":\n", 6);
    text[n++] = '1';
    memset(text + n, '}', WALKED);
    text[n + WALKED] = '\0';
    struct json_object o = root_of(&f, text);
    for (int i = 1; i < WALKED; i++)
        cr_assert_eq(json_child(&o, "a", &o, &err), i ? STATUS_OK : STATUS_INVALID);
    json_complain(&o, "a", &at, "bad");
    cr_assert(strncmp(at.text, "t.json:1000: key 'a.a.a", 23) == 0, "%s", at.text);
    json_file_free(&f);
    free(text);
}

/* -- memory and files ---------------------------------------------------------------------------------------------- */

Test(json, every_allocation_may_fail)
{
    int n = 0;
    for (;; n++) {
        struct error err = {0};
        json_fails_after(n);
        enum status status = parse(nested, strlen(nested), &err);
        cr_assert_eq(json_blocks, 0, "failing allocation %d leaks %d blocks", n, json_blocks);
        if (!status)
            break;
        /* jansson takes a token for which it has no memory for a syntax error, so either status may come. */
        cr_assert(strncmp(err.text, "t.json:", 7) == 0, "failing allocation %d: '%s'", n, err.text);
    }
    cr_assert_gt(n, 20, "only %d allocations", n);
}

Test(json, files_that_cannot_be_read)
{
    struct json_file f;
    struct error absent = {0}, directory = {0};
    cr_assert_eq(json_file_load(&f, "tests/no such file.json", &absent), STATUS_RUNTIME);
    cr_assert_str_eq(absent.text, "tests/no such file.json: cannot open: No such file or directory");
    cr_assert_eq(json_file_load(&f, "tests", &directory), STATUS_RUNTIME);
    cr_assert(strstr(directory.text, "Is a directory"), "%s", directory.text);
}

Test(json, a_pipe_is_read_to_its_end)
{
    int ends[2];
    char path[64];
    struct json_file f;
    struct error err = {0};
    cr_assert_eq(pipe(ends), 0);
    /* More than the first buffer of 4098 bytes, less than the 64 KiB that a pipe holds. */
    char text[20000];
    memset(text, ' ', sizeof text);
    memcpy(text, "{\"a\":", 5);
    memcpy(text + sizeof text - 2, "7}", 2);
    cr_assert_eq(write(ends[1], text, sizeof text), (ssize_t)sizeof text);
    close(ends[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    cr_assert_eq(json_file_load(&f, path, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(json_integer_value(json_object_get(f.root, "a")), 7);
    json_file_free(&f);
    close(ends[0]);
}

Test(json, more_than_64_mib_is_refused)
{
    char path[] = "/tmp/ballast-test-XXXXXX";
    struct json_file f;
    struct error err = {0};
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, ((off_t)64 << 20) + 1), 0);
    cr_assert_eq(json_file_load(&f, path, &err), STATUS_INVALID);
    cr_assert(strstr(err.text, "at most 67108864 bytes"), "%s", err.text);
    close(fd);
    unlink(path);
}
