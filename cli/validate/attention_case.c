/* attention_case.c - one random attention call. It runs twice: with other threads and another
 * workspace, and with other multiprocessors where these must not matter. Both runs must give the
 * same bits and touch nothing outside. The result is judged, and error bits are compared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mirror/mirror.h"
#include "cli/validate/case.h"
#include "cli/validate/digest.h"
#include "csrc/check/check.h"

enum { GUARD_BYTES = 256, GUARD = 0x5a };
static const uint32_t preset_error = UINT32_C(0x80000000); /* errors are added, never reset */

static size_t workspace_bytes(fovea_handle *handle, const fv_problem *p, fv_case_result *result) {
  fovea_limits limits = {.struct_size = sizeof limits};
  size_t bytes = 0;
  limits.dim = p->dim;
  limits.dim_v = p->dim_v;
  limits.heads_q = p->heads_q;
  limits.heads_kv = p->heads_kv;
  limits.sequences = p->sequences;
  limits.total_q = p->rows * (p->q_packed ? 1 : p->sequences) + 1;
  limits.len_kv = p->kv_capacity + 1;
  limits.sm_count = p->args.sm_count;
  fovea_status status = fovea_attention_workspace(handle, &limits, &bytes);
  if (status != FOVEA_OK) fv_case_fail_call(result, "fovea_attention_workspace", status);
  return bytes;
}

static bool guard_is_whole(const unsigned char *workspace, size_t bytes) {
  for (size_t i = 0; i < GUARD_BYTES; ++i) {
    if (workspace[bytes + i] != GUARD) return false;
  }
  return true;
}

/* One call on a workspace of exactly the size that was asked for, with a guard behind it. */
static void run_once(fovea_handle *handle, fv_case *c, const fv_problem *p, int fill,
                     fv_case_result *result) {
  size_t bytes = workspace_bytes(handle, p, result);
  unsigned char *workspace = aligned_alloc(256, (bytes + GUARD_BYTES + 255) / 256 * 256);
  if (!workspace) {
    result->out_of_memory = true;
    return;
  }
  memset(workspace, fill, bytes);
  memset(workspace + bytes, GUARD, GUARD_BYTES);
  fv_case_reset_outputs(c);
  for (int64_t s = 0; s < p->sequences; ++s) c->args.errors[s] = preset_error;
  c->args.workspace = workspace;
  c->args.workspace_bytes = bytes;
  double seconds;
  fovea_status status = fv_mirror_attention(handle, &c->args, &seconds);
  c->args.workspace = NULL;
  c->args.workspace_bytes = 0;
  if (status != FOVEA_OK) fv_case_fail_call(result, "fovea_attention", status);
  if (!guard_is_whole(workspace, bytes))
    fv_case_fail(result, "the guard behind the workspace was overwritten");
  free(workspace);
}

/* Settings that only CUDA has, drawn from a random sequence of their own. Either all
 * multiprocessors, or so few that each has several tiles or only a part of one; and whether
 * launches may begin early. */
static void draw_way(fv_random *ways, fv_case *c, fv_problem *p) {
  int32_t few = (int32_t)fv_random_between(ways, 1, 20);
  c->args.sm_count = p->args.sm_count = fv_random_percent(ways, 40) ? 0 : few;
  c->args.flags = fv_random_percent(ways, 50) ? FOVEA_ALLOW_DEPENDENT_LAUNCH : 0;
}

static void check_canaries(const fv_case *c, fv_case_result *result) {
  if (fv_case_broken_canary(&c->out) >= 0)
    fv_case_fail(result, "a byte around the rows of out was overwritten");
  if (fv_case_broken_canary(&c->lse) >= 0)
    fv_case_fail(result, "a byte around the rows of lse was overwritten");
}

/* Bits that the reference saw must be reported. Other bits may be reported only if some rows were
 * not judged. */
static void check_errors(const fv_case *c, const fv_problem *p, const uint32_t *expected,
                         fv_case_result *result) {
  for (int64_t s = 0; s < p->sequences; ++s) {
    uint32_t got = c->args.errors[s];
    uint32_t want = expected[s] | preset_error;
    bool same = c->rows_at_most ? (got & want) == want : got == want;
    if (same) continue;
    char text[128];
    snprintf(text, sizeof text, "errors[%lld] is 0x%x, must be 0x%x", (long long)s, got, want);
    fv_case_fail(result, text);
    return;
  }
}

/* A copy of the outputs, to compare two runs bit by bit. */
static unsigned char *copy_outputs(const fv_case *c) {
  unsigned char *copy = malloc(c->out.size + c->lse.size + 1);
  if (!copy) return NULL;
  memcpy(copy, c->out.bytes, c->out.size);
  if (c->lse.size) memcpy(copy + c->out.size, c->lse.bytes, c->lse.size);
  return copy;
}

static bool same_outputs(const fv_case *c, const unsigned char *copy) {
  return !memcmp(copy, c->out.bytes, c->out.size) &&
         (!c->lse.size || !memcmp(copy + c->out.size, c->lse.bytes, c->lse.size));
}

static uint64_t digest_outputs(const fv_case *c, const fv_problem *p) {
  uint64_t digest = fv_digest_add(FV_DIGEST_START, c->out.bytes, c->out.size);
  if (c->lse.size) digest = fv_digest_add(digest, c->lse.bytes, c->lse.size);
  return fv_digest_add(digest, c->args.errors, (size_t)p->sequences * sizeof *c->args.errors);
}

static void judge(const fovea_handle *handle, const fv_case *c, const fv_problem *p,
                  int64_t first_row, fv_case_result *result) {
  uint32_t expected[8] = {0};
  fv_judge_options options = {.weights_dtype = fv_mirror_weights_dtype(handle, &c->args),
                              .rows_at_most = c->rows_at_most,
                              .first_row = first_row};
  fv_judge_attention(p, &options, &result->verdict, expected);
  check_errors(c, p, expected, result);
  bool nothing = result->verdict.compared == 0;
  if (!nothing && !fv_verdict_passes(&result->verdict))
    fv_case_fail(result, "an error is above its bound");
}

/* All handles belong to one device, and the number of threads never decides the kernel. */
static void note_kernel(fovea_handle *handle, const fv_case *c, fv_case_result *result) {
  fovea_support support = {.struct_size = sizeof support};
  if (fovea_attention_support(handle, &c->args, &support) != FOVEA_OK) return;
  memcpy(result->kernel, support.kernel, sizeof result->kernel);
}

void fv_run_attention_case(fovea_handle *const handles[FV_CASE_HANDLES], fv_case *c,
                           fv_random *random, fv_case_result *result) {
  fv_problem problem;
  fovea_status status = fv_check_attention_shape(&c->args, &problem);
  if (status != FOVEA_OK) {
    fv_case_fail_call(result, "the check of the drawn case", status);
    return;
  }
  note_kernel(handles[0], c, result);
  fv_random ways = {~random->state};
  draw_way(&ways, c, &problem);
  run_once(handles[fv_random_between(random, 0, FV_CASE_HANDLES - 1)], c, &problem, 0xff, result);
  if (result->failed || result->out_of_memory) return;
  result->digest = digest_outputs(c, &problem);
  unsigned char *first = copy_outputs(c);
  if (!first) {
    result->out_of_memory = true;
    return;
  }
  if (c->args.reproducible != FOVEA_REPRODUCIBLE_RUN) draw_way(&ways, c, &problem);
  run_once(handles[fv_random_between(random, 0, FV_CASE_HANDLES - 1)], c, &problem, 0, result);
  if (!same_outputs(c, first)) fv_case_fail(result, "two runs of one call differ in their bits");
  free(first);
  check_canaries(c, result);
  judge(handles[0], c, &problem, fv_random_between(random, 0, 1 << 20), result);
}
