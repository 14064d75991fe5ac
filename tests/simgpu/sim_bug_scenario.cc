// The launches on which planted bugs are tried. Their results are known.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <regex>

#include "tests/simgpu/sim_bug.h"

namespace simgpu {

// [begin, end) of a kernel's body in its module.
static std::pair<size_t, size_t> find_entry(const std::string &ptx, const std::string &kernel) {
  size_t begin = ptx.find(".entry " + kernel + "(");
  if (begin == std::string::npos) return {0, 0};
  size_t end = ptx.find("\n}", begin);
  return {begin, end == std::string::npos ? ptx.size() : end};
}

std::string plant(const std::string &ptx, const Bug &bug) {
  if (!*bug.pattern) return ptx;
  auto [begin, end] = find_entry(ptx, bug.kernel);
  std::string body = ptx.substr(begin, end - begin), changed;
  std::regex pattern(bug.pattern);
  int index = 0, planted = 0;
  size_t at = 0;
  for (std::sregex_iterator i(body.begin(), body.end(), pattern), none; i != none; ++i, ++index) {
    changed += body.substr(at, i->position() - at);
    bool chosen = bug.occurrence < 0 || bug.occurrence == index;
    changed += chosen ? i->format(bug.replacement) : i->str();
    planted += chosen;
    at = i->position() + i->length();
  }
  EXPECT_GT(planted, 0) << bug.name << ": " << bug.pattern << " is not in " << bug.kernel;
  return ptx.substr(0, begin) + changed + body.substr(at) + ptx.substr(end);
}

static uint16_t to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t half) {
  uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static std::vector<uint16_t> make_rows(int rows, int salt) {
  std::vector<uint16_t> values(rows * 64);
  uint32_t state = 12345 + salt;
  for (uint16_t &value : values) {
    state = state * 1664525 + 1013904223;
    value = to_bf16(static_cast<float>(state >> 8) / (1 << 23) - 1);
  }
  return values;
}

// One row in double precision, and its log-sum-exp.
static double attend_row(const uint16_t *q, const std::vector<uint16_t> &k,
                         const std::vector<uint16_t> &v, double row[64]) {
  size_t keys = k.size() / 64;
  std::vector<double> scores(keys);
  double most = -INFINITY, sum = 0;
  for (size_t key = 0; key < keys; key++) {
    for (int d = 0; d < 64; d++)
      scores[key] += from_bf16(q[d]) * from_bf16(k[key * 64 + d]) * 0.125;
    most = std::max(most, scores[key]);
  }
  for (int d = 0; d < 64; d++) row[d] = 0;
  for (size_t key = 0; key < keys; key++) {
    double weight = std::exp(scores[key] - most);
    sum += weight;
    for (int d = 0; d < 64; d++) row[d] += weight * from_bf16(v[key * 64 + d]);
  }
  for (int d = 0; d < 64; d++) row[d] /= sum;
  return most + std::log(sum);
}

// Rounding to bf16 changes each weight by at most 2^-9 of itself, and values are below 1, so the
// result's error from it is below 2^-9. With f32 rounding and ex2.approx (2^-22 of a weight each)
// it is below 2^-8.
static const double BOUND = 1.0 / 256;

static void run_attend(CUmodule module, const std::string &launch, Outcome *outcome) {
  Gpu &gpu = Gpu::instance();
  const int len_q = 100, len_kv = 150;
  std::vector<uint16_t> q = make_rows(len_q, 1), k = make_rows(len_kv, 2), v = make_rows(len_kv, 3);
  CUdeviceptr out = gpu.allocate(len_q * 64 * 4), lse = gpu.allocate(len_q * 4);
  CUfunction kernel = gpu.find(module, "attend");
  Gpu::Shape shape;
  shape.grid[0] = 2, shape.block[0] = 128;
  shape.shared = 5 * 64 * 64 * 2 - (launch == "small" ? 1024 : 0);
  CUdeviceptr inputs[] = {gpu.upload(q), gpu.upload(k), gpu.upload(v)};
  gpu.run(kernel, shape, out, lse, inputs[0], inputs[1], inputs[2], len_q, len_kv);
  outcome->reports = gpu.reports();
  gpu.reset();
  std::vector<float> got = gpu.read<float>(out, len_q * 64), got_lse = gpu.read<float>(lse, len_q);
  outcome->numbers_right = true;
  for (int i = 0; i < len_q; i++) {
    double row[64], wanted = attend_row(&q[i * 64], k, v, row);
    if (!(std::fabs(got_lse[i] - wanted) < BOUND)) outcome->numbers_right = false;
    for (int d = 0; d < 64; d++) {
      if (!(std::fabs(got[i * 64 + d] - row[d]) < BOUND)) outcome->numbers_right = false;
    }
  }
}

static void run_split_sum(CUmodule module, Outcome *outcome) {
  Gpu &gpu = Gpu::instance();
  CUdeviceptr out = gpu.upload(std::vector<float>(1, -1)), partials = gpu.allocate(8 * 4);
  CUdeviceptr arrived = gpu.upload(std::vector<unsigned>(1, 0));
  CUdeviceptr values = gpu.upload(std::vector<float>(3000, 1));
  Gpu::Shape shape;
  shape.grid[0] = 8, shape.block[0] = 128;
  gpu.run(gpu.find(module, "split_sum"), shape, out, partials, arrived, values, 3000);
  outcome->reports = gpu.reports();
  gpu.reset();
  outcome->numbers_right = gpu.read<float>(out, 1)[0] == 3000;
}

static void run_hand_over(CUmodule module, Outcome *outcome) {
  Gpu &gpu = Gpu::instance();
  CUdeviceptr out = gpu.upload(std::vector<float>(96, -1));
  CUdeviceptr in = gpu.upload(std::vector<float>(4 * 96, 0.25f));
  Gpu::Shape shape;
  shape.block[0] = 128;
  gpu.run(gpu.find(module, "hand_over"), shape, out, in, 4);
  outcome->reports = gpu.reports();
  gpu.reset();
  outcome->numbers_right = gpu.read<float>(out, 96) == std::vector<float>(96, 1);
}

static void run_rotate_lanes(CUmodule module, Outcome *outcome) {
  Gpu &gpu = Gpu::instance();
  std::vector<float> values(32);
  for (int i = 0; i < 32; i++) values[i] = i;
  CUdeviceptr out = gpu.allocate(32 * 4);
  gpu.run(gpu.find(module, "rotate_lanes"), Gpu::Shape(), out, gpu.upload(values));
  outcome->reports = gpu.reports();
  gpu.reset();
  std::vector<float> got = gpu.read<float>(out, 32);
  outcome->numbers_right = true;
  for (int i = 0; i < 32; i++) outcome->numbers_right &= got[i] == (i + 1) % 32;
}

static void run_dependent(CUmodule module, const std::string &launch, Outcome *outcome) {
  Gpu &gpu = Gpu::instance();
  CUdeviceptr data = gpu.allocate(128 * 4), out = gpu.allocate(128 * 4 + 16);
  CUdeviceptr scratch = gpu.upload(std::vector<float>(128, 0));
  Gpu::Shape shape;
  shape.grid[0] = 2, shape.block[0] = 64;
  if (launch != "unfilled") {
    gpu.queue(gpu.find(module, "fill_both"), shape, {&data, &scratch});
  }
  if (launch == "freed") gpu.release(data);
  if (launch == "large") shape.grid[0] = 3;
  if (launch == "crooked") out += 2;
  shape.overlaps = true;
  gpu.run(gpu.find(module, "add_after"), shape, out, data, scratch);
  outcome->reports = gpu.reports();
  gpu.reset();
  std::vector<float> got = gpu.read<float>(out, 128);
  outcome->numbers_right = true;
  for (int i = 0; i < 128; i++) outcome->numbers_right &= got[i] == i + 1;
}

Outcome run_scenario(const std::string &ptx, const std::string &kernel, const std::string &launch,
                     unsigned seed) {
  Gpu &gpu = Gpu::instance();
  gpu.reset(seed);
  Outcome outcome;
  CUmodule module = gpu.load(ptx);
  if (!module) return outcome;
  if (kernel == "attend") run_attend(module, launch, &outcome);
  if (kernel == "split_sum") run_split_sum(module, &outcome);
  if (kernel == "rotate_lanes") run_rotate_lanes(module, &outcome);
  if (kernel == "hand_over") run_hand_over(module, &outcome);
  if (kernel == "add_after" || kernel == "fill_both") run_dependent(module, launch, &outcome);
  gpu.unload(module);
  return outcome;
}

}  // namespace simgpu
