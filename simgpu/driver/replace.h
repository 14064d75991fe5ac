/* replace.h - a changed kernel under an unchanged program: FOVEA_SIMGPU_PTX names files, with
 * colons between them, whose kernels take the place of those of the same names. */
#ifndef SIM_REPLACE_H
#define SIM_REPLACE_H

#include "simgpu/driver/module.h"

/* The module, or in its place that of the first file that has its first kernel; NULL, with the
 * reason in `error`, when a file on the way there cannot be loaded. What is not given back is
 * unloaded. */
struct sim_module *sim_replace(struct sim_module *module, u32 device_sm, char *error,
                               size_t error_bytes);

#endif
