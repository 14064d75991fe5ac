/* append.h - new tokens into a key/value cache. */
#ifndef FV_APPEND_H
#define FV_APPEND_H

#include "csrc/host/parallel.h"
#include "csrc/problem.h"

/* The header's fovea_kv_append, for a problem that fv_check_append has passed. The bits stored do
 * not depend on parallel: where two tokens go to one place, the later one wins. */
void fv_append_tokens(const fv_append_problem *problem, fv_parallel parallel);

#endif /* FV_APPEND_H */
