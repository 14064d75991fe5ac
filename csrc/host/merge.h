/* merge.h - merges partials over disjoint keys into one result. */
#ifndef FV_MERGE_H
#define FV_MERGE_H

#include "csrc/host/parallel.h"
#include "csrc/problem.h"

/* fovea_merge of the header, for a problem that fv_check_merge has passed. */
void fv_merge_parts(const fv_merge_problem *problem, fv_parallel parallel);

#endif /* FV_MERGE_H */
