/* reader_verdicts.c - the readers' verdict on each file that comes in on standard input.
 *
 * In: frames of u8 format (0 .npy, 1 .safetensors), u32 little-endian size, bytes. Out: a line per
 * frame, which is "STATUS<tab>offset<tab>message", or "OK" and for each tensor a tab and
 * "hex of name:dtype:shape:crc32 of data". Scripts compare these lines with other implementations'
 * verdicts on the same bytes: thousands per second, without a process for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/tensor_file.h"

enum { FRAME_HEAD_BYTES = 5 };

/* The CRC of zlib and of Python's zlib.crc32, bit by bit: the files are small. */
static uint32_t crc32(const uint8_t *bytes, uint64_t size) {
  uint32_t crc = UINT32_MAX;
  for (uint64_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

static void print_tensor(const fv_file_tensor *tensor) {
  putchar('\t');
  for (const char *at = tensor->name; *at != '\0'; at++) printf("%02x", (unsigned char)*at);
  printf(":%s:", fv_file_dtype_name(tensor->dtype));
  for (uint32_t i = 0; i < tensor->rank; i++) {
    printf(i > 0 ? ",%lld" : "%lld", (long long)tensor->shape[i]);
  }
  printf(":%08x", tensor->data == NULL ? 0 : crc32((const uint8_t *)tensor->data, tensor->bytes));
}

static void judge(int format, const uint8_t *bytes, size_t size) {
  fv_tensor_file *file = NULL;
  fv_file_error error;
  fv_file_status status = format == 0 ? fv_npy_parse(bytes, size, "in", "q", &file, &error)
                                      : fv_safetensors_parse(bytes, size, "in", &file, &error);
  printf("%s", fv_file_status_name(status));
  if (status == FV_FILE_OK) {
    for (size_t i = 0; i < fv_tensor_file_count(file); i++)
      print_tensor(fv_tensor_file_at(file, i));
  } else {
    printf("\t%lld\t%s", (long long)error.offset, error.text);
  }
  putchar('\n');
  fv_tensor_file_close(file);
}

int main(void) {
  uint8_t head[FRAME_HEAD_BYTES];
  while (fread(head, 1, sizeof head, stdin) == sizeof head) {
    size_t size = head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
    uint8_t *bytes = (uint8_t *)malloc(size > 0 ? size : 1);
    if (bytes == NULL || fread(bytes, 1, size, stdin) != size) {
      free(bytes);
      fprintf(stderr, "reader-verdicts: a frame of %zu bytes did not come whole\n", size);
      return 1;
    }
    judge(head[0], bytes, size);
    free(bytes);
  }
  return fflush(stdout) == 0 ? 0 : 1;
}
