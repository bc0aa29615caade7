/* test_arena.c - regions under a limit: counted to the byte, refused in words, given back whole. */
#define _GNU_SOURCE 1

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "executor/arena.h"

#define MIB (INT64_C(1) << 20)

static void take_ok(struct arena *a, const char *name, int64_t bytes, void **base)
{
    struct error err = {0};

    cr_assert_eq(arena_take(a, name, bytes, base, &err), STATUS_OK, "%s", err.text);
}

static void take_fails(struct arena *a, const char *name, int64_t bytes, enum status status, const char *text)
{
    const struct arena before = *a;
    struct error err = {0};
    void *base = &err;

    cr_assert_eq(arena_take(a, name, bytes, &base, &err), status);
    cr_assert_str_eq(err.text, text);
    cr_assert_null(base);
    cr_assert_eq(a->used_bytes, before.used_bytes);
    cr_assert_eq(a->peak_bytes, before.peak_bytes);
    cr_assert_eq(a->n_regions, before.n_regions);
}

static bool is_mapped(const void *base)
{
    unsigned char resident;

    return mincore((void *)(uintptr_t)base, 1, &resident) == 0;
}

static int64_t blocks_given;
static enum status take_block(int64_t bytes, void **base, struct error *err)
{
    *base = NULL;
    return posix_memalign(base, ARENA_ALIGN, (size_t)bytes) == 0 ? STATUS_OK : error_set(err, STATUS_RUNTIME, "none");
}
static void give_block(void *base)
{
    blocks_given++;
    free(base);
}

/* 8 + 4 KiB in a block and 3 MiB beside it: all of it counts, the block has room for what is carved alone. */
Test(arena, what_is_plain_lies_beside_the_block)
{
    const struct memory memory = {take_block, give_block};
    struct arena a;
    struct error err = {0};
    char *carved, *plain, *last;

    arena_init(&a, "cpu", 4 * MIB);
    cr_assert_eq(arena_reserve(&a, &memory, 12 << 10, &err), STATUS_OK, "%s", err.text);
    take_ok(&a, "ring", 8 << 10, (void **)&carved);
    cr_assert_eq(arena_take_plain(&a, "weights", 3 * MIB, (void **)&plain, &err), STATUS_OK, "%s", err.text);
    take_ok(&a, "cache", 4 << 10, (void **)&last);
    cr_assert_eq(last - carved, 8 << 10);
    cr_assert(plain >= last + (4 << 10) || plain + 3 * MIB <= carved);
    memset(plain, 1, (size_t)(3 * MIB));
    cr_assert_eq(a.peak_bytes, 3 * MIB + (12 << 10));
    cr_assert_eq(arena_take_plain(&a, "more", MIB, (void **)&plain, &err), STATUS_DOES_NOT_FIT);
    arena_release(&a, "weights");
    cr_assert_eq(a.used_bytes, 12 << 10);
    arena_free(&a);
    cr_assert_eq(blocks_given, 1);
}

Test(arena, a_region_is_zeroed_aligned_writable_and_given_back)
{
    const int64_t sizes[] = {1, 4095, 4096, 4097, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB + 123};
    struct arena a;

    arena_init(&a, "ram", 64 * MIB);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p;
        int64_t zeros = 0;

        take_ok(&a, "region", sizes[i], (void **)&p);
        cr_assert_eq((uintptr_t)p % (uintptr_t)(2 * MIB), 0);
        while (zeros < sizes[i] && p[zeros] == 0)
            zeros++;
        cr_assert_eq(zeros, sizes[i]);
        memset(p, 0xff, (size_t)sizes[i]);
        arena_release(&a, "region");
        cr_assert_not(is_mapped(p));
        cr_assert_not(is_mapped(p + sizes[i] - 1));
    }
    arena_free(&a);
}

/* 100 + 50 = 150 used at most; after releasing 100, 50 are; 30 more make 80, and the new phase's peak is 80. */
Test(arena, the_count_is_exact_and_the_peak_stays)
{
    struct arena a;
    void *base;

    arena_init(&a, "ram", 1000);
    take_ok(&a, "weights", 100, &base);
    take_ok(&a, "cache", 50, &base);
    cr_assert_eq(a.used_bytes, 150);
    arena_release(&a, "weights");
    arena_release(&a, "weights"); /* unknown by now: nothing */
    cr_assert_eq(a.used_bytes, 50);
    cr_assert_eq(a.peak_bytes, 150);
    cr_assert_eq(a.n_regions, 1);
    cr_assert_str_eq(a.region[0].name, "cache");
    arena_reset_peak(&a);
    cr_assert_eq(a.peak_bytes, 50);
    take_ok(&a, "weights", 30, &base);
    cr_assert_eq(a.peak_bytes, 80);
    arena_free(&a);
    cr_assert_eq(a.used_bytes, 0);
    cr_assert_eq(a.peak_bytes, 80);
    cr_assert_not(is_mapped(base));
    arena_free(&a);
}

/* 1000 - 600 - 150 = 250 are left: 250 fit, 251 miss 1 byte, and then anything misses all of itself. */
Test(arena, over_the_budget_says_who_asked_and_who_holds)
{
    struct arena a;

    arena_init(&a, "gpu", 1000);
    take_fails(&a, "all", 1200, STATUS_DOES_NOT_FIT,
               "gpu: region all asks 1200 bytes, 0 of 1000 bytes are used, 200 bytes are missing; nothing is held");
    take_ok(&a, "cache", 150, NULL);
    take_ok(&a, "weights", 600, NULL);
    take_fails(&a, "staging", 251, STATUS_DOES_NOT_FIT,
               "gpu: region staging asks 251 bytes, 750 of 1000 bytes are used, 1 bytes are missing;"
               " most is held by weights, 600 bytes");
    take_ok(&a, "staging", 250, NULL);
    take_fails(
        &a, "x", 7, STATUS_DOES_NOT_FIT,
        "gpu: region x asks 7 bytes, 1000 of 1000 bytes are used, 7 bytes are missing; most is held by weights, 600 bytes");
    arena_free(&a);
}

/* used + asked = 1 + (2^63 - 1) = 2^63 does not fit an int64_t: the missing bytes are 2^63 - 10. */
Test(arena, the_arithmetic_does_not_wrap)
{
    struct arena a;

    arena_init(&a, "ram", 10);
    take_ok(&a, "a", 1, NULL);
    take_fails(&a, "b", INT64_MAX, STATUS_DOES_NOT_FIT,
               "ram: region b asks 9223372036854775807 bytes, 1 of 10 bytes are used, 9223372036854775798 bytes are missing;"
               " most is held by a, 1 bytes");
    arena_free(&a);
    arena_init(&a, "disk", INT64_MAX);
    take_ok(&a, "a", 1, NULL);
    take_ok(&a, "b", INT64_MAX - 1, NULL);
    cr_assert_eq(a.used_bytes, INT64_MAX);
    arena_free(&a);
}

Test(arena, counting_only_maps_nothing)
{
    struct arena a;
    void *base = &a;

    arena_init(&a, "disk", INT64_C(1) << 50);
    take_ok(&a, "cache", INT64_C(1) << 49, NULL);
    cr_assert_null(a.region[0].base);
    take_ok(&a, "nothing", 0, &base);
    cr_assert_null(base);
    cr_assert_eq(a.n_regions, 1);
    arena_free(&a);
}

Test(arena, memory_that_the_kernel_refuses_is_a_run_time_error)
{
    struct arena a;

    arena_init(&a, "ram", INT64_MAX);
    take_fails(&a, "weights", INT64_C(1) << 60, STATUS_RUNTIME,
               "ram: region weights of 1152921504606846976 bytes: Cannot allocate memory");
    take_fails(&a, "weights", INT64_MAX, STATUS_RUNTIME,
               "ram: region weights of 9223372036854775807 bytes: Cannot allocate memory");
    arena_free(&a);
}

Test(arena, wrong_names_and_sizes_are_refused)
{
    struct arena a;
    void *base;

    arena_init(&a, "ram", 1000);
    take_ok(&a, "weights", 10, &base);
    take_fails(&a, "weights", 10, STATUS_RUNTIME, "ram: region weights is taken already");
    take_fails(&a, "cache", -1, STATUS_RUNTIME, "ram: region cache asks -1 bytes: expected 0 or more");
    take_ok(&a, "0123456789012345678901234567890", 1, NULL); /* 31 characters and the end: 32 */
    take_fails(&a, "01234567890123456789012345678901", 1, STATUS_RUNTIME,
               "ram: region name 01234567890123456789012345678901: expected at most 31 characters, found 32");
    arena_free(&a);
}

Test(arena, the_table_of_regions_is_bounded)
{
    struct arena a;
    char name[24];

    arena_init(&a, "ram", 1000);
    for (int i = 0; i < ARENA_REGIONS_MAX; i++) {
        snprintf(name, sizeof name, "layer%d", i);
        take_ok(&a, name, 1, NULL);
    }
    take_fails(&a, "one more", 1, STATUS_RUNTIME, "ram: region one more: expected at most 64 regions");
    arena_release(&a, "layer0");
    take_ok(&a, "one more", 1, NULL);
    arena_free(&a);
}

Test(arena, a_long_tier_name_is_cut)
{
    struct arena a;

    arena_init(&a, "a-tier-with-a-long-name", 1);
    cr_assert_str_eq(a.tier, "a-tier-with-a-l");
}

/* A model of the arena beside it: names, sizes and the sums must agree through 20000 random takes and releases. */
Test(arena, random_takes_and_releases_agree_with_a_model)
{
    const uint64_t first_seed = UINT64_C(0x2545f4914f6cdd1d);
    const int64_t budget_bytes = 100 * 4096;
    int64_t held[20] = {0}, used_bytes = 0, peak_bytes = 0;
    uint64_t seed = first_seed;
    struct arena a;

    cr_log_info("seed %" PRIu64, first_seed);
    arena_init(&a, "ram", budget_bytes);
    for (int step = 0; step < 20000; step++) {
        char name[8];
        int i;

        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        i = (int)(seed % 20);
        snprintf(name, sizeof name, "r%d", i);
        if (held[i] > 0) {
            arena_release(&a, name);
            used_bytes -= held[i];
            held[i] = 0;
        } else {
            const int64_t bytes = 1 + (int64_t)(seed >> 20) % (budget_bytes / 6);
            const bool fits = used_bytes + bytes <= budget_bytes;
            unsigned char *p = NULL;
            const enum status s = arena_take(&a, name, bytes, (void **)&p, NULL);

            cr_assert_eq(s, fits ? STATUS_OK : STATUS_DOES_NOT_FIT, "step %d", step);
            if (fits) {
                p[0] = p[bytes - 1] = 1;
                held[i] = bytes;
                used_bytes += bytes;
            }
        }
        peak_bytes = used_bytes > peak_bytes ? used_bytes : peak_bytes;
        cr_assert_eq(a.used_bytes, used_bytes, "step %d", step);
        cr_assert_eq(a.peak_bytes, peak_bytes, "step %d", step);
    }
    arena_free(&a);
}

/* -- one block for all ------------------------------------------------------------------------------------------------- */

static _Alignas(ARENA_ALIGN) char pages[3 * ARENA_ALIGN];
static int64_t asked;
static int given;

static enum status lend(int64_t bytes, void **base, struct error *err)
{
    asked = bytes;
    *base = pages;
    return bytes <= (int64_t)sizeof pages ? STATUS_OK : error_set(err, STATUS_RUNTIME, "no %" PRId64 " bytes", bytes);
}

static void take_back(void *base)
{
    given += base == pages;
}

/* 5000 bytes take two pages of the block, 100 the third; the budget counts 5100 bytes all the same. */
Test(arena, regions_are_carved_out_of_a_block)
{
    static const struct memory lender = {lend, take_back};
    struct arena a;
    void *first, *second, *third = pages;

    arena_init(&a, "gpu", 4 * ARENA_ALIGN);
    cr_assert_eq(arena_reserve(&a, &lender, 3 * ARENA_ALIGN, NULL), STATUS_OK);
    cr_assert_eq(asked, 3 * ARENA_ALIGN);
    cr_assert_eq(a.used_bytes, 0);
    take_ok(&a, "weights", 5000, &first);
    take_ok(&a, "cache", 100, &second);
    cr_assert_eq(first, pages);
    cr_assert_eq(second, pages + 2 * ARENA_ALIGN);
    cr_assert_eq(a.used_bytes, 5100);
    cr_assert_eq(arena_take(&a, "more", 1, &third, NULL), STATUS_RUNTIME, "the block is used up");
    cr_assert_null(third);
    arena_release(&a, "weights");
    arena_free(&a);
    arena_free(&a);
    cr_assert_eq(given, 1);
}

Test(arena, a_block_over_the_budget_is_not_asked_for)
{
    static const struct memory lender = {lend, take_back};
    struct error err = {0};
    struct arena a;

    asked = 0;
    arena_init(&a, "gpu", 1000);
    cr_assert_eq(arena_reserve(&a, &lender, 1001, &err), STATUS_DOES_NOT_FIT);
    cr_assert(strstr(err.text, "gpu: region block asks 1001 bytes"), "%s", err.text);
    cr_assert_eq(asked, 0);
    cr_assert_eq(arena_reserve(&a, &lender, sizeof pages + 1, &err), STATUS_DOES_NOT_FIT);
    arena_free(&a);
}
