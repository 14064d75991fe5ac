/* tokens.h - the tokens in a file's metadata: JSON, a list of strings for each batch row. */
#ifndef FOVEA_CLI_INPUT_TOKENS_H
#define FOVEA_CLI_INPUT_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "cli/files/tensor_file.h"

/* Takes row `batch` of `text`, the metadata `key` of file `path`. *labels becomes NULL if text is
 * NULL; else it gets `count` strings and a NULL, and a shorter list is filled up with "".
 * SentencePiece's mark of a space, U+2581, becomes a space. Returns an exit code. Free with
 * fv_tokens_free, which takes NULL too. */
int fv_tokens_read(const char *text, const char *key, const char *path, int64_t batch,
                   int64_t count, char ***labels);
void fv_tokens_free(char **labels);

/* The same of a list that no batch row has for itself: ["left eye", "right eye"]. */
int fv_names_read(const char *text, const char *key, const char *path, int64_t count,
                  char ***labels);

/* What names the rows and keys of a map: `query_tokens` of len_q, `tokens` of len_kv. Tokens also
 * name the rows if there are as many rows, as in self-attention, and nothing else names those: then
 * both are the same list. */
int fv_tokens_of_map(const fv_tensor_file *file, const char *path, int64_t batch, int64_t len_q,
                     int64_t len_kv, char ***row_labels, char ***key_labels);

#endif /* FOVEA_CLI_INPUT_TOKENS_H */
