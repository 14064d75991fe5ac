/* tokens.c - see tokens.h. */
#include "cli/input/tokens.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/error.h"

/* In place: a space is shorter than its mark. */
static void show_spaces(char *token) {
  static const char mark[] = "\xE2\x96\x81";
  const size_t bytes = sizeof mark - 1;
  char *to = token;
  for (const char *from = token; *from; ++to) {
    bool marked = !strncmp(from, mark, bytes);
    *to = marked ? ' ' : *from;
    from += marked ? bytes : 1;
  }
  *to = 0;
}

static int copy_row(const json_t *row, int64_t count, char ***labels) {
  char **copies = calloc((size_t)count + 1, sizeof *copies);
  if (!copies) return fv_cli_out_of_memory();
  for (int64_t i = 0; i < count; ++i) {
    const char *token = json_string_value(json_array_get(row, (size_t)i));
    copies[i] = strdup(token ? token : "");
    if (!copies[i]) {
      fv_tokens_free(copies, count);
      return fv_cli_out_of_memory();
    }
    show_spaces(copies[i]);
  }
  *labels = copies;
  return FV_EXIT_OK;
}

static bool is_list_of_strings(const json_t *row) {
  size_t index;
  json_t *token;
  if (!json_is_array(row)) return false;
  json_array_foreach(row, index, token) {
    if (!json_is_string(token)) return false;
  }
  return true;
}

int fv_tokens_read(const char *text, const char *key, const char *path, int64_t batch,
                   int64_t count, char ***labels) {
  *labels = NULL;
  if (!text) return FV_EXIT_OK;
  json_t *all = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
  const json_t *row = json_array_get(all, (size_t)batch);
  int code = FV_EXIT_INPUT;
  if (!is_list_of_strings(row) || json_array_size(row) > (size_t)count) {
    fv_cli_fail(
        FV_EXIT_INPUT,
        "%s: metadata %s must be JSON: per batch row a list of at most %lld strings, such as "
        "[[\"the\", \"cat\"]]",
        path, key, (long long)count);
  } else {
    code = copy_row(row, count, labels);
  }
  json_decref(all);
  return code;
}

void fv_tokens_free(char **labels, int64_t count) {
  if (!labels) return;
  for (int64_t i = 0; i < count; ++i) free(labels[i]);
  free(labels);
}
