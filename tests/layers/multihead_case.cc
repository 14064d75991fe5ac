// multihead_case.cc - see multihead_case.h.
#include "tests/layers/multihead_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/formats.h"

namespace fovea_test {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

uint32_t any_type(Choices *choices) {
  const uint32_t types[] = {FOVEA_F32, FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  return types[choices->below(4)];
}

Layout any_layout(Choices *choices) {
  return static_cast<Layout>(choices->below(kTokenLayouts));
}

Tokens random_tokens(Choices *choices, Shape shape, double size = 1.0) {
  Tokens made(any_type(choices), shape, any_layout(choices));
  made.fill_random(choices->next(), size);
  return made;
}

std::vector<float> random_floats(Choices *choices, int64_t count, double middle, double size) {
  std::vector<float> made;
  for (int64_t i = 0; i < count; ++i) {
    made.push_back(static_cast<float>(middle + size * normal(choices->next())));
  }
  return made;
}

// Weights that keep numbers near 1.
Projection random_projection(Choices *choices, int64_t in, int64_t out) {
  Projection made;
  made.weight =
      Tokens(any_type(choices), {1, out, 1, in}, static_cast<Layout>(choices->below(kLayouts)));
  made.weight.fill_random(choices->next(), 1 / std::sqrt(static_cast<double>(in)));
  if (choices->one_in(2)) {
    made.bias = Tokens(any_type(choices), {1, 1, 1, out});
    made.bias.fill_random(choices->next());
  }
  if (choices->one_in(4)) made.activation = static_cast<uint32_t>(choices->below(7));
  return made;
}

fovea_norm norm_of(const std::vector<float> &gain, int64_t dim, int64_t heads) {
  fovea_norm norm = {};
  if (gain.empty()) return norm;
  norm.gain = gain.data();
  norm.stride = static_cast<int64_t>(gain.size()) == dim * heads && heads > 1 ? dim : 0;
  norm.eps = 1e-3f;
  return norm;
}

const int32_t *or_null(const std::vector<int32_t> &numbers) {
  return numbers.empty() ? nullptr : numbers.data();
}

const float *or_null(const std::vector<float> &numbers) {
  return numbers.empty() ? nullptr : numbers.data();
}

}  // namespace

fovea_linear Projection::view() const {
  fovea_linear linear = {};
  linear.weight = weight.view();
  linear.bias = bias.view();
  linear.activation = activation;
  return linear;
}

// ---- Drawing ----

void MultiheadCase::draw_tokens(Choices *choices) {
  heads_kv = 1 + choices->below(3);
  heads_q = heads_kv * (1 + choices->below(3));
  dim = 1 + choices->below(20);
  dim_v = 1 + choices->below(20);
  sequences = 1 + choices->below(3);
  const int64_t len = 1 + choices->below(5);
  int64_t batch = sequences, rows = len;
  if (choices->one_in(3)) {
    words_ += " packed";
    q_offsets.push_back(static_cast<int32_t>(choices->below(2)));
    for (int64_t s = 0; s < sequences; ++s) {
      q_offsets.push_back(q_offsets.back() + static_cast<int32_t>(choices->below(len + 1)));
    }
    batch = 1, rows = q_offsets.back() + choices->below(2);
  }
  if (choices->one_in(4)) {
    words_ += " q_lengths";
    for (int64_t s = 0; s < sequences; ++s) {
      q_lengths.push_back(static_cast<int32_t>(choices->below(len + 2)));
    }
  }
  if (choices->one_in(4)) {
    words_ += " queries";
    x = random_tokens(choices, {batch, rows, heads_q, dim});
  } else {
    const int64_t width = 1 + choices->below(30);
    x = random_tokens(choices, {batch, rows, 1, width});
    q_proj = random_projection(choices, width, heads_q * dim);
  }
}

void MultiheadCase::draw_scores(Choices *choices) {
  if (choices->one_in(3)) {
    words_ += " additive";
    vector = random_floats(choices, heads_q * dim, 0, 1 / std::sqrt(static_cast<double>(dim)));
  }
  if (choices->one_in(3)) scale = 0.3f;
  if (choices->one_in(4)) softcap = 2.0f;
  if (choices->one_in(4)) {
    words_ += " sinks";
    sinks = random_floats(choices, heads_q, 0, 1);
  }
  if (choices->one_in(3)) {
    words_ += " q_norm";
    q_gain = random_floats(choices, dim * (choices->one_in(2) ? 1 : heads_q), 1, 0.3);
  }
  if (dim < 2 || !choices->one_in(3)) return;
  words_ += " rope";
  rope.rotary_dim = static_cast<int32_t>(2 * (1 + choices->below(dim / 2)));
  rope.rows = 40;
  rope.stride = rope.rotary_dim / 2 + choices->below(2);
  rope.style = static_cast<uint32_t>(choices->below(2));
  for (int64_t i = 0; i < rope.rows * rope.stride; ++i) {
    const double angle = 6.0 * uniform(choices->next());
    cos.push_back(static_cast<float>(std::cos(angle)));
    sin.push_back(static_cast<float>(std::sin(angle)));
  }
  if (!choices->one_in(2)) return;
  words_ += " positions";
  for (int64_t n = 0; n < x.tokens(); ++n) {
    positions.push_back(static_cast<int32_t>(choices->below(rope.rows)));
  }
}

void MultiheadCase::draw_masks(Choices *choices, SourceCase *source, int64_t keys) {
  source->causal = choices->one_in(3);
  if (choices->one_in(4)) source->window_left = static_cast<int32_t>(choices->below(4));
  if (choices->one_in(4)) source->slopes = random_floats(choices, heads_q, 0, 0.3);
  if (choices->one_in(4)) {
    words_ += " distances";
    source->distances = random_floats(choices, heads_q * 5, 0, 1);
  }
  if (choices->one_in(3)) {
    words_ += " bias";
    source->bias = Tokens(FOVEA_F32, {sequences, x.view().shape[1], heads_q, keys}, kGaps);
    const uint64_t seed = choices->next();
    source->bias.fill([=](int64_t n) {
      const uint64_t bits = mix(seed, static_cast<uint64_t>(n));
      return bits % 5 == 0 ? -kInfinity : normal(bits);
    });
    if (choices->one_in(2)) source->bias_scale = random_floats(choices, heads_q, 1, 0.5);
  }
}

void MultiheadCase::draw_source(Choices *choices) {
  sources.emplace_back();
  SourceCase &source = sources.back();
  const bool packed = !q_offsets.empty();
  const int64_t kind = choices->below(3);  // tokens, memory, cache
  const int64_t rows = x.view().shape[1], batch = x.view().shape[0];
  int64_t keys = 1 + choices->below(6);
  if (kind == 1) {
    words_ += " memory";
    source.k = random_tokens(choices, {sequences, keys, heads_kv, dim});
    source.v = random_tokens(choices, {sequences, keys, heads_kv, dim_v});
  } else {
    const bool own = kind == 2 || choices->one_in(2);
    words_ += own ? " self" : " cross";
    source.own_tokens = own && q_proj.weight.view().dtype != FOVEA_NONE;
    const int64_t width = 1 + choices->below(20);
    const Shape shape = own ? Shape{batch, rows, 1, width} : Shape{sequences, keys, 1, width};
    const bool plain = !source.own_tokens && !own && choices->one_in(3);
    if (plain) {
      words_ += " unprojected";
      source.x_k = random_tokens(choices, {sequences, keys, heads_kv, dim});
    } else {
      if (!source.own_tokens) source.x_k = random_tokens(choices, shape);
      source.k_proj =
          random_projection(choices, source.own_tokens ? x.width() : width, heads_kv * dim);
    }
    if (own && packed && kind == 0) source.offsets = q_offsets;
    if (own) keys = rows;
    const Shape values = own ? Shape{batch, rows, 1, 7} : Shape{sequences, keys, 1, 7};
    const Tokens &from = source.own_tokens ? x : source.x_k;
    int64_t width_v = from.width();
    if (plain || choices->one_in(3)) source.x_v = random_tokens(choices, values), width_v = 7;
    source.v_proj = random_projection(choices, width_v, heads_kv * dim_v);
    if (choices->one_in(3)) source.k_gain = random_floats(choices, dim * heads_kv, 1, 0.3);
    if (choices->one_in(3)) source.v_gain = random_floats(choices, dim_v, 1, 0.3);
    source.rope = own && rope.rotary_dim > 0 && choices->one_in(2);
    if (kind == 2) {
      words_ += " cache";
      const int64_t before = 1 + choices->below(4);
      keys = before + rows;
      source.k = random_tokens(choices, {sequences, keys, heads_kv, dim});
      source.v = random_tokens(choices, {sequences, keys, heads_kv, dim_v});
      for (int64_t s = 0; s < sequences; ++s) {
        source.lengths.push_back(static_cast<int32_t>(choices->below(before + 1)));
      }
    }
  }
  if (kind != 2 && source.offsets.empty() && choices->one_in(2)) {
    words_ += " kv_lengths";
    for (int64_t s = 0; s < sequences; ++s) {
      source.lengths.push_back(static_cast<int32_t>(choices->below(keys + 1)));
    }
  }
  if (choices->one_in(5)) {
    for (int64_t s = 0; s < sequences; ++s) {
      source.first.push_back(static_cast<int32_t>(choices->below(2)));
    }
  }
  draw_masks(choices, &source, keys);
  for (int64_t n = 0; !source.k.absent() && n < source.k.tokens(); ++n) {
    source.old_keys.push_back(token_of(source.k, n));
    source.old_values.push_back(token_of(source.v, n));
  }
}

void MultiheadCase::draw_outputs(Choices *choices) {
  const int64_t batch = x.view().shape[0], rows = x.view().shape[1];
  const int64_t joined = heads_q * dim_v;
  int64_t width = 1 + choices->below(30);
  if (choices->one_in(3)) {
    width = joined;
  } else {
    out_proj = random_projection(choices, joined, width);
  }
  out = Tokens(any_type(choices), {batch, rows, 1, width}, any_layout(choices));
  if (choices->one_in(2)) residual = random_tokens(choices, {batch, rows, 1, width});
  if (choices->one_in(2)) lse = Tokens(FOVEA_F32, {batch, rows, heads_q, 1}, any_layout(choices));
  if (!choices->one_in(2)) return;
  int64_t keys = choices->below(3);
  for (const SourceCase &source : sources) keys += capacity_of(source);
  if (sources.size() == 1 && choices->one_in(3)) keys = std::max<int64_t>(1, keys - 3);
  words_ += " weights";
  weights = Tokens(any_type(choices),
                   {sequences, rows + choices->below(2), choices->one_in(2) ? 1 : heads_q, keys},
                   any_layout(choices));
}

MultiheadCase::MultiheadCase(uint64_t seed) {
  Choices choices(seed);
  draw_tokens(&choices);
  draw_scores(&choices);
  const int64_t count = choices.one_in(3) ? 2 + choices.below(2) : 1;
  for (int64_t n = 0; n < count; ++n) draw_source(&choices);
  draw_outputs(&choices);
}

std::string MultiheadCase::words() const {
  return words_;
}

// ---- The call ----

const Tokens &MultiheadCase::keys_from(const SourceCase &source) const {
  return source.own_tokens ? x : source.x_k;
}

fovea_source MultiheadCase::view_of(const SourceCase &source) const {
  fovea_source view = {};
  if (!source.memory()) view.x_k = keys_from(source).view();
  view.x_v = source.x_v.view();
  view.k_proj = source.k_proj.view();
  view.v_proj = source.v_proj.view();
  view.k_norm = norm_of(source.k_gain, dim, heads_kv);
  view.v_norm = norm_of(source.v_gain, dim_v, heads_kv);
  view.rope = source.rope ? 1 : 0;
  view.k = source.k.view();
  view.v = source.v.view();
  view.sequences.kv_lengths = or_null(source.lengths);
  view.sequences.kv_offsets = or_null(source.offsets);
  view.sequences.kv_first = or_null(source.first);
  view.visibility.causal = source.causal ? 1 : 0;
  if (source.window_left >= 0)
    view.visibility.window_left = {FOVEA_WINDOW_LIMITED, source.window_left};
  view.bias = source.bias.view();
  view.bias_scale = or_null(source.bias_scale);
  view.alibi_slopes = or_null(source.slopes);
  if (!source.distances.empty()) {
    view.distances.table = source.distances.data();
    view.distances.head_stride = 5;
    view.distances.first = -3;
    view.distances.count = 5;
  }
  return view;
}

fovea_multihead_args MultiheadCase::args() {
  fovea_multihead_args args = {};
  views_.clear();
  for (const SourceCase &source : sources) views_.push_back(view_of(source));
  args.struct_size = sizeof args;
  args.heads_q = static_cast<int32_t>(heads_q), args.heads_kv = static_cast<int32_t>(heads_kv);
  args.dim = static_cast<int32_t>(dim), args.dim_v = static_cast<int32_t>(dim_v);
  args.source_count = static_cast<int32_t>(views_.size());
  args.sources = views_.data();
  args.x = x.view();
  args.q_proj = q_proj.view();
  args.q_norm = norm_of(q_gain, dim, heads_q);
  args.rope = rope;
  if (rope.rotary_dim > 0) {
    args.rope.cos = cos.data(), args.rope.sin = sin.data();
    args.rope.positions = or_null(positions);
  }
  args.sequence_count = q_offsets.empty() ? 0 : sequences;
  args.q_offsets = or_null(q_offsets);
  args.q_lengths = or_null(q_lengths);
  args.scale = scale, args.softcap = softcap;
  args.sinks = or_null(sinks);
  args.additive.vector = or_null(vector);
  args.additive.head_stride = vector.empty() ? 0 : dim;
  args.out_proj = out_proj.view();
  args.residual = residual.view(), args.out = out.view(), args.lse = lse.view();
  args.weights = weights.view();
  return args;
}

void MultiheadCase::run() {
  fovea_multihead_args call = args();
  size_t bytes = 0;
  ASSERT_EQ(fovea_multihead_workspace(shared_cpu(), &call, &bytes), FOVEA_OK)
      << fovea_layers_error_detail();
  Workspace workspace(bytes);
  call.workspace = workspace.data();
  call.workspace_bytes = bytes;
  ASSERT_EQ(fovea_multihead(shared_cpu(), &call, nullptr), FOVEA_OK) << fovea_layers_error_detail();
  EXPECT_TRUE(workspace.intact());
}

// ---- What the header says ----

int64_t MultiheadCase::first_row(int64_t s) const {
  return q_offsets.empty() ? s * x.view().shape[1] : q_offsets[static_cast<size_t>(s)];
}

int64_t MultiheadCase::rows_of(int64_t s) const {
  const auto at = static_cast<size_t>(s);
  int64_t rows = q_offsets.empty() ? x.view().shape[1] : q_offsets[at + 1] - q_offsets[at];
  if (!q_lengths.empty()) rows = std::min<int64_t>(rows, q_lengths[at]);
  return rows;
}

// own: a cache into which the token's key goes, or NULL.
int64_t MultiheadCase::position_of(int64_t s, int64_t i, const SourceCase *own) const {
  if (!positions.empty()) return positions[static_cast<size_t>(first_row(s) + i)];
  for (size_t n = 0; n < sources.size() && own == nullptr; ++n) {
    if (sources[n].cache()) own = &sources[n];
  }
  return i + (own == nullptr ? 0 : own->lengths[static_cast<size_t>(s)]);
}

int64_t MultiheadCase::capacity_of(const SourceCase &source) const {
  return source.k.absent() ? keys_from(source).view().shape[1] : source.k.view().shape[1];
}

Values MultiheadCase::projected_key(const SourceCase &source, int64_t token, int64_t s,
                                    int64_t i) const {
  Values key = project(token_of(keys_from(source), token), source.k_proj.weight, source.k_proj.bias,
                       source.k_proj.activation);
  if (!source.k_gain.empty()) rms_norm(norm_of(source.k_gain, dim, heads_kv), dim, &key);
  if (source.rope) {
    fovea_rope turned = rope;
    turned.cos = cos.data(), turned.sin = sin.data();
    rotate(turned, position_of(s, i, source.cache() ? &source : nullptr), dim, &key);
  }
  return key;
}

Values MultiheadCase::projected_value(const SourceCase &source, int64_t token) const {
  const Tokens &from = source.x_v.absent() ? keys_from(source) : source.x_v;
  Values value = project(token_of(from, token), source.v_proj.weight, source.v_proj.bias,
                         source.v_proj.activation);
  if (!source.v_gain.empty()) rms_norm(norm_of(source.v_gain, dim_v, heads_kv), dim_v, &value);
  return value;
}

std::vector<Key> MultiheadCase::keys_of(const SourceCase &source, int64_t s, int64_t number) const {
  const auto at = static_cast<size_t>(s);
  const int64_t room = capacity_of(source);
  std::vector<Key> keys;
  if (source.memory() || source.cache()) {
    int64_t len = source.lengths.empty() ? room : source.lengths[at];
    for (int64_t j = 0; j < len; ++j) {
      const auto slot = static_cast<size_t>(s * room + j);
      keys.push_back({source.old_keys[slot], source.old_values[slot], number + j});
    }
    for (int64_t i = 0; source.cache() && i < rows_of(s); ++i) {
      Key key = {projected_key(source, first_row(s) + i, s, i),
                 projected_value(source, first_row(s) + i), number + len + i};
      for (Value &k : key.k) k.off = allowed(k, source.k.view().dtype);
      for (Value &v : key.v) v.off = allowed(v, source.v.view().dtype);
      keys.push_back(key);
    }
    return keys;
  }
  int64_t begin = s * room, len = room;
  if (!source.offsets.empty()) begin = source.offsets[at], len = source.offsets[at + 1] - begin;
  if (!source.lengths.empty()) len = std::min<int64_t>(len, source.lengths[at]);
  for (int64_t j = 0; j < len; ++j) {
    keys.push_back(
        {projected_key(source, begin + j, s, j), projected_value(source, begin + j), number + j});
  }
  return keys;
}

std::vector<Seen> MultiheadCase::seen_of(const SourceCase &source, const std::vector<Key> &keys,
                                         int64_t s, int64_t i, int64_t h) const {
  std::vector<Seen> seen;
  const auto head = static_cast<size_t>(h);
  const auto len = static_cast<int64_t>(keys.size());
  const int64_t position = len - rows_of(s) + i;
  for (int64_t j = source.first.empty() ? 0 : source.first[static_cast<size_t>(s)]; j < len; ++j) {
    double added = 0;
    if (source.causal && j > position) continue;
    if (source.window_left >= 0 && j < position - source.window_left) continue;
    if (!source.slopes.empty()) {
      added -=
          static_cast<double>(source.slopes[head]) * static_cast<double>(std::llabs(position - j));
    }
    if (!source.distances.empty()) {
      const int64_t entry = std::clamp<int64_t>(j - position + 3, 0, 4);
      added += static_cast<double>(source.distances[head * 5 + static_cast<size_t>(entry)]);
    }
    if (!source.bias.absent()) {
      const double bias = source.bias.at(s, i, h, j);
      if (bias == -kInfinity) continue;
      added +=
          bias * (source.bias_scale.empty() ? 1.0 : static_cast<double>(source.bias_scale[head]));
    }
    seen.push_back({&keys[static_cast<size_t>(j)], added});
  }
  return seen;
}

void MultiheadCase::compare_weights(int64_t s, int64_t i, int64_t h, const std::vector<Seen> &seen,
                                    const Attended &row, Values *mean) const {
  if (weights.absent() || i >= weights.view().shape[1]) return;
  Values all(static_cast<size_t>(weights.view().shape[3]));
  for (size_t n = 0; n < seen.size(); ++n) {
    const auto at = static_cast<size_t>(seen[n].key->number);
    if (at < all.size()) all[at] = row.weights[n];
  }
  for (size_t j = 0; j < all.size(); ++j) {
    (*mean)[j].x += all[j].x / static_cast<double>(heads_q);
    (*mean)[j].off += (all[j].off + 8 * kUnit * all[j].x) / static_cast<double>(heads_q);
    if (weights.view().shape[2] == 1 && heads_q > 1) continue;
    const Value one = {all[j].x, all[j].off + 8 * kUnit * all[j].x};
    ASSERT_NEAR(weights.at(s, i, h, static_cast<int64_t>(j)), one.x,
                allowed(one, weights.view().dtype))
        << "weight of key " << j << " in sequence " << s << ", row " << i << ", head " << h;
  }
}

Values MultiheadCase::attend(int64_t s, int64_t i,
                             const std::vector<std::vector<Key>> &keys) const {
  const int64_t token = first_row(s) + i;
  Values q = project(token_of(x, token), q_proj.weight, q_proj.bias, q_proj.activation), joined;
  if (!q_gain.empty()) rms_norm(norm_of(q_gain, dim, heads_q), dim, &q);
  if (rope.rotary_dim > 0) {
    fovea_rope turned = rope;
    turned.cos = cos.data(), turned.sin = sin.data();
    rotate(turned, position_of(s, i, nullptr), dim, &q);
  }
  Values mean(weights.absent() ? 0 : static_cast<size_t>(weights.view().shape[3]));
  for (int64_t h = 0; h < heads_q; ++h) {
    std::vector<Seen> seen;
    Scores scores;
    for (size_t n = 0; n < sources.size(); ++n) {
      const std::vector<Seen> more = seen_of(sources[n], keys[n], s, i, h);
      seen.insert(seen.end(), more.begin(), more.end());
    }
    scores.vector = vector.empty() ? nullptr : vector.data() + h * dim;
    scores.scale = static_cast<double>(scale);
    if (scale == 0) {
      const double root = 1.0 / std::sqrt(static_cast<double>(dim));
      scores.scale = vector.empty() ? static_cast<double>(static_cast<float>(root)) : 1.0;
    }
    scores.softcap = static_cast<double>(softcap);
    scores.has_sink = !sinks.empty();
    if (scores.has_sink) scores.sink = static_cast<double>(sinks[static_cast<size_t>(h)]);
    const Attended row = attend_row(q, h, h / (heads_q / heads_kv), dim, dim_v, scores, seen);
    joined.insert(joined.end(), row.out.begin(), row.out.end());
    if (!lse.absent()) {
      const double got = lse.of_token(token, h);
      if (std::isinf(row.lse.x)) {
        EXPECT_EQ(got, row.lse.x);
      } else {
        EXPECT_NEAR(got, row.lse.x, allowed(row.lse, FOVEA_F32))
            << "lse of row " << i << " of " << s;
      }
    }
    compare_weights(s, i, h, seen, row, &mean);
  }
  if (!weights.absent() && weights.view().shape[2] == 1 && heads_q > 1 &&
      i < weights.view().shape[1]) {
    for (size_t j = 0; j < mean.size(); ++j) {
      EXPECT_NEAR(
          weights.at(s, i, 0, static_cast<int64_t>(j)), mean[j].x,
          allowed({mean[j].x, mean[j].off + static_cast<double>(heads_q) * kUnit * mean[j].x},
                  weights.view().dtype))
          << "mean weight of key " << j << ", sequence " << s << ", row " << i;
    }
  }
  return joined;
}

void MultiheadCase::compare_token(int64_t token, const Values &joined) const {
  Values expected = project(joined, out_proj.weight, out_proj.bias, out_proj.activation);
  for (int64_t o = 0; o < out.width(); ++o) {
    Value value = expected[static_cast<size_t>(o)];
    if (!residual.absent()) {
      const double more = residual.of_token(token, o);
      value.x += more;
      value.off += kUnit * (std::fabs(value.x) + std::fabs(more));
    }
    ASSERT_NEAR(out.of_token(token, o), value.x, allowed(value, out.view().dtype))
        << "token " << token << ", element " << o;
  }
}

void MultiheadCase::expect_right() {
  ASSERT_NO_FATAL_FAILURE(run());
  ASSERT_EQ(out.wrong(), "");
  if (!lse.absent()) {
    ASSERT_EQ(lse.wrong(), "");
  }
  if (!weights.absent()) {
    ASSERT_EQ(weights.wrong(), "");
  }
  std::vector<bool> owned(static_cast<size_t>(x.tokens()), false);
  for (int64_t s = 0; s < sequences; ++s) {
    std::vector<std::vector<Key>> keys;
    int64_t number = 0;
    for (const SourceCase &source : sources) {
      keys.push_back(keys_of(source, s, number));
      number += capacity_of(source);
    }
    for (int64_t i = 0; i < rows_of(s); ++i) {
      owned[static_cast<size_t>(first_row(s) + i)] = true;
      ASSERT_NO_FATAL_FAILURE(compare_token(first_row(s) + i, attend(s, i, keys)));
    }
  }
  for (int64_t token = 0; token < x.tokens(); ++token) {
    if (owned[static_cast<size_t>(token)]) continue;
    ASSERT_NO_FATAL_FAILURE(compare_token(token, Values(static_cast<size_t>(heads_q * dim_v))));
    for (int64_t h = 0; !lse.absent() && h < heads_q; ++h) {
      EXPECT_EQ(lse.of_token(token, h), -kInfinity);
    }
  }
}

}  // namespace fovea_test
