/* run.c - `fovea run`: attention on tensors from files, timed, judged, and written if wanted. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "command.h"
#include "criteria.h"
#include "error.h"
#include "input_arguments.h"
#include "mirror.h"
#include "output_path.h"
#include "report.h"

typedef struct run_options {
  fv_input_options input;
  const char *output;
  bool json;
  char *repeat; /* the command line */
} run_options;

typedef struct run_result {
  double seconds;
  fovea_info info;
  fovea_support support;
  fv_verdict verdict;
  uint32_t weights_dtype; /* that probabilities were rounded to */
  bool against_file;
  bool has_distance; /* the file has results, but in another dtype than ours */
  double distance;   /* the largest difference to them */
  float scale;       /* as used: no default */
  bool passes;
} run_result;

/* ---- Computing ---- */

/* The workspace for one call, by the library's bound. */
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

static int compute(fovea_handle *handle, fv_input *input, run_result *result) {
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

/* Results in the file decide only in the file's own dtype: in another one the inputs were rounded,
 * and the exact answer for them is another. */
static int judge(const fv_input *input, run_result *result) {
  fv_problem problem;
  fv_judge_options options = {.weights_dtype = result->weights_dtype};
  fovea_status status = fv_check_attention_shape(&input->args, &problem);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  bool has_results = input->expected_out.dtype || input->expected_lse.dtype;
  result->against_file = has_results && input->dtype == input->file_dtype;
  if (input->expected_out.dtype) options.expected_out = &input->expected_out;
  if (input->expected_lse.dtype) options.expected_lse = &input->expected_lse;
  fv_judge_options reference_only = {.weights_dtype = result->weights_dtype};
  fv_judge_attention(&problem, result->against_file ? &options : &reference_only, &result->verdict,
                     NULL);
  index_as_in_file(input, &result->verdict.first_bad);
  result->scale = problem.scale;
  result->passes = problem.empty || fv_verdict_passes(&result->verdict);
  if (input->expected_out.dtype) {
    result->has_distance = true;
    result->distance = fv_largest_difference(&input->args.out, &input->expected_out);
  }
  return FV_EXIT_OK;
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

static int write_output(const char *path, const fv_input *input, float used_scale) {
  static const fv_file_dtype dtypes[] = {[FOVEA_F32] = FV_FILE_DTYPE_F32,
                                         [FOVEA_F16] = FV_FILE_DTYPE_F16,
                                         [FOVEA_BF16] = FV_FILE_DTYPE_BF16};
  const fovea_attention_args *a = &input->args;
  const int64_t *s = a->out.shape;
  int64_t heads_first[4] = {s[0], s[2], s[1], s[3]};
  fv_file_tensor tensors[2];
  char scale[32], softcap[32], window[32];
  describe(&tensors[0], "out", dtypes[input->dtype], a->out.data,
           input->heads_first ? heads_first : s, 4);
  describe(&tensors[1], "lse", FV_FILE_DTYPE_F32, a->lse.data, heads_first, 3);
  snprintf(scale, sizeof scale, "%.9g", (double)used_scale);
  snprintf(softcap, sizeof softcap, "%.9g", (double)a->softcap);
  snprintf(window, sizeof window, "%d,%d", a->window_left.kind ? a->window_left.count : -1,
           a->window_right.kind ? a->window_right.count : -1);
  fv_file_metadata metadata[6] = {{"layout", input->heads_first ? "bhsd" : "bshd"},
                                  {"scale", scale},
                                  {"softcap", softcap},
                                  {"window", window},
                                  {"causal", input->causal_name ? input->causal_name : "none"},
                                  {"tokens", input->tokens}};
  fv_file_error error;
  if (fv_safetensors_write(path, tensors, 2, metadata, input->tokens ? 6 : 5, &error) ==
      FV_FILE_OK) {
    return FV_EXIT_OK;
  }
  return fv_cli_fail(FV_EXIT_OUTPUT, "%s", error.text);
}

/* ---- Reports ---- */

static const char *device_name(uint32_t device) {
  static const char *const names[] = {"auto", "cpu", "reference", "cuda"};
  return names[device];
}

static const char *compared_with(const run_result *result) {
  return result->against_file ? "file" : "reference";
}

static int report_json(const run_options *options, const fv_input *input,
                       const run_result *result) {
  json_t *report = fv_report_json("run", device_name(result->info.device), result->support.kernel,
                                  fv_dtype_name(input->dtype), result->seconds, &result->verdict,
                                  options->repeat);
  if (report) {
    json_object_set_new(report, "pass", json_boolean(result->passes));
    json_object_set_new(report, "compared_with", json_string(compared_with(result)));
    json_object_set_new(report, "file", fv_report_string(input->label));
    json_t *distance = result->has_distance ? json_real(result->distance) : NULL;
    if (!distance) distance = json_null(); /* there is none, or it is NaN or infinite */
    json_object_set_new(report, "distance_to_file", distance);
  }
  return fv_report_write(report);
}

static int report_text(const run_options *options, const fv_input *input,
                       const run_result *result) {
  const fovea_tensor *q = &input->args.q, *k = &input->args.k;
  printf("file       %s\n", input->label);
  printf("shape      batch %lld, heads %lld/%lld, len %lld x %lld, dim %lld/%lld\n",
         (long long)q->shape[0], (long long)q->shape[2], (long long)k->shape[2],
         (long long)q->shape[1], (long long)k->shape[1], (long long)q->shape[3],
         (long long)input->args.v.shape[3]);
  printf("device     %s (%s), %s\n", device_name(result->info.device), result->info.name,
         result->support.kernel);
  printf("dtype      %s\n", fv_dtype_name(input->dtype));
  printf("time       %.3f ms\n", result->seconds * 1e3);
  printf("against    %s\n",
         result->against_file ? "the results in the file" : "the double precision reference");
  if (result->has_distance)
    printf("distance   %.3g at most from out in the file\n", result->distance);
  fv_report_print_verdict(&result->verdict, options->repeat);
  printf("verdict    %s\n", result->passes ? "right" : "WRONG");
  return fv_report_finish();
}

/* ---- The command ---- */

enum { OPT_OUTPUT = 'o', OPT_JSON = 600 };

static const struct argp_option arguments[] = {
    {NULL, 0, NULL, 0, "Output:", 4},
    {"output", OPT_OUTPUT, "OUT.safetensors", 0, "Write out and lse there", 4},
    {"json", OPT_JSON, NULL, 0, "Report as JSON", 4},
    {0}};

static error_t parse(int key, char *value, struct argp_state *state) {
  run_options *options = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &options->input;
      return 0;
    case OPT_OUTPUT:
      options->output = value;
      return 0;
    case OPT_JSON:
      options->json = true;
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_child children[] = {{&fv_input_argp, 0, NULL, 0}, {0}};

static const char help[] =
    "Computes attention on tensors q, k and v from files and checks the result."
    "\v"
    "Examples:\n"
    "  fovea run examples/data/street-layer3.safetensors\n"
    "  fovea run street.safetensors --dtype bf16 --causal bottom-right --output out.safetensors\n"
    "  fovea run --q q.npy --k k.npy --v v.npy --layout bshd --json\n"
    "\n"
    "q, k and v have rank 4. Optional in FILE: attention_mask [batch, len_kv], 0 = a key that "
    "nobody "
    "sees; out and lse, to compare with. Its metadata may hold layout, scale, softcap, causal and "
    "window.\n"
    "\n"
    "The results in the file decide if the computation is in the file's own dtype; otherwise the "
    "double precision reference on the rounded inputs does.\n"
    "\n"
    "Exit status: 0 right, 1 wrong, 2 usage, 3 input missing or invalid, 4 no such device or "
    "kernel, "
    "5 output not writable or out of memory, 130 interrupted.";

static const struct argp run_argp = {arguments, parse, "FILE.safetensors", help, children,
                                     NULL,      NULL};

static int run(const run_options *options, fv_input *input) {
  run_result result = {0};
  fovea_handle *handle;
  int code = options->output ? fv_output_path_check(options->output, input) : FV_EXIT_OK;
  if (!code) code = fv_input_device(&options->input, &handle);
  if (code) return code;
  code = compute(handle, input, &result);
  fovea_destroy(handle);
  if (!code) code = judge(input, &result);
  if (!code && options->output) code = write_output(options->output, input, result.scale);
  if (!code) {
    code =
        options->json ? report_json(options, input, &result) : report_text(options, input, &result);
  }
  if (code) return code;
  return result.passes ? FV_EXIT_OK : FV_EXIT_MISMATCH;
}

int fv_command_run(int argc, char **argv) {
  run_options options = {.input = {.window_left = -1, .window_right = -1}};
  fv_input input;
  options.repeat = fv_report_repeat(argc, argv); /* before argp sorts the arguments */
  if (!options.repeat) return fv_cli_out_of_memory();
  char name[] = "fovea run";
  argv[0] = name;
  argp_parse(&run_argp, argc, argv, 0, NULL, &options);
  int code = fv_input_open(&options.input, &input);
  if (!code) {
    code = run(&options, &input);
    fv_input_close(&input);
  }
  free(options.repeat);
  return code;
}
