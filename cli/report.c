/* report.c - see report.h. */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

/* JSON has no infinities: what is not finite becomes null. */
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

static json_t *first_bad_json(const fv_bad_element *bad, const char *repeat) {
  if (!bad->any) return json_null();
  return json_pack("{s:s, s:s, s:[I,I,I,I], s:o, s:o, s:s}", "tensor", bad->tensor, "criterion",
                   fv_criterion_name(bad->criterion), "index", (json_int_t)bad->index[0],
                   (json_int_t)bad->index[1], (json_int_t)bad->index[2], (json_int_t)bad->index[3],
                   "got", number(bad->got), "expected", number(bad->expected), "repeat", repeat);
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

int fv_report_finish(void) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return FV_EXIT_OK;
  return fv_cli_fail(FV_EXIT_OUTPUT, "stdout cannot be written: %s", strerror(errno));
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
  if (bad->any) {
    printf("first bad  %s[%lld, %lld, %lld, %lld] is %.9g, must be %.9g (%s)\n", bad->tensor,
           (long long)bad->index[0], (long long)bad->index[1], (long long)bad->index[2],
           (long long)bad->index[3], bad->got, bad->expected, fv_criterion_name(bad->criterion));
    printf("repeat     %s\n", repeat);
  }
}
