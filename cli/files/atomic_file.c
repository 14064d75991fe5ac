/* atomic_file.c - see atomic_file.h.
 *
 * The bytes go to a temporary file in the target's directory (a rename cannot cross file systems).
 * After the flush to the disk they take the target's name in one step. Every observer of the target
 * sees the old file, or none, or the whole new one. On any failure the temporary file is removed.
 * Signals that would end the program in between are held back until that is settled.
 *
 * A flush cannot be interrupted, and a flush of gigabytes takes many seconds. So the bytes are sent
 * to the disk while they are written, with at most two chunks under way. Between chunks the file is
 * given up if a signal waits. */
#define _GNU_SOURCE
#include "cli/files/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/files/tensor_table.h"
#include "cli/interrupt.h"

/* Names tried for the temporary file: that many writers may work in one directory at once. */
enum { TEMPORARY_NAMES = 100, TEMPORARY_NAME_BYTES = 64 };

/* Two chunks take a fifth of a second on a disk that writes 40 MB/s. */
enum { CHUNK_BYTES = 4 << 20 };

typedef struct output {
  const char *path; /* the target */
  const fv_file_piece *pieces;
  size_t count;
  fv_file_error *error;
  int fd;
  char *temporary;  /* its path */
  uint64_t written; /* bytes */
  uint64_t sent;    /* bytes already sent to the disk: whole chunks */
} output;

static fv_file_status fail_to_write(const output *out, const char *what, int number) {
  return fv_file_fail(out->path, out->error, FV_FILE_NOT_WRITTEN, FV_FILE_NO_OFFSET,
                      "%s (%s); check the directory, its permissions and the free space", what,
                      fv_errno_text(number));
}

/* The name does not derive from the target's, which may be as long as the file system allows.
 * O_EXCL neither follows a link nor opens a file that somebody left there. */
static fv_file_status create_temporary(output *out) {
  const char *slash = strrchr(out->path, '/');
  size_t directory_bytes = slash != NULL ? (size_t)(slash - out->path) + 1 : 0;
  size_t room = directory_bytes + TEMPORARY_NAME_BYTES;
  out->temporary = (char *)malloc(room);
  if (out->temporary == NULL) {
    return fv_fail_out_of_memory(out->path, out->error, room, "its temporary name");
  }
  memcpy(out->temporary, out->path, directory_bytes);
  int number = EEXIST;
  for (int i = 0; i < TEMPORARY_NAMES && (number == EEXIST || number == EINTR); i++) {
    snprintf(out->temporary + directory_bytes, TEMPORARY_NAME_BYTES, ".fovea-%ld-%d.tmp",
             (long)getpid(), i);
    out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (out->fd >= 0) return FV_FILE_OK;
    number = errno;
  }
  return fail_to_write(out, "a temporary file cannot be created beside it", number);
}

/* Starts to send the last chunk, if it is full, and waits for the one before it. Failures are not
 * reported here: the flush at the end reports all of them. */
static void send_chunk(output *out) {
  const unsigned start = SYNC_FILE_RANGE_WRITE;
  const unsigned finish = start | SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (out->written - out->sent < CHUNK_BYTES) return;
  (void)sync_file_range(out->fd, (off_t)out->sent, CHUNK_BYTES, start);
  if (out->sent) {
    (void)sync_file_range(out->fd, (off_t)(out->sent - CHUNK_BYTES), CHUNK_BYTES, finish);
  }
  out->sent += CHUNK_BYTES;
}

static fv_file_status write_all(output *out, const void *bytes, uint64_t size) {
  const uint8_t *from = (const uint8_t *)bytes;
  while (size > 0) {
    if (fv_interrupt_is_waiting()) return fail_to_write(out, "given up", EINTR);
    size_t chunk = size < CHUNK_BYTES ? (size_t)size : CHUNK_BYTES;
    ssize_t done = write(out->fd, from, chunk);
    if (done < 0 && errno == EINTR) continue;
    /* 0 for a chunk that is not empty: nothing says that a retry would write more. */
    if (done <= 0) return fail_to_write(out, "writing failed", done < 0 ? errno : ENOSPC);
    from += done;
    size -= (uint64_t)done;
    out->written += (uint64_t)done;
    send_chunk(out);
  }
  return FV_FILE_OK;
}

static fv_file_status flush(const output *out) {
  int result;
  do {
    result = fsync(out->fd);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? FV_FILE_OK : fail_to_write(out, "flushing to the disk failed", errno);
}

static fv_file_status fill(output *out) {
  fv_file_status status = FV_FILE_OK;
  for (size_t i = 0; i < out->count && status == FV_FILE_OK; i++) {
    status = write_all(out, out->pieces[i].bytes, out->pieces[i].size);
  }
  return status == FV_FILE_OK ? flush(out) : status;
}

/* Closes the file in any case; an earlier failure stays the one reported. An interrupted close has
 * closed the file, and fsync has already answered for the data. */
static fv_file_status close_file(output *out, fv_file_status status) {
  int result = close(out->fd);
  if (status != FV_FILE_OK || result == 0 || errno == EINTR) return status;
  return fail_to_write(out, "closing failed", errno);
}

static fv_file_status write_and_rename(output *out) {
  fv_file_status status = create_temporary(out);
  if (status == FV_FILE_OK) {
    status = close_file(out, fill(out));
    if (status == FV_FILE_OK && rename(out->temporary, out->path) != 0) {
      status = fail_to_write(out, "it cannot take its name", errno);
    }
    if (status != FV_FILE_OK) (void)unlink(out->temporary); /* an earlier failure is reported */
  }
  free(out->temporary);
  return status;
}

/* Holds back signals that would end the program and leave the temporary file. A write beyond the
 * user's file size limit raises SIGXFSZ. By then that write has reported the error, so the signal
 * is taken back, unless it was pending before. */
fv_file_status fv_atomic_file_write(const char *path, const fv_file_piece *pieces, size_t count,
                                    fv_file_error *error) {
  output out = {.path = path, .pieces = pieces, .count = count, .error = error, .fd = -1};
  sigset_t held, before, pending, size_exceeded;
  sigemptyset(&held);
  sigemptyset(&pending);
  sigemptyset(&size_exceeded);
  sigaddset(&size_exceeded, SIGXFSZ);
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ};
  for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) sigaddset(&held, ending[i]);
  pthread_sigmask(SIG_BLOCK, &held, &before);
  sigpending(&pending);

  fv_file_status status = write_and_rename(&out);

  if (status != FV_FILE_OK && !sigismember(&pending, SIGXFSZ)) {
    const struct timespec at_once = {0, 0};
    (void)sigtimedwait(&size_exceeded, NULL, &at_once); /* usually none is pending */
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return status;
}
