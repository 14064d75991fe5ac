/* device.c - see device.h. */
#include "csrc/cuda/device.h"

#include <stdio.h>
#include <string.h>

#include "csrc/cuda/driver.h"

enum { CAPABILITY_NEEDED = 80 };

static fovea_status need_ordinal(const fv_driver *driver, int32_t ordinal) {
  int count = 0;
  FV_DRIVER_TRY(driver, cuDeviceGetCount, &count);
  if (count == 0) {
    return fv_fail(FOVEA_NO_DEVICE, "there is a CUDA driver, but no CUDA device");
  }
  if (ordinal >= count) {
    return fv_fail(FOVEA_NO_DEVICE, "there is no CUDA device %d: devices are numbered from 0 to %d",
                   (int)ordinal, count - 1);
  }
  return FOVEA_OK;
}

static fovea_status ask_facts(const fv_driver *driver, fv_cuda_device *device) {
  int major = 0, minor = 0, sm_count = 0, shared_bytes = 0, shared_bytes_sm = 0;
  CUdevice number = device->number;
  FV_DRIVER_TRY(driver, cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                number);
  FV_DRIVER_TRY(driver, cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                number);
  FV_DRIVER_TRY(driver, cuDeviceGetAttribute, &sm_count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                number);
  FV_DRIVER_TRY(driver, cuDeviceGetAttribute, &shared_bytes,
                CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, number);
  FV_DRIVER_TRY(driver, cuDeviceGetAttribute, &shared_bytes_sm,
                CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, number);
  device->facts = (fv_cuda_facts){major * 10 + minor, sm_count, shared_bytes, shared_bytes_sm};
  return FOVEA_OK;
}

static fovea_status need_capability(const fv_cuda_device *device) {
  int sm = device->facts.sm;
  if (sm >= CAPABILITY_NEEDED) return FOVEA_OK;
  return fv_fail(FOVEA_NO_DEVICE,
                 "the CUDA device %s has compute capability %d.%d, and the kernels need 8.0",
                 device->name, sm / 10, sm % 10);
}

fovea_status fv_cuda_open(int32_t ordinal, fv_cuda_device *device) {
  const fv_driver *driver;
  memset(device, 0, sizeof *device);
  FV_TRY(fv_driver_open(&driver));
  FV_TRY(need_ordinal(driver, ordinal));
  FV_DRIVER_TRY(driver, cuDeviceGet, &device->number, ordinal);
  FV_DRIVER_TRY(driver, cuDeviceGetName, device->name, sizeof device->name, device->number);
  FV_TRY(ask_facts(driver, device));
  FV_TRY(need_capability(device));
  device->driver_version = driver->version;
  FV_DRIVER_TRY(driver, cuDevicePrimaryCtxRetain, &device->primary, device->number);
  return FOVEA_OK;
}

void fv_cuda_close(fv_cuda_device *device) {
  const fv_driver *driver;
  if (!device->primary || fv_driver_open(&driver) != FOVEA_OK) return;
  driver->cuDevicePrimaryCtxRelease(device->number);
  device->primary = NULL;
}

void fv_cuda_describe(char *text, size_t capacity) {
  const fv_driver *driver;
  fovea_status status = fv_driver_open(&driver);
  if (status == FOVEA_OK) status = need_ordinal(driver, 0);
  if (status == FOVEA_OK) {
    snprintf(text, capacity, "available; the driver knows CUDA %d.%d", driver->version / 1000,
             driver->version % 1000 / 10);
  } else {
    snprintf(text, capacity, "%s", fovea_error_detail());
  }
}
