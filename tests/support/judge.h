// judge.h - how far a result may lie from the truth, and where it lies farther.
//
// u is the unit roundoff of out's type. u32 is that of the arithmetic: 2^-24 for kernels in single
// precision, 2^-50 for the reference. A, R, S, M and lhat are the magnitudes of oracle.h, and n is
// the number of visible keys. F = u32 (L + N) A covers all effects of the arithmetic, with
//
//   sum(n, blocks) = 2 + (min(n + 1, 64 + blocks) + 4) / 4    sums in blocks of 64 terms
//   L = max(8 S, sum(dim, D) M)                                logits; D is 9, or dim if whole_dots
//   N = max(8, sum(n, 8))                                      weights, and sums over keys
//
// cli/judge/criteria.h derives these. e is the error of one element. eta is half the smallest step
// of out's type, eta_p that of the probabilities' type.
//
//   class  NaN and infinities are where the truth has them
//   C1     |e| <= u max(2A, A + 2|O|) + F + eta_p sum|v| / lhat + eta   16-bit
//   C1s    |e| <= u |O| + 4u R + F + eta                          16-bit, statistical
//   C2     norm(e) <= 1.5 (u sqrt(norm(O)^2 + norm(R)^2) + norm(F) + norm(eta))  rows, dim_v >= 64
//   C3     C2 with 0.8 over the tensor, from 4096 elements on
//   C4     |lse error| <= u32 (L + N + 4 |lse|); exact in empty rows
//   C5     |e| <= u |O| + eta + F                  probabilities are never rounded (CPU, f32)
//   C6     |e| <= u A + F + eta, and relative norm <= 0.04        e4m3 out
//   C7     no limit of its own: 8-bit caches are judged by the numbers that they decode to
//   C8     |e| <= 2 ulp where every value has one sign (A = |O|) and F <= u A
//   C10    lowest - H <= value <= highest + H, with V the larger of both in magnitude and
//          H = (u32 (2 min(keys, 72) + 3) + u_p) V + u (V + that) + eta_p sum|v| / lhat + eta,
//          u_p of 16-bit q, else 0
//
// Errors are compared in stored units, after the division by out's scale. F also covers the loss of
// single precision below its normal range: 2^-126 sum|v|.
#ifndef FOVEA_TESTS_SUPPORT_JUDGE_H
#define FOVEA_TESTS_SUPPORT_JUDGE_H

#include <string>
#include <vector>

#include "tests/support/oracle.h"

namespace fovea_test {

// The results in the order of Truth: [row][dim_v] as stored, and one lse per row, or none at all.
struct Observed {
  std::vector<double> out;
  std::vector<double> lse;
  uint32_t out_dtype = FOVEA_F32;
  uint32_t q_dtype = FOVEA_F32;
  double work = 0x1p-24;    // u32
  bool whole_dots = false;  // a dot is one sum, as on tensor cores; else a sum per 64 dims
};

struct Finding {
  std::string criterion;
  int64_t count = 0;  // how many numbers it judged
  double worst = 0;   // largest error / limit
  bool failed = false;
  Row row;         // of the first failure, or of the worst ratio
  int64_t d = -1;  // column; -1: lse or a whole row
  double got = 0, expected = 0, limit = 0;
};

Finding judge_class(const Truth &truth, const Observed &observed);
Finding judge_c1(const Truth &truth, const Observed &observed);
Finding judge_c1s(const Truth &truth, const Observed &observed);
Finding judge_c2(const Truth &truth, const Observed &observed);
Finding judge_c3(const Truth &truth, const Observed &observed);
Finding judge_c4(const Truth &truth, const Observed &observed);
Finding judge_c5(const Truth &truth, const Observed &observed);
Finding judge_c6(const Truth &truth, const Observed &observed);
Finding judge_c8(const Truth &truth, const Observed &observed);
Finding judge_c10(const Truth &truth, const Observed &observed);

// Every criterion that applies to the types. `exact_probabilities` adds C5 for all types.
std::vector<Finding> judge(const Truth &truth, const Observed &observed, bool exact_probabilities);

// Whether no criterion failed, and something was judged if there was anything to judge.
bool passes(const std::vector<Finding> &findings, const Truth &truth);
std::string describe(const std::vector<Finding> &findings);
std::string describe(const Finding &finding);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_JUDGE_H
