/* attention_input.h - what `run`, `map` and `explain` work on: q, k and v from files, the options
 * that go with them, and the library's description of the call. */
#ifndef FOVEA_CLI_INPUT_ATTENTION_INPUT_H
#define FOVEA_CLI_INPUT_ATTENTION_INPUT_H

#include <stdbool.h>

#include <fovea.h>
#include "cli/files/tensor_file.h"

/* As given on the command line; each `has_` field says whether it was. */
typedef struct fv_input_options {
  const char *file; /* FILE.safetensors, or q, k and v */
  bool shapes_only; /* only headers are read; addresses stand for tensors */
#define FLAG(fields, ...) fields
#include "cli/input/arguments.def"
#undef FLAG
} fv_input_options;

typedef struct fv_input {
  const char *label;    /* for messages: the file's path, or the path of q */
  const char *paths[3]; /* of the files */
  fv_tensor_file *files[3];
  int file_count;
  bool shapes_only;    /* as in the options */
  bool heads_first;    /* bhsd */
  uint32_t file_dtype; /* of q, k and v; F32 if they differ */
  uint32_t dtype;      /* of the computation */
  void *buffers[5];    /* rounded q, k, v; out; lse */
  unsigned char *mask;
  fovea_attention_args args;               /* complete except for the workspace */
  fovea_tensor expected_out, expected_lse; /* dtype NONE: the file has none */
  const char *tokens;                      /* metadata, JSON; NULL: none */
  const char *causal_name; /* "top-left", "bottom-right" or NULL: as metadata spells it */
} fv_input;

/* Opens, checks and converts. Returns an exit code; on failure the reason was printed and *input
 * holds nothing. */
int fv_input_open(const fv_input_options *options, fv_input *input);
void fv_input_close(fv_input *input);

/* A file's type as the library has it; FOVEA_NONE: it computes nothing in that type. */
uint32_t fv_input_dtype(fv_file_dtype dtype);

/* Opens the device that the options name. Returns an exit code. */
int fv_input_device(const fv_input_options *options, fovea_handle **handle);

#endif /* FOVEA_CLI_INPUT_ATTENTION_INPUT_H */
