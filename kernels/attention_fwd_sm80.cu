// attention_fwd_sm80.cu - one kernel of attention_fwd.def. The build compiles this file once per row
// and names the row: -DFV_ROW=fovea_attention_fwd_sm80_bf16_d64.
#include "attention_fwd_sm80.cuh"

#if !defined(FV_ROW)
#error "FV_ROW must name a row of attention_fwd.def"
#endif

using type_F16 = fv_f16;
using type_BF16 = fv_bf16;

#define FV_ATTENTION_FWD_ROW(name, dtype, dim, dim_v, tile_q, tile_kv, warps, stages, ctas) \
  using config_##name =                                                                     \
      fv_tile_config<type_##dtype, dim, dim_v, tile_q, tile_kv, warps, stages, ctas>;
#include "attention_fwd.def"
#undef FV_ATTENTION_FWD_ROW

#define CONFIG_NAMED(name) config_##name
#define CONFIG_OF(name) CONFIG_NAMED(name)
using config = CONFIG_OF(FV_ROW);

// The host computes the same number from the row (csrc/plan_cuda.c).
static_assert(sizeof(fv_tile_memory<config>) ==
                  2 * config::dim * config::tile_q +
                      2 * config::stages * config::tile_kv * (config::dim + config::dim_v) +
                      FV_CONTROL_BYTES,
              "shared memory is q, the stages of k and v, and what the CTA is at");

extern "C" __global__ void __launch_bounds__(config::threads, config::ctas)
    FV_ROW(const __grid_constant__ fv_attention_params params) {
  fv_attend<config>(params);
}
