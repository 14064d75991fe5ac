// attention_fwd_sm80.cu - one kernel of shared/attention_fwd.def. The build compiles this file once
// per kernel row and names the row: -DFV_ROW=fovea_attention_fwd_sm80_bf16_d64.
#include "kernels/attention_fwd_sm80.cuh"

#if !defined(FV_ROW)
#error "FV_ROW must name a row of shared/attention_fwd.def"
#endif

using type_F16 = fv_f16;
using type_BF16 = fv_bf16;

#define FV_ATTENTION_FWD_ROW(name, dtype, dim, dim_v, tile_q, tile_kv, warps, stages, ctas,      \
                             general, kv_bytes)                                                  \
  using config_##name = fv_tile_config<type_##dtype, dim, dim_v, tile_q, tile_kv, warps, stages, \
                                       ctas, general, kv_bytes>;
#include "kernels/shared/attention_fwd.def"
#undef FV_ATTENTION_FWD_ROW

#define CONFIG_NAMED(name) config_##name
#define CONFIG_OF(name) CONFIG_NAMED(name)
using config = CONFIG_OF(FV_ROW);

static_assert(sizeof(fv_tile_memory<config>) ==
                  FV_ATTENTION_SHARED_BYTES(config::dim, config::dim_v, config::tile_q,
                                            config::tile_kv, config::stages, config::kv_bytes),
              "csrc/cuda/plan.c asks for so much");
#if defined(FV_ROW_SHARED_BYTES)
static_assert(sizeof(fv_tile_memory<config>) == FV_ROW_SHARED_BYTES,
              "cmake/FoveaCuda.cmake prints it");
#endif
static_assert(fv_part<config>::floats == FV_PARTIAL_FLOATS(config::dim_v, config::tile_q),
              "csrc/cuda/schedule.c makes room for it");

extern "C" __global__ void __launch_bounds__(config::threads, config::ctas)
    FV_ROW(const __grid_constant__ fv_attention_params params) {
  fv_attend<config>(params);
}
