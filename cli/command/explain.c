/* explain.c - `fovea explain`: which kernel would run on an input, how, and why. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/command/command.h"
#include "cli/command/report.h"
#include "cli/command/schedule_text.h"
#include "cli/error.h"
#include "cli/flag_value.h"
#include "cli/input/arguments.h"
#include "csrc/check/check.h"
#include "csrc/dtype.h"
#include "csrc/handle.h"
#include "csrc/plan.h"

typedef struct explain_options {
  fv_input_options input; /* first: input flags and words store into it */
  bool schedule, json;
} explain_options;

#define AT(field) offsetof(explain_options, field)
static const fv_flag own_flags[] = {
    {.help = "Output:"},
    {.name = "schedule",
     .store = fv_flag_true,
     .offset = AT(schedule),
     .help = "On CUDA: also what each CTA does, and how evenly they share it",
     .manual =
         "Where the device shares the work by the lengths that it finds: which tiles of rows "
         "there are, which keys of which of them each CTA takes, and by how much the CTA with "
         "most bytes, and the one with most FLOPs, is above the mean."},
    {.name = "json",
     .store = fv_flag_true,
     .offset = AT(json),
     .help = "Report as JSON",
     .manual = "One object, whose fields are below."},
    {0}};

static const char help[] =
    "Prints the plan of an attention call: kernel, tiles, workspace, and the reason. Nothing is "
    "computed, and of the files only the headers are read."
    "\v"
    "Examples:\n"
    "  fovea explain examples/data/alice-layer2.safetensors\n"
    "  fovea explain alice.safetensors --dtype bf16 --causal bottom-right --window 128,0\n"
    "  fovea explain alice.safetensors --dtype bf16 --device cuda --schedule\n"
    "  fovea explain alice.safetensors --json\n"
    "\n"
    "Exit status: 0 explained, 2 usage, 3 input missing or invalid, 4 no such device or kernel.";

const fv_flags fv_explain_flags = {.command = "fovea explain",
                                   .operand = "FILE.safetensors",
                                   .help = help,
                                   .input = fv_input_flags,
                                   .own = own_flags,
                                   .take_word = fv_input_take_word,
                                   .check = fv_input_check};

/* Everything that explain reports about a call. */
typedef struct explanation {
  fovea_info info;
  fovea_support support;
  char plan[4096];        /* "" if there is none */
  size_t workspace_bytes; /* of this call */
  char *schedule;         /* NULL: not wanted */
} explanation;

/* Prints nothing where every CTA simply takes the next tile. */
static int write_schedule(FILE *stream, const fovea_handle *handle, const fv_plan *plan,
                          const fv_problem *problem) {
  fv_schedule_list list;
  if (handle->backend->device != FOVEA_DEVICE_CUDA) {
    fprintf(stream, "no schedule: the threads of a CPU take tiles as they become free\n");
    return FV_EXIT_OK;
  }
  if (!plan->cuda.scheduled) {
    fprintf(stream, "no schedule needed: tiles outnumber CTAs; each takes every %dth\n",
            plan->workers);
    return FV_EXIT_OK;
  }
  if (!fv_schedule_list_make(plan, problem, &list)) return fv_cli_out_of_memory();
  fv_schedule_print(stream, plan, problem, &list);
  fv_schedule_list_free(&list);
  return FV_EXIT_OK;
}

static int make_schedule(const fovea_handle *handle, const fv_plan *plan, const fv_problem *problem,
                         char **text) {
  size_t size;
  FILE *stream = open_memstream(text, &size);
  if (!stream) return fv_cli_out_of_memory();
  int code = write_schedule(stream, handle, plan, problem);
  if (fclose(stream) && !code) code = fv_cli_out_of_memory();
  return code;
}

static int look(const explain_options *options, fovea_handle *handle, const fv_input *input,
                explanation *found) {
  fv_problem problem;
  fv_plan plan;
  found->info.struct_size = sizeof found->info;
  found->support.struct_size = sizeof found->support;
  fovea_get_info(handle, &found->info);
  fovea_status status = fovea_attention_support(handle, &input->args, &found->support);
  if (status == FOVEA_OK && !found->support.supported) return FV_EXIT_OK;
  if (status == FOVEA_OK) {
    status = fovea_attention_explain(handle, &input->args, found->plan, sizeof found->plan);
  }
  if (status == FOVEA_OK) status = fv_check_attention_shape(&input->args, &problem);
  if (status == FOVEA_OK) status = handle->backend->plan(handle, &problem, &plan);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  found->workspace_bytes = plan.workspace_bytes;
  if (!options->schedule) return FV_EXIT_OK;
  return make_schedule(handle, &plan, &problem, &found->schedule);
}

/* ---- Reports ---- */

static json_t *text_or_null(const char *text) {
  return text && *text ? fv_report_string(text) : json_null();
}

static int report_json(const fv_input *input, const explanation *found) {
  bool supported = found->support.supported;
  json_t *workspace = supported ? json_integer((json_int_t)found->workspace_bytes) : json_null();
  return fv_report_write(
      json_pack("{s:i, s:s, s:o, s:s, s:s, s:b, s:o, s:s, s:o, s:o, s:o}", "schema",
                FV_REPORT_SCHEMA, "command", "explain", "file", fv_report_string(input->label),
                "device", fv_device_name(found->info.device), "dtype", fv_dtype_name(input->dtype),
                "supported", (int)supported, "kernel", text_or_null(found->support.kernel),
                "reason", found->support.reason, "workspace_bytes", workspace, "plan",
                text_or_null(found->plan), "schedule", text_or_null(found->schedule)));
}

static int report_text(const fv_input *input, const explanation *found) {
  if (!found->support.supported) {
    return fv_cli_fail(FV_EXIT_DEVICE, "%s: no kernel: %s", input->label, found->support.reason);
  }
  fputs(found->plan, stdout);
  if (found->schedule) printf("\n%s", found->schedule);
  return fv_report_finish();
}

static int explain(const explain_options *options, const fv_input *input) {
  explanation found = {0};
  fovea_handle *handle;
  int code = fv_input_device(&options->input, &handle);
  if (code) return code;
  code = look(options, handle, input, &found);
  if (!code) code = options->json ? report_json(input, &found) : report_text(input, &found);
  if (!code && !found.support.supported) code = FV_EXIT_DEVICE;
  free(found.schedule);
  fovea_destroy(handle);
  return code;
}

int fv_command_explain(int argc, char **argv) {
  explain_options options = {.input = {.shapes_only = true, .window_left = -1, .window_right = -1}};
  fv_input input;
  fv_flags_parse(&fv_explain_flags, argc, argv, &options);
  int code = fv_input_open(&options.input, &input);
  if (code) return code;
  code = explain(&options, &input);
  fv_input_close(&input);
  return code;
}
