// exact_oracle.h - oracles that need no reference and no tolerance. Each takes a problem of any
// geometry (lengths, masks, windows, pages, splits), replaces its numbers and judges all results.
//
//   needle     K_j spells the bits of j in +-8, and a query spells the bits of its target. A wrong
//              key has a logit 128 lower, so its weight vanishes. out is V[target] bit for bit, and
//              lse is 64 for each bit. A target that the row may not see must not show.
//   counts     Zero queries count: lse is the logarithm of the number of keys that the row sees.
//              With one-hot values, out times that number counts the keys of each residue class.
//   powers     Logits that are integers times ln 2 give weights that are powers of two.
//   constant   Equal values are the result, whatever the weights are.
//   rescale    Powers of two move between operands without changing a bit.
//
// The test says which keys a row sees. If it does not, Geometry does.
#ifndef FOVEA_TESTS_SUPPORT_EXACT_ORACLE_H
#define FOVEA_TESTS_SUPPORT_EXACT_ORACLE_H

#include "tests/support/attention_builder.h"

namespace fovea_test {

// Whether row i of sequence s sees key j.
using Visible = std::function<bool(int64_t s, int64_t i, int64_t j)>;
// The key that row i of head h looks for. At::tag, the contents, names the sequence.
using Target = std::function<int64_t(int64_t tag, int64_t i, int64_t h)>;

// ---- Needles

// The value of a needle: an integer that every type with 8 significant bits holds exactly.
double value_of(const At &at);
// `a` with needles of `bits` bits, at most dim, for fewer than 2^bits keys.
Attention with_needles(Attention a, int64_t bits, const Target &target);
// Rows must find their key if it is visible and below len_kv[s], and must not find it otherwise.
void expect_needles(const Attention &a, int64_t bits, const Ints &len_kv, const Target &target,
                    const Visible &visible);
// The heads of a row look for keys at the edges of the keys that it sees: the last before them, the
// first and last of them, the first behind them, both sides of the last tile edge inside, and any.
void expect_needles_at_edges(const Attention &a);

// ---- Numbers of their own

void expect_counts(const Attention &a);
void expect_powers(const Attention &a);
void expect_constant(const Attention &a, double value);

// Needles, counts and powers. The problem has no softcap, dim >= 16 and dim_v >= 16.
void expect_exact(const Attention &a);

// ---- Rescale

// Random quarters, which every 8-bit type has exactly, times a power of two.
Fill quarters(const char *salt, int exponent);
void expect_queries_keys_and_scale_trade_powers(const Attention &a);
void expect_values_carry_powers_into_out(const Attention &a);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_EXACT_ORACLE_H
