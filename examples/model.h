/* model.h - what the programs with trained weights share: a reader of their files, layers without
 * paperwork, and tables of numbers. A program that links libfovea-layers needs this file only to be
 * short: what a server would do with errors, this does with exit. */
#ifndef FOVEA_EXAMPLES_MODEL_H
#define FOVEA_EXAMPLES_MODEL_H

#include <fovea_layers.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A whole file, with a NUL behind it. */
static inline char *model_read(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) model_fail(path, "cannot be opened");
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  if (size < 0) model_fail(path, "is no file");
  char *text = model_allocate((size_t)size + 1);
  if (fread(text, 1, (size_t)size, file) != (size_t)size) model_fail(path, "cannot be read");
  fclose(file);
  *bytes = (size_t)size;
  return text;
}

/* A text file's lines, each ended by a NUL in place of its line feed. */
typedef struct model_lines {
  char *text;
  char **at;
  int count;
} model_lines;

static inline model_lines model_read_lines(const char *path) {
  size_t bytes;
  model_lines lines = {.text = model_read(path, &bytes)};
  for (size_t i = 0; i < bytes; ++i) lines.count += lines.text[i] == '\n';
  lines.at = model_allocate((size_t)(lines.count + 1) * sizeof *lines.at);
  char *next = lines.text;
  for (int n = 0; n < lines.count; ++n) {
    lines.at[n] = next;
    next = strchr(next, '\n');
    *next++ = '\0';
  }
  return lines;
}

static inline void model_free_lines(model_lines *lines) {
  free(lines->text);
  free(lines->at);
}

/* ---- Weights ---- */

/* examples/models/weights.py states the format. */
typedef struct model {
  char *file;
  size_t bytes;
  const char *path;
  fovea_handle *handle;
  void *workspace; /* grows to what the largest call asks for */
  size_t workspace_bytes;
} model;

static inline model model_open(const char *path) {
  static const char magic[] = "fovea-weights 1\n";
  model made = {.path = path};
  fovea_options options = {.struct_size = sizeof options, .device = FOVEA_DEVICE_CPU};
  made.file = model_read(path, &made.bytes);
  if (strncmp(made.file, magic, sizeof magic - 1) || !strstr(made.file, "\n\n")) {
    model_fail(path, "is no file of weights");
  }
  if (fovea_create(&options, &made.handle) != FOVEA_OK) model_fail("fovea", fovea_error_detail());
  return made;
}

static inline void model_close(model *m) {
  fovea_destroy(m->handle);
  free(m->workspace);
  free(m->file);
}

/* One line of the header. Returns the elements of the tensor. */
static inline int64_t model_parse(const model *m, const char *line, char name[64],
                                  fovea_tensor *tensor) {
  char type[8];
  long long dims[2] = {1, 1};
  int fields = sscanf(line, "%63s %7s %lld %lld", name, type, &dims[0], &dims[1]);
  const char *end = strchr(line, '\n');
  if (fields < 3 || dims[0] < 1 || dims[1] < 1 || dims[0] > 1 << 24 || dims[1] > 1 << 24 || !end) {
    model_fail(m->path, "has a line that names no tensor");
  }
  if (fields == 3) dims[1] = dims[0], dims[0] = 1; /* a vector is [1, 1, 1, n] */
  fovea_dtype dtype = strcmp(type, "f16") ? FOVEA_F32 : FOVEA_F16;
  *tensor = fovea_contiguous(NULL, dtype, 1, dims[0], 1, dims[1]);
  return (int64_t)(dims[0] * dims[1]);
}

/* A matrix [out, in] as a layer takes it: [1, out, 1, in]; a vector as a bias. It must be there if
 * `needed`; otherwise it may be absent. */
static inline fovea_tensor model_find(const model *m, const char *wanted, int needed) {
  const char *line = strchr(m->file, '\n') + 1, *end = strstr(m->file, "\n\n") + 2;
  size_t at = (size_t)(end - m->file);
  for (; *line != '\n'; line = strchr(line, '\n') + 1) {
    char name[64];
    fovea_tensor tensor;
    int64_t count = model_parse(m, line, name, &tensor);
    at = (at + 63) / 64 * 64;
    tensor.data = m->file + at;
    at += (size_t)count * (tensor.dtype == FOVEA_F16 ? 2 : 4);
    if (at > m->bytes) model_fail(m->path, "ends before its last tensor");
    if (!strcmp(name, wanted)) return tensor;
  }
  if (needed) model_fail(m->path, wanted);
  return (fovea_tensor){.dtype = FOVEA_NONE};
}

/* NAME.weight and, if it is there, NAME.bias. */
static inline fovea_linear model_linear(const model *m, const char *name, uint32_t activation) {
  char full[80];
  fovea_linear linear = {.activation = activation};
  snprintf(full, sizeof full, "%s.weight", name);
  linear.weight = model_find(m, full, 1);
  snprintf(full, sizeof full, "%s.bias", name);
  linear.bias = model_find(m, full, 0);
  return linear;
}

/* f32 elements of a tensor that must be f32. */
static inline const float *model_floats(const model *m, const char *name) {
  fovea_tensor tensor = model_find(m, name, 1);
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
static inline void model_apply(model *m, fovea_linear linear, float *x, int64_t len, int64_t in,
                               const float *residual, float *out) {
  int64_t width = linear.weight.shape[1];
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
static inline void model_look_up(model *m, const char *name, int64_t n, float *to) {
  fovea_tensor table = model_find(m, name, 1);
  int64_t width = table.shape[3];
  size_t bytes = 0;
  if (n < 0 || n >= table.shape[1]) model_fail(name, "has no such row");
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

/* A GRU over len tokens, as NAME.weight_ih and so on; states [len, stride], h [hidden] is where it
 * begins and ends. */
static inline void model_run_gru(model *m, const char *name, float *x, int64_t len, int64_t in,
                                 int reverse, float *states, int64_t stride, float *h) {
  static const char *const parts[4] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
  fovea_tensor found[4];
  char full[80];
  size_t bytes = 0;
  for (int i = 0; i < 4; ++i) {
    snprintf(full, sizeof full, "%s.%s", name, parts[i]);
    found[i] = model_find(m, full, 1);
  }
  int64_t hidden = found[1].shape[3];
  fovea_recurrent_args args = {.struct_size = sizeof args,
                               .cell = FOVEA_CELL_GRU,
                               .reverse = reverse ? 1 : 0,
                               .weight_x = found[0],
                               .weight_h = found[1],
                               .bias_x = found[2],
                               .bias_h = found[3]};
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
  int level = (int)(share * 5 + 0.5f);
  static const int shades[6] = {231, 225, 219, 177, 134, 91};
  level = level < 0 ? 0 : level > 5 ? 5 : level;
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

/* The number of a test input from the command line. */
static inline int model_number(const char *text, int count) {
  char *end;
  long number = strtol(text, &end, 10);
  if (*end || end == text || number < 0 || number >= count) {
    model_fail(text, "is no number of a test input, counted from 0");
  }
  return (int)number;
}

#endif /* FOVEA_EXAMPLES_MODEL_H */
