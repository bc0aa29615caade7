#include "model/format.h"

#include <assert.h>
#include <string.h>

static const char *const names[FORMAT_COUNT] =
    {[FORMAT_F32] = "f32", [FORMAT_F16] = "f16", [FORMAT_BF16] = "bf16", [FORMAT_Q4] = "q4"};

const char *format_name(enum format format)
{
    assert(format >= 0 && format < FORMAT_COUNT);
    return names[format];
}

int format_parse(const char *name, enum format *out)
{
    for (int i = 0; i < FORMAT_COUNT; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum format)i;
            return 0;
        }
    return -1;
}

static int64_t element_bytes(enum format format)
{
    assert(format != FORMAT_Q4);
    return format == FORMAT_F32 ? 4 : 2;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* The scale and the minimum of one group, both fp16. */
#define Q4_GROUP_HEAD_BYTES 4

int64_t format_matrix_bytes(enum format format, int64_t rows, int64_t cols)
{
    assert(rows >= 0 && cols >= 0);
    if (format != FORMAT_Q4)
        return rows * cols * element_bytes(format);
    int64_t codes = rows * divide_up(cols, 2);
    return divide_up(rows, Q4_GROUP) * cols * Q4_GROUP_HEAD_BYTES + codes + codes % 2; /* the next matrix begins with fp16 */
}

int64_t format_row_step(enum format format)
{
    return format == FORMAT_Q4 ? Q4_GROUP : 1;
}

int64_t format_vector_bytes(enum format format, int64_t elements)
{
    assert(elements >= 0);
    if (format != FORMAT_Q4)
        return elements * element_bytes(format);
    int64_t packed = divide_up(elements, 2);
    return packed + packed % 2 + divide_up(elements, Q4_GROUP) * Q4_GROUP_HEAD_BYTES;
}
