/* The error bar of a prediction: where it comes from, and the quantiles of a case that can be worked out. */
#include <criterion/criterion.h>
#include <math.h>

#include "model/interval.h"
#include "tests/machine.h"

/* One decode step of `tokens`, resources busy for so many seconds whatever the placement. */
static struct cost table(int n_tiers, double disk_read_s, double disk_write_s, double cpu_s)
{
    struct cost c = {.n_tiers = n_tiers, .n_resources = 3, .overlap = true, .steps = {0, 1}, .tokens = 10};
    c.busy[PHASE_DECODE][resource_link_read(0)].base = disk_read_s;
    c.busy[PHASE_DECODE][resource_link_write(0)].base = disk_write_s;
    c.busy[PHASE_DECODE][2].base = cpu_s;
    return c;
}

static const double NOWHERE[CLASS_COUNT][TIERS_MAX];

Test(interval, without_a_known_spread_there_is_none)
{
    struct hardware hw = test_machine(2, "f32");
    struct cost c = table(2, 4, 0, 1);
    struct interval bar;
    cr_assert_not(cost_interval(&c, &hw, NOWHERE, &bar));
    cr_assert_eq(bar.high_s, 0);
    hw.link[0].write_spread = 0.3; /* of a direction that is not used */
    cr_assert_not(cost_interval(&c, &hw, NOWHERE, &bar));
}

Test(interval, one_resource_has_the_quantiles_of_its_own_spread)
{
    /* T = 4 s * exp(0.1 z): the 5 % and 95 % quantiles are 4 exp(+-0.1 * 1.6449) = 3.393 and 4.715 s. The rank of a quantile among
     * 1000 draws has a standard deviation of sqrt(1000 * 0.05 * 0.95) = 6.9, so z is known to 6.9 / 1000 / density(1.645), with
     * density 0.103: 0.067; five of them times 0.1 are 3.4 % of T. */
    struct hardware hw = test_machine(2, "f32");
    struct cost c = table(2, 4, 0, 1);
    struct interval bar;
    hw.link[0].read_spread = 0.1;
    cr_assert(cost_interval(&c, &hw, NOWHERE, &bar));
    cr_assert_lt(fabs(log(bar.low_s / 3.393)), 0.034, "%g", bar.low_s);
    cr_assert_lt(fabs(log(bar.high_s / 4.715)), 0.034, "%g", bar.high_s);
}

Test(interval, what_does_not_bind_does_not_widen_it)
{
    /* The disk takes 4 s exactly; the CPU's 1 s would have to be 7 standard deviations off to pass it. */
    struct hardware hw = test_machine(2, "f32");
    struct cost c = table(2, 4, 0, 1);
    struct interval bar;
    hw.compute[0].spread = 0.2;
    cr_assert(cost_interval(&c, &hw, NOWHERE, &bar));
    cr_assert_eq(bar.low_s, 4);
    cr_assert_eq(bar.high_s, 4);
}

Test(interval, without_overlap_the_times_add)
{
    struct hardware hw = test_machine(2, "f32");
    struct cost c = table(2, 4, 0, 1);
    struct interval bar;
    hw.compute[0].spread = 0.2;
    c.overlap = false;
    cr_assert(cost_interval(&c, &hw, NOWHERE, &bar)); /* 4 + exp(+-0.329) = 4.72 and 5.39 s, the second part to 6.7 % */
    cr_assert_lt(fabs(log((bar.low_s - 4) / 0.7197)), 0.067, "%g", bar.low_s);
    cr_assert_lt(fabs(log((bar.high_s - 4) / 1.3896)), 0.067, "%g", bar.high_s);
}

Test(interval, a_gain_has_the_errors_of_both)
{
    /* 10 tokens in 4 s and in 2 s, each with 0.1 of its own: the gain is 2 * exp(0.1 * sqrt(2) z), 2 exp(+-0.1414 * 1.6449) = 1.585 and 2.524; z is
     * known as above to 0.067, five of which times 0.1414 are 4.7 %. */
    struct hardware hw = test_machine(2, "f32");
    struct cost from = table(2, 4, 0, 1), to = table(2, 2, 0, 1);
    double low, high;
    cr_assert_not(cost_gain_interval(&from, NOWHERE, &to, NOWHERE, &hw, &low, &high));
    hw.link[0].read_spread = 0.1;
    cr_assert(cost_gain_interval(&from, NOWHERE, &to, NOWHERE, &hw, &low, &high));
    cr_assert_lt(fabs(log(low / 1.585)), 0.047, "%g", low);
    cr_assert_lt(fabs(log(high / 2.524)), 0.047, "%g", high);
}
