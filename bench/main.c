/* main.c - the program fovea-bench. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/measure/check.h"
#include "bench/measure/host.h"
#include "bench/measure/machine.h"
#include "bench/measure/session.h"
#include "bench/options.h"
#include "bench/pipelines/blas.h"
#include "bench/problem/grid.h"
#include "bench/report/plot.h"
#include "bench/report/result.h"
#include "bench/report/summary.h"
#include "bench/report/table.h"

static int fail(int code, const char *what, const char *why) {
  fprintf(stderr, "fovea-bench: %s: %s\n", what, why);
  return code;
}

/* ---- Timing ---- */

static bool is_wanted(const fv_bench_problem *problem, const fv_bench_options *chosen, char *name) {
  fv_bench_row_key key = {.device = "cpu", .pipeline = "fovea", .problem = *problem};
  if (chosen->cuda) strcpy(key.device, "cuda");
  fv_bench_row_name(&key, name);
  return !chosen->filter || strstr(name, chosen->filter);
}

static fv_bench_problems make_list(const fv_bench_options *chosen,
                                   const fv_bench_machine *machine) {
  if (chosen->cuda) return fv_bench_grid_cuda_problems(chosen->grid);
  return fv_bench_grid_problems(chosen->grid, machine->cache_bytes);
}

static void show_progress(size_t index, size_t count, double start, const char *name) {
  if (!isatty(STDERR_FILENO)) return;
  fprintf(stderr, "\r\033[K%3zu/%zu  %4.0f s  %s", index + 1, count, fv_bench_clock() - start,
          name);
}

static int time_problems(const fv_bench_options *chosen, fv_bench_machine *machine,
                         fv_bench_json *json) {
  fv_bench_problems list = make_list(chosen, machine);
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
    if (!is_wanted(&list.at[i], chosen, name)) continue;
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

/* A simulator's times must not be taken for a GPU's. */
static void describe_device(const fv_bench_machine *machine, fv_bench_json *json) {
  fv_bench_json_context(json, "products", fv_bench_cuda_products(machine));
  if (!fv_bench_machine_is_simulated(machine)) return;
  fv_bench_json_context(json, "simulated",
                        "all times are the software GPU's and say nothing about a GPU");
}

static int run_benchmarks(const fv_bench_options *chosen, int argc, char **argv) {
  fv_bench_machine machine;
  if (!fv_bench_machine_open(&machine, chosen->threads)) return EXIT_OUTPUT;
  if (chosen->cuda && !fv_bench_cuda_open(&machine)) {
    fv_bench_cuda_close(&machine);
    fv_bench_machine_close(&machine);
    return EXIT_DEVICE;
  }
  fv_bench_json *json = fv_bench_json_open();
  char command[512] = "fovea-bench";
  for (int i = 1; i < argc; ++i) {
    size_t used = strlen(command);
    snprintf(command + used, sizeof command - used, " %s", argv[i]);
  }
  fv_bench_json_context(json, "command", command);
  fv_bench_json_context(json, "grid", fv_bench_grid_name(chosen->grid));
  fv_bench_machine_describe(&machine, json);
  if (chosen->cuda) describe_device(&machine, json);
  int code = time_problems(chosen, &machine, json);
  if (!code) code = write_report(chosen->output, json);
  fv_bench_json_close(json);
  if (chosen->cuda) fv_bench_cuda_close(&machine);
  fv_bench_machine_close(&machine);
  return code;
}

/* ---- What needs no timing ---- */

/* For programs that time the same problems: name, FLOPs, bytes, and the largest and the typical
 * difference that are allowed, separated by tabs. */
static int list_problems(const fv_bench_options *chosen) {
  fv_bench_machine machine;
  if (!fv_bench_machine_open(&machine, chosen->threads)) return EXIT_OUTPUT;
  fv_bench_problems list = make_list(chosen, &machine);
  for (size_t i = 0; i < list.count; ++i) {
    char name[FV_BENCH_NAME];
    if (!is_wanted(&list.at[i], chosen, name)) continue;
    printf("%s\t%.0f\t%.0f\t%.9g\t%.9g\n", name, fv_bench_flops(&list.at[i]),
           fv_bench_kv_bytes(&list.at[i]), fv_bench_allowance(&list.at[i]),
           fv_bench_typical_allowance(&list.at[i]));
  }
  free(list.at);
  fv_bench_machine_close(&machine);
  return fflush(stdout) ? EXIT_OUTPUT : 0;
}

/* Each call checks, plans and launches; a driver that does nothing receives the launches. */
static int show_host_cost(void) {
  fv_bench_host_cost costs[2];
  static const char *const names[] = {"prefill", "decode"};
  if (!fv_bench_host_measure(&costs[0], &costs[1])) return EXIT_DEVICE;
  printf("%-8s %12s %8s %16s\n", "call", "us per call", "spread", "allocations");
  for (int i = 0; i < 2; ++i) {
    printf("%-8s %12.3f %6.1f %% %5lld in %lld\n", names[i], costs[i].microseconds,
           100 * costs[i].spread, (long long)costs[i].allocations, (long long)costs[i].calls);
  }
  return fflush(stdout) ? EXIT_OUTPUT : 0;
}

static int show(const fv_bench_options *chosen) {
  fv_bench_result result;
  char error[256];
  if (!fv_bench_result_read(&result, chosen->words[1], error, sizeof error)) {
    fprintf(stderr, "fovea-bench: %s\n", error);
    return EXIT_INPUT;
  }
  int code = 0;
  if (!strcmp(chosen->words[0], "table")) fv_bench_table_print(&result, stdout);
  if (!strcmp(chosen->words[0], "summary")) fv_bench_summary_print(&result, stdout);
  if (!strcmp(chosen->words[0], "page")) fv_bench_page_print(&result, chosen->words[2], stdout);
  if (!strcmp(chosen->words[0], "plot") &&
      !fv_bench_plot_all(&result, chosen->words[2], error, sizeof error)) {
    code = fail(EXIT_OUTPUT, "plot", error);
  }
  fv_bench_result_free(&result);
  return fflush(stdout) ? EXIT_OUTPUT : code;
}

int main(int argc, char **argv) {
  fv_bench_options chosen = fv_bench_options_of(argc, argv);
  if (chosen.host && !chosen.word_count) return show_host_cost();
  if (!chosen.word_count) fv_bench_blas_choose(argv);
  if (!chosen.word_count) return run_benchmarks(&chosen, argc, argv);
  return strcmp(chosen.words[0], "list") ? show(&chosen) : list_problems(&chosen);
}
