/* tokens.h - the tokens of a file's metadata: JSON, per batch row a list of strings. */
#ifndef FV_TOKENS_H
#define FV_TOKENS_H

#include <stddef.h>
#include <stdint.h>

/* Takes row `batch` of the text of metadata `key` of file `path`. *labels is NULL if text is; else
 * `count` strings, shorter lists filled up with "". SentencePiece's mark of a space, U+2581, is
 * one. Returns an exit code. Free with fv_tokens_free. */
int fv_tokens_read(const char *text, const char *key, const char *path, int64_t batch,
                   int64_t count, char ***labels);
void fv_tokens_free(char **labels, int64_t count);

#endif /* FV_TOKENS_H */
