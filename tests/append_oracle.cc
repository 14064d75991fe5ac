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
  return static_cast<char *>(t.data) + offset * static_cast<int64_t>(size_of(t.dtype));
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
  const int32_t *ids;
  bool rotated;
};

std::vector<Side> sides_of(const fovea_kv_append_args &a) {
  std::vector<Side> sides;
  const int32_t *v_ids = a.sequences.pages.v_ids ? a.sequences.pages.v_ids : a.sequences.pages.ids;
  if (a.k_new.dtype) {
    sides.push_back(
        {&a.k_new, &a.k_cache, &a.k_scale, a.sequences.pages.ids, a.rope.cos != nullptr});
  }
  if (a.v_new.dtype) sides.push_back({&a.v_new, &a.v_cache, &a.v_scale, v_ids, false});
  return sides;
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

void append_token(const fovea_kv_append_args &a, int64_t s, int64_t t, Token at, int64_t token,
                  uint32_t *errors) {
  const std::vector<Side> sides = sides_of(a);
  const int64_t length = a.slots ? 0 : a.sequences.kv_lengths[s];
  Place places[2] = {};
  bool good = true;
  if (length < 0) {
    *errors |= FOVEA_BAD_LENGTH;
    return;
  }
  for (size_t i = 0; i < sides.size(); ++i) {
    good &= find(a, sides[i], s, length + t, token, &places[i], errors);
  }
  at.position = a.rope.positions ? a.rope.positions[token] : length + t;
  if (a.slots && a.slots[token] < 0) return;
  if (a.rope.cos && (at.position < 0 || at.position >= a.rope.rows)) {
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

}  // namespace

void append_by_definition(const fovea_kv_append_args &a) {
  const fovea_tensor &any = a.k_new.dtype ? a.k_new : a.v_new;
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
    for (int64_t row = begin; row < end; ++row) {
      const Token at = {a.sequences.q_offsets ? 0 : s, row, 0};
      const int64_t token = a.sequences.q_offsets ? row : s * any.shape[1] + row;
      append_token(a, s, row - begin, at, token, &errors);
    }
    if (a.errors) a.errors[s] |= errors;
  }
}

}  // namespace fovea_test
