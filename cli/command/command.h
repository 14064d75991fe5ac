/* command.h - the program's commands. argv[0] is the command's name; each returns an exit code. */
#ifndef FOVEA_CLI_COMMAND_COMMAND_H
#define FOVEA_CLI_COMMAND_COMMAND_H

#include "cli/flags.h"

int fv_command_run(int argc, char **argv);
int fv_command_validate(int argc, char **argv);
int fv_command_map(int argc, char **argv);
int fv_command_explain(int argc, char **argv);
int fv_command_info(int argc, char **argv);

extern const fv_flags fv_run_flags, fv_validate_flags, fv_map_flags, fv_explain_flags,
    fv_info_flags;

typedef struct fv_command {
  const char *name;
  int (*main)(int argc, char **argv);
  const char *what;
  const fv_flags *flags;
} fv_command;

/* In the order of --help; the last has no name. */
extern const fv_command fv_commands[];

/* NULL: there is no such command. */
const fv_command *fv_command_find(const char *name);

#endif /* FOVEA_CLI_COMMAND_COMMAND_H */
