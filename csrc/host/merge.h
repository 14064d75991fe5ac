/* merge.h - partial attention results over disjoint keys become one. */
#ifndef FV_MERGE_H
#define FV_MERGE_H

#include "csrc/host/parallel.h"
#include "csrc/problem.h"

/* The header's fovea_merge, for a problem that fv_check_merge has passed. */
void fv_merge_parts(const fv_merge_problem *problem, fv_parallel parallel);

#endif /* FV_MERGE_H */
