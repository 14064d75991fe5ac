/* launch.h - starts what was planned, on the device of the handle. */
#ifndef FV_LAUNCH_H
#define FV_LAUNCH_H

#include "handle.h"

fovea_status fv_launch_attention(fovea_handle *handle, const fv_plan *plan,
                                 const fv_problem *problem, fovea_stream stream);
fovea_status fv_launch_weights(fovea_handle *handle, const fv_weights_problem *problem,
                               fovea_stream stream);
fovea_status fv_launch_merge(fovea_handle *handle, const fv_merge_problem *problem,
                             fovea_stream stream);
fovea_status fv_launch_append(fovea_handle *handle, const fv_append_problem *problem,
                              fovea_stream stream);

#endif /* FV_LAUNCH_H */
