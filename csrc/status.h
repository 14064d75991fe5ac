/* status.h - how the library reports failure: one function, one text per thread.
 *
 * A failing function says `return fv_fail(FOVEA_BAD_ARGUMENT, "...", ...)`. The exported call
 * copies the text to the caller's own buffer, if there is one (fv_publish_detail). */
#ifndef FOVEA_CSRC_STATUS_H
#define FOVEA_CSRC_STATUS_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Stores the text for fovea_error_detail() and returns status. */
fovea_status fv_fail(fovea_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Copies the thread's detail to the caller's buffer on failure; returns status unchanged. */
fovea_status fv_publish_detail(fovea_status status, char *detail, size_t detail_bytes);

/* Returns the status of `call` if it failed. */
#define FV_TRY(call)                                     \
  do {                                                   \
    fovea_status fv_try_status = (call);                 \
    if (fv_try_status != FOVEA_OK) return fv_try_status; \
  } while (0)

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_STATUS_H */
