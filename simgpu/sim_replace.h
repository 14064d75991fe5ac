// A changed kernel under an unchanged program: FOVEA_SIMGPU_PTX names a file whose kernels take the
// place of those of the same names.
#ifndef SIM_REPLACE_H
#define SIM_REPLACE_H

#include "sim_module.h"

// The module, or the file's in its place where that has its first kernel; NULL, with the reason in
// `error`, when there is a file that cannot be loaded. What is not given back is unloaded.
struct sim_module *sim_replace(struct sim_module *module, u32 device_sm, char *error,
                               size_t error_bytes);

#endif
