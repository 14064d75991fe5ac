/* command.c - see command.h. */
#include "cli/command/command.h"

#include <string.h>

const fv_command fv_commands[] = {
    {"run", fv_command_run, "compute attention on tensors from files, and check it", &fv_run_flags},
    {"validate", fv_command_validate, "judge a device by random problems", &fv_validate_flags},
    {"map", fv_command_map, "draw attention weights as a heat map", &fv_map_flags},
    {"explain", fv_command_explain, "say which kernel would run on an input, and why",
     &fv_explain_flags},
    {"info", fv_command_info, "show devices and kernels", &fv_info_flags},
    {0}};

const fv_command *fv_command_find(const char *name) {
  for (const fv_command *command = fv_commands; command->name; ++command) {
    if (!strcmp(command->name, name)) return command;
  }
  return NULL;
}
