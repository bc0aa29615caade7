/* linear_kernels.c - the three instruction sets' tables, and what only AVX-512 has: transposing panels and bf16. */
#include "executor/cpu/linear_kernels.h"

#include <string.h>

#define VEC_WIDTH 1
#include "executor/cpu/linear_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 8
#include "executor/cpu/linear_vec.h"
#undef VEC_WIDTH
#define VEC_WIDTH 16
#include "executor/cpu/linear_vec.h"
#undef VEC_WIDTH

static void copy_f32(const float *x, int64_t n, int64_t padded, float *out)
{
    memcpy(out, x, (size_t)n * sizeof *x);
    memset(out + n, 0, (size_t)(padded - n) * sizeof *x);
}

/* A table's fill_f32 must take a layout; without AVX-512 linear() asks for PANEL_ROWS only. */
static void fill_f32_w1(const struct weight_panel *w, int64_t begin, int64_t k, enum panel_layout layout, float *out)
{
    (void)layout;
    fill_rows_f32_w1(w, begin, k, out);
}

static void fill_f32_w8(const struct weight_panel *w, int64_t begin, int64_t k, enum panel_layout layout, float *out)
{
    (void)layout;
    fill_rows_f32_w8(w, begin, k, out);
}

/* -- AVX-512: 16 rows of 16 dwords become 16 columns ------------------------------------------------------------------- */
TARGET_W16 ALWAYS_INLINE void transpose_pairs(__m512i *v, const __m512i *in)
{
    /* Within each 128-bit lane, 4x4 dwords of rows 4g..4g+3: out[4g+j] holds column j of every lane. */
    UNROLL
    for (int g = 0; g < 16; g += 4) {
        const __m512i a = _mm512_unpacklo_epi32(in[g], in[g + 1]), b = _mm512_unpackhi_epi32(in[g], in[g + 1]);
        const __m512i c = _mm512_unpacklo_epi32(in[g + 2], in[g + 3]), d = _mm512_unpackhi_epi32(in[g + 2], in[g + 3]);
        v[g] = _mm512_unpacklo_epi64(a, c);
        v[g + 1] = _mm512_unpackhi_epi64(a, c);
        v[g + 2] = _mm512_unpacklo_epi64(b, d);
        v[g + 3] = _mm512_unpackhi_epi64(b, d);
    }
}

/* out + stride*j = column j (j = 0..15) of the rows in[0..15]. */
TARGET_W16 ALWAYS_INLINE void store_transposed(const __m512i *in, char *out, int64_t stride)
{
    __m512i v[16];

    transpose_pairs(v, in);
    UNROLL
    for (int j = 0; j < 4; j++) {
        /* v[j], v[4+j], v[8+j], v[12+j]: lane l of each is column 4l + j of four rows; transpose the 4x4 lanes. */
        const __m512i a = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88), b = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xdd), d = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xdd);
        _mm512_storeu_si512(out + stride * j, _mm512_shuffle_i32x4(a, b, 0x88));
        _mm512_storeu_si512(out + stride * (4 + j), _mm512_shuffle_i32x4(c, d, 0x88));
        _mm512_storeu_si512(out + stride * (8 + j), _mm512_shuffle_i32x4(a, b, 0xdd));
        _mm512_storeu_si512(out + stride * (12 + j), _mm512_shuffle_i32x4(c, d, 0xdd));
    }
}

#define BLOCKED_STRIDE (PANEL_N * 4) /* bytes from one k (f32), or one pair of k (bf16), to the next */
#define TILE_ROWS      16

/* 16 rows x 32 columns at the edge of the matrix, as f32, zeros outside: the slow way, so that the fast one has no edges. */
TARGET_W16 static void gather_tile(const struct weight_panel *w, int64_t first, int64_t c, float (*tile)[COLUMN_STEP])
{
    memset(tile, 0, TILE_ROWS * sizeof *tile);
    for (int64_t r = 0; r < TILE_ROWS && first + r < w->rows; r++) {
        const char *row = w->data + (first + r) * w->row_stride;
        for (int half = 0; half < COLUMN_STEP; half += 16)
            store_w16(tile[r] + half, load_weights_safe_w16(w->format, row, c + half, w->cols, w->scale, w->min));
    }
}

static bool tile_is_inside(const struct weight_panel *w, int64_t first, int64_t c)
{
    return first + TILE_ROWS <= w->rows && c + COLUMN_STEP <= w->cols;
}

TARGET_W16 ALWAYS_INLINE void fill_blocked_f32_of(enum format format, const struct weight_panel *w, int64_t first, int64_t begin,
                                                  int64_t k, float *out)
{
    const char *const row = w->data + first * w->row_stride;
    float tile[TILE_ROWS][COLUMN_STEP];
    __m512i in[TILE_ROWS];

    for (int64_t c = 0; c < k; c += COLUMN_STEP) {
        const bool inside = tile_is_inside(w, first, begin + c);
        if (!inside)
            gather_tile(w, first, begin + c, tile);
        for (int64_t half = 0; half < COLUMN_STEP; half += 16) {
            UNROLL
            for (int r = 0; r < TILE_ROWS; r++)
                in[r] = _mm512_castps_si512(
                    inside ? load_weights_w16(format, row + r * w->row_stride, begin + c + half, w->scale, w->min)
                           : load_w16(tile[r] + half));
            store_transposed(in, (char *)(out + (c + half) * PANEL_N + first), BLOCKED_STRIDE);
        }
    }
}

TARGET_W16 static void fill_f32_w16(const struct weight_panel *w, int64_t begin, int64_t k, enum panel_layout layout, float *out)
{
    if (layout == PANEL_ROWS) {
        fill_rows_f32_w16(w, begin, k, out);
        return;
    }
    for (int64_t first = 0; first < PANEL_N; first += TILE_ROWS) {
        if (w->format == FORMAT_F16)
            fill_blocked_f32_of(FORMAT_F16, w, first, begin, k, out);
        else if (w->format == FORMAT_BF16)
            fill_blocked_f32_of(FORMAT_BF16, w, first, begin, k, out);
        else if (w->format == FORMAT_Q4)
            fill_blocked_f32_of(FORMAT_Q4, w, first, begin, k, out);
        else
            fill_blocked_f32_of(FORMAT_F32, w, first, begin, k, out);
    }
}

/* -- AVX-512 BF16: two vectors of f32 become one of 32 bf16 --------------------------------------------------------------- */
TARGET_BF16 ALWAYS_INLINE __m512i pair_bf16(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* 32 weights from column c on; `end`: c + 32 > cols. */
TARGET_BF16 ALWAYS_INLINE __m512i load_weights_bf16(enum format format, const struct weight_panel *w, const char *row, int64_t c,
                                                    bool end)
{
    if (end)
        return pair_bf16(load_weights_safe_w16(format, row, c, w->cols, w->scale, w->min),
                         load_weights_safe_w16(format, row, c + 16, w->cols, w->scale, w->min));
    if (format == FORMAT_BF16)
        return _mm512_loadu_si512(row + 2 * c);
    return pair_bf16(load_weights_w16(format, row, c, w->scale, w->min), load_weights_w16(format, row, c + 16, w->scale, w->min));
}

TARGET_BF16 ALWAYS_INLINE void dot_bf16_step(enum format format, const struct weight_panel *w, const char *const *row, int64_t c,
                                             bool end, const uint16_t *x, int64_t ldx, int m, __m512 (*acc)[DOT_M])
{
    __m512i weights[DOT_ROWS];

    UNROLL
    for (int r = 0; r < DOT_ROWS; r++)
        weights[r] = load_weights_bf16(format, w, row[r], c, end);
    UNROLL
    for (int i = 0; i < m; i++) {
        const __m512i xi = _mm512_loadu_si512(x + i * ldx + c);
        UNROLL
        for (int r = 0; r < DOT_ROWS; r++)
            acc[r][i] = _mm512_dpbf16_ps(acc[r][i], (__m512bh)weights[r], (__m512bh)xi);
    }
}

TARGET_BF16 ALWAYS_INLINE void dot_bf16_of(enum format format, const struct weight_panel *w, const char *const *row,
                                           const uint16_t *x, int64_t ldx, int m, float *out)
{
    __m512 acc[DOT_ROWS][DOT_M];
    int64_t c = 0;

    UNROLL
    for (int r = 0; r < DOT_ROWS; r++) {
        UNROLL
        for (int i = 0; i < m; i++)
            acc[r][i] = _mm512_setzero_ps();
    }
    for (; c + COLUMN_STEP <= w->cols; c += COLUMN_STEP)
        dot_bf16_step(format, w, row, c, false, x, ldx, m, acc);
    if (c < w->cols)
        dot_bf16_step(format, w, row, c, true, x, ldx, m, acc);
    UNROLL
    for (int r = 0; r < DOT_ROWS; r++) {
        UNROLL
        for (int i = 0; i < m; i++)
            out[r * DOT_M + i] = _mm512_reduce_add_ps(acc[r][i]);
    }
}

TARGET_BF16 ALWAYS_INLINE void dot_bf16_m(enum format format, const struct weight_panel *w, const char *const *row,
                                          const uint16_t *x, int64_t ldx, int m, float *out)
{
    if (m == 1)
        dot_bf16_of(format, w, row, x, ldx, 1, out);
    else if (m == 2)
        dot_bf16_of(format, w, row, x, ldx, 2, out);
    else
        dot_bf16_of(format, w, row, x, ldx, 4, out);
}

TARGET_BF16 static void dot_bf16(const struct weight_panel *w, const char *const *row, const uint16_t *x, int64_t ldx, int m,
                                 float *out)
{
    switch (w->format) {
    case FORMAT_F16:
        dot_bf16_m(FORMAT_F16, w, row, x, ldx, m, out);
        break;
    case FORMAT_BF16:
        dot_bf16_m(FORMAT_BF16, w, row, x, ldx, m, out);
        break;
    case FORMAT_Q4:
        dot_bf16_m(FORMAT_Q4, w, row, x, ldx, m, out);
        break;
    default:
        dot_bf16_m(FORMAT_F32, w, row, x, ldx, m, out);
    }
}

TARGET_BF16 ALWAYS_INLINE void load_tile_bf16(enum format format, const struct weight_panel *w, int64_t first, int64_t c,
                                              __m512i *in)
{
    const char *const row = w->data + first * w->row_stride;
    float tile[TILE_ROWS][COLUMN_STEP];

    if (tile_is_inside(w, first, c)) {
        UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            in[r] = load_weights_bf16(format, w, row + r * w->row_stride, c, false);
    } else {
        gather_tile(w, first, c, tile);
        UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            in[r] = pair_bf16(load_w16(tile[r]), load_w16(tile[r] + 16));
    }
}

TARGET_BF16 ALWAYS_INLINE void fill_bf16_of(enum format format, const struct weight_panel *w, int64_t begin, int64_t k,
                                            enum panel_layout layout, uint16_t *out)
{
    __m512i in[TILE_ROWS];

    for (int64_t first = 0; first < PANEL_N; first += TILE_ROWS)
        for (int64_t c = 0; c < k; c += COLUMN_STEP) {
            load_tile_bf16(format, w, first, begin + c, in);
            if (layout == PANEL_BLOCKED)
                store_transposed(in, (char *)(out + c * PANEL_N + 2 * first), BLOCKED_STRIDE);
            else
                UNROLL
            for (int r = 0; r < TILE_ROWS; r++)
                _mm512_storeu_si512(out + (first + r) * k + c, in[r]);
        }
}

TARGET_BF16 static void fill_bf16(const struct weight_panel *w, int64_t begin, int64_t k, enum panel_layout layout, uint16_t *out)
{
    switch (w->format) {
    case FORMAT_F16:
        fill_bf16_of(FORMAT_F16, w, begin, k, layout, out);
        break;
    case FORMAT_BF16:
        fill_bf16_of(FORMAT_BF16, w, begin, k, layout, out);
        break;
    case FORMAT_Q4:
        fill_bf16_of(FORMAT_Q4, w, begin, k, layout, out);
        break;
    default:
        fill_bf16_of(FORMAT_F32, w, begin, k, layout, out);
    }
}

TARGET_BF16 static void copy_bf16(const float *x, int64_t n, int64_t padded, uint16_t *out)
{
    const struct weight_panel row = {.format = FORMAT_F32, .cols = n};

    for (int64_t c = 0; c < padded; c += COLUMN_STEP)
        _mm512_storeu_si512(out + c, load_weights_bf16(FORMAT_F32, &row, (const char *)x, c, c + COLUMN_STEP > n));
}

/* -- AMX: 32 weight rows x up to 32 rows of x at a time --------------------------------------------------------------------- */
/* The weights are the left operand, so that their rows are converted into tiles as they lie, without transposing, while they
 * stream from memory; x, packed once, is the right one. Tiles 0..3: results (2 row groups x 2 blocks of x), 4, 5: weights, 6,
 * 7: x. */
#define ROWS        32
#define AHEAD_BYTES 256 /* prefetched of each row: 32 rows are more streams than the hardware follows well */

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static const struct tile_config tiles_16x64 = {.palette = 1,
                                               .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

ALWAYS_INLINE void prefetch_ahead(enum format format, const char *row, int64_t c)
{
    const int64_t at = format == FORMAT_F32 ? 4 * c : 2 * c;

    __builtin_prefetch((const void *)((uintptr_t)row + (uintptr_t)at + AHEAD_BYTES)); /* perhaps behind the row: harmless */
    if (format == FORMAT_F32)
        __builtin_prefetch((const void *)((uintptr_t)row + (uintptr_t)at + AHEAD_BYTES + 64));
}

/* 32 columns of 32 rows in Q4 are 16 bytes each: the 32 rows that come after these are fetched instead, 512 bytes for each step, in
 * the order of memory. */
ALWAYS_INLINE void prefetch_next_rows(const struct weight_panel *w, const char *row, int64_t c)
{
    const char *next = row + ROWS * w->row_stride + c / 2 * ROWS;

    for (int i = 0; i < ROWS * COLUMN_STEP / 2; i += 64)
        __builtin_prefetch((const void *)((uintptr_t)next + (uintptr_t)i), 0, 2); /* perhaps behind the matrix: harmless */
}

/* 32 columns of 32 rows; what the rows share (Q4 scales and minima) is loaded once. */
TARGET_AMX ALWAYS_INLINE void convert_inside(enum format format, const struct weight_panel *w, const char *const *row, int64_t c,
                                             uint16_t (*a)[32])
{
    const bool q4 = format == FORMAT_Q4;
    const __m512 zero = _mm512_setzero_ps();
    const __m512 scale0 = q4 ? load_w16(w->scale + c) : zero, scale1 = q4 ? load_w16(w->scale + c + 16) : zero;
    const __m512 min0 = q4 ? load_w16(w->min + c) : zero, min1 = q4 ? load_w16(w->min + c + 16) : zero;

    if (q4)
        prefetch_next_rows(w, row[0], c);
    for (int64_t r = 0; r < ROWS; r++) {
        if (!q4)
            prefetch_ahead(format, row[r], c);
        if (q4)
            _mm512_store_si512(a[r], pair_bf16(fma_w16(load_nibbles_w16(row[r], c), scale0, min0),
                                               fma_w16(load_nibbles_w16(row[r], c + 16), scale1, min1)));
        else
            _mm512_store_si512(a[r], load_weights_bf16(format, w, row[r], c, false));
    }
}

/* a (32, 32) = columns [c, c + 32) of 32 rows */
TARGET_AMX ALWAYS_INLINE void convert_rows(enum format format, const struct weight_panel *w, const char *const *row, int64_t c,
                                           uint16_t (*a)[32])
{
    if (c + COLUMN_STEP <= w->cols)
        convert_inside(format, w, row, c, a);
    else
        for (int64_t r = 0; r < 32; r++)
            _mm512_store_si512(a[r], load_weights_bf16(format, w, row[r], c, true));
}

TARGET_AMX static void zero_tiles(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* b: the 32 columns of the first block of x; the second lies `block` elements further */
TARGET_AMX ALWAYS_INLINE void multiply_step(uint16_t (*a)[32], const uint16_t *b, int64_t block, int m_blocks)
{
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a[0], 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, a[16], 64);
    _tile_dpbf16ps(2, 5, 6);
    if (m_blocks == 2) {
        _tile_loadd(7, b + block, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
}

TARGET_AMX ALWAYS_INLINE void store_tiles(float (*sum)[16][16], int m_blocks)
{
    _tile_stored(0, sum[0], 64);
    _tile_stored(2, sum[2], 64);
    if (m_blocks == 2) {
        _tile_stored(1, sum[1], 64);
        _tile_stored(3, sum[3], 64);
    }
}

/* sum[t] (+)= tile t: (row, i) */
TARGET_AMX ALWAYS_INLINE void collect_tiles(float (*sum)[16][16], bool add, int m_blocks)
{
    float part[4][16][16] __attribute__((aligned(64)));

    if (!add) {
        store_tiles(sum, m_blocks);
        return;
    }
    store_tiles(part, m_blocks);
    for (int t = 0; t < 4; t += m_blocks == 2 ? 1 : 2)
        for (int r = 0; r < 16; r++)
            _mm512_store_ps(sum[t][r], _mm512_add_ps(_mm512_load_ps(part[t][r]), _mm512_load_ps(sum[t][r])));
}

TARGET_AMX ALWAYS_INLINE void store_sums(float (*sum)[16][16], int64_t first, int m_blocks, float *result)
{
    __m512i in[16];

    for (int t = 0; t < 4; t++) {
        if (t % 2 >= m_blocks)
            continue;
        UNROLL
        for (int r = 0; r < 16; r++)
            in[r] = _mm512_load_si512(sum[t][r]);
        store_transposed(in, (char *)(result + t % 2 * 16 * PANEL_N + first + t / 2 * 16), PANEL_N * 4);
    }
}

/* Converts one step ahead of multiplying, because a tile cannot be loaded from stores that are still on their way. */
TARGET_AMX ALWAYS_INLINE void tiles_of(enum format format, const struct weight_panel *w, int64_t first, const uint16_t *packed,
                                       int64_t padded, int m_blocks, float *result)
{
    uint16_t a[2][32][32] __attribute__((aligned(64)));
    float sum[4][16][16] __attribute__((aligned(64)));
    const char *row[32];

    zero_tiles();
    for (int64_t r = 0; r < 32; r++) /* behind the last row the last again, for nothing */
        row[r] = w->data + (first + r < w->rows ? first + r : w->rows - 1) * w->row_stride;
    convert_rows(format, w, row, 0, a[0]);
    for (int64_t c = 0; c < padded; c += COLUMN_STEP) {
        if (c > 0 && c % PRODUCT_K == 0) {
            collect_tiles(sum, c > PRODUCT_K, m_blocks);
            zero_tiles();
        }
        if (c + COLUMN_STEP < padded)
            convert_rows(format, w, row, c + COLUMN_STEP, a[(c / COLUMN_STEP + 1) % 2]);
        multiply_step(a[c / COLUMN_STEP % 2], packed + 16 * c, 16 * padded, m_blocks);
    }
    collect_tiles(sum, padded > PRODUCT_K, m_blocks);
    store_sums(sum, first, m_blocks, result);
}

TARGET_AMX ALWAYS_INLINE void tiles_m(enum format format, const struct weight_panel *w, int64_t first, const uint16_t *packed,
                                      int64_t padded, int m_blocks, float *result)
{
    if (m_blocks == 1)
        tiles_of(format, w, first, packed, padded, 1, result);
    else
        tiles_of(format, w, first, packed, padded, 2, result);
}

TARGET_AMX static void tiles(const struct weight_panel *w, const uint16_t *packed, int64_t padded, int m_blocks, float *result)
{
    _tile_loadconfig(&tiles_16x64);
    for (int64_t first = 0; first < w->rows; first += 32) {
        if (w->format == FORMAT_F16)
            tiles_m(FORMAT_F16, w, first, packed, padded, m_blocks, result);
        else if (w->format == FORMAT_BF16)
            tiles_m(FORMAT_BF16, w, first, packed, padded, m_blocks, result);
        else if (w->format == FORMAT_Q4)
            tiles_m(FORMAT_Q4, w, first, packed, padded, m_blocks, result);
        else
            tiles_m(FORMAT_F32, w, first, packed, padded, m_blocks, result);
    }
    _tile_release();
}

TARGET_BF16 static void pack_tiles(const struct weight_panel *x, int64_t block, int64_t begin, int64_t steps, int64_t padded,
                                   uint16_t *packed)
{
    __m512i in[TILE_ROWS];

    for (int64_t c = begin; c < begin + steps * COLUMN_STEP; c += COLUMN_STEP) {
        load_tile_bf16(FORMAT_F32, x, 16 * block, c, in);
        store_transposed(in, (char *)(packed + 16 * (block * padded + c)), 64);
    }
}

/* -- the tables -------------------------------------------------------------------------------------------------------- */
#define TABLE(w) .dot = dot_##w, .fill_f32 = fill_f32_##w, .copy_f32 = copy_f32, .widen_f16 = widen_f16_##w, .finish = finish_##w

static const struct linear_kernels table[] = {
    [ISA_SCALAR] = {TABLE(w1)},
    [ISA_AVX2] = {TABLE(w8)},
    [ISA_AVX512] = {TABLE(w16), .blocked = true},
};
static const struct linear_kernels table_bf16 = {
    TABLE(w16), .blocked = true, .dot_bf16 = dot_bf16, .fill_bf16 = fill_bf16, .copy_bf16 = copy_bf16,
};

static const struct linear_kernels table_amx = {
    TABLE(w16),     .blocked = true,          .dot_bf16 = dot_bf16, .fill_bf16 = fill_bf16, .copy_bf16 = copy_bf16,
    .tiles = tiles, .pack_tiles = pack_tiles,
};

const struct linear_kernels *linear_kernels(void)
{
    if (cpu_has_amx())
        return &table_amx;
    return cpu_has_bf16() ? &table_bf16 : &table[cpu_isa()];
}
