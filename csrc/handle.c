/* handle.c - opens and closes devices, and describes them. */
#define _GNU_SOURCE /* secure_getenv */
#include "handle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "check_rule.h"
#include "processor.h"
#include "status.h"

/* ---- Instruction sets ---- */

/* The best instruction set, or the one that FOVEA_CPU_ISA names. */
static fovea_status choose_isa(fv_isa *isa) {
  const char *wish = secure_getenv("FOVEA_CPU_ISA");
  fv_isa best = fv_best_isa(fv_processor_features());
  *isa = best;
  if (!wish || !*wish) return FOVEA_OK;
  if (!strcmp(wish, "portable")) {
    *isa = FV_ISA_PORTABLE;
    return FOVEA_OK;
  }
  if (!strcmp(wish, "avx2")) {
    *isa = FV_ISA_AVX2;
  } else if (!strcmp(wish, "avx512")) {
    *isa = FV_ISA_AVX512;
  } else {
    return fv_fail(
        FOVEA_BAD_ARGUMENT,
        "FOVEA_CPU_ISA names no instruction set; use portable, avx2 or avx512, or unset it");
  }
  if (*isa <= best) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT, "FOVEA_CPU_ISA=%s, but this processor lacks %s; unset it",
                 wish, *isa == FV_ISA_AVX2 ? "AVX2, FMA or F16C" : "AVX-512 with F, BW, DQ and VL");
}

static void name_isa(const fovea_handle *handle, char *name, size_t capacity) {
  switch (handle->facts.device) {
    case FOVEA_DEVICE_CUDA:
      snprintf(name, capacity, "sm_%d", (int)handle->cuda.facts.sm);
      break;
    case FOVEA_DEVICE_REFERENCE:
      snprintf(name, capacity, "scalar");
      break;
    default:
      snprintf(name, capacity, "%s", fv_isa_name(handle->facts.isa));
      break;
  }
}

/* ---- Creation ---- */

static void pool_for(void *user, int64_t count, fovea_task task, void *context) {
  fv_pool_run(user, count, task, context);
}

static fovea_status start_threads(fovea_handle *handle, const fovea_options *options) {
  int32_t threads = options->threads ? options->threads : fv_pool_default_threads();
  if (threads > FV_THREADS_LAST) threads = FV_THREADS_LAST;
  handle->facts.threads = threads;
  handle->parallel = (fv_parallel){options->parallel_for, options->parallel_for_user, threads};
  if (options->parallel_for || threads == 1) return FOVEA_OK;
  if (fv_pool_create(&handle->pool, threads) != 0) {
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a pool of %d threads", threads);
  }
  handle->parallel = (fv_parallel){pool_for, handle->pool, threads};
  return FOVEA_OK;
}

static fovea_status open_cuda(fovea_handle *handle, const fovea_options *options) {
  fovea_status status = fv_cuda_open(options->ordinal, &handle->cuda);
  if (status == FOVEA_NO_DEVICE) {
    return fv_fail(status, "options.device is CUDA, but %s; use AUTO or CPU", fovea_error_detail());
  }
  handle->facts.device = FOVEA_DEVICE_CUDA;
  handle->facts.threads = handle->cuda.facts.sm_count;
  if (status == FOVEA_DRIVER_ERROR) return fv_fail(FOVEA_NO_DEVICE, "%s", fovea_error_detail());
  return status;
}

static fovea_status open_device(fovea_handle *handle, const fovea_options *options) {
  handle->ordinal = options->ordinal;
  switch (options->device) {
    case FOVEA_DEVICE_CUDA:
      return open_cuda(handle, options);
    case FOVEA_DEVICE_REFERENCE:
      handle->facts.device = FOVEA_DEVICE_REFERENCE;
      break;
    default:
      /* AUTO too: the CUDA kernels cover a part of the header so far, and who asks for nothing in
       * particular must not find features missing. */
      handle->facts.device = FOVEA_DEVICE_CPU;
      FV_TRY(choose_isa(&handle->facts.isa));
      break;
  }
  return start_threads(handle, options);
}

static void tell(const fovea_options *options, const fovea_handle *handle) {
  static const char *const names[] = {"auto", "cpu", "reference", "cuda"};
  char text[160], isa[32];
  if (!options->log) return;
  name_isa(handle, isa, sizeof isa);
  snprintf(text, sizeof text, "fovea: device %s, %s, %d %s", names[handle->facts.device], isa,
           handle->facts.threads,
           handle->facts.device == FOVEA_DEVICE_CUDA ? "multiprocessors" : "threads");
  options->log(options->log_user, 2, text);
}

fovea_status fovea_create(const fovea_options *options, fovea_handle **handle) {
  fovea_options copy;
  if (!handle) return fv_fail(FOVEA_BAD_ARGUMENT, "handle is NULL; pass where to store it");
  *handle = NULL;
  FV_TRY(fv_check_options(options, &copy));
  fovea_handle *made = calloc(1, sizeof *made);
  if (!made)
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a handle (%zu bytes)", sizeof *made);
  fovea_status status = open_device(made, &copy);
  if (status != FOVEA_OK) {
    free(made);
    return status;
  }
  tell(&copy, made);
  *handle = made;
  return FOVEA_OK;
}

void fovea_destroy(fovea_handle *handle) {
  if (!handle) return;
  if (handle->pool) fv_pool_destroy(handle->pool);
  if (handle->facts.device == FOVEA_DEVICE_CUDA) fv_cuda_close(&handle->cuda);
  free(handle);
}

/* ---- Description ---- */

static void describe_gpu(const fv_cuda_device *device, fovea_info *info) {
  snprintf(info->name, sizeof info->name, "%s", device->name);
  snprintf(info->features, sizeof info->features,
           "%d multiprocessors, %d bytes of shared memory per block, driver for CUDA %d.%d",
           (int)device->facts.sm_count, (int)device->facts.shared_bytes,
           (int)device->driver_version / 1000, (int)device->driver_version % 1000 / 10);
}

fovea_status fovea_get_info(const fovea_handle *handle, fovea_info *info) {
  if (!handle) return fv_fail(FOVEA_BAD_ARGUMENT, "handle is NULL; see fovea_create");
  if (!info) return fv_fail(FOVEA_BAD_ARGUMENT, "info is NULL");
  if (info->struct_size < sizeof *info) {
    return fv_fail(FOVEA_BAD_ARGUMENT, "info.struct_size (%zu) must be at least %zu",
                   info->struct_size, sizeof *info);
  }
  size_t size = info->struct_size;
  memset(info, 0, sizeof *info);
  info->struct_size = size;
  info->device = handle->facts.device;
  info->ordinal = handle->ordinal;
  info->threads = handle->facts.threads;
  name_isa(handle, info->isa, sizeof info->isa);
  if (handle->facts.device == FOVEA_DEVICE_CUDA) {
    describe_gpu(&handle->cuda, info);
  } else {
    fv_processor_name(info->name, sizeof info->name);
    fv_describe_features(fv_processor_features(), info->features, sizeof info->features);
  }
  fv_cuda_describe(info->cuda, sizeof info->cuda);
  return FOVEA_OK;
}
