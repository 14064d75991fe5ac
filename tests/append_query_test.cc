// append_query_test.cc - the queries that fovea_kv_append prepares, and its norms.
//
// As in append_test.cc, all memory of a case is compared byte by byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>

#include "tests/append_case.h"

namespace fovea_test {
namespace {

TEST(AppendQuery, IsWhatTheHeaderDefinesInRandomCases) {
  uint32_t bits_seen = 0;
  int prepared = 0, alone = 0, in_place = 0, normed[2] = {};
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    Case c = with_queries(random_case(seed), seed);
    const fovea_device device = seed % 4 ? FOVEA_DEVICE_CPU : FOVEA_DEVICE_REFERENCE;
    expect_as_defined(c, 1, device, "seed " + std::to_string(seed));
    ASSERT_FALSE(HasFailure());
    Case after = c;
    append(after.args());
    prepared += after.q_out != c.q_out || after.q != c.q;
    alone += c.fixed.k_new.dtype == 0 && c.fixed.v_new.dtype == 0;
    in_place += after.q != c.q;
    for (auto *gain : {&c.q_gain, &c.k_gain}) normed[gain == &c.k_gain] += !gain->empty();
    for (uint32_t bits : after.errors) bits_seen |= bits;
  }
  EXPECT_GT(prepared, 4000);
  EXPECT_GT(alone, 1000);
  EXPECT_GT(in_place, 1000);
  EXPECT_GT(normed[0], 3000);
  EXPECT_GT(normed[1], 2000);
  EXPECT_EQ(bits_seen, 0x80000000u | FOVEA_BAD_LENGTH | FOVEA_BAD_PAGE | FOVEA_BAD_OFFSET |
                           FOVEA_BAD_POSITION | FOVEA_BAD_SLOT);
}

// ---- A query of known bits -------------------------------------------------------------------

// Tokens of f32 queries, each of one head with these elements; nothing else.
Case queries(const std::vector<std::vector<float>> &rows, int64_t heads = 1) {
  Case c;
  const auto tokens = static_cast<int64_t>(rows.size()) / heads;
  const auto dim = static_cast<int64_t>(rows[0].size());
  c.fixed.q = c.fixed.q_out = view(FOVEA_F32, 1, tokens, heads, dim);
  for (const auto &row : rows) {
    for (float x : row) {
      c.q.insert(c.q.end(), 4, 0);
      std::memcpy(&c.q[c.q.size() - 4], &x, 4);
    }
  }
  c.q_out.assign(c.q.size(), kCanary);
  c.errors = {0};
  return c;
}

std::vector<float> floats(const std::vector<uint8_t> &memory) {
  std::vector<float> values(memory.size() / 4);
  std::memcpy(values.data(), memory.data(), memory.size());
  return values;
}

std::vector<float> prepared(Case c) {
  append(c.args());
  return floats(c.q_out);
}

// A quarter turn takes (x, y) to (-y, x): cos 0 and sin 1 in every row.
void turn(Case *c, int64_t rows, int32_t rotary_dim, uint32_t style = FOVEA_ROPE_HALF_SPLIT) {
  c->cos.assign(static_cast<size_t>(rows * rotary_dim / 2), 0.0f);
  c->sin.assign(static_cast<size_t>(rows * rotary_dim / 2), 1.0f);
  c->fixed.rope.rows = rows;
  c->fixed.rope.stride = rotary_dim / 2;
  c->fixed.rope.rotary_dim = rotary_dim;
  c->fixed.rope.style = style;
}

using Floats = std::vector<float>;

TEST(AppendQuery, IsTurnedLikeAKey) {
  Case c = queries({{1, 2, 3, 4, 5, 6, 7}});
  c.positions = {0};
  turn(&c, 1, 6);
  EXPECT_EQ(prepared(c), (Floats{-4, -5, -6, 1, 2, 3, 7}));
  turn(&c, 1, 6, FOVEA_ROPE_INTERLEAVED);
  EXPECT_EQ(prepared(c), (Floats{-2, 1, -4, 3, -6, 5, 7}));
}

// The mean square is 4, plus 5 makes 9, of which the root is exact.
TEST(AppendNorm, DividesByTheRootOfMeanSquareAndEps) {
  Case c = queries({{2, -2, 2, 2}});
  c.q_gain = {1, 3, 0, -1};
  c.fixed.q_norm.eps = 5;
  const float third = 1.0f / 3;
  EXPECT_EQ(prepared(c), (Floats{2 * third, -2 * third * 3, 0, -2 * third}));
  c.fixed.q_norm.unit_offset = 1;
  EXPECT_EQ(prepared(c), (Floats{2 * third * 2, -2 * third * 4, 2 * third, 0}));
}

TEST(AppendNorm, ComesBeforeTheRotation) {
  Case c = queries({{2, 2, 2, 2}});
  c.positions = {0};
  turn(&c, 1, 2);
  c.q_gain = {1, 3, 5, 7};
  c.fixed.q_norm.eps = 0x1p-149f;
  EXPECT_EQ(prepared(c), (Floats{-3, 1, 5, 7}));
}

// 2^24 + 1 rounds to 2^24, 2^24 + 2 does not. The squares of one part are added one after the
// other, those of two parts only at the end.
TEST(AppendNorm, AddsSquaresIn32Parts) {
  const float big = 4096;  // its square is 2^24
  std::vector<float> row(128, 0.0f);
  row[0] = big;
  row[32] = row[64] = row[96] = 1;  // one after the other they vanish
  Case c = queries({row});
  c.q_gain.assign(128, 1);
  c.fixed.q_norm.eps = 0x1p-149f;
  const auto value = [&](float sum) { return big * (1 / std::sqrt(sum / 128)); };
  EXPECT_EQ(prepared(c)[0], value(0x1p24f));
  row[64] = row[96] = 0;
  row[32] = 0;
  row[1] = row[33] = 1;  // 2 together
  c = queries({row});
  c.q_gain.assign(128, 1);
  c.fixed.q_norm.eps = 0x1p-149f;
  EXPECT_EQ(prepared(c)[0], value(0x1p24f + 2));
  row[33] = 0;
  row[17] = 1;  // part 17 comes to part 1 before that comes to part 0
  c = queries({row});
  c.q_gain.assign(128, 1);
  c.fixed.q_norm.eps = 0x1p-149f;
  EXPECT_EQ(prepared(c)[0], value(0x1p24f + 2));
  ASSERT_NE(value(0x1p24f + 2), value(0x1p24f)) << "the test can tell them apart";
}

// Heads with mean squares 1 and 49 have 25 together.
TEST(AppendNorm, TakesTheMeanOfAllHeadsIfAsked) {
  const std::vector<float> one(4, 1.0f), seven(4, 7.0f);
  Case c = queries({one, seven}, 2);
  c.q_gain = {1, 1, 1, 1, 4, 4, 4, 4};
  c.fixed.q_norm = {nullptr, 4, 0x1p-100f, 0, FOVEA_NORM_TOKEN, {}};
  const Floats all = prepared(c);
  const float fifth = 1.0f / 5, seventh = 1.0f / 7;
  EXPECT_EQ(all[0], fifth);
  EXPECT_EQ(all[4], 7 * fifth * 4);
  c.fixed.q_norm.scope = FOVEA_NORM_HEAD;
  EXPECT_EQ(prepared(c)[0], 1.0f);
  EXPECT_EQ(prepared(c)[4], 7 * seventh * 4);
}

// Of one head both means are the same number.
TEST(AppendNorm, OfATokenIsThatOfItsOnlyHead) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Case c = with_queries(random_case(seed), seed);
    if (c.q_gain.empty() || c.fixed.q.shape[2] != 1) continue;
    c.k_gain.clear();
    c.v_gain.clear();
    c.fixed.k_norm = c.fixed.v_norm = fovea_norm{};
    Case other = c;
    other.fixed.q_norm.scope ^= 1;
    append(c.args());
    append(other.args());
    EXPECT_EQ(c.q_out, other.q_out) << seed;
    EXPECT_EQ(c.q, other.q) << seed;
  }
}

// ---- The same head as key, value and query ---------------------------------------------------

TEST(AppendQuery, HasTheBitsThatTheSameKeyHas) {
  Draw draw(3);
  for (uint32_t to : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3}) {
    for (uint32_t from : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
      Case c;
      c.fixed.k_new = c.fixed.q = view(from, 1, 7, 3, 40);
      c.fixed.k_cache = c.fixed.q_out = view(to, 1, 7, 3, 40);
      c.kv_lengths = {0};
      turn(&c, 7, 24, draw.chance(2) ? FOVEA_ROPE_HALF_SPLIT : FOVEA_ROPE_INTERLEAVED);
      for (float &x : c.cos) x = draw.number();
      for (float &x : c.sin) x = draw.number();
      c.k_new = c.q = draw.fill(c.fixed.q);
      c.cache.assign(7 * 3 * 40 * size_of(to), kCanary);
      c.q_out = c.cache;
      if (to == FOVEA_E4M3) {
        c.fixed.k_scale = c.fixed.q_scale = view(FOVEA_F32, 1, 1, 3, 5);
        c.k_scale = c.q_scale = draw.fill(c.fixed.k_scale);
      }
      for (int i = 0; i < 120; ++i) c.k_gain.push_back(draw.number());
      c.q_gain = c.k_gain;
      c.fixed.q_norm = c.fixed.k_norm = {nullptr, 40, 1e-5f, 1, FOVEA_NORM_TOKEN, {}};
      append(c.args());
      EXPECT_EQ(c.q_out, c.cache) << from << " to " << to;
      EXPECT_GT(std::count_if(c.q_out.begin(), c.q_out.end(),
                              [](uint8_t byte) { return byte != kCanary; }),
                800);
    }
  }
}

TEST(AppendNorm, OfValuesIsNotRotated) {
  Case c;
  c.fixed.k_new = c.fixed.v_new = view(FOVEA_F32, 1, 1, 1, 4);
  c.fixed.k_cache = c.fixed.v_cache = view(FOVEA_F32, 1, 1, 1, 4);
  const float twos[] = {2, 2, 2, 2};
  c.k_new.resize(16);
  std::memcpy(c.k_new.data(), twos, 16);
  c.v_new = c.k_new;
  c.cache.assign(32, kCanary);
  c.v_offset = 16;
  c.kv_lengths = {0};
  turn(&c, 1, 4);
  c.v_gain = {1, 2, 3, 4};
  c.fixed.v_norm.eps = 0x1p-149f;
  append(c.args());
  EXPECT_EQ(floats(c.cache), (Floats{-2, -2, 2, 2, 1, 2, 3, 4}));
}

// ---- Rows of zeros ---------------------------------------------------------------------------

// Four tokens of two sequences, whose keys go to slots of a cache of four.
Case slotted() {
  Case c = queries({{1, 1}, {2, 2}, {3, 3}, {4, 4}});
  c.fixed.q = c.fixed.q_out = view(FOVEA_F32, 2, 2, 1, 2);
  c.fixed.k_new = view(FOVEA_F32, 2, 2, 1, 2);
  c.k_new = c.q;
  c.fixed.k_cache = view(FOVEA_F32, 4, 1, 1, 2);
  c.cache.assign(32, 0);
  c.slots = {0, 1, 2, 3};
  c.errors = {0, 0};
  return c;
}

TEST(AppendQuery, OfPaddingIsZeros) {
  Case c = slotted();
  c.slots = {0, -1, INT64_MIN, 3};
  c.positions = {0, INT_MIN, 77, 0};
  turn(&c, 1, 2);
  append(c.args());
  EXPECT_EQ(floats(c.q_out), (Floats{-1, 1, 0, 0, 0, 0, -4, 4}));
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, 0}));
}

TEST(AppendQuery, NeedsNoPlaceInTheCache) {
  Case c = slotted();
  c.slots = {0, 4, INT64_MAX, 3};
  append(c.args());
  EXPECT_EQ(floats(c.q_out), (Floats{1, 1, 2, 2, 3, 3, 4, 4}));
  EXPECT_EQ(floats(c.cache), (Floats{1, 1, 0, 0, 0, 0, 4, 4}));
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_SLOT, FOVEA_BAD_SLOT}));
}

TEST(AppendQuery, WithoutARowOfTheTableIsZeros) {
  Case c = slotted();
  c.positions = {0, 1, -1, INT_MAX};
  turn(&c, 1, 2);
  append(c.args());
  EXPECT_EQ(floats(c.q_out), (Floats{-1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(floats(c.cache), (Floats{-1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_POSITION, FOVEA_BAD_POSITION}));
}

TEST(AppendQuery, OfANegativeLengthIsZerosOnlyWhereItsPositionIsUnknown) {
  Case c = slotted();
  c.slots.clear();
  c.fixed.k_cache = view(FOVEA_F32, 2, 2, 1, 2);
  c.kv_lengths = {-1, 0};
  Case plain = c, positioned = c;
  turn(&c, 2, 2);
  append(c.args());
  EXPECT_EQ(floats(c.q_out), (Floats{0, 0, 0, 0, -3, 3, -4, 4}));
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_LENGTH, 0}));
  append(plain.args());
  EXPECT_EQ(floats(plain.q_out), (Floats{1, 1, 2, 2, 3, 3, 4, 4}));
  EXPECT_EQ(plain.errors, (std::vector<uint32_t>{FOVEA_BAD_LENGTH, 0}));
  turn(&positioned, 2, 2);
  positioned.positions = {0, 9, 0, 0};
  append(positioned.args());
  EXPECT_EQ(floats(positioned.q_out), (Floats{-1, 1, 0, 0, -3, 3, -4, 4}));
  EXPECT_EQ(positioned.errors, (std::vector<uint32_t>{FOVEA_BAD_LENGTH | FOVEA_BAD_POSITION, 0}));
  EXPECT_EQ(floats(positioned.cache), (Floats{0, 0, 0, 0, -3, 3, -4, 4}));
}

TEST(AppendQuery, StandsAtTheIndexInTheSequenceUnlessPositionsAreGiven) {
  Case c = queries({{1, 1}, {1, 1}});
  c.kv_lengths = {1};
  turn(&c, 3, 2);
  c.sin = {2, 3, 5};
  EXPECT_EQ(prepared(c), (Floats{-3, 3, -5, 5}));
  c.positions = {2, 0};
  EXPECT_EQ(prepared(c), (Floats{-5, 5, -2, 2}));
  c.kv_lengths.clear();
  EXPECT_EQ(prepared(c), (Floats{-5, 5, -2, 2}));
}

TEST(AppendQuery, ThatNoSequenceOwnsStays) {
  Case c = queries({{1, 1}, {2, 2}, {3, 3}, {4, 4}});
  c.fixed.sequences.count = 2;
  c.new_offsets = {1, 2, 3};
  c.errors = {0, 0};
  const float canary = floats(std::vector<uint8_t>(4, kCanary))[0];
  EXPECT_EQ(prepared(c), (Floats{canary, canary, 2, 2, 3, 3, canary, canary}));
}

TEST(AppendQuery, PastTheLengthOfItsSequenceStays) {
  Case c = slotted();
  c.q_lengths = {1, 0};
  append(c.args());
  const float canary = floats(std::vector<uint8_t>(4, kCanary))[0];
  EXPECT_EQ(floats(c.q_out), (Floats{1, 1, canary, canary, canary, canary, canary, canary}));
  EXPECT_EQ(floats(c.cache), (Floats{1, 1, 0, 0, 0, 0, 0, 0}));
}

// ---- Memory ----------------------------------------------------------------------------------

// One matrix product makes q, k and v of a token side by side; q is turned where it lies.
TEST(AppendQuery, MayLieBetweenKeysAndValuesInPlace) {
  Draw draw(11);
  const int64_t tokens = 5, dim = 16, heads = 3, width = (heads + 2) * dim;
  Case c;
  fovea_kv_append_args &a = c.fixed;
  a.q = view(FOVEA_BF16, 1, tokens, heads, dim);
  a.k_new = a.v_new = view(FOVEA_BF16, 1, tokens, 1, dim);
  for (fovea_tensor *t : {&a.q, &a.k_new, &a.v_new}) t->stride[1] = width;
  a.q_out = a.q;
  a.k_cache = a.v_cache = view(FOVEA_BF16, 1, tokens, 1, dim);
  c.cache.assign(static_cast<size_t>(4 * tokens * dim), kCanary);
  c.v_offset = static_cast<size_t>(2 * tokens * dim);
  c.kv_lengths = {0};
  turn(&c, tokens, dim);
  for (float &x : c.cos) x = draw.number();
  c.q_gain.assign(dim, 1.5f);
  a.q_norm.eps = 1e-6f;
  std::vector<uint8_t> whole(static_cast<size_t>(2 * tokens * width));
  for (size_t i = 0; i < whole.size(); i += 2)
    store_bits(FOVEA_BF16, &whole[i], encode(FOVEA_BF16, (double)draw.between(-99, 99)));
  std::vector<uint8_t> expected = whole;
  for (auto *memory : {&expected, &whole}) {
    fovea_kv_append_args args = c.args();
    args.q.data = args.q_out.data = memory->data();
    args.k_new.data = memory->data() + 2 * heads * dim;
    args.v_new.data = memory->data() + 2 * (heads + 1) * dim;
    if (memory == &whole) append(args);
    if (memory == &expected) append_by_definition(args);
  }
  EXPECT_EQ(expected, whole);
}

TEST(AppendQuery, ThatKeepsItsTypeAndIsLeftAloneIsCopiedBitByBit) {
  Case c;
  c.fixed.q = c.fixed.q_out = view(FOVEA_BF16, 1, 1, 1, 4);
  c.q = {0x81, 0x7f, 0xff, 0xff, 0x00, 0x80, 0x01, 0x00};
  c.q_out.assign(8, kCanary);
  append(c.args());
  EXPECT_EQ(c.q_out, c.q);
}

// 2^47 rows without elements leave nothing to do, so the call must return at once.
TEST(AppendQuery, DoesNotWalkTokensWithoutElements) {
  fovea_kv_append_args a = {};
  a.struct_size = sizeof a;
  a.q = a.q_out = view(FOVEA_F32, 1 << 16, INT_MAX, 0, 8);
  append(a);
}

// ---- Threads ---------------------------------------------------------------------------------

TEST(AppendQuery, IsTheSameWhateverTheNumberOfThreads) {
  Draw draw(5);
  Case c;
  fovea_kv_append_args &a = c.fixed;
  a.q = view(FOVEA_BF16, 2, 500, 4, 64);
  a.q_out = view(FOVEA_F16, 2, 500, 4, 64);
  a.k_new = view(FOVEA_F16, 2, 500, 2, 64);
  a.k_cache = view(FOVEA_E4M3, 1000, 1, 2, 64);
  c.q = draw.fill(a.q);
  c.k_new = draw.fill(a.k_new);
  c.q_out.assign(2 * 1000 * 4 * 64, kCanary);
  c.cache.assign(1000 * 2 * 64, kCanary);
  for (int i = 0; i < 1000; ++i) c.slots.push_back(draw.between(-100, 1005));
  c.q_gain.assign(64, 1);
  a.q_norm = {nullptr, 0, 1e-6f, 1, FOVEA_NORM_TOKEN, {}};
  c.errors = {0, 0};
  for (int threads = 1; threads <= 4; ++threads) {
    expect_as_defined(c, threads, FOVEA_DEVICE_CPU, std::to_string(threads) + " threads");
    ASSERT_FALSE(HasFailure());
  }
}

// Every row is written by one task.
struct Rows {
  std::vector<uint8_t> *memory;
  std::vector<int> writers;
  int64_t tasks = 0, busy = 0;  // busy: tasks that wrote anything
};

void watch_tasks(void *user, int64_t count, fovea_task task, void *context) {
  Rows *rows = static_cast<Rows *>(user);
  for (int64_t i = 0; i < count; ++i) {
    std::fill(rows->memory->begin(), rows->memory->end(), kCanary);
    task(context, i);
    bool wrote = false;
    for (size_t n = 0; n < rows->memory->size(); ++n) {
      const bool written = (*rows->memory)[n] != kCanary;
      rows->writers[n] += written;
      wrote = wrote || written;
    }
    rows->busy += wrote;
  }
  rows->tasks = count;
}

TEST(AppendQuery, IsWorkForAllThreads) {
  std::vector<float> row(256, 1.0f);
  Case c = queries(std::vector<std::vector<float>>(1024, row));
  Rows rows = {&c.q_out, std::vector<int>(c.q_out.size())};
  fovea_options options = {};
  options.struct_size = sizeof options;
  options.device = FOVEA_DEVICE_CPU;
  options.threads = 7;
  options.parallel_for = watch_tasks;
  options.parallel_for_user = &rows;
  fovea_handle *handle = nullptr;
  ASSERT_EQ(fovea_create(&options, &handle), FOVEA_OK) << fovea_error_detail();
  const fovea_kv_append_args args = c.args();
  EXPECT_EQ(fovea_kv_append(handle, &args, nullptr), FOVEA_OK) << fovea_error_detail();
  fovea_destroy(handle);
  EXPECT_EQ(rows.tasks, 7);
  EXPECT_EQ(rows.busy, 7);
  EXPECT_EQ(std::count(rows.writers.begin(), rows.writers.end(), 1),
            static_cast<int64_t>(rows.writers.size()));
}

// ---- Conversion ------------------------------------------------------------------------------

// Numbers around every code of a format, and halfway to the next: stored as the oracle does.
TEST(AppendBits, OfNumbersNextToEveryTieAreRight) {
  for (uint32_t to : {FOVEA_F16, FOVEA_BF16, FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    const uint32_t codes = size_of(to) == 2 ? 65536 : 256;
    std::vector<float> values;
    for (uint32_t code = 0; code < codes; ++code) {
      const double low = decode(to, code), high = decode(to, (code + 1) % codes);
      if (std::isnan(low) || std::isnan(high)) continue;
      for (double x : {low, std::isinf(high) ? low * 1.000244140625 : (low + high) / 2}) {
        for (int step : {-1, 0, 1}) {
          const auto near = static_cast<float>(x);
          values.push_back(step == 0 ? near : std::nextafter(near, step * INFINITY));
        }
      }
    }
    const auto dim = static_cast<int64_t>(values.size());
    Case c;
    c.fixed.k_new = view(FOVEA_F32, 1, 1, 1, dim);
    c.fixed.k_cache = view(to, 1, 1, 1, dim);
    c.k_new.resize(values.size() * 4);
    std::memcpy(c.k_new.data(), values.data(), c.k_new.size());
    c.cache.assign(values.size() * size_of(to), kCanary);
    c.kv_lengths = {0};
    append(c.args());
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(load_bits(to, &c.cache[i * size_of(to)]), expected_bits(to, values[i]))
          << name_of(to) << " of " << values[i];
    }
  }
}

}  // namespace
}  // namespace fovea_test
