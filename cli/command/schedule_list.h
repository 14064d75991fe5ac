/* schedule_list.h - the work that each CTA of a CUDA call takes, for calls whose lengths and
 * offsets the host can read. attention_prepare finds the same on the device, by the same rules
 * (kernels/shared/schedule.h). */
#ifndef FOVEA_CLI_COMMAND_SCHEDULE_LIST_H
#define FOVEA_CLI_COMMAND_SCHEDULE_LIST_H

#include "csrc/plan.h"
#include "kernels/shared/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_schedule_list {
  fv_placed_tile *tiles[FV_LINES];
  fv_placed_line lines[FV_LINES];
  int32_t rows[FV_LINES]; /* the most rows that a tile of the line has */
  int32_t heads, workers, chunked;
} fv_schedule_list;

/* For a plan that has a schedule. False: out of memory. */
bool fv_schedule_list_make(const fv_plan *plan, const fv_problem *problem, fv_schedule_list *list);
void fv_schedule_list_free(fv_schedule_list *list);

/* A line of it, in the form that kernels/shared/schedule.h searches. */
fv_schedule fv_schedule_list_line(const fv_schedule_list *list, int line);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_COMMAND_SCHEDULE_LIST_H */
