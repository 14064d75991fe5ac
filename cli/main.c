/* main.c - the program fovea: finds the command and hands over. */
#include <argp.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command/command.h"
#include "cli/command/report.h"
#include "cli/error.h"
#include "cli/interrupt.h"
#include "cli/roomy_stack.h"

static int help(void) {
  puts(
      "fovea: exact attention, computed, checked and drawn\n\n"
      "usage: fovea COMMAND [OPTIONS]\n\n"
      "Commands:");
  for (const fv_command *command = fv_commands; command->name; ++command) {
    printf("  %-10s %s\n", command->name, command->what);
  }
  puts(
      "\nTry first:\n"
      "  fovea run examples/data/street-layer3.safetensors\n\n"
      "fovea COMMAND --help tells more about a command; fovea --version prints the version.");
  return fv_report_finish();
}

static int version(void) {
  printf("fovea %d.%d.%d\n", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR, FOVEA_VERSION_PATCH);
  return fv_report_finish();
}

/* A program started with stdout closed would get its input as descriptor 1. Placeholders that
 * cannot be written make the output fail instead, and disturb nothing else. */
static void occupy_standard_descriptors(void) {
  int fd;
  do {
    fd = open("/dev/null", O_RDONLY);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

/* Help is printed by argp, which exits with 0 whether it arrived or not. */
static void check_output_at_exit(void) {
  if (fv_report_finish()) _exit(FV_EXIT_OUTPUT);
}

int main(int argc, char **argv) {
  occupy_standard_descriptors();
  fv_interrupt_setup();
  atexit(check_output_at_exit);
  argp_err_exit_status = FV_EXIT_USAGE;
  if (argc < 2) {
    return fv_cli_fail(FV_EXIT_USAGE, "no command; try fovea --help");
  }
  if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) return version();
  bool wants_help =
      !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help");
  if (wants_help && argc == 2) return help();
  if (wants_help) { /* fovea help COMMAND is fovea COMMAND --help */
    static char flag[] = "--help";
    argv[1] = argv[2];
    argv[2] = flag;
    argc = 3;
  }
  const fv_command *chosen = fv_command_find(argv[1]);
  if (!chosen) {
    return fv_cli_fail(FV_EXIT_USAGE, "no command '%s'; fovea --help lists them", argv[1]);
  }
  return fv_call_on_roomy_stack(chosen->main, argc - 1, argv + 1);
}
