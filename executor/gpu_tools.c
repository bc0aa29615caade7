#include "executor/gpu_tools.h"

#include "executor/backend_load.h"

enum status gpu_tools_load(const struct gpu_tools **out, struct error *err)
{
    const void *table;
    enum status s = cuda_table("ballast_gpu_tools", GPU_TOOLS_VERSION, &table, err);
    *out = table;
    return s;
}
