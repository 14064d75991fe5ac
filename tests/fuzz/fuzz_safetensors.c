/* fuzz_safetensors.c - libFuzzer target: any bytes as a .safetensors file.
 *
 * A mutation of the header almost always changes its length, and a wrong length ends the parse. So
 * the length of half the inputs, those whose first byte is even, is corrected first. These inputs
 * get past byte 8. */
#include "tests/fuzz/fuzz_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Assumes that the header ends at the last '}' of the input, or with the input if it has none. */
static void set_length(uint8_t *bytes, size_t size) {
  size_t end = size;
  while (end > 8 && bytes[end - 1] != '}') end--;
  uint64_t length = end > 8 ? end - 8 : size - 8;
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(length >> 8 * i & 0xff);
}

static void parse(const uint8_t *bytes, size_t size) {
  fv_tensor_file *file = NULL;
  fv_file_error error;
  fv_file_status status = fv_safetensors_parse(bytes, size, "input", &file, &error);
  uint64_t data = check_result(status, file, &error, size);
  DEMAND(data <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size < 8 || bytes[0] % 2 != 0) {
    parse(bytes, size);
    return 0;
  }
  uint8_t *copy = (uint8_t *)malloc(size);
  if (copy == NULL) return 0;
  memcpy(copy, bytes, size);
  set_length(copy, size);
  parse(copy, size);
  free(copy);
  return 0;
}
