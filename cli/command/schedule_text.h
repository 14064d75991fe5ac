/* schedule_text.h - what each CTA of a call on CUDA does, as text. */
#ifndef FOVEA_CLI_COMMAND_SCHEDULE_TEXT_H
#define FOVEA_CLI_COMMAND_SCHEDULE_TEXT_H

#include <stdio.h>

#include "cli/command/schedule_list.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Prints a row for every work tile of every CTA, and how evenly bytes and FLOPs are shared. */
void fv_schedule_print(FILE *to, const fv_plan *plan, const fv_problem *problem,
                       const fv_schedule_list *list);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_COMMAND_SCHEDULE_TEXT_H */
