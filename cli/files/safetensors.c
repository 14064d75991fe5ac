/* safetensors.c - reads .safetensors files.
 *
 * Layout: u64 little-endian N; N bytes of JSON, padded with white space; then the data.
 *   {"__metadata__": {"key": "value", ..},
 *    "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..}
 * Offsets count from the first byte of data.
 *
 * The same functions walk the header twice. The first walk checks and counts and changes nothing.
 * Then tables of exactly that size are allocated. The second walk fills them in, and turns the
 * header's own bytes into the names. Equal names, gaps and overlaps do not show in one tensor
 * alone: sorting the filled tables finds them. Only then is memory for data allocated.
 *
 * Stricter than the format's first implementation, on purpose: repeated keys, unknown fields in a
 * tensor's entry, U+0000, more than 8 dims or a dim above 2^48 are refused. More lenient in one
 * point: a tensor of an unknown type is kept without its data, so that files with newer types
 * open. */
#include <stdlib.h>
#include <string.h>

#include "cli/files/json_cursor.h"
#include "cli/files/readers.h"
#include "cli/files/utf8.h"

enum { LENGTH_BYTES = 8, NAME_SHOWN = 128 };

#define REWRITE "write the file again with a current safetensors library"
#define COPY_AGAIN "the file is damaged or cut short: copy it again"

typedef struct header_walk {
  const fv_file_source *source;
  fv_file_error *error;
  fv_json_cursor cursor;
  uint64_t data_bytes; /* all that follows the header */
  uint64_t tensor_count, metadata_count;
  bool has_metadata;
  fv_tensor_file *file; /* NULL on the first walk */
} header_walk;

typedef struct tensor_entry {
  fv_json_span name, dtype;
  uint32_t rank;
  int64_t shape[FV_FILE_MAX_RANK];
  uint64_t begin, end;
  uint64_t shape_at, offsets_at; /* where in the header, for messages */
  unsigned seen;                 /* bit per field */
} tensor_entry;

enum { FIELD_DTYPE, FIELD_SHAPE, FIELD_OFFSETS, FIELD_COUNT };
static const char *const field_names[FIELD_COUNT] = {"dtype", "shape", "data_offsets"};

static fv_file_status fail_syntax(const header_walk *walk) {
  return fv_file_fail(walk->source->label, walk->error, FV_FILE_INVALID,
                      LENGTH_BYTES + walk->cursor.at, "in the JSON header: %s; " REWRITE,
                      walk->cursor.problem);
}

/* The name as a message may show it. The raw text is cut longer than what is shown. */
static const char *show(const header_walk *walk, fv_json_span name, char shown[NAME_SHOWN]) {
  uint8_t raw[NAME_SHOWN + FV_UTF8_MAX_BYTES];
  uint64_t bytes = fv_json_unescape(&walk->cursor, name, raw, sizeof raw);
  return fv_escape(shown, NAME_SHOWN, raw, (size_t)bytes);
}

#define FAIL_TENSOR(walk, entry, status, at, format, ...)                                \
  fv_file_fail((walk)->source->label, (walk)->error, status, LENGTH_BYTES + (at),        \
               "tensor '%s': " format, show(walk, (entry)->name, (char[NAME_SHOWN]){0}), \
               __VA_ARGS__)

static fv_file_status walk_shape(header_walk *walk, tensor_entry *entry) {
  if (!fv_json_take(&walk->cursor, '[', "expected '[' before the shape")) return fail_syntax(walk);
  entry->shape_at = walk->cursor.at - 1;
  fv_json_step step;
  while ((step = fv_json_next(&walk->cursor, ']', entry->rank == 0)) == FV_JSON_MEMBER) {
    uint64_t dim;
    if (!fv_json_uint(&walk->cursor, &dim)) return fail_syntax(walk);
    if (dim > (uint64_t)FV_FILE_MAX_DIM) {
      return FAIL_TENSOR(walk, entry, FV_FILE_INVALID, entry->shape_at,
                         "its shape has a dimension of %llu, above the limit of 2^48; " REWRITE,
                         (unsigned long long)dim);
    }
    if (entry->rank == FV_FILE_MAX_RANK) {
      return FAIL_TENSOR(walk, entry, FV_FILE_UNSUPPORTED, entry->shape_at,
                         "its shape has more than %d dimensions; store it with fewer",
                         FV_FILE_MAX_RANK);
    }
    entry->shape[entry->rank++] = (int64_t)dim;
  }
  return step == FV_JSON_END ? FV_FILE_OK : fail_syntax(walk);
}

static fv_file_status walk_offsets(header_walk *walk, tensor_entry *entry) {
  fv_json_cursor *cursor = &walk->cursor;
  if (!fv_json_take(cursor, '[', "expected '[' before the offsets")) return fail_syntax(walk);
  entry->offsets_at = cursor->at - 1;
  if (!fv_json_uint(cursor, &entry->begin) ||
      !fv_json_take(cursor, ',', "expected ',' between the offsets") ||
      !fv_json_uint(cursor, &entry->end) ||
      !fv_json_take(cursor, ']', "expected ']' after the two offsets")) {
    return fail_syntax(walk);
  }
  return FV_FILE_OK;
}

static fv_file_status walk_field(header_walk *walk, tensor_entry *entry) {
  fv_json_span key;
  if (!fv_json_string(&walk->cursor, &key)) return fail_syntax(walk);
  unsigned field = 0;
  while (field < FIELD_COUNT && !fv_json_equals(&walk->cursor, key, field_names[field])) field++;
  if (field == FIELD_COUNT) {
    return FAIL_TENSOR(walk, entry, FV_FILE_INVALID, key.begin,
                       "its entry has the field '%s', which the format does not; " REWRITE,
                       show(walk, key, (char[NAME_SHOWN]){0}));
  }
  if (entry->seen & 1u << field) {
    return FAIL_TENSOR(walk, entry, FV_FILE_INVALID, key.begin, "its '%s' is given twice; " REWRITE,
                       field_names[field]);
  }
  entry->seen |= 1u << field;
  if (!fv_json_take(&walk->cursor, ':', "expected ':' after the key")) return fail_syntax(walk);
  if (field == FIELD_SHAPE) return walk_shape(walk, entry);
  if (field == FIELD_OFFSETS) return walk_offsets(walk, entry);
  return fv_json_string(&walk->cursor, &entry->dtype) ? FV_FILE_OK : fail_syntax(walk);
}

static fv_file_dtype find_dtype(const header_walk *walk, fv_json_span text) {
  static const fv_file_dtype all[] = {
#define DTYPE_VALUE(name, bytes, descr) FV_FILE_DTYPE_##name,
      FV_FILE_DTYPE_LIST(DTYPE_VALUE)
#undef DTYPE_VALUE
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (fv_json_equals(&walk->cursor, text, fv_file_dtype_name(all[i]))) return all[i];
  }
  return FV_FILE_DTYPE_UNKNOWN;
}

/* All that one entry must fulfil by itself. An unknown type has an unknown element size: there only
 * the range is checked, and that the dims can be multiplied at all. */
static fv_file_status check_entry(const header_walk *walk, const tensor_entry *entry,
                                  fv_file_dtype dtype) {
  if (entry->begin > entry->end || entry->end > walk->data_bytes) {
    return FAIL_TENSOR(
        walk, entry, FV_FILE_INVALID, entry->offsets_at,
        "its data_offsets [%llu, %llu] are not a range within the %llu bytes of data; " COPY_AGAIN,
        (unsigned long long)entry->begin, (unsigned long long)entry->end,
        (unsigned long long)walk->data_bytes);
  }
  bool known = dtype != FV_FILE_DTYPE_UNKNOWN;
  uint64_t bytes;
  if (!fv_shape_bytes(entry->shape, entry->rank, known ? fv_file_dtype_bytes(dtype) : 1, &bytes)) {
    return FAIL_TENSOR(walk, entry, FV_FILE_INVALID, entry->shape_at,
                       "the product of its shape is above %s; " REWRITE, "2^63-1 bytes");
  }
  if (known && bytes != entry->end - entry->begin) {
    return FAIL_TENSOR(walk, entry, FV_FILE_INVALID, entry->offsets_at,
                       "its shape needs %llu bytes of %s but its data_offsets span %llu; " REWRITE,
                       (unsigned long long)bytes, fv_file_dtype_name(dtype),
                       (unsigned long long)(entry->end - entry->begin));
  }
  return FV_FILE_OK;
}

static void store_tensor(header_walk *walk, const tensor_entry *entry, fv_file_dtype dtype) {
  fv_file_tensor *tensor = &walk->file->tensors[walk->tensor_count];
  bool known = dtype != FV_FILE_DTYPE_UNKNOWN;
  tensor->dtype = dtype;
  tensor->rank = entry->rank;
  for (uint32_t i = 0; i < FV_FILE_MAX_RANK; i++) {
    tensor->shape[i] = i < entry->rank ? entry->shape[i] : 1;
  }
  tensor->bytes = entry->end - entry->begin;
  tensor->file_offset = LENGTH_BYTES + walk->cursor.size + entry->begin;
  tensor->name = fv_json_settle(&walk->cursor, entry->name);
  tensor->dtype_name =
      known ? fv_file_dtype_name(dtype) : fv_json_settle(&walk->cursor, entry->dtype);
}

static fv_file_status walk_tensor(header_walk *walk, fv_json_span name) {
  tensor_entry entry = {.name = name};
  if (!fv_json_take(&walk->cursor, '{', "expected '{' before a tensor's fields")) {
    return fail_syntax(walk);
  }
  fv_json_step step;
  while ((step = fv_json_next(&walk->cursor, '}', entry.seen == 0)) == FV_JSON_MEMBER) {
    fv_file_status status = walk_field(walk, &entry);
    if (status != FV_FILE_OK) return status;
  }
  if (step != FV_JSON_END) return fail_syntax(walk);
  for (unsigned field = 0; field < FIELD_COUNT; field++) {
    if (!(entry.seen & 1u << field)) {
      return FAIL_TENSOR(walk, &entry, FV_FILE_INVALID, name.begin,
                         "its entry lacks '%s'; " REWRITE, field_names[field]);
    }
  }
  fv_file_dtype dtype = find_dtype(walk, entry.dtype);
  fv_file_status status = check_entry(walk, &entry, dtype);
  if (status != FV_FILE_OK) return status;
  if (walk->file != NULL) store_tensor(walk, &entry, dtype);
  walk->tensor_count++;
  return FV_FILE_OK;
}

static fv_file_status walk_metadata(header_walk *walk) {
  fv_json_cursor *cursor = &walk->cursor;
  if (!fv_json_take(cursor, '{', "expected '{' before the metadata")) return fail_syntax(walk);
  fv_json_step step;
  while ((step = fv_json_next(cursor, '}', walk->metadata_count == 0)) == FV_JSON_MEMBER) {
    fv_json_span key, value;
    if (!fv_json_string(cursor, &key) || !fv_json_take(cursor, ':', "expected ':' after the key") ||
        !fv_json_string(cursor, &value)) {
      return fail_syntax(walk);
    }
    if (walk->file != NULL) {
      fv_file_metadata *pair = &walk->file->metadata[walk->metadata_count];
      pair->key = fv_json_settle(cursor, key);
      pair->value = fv_json_settle(cursor, value);
    }
    walk->metadata_count++;
  }
  return step == FV_JSON_END ? FV_FILE_OK : fail_syntax(walk);
}

static fv_file_status walk_member(header_walk *walk) {
  fv_json_span name;
  if (!fv_json_string(&walk->cursor, &name) ||
      !fv_json_take(&walk->cursor, ':', "expected ':' after the key")) {
    return fail_syntax(walk);
  }
  if (!fv_json_equals(&walk->cursor, name, "__metadata__")) return walk_tensor(walk, name);
  if (walk->has_metadata) {
    return fv_file_fail(walk->source->label, walk->error, FV_FILE_INVALID,
                        LENGTH_BYTES + name.begin, "'__metadata__' is given twice; " REWRITE);
  }
  walk->has_metadata = true;
  return walk_metadata(walk);
}

static fv_file_status walk_header(header_walk *walk) {
  fv_json_cursor *cursor = &walk->cursor;
  fv_json_step step;
  cursor->at = 1; /* the '{' was checked when the header was read */
  bool first = true;
  walk->tensor_count = walk->metadata_count = 0;
  walk->has_metadata = false;
  while ((step = fv_json_next(cursor, '}', first)) == FV_JSON_MEMBER) {
    fv_file_status status = walk_member(walk);
    if (status != FV_FILE_OK) return status;
    first = false;
  }
  if (step != FV_JSON_END || !fv_json_finish(cursor)) return fail_syntax(walk);
  return FV_FILE_OK;
}

static int by_text(const void *a, const void *b) {
  const char *x = *(const char *const *)a, *y = *(const char *const *)b;
  int order = strcmp(x, y);
  return order != 0 ? order : (x > y) - (x < y);
}

/* The later of two equal strings among these, or NULL. Sorts them, equal strings by their
 * addresses: all lie in the header. */
static const char *find_repeat(const char **strings, uint64_t count) {
  qsort(strings, (size_t)count, sizeof strings[0], by_text);
  for (uint64_t i = 1; i < count; i++) {
    if (strcmp(strings[i - 1], strings[i]) == 0) return strings[i];
  }
  return NULL;
}

static fv_file_status check_names(const header_walk *walk, const char **order) {
  const fv_tensor_file *file = walk->file;
  for (uint64_t i = 0; i < file->metadata_count; i++) order[i] = file->metadata[i].key;
  const char *what = "metadata key";
  const char *repeat = find_repeat(order, file->metadata_count);
  if (repeat == NULL) {
    for (uint64_t i = 0; i < file->tensor_count; i++) order[i] = file->tensors[i].name;
    what = "tensor";
    repeat = find_repeat(order, file->tensor_count);
  }
  if (repeat == NULL) return FV_FILE_OK;
  char shown[NAME_SHOWN];
  return fv_file_fail(walk->source->label, walk->error, FV_FILE_INVALID,
                      LENGTH_BYTES + (uint64_t)(repeat - file->text),
                      "%s '%s' is given twice; " REWRITE, what,
                      fv_escape(shown, sizeof shown, repeat, strlen(repeat)));
}

static int compare(uint64_t a, uint64_t b) {
  return (a > b) - (a < b);
}

/* By first byte. An empty tensor comes before the one that begins at the same byte. */
static int by_range(const void *a, const void *b) {
  const fv_file_tensor *x = *(const fv_file_tensor *const *)a;
  const fv_file_tensor *y = *(const fv_file_tensor *const *)b;
  if (x->file_offset != y->file_offset) return compare(x->file_offset, y->file_offset);
  return compare(x->bytes, y->bytes);
}

static fv_file_status check_tiling(const header_walk *walk, const fv_file_tensor **order) {
  const fv_tensor_file *file = walk->file;
  for (uint64_t i = 0; i < file->tensor_count; i++) order[i] = &file->tensors[i];
  qsort(order, (size_t)file->tensor_count, sizeof order[0], by_range);
  uint64_t covered = LENGTH_BYTES + walk->cursor.size;
  char shown[NAME_SHOWN];
  for (uint64_t i = 0; i < file->tensor_count; i++) {
    const fv_file_tensor *tensor = order[i];
    if (tensor->file_offset != covered) {
      return fv_file_fail(walk->source->label, walk->error, FV_FILE_INVALID, tensor->file_offset,
                          "tensor '%s' begins %s the tensor before it ends, at byte %llu; " REWRITE,
                          fv_escape(shown, sizeof shown, tensor->name, strlen(tensor->name)),
                          tensor->file_offset < covered ? "before" : "after",
                          (unsigned long long)covered);
    }
    covered += tensor->bytes; /* both lie within the file */
  }
  if (covered != walk->source->size) {
    return fv_file_fail(walk->source->label, walk->error, FV_FILE_INVALID, covered,
                        "%llu bytes follow that belong to no tensor; " REWRITE,
                        (unsigned long long)(walk->source->size - covered));
  }
  return FV_FILE_OK;
}

static fv_file_status check_together(const header_walk *walk) {
  const fv_tensor_file *file = walk->file;
  uint64_t rows =
      file->tensor_count > file->metadata_count ? file->tensor_count : file->metadata_count;
  uint64_t bytes = (rows + 1) * sizeof(void *); /* rows < header bytes: no overflow */
  void *order = malloc((size_t)bytes);
  if (order == NULL) {
    return fv_fail_out_of_memory(walk->source->label, walk->error, bytes, "sorting its names");
  }
  fv_file_status status = check_names(walk, (const char **)order);
  if (status == FV_FILE_OK) status = check_tiling(walk, (const fv_file_tensor **)order);
  free(order);
  return status;
}

static uint64_t little_endian(const uint8_t *bytes) {
  uint64_t value = 0;
  for (int i = LENGTH_BYTES - 1; i >= 0; i--) value = value << 8 | bytes[i];
  return value;
}

/* Reads the length, and checks it against the file's size before anything is allocated for it. */
static fv_file_status read_length(const fv_file_source *source, uint64_t *length,
                                  fv_file_error *error) {
  if (source->size < LENGTH_BYTES + 2) {
    return fv_file_fail(source->label, error, FV_FILE_INVALID, source->size,
                        "the file ends before a .safetensors header could (8 bytes of length and "
                        "'{}'); " COPY_AGAIN);
  }
  uint8_t bytes[LENGTH_BYTES];
  fv_file_status status = fv_source_read(source, 0, bytes, sizeof bytes, error);
  if (status != FV_FILE_OK) return status;
  *length = little_endian(bytes);
  if (*length < 2 || *length > source->size - LENGTH_BYTES) {
    return fv_file_fail(
        source->label, error, FV_FILE_INVALID, 0,
        "as .safetensors its header would have %llu bytes, in a file of %llu; it is "
        "cut short, or of another format",
        (unsigned long long)*length, (unsigned long long)source->size);
  }
  if (*length > FV_SAFETENSORS_HEADER_LIMIT) {
    return fv_file_fail(source->label, error, FV_FILE_TOO_LARGE, 0,
                        "its header has %llu bytes, above the limit of %d; store fewer tensors or "
                        "less metadata in one file",
                        (unsigned long long)*length, FV_SAFETENSORS_HEADER_LIMIT);
  }
  return FV_FILE_OK;
}

static fv_file_status read_header(const fv_file_source *source, fv_json_cursor *cursor,
                                  fv_file_error *error) {
  uint64_t length = 0;
  fv_file_status status = read_length(source, &length, error);
  if (status != FV_FILE_OK) return status;
  uint8_t *bytes = (uint8_t *)malloc((size_t)length);
  if (bytes == NULL) return fv_fail_out_of_memory(source->label, error, length, "its header");
  status = fv_source_read(source, LENGTH_BYTES, bytes, length, error);
  if (status == FV_FILE_OK && bytes[0] != '{') {
    status = fv_file_fail(source->label, error, FV_FILE_INVALID, LENGTH_BYTES,
                          "a .safetensors header begins with '{' here; " REWRITE);
  }
  if (status != FV_FILE_OK) {
    free(bytes);
    return status;
  }
  *cursor = (fv_json_cursor){.bytes = bytes, .size = length};
  return FV_FILE_OK;
}

fv_file_status fv_safetensors_read(const fv_file_source *source, const char *name,
                                   fv_tensor_file **file, fv_file_error *error) {
  (void)name;
  header_walk walk = {.source = source, .error = error};
  fv_file_status status = read_header(source, &walk.cursor, error);
  if (status != FV_FILE_OK) return status;
  walk.data_bytes = source->size - LENGTH_BYTES - walk.cursor.size;

  status = walk_header(&walk);
  if (status == FV_FILE_OK) {
    status = fv_table_create(source, walk.tensor_count, walk.metadata_count,
                             (char *)walk.cursor.bytes, &walk.file, error);
  }
  if (status != FV_FILE_OK) {
    free(walk.cursor.bytes);
    return status;
  }
  status = walk_header(&walk); /* this walk stores; the first walk has checked everything */
  if (status == FV_FILE_OK) status = check_together(&walk);
  if (status == FV_FILE_OK) status = fv_table_load(source, walk.file, error);
  if (status != FV_FILE_OK) {
    fv_tensor_file_close(walk.file);
    return status;
  }
  *file = walk.file;
  return FV_FILE_OK;
}
