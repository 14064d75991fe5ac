/* bench_main.c - the program fovea-bench. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_blas.h"
#include "bench_check.h"
#include "bench_grid.h"
#include "bench_machine.h"
#include "bench_peak.h"
#include "bench_plot.h"
#include "bench_result.h"
#include "bench_session.h"
#include "bench_table.h"

enum { EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_OUTPUT = 5 };

typedef struct settings {
  fv_bench_grid grid;
  int threads, repetitions;
  const char *filter, *output;
  const char *words[3]; /* a command and its operands */
  int word_count;
  bool break_naive;
} settings;

static int fail(int code, const char *what, const char *why) {
  fprintf(stderr, "fovea-bench: %s: %s\n", what, why);
  return code;
}

/* ---- Timing ---- */

static bool is_wanted(const fv_bench_problem *problem, const char *filter, char *name) {
  fv_bench_row_key key = {.device = "cpu", .pipeline = "fovea", .problem = *problem};
  fv_bench_row_name(&key, name);
  return !filter || strstr(name, filter);
}

/* The peak of the widest instructions, for orientation: fovea's share is of those it uses. */
static void describe_peaks(const fv_bench_machine *machine, fv_bench_json *json) {
  fovea_info info = {.struct_size = sizeof info};
  fovea_get_info(machine->handle, &info);
  const char *keys[] = {"peak_gflops", "widest_peak_gflops"};
  const char *isas[] = {info.isa, fv_bench_peak_widest()};
  for (int i = 0; i < 2; ++i) {
    char text[64];
    fv_bench_peak peak;
    fv_bench_peak_open(&peak, machine->pool, isas[i]);
    double best = 0;
    for (int round = 0; round < FV_BENCH_LEAST_REPETITIONS; ++round) {
      double start = fv_bench_clock();
      fv_bench_peak_run(&peak);
      double rate = peak.flops / (fv_bench_clock() - start);
      if (rate > best) best = rate;
    }
    snprintf(text, sizeof text, "%.0f (%s, all threads)", 1e-9 * best, isas[i]);
    fv_bench_json_context(json, keys[i], text);
  }
}

static void show_progress(size_t index, size_t count, double start, const char *name) {
  if (!isatty(STDERR_FILENO)) return;
  fprintf(stderr, "\r\033[K%3zu/%zu  %4.0f s  %s", index + 1, count, fv_bench_clock() - start,
          name);
}

static int time_problems(const settings *chosen, fv_bench_machine *machine, fv_bench_json *json) {
  fv_bench_problems list = fv_bench_grid_problems(chosen->grid, machine->cache_bytes);
  fv_bench_session session = {
      .machine = machine,
      .json = json,
      .repetitions = chosen->repetitions,
      .least_seconds = chosen->grid == FV_BENCH_QUICK ? 0.002 : 0.01,
      .largest_bytes = machine->memory_bytes / 2,
      .break_naive = chosen->break_naive,
  };
  double start = fv_bench_clock();
  size_t timed = 0;
  int code = list.at ? 0 : fail(EXIT_OUTPUT, "the grid", "out of memory");
  for (size_t i = 0; i < list.count && !code; ++i) {
    char name[FV_BENCH_NAME];
    if (!is_wanted(&list.at[i], chosen->filter, name)) continue;
    show_progress(i, list.count, start, name);
    if (!fv_bench_session_run(&session, &list.at[i])) code = EXIT_WRONG;
    ++timed;
  }
  free(list.at);
  if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
  if (!code && !timed) return fail(EXIT_USAGE, "--filter", "no problem's name contains it");
  return code;
}

static int write_report(const char *path, fv_bench_json *json) {
  if (!fv_bench_json_write(json, path)) return fail(EXIT_OUTPUT, path, strerror(errno));
  fv_bench_result result;
  char error[256];
  if (!fv_bench_result_read(&result, path, error, sizeof error)) {
    return fail(EXIT_OUTPUT, "the report", error);
  }
  fv_bench_table_print(&result, stdout);
  fv_bench_result_free(&result);
  return fflush(stdout) ? EXIT_OUTPUT : 0;
}

static int run_benchmarks(const settings *chosen, int argc, char **argv) {
  fv_bench_machine machine;
  if (!fv_bench_machine_open(&machine, chosen->threads)) return EXIT_OUTPUT;
  fv_bench_json *json = fv_bench_json_open();
  char command[512] = "fovea-bench";
  for (int i = 1; i < argc; ++i) {
    size_t used = strlen(command);
    snprintf(command + used, sizeof command - used, " %s", argv[i]);
  }
  fv_bench_json_context(json, "command", command);
  fv_bench_json_context(json, "grid", fv_bench_grid_name(chosen->grid));
  fv_bench_machine_describe(&machine, json);
  describe_peaks(&machine, json);
  int code = time_problems(chosen, &machine, json);
  if (!code) code = write_report(chosen->output, json);
  fv_bench_json_close(json);
  fv_bench_machine_close(&machine);
  return code;
}

/* ---- What needs no timing ---- */

/* For programs that time the same problems: name, FLOPs and bytes, separated by tabs. */
static int list_problems(const settings *chosen) {
  fv_bench_machine machine;
  if (!fv_bench_machine_open(&machine, chosen->threads)) return EXIT_OUTPUT;
  fv_bench_problems list = fv_bench_grid_problems(chosen->grid, machine.cache_bytes);
  for (size_t i = 0; i < list.count; ++i) {
    char name[FV_BENCH_NAME];
    if (!is_wanted(&list.at[i], chosen->filter, name)) continue;
    printf("%s\t%.0f\t%.0f\t%.9g\n", name, fv_bench_flops(&list.at[i]),
           fv_bench_kv_bytes(&list.at[i]), fv_bench_allowance(&list.at[i]));
  }
  free(list.at);
  fv_bench_machine_close(&machine);
  return fflush(stdout) ? EXIT_OUTPUT : 0;
}

static int show(const settings *chosen) {
  fv_bench_result result;
  char error[256];
  if (!fv_bench_result_read(&result, chosen->words[1], error, sizeof error)) {
    fprintf(stderr, "fovea-bench: %s\n", error);
    return EXIT_INPUT;
  }
  int code = 0;
  if (!strcmp(chosen->words[0], "table")) fv_bench_table_print(&result, stdout);
  if (!strcmp(chosen->words[0], "page")) fv_bench_page_print(&result, chosen->words[2], stdout);
  if (!strcmp(chosen->words[0], "plot") &&
      !fv_bench_plot_all(&result, chosen->words[2], error, sizeof error)) {
    code = fail(EXIT_OUTPUT, "plot", error);
  }
  fv_bench_result_free(&result);
  return fflush(stdout) ? EXIT_OUTPUT : code;
}

/* ---- Arguments ---- */

enum { OPT_QUICK = 700, OPT_FULL, OPT_BREAK };

static const struct argp_option arguments[] = {
    {"quick", OPT_QUICK, NULL, 0, "A few problems, within a minute", 0},
    {"full", OPT_FULL, NULL, 0, "Every dtype, dim and length: some half an hour on 2 cores", 0},
    {"output", 'o', "FILE", 0, "Where the JSON goes (default: fovea-bench.json)", 0},
    {"filter", 'f', "TEXT", 0, "Only problems whose name contains TEXT", 0},
    {"threads", 't', "N", 0, "Of each pipeline (default: as many as the process may use)", 0},
    {"repetitions", 'r', "N", 0, "Rounds, 9 to 99 (default: 9)", 0},
    {"break-naive", OPT_BREAK, NULL, OPTION_HIDDEN, "Spoil the naive result: the run must fail", 0},
    {0}};

static int number_of(const char *text, long least, long most, struct argp_state *state,
                     const char *option) {
  char *end;
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno || *end || end == text || number < least || number > most) {
    argp_error(state, "%s is a number from %ld to %ld, not '%s'", option, least, most, text);
  }
  return (int)number;
}

/* Each command with the number of its operands. */
static void check_words(const settings *chosen, struct argp_state *state) {
  static const struct {
    const char *name;
    int words;
  } commands[] = {{"list", 1}, {"table", 2}, {"page", 3}, {"plot", 3}};
  if (!chosen->word_count) return;
  for (int i = 0; i < 4; ++i) {
    if (strcmp(chosen->words[0], commands[i].name)) continue;
    if (chosen->word_count != commands[i].words) {
      argp_error(state, "%s takes %d arguments", commands[i].name, commands[i].words - 1);
    }
    return;
  }
  argp_error(state, "there is no command '%s'", chosen->words[0]);
}

static error_t parse(int key, char *value, struct argp_state *state) {
  settings *chosen = state->input;
  switch (key) {
    case OPT_QUICK:
      chosen->grid = FV_BENCH_QUICK;
      return 0;
    case OPT_FULL:
      chosen->grid = FV_BENCH_FULL;
      return 0;
    case OPT_BREAK:
      chosen->break_naive = true;
      return 0;
    case 'o':
      chosen->output = value;
      return 0;
    case 'f':
      chosen->filter = value;
      return 0;
    case 't':
      chosen->threads = number_of(value, 1, 1024, state, "--threads");
      return 0;
    case 'r':
      chosen->repetitions = number_of(value, FV_BENCH_LEAST_REPETITIONS, FV_BENCH_MOST_REPETITIONS,
                                      state, "--repetitions");
      return 0;
    case ARGP_KEY_ARG:
      if (chosen->word_count == 3) argp_error(state, "too many arguments");
      chosen->words[chosen->word_count++] = value;
      return 0;
    case ARGP_KEY_END:
      check_words(chosen, state);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const char usage[] = "\nlist\ntable FILE\npage FILE FOLDER\nplot FILE FOLDER";

static const char help[] =
    "Times fovea against the naive pipeline (scores, softmax, product with the values, each in "
    "memory; products by OpenBLAS) on the same tensors, in turns, with the same number of threads. "
    "Writes Google Benchmark's JSON, which compare.py reads, and prints a table."
    "\v"
    "list prints the problems of the grid; table, page and plot show a report that was written "
    "before: as text, as Markdown whose pictures lie in FOLDER, as PNG and SVG into FOLDER.\n\n"
    "Results are compared before anything is timed; a mismatch ends the run.\n\n"
    "Exit status: 0 done, 1 pipelines disagree or one failed, 2 usage, 3 a report is not readable, "
    "5 the output is not writable, memory or threads are lacking.";

static const struct argp bench_argp = {arguments, parse, usage, help, NULL, NULL, NULL};

static void print_version(FILE *stream, struct argp_state *state) {
  (void)state;
  fprintf(stream, "fovea-bench %d.%d.%d\n", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR,
          FOVEA_VERSION_PATCH);
}

int main(int argc, char **argv) {
  settings chosen = {.grid = FV_BENCH_DEFAULT,
                     .repetitions = FV_BENCH_LEAST_REPETITIONS,
                     .output = "fovea-bench.json"};
  argp_err_exit_status = EXIT_USAGE;
  argp_program_version_hook = print_version;
  argp_parse(&bench_argp, argc, argv, 0, NULL, &chosen);
  if (!chosen.word_count) fv_bench_blas_choose(argv);
  if (!chosen.word_count) return run_benchmarks(&chosen, argc, argv);
  return strcmp(chosen.words[0], "list") ? show(&chosen) : list_problems(&chosen);
}
