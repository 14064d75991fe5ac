/* tensor_table.h - the inside of fv_tensor_file, which both readers fill in.
 *
 * A reader checks its header without allocating anything but a copy of it, then creates the table,
 * describes each tensor, and asks for the data last. Names are not copied: they point into `text`.
 */
#ifndef FOVEA_CLI_FILES_TENSOR_TABLE_H
#define FOVEA_CLI_FILES_TENSOR_TABLE_H

#include <stdbool.h>

#include "cli/files/file_source.h"

struct fv_tensor_file {
  fv_file_tensor *tensors; /* [tensor_count], in the order of the header */
  uint64_t tensor_count;
  fv_file_metadata *metadata; /* [metadata_count] */
  uint64_t metadata_count;
  char *text; /* what names, keys and values point into */
  void *data; /* all tensors' elements, each at a multiple of FV_FILE_DATA_ALIGNMENT */
};

/* Allocates an empty file object with room for the counts. On success it owns `text` (malloc). */
fv_file_status fv_table_create(const fv_file_source *source, uint64_t tensor_count,
                               uint64_t metadata_count, char *text, fv_tensor_file **file,
                               fv_file_error *error);

/* Allocates the data and reads it, tensor by tensor, from file_offset. Sets each data pointer. Does
 * nothing if only the header is wanted. */
fv_file_status fv_table_load(const fv_file_source *source, fv_tensor_file *file,
                             fv_file_error *error);

/* bytes = product of shape[0 .. rank) times element_bytes. False if the product of the dims that
 * are not 0 does not fit in int64. A dim of 0 does not excuse that: strides are products of the
 * other dims. */
bool fv_shape_bytes(const int64_t *shape, uint32_t rank, uint32_t element_bytes, uint64_t *bytes);

fv_file_status fv_fail_out_of_memory(const char *label, fv_file_error *error, uint64_t bytes,
                                     const char *what);

#endif /* FOVEA_CLI_FILES_TENSOR_TABLE_H */
