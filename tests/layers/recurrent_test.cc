// recurrent_test.cc - GRU and LSTM, against double precision written from the header.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/layers/tokens_case.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

// ---- A call ----

struct Recurrent {
  uint32_t cell = FOVEA_CELL_GRU;
  bool reverse = false;
  Tokens x, weight_x, weight_h, bias_x, bias_h, h_first, c_first, states, h_last, c_last;
  std::vector<int32_t> lengths;  // empty: none

  bool is_lstm() const { return cell == FOVEA_CELL_LSTM; }
  int64_t batch() const { return x.view().shape[0]; }
  int64_t len() const { return x.view().shape[1]; }
  int64_t hidden() const { return weight_h.view().shape[3]; }
  int64_t length(int64_t b) const {
    const int64_t given = lengths.empty() ? len() : lengths[static_cast<size_t>(b)];
    return std::min(std::max<int64_t>(0, given), len());
  }

  fovea_recurrent_args args() const {
    fovea_recurrent_args args = {};
    args.struct_size = sizeof args;
    args.cell = cell;
    args.reverse = reverse ? 1 : 0;
    args.x = x.view();
    args.weight_x = weight_x.view(), args.weight_h = weight_h.view();
    args.bias_x = bias_x.view(), args.bias_h = bias_h.view();
    args.h_first = h_first.view(), args.c_first = c_first.view();
    args.lengths = lengths.empty() ? nullptr : lengths.data();
    args.states = states.view();
    args.h_last = h_last.view(), args.c_last = c_last.view();
    return args;
  }
};

void run(fovea_recurrent_args args) {
  size_t bytes = 0;
  ASSERT_EQ(fovea_recurrent_workspace(shared_cpu(), &args, &bytes), FOVEA_OK)
      << fovea_layers_error_detail();
  Workspace workspace(bytes);
  args.workspace = workspace.data(), args.workspace_bytes = bytes;
  ASSERT_EQ(fovea_recurrent(shared_cpu(), &args, nullptr), FOVEA_OK) << fovea_layers_error_detail();
  EXPECT_TRUE(workspace.intact());
}

// ---- The oracle ----

// A unit of f32, and 1 % for values that are themselves off by less than that.
constexpr double kUnit = 1.01 * 0x1p-24;

// A number and how far the f32 result may be from it.
struct Value {
  double value = 0, off = 0;
};
using Values = std::vector<Value>;

// A sum of n products in any order is off by n units of their sizes, and by what its factors are.
struct Sum {
  double value = 0, off = 0, size = 0;
  int64_t terms = 1;

  void add(double factor, Value x) {
    value += factor * x.value;
    off += std::fabs(factor) * x.off;
    size += std::fabs(factor) * (std::fabs(x.value) + x.off);
    ++terms;
  }
  Value result() const { return {value, off + static_cast<double>(terms) * kUnit * size}; }
};

Value added(Value a, Value b) {
  const double sum = a.value + b.value;
  return {sum, a.off + b.off + kUnit * (std::fabs(sum) + a.off + b.off)};
}

Value multiplied(Value a, Value b) {
  const double product = a.value * b.value;
  const double off = std::fabs(a.value) * b.off + std::fabs(b.value) * a.off + a.off * b.off;
  return {product, off + kUnit * (std::fabs(product) + off) + 0x1p-149};
}

// The slope is at most 1/4. exp is off by a unit in the last place, two units of rounding; so may
// the sum be in consequence, whose own rounding and that of the quotient make 6.
Value sigmoid(Value x) {
  return {1 / (1 + std::exp(-x.value)), x.off / 4 + 6 * kUnit};
}

// The slope is at most 1; two units in the last place are 4 of rounding.
Value hyperbolic(Value x) {
  return {std::tanh(x.value), x.off + 4 * kUnit};
}

Value rest_of_one(Value z) {
  return {1 - z.value, z.off + kUnit};
}

// One step of one sequence: x is its token, h and c its state.
struct Oracle {
  const Recurrent &call;

  Value from_x(int64_t token, int64_t o) const {
    Sum sum;
    for (int64_t i = 0; i < call.x.width(); ++i) {
      sum.add(call.weight_x.at(0, o, 0, i), {call.x.of_token(token, i), 0});
    }
    if (!call.bias_x.absent()) sum.add(1, {call.bias_x.at(0, 0, 0, o), 0});
    return sum.result();
  }

  Value from_h(const Values &h, int64_t o) const {
    Sum sum;
    for (size_t i = 0; i < h.size(); ++i) {
      sum.add(call.weight_h.at(0, o, 0, static_cast<int64_t>(i)), h[i]);
    }
    if (!call.bias_h.absent()) sum.add(1, {call.bias_h.at(0, 0, 0, o), 0});
    return sum.result();
  }

  Value gate(int64_t token, const Values &h, int64_t number, int64_t j) const {
    const int64_t o = number * call.hidden() + j;
    return added(from_x(token, o), from_h(h, o));
  }

  Value gru(int64_t token, const Values &h, int64_t j) const {
    const int64_t of_n = 2 * call.hidden() + j;
    const Value r = sigmoid(gate(token, h, 0, j)), z = sigmoid(gate(token, h, 1, j));
    const Value n = hyperbolic(added(from_x(token, of_n), multiplied(r, from_h(h, of_n))));
    return added(multiplied(rest_of_one(z), n), multiplied(z, h[static_cast<size_t>(j)]));
  }

  Value lstm(int64_t token, const Values &h, int64_t j, Value *c) const {
    const Value i = sigmoid(gate(token, h, 0, j)), f = sigmoid(gate(token, h, 1, j));
    const Value g = hyperbolic(gate(token, h, 2, j)), o = sigmoid(gate(token, h, 3, j));
    *c = added(multiplied(f, *c), multiplied(i, g));
    return multiplied(o, hyperbolic(*c));
  }

  void step(int64_t token, Values *h, Values *c) const {
    Values next(h->size());
    for (size_t j = 0; j < next.size(); ++j) {
      const auto at = static_cast<int64_t>(j);
      next[j] = call.is_lstm() ? lstm(token, *h, at, &(*c)[j]) : gru(token, *h, at);
    }
    *h = next;
  }
};

Values first_of(const Tokens &first, int64_t b, int64_t hidden) {
  Values made(static_cast<size_t>(hidden));
  for (int64_t j = 0; j < hidden && !first.absent(); ++j) {
    made[static_cast<size_t>(j)].value = first.at(b, 0, 0, j);
  }
  return made;
}

double worst_bound = 0;  // so that no test passes because its bound is vacuous

void expect_near(const Tokens &out, int64_t b, int64_t t, const Values &truth) {
  if (out.absent()) return;
  const uint32_t type = out.view().dtype;
  for (size_t j = 0; j < truth.size(); ++j) {
    const Value v = truth[j];
    const double rounded = unit_roundoff(type) * (std::fabs(v.value) + v.off) + half_step(type);
    worst_bound = std::max(worst_bound, v.off);
    ASSERT_NEAR(out.at(b, t, 0, static_cast<int64_t>(j)), v.value, v.off + rounded)
        << "sequence " << b << ", token " << t << ", unit " << j;
  }
}

void expect_sequence(const Recurrent &call, int64_t b) {
  const Oracle oracle = {call};
  Values h = first_of(call.h_first, b, call.hidden()), c = first_of(call.c_first, b, call.hidden());
  const int64_t length = call.length(b);
  for (int64_t s = 0; s < length; ++s) {
    const int64_t t = call.reverse ? length - 1 - s : s;
    oracle.step(b * call.len() + t, &h, &c);
    ASSERT_NO_FATAL_FAILURE(expect_near(call.states, b, t, h));
  }
  const Values zeros(h.size());
  for (int64_t t = length; t < call.len(); ++t) {
    ASSERT_NO_FATAL_FAILURE(expect_near(call.states, b, t, zeros));
  }
  ASSERT_NO_FATAL_FAILURE(expect_near(call.h_last, b, 0, h));
  ASSERT_NO_FATAL_FAILURE(expect_near(call.c_last, b, 0, c));
}

void expect_right(const Recurrent &call) {
  ASSERT_NO_FATAL_FAILURE(run(call.args()));
  for (const Tokens *out : {&call.states, &call.h_last, &call.c_last}) {
    ASSERT_EQ(out->absent() ? "" : out->wrong(), "");
  }
  for (int64_t b = 0; b < call.batch(); ++b) ASSERT_NO_FATAL_FAILURE(expect_sequence(call, b));
}

void expect_same_bits(const Tokens &a, const Tokens &b) {
  ASSERT_EQ(a.tokens(), b.tokens());
  for (int64_t token = 0; token < a.tokens(); ++token) {
    for (int64_t j = 0; j < a.width(); ++j) {
      ASSERT_EQ(a.of_token(token, j), b.of_token(token, j)) << "token " << token << ", unit " << j;
    }
  }
}

// ---- Draws ----

uint32_t any_type(Choices *choices) {
  const uint32_t types[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  return types[choices->below(3)];
}

// Fills the tokens within the lengths; past them NaN stays.
void fill_within_lengths(Recurrent *call, uint64_t seed) {
  const fovea_tensor view = call->x.view();
  for (int64_t b = 0; b < call->batch(); ++b) {
    for (int64_t t = 0; t < call->length(b); ++t) {
      for (int64_t i = 0; i < call->x.width(); ++i) {
        const double value = normal(mix(seed, static_cast<uint64_t>(b), static_cast<uint64_t>(t),
                                        static_cast<uint64_t>(i)));
        call->x.set(b, t, i / view.shape[3], i % view.shape[3], value);
      }
    }
  }
}

void draw_lengths(Recurrent *call, Choices *choices) {
  for (int64_t b = 0; b < call->batch(); ++b) {
    const int64_t any = choices->below(call->len() + 6) - 3;
    const int64_t odd[] = {any, any, 0, INT32_MIN, INT32_MAX};
    call->lengths.push_back(static_cast<int32_t>(odd[choices->below(5)]));
  }
}

// Sizes of a draw: most are small; some have more rows than are multiplied at a time, by their
// tokens or by their sequences.
struct Sizes {
  int64_t batch, len, heads, width, hidden;
};

Sizes draw_sizes(Choices *choices) {
  switch (choices->below(20)) {
    case 0:
      return {1 + choices->below(3), 250 + choices->below(30), 1, 3, 1 + choices->below(5)};
    case 1:
      return {250 + choices->below(20), choices->below(4), 1, 3, 1 + choices->below(5)};
    case 2:
      return {2, 2, 1, 5, 65 + choices->below(30)};
    default:
      return {choices->below(5), choices->below(9), 1 + choices->below(3), choices->below(17),
              1 + choices->below(20)};
  }
}

// A call without numbers.
Recurrent shaped(const Sizes &sizes, Choices *choices, uint32_t cell) {
  Recurrent made;
  const auto layout = [&](int64_t count) { return static_cast<Layout>(choices->below(count)); };
  const int64_t outputs = (cell == FOVEA_CELL_GRU ? 3 : 4) * sizes.hidden;
  const int64_t in = sizes.heads * sizes.width;
  const Shape state = {sizes.batch, 1, 1, sizes.hidden};
  const auto states = [&](int64_t odds) {
    return choices->below(odds) == 0 ? Tokens()
                                     : Tokens(any_type(choices), state, layout(kTokenLayouts));
  };
  made.cell = cell;
  made.x = Tokens(any_type(choices), {sizes.batch, sizes.len, sizes.heads, sizes.width},
                  layout(kTokenLayouts));
  made.weight_x = Tokens(any_type(choices), {1, outputs, 1, in}, layout(kLayouts));
  made.weight_h = Tokens(any_type(choices), {1, outputs, 1, sizes.hidden}, layout(kLayouts));
  if (choices->one_in(2)) made.bias_x = Tokens(any_type(choices), {1, 1, 1, outputs});
  if (choices->one_in(2)) made.bias_h = Tokens(any_type(choices), {1, 1, 1, outputs});
  made.h_first = states(2), made.h_last = states(3);
  if (cell == FOVEA_CELL_LSTM) made.c_first = states(2), made.c_last = states(3);
  if (!choices->one_in(4)) {
    made.states =
        Tokens(any_type(choices), {sizes.batch, sizes.len, 1, sizes.hidden}, layout(kTokenLayouts));
  }
  return made;
}

// Over many steps weights of h must be small, or bounds grow from one to the next.
void fill(Recurrent *call, uint64_t seed) {
  const double size_h = call->len() > 20 ? 0.1 : 0.5;
  fill_within_lengths(call, seed);
  call->weight_x.fill_random(seed + 1, 1 / std::sqrt(static_cast<double>(call->x.width()) + 1));
  call->weight_h.fill_random(seed + 2, size_h / std::sqrt(static_cast<double>(call->hidden())));
  uint64_t more = seed + 3;
  for (Tokens *t : {&call->bias_x, &call->bias_h, &call->h_first, &call->c_first}) {
    if (!t->absent()) t->fill_random(more++, 0.7);
  }
}

Recurrent drawn(uint64_t seed) {
  Choices choices(seed);
  const uint32_t cell = choices.one_in(2) ? FOVEA_CELL_GRU : FOVEA_CELL_LSTM;
  Recurrent made = shaped(draw_sizes(&choices), &choices, cell);
  made.reverse = choices.one_in(2);
  if (choices.one_in(2)) draw_lengths(&made, &choices);
  fill(&made, seed);
  return made;
}

TEST(Recurrent, IsTheRecurrenceInEveryTypeAndLayout) {
  worst_bound = 0;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    expect_right(drawn(seed));
    if (testing::Test::HasFatalFailure()) return;
  }
  EXPECT_LT(worst_bound, 1e-3) << "a bound says nothing";
  RecordProperty("worst_bound", std::to_string(worst_bound));
}

// ---- Exact relations ----

// A call in f32 whose products round once, whatever their order: whole numbers, and one weight of h
// per gate and unit.
Recurrent exact_call(uint32_t cell, const Sizes &sizes) {
  Recurrent made;
  const int64_t outputs = (cell == FOVEA_CELL_GRU ? 3 : 4) * sizes.hidden;
  made.cell = cell;
  made.x = Tokens(FOVEA_F32, {sizes.batch, sizes.len, sizes.heads, sizes.width});
  made.weight_x = Tokens(FOVEA_BF16, {1, outputs, 1, sizes.heads * sizes.width});
  made.weight_h = Tokens(FOVEA_F16, {1, outputs, 1, sizes.hidden});
  made.bias_x = Tokens(FOVEA_F32, {1, 1, 1, outputs});
  made.bias_h = Tokens(FOVEA_F32, {1, 1, 1, outputs});
  made.h_first = Tokens(FOVEA_F32, {sizes.batch, 1, 1, sizes.hidden});
  made.h_last = Tokens(FOVEA_F32, {sizes.batch, 1, 1, sizes.hidden});
  if (cell == FOVEA_CELL_LSTM) {
    made.c_first = Tokens(FOVEA_F32, {sizes.batch, 1, 1, sizes.hidden});
    made.c_last = Tokens(FOVEA_F32, {sizes.batch, 1, 1, sizes.hidden});
    made.c_first.fill_random(6);
  }
  made.states = Tokens(FOVEA_F32, {sizes.batch, sizes.len, 1, sizes.hidden});
  made.x.fill_integers(1, 2);
  made.weight_x.fill_integers(2, 1);
  const int64_t hidden = sizes.hidden;
  made.weight_h.fill([=](int64_t n) {
    const int64_t o = n / hidden;
    return (5 * o + 1) % hidden == n % hidden ? normal(mix(3, static_cast<uint64_t>(o))) : 0;
  });
  made.bias_x.fill_random(4), made.bias_h.fill_random(5);
  made.h_first.fill_random(7);
  return made;
}

bool loops_multiply() {
  return std::strcmp(fovea_layers_blas(), "plain loops") == 0;
}

// A BLAS orders sums by the number of rows. Where no order rounds otherwise, and in plain loops
// always, steps and the sequence have the same bits.
TEST(Recurrent, InStepsHasTheBitsOfOneCall) {
  for (const uint32_t cell : {FOVEA_CELL_GRU, FOVEA_CELL_LSTM}) {
    for (const int64_t batch : {1, 3}) {
      for (const bool random : {false, true}) {
        if (random && !loops_multiply()) continue;
        const Sizes sizes = {batch, 270, 2, 4, 6};
        Recurrent call = exact_call(cell, sizes);
        if (random) fill(&call, 9);
        ASSERT_NO_FATAL_FAILURE(run(call.args()));
        Tokens states(FOVEA_F32, {batch, sizes.len, 1, sizes.hidden});
        for (int64_t t = 0; t < sizes.len; ++t) {
          fovea_recurrent_args step = call.args();
          for (fovea_tensor *tensor : {&step.x, &step.states}) tensor->shape[1] = 1;
          step.x.data = static_cast<float *>(step.x.data) + t * step.x.stride[1];
          step.states = states.view();
          step.states.shape[1] = 1;
          step.states.data = static_cast<float *>(step.states.data) + t * step.states.stride[1];
          step.h_last = step.h_first, step.c_last = step.c_first;
          ASSERT_NO_FATAL_FAILURE(run(step));
        }
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.states, states));
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.h_last, call.h_first));
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.c_last, call.c_first));
      }
    }
  }
}

// Each sequence is turned round within its length, so that step s reads the same token.
TEST(Recurrent, BackwardsIsTheReversedSequenceForwardsBitForBit) {
  for (uint64_t seed = 1000; seed < 1100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Recurrent back = drawn(seed), forth = drawn(seed);
    if (back.states.absent()) continue;
    back.reverse = true, forth.reverse = false;
    const fovea_tensor view = forth.x.view();
    for (int64_t b = 0; b < forth.batch(); ++b) {
      for (int64_t t = 0; t < forth.length(b); ++t) {
        for (int64_t i = 0; i < forth.x.width(); ++i) {
          const int64_t h = i / view.shape[3], d = i % view.shape[3];
          forth.x.set(b, t, h, d, back.x.at(b, back.length(b) - 1 - t, h, d));
        }
      }
    }
    ASSERT_NO_FATAL_FAILURE(run(back.args()));
    ASSERT_NO_FATAL_FAILURE(run(forth.args()));
    for (int64_t b = 0; b < forth.batch(); ++b) {
      for (int64_t n = 0; n < forth.length(b) * forth.hidden(); ++n) {
        const int64_t t = n / forth.hidden(), j = n % forth.hidden();
        ASSERT_EQ(forth.states.at(b, t, 0, j), back.states.at(b, back.length(b) - 1 - t, 0, j));
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(back.h_last, forth.h_last));
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(back.c_last, forth.c_last));
  }
}

// x as a BLAS takes it where it lies, in both orders of its rows, and one that is gathered.
TEST(Recurrent, OfTokensPastALengthNoBitDepends) {
  for (const Layout layout : {kContiguous, kLenFirst, kHeadsFirst}) {
    for (const int64_t batch : {1, 4}) {
      Recurrent call = exact_call(FOVEA_CELL_GRU, {batch, 9, 2, 4, 6});
      call.x = Tokens(FOVEA_F32, {batch, 9, 2, 4}, layout);
      for (int64_t b = 0; b < batch; ++b) call.lengths.push_back(static_cast<int32_t>(7 - 3 * b));
      fill_within_lengths(&call, 1);
      ASSERT_NO_FATAL_FAILURE(run(call.args()));
      Recurrent clean = exact_call(FOVEA_CELL_GRU, {batch, 9, 2, 4, 6});
      clean.lengths = call.lengths;
      clean.x = Tokens(FOVEA_F32, {batch, 9, 2, 4}, layout);
      clean.x.fill([](int64_t) { return 1; });
      fill_within_lengths(&clean, 1);
      ASSERT_NO_FATAL_FAILURE(run(clean.args()));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.states, clean.states));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.h_last, clean.h_last));
    }
  }
}

TEST(Recurrent, WritesTheHalvesOfOneTensorInTwoCalls) {
  const Sizes sizes = {3, 8, 1, 4, 5};
  Tokens both(FOVEA_BF16, {3, 8, 2, 5}, kGaps);
  for (const bool reverse : {false, true}) {
    Recurrent call = exact_call(FOVEA_CELL_LSTM, sizes);
    call.reverse = reverse;
    call.lengths = {8, 0, 5};
    call.states = Tokens(FOVEA_BF16, {3, 8, 1, 5});
    ASSERT_NO_FATAL_FAILURE(run(call.args()));
    fovea_recurrent_args half = call.args();
    half.states = both.view();
    half.states.shape[2] = 1;
    half.states.data = static_cast<uint16_t *>(half.states.data) + reverse * half.states.stride[2];
    ASSERT_NO_FATAL_FAILURE(run(half));
    for (int64_t token = 0; token < 24; ++token) {
      for (int64_t j = 0; j < 5; ++j) {
        ASSERT_EQ(both.of_token(token, reverse * 5 + j), call.states.of_token(token, j));
      }
    }
  }
  EXPECT_EQ(both.wrong(), "");
}

// All gates are 1/2 and what they let in is 0, so each step halves the state exactly.
TEST(Recurrent, WithoutWeightsHalvesTheStateExactly) {
  for (const uint32_t cell : {FOVEA_CELL_GRU, FOVEA_CELL_LSTM}) {
    Recurrent call = exact_call(cell, {2, 10, 1, 3, 4});
    call.bias_x = Tokens(), call.bias_h = Tokens();
    call.weight_x.fill([](int64_t) { return 0; });
    call.weight_h.fill([](int64_t) { return 0; });
    ASSERT_NO_FATAL_FAILURE(run(call.args()));
    const Tokens &first = call.is_lstm() ? call.c_first : call.h_first;
    const Tokens &last = call.is_lstm() ? call.c_last : call.h_last;
    for (int64_t n = 0; n < 8; ++n) {
      const double halved = first.at(n / 4, 0, 0, n % 4) / 1024;
      EXPECT_EQ(last.at(n / 4, 0, 0, n % 4), halved);
      if (call.is_lstm()) {
        const float h = 0.5F * std::tanh(static_cast<float>(halved));
        EXPECT_EQ(call.h_last.at(n / 4, 0, 0, n % 4), h);
      }
    }
  }
}

// Biases of 100 open or shut a gate exactly.
TEST(Recurrent, KeepsItsStateExactlyWhereTheGateSaysSo) {
  Recurrent gru = exact_call(FOVEA_CELL_GRU, {2, 6, 1, 3, 4});
  gru.bias_x.fill([](int64_t n) { return n / 4 == 1 ? 100 : 0; });  // z = 1
  ASSERT_NO_FATAL_FAILURE(run(gru.args()));
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(gru.h_last, gru.h_first));
  Recurrent lstm = exact_call(FOVEA_CELL_LSTM, {2, 6, 1, 3, 4});
  const double open[] = {-200, 200, 0, 0};  // i = 0, f = 1
  lstm.bias_h.fill([&](int64_t n) { return open[n / 4]; });
  ASSERT_NO_FATAL_FAILURE(run(lstm.args()));
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(lstm.c_last, lstm.c_first));
}

TEST(Recurrent, WithoutStepsPassesTheStateOn) {
  for (const int64_t len : {0, 3}) {
    Recurrent call = exact_call(FOVEA_CELL_LSTM, {2, len, 1, 3, 4});
    call.lengths = {-1, 0};
    ASSERT_NO_FATAL_FAILURE(run(call.args()));
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.h_last, call.h_first));
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(call.c_last, call.c_first));
    for (int64_t n = 0; n < 2 * len * 4; ++n) EXPECT_EQ(call.states.of_token(n / 4, n % 4), 0);
  }
  Recurrent nothing = exact_call(FOVEA_CELL_GRU, {2, 3, 1, 3, 0});
  ASSERT_NO_FATAL_FAILURE(run(nothing.args()));
  EXPECT_EQ(nothing.states.wrong(), "");
}

// A step needs room for its own tokens alone.
TEST(Recurrent, NeedsLessWorkspaceForFewerTokens) {
  size_t before = 0;
  for (const int64_t len : {1, 2, 100, 200}) {
    const fovea_recurrent_args args = exact_call(FOVEA_CELL_LSTM, {1, len, 1, 3, 40}).args();
    size_t bytes = 0;
    ASSERT_EQ(fovea_recurrent_workspace(shared_cpu(), &args, &bytes), FOVEA_OK);
    EXPECT_GT(bytes, before) << len;
    before = bytes;
  }
}

// A stride of 0: all sequences read the same tokens, and begin in the same state.
TEST(Recurrent, ReadsInputsThatSequencesShare) {
  Recurrent call = exact_call(FOVEA_CELL_GRU, {3, 6, 2, 4, 5});
  fovea_recurrent_args args = call.args();
  args.x.stride[0] = args.h_first.stride[0] = 0;
  ASSERT_NO_FATAL_FAILURE(run(args));
  Recurrent one = exact_call(FOVEA_CELL_GRU, {1, 6, 2, 4, 5});
  ASSERT_NO_FATAL_FAILURE(run(one.args()));
  for (int64_t token = 0; token < 18; ++token) {
    for (int64_t j = 0; j < 5; ++j) {
      ASSERT_EQ(call.states.of_token(token, j), one.states.of_token(token % 6, j));
    }
  }
}

// ---- Refusals ----

struct Refusal {
  const char *name;
  std::function<void(fovea_recurrent_args *)> spoil;
  const char *detail;
};

using Args = fovea_recurrent_args;

const Refusal kRefusals[] = {
    {"small struct", [](Args *a) { a->struct_size = 24; }, "struct_size"},
    {"no cell", [](Args *a) { a->cell = 0; }, "cell is 0"},
    {"cell", [](Args *a) { a->cell = 3; }, "cell is 3"},
    {"reverse", [](Args *a) { a->reverse = 2; }, "reverse is 2"},
    {"c_first of a GRU", [](Args *a) { a->cell = FOVEA_CELL_GRU; }, "c_first is for an LSTM"},
    {"c_last of a GRU", [](Args *a) { a->cell = FOVEA_CELL_GRU, a->c_first = fovea_tensor(); },
     "c_last is for an LSTM"},
    {"weights of another cell",
     [](Args *a) { a->cell = FOVEA_CELL_GRU, a->c_first = a->c_last = fovea_tensor(); },
     "weight_h.shape[1] is 20, must be 15"},
    {"x", [](Args *a) { a->x = fovea_tensor(); }, "x.dtype is 0"},
    {"no weight_h", [](Args *a) { a->weight_h = fovea_tensor(); }, "weight_h.dtype is 0"},
    {"no weight_x", [](Args *a) { a->weight_x = fovea_tensor(); }, "weight_x.dtype is 0"},
    {"weight_x's input", [](Args *a) { a->weight_x.shape[3] = 5; },
     "weight_x.shape[3] is 5, must be 4"},
    {"weight_x's output", [](Args *a) { a->weight_x.shape[1] = 15; },
     "weight_x.shape[1] is 15, must be 20"},
    {"weight_h's extent", [](Args *a) { a->weight_h.shape[2] = 2; },
     "weight_h.shape[2] is 2, must be 1"},
    {"bias_x", [](Args *a) { a->bias_x.shape[3] = 5; }, "bias_x.shape[3] is 5, must be 20"},
    {"bias_h", [](Args *a) { a->bias_h.dtype = FOVEA_U8; }, "bias_h.dtype"},
    {"h_first", [](Args *a) { a->h_first.shape[0] = 1; }, "h_first.shape[0] is 1, must be 2"},
    {"c_first", [](Args *a) { a->c_first.shape[1] = 2; }, "c_first.shape[1] is 2, must be 1"},
    {"states", [](Args *a) { a->states.shape[1] = 2; }, "states.shape[1] is 2, must be 3"},
    {"states' width", [](Args *a) { a->states.shape[3] = 4; }, "states.shape[3] is 4, must be 5"},
    {"h_last", [](Args *a) { a->h_last.shape[3] = 4; }, "h_last.shape[3] is 4, must be 5"},
    {"c_last", [](Args *a) { a->c_last.data = nullptr; }, "c_last.data"},
    {"odd lengths",
     [](Args *a) {
       a->lengths =
           reinterpret_cast<const int32_t *>(reinterpret_cast<const char *>(a->lengths) + 2);
     },
     "lengths is"},
    {"twice", [](Args *a) { a->states.stride[0] = 0; }, "states.stride[0] is 0"},
    {"h_last twice", [](Args *a) { a->h_last.stride[0] = 0; }, "h_last.stride[0] is 0"},
    {"states in x", [](Args *a) { a->states.data = a->x.data; }, "states overlaps x"},
    {"states in h_first", [](Args *a) { a->h_first.data = a->states.data; },
     "states overlaps h_first"},
    {"states in weight_x", [](Args *a) { a->weight_x.data = a->states.data; },
     "states overlaps weight_x"},
    {"states in weight_h", [](Args *a) { a->weight_h.data = a->states.data; },
     "states overlaps weight_h"},
    {"states in bias_x", [](Args *a) { a->bias_x.data = a->states.data; },
     "states overlaps bias_x"},
    {"states in bias_h", [](Args *a) { a->bias_h.data = a->states.data; },
     "states overlaps bias_h"},
    {"states in lengths", [](Args *a) { a->lengths = static_cast<int32_t *>(a->states.data); },
     "states overlaps lengths"},
    {"h_last in c_first", [](Args *a) { a->h_last.data = a->c_first.data; },
     "h_last overlaps c_first"},
    {"h_last shifted in h_first",
     [](Args *a) {
       a->h_first = a->h_last;
       a->h_first.data = static_cast<float *>(a->h_last.data) + 1;
     },
     "h_last overlaps h_first"},
    {"h_last in states", [](Args *a) { a->h_last.data = a->states.data; },
     "states overlaps h_last"},
    {"c_last in states", [](Args *a) { a->c_last.data = a->states.data; },
     "states overlaps c_last"},
    {"c_last in h_last", [](Args *a) { a->c_last.data = a->h_last.data; },
     "h_last overlaps c_last"},
    {"workspace", [](Args *a) { a->workspace_bytes -= 1; }, "workspace_bytes"},
    {"no workspace", [](Args *a) { a->workspace = nullptr; }, "workspace"},
    {"crooked workspace", [](Args *a) { a->workspace = static_cast<char *>(a->workspace) + 64; },
     "aligned to 256"},
};

TEST(Recurrent, RefusesWhatBreaksARuleByNameAndWritesNothing) {
  Recurrent call = exact_call(FOVEA_CELL_LSTM, {2, 3, 1, 4, 5});
  call.lengths = {3, 2};
  Args good = call.args();
  ASSERT_EQ(fovea_recurrent_workspace(shared_cpu(), &good, &good.workspace_bytes), FOVEA_OK);
  Workspace workspace(good.workspace_bytes);
  good.workspace = workspace.data();
  for (const Refusal &refusal : kRefusals) {
    Args bad = good;
    refusal.spoil(&bad);
    EXPECT_EQ(fovea_recurrent(shared_cpu(), &bad, nullptr), FOVEA_BAD_ARGUMENT) << refusal.name;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(refusal.detail)) << refusal.name;
    for (const Tokens *out : {&call.states, &call.h_last, &call.c_last}) {
      EXPECT_THAT(out->wrong(), testing::HasSubstr("not written: element 0")) << refusal.name;
    }
  }
  EXPECT_EQ(fovea_recurrent(nullptr, &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_recurrent(shared_cpu(), nullptr, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_recurrent_workspace(shared_cpu(), &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_recurrent(shared_cpu(), &good, nullptr), FOVEA_OK);
}

}  // namespace
}  // namespace fovea_test
