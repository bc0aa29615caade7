/* cost_times.c - what one operation takes: a transfer, a layer, attention. The table (cost.c) and the simulator are made of these. */
#include <math.h>

#include "model/cost.h"
#include "model/placement.h"
#include "model/sparse.h"

static double at_rate_s(const struct curve *rate, double latency_s, double bytes, double transfers, double low, double high)
{
    return bytes > 0 ? transfers * latency_s + bytes / curve_best(rate, low, high) : 0;
}

double cost_transfers_s(const struct hardware *hw, int link, bool write, double bytes, double transfers, double low, double high)
{
    const struct link *l = &hw->link[link];
    return write ? at_rate_s(&l->write_bytes_per_s, l->write_latency_s, bytes, transfers, low, high)
                 : at_rate_s(&l->read_bytes_per_s, l->read_latency_s, bytes, transfers, low, high);
}

double cost_pageable_s(const struct hardware *hw, int link, double bytes, double transfers, double low, double high)
{
    const struct link *l = &hw->link[link];
    return at_rate_s(&l->pageable_read_bytes_per_s, l->read_latency_s, bytes, transfers, low, high);
}

double cost_transfer_s(const struct hardware *hw, int link, bool write, double bytes)
{
    return cost_transfers_s(hw, link, write, bytes, 1, bytes, bytes);
}

double cost_staging_s(const struct hardware *hw, double bytes, double low, double high)
{
    return bytes > 0 ? bytes / curve_best(&hw->runtime.staging_bytes_per_s, low, high) : 0;
}

double cost_page_cache_s(const struct hardware *hw)
{
    const struct curve *rate = &hw->link[hw->n_tiers - 2].read_bytes_per_s;
    return hw->page_cache_bytes > 0 ? hw->page_cache_bytes / curve_at(rate, hw->page_cache_bytes) : 0;
}

const struct curve *cost_matmul_rate(const struct compute *unit, enum format weights)
{
    if (unit->matmul[weights].n == 0 && weights == FORMAT_BF16) /* the same bytes, the same products */
        return &unit->matmul[FORMAT_F16];
    return &unit->matmul[weights];
}

static double matmul_s(const struct compute *unit, enum format weights, double elements, double rows, double low, double high)
{
    return 2 * elements * rows / curve_best(cost_matmul_rate(unit, weights), low, high);
}

/* Passes over hidden states outside the matrix products, in activation elements per row: norm (read, write), residual (read both, write),
 * and for attention the keys and values written to the cache and read once. */
static double elementwise_elements(const struct arch *a, const struct layer *l)
{
    double hidden = (double)a->hidden;
    switch (l->kind) {
    case LAYER_ATTENTION:
        return 5 * hidden + 2 * (double)l->state_per_token;
    case LAYER_MLP:
        return 5 * hidden;
    case LAYER_EMBED:
        return 3 * hidden;
    default:
        return 2 * hidden;
    }
}

static double matrix_elements(const struct layer *l)
{
    double sum = 0;
    for (int j = 0; j < l->n_tensors; j++)
        if (l->tensor[j].placed || l->tensor[j].role == ROLE_PROJECT_IN || l->tensor[j].role == ROLE_PROJECT_OUT)
            sum += (double)(l->tensor[j].row_end - l->tensor[j].row_begin) * (double)l->tensor[j].cols;
    return sum;
}

double cost_attend_s(const struct compute *unit, const struct layer *l, enum format cache, double sparsity, double sequences,
                     int64_t tokens, double visible)
{
    if (l->kind != LAYER_ATTENTION)
        return 0;
    if (tokens > 1)
        return sequences * l->b * visible_sum(tokens, l->window) / unit->attention_prefill_flops_per_s;
    double seen = l->window > 0 && visible > (double)l->window ? (double)l->window : visible;
    return sequences * sparse_read(sparsity, seen) * (double)cache_row_bytes(l, cache) /
           unit->attention_decode_bytes_per_s[cache];
}

static double rows_at_once(const struct compute *unit, const struct layer *l, int64_t sequences, int64_t tokens)
{
    return (double)workspace_rows(unit, sequences, l->kind == LAYER_HEAD ? 1 : tokens);
}

/* Launches, and a layer over `sequences` sequences in operations of low to high each, at the best rate in that span. */
static double layer_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                      enum format cache, double sparsity, double launch_s, double sequences, int64_t low, int64_t high,
                      int64_t tokens, double visible)
{
    double rows = l->kind == LAYER_HEAD ? sequences : sequences * (double)tokens; /* the head scores the last position only */
    double element = unit->activation == FORMAT_F32 ? 4 : 2;
    double least = rows_at_once(unit, l, low, tokens), most = rows_at_once(unit, l, high, tokens);
    double products = 0;
    if (l->kind == LAYER_EMBED) {
        const struct tensor *in = layer_tensor(l, ROLE_PROJECT_IN);
        products = in ? matmul_s(unit, FORMAT_F32, (double)(in->rows * in->cols), rows, least, most) : 0;
    } else {
        products = matmul_s(unit, weights, matrix_elements(l), rows, least, most);
    }
    return launch_s + products + rows * elementwise_elements(a, l) * element / unit->memory_bytes_per_s +
           cost_attend_s(unit, l, cache, sparsity, sequences, tokens, visible);
}

double cost_work_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                   enum format cache, double sparsity, int sequences, int64_t tokens, double visible)
{
    return layer_s(unit, a, l, weights, cache, sparsity, 0, sequences, sequences, sequences, tokens, visible);
}

double cost_operations_s(const struct compute *unit, double launch_s, double work_s)
{
    return compute_queues(unit) ? fmax(launch_s, work_s) : launch_s + work_s;
}

double cost_layers_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                     enum format cache, double sparsity, double sequences, double operations, int64_t low, int64_t high,
                     int64_t tokens, double visible)
{
    /* an embedding begins on the host, when the unit is idle: nothing hides its launch */
    const bool hidden = compute_queues(unit) && l->kind != LAYER_EMBED;
    const double launch_s = operations * unit->launch_s;
    const double s = layer_s(unit, a, l, weights, cache, sparsity, hidden ? 0 : launch_s, sequences, low, high, tokens, visible);
    return hidden ? cost_operations_s(unit, launch_s, s) : s;
}

double cost_layer_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                    enum format cache, double sparsity, int sequences, int64_t tokens, double visible)
{
    return cost_layers_s(unit, a, l, weights, cache, sparsity, sequences, 1, sequences, sequences, tokens, visible);
}

/* docs/cost-model.md, "Launches": between none and all of the cache at home the table is linear. */
struct near_times cost_near_s(const struct compute *unit, const struct arch *a, const struct layer *l, enum format weights,
                              enum format cache, double sparsity, double sequences, double operations, int64_t low, int64_t high,
                              double visible)
{
    double attend = cost_attend_s(unit, l, cache, sparsity, sequences, 1, visible);
    double work = layer_s(unit, a, l, weights, cache, sparsity, 0, sequences, low, high, 1, visible) - attend;
    double launch = operations * unit->launch_s, first = NEAR_FIRST_HALF;
    return (struct near_times){cost_operations_s(unit, launch, work),
                               cost_operations_s(unit, first * launch, first * work + attend) -
                                   cost_operations_s(unit, first * launch, first * work)};
}

double cost_lookup_s(const struct hardware *hw, const struct arch *a, double rows)
{
    double row = (double)a->embed_width * (a->weight_format == FORMAT_F32 ? 4 : 2);
    double extent = ceil(row / DISK_ALIGN + 1) * DISK_ALIGN; /* a row may straddle one more sector */
    return rows * extent / curve_at(&hw->link[hw->n_tiers - 2].read_bytes_per_s, extent);
}
