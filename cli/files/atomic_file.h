/* atomic_file.h - a file that appears whole or not at all. */
#ifndef FOVEA_CLI_FILES_ATOMIC_FILE_H
#define FOVEA_CLI_FILES_ATOMIC_FILE_H

#include "cli/files/file_source.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_file_piece {
  const void *bytes;
  uint64_t size;
} fv_file_piece;

/* Writes the pieces one after the other to a temporary file beside `path`. The file reaches the
 * disk and only then takes the name. A symbolic link at `path` is replaced, not followed. SIGINT,
 * SIGTERM and SIGHUP make the call give up within some 4 MiB of writing; they are delivered once
 * the temporary file is gone. SIGXFSZ is a failure of this call. */
fv_file_status fv_atomic_file_write(const char *path, const fv_file_piece *pieces, size_t count,
                                    fv_file_error *error);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_FILES_ATOMIC_FILE_H */
