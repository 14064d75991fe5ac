/* ramp.h: the colours of a heat map. */
#ifndef FOVEA_CLI_HEATMAP_RAMP_H
#define FOVEA_CLI_HEATMAP_RAMP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FV_HEATMAP_RAMP_LEVELS 256

/* Entry 0 is the lightest colour and stands for no weight; each entry is 0x00RRGGBB in sRGB. */
typedef struct fv_heatmap_ramp {
  uint32_t rgb[FV_HEATMAP_RAMP_LEVELS];
  uint32_t hidden; /* of a cell without a weight: grey, unlike every entry of rgb */
} fv_heatmap_ramp;

void fv_heatmap_ramp_fill(fv_heatmap_ramp *ramp);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_RAMP_H */
