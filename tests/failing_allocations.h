/* failing_allocations.h - for a test program: makes its n-th allocation fail, for every n. Include it once per program; it
 * replaces malloc, calloc and realloc of the whole program, libraries included. Not under AddressSanitizer, which owns them:
 * there CAN_FAIL_ALLOCATIONS is 0.
 */
#ifndef BALLAST_TESTS_FAILING_ALLOCATIONS_H
#define BALLAST_TESTS_FAILING_ALLOCATIONS_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "model/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define CAN_FAIL_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_FAIL_ALLOCATIONS 0
#endif
#endif
#ifndef CAN_FAIL_ALLOCATIONS
#define CAN_FAIL_ALLOCATIONS 1
#endif

#if CAN_FAIL_ALLOCATIONS
/* glibc's own entry points, behind the ones replaced here for the whole program, libraries included. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t each);
void *__libc_realloc(void *p, size_t n);

static long allocations_until_failure; /* 0: none fails */

static bool fails_now(void)
{
    return allocations_until_failure > 0 && --allocations_until_failure == 0;
}

void *malloc(size_t n)
{
    return fails_now() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
    return fails_now() ? NULL : __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    return fails_now() ? NULL : __libc_realloc(p, n);
}

static void *dependable_malloc(size_t n)
{
    return __libc_malloc(n);
}

/* Spares jansson's allocations: some of its releases abort when the memory for a long string is refused. */
static void spare_jansson(void)
{
    json_set_alloc_funcs(dependable_malloc, free);
}

/* Runs `attempt` with its first, second, ... allocation failing, until a run uses fewer. Counts the runs that failed. */
static long fail_each_allocation(enum status (*attempt)(void))
{
    long failed = 0;
    for (long nth = 1;; nth++) {
        allocations_until_failure = nth;
        const enum status status = attempt();
        const bool reached = allocations_until_failure == 0;
        allocations_until_failure = 0;
        if (!reached) {
            cr_assert_eq(status, STATUS_OK);
            return failed;
        }
        failed += status != STATUS_OK;
    }
}
#endif

#endif
