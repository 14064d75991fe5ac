/* parallel.h - how a CPU kernel spreads its tasks: over the handle's threads or the caller's own.
 *
 * Tasks run in the default floating-point environment, whatever the environment of their thread is.
 * Programs that do signal processing switch flush-to-zero on, and threads inherit it. The bits of a
 * result would then depend on the thread that computes it. Switching costs about a hundred cycles
 * per task, so divide work into tasks of some microseconds at least. */
#ifndef FOVEA_CSRC_HOST_PARALLEL_H
#define FOVEA_CSRC_HOST_PARALLEL_H

#include <fenv.h>

#include <fovea.h>

typedef struct fv_parallel {
  fovea_parallel_for run;
  void *user;
  int32_t threads; /* tasks that are worth making of the work; 1: run is never called */
} fv_parallel;

typedef struct fv_parallel_job {
  fovea_task task;
  void *context;
} fv_parallel_job;

/* The fovea_task that `run` sees. */
static inline void fv_parallel_task(void *context, int64_t index) {
  const fv_parallel_job *job = (const fv_parallel_job *)context;
  fenv_t saved;
  fegetenv(&saved);
  fesetenv(FE_DFL_ENV);
  job->task(job->context, index);
  fesetenv(&saved);
}

/* Runs task(context, i) for every i in [0, count) and returns when all are done. */
static inline void fv_parallel_run(fv_parallel parallel, int64_t count, fovea_task task,
                                   void *context) {
  fv_parallel_job job = {task, context};
  if (parallel.run && parallel.threads > 1 && count > 1) {
    parallel.run(parallel.user, count, fv_parallel_task, &job);
    return;
  }
  for (int64_t i = 0; i < count; ++i) fv_parallel_task(&job, i);
}

#endif /* FOVEA_CSRC_HOST_PARALLEL_H */
