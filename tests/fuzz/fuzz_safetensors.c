/* Any bytes as the header of a safetensors file: refused with a message, or tensors that lie inside the file, apart from each
 * other, and are found by name. The first byte chooses how much data the file would have. */
#include <stdlib.h>

#include "executor/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_tensors(const struct st_model *m, int64_t data_begin, int64_t file_bytes)
{
    int64_t sum = 0;
    for (int i = 0; i < m->n_tensors; i++) {
        const struct st_tensor *t = &m->tensor[i], *found;
        require(t->bytes >= 0 && t->offset >= data_begin && t->bytes <= file_bytes - t->offset);
        require(t->n_dims >= 0 && t->n_dims <= 4 && t->file == 0);
        require(st_find(m, t->name) == t);
        const struct tensor wanted = {.name = "q", .rows = 2, .cols = 3};
        if (st_resolve(m, &wanted, &found, NULL) == STATUS_OK)
            require(found->n_dims == 2 && found->bytes >= 12);
        sum += t->bytes;
    }
    require(sum == file_bytes - data_begin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct st_model m = {0};
    struct error err = {0};
    if (size < 1)
        return 0;
    const int64_t n = (int64_t)size - 1, file_bytes = 8 + n + data[0];
    enum status s = st_parse_header(&m, "fuzz.safetensors", (const char *)data + 1, n, file_bytes, &err);
    require(s == err.status && (s == STATUS_OK) == (err.text[0] == '\0'));
    if (s == STATUS_OK)
        check_tensors(&m, 8 + n, file_bytes);
    st_free(&m);
    return 0;
}
