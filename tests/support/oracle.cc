// oracle.cc - the formula of the header's introduction, in double precision.
//
// For each sequence and kv head, keys and values are decoded once. Then each row takes two passes,
// without an online softmax: the logits of the visible keys and their max, then weights and sums.
#include "tests/support/oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/formats.h"

namespace fovea_test {
namespace {

const double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kU32 = 0x1p-24;
const double kLargestF32 = 0x1.fffffep127;

bool present(const fovea_tensor &t) {
  return t.dtype != FOVEA_NONE;
}

// Keys and values of one sequence and kv head, decoded where some row of the group sees them.
struct Cache {
  std::vector<char> seen;  // per key
  std::vector<double> k;   // [len_kv][dim]
  std::vector<double> v;   // [len_kv][dim_v]
  bool finite = true;
};

struct Logit {
  int64_t key;
  double value;
  double size;  // sum of the magnitudes that were added up
  double dot;   // |scale * q.k|
};

bool key_is_seen(const Geometry &geometry, const Sequence &s, int64_t g, int64_t j) {
  const int64_t group = geometry.group();
  for (int64_t i = 0; i < s.len_q; ++i) {
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
      if (geometry.visible(s, i, h, j)) return true;
    }
  }
  return false;
}

void decode_row(const fovea_tensor &t, const fovea_tensor &scale, int64_t batch, int64_t slot,
                int64_t head, double *row, bool *finite) {
  for (int64_t d = 0; d < t.shape[3]; ++d) {
    row[d] = scaled_element(t, scale, batch, slot, head, d);
    *finite = *finite && std::isfinite(row[d]);
  }
}

// s: as kv head g has it.
Cache decode_cache(const Geometry &geometry, const Sequence &s, int64_t g) {
  const fovea_attention_args &args = geometry.args();
  const size_t keys = static_cast<size_t>(s.len_kv);
  const size_t dim = static_cast<size_t>(args.k.shape[3]);
  const size_t dim_v = present(args.v) ? static_cast<size_t>(args.v.shape[3]) : 0;
  Cache cache;
  cache.seen.resize(keys);
  cache.k.resize(keys * dim);
  cache.v.resize(keys * dim_v);
  for (size_t j = 0; j < keys; ++j) {
    const int64_t key = static_cast<int64_t>(j);
    cache.seen[j] = key_is_seen(geometry, s, g, key) ? 1 : 0;
    if (cache.seen[j] == 0) continue;
    int64_t batch = 0;
    int64_t slot = 0;
    geometry.locate(s, key, false, &batch, &slot);
    decode_row(args.k, args.k_scale, batch, slot, g, &cache.k[j * dim], &cache.finite);
    if (dim_v == 0) continue;
    geometry.locate(s, key, true, &batch, &slot);
    decode_row(args.v, args.v_scale, batch, slot, g, &cache.v[j * dim_v], &cache.finite);
  }
  return cache;
}

double scale_of(const fovea_attention_args &args) {
  // The default is a value that the field can hold, so it is the float nearest to 1 / sqrt(dim).
  const double root = 1.0 / std::sqrt(static_cast<double>(args.q.shape[3]));
  if (args.logits.scale != 0.0f) return static_cast<double>(args.logits.scale);
  return args.logits.additive.vector != nullptr ? 1.0 : round_to(FOVEA_F32, root);
}

// The error of tanh(q + k), in units of 2^-24, from numbers that a scale has rounded: they are off
// by their own size, and tanh passes this on by its slope, 1 - tanh^2, nearest to zero.
double passed_on(const fovea_attention_args &args, double q, double k) {
  double off = 0.0;
  if (args.q_scale.dtype != FOVEA_NONE) off += std::fabs(q);
  if (args.k_scale.dtype != FOVEA_NONE) off += std::fabs(k);
  if (!std::isfinite(q) || !std::isfinite(k)) return 0.0;
  const double nearest = std::max(0.0, std::fabs(q + k) - off * 0x1p-24);
  const double both = std::exp(nearest) + std::exp(-nearest);
  return off * 4.0 / (both * both);  // 1 - tanh^2, without its cancellation
}

// The score of a row and a key, before the scale, and the sum of the magnitudes of its terms.
double score_of(const fovea_attention_args &args, int64_t h, const double *q, const double *k,
                double *size) {
  const fovea_additive &additive = args.logits.additive;
  double sum = 0.0;
  *size = 0.0;
  for (int64_t d = 0; d < args.q.shape[3]; ++d) {
    double term = q[d] * k[d];
    double most = std::fabs(term);
    if (additive.vector != nullptr) {
      const double factor = static_cast<double>(additive.vector[h * additive.head_stride + d]);
      term = factor * std::tanh(q[d] + k[d]);
      most = std::min(1.0, std::fabs(q[d]) + std::fabs(k[d])) + passed_on(args, q[d], k[d]) / 8.0;
      most *= std::fabs(factor);
    }
    sum += term;
    *size += most;
  }
  return sum;
}

// The t[j] of the header's introduction, for the keys that the row sees.
std::vector<Logit> logits_of(const Geometry &geometry, const Sequence &s, int64_t i, int64_t h,
                             const double *q, const Cache &cache) {
  const fovea_attention_args &args = geometry.args();
  const int64_t dim = args.q.shape[3];
  const double scale = scale_of(args);
  const double softcap = static_cast<double>(args.logits.softcap);
  const double slope = geometry.slope_at(s, h);
  std::vector<Logit> logits;
  for (int64_t j = 0; j < s.len_kv; ++j) {
    if (cache.seen[static_cast<size_t>(j)] == 0 || !geometry.visible(s, i, h, j)) continue;
    const double *k = &cache.k[static_cast<size_t>(j * dim)];
    double size = 0.0;
    double t = scale * score_of(args, h, q, k, &size);
    const double dot = std::fabs(t);
    size *= std::fabs(scale);
    if (softcap > 0.0) t = softcap * std::tanh(t / softcap);
    const double distance =
        std::fabs(static_cast<double>(geometry.row_position(s, i) - geometry.key_position(s, j)));
    const double bias = geometry.bias_at(s, i, h, j);
    if (args.logits.alibi_slopes != nullptr) t -= slope * distance;
    const double by_distance = geometry.distance_at(s, i, h, j);
    t += by_distance;
    t += bias;
    size += std::fabs(slope * distance) + std::fabs(by_distance) + std::fabs(bias);
    logits.push_back({j, t, size, dot});
  }
  return logits;
}

// Finds S and M of the row: the largest magnitudes among the keys that can matter. A key cannot
// matter if its logit plus its error is 40 below the largest of a key, because it adds less than
// e^-40 to them. The sink does not count here: it may outweigh all keys, and out is theirs alone.
void measure_row(const std::vector<Logit> &logits, Row *row) {
  double largest = -kInfinity;
  for (const Logit &logit : logits) largest = std::max(largest, logit.value);
  for (const Logit &logit : logits) {
    const double error = 22.0 * kU32 * (1.0 + logit.size);
    if (logit.value + error < largest - 40.0) continue;
    row->size = std::max(row->size, logit.size);
    row->dot = std::max(row->dot, logit.dot);
  }
}

// Fills in the row's sums and magnitudes. Returns the weights, one per logit.
std::vector<double> soften(const Geometry &geometry, const std::vector<Logit> &logits, Row *row) {
  const float *sinks = geometry.args().logits.sinks;
  const double sink = sinks != nullptr ? static_cast<double>(sinks[row->h]) : -kInfinity;
  row->max = sink;
  row->empty = true;
  bool poisoned = false;
  for (const Logit &logit : logits) {
    poisoned = poisoned || std::isnan(logit.value) || logit.value == kInfinity;
    if (logit.value != -kInfinity) row->empty = false;
    row->max = std::max(row->max, logit.value);
  }
  std::vector<double> weights(logits.size(), 0.0);
  row->lhat = sink > -kInfinity ? std::exp(sink - row->max) : 0.0;
  row->lse = sink;
  if (row->empty) return weights;
  for (size_t n = 0; n < logits.size(); ++n) {
    weights[n] = poisoned ? kNan : std::exp(logits[n].value - row->max);
    row->lhat += weights[n];
  }
  for (double &weight : weights) weight /= row->lhat;
  row->lse = row->max + std::log(row->lhat);
  row->keys = static_cast<int64_t>(logits.size());
  row->additive = geometry.args().logits.additive.vector != nullptr;
  measure_row(logits, row);
  return weights;
}

// The type that probabilities may be rounded to, and its underflow.
struct Rounding {
  double u;
  double eta;
};

Rounding rounding_of(const fovea_attention_args &args) {
  const bool narrow = args.q.dtype == FOVEA_F16 || args.q.dtype == FOVEA_BF16;
  const uint32_t dtype = narrow ? args.q.dtype : static_cast<uint32_t>(FOVEA_F32);
  return {unit_roundoff(dtype), half_step_of_weights(dtype)};
}

void accumulate(const Cache &cache, const std::vector<Logit> &logits,
                const std::vector<double> &weights, const Rounding &rounding, double lhat,
                int64_t dim_v, double *sums[4]) {
  const double floor = rounding.eta / (rounding.u * lhat);
  for (size_t n = 0; n < logits.size(); ++n) {
    const double *v = &cache.v[static_cast<size_t>(logits[n].key * dim_v)];
    const double p = weights[n];
    const double noisy = std::max(p, floor);
    for (int64_t d = 0; d < dim_v; ++d) {
      sums[0][d] += p * v[d];
      sums[1][d] += p * std::fabs(v[d]);
      sums[2][d] += noisy * noisy * v[d] * v[d];
      sums[3][d] += std::fabs(v[d]);
    }
  }
}

// Finds the hull of the values whose weights need not be 0 in f32. A weight below 2^-150, about
// e^-104, is 0. Two logits together are off by at most 48 u32 (1 + S) (judge.h).
void span_values(const Cache &cache, const std::vector<Logit> &logits, double maximum, double sink,
                 int64_t dim_v, double *lowest, double *highest) {
  double size = std::isfinite(sink) ? std::fabs(sink) : 0.0;
  for (const Logit &logit : logits) size = std::max(size, logit.size);
  const double least = maximum - 104.0 - 48.0 * kU32 * (1.0 + size);
  for (int64_t d = 0; d < dim_v; ++d) {
    std::vector<double> values;
    if (sink >= least) values.push_back(0.0);
    for (const Logit &logit : logits) {
      if (logit.value >= least) {
        values.push_back(cache.v[static_cast<size_t>(logit.key * dim_v + d)]);
      }
    }
    if (values.empty()) continue;  // a NaN among the logits
    lowest[d] = *std::min_element(values.begin(), values.end());
    highest[d] = *std::max_element(values.begin(), values.end());
  }
}

void attend_row(const Geometry &geometry, const Sequence &s, const Cache &cache, Row row,
                Truth *truth) {
  const fovea_attention_args &args = geometry.args();
  std::vector<double> q(static_cast<size_t>(args.q.shape[3]));
  bool finite = true;
  decode_row(args.q, args.q_scale, row.batch, row.row, row.h, q.data(), &finite);
  const std::vector<Logit> logits = logits_of(geometry, s, row.i, row.h, q.data(), cache);
  const std::vector<double> weights = soften(geometry, logits, &row);
  // Single precision cannot form larger logits, and the header does not promise what they become.
  row.exempt = !cache.finite || (finite && !(row.size <= kLargestF32));
  const size_t width = static_cast<size_t>(truth->dim_v);
  const size_t at = truth->out.size();
  for (auto *field : {&truth->out, &truth->condition, &truth->noise, &truth->sum_abs_v,
                      &truth->lowest, &truth->highest}) {
    field->resize(at + width, 0.0);
  }
  double *sums[4] = {truth->out.data() + at, truth->condition.data() + at, truth->noise.data() + at,
                     truth->sum_abs_v.data() + at};
  if (!row.empty) {
    accumulate(cache, logits, weights, rounding_of(args), row.lhat, truth->dim_v, sums);
    const double sink =
        args.logits.sinks != nullptr ? static_cast<double>(args.logits.sinks[row.h]) : -kInfinity;
    span_values(cache, logits, row.max, sink, truth->dim_v, truth->lowest.data() + at,
                truth->highest.data() + at);
  }
  for (int64_t d = 0; d < truth->dim_v; ++d) {
    sums[2][d] = std::sqrt(sums[2][d]);
    const bool scaled = present(args.out_scale);
    truth->out_scale.push_back(scaled ? element(args.out_scale, row.batch, row.row, row.h,
                                                d / (args.out.shape[3] / args.out_scale.shape[3]))
                                      : 1.0);
  }
  truth->rows.push_back(row);
}

// Finds the bits that the keys of a sequence must and may set. A table entry or mask is certainly
// read if everything else shows the key. It may be read wherever positions show the key.
void expect_errors(const Geometry &geometry, const Sequence &s, Truth *truth) {
  uint32_t required = s.errors;
  uint32_t allowed = s.errors;
  const fovea_attention_args &args = geometry.args();
  const bool can_fail = args.sequences.pages.ids != nullptr ||
                        args.visibility.tree.bits != nullptr || present(args.visibility.mask) ||
                        present(args.logits.bias);
  for (int64_t h = 0; can_fail && h < geometry.heads_q(); ++h) {
    const Sequence &own = geometry.of_head(s, h / geometry.group());
    for (int64_t i = 0; i < own.len_q; ++i) {
      for (int64_t j = own.first_key; j < own.len_kv; ++j) {
        if (!geometry.visible_by_position(own, i, j)) continue;
        const bool exists = geometry.key_exists(own, j);
        bool bad = false;
        const bool shown = geometry.visible_by_mask(own, i, h, j, &bad);
        if (!exists) allowed |= FOVEA_BAD_PAGE;
        if (bad) allowed |= FOVEA_BAD_MASK;
        if (bad && exists) required |= FOVEA_BAD_MASK;
        if (!exists && shown) required |= FOVEA_BAD_PAGE;
      }
    }
  }
  truth->errors_required.push_back(required);
  truth->errors_allowed.push_back(allowed);
}

}  // namespace

Truth attend(const fovea_attention_args &args) {
  const Geometry geometry(args);
  Truth truth;
  truth.dim = args.q.shape[3];
  truth.dim_v = args.v.shape[3];
  for (const Sequence &s : geometry.sequences()) {
    for (int64_t g = 0; g < geometry.heads_kv(); ++g) {
      const Sequence &own = geometry.of_head(s, g);
      const Cache cache = decode_cache(geometry, own, g);
      for (int64_t h = g * geometry.group(); h < (g + 1) * geometry.group(); ++h) {
        for (int64_t i = 0; i < s.len_q; ++i) {
          Row row;
          row.sequence = s.index;
          row.i = i;
          row.h = h;
          row.batch = s.q_batch;
          row.row = s.q_begin + i;
          attend_row(geometry, own, cache, row, &truth);
        }
      }
    }
    expect_errors(geometry, s, &truth);
    // A call that has nothing to compute need not read anything.
    if (args.q.shape[1] == 0 || args.q.shape[2] == 0) truth.errors_required.back() = 0;
  }
  return truth;
}

std::vector<double> weigh(const Geometry &geometry, int64_t sequence, int64_t i, int64_t h,
                          int64_t keys, Row *row) {
  const int64_t kv_head = h / geometry.group();
  const Sequence &s =
      geometry.of_head(geometry.sequences()[static_cast<size_t>(sequence)], kv_head);
  fovea_attention_args args = geometry.args();
  const Cache cache = decode_cache(geometry, s, kv_head);
  std::vector<double> q(static_cast<size_t>(args.q.shape[3]));
  bool finite = true;
  decode_row(args.q, args.q_scale, s.q_batch, s.q_begin + i, h, q.data(), &finite);
  row->sequence = sequence;
  row->i = i;
  row->h = h;
  const std::vector<Logit> logits = logits_of(geometry, s, i, h, q.data(), cache);
  const std::vector<double> some = soften(geometry, logits, row);
  row->exempt = !cache.finite;
  std::vector<double> all(static_cast<size_t>(keys), 0.0);
  for (size_t n = 0; n < logits.size(); ++n) {
    if (logits[n].key < keys) all[static_cast<size_t>(logits[n].key)] = some[n];
  }
  return all;
}

namespace {

// Entropy, largest and first weight by their definitions.
void describe(const std::vector<double> &weights, int64_t first_key, Looked *looked) {
  for (size_t j = 0; j < weights.size(); ++j) {
    if (weights[j] > 0.0) looked->entropy -= weights[j] * std::log(weights[j]);
    looked->largest = std::max(looked->largest, weights[j]);
    if (static_cast<int64_t>(j) == first_key) looked->first = weights[j];
  }
}

// The scaled score of a key that may be hidden. False: there is no such key.
bool dot_of(const Geometry &geometry, const Sequence &s, const std::vector<double> &q, int64_t h,
            int64_t j, double *value, double *size) {
  const fovea_attention_args &args = geometry.args();
  int64_t batch = 0;
  int64_t slot = 0;
  if (j < s.first_key || j >= s.len_kv || !geometry.locate(s, j, false, &batch, &slot))
    return false;
  std::vector<double> k(q.size());
  bool finite = true;
  decode_row(args.k, args.k_scale, batch, slot, h / geometry.group(), k.data(), &finite);
  *value = scale_of(args) * score_of(args, h, q.data(), k.data(), size);
  *size *= std::fabs(scale_of(args));
  return true;
}

}  // namespace

Looked look(const Geometry &geometry, int64_t sequence, int64_t i, int64_t h, int64_t keys,
            Row *row) {
  const fovea_attention_args &args = geometry.args();
  const Sequence &whole = geometry.sequences()[static_cast<size_t>(sequence)];
  const Sequence &s = geometry.of_head(whole, h / geometry.group());
  const double cap = static_cast<double>(args.logits.softcap);
  const int64_t reach = std::max(keys, s.len_kv);
  std::vector<double> q(static_cast<size_t>(args.q.shape[3]));
  bool finite = true;
  Looked looked;
  looked.weights = weigh(geometry, sequence, i, h, reach, row);
  describe(looked.weights, s.first_key, &looked);
  decode_row(args.q, args.q_scale, s.q_batch, s.q_begin + i, h, q.data(), &finite);
  for (int64_t j = 0; j < reach; ++j) {
    double scaled = -kInfinity;
    double softcapped = -kInfinity;
    double logit = -kInfinity;
    double size = 0.0;
    if (dot_of(geometry, s, q, h, j, &scaled, &size)) {
      softcapped = cap > 0.0 ? cap * std::tanh(scaled / cap) : scaled;
      const double alibi =
          geometry.slope_at(s, h) *
          std::fabs(static_cast<double>(geometry.row_position(s, i) - geometry.key_position(s, j)));
      if (geometry.visible(s, i, h, j)) {
        const double bias = geometry.bias_at(s, i, h, j);
        const double by_distance = geometry.distance_at(s, i, h, j);
        logit = softcapped - alibi + by_distance + bias;
        size += std::fabs(alibi) + std::fabs(by_distance) + std::fabs(bias);
      }
    }
    looked.all.push_back(logit);
    if (j >= keys) continue;
    looked.scaled.push_back(scaled);
    looked.softcapped.push_back(softcapped);
    looked.logits.push_back(logit);
    looked.size.push_back(size);
  }
  return looked;
}

}  // namespace fovea_test
