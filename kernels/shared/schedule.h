/* schedule.h - how the work of a call is shared among CTAs where only the device knows how much
 * there is: lengths and offsets are data. Plain C: the kernels, the host's tests and printed plans
 * share it.
 *
 * A tile is a tile of query rows of one sequence. For each kv head it meets the key tiles that its
 * rows see, and each of these is one unit of work. Units stand in lines, ordered by tile, kv head
 * and key. A line is divided into shares of equal length. A tile that is split where a share ends
 * is merged from partials, in the order of keys.
 *
 * There are two lines, one for each kind of tile. Wide tiles keep a device's tensor cores busy;
 * narrow ones, of few rows, its memory. Each CTA takes a share of both lines. So both are in use to
 * the end, whatever a unit of one costs beside a unit of the other.
 *
 * Where a row's bits must not depend on other sequences, a tile is split only where a chunk begins.
 * Chunks are ranges of keys that depend on the length of the sequence alone. Every chunk makes a
 * partial, and a share takes the chunks that begin in it. */
#ifndef FOVEA_KERNELS_SHARED_SCHEDULE_H
#define FOVEA_KERNELS_SHARED_SCHEDULE_H

#include "kernels/shared/shape.h"

/* A sequence's place and positions, as read from the arrays of the call. */
typedef struct fv_placed_sequence {
  int64_t q_begin;    /* row 0, in q's second dimension */
  int64_t kv_begin;   /* key 0, in k's second dimension; paged: where its ids begin */
  int64_t tile_begin; /* its first tile in the list */
  int64_t row_origin, key_origin;
  int32_t len_q, len_kv, first;
  int32_t reserved;
} fv_placed_sequence;

typedef struct fv_placed_tile {
  int64_t work_begin;  /* units before it, counted for one kv head */
  int64_t place_begin; /* its first partial's place, if it is split into chunks */
  int32_t sequence;
  int32_t row_tile;  /* within the sequence */
  int32_t key_tile;  /* the first */
  int32_t key_tiles; /* how many, at least 1: an empty tile still has output to write */
  int32_t chunk;     /* key tiles in a chunk; 0: not split into chunks */
  int32_t reserved;
} fv_placed_tile;

/* The lines, one for each kind of tile. */
enum { FV_WIDE = 0, FV_NARROW = 1, FV_LINES = 2 };

/* What a line holds. */
typedef struct fv_placed_line {
  int64_t tiles;
  int64_t work;   /* units of one kv head */
  int32_t shares; /* CTAs that have one */
  int32_t reserved;
} fv_placed_line;

/* A line as the functions below take it. */
typedef struct fv_schedule {
  const fv_placed_tile *tiles;
  int64_t count;
  int64_t work;    /* units of one kv head */
  int32_t heads;   /* kv heads */
  int32_t shares;  /* CTAs that have one */
  int32_t chunked; /* shares take whole chunks */
} fv_schedule;

/* A work tile: key tiles [first, end) of those of a tile, for one kv head. */
typedef struct fv_segment {
  int64_t tile;
  int64_t place;       /* this partial's place */
  int64_t first_place; /* the place of the first partial, whose counter all share */
  int32_t head;
  int32_t first, end;
  int32_t part, parts; /* parts = 1: nothing to merge */
} fv_segment;

/* ---- Chunks ---- */

/* A sequence has at most FV_CHUNKS chunks. Only its last may be shorter than FV_CHUNK_KEYS. */
enum { FV_CHUNKS = 8, FV_CHUNK_KEYS = 256 };

/* Keys in a chunk of a sequence: a multiple of FV_CHUNK_KEYS, and of every tile_kv. */
FV_SHAPE int32_t fv_chunk_keys(int32_t len_kv) {
  return (int32_t)fv_max(1, fv_ceil_div(len_kv, FV_CHUNKS * FV_CHUNK_KEYS)) * FV_CHUNK_KEYS;
}

/* The chunks that key tiles [first, first + count) touch; they are counted from key 0. */
FV_SHAPE int32_t fv_chunks_of(int32_t first, int32_t count, int32_t chunk) {
  return chunk ? (first + count - 1) / chunk - first / chunk + 1 : 1;
}

/* ---- Shares ---- */

/* How many shares a line of `work` units has for `workers` CTAs. Merging a partial takes about as
 * long as computing a unit. So a tile of n units is done soonest in partials of about sqrt(n), and
 * shares are no shorter than that for the longest tile. */
FV_SHAPE int32_t fv_shares_of_line(int64_t work, int64_t longest, int32_t workers) {
  int64_t least = 1;
  while (least * least < longest) least *= 2;
  return (int32_t)fv_clamp(fv_ceil_div(work, least), 1, workers);
}

/* Which share of a line a CTA takes. Those of the narrow line are counted from the other end: where
 * there are fewer shares than CTAs, some CTAs have a wide share and others a narrow one. */
FV_SHAPE int64_t fv_share_of_worker(int line, int64_t worker, int64_t workers) {
  return line == FV_WIDE ? worker : workers - 1 - worker;
}

/* The line that a CTA begins with. Half the CTAs begin with each, so that tensor cores and memory
 * are in use at any time. CTAs that share a multiprocessor are half of all CTAs apart. */
FV_SHAPE int fv_first_line(int64_t worker, int64_t workers) {
  return 2 * worker < workers ? FV_WIDE : FV_NARROW;
}

/* Where share i of `shares` begins in a line of `work` units: lengths differ by one at most. */
FV_SHAPE int64_t fv_share_begin(int64_t work, int64_t shares, int64_t i) {
  return work / shares * i + fv_min(i, work % shares);
}

/* The share that unit w belongs to. */
FV_SHAPE int64_t fv_share_of(int64_t work, int64_t shares, int64_t w) {
  int64_t shorter = work / shares, longer = work % shares; /* `longer` shares have one unit more */
  int64_t edge = (shorter + 1) * longer;
  return w < edge ? w / (shorter + 1) : longer + (w - edge) / shorter;
}

/* The tile that unit w (counted over all heads) belongs to. */
FV_SHAPE int64_t fv_tile_of_work(const fv_schedule *s, int64_t w) {
  int64_t low = 0, high = s->count;
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (s->tiles[middle].work_begin * s->heads <= w) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/* A share has two places. A tile's first partial ends its share and has the second place. Any other
 * partial begins its share and has the first. */
FV_SHAPE int64_t fv_place_of_share(int64_t first_share, int32_t part) {
  return part ? 2 * (first_share + part) : 2 * first_share + 1;
}

/* The place of partial `part` of the tile whose first partial is at first_place. */
FV_SHAPE int64_t fv_place_of_partial(int chunked, int64_t first_place, int32_t part) {
  return chunked ? first_place + part : fv_place_of_share((first_place - 1) / 2, part);
}

/* How far a share has come: to unit w of the line, in tile `tile`. */
typedef struct fv_cursor {
  int64_t w, end;
  int64_t tile;
} fv_cursor;

/* The share's units. The caller looks up the tile of the first one. */
FV_SHAPE fv_cursor fv_find_share(const fv_schedule *s, int64_t share) {
  int64_t work = s->work * s->heads;
  fv_cursor cursor = {0, 0, 0};
  if (share < s->shares) {
    cursor.w = fv_share_begin(work, s->shares, share);
    cursor.end = fv_share_begin(work, s->shares, share + 1);
  }
  return cursor;
}

FV_SHAPE fv_cursor fv_start_share(const fv_schedule *s, int64_t share) {
  fv_cursor cursor = fv_find_share(s, share);
  if (cursor.w < cursor.end) cursor.tile = fv_tile_of_work(s, cursor.w);
  return cursor;
}

/* The first unit of the tile, from `from` on, at which a chunk begins. The tile's end if there is
 * none. */
FV_SHAPE int32_t fv_chunk_from(const fv_placed_tile *tile, int32_t from) {
  if (from == 0) return 0;
  if (!tile->chunk) return tile->key_tiles;
  int64_t begin = fv_ceil_div(tile->key_tile + from, tile->chunk) * tile->chunk;
  return (int32_t)fv_min(begin - tile->key_tile, tile->key_tiles);
}

FV_SHAPE void fv_cut_at_chunks(const fv_placed_tile *tile, int32_t head, fv_segment *segment) {
  int32_t chunk = tile->chunk;
  segment->parts = fv_chunks_of(tile->key_tile, tile->key_tiles, chunk);
  segment->part = chunk ? (tile->key_tile + segment->first) / chunk - tile->key_tile / chunk : 0;
  segment->first_place = tile->place_begin + (int64_t)head * segment->parts;
  segment->place = segment->first_place + segment->part;
}

FV_SHAPE void fv_cut_at_shares(const fv_schedule *s, int64_t tile_begin, int32_t key_tiles,
                               int64_t share, fv_segment *segment) {
  int64_t work = s->work * s->heads;
  int64_t first = fv_share_of(work, s->shares, tile_begin);
  int64_t last = fv_share_of(work, s->shares, tile_begin + key_tiles - 1);
  segment->part = (int32_t)(share - first);
  segment->parts = (int32_t)(last - first) + 1;
  segment->first_place = fv_place_of_share(first, 0);
  segment->place = fv_place_of_share(first, segment->part);
}

/* The share's next work tile; 0: there is none left. */
FV_SHAPE int fv_next_segment(const fv_schedule *s, int64_t share, fv_cursor *cursor,
                             fv_segment *segment) {
  while (cursor->w < cursor->end) {
    const fv_placed_tile *tile = &s->tiles[cursor->tile];
    int64_t from_tile = cursor->w - tile->work_begin * s->heads;
    int32_t head = (int32_t)(from_tile / tile->key_tiles);
    if (head >= s->heads) {
      cursor->tile += 1;
      continue;
    }
    int32_t first = (int32_t)(from_tile % tile->key_tiles);
    int64_t tile_begin = cursor->w - first;
    int32_t end = (int32_t)fv_min(tile->key_tiles, first + cursor->end - cursor->w);
    if (s->chunked) {
      int32_t begin = fv_chunk_from(tile, first); /* the rest of a chunk is another share's */
      if (begin > first) {
        cursor->w += begin - first;
        continue;
      }
      end = fv_chunk_from(tile, first + 1);
    }
    segment->tile = cursor->tile;
    segment->head = head;
    segment->first = first;
    segment->end = end;
    if (s->chunked) {
      fv_cut_at_chunks(tile, head, segment);
    } else {
      fv_cut_at_shares(s, tile_begin, tile->key_tiles, share, segment);
    }
    cursor->w += end - first;
    return 1;
  }
  return 0;
}

#endif /* FOVEA_KERNELS_SHARED_SCHEDULE_H */
