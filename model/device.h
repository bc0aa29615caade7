/* device.h - marks the inline functions that CUDA kernels call, too. */
#ifndef BALLAST_MODEL_DEVICE_H
#define BALLAST_MODEL_DEVICE_H

#ifdef __CUDACC__
#define ALSO_ON_DEVICE __host__ __device__
#else
#define ALSO_ON_DEVICE
#endif

#endif
