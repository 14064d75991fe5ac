/* module.h - a loaded module: its PTX, its kernels, its variables in global memory.
 *
 * The module owns all of these; sim_module_unload frees them. CUlibrary and CUmodule point to it,
 * CUkernel and CUfunction to its kernels. */
#ifndef FOVEA_SIMGPU_DRIVER_MODULE_H
#define FOVEA_SIMGPU_DRIVER_MODULE_H

#include "simgpu/decode/code.h"
#include "simgpu/parse/syntax.h"

struct sim_module {
  struct sim_syntax syntax;
  struct sim_pool pool;
  struct sim_kernel *kernels;
  u64 *variables; /* addresses to be freed with the module */
  u32 variable_count, variable_capacity;
  struct sim_module *next_loaded; /* the driver's list */
};

/* NULL: error says why, and *is_image_bad whether the image holds no PTX for the device. */
struct sim_module *sim_module_load(const void *image, u32 device_sm, char *error,
                                   size_t error_bytes, bool *is_image_bad);
void sim_module_unload(struct sim_module *module);
struct sim_kernel *sim_module_find(struct sim_module *module, const char *name);
/* "file:line", then the places that it was inlined at, innermost first. Empty without -lineinfo. */
void sim_module_describe(const struct sim_module *module, u32 location, char *text, size_t bytes);
/* One step of that. False: the location is unknown. */
bool sim_module_line(const struct sim_module *module, u32 location, const char **file, u32 *line,
                     u32 *inlined_at);

#endif /* FOVEA_SIMGPU_DRIVER_MODULE_H */
