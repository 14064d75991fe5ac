/* explain.c - `fovea explain`: which kernel would run on an input, how, and why. */
#include <argp.h>
#include <stdio.h>

#include "command.h"
#include "error.h"
#include "input_arguments.h"
#include "report.h"

static error_t parse(int key, char *value, struct argp_state *state) {
  (void)value;
  if (key != ARGP_KEY_INIT) return ARGP_ERR_UNKNOWN;
  state->child_inputs[0] = state->input;
  return 0;
}

static const struct argp_child children[] = {{&fv_input_argp, 0, NULL, 0}, {0}};

static const char help[] =
    "Prints the plan of an attention call: kernel, tiles, workspace, and the reason. Nothing is "
    "computed."
    "\v"
    "Examples:\n"
    "  fovea explain examples/data/alice-layer2.safetensors\n"
    "  fovea explain alice.safetensors --dtype bf16 --causal bottom-right --window 128,0\n"
    "\n"
    "Exit status: 0 explained, 2 usage, 3 input missing or invalid, 4 no such device or kernel.";

static const struct argp explain_argp = {NULL, parse, "FILE.safetensors", help, children,
                                         NULL, NULL};

static int explain(const fv_input_options *options, const fv_input *input) {
  char text[4096];
  fovea_handle *handle;
  int code = fv_input_device(options, &handle);
  if (code) return code;
  fovea_status status = fovea_attention_explain(handle, &input->args, text, sizeof text);
  fovea_destroy(handle);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  fputs(text, stdout);
  return fv_report_finish();
}

int fv_command_explain(int argc, char **argv) {
  fv_input_options options = {.window_left = -1, .window_right = -1};
  fv_input input;
  char name[] = "fovea explain";
  argv[0] = name;
  argp_parse(&explain_argp, argc, argv, 0, NULL, &options);
  int code = fv_input_open(&options, &input);
  if (code) return code;
  code = explain(&options, &input);
  fv_input_close(&input);
  return code;
}
