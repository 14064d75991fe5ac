// cached.cuh - 8-bit keys and values, and their scales.
//
// A thread copies codes as they lie in the cache, 16 at a time, into a part of shared memory that
// only its warp reads. When they have arrived, the warp widens them to the type of q, which loses
// nothing, and puts them where 16-bit keys and values would be. From there on all is as with these.
//
// A scale that all elements of a key share multiplies the key's scores, in f32. One that all of a
// value share multiplies its weights, or all of O at the end if it is the same for all values. So
// no element is rounded.
//
// Where a key has several scales, by channel or block, its elements are products of f32, and what
// is put in shared memory is their leading part, and before that what it leaves: two parts of f16
// or three of bf16 have all bits of f32. The scores of all parts are added. Of values two parts
// suffice, since weights are rounded too. f16 has few exponents: the largest element of each key is
// brought near to its largest number, and what is left by a part is multiplied before it is the
// next. This takes more barriers, and more instructions for each element.
#ifndef FOVEA_KERNELS_PARTS_CACHED_CUH
#define FOVEA_KERNELS_PARTS_CACHED_CUH

#include "kernels/arch/convert.cuh"
#include "kernels/parts/codes.cuh"
#include "kernels/parts/online_softmax.cuh"
#include "kernels/parts/score.cuh"
#include "kernels/parts/widen.cuh"

// ---- Scales ----

__device__ __forceinline__ float fv_read_scale(const fv_device_scale &scale, int64_t index) {
  if (scale.type == FV_TYPE_F32) return static_cast<const float *>(scale.data)[index];
  return fv_f32_from_f16(static_cast<const uint16_t *>(scale.data)[index]);
}

// What a widened code of the call's type is to be multiplied by.
template <class Type>
__device__ __forceinline__ float fv_unit(uint32_t type) {
  return type == FV_TYPE_E4M3   ? fv_widening<Type, FV_TYPE_E4M3>::unit
         : type == FV_TYPE_E5M2 ? fv_widening<Type, FV_TYPE_E5M2>::unit
                                : fv_widening<Type, FV_TYPE_I8>::unit;
}

// The power of two that x is at least, in a range whose ends have reciprocals.
__device__ __forceinline__ float fv_power_below(float x) {
  uint32_t bits = __float_as_uint(x) & 0x7f800000;
  return __uint_as_float(min(max(bits, 0x0d800000u), 0x71800000u));  // 2^-100 to 2^100
}

// 1 / x of a power of two.
__device__ __forceinline__ float fv_inverse_power(float x) {
  return __uint_as_float(0x7f000000 - __float_as_uint(x));
}

// What the scores of a key, or the weights of a value, are multiplied by. Where it has several
// scales, widening says.
template <class Config>
__device__ __forceinline__ float fv_scale_of_key(const fv_device_scale &scale, int64_t begin,
                                                 uint32_t type) {
  using Type = typename Config::type;
  if (!scale.data) return fv_unit<Type>(type);
  if (scale.blocks > 1) return 1.0f;
  return fv_read_scale(scale, begin) * fv_unit<Type>(type);
}

// The scales that a thread looks up for the next tile: of one key or value of a wide tile, of one
// key and its value of a narrow one.
template <class Config>
struct fv_own_scales {
  static constexpr int sides = Config::threads == 32 ? 2 : 1;
  float scale[sides];
  int64_t begin[sides];  // of its scales; -1: no such key
};

// Which side, key and word a thread has as number i.
template <class Config>
struct fv_own_key {
  static constexpr int words = fv_visible_keys<Config::tile_kv>::words;
  int side, word, key;
  bool exists;
  __device__ __forceinline__ explicit fv_own_key(int i) {
    const int warp = Config::threads == 32 ? 0 : threadIdx.x / 32;
    side = Config::threads == 32 ? i : warp / words;
    word = warp % words;
    key = word * 32 + threadIdx.x % 32;
    exists = side < 2 && key < Config::tile_kv;
  }
};

// Where the scales of the thread's key begin, in elements from the start of the tensor.
template <class Config>
__device__ __forceinline__ int64_t fv_scale_begin(const fv_attention_params &p,
                                                  const fv_query_tile &tile,
                                                  const fv_next_keys<Config> &keys,
                                                  const fv_own_key<Config> &own) {
  constexpr int words = fv_own_key<Config>::words;
  const fv_device_scale &scale = own.side ? p.v_scale : p.k_scale;
  int64_t head = tile.kv_head * scale.head;
  if (fv_is_plain<Config>(tile, keys.begin)) {
    int64_t key = tile.sequence.kv_begin + (keys.begin + (uint32_t)own.key);
    return head + tile.sequence.kv_batch * scale.batch + key * scale.seq;
  }
  if (words == 1 || own.word == 0) {
    return head + (own.side ? keys.places.v_scale[0] : keys.places.k_scale[0]);
  }
  return head + (own.side ? keys.places.v_scale[words - 1] : keys.places.k_scale[words - 1]);
}

// Keys that no row sees have the scale 0: theirs is not read.
template <class Config>
__device__ __forceinline__ fv_own_scales<Config> fv_load_scales(const fv_attention_params &p,
                                                                const fv_query_tile &tile,
                                                                const fv_next_keys<Config> &keys) {
  fv_own_scales<Config> scales;
#pragma unroll
  for (int i = 0; i < scales.sides; ++i) {
    const fv_own_key<Config> own(i);
    scales.scale[i] = 0.0f;
    scales.begin[i] = -1;
    if (!own.exists || !keys.visible.has(own.key, own.word * 32)) continue;
    scales.begin[i] = fv_scale_begin<Config>(p, tile, keys, own);
    scales.scale[i] = fv_scale_of_key<Config>(own.side ? p.v_scale : p.k_scale, scales.begin[i],
                                              own.side ? p.v_type : p.k_type);
  }
  return scales;
}

// Where the tile's scales stand, in shared memory: those of a narrow tile by warp.
template <class Config>
__device__ __forceinline__ int fv_first_scale() {
  return Config::threads == 32 ? threadIdx.x / 32 % FV_NARROW_WARPS * Config::tile_kv : 0;
}

// The tile's threads read them after a barrier.
template <class Config, class Memory>
__device__ __forceinline__ void fv_put_scales(Memory &memory, const fv_own_scales<Config> &scales) {
#pragma unroll
  for (int i = 0; i < scales.sides; ++i) {
    const fv_own_key<Config> own(i);
    if (!own.exists) continue;
    memory.scale[own.side][fv_first_scale<Config>() + own.key] = scales.scale[i];
    memory.begin[own.side][fv_first_scale<Config>() + own.key] = scales.begin[i];
  }
}

// ---- Widening ----

// How many parts the elements of keys, and of values, are put in shared memory as.
template <class Config>
__device__ __forceinline__ int fv_key_parts(const fv_attention_params &p) {
  if (p.k_scale.blocks <= 1) return 1;
  return Config::type::weight_exponent == 0 ? 3 : 2;
}
__device__ __forceinline__ int fv_value_parts(const fv_attention_params &p) {
  return p.v_scale.blocks <= 1 ? 1 : 2;
}

// Eight codes, as four pairs.
template <class Type, uint32_t TYPE>
__device__ __forceinline__ uint4 fv_widen_eight(uint2 codes) {
  using widening = fv_widening<Type, TYPE>;
  return make_uint4(widening::template pair<0>(codes.x), widening::template pair<1>(codes.x),
                    widening::template pair<0>(codes.y), widening::template pair<1>(codes.y));
}

// The 16 bits of a code, NaN where its magnitude is from `first` on.
__device__ __forceinline__ uint32_t fv_mend_one(uint32_t code, uint32_t first, uint32_t bits) {
  return (code & 0x7f) < first ? bits : 0x7fff;
}

template <class Type, uint32_t TYPE>
__device__ __forceinline__ uint32_t fv_mend_pair(uint32_t codes, int half, uint32_t pair) {
  constexpr uint32_t first = fv_widening<Type, TYPE>::first_odd;
  uint32_t low = fv_mend_one(codes >> 16 * half, first, pair & 0xffff);
  uint32_t high = fv_mend_one(codes >> (16 * half + 8), first, pair >> 16);
  return low | high << 16;
}

// What a part leaves is multiplied by it, so that in f16 the next reaches farther down.
template <class Type>
constexpr float fv_part_step = Type::weight_exponent == 0 ? 1.0f : 2048.0f;  // f16: 2^11

// What is left of x when it has been rounded. Infinities and NaNs have one part.
template <class Type>
__device__ __forceinline__ float fv_rest_of(float x, float rounded) {
  return fabsf(rounded) < INFINITY ? (x - rounded) * fv_part_step<Type> : 0.0f;
}

// Part `part` of x and y.
template <class Type>
__device__ __forceinline__ uint32_t fv_part_of_pair(float x, float y, int part) {
  uint32_t pair = Type::pack(x, y);
#pragma unroll 1
  for (int i = 0; i < part; ++i) {
    x = fv_rest_of<Type>(x, Type::low(pair));
    y = fv_rest_of<Type>(y, Type::high(pair));
    pair = Type::pack(x, y);
  }
  return pair;
}

// Eight elements of a key, in f32: widened codes times their scales. There are `count`, from the
// element `first` of the key on, whose scales begin at `begin`; the others are zeros.
__device__ __forceinline__ void fv_scale_elements(const fv_device_scale &scale, int64_t begin,
                                                  int32_t first, int32_t count, float unit,
                                                  float (&x)[8]) {
  int32_t block = first / scale.block_len;
  int32_t left = (block + 1) * scale.block_len - first;  // elements up to the next block
  int64_t index = begin + block * scale.block;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x[i] = i < count ? x[i] * (fv_read_scale(scale, index) * unit) : 0.0f;
    if (--left == 0) {
      index += scale.block;
      left = scale.block_len;
    }
  }
}

// Brings the elements of a key near to the largest f16, up to 2^15. `lanes` lanes side by side have
// eight each. Returns what was taken out.
__device__ __forceinline__ float fv_bring_elements_near(float (&x)[8], int lanes) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(x[i]));
  for (int step = 1; step < lanes; step *= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
  }
  float power = fv_power_below(largest), inverse = fv_inverse_power(power) * 0x1p14f;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] *= inverse;
  return power * 0x1p-14f;
}

// Which codes a lane widens: eight in each half of a step of its warp's.
template <class Config, class Side>
struct fv_widened {
  using copies = fv_code_copies<Config, Side>;
  using lanes = typename copies::lanes;
  int32_t row, chunk;  // the first eight
  uint32_t from, to;   // where their codes are, and where they go

  __device__ __forceinline__ fv_widened(const unsigned char *codes, const unsigned char *stage) {
    const int thread = Config::thread(), lane = thread % 32, warp = thread / 32;
    row = warp * copies::warp_rows + lane / Side::chunks;
    chunk = lane % Side::chunks;
    from = fv_shared_address(codes) + 512 * warp + 8 * lane;
    to = fv_shared_address(stage) + 16 * fv_swizzled_chunk(row, chunk, Side::chunks);
  }
  static constexpr int steps = 2 * lanes::steps;  // halves of all steps
  static __device__ __forceinline__ int rows_past(int i) {
    return i / 2 * lanes::rows + i % 2 * (copies::warp_rows / 2);
  }
  __device__ __forceinline__ uint2 codes(int i) const {
    return fv_load_shared_8(from + i / 2 * copies::step_bytes + i % 2 * 256);
  }
  __device__ __forceinline__ void put(int i, uint4 pairs) const {
    fv_store_shared_16(fv_swizzled_step(to, rows_past(i), 0, Side::chunks), pairs);
  }
};

// What widening needs of a side besides the codes.
struct fv_widening_work {
  uint32_t type;
  const fv_device_scale *scale;
  float *taken_out;      // of each key of the tile, where keys have several scales
  const int64_t *begin;  // of its scales
  int32_t dim;
  int part;
};

// As fv_widen_eight, with what is wrong mended.
template <class Type, uint32_t TYPE>
__device__ __forceinline__ uint4 fv_widen_and_mend(uint2 codes) {
  uint4 pairs = fv_widen_eight<Type, TYPE>(codes);
  if (fv_widening<Type, TYPE>::first_odd) {
    pairs.x = fv_mend_pair<Type, TYPE>(codes.x, 0, pairs.x);
    pairs.y = fv_mend_pair<Type, TYPE>(codes.x, 1, pairs.y);
    pairs.z = fv_mend_pair<Type, TYPE>(codes.y, 0, pairs.z);
    pairs.w = fv_mend_pair<Type, TYPE>(codes.y, 1, pairs.w);
  }
  return pairs;
}

// Multiplies eight widened codes of number i by the scales of their elements, and takes a part. All
// lanes of the warp call it.
template <class Config, class Side>
__device__ __forceinline__ uint4 fv_scaled_part(const fv_widened<Config, Side> &own,
                                                const fv_widening_work &work, int i, uint4 pairs) {
  using Type = typename Config::type;
  const uint32_t pair[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
  const int32_t key = own.row + own.rows_past(i), first = 8 * own.chunk;
  const int64_t begin = work.begin[key];
  float x[8];
#pragma unroll
  for (int n = 0; n < 4; ++n) x[2 * n] = Type::low(pair[n]), x[2 * n + 1] = Type::high(pair[n]);
  fv_scale_elements(*work.scale, begin, first, begin < 0 ? 0 : work.dim - first,
                    fv_unit<Type>(work.type), x);
  if (Type::weight_exponent) {  // bf16 reaches as far as f32
    float taken_out = fv_bring_elements_near(x, Side::chunks);
    if (own.chunk == 0) work.taken_out[key] = taken_out;
  }
  return make_uint4(
      fv_part_of_pair<Type>(x[0], x[1], work.part), fv_part_of_pair<Type>(x[2], x[3], work.part),
      fv_part_of_pair<Type>(x[4], x[5], work.part), fv_part_of_pair<Type>(x[6], x[7], work.part));
}

// Widens a tile's codes one after the other, with what is rare: codes to mend, scales of elements.
template <class Config, class Side>
__device__ __forceinline__ void fv_widen_with_care(const fv_widened<Config, Side> &own,
                                                   const fv_widening_work &work) {
  using Type = typename Config::type;
#pragma unroll 1
  for (int i = 0; i < own.steps; ++i) {
    uint2 codes = own.codes(i);
    uint4 pairs = work.type == FV_TYPE_E4M3   ? fv_widen_and_mend<Type, FV_TYPE_E4M3>(codes)
                  : work.type == FV_TYPE_E5M2 ? fv_widen_and_mend<Type, FV_TYPE_E5M2>(codes)
                                              : fv_widen_and_mend<Type, FV_TYPE_I8>(codes);
    if (work.scale->blocks > 1) pairs = fv_scaled_part(own, work, i, pairs);
    own.put(i, pairs);
  }
}

// Widens a tile's codes. True: some are to be mended.
template <class Config, class Side, uint32_t TYPE>
__device__ __forceinline__ bool fv_widen_type(const fv_widened<Config, Side> &own) {
  using Type = typename Config::type;
  constexpr uint32_t first_odd = fv_widening<Type, TYPE>::first_odd;
  uint32_t odd = 0;
#pragma unroll
  for (int i = 0; i < own.steps; ++i) {
    uint2 codes = own.codes(i);
    own.put(i, fv_widen_eight<Type, TYPE>(codes));
    if (first_odd) odd |= fv_find_odd(codes.x, first_odd) | fv_find_odd(codes.y, first_odd);
  }
  return odd & 0x80808080;
}

// Widens the tile's codes, which this warp's threads have copied and which have arrived. The tile's
// threads see them after a barrier.
template <class Config, class Side>
__device__ __forceinline__ void fv_widen_codes(const fv_widened<Config, Side> &own,
                                               const fv_widening_work &work) {
  bool careful = work.scale->blocks > 1;
  if (!careful) {
    careful = work.type == FV_TYPE_E4M3   ? fv_widen_type<Config, Side, FV_TYPE_E4M3>(own)
              : work.type == FV_TYPE_E5M2 ? fv_widen_type<Config, Side, FV_TYPE_E5M2>(own)
                                          : fv_widen_type<Config, Side, FV_TYPE_I8>(own);
  }
  if (careful) fv_widen_with_care(own, work);
}

template <class Config, class Memory>
__device__ __forceinline__ fv_widening_work fv_widening_of_keys(const fv_attention_params &p,
                                                                Memory &scales, int part) {
  const int first = fv_first_scale<Config>();
  return {p.k_type, &p.k_scale, scales.scale[0] + first, scales.begin[0] + first, p.dim, part};
}

template <class Config, class Memory>
__device__ __forceinline__ fv_widening_work fv_widening_of_values(const fv_attention_params &p,
                                                                  Memory &scales, int part) {
  const int first = fv_first_scale<Config>();
  return {p.v_type, &p.v_scale, scales.scale[1] + first, scales.begin[1] + first, p.dim_v, part};
}

template <class Config>
using fv_widened_keys = fv_widened<Config, fv_key_side<Config>>;
template <class Config>
using fv_widened_values = fv_widened<Config, fv_value_side<Config>>;

// ---- Scores and weights ----

// Multiplies by the scale of each key. `scales` are the tile's.
template <class Config>
__device__ __forceinline__ void fv_scale_keys(float (&s)[fv_fragments<Config>::key_tiles][4],
                                              const float *scales) {
  const float2 *own = reinterpret_cast<const float2 *>(scales) + threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
    const float2 scale = own[n * 4];
#pragma unroll
    for (int c = 0; c < 4; ++c) s[n][c] *= c % 2 ? scale.y : scale.x;
  }
}

template <class Config>
__device__ __forceinline__ void fv_scale_scores(fv_scores<Config> &s, const float *scales) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) fv_scale_keys<Config>(s.of[b], scales);
}

// What O is to be multiplied by when a tile's product is added to it: per block and row of a lane.
template <class Config>
struct fv_tile_factors {
  float of[Config::row_blocks][2];
};

// Brings the weights of a row near to the largest f16, and returns what was taken out. Scales may
// be of any size, and weights of f16 end at 2^-25.
template <class Config>
__device__ __forceinline__ float fv_bring_near(float (&s)[fv_fragments<Config>::key_tiles][4],
                                               int r) {
  float largest = 0.0f;
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
    largest = fmaxf(largest, fmaxf(fabsf(s[n][2 * r]), fabsf(s[n][2 * r + 1])));
  }
  float power = fv_power_below(fv_row_maximum(largest)),
        inverse = fv_inverse_power(power) * 0x1p14f;
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
    s[n][2 * r] *= inverse;
    s[n][2 * r + 1] *= inverse;
  }
  return power * 0x1p-14f;
}

// What rounding changed a weight by. x is the weight times a factor, and `inverse` that factor's
// inverse. Only roundings to as many bits as the type has are counted. What is too small for that,
// too large or no number is lost in the product, but remains a weight.
template <class Type>
__device__ __forceinline__ float fv_rounding_of(float x, float rounded, float inverse) {
  constexpr float half_ulp = Type::weight_exponent == 0 ? 0x1p-8f : 0x1p-11f;
  float change = rounded - x;
  return fabsf(change) <= fabsf(x) * half_ulp ? change * inverse : 0.0f;
}

// The inverse of a scale, or 0 where there is none.
__device__ __forceinline__ float fv_inverse_scale(float scale) {
  float inverse = fv_reciprocal(scale);
  return fabsf(inverse) < INFINITY ? inverse : 0.0f;
}

// What rounding changed the sums of a lane's two rows by. s holds the weights times `scales`, of
// which `factor` was taken out, and p these as rounded.
template <class Config>
__device__ __forceinline__ void fv_add_roundings(
    float (&sum)[2], const uint32_t (&p)[fv_fragments<Config>::key_steps][4],
    const float (&s)[fv_fragments<Config>::key_tiles][4], const float *scales,
    const float (&factor)[2]) {
  using type = typename Config::type;
  const float2 *own = reinterpret_cast<const float2 *>(scales) + threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
    const float2 scale = own[n * 4];
    const float low = fv_inverse_scale(scale.x), high = fv_inverse_scale(scale.y);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const uint32_t pair = p[n / 2][n % 2 * 2 + r];
      sum[r] += fv_rounding_of<type>(s[n][2 * r], type::low(pair), low * factor[r]);
      sum[r] += fv_rounding_of<type>(s[n][2 * r + 1], type::high(pair), high * factor[r]);
    }
  }
}

// Multiplies a block's weights by the scale of each value and rounds them. What they then amount to
// without the scales is added to `weight`. Returns what the product is to be multiplied by.
template <class Config>
__device__ __forceinline__ void fv_round_scaled(uint32_t (&p)[fv_fragments<Config>::key_steps][4],
                                                float (&weight)[2],
                                                float (&s)[fv_fragments<Config>::key_tiles][4],
                                                const float *scales, float (&factor)[2]) {
  float sum[2] = {};  // of this lane's columns
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) sum[c / 2] += s[n][c];
  }
  fv_scale_keys<Config>(s, scales);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    factor[r] = Config::type::weight_exponent == 0 ? 1.0f : fv_bring_near<Config>(s, r);
  }
  fv_pack_weights<Config>(p, s);
  fv_add_roundings<Config>(sum, p, s, scales, factor);
#pragma unroll
  for (int r = 0; r < 2; ++r) weight[r] += fv_row_sum(sum[r]);
}

// Rounds the weights that s holds, times the scale of each value where these differ, and adds them
// to those that O is divided by. So a rounding that all weights share cancels.
template <class Config>
__device__ __forceinline__ fv_tile_factors<Config> fv_round_and_scale(
    const fv_attention_params &p, fv_packed_weights<Config> &weights, fv_rows<Config> &rows,
    fv_scores<Config> &s, const float *scales) {
  fv_tile_factors<Config> factors;
  const bool differ = p.flags & FV_FLAG_VALUE_SCALES;
  if (!differ) fv_round_weights<Config>(weights, rows, s);
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    factors.of[b][0] = factors.of[b][1] = 1.0f;
    if (!differ) continue;
    fv_round_scaled<Config>(weights.of[b], rows.state[b].weight, s.of[b], scales, factors.of[b]);
  }
  return factors;
}

// What O is multiplied by at the end: the scale that all values share, and the unit.
template <class Config>
__device__ __forceinline__ float fv_scale_of_values(const fv_attention_params &p,
                                                    const fv_query_tile &tile) {
  if (p.flags & FV_FLAG_VALUE_SCALES) return 1.0f;
  int64_t begin = tile.sequence.kv_batch * p.v_scale.batch + tile.kv_head * p.v_scale.head;
  return fv_scale_of_key<Config>(p.v_scale, begin, p.v_type);
}

#endif  // FOVEA_KERNELS_PARTS_CACHED_CUH
