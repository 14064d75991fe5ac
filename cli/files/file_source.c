/* file_source.c - opening and reading input files.
 *
 * Open once, then check and read that descriptor: between a stat of a path and its open the path
 * can change. Reads are positioned (pread), so the descriptor keeps no state. They are not mapped:
 * if somebody truncates the file, a read gives a status, where a mapping would raise SIGBUS. */
#define _GNU_SOURCE
#include "cli/files/file_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A signal's handler waits for the end of a read. A piece of this size takes a tenth of a second on
 * a disk that reads 40 MB/s. */
enum { READ_PIECE_BYTES = 4 << 20 };

static fv_file_status fail_to_open(const char *path, int number, fv_file_error *error) {
  if (number == ENOENT || number == ENOTDIR) {
    return fv_file_fail(path, error, FV_FILE_MISSING, FV_FILE_NO_OFFSET,
                        "there is no such file; check the path");
  }
  return fv_file_fail(path, error, FV_FILE_UNREADABLE, FV_FILE_NO_OFFSET,
                      "cannot be opened (%s); check its permissions", fv_errno_text(number));
}

fv_file_status fv_source_open(const char *path, fv_file_source *source, fv_file_error *error) {
  int fd;
  do {
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_to_open(path, errno, error);

  *source = (fv_file_source){.label = path, .fd = fd};
  struct stat facts;
  if (fstat(fd, &facts) != 0) {
    int number = errno;
    fv_source_close(source);
    return fv_file_fail(path, error, FV_FILE_UNREADABLE, FV_FILE_NO_OFFSET,
                        "its size cannot be read (%s); check the disk", fv_errno_text(number));
  }
  if (!S_ISREG(facts.st_mode)) {
    fv_source_close(source);
    return fv_file_fail(path, error, FV_FILE_NOT_REGULAR, FV_FILE_NO_OFFSET,
                        "is not a regular file; save the data to a file and name that");
  }
  source->size = (uint64_t)facts.st_size;
  return FV_FILE_OK;
}

void fv_source_from_memory(const void *bytes, size_t size, const char *label,
                           fv_file_source *source) {
  *source =
      (fv_file_source){.label = label, .fd = -1, .bytes = (const uint8_t *)bytes, .size = size};
}

void fv_source_close(const fv_file_source *source) {
  (void)close(source->fd); /* nothing was written, so nothing can be lost */
}

static fv_file_status read_from_file(const fv_file_source *source, uint64_t offset, uint8_t *out,
                                     uint64_t bytes, fv_file_error *error) {
  while (bytes > 0) {
    size_t piece = bytes < READ_PIECE_BYTES ? (size_t)bytes : READ_PIECE_BYTES;
    ssize_t got = pread(source->fd, out, piece, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return fv_file_fail(source->label, error, FV_FILE_UNREADABLE, offset,
                          "cannot be read (%s); check the disk", fv_errno_text(errno));
    }
    if (got == 0) {
      return fv_file_fail(source->label, error, FV_FILE_UNREADABLE, offset,
                          "the file became shorter while it was read; "
                          "try again when its writer is done");
    }
    out += got;
    offset += (uint64_t)got;
    bytes -= (uint64_t)got;
  }
  return FV_FILE_OK;
}

fv_file_status fv_source_read(const fv_file_source *source, uint64_t offset, void *out,
                              uint64_t bytes, fv_file_error *error) {
  if (source->fd >= 0) return read_from_file(source, offset, (uint8_t *)out, bytes, error);
  if (bytes > 0) memcpy(out, source->bytes + offset, (size_t)bytes);
  return FV_FILE_OK;
}
