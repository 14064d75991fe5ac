/* command.h - the program's commands. argv[0] is the command's name; each returns an exit code. */
#ifndef FV_COMMAND_H
#define FV_COMMAND_H

int fv_command_run(int argc, char **argv);
int fv_command_validate(int argc, char **argv);
int fv_command_map(int argc, char **argv);
int fv_command_info(int argc, char **argv);
int fv_command_explain(int argc, char **argv);

#endif /* FV_COMMAND_H */
