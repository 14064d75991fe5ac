/* safetensors_writer.c - writes .safetensors files, completely or not at all (files/atomic_file.h).
 *
 * The same function produces the header twice. The first time it has no buffer and learns the
 * length. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/atomic_file.h"
#include "cli/files/tensor_table.h"
#include "cli/files/utf8.h"

enum { LENGTH_BYTES = 8, NAME_SHOWN = 128, HEADER_ALIGNMENT = 8 };

typedef struct output {
  const char *path; /* the target */
  const fv_file_tensor *const *tensors;
  size_t tensor_count;
  const fv_file_metadata *metadata;
  size_t metadata_count;
  fv_file_error *error;
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

/* Few tensors are ever written: comparing every pair needs no memory and cannot fail. */
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
    uint64_t run = 0; /* a value may have megabytes: plain text is put in one piece */
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
    begin += out->tensors[i]->bytes; /* buffers in memory: their sum fits */
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

static fv_file_status write_pieces(const output *out, const header_text *header) {
  size_t count = out->tensor_count + 1;
  fv_file_piece *pieces = (fv_file_piece *)calloc(count, sizeof *pieces);
  if (pieces == NULL) {
    return fv_fail_out_of_memory(out->path, out->error, count * sizeof *pieces,
                                 "the list of its tensors");
  }
  pieces[0] = (fv_file_piece){header->bytes, header->size};
  for (size_t i = 1; i < count; i++) {
    pieces[i] = (fv_file_piece){out->tensors[i - 1]->data, out->tensors[i - 1]->bytes};
  }
  fv_file_status status = fv_atomic_file_write(out->path, pieces, count, out->error);
  free(pieces);
  return status;
}

/* Widest elements first, otherwise in the caller's order: every offset is then a multiple of its
 * tensor's element size. One pass per width. */
static void order_by_width(const fv_file_tensor *tensors, size_t count,
                           const fv_file_tensor **ordered) {
  size_t placed = 0;
  for (uint32_t width = 8; width > 0; width /= 2) {
    for (size_t i = 0; i < count; i++) {
      if (fv_file_dtype_bytes(tensors[i].dtype) == width) ordered[placed++] = &tensors[i];
    }
  }
  for (size_t i = 0; i < count; i++) { /* unknown types: kept, to be refused by name */
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
  output out = {path, ordered, tensor_count, metadata, metadata_count, error};
  header_text header = {NULL, 0};
  fv_file_status status = check_contents(&out);
  if (status == FV_FILE_OK) status = make_header(&out, &header);
  if (status == FV_FILE_OK) status = write_pieces(&out, &header);
  free(header.bytes);
  free(ordered);
  return status;
}
