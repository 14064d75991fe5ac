/* explain.c - `fovea explain`: which kernel would run on an input, how, and why. */
#include <argp.h>
#include <stdio.h>

#include "check.h"
#include "command.h"
#include "error.h"
#include "handle.h"
#include "input_arguments.h"
#include "plan_cuda.h"
#include "report.h"
#include "schedule_list.h"

enum { KEY_SCHEDULE = 256 };

typedef struct explain_options {
  fv_input_options input;
  bool schedule;
} explain_options;

static error_t parse(int key, char *value, struct argp_state *state) {
  explain_options *options = state->input;
  (void)value;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &options->input;
      return 0;
    case KEY_SCHEDULE:
      options->schedule = true;
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp_option flags[] = {
    {"schedule", KEY_SCHEDULE, NULL, 0,
     "On CUDA: also what each CTA does, and how evenly they share it", 0},
    {0}};

static const struct argp_child children[] = {{&fv_input_argp, 0, NULL, 0}, {0}};

static const char help[] =
    "Prints the plan of an attention call: kernel, tiles, workspace, and the reason. Nothing is "
    "computed."
    "\v"
    "Examples:\n"
    "  fovea explain examples/data/alice-layer2.safetensors\n"
    "  fovea explain alice.safetensors --dtype bf16 --causal bottom-right --window 128,0\n"
    "  fovea explain alice.safetensors --dtype bf16 --device cuda --schedule\n"
    "\n"
    "Exit status: 0 explained, 2 usage, 3 input missing or invalid, 4 no such device or kernel.";

static const struct argp explain_argp = {flags, parse, "FILE.safetensors", help, children,
                                         NULL,  NULL};

/* Nothing to say where every CTA simply takes the next tile. */
static int print_schedule(const fovea_handle *handle, const fv_input *input) {
  fv_problem problem;
  fv_plan plan;
  fv_schedule_list list;
  if (handle->facts.device != FOVEA_DEVICE_CUDA) {
    printf("\nno schedule: the threads of a CPU take tiles as they become free\n");
    return 0;
  }
  fovea_status status = fv_check_attention_shape(&input->args, &problem);
  if (status == FOVEA_OK) status = fv_plan_cuda(&handle->cuda.facts, &problem, &plan);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  if (!plan.schedule.on) {
    printf("\nno schedule: tiles are in number, and each CTA takes every %dth\n", plan.workers);
    return 0;
  }
  if (!fv_schedule_list_make(&plan, &problem, &list)) return fv_cli_out_of_memory();
  putchar('\n');
  fv_schedule_list_print(stdout, &plan, &problem, &list);
  fv_schedule_list_free(&list);
  return 0;
}

static int explain(const explain_options *options, const fv_input *input) {
  char text[4096];
  fovea_handle *handle;
  int code = fv_input_device(&options->input, &handle);
  if (code) return code;
  fovea_status status = fovea_attention_explain(handle, &input->args, text, sizeof text);
  if (status != FOVEA_OK) {
    fovea_destroy(handle);
    return fv_cli_fail_call(input->label, status);
  }
  fputs(text, stdout);
  if (options->schedule) code = print_schedule(handle, input);
  fovea_destroy(handle);
  return code ? code : fv_report_finish();
}

int fv_command_explain(int argc, char **argv) {
  explain_options options = {.input = {.window_left = -1, .window_right = -1}};
  fv_input input;
  char name[] = "fovea explain";
  argv[0] = name;
  argp_parse(&explain_argp, argc, argv, 0, NULL, &options);
  int code = fv_input_open(&options.input, &input);
  if (code) return code;
  code = explain(&options, &input);
  fv_input_close(&input);
  return code;
}
