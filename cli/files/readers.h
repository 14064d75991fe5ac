/* readers.h - the two formats' readers, as files/tensor_file.c calls them. */
#ifndef FOVEA_CLI_FILES_READERS_H
#define FOVEA_CLI_FILES_READERS_H

#include "cli/files/tensor_table.h"

#define FV_NPY_SIGNATURE "\x93NUMPY"
enum { FV_NPY_SIGNATURE_BYTES = 6 };

/* Reads a whole source into a new file object, or fails and leaves *file alone. */
typedef fv_file_status fv_reader(const fv_file_source *source, const char *name,
                                 fv_tensor_file **file, fv_file_error *error);

fv_reader fv_npy_read;
fv_reader fv_safetensors_read; /* ignores the name: its tensors have their own */

#endif /* FOVEA_CLI_FILES_READERS_H */
