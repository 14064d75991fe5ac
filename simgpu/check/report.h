/* report.h - what the checks found. A report is one kind of mistake at one place of a kernel, with
 * the number of times it happened; the details are those of the first time. */
#ifndef FOVEA_SIMGPU_CHECK_REPORT_H
#define FOVEA_SIMGPU_CHECK_REPORT_H

#include "simgpu/sched/machine.h"

#define SIM_REPORT_KINDS(X)              \
  X(OUT_OF_BOUNDS, "out-of-bounds")      \
  X(USE_AFTER_FREE, "use-after-free")    \
  X(UNINITIALISED, "uninitialised-read") \
  X(MISALIGNED, "misaligned")            \
  X(SHARED_RACE, "shared-race")          \
  X(GLOBAL_RACE, "global-race")          \
  X(IN_FLIGHT, "in-flight")              \
  X(BARRIER, "barrier")                  \
  X(DIVERGENCE, "divergence")            \
  X(EARLY_DEPENDENT, "early-dependent")  \
  X(DEADLOCK, "deadlock")                \
  X(LEFT_BEHIND, "left-behind")          \
  X(TRAP, "trap")

enum sim_report_kind {
#define SIM_REPORT_KIND(name, text) SIM_REPORT_##name,
  SIM_REPORT_KINDS(SIM_REPORT_KIND)
#undef SIM_REPORT_KIND
};

/* Where a mistake happened: filled in by the caller, read during the call. */
struct sim_report_place {
  struct sim_cta *cta;
  const struct sim_warp *warp; /* may be NULL */
  const struct sim_inst *inst;
  u32 lanes;
  u64 address;
};

/* Adds a report, or counts one more of a known one, and marks the launch as failed. */
void sim_report(enum sim_report_kind kind, const struct sim_report_place *place, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
/* The same for one lane's access. */
void sim_report_access(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                       enum sim_report_kind kind, const char *text);
u32 sim_report_count(void);
void sim_report_forget(void);
/* Writes all reports to the file that FOVEA_SIMGPU_REPORT names, if it names one. */
void sim_report_write(void);
/* A message that belongs to no instruction: a module that does not load. */
void sim_report_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* FOVEA_SIMGPU_CHECK_REPORT_H */
