/* pretokenizer.c - text before byte-pair merging: UTF-8 repair, the words of GPT-2, the alphabet that stands for bytes. */
#include <stdlib.h>
#include <string.h>

#include "executor/tokenizer_internal.h"

/* ---- UTF-8 ---- */

/* Length of the character that a lead byte announces, and the range of its second byte (Unicode, table 3-7); 0: no lead byte. */
static size_t announced(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    *high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (lead < 0x80) {
        return 1;
    }
    return lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

size_t utf8_next(const unsigned char *s, size_t n, size_t *bad)
{
    unsigned char low, high;
    const size_t length = announced(s[0], &low, &high);
    size_t i = 1;
    while (i < length && i < n && s[i] >= low && s[i] <= high) {
        low = 0x80;
        high = 0xBF;
        i++;
    }
    *bad = i;
    return i == length ? length : 0;
}

bool utf8_valid(const char *text, size_t n)
{
    size_t bad;
    for (size_t i = 0; i < n;) {
        const size_t length = utf8_next((const unsigned char *)text + i, n - i, &bad);
        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

char *utf8_repair(const char *text, size_t n, size_t *out_n)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    const unsigned char *s = (const unsigned char *)text;
    size_t need = 0, bad = 0;
    for (size_t i = 0; i < n; i += bad) {
        need += utf8_next(s + i, n - i, &bad) > 0 ? bad : 3;
    }
    char *out = malloc(need + 1);
    if (out == NULL) {
        return NULL;
    }
    size_t used = 0;
    for (size_t i = 0; i < n; i += bad) {
        const size_t length = utf8_next(s + i, n - i, &bad);
        const char *from = length > 0 ? text + i : replacement;
        memcpy(out + used, from, length > 0 ? length : 3);
        used += length > 0 ? length : 3;
    }
    out[used] = '\0';
    *out_n = used;
    return out;
}

size_t utf8_space(const unsigned char *s, size_t n)
{
    if (n >= 1 && (s[0] == ' ' || (s[0] >= '\t' && s[0] <= '\r'))) {
        return 1;
    }
    if (n >= 2 && s[0] == 0xC2 && (s[1] == 0x85 || s[1] == 0xA0)) { /* U+0085, U+00A0 */
        return 2;
    }
    if (n < 3 || s[0] < 0xE1 || s[0] > 0xE3) {
        return 0;
    }
    const unsigned point = (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    const bool space = point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 ||
                       point == 0x202F || point == 0x205F || point == 0x3000;
    return space ? 3 : 0;
}

/* ---- the byte alphabet ---- */

/* Printable Latin-1 stands for itself; the other 68 bytes take U+0100 onwards in order. */
static bool is_printable(unsigned c)
{
    return (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

/* How many bytes below `byte` are not printable: 0..32, 127..160 and 173 are not. */
static uint32_t moved_below(uint8_t byte)
{
    return byte <= 32 ? byte : byte <= 127 ? 33 : byte <= 161 ? 33u + (byte - 127u) : byte <= 173 ? 67 : 68;
}

uint32_t byte_to_unicode(uint8_t byte)
{
    return is_printable(byte) ? byte : 256 + moved_below(byte);
}

size_t byte_to_utf8(uint8_t byte, char out[2])
{
    const uint32_t point = byte_to_unicode(byte);
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xC0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3F));
    return 2;
}

/* The byte that a code point below BYTE_ALPHABET stands for, or -1. */
static int unicode_to_byte(uint32_t point)
{
    if (point < 256) {
        return is_printable(point) ? (int)point : -1;
    }
    const uint32_t i = point - 256;
    return i < 33 ? (int)i : i < 67 ? (int)(127 + i - 33) : i == 67 ? 173 : -1;
}

size_t token_bytes(const char *content, size_t n, char *out)
{
    const unsigned char *s = (const unsigned char *)content;
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        const bool two = (s[i] & 0xE0) == 0xC0 && i + 1 < n;
        const uint32_t point = two ? (s[i] & 0x1Fu) << 6 | (s[i + 1] & 0x3Fu) : s[i];
        const int byte = s[i] < 0x80 || two ? unicode_to_byte(point) : -1;
        if (byte < 0) {
            memcpy(out, content, n);
            return n;
        }
        out[used++] = (char)byte;
        i += two ? 2 : 1;
    }
    return used;
}

/* ---- the words ---- */

/* GPT-2's pattern. White space is spelled out as Unicode's White_Space, because PCRE2's \s also takes U+180E. The quantifiers
 * are possessive where that cannot change a match, so that no word is long enough to make the matcher go back far. */
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
static const char word_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}++| ?\\p{N}++| ?[^" SPACE "\\p{L}\\p{N}]++"
                                   "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]++";

enum status pretokenizer_compile(pcre2_code **out, struct error *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    *out = pcre2_compile((PCRE2_SPTR)word_pattern, sizeof word_pattern - 1, PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at,
                         NULL);
    if (*out == NULL) {
        char text[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return error_set(err, STATUS_RUNTIME, "the word pattern does not compile at %zu: %s", (size_t)at, text);
    }
    (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without JIT the interpreter serves */
    return STATUS_OK;
}
