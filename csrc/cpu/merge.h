/* merge.h - partial attention results over disjoint keys become one, on the CPU. */
#ifndef FV_MERGE_H
#define FV_MERGE_H

#include "../problem.h"
#include "parallel.h"

/* The header's fovea_merge, for a problem that fv_check_merge has passed. */
void fv_cpu_merge(const fv_merge_problem *problem, fv_parallel parallel);

#endif /* FV_MERGE_H */
