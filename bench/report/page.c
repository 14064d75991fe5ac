/* page.c - docs/performance.md: the newest committed summary as Markdown. */
#include <string.h>

#include "bench/report/group.h"
#include "bench/report/plot.h"
#include "bench/report/table.h"

static void print_method(FILE *stream) {
  fputs(
      "Rows are problems. fovea and the naive pipeline computed each on the same random\n"
      "tensors, with the same number of threads, in turns, in one process; PyTorch, where\n"
      "it took part, did so in turns with a fovea in its own process (fovea@torch), and \"x\n"
      "torch\" compares those two. Results were compared before anything was timed. OpenBLAS\n"
      "and PyTorch use the widest instructions that they know of the processor (blas_core\n"
      "and torch below), fovea those of isa. Where the processor has AMX, PyTorch's bf16\n"
      "products run on it; fovea does not use AMX.\n\n"
      "Times are medians, and spread is half the distance of the quartiles. GFLOP/s count 4\n"
      "· batch · heads · dim per visible pair of row and key: for causal the exact number\n"
      "of pairs, whatever a pipeline computes in vain. GB/s count the keys and values once.\n"
      "\"Of peak\" and \"of read\" are parts of what the machine itself did in the same rounds:\n"
      "multiply-adds in registers, with the instructions that fovea uses, and reading the\n"
      "same keys and values; peak_gflops below is the median of the former over all problems.\n"
      "\"From memory\": keys and values were in no cache when the clock started.\n"
      "\"Memory\" is how much the resident set grew in the first call, besides the tensors.\n"
      "\"x\" is how many times as fast fovea is: below 1 it is slower.\n\n"
      "The naive pipeline multiplies queries and keys, takes the softmax, and multiplies\n"
      "with the values, each result in memory: products by OpenBLAS, softmax vectorised,\n"
      "16-bit tensors widened once. [pipelines/naive.c](../bench/pipelines/naive.c) says what "
      "care\n"
      "was taken of it.\n",
      stream);
}

static void print_batches(FILE *stream) {
  fputs(
      "\nPacked, paged and mixed rows are batches as servers have them: of unequal sequences,\n"
      "from a sixteenth of the length that the table gives to all of it, evenly spread.\n"
      "Packed prompts lie behind each other without padding. In a paged row each sequence has\n"
      "one query row, and its keys and values lie in pages in no order. A mixed row is one\n"
      "call for a chunk of a prompt and many rows that decode. OpenBLAS follows no page table,\n"
      "so the naive pipeline gathers keys and values into one piece per sequence first; that\n"
      "is in its time and in its memory.\n",
      stream);
}

static void print_additive(FILE *stream) {
  fputs(
      "\nAdditive scores are Bahdanau's. The naive pipeline has a tensor of rows, keys and hidden\n"
      "units: it gets the sums of queries and keys, then their tanh, and is multiplied by the "
      "score\n"
      "vector. Beside 5 operations per unit the tanh is not counted.\n",
      stream);
}

static void print_layers(FILE *stream) {
  fputs(
      "\nMulti-head layers are self-attention from tokens to tokens: projections to queries, keys\n"
      "and values with their biases, attention in heads, and the projection back. PyTorch's is\n"
      "nn.MultiheadAttention in inference mode, without weights as a result. fovea's is\n"
      "fovea_multihead, whose products OpenBLAS computes, as the naive pipeline's. FLOPs are "
      "those\n"
      "of the attention and 8 · (heads · dim)² per token.\n",
      stream);
}

static void print_pictures(const fv_bench_result *result, const char *folder, FILE *stream) {
  fv_bench_picture pictures[FV_BENCH_PICTURES_SHOWN];
  int count = fv_bench_plot_shown(result, pictures);
  fprintf(stream,
          "\n## Pictures\n\nOne dtype and one ratio of heads; `fovea-bench plot` draws the others "
          "from\n"
          "[summary.json](%s/summary.json).\n\n",
          folder);
  for (int i = 0; i < count; ++i) {
    char name[FV_BENCH_PICTURE_NAME], title[160];
    fv_bench_plot_name(&pictures[i], name);
    fv_bench_plot_title(&pictures[i], title, sizeof title);
    fprintf(stream, "![%s](%s/%s.svg)\n\n", title, folder, name);
  }
}

void fv_bench_page_print(const fv_bench_result *result, const char *folder, FILE *stream) {
  fputs(
      "# Performance\n\n"
      "<!-- written by scripts/performance-page from the newest summary in bench/results -->\n\n",
      stream);
  fprintf(stream, "Measured on %s, %s threads, %s instructions; fovea at commit %s.\n\n",
          fv_bench_result_context(result, "machine"), fv_bench_result_context(result, "threads"),
          fv_bench_result_context(result, "isa"), fv_bench_result_context(result, "commit"));
  print_method(stream);
  if (fv_bench_group_any_unequal(result)) print_batches(stream);
  if (fv_bench_group_any(result, FV_BENCH_ADDITIVE)) print_additive(stream);
  if (fv_bench_group_any(result, FV_BENCH_LAYER)) print_layers(stream);
  fputs("\n## Machine and commands\n\n```text\n", stream);
  fv_bench_machine_print(result, stream);
  fputs("```\n\nMade by `", stream);
  fprintf(stream,
          "%s`, which leaves every repetition in bench-report; medians,\n"
          "spreads and counts are in [summary.json](%s/summary.json).\n",
          fv_bench_result_context(result, "script"), folder);
  print_pictures(result, folder, stream);
  fputs("## Numbers\n", stream);
  fv_bench_groups_print(result, stream);
}
