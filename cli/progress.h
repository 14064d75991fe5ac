/* progress.h - one line on stderr that says how far the work has come. */
#ifndef FOVEA_CLI_PROGRESS_H
#define FOVEA_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_progress {
  const char *what; /* "checking" */
  bool visible;     /* stderr is a terminal */
  bool drawn;
  double next; /* when to draw again, in seconds */
} fv_progress;

/* The line appears after half a second, and only on a terminal. */
void fv_progress_start(fv_progress *progress, const char *what);
void fv_progress_step(fv_progress *progress, int64_t done, int64_t total);
void fv_progress_finish(fv_progress *progress); /* erases it */

/* Seconds of the monotonic clock. */
double fv_seconds_now(void);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_PROGRESS_H */
