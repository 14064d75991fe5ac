// attention_builder.h - a builder of attention calls for tests.
//
//   Attention().seed(3).type(FOVEA_BF16).len_q(5).len_kv(70).causal().on(device)
//       .expect_matches_oracle();
//
// The settings describe a problem by logical coordinates: sequence, row or key, head, column. Its
// numbers are functions of those and of the seed. The layout in memory (strides, packing, pages and
// their order) is drawn from another seed and must not matter.
//
// What the header promises not to read is poison. NaN is past every length, in unused pages, in
// stride gaps and in keys that no row sees. Table slots that are not used have absurd ids. The
// inputs lie in read-only pages.
#ifndef FOVEA_TESTS_SUPPORT_ATTENTION_BUILDER_H
#define FOVEA_TESTS_SUPPORT_ATTENTION_BUILDER_H

#include <fovea.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/devices.h"
#include "tests/support/judge.h"
#include "tests/support/memory.h"
#include "tests/support/oracle.h"

namespace fovea_test {

// Logical coordinates of an element. `tag` names the contents of the sequence, i is a row or key.
struct At {
  int64_t tag, i, h, d;
};
using Fill = std::function<double(const At &)>;

// Positions [begin, end), and the span of a row: of a sequence by its tag, of a row by its number.
struct Span {
  int64_t begin, end;
};
using SpanFill = std::function<Span(int64_t tag, int64_t row)>;
using Ints = std::vector<int64_t>;

// In which dimensions a scale varies, and the number of blocks that it makes of the last one.
struct ScaleForm {
  bool present = false;
  bool batch = false, seq = false, head = false;
  int64_t blocks = 1;
  uint32_t dtype = FOVEA_F32;
  double factor = 1.0;   // values are random in factor * 2^[-octaves, octaves)
  double octaves = 1.0;  // ... evenly by exponent, with either sign if `signs`
  bool signs = false;
  bool fixed = false;  // exactly factor
  Fill fill;           // by key and block, instead
};

// Which dimensions of a mask or bias have their full extent.
struct MaskForm {
  bool present = false;
  bool sequences = true, rows = true, heads = true, keys = true;
  double hidden = 0.3;  // the share of zeros, or of -inf
  uint32_t dtype = FOVEA_U8;
};

struct Settings {
  uint64_t seed = 1;
  uint64_t layout_seed = 0;  // 0: follows seed
  uint32_t q_type = FOVEA_F32, k_type = FOVEA_F32, v_type = FOVEA_F32, out_type = FOVEA_F32;
  int64_t batch = 1, len_q = 4, len_kv = 16, heads_q = 2, heads_kv = 1, dim = 16, dim_v = 16;
  Ints rows;       // packed q: the rows of each sequence
  Ints q_lengths;  // as given (may be out of range)
  Ints keys;       // packed kv: the capacity of each sequence
  Ints lengths;    // kv_lengths, as given (may be out of range)
  int64_t page_len = 0;
  bool csr = false, v_table = false, v_in_k = false, contiguous = false;
  char head_pages = 0;  // which stride of the table is larger: 's'equences', 'h'eads'; 0: shared
  Ints head_lengths;    // [sequences][heads_kv]; pages.head_lengths in place of kv_lengths
  bool selected = false;
  char askew = 0;            // tensor of "qkvo" that is not aligned to 16 bytes; 0: none
  int askew_dimension = -1;  // because of this stride; -1: because of its base
  uint32_t causal = 0, alignment = 0;
  int64_t left = -1, right = -1;
  Ints q_position, kv_first, kv_position, prefix;
  int64_t span_rule = -1;  // fovea_span_rule; -1: no spans
  int32_t position_stride = 0;
  MaskForm mask, bias;
  int64_t tree = -1;  // columns; -1: no tree; 0: lengths NULL (the sequence's rows)
  bool alibi = false, alibi_shared = true, sinks = false, lse = true, clean = false;
  double scale = 0, softcap = 0;
  double block_scale = 0;                     // of all blocks of a q8_0 or q4_0 cache; 0: random
  int64_t distances = 0, first_distance = 0;  // entries of a head; 0: no table
  bool distances_shared = false, bias_scale = false, additive = false, additive_shared = false;
  ScaleForm q_scale, k_scale, v_scale, out_scale;
  uint32_t reproducible = 0;
  int32_t sm_count = 0;
  Ints tags;              // contents of each sequence; default 0, 1, 2, ...
  int64_t row_shift = 0;  // row i has the contents (q, mask, ..., spans) of row i + row_shift
  SpanFill span_fill;
  Fill q_fill, k_fill, v_fill, sink_fill, bias_fill, mask_fill, slope_fill, tree_fill;
  Fill distance_fill, bias_scale_fill, vector_fill;
};

// What a call wrote, in the order of Truth::rows: sequence, head, row.
struct Outcome {
  fovea_status status = FOVEA_OK;
  std::string detail;
  std::vector<uint32_t> out;  // bits
  std::vector<uint32_t> lse;
  std::vector<uint32_t> errors;
  std::vector<int64_t> first_row;  // of each sequence, in rows
  std::vector<int64_t> len_q;
  int64_t heads = 0, dim_v = 0;
  uint32_t out_type = FOVEA_F32;
  std::string damage;  // writes outside the promised elements; "" if none

  size_t row(int64_t s, int64_t i, int64_t h) const;
  double at(int64_t s, int64_t i, int64_t h, int64_t d) const;
  uint32_t bits(int64_t s, int64_t i, int64_t h, int64_t d) const;
  float lse_at(int64_t s, int64_t i, int64_t h) const;
};

// A problem laid out in memory, ready to be called any number of times.
class Case {
 public:
  explicit Case(const Settings &settings);
  Case(const Case &) = delete;

  fovea_attention_args args{};
  const Settings settings;

  // Prefills the outputs and the workspace (with `workspace_byte`), calls, collects.
  Outcome run(const Device &device, uint8_t workspace_byte = 0xff);
  Outcome run(fovea_handle *handle, uint8_t workspace_byte = 0xff);
  fovea_limits limits() const;
  int64_t sequences() const { return sequences_; }
  int64_t tag(int64_t s) const;

 private:
  friend class Filler;
  uint8_t *keep(size_t bytes, size_t unit);
  const int32_t *keep_ints(const Ints &values);
  fovea_tensor lay_out(uint32_t dtype, const int64_t shape[4], char name = 0);
  fovea_tensor lay_out_askew(uint32_t dtype, const int64_t shape[4], char name);
  fovea_tensor scale_tensor(const ScaleForm &form, const fovea_tensor &of, bool q_like);
  void lay_out_rows();
  void lay_out_cache();
  void lay_out_masks();
  void lay_out_scales();
  void make_tables();
  Ints key_rooms() const;
  int64_t table_slots() const;
  bool is_seen(int64_t s, int64_t g, int64_t j) const;

  Choices choices_;
  int64_t sequences_ = 0;
  // Per [sequence][kv head] and key: does any row see it? Any head's row where they share pages.
  std::vector<std::vector<char>> seen_;
  std::vector<Block> inputs_;
  Block out_, lse_, workspace_;
  std::vector<uint32_t> errors_;
  char detail_[400] = "";
};

class Attention {
 public:
  Settings s;

  Attention &on(const Device &device);
  Attention &seed(uint64_t n);
  Attention &layout_seed(uint64_t n);
  Attention &type(uint32_t all);
  Attention &types(uint32_t q, uint32_t k, uint32_t v, uint32_t out);
  Attention &batch(int64_t n);
  Attention &len_q(int64_t n);
  Attention &len_kv(int64_t n);
  Attention &heads(int64_t q, int64_t kv);
  Attention &dim(int64_t n);  // and dim_v
  Attention &dim_v(int64_t n);
  Attention &rows(const Ints &packed);
  Attention &keys(const Ints &packed);
  Attention &lengths(const Ints &n);
  Attention &q_lengths(const Ints &n);
  Attention &paged(int64_t page_len, bool csr = false, bool v_table = false);
  Attention &head_pages(char outer = 's');  // a table per kv head; outer: 's' or 'h'
  Attention &head_lengths(const Ints &n);   // of each sequence and kv head
  Attention &selected();
  Attention &v_in_k();
  Attention &contiguous();
  // Every base and stride is a multiple of 16 bytes, except for one in one tensor of "qkvo": the
  // stride of a dimension, or the base if dimension is -1.
  Attention &askew(char tensor, int dimension);
  Attention &causal(uint32_t alignment = FOVEA_ALIGN_BOTTOM_RIGHT);
  Attention &top_left();
  Attention &window(int64_t left, int64_t right);  // -1: unlimited
  Attention &q_position(const Ints &n);
  Attention &kv_first(const Ints &n);
  Attention &kv_position(const Ints &n, int32_t stride = 0);
  Attention &prefix(const Ints &n);
  Attention &spans(uint32_t rule = FOVEA_SPAN_BESIDES);
  Attention &spans(uint32_t rule, SpanFill f);
  Attention &mask(double hidden = 0.3, const char *full = "srhk");
  Attention &bias(uint32_t dtype = FOVEA_F32, double hidden = 0.0, const char *full = "srhk");
  Attention &tree(int64_t columns = 0);
  Attention &alibi(bool shared = true);
  Attention &distances(int64_t first, int64_t count, bool shared = false);
  Attention &bias_scale();
  Attention &additive(bool shared = false);
  Attention &sinks();
  Attention &scale(double x);
  Attention &softcap(double x);
  Attention &scales(const char *which, const char *full, int64_t blocks = 1, double factor = 1.0,
                    uint32_t dtype = FOVEA_F32);
  Attention &fixed_scales();               // exactly `factor`, everywhere
  Attention &wide_scales(double octaves);  // up to 2^octaves times factor, of either sign
  Attention &no_lse();
  Attention &reproducible(uint32_t level);
  Attention &sm_count(int32_t n);
  Attention &clean();  // no poison: zeros instead
  Attention &tags(const Ints &n);
  Attention &row_shift(int64_t n);
  Attention &pick(const Ints &sequences);  // keeps these sequences and their settings
  // "q" "k" "v" "sink" "bias" "mask" "slope" "tree" "distance" "bias_scale" "vector", or "v_scale",
  // after scales()
  Attention &fill(const char *which, Fill f);

  Outcome run() const;  // one call; fails the test unless it succeeds
  Truth truth() const;
  // Runs twice. Expects the same bits, within the criteria, errors as the header says, and no other
  // memory written.
  void expect_matches_oracle() const;
  std::string text() const { return "Attention()" + text_; }

 private:
  Attention &note(const std::string &text);
  Device device_;
  std::string text_;
};

// The same as expect_matches_oracle, for a problem whose arguments a test has changed.
void expect_matches(Case &problem, const Device &device, const std::string &text);

// Compares the bits of outcomes. Returns "", or a message that names the first difference.
std::string difference(const Outcome &a, const Outcome &b);
// Compares all rows of sequence `t` of b with those of sequence `s` of a from row `shift` on.
std::string difference(const Outcome &a, int64_t s, const Outcome &b, int64_t t, int64_t shift = 0);
// Remembers the worst ratio of each criterion; printed when the program ends.
void note_worst(const std::vector<Finding> &findings, const Device &device);
Observed observe(const Outcome &outcome, const Settings &settings, const Device &device);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_ATTENTION_BUILDER_H
