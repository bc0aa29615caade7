/* nearest.c - the known name that a mistyped one is nearest to. */
#include <string.h>

#include "cli/options.h"

static int smallest(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

enum { NAME_MAX_LETTERS = 40 };

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b (optimal string alignment). */
static int edit_distance(const char *a, const char *b)
{
    int d[NAME_MAX_LETTERS + 1][NAME_MAX_LETTERS + 1];
    int m = (int)strlen(a), n = (int)strlen(b);
    for (int i = 0; i <= m; i++) {
        d[i][0] = i;
    }
    for (int j = 0; j <= n; j++) {
        d[0][j] = j;
    }
    for (int i = 1; i <= m; i++) {
        for (int j = 1; j <= n; j++) {
            d[i][j] = smallest(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < d[i][j]) {
                d[i][j] = d[i - 2][j - 2] + 1;
            }
        }
    }
    return d[m][n];
}

const char *nearest_name(const char *name, const char *const *names)
{
    const char *best = NULL;
    int best_distance = 3;
    if (strlen(name) > NAME_MAX_LETTERS) {
        return NULL;
    }
    for (; *names; names++) {
        int d = strlen(*names) > NAME_MAX_LETTERS ? best_distance : edit_distance(name, *names);
        if (d < best_distance && d < (int)strlen(*names)) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}
