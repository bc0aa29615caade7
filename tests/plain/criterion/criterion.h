/* criterion.h - the part of Criterion that the tests of the CUDA code use, for programs that run on a GPU: found in its place with
 * -Itests/plain.
 *
 * Criterion starts a process for every test, each of which would open the GPU anew, and brings nine megabytes of libraries into the
 * bundle. Here all tests run in one process, one after the other; a failed assertion ends its test, and the rest run in a new one (main.c).
 */
#ifndef BALLAST_TESTS_PLAIN_CRITERION_H
#define BALLAST_TESTS_PLAIN_CRITERION_H

#include <string.h>

struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    const struct plain_test *next;
};
void plain_add(struct plain_test *t);

/* Both leave the test. The text is printf's and may be empty. */
_Noreturn void plain_fail(const char *file, int line, const char *assertion, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
_Noreturn void cr_skip_test(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Options such as .timeout are left to who runs the program. */
#define Test(suite_, name_, ...)                                                                                                 \
    static void suite_##_##name_(void);                                                                                          \
    static struct plain_test suite_##_##name_##_test = {#suite_, #name_, suite_##_##name_, NULL};                                \
    __attribute__((constructor)) static void suite_##_##name_##_add(void)                                                        \
    {                                                                                                                            \
        plain_add(&suite_##_##name_##_test);                                                                                     \
    }                                                                                                                            \
    static void suite_##_##name_(void)

#define PLAIN_CHECK(ok, text, ...)         ((ok) ? (void)0 : plain_fail(__FILE__, __LINE__, text, "" __VA_ARGS__))
#define cr_assert(a, ...)                  PLAIN_CHECK(a, #a, __VA_ARGS__)
#define cr_assert_not(a, ...)              PLAIN_CHECK(!(a), "not " #a, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)            PLAIN_CHECK((a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)           PLAIN_CHECK((a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)            PLAIN_CHECK((a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)            PLAIN_CHECK((a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)           PLAIN_CHECK((a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)           PLAIN_CHECK((a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(a, ...)             PLAIN_CHECK((a) == NULL, #a " is NULL", __VA_ARGS__)
#define cr_assert_not_null(a, ...)         PLAIN_CHECK((a) != NULL, #a " is not NULL", __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)        PLAIN_CHECK(strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, bytes, ...) PLAIN_CHECK(memcmp(a, b, bytes) == 0, #a " is " #b, __VA_ARGS__)

#endif
