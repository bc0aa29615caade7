/* backend_table.h - the GPU's backend as the table that libballast_cuda.so exports (backend_load.h). */
#ifndef BALLAST_EXECUTOR_BACKEND_TABLE_H
#define BALLAST_EXECUTOR_BACKEND_TABLE_H

#include "executor/backend.h"

#define BACKEND_TABLE_VERSION 4 /* goes up with every change of struct backend or of what its functions are handed */

struct backend_table {
    int version;
    const struct backend *backend;
};

extern const struct backend_table ballast_backend; /* for who links the library's objects: tests */

/* The library's backend, once the library has found a device. */
enum status backend_cuda(const struct backend **out, struct error *err);

#endif
