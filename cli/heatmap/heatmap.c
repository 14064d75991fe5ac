/* heatmap.c: writes a heat map to a file: which format, and all of it or nothing.
 *
 * The picture is finished in memory first (some MB at most). Only then is a temporary file made in
 * the folder of the result. Drawing takes most of the time, and an interrupt during it finds
 * nothing on the disk to leave behind; until rename() replaces the old file in one step, interrupts
 * wait. */
#include "cli/heatmap/heatmap.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/heatmap/paint.h"
#include "cli/interrupt.h"

typedef fv_heatmap_status paint_function(const fv_heatmap *map, FILE *stream);

/* Where a message goes; text may be NULL. */
typedef struct message {
  char *text;
  size_t size;
} message;

static fv_heatmap_status fail(message to, fv_heatmap_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static fv_heatmap_status fail(message to, fv_heatmap_status status, const char *format, ...) {
  if (to.text == NULL || to.size == 0) return status;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(to.text, to.size, format, arguments);
  va_end(arguments);
  return status;
}

/* NULL for a name that ends in no known extension. Case does not matter: "MAP.PNG" is a PNG. */
static paint_function *painter_for(const char *path) {
  static const struct {
    const char *extension;
    paint_function *paint;
  } formats[] = {
      {".png", fv_heatmap_cairo_png}, {".svg", fv_heatmap_svg}, {".pdf", fv_heatmap_cairo_pdf}};
  size_t length = strlen(path);
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    if (length > 4 && strcasecmp(path + length - 4, formats[i].extension) == 0)
      return formats[i].paint;
  }
  return NULL;
}

/* Paints into memory; the caller frees *bytes, which is NULL unless the result is OK. */
static fv_heatmap_status paint(const fv_heatmap *map, paint_function *painter, char **bytes,
                               size_t *count) {
  *bytes = NULL;
  FILE *stream = open_memstream(bytes, count);
  if (stream == NULL) return FV_HEATMAP_NO_MEMORY;
  fv_heatmap_status status = painter(map, stream);
  if (fclose(stream) != 0 && status == FV_HEATMAP_OK) status = FV_HEATMAP_NO_MEMORY;
  /* Memory is all that writing to memory can run out of. */
  if (status == FV_HEATMAP_NOT_WRITABLE) status = FV_HEATMAP_NO_MEMORY;
  if (status != FV_HEATMAP_OK) {
    free(*bytes);
    *bytes = NULL;
  }
  return status;
}

/* Writes and closes; false with errno set if any byte did not reach the file. */
static bool write_and_close(int file, const char *bytes, size_t count) {
  int error = 0;
  while (count > 0 && error == 0) {
    ssize_t written = write(file, bytes, count);
    if (written < 0 && errno != EINTR) error = errno;
    if (written <= 0) continue;
    bytes += written;
    count -= (size_t)written;
  }
  /* mkstemp makes files only their owner may read; a picture is as readable as any new file. */
  mode_t mask = umask(0);
  umask(mask);
  if (error == 0 && fchmod(file, 0666 & ~mask) != 0) error = errno;
  if (close(file) != 0 && error == 0) error = errno;
  errno = error;
  return error == 0;
}

/* The temporary name is the result's plus a random suffix: same folder, so rename() cannot cross a
 * file system; and who finds it after a crash knows what it was. */
static fv_heatmap_status replace_file(const char *path, const char *bytes, size_t count,
                                      message to) {
  char temporary[PATH_MAX];
  int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
  if (length < 0 || (size_t)length >= sizeof temporary) {
    return fail(to, FV_HEATMAP_NOT_WRITABLE, "%.40s...: the name is too long; choose a shorter one",
                path);
  }
  int file = mkstemp(temporary);
  if (file < 0) {
    return fail(to, FV_HEATMAP_NOT_WRITABLE,
                "%s: cannot create a file there: %s; name a folder that exists and is writable",
                path, strerror(errno));
  }
  if (!write_and_close(file, bytes, count) || rename(temporary, path) != 0) {
    const char *reason = strerror(errno);
    unlink(temporary);
    return fail(to, FV_HEATMAP_NOT_WRITABLE, "%s: cannot write %zu bytes: %s", path, count, reason);
  }
  return FV_HEATMAP_OK;
}

fv_heatmap_status fv_heatmap_write(const fv_heatmap *map, const char *path, char *error,
                                   size_t error_size) {
  message to = {error, error_size};
  const char *complaint = fv_heatmap_cells_complaint(map);
  if (complaint != NULL)
    return fail(to, FV_HEATMAP_BAD_MAP, "%s: cannot draw: %s", path, complaint);
  paint_function *painter = painter_for(path);
  if (painter == NULL) {
    return fail(to, FV_HEATMAP_UNKNOWN_FORMAT,
                "%s: the name must end in .png, .svg or .pdf, which chooses the format", path);
  }
  struct stat there;
  if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) {
    return fail(to, FV_HEATMAP_NOT_WRITABLE,
                "%s: is not a regular file and will not be replaced; choose another name", path);
  }
  char *bytes;
  size_t count;
  fv_heatmap_status status = paint(map, painter, &bytes, &count);
  if (status != FV_HEATMAP_OK) return fail(to, status, "%s: out of memory while drawing", path);
  sigset_t before;
  fv_interrupt_hold(&before);
  status = replace_file(path, bytes, count, to);
  fv_interrupt_release(&before);
  free(bytes);
  return status;
}
