/* arguments.h - the part of the command line that run, map and explain share. Their options begin
 * with an fv_input_options. */
#ifndef FOVEA_CLI_INPUT_ARGUMENTS_H
#define FOVEA_CLI_INPUT_ARGUMENTS_H

#include "cli/flags.h"
#include "cli/input/attention_input.h"

extern const fv_flag fv_input_flags[];

/* Members of fv_flags. The first takes FILE; the second checks that there is a FILE, or all of --q,
 * --k and --v. */
void fv_input_take_word(void *options, char *word, struct argp_state *state);
void fv_input_check(const void *options, struct argp_state *state);

#endif /* FOVEA_CLI_INPUT_ARGUMENTS_H */
