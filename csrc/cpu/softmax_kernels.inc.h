/* softmax_kernels.inc.h - the part of tile_kernels.inc.h that is not products: powers of two, one
 * step of online softmax, softcap.
 *
 * Weights are exp2((s - m) * factor) for s <= m. Adding 1.5 * 2^23 rounds the product to an integer
 * n. The remainder f, |f| <= 1/2, goes through a polynomial of degree 5: minimax with value 1 at 0,
 * so that integers are exact; relative error 2^-23.3.
 *
 * There are two ways to apply 2^n, with the same bits where both apply. If no lane underflows,
 * which is nearly always, it takes one multiplication. Otherwise it takes two, so that results
 * below 2^-126 lose bits gradually. Flushing those to 0 would break the bound of
 * cli/judge/criteria.h, which grants only half the smallest step per key. */

/* ---- Powers of two ---- */

static const float round_magic = 12582912.0f; /* 1.5 * 2^23: the low bits hold the integer */

ALWAYS_INLINE f32v power_of_fraction(f32v f) {
  f32v p = splat(1.326479513e-03f);
  p = fv_multiply_add(p, f, splat(9.671537863e-03f));
  p = fv_multiply_add(p, f, splat(5.550733819e-02f));
  p = fv_multiply_add(p, f, splat(2.402224171e-01f));
  p = fv_multiply_add(p, f, splat(6.931469774e-01f));
  return fv_multiply_add(p, f, splat(1.0f));
}

/* 2^(d * factor) for -126 < d * factor <= 0, or NaN. The magic number includes the exponent's bias,
 * so a shift leaves the bits of 2^n. */
ALWAYS_INLINE f32v power_within_range(f32v d, f32v factor) {
  f32v magic = splat(round_magic + 127.0f);
  f32v shifted = fv_multiply_add(d, factor, magic);
  f32v f = fv_multiply_add(d, factor, magic - shifted);
  return power_of_fraction(f) * (f32v)((u32v)shifted << 23);
}

/* The same for any d * factor up to 127: gradual underflow, and 0 below half the smallest number.
 * tanh_vector calls it with d >= 0. */
ALWAYS_INLINE f32v power_gradual(f32v d, f32v factor) {
  u32v vanishes = (u32v)(d * factor < splat(-151.0f)); /* false for NaN, so NaN stays */
  d = (f32v)(~vanishes & (u32v)d);
  f32v magic = splat(round_magic);
  f32v shifted = fv_multiply_add(d, factor, magic);
  f32v f = fv_multiply_add(d, factor, magic - shifted);
#if defined(fv_scale)
  f32v result = fv_scale(power_of_fraction(f), shifted - magic);
#else
  i32v n = (i32v)((u32v)shifted - (u32v)magic);
  i32v half = n >> 1;
  f32v first = (f32v)((u32v)(half + 127) << 23);
  f32v second = (f32v)((u32v)(n - half + 127) << 23);
  f32v result = power_of_fraction(f) * first * second;
#endif
  return (f32v)(~vanishes & (u32v)result);
}

/* ---- Softmax ---- */

static float largest(const float *scores, fv_tile_range keys) {
  f32v left = splat(-INFINITY), right = left;
  int32_t j = keys.begin;
  for (; j + PANEL_COLUMNS <= keys.end; j += PANEL_COLUMNS) {
    left = fv_larger(load(scores + j), left);
    right = fv_larger(load(scores + j + FV_LANES), right);
  }
  if (j < keys.end) left = fv_larger(load(scores + j), left);
  return largest_lane(fv_larger(right, left));
}

/* (s - base) * factor is at least -125 for s - base >= this. It stays finite for a factor near 0,
 * so that -inf is always below it. */
ALWAYS_INLINE float lowest_within_range(float factor) {
  float lowest = -125.0f / factor;
  return lowest > -0x1p126f ? lowest : -0x1p126f;
}

/* Turns the scores of a block into weights. totals receives their sums per lane. The last panel of
 * columns may be half a panel. */
ALWAYS_INLINE void weigh_block(float *scores, int32_t begin, int32_t end, f32v base, f32v factors,
                               f32v lowest, f32v *totals) {
  int32_t j = begin;
  totals[0] = totals[1] = (f32v){0};
  for (; j + PANEL_COLUMNS <= end; j += PANEL_COLUMNS) {
    f32v left = load(scores + j) - base, right = load(scores + j + FV_LANES) - base;
    if (__builtin_expect(fv_any(fv_smaller(left, right) < lowest), 0)) {
      left = power_gradual(left, factors);
      right = power_gradual(right, factors);
    } else {
      left = power_within_range(left, factors);
      right = power_within_range(right, factors);
    }
    store(scores + j, left);
    store(scores + j + FV_LANES, right);
    totals[0] += left;
    totals[1] += right;
  }
  if (j < end) {
    f32v left = power_gradual(load(scores + j) - base, factors);
    store(scores + j, left);
    totals[0] += left;
  }
}

/* Turns the scores of a row into weights and returns their sum, over the blocks that products use.
 * Keys beyond keys.end would only add zeros to their block. So the order of the sum does not depend
 * on keys.end. */
ALWAYS_INLINE float weigh_row(float *scores, fv_tile_range keys, f32v base, f32v factors,
                              f32v lowest) {
  f32v sums[2] = {{0}, {0}}, totals[2];
  for (int32_t j = keys.begin, next; j < keys.end; j = next) {
    next = (j / FV_BLOCK_KEYS + 1) * FV_BLOCK_KEYS;
    weigh_block(scores, j, next < keys.end ? next : keys.end, base, factors, lowest, totals);
    sums[0] += totals[0];
    sums[1] += totals[1];
  }
  return sum_lanes(sums[0] + sums[1]);
}

static void softmax(float *scores, int32_t rows, fv_tile_range keys, const float *largest,
                    float factor, fv_row_state *states, double *rescale) {
  f32v each = splat(factor), lowest = splat(lowest_within_range(factor));
  for (int32_t r = 0; r < rows; ++r) {
    fv_row_state *state = &states[r];
    float next = largest[r] > state->maximum ? largest[r] : state->maximum;
    float base = next == -INFINITY ? 0.0f : next; /* no key seen yet: -inf - -inf would be NaN */
    float sum = weigh_row(scores + (int64_t)r * FV_SCORE_STRIDE, keys, splat(base), each, lowest);
    rescale[r] = fv_rescale(state->maximum, next, factor);
    state->sum = state->sum * rescale[r] + sum;
    state->maximum = next;
  }
}

/* ---- Softcap ---- */

/* tanh(x) is x + x^3 P(x^2) for |x| below 5/8 (minimax, relative error 2^-27). From 5/8 on it is
 * 1 - 2 / (e^2x + 1), which is 1 from 9.1 on. */
ALWAYS_INLINE f32v tanh_vector(f32v x) {
  u32v sign = (u32v)x & 0x80000000u;
  f32v size = (f32v)((u32v)x ^ sign);
  f32v square = size * size;
  f32v p = splat(-5.514927276e-03f);
  p = fv_multiply_add(p, square, splat(2.046920375e-02f));
  p = fv_multiply_add(p, square, splat(-5.368795597e-02f));
  p = fv_multiply_add(p, square, splat(1.333082954e-01f));
  p = fv_multiply_add(p, square, splat(-3.333325982e-01f));
  f32v near = fv_multiply_add(p, size * square, size);
  f32v bounded = fv_smaller(splat(9.1f), size); /* a NaN stays */
  f32v power = power_gradual(bounded, splat(2.885390082f));
  f32v far = splat(1.0f) - splat(2.0f) / (power + splat(1.0f));
  u32v choose = (u32v)(size < splat(0.625f));
  return (f32v)(((choose & (u32v)near) | (~choose & (u32v)far)) | sign);
}

static void scale_scores(float *scores, int32_t count, float scale, float softcap) {
  f32v scales = splat(scale), cap = splat(softcap);
  for (int32_t j = 0; j < count; j += FV_LANES) {
    f32v x = load(scores + j) * scales;
    store(scores + j, softcap > 0 ? cap * tanh_vector(x / cap) : x);
  }
}
