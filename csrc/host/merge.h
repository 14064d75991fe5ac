/* merge.h - merges partials over disjoint keys into one result. */
#ifndef FOVEA_CSRC_HOST_MERGE_H
#define FOVEA_CSRC_HOST_MERGE_H

#include "csrc/host/parallel.h"
#include "csrc/problem.h"

/* fovea_merge of the header, for a problem that fv_check_merge has passed. */
void fv_merge_parts(const fv_merge_problem *problem, fv_parallel parallel);

#endif /* FOVEA_CSRC_HOST_MERGE_H */
