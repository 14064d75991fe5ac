/* fuzz_npy.c - libFuzzer target: any bytes as an .npy file. */
#include "tests/fuzz/fuzz_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  fv_tensor_file *file = NULL;
  fv_file_error error;
  fv_file_status status = fv_npy_parse(bytes, size, "input", "q", &file, &error);
  (void)check_result(status, file, &error, size);
  return 0;
}
