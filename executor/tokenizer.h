/* tokenizer.h - a model's own byte-level BPE (GPT-2 style, as OPT uses), from vocab.json + merges.txt or tokenizer.json. */
#ifndef BALLAST_EXECUTOR_TOKENIZER_H
#define BALLAST_EXECUTOR_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/error.h"

struct tokenizer;

/* Looks in a model directory for tokenizer.json, else vocab.json + merges.txt (+ special_tokens_map.json, added_tokens.json,
 * tokenizer_config.json where they matter, e.g. add_bos_token). An unsupported pre-tokenizer, normaliser or model type is an error. */
enum status tokenizer_load(struct tokenizer **out, const char *directory, struct error *err);
/* From memory, for fuzzing: a tokenizer.json. */
enum status tokenizer_parse(struct tokenizer **out, const char *path, const char *text, size_t n, struct error *err);
void tokenizer_free(struct tokenizer *t); /* NULL is fine */
int64_t tokenizer_vocab(const struct tokenizer *t);

/* *ids is malloc'ed, caller frees. Special tokens in the text (e.g. "</s>") become their ids; with add_special the model's own
 * leading tokens are added (OPT: "</s>"). Invalid UTF-8 is handled bytewise as the reference does with replacement characters. */
enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool add_special, int32_t **ids,
                             size_t *n_ids, struct error *err);
/* *text is malloc'ed, NUL-ended and *n long; skip_special leaves special tokens out. An id outside the vocabulary is an error. */
enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special, char **text,
                             size_t *n, struct error *err);

#endif
