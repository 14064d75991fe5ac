/* report.c - see report.h. */
#include "cli/command/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/error.h"
#include "cli/files/utf8.h"

/* JSON has no infinities: a value that is not finite becomes null. */
static json_t *number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *worst_json(const fv_verdict *verdict) {
  json_t *worst = json_object();
  for (int c = 0; c < FV_CRITERIA; ++c) {
    if (!verdict->applies[c]) continue;
    json_object_set_new(worst, fv_criterion_name((fv_criterion)c), number(verdict->worst[c]));
  }
  return worst;
}

json_t *fv_report_string(const char *text) {
  size_t left = strlen(text);
  char *valid = malloc(3 * left + 1), *out = valid; /* U+FFFD has 3 bytes */
  if (!valid) return NULL;
  while (left) {
    uint32_t code, bytes = fv_utf8_decode((const uint8_t *)text, left, &code);
    memcpy(out, bytes ? text : "\xef\xbf\xbd", bytes ? bytes : 3);
    out += bytes ? bytes : 3;
    text += bytes ? bytes : 1;
    left -= bytes ? bytes : 1;
  }
  *out = '\0';
  json_t *string = json_string(valid);
  free(valid);
  return string;
}

static void put_quoted(FILE *stream, const char *word) {
  static const char plain[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+,./:@%";
  if (*word && strspn(word, plain) == strlen(word)) {
    fputs(word, stream);
    return;
  }
  putc('\'', stream);
  for (; *word; ++word) {
    if (*word == '\'') fputs("'\\'", stream); /* ends the quotes, writes one, begins them again */
    putc(*word, stream);
  }
  putc('\'', stream);
}

char *fv_report_repeat(int argc, char **argv) {
  char *text = NULL;
  size_t size;
  FILE *stream = open_memstream(&text, &size);
  if (!stream) return NULL;
  fputs("fovea", stream);
  for (int i = 0; i < argc; ++i) {
    putc(' ', stream);
    put_quoted(stream, argv[i]);
  }
  bool failed = ferror(stream);
  if (!fclose(stream) && !failed) return text;
  free(text);
  return NULL;
}

/* lse has no dim, so its index is one number shorter. */
static int index_rank(const fv_bad_element *bad) {
  return strcmp(bad->tensor, "lse") ? 4 : 3;
}

static json_t *first_bad_json(const fv_bad_element *bad, const char *repeat) {
  if (!bad->any) return json_null();
  json_t *index = json_array();
  for (int i = 0; i < index_rank(bad); ++i) {
    json_array_append_new(index, json_integer(bad->index[i]));
  }
  return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "tensor", bad->tensor, "criterion",
                   fv_criterion_name(bad->criterion), "index", index, "got", number(bad->got),
                   "expected", number(bad->expected), "repeat", fv_report_string(repeat));
}

json_t *fv_report_json(const char *command, const char *device, const char *kernel,
                       const char *dtype, double seconds, const fv_verdict *verdict,
                       const char *repeat) {
  return json_pack("{s:i, s:s, s:s, s:s, s:s, s:f, s:I, s:b, s:o, s:o}", "schema", FV_REPORT_SCHEMA,
                   "command", command, "device", device, "kernel", kernel, "dtype", dtype,
                   "seconds", seconds, "compared", (json_int_t)verdict->compared, "pass",
                   fv_verdict_passes(verdict), "worst", worst_json(verdict), "first_bad",
                   first_bad_json(&verdict->first_bad, repeat));
}

/* errno belongs to the failed write only if the flush fails; an earlier failure leaves just the
 * flag. */
int fv_report_finish(void) {
  static bool told;
  errno = 0;
  bool arrived = fflush(stdout) == 0 && !ferror(stdout);
  if (arrived) return FV_EXIT_OK;
  const char *reason = errno ? strerror(errno) : "an earlier write failed";
  if (!told) fv_cli_fail(FV_EXIT_OUTPUT, "stdout cannot be written: %s", reason);
  told = true;
  return FV_EXIT_OUTPUT;
}

int fv_report_write(json_t *report) {
  if (!report) return fv_cli_out_of_memory();
  int failed = json_dumpf(report, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
  json_decref(report);
  if (!failed) putchar('\n');
  return fv_report_finish();
}

void fv_report_print_verdict(const fv_verdict *verdict, const char *repeat) {
  const fv_bad_element *bad = &verdict->first_bad;
  printf("compared   %lld numbers\n", (long long)verdict->compared);
  printf("worst      ");
  for (int c = 0; c < FV_CRITERIA; ++c) {
    if (verdict->applies[c]) {
      printf("%s %.3f  ", fv_criterion_name((fv_criterion)c), verdict->worst[c]);
    }
  }
  printf("(error / bound; above 1 is wrong)\n");
  if (!bad->any) return;
  printf("first bad  %s[", bad->tensor);
  for (int i = 0; i < index_rank(bad); ++i) {
    printf("%s%lld", i ? ", " : "", (long long)bad->index[i]);
  }
  printf("] is %.9g, must be %.9g (%s)\n", bad->got, bad->expected,
         fv_criterion_name(bad->criterion));
  printf("repeat     %s\n", repeat);
}
