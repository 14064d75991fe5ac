/* result.c - see result.h. */
#include "bench/report/result.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Arithmetic ---- */

double fv_bench_median(const double *sorted, size_t count) {
  if (!count) return 0;
  return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

double fv_bench_spread(const double *sorted, size_t count) {
  double median = fv_bench_median(sorted, count);
  if (!count || median <= 0) return 0;
  size_t half = (count + 1) / 2;
  double low = fv_bench_median(sorted, half);
  double high = fv_bench_median(sorted + count - half, half);
  return (high - low) / 2 / median;
}

static bool is_timed(const fv_bench_row *row) {
  return row && row->repetitions && row->median > 0;
}

/* Peers run in a process of their own, with a fovea of their own beside them. */
static bool is_peer(const char *pipeline) {
  return !strncmp(pipeline, "torch", 5) || !strcmp(pipeline, "fovea@torch");
}

double fv_bench_speedup(const fv_bench_result *result, const fv_bench_row *other) {
  if (!other) return 0;
  const char *fovea = is_peer(other->key.pipeline) ? "fovea@torch" : "fovea";
  const fv_bench_row *ours =
      fv_bench_result_find(result, other->key.device, fovea, &other->key.problem);
  return is_timed(ours) && is_timed(other) ? other->median / ours->median : 0;
}

double fv_bench_share_of_peak(const fv_bench_result *result, const fv_bench_row *row) {
  if (!row) return 0;
  const fv_bench_row *peak =
      fv_bench_result_find(result, row->key.device, "peak", &row->key.problem);
  if (!is_timed(row) || !is_timed(peak) || peak->flops <= 0) return 0;
  return row->flops / row->median / (peak->flops / peak->median);
}

double fv_bench_share_of_read(const fv_bench_result *result, const fv_bench_row *row) {
  if (!row) return 0;
  const fv_bench_row *read =
      fv_bench_result_find(result, row->key.device, "read", &row->key.problem);
  if (!is_timed(row) || !is_timed(read) || read->bytes <= 0) return 0;
  return row->bytes / row->median / (read->bytes / read->median);
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

bool fv_bench_result_peaks(const fv_bench_result *result, fv_bench_peaks *peaks) {
  *peaks = (fv_bench_peaks){0};
  double *rates = malloc((result->row_count + 1) * sizeof *rates);
  if (!rates) return false;
  for (size_t i = 0; i < result->row_count; ++i) {
    const fv_bench_row *row = &result->rows[i];
    if (strcmp(row->key.pipeline, "peak") || !is_timed(row)) continue;
    rates[peaks->count++] = row->flops / row->median;
  }
  qsort(rates, peaks->count, sizeof *rates, compare_doubles);
  if (peaks->count) {
    peaks->low = rates[0];
    peaks->median = fv_bench_median(rates, peaks->count);
    peaks->high = rates[peaks->count - 1];
  }
  free(rates);
  return true;
}

/* ---- Lookup ---- */

const char *fv_bench_result_context(const fv_bench_result *result, const char *key) {
  for (size_t i = 0; i < result->context_count; ++i) {
    if (!strcmp(result->context[i].key, key)) return result->context[i].value;
  }
  return "unknown";
}

const fv_bench_row *fv_bench_result_find(const fv_bench_result *result, const char *device,
                                         const char *pipeline, const fv_bench_problem *problem) {
  for (size_t i = 0; i < result->row_count; ++i) {
    const fv_bench_row_key *key = &result->rows[i].key;
    if (!strcmp(key->device, device) && !strcmp(key->pipeline, pipeline) &&
        fv_bench_problem_same(&key->problem, problem)) {
      return &result->rows[i];
    }
  }
  return NULL;
}

/* ---- Reading ---- */

static bool refuse(char *error, size_t bytes, const char *path, const char *what) {
  snprintf(error, bytes, "%s: %s", path, what);
  return false;
}

static fv_bench_row *row_for(fv_bench_result *result, const fv_bench_row_key *key) {
  for (size_t i = result->row_count; i-- > 0;) { /* repetitions follow each other */
    fv_bench_row *row = &result->rows[i];
    if (!strcmp(row->key.device, key->device) && !strcmp(row->key.pipeline, key->pipeline) &&
        fv_bench_problem_same(&row->key.problem, &key->problem)) {
      return row;
    }
  }
  fv_bench_row *grown = realloc(result->rows, (result->row_count + 1) * sizeof *grown);
  if (!grown) return NULL;
  result->rows = grown;
  fv_bench_row *row = &grown[result->row_count];
  *row = (fv_bench_row){.key = *key, .order = result->row_count};
  result->row_count++;
  return row;
}

/* Seconds per unit of Google Benchmark's time_unit; 0: no such unit. */
static double unit_seconds(const char *unit) {
  static const struct {
    const char *name;
    double seconds;
  } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  for (int i = 0; i < 4; ++i) {
    if (unit && !strcmp(unit, units[i].name)) return units[i].seconds;
  }
  return 0;
}

static bool add_time(fv_bench_row *row, double seconds) {
  double *grown = realloc(row->seconds, (row->repetitions + 1) * sizeof *grown);
  if (!grown) return false;
  row->seconds = grown;
  row->seconds[row->repetitions++] = seconds;
  return true;
}

/* NULL, or what is wrong. Rows with other names belong to somebody else; aggregates are computed
 * here. */
static const char *read_run(fv_bench_result *result, json_t *run) {
  fv_bench_row_key key;
  const char *name = json_string_value(json_object_get(run, "name"));
  const char *type = json_string_value(json_object_get(run, "run_type"));
  if (!name) return "a benchmark has no name";
  if (!fv_bench_row_parse(name, &key) || (type && strcmp(type, "iteration"))) return NULL;
  fv_bench_row *row = row_for(result, &key);
  if (!row) return "out of memory";
  const char *why = json_string_value(json_object_get(run, "error_message"));
  if (json_is_true(json_object_get(run, "error_occurred"))) {
    snprintf(row->skipped, sizeof row->skipped, "%s", why ? why : "skipped");
    return NULL;
  }
  double seconds = json_number_value(json_object_get(run, "real_time")) *
                   unit_seconds(json_string_value(json_object_get(run, "time_unit")));
  if (!(seconds > 0)) return "a benchmark has no real_time, or no time_unit";
  row->flops = json_number_value(json_object_get(run, "flops"));
  row->bytes = json_number_value(json_object_get(run, "bytes"));
  row->peak_bytes = json_number_value(json_object_get(run, "peak_bytes"));
  return add_time(row, seconds) ? NULL : "out of memory";
}

static void summarise(fv_bench_row *row) {
  if (!row->repetitions) return;
  qsort(row->seconds, row->repetitions, sizeof *row->seconds, compare_doubles);
  row->median = fv_bench_median(row->seconds, row->repetitions);
  row->spread = fv_bench_spread(row->seconds, row->repetitions);
}

/* A row of a summary, in the order of its columns; or a name and the reason why the row was
 * skipped. */
static const char *read_summarised(fv_bench_result *result, json_t *line) {
  fv_bench_row_key key;
  const char *name = json_string_value(json_array_get(line, 0));
  if (!name || !fv_bench_row_parse(name, &key)) return "a row of the summary has no valid name";
  fv_bench_row *row = row_for(result, &key);
  if (!row) return "out of memory";
  const char *why = json_string_value(json_array_get(line, 1));
  if (why) {
    snprintf(row->skipped, sizeof row->skipped, "%s", why);
    return NULL;
  }
  row->repetitions = (size_t)json_integer_value(json_array_get(line, 1));
  row->median = 1e-3 * json_number_value(json_array_get(line, 2));
  row->spread = 1e-2 * json_number_value(json_array_get(line, 3));
  row->flops = json_number_value(json_array_get(line, 4));
  row->bytes = json_number_value(json_array_get(line, 5));
  row->peak_bytes = json_number_value(json_array_get(line, 6));
  return is_timed(row) ? NULL : "a row of the summary has no time";
}

static bool read_context(fv_bench_result *result, json_t *context) {
  const char *key;
  json_t *value;
  result->context = calloc(json_object_size(context) + 1, sizeof *result->context);
  if (!result->context) return false;
  json_object_foreach(context, key, value) {
    if (!json_is_string(value)) continue;
    fv_bench_entry *entry = &result->context[result->context_count++];
    entry->key = strdup(key);
    entry->value = strdup(json_string_value(value));
    if (!entry->key || !entry->value) return false;
  }
  return true;
}

static const char *read_report(fv_bench_result *result, json_t *report) {
  json_t *context = json_object_get(report, "context"), *run;
  json_t *rows = json_object_get(report, "rows"), *runs = json_object_get(report, "benchmarks");
  json_t *lines = rows ? rows : runs;
  size_t index;
  if (!json_is_object(context) || !json_is_array(lines)) return "is no report of fovea-bench";
  if (!read_context(result, context)) return "out of memory";
  json_array_foreach(lines, index, run) {
    const char *wrong = rows ? read_summarised(result, run) : read_run(result, run);
    if (wrong) return wrong;
  }
  if (!result->row_count) return "holds no benchmark of attention";
  for (size_t i = 0; i < result->row_count && !rows; ++i) summarise(&result->rows[i]);
  return NULL;
}

bool fv_bench_result_read(fv_bench_result *result, const char *path, char *error,
                          size_t error_bytes) {
  json_error_t at;
  *result = (fv_bench_result){0};
  json_t *report = json_load_file(path, JSON_REJECT_DUPLICATES, &at);
  if (!report) return refuse(error, error_bytes, path, at.text);
  const char *wrong = read_report(result, report);
  json_decref(report);
  if (!wrong) return true;
  fv_bench_result_free(result);
  return refuse(error, error_bytes, path, wrong);
}

void fv_bench_result_free(fv_bench_result *result) {
  for (size_t i = 0; i < result->row_count; ++i) free(result->rows[i].seconds);
  for (size_t i = 0; i < result->context_count; ++i) {
    free(result->context[i].key);
    free(result->context[i].value);
  }
  free(result->rows);
  free(result->context);
  *result = (fv_bench_result){0};
}
