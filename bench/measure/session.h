/* session.h - one problem: makes its tensors, checks the contestants, times them, reports. */
#ifndef FOVEA_BENCH_MEASURE_SESSION_H
#define FOVEA_BENCH_MEASURE_SESSION_H

#include "bench/pipelines/pipeline.h"
#include "bench/report/json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_bench_session {
  const fv_bench_machine *machine;
  fv_bench_json *json;
  int repetitions;
  double least_seconds; /* of a sample in a warm cache */
  double largest_bytes; /* a pipeline that needs more scratch is skipped */
  bool break_naive;     /* a check of the check: spoils one number of the naive result */
} fv_bench_session;

/* False: the contestants disagree or one failed; the reason is on stderr. */
bool fv_bench_session_run(const fv_bench_session *session, const fv_bench_problem *problem);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_SESSION_H */
