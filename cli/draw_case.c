/* draw_case.c - see draw_case.h. The order of drawing: shapes, lengths, layouts and tables,
 * positions, masks and logits; then the data, when it is known who sees what. */
#include "draw_case.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cpu/element.h"
#include "cpu/row_mask.h"

enum { CANARY = 0xc5, NOTHING = 0xff, MAX_SEQUENCES = 5 };

/* Multiply-adds in double precision that the judge spends on a case: about 20 ms. */
static const double judge_budget = 8e6;

/* What is known while drawing. */
typedef struct sketch {
  fv_case *c;
  fv_random *random;
  int64_t sequences, heads_q, heads_kv, dim, dim_v;
  int64_t len_q[MAX_SEQUENCES], len_kv[MAX_SEQUENCES], room[MAX_SEQUENCES];
  int64_t longest_q, longest_room;
  int64_t page_len;
  bool bad;
  bool limited;     /* to the features below, and to one dtype */
  uint64_t allowed; /* bit f: feature f may be drawn */
  int dtype;        /* that q, k, v and out share if limited; -1: not drawn yet */
} sketch;

static void add(sketch *s, fv_feature feature) {
  s->c->features |= UINT64_C(1) << feature;
}

static bool may(const sketch *s, fv_feature feature) {
  return s->allowed >> feature & 1;
}

static bool wish(sketch *s, fv_feature feature, int percent) {
  if (!fv_random_percent(s->random, percent) || !may(s, feature)) return false;
  add(s, feature);
  return true;
}

/* Memory of the case. When there is none left, a small static block keeps the drawing going; the
 * case then says so and is not run. */
static void *allocate(fv_case *c, size_t bytes, int fill) {
  void *block = c->block_count < FV_CASE_BLOCKS ? malloc(bytes + 64) : NULL;
  if (!block) {
    c->out_of_memory = true;
    return NULL;
  }
  memset(block, fill, bytes + 64);
  c->blocks[c->block_count++] = block;
  return block;
}

static int32_t *allocate_i32(sketch *s, int64_t count) {
  return allocate(s->c, (size_t)(count + 1) * sizeof(int32_t), 0);
}

/* ---- Tensors ---- */

/* A view with its first three dimensions in random order in memory and random gaps. block is how
 * many elements a row takes, at least shape[3]. */
static void draw_strides(sketch *s, fovea_tensor *t, int64_t block) {
  int order[3] = {2, 1, 0};
  for (int i = 2; i > 0; --i) {
    int j = (int)fv_random_between(s->random, 0, i), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  static const int64_t gaps[] = {0, 0, 1, 8};
  int64_t stride = block + gaps[fv_random_between(s->random, 0, 3)];
  t->stride[3] = 1;
  for (int i = 0; i < 3; ++i) {
    t->stride[order[i]] = stride;
    stride = stride * (t->shape[order[i]] ? t->shape[order[i]] : 1) +
             gaps[fv_random_between(s->random, 0, 3)];
  }
}

static int64_t span(const fovea_tensor *t) {
  int64_t last = 0;
  for (int d = 0; d < 4; ++d) {
    if (t->shape[d] == 0) return 0;
    last += (t->shape[d] - 1) * t->stride[d];
  }
  return last + 1;
}

static void draw_tensor(sketch *s, fovea_tensor *t, uint32_t dtype, int64_t d0, int64_t d1,
                        int64_t d2, int64_t d3, int fill) {
  *t = (fovea_tensor){.shape = {d0, d1, d2, d3}, .dtype = dtype};
  draw_strides(s, t, d3);
  int64_t offset = fv_random_between(s->random, 0, 3);
  char *data = allocate(s->c, (size_t)((span(t) + offset + 8) * fv_dtype_bytes(dtype)), fill);
  t->data = data ? data + offset * fv_dtype_bytes(dtype) : NULL;
}

/* ---- Shapes ---- */

static void draw_dims(sketch *s) {
  static const int64_t dims[] = {8, 16, 24, 32, 32, 40, 64, 64, 64, 80, 96, 128, 128, 192, 256};
  enum { COUNT = sizeof dims / sizeof dims[0] };
  s->dim = dims[fv_random_between(s->random, 0, COUNT - 1)];
  s->dim_v = s->dim;
  if (fv_random_percent(s->random, 25)) s->dim_v = dims[fv_random_between(s->random, 0, COUNT - 1)];
  if (wish(s, FV_FEATURE_DIM_LARGE, 7)) {
    s->dim_v = 512;
    s->dim = fv_random_percent(s->random, 50) ? 512 : 576;
  }
  if (s->dim != s->dim_v) add(s, FV_FEATURE_DIM_V);
}

static void draw_heads(sketch *s) {
  static const int64_t groups[] = {2, 3, 4, 5, 7, 8};
  int64_t group = wish(s, FV_FEATURE_GQA, 45) ? groups[fv_random_between(s->random, 0, 5)] : 1;
  s->heads_kv = fv_random_between(s->random, 1, 3);
  s->heads_q = s->heads_kv * group;
}

static int64_t draw_keys(sketch *s, bool many, bool very_many) {
  if (very_many) return fv_random_between(s->random, 4096, 5000);
  if (many) return fv_random_between(s->random, 129, 330);
  return fv_random_between(s->random, 1, 128);
}

/* Lengths of the sequences: rows and keys that exist, and how many keys there is room for. */
static void draw_lengths(sketch *s) {
  bool very_many = fv_random_percent(s->random, 2);
  bool many_keys = very_many || fv_random_percent(s->random, 47);
  bool many_rows = !very_many && fv_random_percent(s->random, 25);
  s->sequences = very_many ? 1 : fv_random_between(s->random, 1, 4);
  int64_t rows = fv_random_between(s->random, 1, many_rows ? 130 : 20);
  if (very_many) rows = fv_random_between(s->random, 1, 6);
  bool packed = fv_case_has(s->c, FV_FEATURE_Q_PACKED);
  for (int64_t i = 0; i < s->sequences; ++i) {
    s->len_q[i] = packed ? fv_random_between(s->random, 1, rows) : rows;
    s->len_kv[i] = draw_keys(s, many_keys, very_many);
  }
}

static void draw_empty_sequences(sketch *s) {
  if (s->sequences < 2 || !wish(s, FV_FEATURE_EMPTY, 20)) return;
  int64_t which = fv_random_between(s->random, 0, s->sequences - 1);
  bool packed = fv_case_has(s->c, FV_FEATURE_Q_PACKED);
  if (packed && fv_random_percent(s->random, 50)) {
    s->len_q[which] = 0;
  } else {
    s->len_kv[which] = 0;
  }
}

/* ---- Queries and outputs ---- */

/* Of the types that q may have, one at random. */
static int draw_shared_dtype(sketch *s) {
  int which;
  do {
    which = (int)fv_random_between(s->random, 0, 3);
  } while (!may(s, (fv_feature)(FV_FEATURE_Q_F32 + which)));
  return which;
}

static uint32_t draw_dtype(sketch *s, fv_feature first, int count) {
  static const uint32_t dtypes[] = {FOVEA_F32,  FOVEA_F16,  FOVEA_BF16,
                                    FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8};
  int which = (int)fv_random_between(s->random, 0, count - 1);
  if (s->limited) {
    if (s->dtype < 0) s->dtype = draw_shared_dtype(s);
    which = s->dtype;
  }
  add(s, (fv_feature)(first + which));
  return dtypes[which];
}

/* Offsets of packed sequences, some with a gap in front: rows that nobody owns. */
static int32_t *draw_offsets(sketch *s, const int64_t *lengths, int64_t *total) {
  int32_t *offsets = allocate_i32(s, s->sequences + 1);
  if (!offsets) return NULL;
  int64_t at = fv_random_percent(s->random, 30) ? fv_random_between(s->random, 1, 3) : 0;
  for (int64_t i = 0; i <= s->sequences; ++i) {
    offsets[i] = (int32_t)at;
    at += i < s->sequences ? lengths[i] : 0;
  }
  *total = at + fv_random_between(s->random, 0, 3);
  return offsets;
}

static void draw_queries(sketch *s) {
  fovea_attention_args *a = &s->c->args;
  int64_t batch = s->sequences, rows = s->len_q[0];
  if (fv_case_has(s->c, FV_FEATURE_Q_PACKED)) {
    batch = 1;
    a->sequences = s->sequences;
    a->q_offsets = draw_offsets(s, s->len_q, &rows);
  }
  uint32_t q_dtype = draw_dtype(s, FV_FEATURE_Q_F32, 4);
  uint32_t out_dtype = draw_dtype(s, FV_FEATURE_OUT_F32, 4);
  draw_tensor(s, &a->q, q_dtype, batch, rows, s->heads_q, s->dim, NOTHING);
  draw_tensor(s, &a->out, out_dtype, batch, rows, s->heads_q, s->dim_v, CANARY);
  if (!wish(s, FV_FEATURE_NO_LSE, 10)) {
    draw_tensor(s, &a->lse, FOVEA_F32, batch, rows, s->heads_q, 1, CANARY);
  }
}

/* ---- Caches ---- */

/* Both caches in one block of memory: each row holds k and then v. */
static void draw_interleaved(sketch *s, uint32_t dtype, int64_t outer, int64_t inner) {
  fovea_attention_args *a = &s->c->args;
  a->k = (fovea_tensor){.shape = {outer, inner, s->heads_kv, s->dim}, .dtype = dtype};
  draw_strides(s, &a->k, s->dim + s->dim_v);
  int64_t bytes = fv_dtype_bytes(dtype);
  a->k.data = allocate(s->c, (size_t)((span(&a->k) + s->dim_v + 8) * bytes), NOTHING);
  a->v = a->k;
  a->v.shape[3] = s->dim_v;
  if (a->k.data) a->v.data = (char *)a->k.data + s->dim * bytes;
}

static void draw_caches(sketch *s, int64_t outer, int64_t inner) {
  fovea_attention_args *a = &s->c->args;
  uint32_t k_dtype = draw_dtype(s, FV_FEATURE_K_F32, 6);
  if (wish(s, FV_FEATURE_INTERLEAVED, 20)) {
    add(s, (fv_feature)(FV_FEATURE_V_F32 + (k_dtype - FOVEA_F32)));
    draw_interleaved(s, k_dtype, outer, inner);
    return;
  }
  uint32_t v_dtype = draw_dtype(s, FV_FEATURE_V_F32, 6);
  draw_tensor(s, &a->k, k_dtype, outer, inner, s->heads_kv, s->dim, NOTHING);
  draw_tensor(s, &a->v, v_dtype, outer, inner, s->heads_kv, s->dim_v, NOTHING);
}

/* A random order of the pages [0, count). */
static int32_t *draw_permutation(sketch *s, int64_t count) {
  int32_t *order = allocate_i32(s, count);
  if (!order) return NULL;
  for (int64_t i = 0; i < count; ++i) order[i] = (int32_t)i;
  for (int64_t i = count - 1; i > 0; --i) {
    int64_t j = fv_random_between(s->random, 0, i);
    int32_t swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  return order;
}

static int32_t absurd_id(sketch *s) {
  static const int32_t ids[] = {-1, INT_MIN, INT_MAX, 2147480000};
  return ids[fv_random_between(s->random, 0, 3)];
}

/* Fills one table with ids from a random order of the pages; slots past the keys get absurd ids. */
static int32_t *draw_table(sketch *s, int64_t slots, int64_t row_stride, const int32_t *offsets,
                           int64_t pages) {
  int32_t *table = allocate_i32(s, slots);
  int32_t *order = draw_permutation(s, pages);
  if (!table || !order) return NULL;
  for (int64_t i = 0; i < slots; ++i) table[i] = absurd_id(s);
  int64_t taken = 0;
  for (int64_t i = 0; i < s->sequences; ++i) {
    int64_t begin = offsets ? offsets[i] : i * row_stride;
    int64_t used = (s->len_kv[i] + s->page_len - 1) / s->page_len;
    for (int64_t p = 0; p < used; ++p) table[begin + p] = order[taken++];
  }
  return table;
}

/* Breaks a used id here and there. */
static void spoil_table(sketch *s, int32_t *table, int64_t row_stride, const int32_t *offsets) {
  if (!table) return;
  for (int64_t i = 0; i < s->sequences; ++i) {
    int64_t used = (s->len_kv[i] + s->page_len - 1) / s->page_len;
    int64_t begin = offsets ? offsets[i] : i * row_stride;
    if (used && fv_random_percent(s->random, 40)) {
      table[begin + fv_random_between(s->random, 0, used - 1)] = absurd_id(s);
    }
  }
}

static void draw_pages(sketch *s, bool csr) {
  static const int64_t page_lens[] = {1, 2, 3, 5, 8, 16, 16, 17, 32, 64, 100};
  fovea_pages *pages = &s->c->args.pages;
  int64_t total = 0, widest = 0, slots[MAX_SEQUENCES] = {0};
  s->page_len = page_lens[fv_random_between(s->random, 0, 10)];
  for (int64_t i = 0; i < s->sequences; ++i) {
    int64_t used = (s->len_kv[i] + s->page_len - 1) / s->page_len;
    total += used;
    slots[i] = used + fv_random_between(s->random, 0, 2);
    widest = slots[i] > widest ? slots[i] : widest;
  }
  if (!widest) slots[0] = widest = 1; /* a table has an id at least */
  int64_t in_cache = total + fv_random_between(s->random, 1, 3);
  if (csr) {
    pages->offsets = draw_offsets(s, slots, &pages->count);
  } else {
    pages->count = widest;
    pages->row_stride = widest + fv_random_between(s->random, 0, 2);
  }
  int64_t all = csr ? pages->count : pages->row_stride * s->sequences;
  for (int64_t i = 0; i < s->sequences; ++i) s->room[i] = (csr ? slots[i] : widest) * s->page_len;
  int32_t *ids = draw_table(s, all, pages->row_stride, pages->offsets, in_cache);
  if (s->bad) spoil_table(s, ids, pages->row_stride, pages->offsets);
  pages->ids = ids;
  if (wish(s, FV_FEATURE_V_TABLE, 40)) {
    pages->v_ids = draw_table(s, all, pages->row_stride, pages->offsets, in_cache);
  }
  draw_caches(s, in_cache, s->page_len);
}

static void draw_contiguous(sketch *s) {
  int64_t longest = 0;
  for (int64_t i = 0; i < s->sequences; ++i) {
    longest = s->len_kv[i] > longest ? s->len_kv[i] : longest;
  }
  longest += fv_random_between(s->random, 0, 2);
  for (int64_t i = 0; i < s->sequences; ++i) s->room[i] = longest;
  draw_caches(s, s->sequences, longest);
}

static void draw_packed(sketch *s) {
  int64_t total;
  for (int64_t i = 0; i < s->sequences; ++i) {
    s->room[i] = s->len_kv[i] + fv_random_between(s->random, 0, 2);
  }
  int32_t *offsets = draw_offsets(s, s->room, &total);
  if (offsets && s->bad && s->sequences > 1) {
    offsets[fv_random_between(s->random, 1, s->sequences)] = -7;
  }
  s->c->args.kv_offsets = offsets;
  draw_caches(s, 1, total);
}

static void draw_keys_and_values(sketch *s) {
  int kind = (int)fv_random_between(s->random, 0, 99);
  fv_feature paged_as = kind < 41 ? FV_FEATURE_PAGED_DENSE : FV_FEATURE_PAGED_CSR;
  if (kind < 22 && may(s, FV_FEATURE_KV_PACKED)) {
    add(s, FV_FEATURE_KV_PACKED);
    draw_packed(s);
  } else if (kind >= 22 && kind < 60 && may(s, paged_as)) {
    add(s, paged_as);
    draw_pages(s, kind >= 41);
  } else {
    draw_contiguous(s);
  }
  bool paged = s->c->args.pages.ids != NULL;
  if (!paged && (!fv_random_percent(s->random, 60) || !may(s, FV_FEATURE_KV_LENGTHS))) {
    for (int64_t i = 0; i < s->sequences; ++i) s->len_kv[i] = s->room[i];
    return;
  }
  add(s, FV_FEATURE_KV_LENGTHS);
  int32_t *lengths = allocate_i32(s, s->sequences);
  for (int64_t i = 0; lengths && i < s->sequences; ++i) {
    lengths[i] = (int32_t)s->len_kv[i];
    if (s->bad && fv_random_percent(s->random, 40)) {
      lengths[i] = fv_random_percent(s->random, 50) ? -3 : INT_MAX;
    }
  }
  s->c->args.kv_lengths = lengths;
}

/* ---- Scales ---- */

static void draw_scale(sketch *s, const fovea_tensor *of, fovea_tensor *scale, fv_feature feature) {
  if (fv_dtype_bytes(of->dtype) != 1 || !wish(s, feature, 60)) return;
  static const int64_t divisors[] = {1, 1, 2, 4, 8};
  int64_t dim = of->shape[3], blocks = divisors[fv_random_between(s->random, 0, 4)];
  if (fv_random_percent(s->random, 20)) blocks = dim;
  int64_t shape[3];
  for (int d = 0; d < 3; ++d) shape[d] = fv_random_percent(s->random, 50) ? of->shape[d] : 1;
  uint32_t dtype = fv_random_percent(s->random, 50) ? FOVEA_F32 : FOVEA_F16;
  draw_tensor(s, scale, dtype, shape[0], shape[1], shape[2], blocks, 0);
  float low = of->dtype == FOVEA_I8 ? 0.01f : 0.5f;
  int64_t count = span(scale);
  for (int64_t i = 0; scale->data && i < count; ++i) {
    fv_store_f32(dtype, scale->data, i, fv_random_uniform(s->random, low, 4 * low));
  }
}

/* ---- Positions ---- */

static int32_t *draw_per_sequence(sketch *s, int64_t low, int64_t high) {
  int32_t *values = allocate_i32(s, s->sequences);
  for (int64_t i = 0; values && i < s->sequences; ++i) {
    values[i] = (int32_t)fv_random_between(s->random, low, high);
  }
  return values;
}

static void draw_positions(sketch *s) {
  fovea_attention_args *a = &s->c->args;
  int64_t longest = s->longest_room;
  if (wish(s, FV_FEATURE_CAUSAL, 40)) a->causal = 1;
  if (wish(s, FV_FEATURE_TOP_LEFT, 25)) a->alignment = FOVEA_ALIGN_TOP_LEFT;
  if (wish(s, FV_FEATURE_Q_POSITION, 20)) a->q_position = draw_per_sequence(s, -3, longest + 3);
  if (wish(s, FV_FEATURE_WINDOW_LEFT, 25)) {
    a->window_left = (fovea_window){1, (int32_t)fv_random_between(s->random, 0, longest)};
  }
  if (wish(s, FV_FEATURE_WINDOW_RIGHT, 20)) {
    a->window_right = (fovea_window){1, (int32_t)fv_random_between(s->random, 0, longest / 2)};
  }
  if (wish(s, FV_FEATURE_PREFIX, 20)) a->prefix_lengths = draw_per_sequence(s, -1, longest / 2);
  if (wish(s, FV_FEATURE_KV_FIRST, 20)) {
    a->kv_first = draw_per_sequence(s, s->bad ? -2 : 0, s->bad ? longest + 3 : longest / 3);
  }
  if (wish(s, FV_FEATURE_KV_POSITION, 20)) {
    a->kv_position = draw_per_sequence(s, -5, 40);
    a->kv_position_stride = (int32_t)fv_random_between(s->random, 0, 3);
  }
}

/* ---- Masks and logits ---- */

/* [sequences, rows, heads_q, keys], each extent full or 1. */
static void draw_grid(sketch *s, fovea_tensor *t, uint32_t dtype) {
  int64_t shape[4] = {s->sequences, s->longest_q, s->heads_q, s->longest_room};
  bool free_extents = s->c->args.q_offsets && s->bad;
  for (int d = 0; d < 4; ++d) {
    if (fv_random_percent(s->random, 30)) shape[d] = 1;
  }
  if (free_extents && shape[1] > 3) --shape[1]; /* some row lies outside */
  draw_tensor(s, t, dtype, shape[0], shape[1], shape[2], shape[3], 0);
}

static void draw_mask(sketch *s) {
  fovea_tensor *mask = &s->c->args.mask;
  if (!wish(s, FV_FEATURE_MASK, 20)) return;
  draw_grid(s, mask, FOVEA_U8);
  /* More than a padding mask: rows or heads of one sequence see different keys. */
  if (mask->shape[1] > 1 || mask->shape[2] > 1) add(s, FV_FEATURE_MASK_ROWS);
  int64_t count = span(mask);
  for (int64_t i = 0; mask->data && i < count; ++i) {
    ((uint8_t *)mask->data)[i] = fv_random_percent(s->random, 70) ? 255 : 0;
  }
}

static void draw_bias(sketch *s) {
  fovea_tensor *bias = &s->c->args.bias;
  if (!fv_random_percent(s->random, 30)) return;
  int which = (int)fv_random_between(s->random, 0, 2);
  if (!may(s, (fv_feature)(FV_FEATURE_BIAS_F32 + which))) return;
  add(s, (fv_feature)(FV_FEATURE_BIAS_F32 + which));
  draw_grid(s, bias, FOVEA_F32 + (uint32_t)which);
  int64_t count = span(bias);
  for (int64_t i = 0; bias->data && i < count; ++i) {
    float value =
        fv_random_percent(s->random, 10) ? -INFINITY : fv_random_uniform(s->random, -2, 2);
    fv_store_f32(bias->dtype, bias->data, i, value);
  }
}

static void draw_tree(sketch *s) {
  fovea_tree_mask *tree = &s->c->args.tree;
  if (!wish(s, FV_FEATURE_TREE, 20)) return;
  bool own_lengths = fv_random_percent(s->random, 70);
  bool own_starts = fv_random_percent(s->random, 70);
  int64_t row_words = (s->longest_room + 31) / 32 + (s->longest_q + 31) / 32;
  int64_t sequence_words = row_words * (s->longest_q + 1);
  tree->words = own_starts ? sequence_words * s->sequences : sequence_words;
  if (s->bad) tree->words = tree->words / 2;
  uint32_t *bits = allocate(s->c, (size_t)(tree->words + 1) * sizeof *bits, 0);
  for (int64_t i = 0; bits && i < tree->words; ++i) {
    bits[i] = (uint32_t)fv_random_bits(s->random) | (uint32_t)fv_random_bits(s->random);
  }
  tree->bits = bits;
  if (own_lengths) tree->lengths = draw_per_sequence(s, s->bad ? -1 : 0, s->longest_room);
  if (!own_starts) return;
  int32_t *starts = allocate_i32(s, s->sequences);
  for (int64_t i = 0; starts && i < s->sequences; ++i) starts[i] = (int32_t)(i * sequence_words);
  tree->starts = starts;
}

static float *draw_floats(sketch *s, int64_t count, float low, float high) {
  float *values = allocate(s->c, (size_t)(count + 1) * sizeof *values, 0);
  for (int64_t i = 0; values && i < count; ++i) {
    values[i] = fv_random_uniform(s->random, low, high);
  }
  return values;
}

static void draw_logits(sketch *s) {
  fovea_attention_args *a = &s->c->args;
  if (wish(s, FV_FEATURE_ALIBI, 20)) {
    bool own = fv_random_percent(s->random, 50);
    a->alibi_slopes = draw_floats(s, s->heads_q * (own ? s->sequences : 1), 0, 0.3f);
    a->alibi_stride = own ? s->heads_q : 0;
  }
  if (wish(s, FV_FEATURE_SINKS, 20)) a->sinks = draw_floats(s, s->heads_q, -3, 3);
  if (wish(s, FV_FEATURE_SOFTCAP, 20)) a->softcap = fv_random_uniform(s->random, 0.5f, 30);
  if (wish(s, FV_FEATURE_SCALE, 30)) a->scale = fv_random_uniform(s->random, 0.01f, 0.5f);
}

/* ---- Data ---- */

/* How large values are drawn: scaled int8 in its own range, others about normal. */
static float amplitude(const fovea_tensor *t, const fovea_tensor *scale) {
  if (t->dtype != FOVEA_I8) return 2;
  return scale->dtype ? 100 : 3;
}

static void fill_row(sketch *s, const fovea_tensor *t, int64_t outer, int64_t inner, int64_t head,
                     float size) {
  int64_t offset = fv_row_offset(t, outer, inner, head);
  for (int64_t d = 0; d < t->shape[3]; ++d) {
    float value = fv_random_uniform(s->random, -size, size);
    switch (t->dtype) {
      case FOVEA_E5M2:
        ((uint8_t *)t->data)[offset + d] = fv_e5m2_from_f32(value);
        break;
      case FOVEA_I8:
        ((int8_t *)t->data)[offset + d] = fv_i8_from_f32(value);
        break;
      default:
        fv_store_f32(t->dtype, t->data, offset + d, value);
        break;
    }
  }
}

/* Marks the bytes of a row of an output as the call's to write. */
static void own_row(const fovea_tensor *t, fv_case_output *output, int64_t outer, int64_t inner,
                    int64_t head) {
  int64_t bytes = fv_dtype_bytes(t->dtype);
  int64_t first = (const unsigned char *)t->data - output->bytes;
  first += fv_row_offset(t, outer, inner, head) * bytes;
  memset(output->owned + first, true, (size_t)(t->shape[3] * bytes));
}

static bool any_row_sees(const fv_problem *p, const fv_sequence *q, int64_t kv_head, int64_t key) {
  for (int64_t row = 0; row < q->len_q; ++row) {
    for (int64_t h = kv_head * p->group; h < (kv_head + 1) * p->group; ++h) {
      fv_row_mask mask = fv_row_mask_for(p, q, row, h);
      uint32_t errors = 0;
      float bias;
      if (fv_sees_position(&mask, key) && fv_sees_key(&mask, key, &bias, &errors)) return true;
    }
  }
  return false;
}

static void fill_sequence(sketch *s, const fv_problem *p, const fv_sequence *q) {
  fv_case *c = s->c;
  const fovea_attention_args *a = &p->args;
  for (int64_t row = 0; row < q->len_q; ++row) {
    for (int64_t h = 0; h < p->heads_q; ++h) {
      fill_row(s, &a->q, q->q_batch, q->q_begin + row, h, amplitude(&a->q, &a->q_scale));
      own_row(&a->out, &c->out, q->q_batch, q->q_begin + row, h);
      if (a->lse.dtype) own_row(&a->lse, &c->lse, q->q_batch, q->q_begin + row, h);
    }
  }
  for (int64_t key = 0; key < q->mask.len; ++key) {
    fv_place k_place, v_place;
    if (q->len_q < 1 || key < q->mask.first) continue;
    fv_range keys = fv_rows_keys(&q->mask, 0, q->len_q);
    if (key < keys.begin || key >= keys.end) continue; /* its page id may be absurd */
    if (!fv_key_place(p, q, &a->k, a->pages.ids, key, &k_place)) continue;
    if (!fv_key_place(p, q, &a->v, fv_v_page_ids(p), key, &v_place)) continue;
    for (int64_t g = 0; g < p->heads_kv; ++g) {
      if (!any_row_sees(p, q, g, key)) continue;
      fill_row(s, &a->k, k_place.outer, k_place.inner, g, amplitude(&a->k, &a->k_scale));
      fill_row(s, &a->v, v_place.outer, v_place.inner, g, amplitude(&a->v, &a->v_scale));
    }
  }
}

static void prepare_output(fv_case *c, const fovea_tensor *t, fv_case_output *output) {
  if (!t->dtype) return;
  output->bytes = (unsigned char *)t->data;
  output->size = (size_t)(span(t) * fv_dtype_bytes(t->dtype));
  output->owned = allocate(c, output->size + 1, 0);
}

static void fill_data(sketch *s) {
  fv_case *c = s->c;
  fv_problem problem;
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  prepare_output(c, &c->args.out, &c->out);
  prepare_output(c, &c->args.lse, &c->lse);
  if (c->out_of_memory) return;
  /* A case that breaks a rule of the header is a mistake of this file: the call will say so. */
  if (fv_check_attention_shape(&c->args, &problem) != FOVEA_OK) return;
  while (fv_sequence_next(&problem, &cursor, &sequence)) fill_sequence(s, &problem, &sequence);
}

/* ---- The case ---- */

static void set_budget(sketch *s) {
  fv_case *c = s->c;
  double pair = 2.0 * (double)s->dim + 3.0 * (double)s->dim_v;
  double row = 0;
  for (int64_t i = 0; i < s->sequences; ++i) row += pair * (double)s->room[i] * (double)s->heads_q;
  int64_t affordable = (int64_t)(judge_budget / (row + 1)) + 1;
  c->rows_at_most = affordable < s->longest_q ? affordable : 0;
}

static void describe(sketch *s, uint64_t seed, uint64_t index) {
  fv_case *c = s->c;
  int used =
      snprintf(c->text, sizeof c->text,
               "case %llu of seed %llu: sequences %lld, rows %lld, keys %lld, heads %lld/%lld, "
               "dim %lld/%lld;",
               (unsigned long long)index, (unsigned long long)seed, (long long)s->sequences,
               (long long)s->longest_q, (long long)s->longest_room, (long long)s->heads_q,
               (long long)s->heads_kv, (long long)s->dim, (long long)s->dim_v);
  for (int f = 0; f < FV_FEATURE_COUNT && used < (int)sizeof c->text; ++f) {
    if (!fv_case_has(c, (fv_feature)f)) continue;
    used += snprintf(c->text + used, sizeof c->text - (size_t)used, " %s",
                     fv_feature_name((fv_feature)f));
  }
}

static void note_sizes(sketch *s) {
  for (int64_t i = 0; i < s->sequences; ++i) {
    s->longest_q = s->len_q[i] > s->longest_q ? s->len_q[i] : s->longest_q;
    s->longest_room = s->room[i] > s->longest_room ? s->room[i] : s->longest_room;
    s->c->keys_longest = s->len_kv[i] > s->c->keys_longest ? s->len_kv[i] : s->c->keys_longest;
  }
  bool rows = s->longest_q * (s->heads_q / s->heads_kv) > 2 * 48;
  if (rows || s->c->keys_longest > 2 * 64) add(s, FV_FEATURE_BEYOND_TWO_TILES);
}

/* Everything but the data, which costs most. */
static void draw_form(sketch *s, uint64_t seed, uint64_t index) {
  fv_case *c = s->c;
  memset(c, 0, sizeof *c);
  c->args.struct_size = sizeof c->args;
  draw_dims(s);
  draw_heads(s);
  wish(s, FV_FEATURE_Q_PACKED, 35);
  draw_lengths(s);
  s->bad = wish(s, FV_FEATURE_BAD_DATA, 20);
  draw_empty_sequences(s);
  draw_queries(s);
  draw_keys_and_values(s);
  note_sizes(s);
  fovea_attention_args *a = &c->args;
  draw_scale(s, &a->q, &a->q_scale, FV_FEATURE_Q_SCALE);
  draw_scale(s, &a->k, &a->k_scale, FV_FEATURE_K_SCALE);
  draw_scale(s, &a->v, &a->v_scale, FV_FEATURE_V_SCALE);
  draw_scale(s, &a->out, &a->out_scale, FV_FEATURE_OUT_SCALE);
  draw_positions(s);
  draw_mask(s);
  draw_tree(s);
  draw_bias(s);
  draw_logits(s);
  a->errors = allocate(c, (size_t)(s->sequences + 1) * sizeof *a->errors, 0);
  a->reproducible = (uint32_t)fv_random_between(s->random, 0, 2);
  set_budget(s);
  describe(s, seed, index);
}

void fv_case_draw(uint64_t seed, uint64_t index, fv_case *c) {
  fv_random random = fv_random_for(seed, index);
  sketch s = {.c = c, .random = &random, .allowed = UINT64_MAX};
  draw_form(&s, seed, index);
  if (!c->out_of_memory) fill_data(&s);
}

/* ---- Cases for devices that lack features ---- */

static bool is_supported(fovea_handle *handle, const fv_case *c) {
  fovea_support support = {.struct_size = sizeof support};
  if (c->out_of_memory) return true; /* to be reported */
  return fovea_attention_support(handle, &c->args, &support) == FOVEA_OK && support.supported;
}

/* Whether one of some draws has all features of `wanted`, and is supported. */
static bool meets(fovea_handle *handle, uint64_t allowed, uint64_t wanted) {
  enum { DRAWS = 100 };
  for (uint64_t index = 0; index < DRAWS; ++index) {
    fv_case c;
    fv_random random = fv_random_for(wanted, index);
    sketch s = {.c = &c, .random = &random, .limited = true, .allowed = allowed, .dtype = -1};
    draw_form(&s, 0, index);
    bool met = (c.features & wanted) == wanted && is_supported(handle, &c);
    fv_case_free(&c);
    if (met) return true;
  }
  return false;
}

static uint64_t bit(int feature) {
  return UINT64_C(1) << feature;
}

/* What must be allowed beside a feature, which is never drawn alone. */
static uint64_t company_of(int feature) {
  return feature == FV_FEATURE_V_TABLE ? bit(FV_FEATURE_PAGED_DENSE) : 0;
}

uint64_t fv_case_find_features(fovea_handle *handle) {
  uint64_t dtypes = 0, found;
  for (int t = 0; t < 4; ++t) { /* the types that q and out may have */
    uint64_t type = bit(FV_FEATURE_Q_F32 + t) | bit(FV_FEATURE_K_F32 + t) |
                    bit(FV_FEATURE_V_F32 + t) | bit(FV_FEATURE_OUT_F32 + t);
    if (meets(handle, type, type)) dtypes |= type;
  }
  if (!dtypes) return 0;
  found = dtypes;
  for (int f = FV_FEATURE_Q_SCALE; f < FV_FEATURE_COUNT; ++f) {
    if (meets(handle, dtypes | bit(f) | company_of(f), bit(f))) found |= bit(f);
  }
  return found;
}

uint64_t fv_case_find_company(fovea_handle *handle, uint64_t features, fv_feature feature) {
  uint64_t dtypes = features & FV_DTYPES;
  if (!(bit(feature) & FV_DTYPES)) return features;
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) {
    uint64_t pair = bit(f) | bit(feature);
    uint64_t others = dtypes & ~fv_features_of_kind((fv_feature)f) & ~fv_features_of_kind(feature);
    if (f == (int)feature || !(dtypes & bit(f))) continue;
    if (!meets(handle, others | pair, pair)) features &= ~bit(f);
  }
  return features;
}

int64_t fv_case_draw_supported(uint64_t seed, uint64_t index, fovea_handle *handle,
                               uint64_t features, fv_case *c) {
  for (uint64_t left_out = 0;; ++left_out) {
    /* Another stream of random numbers per attempt. */
    fv_random random = fv_random_for(seed + left_out * UINT64_C(0x9e3779b97f4a7c15), index);
    sketch s = {.c = c, .random = &random, .limited = true, .allowed = features, .dtype = -1};
    draw_form(&s, seed, index);
    if (!is_supported(handle, c)) {
      fv_case_free(c);
      continue;
    }
    if (!c->out_of_memory) fill_data(&s);
    return (int64_t)left_out;
  }
}

void fv_case_free(fv_case *c) {
  for (int i = 0; i < c->block_count; ++i) free(c->blocks[i]);
  c->block_count = 0;
}

void fv_case_reset_outputs(fv_case *c) {
  memset(c->out.bytes, CANARY, c->out.size);
  if (c->lse.bytes) memset(c->lse.bytes, CANARY, c->lse.size);
}

int64_t fv_case_broken_canary(const fv_case_output *output) {
  for (size_t i = 0; i < output->size; ++i) {
    if (!output->owned[i] && output->bytes[i] != CANARY) return (int64_t)i;
  }
  return -1;
}
