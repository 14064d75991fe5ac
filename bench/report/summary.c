/* summary.c - see summary.h. Numbers have as many digits as clocks give: a part in a million. */
#include "bench/report/summary.h"

#include <jansson.h>

static void print_string(const char *text, FILE *stream) {
  json_t *string = json_string(text);
  if (!string || json_dumpf(string, stream, JSON_ENCODE_ANY)) fputs("null", stream);
  json_decref(string);
}

static void print_row(const fv_bench_row *row, FILE *stream) {
  char name[FV_BENCH_NAME];
  fv_bench_row_name(&row->key, name);
  fputc('[', stream);
  print_string(name, stream);
  if (row->skipped[0]) {
    fputs(", ", stream);
    print_string(row->skipped, stream);
  } else {
    fprintf(stream, ", %zu, %.7g, %.6g, %.17g, %.17g, %.17g", row->repetitions, 1e3 * row->median,
            1e2 * row->spread, row->flops, row->bytes, row->peak_bytes);
  }
  fputc(']', stream);
}

void fv_bench_summary_print(const fv_bench_result *result, FILE *stream) {
  fputs("{\n  \"context\": {", stream);
  for (size_t i = 0; i < result->context_count; ++i) {
    fputs(i ? ",\n    " : "\n    ", stream);
    print_string(result->context[i].key, stream);
    fputs(": ", stream);
    print_string(result->context[i].value, stream);
  }
  fputs(
      "\n  },\n  \"columns\": [\"name\", \"repetitions\", \"median_ms\", \"spread_percent\", "
      "\"flops\", \"bytes\", \"peak_bytes\"],\n  \"rows\": [",
      stream);
  for (size_t i = 0; i < result->row_count; ++i) {
    fputs(i ? ",\n    " : "\n    ", stream);
    print_row(&result->rows[i], stream);
  }
  fputs("\n  ]\n}\n", stream);
}
