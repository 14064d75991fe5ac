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
      fv_tokens_free(copies);
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

static const int64_t no_row = -1; /* the text is the list itself */

/* FV_EXIT_INPUT, without a message: it is no list of at most `count` strings. */
static int read_list(const char *text, int64_t row, int64_t count, char ***labels) {
  *labels = NULL;
  json_t *all = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
  const json_t *list = row == no_row ? all : json_array_get(all, (size_t)row);
  bool fits = is_list_of_strings(list) && json_array_size(list) <= (size_t)count;
  int code = fits ? copy_row(list, count, labels) : FV_EXIT_INPUT;
  json_decref(all);
  return code;
}

int fv_tokens_read(const char *text, const char *key, const char *path, int64_t batch,
                   int64_t count, char ***labels) {
  *labels = NULL;
  int code = text ? read_list(text, batch, count, labels) : FV_EXIT_OK;
  if (code != FV_EXIT_INPUT) return code;
  return fv_cli_fail(
      FV_EXIT_INPUT,
      "%s: metadata %s must be JSON: per batch row a list of at most %lld strings, such as "
      "[[\"the\", \"cat\"]]",
      path, key, (long long)count);
}

int fv_names_read(const char *text, const char *key, const char *path, int64_t count,
                  char ***labels) {
  *labels = NULL;
  int code = text ? read_list(text, no_row, count, labels) : FV_EXIT_OK;
  if (code != FV_EXIT_INPUT) return code;
  return fv_cli_fail(FV_EXIT_INPUT,
                     "%s: metadata %s must be JSON: a list of at most %lld strings, such as "
                     "[\"left\", \"right\"]",
                     path, key, (long long)count);
}

int fv_tokens_of_map(const fv_tensor_file *file, const char *path, int64_t batch, int64_t len_q,
                     int64_t len_kv, char ***row_labels, char ***key_labels) {
  const char *tokens = fv_tensor_file_metadata(file, "tokens");
  const char *of_queries = fv_tensor_file_metadata(file, "query_tokens");
  int code = fv_tokens_read(tokens, "tokens", path, batch, len_kv, key_labels);
  if (!code && of_queries) {
    code = fv_tokens_read(of_queries, "query_tokens", path, batch, len_q, row_labels);
  }
  if (!code && !of_queries && len_q == len_kv) *row_labels = *key_labels;
  return code;
}

void fv_tokens_free(char **labels) {
  for (char **label = labels; label && *label; ++label) free(*label);
  free(labels);
}
