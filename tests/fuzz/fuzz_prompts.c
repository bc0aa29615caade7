/* fuzz_prompts.c - any bytes as a file of prompts. What is accepted has ids inside the vocabulary and can be written as a result. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/prompts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { VOCAB = 512 };

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static struct tokenizer *tokenizer(void)
{
    static struct tokenizer *t;
    struct error err = {0};
    if (t == NULL && tokenizer_load(&t, "tests/fixtures/tokenizer-512", &err) != STATUS_OK) {
        fprintf(stderr, "%s (run from the top of the repository)\n", err.text);
        abort();
    }
    return t;
}

static void check_prompt(const struct prompt *p, FILE *out)
{
    require(p->id != NULL && p->n_ids > 0);
    for (int64_t i = 0; i < p->n_ids; i++) {
        require(p->ids[i] >= 0 && p->ids[i] < VOCAB);
    }
    require(prompts_write_result(out, p, p->ids, p->n_ids, p->n_ids % 2 == 0, tokenizer(), NULL) == STATUS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static FILE *out;
    struct prompts p;
    struct error err = {0};
    out = out != NULL ? out : fopen("/dev/null", "w");
    require(out != NULL);
    if (prompts_parse(&p, "fuzz.jsonl", (const char *)data, n, n % 4 == 0 ? NULL : tokenizer(), VOCAB, &err) != STATUS_OK) {
        require(err.status != STATUS_OK && p.n == 0 && p.prompt == NULL && strchr(err.text, '\n') == NULL);
        return 0;
    }
    require(p.n > 0);
    for (int64_t i = 0; i < p.n; i++) {
        check_prompt(&p.prompt[i], out);
    }
    prompts_free(&p);
    return 0;
}
