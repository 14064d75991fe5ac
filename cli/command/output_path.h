/* output_path.h - may a result be written there? This is asked before the work, not after it. */
#ifndef FOVEA_CLI_COMMAND_OUTPUT_PATH_H
#define FOVEA_CLI_COMMAND_OUTPUT_PATH_H

/* Returns an exit code. Refuses
 *   - one of the inputs [input_count]: a usage error, because it would be lost;
 *   - what exists but is no regular file: a device would be replaced by a file of its name;
 *   - the file that stdout or stderr goes to;
 *   - a folder that is missing or not writable. */
int fv_output_path_check(const char *path, const char *const *inputs, int input_count);

#endif /* FOVEA_CLI_COMMAND_OUTPUT_PATH_H */
