// append_find.cuh - finds where new tokens go: sequences, then tokens, in tables of any content.
//
// Offsets, lengths, ids, slots and positions are data of the running program, read by the rules of
// shared/sequence_rules.h. Nothing is read outside its table, and no token is written outside the
// cache.
#ifndef FOVEA_KERNELS_PARTS_APPEND_FIND_CUH
#define FOVEA_KERNELS_PARTS_APPEND_FIND_CUH

#include "kernels/shared/params_append.h"
#include "kernels/shared/sequence_rules.h"

// A token to append and its place in the cache on each side. outer[0] = FV_NOWHERE: it is skipped.
struct fv_append_token {
  int32_t outer[2], inner[2];
  int32_t batch, row;  // where it stands in the new tensors
  int64_t position;
};

// Shared memory of a CTA.
template <int THREADS>
struct fv_append_memory {
  int64_t rows[THREADS + 1];   // sequence i of these has rows [rows[i], rows[i + 1]), of all
  int64_t pages[THREADS + 1];  // and ids [pages[i], pages[i + 1]) of a CSR table
  int32_t lengths[THREADS];
  int64_t maxima[THREADS / 32];  // the max of each warp's offsets
  fv_append_token tokens[THREADS];
};

// How far the offsets of all earlier sequences reached.
struct fv_append_reach {
  int64_t row, page;
};

__device__ __forceinline__ void fv_report(const fv_append_params &p, int64_t sequence,
                                          uint32_t bits) {
  if (bits && p.errors && blockIdx.x == 0) atomicOr(p.errors + sequence, bits);
}

__device__ __forceinline__ fv_append_reach fv_start_sequences(const fv_append_params &p) {
  return {p.flags & FV_APPEND_PACKED ? fv_extend_reach(0, p.new_offsets[0], p.rows) : 0,
          p.page_offsets ? fv_extend_reach(0, p.page_offsets[0], p.page_count) : 0};
}

// The largest of the values of the threads up to this one. All threads call it. They meet at a
// barrier before the next call, which overwrites memory.maxima.
template <int THREADS>
__device__ __forceinline__ int64_t fv_running_maximum(int64_t value,
                                                      fv_append_memory<THREADS> &memory) {
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t most = value;
#pragma unroll
  for (int32_t step = 1; step < 32; step *= 2) {
    const int64_t before = __shfl_up_sync(0xffffffffu, most, step);
    if (lane >= step) most = fv_max(most, before);
  }
  if (lane == 31) memory.maxima[warp] = most;
  __syncthreads();  // the max of each warp becomes visible to all
#pragma unroll
  for (int32_t i = 0; i < THREADS / 32; ++i) {
    if (i < warp) most = fv_max(most, memory.maxima[i]);
  }
  return most;
}

// Fills to[1 ...] with the ends of the sequences from `sequence` on, given their offsets. Entries
// past the last sequence are empty. Returns the error bit of this thread's sequence.
template <int THREADS>
__device__ __forceinline__ uint32_t fv_look_up_offsets(const int32_t *offsets, int64_t sequence,
                                                       int64_t sequences, int64_t total,
                                                       int64_t reach, int64_t (&to)[THREADS + 1],
                                                       fv_append_memory<THREADS> &memory) {
  const int64_t own = sequence + threadIdx.x;
  const bool exists = own < sequences;
  const int32_t offset = exists ? offsets[own + 1] : 0;
  const int64_t end = fv_running_maximum(fv_extend_reach(reach, offset, total), memory);
  to[threadIdx.x + 1] = end;
  if (threadIdx.x == 0) to[0] = reach;
  __syncthreads();  // all ends become visible to all: a sequence begins at another thread's end
  return exists ? fv_offset_errors({to[threadIdx.x], end}, offsets[own], offset) : 0;
}

// Fills rows, pages and lengths for the sequences from `sequence` on, and reports what is bad. The
// caller's barrier makes the lengths visible to all threads.
template <int THREADS>
__device__ __forceinline__ void fv_look_up_sequences(const fv_append_params &p, int64_t sequence,
                                                     fv_append_reach reach,
                                                     fv_append_memory<THREADS> &memory) {
  const int64_t own = sequence + threadIdx.x;
  uint32_t errors = 0;
  if (p.flags & FV_APPEND_PACKED) {
    errors = fv_look_up_offsets(p.new_offsets, sequence, p.sequences, p.rows, reach.row,
                                memory.rows, memory);
  } else {
    memory.rows[threadIdx.x + 1] = fv_min(own + 1, p.sequences) * p.rows;
    if (threadIdx.x == 0) memory.rows[0] = sequence * p.rows;
    __syncthreads();  // all rows become visible to all: another thread's is read below
  }
  if (p.page_offsets) {
    errors |= fv_look_up_offsets(p.page_offsets, sequence, p.sequences, p.page_count, reach.page,
                                 memory.pages, memory);
  } else if (threadIdx.x == 0) {
    memory.pages[THREADS] = 0;  // the caller starts the next sequences from it
  }
  if (own >= p.sequences) return;
  const int32_t length = p.kv_lengths ? p.kv_lengths[own] : 0;
  memory.lengths[threadIdx.x] = length;
  fv_takes_tokens(memory.rows[threadIdx.x + 1] - memory.rows[threadIdx.x], length, &errors);
  fv_report(p, own, errors);
}

// Finds the sequence that owns the row: rows[i] <= row < rows[i + 1]. Empty sequences own none.
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

// The entries of sequence `sequence` in the page tables. It is sequence i of those in memory.
template <int THREADS>
__device__ __forceinline__ fv_page_ids fv_find_page_ids(const fv_append_params &p, int64_t sequence,
                                                        int32_t i,
                                                        const fv_append_memory<THREADS> &memory) {
  if (p.page_offsets) return fv_packed_page_ids({memory.pages[i], memory.pages[i + 1]});
  return fv_dense_page_ids(sequence, p.page_stride, p.page_count);
}

// Finds the token's position. False: it lies outside the tables of RoPE. The position of a token
// that the caller skips is not read.
__device__ __forceinline__ bool fv_find_position(const fv_append_params &p, int64_t row,
                                                 bool skipped, fv_append_token &token,
                                                 uint32_t &errors) {
  if (!p.cos || skipped) return true;
  if (p.positions) token.position = p.positions[row];
  return fv_has_position(token.position, p.rope_positions, &errors);
}

// Finds the token that is row `row` of all. It is nowhere if no sequence in memory owns it.
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
  const uint32_t n = fv_token_index(memory.lengths[i], t);
  token.batch = static_cast<int32_t>(fv_batch_row(packed, sequence + i));
  token.row = static_cast<int32_t>(packed ? row : t);
  token.position = n;
  const fv_page_ids ids = fv_find_page_ids(p, sequence + i, i, memory);
  const fv_cache_extents cache = {p.cache_rows, p.cache_slots};
  const int64_t slot = p.slots ? p.slots[row] : 0;
  uint32_t errors = 0;
  bool found = true;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    if (side >= p.side_count) continue;
    const fv_place place =
        p.slots ? fv_place_of_slot(cache, slot, &errors)
                : fv_place_of_index(cache, p.sides[side].ids, ids, sequence + i, n, &errors);
    token.outer[side] = static_cast<int32_t>(place.outer);
    token.inner[side] = static_cast<int32_t>(place.inner);
    found &= place.outer != FV_NOWHERE;
  }
  found &= fv_find_position(p, row, slot < 0, token, errors);
  fv_report(p, sequence + i, errors);
  if (!found) token.outer[0] = FV_NOWHERE;
  return token;
}

#endif  // FOVEA_KERNELS_PARTS_APPEND_FIND_CUH
