/* words.c - see words.h. */
#include "cli/words.h"

#include <stdbool.h>
#include <string.h>

int words_split(char *text, char **word, int max)
{
    int n = 0;
    for (char *at = text; *at && n < max;) {
        at += strspn(at, " ");
        bool quoted = *at == '"';
        at += quoted;
        if (!*at) {
            break;
        }
        word[n++] = at;
        at += strcspn(at, quoted ? "\"" : " ");
        if (*at) {
            *at++ = '\0';
        }
    }
    return n;
}
