/* additive_kernels.inc.h - the part of tile_kernels.inc.h for additive scores: a tanh per row, key
 * and dim, which is nearly all of the work. Keys are packed, so they run across the lanes, and no
 * sum crosses lanes. [rows, keys, dim] never lies in memory. */

/* tanh(x) is x P(x^2) / Q(x^2) up to 9.015, and from there on 1. P and Q have degree 4; least
 * squares reweighted towards the largest relative error, which is 2^-25.5 before rounding. In f32
 * it is at most 6 * 2^-24, fused or not (all floats from 2^-20 to 10 tried). */
ALWAYS_INLINE f32v tanh_rational(f32v x) {
  x = fv_larger(splat(-9.015f), fv_smaller(splat(9.015f), x)); /* a NaN stays */
  f32v square = x * x;
  f32v p = splat(1.331889798e-08f), q = splat(7.761947245e-07f);
  p = fv_multiply_add(p, square, splat(2.058335303e-05f));
  q = fv_multiply_add(q, square, splat(3.283080005e-04f));
  p = fv_multiply_add(p, square, splat(3.494026838e-03f));
  q = fv_multiply_add(q, square, splat(2.587104402e-02f));
  p = fv_multiply_add(p, square, splat(1.337971091e-01f));
  q = fv_multiply_add(q, square, splat(4.671302736e-01f));
  p = fv_multiply_add(p, square, splat(1.0f));
  q = fv_multiply_add(q, square, splat(1.0f));
  return p * x / q;
}

/* Scores of one row and the keys of a panel, two vectors of them. */
ALWAYS_INLINE void additive_panel(float *scores, const float *q, const float *vector, int32_t dim,
                                  const float *k) {
  f32v sums[2] = {{0}, {0}};
  for (int32_t d = 0; d < dim;) {
    int32_t end = d + FV_BLOCK_DIMS < dim ? d + FV_BLOCK_DIMS : dim;
    f32v block[2] = {{0}, {0}};
    for (; d < end; ++d) {
      f32v query = splat(q[d]), factor = splat(vector[d]);
      for (int c = 0; c < 2; ++c) {
        f32v key = load(k + (int64_t)d * PANEL_COLUMNS + c * FV_LANES);
        block[c] = fv_multiply_add(factor, tanh_rational(query + key), block[c]);
      }
    }
    for (int c = 0; c < 2; ++c) sums[c] += block[c];
  }
  for (int c = 0; c < 2; ++c) store(scores + c * FV_LANES, sums[c]);
}

/* keys are whole panels, as tiles are. */
static void score_additive(float *scores, const float *q, const float *const *vectors, int32_t rows,
                           int32_t dim, const float *k, fv_tile_range keys) {
  const int64_t stride = fv_stepped_dim(dim);
  for (int32_t column = keys.begin; column < keys.end; column += PANEL_COLUMNS) {
    for (int32_t r = 0; r < rows; ++r) {
      additive_panel(scores + (int64_t)r * FV_SCORE_STRIDE + column, q + r * stride, vectors[r],
                     dim, k + column * stride);
    }
  }
}
