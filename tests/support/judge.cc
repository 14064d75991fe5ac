// judge.cc - see judge.h. Each criterion is one limit; one loop compares them all.
#include "tests/support/judge.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "tests/support/formats.h"

namespace fovea_test {
namespace {

const double kFlush = 0x1p-126;  // single precision may lose weights below this

bool is_16_bit(uint32_t dtype) {
  return dtype == FOVEA_F16 || dtype == FOVEA_BF16;
}

// C1 to C3 take the u of out's type or of the probabilities' type, whichever is coarser.
double coarser_roundoff(const Observed &observed) {
  const double u = unit_roundoff(observed.out_dtype);
  return is_16_bit(observed.q_dtype) ? std::fmax(u, unit_roundoff(observed.q_dtype)) : u;
}

// One element for the criteria, in stored units.
struct Element {
  const Row *row;
  int64_t d;
  double got, expected;
  double u, eta;    // of out's type
  double coarse_u;  // of out's type or the probabilities'
  double eta_p;     // of the probabilities' type
  double a, r, sum_abs_v, f;
  double lowest, highest;
};

double sum_error(int64_t terms, int64_t blocks) {
  return 2.0 + static_cast<double>(std::min(terms + 1, 64 + blocks) + 4) / 4.0;
}

double error_of_sums(const Row &row) {
  return std::fmax(8.0, sum_error(row.keys, 8));
}

double error_of_logits(const Row &row, int64_t dim, bool whole_dots) {
  const double tanhs = row.additive ? 8.0 * row.size : 0.0;
  return std::fmax(8.0 * row.size, sum_error(dim, whole_dots ? dim : 9) * row.dot) + tanhs;
}

Element element_at(const Truth &truth, const Observed &observed, size_t n, int64_t d) {
  const size_t at = n * static_cast<size_t>(truth.dim_v) + static_cast<size_t>(d);
  const Row &row = truth.rows[n];
  const double divisor = truth.out_scale[at];
  Element e;
  e.row = &row;
  e.d = d;
  e.got = observed.out[at];
  e.expected = truth.out[at] / divisor;
  if (observed.out_dtype == FOVEA_E4M3 && !std::isnan(e.expected)) {
    e.expected = std::fmin(std::fmax(e.expected, -448.0), 448.0);
  }
  e.u = unit_roundoff(observed.out_dtype);
  e.eta = half_step(observed.out_dtype);
  e.coarse_u = coarser_roundoff(observed);
  e.eta_p = is_16_bit(observed.q_dtype) ? half_step_of_weights(observed.q_dtype) : 0.0;
  const double shrink = 1.0 / std::fabs(divisor);
  e.a = truth.condition[at] * shrink;
  e.r = truth.noise[at] * shrink;
  e.sum_abs_v = truth.sum_abs_v[at] * shrink;
  const double arithmetic =
      observed.work * (error_of_logits(row, truth.dim, observed.whole_dots) + error_of_sums(row));
  e.f = arithmetic * e.a + kFlush * e.sum_abs_v;
  e.lowest = std::fmin(truth.lowest[at] / divisor, truth.highest[at] / divisor);
  e.highest = std::fmax(truth.lowest[at] / divisor, truth.highest[at] / divisor);
  return e;
}

bool is_judged(const Element &e) {
  return !e.row->exempt && std::isfinite(e.expected) && std::isfinite(e.got);
}

// Adds one comparison. The finding keeps the place of the first failure, else of the worst ratio.
void compare(Finding *finding, const Row &row, int64_t d, double got, double expected, double error,
             double limit) {
  ++finding->count;
  double ratio = 0.0;
  if (error > 0.0) ratio = limit > 0.0 ? error / limit : std::numeric_limits<double>::infinity();
  const bool fails = !(ratio <= 1.0);
  if ((fails && !finding->failed) || (!finding->failed && ratio >= finding->worst)) {
    finding->row = row;
    finding->d = d;
    finding->got = got;
    finding->expected = expected;
    finding->limit = limit;
  }
  finding->failed = finding->failed || fails;
  if (!(ratio <= finding->worst)) finding->worst = ratio;
}

// One criterion over all elements. It does not apply where `limit` returns a negative number.
template <typename Limit>
Finding judge_elements(const char *name, const Truth &truth, const Observed &observed,
                       Limit limit) {
  Finding finding;
  finding.criterion = name;
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const Element e = element_at(truth, observed, n, d);
      if (!is_judged(e)) continue;
      const double bound = limit(e);
      if (bound < 0.0) continue;
      compare(&finding, *e.row, d, e.got, e.expected, std::fabs(e.got - e.expected), bound);
    }
  }
  return finding;
}

// Squared norms over a row or a tensor.
struct Norms {
  double e = 0, o = 0, r = 0, f = 0, eta = 0;
  double got = 0;
  int64_t count = 0;
  void add(const Element &x) {
    e += (x.got - x.expected) * (x.got - x.expected);
    o += x.expected * x.expected;
    r += x.r * x.r;
    f += x.f * x.f;
    eta += x.eta * x.eta;
    got += x.got * x.got;
    ++count;
  }
  double bound(double u) const { return u * std::sqrt(o + r) + std::sqrt(f) + std::sqrt(eta); }
};

bool classes_agree(const Element &e, uint32_t dtype) {
  if (std::isnan(e.got) || std::isnan(e.expected)) {
    return std::isnan(e.got) && std::isnan(e.expected);
  }
  const double expected = round_to(dtype, e.expected);
  if (std::isfinite(e.got) && std::isfinite(expected)) return true;
  // At the edge of the range a rounding error may turn the largest number into infinity.
  const bool near_edge = std::fabs(e.expected) > 0.99 * largest(dtype);
  return near_edge && std::signbit(e.got) == std::signbit(expected) &&
         std::fabs(e.got) > 0.98 * largest(dtype);
}

}  // namespace

Finding judge_class(const Truth &truth, const Observed &observed) {
  Finding finding;
  finding.criterion = "class";
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    const Row &row = truth.rows[n];
    if (row.exempt) continue;
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const Element e = element_at(truth, observed, n, d);
      const double wrong = classes_agree(e, observed.out_dtype) ? 0.0 : 1.0;
      compare(&finding, row, d, e.got, e.expected, wrong, 0.0);
    }
    if (observed.lse.empty()) continue;
    const double got = observed.lse[n];
    const bool same = (std::isnan(got) && std::isnan(row.lse)) || got == row.lse ||
                      (std::isfinite(got) && std::isfinite(row.lse));
    compare(&finding, row, -1, got, row.lse, same ? 0.0 : 1.0, 0.0);
  }
  return finding;
}

Finding judge_c1(const Truth &truth, const Observed &observed) {
  return judge_elements("C1", truth, observed, [](const Element &e) {
    const double rounding = e.a + std::max(e.a, 2.0 * std::fabs(e.expected));
    return e.coarse_u * rounding + e.f + e.eta_p * e.sum_abs_v / e.row->lhat + e.eta;
  });
}

Finding judge_c1s(const Truth &truth, const Observed &observed) {
  return judge_elements("C1s", truth, observed, [](const Element &e) {
    return e.coarse_u * std::fabs(e.expected) + 4.0 * e.coarse_u * e.r + e.f + e.eta;
  });
}

Finding judge_c2(const Truth &truth, const Observed &observed) {
  Finding finding;
  finding.criterion = "C2";
  if (truth.dim_v < 64) return finding;
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    Norms norms;
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const Element e = element_at(truth, observed, n, d);
      if (is_judged(e)) norms.add(e);
    }
    if (norms.count == 0) continue;
    const double bound = 1.5 * norms.bound(coarser_roundoff(observed));
    compare(&finding, truth.rows[n], -1, std::sqrt(norms.got), std::sqrt(norms.o),
            std::sqrt(norms.e), bound);
  }
  return finding;
}

Finding judge_c3(const Truth &truth, const Observed &observed) {
  Finding finding;
  finding.criterion = "C3";
  Norms norms;
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const Element e = element_at(truth, observed, n, d);
      if (is_judged(e)) norms.add(e);
    }
  }
  if (norms.count < 4096) return finding;
  const double bound = 0.8 * norms.bound(coarser_roundoff(observed));
  compare(&finding, truth.rows[0], -1, std::sqrt(norms.got), std::sqrt(norms.o), std::sqrt(norms.e),
          bound);
  return finding;
}

Finding judge_c4(const Truth &truth, const Observed &observed) {
  Finding finding;
  finding.criterion = "C4";
  for (size_t n = 0; n < observed.lse.size(); ++n) {
    const Row &row = truth.rows[n];
    const double got = observed.lse[n];
    if (row.exempt) continue;
    if (row.empty) {
      compare(&finding, row, -1, got, row.lse, got == row.lse ? 0.0 : 1.0, 0.0);
    } else if (std::isfinite(row.lse) && std::isfinite(got)) {
      // The result is stored in f32, whatever the arithmetic.
      const double units = error_of_logits(row, truth.dim, observed.whole_dots) +
                           error_of_sums(row) + 4.0 * std::fabs(row.lse);
      const double limit = observed.work * units + 0x1p-24 * std::fabs(row.lse);
      compare(&finding, row, -1, got, row.lse, std::fabs(got - row.lse), limit);
    }
  }
  return finding;
}

Finding judge_c5(const Truth &truth, const Observed &observed) {
  return judge_elements("C5", truth, observed,
                        [](const Element &e) { return e.u * std::fabs(e.expected) + e.eta + e.f; });
}

Finding judge_c6(const Truth &truth, const Observed &observed) {
  Finding finding = judge_elements("C6", truth, observed,
                                   [](const Element &e) { return e.u * e.a + e.f + e.eta; });
  Norms norms;
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const Element e = element_at(truth, observed, n, d);
      if (is_judged(e)) norms.add(e);
    }
  }
  if (norms.count >= 4096) {
    const double bound = 0.04 * std::sqrt(norms.o) + std::sqrt(norms.eta);
    compare(&finding, truth.rows[0], -1, std::sqrt(norms.got), std::sqrt(norms.o),
            std::sqrt(norms.e), bound);
  }
  return finding;
}

Finding judge_c8(const Truth &truth, const Observed &observed) {
  const uint32_t dtype = observed.out_dtype;
  return judge_elements("C8", truth, observed, [dtype](const Element &e) {
    const double magnitude = std::fabs(e.expected);
    const bool applies = e.a <= magnitude * (1.0 + 1e-12) && e.f <= e.u * e.a;
    return applies ? 2.0 * ulp(dtype, e.expected) : -1.0;
  });
}

Finding judge_c10(const Truth &truth, const Observed &observed) {
  Finding finding;
  finding.criterion = "C10";
  const bool narrow = is_16_bit(observed.q_dtype);
  const double u_p = narrow ? unit_roundoff(observed.q_dtype) : 0.0;
  const double most = observed.out_dtype == FOVEA_E4M3 ? largest(observed.out_dtype) : INFINITY;
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const Element e = element_at(truth, observed, n, d);
      if (!is_judged(e)) continue;
      const double size = std::fmax(std::fabs(e.lowest), std::fabs(e.highest));
      const double additions = 2.0 * static_cast<double>(std::min<int64_t>(e.row->keys, 72)) + 3.0;
      const double mean = (observed.work * additions + u_p) * size;
      double limit = mean + e.u * (size + mean) + e.eta;
      if (!e.row->empty) limit += (e.eta_p + kFlush) * e.sum_abs_v / e.row->lhat;
      const double nearest =
          std::fmin(std::fmax(e.got, std::fmax(e.lowest, -most)), std::fmin(e.highest, most));
      compare(&finding, *e.row, d, e.got, nearest, std::fabs(e.got - nearest), limit);
    }
  }
  return finding;
}

std::vector<Finding> judge(const Truth &truth, const Observed &observed, bool exact_probabilities) {
  std::vector<Finding> findings = {judge_class(truth, observed), judge_c4(truth, observed),
                                   judge_c8(truth, observed), judge_c10(truth, observed)};
  const bool narrow = is_16_bit(observed.out_dtype) ||
                      (observed.out_dtype == FOVEA_F32 && is_16_bit(observed.q_dtype));
  if (narrow) {
    findings.push_back(judge_c1(truth, observed));
    findings.push_back(judge_c1s(truth, observed));
    findings.push_back(judge_c2(truth, observed));
    findings.push_back(judge_c3(truth, observed));
  }
  if (observed.out_dtype == FOVEA_E4M3) findings.push_back(judge_c6(truth, observed));
  if (exact_probabilities || (observed.out_dtype == FOVEA_F32 && !narrow)) {
    findings.push_back(judge_c5(truth, observed));
  }
  return findings;
}

bool passes(const std::vector<Finding> &findings, const Truth &truth) {
  bool any_to_judge = false;
  for (const Row &row : truth.rows) any_to_judge = any_to_judge || !row.exempt;
  int64_t count = 0;
  for (const Finding &finding : findings) {
    if (finding.failed) return false;
    count += finding.count;
  }
  return count > 0 || !any_to_judge;
}

std::string describe(const Finding &f) {
  char text[400];
  std::snprintf(text, sizeof text,
                "%s: %s, worst error/limit %.3g over %lld; sequence %lld, row %lld, head %lld, "
                "column %lld: got %.9g, expected %.9g, limit %.3g",
                f.criterion.c_str(), f.failed ? "FAILED" : "ok", f.worst,
                static_cast<long long>(f.count), static_cast<long long>(f.row.sequence),
                static_cast<long long>(f.row.i), static_cast<long long>(f.row.h),
                static_cast<long long>(f.d), f.got, f.expected, f.limit);
  return text;
}

std::string describe(const std::vector<Finding> &findings) {
  std::string text;
  for (const Finding &finding : findings) {
    if (finding.count > 0) text += "  " + describe(finding) + "\n";
  }
  return text;
}

}  // namespace fovea_test
