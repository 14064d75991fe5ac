/* replace.c - loads the modules of FOVEA_SIMGPU_PTX: see driver/replace.h. */
#include "simgpu/driver/replace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The whole file and a NUL; NULL when it cannot be read. */
static char *read_text(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  long bytes = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  char *text = bytes < 0 ? NULL : calloc(1, (size_t)bytes + 1);
  rewind(file);
  if (text && fread(text, 1, (size_t)bytes, file) != (size_t)bytes) {
    free(text);
    text = NULL;
  }
  fclose(file);
  return text;
}

static struct sim_module *load_file(const char *path, u32 device_sm, char *error,
                                    size_t error_bytes) {
  bool is_image_bad;
  char *text = read_text(path);
  if (!text) {
    snprintf(error, error_bytes, "FOVEA_SIMGPU_PTX: cannot read %s", path);
    return NULL;
  }
  struct sim_module *module = sim_module_load(text, device_sm, error, error_bytes, &is_image_bad);
  free(text);
  return module;
}

struct sim_module *sim_replace(struct sim_module *module, u32 device_sm, char *error,
                               size_t error_bytes) {
  const char *given = getenv("FOVEA_SIMGPU_PTX");
  if (!given || !*given || !module->kernels) return module;
  char *paths = strdup(given), *rest = NULL;
  for (char *path = strtok_r(paths, ":", &rest); path; path = strtok_r(NULL, ":", &rest)) {
    struct sim_module *other = load_file(path, device_sm, error, error_bytes);
    bool replaces = !other || sim_module_find(other, module->kernels->name);
    sim_module_unload(replaces ? module : other);
    if (!replaces) continue;
    module = other;
    break;
  }
  free(paths);
  return module;
}
