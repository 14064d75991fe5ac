/* safetensors_writer.c - writes .safetensors files, completely or not at all.
 *
 * The bytes go to a temporary file in the target's directory (a rename cannot cross file systems),
 * are flushed to the disk, and then take the target's name in one step. Whoever looks at the target
 * sees the old file, or none, or the whole new one. On any failure the temporary file is removed;
 * signals that would end the program in between are held back until that is settled.
 *
 * The header is produced twice by the same function, first without a buffer, to learn its length.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tensor_table.h"
#include "utf8.h"

enum { LENGTH_BYTES = 8, NAME_SHOWN = 128, HEADER_ALIGNMENT = 8 };

/* Names tried for the temporary file: so many writers may be at work in one directory at once. */
enum { TEMPORARY_NAMES = 100, TEMPORARY_NAME_BYTES = 64 };

typedef struct output {
  const char *path; /* the target */
  const fv_file_tensor *const *tensors;
  size_t tensor_count;
  const fv_file_metadata *metadata;
  size_t metadata_count;
  fv_file_error *error;
  int fd;
  char *temporary; /* its path */
} output;

/* --- What may be written ------------------------------------------------------------------- */

static fv_file_status refuse(const output *out, const char *name, const char *why) {
  char shown[NAME_SHOWN];
  return fv_file_fail(out->path, out->error, FV_FILE_BAD_ARGUMENT, FV_FILE_NO_OFFSET,
                      "'%s' cannot be stored: %s",
                      fv_escape(shown, sizeof shown, name, strlen(name)), why);
}

static bool is_utf8(const char *text) {
  const uint8_t *at = (const uint8_t *)text;
  for (uint64_t left = strlen(text); left > 0;) {
    uint32_t code;
    uint32_t bytes = fv_utf8_decode(at, left, &code);
    if (bytes == 0) return false;
    at += bytes;
    left -= bytes;
  }
  return true;
}

static fv_file_status check_tensor(const output *out, const fv_file_tensor *tensor) {
  uint64_t bytes;
  uint32_t element_bytes = fv_file_dtype_bytes(tensor->dtype);
  if (!is_utf8(tensor->name)) return refuse(out, tensor->name, "its name is not UTF-8");
  if (strcmp(tensor->name, "__metadata__") == 0) {
    return refuse(out, tensor->name, "the format keeps this name for itself; choose another");
  }
  if (element_bytes == 0) return refuse(out, tensor->name, "its type is not known");
  if (tensor->rank > FV_FILE_MAX_RANK) return refuse(out, tensor->name, "its rank is above 8");
  for (uint32_t i = 0; i < tensor->rank; i++) {
    if (tensor->shape[i] < 0 || tensor->shape[i] > FV_FILE_MAX_DIM) {
      return refuse(out, tensor->name, "a dimension is negative or above 2^48");
    }
  }
  if (!fv_shape_bytes(tensor->shape, tensor->rank, element_bytes, &bytes) ||
      bytes != tensor->bytes) {
    return refuse(out, tensor->name, "its bytes are not the product of its shape");
  }
  if (bytes > 0 && tensor->data == NULL) return refuse(out, tensor->name, "it has no data");
  return FV_FILE_OK;
}

/* Few tensors are ever written: comparing each pair needs no memory and cannot fail. */
static fv_file_status check_contents(const output *out) {
  for (size_t i = 0; i < out->tensor_count; i++) {
    fv_file_status status = check_tensor(out, out->tensors[i]);
    if (status != FV_FILE_OK) return status;
    for (size_t j = 0; j < i; j++) {
      if (strcmp(out->tensors[i]->name, out->tensors[j]->name) == 0) {
        return refuse(out, out->tensors[i]->name, "two tensors have this name");
      }
    }
  }
  for (size_t i = 0; i < out->metadata_count; i++) {
    const fv_file_metadata *pair = &out->metadata[i];
    if (!is_utf8(pair->key) || !is_utf8(pair->value)) {
      return refuse(out, pair->key, "this metadata key or its value is not UTF-8");
    }
    for (size_t j = 0; j < i; j++) {
      if (strcmp(pair->key, out->metadata[j].key) == 0) {
        return refuse(out, pair->key, "two metadata values have this key");
      }
    }
  }
  return FV_FILE_OK;
}

/* --- The header ---------------------------------------------------------------------------- */

typedef struct header_text {
  char *bytes; /* NULL: count only */
  uint64_t size;
} header_text;

static void add(header_text *text, const char *piece, uint64_t bytes) {
  if (text->bytes != NULL) memcpy(text->bytes + text->size, piece, (size_t)bytes);
  text->size += bytes;
}

static void add_text(header_text *text, const char *piece) {
  add(text, piece, strlen(piece));
}

static void add_uint(header_text *text, uint64_t value) {
  char digits[24];
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
  add_text(text, digits);
}

static bool is_plain(char character) {
  return (unsigned char)character >= 0x20 && character != '"' && character != '\\';
}

static void add_escape(header_text *text, char character) {
  char piece[8];
  if ((unsigned char)character < 0x20) {
    snprintf(piece, sizeof piece, "\\u%04x", character);
  } else {
    snprintf(piece, sizeof piece, "\\%c", character);
  }
  add_text(text, piece);
}

static void add_string(header_text *text, const char *string) {
  add_text(text, "\"");
  while (*string != '\0') {
    uint64_t run = 0; /* a value may have megabytes: plain text goes in one piece */
    while (is_plain(string[run])) run++;
    add(text, string, run);
    string += run;
    if (*string != '\0') add_escape(text, *string++);
  }
  add_text(text, "\"");
}

static void add_metadata(header_text *text, const output *out) {
  add_text(text, "\"__metadata__\":{");
  for (size_t i = 0; i < out->metadata_count; i++) {
    if (i > 0) add_text(text, ",");
    add_string(text, out->metadata[i].key);
    add_text(text, ":");
    add_string(text, out->metadata[i].value);
  }
  add_text(text, "}");
}

static void add_tensor(header_text *text, const fv_file_tensor *tensor, uint64_t begin) {
  add_string(text, tensor->name);
  add_text(text, ":{\"dtype\":\"");
  add_text(text, fv_file_dtype_name(tensor->dtype));
  add_text(text, "\",\"shape\":[");
  for (uint32_t i = 0; i < tensor->rank; i++) {
    if (i > 0) add_text(text, ",");
    add_uint(text, (uint64_t)tensor->shape[i]);
  }
  add_text(text, "],\"data_offsets\":[");
  add_uint(text, begin);
  add_text(text, ",");
  add_uint(text, begin + tensor->bytes);
  add_text(text, "]}");
}

static void add_header(header_text *text, const output *out) {
  uint64_t begin = 0;
  add_text(text, "{");
  if (out->metadata_count > 0) add_metadata(text, out);
  for (size_t i = 0; i < out->tensor_count; i++) {
    if (i > 0 || out->metadata_count > 0) add_text(text, ",");
    add_tensor(text, out->tensors[i], begin);
    begin += out->tensors[i]->bytes; /* of buffers in memory: the sum fits */
  }
  add_text(text, "}");
  while (text->size % HEADER_ALIGNMENT != 0) add_text(text, " ");
}

/* Length and header in one block, as they stand in the file. */
static fv_file_status make_header(const output *out, header_text *text) {
  header_text counted = {NULL, 0};
  add_header(&counted, out);
  if (counted.size > FV_SAFETENSORS_HEADER_LIMIT) {
    return fv_file_fail(out->path, out->error, FV_FILE_BAD_ARGUMENT, FV_FILE_NO_OFFSET,
                        "its header would have %llu bytes, above the limit of %d; store less "
                        "metadata",
                        (unsigned long long)counted.size, FV_SAFETENSORS_HEADER_LIMIT);
  }
  uint64_t bytes = LENGTH_BYTES + counted.size;
  char *block = (char *)malloc((size_t)bytes);
  if (block == NULL) return fv_fail_out_of_memory(out->path, out->error, bytes, "its header");
  for (int i = 0; i < LENGTH_BYTES; i++) block[i] = (char)(counted.size >> 8 * i & 0xff);
  *text = (header_text){block + LENGTH_BYTES, 0};
  add_header(text, out);
  *text = (header_text){block, bytes};
  return FV_FILE_OK;
}

/* --- The file ------------------------------------------------------------------------------ */

static fv_file_status fail_to_write(const output *out, const char *what, int number) {
  return fv_file_fail(out->path, out->error, FV_FILE_NOT_WRITTEN, FV_FILE_NO_OFFSET,
                      "%s (%s); check the directory, its permissions and the free space", what,
                      fv_errno_text(number));
}

/* Not derived from the target's name, which may be as long as the file system allows. O_EXCL
 * neither follows a link nor opens a file that somebody left there. */
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

static fv_file_status write_all(const output *out, const void *bytes, uint64_t size) {
  const uint8_t *from = (const uint8_t *)bytes;
  while (size > 0) {
    ssize_t done = write(out->fd, from, (size_t)size);
    if (done < 0 && errno == EINTR) continue;
    /* 0 for a chunk that is not empty: nothing says it ever would be more. */
    if (done <= 0) return fail_to_write(out, "writing failed", done < 0 ? errno : ENOSPC);
    from += done;
    size -= (uint64_t)done;
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

static fv_file_status fill(const output *out, const header_text *header) {
  fv_file_status status = write_all(out, header->bytes, header->size);
  for (size_t i = 0; i < out->tensor_count && status == FV_FILE_OK; i++) {
    status = write_all(out, out->tensors[i]->data, out->tensors[i]->bytes);
  }
  return status == FV_FILE_OK ? flush(out) : status;
}

/* Closes the file in any case; an earlier failure stays the one that is told. An interrupted close
 * has closed, and fsync has spoken for the data. */
static fv_file_status close_file(output *out, fv_file_status status) {
  int result = close(out->fd);
  if (status != FV_FILE_OK || result == 0 || errno == EINTR) return status;
  return fail_to_write(out, "closing failed", errno);
}

static fv_file_status write_and_rename(output *out, const header_text *header) {
  fv_file_status status = create_temporary(out);
  if (status == FV_FILE_OK) {
    status = close_file(out, fill(out, header));
    if (status == FV_FILE_OK && rename(out->temporary, out->path) != 0) {
      status = fail_to_write(out, "it cannot take its name", errno);
    }
    if (status != FV_FILE_OK) (void)unlink(out->temporary); /* the failure before it is told */
  }
  free(out->temporary);
  return status;
}

/* Holds back what would end the program with the temporary file left behind. SIGXFSZ, raised by a
 * write beyond the user's file size limit, has by then been reported as that write's error: it is
 * taken back, unless it was pending before. */
static fv_file_status write_undisturbed(output *out, const header_text *header) {
  sigset_t held, before, pending, size_exceeded;
  sigemptyset(&held);
  sigemptyset(&pending);
  sigemptyset(&size_exceeded);
  sigaddset(&size_exceeded, SIGXFSZ);
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ};
  for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) sigaddset(&held, ending[i]);
  pthread_sigmask(SIG_BLOCK, &held, &before);
  sigpending(&pending);

  fv_file_status status = write_and_rename(out, header);

  if (status != FV_FILE_OK && !sigismember(&pending, SIGXFSZ)) {
    const struct timespec at_once = {0, 0};
    (void)sigtimedwait(&size_exceeded, NULL, &at_once); /* none is pending as a rule */
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return status;
}

/* Widest elements first, otherwise in the caller's order: every offset is then a multiple of its
 * tensor's element size. One pass per width that exists. */
static void order_by_width(const fv_file_tensor *tensors, size_t count,
                           const fv_file_tensor **ordered) {
  size_t placed = 0;
  for (uint32_t width = 8; width > 0; width /= 2) {
    for (size_t i = 0; i < count; i++) {
      if (fv_file_dtype_bytes(tensors[i].dtype) == width) ordered[placed++] = &tensors[i];
    }
  }
  for (size_t i = 0; i < count; i++) { /* of no known type: kept, to be refused by name */
    if (fv_file_dtype_bytes(tensors[i].dtype) == 0) ordered[placed++] = &tensors[i];
  }
}

fv_file_status fv_safetensors_write(const char *path, const fv_file_tensor *tensors,
                                    size_t tensor_count, const fv_file_metadata *metadata,
                                    size_t metadata_count, fv_file_error *error) {
  if (error != NULL) *error = (fv_file_error){FV_FILE_OK, FV_FILE_NO_OFFSET, ""};
  const fv_file_tensor **ordered =
      (const fv_file_tensor **)calloc(tensor_count + 1, sizeof *ordered);
  if (ordered == NULL) {
    return fv_fail_out_of_memory(path, error, (tensor_count + 1) * sizeof *ordered,
                                 "the list of its tensors");
  }
  order_by_width(tensors, tensor_count, ordered);
  output out = {path, ordered, tensor_count, metadata, metadata_count, error, -1, NULL};
  header_text header = {NULL, 0};
  fv_file_status status = check_contents(&out);
  if (status == FV_FILE_OK) status = make_header(&out, &header);
  if (status == FV_FILE_OK) status = write_undisturbed(&out, &header);
  free(header.bytes);
  free(ordered);
  return status;
}
