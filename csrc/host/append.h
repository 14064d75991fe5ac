/* append.h - writes new tokens into a KV cache. */
#ifndef FOVEA_CSRC_HOST_APPEND_H
#define FOVEA_CSRC_HOST_APPEND_H

#include "csrc/host/parallel.h"
#include "csrc/problem.h"

/* fovea_kv_append of the header, for a problem that fv_check_append has passed. If two tokens go to
 * one place, the later one wins. So the stored bits do not depend on `parallel`. */
void fv_append_tokens(const fv_append_problem *problem, fv_parallel parallel);

#endif /* FOVEA_CSRC_HOST_APPEND_H */
