// multihead_case.h - random calls of fovea_multihead, and what the header says of their results.
#ifndef FOVEA_TESTS_LAYERS_MULTIHEAD_CASE_H
#define FOVEA_TESTS_LAYERS_MULTIHEAD_CASE_H

#include <memory>
#include <string>
#include <vector>

#include "tests/layers/layer_oracle.h"

namespace fovea_test {

struct Projection {
  Tokens weight, bias;
  uint32_t activation = FOVEA_ACTIVATION_NONE;
  fovea_linear view() const;
};

struct SourceCase {
  Tokens x_k, x_v, k, v, bias;
  bool own_tokens = false;  // x_k is the layer's x
  Projection k_proj, v_proj;
  std::vector<float> k_gain, v_gain, slopes, distances, bias_scale;
  std::vector<int32_t> lengths, offsets, first;  // of keys; empty: NULL
  bool rope = false, causal = false;
  int32_t window_left = -1;                  // -1: unlimited
  std::vector<Values> old_keys, old_values;  // of memory and of a cache before the call, [slot]

  bool memory() const { return x_k.absent() && !own_tokens; }
  bool cache() const { return !memory() && !k.absent(); }
};

class MultiheadCase {
 public:
  explicit MultiheadCase(uint64_t seed);

  fovea_multihead_args args();  // without a workspace; valid while the case is
  void run();                   // with one of exactly the bytes asked for, twice
  void expect_right();          // compares out, lse and weights with the header
  std::string words() const;    // what was drawn

  int64_t heads_q = 1, heads_kv = 1, dim = 8, dim_v = 8, sequences = 1;
  Tokens x, residual, out, lse, weights;
  Projection q_proj, out_proj;
  std::vector<float> q_gain, cos, sin, sinks, vector;
  std::vector<int32_t> q_offsets, q_lengths, positions;
  fovea_rope rope = {};
  float scale = 0, softcap = 0;
  std::vector<SourceCase> sources;

 private:
  void draw_tokens(Choices *choices);
  void draw_scores(Choices *choices);
  void draw_source(Choices *choices);
  void draw_masks(Choices *choices, SourceCase *source, int64_t keys);
  void draw_outputs(Choices *choices);
  fovea_source view_of(const SourceCase &source) const;
  const Tokens &keys_from(const SourceCase &source) const;
  int64_t first_row(int64_t s) const;
  int64_t rows_of(int64_t s) const;
  int64_t position_of(int64_t s, int64_t i, const SourceCase *own) const;
  Values projected_key(const SourceCase &source, int64_t token, int64_t s, int64_t i) const;
  Values projected_value(const SourceCase &source, int64_t token) const;
  std::vector<Key> keys_of(const SourceCase &source, int64_t s, int64_t number) const;
  std::vector<Seen> seen_of(const SourceCase &source, const std::vector<Key> &keys, int64_t s,
                            int64_t i, int64_t h) const;
  int64_t capacity_of(const SourceCase &source) const;
  Values attend(int64_t s, int64_t i, const std::vector<std::vector<Key>> &keys) const;
  void compare_weights(int64_t s, int64_t i, int64_t h, const std::vector<Seen> &seen,
                       const Attended &row, Values *mean) const;
  void compare_token(int64_t token, const Values &joined) const;

  std::string words_;
  std::vector<fovea_source> views_;
};

}  // namespace fovea_test

#endif  // FOVEA_TESTS_LAYERS_MULTIHEAD_CASE_H
