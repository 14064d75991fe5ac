/* processor.h - what the processor is, and the best instruction set for it. */
#ifndef FOVEA_CSRC_HOST_PROCESSOR_H
#define FOVEA_CSRC_HOST_PROCESSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_isa { FV_ISA_PORTABLE = 0, FV_ISA_AVX2 = 1, FV_ISA_AVX512 = 2 } fv_isa;

/* X(NAME, name): the features that the instruction sets of cpu/kernels.def consist of. */
#define FV_PROCESSOR_FEATURE_MAP(X) \
  X(AVX2, avx2)                     \
  X(FMA, fma)                       \
  X(F16C, f16c)                     \
  X(AVX512F, avx512f)               \
  X(AVX512BW, avx512bw)             \
  X(AVX512DQ, avx512dq)             \
  X(AVX512VL, avx512vl)

enum {
#define FV_PROCESSOR_NUMBER(NAME, name) FV_FEATURE_NUMBER_##NAME,
  FV_PROCESSOR_FEATURE_MAP(FV_PROCESSOR_NUMBER)
#undef FV_PROCESSOR_NUMBER
};

/* A set of features: one bit each. */
enum {
#define FV_PROCESSOR_BIT(NAME, name) FV_FEATURE_##NAME = 1 << FV_FEATURE_NUMBER_##NAME,
  FV_PROCESSOR_FEATURE_MAP(FV_PROCESSOR_BIT)
#undef FV_PROCESSOR_BIT
};

/* What this processor and its operating system offer. */
uint32_t fv_processor_features(void);

const char *fv_isa_name(fv_isa isa);

/* The best instruction set that needs only these features. */
fv_isa fv_best_isa(uint32_t features);

/* "avx2 fma", ...; "" for none. */
void fv_describe_features(uint32_t features, char *text, size_t capacity);

/* The processor's name, or "CPU". */
void fv_processor_name(char *name, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_HOST_PROCESSOR_H */
