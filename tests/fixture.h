/* fixture.h - the tiny models of tests/fixtures with what the reference implementation computed for them. */
#ifndef BALLAST_TESTS_FIXTURE_H
#define BALLAST_TESTS_FIXTURE_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "executor/prompts.h"
#include "model/arch.h"

#define FIXTURE_PROMPTS 4

struct fixture {
    char directory[128];
    struct arch arch;
    double sparsity; /* attention's; 1: it is dense */
    int64_t new_tokens;
    struct prompt prompt[FIXTURE_PROMPTS];
    int32_t *generated[FIXTURE_PROMPTS]; /* (new_tokens) */
    int64_t first_row[FIXTURE_PROMPTS];
    int64_t rows;
    float *logits; /* (rows, vocab) */
};

static inline int32_t *fixture_ids(const json_t *list)
{
    int32_t *ids = calloc(json_array_size(list), sizeof *ids);
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return ids;
}

/* A model and one of its references: "reference" or "sparse". */
static inline void fixture_load_reference(struct fixture *f, const char *name, const char *reference)
{
    char path[256];
    struct error err = {0};
    snprintf(f->directory, sizeof f->directory, "tests/fixtures/%s", name);
    cr_assert_eq(arch_load(&f->arch, f->directory, &err), STATUS_OK, "%s", err.text);
    snprintf(path, sizeof path, "%s/%s.json", f->directory, reference);
    json_t *root = json_load_file(path, 0, NULL);
    cr_assert_not_null(root, "%s", path);
    const json_t *sparsity = json_object_get(root, "attention_sparsity");
    f->sparsity = sparsity ? json_real_value(sparsity) : 1;
    f->new_tokens = json_integer_value(json_object_get(root, "new_tokens"));
    int64_t rows = 0;
    for (int i = 0; i < FIXTURE_PROMPTS; i++) {
        const json_t *ids = json_array_get(json_object_get(root, "prompts"), (size_t)i);
        f->prompt[i] = (struct prompt){.id = (char *)"", .ids = fixture_ids(ids), .n_ids = (int64_t)json_array_size(ids)};
        f->generated[i] = fixture_ids(json_array_get(json_object_get(root, "generated"), (size_t)i));
        f->first_row[i] = rows;
        rows += json_integer_value(json_array_get(json_object_get(root, "logits_rows"), (size_t)i));
    }
    f->rows = rows;
    snprintf(path, sizeof path, "%s/%s", f->directory, json_string_value(json_object_get(root, "logits_file")));
    json_decref(root);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    f->logits = calloc((size_t)(rows * f->arch.vocab), sizeof *f->logits);
    cr_assert_eq(fread(f->logits, sizeof *f->logits, (size_t)(rows * f->arch.vocab), file), (size_t)(rows * f->arch.vocab));
    fclose(file);
}

static inline void fixture_load(struct fixture *f, const char *name)
{
    fixture_load_reference(f, name, "reference");
}

static inline void fixture_free(struct fixture *f)
{
    for (int i = 0; i < FIXTURE_PROMPTS; i++) {
        free(f->prompt[i].ids);
        free(f->generated[i]);
    }
    free(f->logits);
    arch_free(&f->arch);
}

#endif
