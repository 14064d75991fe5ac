/* session.c - see session.h. */
#include "bench/measure/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure/check.h"
#include "bench/measure/machine.h"
#include "bench/measure/peak.h"
#include "bench/measure/rounds.h"

enum { CONTESTANTS_MAX = 8 };

/* A problem under way. The first contestant's result is kept, to judge the others. */
typedef struct trial {
  const fv_bench_session *session;
  fv_bench_tensors tensors; /* in host memory */
  fv_bench_tensors placed;  /* where the contestants find them: the same, or copies */
  void *expected;
  size_t out_bytes;
  fv_bench_contestant contestants[CONTESTANTS_MAX];
  const fv_bench_pipeline *pipelines[CONTESTANTS_MAX]; /* NULL: measures the machine */
  int count;
  fv_bench_peak peak;
  fv_bench_read read;
} trial;

static const char *device_of(const trial *at) {
  const fv_bench_place *place = at->session->machine->place;
  return place ? place->device : "cpu";
}

static fv_bench_row_key key_of(const trial *at, const char *device, const char *pipeline) {
  fv_bench_row_key key = {.problem = at->tensors.problem};
  snprintf(key.device, sizeof key.device, "%s", device);
  snprintf(key.pipeline, sizeof key.pipeline, "%s", pipeline);
  return key;
}

static bool complain(const trial *at, const char *pipeline, const char *what) {
  char name[FV_BENCH_NAME];
  fv_bench_row_key key = key_of(at, device_of(at), pipeline);
  fv_bench_row_name(&key, name);
  fprintf(stderr, "fovea-bench: %s: %s\n", name, what);
  return false;
}

/* ---- The check ---- */

static bool keep_result(trial *at) {
  at->expected = malloc(at->out_bytes);
  if (!at->expected) return complain(at, "fovea", "out of memory");
  memcpy(at->expected, at->tensors.out, at->out_bytes);
  return true;
}

static bool compare_result(trial *at, const fv_bench_pipeline *pipeline) {
  char text[200];
  const fv_bench_problem *problem = &at->tensors.problem;
  if (at->session->break_naive) {
    memset((char *)at->tensors.out + at->out_bytes / 2, 0x3f, 4); /* 0.747 in f32 and bf16 */
  }
  double apart =
      fv_bench_distance(at->expected, at->tensors.out, at->tensors.q_count, problem->dtype);
  double allowed = fv_bench_allowance(problem);
  if (pipeline->narrow_scores) allowed += fv_bench_score_allowance(problem);
  allowed += fv_bench_largest_rounding(pipeline->step);
  double typical =
      fv_bench_typical_distance(at->expected, at->tensors.out, at->tensors.q_count, problem->dtype);
  double typical_allowed =
      fv_bench_typical_allowance(problem) + fv_bench_typical_rounding(pipeline->step);
  if (apart <= allowed && typical <= typical_allowed) return true;
  snprintf(text, sizeof text,
           "its result differs from fovea's by %.3g, and %.3g is allowed (typically by %.3g of its "
           "size, allowed %.3g); nothing is timed",
           apart, allowed, typical, typical_allowed);
  return complain(at, pipeline->name, text);
}

/* ---- The contestants ---- */

static fv_bench_contestant *add(trial *at, const char *name, bool (*run)(void *), void *state) {
  fv_bench_contestant *contestant = &at->contestants[at->count++];
  *contestant = (fv_bench_contestant){.pipeline = name, .run = run, .state = state};
  return contestant;
}

static bool is_too_large(trial *at, const fv_bench_pipeline *pipeline) {
  char why[128];
  double scratch = pipeline->scratch_bytes(at->session->machine, &at->tensors.problem);
  if (scratch <= at->session->largest_bytes) return false;
  snprintf(why, sizeof why, "skipped: it needs %.1f GiB besides the tensors, more than %.1f GiB",
           scratch / 1073741824.0, at->session->largest_bytes / 1073741824.0);
  fv_bench_row_key key = key_of(at, pipeline->device, pipeline->name);
  fv_bench_json_skipped(at->session->json, &key, why);
  complain(at, pipeline->name, why);
  return true;
}

/* Runs a contestant once with an out that is all NaN, so that a row that is not written is noticed.
 */
static bool run_to_check(trial *at, fv_bench_contestant *contestant) {
  const fv_bench_place *place = at->session->machine->place;
  memset(at->tensors.out, 0xff, at->out_bytes);
  if (place && !place->copy_out(place, &at->tensors, &at->placed, false)) return false;
  if (!contestant->run(contestant->state)) return false;
  return !place || place->copy_out(place, &at->tensors, &at->placed, true);
}

/* Opens a pipeline and runs it once. That run is its warm-up, its check, and the measurement of its
 * memory: it is the first to touch each page of scratch. */
static bool enter(trial *at, const fv_bench_pipeline *pipeline) {
  bool measured = fv_bench_resident_reset_peak();
  double before = fv_bench_resident_bytes();
  const fv_bench_machine *machine = at->session->machine;
  void *state = pipeline->open(machine, &at->placed);
  if (!state) return complain(at, pipeline->name, "out of memory");
  fv_bench_contestant *contestant = add(at, pipeline->name, pipeline->run, state);
  at->pipelines[at->count - 1] = pipeline;
  contestant->flops = fv_bench_flops(&at->tensors.problem);
  contestant->bytes = fv_bench_kv_bytes(&at->tensors.problem);
  if (!run_to_check(at, contestant)) return false;
  if (measured) contestant->peak_bytes = fv_bench_resident_peak_bytes() - before;
  if (machine->place) {
    contestant->peak_bytes = pipeline->scratch_bytes(machine, &at->tensors.problem);
  }
  return at->count == 1 ? keep_result(at) : compare_result(at, pipeline);
}

static bool enter_pipelines(trial *at) {
  const fv_bench_place *place = at->session->machine->place;
  const fv_bench_pipeline *pipeline;
  for (int i = 0; (pipeline = place ? place->pipelines[i] : fv_bench_pipeline_at(i)); ++i) {
    if (pipeline->covers && !pipeline->covers(&at->tensors.problem)) continue;
    if (!is_too_large(at, pipeline) && !enter(at, pipeline)) return false;
  }
  return true;
}

static bool enter_machine(trial *at) {
  const fv_bench_machine *machine = at->session->machine;
  const fv_bench_place *place = machine->place;
  if (place) {
    int added = place->measures(place, &at->placed, &at->contestants[at->count]);
    at->count += added > 0 ? added : 0;
    return added >= 0;
  }
  fovea_info info = {.struct_size = sizeof info};
  fovea_get_info(machine->handle, &info);
  fv_bench_peak_open(&at->peak, machine->pool, info.isa);
  add(at, "peak", fv_bench_peak_run, &at->peak)->flops = at->peak.flops;
  if (!fv_bench_is_decoding(&at->tensors.problem)) return true;
  at->read = (fv_bench_read){machine->pool, &at->tensors};
  add(at, "read", fv_bench_read_run, &at->read)->bytes = fv_bench_tensors_kv_bytes(&at->tensors);
  return true;
}

/* ---- The trial ---- */

static void flush_tensors(void *tensors) {
  fv_bench_tensors_flush(tensors);
}

static void report(trial *at) {
  for (int i = 0; i < at->count; ++i) {
    fv_bench_row_key key = key_of(at, device_of(at), at->contestants[i].pipeline);
    fv_bench_json_row(at->session->json, &key, &at->contestants[i], at->session->repetitions);
  }
}

/* OpenBLAS's own threads, which layers use, yield for 2^26 cycles before they sleep. */
static const double blas_settle_seconds = 0.05;

static bool measure(trial *at) {
  fv_bench_timing timing = {.repetitions = at->session->repetitions,
                            .least_seconds = at->session->least_seconds,
                            .flush = at->tensors.problem.cold ? flush_tensors : NULL,
                            .flush_context = &at->tensors};
  fv_bench_place *place = at->session->machine->place;
  if (fv_bench_is_layer(&at->tensors.problem)) timing.settle_seconds = blas_settle_seconds;
  if (place) {
    timing.measure = place->measure;
    timing.measure_context = timing.flush_context = place;
    timing.flush = timing.flush ? place->flush : NULL;
  }
  if (!fv_bench_rounds(at->contestants, at->count, &timing)) return false;
  report(at);
  return true;
}

static void leave(trial *at) {
  for (int i = 0; i < at->count; ++i) {
    if (at->pipelines[i]) at->pipelines[i]->close(at->contestants[i].state);
  }
  free(at->expected);
  const fv_bench_place *place = at->session->machine->place;
  if (place) place->release(place, &at->placed);
  fv_bench_tensors_free(&at->tensors);
}

static bool bring_tensors(trial *at) {
  const fv_bench_place *place = at->session->machine->place;
  if (place) return place->bring(place, &at->tensors, &at->placed);
  at->placed = at->tensors;
  return true;
}

bool fv_bench_session_run(const fv_bench_session *session, const fv_bench_problem *problem) {
  trial at = {.session = session};
  if (!fv_bench_tensors_make(&at.tensors, problem, session->machine->pool)) {
    at.tensors.problem = *problem;
    return complain(&at, "fovea", "out of memory for its tensors");
  }
  at.out_bytes = (size_t)(at.tensors.q_count * fv_bench_dtype_bytes(problem->dtype));
  bool done = bring_tensors(&at) && enter_pipelines(&at) && enter_machine(&at) && measure(&at);
  leave(&at);
  return done;
}
