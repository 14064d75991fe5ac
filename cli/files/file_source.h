/* file_source.h - the bytes that a reader reads: a file held open, or memory.
 *
 * Both readers are written against this one interface: the code that the fuzzers exercise from
 * memory is the code that runs on files. The size is taken once, from the open descriptor. Every
 * later check uses that number, and a read that ends before it is an error of its own. */
#ifndef FOVEA_CLI_FILES_FILE_SOURCE_H
#define FOVEA_CLI_FILES_FILE_SOURCE_H

#include "cli/files/tensor_file.h"

typedef struct fv_file_source {
  const char *label;    /* for messages */
  int fd;               /* -1 if the bytes are in memory */
  const uint8_t *bytes; /* NULL if they are in a file */
  uint64_t size;
  bool header_only; /* elements are not wanted: data stays NULL */
} fv_file_source;

/* Opens a regular file. Never blocks: a FIFO without a writer is refused, not waited for. */
fv_file_status fv_source_open(const char *path, fv_file_source *source, fv_file_error *error);
void fv_source_from_memory(const void *bytes, size_t size, const char *label,
                           fv_file_source *source);
void fv_source_close(const fv_file_source *source); /* one that fv_source_open opened */

/* Reads exactly `bytes` bytes at `offset`, which the caller has checked against the size. */
fv_file_status fv_source_read(const fv_file_source *source, uint64_t offset, void *out,
                              uint64_t bytes, fv_file_error *error);

/* Sets the error to "label: byte N: text" (or "label: text" without an offset); returns status. */
fv_file_status fv_file_fail(const char *label, fv_file_error *error, fv_file_status status,
                            uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The system's words for errno, in English whatever the locale is. */
const char *fv_errno_text(int number);

#endif /* FOVEA_CLI_FILES_FILE_SOURCE_H */
