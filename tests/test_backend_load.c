/* The loader of the CUDA part: what it tries, and what it says when that fails. libm stands for a library that is something else. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "executor/backend_load.h"
#include "executor/gpu_tools.h"

static struct error fails(const char *library, const char *table, int version)
{
    struct error err = {0};
    const void *found = &err;
    if (library)
        setenv("BALLAST_CUDA", library, 1);
    else
        unsetenv("BALLAST_CUDA");
    cr_assert_eq(cuda_table(table, version, &found, &err), STATUS_RUNTIME);
    cr_assert_null(found);
    cr_assert_null(strchr(err.text, '\n'));
    return err;
}

Test(backend_load, a_named_library_is_the_only_one_tried)
{
    struct error err = fails("/no/such/library.so", "ballast_gpu_tools", 1);
    cr_assert(strstr(err.text, "/no/such/library.so"), "%s", err.text);
    cr_assert_null(strstr(err.text, "libballast_cuda.so"), "%s", err.text);
}

Test(backend_load, without_a_name_every_place_tried_is_in_the_error)
{
    const void *found;
    unsetenv("BALLAST_CUDA");
    if (cuda_table("ballast_gpu_tools", GPU_TOOLS_VERSION, &found, NULL) == STATUS_OK)
        cr_skip_test("a CUDA part is installed where this program finds it");
    struct error err = fails(NULL, "ballast_gpu_tools", 1);
    cr_assert(strstr(err.text, "tests/libballast_cuda.so"), "%s", err.text);
    cr_assert(strstr(err.text, "tests/../lib/libballast_cuda.so"), "%s", err.text);
    cr_assert(strstr(err.text, "; libballast_cuda.so"), "%s", err.text);
}

Test(backend_load, a_library_of_something_else_is_refused)
{
    struct error err = fails("libm.so.6", "ballast_gpu_tools", 1);
    cr_assert(strstr(err.text, "has no table ballast_gpu_tools"), "%s", err.text);
}

Test(backend_load, a_table_of_another_version_is_refused)
{
    struct error err = fails("libm.so.6", "signgam", 1); /* an int of libm that starts as 0 */
    cr_assert(strstr(err.text, "version 0, expected 1"), "%s", err.text);
}
