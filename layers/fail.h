/* fail.h - how a call of the layers refuses: one text per thread, from condition and values. */
#ifndef FOVEA_LAYERS_FAIL_H
#define FOVEA_LAYERS_FAIL_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Stores the detail and returns the status. */
fovea_status fv_layers_fail(fovea_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A call of the engine failed: its detail, after the words that say what the layer was doing. */
fovea_status fv_layers_fail_as(fovea_status status, const char *doing);

/* The same, with the engine's word `from` replaced by the layer's. */
fovea_status fv_layers_fail_renamed(fovea_status status, const char *doing, const char *from,
                                    const char *to);

/* Copies a struct of arguments of any release, zero-extended. `first` is its first release's size.
 */
fovea_status fv_layers_copy_args(void *copy, size_t bytes, size_t first, const void *args,
                                 const char *type);

/* The handle must be there, and of the CPU. */
fovea_status fv_layers_check_handle(const fovea_handle *handle);

fovea_status fv_layers_check_workspace(const void *workspace, size_t given, size_t needed);

#define FV_LAYERS_COPY(to, from, type, last)                                                    \
  fv_layers_copy_args(to, sizeof(type), offsetof(type, last) + sizeof(((type *)0)->last), from, \
                      #type)

/* `field op bound` must hold. Text and condition are the same tokens; "args->" is left out. */
#define FV_LAYERS_REQUIRE(owner, field, op, bound)                               \
  do {                                                                           \
    const long long fv_left = (long long)(field), fv_right = (long long)(bound); \
    if (!(fv_left op fv_right))                                                  \
      return fv_layers_refuse(owner, #field, #op, #bound, fv_left, fv_right);    \
  } while (0)

fovea_status fv_layers_refuse(const char *owner, const char *field, const char *op,
                              const char *bound, long long left, long long right);

#define FV_LAYERS_TRY(call)                    \
  do {                                         \
    const fovea_status fv_tried = (call);      \
    if (fv_tried != FOVEA_OK) return fv_tried; \
  } while (0)

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_FAIL_H */
