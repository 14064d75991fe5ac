// attention_prepare_sm80.cuh - makes the schedule of a call whose lengths only the device knows. It
// places every sequence and lists every tile of query rows with the key tiles that it meets. Narrow
// tiles have a line of their own. It also sets the counters of partials to zero.
//
// One CTA does it all. Offsets are read through a running max and work is counted by running sums,
// so both loops go through their lists in order, a CTA's width at a time.
#ifndef FOVEA_KERNELS_ATTENTION_PREPARE_SM80_CUH
#define FOVEA_KERNELS_ATTENTION_PREPARE_SM80_CUH

#include "kernels/arch/sm90.cuh"
#include "kernels/parts/scan.cuh"
#include "kernels/parts/tile.cuh"

// The range [offsets[i], offsets[i + 1]) of a packed dimension of `total`, through the running max.
// All threads call it, since it scans; threads past the last sequence pass asks = false.
__device__ __forceinline__ fv_range fv_scan_range(const int32_t *offsets, int64_t i, bool asks,
                                                  int64_t total, int64_t &reached, int64_t *room,
                                                  uint32_t *errors) {
  int32_t first = asks ? offsets[i] : 0, last = asks ? offsets[i + 1] : 0;
  fv_range range;
  range.begin = fv_scan<fv_maximum>(fv_extend_reach(0, first, total), reached, room);
  range.end = fv_extend_reach(range.begin, last, total);
  *errors |= fv_offset_errors(range, first, last);
  return range;
}

// Places sequence i of each thread. All threads call it, since it scans.
__device__ __forceinline__ void fv_place_sequence(const fv_attention_params &p, int64_t i,
                                                  bool asks, int64_t &q_reached,
                                                  int64_t &kv_reached, int64_t *room,
                                                  fv_placed_sequence &placed) {
  uint32_t errors = 0;
  int64_t keys = p.len_kv;
  placed = {};
  placed.len_q = p.len_q;
  if (p.q_offsets) {
    fv_range rows = fv_scan_range(p.q_offsets, i, asks, p.len_q, q_reached, room, &errors);
    placed.q_begin = rows.begin;
    placed.len_q = (int32_t)(rows.end - rows.begin);
  }
  if (asks) {
    placed.len_q = fv_clamped_length(p.q_lengths, i, placed.len_q, placed.len_q, &errors);
  }
  if (p.kv_offsets) {
    fv_range range = fv_scan_range(p.kv_offsets, i, asks, p.len_kv, kv_reached, room, &errors);
    placed.kv_begin = range.begin;
    keys = range.end - range.begin;
  } else if (p.pages.offsets) {
    fv_page_ids ids = fv_packed_page_ids(
        fv_scan_range(p.pages.offsets, i, asks, p.pages.count, kv_reached, room, &errors));
    placed.kv_begin = ids.begin;
    keys = fv_capacity_of_pages(ids.count, p.pages.page_len);
  } else if (p.pages.k_ids) {
    fv_page_ids ids = fv_dense_page_ids(i, p.pages.row_stride, p.pages.count);
    placed.kv_begin = ids.begin;
    keys = fv_capacity_of_pages(ids.count, p.pages.page_len);
  }
  if (!asks) return;
  fv_position_mask mask = fv_find_positions<true>(p, i, placed.len_q, (int32_t)keys, &errors);
  placed.row_origin = mask.row_origin;
  placed.key_origin = mask.key_origin;
  placed.len_kv = (int32_t)mask.len;
  placed.first = (int32_t)mask.first;
  if (errors) fv_add_error(p, i, errors);
}

// How many of the sequence's tiles stand in the wide line.
__device__ __forceinline__ int64_t fv_wide_tiles(const fv_attention_params &p, int32_t len_q) {
  return fv_is_narrow(p, len_q) ? 0 : fv_ceil_div((int64_t)len_q * p.group, p.tile_q);
}

// The last sequence that begins at tile `tile` or before it: the owner of the tile. Sequences after
// it that have no wide tiles begin later.
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
                                                        int64_t sequence, int64_t row_tile) {
  fv_placed_tile placed = {};
  placed.sequence = (int32_t)sequence;
  placed.row_tile = (int32_t)row_tile;
  fv_query_tile tile =
      fv_make_tile<true>(p, fv_take_sequence<true>(p, sequence), 0, row_tile, p.tile_q);
  placed.key_tile = tile.key_begin / p.tile_kv;
  int64_t end = fv_ceil_div(tile.key_end, p.tile_kv);
  placed.key_tiles = (int32_t)fv_max(end - placed.key_tile, 1);
  // The host cannot bound the length of packed sequences, so it has no places for their partials.
  bool cut = p.flags & FV_FLAG_CHUNKS && !p.kv_offsets && fv_is_narrow(p, tile.sequence.len_q);
  placed.chunk = cut ? fv_chunk_keys((int32_t)tile.sequence.mask.len) / p.tile_kv : 0;
  return placed;
}

// The totals of a line so far.
struct fv_listed {
  int64_t tiles, work, partials;
  int64_t longest;  // units of the longest tile
};

// Appends to a line the tile of each thread that has one, in thread order. All threads call it.
__device__ __forceinline__ void fv_list_tiles(const fv_attention_params &p, int line, bool has,
                                              int64_t sequence, int64_t row_tile, fv_listed &listed,
                                              int64_t *room) {
  fv_placed_tile placed = {};
  int32_t chunks = 0;
  if (has) {
    placed = fv_place_tile(p, sequence, row_tile);
    chunks = fv_chunks_of(placed.key_tile, placed.key_tiles, placed.chunk);
  }
  int64_t places = chunks > 1 ? (int64_t)chunks * p.heads_kv : 0;
  int64_t number = fv_scan<fv_sum>(has, listed.tiles, room) - has;
  placed.work_begin = fv_scan<fv_sum>(placed.key_tiles, listed.work, room) - placed.key_tiles;
  placed.place_begin = fv_scan<fv_sum>(places, listed.partials, room) - places;
  fv_scan<fv_maximum>(placed.key_tiles, listed.longest, room);
  if (has) p.schedule.lines[line].tiles[number] = placed;
}

// Writes a line's totals. If shares split no tile, nothing is merged and a share may be any length.
__device__ __forceinline__ void fv_close_line(const fv_attention_params &p, int line,
                                              const fv_listed &listed) {
  if (threadIdx.x) return;
  int64_t longest = fv_is_chunked(p) ? 1 : listed.longest;
  int32_t shares =
      fv_shares_of_line(listed.work * p.heads_kv, longest, (int32_t)p.schedule.workers);
  p.schedule.totals[line] = {listed.tiles, listed.work, shares, 0};
}

// Places all sequences, and lists the tiles of the narrow ones, one each. Returns how many tiles
// the wide ones have.
__device__ __forceinline__ int64_t fv_place_sequences(const fv_attention_params &p, int64_t *room) {
  int64_t q_reached = 0, kv_reached = 0, wide_tiles = 0;
  fv_listed narrow = {};
  for (int64_t begin = 0; begin < p.sequences; begin += blockDim.x) {
    int64_t i = begin + threadIdx.x;
    bool asks = i < p.sequences;
    fv_placed_sequence placed;
    fv_place_sequence(p, i, asks, q_reached, kv_reached, room, placed);
    int64_t own = asks ? fv_wide_tiles(p, placed.len_q) : 0;
    placed.tile_begin = fv_scan<fv_sum>(own, wide_tiles, room) - own;
    if (asks) p.schedule.sequences[i] = placed;
    fv_list_tiles(p, FV_NARROW, asks && placed.len_q && !own, i, 0, narrow, room);
  }
  fv_close_line(p, FV_NARROW, narrow);
  return wide_tiles;
}

__device__ __forceinline__ void fv_list_wide_tiles(const fv_attention_params &p, int64_t tiles,
                                                   int64_t *room) {
  fv_listed wide = {};
  for (int64_t begin = 0; begin < tiles; begin += blockDim.x) {
    int64_t number = begin + threadIdx.x;
    bool asks = number < tiles;
    int64_t sequence = asks ? fv_sequence_of_tile(p, number) : 0;
    int64_t row_tile = number - p.schedule.sequences[sequence].tile_begin;
    fv_list_tiles(p, FV_WIDE, asks, sequence, row_tile, wide, room);
  }
  fv_close_line(p, FV_WIDE, wide);
}

__device__ __forceinline__ void fv_prepare(const fv_attention_params &p) {
  __shared__ int64_t room[32];
  fv_wait_for_launches_before();  // what earlier launches wrote is visible to this thread
  fv_allow_next_launch();         // attention may start, and waits for this launch's end
  for (int64_t i = threadIdx.x; i < p.schedule.places; i += blockDim.x) p.schedule.arrived[i] = 0;
  int64_t wide_tiles = fv_place_sequences(p, room);
  __syncthreads();  // all placed sequences become visible to all: tiles look for theirs
  fv_list_wide_tiles(p, wide_tiles, room);
}

#endif  // FOVEA_KERNELS_ATTENTION_PREPARE_SM80_CUH
