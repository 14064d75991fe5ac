// attention_prepare_sm80.cuh - makes the schedule of a call whose lengths only the device knows: places every
// sequence, lists every tile of query rows with the key tiles that it meets, and empties the counters.
//
// One CTA. Offsets are read through a running maximum and work is counted by running sums, so both
// loops go through their lists in order, a CTA's width at a time.
#ifndef FV_ATTENTION_PREPARE_SM80_CUH
#define FV_ATTENTION_PREPARE_SM80_CUH

#include "arch/sm90.cuh"
#include "parts/scan.cuh"
#include "parts/tile.cuh"

// The range [offsets[i], offsets[i + 1]) of a packed dimension of `total`: nothing before the ranges
// before it, nothing past the end. All threads call it; those past the last sequence ask for none.
__device__ __forceinline__ fv_range fv_packed_range(const int32_t *offsets, int64_t i, bool asks,
                                                    int64_t total, int64_t &reached, int64_t *room,
                                                    uint32_t *errors) {
  int32_t first = asks ? offsets[i] : 0, last = asks ? offsets[i + 1] : 0;
  fv_range range;
  range.begin = fv_scan<fv_maximum>(fv_clamp(first, 0, total), reached, room);
  range.end = fv_max(range.begin, fv_clamp(last, 0, total));
  if (range.begin != first || range.end != last) *errors |= FV_ERROR_OFFSET;
  return range;
}

// Places sequences i of all threads, and returns how many tiles of rows each has.
__device__ __forceinline__ int64_t fv_place_sequence(const fv_attention_params &p, int64_t i,
                                                     bool asks, int64_t &q_reached,
                                                     int64_t &kv_reached, int64_t *room,
                                                     fv_placed_sequence &placed) {
  uint32_t errors = 0;
  int64_t keys = p.len_kv;
  placed = {};
  placed.len_q = p.len_q;
  if (p.q_offsets) {
    fv_range rows = fv_packed_range(p.q_offsets, i, asks, p.len_q, q_reached, room, &errors);
    placed.q_begin = rows.begin;
    placed.len_q = (int32_t)(rows.end - rows.begin);
  }
  if (p.kv_offsets) {
    fv_range range = fv_packed_range(p.kv_offsets, i, asks, p.len_kv, kv_reached, room, &errors);
    placed.kv_begin = range.begin;
    keys = range.end - range.begin;
  } else if (p.pages.offsets) {
    fv_range ids =
        fv_packed_range(p.pages.offsets, i, asks, p.pages.count, kv_reached, room, &errors);
    placed.kv_begin = ids.begin;
    keys = fv_room_of_pages(p, ids.end - ids.begin);
  } else if (p.pages.k_ids) {
    placed.kv_begin = i * p.pages.row_stride;
    keys = fv_room_of_pages(p, p.pages.count);
  }
  if (!asks) return 0;
  fv_position_mask mask = fv_find_positions(p, i, placed.len_q, (int32_t)keys, &errors);
  placed.row_origin = mask.row_origin;
  placed.key_origin = mask.key_origin;
  placed.len_kv = (int32_t)mask.len;
  placed.first = (int32_t)mask.first;
  if (errors) fv_add_error(p, i, errors);
  return fv_ceil_div((int64_t)placed.len_q * p.group, p.tile_q);
}

// Returns how many tiles all sequences have.
__device__ __forceinline__ int64_t fv_place_sequences(const fv_attention_params &p, int64_t *room) {
  int64_t q_reached = 0, kv_reached = 0, tiles = 0;
  for (int64_t begin = 0; begin < p.sequences; begin += blockDim.x) {
    int64_t i = begin + threadIdx.x;
    bool asks = i < p.sequences;
    fv_placed_sequence placed;
    int64_t own = fv_place_sequence(p, i, asks, q_reached, kv_reached, room, placed);
    placed.tile_begin = fv_scan<fv_sum>(own, tiles, room) - own;
    if (asks) p.schedule.sequences[i] = placed;
  }
  return tiles;
}

// The last sequence that begins at tile `tile` or before: the ones after it without tiles begin later.
__device__ __forceinline__ int64_t fv_sequence_of_tile(const fv_attention_params &p, int64_t tile) {
  int64_t low = 0, high = p.sequences;
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (p.schedule.sequences[middle].tile_begin <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ __forceinline__ fv_placed_tile fv_place_tile(const fv_attention_params &p,
                                                        int64_t number) {
  fv_placed_tile placed = {};
  placed.sequence = (int32_t)fv_sequence_of_tile(p, number);
  placed.row_tile = (int32_t)(number - p.schedule.sequences[placed.sequence].tile_begin);
  fv_query_tile tile =
      fv_make_tile(p, fv_take_sequence(p, placed.sequence), 0, placed.row_tile, p.tile_q);
  placed.key_tile = tile.key_begin / p.tile_kv;
  int64_t end = fv_ceil_div(tile.key_end, p.tile_kv);
  placed.key_tiles = (int32_t)fv_max(end - placed.key_tile, 1);
  // The host has no bound on the length of packed sequences, and so no places for their parts.
  bool cut = p.flags & FV_FLAG_CHUNKS && !p.kv_offsets && fv_is_narrow(p, tile.sequence.len_q);
  placed.chunk = cut ? fv_chunk_keys((int32_t)tile.sequence.mask.len) / p.tile_kv : 0;
  return placed;
}

// Returns how many units of work one kv head has.
__device__ __forceinline__ int64_t fv_place_tiles(const fv_attention_params &p, int64_t tiles,
                                                  int64_t *room) {
  int64_t work = 0, slots = 0;
  for (int64_t begin = 0; begin < tiles; begin += blockDim.x) {
    int64_t number = begin + threadIdx.x;
    bool asks = number < tiles;
    fv_placed_tile placed = {};
    if (asks) placed = fv_place_tile(p, number);
    int32_t chunks = asks ? fv_chunks_of(placed.key_tile, placed.key_tiles, placed.chunk) : 0;
    int64_t places = chunks > 1 ? (int64_t)chunks * p.heads_kv : 0;
    placed.work_begin = fv_scan<fv_sum>(placed.key_tiles, work, room) - placed.key_tiles;
    placed.slot_begin = fv_scan<fv_sum>(places, slots, room) - places;
    if (asks) p.schedule.tiles[number] = placed;
  }
  return work;
}

__device__ __forceinline__ void fv_prepare(const fv_attention_params &p) {
  __shared__ int64_t room[32];
  fv_wait_for_launches_before();
  fv_allow_next_launch();
  for (int64_t i = threadIdx.x; i < p.schedule.slots; i += blockDim.x) p.schedule.arrived[i] = 0;
  int64_t tiles = fv_place_sequences(p, room);
  __syncthreads();  // all sequences are placed before tiles look for theirs
  int64_t work = fv_place_tiles(p, tiles, room);
  if (threadIdx.x == 0) {
    p.schedule.totals[0] = tiles;
    p.schedule.totals[1] = work;
  }
}

#endif  // FV_ATTENTION_PREPARE_SM80_CUH
