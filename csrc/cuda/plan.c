/* plan.c - see plan.h.
 *
 * There is one family of kernels so far, in two classes: what the call has decides which. It covers
 * part of the header; each feature that it lacks is refused by name. Dims between those of the rows
 * run in the next wider row, whose further columns are zeros in shared memory. */
#include "csrc/cuda/plan.h"

#include <stdio.h>

#include "csrc/cuda/schedule.h"
#include "csrc/dtype.h"
#include "csrc/status.h"
#include "kernels/shared/params.h"

#define FV_ATTENTION_FWD_ROW(name, dtype, dim, dim_v, tile_q, tile_kv, warps, stages, ctas, \
                             general, kv_bytes)                                             \
  extern const char fv_image_##name[];
#include "kernels/shared/attention_fwd.def"
#undef FV_ATTENTION_FWD_ROW

static const fv_cuda_row rows[] = {
#define FV_ATTENTION_FWD_ROW(name, dtype, dim, dim_v, tile_q, tile_kv, warps, stages, ctas, \
                             general, kv_bytes)                                             \
  {{#name, tile_q, tile_kv},                                                                \
   FOVEA_##dtype,                                                                           \
   dim,                                                                                     \
   dim_v,                                                                                   \
   (warps)*32,                                                                              \
   FV_ATTENTION_SHARED_BYTES(dim, dim_v, tile_q, tile_kv, stages, kv_bytes),                \
   stages,                                                                                  \
   ctas,                                                                                    \
   general,                                                                                 \
   kv_bytes,                                                                                \
   fv_image_##name},
#include "kernels/shared/attention_fwd.def"
#undef FV_ATTENTION_FWD_ROW
};

enum {
  FV_FEW_ROWS = 64, /* of the smaller tiles */
  ROW_COUNT = sizeof rows / sizeof rows[0]
};

const fv_cuda_row *fv_cuda_row_at(int32_t index) {
  return index >= 0 && index < ROW_COUNT ? &rows[index] : NULL;
}

int32_t fv_cuda_row_index(const fv_kernel *kernel) {
  return (int32_t)((const fv_cuda_row *)kernel - rows);
}

/* ---- What the kernels leave out ---- */

/* Both k and v have 8 bits, of any of the three types. Only then are there scales. */
static bool is_8bit(const fovea_attention_args *a) {
  return fv_dtype_is_8bit(a->k.dtype) && fv_dtype_is_8bit(a->v.dtype);
}

static bool has_other_types(const fovea_attention_args *a) {
  const bool same = a->k.dtype == a->q.dtype && a->v.dtype == a->q.dtype;
  return (!same && !is_8bit(a)) || a->out.dtype != a->q.dtype;
}

/* Whether the mask differs between rows or heads. A padding mask does not: it has only sequences
 * and keys. */
static bool has_mask_of_rows(const fovea_attention_args *a) {
  return a->visibility.mask.dtype &&
         (a->visibility.mask.shape[1] != 1 || a->visibility.mask.shape[2] != 1);
}

/* Whether the call needs a kernel of the general class. */
static bool is_general(const fovea_attention_args *a) {
  return has_mask_of_rows(a) || a->visibility.prefix_lengths || a->visibility.spans ||
         a->visibility.tree.bits || a->logits.bias.dtype || a->logits.alibi_slopes ||
         a->logits.distances.table;
}

/* The first feature of the call that no kernel has; NULL: none. */
static const char *find_missing(const fv_problem *p) {
  const fovea_attention_args *a = &p->args;
  const struct {
    bool present;
    const char *name;
  } features[] = {
      {a->q.dtype != FOVEA_F16 && a->q.dtype != FOVEA_BF16, "a q that is not f16 or bf16"},
      {fv_dtype_is_blocks(a->k.dtype) || fv_dtype_is_blocks(a->v.dtype), "k or v in blocks"},
      {has_other_types(a), "k, v or out of another dtype than q, unless both k and v have 8 bits"},
      {a->sequences.pages.head_lengths != NULL, "pages.head_lengths"},
      {a->logits.additive.vector != NULL, "additive scores"},
  };
  for (size_t i = 0; i < sizeof features / sizeof features[0]; ++i) {
    if (features[i].present) return features[i].name;
  }
  return NULL;
}

/* ---- The choice ---- */

/* How many query rows a call has. */
typedef struct fv_cuda_amount {
  __int128 rows; /* of all heads and sequences together */
  int64_t each;  /* of a sequence and kv head, on average */
} fv_cuda_amount;

static fv_cuda_amount amount_of(const fv_problem *p) {
  __int128 positions = (__int128)p->rows * (p->q_packed ? 1 : p->sequences);
  int64_t average = (int64_t)(positions / fv_max(p->sequences, 1));
  return (fv_cuda_amount){.rows = positions * p->group * p->heads_kv, .each = average * p->group};
}

/* Whether the call has enough rows for the kernel's tiles. Tiles of 128 take fewer instructions for
 * each product, if there are enough to fill the device, and rows to fill them. The kernels of a
 * dtype and dim give the same bits, so no result depends on this. */
static bool suits(const fv_cuda_facts *facts, fv_cuda_amount amount, const fv_cuda_row *row) {
  int64_t tile_q = row->kernel.tile_q;
  if (tile_q <= FV_FEW_ROWS) return true;
  return amount.each > FV_FEW_ROWS && amount.rows >= tile_q * facts->sm_count * row->ctas;
}

/* Which rows could serve a call at all. */
typedef struct fv_cuda_class {
  uint32_t dtype; /* of q */
  int32_t kv_bytes;
  bool general;
} fv_cuda_class;

static bool is_of_class(const fv_cuda_row *row, fv_cuda_class class) {
  return row->dtype == class.dtype && row->kv_bytes == class.kv_bytes &&
         row->general == class.general;
}

/* The first row of the class that is wide enough, suits the amount and fits the device. */
static const fv_cuda_row *choose_row(const fv_cuda_facts *facts, fv_cuda_class class, int32_t dim,
                                     int32_t dim_v, fv_cuda_amount amount) {
  for (int i = 0; i < ROW_COUNT; ++i) {
    bool fits = rows[i].shared_bytes <= facts->shared_bytes;
    bool wide = rows[i].dim >= dim && rows[i].dim_v >= dim_v;
    if (!is_of_class(&rows[i], class)) continue;
    if (wide && fits && suits(facts, amount, &rows[i])) return &rows[i];
  }
  return NULL;
}

/* Dims between two steps are served by the same row. */
static int32_t up_to_step(int32_t dim) {
  return (dim + FV_DIM_STEP - 1) / FV_DIM_STEP * FV_DIM_STEP;
}

/* Whether the limits' dtypes, of which 0 is any, are those of the row. */
static bool may_have_dtypes(const fovea_limits *limits, const fv_cuda_row *row) {
  const uint32_t caches[] = {limits->k_dtype, limits->v_dtype};
  if (limits->q_dtype && limits->q_dtype != row->dtype) return false;
  for (int i = 0; i < 2; ++i) {
    if (caches[i] && fv_dtype_is_8bit(caches[i]) != (row->kv_bytes == 1)) return false;
  }
  return true;
}

bool fv_plan_cuda_can_choose(const fv_cuda_facts *facts, const fovea_limits *limits, int32_t row) {
  if (!may_have_dtypes(limits, &rows[row])) return false;
  /* a limit of 0 leaves a dim open: any that the row holds */
  const fv_cuda_amount most = {(__int128)limits->total_q * limits->heads_q, INT64_MAX}, least = {0};
  if (!suits(facts, most, &rows[row])) return false;
  fv_cuda_amount amount = rows[row].kernel.tile_q > FV_FEW_ROWS ? most : least;
  const fv_cuda_class class = {rows[row].dtype, rows[row].kv_bytes, rows[row].general};
  int32_t dim = limits->dim ? up_to_step(limits->dim) : rows[row].dim;
  int32_t dim_v = limits->dim_v ? up_to_step(limits->dim_v) : rows[row].dim_v;
  for (int32_t d = 8; d <= dim && d <= rows[row].dim; d += 8) {
    for (int32_t d_v = 8; d_v <= dim_v && d_v <= rows[row].dim_v; d_v += 8) {
      const fv_cuda_row *chosen = choose_row(facts, class, d, d_v, amount);
      if (chosen == &rows[row]) return true;
    }
  }
  return false;
}

fovea_status fv_plan_cuda(const fv_cuda_facts *facts, const fv_problem *problem, fv_plan *plan) {
  const char *missing = find_missing(problem);
  if (missing) return fv_fail(FOVEA_UNSUPPORTED, "no CUDA kernel covers %s; the CPU does", missing);
  const fv_cuda_class class = {problem->args.q.dtype, is_8bit(&problem->args) ? 1 : 2,
                               is_general(&problem->args)};
  const fv_cuda_row *row =
      choose_row(facts, class, problem->dim, problem->dim_v, amount_of(problem));
  if (!row) {
    return fv_fail(FOVEA_UNSUPPORTED,
                   "no CUDA kernel covers dim %d and dim_v %d in %d bytes of shared memory",
                   problem->dim, problem->dim_v, facts->shared_bytes);
  }
  *plan = (fv_plan){
      .kernel = &row->kernel, .tile_q = row->kernel.tile_q, .tile_kv = row->kernel.tile_kv};
  fv_schedule_cuda(facts, problem, row, plan);
  snprintf(plan->reason, sizeof plan->reason,
           "mma.sync on sm_%d%s%s; tiles %d and %d wide hold dim %d and dim_v %d", facts->sm,
           class.kv_bytes == 1 ? ", 8-bit keys and values" : "",
           class.general ? ", masks and biases of rows" : "", row->dim, row->dim_v, problem->dim,
           problem->dim_v);
  return FOVEA_OK;
}
