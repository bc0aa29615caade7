/* product_q4.cu - products with 4-bit weights, multiplied on the tensor cores as they are packed; and unpacked, for the many rows of
 * prefill.
 *
 * Either way a weight is fp16(code * scale + least), rounded once: prefill and decode multiply the same ones. Codes could be multiplied
 * themselves, which fp16 holds exactly, by x * scale, and the sum of x * least, the same for all 64 rows of a block, added in f32: one
 * operation less for two weights. But x * scale would be rounded to fp16, often below its normal numbers, and then multiplied by the
 * code: an error that goes with the range of the group, however small the weight. That of a rounded weight goes with the weight.
 *
 * Which column is which k of an mma is free, as long as it is the same one in w and x. So each of the four lanes that share a row
 * takes sixteen neighbouring columns of it: 8 bytes of codes, 32 for the four, which is what memory is read in. Eight columns are two
 * steps of mma, and 16 bytes of x. The two codes of a byte are neighbours in their row, as multiply_add wants them in a word.
 */
#include <string.h>

#include "executor/cuda/device.cuh"

enum { WARPS = 8, Q4_THREADS = 32 * WARPS };

/* Neighbours in a row as they are loaded and stored: eight in fp16, two to a word; eight in f32; the codes of sixteen. */
typedef words<4> halves8;
struct alignas(16) floats8 {
    float v[8];
};
typedef words<2> codes16;

/* sizeof(V) bytes, of which `left` are there: 0 in place of the others. WIDE: all are, in one piece. */
template <class V, bool WIDE> static __device__ __forceinline__ V load_bytes(const unsigned char *p, int64_t left)
{
    if (WIDE)
        return *reinterpret_cast<const V *>(p);
    V v = {};
    for (int i = 0; i < (int)sizeof v; i++)
        if (i < left)
            reinterpret_cast<unsigned char *>(&v)[i] = p[i];
    return v;
}

template <class V, bool WIDE> static __device__ __forceinline__ void store_bytes(unsigned char *p, int64_t left, const V &v)
{
    if (WIDE)
        *reinterpret_cast<V *>(p) = v;
    for (int i = 0; !WIDE && i < (int)sizeof v; i++)
        if (i < left)
            p[i] = reinterpret_cast<const unsigned char *>(&v)[i];
}

/* 64 rows of a matrix, or fewer at its end (model/format.h). */
struct block_q4 {
    int64_t row0, rows, packed; /* packed: bytes of a row's codes */
    const unsigned char *scale, *least, *codes;
};

static __device__ __forceinline__ struct block_q4 block_at(const unsigned char *w, int64_t rows, int64_t cols, int64_t index)
{
    const int64_t row0 = index * Q4_GROUP, packed = (cols + 1) / 2, left = rows - row0;
    const unsigned char *block = w + index * (4 * cols + Q4_GROUP * packed);
    return {row0, left < Q4_GROUP ? left : Q4_GROUP, packed, block, block + 2 * cols, block + 4 * cols};
}

/* What weights_of needs in registers. Kernels get it as a parameter, for ptxas moves a constant into a register again for every byte. */
struct code_bits {
    unsigned exponent, factors;
};
static const struct code_bits CODE_BITS = {0x64, 0x2c003c00}; /* 1024's high byte in fp16; 1 and 1/16 */

static __device__ __forceinline__ __half2 half2_of(unsigned bits)
{
    __half2 h;
    memcpy(&h, &bits, sizeof h);
    return h;
}

/* The weights of the two codes in byte i of a word. 0x6400 is 1024 in fp16, where the lowest bit is 1: with a code in the low bits it is
 * 1024 + code, four bits higher 1024 + 16 * code, and times 1 or 1/16, less 1024 or 64, that is the code, exactly. */
static __device__ __forceinline__ unsigned weights_of(unsigned word, int i, const struct code_bits &bits, unsigned scale,
                                                      unsigned least)
{
    const unsigned raised = __byte_perm(word, bits.exponent, 0x4040 + 0x0101 * i) & 0x64f0640f;
    const __half2 code = __hfma2(half2_of(raised), half2_of(bits.factors), half2_of(0xd400e400));
    const __half2 weight = __hfma2(code, half2_of(scale), half2_of(least));
    unsigned out;
    memcpy(&out, &weight, sizeof out);
    return out;
}

/* -- products ------------------------------------------------------------------------------------------------------------ */

enum { MMA_ROWS = 16, MMA_M = 8 };      /* rows of w, and of x, in an mma */
enum { ROW_TILES = 2, LANE_CODES = 8 }; /* mmas of a warp over rows of w; bytes of codes of a lane's columns */
enum { WARP_ROWS = MMA_ROWS * ROW_TILES, WARP_CODES = 4 * LANE_CODES };
enum { ROW_PARTS = Q4_GROUP / WARP_ROWS, SPLITS = WARPS / ROW_PARTS }; /* of a block's rows and of the columns, among warps */

struct product_q4_job {
    const unsigned char *w, *x; /* x (m, ldx) fp16 */
    int64_t rows, cols, ldx, m, ldy;
    void *y; /* (m, ldy) */
    enum format y_format;
    struct code_bits bits;
};

/* What a lane multiplies: its rows of w, g, g + 8, .. of the warp's, with its rows of x, g, g + 8, .. of the block's. */
template <int TILES> struct lane_rows {
    const unsigned char *codes[2 * ROW_TILES], *x[TILES];
};

/* Rows that are not there are others in their place, whose sums nobody takes. */
template <int TILES>
static __device__ __forceinline__ lane_rows<TILES> rows_of(const struct product_q4_job &a, const struct block_q4 &w, int row,
                                                           int64_t m0)
{
    const int g = threadIdx.x % 32 / 4;
    lane_rows<TILES> out;
#pragma unroll
    for (int i = 0; i < 2 * ROW_TILES; i++)
        out.codes[i] = w.codes + (row + g + 8 * i < w.rows ? row + g + 8 * i : w.rows - 1) * w.packed;
#pragma unroll
    for (int j = 0; j < TILES; j++)
        out.x[j] = a.x + 2 * (m0 + g + 8 * j < a.m ? m0 + g + 8 * j : a.m - 1) * a.ldx;
    return out;
}

/* Adds the products of the lane's columns, whose codes are at byte `at` of their row, and of the other lanes'. sum[i][j] is
 * multiply_add's c of rows 16 i.. of w and 8 j.. of x. */
template <int TILES, bool WIDE>
static __device__ __forceinline__ void multiply_columns(const struct block_q4 &w, const lane_rows<TILES> &rows,
                                                        const struct code_bits &bits, int64_t at, int64_t cols,
                                                        float (&sum)[ROW_TILES][TILES][4])
{
    codes16 codes[2 * ROW_TILES];
#pragma unroll
    for (int i = 0; i < 2 * ROW_TILES; i++)
        codes[i] = load_bytes<codes16, WIDE>(rows.codes[i] + at, w.packed - at);
#pragma unroll
    for (int k = 0; k < LANE_CODES / 4; k++) {
        const int64_t from = 4 * at + 16 * k, left = 2 * cols - from; /* bytes of fp16 */
        const halves8 scale = load_bytes<halves8, WIDE>(w.scale + from, left),
                      least = load_bytes<halves8, WIDE>(w.least + from, left);
        halves8 x[TILES];
#pragma unroll
        for (int j = 0; j < TILES; j++)
            x[j] = load_bytes<halves8, WIDE>(rows.x[j] + from, left);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int p = 0; p < 4; p += 2) {
                unsigned weights[4];
                for (int e = 0; e < 4; e++) /* (g, first pair), (g + 8, first), (g, second), (g + 8, second) */
                    weights[e] = weights_of(codes[2 * i + e % 2].x[k], p + e / 2, bits, scale.x[p + e / 2], least.x[p + e / 2]);
#pragma unroll
                for (int j = 0; j < TILES; j++) {
                    const unsigned pairs[2] = {x[j].x[p], x[j].x[p + 1]};
                    multiply_add(sum[i][j], weights, pairs);
                }
            }
    }
}

/* One block of threads for a block of w and 8 TILES rows of x. Two warps share the rows of w, and four such pairs take turns at the
 * columns. Their sums are added in order, so that the same operands have the same product, to the bit. */
template <int TILES, bool WIDE> __global__ void __launch_bounds__(Q4_THREADS) product_q4_kernel(const struct product_q4_job a)
{
    enum { STRIDE = Q4_GROUP + 4, PART = MMA_M * STRIDE }; /* the lanes of a warp write to different banks */
    SHARED(float, part, SPLITS *PART);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int row = warp % ROW_PARTS * WARP_ROWS, split = warp / ROW_PARTS;
    const int64_t m0 = (int64_t)blockIdx.y * MMA_M * TILES;
    const struct block_q4 w = block_at(a.w, a.rows, a.cols, blockIdx.x);
    const lane_rows<TILES> rows = rows_of<TILES>(a, w, row, m0);
    float sum[ROW_TILES][TILES][4] = {};

    for (int64_t at = split * WARP_CODES; at < w.packed; at += SPLITS * WARP_CODES)
        multiply_columns<TILES, WIDE>(w, rows, a.bits, at + t * LANE_CODES, a.cols, sum);
#pragma unroll
    for (int j = 0; j < TILES; j++) {
        __syncthreads(); /* the last tile has been read */
#pragma unroll
        for (int i = 0; i < 4 * ROW_TILES; i++)
            part[split * PART + (2 * t + i % 2) * STRIDE + row + g + i / 2 * 8] = sum[i / 4][j][i % 4];
        __syncthreads();
        const int r = threadIdx.x % Q4_GROUP;
#pragma unroll 1 /* what is written once should be short */
        for (int n = threadIdx.x / Q4_GROUP; n < MMA_M; n += Q4_THREADS / Q4_GROUP) {
            float total = part[n * STRIDE + r];
            for (int s = 1; s < SPLITS; s++)
                total += part[s * PART + n * STRIDE + r];
            if (r < w.rows && m0 + MMA_M * j + n < a.m)
                store(a.y, (m0 + MMA_M * j + n) * a.ldy + w.row0 + r, a.y_format, total);
        }
    }
}

static bool multiple(const void *p, uintptr_t bytes)
{
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

template <int TILES> static int start_product(gpu_stream s, const struct product_q4_job &a)
{
    const dim3 grid((unsigned)((a.rows + Q4_GROUP - 1) / Q4_GROUP), (unsigned)((a.m + MMA_M * TILES - 1) / (MMA_M * TILES)));
    const bool wide = a.cols % (2 * WARP_CODES) == 0 && a.ldx % 8 == 0 && multiple(a.w, 16) && multiple(a.x, 16);
    return launch(wide ? product_q4_kernel<TILES, true> : product_q4_kernel<TILES, false>, grid, dim3(Q4_THREADS), s, a);
}

int gpu_product_q4(gpu_stream s, const void *w, int64_t rows, int64_t cols, const void *x, int64_t ldx, int64_t m, void *y,
                   enum format y_format, int64_t ldy)
{
    const struct product_q4_job a = {static_cast<const unsigned char *>(w),
                                     static_cast<const unsigned char *>(x),
                                     rows,
                                     cols,
                                     ldx,
                                     m,
                                     ldy,
                                     y,
                                     y_format,
                                     CODE_BITS};
    if (rows == 0 || m == 0)
        return 0;
    return m <= 8    ? start_product<1>(s, a)
           : m <= 16 ? start_product<2>(s, a)
           : m <= 32 ? start_product<4>(s, a)
                     : start_product<8>(s, a);
}

/* -- unpacked ------------------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ void unpack_word(unsigned word, const struct code_bits &bits, const halves8 &scale,
                                                   const halves8 &least, halves8 *out)
{
    for (int i = 0; i < 4; i++)
        out->x[i] = weights_of(word, i, bits, scale.x[i], least.x[i]);
}

static __device__ __forceinline__ void unpack_word(unsigned word, const struct code_bits &, const halves8 &scale,
                                                   const halves8 &least, struct floats8 *out)
{
    for (int i = 0; i < 8; i++)
        out->v[i] = fmaf((float)(word >> 4 * i & 15), load(&scale, i, FORMAT_F16), load(&least, i, FORMAT_F16));
}

/* One block of threads for a block of the matrix and 256 columns: a lane has 8 of them, a warp every WARPS-th row. V is what 8 elements
 * of y are. */
template <class V, bool WIDE>
__global__ void unpack_q4_kernel(const unsigned char *matrix, int64_t rows, int64_t cols, unsigned char *y,
                                 const struct code_bits bits)
{
    const struct block_q4 w = block_at(matrix, rows, cols, blockIdx.x);
    const int64_t c = 8 * ((int64_t)blockIdx.y * 32 + threadIdx.x % 32), left = cols - c, bytes = sizeof(V) / 8;
    if (left <= 0)
        return;
    const halves8 scale = load_bytes<halves8, WIDE>(w.scale + 2 * c, 2 * left),
                  least = load_bytes<halves8, WIDE>(w.least + 2 * c, 2 * left);
    for (int64_t r = threadIdx.x / 32; r < w.rows; r += WARPS) {
        V v;
        unpack_word(load_bytes<unsigned, WIDE>(w.codes + r * w.packed + c / 2, w.packed - c / 2), bits, scale, least, &v);
        store_bytes<V, WIDE>(y + ((w.row0 + r) * cols + c) * bytes, left * bytes, v);
    }
}

int gpu_unpack_q4(gpu_stream s, const void *w, int64_t rows, int64_t cols, void *y, enum format format)
{
    const dim3 grid((unsigned)((rows + Q4_GROUP - 1) / Q4_GROUP), (unsigned)((cols + 255) / 256));
    const bool wide = cols % 8 == 0 && multiple(w, 16) && multiple(y, 16);
    if (rows * cols == 0)
        return 0;
    const auto kernel = format == FORMAT_F32
                            ? wide ? unpack_q4_kernel<struct floats8, true> : unpack_q4_kernel<struct floats8, false>
                        : wide ? unpack_q4_kernel<halves8, true>
                               : unpack_q4_kernel<halves8, false>;
    return launch(kernel, grid, dim3(Q4_THREADS), s, static_cast<const unsigned char *>(w), rows, cols,
                  static_cast<unsigned char *>(y), CODE_BITS);
}
