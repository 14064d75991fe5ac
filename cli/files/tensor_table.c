/* tensor_table.c - see tensor_table.h. Two allocations make a file object. The tables have the size
 * of what was counted in the header; the data have the size of the checked ranges. */
#include "cli/files/tensor_table.h"

#include <stdlib.h>

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes of files are used as sizes of memory");

fv_file_status fv_fail_out_of_memory(const char *label, fv_file_error *error, uint64_t bytes,
                                     const char *what) {
  return fv_file_fail(label, error, FV_FILE_OUT_OF_MEMORY, FV_FILE_NO_OFFSET,
                      "out of memory: %llu bytes for %s; free some memory or use a smaller file",
                      (unsigned long long)bytes, what);
}

bool fv_shape_bytes(const int64_t *shape, uint32_t rank, uint32_t element_bytes, uint64_t *bytes) {
  int64_t extent = element_bytes;
  bool empty = false;
  for (uint32_t i = 0; i < rank; i++) {
    if (shape[i] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(extent, shape[i], &extent)) {
      return false;
    }
  }
  *bytes = empty ? 0 : (uint64_t)extent;
  return true;
}

fv_file_status fv_table_create(const fv_file_source *source, uint64_t tensor_count,
                               uint64_t metadata_count, char *text, fv_tensor_file **file,
                               fv_file_error *error) {
  /* Each row stands for at least 6 bytes of a header that was read: nothing here overflows. */
  uint64_t bytes = sizeof(fv_tensor_file) + tensor_count * sizeof(fv_file_tensor) +
                   metadata_count * sizeof(fv_file_metadata);
  /* One block: the object, then both arrays. All three consist of pointers and 64-bit integers. */
  fv_tensor_file *made = (fv_tensor_file *)calloc(1, (size_t)bytes);
  if (made == NULL) {
    return fv_fail_out_of_memory(source->label, error, bytes, "the list of its tensors");
  }
  made->tensors = (fv_file_tensor *)(made + 1);
  made->tensor_count = tensor_count;
  made->metadata = (fv_file_metadata *)(made->tensors + tensor_count);
  made->metadata_count = metadata_count;
  made->text = text;
  *file = made;
  return FV_FILE_OK;
}

/* Bytes that a tensor takes up in `data`; even an empty one gets an address of its own. Ranges tile
 * the file, so the sum over all tensors stays below the file's size plus twice the header's size.
 */
static uint64_t padded_bytes(const fv_file_tensor *tensor) {
  if (tensor->dtype == FV_FILE_DTYPE_UNKNOWN) return 0;
  return tensor->bytes - tensor->bytes % FV_FILE_DATA_ALIGNMENT + FV_FILE_DATA_ALIGNMENT;
}

fv_file_status fv_table_load(const fv_file_source *source, fv_tensor_file *file,
                             fv_file_error *error) {
  if (source->header_only) return FV_FILE_OK;
  uint64_t total = FV_FILE_DATA_ALIGNMENT; /* not 0, also for a file without tensors */
  for (uint64_t i = 0; i < file->tensor_count; i++) total += padded_bytes(&file->tensors[i]);
  file->data = aligned_alloc(FV_FILE_DATA_ALIGNMENT, (size_t)total);
  if (file->data == NULL) {
    return fv_fail_out_of_memory(source->label, error, total, "its tensors' data");
  }
  uint64_t place = 0;
  for (uint64_t i = 0; i < file->tensor_count; i++) {
    fv_file_tensor *tensor = &file->tensors[i];
    if (tensor->dtype == FV_FILE_DTYPE_UNKNOWN) continue;
    uint8_t *data = (uint8_t *)file->data + place;
    fv_file_status status = fv_source_read(source, tensor->file_offset, data, tensor->bytes, error);
    if (status != FV_FILE_OK) return status;
    tensor->data = data;
    place += padded_bytes(tensor);
  }
  return FV_FILE_OK;
}
