/* progress.c - see progress.h. */
#include "cli/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Work that ends sooner needs no line; a line that changes more often cannot be read. */
static const double first_seconds = 0.5, between_seconds = 0.1;

double fv_seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void fv_progress_start(fv_progress *progress, const char *what) {
  *progress = (fv_progress){.what = what, .visible = isatty(STDERR_FILENO)};
  progress->next = fv_seconds_now() + first_seconds;
}

void fv_progress_step(fv_progress *progress, int64_t done, int64_t total) {
  if (!progress->visible) return;
  double now = fv_seconds_now();
  if (now < progress->next) return;
  progress->next = now + between_seconds;
  progress->drawn = true;
  fprintf(stderr, "\r%s: %lld of %lld rows (%d %%) ", progress->what, (long long)done,
          (long long)total, total ? (int)(100.0 * (double)done / (double)total) : 100);
}

void fv_progress_finish(fv_progress *progress) {
  if (progress->drawn) fputs("\r\033[K", stderr);
  progress->drawn = false;
}
