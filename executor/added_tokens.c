/* added_tokens.c - cuts a text at its added tokens ("</s>", "<pad>").
 *
 * At each byte the longest added token that starts there wins, and the search goes on behind it. Tokens marked `normalized`
 * are looked for in a second pass, in the stretches that the first pass left as plain text; the reference does the same.
 */
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

/* ---- the trie ---- */

static size_t edge_slot(const struct added_tokens *a, int32_t node, uint8_t byte)
{
    uint64_t h = ((uint64_t)(uint32_t)node << 8 | byte) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 29;
    size_t i = h & (a->n_slots - 1);
    while (a->edge[i].node >= 0 && (a->edge[i].node != node || a->edge[i].byte != byte)) {
        i = (i + 1) & (a->n_slots - 1);
    }
    return i;
}

static int32_t follow(const struct added_tokens *a, int32_t node, uint8_t byte)
{
    const struct trie_edge *e = &a->edge[edge_slot(a, node, byte)];
    return e->node >= 0 ? e->child : -1;
}

static bool make_room(struct added_tokens *a)
{
    if (2 * (a->n_edges + 1) <= a->n_slots) {
        return true;
    }
    const struct added_tokens old = *a;
    const size_t n_slots = old.n_slots > 0 ? 2 * old.n_slots : 64;
    struct trie_edge *edge = malloc(n_slots * sizeof *edge);
    if (edge == NULL) {
        return false;
    }
    for (size_t i = 0; i < n_slots; i++) {
        edge[i].node = -1;
    }
    a->edge = edge;
    a->n_slots = n_slots;
    for (size_t i = 0; i < old.n_slots; i++) {
        if (old.edge[i].node >= 0) {
            a->edge[edge_slot(a, old.edge[i].node, old.edge[i].byte)] = old.edge[i];
        }
    }
    free(old.edge);
    return true;
}

static bool add_node(struct added_tokens *a)
{
    if (!grow(&a->ends, &a->node_capacity, a->n_nodes + 1, sizeof *a->ends)) {
        return false;
    }
    a->ends[a->n_nodes++] = -1;
    return true;
}

/* The node behind `node` along `byte`, made if it is missing; -1 when out of memory. */
static int32_t step(struct added_tokens *a, int32_t node, uint8_t byte)
{
    if (!make_room(a)) {
        return -1;
    }
    struct trie_edge *e = &a->edge[edge_slot(a, node, byte)];
    if (e->node >= 0) {
        return e->child;
    }
    if (!add_node(a)) {
        return -1;
    }
    *e = (struct trie_edge){.node = node, .child = (int32_t)a->n_nodes - 1, .byte = byte};
    a->n_edges++;
    return e->child;
}

enum status added_tokens_add(struct added_tokens *a, const struct added_token *token, const char *content, size_t length,
                             const char *path, struct error *err)
{
    if (length == 0 || length > TOKEN_MAX_ADDED_BYTES) {
        return error_at(err, STATUS_INVALID, path, 0, "added token \"%s\": expected 1 to %d bytes, found %zu",
                        quote(content, length).text, TOKEN_MAX_ADDED_BYTES, length);
    }
    bool room = grow(&a->token, &a->token_capacity, a->n + 1, sizeof *a->token);
    while (room && a->n_nodes < 2) {
        room = add_node(a);
    }
    int32_t node = token->normalized ? 1 : 0;
    for (size_t i = 0; i < length && room; i++) {
        node = step(a, node, (uint8_t)content[i]);
        room = node >= 0;
    }
    if (!room) {
        return error_at(err, STATUS_RUNTIME, path, 0, "out of memory for the added tokens");
    }
    a->starts[token->normalized ? 1 : 0][(uint8_t)content[0]] = true;
    a->token[a->n] = *token;
    a->token[a->n].length = (uint32_t)length;
    a->ends[node] = (int32_t)a->n++;
    return STATUS_OK;
}

void added_tokens_free(struct added_tokens *a)
{
    free(a->token);
    free(a->ends);
    free(a->edge);
    *a = (struct added_tokens){0};
}

/* ---- cutting ---- */

/* The longest added token of the pass at the start of the text, or NULL. */
static const struct added_token *match_here(const struct added_tokens *a, int pass, const char *text, size_t n)
{
    if (!a->starts[pass][(uint8_t)text[0]]) {
        return NULL;
    }
    int32_t found = -1;
    int32_t node = pass;
    for (size_t i = 0; i < n; i++) {
        node = follow(a, node, (uint8_t)text[i]);
        if (node < 0) {
            break;
        }
        found = a->ends[node] >= 0 ? a->ends[node] : found;
    }
    return found >= 0 ? &a->token[found] : NULL;
}

/* Where the white space that ends at `end` begins, not before `from`. The text is valid UTF-8. */
static size_t space_before(const char *text, size_t from, size_t end)
{
    const unsigned char *s = (const unsigned char *)text;
    while (end > from) {
        size_t start = end - 1;
        while (start > from && (s[start] & 0xC0) == 0x80) {
            start--;
        }
        if (utf8_space(s + start, end - start) != end - start) {
            break;
        }
        end = start;
    }
    return end;
}

static size_t space_after(const char *text, size_t start, size_t n)
{
    size_t length = 0;
    do {
        start += length;
        length = utf8_space((const unsigned char *)text + start, n - start);
    } while (length > 0);
    return start;
}

static enum status split_pass(const struct added_tokens *a, int pass, const char *text, size_t n, added_tokens_visit *visit,
                              void *context, struct error *err);

/* A stretch without tokens of this pass. */
static enum status visit_plain(const struct added_tokens *a, int pass, const char *text, size_t n, added_tokens_visit *visit,
                               void *context, struct error *err)
{
    return pass == 0 ? split_pass(a, 1, text, n, visit, context, err) : visit(context, -1, text, n, err);
}

static enum status split_pass(const struct added_tokens *a, int pass, const char *text, size_t n, added_tokens_visit *visit,
                              void *context, struct error *err)
{
    enum status status = STATUS_OK;
    size_t done = 0; /* the text up to here has been visited */
    for (size_t at = 0; at < n && status == STATUS_OK;) {
        const struct added_token *token = match_here(a, pass, text + at, n - at);
        if (token == NULL) {
            at++;
            continue;
        }
        const size_t end = at + token->length;
        const size_t start = token->lstrip ? space_before(text, done < at ? done : at, at) : at;
        if (done < start) {
            status = visit_plain(a, pass, text + done, start - done, visit, context, err);
        }
        if (status == STATUS_OK) {
            status = visit(context, token->id, text + start, end - start, err);
        }
        done = token->rstrip ? space_after(text, end, n) : end;
        at = end;
    }
    if (status == STATUS_OK && done < n) {
        status = visit_plain(a, pass, text + done, n - done, visit, context, err);
    }
    return status;
}

enum status added_tokens_split(const struct added_tokens *a, const char *text, size_t n, added_tokens_visit *visit, void *context,
                               struct error *err)
{
    return split_pass(a, 0, text, n, visit, context, err);
}
