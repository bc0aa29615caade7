/* The points of a sweep, and work shared out over processes: order, failures. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/axes.h"
#include "cli/ordered.h"

static int option(const char *name)
{
    int i = option_named(name);
    cr_assert_geq(i, 0, "no option %s", name);
    return i;
}

Test(axes, the_last_list_varies_fastest)
{
    const struct option_use use[] = {{option("model"), "a,b"},
                                     {option("prompt-tokens"), "1-4*2"},
                                     {option("budget"), "ram=1GiB,2GiB"},
                                     {option("vary"), "compress-cache=yes,no"}};
    static const char *const expected[4][4] = {{"a", "1", "ram=1GiB", "yes"},
                                               {"a", "1", "ram=1GiB", "no"},
                                               {"a", "1", "ram=2GiB", "yes"},
                                               {"a", "1", "ram=2GiB", "no"}};
    struct axes a;
    struct options o;
    cr_assert_eq(axes_new(&a, use, 4, NULL), STATUS_OK);
    cr_assert_eq(a.points, 2 * 3 * 2 * 2);
    cr_assert_str_eq(a.axis[2].name, "budget ram");
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            cr_assert_str_eq(axes_value(&a, j, i), expected[i][j]);
    options_default(&o, "sweep");
    cr_assert_eq(axes_set(&a, 23, &o, NULL), STATUS_OK);
    cr_assert_str_eq(o.model, "b");
    cr_assert_eq(o.prompt_tokens, 4);
    cr_assert_eq(o.n_budgets, 1);
    cr_assert_str_eq(o.budget[0], "ram=2GiB");
    cr_assert_eq(o.compress_cache, 0);
    cr_assert_eq(o.compress_weight, -1);
    axes_free(&a);
}

Test(axes, more_points_than_can_be_counted_are_refused)
{
    struct error err = {0};
    struct axes a;
    struct option_use use[4];
    static const char *const names[] = {"prompt-tokens", "gen-tokens", "max-block", "gpu-batch-size"};
    for (int i = 0; i < 4; i++)
        use[i] = (struct option_use){option(names[i]), "1-65536"};
    cr_assert_eq(axes_new(&a, use, 4, &err), STATUS_INVALID);
    cr_assert_str_eq(err.text, "the lists multiply to more points than can be counted");
}

/* -- shared out --------------------------------------------------------------------------------------------------------- */

struct notes {
    char text[4096];
    size_t n;
    int64_t next, stop_at, die_at;
};

static void make(void *arg, int64_t first, int64_t last, FILE *out)
{
    const struct notes *n = arg;
    for (int64_t i = first; i < last; i++) {
        if (i == n->die_at)
            _exit(9);
        fprintf(out, "%lld,", (long long)i);
    }
}

static enum status take(void *arg, int64_t first, int64_t last, const char *text, size_t bytes, struct error *err)
{
    struct notes *n = arg;
    cr_assert_eq(first, n->next);
    memcpy(n->text + n->n, text, bytes);
    n->n += bytes;
    n->next = last;
    return last > n->stop_at ? error_set(err, STATUS_RUNTIME, "full") : STATUS_OK;
}

static enum status share(struct notes *n, int workers, struct error *err)
{
    const struct ordered o = {{0, 1}, workers, 5, 100, 7, n, make, take};
    n->next = 5;
    return ordered_run(&o, err);
}

Test(ordered, output_comes_in_order_for_any_number_of_workers)
{
    char expected[4096] = "";
    for (int i = 5; i < 100; i++)
        sprintf(expected + strlen(expected), "%d,", i);
    for (int workers = 1; workers <= 20; workers += 3) {
        struct notes n = {.stop_at = 1000, .die_at = -1};
        cr_assert_eq(share(&n, workers, NULL), STATUS_OK);
        cr_assert_str_eq(n.text, expected);
    }
}

Test(ordered, a_worker_that_dies_is_said_and_what_came_before_stays)
{
    struct notes n = {.stop_at = 1000, .die_at = 42};
    struct error err = {0};
    cr_assert_eq(share(&n, 3, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "the worker of points 41 to 47 ended early");
    cr_assert_eq(n.next, 40);
}

Test(ordered, a_failure_to_take_stops_everything)
{
    for (int workers = 1; workers <= 3; workers += 2) {
        struct notes n = {.stop_at = 30, .die_at = -1};
        struct error err = {0};
        cr_assert_eq(share(&n, workers, &err), STATUS_RUNTIME);
        cr_assert_str_eq(err.text, "full");
        cr_assert_eq(n.next, 33);
    }
}
