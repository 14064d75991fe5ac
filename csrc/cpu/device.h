/* device.h - the handle's state of a CPU. */
#ifndef FOVEA_CSRC_CPU_DEVICE_H
#define FOVEA_CSRC_CPU_DEVICE_H

#include "csrc/cpu/plan.h"
#include "csrc/host/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_cpu_device {
  fv_host_device host; /* first, as csrc/host/device.h requires */
  fv_isa isa;
} fv_cpu_device;

/* What planning knows of the handle's device. */
static inline fv_cpu_facts fv_cpu_facts_of(const fovea_handle *handle) {
  return (fv_cpu_facts){((const fv_cpu_device *)handle->state)->isa, handle->threads};
}

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CPU_DEVICE_H */
