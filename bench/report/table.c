/* table.c - see table.h.
 *
 * A table is a list of cells, row by row. The widths follow from the cells, and the same cells make
 * the table of a terminal or of Markdown. Columns that no row of the table fills are left out. */
#include "bench/report/table.h"

#include <stdarg.h>
#include <string.h>

#include "bench/report/group.h"
#include "bench/report/text.h"

enum { COLUMNS_MAX = 20, CELL = 32 };

typedef struct column {
  const char *title;
  /* Writes the cell of fovea's row; leaves "" if nothing was measured. */
  void (*print)(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]);
} column;

static const fv_bench_row *beside(const fv_bench_result *result, const fv_bench_row *row,
                                  const char *pipeline) {
  return fv_bench_result_find(result, row->key.device, pipeline, &row->key.problem);
}

static void print_speedup(const fv_bench_result *result, const fv_bench_row *row,
                          const char *pipeline, char cell[CELL]) {
  double speedup = fv_bench_speedup(result, beside(result, row, pipeline));
  if (speedup > 0) snprintf(cell, CELL, "%.2f", speedup);
}

static void print_time_of(const fv_bench_row *row, char cell[CELL]) {
  if (!row) return;
  if (row->skipped[0]) snprintf(cell, CELL, "skipped");
  if (row->repetitions) fv_bench_text_time(row->median, cell, CELL);
}

static void print_percent(double share, char cell[CELL]) {
  if (share > 0) snprintf(cell, CELL, "%.0f %%", 100 * share);
}

/* ---- The columns ---- */

static void print_shape(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  (void)result;
  fv_bench_group_shape(&row->key.problem, cell, CELL);
}

static void print_time(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  (void)result;
  print_time_of(row, cell);
}

static void print_spread(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  (void)result;
  if (row->repetitions) snprintf(cell, CELL, "%.1f %%", 100 * row->spread);
}

static void print_gflops(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  (void)result;
  if (row->repetitions) snprintf(cell, CELL, "%.1f", 1e-9 * row->flops / row->median);
}

static void print_gbytes(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  (void)result;
  if (row->repetitions) snprintf(cell, CELL, "%.1f", 1e-9 * row->bytes / row->median);
}

static void print_peak(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_percent(fv_bench_share_of_peak(result, row), cell);
}

static void print_read(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_percent(fv_bench_share_of_read(result, row), cell);
}

static void print_naive(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_time_of(beside(result, row, "naive"), cell);
}

static void print_over_naive(const fv_bench_result *result, const fv_bench_row *row,
                             char cell[CELL]) {
  print_speedup(result, row, "naive", cell);
}

static void print_selected(const fv_bench_result *result, const fv_bench_row *row,
                           char cell[CELL]) {
  print_time_of(beside(result, row, "selected"), cell);
}

static void print_spans(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_time_of(beside(result, row, "spans"), cell);
}

static void print_mass(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_time_of(beside(result, row, "mass"), cell);
}

static void print_q8_0(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_time_of(beside(result, row, "q8_0"), cell);
}

static void print_q4_0(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_time_of(beside(result, row, "q4_0"), cell);
}

static void print_torch(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  print_time_of(beside(result, row, "torch"), cell);
}

static void print_fovea_there(const fv_bench_result *result, const fv_bench_row *row,
                              char cell[CELL]) {
  print_time_of(beside(result, row, "fovea@torch"), cell);
}

static void print_over_torch(const fv_bench_result *result, const fv_bench_row *row,
                             char cell[CELL]) {
  print_speedup(result, row, "torch", cell);
}

static void print_over_folded(const fv_bench_result *result, const fv_bench_row *row,
                              char cell[CELL]) {
  print_speedup(result, row, "torch-folded", cell);
}

static void print_memory(const fv_bench_result *result, const fv_bench_row *row, char cell[CELL]) {
  (void)result;
  if (row->peak_bytes > 0) fv_bench_text_bytes(row->peak_bytes, cell, CELL);
}

static void print_naive_memory(const fv_bench_result *result, const fv_bench_row *row,
                               char cell[CELL]) {
  const fv_bench_row *naive = beside(result, row, "naive");
  if (naive) print_memory(result, naive, cell);
}

static const column prefill_columns[] = {{NULL, print_shape}, /* titled by the kind */
                                         {"fovea", print_time},
                                         {"spread", print_spread},
                                         {"GFLOP/s", print_gflops},
                                         {"of peak", print_peak},
                                         {"spans", print_spans},
                                         {"mass", print_mass},
                                         {"naive", print_naive},
                                         {"x naive", print_over_naive},
                                         {"torch", print_torch},
                                         {"fovea@torch", print_fovea_there},
                                         {"x torch", print_over_torch},
                                         {"memory", print_memory},
                                         {"naive memory", print_naive_memory}};

static const column decode_columns[] = {
    {NULL, print_shape},           {"fovea", print_time},
    {"spread", print_spread},      {"GB/s", print_gbytes},
    {"of read", print_read},       {"GFLOP/s", print_gflops},
    {"of peak", print_peak},       {"selected", print_selected},
    {"q8_0", print_q8_0},          {"q4_0", print_q4_0},
    {"naive", print_naive},        {"x naive", print_over_naive},
    {"torch", print_torch},        {"fovea@torch", print_fovea_there},
    {"x torch", print_over_torch}, {"x torch folded", print_over_folded},
    {"memory", print_memory},      {"naive memory", print_naive_memory}};

_Static_assert(sizeof decode_columns / sizeof *decode_columns <= COLUMNS_MAX, "room for widths");
_Static_assert(sizeof prefill_columns / sizeof *prefill_columns <= COLUMNS_MAX, "room for widths");

/* ---- Groups: what has a table of its own ---- */

static bool is_ours(const fv_bench_row *row) {
  return !strcmp(row->key.pipeline, "fovea");
}

/* The first row of a group stands for the group. */
static bool begins_group(const fv_bench_result *result, const fv_bench_row *row) {
  if (!is_ours(row)) return false;
  for (const fv_bench_row *before = result->rows; before < row; ++before) {
    if (is_ours(before) && fv_bench_group_same(&before->key.problem, &row->key.problem)) {
      return false;
    }
  }
  return true;
}

/* ---- Printing ---- */

typedef struct table {
  const fv_bench_result *result;
  const fv_bench_row *first;
  const column *columns;
  int count;
  size_t widths[COLUMNS_MAX]; /* 0: left out */
  bool markdown;
} table;

static bool belongs(const table *at, const fv_bench_row *row) {
  return is_ours(row) && fv_bench_group_same(&row->key.problem, &at->first->key.problem);
}

static const char *title_of(const table *at, int column) {
  const char *title = at->columns[column].title;
  return title ? title : fv_bench_group_shape_title(at->first->key.problem.kind);
}

static void measure(table *at) {
  char cell[CELL];
  for (size_t i = 0; i < at->result->row_count; ++i) {
    const fv_bench_row *row = &at->result->rows[i];
    if (!belongs(at, row)) continue;
    for (int c = 0; c < at->count; ++c) {
      cell[0] = '\0';
      at->columns[c].print(at->result, row, cell);
      size_t width = strlen(cell), title = strlen(title_of(at, c));
      if (width && width < title) width = title;
      if (width > at->widths[c]) at->widths[c] = width;
    }
  }
}

static void print_cell(const table *at, int column, const char *text, FILE *stream) {
  if (!at->widths[column]) return;
  if (at->markdown) fprintf(stream, " %s |", text);
  if (!at->markdown) fprintf(stream, "%s%*s", column ? "  " : "", (int)at->widths[column], text);
}

static void print_heads(const table *at, FILE *stream) {
  if (at->markdown) fputc('|', stream);
  for (int c = 0; c < at->count; ++c) print_cell(at, c, title_of(at, c), stream);
  fputc('\n', stream);
  if (!at->markdown) return;
  fputc('|', stream);
  for (int c = 0; c < at->count; ++c) {
    if (at->widths[c]) fputs("--:|", stream);
  }
  fputc('\n', stream);
}

static void print_group(table *at, FILE *stream) {
  char cell[CELL];
  measure(at);
  print_heads(at, stream);
  for (size_t i = 0; i < at->result->row_count; ++i) {
    const fv_bench_row *row = &at->result->rows[i];
    if (!belongs(at, row)) continue;
    if (at->markdown) fputc('|', stream);
    for (int c = 0; c < at->count; ++c) {
      cell[0] = '\0';
      at->columns[c].print(at->result, row, cell);
      print_cell(at, c, cell, stream);
    }
    fputc('\n', stream);
  }
}

static void print_groups(const fv_bench_result *result, bool markdown, FILE *stream) {
  char title[160];
  for (size_t i = 0; i < result->row_count; ++i) {
    const fv_bench_row *row = &result->rows[i];
    if (!begins_group(result, row)) continue;
    bool decode = fv_bench_is_decoding(&row->key.problem);
    table at = {.result = result,
                .first = row,
                .columns = decode ? decode_columns : prefill_columns,
                .count = decode ? (int)(sizeof decode_columns / sizeof *decode_columns)
                                : (int)(sizeof prefill_columns / sizeof *prefill_columns),
                .markdown = markdown};
    fputs(markdown ? "\n### " : "\n", stream);
    fv_bench_group_title(&row->key.problem, title, sizeof title);
    fputs(title, stream);
    fputs(markdown ? "\n\n" : "\n", stream);
    print_group(&at, stream);
  }
}

void fv_bench_groups_print(const fv_bench_result *result, FILE *stream) {
  print_groups(result, true, stream);
}

/* Why rows are missing: each reason once per problem. */
static void print_skipped(const fv_bench_result *result, FILE *stream) {
  char name[FV_BENCH_NAME];
  for (size_t i = 0; i < result->row_count; ++i) {
    if (!result->rows[i].skipped[0]) continue;
    fv_bench_row_name(&result->rows[i].key, name);
    fprintf(stream, "%s\n  %s\n", name, result->rows[i].skipped);
  }
}

void fv_bench_machine_print(const fv_bench_result *result, FILE *stream) {
  static const char *const keys[] = {"machine",     "threads", "isa",       "last_level_cache",
                                     "memory",      "system",  "fovea",     "commit",
                                     "compiler",    "blas",    "blas_core", "torch",
                                     "environment", "date",    "products",  "simulated"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; ++i) {
    const char *value = fv_bench_result_context(result, keys[i]);
    if (strcmp(value, "unknown")) fprintf(stream, "%-18s %s\n", keys[i], value);
  }
  fv_bench_peaks peaks;
  if (fv_bench_result_peaks(result, &peaks) && peaks.count) {
    fprintf(stream, "%-18s %.0f (median of %zu rows, from %.0f to %.0f)\n", "peak_gflops",
            1e-9 * peaks.median, peaks.count, 1e-9 * peaks.low, 1e-9 * peaks.high);
  }
}

void fv_bench_table_print(const fv_bench_result *result, FILE *stream) {
  fv_bench_machine_print(result, stream);
  print_groups(result, false, stream);
  fputs(
      "\nspread: half the distance of the quartiles; of peak, of read: of the machine's own, in\n"
      "the same rounds; memory: besides the tensors; x: how many times as fast fovea is, where\n"
      "torch is compared with the fovea of its own process, fovea@torch\n",
      stream);
  if (fv_bench_group_any_unequal(result)) {
    fputs("packed, paged, mixed: sequences have from a sixteenth of that length to all of it\n",
          stream);
  }
  print_skipped(result, stream);
}
