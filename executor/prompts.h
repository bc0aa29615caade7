/* prompts.h - text in and out: JSONL files of prompts, JSONL results. */
#ifndef BALLAST_EXECUTOR_PROMPTS_H
#define BALLAST_EXECUTOR_PROMPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "executor/tokenizer.h"
#include "model/error.h"

struct prompt {
    char *id;     /* the line's "id" (string or number as text), or its number from 0 */
    char *text;   /* NULL if the line gave "tokens" */
    int32_t *ids; /* (n_ids) token ids */
    int64_t n_ids;
};

struct prompts {
    int64_t n;
    struct prompt *prompt;
};

/* Each line: {"prompt": "..."} or {"tokens": [..]}, optional "id"; nothing else. Text needs a tokenizer (NULL: an error that says so).
 * Token ids must be in [0, vocab). Empty lines are skipped; an empty file is an error. "-" is stdin. */
enum status prompts_load(struct prompts *p, const char *path, const struct tokenizer *t, int64_t vocab, struct error *err);
enum status prompts_parse(struct prompts *p, const char *path, const char *text, size_t n, const struct tokenizer *t,
                          int64_t vocab, struct error *err);
/* n prompts of exactly `tokens` seeded random ids in [first_id, vocab). */
enum status prompts_random(struct prompts *p, int64_t n, int64_t tokens, int64_t first_id, int64_t vocab, uint64_t seed,
                           struct error *err);
void prompts_free(struct prompts *p);

/* One result line: {"id":..., "prompt":..., "text":..., "tokens":[...], "finish":"stop"|"length"}; text only with a tokenizer. */
enum status prompts_write_result(FILE *out, const struct prompt *p, const int32_t *tokens, int64_t n, bool stopped,
                                 const struct tokenizer *t, struct error *err);

#endif
