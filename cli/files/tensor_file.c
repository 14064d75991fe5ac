/* tensor_file.c - what the program asks of an opened file, and the choice of its reader. */
#include "cli/files/tensor_file.h"

#include <stdlib.h>
#include <string.h>

#include "cli/files/readers.h"

typedef struct dtype_row {
  const char *name;
  uint32_t bytes;
} dtype_row;

static const dtype_row dtypes[] = {{"unknown", 0},
#define DTYPE_ROW(name, bytes, descr) {#name, bytes},
                                   FV_FILE_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

static const struct {
  const char *name, *text;
} statuses[] = {
#define STATUS_ROW(name, text) {#name, text},
    FV_FILE_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

const char *fv_file_status_name(fv_file_status status) {
  size_t row = (size_t)status;
  return row < sizeof statuses / sizeof statuses[0] ? statuses[row].name : "unknown";
}

const char *fv_file_status_text(fv_file_status status) {
  size_t row = (size_t)status;
  return row < sizeof statuses / sizeof statuses[0] ? statuses[row].text : "unknown status";
}

const char *fv_file_dtype_name(fv_file_dtype dtype) {
  size_t row = (size_t)dtype;
  return row < sizeof dtypes / sizeof dtypes[0] ? dtypes[row].name : "unknown";
}

uint32_t fv_file_dtype_bytes(fv_file_dtype dtype) {
  size_t row = (size_t)dtype;
  return row < sizeof dtypes / sizeof dtypes[0] ? dtypes[row].bytes : 0;
}

/* An .npy signature read as a .safetensors length would exceed any file: the choice is safe. */
static fv_file_status read_either(const fv_file_source *source, const char *name,
                                  fv_tensor_file **file, fv_file_error *error) {
  uint8_t start[FV_NPY_SIGNATURE_BYTES] = {0};
  uint64_t bytes = source->size < sizeof start ? source->size : sizeof start;
  fv_file_status status = fv_source_read(source, 0, start, bytes, error);
  if (status != FV_FILE_OK) return status;
  if (memcmp(start, FV_NPY_SIGNATURE, sizeof start) == 0) {
    return fv_npy_read(source, name, file, error);
  }
  return fv_safetensors_read(source, name, file, error);
}

static fv_file_status read_path(fv_reader *reader, bool header_only, const char *path,
                                const char *name, fv_tensor_file **file, fv_file_error *error) {
  *file = NULL;
  if (error != NULL) *error = (fv_file_error){FV_FILE_OK, FV_FILE_NO_OFFSET, ""};
  fv_file_source source;
  fv_file_status status = fv_source_open(path, &source, error);
  if (status != FV_FILE_OK) return status;
  source.header_only = header_only;
  status = reader(&source, name, file, error);
  fv_source_close(&source);
  return status;
}

static fv_file_status read_memory(fv_reader *reader, const void *bytes, size_t size,
                                  const char *label, const char *name, fv_tensor_file **file,
                                  fv_file_error *error) {
  *file = NULL;
  if (error != NULL) *error = (fv_file_error){FV_FILE_OK, FV_FILE_NO_OFFSET, ""};
  fv_file_source source;
  fv_source_from_memory(bytes, size, label, &source);
  return reader(&source, name, file, error);
}

fv_file_status fv_tensor_file_open(const char *path, const char *name, fv_tensor_file **file,
                                   fv_file_error *error) {
  return read_path(read_either, false, path, name, file, error);
}

fv_file_status fv_npy_open(const char *path, const char *name, fv_tensor_file **file,
                           fv_file_error *error) {
  return read_path(fv_npy_read, false, path, name, file, error);
}

fv_file_status fv_tensor_file_open_header(const char *path, const char *name, fv_tensor_file **file,
                                          fv_file_error *error) {
  return read_path(read_either, true, path, name, file, error);
}

fv_file_status fv_npy_open_header(const char *path, const char *name, fv_tensor_file **file,
                                  fv_file_error *error) {
  return read_path(fv_npy_read, true, path, name, file, error);
}

fv_file_status fv_npy_parse(const void *bytes, size_t size, const char *label, const char *name,
                            fv_tensor_file **file, fv_file_error *error) {
  return read_memory(fv_npy_read, bytes, size, label, name, file, error);
}

fv_file_status fv_safetensors_open(const char *path, fv_tensor_file **file, fv_file_error *error) {
  return read_path(fv_safetensors_read, false, path, NULL, file, error);
}

fv_file_status fv_safetensors_parse(const void *bytes, size_t size, const char *label,
                                    fv_tensor_file **file, fv_file_error *error) {
  return read_memory(fv_safetensors_read, bytes, size, label, NULL, file, error);
}

void fv_tensor_file_close(fv_tensor_file *file) {
  if (file == NULL) return;
  free(file->data);
  free(file->text);
  free(file);
}

size_t fv_tensor_file_count(const fv_tensor_file *file) {
  return (size_t)file->tensor_count;
}

const fv_file_tensor *fv_tensor_file_at(const fv_tensor_file *file, size_t index) {
  return index < file->tensor_count ? &file->tensors[index] : NULL;
}

const fv_file_tensor *fv_tensor_file_find(const fv_tensor_file *file, const char *name) {
  for (uint64_t i = 0; i < file->tensor_count; i++) {
    if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
  }
  return NULL;
}

size_t fv_tensor_file_metadata_count(const fv_tensor_file *file) {
  return (size_t)file->metadata_count;
}

const fv_file_metadata *fv_tensor_file_metadata_at(const fv_tensor_file *file, size_t index) {
  return index < file->metadata_count ? &file->metadata[index] : NULL;
}

const char *fv_tensor_file_metadata(const fv_tensor_file *file, const char *key) {
  for (uint64_t i = 0; i < file->metadata_count; i++) {
    if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].value;
  }
  return NULL;
}
