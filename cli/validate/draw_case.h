/* draw_case.h - one random attention problem: shapes, layouts, tables and data, all from a seed.
 *
 * Cases are hostile on purpose. Every byte that the header says is not read holds NaN. Unused
 * entries of page tables hold absurd ids. Outputs are preset and surrounded by canaries, and the
 * workspace holds ones. Data is written only for keys that some row sees. */
#ifndef FOVEA_CLI_VALIDATE_DRAW_CASE_H
#define FOVEA_CLI_VALIDATE_DRAW_CASE_H

#include <fovea.h>
#include "cli/random_source.h"
#include "cli/validate/case_features.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FV_CASE_BLOCKS = 64 };

/* Memory of an output, and which of its bytes the call may write. */
typedef struct fv_case_output {
  unsigned char *bytes;
  bool *owned; /* per byte */
  size_t size;
} fv_case_output;

typedef struct fv_case {
  fovea_attention_args args; /* complete except for the workspace */
  fv_feature_set features;
  char text[768]; /* all of it in words */
  int64_t keys_longest;
  int64_t rows_at_most; /* rows per sequence and head that fit the judge's budget; 0: all */
  fv_case_output out, lse;
  void *blocks[FV_CASE_BLOCKS]; /* every allocation of the case */
  int block_count;
  bool out_of_memory;
} fv_case;

void fv_case_draw(uint64_t seed, uint64_t index, fv_case *c);

/* The features that the handle's device supports in some call, each by itself. Found by asking it.
 */
fv_feature_set fv_case_find_features(fovea_handle *handle);

/* The features of `features` that the device supports in some call together with `feature`. Pairs
 * of dtypes of two tensors are asked about; every other pair of supported features is taken as
 * supported. */
fv_feature_set fv_case_find_company(fovea_handle *handle, fv_feature_set features,
                                    fv_feature feature);

/* Draws until the device supports the case, from `features` alone. Returns how many cases it left
 * out. The draw follows from the seed, the index and the device's answers. */
int64_t fv_case_draw_supported(uint64_t seed, uint64_t index, fovea_handle *handle,
                               fv_feature_set features, fv_case *c);
void fv_case_free(fv_case *c);

/* Presets the outputs again. */
void fv_case_reset_outputs(fv_case *c);

/* The first byte outside the sequences' rows that a call changed; -1: none. */
int64_t fv_case_broken_canary(const fv_case_output *output);

static inline bool fv_case_has(const fv_case *c, fv_feature feature) {
  return fv_feature_in(c->features, feature);
}

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_VALIDATE_DRAW_CASE_H */
