/* fatbin.h - finds the PTX for one architecture in the image that a program passes to
 * cuLibraryLoadData: a fatbin, a wrapper that points to one, or PTX as text. */
#ifndef FOVEA_SIMGPU_PARSE_FATBIN_H
#define FOVEA_SIMGPU_PARSE_FATBIN_H

#include "simgpu/base.h"

/* Returns the PTX as text that ends in a NUL; the caller frees it. NULL: no PTX, and error says
 * why. */
char *sim_fatbin_find_ptx(const void *image, u32 device_sm, char *error, size_t error_bytes);

#endif /* FOVEA_SIMGPU_PARSE_FATBIN_H */
