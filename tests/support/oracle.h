// oracle.h - attention in double precision, straight from the header's formula.
//
// It is written from include/fovea.h alone, and shares nothing with the library's own reference. A
// mistake in either reading of the header shows as a difference. It is slow and plain on purpose.
// Besides the values it returns the magnitudes that the error bounds need (judge.h).
#ifndef FOVEA_TESTS_SUPPORT_ORACLE_H
#define FOVEA_TESTS_SUPPORT_ORACLE_H

#include <fovea.h>

#include <cstdint>
#include <vector>

namespace fovea_test {

// One sequence as the header describes it, read from the arguments, whose pointers are the host's.
struct Sequence {
  int64_t index = 0;
  int64_t q_batch = 0, q_begin = 0, len_q = 0;
  int64_t kv_batch = 0, kv_begin = 0, room = 0, len_kv = 0;
  int64_t page_begin = 0, page_count = 0;  // in pages.ids
  int64_t first_key = 0;
  int64_t row0 = 0, key0 = 0, key_step = 1;  // positions
  uint32_t errors = 0;                       // bits of its lengths and offsets
};

// The geometry of a call: where its rows and keys lie, and which keys a row sees.
//
// Where kv heads have pages or lengths of their own, a sequence's keys are those of one kv head:
// of_head. The sequence itself then has the length of the longest head and the errors of all.
class Geometry {
 public:
  explicit Geometry(const fovea_attention_args &args);

  const fovea_attention_args &args() const { return args_; }
  const std::vector<Sequence> &sequences() const { return sequences_; }
  const Sequence &of_head(const Sequence &s, int64_t kv_head) const {
    return heads_[static_cast<size_t>(s.index * heads_kv() + kv_head)];
  }
  bool heads_differ() const {
    return args_.sequences.pages.head_stride != 0 || args_.sequences.pages.head_lengths != nullptr;
  }
  int64_t heads_q() const { return args_.q.shape[2]; }
  int64_t heads_kv() const { return args_.k.shape[2]; }
  int64_t group() const { return heads_kv() > 0 ? heads_q() / heads_kv() : 1; }

  // kv_first <= j < len_kv and the rules of causal, windows, prefix and spans.
  bool visible_by_position(const Sequence &s, int64_t i, int64_t j) const;
  // Mask, tree, bias and distance; *bad is set when one of them does not reach (i, j).
  bool visible_by_mask(const Sequence &s, int64_t i, int64_t h, int64_t j, bool *bad) const;
  // Where key j of k (or v) lies. False: its page id is outside the cache.
  bool locate(const Sequence &s, int64_t j, bool of_v, int64_t *batch, int64_t *slot) const;
  bool key_exists(const Sequence &s, int64_t j) const;
  // All of these, for the kv head of query head h.
  bool visible(const Sequence &s, int64_t i, int64_t h, int64_t j) const;
  // What is added to a logit: the bias times its scale, and the distance's entry. 0 without.
  double bias_at(const Sequence &s, int64_t i, int64_t h, int64_t j) const;
  double distance_at(const Sequence &s, int64_t i, int64_t h, int64_t j) const;
  double slope_at(const Sequence &s, int64_t h) const;  // 0 without ALiBi
  int64_t row_position(const Sequence &s, int64_t i) const { return s.row0 + i; }
  int64_t key_position(const Sequence &s, int64_t j) const { return s.key0 + j * s.key_step; }

 private:
  bool in_span(const Sequence &s, int64_t i, int64_t position) const;

  fovea_attention_args args_;
  std::vector<Sequence> sequences_;
  std::vector<Sequence> heads_;  // [sequences][heads_kv]
};

// One query row of one head, and where its result lies.
struct Row {
  int64_t sequence = 0, i = 0, h = 0;
  int64_t batch = 0, row = 0;  // coordinates 0 and 1 of out and lse
  bool empty = true;           // sees no key, or only logits of -inf
  bool exempt = false;         // NaN or infinity in its kv head, or logits beyond f32: no promise
  double lse = 0;
  double max = 0;   // of the logits
  double lhat = 0;  // sum exp(t - max), the sink included
  double size = 0;  // S: the largest sum of magnitudes that went into a logit which can matter
  double dot = 0;   // M: the largest |scale * q.k| of a key which can matter
  bool additive = false;  // the score is not a dot product
  int64_t keys = 0;       // visible
};

// Flat arrays hold [row of `rows`][dim_v].
struct Truth {
  std::vector<Row> rows;
  int64_t dim = 0, dim_v = 0;
  std::vector<double> out;
  std::vector<double> condition;          // A = sum p |v|
  std::vector<double> noise;              // R = sqrt(sum max(p, eta / (u lhat))^2 v^2)
  std::vector<double> sum_abs_v;          // over the visible keys
  std::vector<double> lowest;             // v of the keys whose weight in f32 need not be 0, and
  std::vector<double> highest;            // 0 if there is a sink; 0 in rows that see nothing
  std::vector<double> out_scale;          // what stored values are divided by; 1 without a scale
  std::vector<uint32_t> errors_required;  // bits that must be set, per sequence
  std::vector<uint32_t> errors_allowed;   // bits that may be set
};

Truth attend(const fovea_attention_args &args);

// The weights of one row, [keys]; keys past the sequence are 0. *truth receives lse and magnitudes.
std::vector<double> weigh(const Geometry &geometry, int64_t sequence, int64_t i, int64_t h,
                          int64_t keys, Row *truth);

// What there is to say of a row: logits [keys], -inf where there is no key; of all keys the rest.
struct Looked {
  std::vector<double> weights;             // [len_kv] or longer, as weigh gives them
  std::vector<double> scaled, softcapped;  // whatever masks say
  std::vector<double> logits;              // -inf where the row does not see the key
  std::vector<double> size;                // the magnitudes that were added up to a logit
  double entropy = 0, largest = 0, first = 0;
  std::vector<double> all;  // the logits of all keys, [len_kv]
};
Looked look(const Geometry &geometry, int64_t sequence, int64_t i, int64_t h, int64_t keys,
            Row *truth);

// An element of a strided tensor as a double; a dimension of extent 1 repeats.
double element(const fovea_tensor &t, int64_t a, int64_t b, int64_t c, int64_t d);
const void *address(const fovea_tensor &t, int64_t a, int64_t b, int64_t c, int64_t d);
// Element times its scale: extent 3 of the scale divides the tensor's.
double scaled_element(const fovea_tensor &t, const fovea_tensor &scale, int64_t a, int64_t b,
                      int64_t c, int64_t d);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_ORACLE_H
