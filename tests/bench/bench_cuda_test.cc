// The opponent on CUDA is right, with plain products and with cuBLAS, on shapes of the grid and on
// others. It runs on the software GPU. FOVEA_CUDA_DRIVER and FOVEA_BENCH_CUBLAS name the driver and
// cuBLAS.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "bench/measure/check.h"
#include "bench/measure/machine.h"

namespace {

std::vector<char> result_of(const fv_bench_machine &machine, const fv_bench_pipeline *pipeline,
                            const fv_bench_tensors &host, const fv_bench_tensors &there) {
  const size_t bytes = static_cast<size_t>(2 * host.q_count);
  memset(host.out, 0xff, bytes);
  EXPECT_TRUE(machine.place->copy_out(machine.place, &host, &there, false));
  void *state = pipeline->open(&machine, &there);
  EXPECT_TRUE(state && pipeline->run(state) && pipeline->run(state));
  EXPECT_TRUE(machine.place->copy_out(machine.place, &host, &there, true));
  pipeline->close(state);
  const char *out = static_cast<const char *>(host.out);
  return std::vector<char>(out, out + bytes);
}

void expect_agreement(const fv_bench_machine &machine, const fv_bench_problem &problem) {
  fv_bench_tensors host, there;
  ASSERT_TRUE(fv_bench_tensors_make(&host, &problem, machine.pool));
  ASSERT_TRUE(machine.place->bring(machine.place, &host, &there));
  std::vector<char> fused = result_of(machine, machine.place->pipelines[0], host, there);
  std::vector<char> naive = result_of(machine, machine.place->pipelines[1], host, there);
  EXPECT_LE(fv_bench_typical_distance(fused.data(), naive.data(), host.q_count, problem.dtype),
            fv_bench_typical_allowance(&problem))
      << fv_bench_kind_name(problem.kind) << " " << problem.len_q << " " << problem.len_kv << " "
      << problem.heads_kv << " " << problem.causal;
  machine.place->release(machine.place, &there);
  fv_bench_tensors_free(&host);
}

TEST(BenchCuda, ThreeLaunchesAgreeWithFovea) {
  fv_bench_machine machine;
  ASSERT_TRUE(fv_bench_machine_open(&machine, 2));
  ASSERT_TRUE(fv_bench_cuda_open(&machine));
  const bool blas = *getenv("FOVEA_BENCH_CUBLAS") != '\0';
  EXPECT_EQ(strcmp(fv_bench_cuda_products(&machine), "cuBLAS") == 0, blas);
  for (fovea_dtype dtype : {FOVEA_F16, FOVEA_BF16}) {
    for (int causal = 0; causal < 2; ++causal) {
      for (int64_t heads_kv : {1, 2, 4}) {
        expect_agreement(
            machine, {2, 4, heads_kv, 20, 20, 0, 32, dtype, FV_BENCH_PREFILL, causal == 1, false});
        expect_agreement(
            machine, {1, 4, heads_kv, 9, 43, 0, 64, dtype, FV_BENCH_PREFILL, causal == 1, false});
      }
    }
    expect_agreement(machine, {3, 8, 2, 1, 77, 0, 64, dtype, FV_BENCH_DECODE, false, false});
    expect_agreement(machine, {1, 4, 4, 1, 72, 0, 64, dtype, FV_BENCH_DECODE, false, true});
    for (int64_t heads_kv : {1, 4}) {
      expect_agreement(machine,
                       {3, 4, heads_kv, 21, 21, 0, 32, dtype, FV_BENCH_PACKED, true, false});
      expect_agreement(machine,
                       {3, 4, heads_kv, 1, 43, 16, 64, dtype, FV_BENCH_PAGED, false, true});
      expect_agreement(machine, {4, 4, heads_kv, 9, 43, 7, 32, dtype, FV_BENCH_MIXED, true, true});
    }
    expect_agreement(machine, {1, 4, 2, 5, 20, 16, 64, dtype, FV_BENCH_MIXED, true, true});
  }
  fv_bench_cuda_close(&machine);
  fv_bench_machine_close(&machine);
}

}  // namespace
