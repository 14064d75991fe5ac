/* schedule_list.h - which work each CTA of a call on CUDA takes, where the host can read its lengths and
 * offsets: what attention_prepare finds out on the device, by the same rules (kernels/schedule.h). */
#ifndef FV_SCHEDULE_LIST_H
#define FV_SCHEDULE_LIST_H

#include <stdio.h>

#include "../kernels/schedule.h"
#include "plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_schedule_list {
  fv_placed_tile *tiles[FV_LINES];
  fv_placed_line lines[FV_LINES];
  int32_t heads, workers, chunked;
} fv_schedule_list;

/* For a plan that has a schedule. False: out of memory. */
bool fv_schedule_list_make(const fv_plan *plan, const fv_problem *problem, fv_schedule_list *list);
void fv_schedule_list_free(fv_schedule_list *list);

/* Prints a row for every segment of every CTA, and how evenly bytes and FLOPs are shared. */
void fv_schedule_list_print(FILE *to, const fv_plan *plan, const fv_problem *problem,
                            const fv_schedule_list *list);

#ifdef __cplusplus
}
#endif

#endif /* FV_SCHEDULE_LIST_H */
