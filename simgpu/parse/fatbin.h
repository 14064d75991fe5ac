/* fatbin.h - finds the PTX for one architecture in what a program hands to cuLibraryLoadData. */
#ifndef SIM_FATBIN_H
#define SIM_FATBIN_H

#include "simgpu/base.h"

/* The text, NUL-terminated, to be freed by the caller; NULL with a reason in error[error_bytes]. */
char *sim_fatbin_find_ptx(const void *image, u32 device_sm, char *error, size_t error_bytes);

#endif
