/* npy_writer.c - writes one tensor as an .npy file of version 1.0, completely or not at all
 * (files/atomic_file.h).
 *
 * Layout: "\x93NUMPY", the version 1 0, a u16 length, and that many bytes of a Python dictionary.
 * Spaces and a newline bring it to a multiple of 64, so that the data behind it are aligned. */
#include <stdio.h>
#include <string.h>

#include "cli/files/atomic_file.h"
#include "cli/files/readers.h"

/* Up to 8 dims of 15 digits with their commas, and 55 bytes around them: below 256 with the prefix.
 */
enum { PREFIX_BYTES = 10, HEADER_BYTES = 256, HEADER_ALIGNMENT = 64 };

static const char *descr_of(fv_file_dtype dtype) {
  static const char *const descrs[] = {NULL,
#define DESCR(name, bytes, descr) descr,
                                       FV_FILE_DTYPE_LIST(DESCR)
#undef DESCR
  };
  return descrs[dtype];
}

bool fv_npy_has(fv_file_dtype dtype) {
  return descr_of(dtype) != NULL;
}

/* Returns the length. A tuple of one needs a comma. */
static size_t make_header(const fv_file_tensor *tensor, uint8_t header[HEADER_BYTES]) {
  char *text = (char *)header;
  size_t used = PREFIX_BYTES;
  used += (size_t)snprintf(text + used, HEADER_BYTES - used,
                           "{'descr': '%s', 'fortran_order': False, 'shape': (",
                           descr_of(tensor->dtype));
  for (uint32_t d = 0; d < tensor->rank; d++) {
    used += (size_t)snprintf(text + used, HEADER_BYTES - used, d ? ", %lld" : "%lld",
                             (long long)tensor->shape[d]);
  }
  used +=
      (size_t)snprintf(text + used, HEADER_BYTES - used, "%s), }", tensor->rank == 1 ? "," : "");
  while ((used + 1) % HEADER_ALIGNMENT != 0) text[used++] = ' ';
  text[used++] = '\n';
  memcpy(header, FV_NPY_SIGNATURE "\x01\x00", 8);
  header[8] = (uint8_t)((used - PREFIX_BYTES) & 0xff);
  header[9] = (uint8_t)((used - PREFIX_BYTES) >> 8);
  return used;
}

fv_file_status fv_npy_write(const char *path, const fv_file_tensor *tensor, fv_file_error *error) {
  if (error != NULL) *error = (fv_file_error){FV_FILE_OK, FV_FILE_NO_OFFSET, ""};
  uint8_t header[HEADER_BYTES];
  uint64_t bytes;
  if (!fv_npy_has(tensor->dtype)) {
    return fv_file_fail(path, error, FV_FILE_BAD_ARGUMENT, FV_FILE_NO_OFFSET,
                        ".npy has no type for %s; write .safetensors",
                        fv_file_dtype_name(tensor->dtype));
  }
  if (tensor->rank > FV_FILE_MAX_RANK ||
      !fv_shape_bytes(tensor->shape, tensor->rank, fv_file_dtype_bytes(tensor->dtype), &bytes) ||
      bytes != tensor->bytes) {
    return fv_file_fail(path, error, FV_FILE_BAD_ARGUMENT, FV_FILE_NO_OFFSET,
                        "the tensor's bytes are not the product of its shape");
  }
  fv_file_piece pieces[2] = {{header, make_header(tensor, header)}, {tensor->data, tensor->bytes}};
  return fv_atomic_file_write(path, pieces, 2, error);
}
