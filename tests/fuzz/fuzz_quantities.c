/* Lists of quantities and of integers from anywhere: refused with one line, or values that read as values again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_error(enum status status, const struct error *err)
{
    assert(status == err->status && (status == STATUS_OK) == (err->text[0] == '\0'));
}

static void quantities(const char *text)
{
    struct text_list list, again;
    struct error err = {0};
    enum status status = quantities_parse(&list, "fuzz", text, &err);
    check_error(status, &err);
    assert(status == STATUS_OK ? list.n > 0 : list.n == 0 && !list.value);
    for (size_t i = 0; i < list.n && i < 100; i++) { /* no value is a list */
        assert(!strchr(list.value[i], ','));
        assert(quantities_parse(&again, "fuzz", list.value[i], NULL) == STATUS_OK && again.n == 1);
        text_list_free(&again);
    }
    text_list_free(&list);
}

static void integers(const char *text)
{
    struct int_list list;
    struct error err = {0};
    enum status status = list_parse(&list, "fuzz", text, 1, 65536, &err);
    check_error(status, &err);
    for (size_t i = 0; i < list.n; i++)
        assert(list.value[i] >= 1 && list.value[i] <= 65536);
    list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    assert(text);
    memcpy(text, data, n);
    text[n] = '\0';
    quantities(text);
    integers(text);
    free(text);
    return 0;
}
