/* Runs the conformance set on a driver. Records the outputs, or compares them with a recording or
 * with the definitions. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/simgpu/conformance/conformance_gpu.h"
#include "tests/simgpu/conformance/conformance_recording.h"

static const char USAGE[] =
    "usage: conformance_record --out DIR | --compare DIR | --define  [--exactly] [--order N]\n"
    "  --out DIR      records the driver's outputs in DIR\n"
    "  --compare DIR  compares them with a recording, approximate instructions within their "
    "bounds\n"
    "  --define       compares them with the instructions' definitions\n"
    "  --exactly      compares everything bit by bit\n"
    "  --order N      runs the kernels in another order\n"
    "The driver is FOVEA_CUDA_DRIVER's, else libcuda.so.1. Exit status: 0 the same, 1 something\n"
    "differs, 2 something could not be run, read or written.\n";

enum mode { RECORD, COMPARE, DEFINE };

struct session {
  enum mode mode;
  const char *folder;
  bool exactly;
  unsigned order;
  struct conform_gpu *gpu;
  FILE *files[2]; /* of sm_80 and sm_90; NULL where there is none */
  size_t run, skipped, differing;
};

static bool parse(struct session *session, int count, char **arguments) {
  int modes = 0;
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
    if (!strcmp(name, "--exactly")) {
      session->exactly = true;
    } else if (!strcmp(name, "--define")) {
      session->mode = DEFINE, modes++;
    } else if (!value) {
      return false;
    } else if (!strcmp(name, "--order")) {
      session->order = (unsigned)strtoul(value, NULL, 10), i++;
    } else if (!strcmp(name, "--out") || !strcmp(name, "--compare")) {
      session->mode = name[2] == 'o' ? RECORD : COMPARE, modes++;
      session->folder = value, i++;
    } else {
      return false;
    }
  }
  return modes == 1;
}

static bool open_files(struct session *session) {
  if (session->mode == DEFINE) return true;
  if (session->mode == RECORD && mkdir(session->folder, 0777) && errno != EEXIST) {
    fprintf(stderr, "conformance_record: %s: %s\n", session->folder, strerror(errno));
    return false;
  }
  for (int i = 0; i < 2; i++) {
    int sm = i ? 90 : 80;
    if (sm > conform_architecture(session->gpu)) continue;
    session->files[i] =
        conform_open_recording(session->folder, sm, session->mode == RECORD ? "w" : "r");
    if (!session->files[i] && session->mode == RECORD) return false;
    if (session->mode == RECORD) fprintf(session->files[i], "# %s\n", conform_device(session->gpu));
    if (!session->files[i]) printf("%s has no sm_%d.txt: not compared\n", session->folder, sm);
  }
  if (session->files[0] || session->files[1]) return true;
  fprintf(stderr, "conformance_record: there is no recording in %s\n", session->folder);
  return false;
}

static void define_outputs(const struct conform_row *row, uint32_t *wanted) {
  uint32_t in[CONFORM_INPUTS_MAX][CONFORM_LANES] = {{0}};
  for (uint32_t cta = 0; cta < CONFORM_CTAS; cta++) {
    conform_fill(row, (int)cta, in);
    uint32_t *at = wanted + conform_words(row) / CONFORM_CTAS * cta;
    row->define((const uint32_t(*)[CONFORM_LANES])in, (uint32_t(*)[CONFORM_LANES])at, cta);
  }
}

static void print_difference(const struct session *session, const struct conform_row *row, size_t i,
                             uint32_t got, uint32_t wanted) {
  size_t lane = i % CONFORM_LANES, output = i / CONFORM_LANES % (size_t)row->outputs;
  size_t cta = i / CONFORM_LANES / (size_t)row->outputs;
  printf("%s: CTA %zu, lane %zu, output %zu is 0x%08" PRIx32 ", %s 0x%08" PRIx32, row->name, cta,
         lane, output, got, session->mode == DEFINE ? "defined as" : "recorded as", wanted);
  uint32_t in[CONFORM_INPUTS_MAX][CONFORM_LANES];
  conform_fill(row, (int)cta, in);
  printf(", of");
  for (int k = 0; k < row->inputs; k++) printf(" 0x%08" PRIx32, in[k][lane]);
  putchar('\n');
}

static void compare(struct session *session, const struct conform_row *row, const uint32_t *got,
                    const uint32_t *wanted) {
  static const struct conform_judge bit_by_bit = {NUMBER_S32, 0, 0};
  const struct conform_judge *judge = session->exactly ? &bit_by_bit : &row->judge;
  size_t wrong = 0;
  for (size_t i = 0; i < conform_words(row); i++) {
    if (conform_agrees(judge, got[i], wanted[i])) continue;
    if (wrong++ < 4) print_difference(session, row, i, got[i], wanted[i]);
  }
  if (!wrong) return;
  session->differing++;
  printf("%s: %zu of %zu words differ\n", row->name, wrong, conform_words(row));
}

static bool run_row(struct session *session, const struct conform_row *row) {
  uint32_t got[CONFORM_WORDS_MAX], wanted[CONFORM_WORDS_MAX];
  FILE *file = session->files[row->sm == 90];
  bool has_nothing = session->mode != DEFINE && !file;
  if (row->sm > conform_architecture(session->gpu) || has_nothing) {
    session->skipped++;
    return true;
  }
  if (!conform_run(session->gpu, row, got)) return false;
  session->run++;
  if (session->mode == RECORD) {
    conform_write(file, row, got);
  } else if (session->mode == DEFINE) {
    define_outputs(row, wanted);
    compare(session, row, got, wanted);
  } else if (conform_read(file, row, wanted)) {
    compare(session, row, got, wanted);
  } else {
    printf("%s: not in the recording\n", row->name);
    session->differing++;
  }
  return true;
}

static size_t common_divisor(size_t a, size_t b) {
  return b ? common_divisor(b, a % b) : a;
}

/* Runs every row once: a stride without a common divisor with their number visits them all. */
static bool run_rows(struct session *session) {
  size_t stride = 1 + session->order * 17 % conform_row_count, at = session->order;
  while (common_divisor(stride, conform_row_count) != 1) stride++;
  for (size_t i = 0; i < conform_row_count; i++, at += stride) {
    if (!run_row(session, &conform_rows[at % conform_row_count])) return false;
  }
  return true;
}

static bool close_files(struct session *session) {
  bool whole = true;
  for (int i = 0; i < 2; i++) {
    if (session->files[i] && fclose(session->files[i])) whole = false;
  }
  if (!whole) fputs("conformance_record: the recording could not be written\n", stderr);
  return whole;
}

int main(int count, char **arguments) {
  struct session session = {0};
  if (!parse(&session, count, arguments)) {
    fputs(USAGE, stderr);
    return 2;
  }
  session.gpu = conform_open();
  if (!session.gpu || !open_files(&session)) return 2;
  bool complete = run_rows(&session);
  if (!close_files(&session) || !complete) return 2;
  printf("device     %s (sm_%d)\n", conform_device(session.gpu), conform_architecture(session.gpu));
  printf("kernels    %zu run, %zu left out, %zu differ\n", session.run, session.skipped,
         session.differing);
  return session.differing ? 1 : 0;
}
