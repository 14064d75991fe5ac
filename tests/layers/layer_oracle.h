// layer_oracle.h - a layer in double precision, written from layers/fovea_layers.h, with a bound on
// what f32 may do to each number on its way.
//
// A Value is a number and how far an f32 computation of it may be off. Sums of n products in any
// order are off by n units of 2^-24 of their sizes, besides what their terms are off by; a weight
// changes by a factor within exp(+-2 d) if every logit is off by d at most.
#ifndef FOVEA_TESTS_LAYERS_LAYER_ORACLE_H
#define FOVEA_TESTS_LAYERS_LAYER_ORACLE_H

#include <vector>

#include "tests/layers/tokens_case.h"

namespace fovea_test {

constexpr double kUnit = 0x1p-24;

struct Value {
  double x = 0, off = 0;
};
using Values = std::vector<Value>;

double activated(uint32_t activation, double x);

// A token, exactly as it is stored.
Values token_of(const Tokens &tokens, int64_t token);

// activation(weight * token + bias); without a weight the token itself.
Values project(const Values &token, const Tokens &weight, const Tokens &bias, uint32_t activation);

// Heads of `dim` numbers each.
void rms_norm(const fovea_norm &norm, int64_t dim, Values *token);
void rotate(const fovea_rope &rope, int64_t position, int64_t dim, Values *token);

// A key and its value, both of all kv heads, and what masks and biases say
// of it for a row and head.
struct Key {
  Values k, v;
  int64_t number = 0;  // among all keys of the weights
};
struct Seen {
  const Key *key;
  double added;  // to the logit; the keys that are not seen are not listed
};

struct Scores {
  double scale = 1, softcap = 0;
  const float *vector = nullptr;  // of additive scores, of this head
  bool has_sink = false;
  double sink = 0;
};

// What one row and head attends to: out[dim_v], lse and the weight of each key.
struct Attended {
  Values out, weights;
  Value lse;
};
Attended attend_row(const Values &q, int64_t head_q, int64_t head_kv, int64_t dim, int64_t dim_v,
                    const Scores &scores, const std::vector<Seen> &seen);

// How far a stored result may be from a value: its bound, and one rounding to the type.
double allowed(const Value &value, uint32_t dtype);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_LAYERS_LAYER_ORACLE_H
