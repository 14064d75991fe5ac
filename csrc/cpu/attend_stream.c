/* attend_stream.c - few rows at a time, as in decode: the keys stream past, read in place.
 *
 *   for every chunk of keys:  states = nothing;
 *     for every tile of 64 keys, for every kv head of the work tile:
 *       s = q k, while the next k is fetched;  mask;  s = exp(s - max);
 *       out = out * rescale + s v, while the next v is fetched
 *     merge the chunk's states and outs into the rows'
 *
 * Memory bandwidth is the limit: one core reads about 20 GB/s, and products with one row could
 * consume twice that. Heads take turns at each tile, because a key's rows of all heads mostly lie
 * side by side. Read head by head, each row would be 512 bytes in a memory page of its own, and
 * hardware prefetchers stop at the end of a page.
 *
 * Tiles begin at absolute multiples of 64 keys. Chunks begin at multiples of a length that follows
 * from the sequence's own (fv_stream_chunk_keys). So a row's bits depend neither on the number of
 * threads nor on the batch. They differ from those of attend_tile.c, which sums its products in
 * another order. */
#include <math.h>
#include <string.h>

#include "csrc/cpu/attend.h"
#include "csrc/host/element.h"

/* Some kv heads of a sequence, each with the same number of rows. */
typedef struct stream {
  fv_attend_worker *worker;
  const fv_attend_job *job;
  const fv_problem *problem;
  int64_t first_head;
  int32_t heads, rows, columns;     /* rows of each head */
  float *q;                         /* [heads][rows][dim] */
  double *out;                      /* [heads][rows][columns] */
  fv_row_mask *masks;               /* [heads][rows] */
  float *k, *v, *scores;            /* of the current head */
  fv_seen_keys seen;                /* by at least one row */
  bool masked;                      /* masks are filled in: some tile needs them */
  fv_range keys;                    /* the range from the first key seen to the last */
  fv_range all;                     /* keys that every row sees */
  fv_range windows[FV_STREAM_ROWS]; /* keys that a head's rows see, the prefix aside */
  fv_row_state states[FV_BLOCK_ROWS];
} stream;

int64_t fv_stream_chunk_keys(int64_t len_kv) {
  int64_t share = fv_ceil_div(len_kv, FV_STREAM_CHUNKS);
  return fv_max(FV_STREAM_CHUNK_KEYS, fv_ceil_div(share, FV_STREAM_KEYS) * FV_STREAM_KEYS);
}

static int64_t position_of(const stream *s, int32_t r) {
  return r / s->problem->group;
}

static int64_t head_of(const stream *s, int32_t head, int32_t r) {
  return (s->first_head + head) * s->problem->group + r % s->problem->group;
}

/* ---- Rows ---- */

static void start_head(stream *s, int32_t head) {
  const fovea_attention_args *a = &s->problem->args;
  const fv_sequence *sequence = s->worker->source.sequence;
  for (int32_t r = 0; r < s->rows; ++r) {
    int32_t row = head * s->rows + r;
    int64_t position = position_of(s, r), q_head = head_of(s, head, r);
    fv_place place = {sequence->q_batch, sequence->q_begin + position};
    fv_widen_row(s->job->kernels, &a->q, &a->q_scale, place, q_head, s->problem->dim,
                 s->q + (int64_t)row * s->job->dim);
    if (s->masked) {
      s->masks[row] = fv_row_mask_for(s->problem, sequence, position, q_head);
    }
  }
}

static void start_rows(stream *s) {
  const fv_sequence *sequence = s->worker->source.sequence;
  for (int32_t r = 0; r < s->rows; ++r) {
    s->windows[r] = fv_window_keys(&sequence->mask, position_of(s, r));
  }
  fv_range front = s->windows[0], back = s->windows[s->rows - 1];
  s->all = (fv_range){fv_max(front.begin, back.begin), fv_min(front.end, back.end)};
  s->seen = fv_keys_seen(s->problem, sequence, 0, sequence->len_q);
  s->masked = s->job->row_masks || !fv_is_empty(s->seen.span);
  s->keys = fv_hull_of_seen(&s->seen);
}

static stream start_stream(fv_attend_worker *worker, int32_t heads) {
  const fv_attend_job *job = worker->job;
  const fv_tile_layout *layout = &job->layout;
  stream s = {.worker = worker, .job = job, .problem = job->problem, .heads = heads};
  s.first_head = worker->source.kv_head;
  s.rows = (int32_t)(worker->source.sequence->len_q * job->problem->group);
  s.columns = fv_padded_dim(job->problem->dim_v);
  s.q = worker->scratch + layout->q;
  s.k = worker->scratch + layout->k;
  s.v = worker->scratch + layout->v;
  s.scores = worker->scratch + layout->scores;
  s.out = (double *)(worker->scratch + layout->out);
  s.masks = (fv_row_mask *)(worker->scratch + layout->masks);
  start_rows(&s);
  return s;
}

static void clear_states(const stream *s, fv_row_state *states, double *out) {
  int32_t rows = s->heads * s->rows;
  for (int32_t r = 0; r < rows; ++r) states[r] = (fv_row_state){0, -INFINITY};
  memset(out, 0, (size_t)rows * (size_t)s->columns * sizeof *out);
}

/* ---- Tiles ---- */

/* Finds the keys of the tile at `begin` that a row of the head may see, in whole panels. */
static void find_tile(const stream *s, int64_t begin, int32_t head, fv_key_tile *tile) {
  int64_t width = s->job->kernels->panel_columns;
  fv_attend_worker *w = s->worker;
  tile->begin = begin;
  tile->from = (int32_t)(fv_max(s->keys.begin - begin, 0) / width * width);
  tile->to = (int32_t)fv_min(fv_ceil_div(s->keys.end - begin, width) * width, FV_STREAM_KEYS);
  w->source.kv_head = s->first_head + head;
  fv_key_tile_find(&w->source, &s->seen, tile, &w->errors);
}

/* Masks the scores and turns them into weights. rescale [rows] receives the factors for earlier
 * sums. */
static void weigh_keys(stream *s, int32_t head, double *rescale) {
  const fv_tile_kernels *kernels = s->job->kernels;
  const fv_key_tile *tile = s->worker->keys;
  bool masked = fv_needs_masks(s->worker, &s->seen);
  bool as_it_is = !masked && !s->job->scores_are_logits && tile->whole &&
                  tile->begin + tile->from >= s->all.begin && tile->begin + tile->to <= s->all.end;
  const fv_tile_range keys = {tile->from, tile->to};
  int32_t first = head * s->rows;
  float maxima[FV_STREAM_ROWS];
  for (int32_t r = 0; r < s->rows; ++r) {
    float *scores = s->scores + (int64_t)r * FV_SCORE_STRIDE;
    if (!as_it_is) {
      fv_mask_scores(s->worker, masked ? &s->masks[first + r] : NULL, s->windows[r], keys, scores);
    }
    maxima[r] = kernels->largest(scores, keys);
  }
  kernels->softmax(s->scores, s->rows, keys, maxima, s->job->score_factor, s->states + first,
                   rescale);
}

/* The tile's rows of k or v, of a type that kernels read. `ahead` is NULL, or has the addresses
 * of the next tile. */
static fv_key_rows rows_of(const fv_key_tile *tile, const void *const *rows,
                           const void *const *ahead, uint32_t dtype) {
  return (fv_key_rows){.rows = rows + tile->from,
                       .ahead = ahead ? ahead + tile->from : NULL,
                       .dtype = dtype,
                       .keys = tile->to - tile->from};
}

static void score_additive(stream *s, int32_t head) {
  fv_attend_worker *w = s->worker;
  const fv_tile_kernels *kernels = s->job->kernels;
  const float *vectors[FV_STREAM_ROWS];
  for (int32_t r = 0; r < s->rows; ++r) {
    vectors[r] = fv_additive_vector(s->problem, head_of(s, head, r));
  }
  fv_key_tile_pack_k(&w->source, kernels, w->keys, s->k, w->scratch + s->job->layout.rows);
  kernels->score_additive(s->scores, s->q + (int64_t)head * s->rows * s->job->dim, vectors, s->rows,
                          s->problem->dim, s->k, (fv_tile_range){w->keys->from, w->keys->to});
}

/* Scores of dot products. `ahead` is NULL, or the tile that follows. */
static void score_dots(stream *s, int32_t head, const fv_key_tile *ahead) {
  const fv_attend_job *job = s->job;
  fv_key_tile *tile = s->worker->keys;
  const float *q = s->q + (int64_t)head * s->rows * job->dim;
  uint32_t dtype = job->k_in_place ? s->problem->args.k.dtype : FOVEA_F32;
  if (!job->k_in_place) {
    fv_key_tile_widen_k(&s->worker->source, job->kernels, tile,
                        (fv_tile_range){tile->from, tile->to}, s->k);
  }
  job->kernels->stream_scores(s->scores + tile->from, q, s->rows, job->dim,
                              rows_of(tile, tile->k, ahead ? ahead->k : NULL, dtype));
}

/* Adds the weighted values of the tile to the head's sums. */
static void add_values(stream *s, int32_t head, const double *rescale, const fv_key_tile *ahead) {
  const fv_attend_job *job = s->job;
  fv_key_tile *tile = s->worker->keys;
  fv_sums sums = {s->out + (int64_t)head * s->rows * s->columns, s->columns, rescale};
  uint32_t dtype = job->v_in_place ? s->problem->args.v.dtype : FOVEA_F32;
  if (!job->v_in_place) {
    fv_key_tile_widen_v(&s->worker->source, job->kernels, tile,
                        (fv_tile_range){tile->from, tile->to}, s->v);
  }
  job->kernels->stream_values(sums, s->scores + tile->from, s->rows, job->dim_v,
                              rows_of(tile, tile->v, ahead ? ahead->v : NULL, dtype));
}

/* `next` is the tile that follows, of this head or another, or NULL. */
static void attend_tile(stream *s, int32_t head, const fv_key_tile *next) {
  const fv_key_tile *tile = s->worker->keys;
  bool covers = next && next->from <= tile->from && next->to >= tile->to;
  const fv_key_tile *ahead = covers ? next : NULL;
  double rescale[FV_STREAM_ROWS];
  if (s->job->element_masks) fv_hide_unseen(s->worker, s->masks + head * s->rows, s->rows);
  if (s->job->additive) {
    score_additive(s, head);
  } else {
    score_dots(s, head, ahead);
  }
  weigh_keys(s, head, rescale);
  add_values(s, head, rescale, ahead);
}

/* The first tile from `key` on that holds a key that a row sees; `end` or more if there is none. */
static int64_t find_seen(const stream *s, int64_t key, int64_t end) {
  const fv_position_mask *mask = &s->worker->source.sequence->mask;
  while (key < end && !fv_sees_any(mask, &s->seen, (fv_range){key, key + FV_STREAM_KEYS})) {
    key += FV_STREAM_KEYS;
  }
  return key;
}

/* Attends to keys [begin, end) from fresh states. The rows may see none of them: s->keys may even
 * end before it begins. */
static void attend_keys(stream *s, int64_t begin, int64_t end) {
  fv_attend_worker *w = s->worker;
  begin = fv_max(begin, s->keys.begin / FV_STREAM_KEYS * FV_STREAM_KEYS);
  end = fv_min(end, s->keys.end);
  clear_states(s, s->states, s->out);
  if (fv_max(begin, s->keys.begin) >= end) return;
  int64_t key = find_seen(s, begin, end), following;
  int which = 0;
  if (key < end) find_tile(s, key, 0, &w->tiles[which]);
  for (; key < end; key = following) {
    following = find_seen(s, key + FV_STREAM_KEYS, end);
    for (int32_t head = 0; head < s->heads; ++head, which ^= 1) {
      bool last = head + 1 == s->heads;
      int64_t next_key = last ? following : key;
      fv_key_tile *next = next_key < end ? &w->tiles[which ^ 1] : NULL;
      if (next) find_tile(s, next_key, last ? 0 : head + 1, next);
      w->keys = &w->tiles[which];
      w->source.kv_head = s->first_head + head;
      attend_tile(s, head, next);
    }
  }
}

/* ---- Chunks ---- */

/* Merges a chunk's state and out into the row's. A chunk that saw no key changes no bit. */
static void merge_row(const fv_attend_job *job, int32_t columns, fv_row_state chunk,
                      const double *chunk_out, fv_row_state *state, double *out) {
  float next = chunk.maximum > state->maximum ? chunk.maximum : state->maximum;
  double old = fv_rescale(state->maximum, next, job->score_factor);
  double added = fv_rescale(chunk.maximum, next, job->score_factor);
  for (int32_t d = 0; d < columns; ++d) out[d] = out[d] * old + chunk_out[d] * added;
  state->sum = state->sum * old + chunk.sum * added;
  state->maximum = next;
}

static void merge_rows(const stream *s, int32_t head, const fv_row_state *chunk,
                       const double *chunk_out, fv_row_state *states, double *out) {
  for (int32_t r = 0; r < s->rows; ++r) {
    int64_t row = (int64_t)r * s->columns;
    merge_row(s->job, s->columns, chunk[r], chunk_out + row, &states[head * s->rows + r],
              out + head * s->rows * (int64_t)s->columns + row);
  }
}

static void store_rows(const stream *s, const fv_row_state *states, const double *out) {
  for (int32_t head = 0; head < s->heads; ++head) {
    for (int32_t r = 0; r < s->rows; ++r) {
      int32_t row = head * s->rows + r;
      fv_store_result(s->job, s->worker->source.sequence, position_of(s, r), head_of(s, head, r),
                      states[row], out + (int64_t)row * s->columns);
    }
  }
}

void fv_attend_stream(fv_attend_worker *worker, int32_t heads) {
  stream s = start_stream(worker, heads);
  double *sums = (double *)(worker->scratch + worker->job->layout.stream);
  fv_row_state states[FV_BLOCK_ROWS];
  int64_t chunk = fv_stream_chunk_keys(worker->source.sequence->mask.len);
  for (int32_t head = 0; head < heads; ++head) start_head(&s, head);
  clear_states(&s, states, sums);
  for (int64_t key = s.keys.begin / chunk * chunk; key < s.keys.end; key += chunk) {
    attend_keys(&s, key, key + chunk);
    for (int32_t head = 0; head < heads; ++head) {
      int32_t first = head * s.rows;
      merge_rows(&s, head, s.states + first, s.out + (int64_t)first * s.columns, states, sums);
    }
  }
  store_rows(&s, states, sums);
}

/* A head's partial is out [rows][columns], then states [rows]. */
void fv_attend_chunk(fv_attend_worker *worker, int32_t heads, int64_t index, double *partials,
                     int64_t partials_per_head) {
  stream s = start_stream(worker, heads);
  int64_t chunk = fv_stream_chunk_keys(worker->source.sequence->mask.len);
  for (int32_t head = 0; head < heads; ++head) start_head(&s, head);
  attend_keys(&s, index * chunk, (index + 1) * chunk);
  size_t rows = (size_t)s.rows, doubles = rows * (size_t)s.columns;
  for (int32_t head = 0; head < heads; ++head) {
    double *partial = partials + head * partials_per_head * (int64_t)s.job->partial_doubles;
    memcpy(partial, s.out + (size_t)head * doubles, doubles * sizeof *partial);
    memcpy(partial + doubles, s.states + (size_t)head * rows, rows * sizeof *s.states);
  }
}

void fv_merge_chunks(fv_attend_worker *worker, int32_t heads, const double *partials) {
  stream s = start_stream(worker, heads);
  double *sums = (double *)(worker->scratch + worker->job->layout.stream);
  fv_row_state states[FV_BLOCK_ROWS], chunk[FV_STREAM_ROWS];
  int64_t chunks = fv_chunk_count(worker->source.sequence->mask.len);
  clear_states(&s, states, sums);
  for (int32_t head = 0; head < heads; ++head) {
    for (int64_t index = 0; index < chunks; ++index, partials += s.job->partial_doubles) {
      memcpy(chunk, partials + (size_t)s.rows * (size_t)s.columns, (size_t)s.rows * sizeof *chunk);
      merge_rows(&s, head, chunk, partials, states, sums);
    }
  }
  store_rows(&s, states, sums);
}
