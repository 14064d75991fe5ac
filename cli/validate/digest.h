/* digest.h - 64 bits that stand for many bytes: equal digests say that two builds compute the same.
 * FNV-1a by words: it guards against chance, not against an attacker. */
#ifndef FOVEA_CLI_VALIDATE_DIGEST_H
#define FOVEA_CLI_VALIDATE_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FV_DIGEST_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t fv_digest_word(uint64_t digest, uint64_t word) {
  digest = (digest ^ word) * UINT64_C(0x100000001b3);
  return digest ^
         digest >> 32; /* lets high bits, where the product puts them, reach the low ones */
}

/* Extends the digest by these bytes. */
static inline uint64_t fv_digest_add(uint64_t digest, const void *data, size_t bytes) {
  const unsigned char *at = (const unsigned char *)data;
  uint64_t word = bytes;
  for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
    digest = fv_digest_word(digest, word);
    memcpy(&word, at, sizeof word);
  }
  digest = fv_digest_word(digest, word);
  word = 0;
  if (bytes) memcpy(&word, at, bytes);
  return fv_digest_word(digest, word);
}

#endif /* FOVEA_CLI_VALIDATE_DIGEST_H */
