/* merge.c - merges partials over disjoint keys into one result.
 *
 * For each row (batch, query row, head), over the partials n in the order given:
 *
 *   m = max_n lse_n
 *   z = 0;  z = z + w_n                              w_n = expf(lse_n - m), f32
 *   a = 0;  a = a + w_n * out_n                      per element
 *   out = a / z, rounded to f32, then to its type    lse = m + log(z), rounded to f32
 *
 * Both sums skip partials with lse = -inf: their out may hold NaN. Sums, quotient and logarithm are
 * in double, where a product of two f32 is exact. So the error does not grow with the number of
 * partials. Each operation is rounded by itself in this order (compile with -ffp-contract=off). So
 * the order of the partials alone decides the bits. If only one partial is not empty, it comes back
 * unchanged: w = z = 1.
 *
 * m is the largest lse. So every w is in [0, 1], one of them is 1, z is in [1, count], and nothing
 * overflows. */
#include "csrc/host/merge.h"

#include <math.h>
#include <stdbool.h>

#include "csrc/host/element_run.h"

/* Elements of a row summed at a time. The sums and a partial's values take 1.5 KiB of stack. */
enum { CHUNK = 128 };

/* With fewer rows a task costs more than it saves. Waking a thread takes some 10 us; 16 rows of 64
 * elements and two partials take 27 us (measured, 2.8 GHz Xeon). */
enum { ROWS_PER_TASK = 16 };

typedef struct work {
  const fovea_merge_args *args;
  int64_t rows;
  int64_t tasks;
} work;

typedef struct place {
  int64_t batch, row, head;
} place;

/* The largest lse of a row's partials, and the sum of their weights. */
typedef struct total {
  float m;
  double z;
} total;

static char *element(const fovea_tensor *tensor, place at) {
  int64_t offset =
      at.batch * tensor->stride[0] + at.row * tensor->stride[1] + at.head * tensor->stride[2];
  return (char *)tensor->data + fv_dtype_size(tensor->dtype, offset);
}

static float part_lse(const fovea_merge_args *args, int32_t n, place at) {
  return *(const float *)element(&args->lses[n], at);
}

/* A NaN or +inf in any lse makes z NaN, by NaN - m or by inf - inf. out and lse are then NaN. m may
 * miss a NaN, because comparisons with NaN are false; z does not. */
static total sum_weights(const fovea_merge_args *args, place at) {
  total sum = {-INFINITY, 0};
  for (int32_t n = 0; n < args->count; ++n) {
    float lse = part_lse(args, n, at);
    if (lse > sum.m) sum.m = lse;
  }
  for (int32_t n = 0; n < args->count; ++n) {
    float lse = part_lse(args, n, at);
    if (lse != -INFINITY) sum.z = sum.z + expf(lse - sum.m);
  }
  return sum;
}

/* Merges elements [first, first + count) of the row. All partials are read before out is written,
 * because out may be one of them. */
static void merge_chunk(const fovea_merge_args *args, place at, total sum, int64_t first,
                        int64_t count) {
  double a[CHUNK] = {0};
  float x[CHUNK];
  for (int32_t n = 0; n < args->count; ++n) {
    float lse = part_lse(args, n, at);
    if (lse == -INFINITY) continue;
    double w = expf(lse - sum.m);
    fv_load_run(element(&args->outs[n], at), args->outs[n].dtype, first, count, x);
    for (int64_t i = 0; i < count; ++i) a[i] = a[i] + w * x[i];
  }
  /* z is 0 if no partial saw a key; a is then 0 already. */
  double z = sum.z != 0 ? sum.z : 1;
  for (int64_t i = 0; i < count; ++i) x[i] = (float)(a[i] / z);
  fv_store_run(element(&args->out, at), args->out.dtype, first, count, x);
}

static void merge_row(const fovea_merge_args *args, place at) {
  int64_t dim = args->out.shape[3];
  total sum = sum_weights(args, at);
  for (int64_t d = 0; d < dim; d += CHUNK) {
    merge_chunk(args, at, sum, d, dim - d < CHUNK ? dim - d : CHUNK);
  }
  /* Written last: lse may be one of the lses that the chunks read. If all partials are empty, this
   * is -inf + log(0) = -inf. */
  if (args->lse.dtype != FOVEA_NONE) {
    *(float *)element(&args->lse, at) = fv_f32_canonical((float)(sum.m + log(sum.z)));
  }
}

static void merge_task(void *context, int64_t task) {
  const work *work = context;
  const int64_t *shape = work->args->out.shape;
  int64_t quotient = work->rows / work->tasks, rest = work->rows % work->tasks;
  int64_t begin = task * quotient + (task < rest ? task : rest);
  int64_t end = begin + quotient + (task < rest);
  for (int64_t i = begin; i < end; ++i) {
    place at = {i / shape[2] / shape[1], i / shape[2] % shape[1], i % shape[2]};
    merge_row(work->args, at);
  }
}

void fv_merge_parts(const fv_merge_problem *problem, fv_parallel parallel) {
  const int64_t *shape = problem->args.out.shape;
  work work = {.args = &problem->args};
  /* Without elements and lse the extents bound no memory: their product could overflow. */
  if (shape[3] == 0 && problem->args.lse.dtype == FOVEA_NONE) return;
  work.rows = shape[0] * shape[1] * shape[2];
  work.tasks = (work.rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
  if (work.tasks > parallel.threads) work.tasks = parallel.threads;
  fv_parallel_run(parallel, work.tasks, merge_task, &work);
}
