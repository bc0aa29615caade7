/* backend_load.h - libballast_cuda.so, opened at run time, so that one build runs with and without a GPU.
 *
 * The library exports tables of functions. Each begins with an int that is its version: a program and a library of different builds
 * refuse each other instead of calling into the wrong place.
 */
#ifndef BALLAST_EXECUTOR_BACKEND_LOAD_H
#define BALLAST_EXECUTOR_BACKEND_LOAD_H

#include "model/error.h"

/* The table `name`, of that version; it stays valid to the end of the process. The library is the file that BALLAST_CUDA in the
 * environment names, else libballast_cuda.so beside the program, in ../lib from there, or on the loader's path. An error says what was
 * tried and what each try found. */
enum status cuda_table(const char *name, int version, const void **table, struct error *err);

#endif
