// rules.cuh - the general class of kernels: masks and biases that differ from row to row and head
// to head, prefixes, spans and trees. What the rules are, shared/row_rules.h says.
//
// A warp asks for each of its 16 rows which keys of a tile it sees, 32 keys at a time: lanes are
// keys, and a vote makes a word of them. Lane r keeps the words of row r. Keys that no row of the
// tile sees are not read, and their places hold zeros. So a tile takes one barrier more, after
// which all warps know the keys that any row sees.
#ifndef FOVEA_KERNELS_PARTS_RULES_CUH
#define FOVEA_KERNELS_PARTS_RULES_CUH

#include "kernels/arch/convert.cuh"
#include "kernels/parts/load.cuh"
#include "kernels/parts/online_softmax.cuh"

// A row's rules, from key 0 on. NULL: there is no such array, or the row does not exist.
struct fv_row_rules {
  const unsigned char *mask, *bias;
  const float *distances;
  float bias_scale, slope;
  int32_t row;  // in its sequence
  fv_key_range window, span;
  bool exists, outside;  // outside the mask or the bias: it sees nothing
};

__device__ __forceinline__ fv_key_range fv_span_of_row(const fv_attention_params &p,
                                                       const fv_query_tile &tile, int64_t row) {
  if (!p.rules.spans) return {0, 0};
  int64_t first = p.q_offsets ? tile.sequence.q_begin : tile.sequence.index * p.len_q;
  const int32_t *span = p.rules.spans + 2 * (first + row);
  const fv_position_mask &mask = tile.sequence.mask;
  fv_range keys = fv_span_keys(&mask, {span[0], span[1]}, mask.row_origin + row, p.rules.span_left,
                               p.rules.span_right);
  return {(int32_t)keys.begin, (int32_t)keys.end};
}

// The rules of row `number` of the tile. They are found again for each tile of keys: registers are
// scarcer than these few loads.
__device__ __forceinline__ fv_row_rules fv_find_rules(const fv_attention_params &p,
                                                      const fv_query_tile &tile, int32_t number) {
  fv_query_row at = fv_row_of(p, tile, number);
  fv_row_rules own = {};
  own.exists = number < tile.rows;
  if (!own.exists) return own;
  int64_t sequence = tile.sequence.index, row = tile.position + at.position;
  const fv_device_rules &rules = p.rules;
  own.row = (int32_t)row;
  fv_range window = fv_window_keys(&tile.sequence.mask, row);
  own.window = {(int32_t)window.begin, (int32_t)window.end};
  own.span = fv_span_of_row(p, tile, row);
  own.outside =
      (rules.mask.data && row >= rules.mask.rows) || (rules.bias.data && row >= rules.bias.rows);
  if (rules.mask.data && !own.outside) {
    own.mask = static_cast<const unsigned char *>(rules.mask.data) +
               fv_plane_offset(&rules.mask, sequence, row, at.head);
  }
  if (rules.bias.data && !own.outside) {
    own.bias = static_cast<const unsigned char *>(rules.bias.data) +
               fv_plane_offset(&rules.bias, sequence, row, at.head) * rules.bias_bytes;
  }
  own.bias_scale = rules.bias_scale ? rules.bias_scale[at.head] : 1.0f;
  own.slope = rules.slopes ? rules.slopes[sequence * rules.slope_stride + at.head] : 0.0f;
  if (rules.distances) own.distances = rules.distances + at.head * rules.distance_stride;
  return own;
}

template <class T>
__device__ __forceinline__ T *fv_shuffle_pointer(T *pointer, int lane) {
  return reinterpret_cast<T *>(__shfl_sync(0xffffffffu, reinterpret_cast<uint64_t>(pointer), lane));
}

// The rules of row r of the warp, from the lane that knows them. All lanes call it.
__device__ __forceinline__ fv_row_rules fv_rules_of(const fv_row_rules &own, int r) {
  constexpr uint32_t all = 0xffffffffu;
  fv_row_rules of;
  of.mask = fv_shuffle_pointer(own.mask, r);
  of.bias = fv_shuffle_pointer(own.bias, r);
  of.distances = fv_shuffle_pointer(own.distances, r);
  of.bias_scale = __shfl_sync(all, own.bias_scale, r);
  of.slope = __shfl_sync(all, own.slope, r);
  of.row = __shfl_sync(all, own.row, r);
  of.window = {__shfl_sync(all, own.window.begin, r), __shfl_sync(all, own.window.end, r)};
  of.span = {__shfl_sync(all, own.span.begin, r), __shfl_sync(all, own.span.end, r)};
  int flags = __shfl_sync(all, (int)own.exists | (int)own.outside << 1, r);
  of.exists = flags & 1, of.outside = flags & 2;
  return of;
}

// ---- One key ----

__device__ __forceinline__ float fv_bias_at(const fv_device_rules &rules, const fv_row_rules &row,
                                            int32_t key) {
  int64_t index = key * rules.bias.key;
  if (rules.bias_bytes == 4) return reinterpret_cast<const float *>(row.bias)[index];
  uint32_t code = reinterpret_cast<const uint16_t *>(row.bias)[index];
  return rules.bias_bf16 ? __uint_as_float(code << 16) : fv_f32_from_f16(code);
}

__device__ __forceinline__ float fv_distance_bias(const fv_device_rules &rules,
                                                  const fv_query_tile &tile,
                                                  const fv_row_rules &row, int32_t key) {
  return row.distances[fv_distance_entry(&rules, &tile.sequence.mask, row.row, key)];
}

__device__ __forceinline__ bool fv_sees_by_position(const fv_query_tile &tile,
                                                    const fv_row_rules &row, int32_t key) {
  return key < tile.sequence.mask.prefix_end || (key >= row.window.begin && key < row.window.end) ||
         (key >= row.span.begin && key < row.span.end);
}

// Whether the row sees a key that exists, or would if it were not `lost` on a bad page.
__device__ __forceinline__ bool fv_row_sees(const fv_attention_params &p, const fv_query_tile &tile,
                                            fv_tree_place tree, const fv_row_rules &row,
                                            int32_t key, bool lost, uint32_t &errors) {
  const fv_device_rules &rules = p.rules;
  if (!row.exists || !fv_sees_by_position(tile, row, key)) return false;
  if (lost || row.outside || (row.mask && key >= rules.mask.keys) ||
      (row.bias && key >= rules.bias.keys)) {
    errors |= lost ? FV_ERROR_PAGE : FV_ERROR_MASK;
    return false;
  }
  if (!fv_tree_shows(&rules, tree, row.row, key, tile.sequence.mask.len, &errors)) return false;
  if (row.mask && !row.mask[key * rules.mask.key]) return false;
  if (row.bias && fv_bias_at(rules, row, key) == -INFINITY) return false;
  return !row.distances || fv_distance_bias(rules, tile, row, key) != -INFINITY;
}

// ---- A tile of keys ----

// The keys that any row of the CTA sees; a narrow tile has one warp's rows.
template <class Config>
__device__ __forceinline__ void fv_join_seen(fv_seen_by_warps &shared, int stage,
                                             fv_visible_keys<Config::tile_kv> &any) {
  if constexpr (Config::threads > 32) {
    constexpr int words = fv_visible_keys<Config::tile_kv>::words;
    if (threadIdx.x % 32 < words) {
      shared.word[stage][threadIdx.x / 32][threadIdx.x % 32] =
          threadIdx.x % 32 ? any.word[words - 1] : any.word[0];
    }
    __syncthreads();  // what each warp's rows see becomes visible to all
#pragma unroll
    for (int w = 0; w < words; ++w) {
      any.word[w] = 0;
#pragma unroll
      for (int warp = 0; warp < Config::warps; ++warp) any.word[w] |= shared.word[stage][warp][w];
    }
  }
}

// Narrows the tile's visible keys to those that some row sees. All threads that share it call it.
template <class Config>
__device__ __forceinline__ void fv_apply_rules(const fv_attention_params &p,
                                               const fv_query_tile &tile, fv_seen_by_warps &shared,
                                               int stage, fv_next_keys<Config> &keys) {
  constexpr int words = fv_visible_keys<Config::tile_kv>::words;
  int lane = threadIdx.x % 32;
  uint32_t errors = 0;
  fv_tree_place tree = fv_place_tree(&p.rules, tile.sequence.index, tile.sequence.len_q, &errors);
  const fv_row_rules own = fv_find_rules(p, tile, Config::row_block(0) * 16 + lane % 16);
  fv_visible_keys<Config::tile_kv> any = {};
  for (int r = 0; r < 16; ++r) {
    fv_row_rules row = fv_rules_of(own, r);
#pragma unroll
    for (int w = 0; w < words; ++w) {
      int32_t key = (int32_t)keys.begin + w * 32 + lane;
      bool found = keys.visible.word[w] >> lane & 1, lost = keys.seen.lost.word[w] >> lane & 1;
      bool sees = (found || lost) && fv_row_sees(p, tile, tree, row, key, lost, errors);
      uint32_t seen = __ballot_sync(0xffffffffu, sees);
      any.word[w] |= seen;
      if (lane == r) keys.seen.word[w] = seen;
    }
  }
  if (errors) fv_add_error(p, tile.sequence.index, errors);
  fv_join_seen<Config>(shared, stage, any);
  keys.visible = any;
}

// What biases add to the logit of a key that the row sees.
__device__ __forceinline__ float fv_added_to_logit(const fv_attention_params &p,
                                                   const fv_query_tile &tile,
                                                   const fv_row_rules &row, int32_t key) {
  const fv_position_mask &mask = tile.sequence.mask;
  float added = 0.0f;
  if (row.slope != 0.0f) {
    int64_t ahead = mask.row_origin + row.row - (mask.key_origin + key * mask.key_stride);
    added = -row.slope * (float)(ahead < 0 ? -ahead : ahead);
  }
  if (row.distances) added += fv_distance_bias(p.rules, tile, row, key);
  if (row.bias) added = fmaf(row.bias_scale, fv_bias_at(p.rules, row, key), added);
  return added;
}

// Scores become natural logits, and those of keys that a row does not see -inf.
template <class Config>
__device__ __forceinline__ void fv_rule_scores(const fv_attention_params &p,
                                               const fv_query_tile &tile,
                                               const fv_visible_keys<Config::tile_kv> &of_rows,
                                               uint32_t begin, fv_scores<Config> &s) {
  constexpr int words = fv_visible_keys<Config::tile_kv>::words;
  bool adds = p.rules.bias.data || p.rules.slopes || p.rules.distances;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    int number = threadIdx.x % 32 / 4 + r * 8;
    fv_row_rules row = fv_find_rules(p, tile, Config::row_block(0) * 16 + number);
    fv_visible_keys<Config::tile_kv> seen;
#pragma unroll
    for (int w = 0; w < words; ++w)
      seen.word[w] = __shfl_sync(0xffffffffu, of_rows.word[w], number);
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float &score = s.of[0][n][2 * r + c];
        int32_t place = n * 8 + threadIdx.x % 4 * 2 + c;
        bool sees = seen.has(place, n * 8);
        float added = 0.0f;
        if (adds && sees) added = fv_added_to_logit(p, tile, row, (int32_t)begin + place);
        score = sees ? fmaf(score, p.rules.scale, added) : -INFINITY;
      }
    }
  }
}

#endif  // FOVEA_KERNELS_PARTS_RULES_CUH
