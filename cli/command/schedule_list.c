/* schedule_list.c - see schedule_list.h. */
#include "cli/command/schedule_list.h"

#include <stdlib.h>

#include "csrc/host/sequence.h"
#include "kernels/shared/params.h"

/* The tile of rows `row_tile` of a sequence, placed as attention_prepare's fv_place_tile does. */
static fv_placed_tile place_tile(const fv_plan *plan, const fv_problem *p, const fv_sequence *s,
                                 int line, int64_t row_tile) {
  int64_t tile_q = plan->kernel->tile_q, first = row_tile * tile_q;
  int64_t end = fv_min(first + tile_q, s->len_q * p->group);
  fv_range keys = fv_rows_keys(&s->mask, first / p->group, (end - 1) / p->group + 1);
  if (keys.begin >= keys.end) keys = (fv_range){0, 0};
  fv_placed_tile tile = {.sequence = (int32_t)s->index, .row_tile = (int32_t)row_tile};
  tile.key_tile = (int32_t)(keys.begin / plan->tile_kv);
  tile.key_tiles =
      (int32_t)fv_max(fv_ceil_div(keys.end, plan->tile_kv) - keys.begin / plan->tile_kv, 1);
  bool cut = line == FV_NARROW && plan->cuda.cut == FV_FLAG_CHUNKS && !p->kv_packed;
  tile.chunk = cut ? fv_chunk_keys((int32_t)s->mask.len) / plan->tile_kv : 0;
  return tile;
}

/* What a line amounts to so far, beside the line itself: fv_listed of attention_prepare. */
typedef struct listed {
  int64_t partials, longest;
} listed;

static bool append(fv_schedule_list *list, int line, fv_placed_tile tile, listed *listed) {
  fv_placed_line *to = &list->lines[line];
  if ((to->tiles & (to->tiles + 1)) == 0) { /* full: grows to one less than the next power of two */
    size_t capacity = (size_t)(2 * to->tiles + 1);
    fv_placed_tile *grown = realloc(list->tiles[line], capacity * sizeof *grown);
    if (!grown) return false;
    list->tiles[line] = grown;
  }
  int32_t chunks = fv_chunks_of(tile.key_tile, tile.key_tiles, tile.chunk);
  tile.work_begin = to->work;
  tile.place_begin = listed->partials;
  if (chunks > 1) listed->partials += (int64_t)chunks * list->heads;
  listed->longest = fv_max(listed->longest, tile.key_tiles);
  to->work += tile.key_tiles;
  list->tiles[line][to->tiles++] = tile;
  return true;
}

static bool append_sequence(const fv_plan *plan, const fv_problem *p, const fv_sequence *s,
                            fv_schedule_list *list, listed listed[FV_LINES]) {
  int64_t rows = s->len_q * p->group;
  int line = rows <= FV_NARROW_ROWS && plan->cuda.cut != FV_FLAG_WHOLE ? FV_NARROW : FV_WIDE;
  for (int64_t n = 0; n < fv_ceil_div(rows, plan->kernel->tile_q); ++n) {
    if (!append(list, line, place_tile(plan, p, s, line, n), &listed[line])) return false;
  }
  return true;
}

bool fv_schedule_list_make(const fv_plan *plan, const fv_problem *problem, fv_schedule_list *list) {
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  listed listed[FV_LINES] = {{0}};
  *list =
      (fv_schedule_list){.rows = {[FV_WIDE] = plan->kernel->tile_q, [FV_NARROW] = FV_NARROW_ROWS},
                         .heads = problem->heads_kv,
                         .workers = plan->workers,
                         .chunked = plan->cuda.cut != 0};
  while (fv_sequence_next(problem, &cursor, &sequence)) {
    if (!append_sequence(plan, problem, &sequence, list, listed)) {
      fv_schedule_list_free(list);
      return false;
    }
  }
  for (int line = 0; line < FV_LINES; ++line) {
    fv_placed_line *to = &list->lines[line];
    to->shares = fv_shares_of_line(to->work * list->heads, list->chunked ? 1 : listed[line].longest,
                                   list->workers);
  }
  return true;
}

void fv_schedule_list_free(fv_schedule_list *list) {
  for (int line = 0; line < FV_LINES; ++line) free(list->tiles[line]);
  *list = (fv_schedule_list){0};
}

fv_schedule fv_schedule_list_line(const fv_schedule_list *list, int line) {
  const fv_placed_line *placed = &list->lines[line];
  return (fv_schedule){list->tiles[line], placed->tiles,  placed->work,
                       list->heads,       placed->shares, list->chunked};
}
