/* tokenizer.c - encode and decode.
 *
 * encode: repair UTF-8, cut at added tokens, cut the rest into words, merge each word's bytes.
 * decode: join the bytes of the tokens, repair UTF-8.
 */
#include "executor/tokenizer.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

struct tokenizer *tokenizer_new(struct error *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) {
        (void)error_set(err, STATUS_RUNTIME, "out of memory for a tokenizer");
        return NULL;
    }
    bpe_init(&t->bpe);
    return t;
}

void tokenizer_free(struct tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    vocabulary_free(&t->vocabulary);
    bpe_free(&t->bpe);
    added_tokens_free(&t->added);
    pcre2_code_free(t->words);
    free(t->prefix.id);
    free(t->suffix.id);
    free(t);
}

int64_t tokenizer_vocab(const struct tokenizer *t)
{
    return (int64_t)t->vocabulary.n;
}

enum status tokenizer_add_token(struct tokenizer *t, const struct added_spec *spec, const char *path, struct error *err)
{
    int32_t id = vocabulary_find(&t->vocabulary, spec->content, spec->length);
    if (id >= 0 && spec->id >= 0 && spec->id != id) {
        return error_at(err, STATUS_INVALID, path, 0, "added token \"%s\": expected its id %d of the vocabulary, found %lld",
                        quote(spec->content, spec->length).text, id, (long long)spec->id);
    }
    if (id < 0) {
        const int64_t fresh = spec->id >= 0 ? spec->id : tokenizer_vocab(t);
        const enum status status = vocabulary_add(&t->vocabulary, spec->content, spec->length, fresh, path, 0, err);
        if (status != STATUS_OK) {
            return status;
        }
        id = (int32_t)fresh;
    } else if (t->vocabulary.token[id].added) {
        return STATUS_OK;
    }
    t->vocabulary.token[id].added = true;
    t->vocabulary.token[id].special = spec->special;
    const struct added_token token = {.id = id, .lstrip = spec->lstrip, .rstrip = spec->rstrip, .normalized = spec->normalized};
    return added_tokens_add(&t->added, &token, spec->content, spec->length, path, err);
}

/* ---- encode ---- */

struct encoding {
    const struct tokenizer *t;
    struct id_list ids;
    struct bpe_work work;
    pcre2_match_data *match;
};

static enum status add_ids(struct encoding *e, const struct id_list *ids, struct error *err)
{
    for (size_t i = 0; i < ids->n; i++) {
        if (!id_list_add(&e->ids, ids->id[i])) {
            return error_set(err, STATUS_RUNTIME, "out of memory for %zu token ids", e->ids.n + 1);
        }
    }
    return STATUS_OK;
}

static enum status encode_word(struct encoding *e, const char *word, size_t n, struct error *err)
{
    return bpe_word(&e->t->bpe, &e->t->vocabulary, &e->work, word, n, &e->ids, err);
}

/* Every character belongs to some alternative of the pattern, so the words follow each other without gaps. */
static enum status encode_words(struct encoding *e, const char *text, size_t n, struct error *err)
{
    enum status status = STATUS_OK;
    for (size_t at = 0; at < n && status == STATUS_OK;) {
        const int found = pcre2_match(e->t->words, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, e->match, NULL);
        if (found < 0) {
            return error_set(err, STATUS_RUNTIME, "cannot cut a text into words at byte %zu of %zu: PCRE2 error %d", at, n,
                             found);
        }
        const size_t end = pcre2_get_ovector_pointer(e->match)[1];
        assert(end > at);
        status = encode_word(e, text + at, end - at, err);
        at = end;
    }
    return status;
}

static enum status encode_plain(struct encoding *e, const char *text, size_t n, struct error *err)
{
    return e->t->words != NULL ? encode_words(e, text, n, err) : encode_word(e, text, n, err);
}

static enum status encode_prefixed(struct encoding *e, const char *text, size_t n, struct error *err)
{
    char *spaced = malloc(n + 1);
    if (spaced == NULL) {
        return error_set(err, STATUS_RUNTIME, "out of memory for a text of %zu bytes", n + 1);
    }
    spaced[0] = ' ';
    memcpy(spaced + 1, text, n);
    const enum status status = encode_plain(e, spaced, n + 1, err);
    free(spaced);
    return status;
}

static enum status visit_stretch(void *context, int32_t id, const char *text, size_t n, struct error *err)
{
    struct encoding *e = context;
    if (id >= 0) {
        return id_list_add(&e->ids, id) ? STATUS_OK
                                        : error_set(err, STATUS_RUNTIME, "out of memory for %zu token ids", e->ids.n + 1);
    }
    const bool prefix = e->t->add_prefix_space && text[0] != ' ';
    return prefix ? encode_prefixed(e, text, n, err) : encode_plain(e, text, n, err);
}

static enum status encode_text(struct encoding *e, const char *text, size_t n, struct error *err)
{
    if (n == 0) {
        return STATUS_OK;
    }
    e->match = pcre2_match_data_create(1, NULL);
    char *repaired = NULL;
    size_t repaired_n = n;
    enum status status = STATUS_OK;
    const bool repair = !utf8_valid(text, n);
    if (repair) {
        repaired = utf8_repair(text, n, &repaired_n);
    }
    if (e->match == NULL || (repair && repaired == NULL)) {
        status = error_set(err, STATUS_RUNTIME, "out of memory for a text of %zu bytes", n);
    } else {
        status = added_tokens_split(&e->t->added, repair ? repaired : text, repaired_n, visit_stretch, e, err);
    }
    free(repaired);
    pcre2_match_data_free(e->match);
    return status;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool add_special, int32_t **ids,
                             size_t *n_ids, struct error *err)
{
    *ids = NULL;
    *n_ids = 0;
    if (n > TOKEN_MAX_TEXT_BYTES) {
        return error_set(err, STATUS_INVALID, "expected a text of at most %d bytes, found %zu", TOKEN_MAX_TEXT_BYTES, n);
    }
    struct encoding e = {.t = t};
    enum status status = grow(&e.ids.id, &e.ids.capacity, 1, sizeof *e.ids.id) /* never NULL, even without tokens */
                             ? STATUS_OK
                             : error_set(err, STATUS_RUNTIME, "out of memory for token ids");
    if (status == STATUS_OK && add_special) {
        status = add_ids(&e, &t->prefix, err);
    }
    if (status == STATUS_OK) {
        status = encode_text(&e, text, n, err);
    }
    if (status == STATUS_OK && add_special) {
        status = add_ids(&e, &t->suffix, err);
    }
    bpe_work_free(&e.work);
    if (status == STATUS_OK) {
        *ids = e.ids.id;
        *n_ids = e.ids.n;
    } else {
        free(e.ids.id);
    }
    return status;
}

/* ---- decode ---- */

static enum status check_ids(const struct tokenizer *t, const int32_t *ids, size_t n_ids, size_t *bytes, struct error *err)
{
    *bytes = 0;
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer_vocab(t)) {
            return error_set(err, STATUS_INVALID, "token %zu to decode: expected an id from 0 to %lld, found %d", i,
                             (long long)tokenizer_vocab(t) - 1, ids[i]);
        }
        *bytes += t->vocabulary.token[ids[i]].length;
    }
    return STATUS_OK;
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special, char **text,
                             size_t *n, struct error *err)
{
    *text = NULL;
    *n = 0;
    size_t bytes = 0, used = 0;
    const enum status status = check_ids(t, ids, n_ids, &bytes, err);
    if (status != STATUS_OK) {
        return status;
    }
    char *raw = malloc(bytes + 1);
    if (raw == NULL) {
        return error_set(err, STATUS_RUNTIME, "out of memory for a text of %zu bytes", bytes);
    }
    for (size_t i = 0; i < n_ids; i++) {
        size_t length;
        const char *content = vocabulary_content(&t->vocabulary, ids[i], &length);
        if (!skip_special || !t->vocabulary.token[ids[i]].special) {
            used += token_bytes(content, length, raw + used);
        }
    }
    *text = utf8_repair(raw, used, n);
    free(raw);
    return *text != NULL ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for a text of %zu bytes", used);
}
