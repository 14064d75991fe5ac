/* settings.h - layout, scale, softcap, causal and window. They come from the file's metadata, from
 * flags, or from both if they agree. */
#ifndef FOVEA_CLI_INPUT_SETTINGS_H
#define FOVEA_CLI_INPUT_SETTINGS_H

#include "cli/input/attention_input.h"

/* Stores the settings in *input, whose files are open. Returns an exit code. A flag that
 * contradicts the metadata is a usage error; metadata without a valid meaning is a wrong input. */
int fv_input_read_settings(fv_input *input, const fv_input_options *options);

#endif /* FOVEA_CLI_INPUT_SETTINGS_H */
