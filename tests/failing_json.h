/* failing_json.h - for a test program: makes jansson's n-th allocation fail, also under AddressSanitizer, which owns malloc. */
#ifndef BALLAST_TESTS_FAILING_JSON_H
#define BALLAST_TESTS_FAILING_JSON_H

#include <jansson.h>
#include <stdlib.h>

static int json_allocations_left, json_blocks; /* blocks: taken and not given back */

static inline void *failing_json_malloc(size_t n)
{
    if (json_allocations_left == 0)
        return NULL;
    json_allocations_left--;
    json_blocks++;
    return malloc(n);
}

static inline void failing_json_free(void *p)
{
    json_blocks -= p != NULL;
    free(p);
}

/* All of jansson's allocations after the next n fail. */
static inline void json_fails_after(int n)
{
    json_set_alloc_funcs(failing_json_malloc, failing_json_free);
    json_allocations_left = n;
}

static inline void json_fails_no_more(void)
{
    json_set_alloc_funcs(malloc, free);
}

#endif
