/* processor.c - see processor.h. */
#include "csrc/host/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
/* F16C is bit 29 of ECX of leaf 1. Not every compiler's __builtin_cpu_supports knows F16C. */
static bool has_f16c(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1);
}

uint32_t fv_processor_features(void) {
  uint32_t features = has_f16c() ? FV_FEATURE_F16C : 0;
  if (__builtin_cpu_supports("avx2")) features |= FV_FEATURE_AVX2;
  if (__builtin_cpu_supports("fma")) features |= FV_FEATURE_FMA;
  if (__builtin_cpu_supports("avx512f")) features |= FV_FEATURE_AVX512F;
  if (__builtin_cpu_supports("avx512bw")) features |= FV_FEATURE_AVX512BW;
  if (__builtin_cpu_supports("avx512dq")) features |= FV_FEATURE_AVX512DQ;
  if (__builtin_cpu_supports("avx512vl")) features |= FV_FEATURE_AVX512VL;
  return features;
}
#else
uint32_t fv_processor_features(void) {
  return 0;
}
#endif

fv_isa fv_best_isa(uint32_t features) {
  const uint32_t avx2 = FV_FEATURE_AVX2 | FV_FEATURE_FMA | FV_FEATURE_F16C;
  const uint32_t avx512 =
      avx2 | FV_FEATURE_AVX512F | FV_FEATURE_AVX512BW | FV_FEATURE_AVX512DQ | FV_FEATURE_AVX512VL;
  if ((features & avx512) == avx512) return FV_ISA_AVX512;
  return (features & avx2) == avx2 ? FV_ISA_AVX2 : FV_ISA_PORTABLE;
}

const char *fv_isa_name(fv_isa isa) {
  if (isa == FV_ISA_AVX512) return "avx512";
  return isa == FV_ISA_AVX2 ? "avx2" : "portable";
}

void fv_describe_features(uint32_t features, char *text, size_t capacity) {
  static const char *const names[] = {
#define FV_PROCESSOR_NAME(NAME, name) #name,
      FV_PROCESSOR_FEATURE_MAP(FV_PROCESSOR_NAME)
#undef FV_PROCESSOR_NAME
  };
  size_t length = 0;
  text[0] = '\0';
  for (size_t i = 0; i < sizeof names / sizeof names[0] && length < capacity; ++i) {
    if (!(features >> i & 1)) continue;
    length +=
        (size_t)snprintf(text + length, capacity - length, "%s%s", length ? " " : "", names[i]);
  }
}

/* Reads the "model name" of /proc/cpuinfo. */
void fv_processor_name(char *name, size_t capacity) {
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
