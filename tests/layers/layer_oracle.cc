// layer_oracle.cc - see layer_oracle.h.
#include "tests/layers/layer_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/formats.h"

namespace fovea_test {

double activated(uint32_t activation, double x) {
  switch (activation) {
    case FOVEA_ACTIVATION_TANH:
      return std::tanh(x);
    case FOVEA_ACTIVATION_RELU:
      return std::max(x, 0.0);
    case FOVEA_ACTIVATION_GELU:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case FOVEA_ACTIVATION_GELU_TANH:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case FOVEA_ACTIVATION_SILU:
      return x / (1 + std::exp(-x));
    case FOVEA_ACTIVATION_SIGMOID:
      return 1 / (1 + std::exp(-x));
    default:
      return x;
  }
}

Values token_of(const Tokens &tokens, int64_t token) {
  Values values(static_cast<size_t>(tokens.width()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i].x = tokens.of_token(token, static_cast<int64_t>(i));
  }
  return values;
}

Values project(const Values &token, const Tokens &weight, const Tokens &bias, uint32_t activation) {
  if (weight.absent()) return token;
  Values made(static_cast<size_t>(weight.view().shape[1]));
  for (size_t o = 0; o < made.size(); ++o) {
    double sum = 0, size = 0, off = 0;
    for (size_t i = 0; i < token.size(); ++i) {
      const double w = weight.at(0, static_cast<int64_t>(o), 0, static_cast<int64_t>(i));
      sum += w * token[i].x;
      size += std::fabs(w * token[i].x);
      off += std::fabs(w) * token[i].off;
    }
    if (!bias.absent()) {
      const double b = bias.at(0, 0, 0, static_cast<int64_t>(o));
      sum += b;
      size += std::fabs(b);
    }
    off += kUnit * static_cast<double>(token.size() + 2) * size;
    made[o].x = activated(activation, sum);
    // No activation has a slope above 1.13. Each takes fewer than 10 operations, none of whose
    // results is above 2 max(1, |x|).
    made[o].off =
        activation == FOVEA_ACTIVATION_NONE ? off : 1.13 * off + 20 * kUnit * std::max(1.0, size);
  }
  return made;
}

// (x * r) * g, where r passes on the errors of all elements: dr / r = sum x dx / sum x^2.
void rms_norm(const fovea_norm &norm, int64_t dim, Values *token) {
  const auto width = static_cast<size_t>(dim);
  for (size_t begin = 0; begin < token->size(); begin += width) {
    double squares = 0, moved = 0;
    for (size_t d = 0; d < width; ++d) {
      const Value &v = (*token)[begin + d];
      squares += v.x * v.x;
      moved += std::fabs(v.x) * v.off;
    }
    const double mean = squares / static_cast<double>(dim) + static_cast<double>(norm.eps);
    const double r = 1 / std::sqrt(mean);
    const double relative =
        moved / (mean * static_cast<double>(dim)) + kUnit * (static_cast<double>(dim) / 2 + 6);
    const float *gain = norm.gain + static_cast<int64_t>(begin / width) * norm.stride;
    for (size_t d = 0; d < width; ++d) {
      Value &v = (*token)[begin + d];
      const double g = static_cast<double>(gain[d]) + (norm.unit_offset ? 1.0 : 0.0);
      v.off = std::fabs(g * r) * (v.off + std::fabs(v.x) * relative);
      v.x *= r * g;
    }
  }
}

void rotate(const fovea_rope &rope, int64_t position, int64_t dim, Values *token) {
  const int64_t half = rope.rotary_dim / 2;
  const bool interleaved = rope.style == FOVEA_ROPE_INTERLEAVED;
  for (size_t begin = 0; begin < token->size(); begin += static_cast<size_t>(dim)) {
    for (int64_t i = 0; i < half; ++i) {
      Value &x = (*token)[begin + static_cast<size_t>(interleaved ? 2 * i : i)];
      Value &y = (*token)[begin + static_cast<size_t>(interleaved ? 2 * i + 1 : i + half)];
      const double c = static_cast<double>(rope.cos[position * rope.stride + i]);
      const double s = static_cast<double>(rope.sin[position * rope.stride + i]);
      const Value a = x, b = y;
      x.x = a.x * c - b.x * s;
      y.x = b.x * c + a.x * s;
      const double rounding = 2 * kUnit * (std::fabs(a.x) + std::fabs(b.x));
      x.off = std::fabs(c) * a.off + std::fabs(s) * b.off + rounding;
      y.off = std::fabs(c) * b.off + std::fabs(s) * a.off + rounding;
    }
  }
}

namespace {

// The logit of a key; `off` gets what the inputs' errors and f32 do to it: at most 24 units of the
// sum of magnitudes (judge/criteria.h), and twice that for additive scores.
Value logit_of(const Values &q, size_t q_at, const Key &key, size_t k_at, size_t dim,
               const Scores &scores, double added) {
  double t = 0, size = 0, off = 0;
  for (size_t d = 0; d < dim; ++d) {
    const Value &a = q[q_at + d], &b = key.k[k_at + d];
    if (scores.vector != nullptr) {
      const double factor = static_cast<double>(scores.vector[d]);
      t += factor * std::tanh(a.x + b.x);
      size += std::fabs(factor);
      off += std::fabs(factor) * (a.off + b.off);
    } else {
      t += a.x * b.x;
      size += std::fabs(a.x * b.x);
      off += std::fabs(a.x) * b.off + std::fabs(b.x) * a.off + a.off * b.off;
    }
  }
  t *= scores.scale;
  if (scores.softcap > 0) t = scores.softcap * std::tanh(t / scores.softcap);
  const double terms = scores.scale * size + std::fabs(added);
  const double units = scores.vector != nullptr ? 48 : 24;
  return {t + added, scores.scale * off + units * kUnit * (1 + terms)};
}

}  // namespace

Attended attend_row(const Values &q, int64_t head_q, int64_t head_kv, int64_t dim, int64_t dim_v,
                    const Scores &scores, const std::vector<Seen> &seen) {
  Attended row;
  row.out.resize(static_cast<size_t>(dim_v));
  row.weights.resize(seen.size());
  row.lse.x = scores.has_sink ? scores.sink : -std::numeric_limits<double>::infinity();
  if (seen.empty()) return row;
  std::vector<Value> logits;
  double most = scores.has_sink ? scores.sink : -std::numeric_limits<double>::infinity();
  double off = 0, sum = 0;
  for (const Seen &one : seen) {
    logits.push_back(logit_of(q, static_cast<size_t>(head_q * dim), *one.key,
                              static_cast<size_t>(head_kv * dim), static_cast<size_t>(dim), scores,
                              one.added));
    most = std::max(most, logits.back().x);
    off = std::max(off, logits.back().off);
  }
  if (scores.has_sink) sum = std::exp(scores.sink - most);
  for (const Value &logit : logits) sum += std::exp(logit.x - most);
  row.lse = {most + std::log(sum), off + kUnit * (24 + 4 * std::fabs(most + std::log(sum)))};
  const double factor = std::expm1(2 * off) + 32 * kUnit;
  for (size_t n = 0; n < seen.size(); ++n) {
    const double w = std::exp(logits[n].x - most) / sum;
    row.weights[n] = {w, w * factor + 0x1p-126};
    for (size_t d = 0; d < row.out.size(); ++d) {
      const Value &v = seen[n].key->v[static_cast<size_t>(head_kv * dim_v) + d];
      row.out[d].x += w * v.x;
      row.out[d].off += w * (factor * std::fabs(v.x) + (1 + factor) * v.off) + 0x1p-126;
    }
  }
  return row;
}

double allowed(const Value &value, uint32_t dtype) {
  return value.off + unit_roundoff(dtype) * (std::fabs(value.x) + value.off) + half_step(dtype);
}

}  // namespace fovea_test
