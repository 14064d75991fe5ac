/* blocks.h - copies of host memory on a CUDA device, for the time of a call.
 *
 * Each tensor and each array gets an allocation of its own, exactly as long as its span. A tool
 * that watches the device's memory then sees the first byte past the end. Memory that lies inside
 * an existing block is found there. */
#ifndef FOVEA_CLI_MIRROR_BLOCKS_H
#define FOVEA_CLI_MIRROR_BLOCKS_H

#include "csrc/cuda/device.h"
#include "csrc/cuda/driver.h"
#include "csrc/handle.h"

enum { FV_MIRROR_BLOCKS = 1000 }; /* a merge of 448 partials has 898 */

typedef struct fv_mirror_block {
  CUdeviceptr begin; /* of the allocation */
  CUdeviceptr data;
  char *host;
  size_t bytes;
  bool written; /* copied back */
} fv_mirror_block;

typedef struct fv_mirror {
  const fv_driver *driver;
  int count;
  fv_mirror_block blocks[FV_MIRROR_BLOCKS];
} fv_mirror;

/* Makes the handle's context current until the mirror is closed. */
fovea_status fv_mirror_open(fv_mirror *m, const fovea_handle *handle);

/* Copies `bytes` from *pointer to the device and points it there. A NULL pointer or 0 bytes stay as
 * they are. */
fovea_status fv_mirror_add(fv_mirror *m, void **pointer, int64_t bytes, bool written);
fovea_status fv_mirror_add_tensor(fv_mirror *m, fovea_tensor *tensor, bool written);

/* Makes one block of two tensors that are written, if their spans overlap. */
fovea_status fv_mirror_join(fv_mirror *m, const fovea_tensor *a, const fovea_tensor *b);

/* Waits for the device. */
fovea_status fv_mirror_wait(fv_mirror *m);

/* Copies what was written back to where it came from. */
fovea_status fv_mirror_bring_back(fv_mirror *m);

/* Frees everything; returns status. */
fovea_status fv_mirror_close(fv_mirror *m, fovea_status status);

#endif /* FOVEA_CLI_MIRROR_BLOCKS_H */
