/* pages.h - from (sequence, page of the sequence) to a page of the cache, for tables of any
 * content.
 *
 * Tables are data of the running program, not of this call: an id may be stale, a
 * length absurd. No entry is read that lies outside the table, no id is passed on that lies outside
 * the cache. */
#ifndef FV_PAGES_H
#define FV_PAGES_H

#include <fovea.h>

/* The ids of one sequence: ids[begin] up to ids[begin + count - 1]. */
typedef struct fv_page_map {
  const int32_t *ids;
  int64_t begin;
  int64_t count;
} fv_page_map;

/* ids is pages->ids or pages->v_ids; begin and end are the sequence's range of the CSR form,
 * clamped to the table (0 <= begin <= end <= pages->count), which the dense form ignores. */
static inline fv_page_map fv_page_map_for(const fovea_pages *pages, const int32_t *ids,
                                          int64_t sequence, int64_t begin, int64_t end) {
  fv_page_map map = {ids, sequence * pages->row_stride, pages->count};
  if (pages->offsets) {
    map.begin = begin;
    map.count = end - begin;
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
