/* handle.c - opens and closes devices, and describes them. */
#define _GNU_SOURCE /* secure_getenv */
#include "handle.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "status.h"

static const char no_cuda[] = "this build has no CUDA kernels";

/* ---- Instruction sets ---- */

#if defined(__x86_64__)
/* Not every compiler's __builtin_cpu_supports knows f16c: bit 29 of ECX of leaf 1. */
static bool has_f16c(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1);
}

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
static bool has_avx2(void) {
  return false;
}

static bool has_avx512(void) {
  return false;
}
#endif

/* The best instruction set, or the one that FOVEA_CPU_ISA names. */
static fovea_status choose_isa(fv_isa *isa) {
  const char *wish = secure_getenv("FOVEA_CPU_ISA");
  fv_isa best = has_avx512() ? FV_ISA_AVX512 : has_avx2() ? FV_ISA_AVX2 : FV_ISA_PORTABLE;
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

/* ---- Creation ---- */

static void pool_for(void *user, int64_t count, fovea_task task, void *context) {
  fv_pool_run(user, count, task, context);
}

static fovea_status start_threads(fovea_handle *handle, const fovea_options *options) {
  int32_t threads = options->threads ? options->threads : fv_pool_default_threads();
  handle->facts.threads = threads;
  handle->parallel = (fv_parallel){options->parallel_for, options->parallel_for_user, threads};
  if (options->parallel_for || threads == 1) return FOVEA_OK;
  if (fv_pool_create(&handle->pool, threads) != 0) {
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a pool of %d threads", threads);
  }
  handle->parallel = (fv_parallel){pool_for, handle->pool, threads};
  return FOVEA_OK;
}

static fovea_status open_device(fovea_handle *handle, const fovea_options *options) {
  handle->ordinal = options->ordinal;
  switch (options->device) {
    case FOVEA_DEVICE_CUDA:
      return fv_fail(FOVEA_NO_DEVICE, "options.device is CUDA, but %s; use AUTO or CPU", no_cuda);
    case FOVEA_DEVICE_REFERENCE:
      handle->facts.device = FOVEA_DEVICE_REFERENCE;
      break;
    default:
      handle->facts.device = FOVEA_DEVICE_CPU;
      FV_TRY(choose_isa(&handle->facts.isa));
      break;
  }
  return start_threads(handle, options);
}

static void tell(const fovea_options *options, const fovea_handle *handle) {
  char text[160];
  if (!options->log) return;
  snprintf(text, sizeof text, "fovea: device %s, %s, %d threads; %s",
           handle->facts.device == FOVEA_DEVICE_CPU ? "cpu" : "reference",
           fv_isa_name(handle->facts.isa), handle->facts.threads, no_cuda);
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
  free(handle);
}

/* ---- Description ---- */

/* The "model name" of /proc/cpuinfo, or "CPU". */
static void processor_name(char *name, size_t capacity) {
  char line[256];
  FILE *file = fopen("/proc/cpuinfo", "re");
  snprintf(name, capacity, "CPU");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) || !colon) continue;
    colon[strcspn(colon, "\n")] = '\0';
    snprintf(name, capacity, "%s", colon + 1 + strspn(colon + 1, " "));
    break;
  }
  fclose(file);
}

static void processor_features(char *features, size_t capacity) {
  features[0] = '\0';
#if defined(__x86_64__)
  snprintf(features, capacity, "%s%s%s%s", __builtin_cpu_supports("avx2") ? "avx2 " : "",
           __builtin_cpu_supports("fma") ? "fma " : "", has_f16c() ? "f16c " : "",
           __builtin_cpu_supports("avx512f") ? "avx512f " : "");
  size_t length = strlen(features);
  if (length) features[length - 1] = '\0';
#else
  (void)capacity;
#endif
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
  bool vectors = handle->facts.device == FOVEA_DEVICE_CPU;
  snprintf(info->isa, sizeof info->isa, "%s", vectors ? fv_isa_name(handle->facts.isa) : "scalar");
  processor_name(info->name, sizeof info->name);
  processor_features(info->features, sizeof info->features);
  snprintf(info->cuda, sizeof info->cuda, "%s", no_cuda);
  return FOVEA_OK;
}
