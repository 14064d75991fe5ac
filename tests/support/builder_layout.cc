// builder_layout.cc - from settings to memory: tensors, tables, poison.
//
// The order matters. Tensors and tables come first. Then the oracle's geometry says which keys any
// row sees. Only those keys, and the table slots that lead to them, receive real contents.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/attention_builder.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

enum Stream : uint64_t {
  kQ = 1,
  kK,
  kV,
  kSink,
  kBias,
  kMask,
  kSlope,
  kTree,
  kScale,
  kSpan,
  kDistance,
  kBiasScale,
  kVector,
  kBlock
};

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
int64_t largest_of(const Ints &n, int64_t otherwise) {
  return n.empty() ? otherwise : *std::max_element(n.begin(), n.end());
}
int64_t sum_of(const Ints &n) {
  int64_t sum = 0;
  for (int64_t x : n) sum += x;
  return sum;
}

void put(const fovea_tensor &t, int64_t a, int64_t b, int64_t c, int64_t d, double value) {
  void *at = const_cast<void *>(address(t, a, b, c, d));
  store_bits(t.dtype, at, encode(t.dtype, value));
}

// Normally distributed numbers. Integers have a larger amplitude, or they would take few values.
Fill default_fill(uint64_t seed, Stream stream, uint32_t dtype, bool scaled) {
  const double amplitude = dtype == FOVEA_I8 ? (scaled ? 30.0 : 2.0) : 1.0;
  return [=](const At &at) {
    const uint64_t bits =
        mix(seed, stream, static_cast<uint64_t>(at.tag), static_cast<uint64_t>(at.i),
            static_cast<uint64_t>(at.h), static_cast<uint64_t>(at.d));
    return amplitude * normal(bits);
  };
}

Fill given_or(const Fill &given, Fill otherwise) {
  return given ? given : std::move(otherwise);
}

}  // namespace

int64_t Case::tag(int64_t s) const {
  return settings.tags.empty() ? s : settings.tags[static_cast<size_t>(s)];
}

bool Case::is_seen(int64_t s, int64_t g, int64_t j) const {
  return seen_[static_cast<size_t>(s * settings.heads_kv + g)][static_cast<size_t>(j)] != 0;
}

uint8_t *Case::keep(size_t bytes, size_t unit) {
  inputs_.emplace_back(bytes, unit);
  return inputs_.back().data();
}

const int32_t *Case::keep_ints(const Ints &values) {
  if (values.empty()) return nullptr;
  int32_t *array = reinterpret_cast<int32_t *>(keep(values.size() * 4, 4));
  for (size_t n = 0; n < values.size(); ++n) array[n] = static_cast<int32_t>(values[n]);
  return array;
}

// A random order of dimensions with random gaps; sometimes contiguous, sometimes heads first.
static void draw_strides(fovea_tensor *t, bool contiguous, Choices *choices) {
  int order[3] = {2, 1, 0};  // innermost first
  const int64_t style = contiguous ? 0 : choices->below(4);
  if (style == 1) std::swap(order[0], order[1]);
  if (style == 3) std::swap(order[choices->below(3)], order[choices->below(3)]);
  const bool gaps = style >= 2;
  t->stride[3] = 1;
  const int64_t block = block_of(t->dtype);
  int64_t span = t->shape[3] + (gaps ? block * choices->below(4) : 0);
  for (int n : order) {
    t->stride[n] = span;
    span = span * std::max<int64_t>(t->shape[n], 1) + (gaps ? block * choices->below(6) : 0);
  }
  for (int n = 0; n < 3 && !contiguous; ++n) {
    if (t->shape[n] == 1 && choices->one_in(2)) t->stride[n] = int64_t{1} << 40;  // never used
  }
}

static int64_t span_of(const fovea_tensor &t) {
  int64_t last = 0;
  for (int n = 0; n < 4; ++n) {
    if (t.shape[n] == 0) return 0;
    if (t.shape[n] > 1) last += (t.shape[n] - 1) * t.stride[n];
  }
  return last + 1;
}

// See Attention::askew. Gaps make the strides outside the odd one multiples of 16 bytes again.
fovea_tensor Case::lay_out_askew(uint32_t dtype, const int64_t shape[4], char name) {
  const int64_t unit = 16 / static_cast<int64_t>(size_of(dtype));
  const bool is_meant = name == settings.askew;
  fovea_tensor t{};
  t.dtype = dtype;
  std::copy(shape, shape + 4, t.shape);
  t.stride[3] = 1;
  int64_t span = shape[3];
  for (int n : {2, 1, 0}) {
    t.stride[n] = ceil_div(span, unit) * unit + (is_meant && n == settings.askew_dimension);
    span = t.stride[n] * std::max<int64_t>(shape[n], 1);
  }
  const size_t off = is_meant && settings.askew_dimension < 0 ? 1 : 0;
  const size_t count = static_cast<size_t>(span_of(t)) + off, width = size_of(dtype);
  inputs_.emplace_back(count * width, width, 16);
  uint8_t *data = inputs_.back().data();
  for (size_t n = 0; n < count; ++n) store_bits(dtype, data + n * width, poison_bits(dtype));
  t.data = data + off * width;
  return t;
}

fovea_tensor Case::lay_out(uint32_t dtype, const int64_t shape[4], char name) {
  if (name && settings.askew) return lay_out_askew(dtype, shape, name);
  fovea_tensor t{};
  t.dtype = dtype;
  std::copy(shape, shape + 4, t.shape);
  draw_strides(&t, settings.contiguous, &choices_);
  const size_t bytes = bytes_of(dtype, span_of(t));
  uint8_t *data = keep(bytes, block_of(dtype) > 1 ? 2 : size_of(dtype));
  std::memset(data, 0, bytes);
  if (!settings.clean) poison(dtype, data, span_of(t));
  t.data = data;
  return t;
}

void Case::lay_out_rows() {
  const Settings &s = settings;
  int64_t shape[4] = {s.batch, s.len_q, s.heads_q, s.dim};
  Ints offsets;
  // causal with selected keys is for calls of one row per sequence, and no other rows.
  const bool tight = s.contiguous || (s.selected && s.causal != 0);
  if (!s.rows.empty()) {
    const int64_t gap = tight ? 0 : choices_.below(3);
    offsets.push_back(gap);
    for (int64_t n : s.rows) offsets.push_back(offsets.back() + n);
    shape[0] = 1;
    shape[1] = offsets.back() + (tight ? 0 : choices_.below(3));
  }
  args.sequences.q_offsets = keep_ints(offsets);
  args.sequences.q_lengths = keep_ints(s.q_lengths);
  args.q = lay_out(s.q_type, shape, 'q');
  const Fill fill = given_or(s.q_fill, default_fill(s.seed, kQ, s.q_type, s.q_scale.present));
  for (int64_t n = 0; n < sequences_; ++n) {
    const bool packed = !offsets.empty();
    const int64_t begin = packed ? offsets[static_cast<size_t>(n)] : 0;
    int64_t len = packed ? s.rows[static_cast<size_t>(n)] : s.len_q;
    if (!s.q_lengths.empty())
      len = std::clamp<int64_t>(s.q_lengths[static_cast<size_t>(n)], 0, len);
    for (int64_t i = 0; i < len; ++i) {
      for (int64_t h = 0; h < s.heads_q; ++h) {
        for (int64_t d = 0; d < s.dim; ++d) {
          put(args.q, packed ? 0 : n, begin + i, h, d, fill({tag(n), i + s.row_shift, h, d}));
        }
      }
    }
  }
}

// The capacity of each sequence: in pages if the cache is paged, else in keys.
Ints Case::key_rooms() const {
  Ints rooms;
  for (int64_t n = 0; n < sequences_; ++n) {
    const size_t at = static_cast<size_t>(n);
    int64_t room = settings.keys.empty() ? settings.len_kv : settings.keys[at];
    if (settings.csr && !settings.lengths.empty()) {
      const int64_t wanted = settings.lengths[at];
      if (wanted >= 0 && wanted <= room) room = wanted;
    }
    rooms.push_back(settings.page_len > 0 ? ceil_div(room, settings.page_len) : room);
  }
  return rooms;
}

// The ids of a page table: those that a call may touch.
int64_t Case::table_slots() const {
  const fovea_pages &pages = args.sequences.pages;
  if (settings.csr) return pages.count;
  if (sequences_ == 0 || settings.heads_kv == 0) return 0;
  return (sequences_ - 1) * pages.row_stride + (settings.heads_kv - 1) * pages.head_stride +
         pages.count;
}

// Every slot leads to a page of its own, in random order. spoil_unused_ids() spoils unused slots
// later.
void Case::make_tables() {
  const Settings &s = settings;
  const Ints rooms = key_rooms();
  Ints offsets = {0};
  // A table has at least one id.
  const int64_t width =
      std::max<int64_t>(largest_of(rooms, 0) + (s.contiguous ? 0 : choices_.below(3)), 1);
  const int64_t inner = width + (s.contiguous ? 0 : choices_.below(3));
  for (int64_t pages : rooms) offsets.push_back(offsets.back() + pages);
  fovea_pages &pages = args.sequences.pages;
  pages.count = s.csr ? std::max<int64_t>(offsets.back(), 1) : width;
  if (!s.csr) pages.row_stride = s.head_pages == 's' ? inner * s.heads_kv : inner;
  if (s.head_pages) pages.head_stride = s.head_pages == 's' ? inner : inner * sequences_;
  if (s.csr) pages.offsets = keep_ints(offsets);
  const int64_t slots = table_slots();
  const int64_t pool = args.k.shape[0];
  for (int table = 0; table < (s.v_table ? 2 : 1); ++table) {
    Ints ids(static_cast<size_t>(pool));
    for (int64_t n = 0; n < pool; ++n) ids[static_cast<size_t>(n)] = n;
    for (int64_t n = pool - 1; n > 0; --n) {
      std::swap(ids[static_cast<size_t>(n)], ids[static_cast<size_t>(choices_.below(n + 1))]);
    }
    ids.resize(static_cast<size_t>(std::max<int64_t>(slots, 1)), 0);
    (table == 0 ? pages.ids : pages.v_ids) = keep_ints(ids);
  }
}

void Case::lay_out_cache() {
  const Settings &s = settings;
  int64_t shape[4] = {s.batch, s.len_kv, s.heads_kv, s.dim};
  if (!s.rows.empty()) shape[0] = sequences_;
  if (s.page_len > 0) {
    const Ints rooms = key_rooms();
    const int64_t tables = sequences_ * (s.head_pages ? s.heads_kv : 1);
    const int64_t most = (largest_of(rooms, 0) + 4) * std::max<int64_t>(tables, 1);
    shape[0] = std::max(most, sum_of(rooms)) + 3;
    shape[1] = s.page_len;
  } else if (!s.keys.empty()) {
    Ints offsets = {s.contiguous ? 0 : choices_.below(3)};
    for (int64_t n : s.keys) offsets.push_back(offsets.back() + n);
    args.sequences.kv_offsets = keep_ints(offsets);
    shape[0] = 1;
    shape[1] = offsets.back() + (s.contiguous ? 0 : choices_.below(3));
  }
  args.k = lay_out(s.k_type, shape, 'k');
  shape[3] = s.dim_v;
  if (s.v_in_k) {
    args.v = args.k;
    args.v.shape[3] = s.dim_v;
  } else {
    args.v = lay_out(s.v_type, shape, 'v');
  }
  if (s.page_len > 0) make_tables();
  if (!s.head_lengths.empty()) {
    args.sequences.pages.head_lengths = keep_ints(s.head_lengths);
    return;
  }
  Ints lengths = s.lengths;
  if (s.page_len > 0 && lengths.empty()) lengths.assign(static_cast<size_t>(sequences_), s.len_kv);
  if (s.page_len > 0 && lengths.empty()) lengths = {0};  // paged calls need the pointer
  args.sequences.kv_lengths = keep_ints(lengths);
}

void Case::lay_out_masks() {
  const Settings &s = settings;
  const Geometry geometry(args);
  int64_t rows = 0;
  int64_t keys = 0;
  for (const Sequence &n : geometry.sequences()) {
    rows = std::max(rows, n.len_q);
    keys = std::max(keys, n.room);
  }
  for (const bool of_bias : {false, true}) {
    const MaskForm &form = of_bias ? s.bias : s.mask;
    if (!form.present) continue;
    const int64_t shape[4] = {form.sequences ? sequences_ : 1, form.rows ? rows : 1,
                              form.heads ? s.heads_q : 1, form.keys ? keys : 1};
    fovea_tensor t = lay_out(form.dtype, shape);
    if (shape[3] == 1) t.stride[3] = choices_.below(2);
    const Stream stream = of_bias ? kBias : kMask;
    const Fill fill = given_or(of_bias ? s.bias_fill : s.mask_fill, [=, &s](const At &at) {
      const uint64_t bits =
          mix(s.seed, stream, static_cast<uint64_t>(at.tag), static_cast<uint64_t>(at.i),
              static_cast<uint64_t>(at.h), static_cast<uint64_t>(at.d));
      const bool hidden = uniform(bits) < form.hidden;
      if (!of_bias) return hidden ? 0.0 : 1.0 + static_cast<double>(bits & 0x7fu);
      return hidden ? -std::numeric_limits<double>::infinity() : 2.0 * normal(mix(bits));
    });
    for (const Sequence &n : geometry.sequences()) {
      for (int64_t i = 0; i < (form.rows ? n.len_q : 1); ++i) {
        for (int64_t h = 0; h < shape[2]; ++h) {
          for (int64_t j = 0; j < (form.keys ? n.len_kv : 1); ++j) {
            put(t, n.index, i, h, j,
                fill({form.sequences ? tag(n.index) : -1, form.rows ? i + s.row_shift : 0, h, j}));
          }
        }
      }
    }
    (of_bias ? args.logits.bias : args.visibility.mask) = t;
  }
}

// The values of a scale follow the logical coordinates in which its form varies.
fovea_tensor Case::scale_tensor(const ScaleForm &form, const fovea_tensor &of, bool q_like) {
  fovea_tensor t{};
  if (!form.present) return t;
  const int64_t step = settings.contiguous ? 1 : 1 + choices_.below(3);  // any stride[3] is allowed
  const int64_t shape[4] = {form.batch ? of.shape[0] : 1, form.seq ? of.shape[1] : 1,
                            form.head ? of.shape[2] : 1, form.blocks * step};
  t = lay_out(form.dtype, shape);
  t.shape[3] = form.blocks;
  t.stride[3] = step;
  const Geometry geometry(args);
  const bool packed = q_like ? !settings.rows.empty() : !settings.keys.empty();
  const bool paged = !q_like && settings.page_len > 0;
  const int64_t shift = q_like ? settings.row_shift : 0;
  const uint64_t salt = mix(settings.seed, kScale, of.shape[3], q_like ? 1 : 0);
  for (const Sequence &n : geometry.sequences()) {
    const int64_t count = q_like ? n.len_q : n.len_kv;
    const int64_t heads = q_like ? shape[2] : settings.heads_kv;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t head = 0; head < heads; ++head) {
        if (!q_like && !is_seen(n.index, head, i)) continue;
        int64_t batch = n.q_batch;
        int64_t slot = n.q_begin + i;
        if (!q_like &&
            !geometry.locate(geometry.of_head(n, head), i, &of == &args.v, &batch, &slot))
          continue;
        const bool by_tag = packed ? form.seq : form.batch;
        const int64_t where = paged && !form.seq ? i / settings.page_len + (1 << 20)
                                                 : (paged && !form.batch ? slot : i + shift);
        const int64_t place = form.seq || (paged && form.batch) ? where : -1;
        const int64_t h = form.head ? head : 0;
        for (int64_t block = 0; block < form.blocks; ++block) {
          const uint64_t bits = mix(salt, static_cast<uint64_t>(by_tag ? tag(n.index) : -1),
                                    static_cast<uint64_t>(place), static_cast<uint64_t>(h),
                                    static_cast<uint64_t>(block));
          const double sign = form.signs && bits % 2 == 0 ? -1.0 : 1.0;
          const double spread = sign * std::exp2(form.octaves * (2.0 * uniform(bits) - 1.0));
          const double value = form.factor * (form.fixed ? 1.0 : spread);
          put(t, batch, slot, h, block,
              form.fill ? form.fill({tag(n.index), i + shift, h, block}) : value);
        }
      }
    }
  }
  return t;
}

void Case::lay_out_scales() {
  args.q_scale = scale_tensor(settings.q_scale, args.q, true);
  args.k_scale = scale_tensor(settings.k_scale, args.k, false);
  args.v_scale = scale_tensor(settings.v_scale, args.v, false);
  args.out_scale = scale_tensor(settings.out_scale, args.out, true);
}

// The rest of the construction: positions, logits, contents, poison.
class Filler {
 public:
  explicit Filler(Case *c) : case_(*c), s_(c->settings), args_(c->args) {}

  void positions() {
    args_.visibility.causal = s_.causal;
    args_.positions.alignment = s_.alignment;
    if (s_.left >= 0)
      args_.visibility.window_left = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(s_.left)};
    if (s_.right >= 0)
      args_.visibility.window_right = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(s_.right)};
    args_.positions.q = case_.keep_ints(s_.q_position);
    args_.sequences.kv_first = case_.keep_ints(s_.kv_first);
    args_.positions.kv = case_.keep_ints(s_.kv_position);
    args_.positions.kv_stride = s_.position_stride;
    args_.positions.selected = s_.selected ? 1 : 0;
    args_.visibility.prefix_lengths = case_.keep_ints(s_.prefix);
  }

  // Rows that no sequence owns have spans that would show everything.
  void spans() {
    if (s_.span_rule < 0) return;
    const Geometry geometry(args_);
    const bool packed = args_.sequences.q_offsets != nullptr;
    const int64_t rows = args_.q.shape[1] * (packed ? 1 : case_.sequences_);
    Ints ends;
    for (int64_t i = 0; i < rows; ++i) {
      ends.push_back(INT32_MIN);
      ends.push_back(INT32_MAX);
    }
    for (const Sequence &n : geometry.sequences()) {
      const int64_t first = packed ? n.q_begin : n.index * args_.q.shape[1];
      for (int64_t i = 0; i < n.len_q; ++i) {
        const Span span = span_of(case_.tag(n.index), i + s_.row_shift);
        ends[static_cast<size_t>(2 * (first + i))] = span.begin;
        ends[static_cast<size_t>(2 * (first + i) + 1)] = span.end;
      }
    }
    args_.visibility.span_rule = static_cast<uint32_t>(s_.span_rule);
    args_.visibility.spans = case_.keep_ints(ends);
    if (ends.empty()) args_.visibility.spans = reinterpret_cast<const int32_t *>(case_.keep(4, 4));
  }

  // Nine rows share a span, as the tokens of an image do. A third of them has none, and some end
  // before they begin, or lie beyond all keys.
  Span span_of(int64_t tag, int64_t row) const {
    if (s_.span_fill) return s_.span_fill(tag, row);
    const uint64_t bits =
        mix(s_.seed, kSpan, static_cast<uint64_t>(tag), static_cast<uint64_t>(row / 9));
    const int64_t reach = s_.len_kv + 20;
    const int64_t begin = static_cast<int64_t>((bits >> 8) % static_cast<uint64_t>(reach)) - 10;
    const int64_t len = static_cast<int64_t>((bits >> 32) % static_cast<uint64_t>(reach / 2)) - 3;
    if (bits % 3 == 0) return {begin, begin};
    return {begin, begin + len};
  }

  void tree() {
    if (s_.tree < 0) return;
    const Geometry geometry(args_);
    Ints lengths, starts;
    int64_t words = 0;
    for (const Sequence &n : geometry.sequences()) {
      lengths.push_back(s_.tree > 0 ? s_.tree : n.len_q);
      starts.push_back(words);
      words += n.len_q * ceil_div(lengths.back(), 32) + case_.choices_.below(2);
    }
    uint32_t *bits = reinterpret_cast<uint32_t *>(case_.keep(static_cast<size_t>(words) * 4, 4));
    for (int64_t n = 0; n < words; ++n) bits[n] = 0xffffffffu;
    const Fill fill = given_or(s_.tree_fill, [this](const At &at) {
      return at.d <= at.i && (at.d == at.i ||
                              (mix(s_.seed, kTree, static_cast<uint64_t>(at.tag),
                                   static_cast<uint64_t>(at.i), static_cast<uint64_t>(at.d)) &
                               1u) != 0)
                 ? 1.0
                 : 0.0;
    });
    for (const Sequence &n : geometry.sequences()) {
      const int64_t len = lengths[static_cast<size_t>(n.index)];
      for (int64_t i = 0; i < n.len_q; ++i) {
        for (int64_t c = 0; c < len; ++c) {
          const int64_t word =
              starts[static_cast<size_t>(n.index)] + i * ceil_div(len, 32) + c / 32;
          if (fill({case_.tag(n.index), i + s_.row_shift, 0, c}) == 0.0)
            bits[word] &= ~(1u << (c % 32));
        }
      }
    }
    args_.visibility.tree.bits = bits;
    args_.visibility.tree.words = words;
    if (s_.tree > 0) args_.visibility.tree.lengths = case_.keep_ints(lengths);
    if (case_.sequences_ > 1) args_.visibility.tree.starts = case_.keep_ints(starts);
  }

  void logits() {
    args_.logits.scale = static_cast<float>(s_.scale);
    args_.logits.softcap = static_cast<float>(s_.softcap);
    if (s_.sinks) {
      float *sinks = floats(s_.heads_q);
      const Fill fill = given_or(s_.sink_fill, default_fill(s_.seed, kSink, FOVEA_F32, false));
      for (int64_t h = 0; h < s_.heads_q; ++h) sinks[h] = static_cast<float>(fill({0, 0, h, 0}));
      args_.logits.sinks = sinks;
    }
    if (s_.bias_scale) {
      float *factors = floats(s_.heads_q);
      const Fill fill =
          given_or(s_.bias_scale_fill, default_fill(s_.seed, kBiasScale, FOVEA_F32, false));
      for (int64_t h = 0; h < s_.heads_q; ++h) factors[h] = static_cast<float>(fill({0, 0, h, 0}));
      args_.logits.bias_scale = factors;
    }
    distances();
    vectors();
    if (s_.alibi) slopes();
  }

  // Between the heads' vectors lies poison.
  void vectors() {
    if (!s_.additive) return;
    const int64_t heads = s_.additive_shared ? 1 : s_.heads_q;
    const int64_t stride = s_.additive_shared ? 0 : s_.dim + case_.choices_.below(3);
    const int64_t elements = stride * (heads - 1) + s_.dim;
    float *vector = floats(std::max<int64_t>(elements, 1));
    for (int64_t n = 0; n < elements; ++n) vector[n] = std::numeric_limits<float>::quiet_NaN();
    const Fill fill = given_or(s_.vector_fill, default_fill(s_.seed, kVector, FOVEA_F32, false));
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t d = 0; d < s_.dim; ++d) {
        vector[h * stride + d] = static_cast<float>(fill({0, 0, h, d}));
      }
    }
    args_.logits.additive.vector = vector;
    args_.logits.additive.head_stride = stride;
  }

  // One entry in nine hides its keys. Between the heads' entries lies poison.
  void distances() {
    if (s_.distances == 0) return;
    const int64_t heads = s_.distances_shared ? 1 : s_.heads_q;
    const int64_t stride = s_.distances_shared ? 0 : s_.distances + case_.choices_.below(3);
    const int64_t elements = stride * (heads - 1) + s_.distances;
    float *table = floats(std::max<int64_t>(elements, 1));
    for (int64_t n = 0; n < elements; ++n) table[n] = std::numeric_limits<float>::quiet_NaN();
    const Fill fill = given_or(s_.distance_fill, [this](const At &at) {
      const uint64_t bits =
          mix(s_.seed, kDistance, static_cast<uint64_t>(at.h), static_cast<uint64_t>(at.d));
      return bits % 9 == 0 ? -std::numeric_limits<double>::infinity() : 2.0 * normal(mix(bits));
    });
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t n = 0; n < s_.distances; ++n) {
        table[h * stride + n] = static_cast<float>(fill({0, 0, h, n}));
      }
    }
    args_.logits.distances.table = table;
    args_.logits.distances.head_stride = stride;
    args_.logits.distances.first = static_cast<int32_t>(s_.first_distance);
    args_.logits.distances.count = static_cast<int32_t>(s_.distances);
  }

  void slopes() {
    const int64_t stride = s_.alibi_shared ? 0 : s_.heads_q + case_.choices_.below(3);
    const int64_t count = s_.alibi_shared ? 1 : case_.sequences_;
    float *slopes = floats(stride * (count - 1) + s_.heads_q);
    const Fill fill = given_or(s_.slope_fill, [](const At &at) {
      return std::ldexp(1.0 + 0.25 * static_cast<double>(at.tag), -1 - static_cast<int>(at.h % 8));
    });
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t h = 0; h < s_.heads_q; ++h) {
        slopes[n * stride + h] =
            static_cast<float>(fill({s_.alibi_shared ? 0 : case_.tag(n), 0, h, 0}));
      }
    }
    args_.logits.alibi_slopes = slopes;
    args_.logits.alibi_stride = stride;
  }

  // Keys that some row sees receive contents; with `clean` all keys do.
  void find_seen() {
    const Geometry geometry(args_);
    for (const Sequence &n : geometry.sequences()) {
      for (int64_t g = 0; g < s_.heads_kv; ++g) {
        if (g > 0 && !geometry.heads_differ()) {
          case_.seen_.push_back(std::vector<char>(case_.seen_.back()));
          continue;
        }
        std::vector<char> seen(static_cast<size_t>(n.room), s_.clean ? 1 : 0);
        for (int64_t j = 0; j < n.len_kv; ++j) {
          if (is_seen(geometry, n, g, j)) seen[static_cast<size_t>(j)] = 1;
        }
        case_.seen_.push_back(std::move(seen));
      }
    }
  }

  void contents() {
    const Geometry geometry(args_);
    const Fill k = given_or(s_.k_fill, default_fill(s_.seed, kK, s_.k_type, s_.k_scale.present));
    const Fill v = given_or(s_.v_fill, default_fill(s_.seed, kV, s_.v_type, s_.v_scale.present));
    for (const Sequence &n : geometry.sequences()) {
      for (int64_t j = 0; j < n.room; ++j) {
        for (int64_t g = 0; g < s_.heads_kv; ++g) {
          if (!case_.is_seen(n.index, g, j)) continue;
          write_key(geometry, n, g, j, false, k);
          if (!s_.v_in_k) write_key(geometry, n, g, j, true, v);
        }
      }
    }
    if (!s_.clean) spoil_unused_ids(geometry);
  }

 private:
  float *floats(int64_t count) {
    return reinterpret_cast<float *>(
        case_.keep(static_cast<size_t>(std::max<int64_t>(count, 0)) * 4, 4));
  }

  // By rows of the kv head, or, where heads share their pages and lengths, of any.
  bool is_seen(const Geometry &geometry, const Sequence &n, int64_t g, int64_t j) const {
    const bool own = geometry.heads_differ();
    const int64_t begin = own ? g * geometry.group() : 0;
    const int64_t end = own ? begin + geometry.group() : s_.heads_q;
    for (int64_t i = 0; i < n.len_q; ++i) {
      for (int64_t h = begin; h < end; ++h) {
        if (geometry.visible(n, i, h, j)) return true;
      }
    }
    return false;
  }

  // Numbers of size 1 fill the range of 8 bits up to a quarter, of 4 bits up to a third.
  double block_scale(const Sequence &n, int64_t j, int64_t g, int64_t d, bool of_v) const {
    const uint32_t dtype = of_v ? args_.v.dtype : args_.k.dtype;
    const double usual = dtype == FOVEA_Q8_0 ? 1.0 / 32 : 0.4;
    const uint64_t bits = mix(mix(s_.seed, kBlock, of_v ? 1 : 0), case_.tag(n.index), j, g, d / 32);
    return s_.block_scale > 0 ? s_.block_scale : usual * std::exp2(uniform(bits) - 0.5);
  }

  void write_key(const Geometry &geometry, const Sequence &n, int64_t g, int64_t j, bool of_v,
                 const Fill &fill) {
    const fovea_tensor &cache = of_v ? args_.v : args_.k;
    int64_t batch;
    int64_t slot;
    if (!geometry.locate(geometry.of_head(n, g), j, of_v, &batch, &slot)) return;
    for (int64_t d = 0; d < cache.shape[3]; ++d) {
      const double value = fill({case_.tag(n.index), j, g, d});
      if (block_of(cache.dtype) == 1) {
        put(cache, batch, slot, g, d, value);
      } else {
        void *at = const_cast<void *>(address(cache, batch, slot, g, d));
        store_in_block(cache.dtype, at, d % 32, block_scale(n, j, g, d, of_v), value);
      }
    }
  }

  // A table slot is used if some row sees one of its page's keys by position.
  void spoil_unused_ids(const Geometry &geometry) {
    if (s_.page_len == 0) return;
    Choices choices(mix(s_.seed, 99));
    static const int32_t absurd[] = {-1, std::numeric_limits<int32_t>::min(),
                                     std::numeric_limits<int32_t>::max(), 0x7ffffff0, -4096};
    const size_t slots = static_cast<size_t>(case_.table_slots());
    std::vector<char> used(slots, 0);
    for (const Sequence &sequence : geometry.sequences()) {
      for (int64_t g = 0; g < s_.heads_kv; ++g) {
        const Sequence &n = geometry.of_head(sequence, g);
        for (int64_t j = 0; j < n.len_kv; ++j) {
          bool any = false;
          for (int64_t i = 0; i < n.len_q && !any; ++i) any = geometry.visible_by_position(n, i, j);
          if (any) used[static_cast<size_t>(n.page_begin + j / s_.page_len)] = 1;
        }
      }
    }
    for (const int32_t *table : {args_.sequences.pages.ids, args_.sequences.pages.v_ids}) {
      for (size_t slot = 0; table != nullptr && slot < slots; ++slot) {
        if (used[slot] == 0) const_cast<int32_t *>(table)[slot] = absurd[choices.below(5)];
      }
    }
  }

  Case &case_;
  const Settings &s_;
  fovea_attention_args &args_;
};

Case::Case(const Settings &given)
    : settings(given), choices_(given.layout_seed != 0 ? given.layout_seed : mix(given.seed)) {
  sequences_ = static_cast<int64_t>(settings.rows.size());
  if (settings.rows.empty()) sequences_ = settings.batch;
  args.struct_size = sizeof args;
  args.reproducible = settings.reproducible;
  args.sm_count = settings.sm_count;
  args.sequences.count = sequences_;
  if (settings.rows.empty() && choices_.one_in(2)) args.sequences.count = 0;  // then q.shape[0]
  lay_out_rows();
  lay_out_cache();
  Filler filler(this);
  filler.positions();
  filler.spans();
  lay_out_masks();
  filler.tree();
  filler.logits();
  const int64_t out_shape[4] = {args.q.shape[0], args.q.shape[1], settings.heads_q, settings.dim_v};
  const int64_t lse_shape[4] = {args.q.shape[0], args.q.shape[1], settings.heads_q, 1};
  args.out = lay_out(settings.out_type, out_shape, 'o');
  out_ = std::move(inputs_.back());
  inputs_.pop_back();
  if (settings.lse) {
    args.lse = lay_out(FOVEA_F32, lse_shape);
    lse_ = std::move(inputs_.back());
    inputs_.pop_back();
  }
  filler.find_seen();
  filler.contents();
  lay_out_scales();
  for (Block &block : inputs_) block.make_read_only();
}

}  // namespace fovea_test
