/* product_q4.cu - products with 4-bit weights, multiplied as they are packed; and unpacked, for the many rows of prefill. */
#include "executor/cuda/device.cuh"

enum { TILE_COLS = 64, TILE_M = 8, ROW_LANES = 4, Q4_THREADS = Q4_GROUP * ROW_LANES };

/* One block of threads for a block of 64 rows of w and TILE_M rows of x. Thread (lane, r) sums every ROW_LANES-th pair of columns of row
 * r; the lanes of a row are neighbours. x * scale stands in shared memory a tile of columns at a time. */
__global__ void product_q4_kernel(const unsigned char *w, int64_t rows, int64_t cols, const float *bias, int relu, const void *x,
                                  enum format x_format, int64_t ldx, int64_t m, void *y, enum format y_format, int64_t ldy)
{
    SHARED(float, scaled, TILE_M *TILE_COLS);
    SHARED(float, least, TILE_M *TILE_COLS);
    const int64_t packed = (cols + 1) / 2, block_bytes = 4 * cols + Q4_GROUP * packed;
    const int64_t row0 = (int64_t)blockIdx.x * Q4_GROUP, m0 = (int64_t)blockIdx.y * TILE_M;
    const int lane = threadIdx.x % ROW_LANES, r = threadIdx.x / ROW_LANES;
    const unsigned char *block = w + blockIdx.x * block_bytes, *codes = block + 4 * cols + r * packed;
    const bool real = row0 + r < rows; /* the last block may have fewer rows */
    float sum[TILE_M] = {0};

    for (int64_t c0 = 0; c0 < cols; c0 += TILE_COLS) {
        __syncthreads(); /* the last tile has been read */
        for (int i = threadIdx.x; i < TILE_M * TILE_COLS; i += Q4_THREADS) {
            const int64_t c = c0 + i % TILE_COLS, row = m0 + i / TILE_COLS;
            const float v = c < cols && row < m ? load(x, row * ldx + c, x_format) : 0.0f;
            scaled[i] = c < cols ? v * load(block, c, FORMAT_F16) : 0.0f;
            least[i] = c < cols ? v * load(block, cols + c, FORMAT_F16) : 0.0f;
        }
        __syncthreads();
        for (int c = 2 * lane; real && c < TILE_COLS && c0 + c < cols; c += 2 * ROW_LANES) {
            const unsigned pair = codes[(c0 + c) / 2];
            const float low = (float)(pair & 15), high = c0 + c + 1 < cols ? (float)(pair >> 4) : 0.0f;
            for (int i = 0; i < TILE_M; i++) {
                const int at = i * TILE_COLS + c;
                sum[i] += scaled[at] * low + scaled[at + 1] * high + (least[at] + least[at + 1]);
            }
        }
    }
    for (int i = 0; i < TILE_M; i++) {
        for (int with = 1; with < ROW_LANES; with *= 2)
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], with);
        if (lane == 0 && real && m0 + i < m) {
            const float v = sum[i] + (bias ? bias[row0 + r] : 0.0f);
            store(y, (m0 + i) * ldy + row0 + r, y_format, relu && v < 0 ? 0.0f : v);
        }
    }
}

int gpu_product_q4(gpu_stream s, const void *w, int64_t rows, int64_t cols, const float *bias, int relu, const void *x,
                   enum format x_format, int64_t ldx, int64_t m, void *y, enum format y_format, int64_t ldy)
{
    const dim3 grid((unsigned)((rows + Q4_GROUP - 1) / Q4_GROUP), (unsigned)((m + TILE_M - 1) / TILE_M));
    if (rows == 0 || m == 0)
        return 0;
    return launch(product_q4_kernel, grid, dim3(Q4_THREADS), s, static_cast<const unsigned char *>(w), rows, cols, bias, relu, x,
                  x_format, ldx, m, y, y_format, ldy);
}

/* One block a block of 64 rows and Q4_THREADS pairs of columns; blockIdx.y is the rest of the columns. */
__global__ void unpack_q4_kernel(const unsigned char *w, int64_t rows, int64_t cols, void *y, enum format format)
{
    const int64_t packed = (cols + 1) / 2, row0 = (int64_t)blockIdx.x * Q4_GROUP;
    const unsigned char *block = w + blockIdx.x * (4 * cols + Q4_GROUP * packed);
    const int64_t c = ((int64_t)blockIdx.y * Q4_THREADS + threadIdx.x) * 2, n = cols - c < 2 ? 1 : 2;
    if (c >= cols)
        return;
    for (int64_t i = 0; i < n; i++) {
        const float scale = load(block, c + i, FORMAT_F16), least = load(block, cols + c + i, FORMAT_F16);
        for (int64_t r = 0; r < Q4_GROUP && row0 + r < rows; r++)
            store(y, (row0 + r) * cols + c + i, format, fmaf(nibble(block + 4 * cols + r * packed, c + i), scale, least));
    }
}

int gpu_unpack_q4(gpu_stream s, const void *w, int64_t rows, int64_t cols, void *y, enum format format)
{
    const dim3 grid((unsigned)((rows + Q4_GROUP - 1) / Q4_GROUP), (unsigned)((cols + 2 * Q4_THREADS - 1) / (2 * Q4_THREADS)));
    if (rows * cols == 0)
        return 0;
    return launch(unpack_q4_kernel, grid, dim3(Q4_THREADS), s, static_cast<const unsigned char *>(w), rows, cols, y, format);
}
