/* fuzz_check.h - what must hold after any input, beyond not crashing.
 *
 * Of an accepted file every tensor is readable, aligned and counted right, and the answers of the
 * file object agree. A refused file gives one clean line and no object. A target that only calls
 * the parser would miss an object with a wrong size. */
#ifndef FOVEA_TESTS_FUZZ_FUZZ_CHECK_H
#define FOVEA_TESTS_FUZZ_FUZZ_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/tensor_file.h"

#define DEMAND(condition)                                                       \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: demanded: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                  \
    }                                                                           \
  } while (0)

/* Reads every byte, so that the sanitizer sees a range that is not there. */
static inline uint8_t touch(const void *data, uint64_t bytes) {
  const volatile uint8_t *at = (const volatile uint8_t *)data;
  uint8_t mixed = 0;
  for (uint64_t i = 0; i < bytes; i++) mixed ^= at[i];
  return mixed;
}

static inline uint64_t check_tensor(const fv_tensor_file *file, const fv_file_tensor *tensor,
                                    size_t file_bytes) {
  DEMAND(fv_tensor_file_find(file, tensor->name) == tensor);
  DEMAND(tensor->rank <= FV_FILE_MAX_RANK);
  DEMAND(tensor->file_offset <= file_bytes && tensor->bytes <= file_bytes - tensor->file_offset);
  unsigned __int128 product = fv_file_dtype_bytes(tensor->dtype);
  for (uint32_t i = 0; i < FV_FILE_MAX_RANK; i++) {
    DEMAND(tensor->shape[i] >= 0 && tensor->shape[i] <= FV_FILE_MAX_DIM);
    DEMAND(i < tensor->rank || tensor->shape[i] == 1);
    product = product > UINT64_MAX ? product : product * (unsigned __int128)tensor->shape[i];
  }
  if (tensor->dtype == FV_FILE_DTYPE_UNKNOWN) {
    DEMAND(tensor->data == NULL && strlen(tensor->dtype_name) <= file_bytes);
    return tensor->bytes;
  }
  DEMAND(product == tensor->bytes);
  DEMAND(tensor->data != NULL && (uintptr_t)tensor->data % FV_FILE_DATA_ALIGNMENT == 0);
  (void)touch(tensor->data, tensor->bytes);
  return tensor->bytes;
}

static inline void check_line(const char *text) {
  size_t length = strlen(text);
  DEMAND(length > 0 && length < FV_FILE_ERROR_BYTES);
  for (size_t i = 0; i < length; i++) DEMAND((uint8_t)text[i] >= 0x20 && text[i] != 0x7f);
}

/* Checks the result and closes the file. Returns the sum of the tensors' bytes. */
static inline uint64_t check_result(fv_file_status status, fv_tensor_file *file,
                                    const fv_file_error *error, size_t file_bytes) {
  DEMAND(error->status == status);
  if (status != FV_FILE_OK) {
    DEMAND(file == NULL);
    DEMAND(error->offset == FV_FILE_NO_OFFSET || error->offset <= file_bytes);
    check_line(error->text);
    return 0;
  }
  DEMAND(file != NULL && error->text[0] == '\0');
  uint64_t total = 0;
  for (size_t i = 0; i < fv_tensor_file_count(file); i++) {
    total += check_tensor(file, fv_tensor_file_at(file, i), file_bytes);
  }
  for (size_t i = 0; i < fv_tensor_file_metadata_count(file); i++) {
    const fv_file_metadata *pair = fv_tensor_file_metadata_at(file, i);
    DEMAND(fv_tensor_file_metadata(file, pair->key) == pair->value);
    DEMAND(strlen(pair->value) <= file_bytes);
  }
  fv_tensor_file_close(file);
  return total;
}

#endif /* FOVEA_TESTS_FUZZ_FUZZ_CHECK_H */
