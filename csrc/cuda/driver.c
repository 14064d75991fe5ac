/* driver.c - see driver.h.
 *
 * The version is checked before any other symbol is looked up. An old driver lacks symbols too, but
 * "too old" says more than the name of the first symbol that is missing. */
#define _GNU_SOURCE /* secure_getenv */
#include "csrc/cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static fv_driver table;
static char refusal[400]; /* why there is no driver; "" if there is one */

static void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void refuse(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(refusal, sizeof refusal, format, values);
  va_end(values);
}

static void *open_library(void) {
  const char *path = secure_getenv("FOVEA_CUDA_DRIVER");
  bool named = path && *path;
  void *library = dlopen(named ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library) return library;
  const char *why = dlerror();
  refuse("there is no CUDA driver: %.300s%s", why ? why : "dlopen fails",
         named ? " (named by FOVEA_CUDA_DRIVER)" : "");
  return NULL;
}

static bool is_recent(void *library) {
  CUresult (*ask)(int *) = (CUresult(*)(int *))dlsym(library, "cuDriverGetVersion");
  int version = 0;
  if (!ask) {
    refuse("the CUDA driver lacks cuDriverGetVersion; is it one?");
    return false;
  }
  CUresult result = ask(&version);
  if (result != CUDA_SUCCESS) {
    refuse("the CUDA driver fails: cuDriverGetVersion returned %d", (int)result);
    return false;
  }
  if (version < FV_DRIVER_VERSION_NEEDED) {
    refuse(
        "the CUDA driver is too old: it knows CUDA %d.%d, and the kernels need 13.0, which is "
        "driver 580 or newer",
        version / 1000, version % 1000 / 10);
    return false;
  }
  table.version = version;
  return true;
}

/* Looks up a symbol. *whole becomes false if it is required and missing. */
static void *find(void *library, const char *symbol, bool required, bool *whole) {
  void *found = dlsym(library, symbol);
  if (found || !required || !*whole) return found;
  *whole = false;
  refuse("the CUDA driver lacks %s, which every driver from 580 on has", symbol);
  return NULL;
}

static bool fill_table(void *library) {
  enum { OPTIONAL = 0, REQUIRED = 1 };
  bool whole = true;
#define FV_DRIVER_CALL(name, exported, need) \
  table.name = (__typeof__(exported) *)find(library, #exported, need, &whole);
#include "csrc/cuda/driver.def"
#undef FV_DRIVER_CALL
  return whole;
}

static const char *error_name(const fv_driver *driver, CUresult result) {
  const char *name = NULL;
  if (driver->cuGetErrorName) driver->cuGetErrorName(result, &name);
  return name ? name : "no name";
}

static void open_once(void) {
  void *library = open_library();
  if (!library || !is_recent(library) || !fill_table(library)) return;
  CUresult result = table.cuInit(0);
  if (result == CUDA_ERROR_NO_DEVICE) {
    refuse("there is a CUDA driver, but no CUDA device (cuInit returned %d, %s)", (int)result,
           error_name(&table, result));
  } else if (result != CUDA_SUCCESS) {
    refuse("the CUDA driver does not start: cuInit returned %d (%s)", (int)result,
           error_name(&table, result));
  }
}

fovea_status fv_driver_open(const fv_driver **driver) {
  *driver = NULL;
  pthread_once(&once, open_once);
  if (refusal[0]) return fv_fail(FOVEA_NO_DEVICE, "%s", refusal);
  *driver = &table;
  return FOVEA_OK;
}

fovea_status fv_driver_fail(const fv_driver *driver, const char *call, CUresult result) {
  fovea_status status =
      result == CUDA_ERROR_OUT_OF_MEMORY ? FOVEA_OUT_OF_MEMORY : FOVEA_DRIVER_ERROR;
  return fv_fail(status, "%s returned %d (%s)", call, (int)result, error_name(driver, result));
}
