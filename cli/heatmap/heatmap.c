/* heatmap.c: writes a heat map to a file: chooses the format, and writes all of it or nothing.
 *
 * The picture is first finished in memory (some MB at most); only then is there a temporary file
 * (files/atomic_file.h). Drawing takes most of the time, and an interrupt during it leaves nothing
 * on the disk. */
#include "cli/heatmap/heatmap.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cli/files/atomic_file.h"
#include "cli/heatmap/paint.h"

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

/* NULL if the name ends in no known extension. Case does not matter: "MAP.PNG" is a PNG. */
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
  /* Writing to memory can fail only for lack of memory. */
  if (status == FV_HEATMAP_NOT_WRITABLE) status = FV_HEATMAP_NO_MEMORY;
  if (status != FV_HEATMAP_OK) {
    free(*bytes);
    *bytes = NULL;
  }
  return status;
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
  fv_file_error reason;
  const fv_file_piece picture = {bytes, count};
  if (fv_atomic_file_write(path, &picture, 1, &reason) != FV_FILE_OK) {
    status = fail(to, FV_HEATMAP_NOT_WRITABLE, "%s", reason.text);
  }
  free(bytes);
  return status;
}
