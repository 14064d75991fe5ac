/* replace.h - runs changed kernels under an unchanged program. FOVEA_SIMGPU_PTX names files,
 * separated by colons, whose modules replace those of the program. */
#ifndef FOVEA_SIMGPU_DRIVER_REPLACE_H
#define FOVEA_SIMGPU_DRIVER_REPLACE_H

#include "simgpu/driver/module.h"

/* Takes a module. Returns that of the first file with a kernel of the same name as the module's
 * first one, or the module itself if no file has one. NULL: a file cannot be loaded, and error says
 * why. Unloads every module that it does not return. */
struct sim_module *sim_replace(struct sim_module *module, u32 device_sm, char *error,
                               size_t error_bytes);

#endif /* FOVEA_SIMGPU_DRIVER_REPLACE_H */
