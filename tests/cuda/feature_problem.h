// feature_problem.h - the features of the attention call (attention/features.h) as problems for the
// CUDA kernels: each feature that some kernel has, computed in a given way.
#ifndef FOVEA_TESTS_CUDA_FEATURE_PROBLEM_H
#define FOVEA_TESTS_CUDA_FEATURE_PROBLEM_H

#include "csrc/check/check.h"
#include "csrc/cuda/plan.h"
#include "tests/attention/features.h"
#include "tests/cuda/kernel_device.h"

namespace fovea_test {

// Three sequences of 6 rows and 75 keys. They take 12 or 48 rows of a tile, unless the feature
// says otherwise.
inline Attention feature_problem(const Feature &feature, const Way &way, uint64_t seed = 5) {
  Attention a;
  a.on(kCuda).type(way.dtype).seed(seed).batch(kSequences).len_q(kRows).len_kv(kKeys);
  a.heads(4, 2).dim(way.dim).dim_v(way.dim_v);
  feature.apply(a);
  if (!way.narrow) a.heads(4 * a.s.heads_q, a.s.heads_kv);
  if (way.contiguous) a.contiguous();
  return a.reproducible(way.level).sm_count(FEW_MULTIPROCESSORS);
}

// features() has these only together with a feature that no kernel has.
inline std::vector<Feature> further_features() {
  return {
      {"kv_position_alone",
       [](Attention &a) {
         a.causal().kv_position({7, -20, 0}).q_position({30, 40, 70});
       }},
      {"mask_padding_hides_all", [](Attention &a) { a.mask(1.0, "sk"); }},
      {"v_in_k_of_one_width", [](Attention &a) { a.dim(32).dim_v(16).v_in_k(); }},
      {"everything_at_once",
       [](Attention &a) {
         a.rows({4, 0, 6}).paged(16, true, true).lengths({75, 20, 40}).causal().window(50, -1);
         a.kv_first({3, 0, 0}).kv_position({3, 0, 9}, 2).q_position({140, 9, 80});
         a.mask(0.1, "sk").sinks().softcap(5);
       }},
  };
}

inline bool has_kernel(const Attention &a) {
  const fv_cuda_facts facts = {80, 108, 166912, 167936};
  const Case laid(a.s);
  fv_problem problem;
  fv_plan plan;
  return fv_check_attention_shape(&laid.args, &problem) == FOVEA_OK &&
         fv_plan_cuda(&facts, &problem, &plan) == FOVEA_OK;
}

inline std::vector<Feature> kernel_features() {
  std::vector<Feature> found;
  for (const auto &list : {features(), further_features()}) {
    for (const Feature &feature : list) {
      const Way way = {"", FOVEA_F16, FOVEA_REPRODUCIBLE_RUN, true, 16, 16, false};
      if (has_kernel(feature_problem(feature, way))) found.push_back(feature);
    }
  }
  return found;
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_FEATURE_PROBLEM_H
