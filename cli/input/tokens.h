/* tokens.h - the tokens in a file's metadata: JSON, a list of strings for each batch row. */
#ifndef FOVEA_CLI_INPUT_TOKENS_H
#define FOVEA_CLI_INPUT_TOKENS_H

#include <stddef.h>
#include <stdint.h>

/* Takes row `batch` of `text`, the metadata `key` of file `path`. *labels becomes NULL if text is
 * NULL; else it gets `count` strings, and a shorter list is filled up with "". SentencePiece's mark
 * of a space, U+2581, becomes a space. Returns an exit code. Free with fv_tokens_free. */
int fv_tokens_read(const char *text, const char *key, const char *path, int64_t batch,
                   int64_t count, char ***labels);
void fv_tokens_free(char **labels, int64_t count);

#endif /* FOVEA_CLI_INPUT_TOKENS_H */
