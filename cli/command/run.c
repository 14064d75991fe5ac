/* run.c - `fovea run`: attention on tensors from files, timed, judged, and written if wanted. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command/command.h"
#include "cli/command/output_path.h"
#include "cli/command/report.h"
#include "cli/command/run_report.h"
#include "cli/error.h"
#include "cli/flag_value.h"
#include "cli/input/arguments.h"
#include "cli/mirror/mirror.h"
#include "csrc/check/check.h"
#include "csrc/dtype.h"
#include "csrc/host/element.h"

/* ---- Computing ---- */

/* Adds the workspace for one call, of the size that the library bounds. */
static int add_workspace(fovea_handle *handle, fovea_attention_args *args, void **workspace) {
  fovea_limits limits = {.struct_size = sizeof limits};
  limits.dim = (int32_t)args->q.shape[3];
  limits.dim_v = (int32_t)args->v.shape[3];
  limits.heads_q = (int32_t)(args->q.shape[2] ? args->q.shape[2] : 1);
  limits.heads_kv = (int32_t)(args->k.shape[2] ? args->k.shape[2] : 1);
  limits.sequences = args->q.shape[0] ? args->q.shape[0] : 1;
  limits.total_q = limits.sequences * (args->q.shape[1] ? args->q.shape[1] : 1);
  limits.len_kv = args->k.shape[1] ? args->k.shape[1] : 1;
  fovea_status status = fovea_attention_workspace(handle, &limits, &args->workspace_bytes);
  if (status != FOVEA_OK) return fv_cli_fail_call("fovea_attention_workspace", status);
  *workspace = aligned_alloc(256, (args->workspace_bytes + 511) / 256 * 256);
  if (!*workspace) return fv_cli_out_of_memory();
  args->workspace = *workspace;
  return FV_EXIT_OK;
}

static int compute(fovea_handle *handle, fv_input *input, fv_run_result *result) {
  void *workspace = NULL;
  result->info.struct_size = sizeof result->info;
  result->support.struct_size = sizeof result->support;
  result->weights_dtype = fv_mirror_weights_dtype(handle, &input->args);
  fovea_get_info(handle, &result->info);
  fovea_status status = fovea_attention_support(handle, &input->args, &result->support);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  if (!result->support.supported) {
    return fv_cli_fail(FV_EXIT_DEVICE, "%s: no kernel: %s", input->label, result->support.reason);
  }
  int code = add_workspace(handle, &input->args, &workspace);
  if (!code) {
    status = fv_mirror_attention(handle, &input->args, &result->seconds);
    if (status != FOVEA_OK) code = fv_cli_fail_call("fovea_attention", status);
  }
  input->args.workspace = NULL;
  input->args.workspace_bytes = 0;
  free(workspace);
  return code;
}

/* ---- Judging ---- */

/* The judge counts in the library's order of dimensions; the reader looks at the file. */
static void index_as_in_file(const fv_input *input, fv_bad_element *bad) {
  bool heads_first = !strcmp(bad->tensor ? bad->tensor : "", "lse") || input->heads_first;
  int64_t seq = bad->index[1], head = bad->index[2];
  bad->index[1] = heads_first ? head : seq;
  bad->index[2] = heads_first ? seq : head;
}

static void note_strange(fv_not_finite *strange, const char *tensor, const int64_t index[4],
                         double value) {
  if (strange->count++) return;
  strange->first = (fv_bad_element){.any = true, .tensor = tensor, .got = value};
  memcpy(strange->first.index, index, sizeof strange->first.index);
}

static void find_strange_in_row(const fv_input *input, int64_t at[4], fv_not_finite *strange) {
  const fovea_tensor *out = &input->args.out, *lse = &input->args.lse;
  int64_t offset = fv_row_offset(out, at[0], at[1], at[2]);
  for (at[3] = 0; at[3] < out->shape[3]; ++at[3]) {
    float value = fv_load(out->dtype, out->data, offset + at[3]);
    if (!isfinite(value)) note_strange(strange, "out", at, (double)value);
  }
  at[3] = 0;
  float sum = fv_load(FOVEA_F32, lse->data, fv_row_offset(lse, at[0], at[1], at[2]));
  if (!isfinite(sum) && sum != -INFINITY) note_strange(strange, "lse", at, (double)sum);
}

/* In the order of the file. */
static void find_strange(const fv_input *input, fv_not_finite *strange) {
  const int64_t *shape = input->args.out.shape;
  const int outer = input->heads_first ? 2 : 1, inner = 3 - outer;
  int64_t at[4] = {0};
  for (at[0] = 0; at[0] < shape[0]; ++at[0]) {
    for (at[outer] = 0; at[outer] < shape[outer]; ++at[outer]) {
      for (at[inner] = 0; at[inner] < shape[inner]; ++at[inner]) {
        find_strange_in_row(input, at, strange);
      }
    }
  }
  index_as_in_file(input, &strange->first);
}

/* Why nothing is judged, or NULL. */
static const char *why_not(const fv_run_options *options, const fv_run_result *result) {
  if (!result->rows) return "no rows: nothing to compute";
  if (options->check == FV_CHECK_NONE) return "nothing, as --check none says";
  if (result->info.device == FOVEA_DEVICE_REFERENCE && !result->against_file) {
    return "nothing: the reference is the judge, and judges others";
  }
  return NULL;
}

/* Completes the command line that repeats this run. */
static int add_to_repeat(fv_run_options *options, int64_t rows) {
  size_t room = strlen(options->repeat) + sizeof " --check rows=" + 20; /* digits of 2^63 */
  char *text = malloc(room);
  if (!text) return fv_cli_out_of_memory();
  snprintf(text, room, "%s --check rows=%lld", options->repeat, (long long)rows);
  free(options->repeat);
  options->repeat = text;
  return FV_EXIT_OK;
}

/* How many rows the reference computes in about the time that the computation took. Of the
 * reference's own results only few rows are computed again. */
static int64_t rows_to_judge(const fv_run_options *options, const fv_problem *problem,
                             const fv_run_result *result) {
  if (options->check == FV_CHECK_ROWS && options->rows < result->rows) return options->rows;
  if (options->check != FV_CHECK_AUTO || fv_rows_are_few(problem)) return result->rows;
  bool again = result->info.device == FOVEA_DEVICE_REFERENCE;
  return fv_rows_in_seconds(problem, again ? 0 : result->seconds);
}

static int judge_rows(fv_run_options *options, const fv_input *input, const fv_problem *problem,
                      fv_run_result *result) {
  fv_judge_options judge = {.weights_dtype = result->weights_dtype};
  fv_row_choice choice;
  if (result->against_file && input->expected_out.dtype) judge.expected_out = &input->expected_out;
  if (result->against_file && input->expected_lse.dtype) judge.expected_lse = &input->expected_lse;
  int64_t rows = rows_to_judge(options, problem, result);
  if (!fv_judge_rows(problem, &judge, rows, (uint64_t)options->seed, result->against_file, &choice,
                     &result->verdict)) {
    return fv_cli_out_of_memory();
  }
  result->judged = choice.referenced;
  result->bounded = choice.compared_by_bounds;
  index_as_in_file(input, &result->verdict.first_bad);
  if (fv_verdict_passes(&result->verdict)) {
    result->outcome = FV_RUN_RIGHT;
  } else if (result->verdict.compared || !result->verdict.exempt) {
    result->outcome = FV_RUN_WRONG;
  } else {
    result->why_not = "nothing: every row sees NaN or infinities";
  }
  /* The number of rows depends on the machine; the line that repeats the run must name it. */
  bool sampled = options->check == FV_CHECK_AUTO && rows < result->rows;
  return sampled ? add_to_repeat(options, rows) : FV_EXIT_OK;
}

/* Results in the file decide only in the file's own dtype. In another dtype the inputs were
 * rounded, and their exact answer differs. */
static int judge(fv_run_options *options, const fv_input *input, fv_run_result *result) {
  fv_problem problem;
  fovea_status status = fv_check_attention_shape(&input->args, &problem);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  bool has_results = input->expected_out.dtype || input->expected_lse.dtype;
  result->against_file = has_results && input->dtype == input->file_dtype;
  result->rows = fv_row_count(&problem);
  result->scale = problem.scale;
  result->why_not = why_not(options, result);
  result->outcome = result->rows ? FV_RUN_NOT_CHECKED : FV_RUN_RIGHT;
  find_strange(input, &result->strange);
  if (input->expected_out.dtype) {
    result->has_distance = true;
    result->distance = fv_largest_difference(&input->args.out, &input->expected_out);
  }
  return result->why_not ? FV_EXIT_OK : judge_rows(options, input, &problem, result);
}

/* ---- Output ---- */

static void describe(fv_file_tensor *tensor, const char *name, fv_file_dtype dtype,
                     const void *data, const int64_t *shape, uint32_t rank) {
  *tensor = (fv_file_tensor){.name = name, .dtype = dtype, .rank = rank, .data = data};
  tensor->bytes = fv_file_dtype_bytes(dtype);
  for (uint32_t d = 0; d < rank; ++d) {
    tensor->shape[d] = shape[d];
    tensor->bytes *= (uint64_t)shape[d];
  }
}

static fv_file_dtype output_dtype(const fv_input *input) {
  static const fv_file_dtype dtypes[] = {[FOVEA_F32] = FV_FILE_DTYPE_F32,
                                         [FOVEA_F16] = FV_FILE_DTYPE_F16,
                                         [FOVEA_BF16] = FV_FILE_DTYPE_BF16};
  return dtypes[input->dtype];
}

/* Asked before the work, not after it. */
static int check_output(const char *path, const fv_input *input) {
  if (fv_run_output_is_npy(path) && !fv_npy_has(output_dtype(input))) {
    return fv_cli_fail(FV_EXIT_USAGE,
                       "--output %s: .npy has no %s; write .safetensors, or compute in --dtype f32",
                       path, fv_dtype_name(input->dtype));
  }
  return fv_output_path_check(path, input->paths, input->file_count);
}

static int write_output(const char *path, const fv_input *input, float used_scale) {
  const fovea_attention_args *a = &input->args;
  const int64_t *s = a->out.shape;
  int64_t heads_first[4] = {s[0], s[2], s[1], s[3]};
  fv_file_tensor tensors[2];
  char scale[32], softcap[32], window[32];
  describe(&tensors[0], "out", output_dtype(input), a->out.data,
           input->heads_first ? heads_first : s, 4);
  describe(&tensors[1], "lse", FV_FILE_DTYPE_F32, a->lse.data, heads_first, 3);
  snprintf(scale, sizeof scale, "%.9g", (double)used_scale);
  snprintf(softcap, sizeof softcap, "%.9g", (double)a->logits.softcap);
  snprintf(window, sizeof window, "%d,%d",
           a->visibility.window_left.kind ? a->visibility.window_left.count : -1,
           a->visibility.window_right.kind ? a->visibility.window_right.count : -1);
  fv_file_metadata metadata[6] = {{"layout", input->heads_first ? "bhsd" : "bshd"},
                                  {"scale", scale},
                                  {"softcap", softcap},
                                  {"window", window},
                                  {"causal", input->causal_name ? input->causal_name : "none"},
                                  {"tokens", input->tokens}};
  fv_file_error error;
  fv_file_status status =
      fv_run_output_is_npy(path)
          ? fv_npy_write(path, &tensors[0], &error)
          : fv_safetensors_write(path, tensors, 2, metadata, input->tokens ? 6 : 5, &error);
  if (status == FV_FILE_OK) return FV_EXIT_OK;
  return fv_cli_fail(FV_EXIT_OUTPUT, "%s", error.text);
}

/* ---- The command ---- */

static bool store_check(const fv_flag *flag, const char *text, void *place) {
  static const char rows[] = "rows=";
  fv_run_options *options = place;
  (void)flag;
  if (!strcmp(text, "all")) {
    options->check = FV_CHECK_ALL;
  } else if (!strcmp(text, "none")) {
    options->check = FV_CHECK_NONE;
  } else {
    options->check = FV_CHECK_ROWS;
    return !strncmp(text, rows, strlen(rows)) &&
           fv_parse_count(text + strlen(rows), 1, INT64_MAX, &options->rows);
  }
  return true;
}

#define AT(field) offsetof(fv_run_options, field)
#define FLAG(fields, ...) {__VA_ARGS__},
static const fv_flag own_flags[] = {
#include "cli/command/run_flags.def"
    {0}};

static const char help[] =
    "Computes attention on tensors q, k and v from files and checks the result."
    "\v"
    "Examples:\n"
    "  fovea run examples/data/street-layer3.safetensors\n"
    "  fovea run street.safetensors --dtype bf16 --causal bottom-right --output out.safetensors\n"
    "  fovea run --q q.npy --k k.npy --v v.npy --layout bshd --json\n"
    "  fovea run long.safetensors --check rows=1000 --seed 7\n"
    "\n"
    "q, k and v have rank 4. Optional in FILE: attention_mask [batch, len_kv], 0 = a key that "
    "nobody "
    "sees; out and lse, to compare with. Its metadata may hold layout, scale, softcap, causal and "
    "window.\n"
    "\n"
    "The results in the file decide if the computation is in the file's own dtype; otherwise the "
    "double precision reference on the rounded inputs does. Each number in the file is compared, "
    "whatever --check says but none: in the rows of the sample under the bounds that the reference "
    "gives, in the others under wider ones, which need only the largest magnitudes of k and v. The "
    "reference does not judge its own results: with --device reference, only results in the file "
    "do, and without them nothing is checked.\n"
    "\n"
    "Exit status: 0 right or not checked, 1 wrong, 2 usage, 3 input missing or invalid, 4 no such "
    "device or "
    "kernel, "
    "5 output not writable or out of memory, 130 interrupted.";

const fv_flags fv_run_flags = {.command = "fovea run",
                               .operand = "FILE.safetensors",
                               .help = help,
                               .input = fv_input_flags,
                               .own = own_flags,
                               .take_word = fv_input_take_word,
                               .check = fv_input_check};

static int run(fv_run_options *options, fv_input *input) {
  fv_run_result result = {0};
  fovea_handle *handle;
  int code = options->output ? check_output(options->output, input) : FV_EXIT_OK;
  if (!code) code = fv_input_device(&options->input, &handle);
  if (code) return code;
  code = compute(handle, input, &result);
  fovea_destroy(handle);
  if (!code) code = judge(options, input, &result);
  if (!code && options->output) code = write_output(options->output, input, result.scale);
  if (!code) {
    code = options->json ? fv_run_report_json(options, input, &result)
                         : fv_run_report_text(options, input, &result);
  }
  if (code) return code;
  return result.outcome == FV_RUN_WRONG ? FV_EXIT_MISMATCH : FV_EXIT_OK;
}

int fv_command_run(int argc, char **argv) {
  fv_run_options options = {.input = {.window_left = -1, .window_right = -1}, .seed = 1};
  fv_input input;
  options.repeat = fv_report_repeat(argc, argv); /* before parsing sorts the arguments */
  if (!options.repeat) return fv_cli_out_of_memory();
  fv_flags_parse(&fv_run_flags, argc, argv, &options);
  int code = fv_input_open(&options.input, &input);
  if (!code) {
    code = run(&options, &input);
    fv_input_close(&input);
  }
  free(options.repeat);
  return code;
}
