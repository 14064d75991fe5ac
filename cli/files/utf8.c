/* utf8.c - see utf8.h. One table row per length decides everything: the lead byte's range, the
 * payload bits in it, and the least value that needs this many bytes (which refuses overlong
 * forms). */
#include "cli/files/utf8.h"

#include <stddef.h>

typedef struct sequence_form {
  uint8_t lead_mask, lead_bits;
  uint32_t bytes, least;
} sequence_form;

static const sequence_form forms[] = {
    {0x80, 0x00, 1, 0x0},
    {0xe0, 0xc0, 2, 0x80},
    {0xf0, 0xe0, 3, 0x800},
    {0xf8, 0xf0, 4, 0x10000},
};

static const sequence_form *form_of(uint8_t lead) {
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    if ((lead & forms[i].lead_mask) == forms[i].lead_bits) return &forms[i];
  }
  return NULL;
}

uint32_t fv_utf8_decode(const uint8_t *at, uint64_t size, uint32_t *code) {
  const sequence_form *form = form_of(at[0]);
  if (form == NULL || size < form->bytes) return 0;
  uint32_t value = at[0] & (uint8_t)~form->lead_mask;
  for (uint32_t i = 1; i < form->bytes; i++) {
    if ((at[i] & 0xc0) != 0x80) return 0;
    value = value << 6 | (at[i] & 0x3fu);
  }
  if (value < form->least || value > 0x10ffff) return 0;
  if (value >= 0xd800 && value <= 0xdfff) return 0;
  *code = value;
  return form->bytes;
}

uint32_t fv_utf8_encode(uint32_t code, uint8_t out[FV_UTF8_MAX_BYTES]) {
  uint32_t bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (uint32_t i = bytes - 1; i > 0; i--) {
    out[i] = (uint8_t)(0x80 | (code & 0x3f));
    code >>= 6;
  }
  out[0] = (uint8_t)(forms[bytes - 1].lead_bits | code);
  return bytes;
}
