// append_case.cc - see append_case.h: making cases, calling the library, comparing.
#include "tests/append_case.h"

#include <gtest/gtest.h>

#include <climits>

#include "tests/handle_of.h"

namespace fovea_test {
namespace {

fovea_status call(fovea_handle *handle, const fovea_kv_append_args *args) {
  return fovea_kv_append(handle, args, nullptr);
}

}  // namespace

fovea_status (*append_call)(fovea_handle *handle, const fovea_kv_append_args *args) = call;

void append(const fovea_kv_append_args &args, int threads, fovea_device device) {
  fovea_handle *handle = handle_of(device, threads);
  EXPECT_EQ(append_call(handle, &args), FOVEA_OK) << fovea_error_detail();
}

int64_t span_of(const fovea_tensor &t) {
  int64_t last = 0;
  for (int i = 0; i < 4; ++i) {
    if (t.shape[i] == 0) return 0;
    if (t.shape[i] != 1) last += (t.shape[i] - 1) * t.stride[i];
  }
  return last + 1;
}

void expect_as_defined(const Case &original, int threads, fovea_device device,
                       const std::string &what) {
  Case expected = original, actual = original;
  append_by_definition(expected.args());
  append(actual.args(), threads, device);
  EXPECT_EQ(expected.errors, actual.errors) << what;
  ASSERT_EQ(expected.cache.size(), actual.cache.size());
  for (size_t i = 0; i < expected.cache.size(); ++i) {
    ASSERT_EQ(expected.cache[i], actual.cache[i])
        << what << ": byte " << i << " of the cache buffer, k at " << original.k_offset << ", v at "
        << original.v_offset;
  }
  EXPECT_EQ(expected.q, actual.q) << what;
  EXPECT_EQ(expected.q_out, actual.q_out) << what;
  // Inputs must not change.
  EXPECT_EQ(original.k_new, actual.k_new) << what;
  EXPECT_EQ(original.v_new, actual.v_new) << what;
}

fovea_tensor view(uint32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
  return fovea_contiguous(nullptr, static_cast<fovea_dtype>(dtype), a, b, c, d);
}

void place_caches(Draw *draw, Case *c) {
  fovea_tensor *k = &c->fixed.k_cache, *v = &c->fixed.v_cache;
  const size_t margin = 64;
  const int64_t both = k->shape[3] + v->shape[3];
  int64_t elements_k, elements_v = 0;
  c->k_offset = margin;
  if (k->dtype == v->dtype && draw->chance(2)) {
    draw->layout(k, both + block_of(k->dtype) * draw->upto(3));
    std::copy(k->stride, k->stride + 4, v->stride);
    elements_k = span_of(*k) + v->shape[3];
    c->v_offset = margin + bytes_of(k->dtype, k->shape[3]);
  } else {
    draw->layout(k, k->shape[3] + block_of(k->dtype) * draw->upto(3));
    draw->layout(v, v->shape[3] + block_of(v->dtype) * draw->upto(3));
    elements_k = span_of(*k);
    elements_v = span_of(*v);
    c->v_offset = (margin + bytes_of(k->dtype, elements_k) + margin) / 4 * 4;
  }
  const size_t end_k = c->k_offset + bytes_of(k->dtype, elements_k);
  const size_t end_v = c->v_offset + bytes_of(v->dtype, elements_v);
  c->cache.assign(std::max(end_k, end_v) + margin, kCanary);
}

namespace {

bool is_8bit(uint32_t dtype) {
  return dtype >= FOVEA_E4M3 && dtype <= FOVEA_I8;
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

void add_rope(Draw *draw, int64_t tokens, int64_t dim, Case *c) {
  fovea_rope *rope = &c->fixed.rope;
  if (draw->chance(3)) return;
  rope->rows = draw->between(1, 40);
  rope->rotary_dim = static_cast<int32_t>(2 * draw->between(1, dim / 2));
  if (draw->chance(2)) rope->rotary_dim = static_cast<int32_t>(dim);
  rope->stride = rope->rotary_dim / 2 + draw->upto(3);
  rope->style = static_cast<uint32_t>(draw->upto(1));
  const auto size = static_cast<size_t>((rope->rows - 1) * rope->stride + rope->rotary_dim / 2);
  for (size_t i = 0; i < size; ++i) {
    c->cos.push_back(draw->number());
    c->sin.push_back(draw->number());
  }
  if (draw->chance(3) && !(c->kv_lengths.empty())) return;
  for (int64_t i = 0; i <= tokens; ++i) {  // one more: never NULL
    const int64_t position = draw->upto(rope->rows - 1);
    c->positions.push_back(static_cast<int32_t>(
        draw->chance(20) ? draw->of<int64_t>({-1, INT_MIN, rope->rows, INT_MAX}) : position));
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
    for (int64_t i = 0; i <= tokens; ++i) {  // one more: never NULL
      c->slots.push_back(draw->chance(6)
                             ? draw->of<int64_t>({-1, INT64_MIN, outers * inners, INT64_MAX})
                             : draw->upto(outers * inners - 1));
    }
    return;
  }
  if (mode != 0) {
    fovea_pages *pages = &c->fixed.sequences.pages;
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

}  // namespace

Case random_case(uint64_t seed, uint32_t last) {
  Draw draw(seed);
  Case c;
  fovea_kv_append_args &a = c.fixed;
  const int64_t sequences = draw.between(1, 4), heads = draw.between(1, 3);
  int64_t dim = 8 * draw.between(1, draw.chance(8) ? 40 : 3), dim_v = 8 * draw.between(1, 3);
  const bool packed = draw.chance(2);
  const int64_t rows = draw.upto(7), batch = packed ? 1 : sequences;
  const uint32_t new_k = draw.of<uint32_t>({FOVEA_F32, FOVEA_F16, FOVEA_BF16});
  const uint32_t new_v = draw.of<uint32_t>({FOVEA_F32, FOVEA_F16, FOVEA_BF16});
  const auto cache_type = [&] {
    if (last == FOVEA_Q4_0 && draw.chance(2)) return draw.of<uint32_t>({FOVEA_Q8_0, FOVEA_Q4_0});
    return (uint32_t)draw.between(FOVEA_F32, std::min<int64_t>(last, FOVEA_I8));
  };
  const uint32_t cache_k = cache_type();
  const uint32_t cache_v = draw.chance(2) ? cache_k : cache_type();
  if (block_of(cache_k) > 1) dim = (dim + 31) / 32 * 32;
  if (block_of(cache_v) > 1) dim_v = (dim_v + 31) / 32 * 32;
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
    a.sequences.count = sequences;
    for (int64_t s = 0; s <= sequences; ++s) {
      c.new_offsets.push_back(
          static_cast<int32_t>(draw.chance(8) ? draw.of<int64_t>({-1, INT_MIN, rows + 1, INT_MAX})
                                              : (rows * s + draw.upto(1)) / sequences));
    }
  }
  add_rope(&draw, tokens, dim, &c);
  c.k_new = draw.fill(a.k_new);
  c.v_new = draw.fill(a.v_new);
  if (draw.chance(6)) a.v_new = a.v_cache = a.v_scale = fovea_tensor{};
  if (a.v_new.dtype && draw.chance(8)) {
    a.k_new = a.k_cache = a.k_scale = fovea_tensor{};
    c.cos.clear();
    c.sin.clear();
  }
  if (!draw.chance(8)) c.errors.assign(static_cast<size_t>(sequences), 0x80000000u);
  return c;
}

namespace {

void add_norm(Draw *draw, const fovea_tensor &of, fovea_norm *norm, std::vector<float> *gain) {
  if (!of.dtype || draw->chance(3)) return;
  norm->stride = draw->chance(2) ? 0 : draw->between(1, of.shape[3] + 3);
  norm->eps = draw->chance(4) ? std::ldexp(1.0f, (int)draw->between(-149, 127)) : 1e-6f;
  norm->unit_offset = static_cast<uint32_t>(draw->upto(1));
  norm->scope = static_cast<uint32_t>(draw->upto(1));
  const int64_t size = (of.shape[2] - 1) * norm->stride + of.shape[3];
  for (int64_t i = 0; i < size; ++i) gain->push_back(draw->number());
}

// Ordinary numbers, so that a norm is one too; rarely any bits.
std::vector<uint8_t> fill_finite(Draw *draw, const fovea_tensor &t) {
  std::vector<uint8_t> memory(static_cast<size_t>(span_of(t)) * size_of(t.dtype));
  for (size_t i = 0; i < memory.size(); i += size_of(t.dtype)) {
    const double value = static_cast<double>(draw->between(-4096, 4096)) / 997;
    store_bits(t.dtype, &memory[i],
               draw->chance(200) ? draw->bits(t.dtype) : encode(t.dtype, value));
  }
  return memory;
}

// Queries alone go to no cache.
void drop_cache(Draw *draw, Case *c) {
  fovea_kv_append_args &a = c->fixed;
  a.k_new = a.k_cache = a.k_scale = a.v_new = a.v_cache = a.v_scale = fovea_tensor{};
  c->slots.clear();
  c->ids.clear();
  c->v_ids.clear();
  c->page_offsets.clear();
  if ((c->cos.empty() || !c->positions.empty()) && draw->chance(2)) c->kv_lengths.clear();
}

}  // namespace

Case with_queries(Case c, uint64_t seed) {
  Draw draw(~seed);
  fovea_kv_append_args &a = c.fixed;
  const bool has_k = a.k_new.dtype != 0;
  const fovea_tensor like = has_k ? a.k_new : a.v_new;
  const int64_t dim = has_k ? like.shape[3] : 4 * draw.between(1, 20);
  const int64_t heads = draw.between(1, 5);
  a.q = view(draw.of<uint32_t>({FOVEA_F32, FOVEA_F16, FOVEA_BF16}), like.shape[0], like.shape[1],
             heads, dim);
  a.q_out =
      view((uint32_t)draw.between(FOVEA_F32, FOVEA_E4M3), like.shape[0], like.shape[1], heads, dim);
  draw.layout(&a.q, dim + draw.upto(2));
  draw.layout(&a.q_out, dim + draw.upto(2));
  c.in_place = draw.chance(3);
  if (c.in_place) {
    a.q_out = a.q;
  } else if (draw.chance(8)) {
    a.q.stride[2] = 0;  // one head for all
  }
  add_scale(&draw, a.q_out, &a.q_scale, &c.q_scale);
  if (!has_k) {
    c.positions.clear();
    add_rope(&draw, like.shape[0] * like.shape[1], dim, &c);
  }
  if (draw.chance(4)) drop_cache(&draw, &c);
  add_norm(&draw, a.q, &a.q_norm, &c.q_gain);
  add_norm(&draw, a.k_new, &a.k_norm, &c.k_gain);
  add_norm(&draw, a.v_new, &a.v_norm, &c.v_gain);
  const int64_t sequences = c.new_offsets.empty() ? like.shape[0] : a.sequences.count;
  for (int64_t s = 0; s < sequences && seed % 4 == 0; ++s) {
    c.q_lengths.push_back(static_cast<int32_t>(
        draw.chance(8) ? draw.of<int64_t>({-1, INT_MIN, INT_MAX}) : draw.upto(like.shape[1])));
  }
  c.q_offset = 64;
  c.q = fill_finite(&draw, a.q);
  c.q.insert(c.q.begin(), 64, kCanary);
  c.q.insert(c.q.end(), 64, kCanary);
  c.q_out.assign(128 + static_cast<size_t>(span_of(a.q_out)) * size_of(a.q_out.dtype), kCanary);
  if (a.k_new.dtype && !c.k_gain.empty()) c.k_new = fill_finite(&draw, a.k_new);
  if (a.v_new.dtype && !c.v_gain.empty()) c.v_new = fill_finite(&draw, a.v_new);
  return c;
}

Case one_token(uint32_t from, uint32_t to, const std::vector<uint32_t> &bits) {
  Case c;
  const auto dim = static_cast<int64_t>(bits.size());
  c.fixed.k_new = view(from, 1, 1, 1, dim);
  c.fixed.k_cache = view(to, 1, 1, 1, dim);
  c.kv_lengths = {0};
  c.k_new.resize(bits.size() * size_of(from));
  for (size_t i = 0; i < bits.size(); ++i) store_bits(from, &c.k_new[i * size_of(from)], bits[i]);
  c.cache.assign(bytes_of(to, dim), kCanary);
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

}  // namespace fovea_test
