// append_write.cuh - writes one token into its places: which warp writes what, and what it writes.
//
// Every f32 operation of RoPE is rounded by itself, so that every device stores the same bits.
// __fmul_rn and its like are never fused.
#ifndef FOVEA_KERNELS_PARTS_APPEND_WRITE_CUH
#define FOVEA_KERNELS_PARTS_APPEND_WRITE_CUH

#include "kernels/parts/append_find.cuh"
#include "kernels/parts/append_store.cuh"
#include "kernels/shared/shape.h"

// A warp's number among all warps of the grid.
struct fv_append_unit {
  uint32_t number, count;
};

// The first head of the token that the warp writes on this side. It also writes every count-th head
// after it. Knuth's multiplicative hash spreads places; neighbouring warps take neighbouring heads.
__device__ __forceinline__ uint32_t fv_first_head(const fv_append_params &p,
                                                  const fv_append_token &token, int side,
                                                  fv_append_unit unit) {
  const uint64_t place = token.outer[side] * p.cache_slots + token.inner[side];
  const uint64_t hash = (2 * place + side) * 0x9e3779b97f4a7c15u >> 32;
  const uint32_t owner = static_cast<uint32_t>(hash * unit.count >> 32);
  return unit.number >= owner ? unit.number - owner : unit.number + (unit.count - owner);
}

__device__ __forceinline__ bool fv_owns(const fv_append_params &p, const fv_append_token &token,
                                        fv_append_unit unit) {
  if (token.outer[0] == FV_NOWHERE) return false;
  const uint32_t heads = static_cast<uint32_t>(p.heads);
  return fv_first_head(p, token, 0, unit) < heads ||
         (p.side_count > 1 && fv_first_head(p, token, 1, unit) < heads);
}

// Writes the elements from `begin` on of eight-element chunk `chunk`. They are not rotated.
__device__ __forceinline__ void fv_write_plain(const fv_append_side &side,
                                               const fv_append_head &head, int32_t chunk,
                                               int32_t begin) {
  const int64_t chunk_begin = (int64_t)chunk * FV_RUN;
  const int32_t first = (int32_t)fv_max(chunk_begin, begin);
  const int32_t count = (int32_t)fv_min(chunk_begin + FV_RUN, side.dim) - first;
  if (count == 0) return;  // the head ends in this chunk, and so do the rotated elements
  uint32_t bits[FV_RUN];
  fv_read_run(head.from, side.from_type, first, count, side.aligned & FV_APPEND_FROM_ALIGNED, bits);
  const bool aligned = side.aligned & FV_APPEND_TO_ALIGNED;
  if (side.from_type == side.to_type) {  // a value of the cache's own type keeps its bits
    fv_write_run(head.to, side.to_type, first, count, aligned, bits);
    return;
  }
  float x[FV_RUN];
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) x[i] = fv_widen(bits[i], side.from_type);
  fv_store_append_run(side, head, first, count, aligned, x);
}

// (x, y) becomes (x c - y s, y c + x s).
__device__ __forceinline__ void fv_rotate(float &x, float &y, float c, float s) {
  const float turned = __fsub_rn(__fmul_rn(x, c), __fmul_rn(y, s));
  y = __fadd_rn(__fmul_rn(y, c), __fmul_rn(x, s));
  x = turned;
}

// Rotates and writes the pairs (i, half + i) for i in eight-element chunk `chunk` of [0, half).
__device__ __forceinline__ void fv_write_half_split(const fv_append_params &p,
                                                    const fv_append_side &side,
                                                    const fv_append_head &head, int32_t chunk) {
  const int32_t first = chunk * FV_RUN;
  const int32_t count = (int32_t)fv_min(FV_RUN, side.half - first);
  const bool table = p.flags & FV_APPEND_TABLE_ALIGNED;
  const bool from = side.aligned & FV_APPEND_FROM_ALIGNED, to = side.aligned & FV_APPEND_TO_ALIGNED;
  const bool upper = side.half % FV_RUN == 0;  // the upper half begins at a chunk
  float x[FV_RUN], y[FV_RUN], c[FV_RUN], s[FV_RUN];
  fv_load_typed_run(head.from, side.from_type, first, count, from, x);
  fv_load_typed_run(head.from, side.from_type, side.half + first, count, from && upper, y);
  fv_load_typed_run(head.cos, FV_TYPE_F32, first, count, table, c);
  fv_load_typed_run(head.sin, FV_TYPE_F32, first, count, table, s);
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) fv_rotate(x[i], y[i], c[i], s[i]);
  fv_store_append_run(side, head, first, count, to, x);
  fv_store_append_run(side, head, side.half + first, count, to && upper, y);
}

// Rotates and writes the pairs (2i, 2i + 1) in eight-element chunk `chunk` of [0, 2 half).
__device__ __forceinline__ void fv_write_interleaved(const fv_append_side &side,
                                                     const fv_append_head &head, int32_t chunk) {
  const int32_t first = chunk * FV_RUN;
  const int32_t count = (int32_t)fv_min(FV_RUN, 2 * side.half - first);
  float x[FV_RUN], c[FV_RUN], s[FV_RUN];
  fv_load_typed_run(head.from, side.from_type, first, count, side.aligned & FV_APPEND_FROM_ALIGNED,
                    x);
  fv_load_typed_run(head.cos, FV_TYPE_F32, first / 2, count / 2, false, c);
  fv_load_typed_run(head.sin, FV_TYPE_F32, first / 2, count / 2, false, s);
#pragma unroll
  for (int i = 0; i < FV_RUN; i += 2) fv_rotate(x[i], x[i + 1], c[i / 2], s[i / 2]);
  fv_store_append_run(side, head, first, count, side.aligned & FV_APPEND_TO_ALIGNED, x);
}

// A warp writes one head: the chunks that are rotated, then the others. A lane's elements depend on
// the side alone, so of two tokens in one place the later one's are written last.
__device__ __forceinline__ void fv_write_head(const fv_append_params &p, const fv_append_side &side,
                                              const fv_append_head &head, int32_t lane) {
  const bool interleaved = p.flags & FV_APPEND_INTERLEAVED;
  const int32_t begin = 2 * side.half, first = begin / FV_RUN;
  const int32_t rotated = (int32_t)fv_ceil_div(interleaved ? begin : side.half, FV_RUN);
  const int32_t chunks = rotated + (int32_t)fv_ceil_div(side.dim, FV_RUN) - first;
  for (int32_t i = lane; i < chunks; i += 32) {
    if (i >= rotated) {
      fv_write_plain(side, head, first + i - rotated, begin);
    } else if (interleaved) {
      fv_write_interleaved(side, head, i);
    } else {
      fv_write_half_split(p, side, head, i);
    }
  }
}

__device__ __forceinline__ void fv_write_token(const fv_append_params &p,
                                               const fv_append_token &token, fv_append_unit unit,
                                               int32_t lane) {
#pragma unroll 1
  for (int i = 0; i < p.side_count; ++i) {
    const fv_append_side &side = p.sides[i];
    // In 64 bits: head + unit.count could wrap in 32.
    for (int64_t head = fv_first_head(p, token, i, unit); head < p.heads; head += unit.count) {
      const int64_t from =
          token.batch * side.from.batch + token.row * side.from.seq + head * side.from.head;
      const int64_t to =
          token.outer[i] * side.to.batch + token.inner[i] * side.to.seq + head * side.to.head;
      const int64_t table = token.position * p.rope_stride;
      fv_write_head(p, side,
                    {static_cast<const unsigned char *>(side.from.data) +
                         from * fv_type_bytes(side.from_type),
                     static_cast<unsigned char *>(side.to.data) + to * fv_cache_bytes(side.to_type),
                     fv_scale_row(side.scale, token.outer[i], token.inner[i], head), p.cos + table,
                     p.sin + table},
                    lane);
    }
  }
}

#endif  // FOVEA_KERNELS_PARTS_APPEND_WRITE_CUH
