/* head.c - one head of a new token: norm, rotate, scale, convert, write.
 *
 * Every step of the arithmetic is one f32 operation with its own rounding, in the order that the
 * header states. So every device stores the same bits. The file must be compiled with
 * -ffp-contract=off, for a machine that evaluates float as float; with -O3, its loops become vector
 * code.
 *
 * A head may be written where it lies: each function loads a piece of it before it stores the same
 * piece, and the norm's sum is taken before. */
#include "csrc/host/head.h"

#include <float.h>
#include <math.h>

#include "csrc/host/element_run.h"

#if FLT_EVAL_METHOD != 0
#error "host/head.c needs float arithmetic in f32"
#endif

/* The parts of the header's sum of squares: as many as a GPU's warp has lanes. */
enum { PARTS = 32 };

/* Elements converted at a time: even, for interleaved pairs, and a multiple of PARTS. Two such
 * buffers of f32 take 1 KiB of stack and stay in the L1 cache. */
enum { CHUNK = 128 };

/* ---- Norm ---------------------------------------------------------------------------------- */

/* One element of each part at a time, so that the loop becomes vector code. */
static void add_squares(const float *x, int64_t count, float *parts) {
  int64_t i = 0;
  for (; i + PARTS <= count; i += PARTS) {
    for (int j = 0; j < PARTS; ++j) parts[j] += x[i + j] * x[i + j];
  }
  for (int j = 0; i + j < count; ++j) parts[j] += x[i + j] * x[i + j];
}

float fv_head_sum_squares(const void *from, uint32_t dtype, int64_t dim) {
  float x[CHUNK], parts[PARTS] = {0};
  for (int64_t d = 0; d < dim; d += CHUNK) {
    int64_t count = dim - d < CHUNK ? dim - d : CHUNK;
    fv_load_run(from, dtype, d, count, x);
    add_squares(x, count, parts);
  }
  for (int n = PARTS / 2; n > 0; n /= 2) {
    for (int j = 0; j < n; ++j) parts[j] += parts[j + n];
  }
  return parts[0];
}

float fv_head_root(float sum, int64_t count, float eps) {
  return 1 / sqrtf(sum / (float)count + eps);
}

static void norm(const fv_head *head, int64_t first, int64_t count, float *x) {
  const float *gain = head->gain + first;
  float root = head->root;
  if (head->unit_offset) {
    for (int64_t i = 0; i < count; ++i) x[i] = x[i] * root * (1 + gain[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) x[i] = x[i] * root * gain[i];
  }
}

/* ---- Loading and storing ------------------------------------------------------------------- */

static void load(const fv_head *head, int64_t first, int64_t count, float *x) {
  fv_load_run(head->from, head->from_dtype, first, count, x);
  if (head->gain) norm(head, first, count, x);
}

/* Divides x[i] by the scale of element first + i. */
static void divide(const fv_head *head, int64_t first, int64_t count, float *x) {
  for (int64_t i = 0; i < count;) {
    int64_t block = (first + i) / head->block_len;
    int64_t end = (block + 1) * head->block_len - first;
    if (end > count) end = count;
    float scale;
    fv_load_run(head->scale, head->scale_dtype, block * head->scale_stride, 1, &scale);
    for (; i < end; ++i) x[i] = x[i] / scale;
  }
}

static void store(const fv_head *head, int64_t first, int64_t count, float *x) {
  if (head->scale) divide(head, first, count, x);
  fv_store_run(head->to, head->to_dtype, first, count, x);
}

/* ---- Writing ------------------------------------------------------------------------------- */

/* Writes elements [first, dim), which are not rotated. */
static void write_plain(const fv_head *head, int64_t first) {
  float x[CHUNK];
  if (head->from_dtype == head->to_dtype && !head->scale && !head->gain) {
    int64_t offset = fv_dtype_size(head->to_dtype, first);
    if (head->to == head->from) return;
    memcpy(head->to + offset, head->from + offset,
           (size_t)(fv_dtype_size(head->to_dtype, head->dim) - offset));
    return;
  }
  for (int64_t d = first; d < head->dim; d += CHUNK) {
    int64_t count = head->dim - d < CHUNK ? head->dim - d : CHUNK;
    load(head, d, count, x);
    store(head, d, count, x);
  }
}

/* Rotates and writes the pairs (i, i + half). */
static void write_half_split(const fv_head *head) {
  float x[CHUNK], y[CHUNK];
  int64_t half = head->half;
  for (int64_t first = 0; first < half; first += CHUNK) {
    const float *c = head->cos + first, *s = head->sin + first;
    int64_t count = half - first < CHUNK ? half - first : CHUNK;
    load(head, first, count, x);
    load(head, half + first, count, y);
    for (int64_t i = 0; i < count; ++i) {
      float x_old = x[i], y_old = y[i];
      x[i] = x_old * c[i] - y_old * s[i];
      y[i] = y_old * c[i] + x_old * s[i];
    }
    store(head, first, count, x);
    store(head, half + first, count, y);
  }
}

/* Rotates and writes the pairs (2i, 2i + 1). */
static void write_interleaved(const fv_head *head) {
  float x[CHUNK];
  for (int64_t first = 0; first < 2 * head->half; first += CHUNK) {
    const float *c = head->cos + first / 2, *s = head->sin + first / 2;
    int64_t count = 2 * head->half - first < CHUNK ? 2 * head->half - first : CHUNK;
    load(head, first, count, x);
    for (int64_t i = 0; i < count / 2; ++i) {
      float x_old = x[2 * i], y_old = x[2 * i + 1];
      x[2 * i] = x_old * c[i] - y_old * s[i];
      x[2 * i + 1] = y_old * c[i] + x_old * s[i];
    }
    store(head, first, count, x);
  }
}

/* ---- Blocks ---- */

/* Turns x, the elements of one half of the pairs (i, i + half) from element first on. Their
 * partners are loaded: a block holds one element of a pair and rarely both. */
static void turn_part(const fv_head *head, int64_t first, int64_t count, float *x) {
  float y[CHUNK];
  bool upper = first >= head->half;
  int64_t pair = upper ? first - head->half : first;
  const float *c = head->cos + pair, *s = head->sin + pair;
  load(head, upper ? pair : pair + head->half, count, y);
  if (upper) {
    for (int64_t i = 0; i < count; ++i) x[i] = x[i] * c[i] + y[i] * s[i];
  } else {
    for (int64_t i = 0; i < count; ++i) x[i] = x[i] * c[i] - y[i] * s[i];
  }
}

static void turn_parts(const fv_head *head, int64_t first, int64_t count, float *x) {
  const int64_t ends[2] = {head->half, 2 * head->half};
  int64_t d = first;
  for (int part = 0; part < 2; ++part) {
    int64_t end = first + count < ends[part] ? first + count : ends[part];
    if (d < end) turn_part(head, d, end - d, x + (d - first));
    d = d < end ? end : d;
  }
}

static void turn_neighbours(const fv_head *head, int64_t first, int64_t count, float *x) {
  int64_t end = first + count < 2 * head->half ? first + count : 2 * head->half;
  for (int64_t i = 0; i < (end - first) / 2; ++i) {
    float c = head->cos[first / 2 + i], s = head->sin[first / 2 + i];
    float x_old = x[2 * i], y_old = x[2 * i + 1];
    x[2 * i] = x_old * c - y_old * s;
    x[2 * i + 1] = y_old * c + x_old * s;
  }
}

/* A block needs all its elements at once. */
static void write_blocks(const fv_head *head) {
  float x[CHUNK];
  for (int64_t d = 0; d < head->dim; d += CHUNK) {
    int64_t count = head->dim - d < CHUNK ? head->dim - d : CHUNK;
    load(head, d, count, x);
    if (head->interleaved) {
      turn_neighbours(head, d, count, x);
    } else {
      turn_parts(head, d, count, x);
    }
    fv_store_blocks(head->to, head->to_dtype, d, count, x);
  }
}

void fv_head_write(const fv_head *head) {
  if (fv_dtype_is_blocks(head->to_dtype)) {
    write_blocks(head);
    return;
  }
  if (head->interleaved) {
    write_interleaved(head);
  } else {
    write_half_split(head);
  }
  write_plain(head, 2 * head->half);
}
