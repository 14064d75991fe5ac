/* append.h - new tokens into a key/value cache, on the CPU. */
#ifndef FV_APPEND_H
#define FV_APPEND_H

#include "../problem.h"
#include "parallel.h"

/* The header's fovea_kv_append, for a problem that fv_check_append has passed. The bits stored do
 * not depend on parallel: where two tokens go to one place, the later one wins. */
void fv_cpu_append(const fv_append_problem *problem, fv_parallel parallel);

#endif /* FV_APPEND_H */
