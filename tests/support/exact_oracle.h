// exact_oracle.h - oracles that need no reference and no tolerance. Each takes a problem of any
// geometry (lengths, masks, windows, pages, parts), gives it numbers of its own and looks at all
// that comes out.
//
//   needle     K_j spells the bits of j in +-8 and a query the bits of its target. A wrong key is
//              128 behind in its logit, its weight vanishes: out is V[target] bit for bit, lse is
//              64 for each bit. A target that the row may not see must not show.
//   counts     zero queries count: lse is the logarithm of the number of keys seen, and with
//              one-hot values out times that number is how many keys are in every residue class.
//   powers     logits that are integers times ln 2 give weights that are powers of two.
//   constant   equal values come out as they are, whatever the weights.
//   rescale    powers of two move between operands without changing a bit.
//
// Which keys a row sees is the test's own word, or Geometry's where it gives none.
#ifndef FOVEA_TESTS_SUPPORT_EXACT_ORACLE_H
#define FOVEA_TESTS_SUPPORT_EXACT_ORACLE_H

#include "tests/support/attention_builder.h"

namespace fovea_test {

// Whether row i of sequence s sees key j.
using Visible = std::function<bool(int64_t s, int64_t i, int64_t j)>;
// The key that row i of head h looks for. Sequences are named by their contents, At::tag.
using Target = std::function<int64_t(int64_t tag, int64_t i, int64_t h)>;

// ---- Needles

// What the value of a needle is: an integer that every type of 8 bits of significance has.
double value_of(const At &at);
// `a` with needles of so many bits, at most dim: for fewer than 2^bits keys.
Attention with_needles(Attention a, int64_t bits, const Target &target);
// Rows must have found what they look for exactly where it is visible, and below len_kv[s].
void expect_needles(const Attention &a, int64_t bits, const Ints &len_kv, const Target &target,
                    const Visible &visible);
// The heads of a row look for the keys about the edges of what it sees: the last before it, its
// first and last, the first behind, both sides of the last border of tiles inside, and any.
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
