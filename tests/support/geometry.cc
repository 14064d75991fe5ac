// geometry.cc - the rows and keys of a call: the header's paragraphs "Packed" to "Mask, bias".
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/formats.h"
#include "tests/support/oracle.h"

namespace fovea_test {
namespace {

bool present(const fovea_tensor &t) {
  return t.dtype != FOVEA_NONE;
}

// The running max of offsets, clamped to [0, total], and where that changed an offset.
class Offsets {
 public:
  Offsets(const int32_t *offsets, int64_t count, int64_t total) {
    int64_t maximum = 0;
    for (int64_t n = 0; offsets != nullptr && n <= count; ++n) {
      maximum = std::max<int64_t>(maximum, offsets[n]);
      values_.push_back(std::min(maximum, total));
      wrong_.push_back(values_.back() != offsets[n]);
    }
  }
  int64_t begin(int64_t s) const { return values_[static_cast<size_t>(s)]; }
  int64_t end(int64_t s) const { return values_[static_cast<size_t>(s) + 1]; }
  uint32_t bits(int64_t s) const {
    const size_t at = static_cast<size_t>(s);
    return wrong_[at] || wrong_[at + 1] ? uint32_t{FOVEA_BAD_OFFSET} : 0u;
  }

 private:
  std::vector<int64_t> values_;
  std::vector<bool> wrong_;
};

// All offsets of a call.
struct Bounds {
  Offsets q, kv, pages;
};

void find_rows(const fovea_attention_args &args, const Bounds &bounds, Sequence *s) {
  if (args.sequences.q_offsets == nullptr) {
    s->q_batch = s->index;
    s->len_q = args.q.shape[1];
  } else {
    s->q_begin = bounds.q.begin(s->index);
    s->len_q = bounds.q.end(s->index) - s->q_begin;
    s->errors |= bounds.q.bits(s->index);
  }
  if (args.sequences.q_lengths == nullptr) return;
  const int64_t wanted = args.sequences.q_lengths[s->index];
  s->len_q = std::clamp<int64_t>(wanted, 0, s->len_q);
  if (s->len_q != wanted) s->errors |= FOVEA_BAD_LENGTH;
}

void find_room(const fovea_attention_args &args, const Bounds &bounds, Sequence *s) {
  if (args.sequences.pages.ids != nullptr) {
    if (args.sequences.pages.offsets == nullptr) {
      s->page_begin = s->index * args.sequences.pages.row_stride;
      s->page_count = args.sequences.pages.count;
    } else {
      s->page_begin = bounds.pages.begin(s->index);
      s->page_count = bounds.pages.end(s->index) - s->page_begin;
      s->errors |= bounds.pages.bits(s->index);
    }
    s->room = s->page_count * args.k.shape[1];
  } else if (args.sequences.kv_offsets != nullptr) {
    s->kv_begin = bounds.kv.begin(s->index);
    s->room = bounds.kv.end(s->index) - s->kv_begin;
    s->errors |= bounds.kv.bits(s->index);
  } else {
    s->kv_batch = s->index;
    s->room = args.k.shape[1];
  }
}

void find_keys(const fovea_attention_args &args, int64_t kv_head, Sequence *s) {
  const int32_t *of_heads = args.sequences.pages.head_lengths;
  s->len_kv = s->room;
  if (args.sequences.kv_lengths != nullptr || of_heads != nullptr) {
    const int64_t wanted = of_heads != nullptr ? of_heads[s->index * args.k.shape[2] + kv_head]
                                               : args.sequences.kv_lengths[s->index];
    s->len_kv = std::clamp<int64_t>(wanted, 0, s->room);
    if (s->len_kv != wanted) s->errors |= FOVEA_BAD_LENGTH;
  }
  if (args.sequences.kv_first != nullptr) {
    const int64_t wanted = args.sequences.kv_first[s->index];
    s->first_key = std::clamp<int64_t>(wanted, 0, s->len_kv);
    if (s->first_key != wanted) s->errors |= FOVEA_BAD_LENGTH;
  }
}

void find_positions(const fovea_attention_args &args, Sequence *s) {
  s->key_step = args.positions.kv_stride == 0 ? 1 : args.positions.kv_stride;
  s->key0 = args.positions.kv == nullptr ? 0 : args.positions.kv[s->index];
  if (args.positions.q != nullptr) {
    s->row0 = args.positions.q[s->index];
  } else if (args.positions.alignment == FOVEA_ALIGN_TOP_LEFT) {
    s->row0 = 0;
  } else {
    s->row0 = s->key0 + (s->len_kv - 1) * s->key_step + 1 - s->len_q;
  }
}

// Whether a mask or bias reaches (i, j): an extent of 1 reaches everything.
bool reaches(const fovea_tensor &t, int64_t i, int64_t j) {
  return (t.shape[1] == 1 || i < t.shape[1]) && (t.shape[3] == 1 || j < t.shape[3]);
}

// The tree's answer for one (row, key).
bool tree_shows(const fovea_tree &tree, const Sequence &s, int64_t i, int64_t j, bool *bad) {
  const int64_t len = tree.lengths == nullptr ? s.len_q : tree.lengths[s.index];
  const int64_t start = tree.starts == nullptr ? 0 : tree.starts[s.index];
  const int64_t column = j - (s.len_kv - len);
  if (len <= 0 || column < 0) return true;
  // A row that begins before the first word is outside as a whole. At the end words count singly.
  const int64_t begin = start + i * ((len + 31) / 32);
  const int64_t word = begin + column / 32;
  if (begin < 0 || word >= tree.words) {
    *bad = true;
    return false;
  }
  return ((tree.bits[word] >> (column % 32)) & 1u) != 0;
}

}  // namespace

const void *address(const fovea_tensor &t, int64_t a, int64_t b, int64_t c, int64_t d) {
  const int64_t at[4] = {a, b, c, d};
  int64_t offset = 0;
  for (int n = 0; n < 4; ++n) {
    if (t.shape[n] != 1) offset += at[n] * t.stride[n];
  }
  return static_cast<const char *>(t.data) + bytes_of(t.dtype, offset);
}

double element(const fovea_tensor &t, int64_t a, int64_t b, int64_t c, int64_t d) {
  const void *at = address(t, a, b, c, d);
  return block_of(t.dtype) > 1 ? load_in_block(t.dtype, at, d % 32) : load(t.dtype, at);
}

double scaled_element(const fovea_tensor &t, const fovea_tensor &scale, int64_t a, int64_t b,
                      int64_t c, int64_t d) {
  const double value = element(t, a, b, c, d);
  if (!present(scale)) return value;
  return value * element(scale, a, b, c, d / (t.shape[3] / scale.shape[3]));
}

Geometry::Geometry(const fovea_attention_args &args) : args_(args) {
  const int64_t count =
      args.sequences.q_offsets != nullptr ? args.sequences.count : args.q.shape[0];
  const Bounds bounds = {Offsets(args.sequences.q_offsets, count, args.q.shape[1]),
                         Offsets(args.sequences.kv_offsets, count, args.k.shape[1]),
                         Offsets(args.sequences.pages.offsets, count, args.sequences.pages.count)};
  for (int64_t n = 0; n < count; ++n) {
    Sequence s;
    s.index = n;
    find_rows(args, bounds, &s);
    find_room(args, bounds, &s);
    Sequence whole = s;
    for (int64_t g = 0; g < heads_kv(); ++g) {
      Sequence own = s;
      own.page_begin += g * args.sequences.pages.head_stride;
      find_keys(args, g, &own);
      find_positions(args, &own);
      heads_.push_back(own);
      const uint32_t errors = whole.errors | own.errors;
      if (g == 0 || own.len_kv > whole.len_kv) whole = own;
      whole.errors = errors;
    }
    sequences_.push_back(whole);
  }
}

bool Geometry::visible_by_position(const Sequence &s, int64_t i, int64_t j) const {
  if (j < s.first_key || j >= s.len_kv) return false;
  if (args_.positions.selected != 0) return true;
  const int64_t row = row_position(s, i);
  const int64_t key = key_position(s, j);
  if (args_.visibility.prefix_lengths != nullptr && key < args_.visibility.prefix_lengths[s.index])
    return true;
  const fovea_window &left = args_.visibility.window_left;
  const fovea_window &right = args_.visibility.window_right;
  const bool causal = args_.visibility.causal == 0 || key <= row;
  const bool window = (left.kind != FOVEA_WINDOW_LIMITED || key >= row - left.count) &&
                      (right.kind != FOVEA_WINDOW_LIMITED || key <= row + right.count);
  const bool span = in_span(s, i, key);
  if (args_.visibility.span_rule == FOVEA_SPAN_WITHIN) return (causal || span) && window;
  return (causal && window) || span;
}

bool Geometry::in_span(const Sequence &s, int64_t i, int64_t position) const {
  if (args_.visibility.spans == nullptr) return false;
  const bool packed = args_.sequences.q_offsets != nullptr;
  const int64_t row = packed ? s.q_begin + i : s.index * args_.q.shape[1] + i;
  return args_.visibility.spans[2 * row] <= position &&
         position < args_.visibility.spans[2 * row + 1];
}

bool Geometry::visible_by_mask(const Sequence &s, int64_t i, int64_t h, int64_t j,
                               bool *bad) const {
  bool seen = true;
  if (present(args_.visibility.mask)) {
    const bool inside = reaches(args_.visibility.mask, i, j);
    *bad = *bad || !inside;
    seen = inside && element(args_.visibility.mask, s.index, i, h, j) != 0.0;
  }
  if (args_.visibility.tree.bits != nullptr)
    seen = tree_shows(args_.visibility.tree, s, i, j, bad) && seen;
  if (present(args_.logits.bias)) {
    const bool inside = reaches(args_.logits.bias, i, j);
    *bad = *bad || !inside;
    const double minus_infinity = -std::numeric_limits<double>::infinity();
    seen = seen && inside && element(args_.logits.bias, s.index, i, h, j) != minus_infinity;
  }
  return seen && distance_at(s, i, h, j) != -std::numeric_limits<double>::infinity();
}

bool Geometry::locate(const Sequence &s, int64_t j, bool of_v, int64_t *batch,
                      int64_t *slot) const {
  if (args_.sequences.pages.ids == nullptr) {
    *batch = s.kv_batch;
    *slot = s.kv_begin + j;
    return true;
  }
  const fovea_tensor &cache = of_v ? args_.v : args_.k;
  const int32_t *ids = of_v && args_.sequences.pages.v_ids != nullptr ? args_.sequences.pages.v_ids
                                                                      : args_.sequences.pages.ids;
  const int64_t page_len = args_.k.shape[1];
  *batch = ids[s.page_begin + j / page_len];
  *slot = j % page_len;
  return *batch >= 0 && *batch < cache.shape[0];
}

bool Geometry::key_exists(const Sequence &s, int64_t j) const {
  int64_t batch;
  int64_t slot;
  if (!locate(s, j, false, &batch, &slot)) return false;
  return !present(args_.v) || locate(s, j, true, &batch, &slot);
}

bool Geometry::visible(const Sequence &sequence, int64_t i, int64_t h, int64_t j) const {
  const Sequence &s = of_head(sequence, h / group());
  bool bad = false;
  return visible_by_position(s, i, j) && key_exists(s, j) && visible_by_mask(s, i, h, j, &bad);
}

double Geometry::bias_at(const Sequence &s, int64_t i, int64_t h, int64_t j) const {
  if (!present(args_.logits.bias)) return 0.0;
  const float *scale = args_.logits.bias_scale;
  const double bias = element(args_.logits.bias, s.index, i, h, j);
  return scale == nullptr ? bias : static_cast<double>(scale[h]) * bias;
}

double Geometry::distance_at(const Sequence &s, int64_t i, int64_t h, int64_t j) const {
  const fovea_distances &distances = args_.logits.distances;
  if (distances.table == nullptr) return 0.0;
  const int64_t distance = key_position(s, j) - row_position(s, i);
  const int64_t entry = std::clamp<int64_t>(distance - distances.first, 0, distances.count - 1);
  return static_cast<double>(distances.table[h * distances.head_stride + entry]);
}

double Geometry::slope_at(const Sequence &s, int64_t h) const {
  if (args_.logits.alibi_slopes == nullptr) return 0.0;
  return static_cast<double>(args_.logits.alibi_slopes[s.index * args_.logits.alibi_stride + h]);
}

}  // namespace fovea_test
