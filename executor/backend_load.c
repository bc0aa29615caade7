#define _GNU_SOURCE
#include "executor/backend_load.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libballast_cuda.so"

struct attempts {
    char text[600]; /* "; " between them */
};

/* Opening what is open already gives the same handle. It is never closed: threads of the driver may be in it until the end. */
static void *try_open(const char *path, struct attempts *tried)
{
    bool absent = strchr(path, '/') && access(path, F_OK) != 0;
    void *library = absent ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    size_t used = strlen(tried->text), room = sizeof tried->text - used;
    const char *separator = used ? "; " : "";
    if (absent)
        snprintf(tried->text + used, room, "%s%.200s: not there", separator, path);
    else if (!library)
        snprintf(tried->text + used, room, "%s%.280s", separator, dlerror());
    return library;
}

static void *open_library(struct attempts *tried)
{
    static const char *const beside[] = {"", "../lib/"};
    const char *named = getenv("BALLAST_CUDA");
    char program[PATH_MAX], path[PATH_MAX + 64];
    void *library = NULL;
    if (named && named[0])
        return try_open(named, tried);
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    for (int i = 0; i < 2 && slash && !library; i++) {
        slash[1] = '\0';
        snprintf(path, sizeof path, "%s%s" LIBRARY, program, beside[i]);
        library = try_open(path, tried);
    }
    return library ? library : try_open(LIBRARY, tried);
}

enum status cuda_table(const char *name, int version, const void **table, struct error *err)
{
    struct attempts tried = {""};
    void *library = open_library(&tried);
    *table = NULL;
    if (!library)
        return error_set(err, STATUS_RUNTIME, "no CUDA part: %s", tried.text);
    const int *found = dlsym(library, name);
    if (!found)
        return error_set(err, STATUS_RUNTIME, "the CUDA part has no table %s: %.300s", name, dlerror());
    if (*found != version)
        return error_set(err, STATUS_RUNTIME, "the CUDA part's table %s has version %d, expected %d: build both from one commit",
                         name, *found, version);
    *table = found;
    return STATUS_OK;
}
