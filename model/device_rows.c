#include "model/device_rows.h"

#include "model/integers.h"

/* The embedding's and the head's projections have f32 rows of either width in `inner` and `out`. */
struct device_rows device_rows_of(const struct arch *a, int64_t element_bytes)
{
    int64_t q = a->heads * a->head_dim, qkv = (a->heads + 2 * a->kv_heads) * a->head_dim,
            width = max64(a->hidden, a->embed_width);
    return (struct device_rows){.operand = max64(width, q) * element_bytes,
                                .inner = max64(max64(qkv, width) * 4, a->ffn * element_bytes),
                                .out = width * 4};
}
