#include "tests/simgpu/conformance/conformance_recording.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

size_t conform_words(const struct conform_row *row) {
  return (size_t)CONFORM_CTAS * (size_t)row->outputs * CONFORM_LANES;
}

FILE *conform_open_recording(const char *folder, int sm, const char *mode) {
  char path[4096];
  snprintf(path, sizeof path, "%s/sm_%d.txt", folder, sm);
  FILE *file = fopen(path, mode);
  if (!file && *mode == 'w') {
    fprintf(stderr, "conformance_record: cannot write %s: %s\n", path, strerror(errno));
  }
  return file;
}

void conform_write(FILE *file, const struct conform_row *row, const uint32_t *outputs) {
  fprintf(file, "%s %d\n", row->name, row->outputs);
  for (size_t i = 0; i < conform_words(row); i++) {
    fprintf(file, "%08" PRIx32 "%c", outputs[i], i % 8 == 7 ? '\n' : ' ');
  }
}

static bool read_words(FILE *file, const struct conform_row *row, uint32_t *outputs) {
  for (size_t i = 0; i < conform_words(row); i++) {
    if (fscanf(file, "%8" SCNx32, &outputs[i]) != 1) return false;
  }
  return true;
}

bool conform_read(FILE *file, const struct conform_row *row, uint32_t *outputs) {
  char line[256], wanted[256];
  snprintf(wanted, sizeof wanted, "%s %d\n", row->name, row->outputs);
  rewind(file);
  while (fgets(line, sizeof line, file)) {
    if (!strcmp(line, wanted)) return read_words(file, row, outputs);
  }
  return false;
}
