#include "executor/backend_table.h"

#include "executor/backend_load.h"
#include "executor/gpu_tools.h"

enum status backend_cuda(const struct backend **out, struct error *err)
{
    const void *table;
    const struct gpu_tools *tools;
    struct gpu_system system;
    *out = NULL;
    enum status s = gpu_tools_load(&tools, err);
    if (s == STATUS_OK)
        s = tools->system(&system, err);
    if (s == STATUS_OK)
        s = cuda_table("ballast_backend", BACKEND_TABLE_VERSION, &table, err);
    if (s == STATUS_OK)
        *out = ((const struct backend_table *)table)->backend;
    return s;
}
