/* npy.c - reads .npy files.
 *
 * Layout: "\x93NUMPY", version (major, minor), header length (u16 little-endian in version 1, u32
 * in 2 and 3), a Python dictionary padded with spaces and a newline, then the elements.
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
 *
 * A tokenizer for exactly this dictionary reads it: three keys in any order, each once. Nothing
 * that could evaluate anything takes part. The dictionary is first read whole and then judged, so
 * that a file with one mistake is not reported for another. Only a list as descr ends the reading
 * at once: it is always a structured type. */
#include <stdlib.h>
#include <string.h>

#include "cli/files/readers.h"

enum { PREFIX_BYTES = 12, SHOWN_BYTES = 64, NAME_SHOWN = 128 };

#define REWRITE "write it with numpy.save"

typedef struct dict_reader {
  const fv_file_source *source;
  fv_file_error *error;
  const uint8_t *bytes; /* the dictionary's text */
  uint64_t size, at;
  uint64_t text_offset; /* of bytes[0] in the file */
} dict_reader;

typedef struct npy_header {
  uint64_t descr_begin, descr_end; /* between its quotes */
  bool fortran_order;
  uint64_t fortran_at;
  uint32_t rank;
  int64_t shape[FV_FILE_MAX_RANK];
  uint64_t shape_at;
  unsigned seen; /* bit per key */
} npy_header;

enum { KEY_DESCR, KEY_ORDER, KEY_SHAPE, KEY_COUNT };
static const char *const key_names[KEY_COUNT] = {"descr", "fortran_order", "shape"};

static fv_file_status fail_at(const dict_reader *reader, fv_file_status status, uint64_t at,
                              const char *what) {
  return fv_file_fail(reader->source->label, reader->error, status, reader->text_offset + at,
                      "%s; " REWRITE, what);
}

static fv_file_status fail_syntax(const dict_reader *reader, const char *expected) {
  return fail_at(reader, FV_FILE_INVALID, reader->at, expected);
}

static void skip_space(dict_reader *reader) {
  while (reader->at < reader->size && reader->bytes[reader->at] == ' ') reader->at++;
}

static bool next_is(dict_reader *reader, char wanted) {
  skip_space(reader);
  return reader->at < reader->size && reader->bytes[reader->at] == (uint8_t)wanted;
}

static bool take(dict_reader *reader, char wanted) {
  if (!next_is(reader, wanted)) return false;
  reader->at++;
  return true;
}

/* A word such as True, which must not be the start of a longer word. */
static bool take_word(dict_reader *reader, const char *word) {
  skip_space(reader);
  uint64_t length = strlen(word);
  if (reader->size - reader->at < length ||
      memcmp(reader->bytes + reader->at, word, (size_t)length) != 0) {
    return false;
  }
  uint64_t end = reader->at + length;
  if (end < reader->size) {
    uint8_t next = reader->bytes[end];
    if (next != ' ' && next != ',' && next != '}') return false;
  }
  reader->at = end;
  return true;
}

/* A quoted string of printable ASCII without escapes: no key and no supported type needs more. */
static bool take_string(dict_reader *reader, uint64_t *begin, uint64_t *end) {
  char quote = next_is(reader, '"') ? '"' : '\'';
  if (!take(reader, quote)) return false;
  *begin = reader->at;
  while (reader->at < reader->size) {
    uint8_t byte = reader->bytes[reader->at];
    if (byte == (uint8_t)quote) {
      *end = reader->at++;
      return true;
    }
    if (byte < 0x20 || byte > 0x7e || byte == '\\') return false;
    reader->at++;
  }
  return false;
}

static bool is_digit(const dict_reader *reader) {
  return reader->at < reader->size && reader->bytes[reader->at] >= '0' &&
         reader->bytes[reader->at] <= '9';
}

static fv_file_status read_dim(dict_reader *reader, int64_t *dim) {
  skip_space(reader);
  uint64_t begin = reader->at;
  if (!is_digit(reader)) return fail_syntax(reader, "expected a non-negative integer in the shape");
  int64_t value = 0;
  for (; is_digit(reader); reader->at++) {
    value = value * 10 + (reader->bytes[reader->at] - '0'); /* <= 10 * 2^48 + 9 */
    if (value > FV_FILE_MAX_DIM) {
      return fail_at(reader, FV_FILE_INVALID, begin, "a dimension above the limit of 2^48");
    }
  }
  if (reader->bytes[begin] == '0' && reader->at - begin > 1) {
    return fail_at(reader, FV_FILE_INVALID, begin, "an integer with a leading zero");
  }
  *dim = value;
  return FV_FILE_OK;
}

/* (), (2,), (2, 3), (2, 3,): one dim needs its comma, as in Python; without it this is no tuple. */
static fv_file_status read_shape(dict_reader *reader, npy_header *header) {
  if (!take(reader, '(')) return fail_syntax(reader, "expected '(' before the shape");
  header->shape_at = reader->at - 1;
  bool comma = true;
  while (!take(reader, ')')) {
    if (!comma) return fail_syntax(reader, "expected ',' or ')' in the shape");
    if (header->rank == FV_FILE_MAX_RANK) {
      return fail_at(reader, FV_FILE_UNSUPPORTED, header->shape_at,
                     "the array has more than 8 dimensions; reshape it to fewer");
    }
    fv_file_status status = read_dim(reader, &header->shape[header->rank++]);
    if (status != FV_FILE_OK) return status;
    comma = take(reader, ',');
  }
  if (header->rank == 1 && !comma) {
    return fail_at(reader, FV_FILE_INVALID, reader->at - 1,
                   "expected ',' after the only dimension");
  }
  return FV_FILE_OK;
}

static fv_file_status read_value(dict_reader *reader, npy_header *header, unsigned key) {
  if (key == KEY_SHAPE) return read_shape(reader, header);
  if (key == KEY_DESCR) {
    if (next_is(reader, '[') || next_is(reader, '(') || next_is(reader, '{')) {
      return fail_at(reader, FV_FILE_STRUCTURED, reader->at,
                     "the array holds structured records; save one field as a plain array");
    }
    return take_string(reader, &header->descr_begin, &header->descr_end)
               ? FV_FILE_OK
               : fail_syntax(reader, "expected the type as a quoted string");
  }
  skip_space(reader);
  header->fortran_at = reader->at;
  header->fortran_order = take_word(reader, "True");
  if (header->fortran_order || take_word(reader, "False")) return FV_FILE_OK;
  return fail_syntax(reader, "expected True or False for 'fortran_order'");
}

static fv_file_status read_item(dict_reader *reader, npy_header *header) {
  uint64_t begin, end;
  if (!take_string(reader, &begin, &end)) return fail_syntax(reader, "expected a quoted key");
  unsigned key = 0;
  for (; key < KEY_COUNT; key++) {
    if (strlen(key_names[key]) == end - begin &&
        memcmp(reader->bytes + begin, key_names[key], (size_t)(end - begin)) == 0) {
      break;
    }
  }
  if (key == KEY_COUNT) {
    return fail_at(reader, FV_FILE_INVALID, begin,
                   "a key other than 'descr', 'fortran_order' and 'shape'");
  }
  if (header->seen & 1u << key) return fail_at(reader, FV_FILE_INVALID, begin, "a key given twice");
  header->seen |= 1u << key;
  if (!take(reader, ':')) return fail_syntax(reader, "expected ':' after the key");
  return read_value(reader, header, key);
}

static fv_file_status read_dict(dict_reader *reader, npy_header *header) {
  if (!take(reader, '{')) return fail_syntax(reader, "expected '{' before the header's keys");
  bool comma = true;
  while (!take(reader, '}')) {
    if (!comma) return fail_syntax(reader, "expected ',' or '}' after a value");
    fv_file_status status = read_item(reader, header);
    if (status != FV_FILE_OK) return status;
    comma = take(reader, ',');
  }
  /* Spaces, and a newline only as the last byte: after a newline Python sees an indent. */
  bool newline = next_is(reader, '\n') && reader->at + 1 == reader->size;
  if (reader->at != reader->size && !newline) {
    return fail_syntax(reader, "expected only spaces after the '}'");
  }
  for (unsigned key = 0; key < KEY_COUNT; key++) {
    if (!(header->seen & 1u << key)) {
      return fv_file_fail(reader->source->label, reader->error, FV_FILE_INVALID,
                          reader->text_offset, "the header lacks '%s'; " REWRITE, key_names[key]);
    }
  }
  return FV_FILE_OK;
}

typedef struct descr_row {
  const char *descr;
  fv_file_dtype dtype;
} descr_row;

static const descr_row descrs[] = {
#define DESCR_ROW(name, bytes, descr) {descr, FV_FILE_DTYPE_##name},
    FV_FILE_DTYPE_LIST(DESCR_ROW)
#undef DESCR_ROW
};

static fv_file_dtype find_dtype(const uint8_t *descr, uint64_t length) {
  for (size_t i = 0; i < sizeof descrs / sizeof descrs[0]; i++) {
    if (descrs[i].descr != NULL && strlen(descrs[i].descr) == length &&
        memcmp(descrs[i].descr, descr, (size_t)length) == 0) {
      return descrs[i].dtype;
    }
  }
  return FV_FILE_DTYPE_UNKNOWN;
}

/* Why a type is not read. Each reason has its own status and its own remedy. */
static fv_file_status refuse_dtype(const dict_reader *reader, const npy_header *header) {
  const uint8_t *descr = reader->bytes + header->descr_begin;
  uint64_t length = header->descr_end - header->descr_begin;
  fv_file_status status = FV_FILE_UNSUPPORTED;
  const char *remedy = "convert it with astype to float32, float16, int32 or another plain type";
  uint8_t order = length > 0 ? descr[0] : 0, kind = length > 1 ? descr[1] : 0;
  if (kind == 'O') {
    status = FV_FILE_PYTHON_OBJECTS;
    remedy = "such files run code when loaded; save a plain numeric array";
  } else if (kind == 'V') {
    status = FV_FILE_STRUCTURED;
    remedy = "save plain numbers, and bfloat16 or float8 as .safetensors";
  } else if (kind == 'U' || kind == 'S' || kind == 'a') {
    status = FV_FILE_STRINGS;
    remedy = "save a plain numeric array";
  } else if (order == '>') {
    status = FV_FILE_BIG_ENDIAN;
    remedy = "convert the big-endian data with astype(a.dtype.newbyteorder('<'))";
  }
  char shown[SHOWN_BYTES];
  return fv_file_fail(reader->source->label, reader->error, status,
                      reader->text_offset + header->descr_begin, "the type '%s' is not read; %s",
                      fv_escape(shown, sizeof shown, descr, (size_t)length), remedy);
}

/* Checks all that must hold between the dictionary and the file's size, before memory is asked for.
 */
static fv_file_status judge(const dict_reader *reader, const npy_header *header,
                            fv_file_tensor *tensor) {
  tensor->dtype =
      find_dtype(reader->bytes + header->descr_begin, header->descr_end - header->descr_begin);
  if (tensor->dtype == FV_FILE_DTYPE_UNKNOWN) return refuse_dtype(reader, header);
  tensor->dtype_name = fv_file_dtype_name(tensor->dtype);
  if (header->fortran_order) {
    return fv_file_fail(reader->source->label, reader->error, FV_FILE_FORTRAN_ORDER,
                        reader->text_offset + header->fortran_at,
                        "the array is stored in Fortran (column-major) order; save "
                        "numpy.ascontiguousarray of it");
  }
  tensor->rank = header->rank;
  for (uint32_t i = 0; i < FV_FILE_MAX_RANK; i++) {
    tensor->shape[i] = i < header->rank ? header->shape[i] : 1;
  }
  tensor->file_offset = reader->text_offset + reader->size;
  uint64_t element_bytes = fv_file_dtype_bytes(tensor->dtype);
  if (!fv_shape_bytes(tensor->shape, tensor->rank, (uint32_t)element_bytes, &tensor->bytes)) {
    return fail_at(reader, FV_FILE_INVALID, header->shape_at,
                   "the product of the shape is above 2^63-1 bytes");
  }
  uint64_t present = reader->source->size - tensor->file_offset;
  if (tensor->bytes != present) {
    return fv_file_fail(reader->source->label, reader->error, FV_FILE_INVALID, tensor->file_offset,
                        "tensor '%s': its shape needs %llu bytes of %s but %llu follow the header; "
                        "the file is damaged or cut short: copy it again",
                        tensor->name, (unsigned long long)tensor->bytes, tensor->dtype_name,
                        (unsigned long long)present);
  }
  return FV_FILE_OK;
}

static fv_file_status fail_prefix(const fv_file_source *source, fv_file_error *error,
                                  fv_file_status status, uint64_t at, const char *what) {
  return fv_file_fail(source->label, error, status, at, "%s; " REWRITE, what);
}

/* Signature, version and length: finds the dictionary, and checks its end against the file's size.
 */
static fv_file_status read_prefix(const fv_file_source *source, uint64_t *offset, uint64_t *length,
                                  fv_file_error *error) {
  uint8_t prefix[PREFIX_BYTES] = {0};
  uint64_t got = source->size < PREFIX_BYTES ? source->size : PREFIX_BYTES;
  fv_file_status status = fv_source_read(source, 0, prefix, got, error);
  if (status != FV_FILE_OK) return status;
  if (memcmp(prefix, FV_NPY_SIGNATURE, FV_NPY_SIGNATURE_BYTES) != 0) {
    return fail_prefix(source, error, FV_FILE_INVALID, 0, "it does not begin as an .npy file does");
  }
  uint8_t major = prefix[6], minor = prefix[7];
  if (got >= 8 && (major < 1 || major > 3 || minor != 0)) {
    return fv_file_fail(
        source->label, error, FV_FILE_UNSUPPORTED, 6,
        "version %u.%u of the .npy format is not read (1.0, 2.0 and 3.0 are); " REWRITE, major,
        minor);
  }
  *offset = major == 1 ? 10 : 12;
  if (got < *offset) {
    return fail_prefix(source, error, FV_FILE_INVALID, got, "the file ends within its first bytes");
  }
  *length = prefix[8] | (uint64_t)prefix[9] << 8;
  if (major != 1) *length |= (uint64_t)prefix[10] << 16 | (uint64_t)prefix[11] << 24;
  if (*length > source->size - *offset) {
    return fail_prefix(source, error, FV_FILE_INVALID, 8, "the file ends within its header");
  }
  if (*length > FV_NPY_HEADER_LIMIT) {
    return fv_file_fail(source->label, error, FV_FILE_TOO_LARGE, 8,
                        "its header has %llu bytes, above the limit of %d; " REWRITE,
                        (unsigned long long)*length, FV_NPY_HEADER_LIMIT);
  }
  return FV_FILE_OK;
}

static fv_file_status read_header(const fv_file_source *source, fv_file_tensor *tensor,
                                  fv_file_error *error) {
  uint64_t offset = 0, length = 0;
  fv_file_status status = read_prefix(source, &offset, &length, error);
  if (status != FV_FILE_OK) return status;
  uint8_t *text = (uint8_t *)malloc((size_t)length + 1); /* + 1: not NULL for a length of 0 */
  if (text == NULL) return fv_fail_out_of_memory(source->label, error, length, "its header");
  dict_reader reader = {source, error, text, length, 0, offset};
  npy_header header = {0};
  status = fv_source_read(source, offset, text, length, error);
  if (status == FV_FILE_OK) status = read_dict(&reader, &header);
  if (status == FV_FILE_OK) status = judge(&reader, &header, tensor);
  free(text);
  return status;
}

fv_file_status fv_npy_read(const fv_file_source *source, const char *name, fv_tensor_file **file,
                           fv_file_error *error) {
  char shown[NAME_SHOWN];
  fv_file_tensor tensor = {.name = fv_escape(shown, sizeof shown, name, strlen(name))};
  fv_file_status status = read_header(source, &tensor, error);
  if (status != FV_FILE_OK) return status;

  size_t name_bytes = strlen(name) + 1;
  char *kept = (char *)malloc(name_bytes);
  if (kept == NULL) {
    return fv_fail_out_of_memory(source->label, error, name_bytes, "its tensor's name");
  }
  memcpy(kept, name, name_bytes);
  fv_tensor_file *made;
  status = fv_table_create(source, 1, 0, kept, &made, error);
  if (status != FV_FILE_OK) {
    free(kept);
    return status;
  }
  made->tensors[0] = tensor;
  made->tensors[0].name = kept;
  status = fv_table_load(source, made, error);
  if (status != FV_FILE_OK) {
    fv_tensor_file_close(made);
    return status;
  }
  *file = made;
  return FV_FILE_OK;
}
