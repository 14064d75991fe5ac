/* tensor_file.h - tensors in files: what the program needs of .npy and .safetensors.
 *
 * A file is opened once, checked completely, and only then read into memory. The holder of an
 * `fv_tensor_file` can trust every field of it. A file that breaks any rule is refused as a whole,
 * with one line that names the file, the byte offset, the tensor, and what to do.
 *
 * For any input, also a hostile one:
 *   - nothing is allocated before the lengths that justify it were compared with the file's real
 *     size, and memory in use is at most 5 times the file's size plus a constant;
 *   - data ranges tile the file exactly: no gap, no overlap, nothing after the end;
 *   - integers never pass through floating point, nothing recurses, nothing depends on the locale;
 *   - messages carry no control bytes, whatever the names in the file are made of.
 *
 * Nothing here is shared between calls: different files may be read by different threads at once.
 */
#ifndef FOVEA_CLI_FILES_TENSOR_FILE_H
#define FOVEA_CLI_FILES_TENSOR_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Name, text. The order is free to change: nothing stores the numbers. */
#define FV_FILE_STATUS_LIST(X)                                  \
  X(OK, "ok")                                                   \
  X(MISSING, "no such file")                                    \
  X(UNREADABLE, "cannot be read")                               \
  X(NOT_REGULAR, "not a regular file")                          \
  X(INVALID, "breaks a rule of its format")                     \
  X(TOO_LARGE, "header above the size limit")                   \
  X(BIG_ENDIAN, "big-endian data")                              \
  X(FORTRAN_ORDER, "Fortran (column-major) order")              \
  X(PYTHON_OBJECTS, "holds Python objects")                     \
  X(STRUCTURED, "holds structured records")                     \
  X(STRINGS, "holds strings")                                   \
  X(UNSUPPORTED, "a type, rank or version that is not read")    \
  X(OUT_OF_MEMORY, "out of memory")                             \
  X(BAD_ARGUMENT, "the tensors to write contradict themselves") \
  X(NOT_WRITTEN, "cannot be written")

typedef enum fv_file_status {
#define FV_FILE_STATUS_ENUM(name, text) FV_FILE_##name,
  FV_FILE_STATUS_LIST(FV_FILE_STATUS_ENUM)
#undef FV_FILE_STATUS_ENUM
} fv_file_status;

/* Name (as .safetensors spells it), bytes per element, .npy descr. The descr is NULL if no .npy
 * file of this type is read: raw two- and one-byte types have no agreed descr, so bf16 and fp8 need
 * .safetensors. */
#define FV_FILE_DTYPE_LIST(X) \
  X(F64, 8, "<f8")            \
  X(F32, 4, "<f4")            \
  X(F16, 2, "<f2")            \
  X(BF16, 2, NULL)            \
  X(F8_E4M3, 1, NULL)         \
  X(F8_E5M2, 1, NULL)         \
  X(I64, 8, "<i8")            \
  X(I32, 4, "<i4")            \
  X(I16, 2, NULL)             \
  X(I8, 1, "|i1")             \
  X(U64, 8, NULL)             \
  X(U32, 4, NULL)             \
  X(U16, 2, NULL)             \
  X(U8, 1, "|u1")             \
  X(BOOL, 1, "|b1")

typedef enum fv_file_dtype {
  FV_FILE_DTYPE_UNKNOWN, /* a .safetensors type that is not in the list: no data is held */
#define FV_FILE_DTYPE_ENUM(name, bytes, descr) FV_FILE_DTYPE_##name,
  FV_FILE_DTYPE_LIST(FV_FILE_DTYPE_ENUM)
#undef FV_FILE_DTYPE_ENUM
} fv_file_dtype;

enum {
  FV_FILE_MAX_RANK = 8,
  FV_FILE_DATA_ALIGNMENT = 64,                   /* bytes: one cache line, any vector register */
  FV_FILE_ERROR_BYTES = 1024,                    /* a path and two names fit, each cut if longer */
  FV_NPY_HEADER_LIMIT = 64 * 1024,               /* bytes; numpy writes 128 for any plain array */
  FV_SAFETENSORS_HEADER_LIMIT = 16 * 1024 * 1024 /* bytes; 100,000 tensors fit */
};

#define FV_FILE_MAX_DIM ((int64_t)1 << 48) /* products of two dims stay comparable in 128 bits */
#define FV_FILE_NO_OFFSET UINT64_MAX

typedef struct fv_file_error {
  fv_file_status status;
  uint64_t offset;                /* of the offending byte in the file, or FV_FILE_NO_OFFSET */
  char text[FV_FILE_ERROR_BYTES]; /* one line without its newline; empty if all went well */
} fv_file_error;

typedef struct fv_file_tensor {
  const char *name; /* UTF-8 without NUL bytes, but with any other code point: escape to print */
  fv_file_dtype dtype;
  const char *dtype_name; /* as the file spells it when unknown: escape to print */
  uint32_t rank;
  int64_t shape[FV_FILE_MAX_RANK]; /* row-major; dims past the rank are 1 */
  const void *data;                /* aligned to FV_FILE_DATA_ALIGNMENT; NULL if dtype is unknown */
  uint64_t bytes;                  /* product of shape times element size; as stored if unknown */
  uint64_t file_offset;            /* of the first byte of data, for messages; ignored by writers */
} fv_file_tensor;

typedef struct fv_file_metadata {
  const char *key;
  const char *value;
} fv_file_metadata;

typedef struct fv_tensor_file fv_tensor_file;

/* Opens either format; the first bytes decide, not the file's name. `name` names the one tensor of
 * an .npy file ("q"); a .safetensors file brings its own names. On failure *file is NULL. `error`
 * may be NULL. The file object owns everything it hands out. */
fv_file_status fv_tensor_file_open(const char *path, const char *name, fv_tensor_file **file,
                                   fv_file_error *error);
fv_file_status fv_npy_open(const char *path, const char *name, fv_tensor_file **file,
                           fv_file_error *error);
fv_file_status fv_safetensors_open(const char *path, fv_tensor_file **file, fv_file_error *error);

/* The same without the elements, which are not read: `data` is NULL in every tensor. The checks are
 * the same, and their time does not depend on the file's size. */
fv_file_status fv_tensor_file_open_header(const char *path, const char *name, fv_tensor_file **file,
                                          fv_file_error *error);
fv_file_status fv_npy_open_header(const char *path, const char *name, fv_tensor_file **file,
                                  fv_file_error *error);

/* Files that lie in memory. `label` replaces the path in messages; bytes are copied. */
fv_file_status fv_npy_parse(const void *bytes, size_t size, const char *label, const char *name,
                            fv_tensor_file **file, fv_file_error *error);
fv_file_status fv_safetensors_parse(const void *bytes, size_t size, const char *label,
                                    fv_tensor_file **file, fv_file_error *error);

void fv_tensor_file_close(fv_tensor_file *file); /* NULL is allowed */

/* Tensors and metadata come in the order of the file's header. Absent: NULL. */
size_t fv_tensor_file_count(const fv_tensor_file *file);
const fv_file_tensor *fv_tensor_file_at(const fv_tensor_file *file, size_t index);
const fv_file_tensor *fv_tensor_file_find(const fv_tensor_file *file, const char *name);
size_t fv_tensor_file_metadata_count(const fv_tensor_file *file);
const fv_file_metadata *fv_tensor_file_metadata_at(const fv_tensor_file *file, size_t index);
const char *fv_tensor_file_metadata(const fv_tensor_file *file, const char *key);

/* Writes a .safetensors file, or nothing: the bytes go to a temporary file beside `path`, reach the
 * disk, and only then take the name. A symbolic link at `path` is replaced, not followed. SIGINT,
 * SIGTERM, SIGHUP and SIGXFSZ end the call early and leave no temporary file. Tensors are stored
 * widest type first, which keeps each aligned to its element for readers that map the file. Of each
 * tensor the call reads name, dtype, rank, shape, data and bytes; bytes must fit the shape. */
fv_file_status fv_safetensors_write(const char *path, const fv_file_tensor *tensors,
                                    size_t tensor_count, const fv_file_metadata *metadata,
                                    size_t metadata_count, fv_file_error *error);

/* The same for one tensor as an .npy file, which has no name and no metadata. BAD_ARGUMENT: .npy
 * has no such type, or the bytes do not fit the shape. */
fv_file_status fv_npy_write(const char *path, const fv_file_tensor *tensor, fv_file_error *error);
bool fv_npy_has(fv_file_dtype dtype);

const char *fv_file_status_name(fv_file_status status); /* "FORTRAN_ORDER" */
const char *fv_file_status_text(fv_file_status status); /* "Fortran (column-major) order" */
const char *fv_file_dtype_name(fv_file_dtype dtype);    /* "BF16"; "unknown" */
uint32_t fv_file_dtype_bytes(fv_file_dtype dtype);      /* 2; 0 if unknown */

/* Copies text for people to read. Control characters, direction overrides, backslashes, quotes and
 * ill-formed UTF-8 become \n-style, \u{..} or \x.. escapes. Text that does not fit is cut at a
 * character and marked "...". The result is always terminated; returns out. out_bytes must be at
 * least 4. */
const char *fv_escape(char *out, size_t out_bytes, const void *text, size_t text_bytes);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_FILES_TENSOR_FILE_H */
