// weights_call.h - calls fovea_attention_weights for tests: outputs with gaps and canaries, filled
// with a pattern before the call.
#ifndef FOVEA_TESTS_ATTENTION_WEIGHTS_CALL_H
#define FOVEA_TESTS_ATTENTION_WEIGHTS_CALL_H

#include <string>
#include <vector>

#include "tests/support/attention_builder.h"

namespace fovea_test {

// What a call is asked for. The numbers that are chosen are also the extents.
struct Wish {
  Ints sequences, rows, heads;
  int64_t keys = 0;
  uint32_t dtype = FOVEA_F32;  // of weights; FOVEA_NONE: absent
  uint32_t kind = FOVEA_WEIGHTS_PROBABILITIES;
  bool mass = false, by_kv_head = false, accumulate = false;
  bool statistics = false;
  bool by_numbers = true;  // false: lists are NULL, and stand for 0, 1, 2, ...
  bool every_row = false;  // of each sequence: rows are not counted
  bool last_rows = false;  // as many as `rows` has
  double before = 0;       // what mass holds before an accumulating call
};

struct Answer {
  fovea_status status = FOVEA_OK;
  std::string detail;
  std::vector<double> weights;     // [sequence][row][head][key]
  std::vector<double> mass;        // [sequence][head][key]
  std::vector<double> statistics;  // [sequence][row][head][4]
  std::vector<int32_t> largest;    // [sequence][row][head]
  bool intact = true;              // no byte outside the outputs' elements was written
  bool operator==(const Answer &other) const;
};

// The reference and each instruction set. `reproducible`, which the other devices have, changes
// nothing in weights.
std::vector<Device> weighing_devices();

Answer weigh(fovea_handle *handle, const fovea_attention_args &attention, const Wish &wish);
Answer weigh(const Device &device, const fovea_attention_args &attention, const Wish &wish);

// Compares every output of a call with the oracle's, row by row and key by key.
void expect_answer(const Device &device, const fovea_attention_args &attention, const Wish &wish,
                   const std::string &text);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_ATTENTION_WEIGHTS_CALL_H
