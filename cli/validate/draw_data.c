/* draw_data.c - see validate/draw_sketch.h: fills the tensors: the keys that some row sees, and no
 * others. */
#include <string.h>

#include "cli/validate/draw_sketch.h"
#include "csrc/check/check.h"
#include "csrc/host/element.h"
#include "csrc/host/element_run.h"

static void fill_blocks(const fv_sketch_row *r, const fovea_tensor *t, int64_t offset,
                        float (*draw)(const fv_sketch_row *, int64_t)) {
  float x[FV_BLOCK_LEN];
  for (int64_t d = 0; d < t->shape[3]; d += FV_BLOCK_LEN) {
    for (int i = 0; i < FV_BLOCK_LEN; ++i) x[i] = draw(r, d + i);
    fv_store_blocks(t->data, t->dtype, offset + d, FV_BLOCK_LEN, x);
  }
}

static void fill_row(const fv_sketch_row *r, const fovea_tensor *t, fv_place place,
                     float (*draw)(const fv_sketch_row *, int64_t)) {
  int64_t offset = fv_row_offset(t, place.outer, place.inner, r->head);
  if (fv_dtype_is_blocks(t->dtype)) {
    fill_blocks(r, t, offset, draw);
    return;
  }
  for (int64_t d = 0; d < t->shape[3]; ++d) {
    float value = draw(r, d);
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
  int64_t first = (const unsigned char *)t->data - output->bytes;
  first += fv_dtype_size(t->dtype, fv_row_offset(t, outer, inner, head));
  memset(output->owned + first, true, (size_t)fv_dtype_size(t->dtype, t->shape[3]));
}

static bool any_row_sees(const fv_problem *p, const fv_sequence *q, int64_t kv_head, int64_t key) {
  for (int64_t row = 0; row < q->len_q; ++row) {
    for (int64_t h = kv_head * p->group; h < (kv_head + 1) * p->group; ++h) {
      fv_row_mask mask = fv_row_mask_for(p, q, row, h);
      uint32_t errors = 0;
      fv_added added;
      if (fv_sees_position(&mask, key) && fv_sees_key(&mask, key, &added, &errors)) return true;
    }
  }
  return false;
}

/* Fills in the rows of a sequence, as the kv head of query head h has it. */
static void fill_queries(fv_sketch *s, const fv_problem *p, const fv_sequence *q, int64_t h) {
  fv_case *c = s->c;
  const fovea_attention_args *a = &p->args;
  for (int64_t row = 0; row < q->len_q; ++row) {
    fv_sketch_row query = {s, p, q, row, h};
    fv_place place = {q->q_batch, q->q_begin + row};
    fill_row(&query, &a->q, place, fv_sketch_query);
    own_row(&a->out, &c->out, q->q_batch, q->q_begin + row, h);
    if (a->lse.dtype) own_row(&a->lse, &c->lse, q->q_batch, q->q_begin + row, h);
  }
}

/* Fills in the keys and values of kv head g. */
static void fill_keys(fv_sketch *s, const fv_problem *p, const fv_sequence *q, int64_t g) {
  const fovea_attention_args *a = &p->args;
  if (q->len_q < 1) return;
  fv_range keys = fv_hull(fv_rows_keys(&q->mask, 0, q->len_q), fv_rows_span(p, q, 0, q->len_q));
  for (int64_t key = q->mask.first; key < q->mask.len; ++key) {
    fv_sketch_row seen = {s, p, q, key, g};
    fv_place k_place, v_place;
    if (key < keys.begin || key >= keys.end) continue; /* its page id may be absurd */
    if (!fv_key_place(p, q, &a->k, a->sequences.pages.ids, key, &k_place)) continue;
    if (!fv_key_place(p, q, &a->v, a->sequences.pages.v_ids, key, &v_place)) continue;
    if (!any_row_sees(p, q, g, key)) continue;
    fill_row(&seen, &a->k, k_place, fv_sketch_key);
    fill_row(&seen, &a->v, v_place, fv_sketch_value);
  }
}

static void fill_sequence(fv_sketch *s, const fv_problem *p, const fv_sequence *sequence) {
  fv_sequence own;
  for (int64_t g = 0; g < p->heads_kv; ++g) {
    const fv_sequence *q = fv_sequence_of_head(p, sequence, g, &own);
    for (int64_t h = g * p->group; h < (g + 1) * p->group; ++h) fill_queries(s, p, q, h);
    fill_keys(s, p, q, g);
  }
}

static void prepare_output(fv_case *c, const fovea_tensor *t, fv_case_output *output) {
  if (!t->dtype) return;
  output->bytes = (unsigned char *)t->data;
  output->size = (size_t)fv_dtype_size(t->dtype, fv_sketch_span(t));
  output->owned = fv_sketch_allocate(c, output->size + 1, 0);
}

void fv_sketch_fill(fv_sketch *s) {
  fv_case *c = s->c;
  fv_problem problem;
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  prepare_output(c, &c->args.out, &c->out);
  prepare_output(c, &c->args.lse, &c->lse);
  if (c->out_of_memory) return;
  /* A case that breaks a rule of the header is a mistake of this file. The call will report it. */
  if (fv_check_attention_shape(&c->args, &problem) != FOVEA_OK) return;
  while (fv_sequence_next(&problem, &cursor, &sequence)) fill_sequence(s, &problem, &sequence);
}
