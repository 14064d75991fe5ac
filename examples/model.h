/* model.h - what the programs with trained weights share: a reader of their files, layers without
 * paperwork, and tables of numbers. A program that links libfovea-layers needs this file only to be
 * short: what a server would do with errors, this does with exit. */
#ifndef FOVEA_EXAMPLES_MODEL_H
#define FOVEA_EXAMPLES_MODEL_H

#include <fovea_layers.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MODEL_TENSORS_MAX = 64, MODEL_FILE_MAX = 1 << 30 };

static inline void model_fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* Never NULL; zeros. */
static inline void *model_allocate(size_t bytes) {
  size_t whole = (bytes + 256) / 256 * 256;
  void *memory = aligned_alloc(256, whole);
  if (!memory) model_fail("memory", "out of memory");
  return memset(memory, 0, whole);
}

/* ---- Files ---- */

/* The files that a program has read: it writes over none of them. */
enum { MODEL_FILES_MAX = 8 };
typedef struct model_files {
  struct stat at[MODEL_FILES_MAX];
  int count;
} model_files;

static inline model_files *model_files_read(void) {
  static model_files files;
  return &files;
}

static inline void model_note_file(FILE *file) {
  model_files *files = model_files_read();
  if (files->count < MODEL_FILES_MAX) fstat(fileno(file), &files->at[files->count++]);
}

/* A whole file, with a NUL behind it. */
static inline char *model_read(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) model_fail(path, "cannot be opened");
  model_note_file(file);
  long size = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
  /* A pipe has no end to seek; that of a directory may be anywhere. */
  if (size < 0 || size > MODEL_FILE_MAX) model_fail(path, "is no file, or too large a one");
  rewind(file);
  char *text = model_allocate((size_t)size + 1);
  /* One byte more is asked for than is there: reading a directory fails only if it is tried. */
  size_t got = fread(text, 1, (size_t)size + 1, file);
  if (got != (size_t)size || ferror(file)) model_fail(path, "cannot be read");
  fclose(file);
  text[size] = '\0';
  *bytes = (size_t)size;
  return text;
}

/* A text file's lines, each ended by a NUL in place of its line feed; at least one, none empty. */
typedef struct model_lines {
  const char *path;
  char *text;
  char **at;
  int count;
} model_lines;

static inline void model_fail_line(const model_lines *lines, int n, const char *why) {
  fprintf(stderr, "%s: line %d %s\n", lines->path, n + 1, why);
  exit(1);
}

static inline model_lines model_read_lines(const char *path) {
  size_t bytes;
  model_lines lines = {.path = path, .text = model_read(path, &bytes)};
  if (!bytes) model_fail(path, "has no lines");
  if (memchr(lines.text, '\0', bytes)) model_fail(path, "has a NUL byte, which no text has");
  for (size_t i = 0; i < bytes; ++i) lines.count += lines.text[i] == '\n';
  lines.count += lines.text[bytes - 1] != '\n'; /* the last line may lack its line feed */
  lines.at = model_allocate((size_t)lines.count * sizeof *lines.at);
  char *next = lines.text;
  for (int n = 0; n < lines.count; ++n) {
    lines.at[n] = next;
    next += strcspn(next, "\n");
    *next++ = '\0'; /* of the last line perhaps the NUL behind the text */
    if (!*lines.at[n]) model_fail_line(&lines, n, "is empty");
  }
  return lines;
}

static inline void model_free_lines(model_lines *lines) {
  free(lines->text);
  free(lines->at);
}

/* ---- Weights ---- */

typedef struct model_tensor {
  char name[64];
  fovea_tensor tensor; /* a matrix [out, in] as [1, out, 1, in]; a vector as [1, 1, 1, n] */
} model_tensor;

/* examples/models/weights.py states the format. */
typedef struct model {
  char *file;
  const char *path;
  model_tensor tensors[MODEL_TENSORS_MAX];
  int count;
  fovea_handle *handle;
  void *workspace; /* grows to what the largest call asks for */
  size_t workspace_bytes;
} model;

/* One line of the header: `name f32|f16 n` or `name f32|f16 out in`. Returns the tensor's bytes. */
static inline size_t model_parse(const char *path, const char *line, model_tensor *to) {
  char type[8], more;
  long long dims[2] = {1, 1};
  /* 18 digits always fit; what is left of a longer number is a field too many. */
  int fields = sscanf(line, "%63s %7s %18lld %18lld %c", to->name, type, &dims[0], &dims[1], &more);
  int known = fields >= 2 && (!strcmp(type, "f32") || !strcmp(type, "f16"));
  int sized = dims[0] > 0 && dims[1] > 0 && dims[0] <= 1 << 24 && dims[1] <= 1 << 24;
  if (!known || !sized || fields < 3 || fields > 4) {
    fprintf(stderr, "%s: '%.80s' is no tensor: a name, f32 or f16, 1 or 2 dims\n", path, line);
    exit(1);
  }
  if (fields == 3) dims[1] = dims[0], dims[0] = 1;
  int half = !strcmp(type, "f16");
  to->tensor = fovea_contiguous(NULL, half ? FOVEA_F16 : FOVEA_F32, 1, dims[0], 1, dims[1]);
  return (size_t)(dims[0] * dims[1]) * (half ? 2 : 4);
}

/* Reads a file of weights; what its header says is believed only as far as the file has bytes. */
static inline model model_open(const char *path) {
  static const char magic[] = "fovea-weights 1\n";
  size_t bytes;
  model made = {.file = model_read(path, &bytes), .path = path};
  char *line = made.file + sizeof magic - 1, *end = strstr(made.file, "\n\n");
  if (strncmp(made.file, magic, sizeof magic - 1) || !end) model_fail(path, "is no weights file");
  size_t at = (size_t)(end + 2 - made.file);
  while (line <= end) {
    char *feed = strchr(line, '\n');
    *feed = '\0'; /* so that the line is a string, and numbers among the elements are none of it */
    if (made.count == MODEL_TENSORS_MAX) model_fail(path, "has too many tensors");
    model_tensor *tensor = &made.tensors[made.count++];
    size_t size = model_parse(path, line, tensor);
    at = (at + 63) / 64 * 64;
    if (at > bytes || size > bytes - at) model_fail(path, "ends before its last tensor");
    tensor->tensor.data = made.file + at;
    at += size;
    line = feed + 1;
  }
  if (at != bytes) model_fail(path, "goes on behind its last tensor");
  fovea_options options = {.struct_size = sizeof options, .device = FOVEA_DEVICE_CPU};
  if (fovea_create(&options, &made.handle) != FOVEA_OK) model_fail("fovea", fovea_error_detail());
  return made;
}

static inline void model_close(model *m) {
  fovea_destroy(m->handle);
  free(m->workspace);
  free(m->file);
}

/* The tensor of that name if there is one; otherwise one that is absent. */
static inline fovea_tensor model_find_any(const model *m, const char *name) {
  for (int i = 0; i < m->count; ++i) {
    if (!strcmp(m->tensors[i].name, name)) return m->tensors[i].tensor;
  }
  return (fovea_tensor){.dtype = FOVEA_NONE};
}

/* The tensor of that name, which must be there as [rows, columns]. The programs' arrays have fixed
 * sizes: a file with other sizes must be refused before a layer writes past their ends. */
static inline fovea_tensor model_find(const model *m, const char *name, int rows, int columns) {
  fovea_tensor found = model_find_any(m, name);
  if (found.dtype == FOVEA_NONE) {
    fprintf(stderr, "%s: has no tensor %s\n", m->path, name);
    exit(1);
  }
  if (found.shape[1] != rows || found.shape[3] != columns) {
    fprintf(stderr, "%s: %s is %d x %d, must be %d x %d\n", m->path, name, (int)found.shape[1],
            (int)found.shape[3], rows, columns);
    exit(1);
  }
  return found;
}

/* NAME.weight [out, in] and, if it is there, NAME.bias [out]. */
static inline fovea_linear model_linear(const model *m, const char *name, int out, int in,
                                        uint32_t activation) {
  char full[80];
  fovea_linear linear = {.activation = activation};
  snprintf(full, sizeof full, "%s.weight", name);
  linear.weight = model_find(m, full, out, in);
  snprintf(full, sizeof full, "%s.bias", name);
  if (model_find_any(m, full).dtype != FOVEA_NONE) linear.bias = model_find(m, full, 1, out);
  return linear;
}

/* The elements of a tensor that must be f32. */
static inline const float *model_floats(const model *m, const char *name, int rows, int columns) {
  fovea_tensor tensor = model_find(m, name, rows, columns);
  if (tensor.dtype != FOVEA_F32) model_fail(name, "must be f32");
  return tensor.data;
}

/* ---- Calls ---- */

static inline void model_need(model *m, fovea_status status, size_t bytes) {
  if (status != FOVEA_OK) model_fail("layers", fovea_layers_error_detail());
  if (bytes <= m->workspace_bytes) return;
  free(m->workspace);
  m->workspace = model_allocate(bytes);
  m->workspace_bytes = bytes;
}

/* out = linear(x) + residual (NULL: none), tokens of [1, len, 1, width] in f32. */
static inline void model_apply(model *m, fovea_linear linear, float *x, int64_t len,
                               const float *residual, float *out) {
  int64_t width = linear.weight.shape[1], in = linear.weight.shape[3];
  size_t bytes = 0;
  fovea_linear_args args = {.struct_size = sizeof args, .linear = linear};
  args.x = fovea_contiguous(x, FOVEA_F32, 1, len, 1, in);
  args.out = fovea_contiguous(out, FOVEA_F32, 1, len, 1, width);
  if (residual) args.residual = fovea_contiguous((void *)residual, FOVEA_F32, 1, len, 1, width);
  fovea_status status = fovea_linear_workspace(m->handle, &args, &bytes);
  model_need(m, status, bytes);
  args.workspace = m->workspace;
  args.workspace_bytes = m->workspace_bytes;
  status = fovea_linear_apply(m->handle, &args, NULL);
  model_need(m, status, 0);
}

/* Row n of a table, as f32: a projection without weights converts. */
static inline void model_look_up(model *m, fovea_tensor table, int n, float *to) {
  int64_t width = table.shape[3];
  size_t bytes = 0;
  fovea_linear_args args = {.struct_size = sizeof args, .x = table};
  args.x.shape[1] = 1;
  args.x.data = (char *)table.data + n * width * (table.dtype == FOVEA_F16 ? 2 : 4);
  args.out = fovea_contiguous(to, FOVEA_F32, 1, 1, 1, width);
  fovea_status status = fovea_linear_workspace(m->handle, &args, &bytes);
  model_need(m, status, bytes);
  args.workspace = m->workspace;
  args.workspace_bytes = m->workspace_bytes;
  model_need(m, fovea_linear_apply(m->handle, &args, NULL), 0);
}

static inline void model_attend(model *m, fovea_multihead_args args) {
  size_t bytes = 0;
  fovea_status status = fovea_multihead_workspace(m->handle, &args, &bytes);
  model_need(m, status, bytes);
  args.workspace = m->workspace;
  args.workspace_bytes = m->workspace_bytes;
  model_need(m, fovea_multihead(m->handle, &args, NULL), 0);
}

/* A GRU of `hidden` units over tokens of `in` elements: NAME.weight_ih and so on. */
static inline fovea_recurrent_args model_gru(const model *m, const char *name, int in, int hidden) {
  static const char *const parts[4] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  const int gates = 3 * hidden;
  const int shapes[4][2] = {{gates, in}, {gates, hidden}, {1, gates}, {1, gates}};
  fovea_tensor found[4];
  char full[80];
  for (int i = 0; i < 4; ++i) {
    snprintf(full, sizeof full, "%s.%s", name, parts[i]);
    found[i] = model_find(m, full, shapes[i][0], shapes[i][1]);
  }
  return (fovea_recurrent_args){.struct_size = sizeof(fovea_recurrent_args),
                                .cell = FOVEA_CELL_GRU,
                                .weight_x = found[0],
                                .weight_h = found[1],
                                .bias_x = found[2],
                                .bias_h = found[3]};
}

/* Runs it over len tokens; states [len, stride] (NULL: not wanted), h [hidden] is where it begins
 * and ends. */
static inline void model_run_gru(model *m, fovea_recurrent_args args, float *x, int64_t len,
                                 float *states, int64_t stride, float *h) {
  int64_t in = args.weight_x.shape[3], hidden = args.weight_h.shape[3];
  size_t bytes = 0;
  args.x = fovea_contiguous(x, FOVEA_F32, 1, len, 1, in);
  if (states) {
    args.states = fovea_contiguous(states, FOVEA_F32, 1, len, 1, hidden);
    args.states.stride[0] = len * stride;
    args.states.stride[1] = args.states.stride[2] = stride;
  }
  args.h_first = args.h_last = fovea_contiguous(h, FOVEA_F32, 1, 1, 1, hidden);
  fovea_status status = fovea_recurrent_workspace(m->handle, &args, &bytes);
  model_need(m, status, bytes);
  args.workspace = m->workspace;
  args.workspace_bytes = m->workspace_bytes;
  model_need(m, fovea_recurrent(m->handle, &args, NULL), 0);
}

/* ---- Output ---- */

/* A table as the golden files have it: a line `name rows columns`, then a line per row. */
static inline void model_print_table(const char *name, const float *values, int rows, int columns) {
  printf("%s %d %d\n", name, rows, columns);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) {
      printf("%s%.6g", c ? " " : "", (double)values[r * columns + c]);
    }
    printf("\n");
  }
}

static inline void model_print_integers(const char *name, const int *values, int count) {
  printf("%s 1 %d\n", name, count);
  for (int i = 0; i < count; ++i) printf("%s%d", i ? " " : "", values[i]);
  printf("\n");
}

/* Text on a background from white to violet, by a share of the largest; brackets where there are no
 * colours. */
static inline void model_print_shaded(const char *text, float share, int colours) {
  static const int shades[6] = {231, 225, 219, 177, 134, 91};
  int level = share >= 1 ? 5 : share > 0 ? (int)(share * 5 + 0.5f) : 0; /* 0 for a NaN too */
  if (colours) {
    printf("\033[48;5;%d;38;5;%dm%s\033[0m", shades[level], level > 3 ? 231 : 16, text);
  } else {
    printf("%s%s%s", level > 2 ? "[" : "", text, level > 2 ? "]" : "");
  }
}

/* A cell of a picture, three wide, on such a background. */
static inline void model_print_cell(char mark, float share, int colours) {
  const char plain[] = {' ', mark, ' ', '\0'};
  if (colours) {
    model_print_shaded(plain, share, colours);
  } else {
    printf(share > 0.5f ? "[%c]" : " %c ", mark);
  }
}

/* ---- Pictures ---- */

/* What `fovea map` draws: weights [heads, rows, keys], one panel per head. Names may be NULL. */
typedef struct model_picture {
  const char *title, *row_axis, *key_axis, *quantity; /* NULL: it is attention weights */
  int heads, rows, keys;
  const float *weights;
  const char *const *head_names, *const *row_names, *const *key_names;
} model_picture;

/* In JSON, in which the strings are quoted once more: a list inside a string. */
static inline void model_write_text(FILE *to, const char *text, int quoted_twice) {
  for (; *text; ++text) {
    unsigned char c = (unsigned char)*text;
    if (c < 0x20 || c == '"' || c == '\\') {
      fprintf(to, quoted_twice ? "\\\\u%04x" : "\\u%04x", c);
    } else {
      putc(c, to);
    }
  }
}

static inline void model_write_names(FILE *to, const char *key, const char *const *names, int count,
                                     int per_batch_row) {
  if (!names) return;
  fprintf(to, ",\"%s\":\"%s", key, per_batch_row ? "[[" : "[");
  for (int n = 0; n < count; ++n) {
    fputs(n ? ",\\\"" : "\\\"", to);
    model_write_text(to, names[n], 1);
    fputs("\\\"", to);
  }
  fputs(per_batch_row ? "]]\"" : "]\"", to);
}

static inline char *model_make_header(const model_picture *p, size_t elements, size_t *bytes) {
  char *header;
  FILE *text = open_memstream(&header, bytes);
  if (!text) model_fail("memory", "out of memory");
  fputs("{\"__metadata__\":{\"title\":\"", text);
  model_write_text(text, p->title, 0);
  fprintf(text, "\",\"query_axis\":\"%s\",\"key_axis\":\"%s\"", p->row_axis, p->key_axis);
  if (p->quantity) fprintf(text, ",\"quantity\":\"%s\"", p->quantity);
  model_write_names(text, "head_names", p->head_names, p->heads, 0);
  model_write_names(text, "query_tokens", p->row_names, p->rows, 1);
  model_write_names(text, "tokens", p->key_names, p->keys, 1);
  fprintf(text, "},\"weights\":{\"dtype\":\"F32\",\"shape\":[%d,%d,%d],\"data_offsets\":[0,%zu]}}",
          p->heads, p->rows, p->keys, elements * sizeof(float));
  if (fclose(text)) model_fail("memory", "out of memory");
  return header;
}

/* Not over an input, and not in place of a device or a folder. */
static inline void model_check_output(const char *path) {
  const model_files *files = model_files_read();
  struct stat there;
  if (stat(path, &there)) return;
  if (!S_ISREG(there.st_mode)) model_fail(path, "is no file: name another");
  for (int i = 0; i < files->count; ++i) {
    const struct stat *read = &files->at[i];
    if (read->st_dev != there.st_dev || read->st_ino != there.st_ino) continue;
    model_fail(path, "is a file that the program reads: name another");
  }
}

/* A .safetensors file: the length of a header in JSON, the header, the elements. It is written
 * beside `path` and then takes its name: all of it, or nothing. */
static inline void model_write_picture(const char *path, const model_picture *p) {
  char part[4096];
  size_t bytes, elements = (size_t)p->heads * (size_t)p->rows * (size_t)p->keys;
  char *header = model_make_header(p, elements, &bytes);
  unsigned char length[8]; /* little-endian, as the elements are on all machines that fovea knows */
  for (int i = 0; i < 8; ++i) length[i] = (unsigned char)((uint64_t)bytes >> 8 * i);
  model_check_output(path);
  if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) {
    model_fail("the path", "is too long");
  }
  FILE *file = fopen(part, "wb");
  if (!file) model_fail(path, "cannot be written");
  int whole = fwrite(length, sizeof length, 1, file) == 1 && fwrite(header, bytes, 1, file) == 1 &&
              fwrite(p->weights, sizeof(float), elements, file) == elements;
  if (fclose(file) || !whole || rename(part, path)) {
    remove(part);
    model_fail(path, "cannot be written");
  }
  free(header);
}

/* ---- Arguments ---- */

typedef struct model_arguments {
  int numbers;      /* to be printed */
  const char *map;  /* where to write a picture; NULL: nowhere */
  const char *what; /* an input; NULL: none was given */
} model_arguments;

static inline model_arguments model_read_arguments(int argc, char **argv, const char *help) {
  model_arguments read = {0};
  int at = 1;
  if (argc > 1 && !strcmp(argv[1], "--help")) {
    fputs(help, stdout);
    exit(0);
  }
  if (argc > 1 && !strcmp(argv[1], "--numbers")) {
    read.numbers = 1;
    at = 2;
  } else if (argc > 2 && !strcmp(argv[1], "--map") && argv[2][0] != '-') {
    read.map = argv[2];
    at = 3;
  }
  int any = at < argc && !strcmp(argv[at], "--"); /* what follows may begin with a dash */
  at += any;
  if (at < argc && (any || argv[at][0] != '-')) read.what = argv[at++];
  if (at == argc && (read.what || !read.numbers)) return read;
  fputs(help, stderr);
  exit(2);
}

/* The number of a test input. */
static inline int model_number(const char *text, int count) {
  char *end;
  long number = strtol(text, &end, 10);
  if (*end || end == text || number < 0 || number >= count) {
    model_fail(text, "is no number of a test input, counted from 0");
  }
  return (int)number;
}

#endif /* FOVEA_EXAMPLES_MODEL_H */
