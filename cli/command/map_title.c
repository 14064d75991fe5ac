/* map_title.c - see map_title.h. Nobody finds out later what a picture shows unless the title says
 * it. */
#include "cli/command/map_title.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A file's texts are cut to this many bytes, so that the text behind them is not cut. */
enum { NAME_BYTES_MAX = 60, LAYER_MAX = 20, TITLE_BYTES_MAX = 200 };

typedef struct text {
  char *bytes;
  size_t room, used;
} text;

static void append(text *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void append(text *to, const char *format, ...) {
  va_list values;
  va_start(values, format);
  int length = vsnprintf(to->bytes + to->used, to->room - to->used, format, values);
  va_end(values);
  if (length > 0) to->used += (size_t)length;
  if (to->used >= to->room) to->used = to->room - 1;
}

/* At most so many bytes of a file's text, and no part of a character. */
static void append_cut(text *to, const char *from, size_t most) {
  size_t length = strnlen(from, most + 1);
  if (length > most) {
    length = most;
    while (length > 0 && (from[length] & 0xC0) == 0x80) --length;
  }
  append(to, "%.*s", (int)length, from);
}

static bool has_name(const fv_map_subject *subject) {
  return subject->head_name && *subject->head_name;
}

static void append_heads(text *to, const fv_map_subject *subject) {
  long long first = subject->first_head, last = first + subject->heads - 1;
  if (first == last && has_name(subject)) {
    append(to, ", ");
    append_cut(to, subject->head_name, NAME_BYTES_MAX);
  } else if (first == last) {
    append(to, ", head %lld", first);
  }
  if (first < last) append(to, ", heads %lld to %lld", first, last);
  if (subject->mass) append(to, ", mass of keys");
}

static void append_file(text *to, const fv_tensor_file *file, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *layer = fv_tensor_file_metadata(file, "layer");
  append_cut(to, slash ? slash + 1 : path, NAME_BYTES_MAX);
  if (!layer) return;
  append(to, ", layer ");
  append_cut(to, layer, LAYER_MAX);
}

static void append_mask(text *to, const fv_input *input, int64_t batch) {
  int64_t keys = input->args.k.shape[1], hidden = 0;
  if (!input->mask) return;
  for (int64_t j = 0; j < keys; ++j) hidden += !input->mask[batch * keys + j];
  if (hidden) append(to, ", mask hides %lld of %lld keys", (long long)hidden, (long long)keys);
  if (!hidden) append(to, ", mask hides no key");
}

/* -1 is no limit, as on the command line. */
static long long side(fovea_window window) {
  return window.kind == FOVEA_WINDOW_LIMITED ? window.count : -1;
}

static void write_subtitle(text *to, const fv_input *input, int64_t batch) {
  const fovea_attention_args *args = &input->args;
  const char *model = fv_tensor_file_metadata(input->files[0], "model");
  bool window = args->visibility.window_left.kind || args->visibility.window_right.kind;
  if (model) append_cut(to, model, NAME_BYTES_MAX);
  if (model) append(to, ", ");
  append(to, "batch row %lld", (long long)batch);
  if (input->causal_name) append(to, ", causal %s", input->causal_name);
  if (window)
    append(to, ", window %lld,%lld", side(args->visibility.window_left),
           side(args->visibility.window_right));
  if (args->logits.softcap > 0) append(to, ", softcap %g", (double)args->logits.softcap);
  append_mask(to, input, batch);
  if (!input->causal_name && !window && !input->mask) append(to, ", no mask");
}

void fv_map_title_write(fv_map_title *title, const fv_input *input, const fv_map_subject *subject) {
  text first = {title->title, sizeof title->title, 0};
  text second = {title->subtitle, sizeof title->subtitle, 0};
  append_file(&first, input->files[0], input->label);
  append_heads(&first, subject);
  write_subtitle(&second, input, subject->batch);
}

/* One batch row needs no number, and neither does the only head, or all of them, under a title. */
void fv_map_title_of_weights(fv_map_title *title, const fv_tensor_file *file, const char *path,
                             const fv_map_subject *subject) {
  text first = {title->title, sizeof title->title, 0};
  text second = {title->subtitle, sizeof title->subtitle, 0};
  const char *name = fv_tensor_file_metadata(file, "title");
  const char *model = fv_tensor_file_metadata(file, "model");
  bool one = subject->batches == 1;
  if (name) append_cut(&first, name, TITLE_BYTES_MAX);
  if (!name) append_file(&first, file, path);
  if (!name || subject->mass || subject->one_of_several) append_heads(&first, subject);
  if (model) append_cut(&second, model, NAME_BYTES_MAX);
  if (!one) append(&second, "%sbatch row %lld", model ? ", " : "", (long long)subject->batch);
}
