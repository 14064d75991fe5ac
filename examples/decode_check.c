/* decode_check.c - is every row of the server right? Each is compared with a plain loop in double
 * precision that knows no pages; and all rows of a request with those of one call on dense memory,
 * which knows neither pages, nor graphs, nor other requests. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "examples/decode.h"

static const double u32 = 0x1p-24, u16 = 0x1p-8; /* roundings to f32 and bf16 */

/* ---- Numbers ---- */

/* Rounds to nearest even. The values here are finite. */
static float rounded_to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static float out_at(const server *s, int32_t row, int head, int d) {
  int64_t place = ((int64_t)row * HEADS_Q + head) * DIM + d;
  if (s->dtype == FOVEA_F32) return ((const float *)s->out.here)[place];
  uint32_t bits = (uint32_t)((const uint16_t *)s->out.here)[place] << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* RoPE in the half-split style. */
static void rotate(const server *s, float row[DIM], int32_t position) {
  const float(*cosines)[DIM / 2] = s->cosines.here, (*sines)[DIM / 2] = s->sines.here;
  for (int d = 0; d < DIM / 2; ++d) {
    float x = row[d], y = row[d + DIM / 2], c = cosines[position][d], sine = sines[position][d];
    row[d] = x * c - y * sine;
    row[d + DIM / 2] = y * c + x * sine;
  }
}

/* A query or key as attention reads it. */
static void prepare(const server *s, float row[DIM], char which, int request, int32_t position,
                    int head) {
  for (int d = 0; d < DIM; ++d) row[d] = element(which, request, position, head, d);
  rotate(s, row, position);
  if (which == 'q' && s->dtype == FOVEA_F32) return;
  for (int d = 0; d < DIM; ++d) row[d] = rounded_to_bf16(row[d]);
}

/* ---- The plain loop ---- */

/* scale * q.k. *size is the same sum with magnitudes. */
static double logit(const float q[DIM], const float k[DIM], double *size) {
  double dot = 0;
  *size = 0;
  for (int d = 0; d < DIM; ++d) {
    double product = (double)q[d] * k[d] / sqrt(DIM);
    dot += product;
    *size += fabs(product);
  }
  return dot;
}

/* The bound on an element's error, where no value is larger than 1: C5 of cli/judge/criteria.h;
 * with a 16-bit out C1, for the roundings of probabilities and of out. S is the largest sum of
 * magnitudes behind a logit, M the largest logit. */
static double bound_of(const server *s, int32_t keys, double S, double M) {
  double logits = fmax(8 * S, (DIM + 13) / 4.0 * M);
  double weights = fmax(8, 2 + (fmin(keys + 1, 72) + 4) / 4);
  return u32 * (logits + weights) + (s->dtype == FOVEA_F32 ? 0 : 2 * u16);
}

/* The error of one row of one head, relative to its bound. */
static double row_error(const server *s, int32_t row, int request, int32_t position, int head) {
  double out[DIM] = {0}, sum = 0, largest_size = 0, largest_logit = 0, worst = 0;
  float q[DIM], k[DIM];
  int kv_head = head / (HEADS_Q / HEADS_KV);
  prepare(s, q, 'q', request, position, head);
  for (int32_t key = 0; key <= position; ++key) {
    double size;
    prepare(s, k, 'k', request, key, kv_head);
    double t = logit(q, k, &size), weight = exp(t);
    largest_size = fmax(largest_size, size);
    largest_logit = fmax(largest_logit, fabs(t));
    sum += weight;
    for (int d = 0; d < DIM; ++d) {
      out[d] += weight * rounded_to_bf16(element('v', request, key, kv_head, d));
    }
  }
  for (int d = 0; d < DIM; ++d) {
    double error = fabs(out_at(s, row, head, d) - out[d] / sum);
    if (!(error <= worst)) worst = error; /* a NaN stays */
  }
  return worst / bound_of(s, position + 1, largest_size, largest_logit);
}

/* The worst error / bound of a row; and keeps the row for the request's end. */
static double check_row(server *s, int32_t row, int request, int32_t position) {
  double worst = 0;
  for (int h = 0; h < HEADS_Q; ++h) {
    double error = row_error(s, row, request, position, h);
    if (!(error <= worst)) worst = error;
    for (int d = 0; d < DIM; ++d) s->served[request][position][h][d] = out_at(s, row, h, d);
  }
  return worst;
}

double check_step(server *s) {
  const step_input *in = s->input.here;
  const uint32_t *errors = s->errors.here;
  double worst = 0;
  for (int i = 0; i < s->count; ++i) {
    stop_unless(errors[i] == 0, "a sequence reported bad data");
    for (int32_t row = in->offsets[i]; row < in->offsets[i + 1]; ++row) {
      double error = check_row(s, row, s->running[i].request, in->positions[row]);
      if (!(error <= worst)) worst = error;
    }
  }
  stop_unless(worst <= 1, "a row differs from the plain loop");
  return worst;
}

/* ---- The one call ---- */

/* All tokens of a request as a prompt, in dense memory. Leaves its rows in `out`. */
static void compute_densely(server *s, int request, int32_t rows) {
  step_input *in = s->input.here;
  fill_tokens(in, request, 0, rows, 0);
  in->lengths_before[0] = 0;
  fovea_kv_append_args append = append_args(s, rows);
  fovea_attention_args attention = attention_args(s, rows);
  append.k_cache = fovea_contiguous(s->k_dense.there, FOVEA_BF16, 1, rows, HEADS_KV, DIM);
  append.v_cache = fovea_contiguous(s->v_dense.there, FOVEA_BF16, 1, rows, HEADS_KV, DIM);
  attention.k = append.k_cache;
  attention.v = append.v_cache;
  append.sequences = (fovea_sequences){.kv_lengths = append.sequences.kv_lengths};
  attention.sequences = (fovea_sequences){0};
  s->device->upload(&s->input);
  queue_append(s, &append, rows);
  queue_attention(s, &attention);
  s->device->download(&s->out);
  s->device->wait();
}

/* With FOVEA_REPRODUCIBLE_PHASE a row's bits depend on its own query, keys and masks alone. */
void check_request(server *s, int request) {
  int32_t rows = life_of(request), different = 0;
  compute_densely(s, request, rows);
  for (int32_t row = 0; row < rows; ++row) {
    bool same = true;
    for (int h = 0; h < HEADS_Q; ++h) {
      for (int d = 0; d < DIM; ++d) {
        float again = out_at(s, row, h, d);
        same &= memcmp(&again, &s->served[request][row][h][d], sizeof again) == 0;
      }
    }
    different += !same;
  }
  printf("  request %d: %d of %d rows have the bits of one call\n", request, rows - different,
         rows);
  stop_unless(s->reproducible != FOVEA_REPRODUCIBLE_PHASE || different == 0,
              "rows that were promised to the bit differ from one call's");
}
