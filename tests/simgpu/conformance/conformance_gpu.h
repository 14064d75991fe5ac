// The part of the CUDA driver that the conformance set needs, opened at run time.
#ifndef FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_GPU_H
#define FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_GPU_H

#include "tests/simgpu/conformance/conformance.h"

struct conform_gpu;

// The driver of FOVEA_CUDA_DRIVER, else libcuda.so.1, and its first device; NULL after a line on
// stderr. The device's name and its architecture (80, 90, ...) come with it.
struct conform_gpu *conform_open(void);
const char *conform_device(const struct conform_gpu *gpu);
int conform_architecture(const struct conform_gpu *gpu);
// The row's outputs, [CONFORM_CTAS][outputs][CONFORM_LANES]; false after a line on stderr.
bool conform_run(struct conform_gpu *gpu, const struct conform_row *row, uint32_t *outputs);

#endif  // FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_GPU_H
