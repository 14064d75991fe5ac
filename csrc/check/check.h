/* check.h - the header's rules, in the header's order. A check needs no device, allocates nothing
 * and changes nothing except the error detail. */
#ifndef FOVEA_CSRC_CHECK_CHECK_H
#define FOVEA_CSRC_CHECK_CHECK_H

#include "csrc/problem.h"
#include "csrc/status.h"

#ifdef __cplusplus
extern "C" {
#endif

fovea_status fv_check_attention(const fovea_attention_args *args, fv_problem *problem);
fovea_status fv_check_weights(const fovea_weights_args *args, fv_weights_problem *problem);
fovea_status fv_check_merge(const fovea_merge_args *args, fv_merge_problem *problem);
fovea_status fv_check_append(const fovea_kv_append_args *args, fv_append_problem *problem);

/* The rules of support and explain: the same, except that addresses are not checked. */
fovea_status fv_check_attention_shape(const fovea_attention_args *args, fv_problem *problem);
fovea_status fv_check_weights_shape(const fovea_weights_args *args, fv_weights_problem *problem);
fovea_status fv_check_merge_shape(const fovea_merge_args *args, fv_merge_problem *problem);
fovea_status fv_check_append_shape(const fovea_kv_append_args *args, fv_append_problem *problem);

fovea_status fv_check_limits(const fovea_limits *limits, fovea_limits *copy);
fovea_status fv_check_options(const fovea_options *options, fovea_options *copy);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CHECK_CHECK_H */
