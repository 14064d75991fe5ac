// weights_call.cc - see weights_call.h, and what errors the outputs may have.
//
// e = 16 u32 (1 + S) is the relative error of a weight exp(t - lse): t and lse both have errors of
// single precision, S is the sum of the magnitudes that make up the row's logits.
//
// An additive score's tanh doubles it (judge.h).
//
//   weight    e w, one rounding to its type, and what single precision may lose below 2^-126
//   logit     16 u32 (1 + S of the key), one rounding
//   mass      the errors of its weights; and those of sums of positive numbers: 8 within a block in
//             f32, and one more for every 256 rows at most
//   entropy   -w log w is off by e w (|log w| + 1) + e w, summed over keys: e (H + 2)
//   largest, first, lse   as a weight, and e
#include "tests/attention/weights_call.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/formats.h"

namespace fovea_test {
namespace {

constexpr uint8_t kCanary = 0xa5;
constexpr int64_t kGap = 3;
const double kInfinity = std::numeric_limits<double>::infinity();

std::vector<int32_t> narrow(const Ints &list) {
  std::vector<int32_t> out;
  for (int64_t x : list) out.push_back(static_cast<int32_t>(x));
  return out;
}

// An output [a][b][c][width] whose rows have a gap behind them.
struct Output {
  Output(uint32_t dtype, int64_t a, int64_t b, int64_t c, int64_t width)
      : type(dtype),
        count(a * b * c),
        width(width),
        size(size_of(dtype)),
        block(static_cast<size_t>(count * (width + kGap)) * size, size) {
    block.fill(kCanary);
    view = fovea_contiguous(block.data(), static_cast<fovea_dtype>(dtype), a, b, c, width + kGap);
    view.shape[3] = width;
  }
  uint8_t *at(int64_t row, int64_t j) {
    return block.data() + static_cast<size_t>(row * (width + kGap) + j) * size;
  }
  std::vector<double> take(bool *intact) {
    std::vector<double> values;
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t j = 0; j < width; ++j) values.push_back(load(type, at(row, j)));
      for (size_t b = 0; b < kGap * size; ++b) {
        *intact = *intact && at(row, width)[b] == kCanary;
      }
    }
    *intact = *intact && block.margins_intact();
    return values;
  }
  uint32_t type;
  int64_t count, width;
  size_t size;
  Block block;
  fovea_tensor view;
};

int64_t count_of(const Ints &list) {
  return static_cast<int64_t>(list.size());
}

// NaN equals NaN, and 0 is not -0.
bool same(const std::vector<double> &a, const std::vector<double> &b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0);
}

}  // namespace

bool Answer::operator==(const Answer &other) const {
  return status == other.status && same(weights, other.weights) && same(mass, other.mass) &&
         same(statistics, other.statistics) && largest == other.largest;
}

Answer weigh(fovea_handle *handle, const fovea_attention_args &attention, const Wish &wish) {
  const std::vector<int32_t> s = narrow(wish.sequences), r = narrow(wish.rows),
                             h = narrow(wish.heads);
  const int64_t sequences = count_of(wish.sequences), rows = count_of(wish.rows);
  const int64_t heads = count_of(wish.heads);
  const bool has_weights = wish.dtype != FOVEA_NONE;
  Output weights(has_weights ? wish.dtype : static_cast<uint32_t>(FOVEA_F32), sequences, rows,
                 heads, wish.keys);
  Output mass(FOVEA_F32, sequences, 1, wish.by_kv_head ? attention.k.shape[2] : heads, wish.keys);
  Output statistics(FOVEA_F32, sequences, rows, heads, 4);
  Block largest(static_cast<size_t>(sequences * rows * heads) * 4, 4);
  largest.fill(kCanary);
  fovea_weights_args args{};
  args.struct_size = sizeof args;
  args.attention = &attention;
  if (has_weights) args.weights = weights.view;
  if (wish.mass) args.mass = mass.view;
  if (wish.statistics) args.statistics = statistics.view;
  args.largest_keys = wish.statistics ? reinterpret_cast<int32_t *>(largest.data()) : nullptr;
  args.sequences = wish.by_numbers ? s.data() : nullptr;
  args.rows = wish.by_numbers && !wish.last_rows && !wish.every_row ? r.data() : nullptr;
  args.heads = wish.by_numbers && !wish.by_kv_head ? h.data() : nullptr;
  args.kind = wish.kind;
  args.last_rows = wish.last_rows ? 1 : 0;
  args.row_count = wish.every_row ? 0 : rows;
  args.mass_by_kv_head = wish.by_kv_head ? 1 : 0;
  args.mass_accumulate = wish.accumulate ? 1 : 0;
  for (int64_t n = 0; n < mass.count && wish.accumulate; ++n) {
    const float before = static_cast<float>(wish.before);
    for (int64_t j = 0; j < wish.keys; ++j) std::memcpy(mass.at(n, j), &before, sizeof before);
  }
  Answer answer;
  answer.status = fovea_attention_weights(handle, &args, nullptr);
  if (answer.status != FOVEA_OK) answer.detail = fovea_error_detail();
  if (has_weights) answer.weights = weights.take(&answer.intact);
  if (wish.mass) answer.mass = mass.take(&answer.intact);
  if (!wish.statistics) return answer;
  answer.statistics = statistics.take(&answer.intact);
  answer.largest.resize(largest.size() / 4);
  if (!answer.largest.empty()) {
    std::memcpy(answer.largest.data(), largest.data(), largest.size());
  }
  answer.intact = answer.intact && largest.margins_intact();
  return answer;
}

std::vector<Device> weighing_devices() {
  std::vector<Device> list = cpu_devices();
  list.push_back(device_named("reference"));
  return list;
}

Answer weigh(const Device &device, const fovea_attention_args &attention, const Wish &wish) {
  return weigh(handle_of(device), attention, wish);
}

namespace {

// Judges one call.
class Verdict {
 public:
  Verdict(const Device &device, const fovea_attention_args &attention, const Wish &wish,
          const std::string &text)
      : device_(device), geometry_(attention), wish_(wish), text_(text) {}

  void judge(const Answer &answer) {
    ASSERT_EQ(answer.status, FOVEA_OK) << answer.detail << "\n" << text_;
    EXPECT_TRUE(answer.intact) << text_;
    answer_ = &answer;
    const int64_t heads = count_of(wish_.heads);
    const int64_t mass_heads = wish_.by_kv_head ? geometry_.heads_kv() : heads;
    for (int64_t s = 0; s < count_of(wish_.sequences) && !testing::Test::HasFatalFailure(); ++s) {
      const size_t width = static_cast<size_t>(mass_heads * wish_.keys);
      sums_.assign(width, wish_.accumulate ? wish_.before : 0.0);
      errors_.assign(width, 0.0);
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t r = 0; r < rows_of(s); ++r) judge_row(s, r, h);
      }
      for (size_t n = 0; wish_.mass && n < width; ++n) {
        const double got = answer.mass[static_cast<size_t>(s) * width + n];
        const double roundings = 10.0 + static_cast<double>(rows_of(s) * heads) / 256.0;
        const double limit = errors_[n] + roundings * 0x1p-24 * sums_[n];
        if (sums_[n] == 0.0) {
          ASSERT_EQ(got, 0.0) << "mass " << s << ' ' << n << '\n' << text_;
        } else {
          ASSERT_NEAR(got, sums_[n], limit) << "mass " << s << ' ' << n << '\n' << text_;
        }
      }
    }
  }

 private:
  const Sequence *sequence(int64_t entry) const {
    const int64_t number = wish_.sequences[static_cast<size_t>(entry)];
    const int64_t count = static_cast<int64_t>(geometry_.sequences().size());
    return number >= 0 && number < count ? &geometry_.sequences()[static_cast<size_t>(number)]
                                         : nullptr;
  }
  int64_t rows_of(int64_t entry) const {
    if (!wish_.every_row) return count_of(wish_.rows);
    return sequence(entry) != nullptr ? sequence(entry)->len_q : 0;
  }
  // The number of a chosen row; -1 if it is out of range.
  int64_t row_of(const Sequence &s, int64_t r) const {
    int64_t number = wish_.every_row ? r : wish_.rows[static_cast<size_t>(r)];
    if (wish_.last_rows) number = s.len_q - count_of(wish_.rows) + r;
    return number >= 0 && number < s.len_q ? number : -1;
  }

  void judge_row(int64_t entry, int64_t r, int64_t h) {
    const Sequence *s = sequence(entry);
    const int64_t head = wish_.heads[static_cast<size_t>(h)];
    const int64_t i = s != nullptr ? row_of(*s, r) : -1;
    const size_t keys = static_cast<size_t>(wish_.keys);
    const bool inside = i >= 0 && head >= 0 && head < geometry_.heads_q();
    Row row;
    Looked looked;
    std::vector<double> weights(keys, 0.0);
    looked.scaled.assign(keys, -kInfinity);
    looked.softcapped = looked.logits = looked.scaled;
    looked.size.assign(keys, 0.0);
    row.lse = -kInfinity;
    if (inside) {
      looked = look(geometry_, s->index, i, head, wish_.keys, &row);
      weights.assign(looked.weights.begin(), looked.weights.begin() + wish_.keys);
    }
    error_ = (row.additive ? 32.0 : 16.0) * device_.work * (1.0 + row.size);
    const int64_t at = (entry * count_of(wish_.rows) + r) * count_of(wish_.heads) + h;
    if (wish_.dtype != FOVEA_NONE) judge_weights(at, weights, looked);
    if (wish_.statistics) judge_statistics(at, looked, row.lse);
    const int64_t group = wish_.by_kv_head ? head / geometry_.group() : h;
    for (size_t j = 0; j < keys && (inside || !wish_.by_kv_head); ++j) {
      sums_[static_cast<size_t>(group) * keys + j] += weights[j];
      errors_[static_cast<size_t>(group) * keys + j] += error_ * weights[j] + 0x1p-126;
    }
  }

  void judge_weights(int64_t at, const std::vector<double> &weights, const Looked &looked) {
    const double u = unit_roundoff(wish_.dtype);
    for (size_t j = 0; j < weights.size(); ++j) {
      const double got = answer_->weights[static_cast<size_t>(at) * weights.size() + j];
      double expected = weights[j];
      double limit = error_ * expected + 0x1p-126;
      if (wish_.kind != FOVEA_WEIGHTS_PROBABILITIES) {
        expected = wish_.kind == FOVEA_WEIGHTS_SCALED       ? looked.scaled[j]
                   : wish_.kind == FOVEA_WEIGHTS_SOFTCAPPED ? looked.softcapped[j]
                                                            : looked.logits[j];
        limit = 16.0 * device_.work * (1.0 + looked.size[j]);
      }
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(got)) << at << ' ' << j << ' ' << got << '\n' << text_;
      } else if (expected == 0.0 || std::isinf(expected)) {
        ASSERT_EQ(got, expected) << at << ' ' << j << '\n' << text_;
      } else {
        ASSERT_NEAR(got, expected, limit + u * std::fabs(expected) + half_step(wish_.dtype))
            << at << ' ' << j << '\n'
            << text_;
      }
    }
  }

  void judge_statistics(int64_t at, const Looked &looked, double lse) {
    const double *got = &answer_->statistics[static_cast<size_t>(at * 4)];
    const int32_t key = answer_->largest[static_cast<size_t>(at)];
    const double u = 0x1p-24, tiny = 0x1p-120;
    ASSERT_NEAR(got[0], looked.entropy, error_ * (looked.entropy + 2.0) + u * looked.entropy + tiny)
        << "entropy of " << at << '\n'
        << text_;
    ASSERT_NEAR(got[1], looked.largest, (error_ + u) * looked.largest + tiny) << at << text_;
    ASSERT_NEAR(got[2], looked.first, (error_ + u) * looked.first + tiny) << at << text_;
    if (std::isinf(lse)) {
      ASSERT_EQ(got[3], lse) << at << text_;
    } else {
      ASSERT_NEAR(got[3], lse, error_ + 4.0 * u * std::fabs(lse)) << at << text_;
    }
    double largest = -kInfinity;
    for (double logit : looked.all) largest = std::max(largest, logit);
    if (largest == -kInfinity) {
      ASSERT_EQ(key, -1) << at << text_;
      return;
    }
    ASSERT_TRUE(key >= 0 && key < static_cast<int64_t>(looked.all.size())) << key << text_;
    ASSERT_GE(looked.all[static_cast<size_t>(key)], largest - 2.0 * error_) << key << text_;
  }

  const Device &device_;
  const Geometry geometry_;
  const Wish &wish_;
  const std::string &text_;
  const Answer *answer_ = nullptr;
  std::vector<double> sums_, errors_;  // of mass, of one sequence
  double error_ = 0;                   // e of the row
};

}  // namespace

void expect_answer(const Device &device, const fovea_attention_args &attention, const Wish &wish,
                   const std::string &text) {
  Verdict(device, attention, wish, text).judge(weigh(device, attention, wish));
}

}  // namespace fovea_test
