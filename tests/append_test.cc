// append_test.cc - fovea_kv_append against the header's words, bit by bit.
//
// append_by_definition() below is the oracle: one element at a time, volatile floats so that every
// operation is rounded by itself, number formats from support/formats.h. Everything that a case
// owns is compared as raw bytes, caches with their gaps and margins, so a write to a wrong place
// shows even if it is a byte that no element covers.
#include <fenv.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <climits>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

extern "C" {
#include "cpu/append.h"
}
#include "support/formats.h"

namespace {

using fovea_test::decode;
using fovea_test::encode;
using fovea_test::load_bits;
using fovea_test::size_of;
using fovea_test::store_bits;

constexpr uint8_t kCanary = 0xa5;

// ---- Calling it ------------------------------------------------------------------------------

void on_threads(void *user, int64_t count, fovea_task task, void *context) {
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < *static_cast<int *>(user); ++i) {
    threads.emplace_back([&] {
      for (int64_t j; (j = next.fetch_add(1)) < count;) task(context, j);
    });
  }
  for (std::thread &thread : threads) thread.join();
}

// As check.c leaves a tensor: strides that are never used are 0.
fovea_tensor normalised(fovea_tensor t) {
  for (int i = 0; i < 4; ++i) {
    if (t.shape[i] == 1) t.stride[i] = 0;
  }
  if (t.dtype != FOVEA_NONE && t.shape[3] == 1) t.stride[3] = 1;
  return t;
}

void append(const fovea_kv_append_args &args, int threads = 1) {
  fv_append_problem problem = {};
  problem.args = args;
  for (fovea_tensor *t : {&problem.args.k_new, &problem.args.v_new, &problem.args.k_cache,
                          &problem.args.v_cache, &problem.args.k_scale, &problem.args.v_scale}) {
    *t = normalised(*t);
  }
  const fovea_tensor &any = args.k_new.dtype != FOVEA_NONE ? args.k_new : args.v_new;
  problem.packed = args.new_offsets != nullptr;
  problem.paged = args.pages.ids != nullptr;
  problem.sequences = problem.packed ? args.sequences : any.shape[0];
  problem.rows = any.shape[1];
  problem.heads_kv = static_cast<int32_t>(any.shape[2]);
  fv_parallel parallel = {on_threads, &threads, threads};
  fv_cpu_append(&problem, parallel);
}

// ---- The oracle ------------------------------------------------------------------------------

struct Side {
  const fovea_tensor *from, *to, *scale;
  const int32_t *ids;
  bool rotated;
};

std::vector<Side> sides_of(const fovea_kv_append_args &a) {
  std::vector<Side> sides;
  const int32_t *v_ids = a.pages.v_ids ? a.pages.v_ids : a.pages.ids;
  if (a.k_new.dtype) {
    sides.push_back({&a.k_new, &a.k_cache, &a.k_scale, a.pages.ids, a.rope.cos != nullptr});
  }
  if (a.v_new.dtype) sides.push_back({&a.v_new, &a.v_cache, &a.v_scale, v_ids, false});
  return sides;
}

char *address(const fovea_tensor &t, int64_t i, int64_t j, int64_t h, int64_t d) {
  const int64_t index[4] = {i, j, h, d};
  int64_t offset = 0;
  for (int n = 0; n < 4; ++n) {
    if (t.shape[n] != 1) offset += index[n] * t.stride[n];
  }
  return static_cast<char *>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
}

// The header's list of NaNs; support/formats.h has others.
uint32_t expected_bits(uint32_t dtype, float value) {
  if (!std::isnan(value)) return encode(dtype, value);
  switch (dtype) {
    case FOVEA_F32:
      return 0x7fffffffu;
    case FOVEA_F16:
    case FOVEA_BF16:
      return 0x7fffu;
    case FOVEA_I8:
      return 0;
    default:
      return 0x7fu;
  }
}

float value_of(const fovea_tensor &t, int64_t i, int64_t j, int64_t h, int64_t d) {
  return static_cast<float>(decode(t.dtype, load_bits(t.dtype, address(t, i, j, h, d))));
}

struct Token {
  int64_t batch, row, position;
};
struct Place {
  int64_t outer, inner;
};

// x*c - y*s or y*c + x*s for element d of a key.
float rotated(const fovea_rope &rope, const fovea_tensor &from, const Token &t, int64_t h,
              int64_t d) {
  const int64_t half = rope.rotary_dim / 2;
  const bool interleaved = rope.style == FOVEA_ROPE_INTERLEAVED;
  const int64_t pair = interleaved ? d / 2 : d % half;
  const bool second = interleaved ? d % 2 == 1 : d >= half;
  const float x = value_of(from, t.batch, t.row, h, interleaved ? 2 * pair : pair);
  const float y = value_of(from, t.batch, t.row, h, interleaved ? 2 * pair + 1 : half + pair);
  const float c = rope.cos[t.position * rope.stride + pair];
  const float s = rope.sin[t.position * rope.stride + pair];
  volatile float one = second ? y * c : x * c;
  volatile float two = second ? x * s : y * s;
  volatile float sum = second ? one + two : one - two;
  return sum;
}

void write_element(const fovea_kv_append_args &a, const Side &side, const Token &t, Place place,
                   int64_t h, int64_t d) {
  char *to = address(*side.to, place.outer, place.inner, h, d);
  const bool turn = side.rotated && d < a.rope.rotary_dim;
  const bool scaled = side.scale->dtype != FOVEA_NONE;
  if (!turn && !scaled && side.from->dtype == side.to->dtype) {
    store_bits(side.to->dtype, to,
               load_bits(side.from->dtype, address(*side.from, t.batch, t.row, h, d)));
    return;
  }
  volatile float x =
      turn ? rotated(a.rope, *side.from, t, h, d) : value_of(*side.from, t.batch, t.row, h, d);
  if (scaled) {
    const int64_t block = d / (side.to->shape[3] / side.scale->shape[3]);
    x = x / value_of(*side.scale, place.outer, place.inner, h, block);
  }
  store_bits(side.to->dtype, to, expected_bits(side.to->dtype, x));
}

// The largest of the offsets up to i, within [0, total].
int64_t running_maximum(const int32_t *offsets, int64_t i, int64_t total) {
  int64_t most = 0;
  for (int64_t n = 0; n <= i; ++n) most = std::max<int64_t>(most, offsets[n]);
  return std::min(most, total);
}

// Where the token goes in one cache; false and a bit of errors if nowhere.
bool find(const fovea_kv_append_args &a, const Side &side, int64_t s, int64_t n, int64_t token,
          Place *place, uint32_t *errors) {
  const int64_t outers = side.to->shape[0], inners = side.to->shape[1];
  if (a.slots) {
    const int64_t flat = a.slots[token];
    if (flat < 0) return false;
    if (flat < outers * inners) return *place = {flat / inners, flat % inners}, true;
    return *errors |= FOVEA_BAD_SLOT, false;
  }
  if (!a.pages.ids) {
    if (n < inners) return *place = {s, n}, true;
    return *errors |= FOVEA_BAD_SLOT, false;
  }
  int64_t first = s * a.pages.row_stride, count = a.pages.count;
  if (a.pages.offsets) {
    first = running_maximum(a.pages.offsets, s, a.pages.count);
    count = running_maximum(a.pages.offsets, s + 1, a.pages.count) - first;
  }
  if (n / inners >= count) return *errors |= FOVEA_BAD_SLOT, false;
  const int64_t id = side.ids[first + n / inners];
  if (id < 0 || id >= outers) return *errors |= FOVEA_BAD_PAGE, false;
  return *place = {id, n % inners}, true;
}

void append_token(const fovea_kv_append_args &a, int64_t s, int64_t t, Token at, int64_t token,
                  uint32_t *errors) {
  const std::vector<Side> sides = sides_of(a);
  const bool needs_length = !a.slots || (a.rope.cos && !a.positions);
  const int64_t length = needs_length ? a.kv_lengths[s] : 0;
  Place places[2] = {};
  bool good = true;
  if (needs_length && length < 0) {
    *errors |= FOVEA_BAD_LENGTH;
    return;
  }
  for (size_t i = 0; i < sides.size(); ++i) {
    good &= find(a, sides[i], s, length + t, token, &places[i], errors);
  }
  at.position = a.positions ? a.positions[token] : length + t;
  if (a.slots && a.slots[token] < 0) return;
  if (a.rope.cos && (at.position < 0 || at.position >= a.rope.positions)) {
    *errors |= FOVEA_BAD_POSITION;
    good = false;
  }
  if (!good) return;
  for (size_t i = 0; i < sides.size(); ++i) {
    for (int64_t h = 0; h < sides[i].to->shape[2]; ++h) {
      for (int64_t d = 0; d < sides[i].to->shape[3]; ++d) {
        write_element(a, sides[i], at, places[i], h, d);
      }
    }
  }
}

bool offsets_are_bad(const int32_t *offsets, int64_t s, int64_t total) {
  return running_maximum(offsets, s, total) != offsets[s] ||
         running_maximum(offsets, s + 1, total) != offsets[s + 1];
}

void append_by_definition(const fovea_kv_append_args &a) {
  const fovea_tensor &any = a.k_new.dtype ? a.k_new : a.v_new;
  const int64_t sequences = a.new_offsets ? a.sequences : any.shape[0];
  for (int64_t s = 0; s < sequences; ++s) {
    int64_t begin = 0, end = any.shape[1];
    uint32_t errors = 0;
    if (a.new_offsets) {
      begin = running_maximum(a.new_offsets, s, any.shape[1]);
      end = running_maximum(a.new_offsets, s + 1, any.shape[1]);
      if (offsets_are_bad(a.new_offsets, s, any.shape[1])) errors |= FOVEA_BAD_OFFSET;
    }
    if (a.pages.offsets && offsets_are_bad(a.pages.offsets, s, a.pages.count)) {
      errors |= FOVEA_BAD_OFFSET;
    }
    for (int64_t row = begin; row < end; ++row) {
      const Token at = {a.new_offsets ? 0 : s, row, 0};
      const int64_t token = a.new_offsets ? row : s * any.shape[1] + row;
      append_token(a, s, row - begin, at, token, &errors);
    }
    if (a.errors) a.errors[s] |= errors;
  }
}

// ---- A case and its memory -------------------------------------------------------------------

// Copies of a case have memory of their own: args() points into it at the time of the call.
struct Case {
  fovea_kv_append_args fixed = {};  // everything but pointers
  std::vector<uint8_t> k_new, v_new, cache, k_scale, v_scale;
  size_t k_offset = 0, v_offset = 0;  // of the caches in `cache`, in bytes
  std::vector<int32_t> new_offsets, kv_lengths, ids, v_ids, page_offsets, positions;
  std::vector<int64_t> slots;
  std::vector<float> cos, sin;
  std::vector<uint32_t> errors;

  fovea_kv_append_args args() {
    fovea_kv_append_args a = fixed;
    a.struct_size = sizeof a;
    a.k_new.data = k_new.data();
    a.v_new.data = v_new.data();
    a.k_cache.data = cache.data() + k_offset;
    a.v_cache.data = cache.data() + v_offset;
    a.k_scale.data = k_scale.data();
    a.v_scale.data = v_scale.data();
    a.new_offsets = pointer(new_offsets);
    a.kv_lengths = pointer(kv_lengths);
    a.pages.ids = pointer(ids);
    a.pages.v_ids = pointer(v_ids);
    a.pages.offsets = pointer(page_offsets);
    a.positions = pointer(positions);
    a.slots = pointer(slots);
    a.rope.cos = pointer(cos);
    a.rope.sin = pointer(sin);
    a.errors = errors.empty() ? nullptr : errors.data();
    return a;
  }

  template <class T>
  static const T *pointer(const std::vector<T> &v) {
    return v.empty() ? nullptr : v.data();
  }
};

// One past the last element that the view reaches.
int64_t span_of(const fovea_tensor &t) {
  int64_t last = 0;
  for (int i = 0; i < 4; ++i) {
    if (t.shape[i] == 0) return 0;
    if (t.shape[i] != 1) last += (t.shape[i] - 1) * t.stride[i];
  }
  return last + 1;
}

void expect_as_defined(const Case &original, int threads, const std::string &what) {
  Case expected = original, actual = original;
  append_by_definition(expected.args());
  append(actual.args(), threads);
  EXPECT_EQ(expected.errors, actual.errors) << what;
  ASSERT_EQ(expected.cache.size(), actual.cache.size());
  for (size_t i = 0; i < expected.cache.size(); ++i) {
    ASSERT_EQ(expected.cache[i], actual.cache[i])
        << what << ": byte " << i << " of the cache buffer, k at " << original.k_offset << ", v at "
        << original.v_offset;
  }
  // What is only read has not changed.
  EXPECT_EQ(original.k_new, actual.k_new) << what;
  EXPECT_EQ(original.v_new, actual.v_new) << what;
}

// ---- Random cases ----------------------------------------------------------------------------

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}

  int64_t upto(int64_t high) { return static_cast<int64_t>(random_() % (uint64_t)(high + 1)); }
  int64_t between(int64_t low, int64_t high) { return low + upto(high - low); }
  bool chance(int64_t one_in) { return upto(one_in - 1) == 0; }
  template <class T>
  T of(std::initializer_list<T> list) {
    return list.begin()[upto(static_cast<int64_t>(list.size()) - 1)];
  }

  // Half of them any bits at all, half of them plain numbers.
  uint32_t bits(uint32_t dtype) {
    if (chance(2)) return static_cast<uint32_t>(random_());
    const double sign = chance(2) ? -1 : 1;
    return encode(dtype,
                  sign * std::ldexp(1.0 + (double)upto(1 << 20) / (1 << 20), (int)between(-8, 7)));
  }
  float number() {
    return static_cast<float>(decode(FOVEA_F32, chance(8) ? bits(FOVEA_F32) : plain()));
  }

  // Strides of a view of `shape` whose dimensions lie in memory in any order, with gaps. `unit` is
  // the room of one innermost row.
  void layout(fovea_tensor *t, int64_t unit) {
    int order[3] = {0, 1, 2};
    for (int i = 2; i > 0; --i) std::swap(order[i], order[upto(i)]);
    for (int i : order) {
      t->stride[i] = unit;
      unit *= t->shape[i];
      if (chance(3)) unit += between(1, 9);
      if (t->shape[i] == 1 && chance(2)) t->stride[i] = 123456789012;  // never used
    }
    t->stride[3] = 1;
  }

  std::vector<uint8_t> fill(const fovea_tensor &t) {
    const size_t bytes = size_of(t.dtype);
    std::vector<uint8_t> memory(static_cast<size_t>(span_of(t)) * bytes);
    for (size_t i = 0; i + bytes <= memory.size(); i += bytes) {
      store_bits(t.dtype, &memory[i], bits(t.dtype));
    }
    return memory;
  }

 private:
  uint32_t plain() { return encode(FOVEA_F32, (double)between(-1000, 1000) / 997); }

  std::mt19937_64 random_;
};

fovea_tensor view(uint32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
  return fovea_contiguous(nullptr, static_cast<fovea_dtype>(dtype), a, b, c, d);
}

// k and v in separate parts of the buffer, or row by row in one tensor, or head by head.
void place_caches(Draw *draw, Case *c) {
  fovea_tensor *k = &c->fixed.k_cache, *v = &c->fixed.v_cache;
  const size_t margin = 64;
  const int64_t both = k->shape[3] + v->shape[3];
  int64_t elements_k, elements_v = 0;
  c->k_offset = margin;
  if (k->dtype == v->dtype && draw->chance(2)) {
    draw->layout(k, both + draw->upto(3));
    std::copy(k->stride, k->stride + 4, v->stride);
    elements_k = span_of(*k) + v->shape[3];
    c->v_offset = margin + static_cast<size_t>(k->shape[3]) * size_of(k->dtype);
  } else {
    draw->layout(k, k->shape[3] + draw->upto(3));
    draw->layout(v, v->shape[3] + draw->upto(3));
    elements_k = span_of(*k);
    elements_v = span_of(*v);
    c->v_offset = (margin + static_cast<size_t>(elements_k) * size_of(k->dtype) + margin) / 4 * 4;
  }
  const size_t end_k = c->k_offset + static_cast<size_t>(elements_k) * size_of(k->dtype);
  const size_t end_v = c->v_offset + static_cast<size_t>(elements_v) * size_of(v->dtype);
  c->cache.assign(std::max(end_k, end_v) + margin, kCanary);
}

bool is_8bit(uint32_t dtype) {
  return dtype >= FOVEA_E4M3;
}

void add_scale(Draw *draw, const fovea_tensor &cache, fovea_tensor *scale,
               std::vector<uint8_t> *memory) {
  if (!is_8bit(cache.dtype) || draw->chance(4)) return;
  *scale = view(draw->of<uint32_t>({FOVEA_F32, FOVEA_F16}), draw->chance(2) ? 1 : cache.shape[0],
                draw->chance(2) ? 1 : cache.shape[1], draw->chance(2) ? 1 : cache.shape[2],
                draw->of<int64_t>({1, 2, 4, cache.shape[3]}));
  draw->layout(scale, scale->shape[3]);
  if (draw->chance(2)) {  // blocks outermost
    scale->stride[3] = 1;
    for (int i = 0; i < 3; ++i)
      scale->stride[3] += scale->shape[i] == 1 ? 0 : scale->stride[i] * scale->shape[i];
  }
  *memory = draw->fill(*scale);
}

void add_rope(Draw *draw, int64_t tokens, Case *c) {
  fovea_rope *rope = &c->fixed.rope;
  if (draw->chance(3)) return;
  rope->positions = draw->between(1, 40);
  rope->rotary_dim = static_cast<int32_t>(2 * draw->between(1, c->fixed.k_new.shape[3] / 2));
  if (draw->chance(2)) rope->rotary_dim = static_cast<int32_t>(c->fixed.k_new.shape[3]);
  rope->stride = rope->rotary_dim / 2 + draw->upto(3);
  rope->style = static_cast<uint32_t>(draw->upto(1));
  const auto size =
      static_cast<size_t>((rope->positions - 1) * rope->stride + rope->rotary_dim / 2);
  for (size_t i = 0; i < size; ++i) {
    c->cos.push_back(draw->number());
    c->sin.push_back(draw->number());
  }
  if (draw->chance(3) && !(c->kv_lengths.empty())) return;
  for (int64_t i = 0; i < tokens; ++i) {
    const int64_t position = draw->upto(rope->positions - 1);
    c->positions.push_back(static_cast<int32_t>(
        draw->chance(20) ? draw->of<int64_t>({-1, INT_MIN, rope->positions, INT_MAX}) : position));
  }
}

int32_t page_id(Draw *draw, int64_t pages, bool hostile) {
  if (!hostile || !draw->chance(3)) return static_cast<int32_t>(draw->upto(pages - 1));
  return static_cast<int32_t>(draw->of<int64_t>({-1, INT_MIN, pages, pages + 1, INT_MAX}));
}

// Page tables and lengths, or slots.
void add_places(Draw *draw, int64_t sequences, int64_t tokens, Case *c) {
  const int64_t outers = c->fixed.k_cache.shape[0], inners = c->fixed.k_cache.shape[1];
  const bool hostile = draw->chance(2);
  int64_t room = inners;
  const int64_t mode = draw->upto(3);  // contiguous, dense, CSR, slots
  if (mode == 3) {
    for (int64_t i = 0; i < tokens; ++i) {
      c->slots.push_back(draw->chance(6)
                             ? draw->of<int64_t>({-1, INT64_MIN, outers * inners, INT64_MAX})
                             : draw->upto(outers * inners - 1));
    }
    return;
  }
  if (mode != 0) {
    fovea_pages *pages = &c->fixed.pages;
    int64_t ids = 0;
    pages->count = draw->between(1, 6);
    room = pages->count * inners;
    if (mode == 1) {
      pages->row_stride = pages->count + draw->upto(2);
      ids = (sequences - 1) * pages->row_stride + pages->count;
    } else {
      ids = pages->count;
      c->page_offsets.push_back(static_cast<int32_t>(draw->chance(6) ? -3 : 0));
      for (int64_t s = 0; s < sequences; ++s) {
        c->page_offsets.push_back(static_cast<int32_t>(
            hostile && draw->chance(3)
                ? draw->of<int64_t>({-1, INT_MIN, ids + 1, INT_MAX, 0})
                : std::min(ids, std::max(0, c->page_offsets.back()) + draw->upto(3))));
      }
    }
    for (int64_t i = 0; i < ids; ++i) c->ids.push_back(page_id(draw, outers, hostile));
    for (int64_t i = 0; i < ids && draw->chance(2); ++i) {
      for (; i < ids; ++i) c->v_ids.push_back(page_id(draw, outers, hostile));
    }
    if (c->v_ids.size() != c->ids.size()) c->v_ids.clear();
  }
  for (int64_t s = 0; s < sequences; ++s) {
    c->kv_lengths.push_back(static_cast<int32_t>(
        hostile && draw->chance(3) ? draw->of<int64_t>({-1, INT_MIN, room, INT_MAX, room - 1})
                                   : draw->upto(room)));
  }
}

Case random_case(uint64_t seed) {
  Draw draw(seed);
  Case c;
  fovea_kv_append_args &a = c.fixed;
  const int64_t sequences = draw.between(1, 4), heads = draw.between(1, 3);
  const int64_t dim = 8 * draw.between(1, draw.chance(8) ? 40 : 3), dim_v = 8 * draw.between(1, 3);
  const bool packed = draw.chance(2);
  const int64_t rows = draw.upto(7), batch = packed ? 1 : sequences;
  const uint32_t new_k = draw.of<uint32_t>({FOVEA_F32, FOVEA_F16, FOVEA_BF16});
  const uint32_t new_v = draw.of<uint32_t>({FOVEA_F32, FOVEA_F16, FOVEA_BF16});
  const uint32_t cache_k = (uint32_t)draw.between(FOVEA_F32, FOVEA_I8);
  const uint32_t cache_v = draw.chance(2) ? cache_k : (uint32_t)draw.between(FOVEA_F32, FOVEA_I8);
  const int64_t tokens = batch * rows;
  a.k_new = view(new_k, batch, rows, heads, dim);
  a.v_new = view(new_v, batch, rows, heads, dim_v);
  draw.layout(&a.k_new, dim + draw.upto(2));
  draw.layout(&a.v_new, dim_v + draw.upto(2));
  if (draw.chance(8)) a.v_new.stride[2] = 0;  // one head for all
  const int64_t inners = draw.between(1, 5);
  a.k_cache = view(cache_k, sequences + draw.upto(3), inners, heads, dim);
  a.v_cache = view(cache_v, a.k_cache.shape[0], inners, heads, dim_v);
  add_places(&draw, sequences, tokens, &c);
  if (c.ids.empty() && c.slots.empty()) a.k_cache.shape[0] = a.v_cache.shape[0] = sequences;
  place_caches(&draw, &c);
  add_scale(&draw, a.k_cache, &a.k_scale, &c.k_scale);
  add_scale(&draw, a.v_cache, &a.v_scale, &c.v_scale);
  if (packed) {
    a.sequences = sequences;
    for (int64_t s = 0; s <= sequences; ++s) {
      c.new_offsets.push_back(
          static_cast<int32_t>(draw.chance(8) ? draw.of<int64_t>({-1, INT_MIN, rows + 1, INT_MAX})
                                              : (rows * s + draw.upto(1)) / sequences));
    }
  }
  add_rope(&draw, tokens, &c);
  c.k_new = draw.fill(a.k_new);
  c.v_new = draw.fill(a.v_new);
  if (draw.chance(6)) a.v_new = a.v_cache = a.v_scale = fovea_tensor{};
  if (a.v_new.dtype && draw.chance(8)) a.k_new = a.k_cache = a.k_scale = fovea_tensor{};
  if (!draw.chance(8)) c.errors.assign(static_cast<size_t>(sequences), 0x80000000u);
  return c;
}

TEST(Append, StoresWhatTheHeaderDefinesInRandomCases) {
  uint32_t bits_seen = 0;
  int written = 0;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    Case c = random_case(seed);
    expect_as_defined(c, 1, "seed " + std::to_string(seed));
    ASSERT_FALSE(HasFailure());
    Case after = c;
    append(after.args());
    written += after.cache != c.cache;
    for (uint32_t bits : after.errors) bits_seen |= bits;
  }
  // The cases are worth something: most of them write, and every kind of bad data occurs.
  EXPECT_GT(written, 3000);
  EXPECT_EQ(bits_seen, 0x80000000u | FOVEA_BAD_LENGTH | FOVEA_BAD_PAGE | FOVEA_BAD_OFFSET |
                           FOVEA_BAD_POSITION | FOVEA_BAD_SLOT);
}

// ---- Conversion ------------------------------------------------------------------------------

struct Conversion {
  uint32_t from, to;
};

class AppendConversion : public testing::TestWithParam<Conversion> {};

std::vector<float> scales_to_try() {
  std::vector<float> scales;
  std::mt19937_64 random(64);
  for (int e = -8; e <= 8; ++e) scales.push_back(std::ldexp(1.0f, e));
  for (int i = 0; i < 64; ++i) {
    const float significand = 1.0f + static_cast<float>(random() >> 41) * 0x1p-23f;
    scales.push_back(std::ldexp(significand, static_cast<int>(random() % 24) - 12));
  }
  return scales;
}

// Every value of a 16-bit format, by every scale, as a cache of 8-bit codes.
TEST_P(AppendConversion, IsExactForEveryValueAndScale) {
  const Conversion p = GetParam();
  Case c;
  c.fixed.k_new = view(p.from, 1, 64, 8, 128);
  c.fixed.k_cache = view(p.to, 1, 64, 8, 128);
  c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, 1);
  c.kv_lengths = {0};
  c.k_new.resize(65536 * 2);
  for (uint32_t code = 0; code < 65536; ++code) store_bits(p.from, &c.k_new[code * 2], code);
  c.cache.assign(65536, kCanary);
  c.k_scale.resize(4);
  for (float scale : scales_to_try()) {
    std::memcpy(c.k_scale.data(), &scale, 4);
    append(c.args());
    for (uint32_t code = 0; code < 65536; ++code) {
      const volatile float quotient = static_cast<float>(decode(p.from, code)) / scale;
      ASSERT_EQ(expected_bits(p.to, quotient), c.cache[code]) << "code " << code << " by " << scale;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllCodes, AppendConversion,
    testing::Values(Conversion{FOVEA_F16, FOVEA_E4M3}, Conversion{FOVEA_F16, FOVEA_E5M2},
                    Conversion{FOVEA_F16, FOVEA_I8}, Conversion{FOVEA_BF16, FOVEA_E4M3},
                    Conversion{FOVEA_BF16, FOVEA_E5M2}, Conversion{FOVEA_BF16, FOVEA_I8}),
    [](const testing::TestParamInfo<Conversion> &info) {
      return std::string(fovea_test::name_of(info.param.from)) + "_to_" +
             fovea_test::name_of(info.param.to);
    });

// One sequence, one head, one token of 8 elements into an empty cache of the same length.
Case one_token(uint32_t from, uint32_t to, const std::vector<uint32_t> &bits) {
  Case c;
  const auto dim = static_cast<int64_t>(bits.size());
  c.fixed.k_new = view(from, 1, 1, 1, dim);
  c.fixed.k_cache = view(to, 1, 1, 1, dim);
  c.kv_lengths = {0};
  c.k_new.resize(bits.size() * size_of(from));
  for (size_t i = 0; i < bits.size(); ++i) store_bits(from, &c.k_new[i * size_of(from)], bits[i]);
  c.cache.assign(bits.size() * size_of(to), kCanary);
  c.errors = {0};
  return c;
}

std::vector<uint32_t> stored(Case c) {
  append(c.args());
  const uint32_t dtype = c.fixed.k_cache.dtype;
  std::vector<uint32_t> bits;
  for (size_t i = 0; i < c.cache.size(); i += size_of(dtype)) {
    bits.push_back(load_bits(dtype, &c.cache[i]));
  }
  return bits;
}

using Bits = std::vector<uint32_t>;

// f32: NaN with sign and payload, infinities, -0, the largest, 65520 (halfway from f16's largest to
// what would follow), 448 + 16 (halfway in e4m3), -129.
const Bits kSpecials = {0xff801234, 0x7f800000, 0xff800000, 0x80000000,
                        0x7f7fffff, 0x477ff000, 0x43e80000, 0xc3010000};

TEST(Append, TurnsSpecialValuesIntoThoseOfTheCache) {
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_F16, kSpecials)),
            (Bits{0x7fff, 0x7c00, 0xfc00, 0x8000, 0x7c00, 0x7c00, 0x5f40, 0xd808}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_BF16, kSpecials)),
            (Bits{0x7fff, 0x7f80, 0xff80, 0x8000, 0x7f80, 0x4780, 0x43e8, 0xc301}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_E4M3, kSpecials)),
            (Bits{0x7f, 0x7e, 0xfe, 0x80, 0x7e, 0x7e, 0x7e, 0xf0}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_E5M2, kSpecials)),
            (Bits{0x7f, 0x7b, 0xfb, 0x80, 0x7b, 0x7b, 0x5f, 0xd8}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_I8, kSpecials)),
            (Bits{0x00, 0x7f, 0x80, 0x00, 0x7f, 0x7f, 0x7f, 0x80}));
}

TEST(Append, CopiesTheCachesOwnTypeBitByBitEvenNaNs) {
  const Bits nans = {0x7f81, 0xffff, 0x7fff, 0xff80, 0x8000, 0x0001, 0x3f80, 0x7fc0};
  EXPECT_EQ(stored(one_token(FOVEA_BF16, FOVEA_BF16, nans)), nans);
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_F32, kSpecials)), kSpecials);
}

TEST(Append, DividesEachBlockByItsOwnScale) {
  const uint32_t four = 0x4400;  // 4 in f16
  Case c = one_token(FOVEA_F16, FOVEA_I8, Bits(8, four));
  c.fixed.k_scale = view(FOVEA_F16, 1, 1, 1, 4);
  c.fixed.k_scale.stride[3] = 2;
  c.k_scale.assign(14, 0xff);                                   // NaN between the scales
  const uint32_t scales[4] = {0x3c00, 0x4000, 0x3800, 0x8000};  // 1, 2, 1/2, -0
  for (size_t i = 0; i < 4; ++i) store_bits(FOVEA_F16, &c.k_scale[i * 4], scales[i]);
  EXPECT_EQ(stored(c), (Bits{4, 4, 2, 2, 8, 8, 0x80, 0x80}));
}

// ---- RoPE ------------------------------------------------------------------------------------

// A quarter turn takes (x, y) to (-y, x).
Case quarter_turn(uint32_t style, int32_t rotary_dim) {
  Bits bits;
  for (int i = 1; i <= 8; ++i) bits.push_back(encode(FOVEA_F32, i));
  bits[7] = 0xff801234;
  Case c = one_token(FOVEA_F32, FOVEA_F32, bits);
  c.cos.assign(static_cast<size_t>(rotary_dim / 2), 0.0f);
  c.sin.assign(static_cast<size_t>(rotary_dim / 2), 1.0f);
  c.fixed.rope.positions = 1;
  c.fixed.rope.stride = rotary_dim / 2;
  c.fixed.rope.rotary_dim = rotary_dim;
  c.fixed.rope.style = style;
  return c;
}

Bits f32_bits(std::initializer_list<float> values) {
  Bits bits;
  for (float value : values)
    bits.push_back(std::isnan(value) ? 0xff801234 : encode(FOVEA_F32, value));
  return bits;
}

TEST(AppendRope, TurnsPairsOfTheTwoHalvesAndCopiesTheRest) {
  EXPECT_EQ(stored(quarter_turn(FOVEA_ROPE_HALF_SPLIT, 6)),
            f32_bits({-4, -5, -6, 1, 2, 3, 7, NAN}));
}

TEST(AppendRope, TurnsNeighboursAndCopiesTheRest) {
  EXPECT_EQ(stored(quarter_turn(FOVEA_ROPE_INTERLEAVED, 6)),
            f32_bits({-2, 1, -4, 3, -6, 5, 7, NAN}));
}

TEST(AppendRope, WritesTheCanonicalNaNWhereItRotates) {
  EXPECT_EQ(stored(quarter_turn(FOVEA_ROPE_INTERLEAVED, 8))[7], 0x7fffffffu);
}

// 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: the last bit is lost when the product is rounded by
// itself, and is all that is left when a fused operation subtracts the rounded product from it.
TEST(AppendRope, RoundsEveryProductByItself) {
  const float x = 1.0f + 0x1p-12f;
  for (uint32_t style : {FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED}) {
    Case c = quarter_turn(style, 8);
    for (size_t i = 0; i < 8; ++i) std::memcpy(&c.k_new[4 * i], &x, 4);
    c.cos.assign(4, x);
    c.sin.assign(4, x);
    const Bits bits = stored(c);
    const bool half_split = style == FOVEA_ROPE_HALF_SPLIT;
    for (size_t i = 0; i < 8; ++i) {
      const bool first = half_split ? i < 4 : i % 2 == 0;
      EXPECT_EQ(bits[i], encode(FOVEA_F32, first ? 0 : 2 + 0x1p-10)) << i;
    }
  }
}

TEST(AppendRope, StandsAtTheIndexInTheSequenceUnlessPositionsAreGiven) {
  Case c = quarter_turn(FOVEA_ROPE_HALF_SPLIT, 8);
  c.fixed.k_cache.shape[1] = 3;
  c.cache.assign(3 * 32, kCanary);
  c.kv_lengths = {2};
  c.fixed.rope.positions = 3;
  c.cos.assign(12, 1.0f);
  c.sin.assign(12, 0.0f);
  for (size_t i = 8; i < 12; ++i) c.cos[i] = 3.0f;
  for (size_t i = 4; i < 8; ++i) c.cos[i] = 5.0f;
  EXPECT_EQ(stored(c)[16], encode(FOVEA_F32, 3));
  c.positions = {1};
  EXPECT_EQ(stored(c)[16], encode(FOVEA_F32, 5));
}

// ---- Bad data --------------------------------------------------------------------------------

// Two sequences of two tokens, pages of one token, four pages; k and v of 8 bytes each.
Case paged_pair() {
  Case c;
  c.fixed.k_new = c.fixed.v_new = view(FOVEA_F16, 2, 2, 1, 8);
  c.fixed.k_cache = c.fixed.v_cache = view(FOVEA_F16, 4, 1, 1, 8);
  c.k_new.assign(64, 0x11);
  c.v_new.assign(64, 0x22);
  c.cache.assign(64 + 128 + 64, kCanary);
  c.k_offset = 64;
  c.v_offset = 64 + 64;
  c.kv_lengths = {0, 0};
  c.ids = {0, 1, 2, 3};
  c.fixed.pages.count = 2;
  c.fixed.pages.row_stride = 2;
  c.errors = {0, 0};
  return c;
}

// Which of the pages of k (bits 0 to 3) and v (bits 4 to 7) have been written.
uint32_t pages_written(const Case &c) {
  uint32_t bits = 0;
  for (size_t page = 0; page < 8; ++page) {
    const uint8_t byte = c.cache[64 + 16 * page];
    if (byte != kCanary) bits |= 1u << page;
    for (size_t i = 0; i < 16; ++i) EXPECT_EQ(c.cache[64 + 16 * page + i], byte);
  }
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(c.cache[i], kCanary);
  for (size_t i = 192; i < 256; ++i) EXPECT_EQ(c.cache[i], kCanary);
  return bits;
}

TEST(AppendBadData, WritesEverythingWhenNothingIsBad) {
  Case c = paged_pair();
  append(c.args());
  EXPECT_EQ(pages_written(c), 0xffu);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, 0}));
}

TEST(AppendBadData, SkipsATokenInBothCachesWhenEitherPageIsOutside) {
  for (int32_t id : {-1, INT_MIN, 4, 5, INT_MAX}) {
    Case c = paged_pair();
    c.ids = {0, id, 2, 3};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xddu) << id;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_PAGE, 0})) << id;
    c = paged_pair();
    c.v_ids = {0, 1, id, 3};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xbbu) << id;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, FOVEA_BAD_PAGE})) << id;
  }
}

TEST(AppendBadData, KeepsTheBitsThatAreSetAlready) {
  Case c = paged_pair();
  c.ids[1] = -1;
  c.errors = {FOVEA_BAD_MASK, FOVEA_BAD_MASK};
  append(c.args());
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_MASK | FOVEA_BAD_PAGE, FOVEA_BAD_MASK}));
}

TEST(AppendBadData, SkipsWhatLiesPastTheTable) {
  for (int32_t length : {1, 2, INT_MAX}) {
    Case c = paged_pair();
    c.kv_lengths = {0, length};
    append(c.args());
    EXPECT_EQ(pages_written(c), length == 1 ? 0xbbu : 0x33u) << length;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, FOVEA_BAD_SLOT})) << length;
  }
}

TEST(AppendBadData, SkipsSequencesOfNegativeLengthEvenWhereTheIndexIsNot) {
  for (int32_t length : {-1, INT_MIN}) {
    Case c = paged_pair();
    c.kv_lengths = {length, 0};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xccu) << length;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_LENGTH, 0})) << length;
  }
}

TEST(AppendBadData, SkipsPositionsOutsideTheRopeTableInBothCaches) {
  for (int32_t position : {-1, INT_MIN, 2, 3, INT_MAX}) {
    Case c = paged_pair();
    c.fixed.rope.positions = 2;
    c.fixed.rope.rotary_dim = 2;
    c.fixed.rope.stride = 1;
    c.cos = {1, 1};
    c.sin = {0, 0};
    c.positions = {0, 1, position, 1};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xbbu) << position;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, FOVEA_BAD_POSITION})) << position;
  }
}

TEST(AppendBadData, SkipsSlotsPastTheCacheAndSilentlyNegativeOnes) {
  for (int64_t slot : {INT64_C(4), INT64_C(5), INT64_MAX, INT64_C(-1), INT64_MIN}) {
    Case c = paged_pair();
    c.ids.clear();
    c.kv_lengths.clear();
    c.slots = {3, slot, 0, 1};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xbbu) << slot;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{slot < 0 ? 0u : FOVEA_BAD_SLOT, 0})) << slot;
  }
}

TEST(AppendBadData, AsksNothingOfATokenThatTheCallerSkips) {
  Case c = paged_pair();
  c.ids.clear();
  c.kv_lengths.clear();
  c.slots = {0, -1, 1, 2};
  c.positions = {0, -7, 0, 0};
  c.fixed.rope.positions = 1;
  c.fixed.rope.rotary_dim = 2;
  c.fixed.rope.stride = 1;
  c.cos = {1};
  c.sin = {0};
  append(c.args());
  EXPECT_EQ(pages_written(c), 0x77u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, 0}));
}

TEST(AppendBadData, ReadsOffsetsThroughARunningMaximum) {
  Case c = paged_pair();
  c.fixed.k_new = c.fixed.v_new = view(FOVEA_F16, 1, 4, 1, 8);
  c.fixed.sequences = 2;
  c.kv_lengths = {0, 0};
  c.new_offsets = {-5, 1, 0};  // sequence 1 runs backwards: it is empty
  append(c.args());
  EXPECT_EQ(pages_written(c), 0x11u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_OFFSET, FOVEA_BAD_OFFSET}));
  c = paged_pair();
  c.page_offsets = {0, 1, INT_MAX};  // sequence 1 owns pages 1 to 3
  c.fixed.pages.count = 4;
  append(c.args());
  EXPECT_EQ(pages_written(c), 0x77u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_SLOT, FOVEA_BAD_OFFSET}));
}

TEST(AppendBadData, NeverWritesToACacheWithoutRoom) {
  for (int extent : {0, 1}) {
    Case c = paged_pair();
    c.fixed.k_cache.shape[extent] = c.fixed.v_cache.shape[extent] = 0;
    append(c.args());
    EXPECT_EQ(pages_written(c), 0u);
    c.ids.clear();
    c.slots = {0, 1, 2, 3};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0u);
    for (uint32_t bits : c.errors) EXPECT_NE(bits & (FOVEA_BAD_SLOT | FOVEA_BAD_PAGE), 0u);
  }
}

// The tables end where the process's memory ends.
TEST(AppendBadData, ReadsNothingPastTheTables) {
  const size_t page = 65536;
  auto *base = static_cast<uint8_t *>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(base, MAP_FAILED);
  ASSERT_EQ(mprotect(base + page, page, PROT_NONE), 0);
  auto *ids = reinterpret_cast<int32_t *>(base + page) - 4;
  for (int32_t i = 0; i < 4; ++i) ids[i] = i;
  for (int32_t length : {2, 3, 100000, INT_MAX}) {
    Case c = paged_pair();
    c.kv_lengths = {0, length};
    fovea_kv_append_args args = c.args();
    args.pages.ids = ids;
    append(args);
    EXPECT_EQ(pages_written(c), 0x33u) << length;
  }
  munmap(base, 2 * page);
}

// ---- Memory of any size ----------------------------------------------------------------------

// Address space without memory behind it until it is touched.
class Sparse {
 public:
  explicit Sparse(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Sparse() {
    if (good()) munmap(data_, bytes_);
  }
  bool good() const { return data_ != MAP_FAILED; }
  uint8_t *data() const { return static_cast<uint8_t *>(data_); }

 private:
  size_t bytes_;
  void *data_;
};

// Offsets on both sides of 2^31 and 2^32 elements, in each dimension of source and cache.
TEST(Append, CountsOffsetsIn64Bits) {
  for (int dimension = 0; dimension < 3; ++dimension) {
    const int64_t stride = (INT64_C(1) << 30) + 64;
    Sparse from(static_cast<size_t>(4 * stride + 64) * 2), to(static_cast<size_t>(4 * stride + 64));
    ASSERT_TRUE(from.good() && to.good());
    fovea_kv_append_args a = {};
    int64_t shape[3] = {1, 1, 1};
    shape[dimension] = 5;
    a.k_new = view(FOVEA_F16, shape[0], shape[1], shape[2], 8);
    a.k_cache = view(FOVEA_E4M3, shape[0], shape[1], shape[2], 8);
    a.k_new.data = from.data();
    a.k_cache.data = to.data();
    a.k_new.stride[dimension] = a.k_cache.stride[dimension] = stride;
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t d = 0; d < 8; ++d) {
        store_bits(FOVEA_F16, from.data() + (i * stride + d) * 2,
                   encode(FOVEA_F16, static_cast<double>(1 + 8 * i + d) / 8));
      }
    }
    const int32_t lengths[5] = {};
    a.kv_lengths = lengths;
    append(a);
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t d = 0; d < 8; ++d) {
        EXPECT_EQ(to.data()[i * stride + d],
                  encode(FOVEA_E4M3, static_cast<double>(1 + 8 * i + d) / 8))
            << dimension << " " << i << " " << d;
      }
    }
  }
}

// The last of 2^31 - 1 pages, and a slot number past 2^32.
TEST(Append, ReachesPagesAndSlotsPast32Bits) {
  const int64_t pages = INT_MAX, page_len = 4;
  Sparse to(static_cast<size_t>(pages * page_len * 8));
  ASSERT_TRUE(to.good());
  Case c = one_token(FOVEA_BF16, FOVEA_E5M2, Bits(8, 0x3f80));
  c.fixed.k_cache = view(FOVEA_E5M2, pages, page_len, 1, 8);
  c.ids = {INT_MAX - 1};
  c.fixed.pages.count = c.fixed.pages.row_stride = 1;
  c.kv_lengths = {3};
  fovea_kv_append_args a = c.args();
  a.k_cache.data = to.data();
  append(a);
  const int64_t last = pages * page_len - 1;
  EXPECT_EQ(to.data()[last * 8 + 7], 0x3c);
  EXPECT_EQ(c.errors[0], 0u);
  c.ids.clear();
  c.slots = {(INT64_C(1) << 32) + 5};
  a = c.args();
  a.k_cache.data = to.data();
  append(a);
  EXPECT_EQ(to.data()[c.slots[0] * 8], 0x3c);
  EXPECT_EQ(to.data()[5 * 8], 0);
}

// ---- Threads ---------------------------------------------------------------------------------

// Enough tokens to be cut into many tasks; a third of the slots are given more than once.
Case busy_case(uint64_t seed) {
  Draw draw(seed);
  Case c;
  fovea_kv_append_args &a = c.fixed;
  const int64_t tokens = 2048;
  a.k_new = view(FOVEA_BF16, 2, tokens / 2, 2, 64);
  a.v_new = view(FOVEA_F32, 2, tokens / 2, 2, 32);
  a.k_cache = view(FOVEA_E4M3, 100, 30, 2, 64);
  a.v_cache = view(FOVEA_F16, 100, 30, 2, 32);
  place_caches(&draw, &c);
  c.k_new = draw.fill(a.k_new);
  c.v_new = draw.fill(a.v_new);
  for (int64_t i = 0; i < tokens; ++i) c.slots.push_back(draw.between(-10, 3005));
  c.errors = {0, 0};
  return c;
}

TEST(AppendThreads, StoresTheSameBitsWhateverTheirNumber) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    for (int threads = 1; threads <= 4; ++threads) {
      expect_as_defined(busy_case(seed), threads, std::to_string(threads) + " threads");
      ASSERT_FALSE(HasFailure());
    }
  }
}

// All tokens go to one place: what stays there is one of them from end to end.
TEST(AppendThreads, LetOneTokenWinWhole) {
  Case c = busy_case(1);
  const int64_t tokens = 2048;
  c.k_new.clear();
  c.slots.assign(static_cast<size_t>(tokens), 77);
  for (int64_t i = 0; i < tokens * 128; ++i) {
    const uint32_t code = 0x3f80u + (static_cast<uint32_t>(i / 128) % 4 << 5);
    c.k_new.push_back(static_cast<uint8_t>(code));
    c.k_new.push_back(static_cast<uint8_t>(code >> 8));
  }
  append(c.args(), 4);
  const fovea_kv_append_args a = c.args();
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t d = 0; d < 64; ++d) {
      ASSERT_EQ(*address(a.k_cache, 77 / 30, 77 % 30, h, d), *address(a.k_cache, 2, 17, 0, 0));
    }
  }
}

#if defined(__SSE__)
// Audio code sets these bits, and threads inherit them. Subnormal results must not notice.
TEST(AppendThreads, IgnoreTheCallersFloatingPointMode) {
  Case c = random_case(0);
  c = one_token(FOVEA_F32, FOVEA_E4M3, kSpecials);
  c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, 1);
  c.k_scale.resize(4);
  const uint32_t tiny = 0x00000123;  // subnormal, so that 2^-140 / it is an ordinary number
  std::memcpy(c.k_scale.data(), &tiny, 4);
  for (size_t i = 0; i < 8; ++i)
    store_bits(FOVEA_F32, &c.k_new[4 * i], 0x00000200u + 77u * (uint32_t)i);
  const Bits expected = stored(c);
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040 | 0x6000);  // flush to zero, denormals are zero, round toward zero
  const Bits actual = stored(c);
  const unsigned left = _mm_getcsr();
  _mm_setcsr(mode);
  EXPECT_EQ(actual, expected);
  EXPECT_EQ(expected[1] & 0x7f, 0x40u | 0) << "2.05 would be wrong if it read as 0 / 0";
  EXPECT_EQ(left & 0xe040, 0xe040u);  // and it is as the caller had it
}
#endif

// ---- A cache that grows ----------------------------------------------------------------------

// A prompt, then token by token, into pages dealt out in disorder: the cache holds what one call
// on a contiguous cache stores.
TEST(Append, StepByStepIntoPagesStoresWhatOneCallStores) {
  Draw draw(7);
  const int64_t total = 37, prompt = 20, page_len = 5, heads = 2, dim = 16;
  Case whole;
  whole.fixed.k_new = whole.fixed.v_new = view(FOVEA_F16, 1, total, heads, dim);
  whole.fixed.k_cache = whole.fixed.v_cache = view(FOVEA_E5M2, 1, total, heads, dim);
  whole.k_new = draw.fill(whole.fixed.k_new);
  whole.v_new = draw.fill(whole.fixed.v_new);
  whole.cache.assign(2 * total * heads * dim, kCanary);
  whole.v_offset = whole.cache.size() / 2;
  whole.kv_lengths = {0};
  whole.fixed.rope.positions = total;
  whole.fixed.rope.rotary_dim = dim;
  whole.fixed.rope.stride = dim / 2;
  for (int64_t i = 0; i < total * dim / 2; ++i) {
    whole.cos.push_back(std::cos(static_cast<float>(i)));
    whole.sin.push_back(std::sin(static_cast<float>(i)));
  }
  Case steps = whole;
  append(whole.args());
  steps.ids = {3, 9, 0, 5, 1, 8, 2, 7};
  steps.fixed.pages.count = 8;
  steps.fixed.k_cache = steps.fixed.v_cache = view(FOVEA_E5M2, 10, page_len, heads, dim);
  steps.cache.assign(2 * 10 * page_len * heads * dim, kCanary);
  steps.v_offset = steps.cache.size() / 2;
  for (int64_t at = 0; at < total;) {
    const int64_t count = at == 0 ? prompt : 1;
    steps.kv_lengths = {static_cast<int32_t>(at)};
    steps.fixed.k_new.shape[1] = steps.fixed.v_new.shape[1] = count;
    fovea_kv_append_args a = steps.args();
    a.k_new.data = address(whole.args().k_new, 0, at, 0, 0);
    a.v_new.data = address(whole.args().v_new, 0, at, 0, 0);
    append(a);
    at += count;
  }
  const fovea_kv_append_args expected = whole.args(), actual = steps.args();
  for (int64_t i = 0; i < total; ++i) {
    const int64_t id = steps.ids[static_cast<size_t>(i / page_len)];
    const auto bytes = static_cast<size_t>(heads * dim);
    EXPECT_EQ(0, std::memcmp(address(expected.k_cache, 0, i, 0, 0),
                             address(actual.k_cache, id, i % page_len, 0, 0), bytes))
        << i;
    EXPECT_EQ(0, std::memcmp(address(expected.v_cache, 0, i, 0, 0),
                             address(actual.v_cache, id, i % page_len, 0, 0), bytes))
        << i;
  }
}

}  // namespace
