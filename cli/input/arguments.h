/* arguments.h - the options that run, map and explain share. */
#ifndef FV_INPUT_ARGUMENTS_H
#define FV_INPUT_ARGUMENTS_H

#include <argp.h>

#include "cli/flag_value.h"
#include "cli/input/attention_input.h"

/* To be a child of a command's parser; its input is an fv_input_options. */
extern const struct argp fv_input_argp;

#endif /* FV_INPUT_ARGUMENTS_H */
