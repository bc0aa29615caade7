/* bpe.c - byte-pair encoding of one word.
 *
 * The word starts as one symbol per byte, in a doubly linked list. Every neighbouring pair that the merge table knows waits in
 * a heap, ordered by rank and then by position. The first is taken, its two symbols become one, and the two pairs that the new
 * symbol makes with its neighbours join the heap. A waiting pair whose symbols have changed meanwhile is dropped when it comes
 * up. A word of n bytes makes at most n - 1 merges, each with two new pairs: O(n log n), whatever the word.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

#define MERGE_EMPTY (-1)

struct bpe_symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t previous, next;
};

struct bpe_entry {
    uint64_t order; /* rank << 32 | position */
    int32_t id;     /* what the pair becomes */
};

void bpe_init(struct bpe *b)
{
    *b = (struct bpe){.unk_id = -1};
    for (int i = 0; i < 256; i++) {
        b->byte_id[i] = -1;
    }
}

void bpe_set_bytes(struct bpe *b, const struct vocabulary *v)
{
    for (int i = 0; i < 256; i++) {
        char utf8[2];
        b->byte_id[i] = vocabulary_find(v, utf8, byte_to_utf8((uint8_t)i, utf8));
    }
}

/* ---- the merge table ---- */

static uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t merge_slot(const struct bpe *b, uint64_t key)
{
    uint64_t h = (key ^ (key >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 29;
    size_t i = h & (b->n_slots - 1);
    while (b->slot[i].id != MERGE_EMPTY && b->slot[i].key != key) {
        i = (i + 1) & (b->n_slots - 1);
    }
    return i;
}

static const struct merge *find_merge(const struct bpe *b, int32_t left, int32_t right)
{
    if (b->n_slots == 0) {
        return NULL;
    }
    const struct merge *m = &b->slot[merge_slot(b, pair_key(left, right))];
    return m->id != MERGE_EMPTY ? m : NULL;
}

static bool make_room(struct bpe *b)
{
    if (2 * (b->count + 1) <= b->n_slots) {
        return true;
    }
    const struct bpe old = *b;
    const size_t n_slots = old.n_slots > 0 ? 2 * old.n_slots : 256;
    struct merge *slot = malloc(n_slots * sizeof *slot);
    if (slot == NULL) {
        return false;
    }
    for (size_t i = 0; i < n_slots; i++) {
        slot[i].id = MERGE_EMPTY;
    }
    b->slot = slot;
    b->n_slots = n_slots;
    for (size_t i = 0; i < old.n_slots; i++) {
        if (old.slot[i].id != MERGE_EMPTY) {
            b->slot[merge_slot(b, old.slot[i].key)] = old.slot[i];
        }
    }
    free(old.slot);
    return true;
}

/* The id of left + right, or -1; false when out of memory. */
static bool joined_id(const struct vocabulary *v, const char *left, size_t left_n, const char *right, size_t right_n, int32_t *id)
{
    char *joined = malloc(left_n + right_n + 1);
    if (joined == NULL) {
        return false;
    }
    memcpy(joined, left, left_n);
    memcpy(joined + left_n, right, right_n);
    *id = vocabulary_find(v, joined, left_n + right_n);
    free(joined);
    return true;
}

enum status bpe_add_merge(struct bpe *b, const struct vocabulary *v, const char *left, size_t left_n, const char *right,
                          size_t right_n, const char *path, int line, struct error *err)
{
    const int32_t left_id = vocabulary_find(v, left, left_n);
    const int32_t right_id = vocabulary_find(v, right, right_n);
    int32_t id = -1;
    if (!joined_id(v, left, left_n, right, right_n, &id) || !make_room(b)) {
        return error_at(err, STATUS_RUNTIME, path, line, "out of memory for the merges");
    }
    if (left_id < 0 || right_id < 0 || id < 0) {
        const char *which = left_id < 0 ? "left part" : right_id < 0 ? "right part" : "result";
        return error_at(err, STATUS_INVALID, path, line,
                        "merge %u \"%s\" \"%s\": expected tokens of the vocabulary, found none for its %s", b->n_ranks,
                        quote(left, left_n).text, quote(right, right_n).text, which);
    }
    const uint64_t key = pair_key(left_id, right_id);
    struct merge *m = &b->slot[merge_slot(b, key)];
    b->count += m->id == MERGE_EMPTY; /* of a repeated pair the last rank counts, as in the reference */
    *m = (struct merge){.key = key, .rank = b->n_ranks++, .id = id};
    return STATUS_OK;
}

/* ---- the heap of waiting pairs ---- */

static void heap_push(struct bpe_work *w, struct bpe_entry e)
{
    assert(w->heap_n < w->heap_capacity);
    size_t i = w->heap_n++;
    while (i > 0 && w->heap[(i - 1) / 2].order > e.order) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
}

static struct bpe_entry heap_pop(struct bpe_work *w)
{
    const struct bpe_entry top = w->heap[0];
    const struct bpe_entry e = w->heap[--w->heap_n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_n) {
            break;
        }
        child += child + 1 < w->heap_n && w->heap[child + 1].order < w->heap[child].order;
        if (e.order <= w->heap[child].order) {
            break;
        }
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = e;
    return top;
}

/* ---- one word ---- */

/* The pair that starts at `position` joins the heap, if there is one and it can merge. */
static void offer_pair(const struct bpe *b, struct bpe_work *w, int32_t position)
{
    const int32_t next = position >= 0 ? w->symbol[position].next : -1;
    if (next < 0) {
        return;
    }
    const struct merge *m = find_merge(b, w->symbol[position].id, w->symbol[next].id);
    if (m != NULL) {
        heap_push(w, (struct bpe_entry){.order = (uint64_t)m->rank << 32 | (uint32_t)position, .id = m->id});
    }
}

static void merge_at(const struct bpe *b, struct bpe_work *w, int32_t position, int32_t id)
{
    struct bpe_symbol *left = &w->symbol[position];
    struct bpe_symbol *right = &w->symbol[left->next];
    left->id = id;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0) {
        w->symbol[left->next].previous = position;
    }
    offer_pair(b, w, left->previous);
    offer_pair(b, w, position);
}

static void merge_all(const struct bpe *b, struct bpe_work *w, int32_t n)
{
    w->heap_n = 0;
    for (int32_t i = 0; i + 1 < n; i++) {
        offer_pair(b, w, i);
    }
    while (w->heap_n > 0) {
        const struct bpe_entry e = heap_pop(w);
        const int32_t position = (int32_t)(uint32_t)e.order;
        const struct bpe_symbol *s = &w->symbol[position];
        if (s->id < 0 || s->next < 0) {
            continue;
        }
        const struct merge *m = find_merge(b, s->id, w->symbol[s->next].id);
        if (m != NULL && m->id == e.id) {
            merge_at(b, w, position, e.id);
        }
    }
}

/* A word of n bytes has n - 1 pairs at first; a merge takes one from the heap and adds two at most: 2n entries suffice. */
static bool reserve(struct bpe_work *w, size_t n)
{
    return grow(&w->symbol, &w->symbol_capacity, n, sizeof *w->symbol) &&
           grow(&w->heap, &w->heap_capacity, 2 * n, sizeof *w->heap);
}

static enum status set_symbols(const struct bpe *b, struct bpe_work *w, const char *word, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = (uint8_t)word[i];
        const int32_t id = b->byte_id[byte] >= 0 ? b->byte_id[byte] : b->unk_id;
        if (id < 0) {
            return error_set(
                err, STATUS_INVALID,
                "cannot encode \"%s\": expected a token or an unk_token for byte 0x%02x, found none in the vocabulary",
                quote(word, n).text, byte);
        }
        w->symbol[i] = (struct bpe_symbol){.id = id, .previous = (int32_t)i - 1, .next = i + 1 < n ? (int32_t)i + 1 : -1};
    }
    return STATUS_OK;
}

/* The id of the whole word when the vocabulary has it, else -1; false when out of memory. */
static bool whole_word(const struct vocabulary *v, struct bpe_work *w, const char *word, size_t n, int32_t *id)
{
    if (!grow(&w->mapped, &w->mapped_capacity, 2 * n, 1)) {
        return false;
    }
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        used += byte_to_utf8((uint8_t)word[i], w->mapped + used);
    }
    *id = vocabulary_find(v, w->mapped, used);
    return true;
}

enum status bpe_word(const struct bpe *b, const struct vocabulary *v, struct bpe_work *work, const char *word, size_t n,
                     struct id_list *out, struct error *err)
{
    if (n == 0) {
        return STATUS_OK;
    }
    int32_t whole = -1;
    if ((b->ignore_merges && !whole_word(v, work, word, n, &whole)) || !reserve(work, n)) {
        return error_set(err, STATUS_RUNTIME, "out of memory for a word of %zu bytes", n);
    }
    if (whole < 0) {
        const enum status status = set_symbols(b, work, word, n, err);
        if (status != STATUS_OK) {
            return status;
        }
        merge_all(b, work, (int32_t)n);
    } else {
        work->symbol[0] = (struct bpe_symbol){.id = whole, .previous = -1, .next = -1};
    }
    for (int32_t i = 0; i >= 0; i = work->symbol[i].next) {
        if (!id_list_add(out, work->symbol[i].id)) {
            return error_set(err, STATUS_RUNTIME, "out of memory for %zu token ids", out->n + 1);
        }
    }
    return STATUS_OK;
}

void bpe_work_free(struct bpe_work *w)
{
    free(w->symbol);
    free(w->heap);
    free(w->mapped);
    *w = (struct bpe_work){0};
}

void bpe_free(struct bpe *b)
{
    free(b->slot);
    bpe_init(b);
}
