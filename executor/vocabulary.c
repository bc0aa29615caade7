/* vocabulary.c - token contents by id, and ids by content. */
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

bool grow(void *array, size_t *capacity, size_t need, size_t item_bytes)
{
    if (need <= *capacity) {
        return true;
    }
    size_t wanted = *capacity > 0 ? *capacity : 16;
    while (wanted < need) {
        if (wanted > SIZE_MAX / 2) {
            return false;
        }
        wanted *= 2;
    }
    if (wanted > SIZE_MAX / item_bytes) {
        return false;
    }
    void *old = NULL;
    memcpy(&old, array, sizeof old); /* `array` is a T **: copied, as its type is not known here */
    void *fresh = realloc(old, wanted * item_bytes);
    if (fresh == NULL) {
        return false;
    }
    memcpy(array, &fresh, sizeof fresh);
    *capacity = wanted;
    return true;
}

bool id_list_add(struct id_list *l, int32_t id)
{
    if (!grow(&l->id, &l->capacity, l->n + 1, sizeof *l->id)) {
        return false;
    }
    l->id[l->n++] = id;
    return true;
}

struct quoted quote(const char *s, size_t n)
{
    struct quoted q;
    size_t used = 0;
    for (size_t i = 0; i < n && used + 4 < sizeof q.text; i++) {
        const unsigned char c = (unsigned char)s[i];
        q.text[used++] = (char)(c < 0x20 || c == 0x7F ? '?' : c);
    }
    const bool cut = used < n;
    /* A cut inside a character would leave half of it. */
    while (cut && used > 0 && !utf8_valid(q.text, used) && ((unsigned char)q.text[used - 1] & 0x80) != 0) {
        used--;
    }
    memcpy(q.text + used, "...", cut ? 3 : 0);
    q.text[used + (cut ? 3 : 0)] = '\0';
    if (!utf8_valid(q.text, strlen(q.text))) {
        for (char *p = q.text; *p != '\0'; p++) {
            *p = (unsigned char)*p < 0x80 ? *p : '?';
        }
    }
    return q;
}

/* FNV-1a, finished as in SplitMix64 so that the low bits are good. */
static uint64_t hash_content(const char *s, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    }
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return h ^ (h >> 27);
}

/* The slot that holds the content, or the free one where it belongs. */
static size_t find_slot(const struct vocabulary *v, const char *content, size_t length)
{
    size_t i = hash_content(content, length) & (v->n_slots - 1);
    while (v->slot[i] >= 0) {
        const struct token *t = &v->token[v->slot[i]];
        if (t->length == length && memcmp(v->strings + t->offset, content, length) == 0) {
            break;
        }
        i = (i + 1) & (v->n_slots - 1);
    }
    return i;
}

/* Keeps the table at most half full. */
static bool make_room(struct vocabulary *v)
{
    if (2 * (v->count + 1) <= v->n_slots) {
        return true;
    }
    const size_t n_slots = v->n_slots > 0 ? 2 * v->n_slots : 256;
    int32_t *slot = malloc(n_slots * sizeof *slot);
    if (slot == NULL) {
        return false;
    }
    memset(slot, 0xFF, n_slots * sizeof *slot); /* every slot -1 */
    free(v->slot);
    v->slot = slot;
    v->n_slots = n_slots;
    for (size_t id = 0; id < v->n; id++) {
        const struct token *t = &v->token[id];
        if (t->length > 0) {
            v->slot[find_slot(v, v->strings + t->offset, t->length)] = (int32_t)id;
        }
    }
    return true;
}

static bool reach_id(struct vocabulary *v, size_t id)
{
    if (!grow(&v->token, &v->token_capacity, id + 1, sizeof *v->token)) {
        return false;
    }
    if (id >= v->n) {
        memset(v->token + v->n, 0, (id + 1 - v->n) * sizeof *v->token);
        v->n = id + 1;
    }
    return true;
}

static enum status check_new(const struct vocabulary *v, const char *content, size_t length, int64_t id, const char *path,
                             int line, struct error *err)
{
    if (length == 0) {
        return error_at(err, STATUS_INVALID, path, line, "token id %lld: expected a content, found \"\"", (long long)id);
    }
    if (id < 0 || id > TOKEN_MAX_ID) {
        return error_at(err, STATUS_INVALID, path, line, "token \"%s\": expected an id from 0 to %d, found %lld",
                        quote(content, length).text, TOKEN_MAX_ID, (long long)id);
    }
    if ((size_t)id < v->n && v->token[id].length > 0) {
        const struct token *t = &v->token[id];
        return error_at(err, STATUS_INVALID, path, line, "token \"%s\": expected an id of its own, found %lld, which is \"%s\"",
                        quote(content, length).text, (long long)id, quote(v->strings + t->offset, t->length).text);
    }
    if (vocabulary_find(v, content, length) >= 0) {
        return error_at(err, STATUS_INVALID, path, line, "token \"%s\": expected one id, found %d and %lld",
                        quote(content, length).text, vocabulary_find(v, content, length), (long long)id);
    }
    return STATUS_OK;
}

enum status vocabulary_add(struct vocabulary *v, const char *content, size_t length, int64_t id, const char *path, int line,
                           struct error *err)
{
    const enum status status = check_new(v, content, length, id, path, line, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (length > UINT32_MAX - v->strings_used || !make_room(v) || !reach_id(v, (size_t)id) ||
        !grow(&v->strings, &v->strings_capacity, v->strings_used + length, 1)) {
        return error_at(err, STATUS_RUNTIME, path, line, "out of memory for the vocabulary");
    }
    const size_t slot = find_slot(v, content, length);
    memcpy(v->strings + v->strings_used, content, length);
    v->token[id] = (struct token){.offset = (uint32_t)v->strings_used, .length = (uint32_t)length};
    v->strings_used += length;
    v->slot[slot] = (int32_t)id;
    v->count++;
    return STATUS_OK;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *content, size_t length)
{
    return v->n_slots > 0 ? v->slot[find_slot(v, content, length)] : -1;
}

const char *vocabulary_content(const struct vocabulary *v, int32_t id, size_t *length)
{
    *length = v->token[id].length;
    return v->strings + v->token[id].offset;
}

void vocabulary_free(struct vocabulary *v)
{
    free(v->strings);
    free(v->token);
    free(v->slot);
    *v = (struct vocabulary){0};
}
