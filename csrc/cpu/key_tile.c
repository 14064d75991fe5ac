/* key_tile.c - see key_tile.h. */
#include "csrc/cpu/key_tile.h"

#include <string.h>

#include "csrc/cpu/tile_scratch.h"
#include "csrc/host/element.h"

const float fv_zero_row[FV_DIM_MAX];

/* ---- Addresses ---- */

static const char *row_address(const fovea_tensor *x, fv_place place, int64_t head) {
  int64_t offset = fv_row_offset(x, place.outer, place.inner, head);
  return (const char *)x->data + fv_dtype_size(x->dtype, offset);
}

/* One of the tensors that hold keys, and the tile's addresses of its rows. */
typedef struct cached {
  const fovea_tensor *x, *scale;
  const int32_t *ids; /* of pages */
  const void **rows;  /* [FV_TILE_KV_MAX] */
} cached;

static cached cached_k(const fv_problem *problem, fv_key_tile *tile) {
  const fovea_attention_args *a = &problem->args;
  return (cached){&a->k, &a->k_scale, a->sequences.pages.ids, tile->k};
}

static cached cached_v(const fv_problem *problem, fv_key_tile *tile) {
  const fovea_attention_args *a = &problem->args;
  return (cached){&a->v, &a->v_scale, a->sequences.pages.v_ids, tile->v};
}

/* Within a page consecutive keys are a constant step apart. Keys on a bad page are marked dead. */
static void find_rows(const fv_key_source *source, cached c, fv_range keys, fv_key_tile *tile,
                      uint32_t *errors) {
  const fovea_tensor *x = c.x;
  int64_t step = fv_dtype_size(x->dtype, x->stride[1]);
  int64_t page_len = source->problem->paged ? x->shape[1] : INT64_MAX;
  for (int64_t key = keys.begin; key < keys.end;) {
    int64_t left = source->problem->paged ? page_len - key % page_len : INT64_MAX;
    int64_t end = key + fv_min(left, keys.end - key);
    fv_place place;
    if (fv_key_place(source->problem, source->sequence, x, c.ids, key, &place)) {
      const char *row = row_address(x, place, source->kv_head);
      for (; key < end; ++key, row += step) c.rows[key - tile->begin] = row;
    } else {
      *errors |= FOVEA_BAD_PAGE;
      tile->whole = false;
      for (; key < end; ++key) tile->live[key - tile->begin] = 0;
    }
  }
}

/* Finds the addresses in k and v of one range of keys. */
static void find_range(const fv_key_source *source, fv_range keys, fv_key_tile *tile,
                       uint32_t *errors) {
  keys.begin = fv_max(keys.begin, tile->begin + tile->from);
  keys.end = fv_min(keys.end, tile->begin + tile->to);
  if (keys.begin >= keys.end) return;
  memset(tile->live + (keys.begin - tile->begin), 1, (size_t)(keys.end - keys.begin));
  find_rows(source, cached_k(source->problem, tile), keys, tile, errors);
  /* fovea_attention_weights has no v */
  if (!source->problem->args.v.dtype) return;
  find_rows(source, cached_v(source->problem, tile), keys, tile, errors);
}

fv_seen_keys fv_keys_seen(const fv_problem *problem, const fv_sequence *sequence, int64_t row_begin,
                          int64_t row_end) {
  const fv_position_mask *mask = &sequence->mask;
  return (fv_seen_keys){
      .prefix = {mask->first, fv_min(mask->prefix_end, mask->len)},
      .window = {fv_window_keys(mask, row_begin).begin, fv_window_keys(mask, row_end - 1).end},
      .span = fv_rows_span(problem, sequence, row_begin, row_end),
      .rows = {row_begin, row_end}};
}

/* Finds the keys that rows see in their spans alone. Neighbours nearly always share a span. */
static void find_spans(const fv_key_source *source, const fv_seen_keys *seen, fv_key_tile *tile,
                       uint32_t *errors) {
  fv_range last = {0, 0};
  for (int64_t row = seen->rows.begin; row < seen->rows.end; ++row) {
    fv_range span = fv_row_span(source->problem, source->sequence, row);
    if (span.begin == last.begin && span.end == last.end) continue;
    last = span;
    span.begin = fv_max(span.begin, seen->prefix.end);
    fv_range before = {span.begin, fv_min(span.end, seen->window.begin)};
    fv_range behind = {fv_max(span.begin, fv_max(seen->window.begin, seen->window.end)), span.end};
    find_range(source, before, tile, errors);
    find_range(source, behind, tile, errors);
  }
}

void fv_key_tile_find(const fv_key_source *source, const fv_seen_keys *seen, fv_key_tile *tile,
                      uint32_t *errors) {
  int32_t from = tile->from, to = tile->to;
  fv_range window = seen->window;
  tile->whole = true;
  memset(tile->live + from, 0, (size_t)(to - from));
  find_range(source, seen->prefix, tile, errors);
  window.begin = fv_max(window.begin, seen->prefix.end); /* find no key twice */
  find_range(source, window, tile, errors);
  if (fv_overlaps(seen->span, fv_tile_keys(tile))) find_spans(source, seen, tile, errors);
  if (!memchr(tile->live + from, 0, (size_t)(to - from))) return;
  for (int32_t j = from; j < to; ++j) {
    if (!tile->live[j]) tile->k[j] = tile->v[j] = fv_zero_row;
  }
}

/* ---- Types that kernels do not read ---- */

void fv_widen_row(const fv_tile_kernels *kernels, const fovea_tensor *x, const fovea_tensor *scale,
                  fv_place place, int64_t head, int32_t dim, float *row) {
  const char *from = row_address(x, place, head);
  int32_t whole = dim / FV_DIM_STEP * FV_DIM_STEP;
  kernels->widen(row, from, x->dtype, whole);
  for (int32_t d = whole; d < dim; ++d) row[d] = fv_load(x->dtype, from, d);
  for (int32_t d = dim; d < fv_stepped_dim(dim); ++d) row[d] = 0;
  if (scale->dtype == FOVEA_NONE) return;
  int32_t blocks = (int32_t)scale->shape[3], block_dim = dim / blocks;
  for (int32_t b = 0; b < blocks; ++b) {
    float factor = fv_scale_at(scale, place.outer, place.inner, head, b * block_dim, dim);
    for (int32_t d = 0; d < block_dim; ++d) row[b * block_dim + d] *= factor;
  }
}

/* Indices `keys` of the tile that begins at key `begin`. */
static void widen_rows(const fv_key_source *source, const fv_tile_kernels *kernels, cached c,
                       int64_t begin, fv_tile_range keys, float *to) {
  int32_t dim = (int32_t)c.x->shape[3];
  for (int32_t j = keys.begin; j < keys.end; ++j, to += fv_stepped_dim(dim)) {
    fv_place place;
    if (c.rows[j] == fv_zero_row) continue;
    fv_key_place(source->problem, source->sequence, c.x, c.ids, begin + j, &place);
    fv_widen_row(kernels, c.x, c.scale, place, source->kv_head, dim, to);
    c.rows[j] = to;
  }
}

void fv_key_tile_widen_k(const fv_key_source *source, const fv_tile_kernels *kernels,
                         fv_key_tile *tile, fv_tile_range keys, float *to) {
  widen_rows(source, kernels, cached_k(source->problem, tile), tile->begin, keys, to);
}

void fv_key_tile_widen_v(const fv_key_source *source, const fv_tile_kernels *kernels,
                         fv_key_tile *tile, fv_tile_range keys, float *to) {
  widen_rows(source, kernels, cached_v(source->problem, tile), tile->begin, keys, to);
}

void fv_key_tile_pack_k(const fv_key_source *source, const fv_tile_kernels *kernels,
                        fv_key_tile *tile, float *k, float *widened) {
  const fovea_tensor *x = &source->problem->args.k;
  bool in_place = fv_is_in_place(kernels, x);
  int32_t dim = fv_stepped_dim(source->problem->dim), width = kernels->panel_columns;
  for (int32_t j = tile->from; j < tile->to; j += width) {
    if (!in_place) {
      fv_key_tile_widen_k(source, kernels, tile, (fv_tile_range){j, j + width}, widened);
    }
    kernels->pack_keys(k + (int64_t)j * dim, tile->k + j, in_place ? x->dtype : FOVEA_F32, dim);
  }
}
