// append_find.cuh - where new tokens go: sequences, then tokens, in tables of any content.
//
// Offsets, lengths, ids, slots and positions are data of the running program. No entry is read that
// lies outside its table, and no token is written outside the cache.
#ifndef FV_APPEND_FIND_CUH
#define FV_APPEND_FIND_CUH

#include "kernels/shared/params_append.h"
#include "kernels/shared/shape.h"

// A token on its way. Per side its place in the cache, or outer[0] = FV_NOWHERE: it is skipped.
struct fv_append_token {
  int32_t outer[2], inner[2];
  int32_t batch, row;  // of the new tensors
  int64_t position;
};

enum { FV_NOWHERE = -1 };

// Shared memory of a CTA.
template <int THREADS>
struct fv_append_memory {
  int64_t rows[THREADS + 1];   // sequence i of these has rows [rows[i], rows[i + 1]), of all
  int64_t pages[THREADS + 1];  // and ids [pages[i], pages[i + 1]) of a CSR table
  int32_t lengths[THREADS];
  int64_t maxima[THREADS / 32];  // of each warp's offsets
  fv_append_token tokens[THREADS];
};

// How far the offsets reached before the sequences at hand.
struct fv_append_reach {
  int64_t row, page;
};

__device__ __forceinline__ void fv_report(const fv_append_params &p, int64_t sequence,
                                          uint32_t bits) {
  if (bits && p.errors && blockIdx.x == 0) atomicOr(p.errors + sequence, bits);
}

__device__ __forceinline__ fv_append_reach fv_start_sequences(const fv_append_params &p) {
  return {p.flags & FV_APPEND_PACKED ? fv_clamp(p.new_offsets[0], 0, p.rows) : 0,
          p.page_offsets ? fv_clamp(p.page_offsets[0], 0, p.page_count) : 0};
}

// The largest of `reach` and the values of the threads up to this one. All threads take part, and
// meet at a barrier before they come here again.
template <int THREADS>
__device__ __forceinline__ int64_t fv_running_maximum(int64_t value, int64_t reach,
                                                      fv_append_memory<THREADS> &memory) {
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t most = fv_max(value, reach);
#pragma unroll
  for (int32_t step = 1; step < 32; step *= 2) {
    const int64_t before = __shfl_up_sync(0xffffffffu, most, step);
    if (lane >= step) most = fv_max(most, before);
  }
  if (lane == 31) memory.maxima[warp] = most;
  __syncthreads();  // the maxima of all warps are there
#pragma unroll
  for (int32_t i = 0; i < THREADS / 32; ++i) {
    if (i < warp) most = fv_max(most, memory.maxima[i]);
  }
  return most;
}

// Fills to[1 ...] with the ends of the sequences from `sequence` on, given their offsets; what lies
// past the last sequence is empty. Returns whether this thread's offsets are bad.
template <int THREADS>
__device__ __forceinline__ bool fv_look_up_offsets(const int32_t *offsets, int64_t sequence,
                                                   int64_t sequences, int64_t total, int64_t reach,
                                                   int64_t (&to)[THREADS + 1],
                                                   fv_append_memory<THREADS> &memory) {
  const int64_t own = sequence + threadIdx.x;
  const bool exists = own < sequences;
  const int32_t offset = exists ? offsets[own + 1] : 0;
  const int64_t end = fv_min(fv_running_maximum(exists ? offset : 0, reach, memory), total);
  to[threadIdx.x + 1] = end;
  if (threadIdx.x == 0) to[0] = reach;
  __syncthreads();  // the end of the sequence before is this one's begin
  return exists && (end != offset || to[threadIdx.x] != offsets[own]);
}

// Fills rows, pages and lengths for the sequences from `sequence` on, and reports what is bad. The
// caller's barrier makes the lengths visible.
template <int THREADS>
__device__ __forceinline__ void fv_look_up_sequences(const fv_append_params &p, int64_t sequence,
                                                     fv_append_reach reach,
                                                     fv_append_memory<THREADS> &memory) {
  const int64_t own = sequence + threadIdx.x;
  bool bad_offset = false;
  if (p.flags & FV_APPEND_PACKED) {
    bad_offset = fv_look_up_offsets(p.new_offsets, sequence, p.sequences, p.rows, reach.row,
                                    memory.rows, memory);
  } else {
    memory.rows[threadIdx.x + 1] = fv_min(own + 1, p.sequences) * p.rows;
    if (threadIdx.x == 0) memory.rows[0] = sequence * p.rows;
    __syncthreads();  // rows is read below
  }
  if (p.page_offsets) {
    bad_offset |= fv_look_up_offsets(p.page_offsets, sequence, p.sequences, p.page_count,
                                     reach.page, memory.pages, memory);
  } else if (threadIdx.x == 0) {
    memory.pages[THREADS] = 0;  // what the next sequences start from
  }
  if (own >= p.sequences) return;
  const int32_t length = p.kv_lengths ? p.kv_lengths[own] : 0;
  memory.lengths[threadIdx.x] = length;
  const bool has_rows = memory.rows[threadIdx.x] < memory.rows[threadIdx.x + 1];
  fv_report(p, own,
            (bad_offset ? FV_APPEND_ERROR_OFFSET : 0) |
                (has_rows && length < 0 ? FV_APPEND_ERROR_LENGTH : 0));
}

// Which of the sequences owns the row: rows[i] <= row < rows[i + 1]. Empty ones own none.
template <int THREADS>
__device__ __forceinline__ int32_t fv_find_token_sequence(const int64_t (&rows)[THREADS + 1],
                                                          int64_t row) {
  int32_t low = 0;
#pragma unroll
  for (int32_t step = THREADS / 2; step > 0; step /= 2) {
    if (rows[low + step] <= row) low += step;
  }
  return low;
}

struct fv_page_ids {
  int64_t begin, count;  // of the sequence, in the table
};

// The place of index n of a sequence in one cache; false and a bit if there is none.
__device__ __forceinline__ bool fv_find_index(const fv_append_params &p, const fv_append_side &side,
                                              int64_t sequence, uint32_t n, fv_page_ids ids,
                                              int32_t &outer, int32_t &inner, uint32_t &errors) {
  const uint32_t slots = static_cast<uint32_t>(p.cache_slots);
  outer = static_cast<int32_t>(sequence);
  inner = static_cast<int32_t>(n);
  if (!side.ids && n < slots) return true;
  if (side.ids && n / slots < ids.count) {
    outer = side.ids[ids.begin + n / slots];
    inner = static_cast<int32_t>(n % slots);
    if (outer >= 0 && outer < p.cache_rows) return true;
    errors |= FV_APPEND_ERROR_PAGE;
    return false;
  }
  errors |= FV_APPEND_ERROR_SLOT;
  return false;
}

// The caller's own flat slot; a negative one is no error.
__device__ __forceinline__ bool fv_find_slot(const fv_append_params &p, int64_t slot,
                                             int32_t &outer, int32_t &inner, uint32_t &errors) {
  if (slot < 0) return false;
  if (slot >= p.cache_rows * p.cache_slots) {
    errors |= FV_APPEND_ERROR_SLOT;
    return false;
  }
  outer = static_cast<int32_t>(slot / p.cache_slots);
  inner = static_cast<int32_t>(slot % p.cache_slots);
  return true;
}

// The position of a token, unless it lies outside the tables of RoPE. A token that the caller skips
// is not asked for its position.
__device__ __forceinline__ bool fv_find_position(const fv_append_params &p, int64_t row,
                                                 bool skipped, fv_append_token &token,
                                                 uint32_t &errors) {
  if (!p.cos || skipped) return true;
  if (p.positions) token.position = p.positions[row];
  if (token.position >= 0 && token.position < p.rope_positions) return true;
  errors |= FV_APPEND_ERROR_POSITION;
  return false;
}

// The token that is row `row` of all; one that no sequence of these owns is nowhere.
template <int THREADS>
__device__ __forceinline__ fv_append_token fv_find_token(const fv_append_params &p,
                                                         int64_t sequence, int64_t row,
                                                         const fv_append_memory<THREADS> &memory) {
  fv_append_token token = {{FV_NOWHERE, FV_NOWHERE}, {0, 0}, 0, 0, 0};
  if (row >= memory.rows[THREADS]) return token;
  const int32_t i = fv_find_token_sequence<THREADS>(memory.rows, row);
  if (memory.lengths[i] < 0) return token;
  const bool packed = p.flags & FV_APPEND_PACKED;
  const int64_t t = row - memory.rows[i];
  // Below 2^32: both are below 2^31.
  const uint32_t n = static_cast<uint32_t>(memory.lengths[i]) + static_cast<uint32_t>(t);
  token.batch = static_cast<int32_t>(packed ? 0 : sequence + i);
  token.row = static_cast<int32_t>(packed ? row : t);
  token.position = n;
  fv_page_ids ids = {(sequence + i) * p.page_stride, p.page_count};
  if (p.page_offsets) ids = {memory.pages[i], memory.pages[i + 1] - memory.pages[i]};
  const int64_t slot = p.slots ? p.slots[row] : 0;
  uint32_t errors = 0;
  bool found = true;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    if (side >= p.side_count) continue;
    found &= p.slots ? fv_find_slot(p, slot, token.outer[side], token.inner[side], errors)
                     : fv_find_index(p, p.sides[side], sequence + i, n, ids, token.outer[side],
                                     token.inner[side], errors);
  }
  found &= fv_find_position(p, row, slot < 0, token, errors);
  fv_report(p, sequence + i, errors);
  if (!found) token.outer[0] = FV_NOWHERE;
  return token;
}

#endif  // FV_APPEND_FIND_CUH
