/* tokenizer_internal.h - the parts of the tokenizer, for its own source files only.
 *
 *   vocabulary.c       id <-> content (the strings of vocab.json, in the byte-to-unicode alphabet)
 *   bpe.c              merge table, and merging the bytes of one word
 *   added_tokens.c     finding "</s>" and the like in a text
 *   pretokenizer.c     UTF-8 repair, the GPT-2 regular expression, the byte-to-unicode alphabet
 *   tokenizer_json.c   tokenizer.json
 *   tokenizer_files.c  a model directory: vocab.json + merges.txt with their companions
 *   tokenizer.c        encode and decode
 */
#ifndef BALLAST_EXECUTOR_TOKENIZER_INTERNAL_H
#define BALLAST_EXECUTOR_TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/tokenizer.h"
#include "model/error.h"

enum {
    TOKEN_MAX_ID = (1 << 22) - 1,     /* ids above this are refused: a hostile file may not size our tables */
    TOKEN_MAX_ADDED_BYTES = 256,      /* longest added token: bounds the work per byte of text */
    TOKEN_MAX_TEXT_BYTES = 256 << 20, /* longest text to encode; keeps every index in 31 bits */
    TOKEN_MAX_FILE_BYTES = 64 << 20,
    BYTE_ALPHABET = 324, /* code points the 256 bytes map to are all below this */
};

/* Growth by doubling; false when memory is out, with the array unchanged. `array` is a `T **` of `item_bytes` items. */
bool grow(void *array, size_t *capacity, size_t need, size_t item_bytes);

/* ---- vocabulary ---- */

struct token {
    uint32_t offset, length; /* content, in strings; a length of 0 is an id that no token has */
    bool added;              /* looked for in the text itself */
    bool special;            /* left out by skip_special */
};

struct vocabulary {
    char *strings;
    size_t strings_used, strings_capacity;
    struct token *token; /* (n) by id */
    size_t n, token_capacity;
    int32_t *slot; /* (n_slots) open addressing by content: id, or -1 */
    size_t n_slots, count;
};

/* Fails with a reason if the id or the content is taken, or out of range; `path` and `line` are for the message. */
enum status vocabulary_add(struct vocabulary *v, const char *content, size_t length, int64_t id, const char *path, int line,
                           struct error *err);
int32_t vocabulary_find(const struct vocabulary *v, const char *content, size_t length); /* -1: absent */
const char *vocabulary_content(const struct vocabulary *v, int32_t id, size_t *length);  /* borrowed, not NUL-ended */
void vocabulary_free(struct vocabulary *v);

/* ---- byte-pair merging ---- */

struct merge {
    uint64_t key; /* left id << 32 | right id */
    uint32_t rank;
    int32_t id; /* MERGE_EMPTY: the slot is free */
};

struct bpe {
    struct merge *slot; /* (n_slots) open addressing */
    size_t n_slots, count;
    uint32_t n_ranks;
    int32_t byte_id[256]; /* token of one byte, or -1 */
    int32_t unk_id;       /* stands for a byte without a token; -1: such a byte is an error */
    bool ignore_merges;   /* a whole word that is in the vocabulary is taken as it is */
};

/* Scratch of one caller, reused from word to word. */
struct bpe_symbol;
struct bpe_entry;
struct bpe_work {
    struct bpe_symbol *symbol;
    struct bpe_entry *heap;
    size_t symbol_capacity, heap_capacity, heap_n;
    char *mapped; /* the word in the byte-to-unicode alphabet, for ignore_merges */
    size_t mapped_capacity;
};

struct id_list {
    int32_t *id;
    size_t n, capacity;
};

bool id_list_add(struct id_list *l, int32_t id); /* false: out of memory */

void bpe_init(struct bpe *b);
/* Resolves the byte tokens once the vocabulary is complete. */
void bpe_set_bytes(struct bpe *b, const struct vocabulary *v);
/* The next rank: merge `left` and `right` (contents). All three tokens must be in the vocabulary. */
enum status bpe_add_merge(struct bpe *b, const struct vocabulary *v, const char *left, size_t left_n, const char *right,
                          size_t right_n, const char *path, int line, struct error *err);
/* Appends the tokens of one word of raw bytes. O(n log n). */
enum status bpe_word(const struct bpe *b, const struct vocabulary *v, struct bpe_work *work, const char *word, size_t n,
                     struct id_list *out, struct error *err);
void bpe_work_free(struct bpe_work *w);
void bpe_free(struct bpe *b);

/* ---- added tokens ---- */

struct added_token {
    int32_t id;
    uint32_t length;     /* bytes of content */
    bool lstrip, rstrip; /* swallows the white space before, after */
    bool normalized;     /* found in a second pass, in what the first pass left */
};

/* One step of a trie: from a node along a byte. Nodes 0 and 1 are the roots of the two passes. */
struct trie_edge {
    int32_t node; /* -1: the slot is free */
    int32_t child;
    uint8_t byte;
};

struct added_tokens {
    struct added_token *token;
    size_t n, token_capacity;
    int32_t *ends; /* (n_nodes) index of the added token that ends at the node, or -1 */
    size_t n_nodes, node_capacity;
    struct trie_edge *edge; /* (n_slots) open addressing by node and byte */
    size_t n_slots, n_edges;
    bool starts[2][256]; /* bytes that some token of the pass starts with */
};

/* `token->length` is set from `length`. */
enum status added_tokens_add(struct added_tokens *a, const struct added_token *token, const char *content, size_t length,
                             const char *path, struct error *err);
/* Called with a stretch of plain text (id -1) or with an added token, in the order of the text. */
typedef enum status added_tokens_visit(void *context, int32_t id, const char *text, size_t n, struct error *err);
enum status added_tokens_split(const struct added_tokens *a, const char *text, size_t n, added_tokens_visit *visit, void *context,
                               struct error *err);
void added_tokens_free(struct added_tokens *a);

/* ---- text ---- */

/* Length of the valid UTF-8 character at s, or 0 with *bad set to the length of the ill-formed stretch that stands for one
 * replacement character (the maximal subpart of Unicode, chapter 3.9; Python's and Rust's choice). */
size_t utf8_next(const unsigned char *s, size_t n, size_t *bad);
/* Length of the white-space character (Unicode White_Space) at s, or 0. */
size_t utf8_space(const unsigned char *s, size_t n);
/* A copy with U+FFFD for every ill-formed stretch, NUL-ended; NULL when out of memory. */
char *utf8_repair(const char *text, size_t n, size_t *out_n);
bool utf8_valid(const char *text, size_t n);

uint32_t byte_to_unicode(uint8_t byte);
/* Writes the byte's character (1 or 2 bytes of UTF-8), returns its length. */
size_t byte_to_utf8(uint8_t byte, char out[2]);
/* The bytes that a token's content stands for: n at most. Content with a character outside the alphabet stands for itself. */
size_t token_bytes(const char *content, size_t n, char *out);

enum status pretokenizer_compile(pcre2_code **out, struct error *err);

/* A short printable copy of a string from a file, for messages. */
struct quoted {
    char text[96];
};
struct quoted quote(const char *s, size_t n);

/* ---- the whole ---- */

struct tokenizer {
    struct vocabulary vocabulary;
    struct bpe bpe;
    struct added_tokens added;
    pcre2_code *words; /* NULL: a stretch of text is one word */
    bool add_prefix_space;
    struct id_list prefix, suffix; /* what add_special adds */
};

struct tokenizer *tokenizer_new(struct error *err);

/* An added token as the files describe it. */
struct added_spec {
    const char *content;
    size_t length;
    int64_t id; /* -1: that of the vocabulary, else the next free one */
    bool special, lstrip, rstrip, normalized;
};

/* Adds to the vocabulary if need be, and to the trie; a repeated content is ignored. */
enum status tokenizer_add_token(struct tokenizer *t, const struct added_spec *spec, const char *path, struct error *err);
/* The object form {"content", "lstrip", ...} or a plain string. A key that is not known is an error. */
enum status tokenizer_read_added(const json_t *value, const char *path, const char *where, struct added_spec *out,
                                 struct error *err);

enum status tokenizer_read_file(char **text, size_t *n, const char *path, struct error *err);
enum status tokenizer_read_json(json_t **root, const char *path, const char *text, size_t n, struct error *err);
/* {"content": id, ...} as in vocab.json and model.vocab. */
enum status tokenizer_read_vocab(struct tokenizer *t, const json_t *vocab, const char *path, const char *where,
                                 struct error *err);
enum status tokenizer_read_tokenizer_json(struct tokenizer *t, const json_t *root, const char *path, struct error *err);

/* What a value is, in words, for "expected ..., found ...": a short rendering of it. */
struct quoted json_found(const json_t *value);

#endif
