/* plan.c - see plan.h. */
#include "plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "cpu/tile_scratch.h"
#include "status.h"

static const fv_kernel kernels[] = {
#define FV_HOST_ROW(name, device, isa, tile_q, tile_kv) \
  {#name, FOVEA_DEVICE_##device, FV_ISA_##isa, tile_q, tile_kv},
#include "attention.def"
#undef FV_HOST_ROW
};

enum { KERNEL_COUNT = sizeof kernels / sizeof kernels[0] };

const fv_kernel *fv_kernel_at(int32_t index) {
  return index >= 0 && index < KERNEL_COUNT ? &kernels[index] : NULL;
}

const char *fv_isa_name(fv_isa isa) {
  if (isa == FV_ISA_AVX512) return "avx512";
  return isa == FV_ISA_AVX2 ? "avx2" : "portable";
}

/* The first row that the device can run: rows are ordered best first. */
static const fv_kernel *choose_kernel(const fv_facts *facts) {
  for (int i = 0; i < KERNEL_COUNT; ++i) {
    if (kernels[i].device == facts->device && kernels[i].isa <= facts->isa) return &kernels[i];
  }
  return NULL;
}

static void explain_choice(const fv_facts *facts, const fv_problem *problem, fv_plan *plan) {
  const char *isa = fv_isa_name(facts->isa);
  if (facts->device == FOVEA_DEVICE_REFERENCE) {
    snprintf(plan->reason, sizeof plan->reason,
             "the reference device was asked for: double precision, every feature");
  } else if (problem->args.reproducible == FOVEA_REPRODUCIBLE_PHASE) {
    snprintf(plan->reason, sizeof plan->reason,
             "covers every dtype, shape and mask; instruction set %s; phase: few rows are packed "
             "as tiles, 1.5 to 3 times slower than streamed",
             isa);
  } else {
    snprintf(plan->reason, sizeof plan->reason,
             "covers every dtype, shape and mask; instruction set %s", isa);
  }
}

/* Tiles never cross a sequence or a kv head. A packed batch can leave one ragged tile per
 * sequence; the sum over sequences of ceil(rows_s / tile) is at most this. */
static int64_t tiles_bound(const fv_problem *problem, int32_t tile_q) {
  int64_t sequences = problem->q_packed ? 1 : problem->sequences;
  int64_t ragged = problem->q_packed ? problem->sequences : 0;
  __int128 rows = (__int128)problem->rows * problem->group;
  __int128 tiles = ((rows + tile_q - 1) / tile_q * sequences + ragged) * problem->heads_kv;
  return tiles > INT64_MAX ? INT64_MAX : (int64_t)tiles;
}

/* rows, at least one panel of them and at most a tile. */
static int32_t tile_of_rows(const fv_kernel *kernel, __int128 rows) {
  __int128 panels = (rows + FV_PANEL_ROWS_MOST - 1) / FV_PANEL_ROWS_MOST;
  __int128 tile = (panels > 0 ? panels : 1) * FV_PANEL_ROWS_MOST;
  return tile < kernel->tile_q ? (int32_t)tile : kernel->tile_q;
}

/* Of many rows there are this many in a tile at least: a twelfth of 576, the tile of all CPU kernels. */
enum { TILE_Q_LEAST = 48 };

/* The largest tile that still gives every thread some pieces to even out: keys are packed once per
 * tile. Each candidate is a multiple of FV_PANEL_ROWS_MOST. */
static int32_t choose_tile_q(const fv_facts *facts, const fv_kernel *kernel,
                             const fv_problem *problem) {
  static const int32_t parts[] = {1, 2, 3, 6, 12}; /* tile_q / 12 is TILE_Q_LEAST */
  __int128 rows = (__int128)problem->rows * problem->group;
  int64_t sequences = problem->q_packed ? 1 : problem->sequences;
  if (kernel->device != FOVEA_DEVICE_CPU) return kernel->tile_q;
  for (int i = 0; i < 5; ++i) {
    int32_t tile_q = kernel->tile_q / parts[i];
    __int128 tiles = (rows + tile_q - 1) / tile_q * sequences * problem->heads_kv;
    if (facts->threads == 1 || tiles >= 4 * (__int128)facts->threads || i == 4) {
      return tile_q < tile_of_rows(kernel, rows) ? tile_q : tile_of_rows(kernel, rows);
    }
  }
  return kernel->tile_q;
}

static void size_scratch(const fv_problem *problem, fv_plan *plan) {
  plan->tile_kv = plan->kernel->tile_kv;
  plan->scratch_bytes = 0;
  if (plan->kernel->device != FOVEA_DEVICE_CPU) return;
  plan->tile_kv = fv_class_tile(fv_dim_class(problem->dim, problem->dim_v));
  plan->scratch_bytes =
      fv_tile_scratch_bytes(plan->tile_q, plan->tile_kv, problem->dim, problem->dim_v);
}

/* What a call can consist of, at most, whatever its lengths are. */
typedef struct work_bound {
  __int128 rows;    /* of all sequences and query heads */
  __int128 streams; /* of keys: sequences with rows, times kv heads */
  __int128 tiles;   /* of query rows; streams that are not cut count as tiles */
} work_bound;

static __int128 least(__int128 a, __int128 b) {
  return a < b ? a : b;
}

static work_bound work_of_problem(const fv_problem *problem, int64_t tiles) {
  __int128 total = (__int128)problem->rows * (problem->q_packed ? 1 : problem->sequences);
  work_bound work = {.rows = total * problem->heads_q};
  work.streams = least(problem->sequences, total) * problem->heads_kv;
  work.tiles = least(tiles, work.rows);
  return work;
}

/* Of all problems within the limits. Where a tile has fewer rows than TILE_Q_LEAST it holds all that
 * its sequence and kv head have. */
static work_bound work_of_limits(const fovea_limits *limits) {
  work_bound work = {.rows = (__int128)limits->total_q * limits->heads_q};
  __int128 ragged = ((__int128)limits->sequences + 1) * limits->heads_kv;
  work.streams = least(limits->sequences, limits->total_q) * limits->heads_kv;
  work.tiles = least((work.rows + TILE_Q_LEAST - 1) / TILE_Q_LEAST + ragged, work.rows);
  return work;
}

/* Room for cutting streams: how many of them, and how large a chunk's result is. No stream is cut
 * where there are FV_SPLIT_PIECES for every thread, or but one thread. */
typedef struct split_room {
  int64_t streams;
  size_t slot_bytes;
} split_room;

static split_room split_room_for(const fv_facts *facts, const work_bound *work, __int128 rows,
                                 int32_t dim_v) {
  int64_t most = facts->threads > 1 ? (int64_t)FV_SPLIT_PIECES * facts->threads - 1 : 0;
  int32_t stream_rows = (int32_t)least(rows, FV_STREAM_ROWS);
  return (split_room){(int64_t)least(work->streams, most), fv_slot_bytes(stream_rows, dim_v)};
}

static size_t split_bytes(split_room room) {
  return (size_t)room.streams * FV_STREAM_CHUNKS * room.slot_bytes;
}

/* No more threads than there can be pieces at a time: tiles, and in place of each stream that is cut
 * its chunks. */
static int32_t workers_for(const fv_facts *facts, const work_bound *work, int64_t streams_split) {
  __int128 pieces = work->tiles + (__int128)streams_split * (FV_STREAM_CHUNKS - 1);
  return (int32_t)least(facts->threads, pieces > 0 ? pieces : 1);
}

/* PHASE does without streams. A batch that is not packed has rows of one number, which is known. */
static void plan_streams(const fv_facts *facts, const fv_problem *problem, fv_plan *plan) {
  __int128 rows = (__int128)problem->rows * problem->group;
  work_bound work = work_of_problem(problem, plan->tiles_bound);
  bool none = plan->kernel->device != FOVEA_DEVICE_CPU ||
              problem->args.reproducible == FOVEA_REPRODUCIBLE_PHASE ||
              problem->group > FV_STREAM_ROWS || (!problem->q_packed && rows > FV_STREAM_ROWS);
  split_room room = split_room_for(facts, &work, rows, problem->dim_v);
  plan->streams_split = none ? 0 : room.streams;
  plan->slot_bytes = room.slot_bytes;
  plan->workers = facts->threads;
  if (plan->kernel->device == FOVEA_DEVICE_CPU) {
    plan->workers = workers_for(facts, &work, plan->streams_split);
  }
  plan->workspace_bytes = plan->scratch_bytes * (size_t)plan->workers;
  if (!none) plan->workspace_bytes += split_bytes(room);
}

fovea_status fv_plan_attention(const fv_facts *facts, const fv_problem *problem, fv_plan *plan) {
  const fv_kernel *kernel = choose_kernel(facts);
  if (!kernel) return fv_fail(FOVEA_UNSUPPORTED, "this build has no kernel for the device");
  plan->kernel = kernel;
  plan->schedule = (fv_plan_schedule){0};
  plan->tile_q = choose_tile_q(facts, kernel, problem);
  plan->tiles_bound = tiles_bound(problem, plan->tile_q);
  size_scratch(problem, plan);
  plan_streams(facts, problem, plan);
  explain_choice(facts, problem, plan);
  return FOVEA_OK;
}

size_t fv_plan_workspace(const fv_facts *facts, const fovea_limits *limits) {
  const fv_kernel *kernel = choose_kernel(facts);
  if (!kernel || kernel->device != FOVEA_DEVICE_CPU) return 0;
  /* All query heads may share one kv head, so that a tile may hold all rows that there are. */
  work_bound work = work_of_limits(limits);
  split_room room = split_room_for(facts, &work, work.rows, limits->dim_v);
  size_t scratch_bytes =
      fv_tile_scratch_bound(tile_of_rows(kernel, work.rows), limits->dim, limits->dim_v);
  return scratch_bytes * (size_t)workers_for(facts, &work, room.streams) + split_bytes(room);
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

static const char *dtype_name(uint32_t dtype) {
  static const char *const names[] = {"none", "f32", "f16", "bf16", "e4m3", "e5m2", "i8", "u8"};
  return dtype < sizeof names / sizeof names[0] ? names[dtype] : "?";
}

static void print_features(printer *p, const fv_problem *problem) {
  const fovea_attention_args *a = &problem->args;
  print(p, "features    ");
  int start = p->length;
  if (problem->q_packed) print(p, " packed-q");
  if (problem->kv_packed) print(p, " packed-kv");
  if (problem->paged) print(p, a->pages.offsets ? " paged-csr" : " paged");
  if (a->kv_lengths) print(p, " lengths");
  if (a->causal) print(p, " causal");
  if (problem->window_left >= 0) print(p, " window-left=%" PRId64, problem->window_left);
  if (problem->window_right >= 0) print(p, " window-right=%" PRId64, problem->window_right);
  if (a->q_position) {
    print(p, " q-position");
  } else if (a->alignment == FOVEA_ALIGN_TOP_LEFT) {
    print(p, " top-left");
  }
  if (a->kv_first) print(p, " kv-first");
  if (a->kv_position || problem->kv_position_stride != 1) print(p, " kv-position");
  if (a->prefix_lengths) print(p, " prefix");
  if (a->mask.dtype) print(p, " mask");
  if (a->tree.bits) print(p, " tree");
  if (a->bias.dtype) print(p, " bias");
  if (a->alibi_slopes) print(p, " alibi");
  if (a->sinks) print(p, " sinks");
  if (a->softcap > 0) print(p, " softcap=%g", (double)a->softcap);
  if (a->lse.dtype) print(p, " lse");
  print(p, "%s\n", p->length == start ? " none" : "");
}

static void print_schedule(printer *p, const fv_plan_schedule *schedule) {
  const struct fv_plan_line *wide = &schedule->lines[0], *narrow = &schedule->lines[1];
  print(p,
        "schedule     made on the device; places for %" PRId64 " wide and %" PRId64
        " narrow parts\n",
        wide->slots, narrow->slots);
  if (narrow->tiles) {
    print(p, "in flight    %" PRId64 " bytes of keys or values per multiprocessor, at least\n",
          schedule->bytes_in_flight);
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
  print(&p, "dtypes       q %s, k %s, v %s, out %s\n", dtype_name(a->q.dtype),
        dtype_name(a->k.dtype), dtype_name(a->v.dtype), dtype_name(a->out.dtype));
  print_features(&p, problem);
  print(&p, "tiles        %d rows x %d keys, at most %" PRId64 "\n", plan->tile_q, plan->tile_kv,
        plan->tiles_bound);
  if (plan->streams_split) {
    print(&p, "streams      %d rows or fewer; up to %" PRId64 " are cut into chunks\n",
          FV_STREAM_ROWS, plan->streams_split);
  }
  if (plan->schedule.on) print_schedule(&p, &plan->schedule);
  print(&p, "workers      %d\n", plan->workers);
  print(&p, "workspace    %zu bytes (%zu per worker)\n", plan->workspace_bytes,
        plan->scratch_bytes);
  return p.length;
}
