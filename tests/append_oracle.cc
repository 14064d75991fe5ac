// append_oracle.cc - fovea_kv_append as the header describes it, one element at a time.
//
// Volatile floats round every operation by itself. support/formats.h has the number formats.
#include <algorithm>

#include "tests/append_case.h"

namespace fovea_test {

char *address(const fovea_tensor &t, int64_t i, int64_t j, int64_t h, int64_t d) {
  const int64_t index[4] = {i, j, h, d};
  int64_t offset = 0;
  for (int n = 0; n < 4; ++n) {
    if (t.shape[n] != 1) offset += index[n] * t.stride[n];
  }
  return static_cast<char *>(t.data) + bytes_of(t.dtype, offset);
}

// The NaNs that the header lists. Those of support/formats.h differ.
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

namespace {

struct Side {
  const fovea_tensor *from, *to, *scale;
  const fovea_norm *norm;
  const int32_t *ids;
  bool rotated;
};

std::vector<Side> sides_of(const fovea_kv_append_args &a) {
  std::vector<Side> sides;
  const int32_t *v_ids = a.sequences.pages.v_ids ? a.sequences.pages.v_ids : a.sequences.pages.ids;
  if (a.k_new.dtype) {
    sides.push_back({&a.k_new, &a.k_cache, &a.k_scale, &a.k_norm, a.sequences.pages.ids,
                     a.rope.cos != nullptr});
  }
  if (a.v_new.dtype) sides.push_back({&a.v_new, &a.v_cache, &a.v_scale, &a.v_norm, v_ids, false});
  return sides;
}

float value_of(const fovea_tensor &t, int64_t i, int64_t j, int64_t h, int64_t d) {
  return static_cast<float>(decode(t.dtype, load_bits(t.dtype, address(t, i, j, h, d))));
}

struct Token {
  int64_t batch, row, position;
  float root;  // of the norm of the head at hand
};
struct Place {
  int64_t outer, inner;
};

// The squares of a head: 32 parts, then their halves onto each other.
float squares(const fovea_tensor &from, const Token &t, int64_t h) {
  volatile float parts[32] = {};
  for (int64_t d = 0; d < from.shape[3]; ++d) {
    const float x = value_of(from, t.batch, t.row, h, d);
    volatile float square = x * x;
    parts[d % 32] = parts[d % 32] + square;
  }
  for (int n : {16, 8, 4, 2, 1}) {
    for (int j = 0; j < n; ++j) parts[j] = parts[j] + parts[j + n];
  }
  return parts[0];
}

// 1 / sqrt(sum / count + eps).
float root_for(const fovea_norm &norm, const fovea_tensor &from, const Token &t, int64_t h) {
  int64_t count = from.shape[3];
  volatile float sum = squares(from, t, norm.scope == FOVEA_NORM_TOKEN ? 0 : h);
  if (norm.scope == FOVEA_NORM_TOKEN) {
    for (int64_t other = 1; other < from.shape[2]; ++other) sum = sum + squares(from, t, other);
    count *= from.shape[2];
  }
  volatile float mean = sum / static_cast<float>(count);
  volatile float more = mean + norm.eps;
  volatile float root = std::sqrt(static_cast<float>(more));
  return 1 / root;
}

// Element d of a head after the norm.
float normed(const Side &side, const Token &t, int64_t h, int64_t d) {
  const fovea_norm &norm = *side.norm;
  volatile float x = value_of(*side.from, t.batch, t.row, h, d);
  if (!norm.gain) return x;
  volatile float gain = norm.gain[h * norm.stride + d];
  if (norm.unit_offset) gain = 1 + gain;
  x = x * t.root;
  return x * gain;
}

// x*c - y*s or y*c + x*s for element d of a key or query.
float rotated(const fovea_rope &rope, const Side &side, const Token &t, int64_t h, int64_t d) {
  const int64_t half = rope.rotary_dim / 2;
  const bool interleaved = rope.style == FOVEA_ROPE_INTERLEAVED;
  const int64_t pair = interleaved ? d / 2 : d % half;
  const bool second = interleaved ? d % 2 == 1 : d >= half;
  const float x = normed(side, t, h, interleaved ? 2 * pair : pair);
  const float y = normed(side, t, h, interleaved ? 2 * pair + 1 : half + pair);
  const float c = rope.cos[t.position * rope.stride + pair];
  const float s = rope.sin[t.position * rope.stride + pair];
  volatile float one = second ? y * c : x * c;
  volatile float two = second ? x * s : y * s;
  volatile float sum = second ? one + two : one - two;
  return sum;
}

float prepared(const fovea_kv_append_args &a, const Side &side, const Token &t, int64_t h,
               int64_t d) {
  const bool turn = side.rotated && d < a.rope.rotary_dim;
  return turn ? rotated(a.rope, side, t, h, d) : normed(side, t, h, d);
}

// A NaN is 0 in q8_0, and 8 in q4_0, of which the value is 0.
int limited(float x, int low, int high, int of_nan) {
  if (std::isnan(x)) return of_nan;
  return x < static_cast<float>(low)    ? low
         : x > static_cast<float>(high) ? high
                                        : static_cast<int>(x);
}

// 32 elements as ggml's reference quantisers, and what the header says of other numbers.
void write_block(uint32_t dtype, const float *x, char *to) {
  auto *block = reinterpret_cast<uint8_t *>(to);
  float most = 0;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
  }
  const bool wide = dtype == FOVEA_Q8_0;
  volatile float scale = wide ? std::fabs(most) / 127 : most / -8;
  volatile float inverse = scale != 0 ? 1 / scale : 0;
  store_bits(FOVEA_F16, block, encode(FOVEA_F16, static_cast<float>(scale)));
  for (int i = 0; i < 32; ++i) {
    volatile float steps = x[i] * inverse, shifted = steps + 8.5f;
    if (wide) {
      const int code = limited(std::round(static_cast<float>(steps)), -127, 127, 0);
      block[2 + i] = static_cast<uint8_t>(code);
    } else {
      const int code = limited(shifted, 0, 15, 8);
      uint8_t &byte = block[2 + i % 16];
      byte = static_cast<uint8_t>(i < 16 ? code : byte | code << 4);
    }
  }
}

void write_blocks(const fovea_kv_append_args &a, const Side &side, const Token &t, Place place,
                  int64_t h) {
  float x[32];
  for (int64_t d = 0; d < side.to->shape[3]; d += 32) {
    for (int i = 0; i < 32; ++i) x[i] = prepared(a, side, t, h, d + i);
    write_block(side.to->dtype, x, address(*side.to, place.outer, place.inner, h, d));
  }
}

void write_element(const fovea_kv_append_args &a, const Side &side, const Token &t, Place place,
                   int64_t h, int64_t d) {
  char *to = address(*side.to, place.outer, place.inner, h, d);
  const bool turn = side.rotated && d < a.rope.rotary_dim;
  const bool scaled = side.scale->dtype != FOVEA_NONE;
  if (!turn && !scaled && !side.norm->gain && side.from->dtype == side.to->dtype) {
    store_bits(side.to->dtype, to,
               load_bits(side.from->dtype, address(*side.from, t.batch, t.row, h, d)));
    return;
  }
  volatile float x = prepared(a, side, t, h, d);
  if (scaled) {
    const int64_t block = d / (side.to->shape[3] / side.scale->shape[3]);
    x = x / value_of(*side.scale, place.outer, place.inner, h, block);
  }
  store_bits(side.to->dtype, to, expected_bits(side.to->dtype, x));
}

// The max of the offsets up to i, clamped to [0, total].
int64_t running_maximum(const int32_t *offsets, int64_t i, int64_t total) {
  int64_t most = 0;
  for (int64_t n = 0; n <= i; ++n) most = std::max<int64_t>(most, offsets[n]);
  return std::min(most, total);
}

// Finds the place of a token in one cache. False if it has none: then a bit of errors says why,
// except for a negative slot.
bool find(const fovea_kv_append_args &a, const Side &side, int64_t s, int64_t n, int64_t token,
          Place *place, uint32_t *errors) {
  const int64_t outers = side.to->shape[0], inners = side.to->shape[1];
  if (a.slots) {
    const int64_t flat = a.slots[token];
    if (flat < 0) return false;
    if (flat < outers * inners) return *place = {flat / inners, flat % inners}, true;
    return *errors |= FOVEA_BAD_SLOT, false;
  }
  if (!a.sequences.pages.ids) {
    if (n < inners) return *place = {s, n}, true;
    return *errors |= FOVEA_BAD_SLOT, false;
  }
  int64_t first = s * a.sequences.pages.row_stride, count = a.sequences.pages.count;
  if (a.sequences.pages.offsets) {
    first = running_maximum(a.sequences.pages.offsets, s, a.sequences.pages.count);
    count = running_maximum(a.sequences.pages.offsets, s + 1, a.sequences.pages.count) - first;
  }
  if (n / inners >= count) return *errors |= FOVEA_BAD_SLOT, false;
  const int64_t id = side.ids[first + n / inners];
  if (id < 0 || id >= outers) return *errors |= FOVEA_BAD_PAGE, false;
  return *place = {id, n % inners}, true;
}

void write_token(const fovea_kv_append_args &a, const Side &side, Token at, Place place) {
  for (int64_t h = 0; h < side.to->shape[2]; ++h) {
    if (side.norm->gain) at.root = root_for(*side.norm, *side.from, at, h);
    if (block_of(side.to->dtype) > 1) {
      write_blocks(a, side, at, place, h);
      continue;
    }
    for (int64_t d = 0; d < side.to->shape[3]; ++d) write_element(a, side, at, place, h, d);
  }
}

// q may lie where q_out does: `whole` has a copy of it.
void prepare_query(const fovea_kv_append_args &a, const fovea_tensor &whole, const Token &at,
                   bool zeros) {
  const Side side = {&whole, &a.q_out, &a.q_scale, &a.q_norm, nullptr, a.rope.cos != nullptr};
  if (!zeros) return write_token(a, side, at, {at.batch, at.row});
  for (int64_t h = 0; h < a.q_out.shape[2]; ++h) {
    for (int64_t d = 0; d < a.q_out.shape[3]; ++d) {
      store_bits(a.q_out.dtype, address(a.q_out, at.batch, at.row, h, d), 0);
    }
  }
}

void append_token(const fovea_kv_append_args &a, const fovea_tensor &q, int64_t s, int64_t t,
                  Token at, int64_t token, uint32_t *errors) {
  const std::vector<Side> sides = sides_of(a);
  const int64_t length = a.sequences.kv_lengths ? a.sequences.kv_lengths[s] : 0;
  const bool padding = a.slots && a.slots[token] < 0;
  Place places[2] = {};
  bool good = length >= 0, positioned = true;
  if (length < 0) *errors |= FOVEA_BAD_LENGTH;
  for (size_t i = 0; i < sides.size() && length >= 0; ++i) {
    good &= find(a, sides[i], s, length + t, token, &places[i], errors);
  }
  if (!q.dtype && (length < 0 || padding)) return;
  at.position = a.rope.positions ? a.rope.positions[token] : length + t;
  if (a.rope.cos && !padding) {
    positioned = at.position >= 0 && at.position < a.rope.rows;
    if (!a.rope.positions && length < 0) {
      positioned = false;
    } else if (!positioned) {
      *errors |= FOVEA_BAD_POSITION;
    }
  }
  if (q.dtype) prepare_query(a, q, at, padding || !positioned);
  for (size_t i = 0; i < sides.size() && good && positioned; ++i) {
    write_token(a, sides[i], at, places[i]);
  }
}

bool offsets_are_bad(const int32_t *offsets, int64_t s, int64_t total) {
  return running_maximum(offsets, s, total) != offsets[s] ||
         running_maximum(offsets, s + 1, total) != offsets[s + 1];
}

}  // namespace

void append_by_definition(const fovea_kv_append_args &a) {
  const fovea_tensor &any = a.k_new.dtype ? a.k_new : a.v_new.dtype ? a.v_new : a.q;
  fovea_tensor q = a.q;
  std::vector<char> copy;
  if (q.dtype && q.data) {
    const char *data = static_cast<const char *>(q.data);
    copy.assign(data, data + span_of(q) * static_cast<int64_t>(size_of(q.dtype)));
    q.data = copy.data();
  }
  if (any.shape[1] == 0) return;  // nothing to do, so nothing is looked at
  const int64_t sequences = a.sequences.q_offsets ? a.sequences.count : any.shape[0];
  for (int64_t s = 0; s < sequences; ++s) {
    int64_t begin = 0, end = any.shape[1];
    uint32_t errors = 0;
    if (a.sequences.q_offsets) {
      begin = running_maximum(a.sequences.q_offsets, s, any.shape[1]);
      end = running_maximum(a.sequences.q_offsets, s + 1, any.shape[1]);
      if (offsets_are_bad(a.sequences.q_offsets, s, any.shape[1])) errors |= FOVEA_BAD_OFFSET;
    }
    if (a.sequences.pages.offsets &&
        offsets_are_bad(a.sequences.pages.offsets, s, a.sequences.pages.count)) {
      errors |= FOVEA_BAD_OFFSET;
    }
    if (a.sequences.q_lengths) {
      const int64_t used = std::clamp<int64_t>(a.sequences.q_lengths[s], 0, end - begin);
      if (used != a.sequences.q_lengths[s]) errors |= FOVEA_BAD_LENGTH;
      end = begin + used;
    }
    for (int64_t row = begin; row < end; ++row) {
      const Token at = {a.sequences.q_offsets ? 0 : s, row, 0, 0};
      const int64_t token = a.sequences.q_offsets ? row : s * any.shape[1] + row;
      append_token(a, q, s, row - begin, at, token, &errors);
    }
    if (a.errors) a.errors[s] |= errors;
  }
}

}  // namespace fovea_test
