/* cuda_api.h - the few calls of CUDA's runtime that tests make themselves, for C: the real one or the emulation's, as linked. */
#ifndef BALLAST_TESTS_CUDA_API_H
#define BALLAST_TESTS_CUDA_API_H

#include <stddef.h>

#include "executor/cuda/kernels.h"

typedef struct CUevent_st *gpu_event;

/* enum cudaError_t is an int in C's calling convention */
int cudaMalloc(void **p, size_t bytes);
int cudaFree(void *p);
int cudaHostAlloc(void **p, size_t bytes, unsigned flags);
int cudaFreeHost(void *p);
int cudaMemcpy(void *dst, const void *src, size_t bytes, int kind); /* 4: any to any */
int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, gpu_stream s);
int cudaStreamCreateWithFlags(gpu_stream *s, unsigned flags);
int cudaStreamDestroy(gpu_stream s);
int cudaStreamSynchronize(gpu_stream s);
int cudaStreamWaitEvent(gpu_stream s, gpu_event e, unsigned flags);
int cudaEventCreateWithFlags(gpu_event *e, unsigned flags);
int cudaEventDestroy(gpu_event e);
int cudaEventRecord(gpu_event e, gpu_stream s);
int cudaEventSynchronize(gpu_event e);

#define COPY_ANY 4

#endif
