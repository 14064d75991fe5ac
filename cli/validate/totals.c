/* totals.c - see totals.h. */
#include "cli/validate/totals.h"

#include <string.h>

#include "cli/validate/digest.h"

static void count_features(fv_totals *t, fv_feature_set features) {
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    if (!fv_feature_in(features, a)) continue;
    ++t->coverage[a];
    for (int b = a + 1; b < FV_FEATURE_COUNT; ++b) t->pairs[a][b] += fv_feature_in(features, b);
  }
}

static void count_kernel(fv_totals *t, const char *name, fv_feature_set features) {
  int i = 0;
  while (i < t->kernel_count && strcmp(t->kernels[i].name, name)) ++i;
  if (!*name || i == FV_KERNELS_MAX) return;
  if (i == t->kernel_count) strcpy(t->kernels[t->kernel_count++].name, name);
  ++t->kernels[i].cases;
  for (int f = 0; f < FV_FEATURE_COUNT; ++f)
    t->kernels[i].coverage[f] += fv_feature_in(features, f);
}

int fv_totals_failures(const fv_totals *t) {
  return t->failed < FV_FAILURES_MAX ? (int)t->failed : FV_FAILURES_MAX;
}

/* Returns whether it is the lowest so far. */
static bool keep_failure(fv_totals *t, int64_t index) {
  int at = fv_totals_failures(t);
  ++t->failed;
  if (at == FV_FAILURES_MAX && t->failures[--at] < index) return false;
  for (; at > 0 && t->failures[at - 1] > index; --at) t->failures[at] = t->failures[at - 1];
  t->failures[at] = index;
  return at == 0;
}

static void note_failure(fv_totals *t, int64_t index, const fv_case *c, const fv_case_result *r) {
  if (!keep_failure(t, index)) return;
  t->first_bad = r->verdict.first_bad;
  memcpy(t->first_reason, r->reason, sizeof t->first_reason);
  memcpy(t->first_text, c->text, sizeof t->first_text);
}

/* Merges and appends are cases of their own, without features. */
void fv_totals_add(fv_totals *t, int64_t index, fv_case_kind kind, const fv_case *c,
                   const fv_case_result *result) {
  fv_verdict_add(&t->verdict, &result->verdict);
  ++t->run;
  ++t->kinds[kind];
  t->left_out += result->left_out;
  t->digest += fv_digest_word(result->digest, (uint64_t)index);
  t->out_of_memory |= result->out_of_memory || c->out_of_memory;
  if (kind == FV_CASE_ATTENTION || kind == FV_CASE_WEIGHTS) {
    count_features(t, c->features);
    count_kernel(t, result->kernel, c->features);
    t->beyond += fv_case_has(c, FV_FEATURE_BEYOND_TWO_TILES);
    t->long_keys += c->keys_longest >= 4096;
  }
  if (result->failed) note_failure(t, index, c, result);
}

int64_t fv_totals_empty_cells(const fv_totals *t, FILE *to) {
  int64_t cells = 0;
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    for (int b = a; b < FV_FEATURE_COUNT; ++b) {
      const fv_feature first = (fv_feature)a, second = (fv_feature)b;
      if (!fv_feature_in(t->features, a) || !fv_feature_in(t->company[a], b)) continue;
      int64_t met = a == b ? t->coverage[a] : t->pairs[a][b];
      if (met >= FV_COVERAGE_MIN || (a != b && fv_features_exclude(first, second))) continue;
      if (to && cells < 20) {
        fprintf(to, "           %s%s%s: %lld\n", fv_feature_name(first), a == b ? "" : " with ",
                a == b ? "" : fv_feature_name(second), (long long)met);
      }
      ++cells;
    }
  }
  return cells;
}

int fv_totals_pairs_left_out(const fv_totals *t) {
  int pairs = 0;
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    fv_feature_set missing = fv_feature_in(t->features, a) ? t->features & ~t->company[a] : 0;
    for (int b = a + 1; b < FV_FEATURE_COUNT; ++b) {
      pairs += fv_feature_in(missing, b) && !fv_features_exclude((fv_feature)a, (fv_feature)b);
    }
  }
  return pairs;
}

bool fv_totals_cover(const fv_totals *t) {
  const int64_t drawn = t->kinds[FV_CASE_ATTENTION] + t->kinds[FV_CASE_WEIGHTS];
  return fv_totals_empty_cells(t, NULL) == 0 && t->beyond * 2 >= drawn &&
         t->long_keys * 100 >= drawn;
}
