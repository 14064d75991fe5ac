/* plan.c - see plan.h. */
#include "csrc/plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "csrc/check/fields.h"
#include "csrc/dtype.h"

/* Each sequence of a packed batch can add one ragged tile: the sum over sequences of
 * ceil(rows_s / tile) is at most this. */
int64_t fv_plan_tiles_bound(const fv_problem *problem, int32_t tile_q) {
  int64_t sequences = problem->q_packed ? 1 : problem->sequences;
  int64_t ragged = problem->q_packed ? problem->sequences : 0;
  __int128 rows = (__int128)problem->rows * problem->group;
  __int128 tiles = ((rows + tile_q - 1) / tile_q * sequences + ragged) * problem->heads_kv;
  return tiles > INT64_MAX ? INT64_MAX : (int64_t)tiles;
}

/* ---- The plan as text ---- */

typedef struct printer {
  char *text;
  size_t capacity;
  int length; /* of the whole text, cut or not */
} printer;

static void print(printer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print(printer *p, const char *format, ...) {
  size_t used = (size_t)p->length < p->capacity ? (size_t)p->length : p->capacity;
  va_list values;
  va_start(values, format);
  p->length += vsnprintf(p->text + used, p->capacity - used, format, values);
  va_end(values);
}

/* The features of the call, as words of the plan: those of fields that are given, then those of
 * plain numbers. */
static void print_features(printer *p, const fv_problem *problem) {
  const fovea_attention_args *a = &problem->args;
  const fv_fields *fields = &fv_attention_fields;
  fovea_attention_args copy = *a;
  print(p, "features    ");
  int start = p->length;
  for (int i = 0; i < fields->array_count; ++i) {
    const fv_array_field *field = &fields->arrays[i];
    if (field->feature && *fv_array_at(&copy, field)) print(p, " %s", field->feature);
  }
  for (int i = 0; i < fields->tensor_count; ++i) {
    const fv_tensor_field *field = &fields->tensors[i];
    if (field->feature && fv_tensor_at(&copy, field)->dtype) print(p, " %s", field->feature);
  }
  if (a->visibility.causal) print(p, " causal");
  if (problem->window_left >= 0) print(p, " window-left=%" PRId64, problem->window_left);
  if (!a->visibility.causal && problem->window_right >= 0) {
    print(p, " window-right=%" PRId64, problem->window_right);
  }
  if (a->positions.alignment == FOVEA_ALIGN_TOP_LEFT && !a->positions.q) print(p, " top-left");
  if (a->sequences.pages.head_stride) print(p, " head-pages");
  if (a->positions.selected) print(p, " selected");
  if (problem->kv_position_stride != 1) print(p, " kv-stride=%d", problem->kv_position_stride);
  if (a->logits.softcap > 0) print(p, " softcap=%g", (double)a->logits.softcap);
  print(p, "%s\n", p->length == start ? " none" : "");
}

static void print_schedule(printer *p, const fv_cuda_plan *cuda) {
  const fv_cuda_line *wide = &cuda->lines[0], *narrow = &cuda->lines[1];
  print(p,
        "schedule     made on the device; places for %" PRId64 " wide and %" PRId64
        " narrow parts\n",
        wide->partials, narrow->partials);
  if (narrow->tiles) {
    print(p, "in flight    %" PRId64 " bytes of keys or values per multiprocessor, at least\n",
          cuda->bytes_in_flight);
  }
}

int fv_plan_print(const fv_plan *plan, const fv_problem *problem, char *text, size_t capacity) {
  const fovea_attention_args *a = &problem->args;
  printer p = {text, capacity, 0};
  if (capacity) text[0] = '\0';
  print(&p, "kernel       %s\n", plan->kernel->name);
  print(&p, "reason       %s\n", plan->reason);
  print(&p,
        "problem      sequences %" PRId64 ", rows %" PRId64 ", heads %d/%d, dim %d/%d, scale %g\n",
        problem->sequences, problem->rows, problem->heads_q, problem->heads_kv, problem->dim,
        problem->dim_v, (double)problem->scale);
  print(&p, "dtypes       q %s, k %s, v %s, out %s\n", fv_dtype_name(a->q.dtype),
        fv_dtype_name(a->k.dtype), fv_dtype_name(a->v.dtype), fv_dtype_name(a->out.dtype));
  print_features(&p, problem);
  print(&p, "tiles        %d rows x %d keys, at most %" PRId64 "\n", plan->tile_q, plan->tile_kv,
        plan->tiles_bound);
  if (plan->cpu.max_split_streams) {
    print(&p, "streams      %d rows or fewer; up to %" PRId64 " are cut into chunks\n",
          plan->cpu.stream_rows, plan->cpu.max_split_streams);
  }
  if (plan->cuda.scheduled) print_schedule(&p, &plan->cuda);
  print(&p, "workers      %d\n", plan->workers);
  print(&p, "workspace    %zu bytes", plan->workspace_bytes);
  if (plan->cpu.scratch_bytes) print(&p, " (%zu per worker)", plan->cpu.scratch_bytes);
  print(&p, "\n");
  return p.length;
}
