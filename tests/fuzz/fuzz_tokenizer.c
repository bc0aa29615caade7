/* fuzz_tokenizer.c - any tokenizer.json and any text. The input is a text, or a tokenizer.json, a byte 0xFF and a text. Whatever
 * encodes must decode, and with the built-in tokenizer, which has every byte, to the text itself. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static int is_utf8_ascii(const char *text, size_t n)
{
    int ascii = 1;
    for (size_t i = 0; i < n; i++) {
        ascii = ascii && (unsigned char)text[i] < 0x80;
    }
    return ascii;
}

/* Encodes and decodes; `exact` when ASCII must come back unchanged. */
static void use(const struct tokenizer *t, const char *text, size_t n, int exact)
{
    int32_t *ids = NULL;
    size_t n_ids = 0, back_n = 0;
    char *back = NULL;
    struct error err = {0};
    if (tokenizer_encode(t, text, n, !exact, &ids, &n_ids, &err) != STATUS_OK) {
        require(ids == NULL && err.status != STATUS_OK && !exact);
        return;
    }
    require(tokenizer_decode(t, ids, n_ids, 0, &back, &back_n, NULL) == STATUS_OK);
    require(back[back_n] == '\0');
    if (exact && is_utf8_ascii(text, n)) {
        require(back_n == n && memcmp(back, text, n) == 0);
    }
    free(back);
    free(ids);
}

static const struct tokenizer *built_in(void)
{
    static struct tokenizer *t;
    struct error err = {0};
    if (t == NULL && tokenizer_load(&t, "tests/fixtures/tokenizer-512", &err) != STATUS_OK) {
        fprintf(stderr, "%s (run from the top of the repository)\n", err.text);
        abort();
    }
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    const uint8_t *cut = n > 0 ? memchr(data, 0xFF, n) : NULL;
    struct tokenizer *t = NULL;
    struct error err = {0};
    if (n == 0 || data[0] != '{') {
        use(built_in(), text, n, 1);
        return 0;
    }
    const size_t json_n = cut != NULL ? (size_t)(cut - data) : n;
    if (tokenizer_parse(&t, "fuzz.json", text, json_n, &err) == STATUS_OK) {
        use(t, cut != NULL ? text + json_n + 1 : text, cut != NULL ? n - json_n - 1 : n, 0);
    } else {
        require(t == NULL && err.status != STATUS_OK && strchr(err.text, '\n') == NULL);
    }
    tokenizer_free(t);
    return 0;
}
