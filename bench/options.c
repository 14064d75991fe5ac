/* options.c - see options.h. */
#include "bench/options.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure/rounds.h"

enum { OPT_QUICK = 700, OPT_FULL, OPT_BREAK, OPT_DEVICE, OPT_HOST };

static const struct argp_option arguments[] = {
    {"quick", OPT_QUICK, NULL, 0, "A few problems, within a minute", 0},
    {"full", OPT_FULL, NULL, 0, "Every dtype, dim and length: some half an hour on 2 cores", 0},
    {"device", OPT_DEVICE, "DEVICE", 0, "cpu (default) or cuda: device 0, a grid of its own", 0},
    {"host", OPT_HOST, NULL, 0, "What a call takes on the host, on a driver that does nothing", 0},
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
static void check_words(const fv_bench_options *chosen, struct argp_state *state) {
  static const struct {
    const char *name;
    int words;
  } commands[] = {{"list", 1}, {"table", 2}, {"summary", 2}, {"page", 3}, {"plot", 3}};
  enum { COMMANDS = sizeof commands / sizeof *commands };
  if (!chosen->word_count) return;
  for (int i = 0; i < COMMANDS; ++i) {
    if (strcmp(chosen->words[0], commands[i].name)) continue;
    if (chosen->word_count != commands[i].words) {
      argp_error(state, "%s takes %d arguments", commands[i].name, commands[i].words - 1);
    }
    return;
  }
  argp_error(state, "there is no command '%s'", chosen->words[0]);
}

static error_t parse(int key, char *value, struct argp_state *state) {
  fv_bench_options *chosen = state->input;
  switch (key) {
    case OPT_QUICK:
      chosen->grid = FV_BENCH_QUICK;
      return 0;
    case OPT_FULL:
      chosen->grid = FV_BENCH_FULL;
      return 0;
    case OPT_DEVICE:
      chosen->cuda = !strcmp(value, "cuda");
      if (!chosen->cuda && strcmp(value, "cpu")) argp_error(state, "--device is cpu or cuda");
      return 0;
    case OPT_HOST:
      chosen->host = true;
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
      chosen->repetitions = number_of(value, FV_BENCH_REPETITIONS_MIN, FV_BENCH_REPETITIONS_MAX,
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

static const char usage[] = "\nlist\ntable FILE\nsummary FILE\npage FILE FOLDER\nplot FILE FOLDER";

static const char help[] =
    "Times fovea against the naive pipeline (scores, softmax, product with the values, each in "
    "memory; products by OpenBLAS, on a GPU by cuBLAS) on the same tensors, in turns, with the "
    "same number of threads. "
    "Writes Google Benchmark's JSON, which compare.py reads, and prints a table."
    "\v"
    "Problems are prefill and decode, of equal sequences in dense tensors, and batches as servers "
    "have them: packed prompts of unequal lengths; paged, one row each against caches of unequal "
    "lengths in pages of 16 keys; mixed, a chunk of a prompt and rows that decode in one call. "
    "Additive is prefill with Bahdanau's score. "
    "From "
    "pages the naive pipeline gathers keys and values first, which is timed.\n\n"
    "list prints the problems of the grid; table, summary, page and plot show a report that was "
    "written before, or its summary: as text, as JSON with a line per row, as Markdown whose "
    "pictures lie in FOLDER, as PNG and SVG into FOLDER.\n\n"
    "Results are compared before anything is timed; a mismatch ends the run.\n\n"
    "Exit status: 0 done, 1 pipelines disagree or one failed, 2 usage, 3 a report is not readable, "
    "4 there is no such device, 5 the output is not writable, memory or threads are lacking.";

static const struct argp bench_argp = {arguments, parse, usage, help, NULL, NULL, NULL};

static void print_version(FILE *stream, struct argp_state *state) {
  (void)state;
  fprintf(stream, "fovea-bench %d.%d.%d\n", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR,
          FOVEA_VERSION_PATCH);
}

fv_bench_options fv_bench_options_of(int argc, char **argv) {
  fv_bench_options chosen = {.grid = FV_BENCH_DEFAULT,
                             .repetitions = FV_BENCH_REPETITIONS_MIN,
                             .output = "fovea-bench.json"};
  argp_err_exit_status = EXIT_USAGE;
  argp_program_version_hook = print_version;
  argp_parse(&bench_argp, argc, argv, 0, NULL, &chosen);
  return chosen;
}
