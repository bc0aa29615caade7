/* layer.c - sums over a layer and over all of them: no file is read here, so that libballast_cuda.so can have it too. */
#include "model/arch.h"

const struct tensor *layer_tensor(const struct layer *l, enum tensor_role role)
{
    for (int i = 0; i < l->n_tensors; i++)
        if (l->tensor[i].role == role)
            return &l->tensor[i];
    return NULL;
}

static int64_t used_rows(const struct tensor *t)
{
    return t->row_end - t->row_begin;
}

int64_t layer_parameters(const struct layer *l)
{
    int64_t sum = 0;
    for (int i = 0; i < l->n_tensors; i++)
        sum += used_rows(&l->tensor[i]) * l->tensor[i].cols;
    return sum;
}

int layer_matrices(const struct layer *l)
{
    int n = 0;
    for (int j = 0; j < l->n_tensors; j++)
        n += l->tensor[j].placed;
    return n;
}

int64_t layer_placed_bytes(const struct layer *l, enum format format)
{
    int64_t sum = 0;
    for (int i = 0; i < l->n_tensors; i++)
        if (l->tensor[i].placed)
            sum += format_matrix_bytes(format, used_rows(&l->tensor[i]), l->tensor[i].cols);
    return sum;
}

int64_t layer_resident_bytes(const struct layer *l)
{
    int64_t sum = 0;
    for (int i = 0; i < l->n_tensors; i++)
        if (!l->tensor[i].placed)
            sum += format_matrix_bytes(FORMAT_F32, used_rows(&l->tensor[i]), l->tensor[i].cols);
    return sum;
}

static int64_t tied_elements(const struct arch *a, const struct layer *l)
{
    const struct tensor *table = layer_tensor(l, ROLE_EMBED_TOKENS);
    return a->tied && l->kind == LAYER_HEAD && table ? used_rows(table) * table->cols : 0;
}

int64_t arch_parameters(const struct arch *a)
{
    int64_t sum = 0;
    for (int i = 0; i < a->n_layers; i++)
        sum += layer_parameters(&a->layer[i]) - tied_elements(a, &a->layer[i]);
    return sum;
}

int64_t arch_cache_elements_per_token(const struct arch *a)
{
    int64_t sum = 0;
    for (int i = 0; i < a->n_layers; i++)
        sum += a->layer[i].state_per_token;
    return sum;
}

double visible_sum(int64_t s, int64_t window)
{
    double x = (double)s, w = (double)window;
    if (window == 0 || s <= window)
        return x * (x + 1) / 2;
    return w * (w + 1) / 2 + (x - w) * w;
}

double visible_mean(int64_t s, int64_t n, int64_t window)
{
    return (visible_sum(s + n, window) - visible_sum(s, window)) / (double)n;
}

double layer_decode_flops(const struct layer *l, double t)
{
    double seen = l->window != 0 && t > (double)l->window ? (double)l->window : t;
    return l->a + l->b * seen;
}

double layer_prefill_flops(const struct layer *l, int64_t s)
{
    if (l->kind == LAYER_HEAD)
        return l->a; /* only the last position is scored */
    return l->a * (double)s + l->b * visible_sum(s, l->window);
}

double arch_decode_flops(const struct arch *a, int64_t t)
{
    double sum = 0;
    for (int i = 0; i < a->n_layers; i++)
        sum += layer_decode_flops(&a->layer[i], (double)t);
    return sum;
}

double arch_prefill_flops(const struct arch *a, int64_t s)
{
    double sum = 0;
    for (int i = 0; i < a->n_layers; i++)
        sum += layer_prefill_flops(&a->layer[i], s);
    return sum;
}
