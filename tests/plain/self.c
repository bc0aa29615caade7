/* self.c - tests that end in every way there is, for tests/test_plain_runner.sh: some must fail. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

Test(self, passes)
{
    cr_assert_eq(1 + 1, 2);
}
Test(self, fails)
{
    cr_assert_eq(1 + 1, 3, "said %s", "why");
}
Test(self, is_skipped)
{
    cr_skip_test("without %d", 1);
}
Test(self, aborts)
{
    abort();
}
Test(self, crashes)
{
    raise(SIGSEGV);
}
Test(self, crashes_again) /* in a process that a crash began */
{
    raise(SIGSEGV);
}
Test(self, hangs)
{
    for (;;)
        pause();
}
Test(self, hangs_again)
{
    for (;;)
        pause();
}
Test(self, passes_in_the_end)
{
    cr_assert_str_eq("a", "a");
}
