/* append_case.c - random cases of fovea_kv_append, bit by bit against its definition. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mirror/mirror.h"
#include "cli/validate/case.h"
#include "cli/validate/digest.h"
#include "csrc/host/element.h"

enum {
  TOKENS = 12,
  HEADS = 2,
  HEADS_Q = 3, /* no multiple of HEADS: an append does not ask for one */
  DIM_MAX = 72,
  PAGES = 8,
  PAGE_LEN = 4,
  POSITIONS = 40
};

typedef struct append_case {
  uint32_t from, to;
  int64_t dim, tokens;
  int32_t rotary_dim;
  uint32_t style;
  bool rope, scaled, by_slots;
  float new_keys[TOKENS * HEADS * DIM_MAX]; /* of dtype `from` */
  float cos[POSITIONS * DIM_MAX / 2], sin[POSITIONS * DIM_MAX / 2];
  int32_t positions[TOKENS], ids[PAGES], length;
  int64_t slots[TOKENS];
  float scale[HEADS];
  unsigned char cache[PAGES * PAGE_LEN * HEADS * DIM_MAX * 4];
  unsigned char expected[PAGES * PAGE_LEN * HEADS * DIM_MAX * 4];

  bool query, in_place, q_scaled;
  uint32_t q_from, q_to;
  float q[TOKENS * HEADS_Q * DIM_MAX]; /* of dtype q_from */
  float q_scale[HEADS_Q];
  unsigned char q_out[TOKENS * HEADS_Q * DIM_MAX * 4];
  unsigned char q_expected[TOKENS * HEADS_Q * DIM_MAX * 4];

  fovea_norm norm; /* of keys and queries; gain NULL: none */
  float gain[HEADS_Q * DIM_MAX];
} append_case;

static void draw_elements(fv_random *random, uint32_t dtype, int64_t count, float *elements) {
  for (int64_t i = 0; i < count; ++i) {
    fv_store_f32(dtype, elements, i, fv_random_uniform(random, -600, 600));
  }
}

static void draw_norm(fv_random *random, append_case *a) {
  if (fv_random_percent(random, 50)) return;
  a->norm = (fovea_norm){.gain = a->gain,
                         .stride = fv_random_percent(random, 50) ? a->dim : 0,
                         .eps = fv_random_percent(random, 80) ? 1e-6f : 1e4f,
                         .unit_offset = fv_random_percent(random, 30),
                         .scope = fv_random_percent(random, 30)};
  for (int64_t i = 0; i < HEADS_Q * DIM_MAX; ++i) a->gain[i] = fv_random_uniform(random, -2, 2);
}

static void draw_query(fv_random *random, append_case *a) {
  a->query = fv_random_percent(random, 60);
  a->q_from = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_BF16);
  a->q_to = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_E4M3);
  a->in_place = fv_random_percent(random, 30);
  if (a->in_place) a->q_to = a->q_from;
  a->q_scaled = a->q_to == FOVEA_E4M3 && fv_random_percent(random, 70);
  draw_elements(random, a->q_from, a->tokens * HEADS_Q * a->dim, a->q);
  for (int h = 0; h < HEADS_Q; ++h) a->q_scale[h] = fv_random_uniform(random, 0.5f, 4);
  memset(a->q_out, 0x77, sizeof a->q_out);
  memset(a->q_expected, 0x77, sizeof a->q_expected);
  if (a->in_place) memcpy(a->q_out, a->q, sizeof a->q);
  if (a->in_place) memcpy(a->q_expected, a->q, sizeof a->q);
}

/* limited: only what CUDA has, no cache of blocks, no norm and no query. */
static void draw_append(fv_random *random, bool limited, append_case *a) {
  a->from = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_BF16);
  a->to = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_I8);
  if (!limited && fv_random_percent(random, 30)) {
    a->to = fv_random_percent(random, 50) ? FOVEA_Q8_0 : FOVEA_Q4_0;
  }
  int64_t step = fv_dtype_is_blocks(a->to) ? FV_BLOCK_LEN : 8;
  a->dim = step * fv_random_between(random, 1, DIM_MAX / step);
  a->tokens = fv_random_between(random, 1, TOKENS);
  a->rope = fv_random_percent(random, 60);
  a->rotary_dim = 2 * (int32_t)fv_random_between(random, 1, a->dim / 2);
  a->style = (uint32_t)fv_random_between(random, 0, 1);
  a->scaled = fv_dtype_is_8bit(a->to) && fv_random_percent(random, 70);
  a->by_slots = fv_random_percent(random, 40);
  a->length = (int32_t)fv_random_between(random, 0, PAGES * PAGE_LEN - TOKENS);
  draw_elements(random, a->from, a->tokens * HEADS * a->dim, a->new_keys);
  for (int64_t i = 0; i < POSITIONS * DIM_MAX / 2; ++i) {
    float angle = fv_random_uniform(random, -3, 3);
    a->cos[i] = cosf(angle);
    a->sin[i] = sinf(angle);
  }
  for (int p = 0; p < PAGES; ++p) a->ids[p] = (p * 3 + a->length) % PAGES; /* 3 is prime to 8 */
  for (int64_t t = 0; t < TOKENS; ++t) {
    a->positions[t] = (int32_t)fv_random_between(random, 0, POSITIONS - 1);
    a->slots[t] = fv_random_percent(random, 20) ? -1 : (t * 5 + a->length) % (PAGES * PAGE_LEN);
  }
  for (int h = 0; h < HEADS; ++h) a->scale[h] = fv_random_uniform(random, 0.5f, 4);
  memset(a->cache, 0x77, sizeof a->cache);
  memset(a->expected, 0x77, sizeof a->expected);
  if (limited) return;
  draw_norm(random, a);
  draw_query(random, a);
}

static void store_cache(uint32_t dtype, void *data, int64_t index, float value) {
  switch (dtype) {
    case FOVEA_E5M2:
      ((uint8_t *)data)[index] = fv_e5m2_from_f32(value);
      break;
    case FOVEA_I8:
      ((int8_t *)data)[index] = fv_i8_from_f32(value);
      break;
    default:
      fv_store_f32(dtype, data, index, value);
      break;
  }
}

/* Rounds each product and each sum by itself: volatile keeps the compiler from fusing them. */
static void rotate(const append_case *a, int64_t position, float *x) {
  int32_t half = a->rotary_dim / 2;
  for (int32_t i = 0; i < half; ++i) {
    int32_t first = a->style == FOVEA_ROPE_INTERLEAVED ? 2 * i : i;
    int32_t second = a->style == FOVEA_ROPE_INTERLEAVED ? 2 * i + 1 : i + half;
    float c = a->cos[position * half + i], s = a->sin[position * half + i];
    volatile float xc = x[first] * c, ys = x[second] * s, yc = x[second] * c, xs = x[first] * s;
    x[first] = xc - ys;
    x[second] = yc + xs;
  }
}

/* The squares of a head: 32 parts, then their halves onto each other. */
static float sum_squares(const float *x, int64_t dim) {
  volatile float parts[32] = {0};
  for (int64_t d = 0; d < dim; ++d) {
    volatile float square = x[d] * x[d];
    parts[d % 32] = parts[d % 32] + square;
  }
  for (int n = 16; n > 0; n /= 2) {
    for (int j = 0; j < n; ++j) parts[j] = parts[j] + parts[j + n];
  }
  return parts[0];
}

/* All heads of a token, before they are stored. */
static void prepare(const append_case *a, int64_t token, int64_t heads, float rows[][DIM_MAX]) {
  volatile float all = 0;
  for (int64_t h = 0; h < heads; ++h) {
    volatile float sum = sum_squares(rows[h], a->dim);
    all = h == 0 ? sum : all + sum;
  }
  for (int64_t h = 0; h < heads; ++h) {
    bool together = a->norm.scope == FOVEA_NORM_TOKEN;
    volatile float mean = (together ? all : sum_squares(rows[h], a->dim)) /
                          (float)(together ? heads * a->dim : a->dim);
    volatile float more = mean + a->norm.eps;
    volatile float root = sqrtf(more), r = 1 / root;
    for (int64_t d = 0; a->norm.gain && d < a->dim; ++d) {
      volatile float gain = a->gain[h * a->norm.stride + d];
      if (a->norm.unit_offset) gain = 1 + gain;
      volatile float x = rows[h][d] * r;
      rows[h][d] = x * gain;
    }
    if (a->rope) rotate(a, a->positions[token], rows[h]);
  }
}

static void load_heads(const append_case *a, uint32_t dtype, const float *elements, int64_t token,
                       int64_t heads, float rows[][DIM_MAX]) {
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t d = 0; d < a->dim; ++d) {
      rows[h][d] = fv_load(dtype, elements, (token * heads + h) * a->dim + d);
    }
  }
}

/* Of finite numbers, as ggml's reference quantisers. */
static void store_block(uint32_t dtype, const float *x, unsigned char *block) {
  float most = 0;
  for (int i = 0; i < 32; ++i) most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
  const bool wide = dtype == FOVEA_Q8_0;
  volatile float d = wide ? fabsf(most) / 127 : most / -8, inverse = d != 0 ? 1 / d : 0;
  uint16_t code = fv_f16_from_f32(d);
  memcpy(block, &code, sizeof code);
  for (int i = 0; i < 32; ++i) {
    volatile float scaled = x[i] * inverse, shifted = scaled + 8.5f;
    int half = (int)shifted > 15 ? 15 : (int)shifted;
    if (wide) {
      block[2 + i] = (unsigned char)(int)roundf(scaled);
    } else if (i < 16) {
      block[2 + i] = (unsigned char)half;
    } else {
      block[2 + i - 16] = (unsigned char)(block[2 + i - 16] | half << 4);
    }
  }
}

static void expect_keys(append_case *a, int64_t token, int64_t slot) {
  float rows[HEADS][DIM_MAX];
  load_heads(a, a->from, a->new_keys, token, HEADS, rows);
  prepare(a, token, HEADS, rows);
  for (int64_t h = 0; h < HEADS; ++h) {
    if (fv_dtype_is_blocks(a->to)) {
      unsigned char *row = a->expected + fv_dtype_size(a->to, (slot * HEADS + h) * a->dim);
      for (int64_t d = 0; d < a->dim; d += 32) {
        store_block(a->to, rows[h] + d, row + fv_dtype_size(a->to, d));
      }
      continue;
    }
    for (int64_t d = 0; d < a->dim; ++d) {
      float value = a->scaled ? rows[h][d] / a->scale[h] : rows[h][d];
      store_cache(a->to, a->expected, (slot * HEADS + h) * a->dim + d, value);
    }
  }
}

/* Of padding, which has a negative slot, q_out is zeros. */
static void expect_query(append_case *a, int64_t token, bool padding) {
  float rows[HEADS_Q][DIM_MAX];
  load_heads(a, a->q_from, a->q, token, HEADS_Q, rows);
  prepare(a, token, HEADS_Q, rows);
  for (int64_t h = 0; h < HEADS_Q; ++h) {
    for (int64_t d = 0; d < a->dim; ++d) {
      float value = a->q_scaled ? rows[h][d] / a->q_scale[h] : rows[h][d];
      store_cache(a->q_to, a->q_expected, (token * HEADS_Q + h) * a->dim + d, padding ? 0 : value);
    }
  }
}

static void expect_append(append_case *a) {
  for (int64_t t = 0; t < a->tokens; ++t) {
    int64_t n = a->length + t;
    int64_t slot = a->by_slots ? a->slots[t] : a->ids[n / PAGE_LEN] * PAGE_LEN + n % PAGE_LEN;
    if (slot >= 0) expect_keys(a, t, slot);
    if (a->query) expect_query(a, t, slot < 0);
  }
}

static void set_query(append_case *a, fovea_kv_append_args *args) {
  void *from = a->in_place ? (void *)a->q_out : a->q;
  args->q = fovea_contiguous(from, (fovea_dtype)a->q_from, 1, a->tokens, HEADS_Q, a->dim);
  args->q_out = fovea_contiguous(a->q_out, (fovea_dtype)a->q_to, 1, a->tokens, HEADS_Q, a->dim);
  if (a->q_scaled) args->q_scale = fovea_contiguous(a->q_scale, FOVEA_F32, 1, 1, HEADS_Q, 1);
  args->q_norm = a->norm;
}

static fovea_status call_append(fovea_handle *handle, append_case *a) {
  fovea_kv_append_args args = {.struct_size = sizeof args};
  args.k_new = fovea_contiguous(a->new_keys, (fovea_dtype)a->from, 1, a->tokens, HEADS, a->dim);
  args.k_cache = fovea_contiguous(a->cache, (fovea_dtype)a->to, PAGES, PAGE_LEN, HEADS, a->dim);
  if (a->scaled) args.k_scale = fovea_contiguous(a->scale, FOVEA_F32, 1, 1, HEADS, 1);
  if (a->by_slots) {
    args.slots = a->slots;
  } else {
    args.sequences.kv_lengths = &a->length;
    args.sequences.pages = (fovea_pages){.ids = a->ids, .row_stride = PAGES, .count = PAGES};
  }
  if (a->rope) {
    args.rope = (fovea_rope){.cos = a->cos,
                             .sin = a->sin,
                             .rows = POSITIONS,
                             .stride = a->rotary_dim / 2,
                             .positions = a->positions,
                             .rotary_dim = a->rotary_dim,
                             .style = a->style};
  }
  args.k_norm = a->norm;
  if (a->query) set_query(a, &args);
  return fv_mirror_append(handle, &args);
}

static void judge(const char *what, const unsigned char *bytes, const unsigned char *expected,
                  size_t count, fv_verdict *verdict) {
  for (size_t i = 0; i < count; ++i) {
    const fv_bad_element at = {.criterion = FV_C9,
                               .tensor = what,
                               .index = {0, 0, 0, (int64_t)i},
                               .got = bytes[i],
                               .expected = expected[i]};
    fv_verdict_note(verdict, &at, bytes[i] == expected[i] ? 0 : 1, 0);
    ++verdict->compared;
  }
}

void fv_run_append_case(fovea_handle *handle, bool limited, fv_random *random,
                        fv_case_result *result) {
  append_case *a = calloc(1, sizeof *a);
  if (!a) {
    result->out_of_memory = true;
    return;
  }
  draw_append(random, limited, a);
  expect_append(a);
  fovea_status status = call_append(handle, a);
  if (status != FOVEA_OK) fv_case_fail_call(result, "fovea_kv_append", status);
  result->digest = fv_digest_add(FV_DIGEST_START, a->cache, sizeof a->cache);
  if (a->query) result->digest = fv_digest_add(result->digest, a->q_out, sizeof a->q_out);
  if (status == FOVEA_OK) {
    judge("cache byte", a->cache, a->expected, sizeof a->cache, &result->verdict);
    if (a->query) judge("q_out byte", a->q_out, a->q_expected, sizeof a->q_out, &result->verdict);
  }
  free(a);
  if (!fv_verdict_passes(&result->verdict)) fv_case_fail(result, "a stored byte differs");
}
