/* draw_case.c - see draw_case.h. The order of drawing: shapes, lengths, layouts and tables here;
 * then positions, masks and logits (validate/draw_mask.c). The data come last
 * (validate/draw_data.c): they depend on which keys each row sees. */
#include "cli/validate/draw_case.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/validate/draw_sketch.h"
#include "csrc/host/element.h"

/* Multiply-adds in double precision that the judge spends on a case: about 20 ms. */
static const double judge_budget = 8e6;

/* ---- Shapes ---- */

/* At least one of the two is no multiple of 8. */
static void draw_odd_dims(fv_sketch *s) {
  if (fv_case_has(s->c, FV_FEATURE_DIM_LARGE)) {
    s->dim = 576 - fv_random_between(s->random, 1, 7);
    return;
  }
  s->dim = fv_random_between(s->random, 0, 10) * 8 + fv_random_between(s->random, 1, 7);
  if (fv_random_percent(s->random, 75)) s->dim_v = s->dim;
  if (fv_random_percent(s->random, 25)) s->dim_v = fv_random_between(s->random, 1, 90);
  if (fv_random_percent(s->random, 25)) s->dim_v = 32 * fv_random_between(s->random, 1, 3);
}

static void draw_dims(fv_sketch *s) {
  static const int64_t dims[] = {8, 16, 24, 32, 32, 40, 64, 64, 64, 80, 96, 128, 128, 192, 256};
  enum { COUNT = sizeof dims / sizeof dims[0] };
  s->dim = dims[fv_random_between(s->random, 0, COUNT - 1)];
  s->dim_v = s->dim;
  if (fv_random_percent(s->random, 25)) s->dim_v = dims[fv_random_between(s->random, 0, COUNT - 1)];
  if (fv_sketch_wish(s, FV_FEATURE_DIM_LARGE, 7)) {
    s->dim_v = 512;
    s->dim = fv_random_percent(s->random, 50) ? 512 : 576;
  }
  if (fv_sketch_wish(s, FV_FEATURE_DIM_ANY, 12)) draw_odd_dims(s);
  if (s->dim != s->dim_v) fv_sketch_add(s, FV_FEATURE_DIM_V);
}

static void draw_heads(fv_sketch *s) {
  static const int64_t groups[] = {2, 3, 4, 5, 7, 8};
  int64_t group =
      fv_sketch_wish(s, FV_FEATURE_GQA, 45) ? groups[fv_random_between(s->random, 0, 5)] : 1;
  s->heads_kv = fv_random_between(s->random, 1, FV_SKETCH_HEADS);
  s->heads_q = s->heads_kv * group;
}

static int64_t draw_keys(fv_sketch *s, bool many, bool very_many) {
  if (very_many) return fv_random_between(s->random, 4096, 5000);
  if (many) return fv_random_between(s->random, 129, 330);
  return fv_random_between(s->random, 1, 128);
}

/* Lengths of the sequences: rows and keys that exist, and the capacity for keys. */
static void draw_lengths(fv_sketch *s) {
  /* Only sums of thousands of terms show the distributions' differences. */
  bool very_many = fv_random_percent(s->random, s->logits >= 0 || s->values >= 0 ? 5 : 1);
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

static void draw_empty_sequences(fv_sketch *s) {
  if (s->sequences < 2 || !fv_sketch_wish(s, FV_FEATURE_EMPTY, 20)) return;
  int64_t which = fv_random_between(s->random, 0, s->sequences - 1);
  bool packed = fv_case_has(s->c, FV_FEATURE_Q_PACKED);
  if (packed && fv_random_percent(s->random, 50)) {
    s->len_q[which] = 0;
  } else {
    s->len_kv[which] = 0;
  }
}

/* ---- Queries and outputs ---- */

/* One dtype at random, of those that q may have. */
static int draw_shared_dtype(fv_sketch *s) {
  int which;
  do {
    which = (int)fv_random_between(s->random, 0, 3);
  } while (!fv_sketch_may(s, (fv_feature)(FV_FEATURE_Q_F32 + which)));
  return which;
}

/* In the order of the features. */
static const uint32_t dtypes[] = {FOVEA_F32,  FOVEA_F16, FOVEA_BF16, FOVEA_E4M3,
                                  FOVEA_E5M2, FOVEA_I8,  FOVEA_Q8_0, FOVEA_Q4_0};
enum { PLAIN_DTYPES = 6, ALL_DTYPES = 8 };

/* One of the 8-bit types that k or v may have; -1: there is none. */
static int draw_8bit(fv_sketch *s, fv_feature first) {
  int types[PLAIN_DTYPES], count = 0;
  for (int t = 0; t < PLAIN_DTYPES; ++t) {
    if (fv_dtype_is_8bit(dtypes[t]) && fv_sketch_may(s, (fv_feature)(first + t)))
      types[count++] = t;
  }
  return count ? types[fv_random_between(s->random, 0, count - 1)] : -1;
}

/* Limited devices have one dtype for all tensors, or 8 bits in both caches. */
static int draw_limited_dtype(fv_sketch *s, fv_feature first) {
  if (s->dtype < 0) s->dtype = draw_shared_dtype(s);
  if (first != FV_FEATURE_K_F32 && first != FV_FEATURE_V_F32) return s->dtype;
  if (first == FV_FEATURE_K_F32) s->cached_in_8bit = fv_random_percent(s->random, 40);
  int which = s->cached_in_8bit ? draw_8bit(s, first) : -1;
  return which < 0 ? s->dtype : which;
}

/* Blocks are drawn more often than other types, since not every dim is whole blocks. */
static uint32_t draw_dtype(fv_sketch *s, fv_feature first, int count, bool whole_blocks) {
  int which = (int)fv_random_between(s->random, 0, count - 1);
  if (whole_blocks && fv_random_percent(s->random, 40)) {
    which = (int)fv_random_between(s->random, PLAIN_DTYPES, ALL_DTYPES - 1);
  }
  if (s->limited) which = draw_limited_dtype(s, first);
  fv_sketch_add(s, (fv_feature)(first + which));
  return dtypes[which];
}

/* Offsets of packed sequences, some with a gap in front: rows that belong to no sequence. */
static int32_t *draw_offsets(fv_sketch *s, const int64_t *lengths, int64_t *total) {
  int32_t *offsets = fv_sketch_i32(s, s->sequences + 1);
  if (!offsets) return NULL;
  int64_t at = fv_random_percent(s->random, 30) ? fv_random_between(s->random, 1, 3) : 0;
  for (int64_t i = 0; i <= s->sequences; ++i) {
    offsets[i] = (int32_t)at;
    at += i < s->sequences ? lengths[i] : 0;
  }
  *total = at + fv_random_between(s->random, 0, 3);
  return offsets;
}

static void draw_query_lengths(fv_sketch *s) {
  if (!fv_sketch_wish(s, FV_FEATURE_Q_LENGTHS, 15)) return;
  int32_t *lengths = fv_sketch_i32(s, s->sequences);
  for (int64_t i = 0; lengths && i < s->sequences; ++i) {
    lengths[i] = (int32_t)fv_random_between(s->random, 0, s->len_q[i]);
    if (s->bad && fv_random_percent(s->random, 30)) {
      lengths[i] = fv_random_percent(s->random, 50) ? -3 : INT_MAX;
    }
  }
  s->c->args.sequences.q_lengths = lengths;
}

static void draw_queries(fv_sketch *s) {
  fovea_attention_args *a = &s->c->args;
  int64_t batch = s->sequences, rows = s->len_q[0];
  if (fv_case_has(s->c, FV_FEATURE_Q_PACKED)) {
    batch = 1;
    a->sequences.count = s->sequences;
    a->sequences.q_offsets = draw_offsets(s, s->len_q, &rows);
  }
  uint32_t q_dtype = draw_dtype(s, FV_FEATURE_Q_F32, 4, false);
  uint32_t out_dtype = draw_dtype(s, FV_FEATURE_OUT_F32, 4, false);
  const int64_t of_q[4] = {batch, rows, s->heads_q, s->dim};
  const int64_t of_out[4] = {batch, rows, s->heads_q, s->dim_v};
  const int64_t of_lse[4] = {batch, rows, s->heads_q, 1};
  fv_sketch_tensor(s, &a->q, q_dtype, of_q, FV_SKETCH_NOTHING);
  fv_sketch_tensor(s, &a->out, out_dtype, of_out, FV_SKETCH_CANARY);
  draw_query_lengths(s);
  if (!fv_sketch_wish(s, FV_FEATURE_NO_LSE, 10)) {
    fv_sketch_tensor(s, &a->lse, FOVEA_F32, of_lse, FV_SKETCH_CANARY);
  }
}

/* ---- Caches ---- */

/* Both caches in one block of memory: each row holds k and then v. */
static void draw_interleaved(fv_sketch *s, uint32_t dtype, int64_t outer, int64_t inner) {
  fovea_attention_args *a = &s->c->args;
  a->k = (fovea_tensor){.shape = {outer, inner, s->heads_kv, s->dim}, .dtype = dtype};
  fv_sketch_strides(s, &a->k, s->dim + s->dim_v);
  int64_t elements = fv_sketch_span(&a->k) + s->dim_v + 8 * fv_dtype_block_len(dtype);
  a->k.data = fv_sketch_allocate(s->c, (size_t)fv_dtype_size(dtype, elements), FV_SKETCH_NOTHING);
  a->v = a->k;
  a->v.shape[3] = s->dim_v;
  if (a->k.data) a->v.data = (char *)a->k.data + fv_dtype_size(dtype, s->dim);
}

static void draw_caches(fv_sketch *s, int64_t outer, int64_t inner) {
  fovea_attention_args *a = &s->c->args;
  bool whole_k = s->dim % FV_BLOCK_LEN == 0, whole_v = s->dim_v % FV_BLOCK_LEN == 0;
  uint32_t k_dtype = draw_dtype(s, FV_FEATURE_K_F32, PLAIN_DTYPES, whole_k);
  bool may_share = whole_v || !fv_dtype_is_blocks(k_dtype);
  if (may_share && fv_sketch_wish(s, FV_FEATURE_INTERLEAVED, 20)) {
    int which = 0;
    while (dtypes[which] != k_dtype) ++which;
    fv_sketch_add(s, (fv_feature)(FV_FEATURE_V_F32 + which));
    draw_interleaved(s, k_dtype, outer, inner);
    return;
  }
  uint32_t v_dtype = draw_dtype(s, FV_FEATURE_V_F32, PLAIN_DTYPES, whole_v);
  const int64_t of_k[4] = {outer, inner, s->heads_kv, s->dim};
  const int64_t of_v[4] = {outer, inner, s->heads_kv, s->dim_v};
  fv_sketch_tensor(s, &a->k, k_dtype, of_k, FV_SKETCH_NOTHING);
  fv_sketch_tensor(s, &a->v, v_dtype, of_v, FV_SKETCH_NOTHING);
}

/* A random order of the pages [0, count). */
static int32_t *draw_permutation(fv_sketch *s, int64_t count) {
  int32_t *order = fv_sketch_i32(s, count);
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

static int32_t absurd_id(fv_sketch *s) {
  static const int32_t ids[] = {-1, INT_MIN, INT_MAX, 2147480000};
  return ids[fv_random_between(s->random, 0, 3)];
}

/* How many page tables a sequence has: one for all kv heads, or one for each. */
static int64_t tables_of(const fv_sketch *s) {
  return s->c->args.sequences.pages.head_stride ? s->heads_kv : 1;
}

/* The ids in use of a sequence's table g. */
static fv_page_ids ids_in_use(const fv_sketch *s, int64_t sequence, int64_t g) {
  const fovea_pages *pages = &s->c->args.sequences.pages;
  int64_t begin = pages->offsets ? pages->offsets[sequence] : sequence * pages->row_stride;
  int64_t keys = tables_of(s) > 1 ? s->head_keys[sequence][g] : s->len_kv[sequence];
  return (fv_page_ids){begin + g * pages->head_stride, (keys + s->page_len - 1) / s->page_len};
}

/* Fills one array with ids from a random order of the cache's pages. Entries past the keys get
 * absurd ids. */
static int32_t *draw_table(fv_sketch *s, int64_t slots, int64_t in_cache) {
  int32_t *table = fv_sketch_i32(s, slots);
  int32_t *order = draw_permutation(s, in_cache);
  if (!table || !order) return NULL;
  for (int64_t i = 0; i < slots; ++i) table[i] = absurd_id(s);
  int64_t taken = 0;
  for (int64_t i = 0; i < s->sequences; ++i) {
    for (int64_t g = 0; g < tables_of(s); ++g) {
      fv_page_ids used = ids_in_use(s, i, g);
      for (int64_t p = 0; p < used.count; ++p) table[used.begin + p] = order[taken++];
    }
  }
  return table;
}

/* Breaks some of the used ids. */
static void spoil_table(fv_sketch *s, int32_t *table) {
  if (!table) return;
  for (int64_t i = 0; i < s->sequences; ++i) {
    for (int64_t g = 0; g < tables_of(s); ++g) {
      fv_page_ids used = ids_in_use(s, i, g);
      if (used.count && fv_random_percent(s->random, 40)) {
        table[used.begin + fv_random_between(s->random, 0, used.count - 1)] = absurd_id(s);
      }
    }
  }
}

/* Keys in use of each kv head: all of the sequence's, or fewer, or none. */
static void draw_head_lengths(fv_sketch *s) {
  fovea_pages *pages = &s->c->args.sequences.pages;
  int64_t count = s->sequences * s->heads_kv;
  int32_t *lengths =
      fv_sketch_wish(s, FV_FEATURE_HEAD_LENGTHS, 45) ? fv_sketch_i32(s, count) : NULL;
  for (int64_t i = 0; i < s->sequences; ++i) {
    for (int64_t g = 0; g < s->heads_kv; ++g) {
      int64_t keys = s->len_kv[i];
      if (lengths && fv_random_percent(s->random, 70)) keys = fv_random_between(s->random, 0, keys);
      s->head_keys[i][g] = keys;
      if (!lengths) continue;
      lengths[i * s->heads_kv + g] = (int32_t)keys;
      if (s->bad && fv_random_percent(s->random, 20)) {
        lengths[i * s->heads_kv + g] = fv_random_percent(s->random, 50) ? -3 : INT_MAX;
      }
    }
  }
  pages->head_lengths = lengths;
}

/* A table for each kv head, in either order of the strides. Returns how many ids all have. */
static int64_t draw_dense_strides(fv_sketch *s, int64_t widest) {
  fovea_pages *pages = &s->c->args.sequences.pages;
  int64_t row = widest + fv_random_between(s->random, 0, 2);
  bool of_heads = fv_sketch_wish(s, FV_FEATURE_HEAD_PAGES, 60);
  bool heads_inside = fv_random_percent(s->random, 50);
  pages->count = widest;
  pages->row_stride = of_heads && heads_inside ? row * s->heads_kv : row;
  if (of_heads) pages->head_stride = heads_inside ? row : row * s->sequences;
  return row * s->sequences * (of_heads ? s->heads_kv : 1);
}

static void draw_pages(fv_sketch *s, bool csr) {
  static const int64_t page_lens[] = {1, 2, 3, 5, 8, 16, 16, 17, 32, 64, 100};
  fovea_pages *pages = &s->c->args.sequences.pages;
  int64_t total = 0, widest = 0, slots[FV_SKETCH_SEQUENCES] = {0};
  s->page_len = page_lens[fv_random_between(s->random, 0, 10)];
  for (int64_t i = 0; i < s->sequences; ++i) {
    int64_t used = (s->len_kv[i] + s->page_len - 1) / s->page_len;
    total += used;
    slots[i] = used + fv_random_between(s->random, 0, 2);
    widest = slots[i] > widest ? slots[i] : widest;
  }
  if (!widest) slots[0] = widest = 1; /* a table has at least one id */
  if (csr) pages->offsets = draw_offsets(s, slots, &pages->count);
  int64_t all = csr ? pages->count : draw_dense_strides(s, widest);
  int64_t in_cache = total * tables_of(s) + fv_random_between(s->random, 1, 3);
  draw_head_lengths(s);
  for (int64_t i = 0; i < s->sequences; ++i) s->room[i] = (csr ? slots[i] : widest) * s->page_len;
  int32_t *ids = draw_table(s, all, in_cache);
  if (s->bad) spoil_table(s, ids);
  pages->ids = ids;
  if (fv_sketch_wish(s, FV_FEATURE_V_TABLE, 40)) pages->v_ids = draw_table(s, all, in_cache);
  draw_caches(s, in_cache, s->page_len);
}

static void draw_contiguous(fv_sketch *s) {
  int64_t longest = 0;
  for (int64_t i = 0; i < s->sequences; ++i) {
    longest = s->len_kv[i] > longest ? s->len_kv[i] : longest;
  }
  longest += fv_random_between(s->random, 0, 2);
  for (int64_t i = 0; i < s->sequences; ++i) s->room[i] = longest;
  draw_caches(s, s->sequences, longest);
}

static void draw_packed(fv_sketch *s) {
  int64_t total;
  for (int64_t i = 0; i < s->sequences; ++i) {
    s->room[i] = s->len_kv[i] + fv_random_between(s->random, 0, 2);
  }
  int32_t *offsets = draw_offsets(s, s->room, &total);
  if (offsets && s->bad && s->sequences > 1) {
    offsets[fv_random_between(s->random, 1, s->sequences)] = -7;
  }
  s->c->args.sequences.kv_offsets = offsets;
  draw_caches(s, 1, total);
}

static void draw_keys_and_values(fv_sketch *s) {
  int kind = (int)fv_random_between(s->random, 0, 99);
  fv_feature paged_as = kind < 41 ? FV_FEATURE_PAGED_DENSE : FV_FEATURE_PAGED_CSR;
  if (kind < 22 && fv_sketch_may(s, FV_FEATURE_KV_PACKED)) {
    fv_sketch_add(s, FV_FEATURE_KV_PACKED);
    draw_packed(s);
  } else if (kind >= 22 && kind < 60 && fv_sketch_may(s, paged_as)) {
    fv_sketch_add(s, paged_as);
    draw_pages(s, kind >= 41);
  } else {
    draw_contiguous(s);
  }
  if (s->c->args.sequences.pages.head_lengths) return;
  bool paged = s->c->args.sequences.pages.ids != NULL;
  if (!paged && (!fv_random_percent(s->random, 60) || !fv_sketch_may(s, FV_FEATURE_KV_LENGTHS))) {
    for (int64_t i = 0; i < s->sequences; ++i) s->len_kv[i] = s->room[i];
    return;
  }
  fv_sketch_add(s, FV_FEATURE_KV_LENGTHS);
  int32_t *lengths = fv_sketch_i32(s, s->sequences);
  for (int64_t i = 0; lengths && i < s->sequences; ++i) {
    lengths[i] = (int32_t)s->len_kv[i];
    if (s->bad && fv_random_percent(s->random, 40)) {
      lengths[i] = fv_random_percent(s->random, 50) ? -3 : INT_MAX;
    }
  }
  s->c->args.sequences.kv_lengths = lengths;
}

/* ---- Scales ---- */

static void draw_scale(fv_sketch *s, const fovea_tensor *of, fovea_tensor *scale,
                       fv_feature feature) {
  if (!fv_dtype_is_8bit(of->dtype) || !fv_sketch_wish(s, feature, 60)) return;
  static const int64_t divisors[] = {1, 1, 2, 4, 8};
  int64_t dim = of->shape[3], blocks = divisors[fv_random_between(s->random, 0, 4)];
  if (dim % blocks) blocks = 1;
  if (fv_random_percent(s->random, 20)) blocks = dim;
  int64_t shape[4] = {0, 0, 0, blocks};
  for (int d = 0; d < 3; ++d) shape[d] = fv_random_percent(s->random, 50) ? of->shape[d] : 1;
  uint32_t dtype = fv_random_percent(s->random, 50) ? FOVEA_F32 : FOVEA_F16;
  fv_sketch_tensor(s, scale, dtype, shape, 0);
  float low = of->dtype == FOVEA_I8 ? 0.01f : 0.5f;
  int64_t count = fv_sketch_span(scale);
  for (int64_t i = 0; scale->data && i < count; ++i) {
    fv_store_f32(dtype, scale->data, i, fv_random_uniform(s->random, low, 4 * low));
  }
}

/* ---- The case ---- */

static void set_budget(fv_sketch *s) {
  fv_case *c = s->c;
  double pair = 2.0 * (double)s->dim + 3.0 * (double)s->dim_v;
  double row = 0;
  for (int64_t i = 0; i < s->sequences; ++i) row += pair * (double)s->room[i] * (double)s->heads_q;
  int64_t affordable = (int64_t)(judge_budget / (row + 1)) + 1;
  c->rows_at_most = affordable < s->longest_q ? affordable : 0;
}

static void describe(fv_sketch *s, uint64_t seed, uint64_t index) {
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

static void note_sizes(fv_sketch *s) {
  for (int64_t i = 0; i < s->sequences; ++i) {
    s->longest_q = s->len_q[i] > s->longest_q ? s->len_q[i] : s->longest_q;
    s->longest_room = s->room[i] > s->longest_room ? s->room[i] : s->longest_room;
    s->c->keys_longest = s->len_kv[i] > s->c->keys_longest ? s->len_kv[i] : s->c->keys_longest;
  }
  bool rows = s->longest_q * (s->heads_q / s->heads_kv) > 2 * 48;
  if (rows || s->c->keys_longest > 2 * 64) fv_sketch_add(s, FV_FEATURE_BEYOND_TWO_TILES);
}

void fv_sketch_draw_form(fv_sketch *s, uint64_t seed, uint64_t index) {
  fv_case *c = s->c;
  memset(c, 0, sizeof *c);
  c->args.struct_size = sizeof c->args;
  draw_dims(s);
  draw_heads(s);
  fv_sketch_draw_distributions(s);
  fv_sketch_wish(s, FV_FEATURE_Q_PACKED, 35);
  draw_lengths(s);
  s->bad = fv_sketch_wish(s, FV_FEATURE_BAD_DATA, 20);
  draw_empty_sequences(s);
  draw_queries(s);
  draw_keys_and_values(s);
  note_sizes(s);
  fovea_attention_args *a = &c->args;
  draw_scale(s, &a->q, &a->q_scale, FV_FEATURE_Q_SCALE);
  draw_scale(s, &a->k, &a->k_scale, FV_FEATURE_K_SCALE);
  draw_scale(s, &a->v, &a->v_scale, FV_FEATURE_V_SCALE);
  draw_scale(s, &a->out, &a->out_scale, FV_FEATURE_OUT_SCALE);
  fv_sketch_draw_rules(s);
  a->errors = fv_sketch_allocate(c, (size_t)(s->sequences + 1) * sizeof *a->errors, 0);
  a->reproducible = (uint32_t)fv_random_between(s->random, 0, 2);
  set_budget(s);
  describe(s, seed, index);
}

void fv_case_draw(uint64_t seed, uint64_t index, fv_case *c) {
  fv_random random = fv_random_for(seed, index);
  fv_sketch s = {.c = c, .random = &random, .allowed = ~(fv_feature_set)0};
  fv_sketch_draw_form(&s, seed, index);
  if (!c->out_of_memory) fv_sketch_fill(&s);
}

void fv_case_free(fv_case *c) {
  for (int i = 0; i < c->block_count; ++i) free(c->blocks[i]);
  c->block_count = 0;
}

void fv_case_reset_outputs(fv_case *c) {
  memset(c->out.bytes, FV_SKETCH_CANARY, c->out.size);
  if (c->lse.bytes) memset(c->lse.bytes, FV_SKETCH_CANARY, c->lse.size);
}

int64_t fv_case_broken_canary(const fv_case_output *output) {
  for (size_t i = 0; i < output->size; ++i) {
    if (!output->owned[i] && output->bytes[i] != FV_SKETCH_CANARY) return (int64_t)i;
  }
  return -1;
}
