#include "solver/boxes.h"

#include <stdlib.h>

static bool is_before(const struct box *a, const struct box *b)
{
    return a->bound_tok_s > b->bound_tok_s;
}

static void swap(struct box *a, struct box *b)
{
    const struct box c = *a;

    *a = *b;
    *b = c;
}

bool boxes_push(struct boxes *b, const struct box *box)
{
    if (b->n == b->cap) {
        const size_t cap = b->cap ? 2 * b->cap : 64;
        struct box *at = realloc(b->at, cap * sizeof(*at));
        if (!at)
            return false;
        b->at = at;
        b->cap = cap;
    }
    size_t i = b->n++;
    b->at[i] = *box;
    for (; i > 0 && is_before(&b->at[i], &b->at[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&b->at[i], &b->at[(i - 1) / 2]);
    return true;
}

bool boxes_pop(struct boxes *b, struct box *out)
{
    if (b->n == 0)
        return false;
    *out = b->at[0];
    b->at[0] = b->at[--b->n];
    for (size_t i = 0, best;; i = best) {
        best = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < b->n; child++)
            if (is_before(&b->at[child], &b->at[best]))
                best = child;
        if (best == i)
            return true;
        swap(&b->at[i], &b->at[best]);
    }
}

void boxes_free(struct boxes *b)
{
    free(b->at);
    *b = (struct boxes){0};
}
