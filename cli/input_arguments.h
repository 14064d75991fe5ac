/* input_arguments.h - the options that run, map and explain share. */
#ifndef FV_INPUT_ARGUMENTS_H
#define FV_INPUT_ARGUMENTS_H

#include <argp.h>

#include "attention_input.h"

/* To be a child of a command's parser; its input is an fv_input_options. */
extern const struct argp fv_input_argp;

/* "auto", "cpu", "reference", "cuda" or "cuda:N". */
bool fv_parse_device(const char *text, uint32_t *device, int32_t *ordinal);

#endif /* FV_INPUT_ARGUMENTS_H */
