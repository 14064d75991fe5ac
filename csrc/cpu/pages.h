/* pages.h - from (sequence, page of the sequence) to a page of the cache, for tables of any
 * content.
 *
 * Tables are data of the running program, not of this call: an id may be stale, an offset may
 * decrease. No entry is read that lies outside the table, no id is passed on that lies outside the
 * cache. */
#ifndef FV_PAGES_H
#define FV_PAGES_H

#include "../../include/fovea.h"

/* The ids of one sequence: ids[begin] up to ids[begin + count - 1]. */
typedef struct fv_page_map {
  const int32_t *ids;
  int64_t begin;
  int64_t count;
} fv_page_map;

static inline int64_t fv_page_clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/* ids is pages->ids or pages->v_ids. The two offsets are those of the CSR form, pages->offsets[s]
 * and [s + 1], as they stand in memory; the dense form ignores them. They are clamped to the table,
 * and a range that runs backwards is empty; the caller sees it by comparing. Unlike the offsets of
 * packed tensors they need no running maximum: sequences may well share pages. */
static inline fv_page_map fv_page_map_for(const fovea_pages *pages, const int32_t *ids,
                                          int64_t sequence, int64_t offset_begin,
                                          int64_t offset_end) {
  fv_page_map map = {ids, sequence * pages->row_stride, pages->count};
  if (pages->offsets) {
    map.begin = fv_page_clamp(offset_begin, 0, pages->count);
    map.count = fv_page_clamp(offset_end, map.begin, pages->count) - map.begin;
  }
  return map;
}

/* The id of the sequence's page `index`, or -1 if the table or the cache has no such page. */
static inline int64_t fv_page_id(fv_page_map map, int64_t index, int64_t pages_in_cache) {
  if (index < 0 || index >= map.count) return -1;
  int64_t id = map.ids[map.begin + index];
  return id >= 0 && id < pages_in_cache ? id : -1;
}

#endif /* FV_PAGES_H */
