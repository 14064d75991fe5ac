// builder_run.cc - one call of a Case: prefilled outputs, and what was written where.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>

#include "tests/support/attention_builder.h"
#include "tests/support/formats.h"

#include <gtest/gtest.h>

namespace fovea_test {
namespace {

const uint32_t kForeignErrorBit = 0x40000000u;  // calls set bits and never clear one

// Visits the elements that the call promises to write, in the order of Truth::rows.
template <typename Visit>
void each_promised(const Geometry &geometry, const fovea_tensor &t, Visit visit) {
  for (const Sequence &s : geometry.sequences()) {
    for (int64_t h = 0; h < geometry.heads_q(); ++h) {
      for (int64_t i = 0; i < s.len_q; ++i) {
        for (int64_t d = 0; d < t.shape[3]; ++d) {
          visit(static_cast<uint8_t *>(
              const_cast<void *>(address(t, s.q_batch, s.q_begin + i, h, d))));
        }
      }
    }
  }
}

// Canaries everywhere, NaN where results belong.
std::vector<uint8_t> prefill(const Geometry &geometry, const fovea_tensor &t, Block *block) {
  if (t.dtype == FOVEA_NONE) return {};
  for (size_t n = 0; n < block->size(); ++n) {
    block->data()[n] = static_cast<uint8_t>(mix(n, t.dtype));
  }
  const uint32_t nan = poison_bits(t.dtype);
  each_promised(geometry, t, [&](uint8_t *at) { store_bits(t.dtype, at, nan); });
  return std::vector<uint8_t>(block->data(), block->data() + block->size());
}

std::vector<uint32_t> collect(const Geometry &geometry, const fovea_tensor &t) {
  std::vector<uint32_t> bits;
  if (t.dtype == FOVEA_NONE) return bits;
  each_promised(geometry, t, [&](uint8_t *at) { bits.push_back(load_bits(t.dtype, at)); });
  return bits;
}

// Compares all bytes with those before the call, except for the promised elements.
std::string find_damage(const char *name, const Geometry &geometry, const fovea_tensor &t,
                        const Block &block, const std::vector<uint8_t> &before) {
  if (t.dtype == FOVEA_NONE) return "";
  std::vector<uint8_t> after(block.data(), block.data() + block.size());
  const size_t width = size_of(t.dtype);
  each_promised(geometry, t, [&](uint8_t *at) {
    const size_t offset = static_cast<size_t>(at - block.data());
    std::copy_n(before.begin() + static_cast<int64_t>(offset), width,
                after.begin() + static_cast<int64_t>(offset));
  });
  std::ostringstream text;
  for (size_t n = 0; n < after.size(); ++n) {
    if (after[n] == before[n]) continue;
    text << name << ": byte " << n << " belongs to no row but was written; ";
    break;
  }
  if (!block.margins_intact()) text << name << ": written outside its memory; ";
  return text.str();
}

std::map<std::string, double> &worst_ratios() {
  static std::map<std::string, double> worst;
  return worst;
}

// Prints the worst ratio of every criterion, so that a drift shows before it fails.
class Report : public testing::Environment {
 public:
  void TearDown() override {
    for (const auto &entry : worst_ratios()) {
      std::printf("worst error/limit, %-18s %.3f\n", entry.first.c_str(), entry.second);
    }
  }
};
const testing::Environment *const kReport = testing::AddGlobalTestEnvironment(new Report);

}  // namespace

void note_worst(const std::vector<Finding> &findings, const Device &device) {
  for (const Finding &f : findings) {
    if (f.count == 0 || f.criterion == "class") continue;
    double &worst = worst_ratios()[device.name + " " + f.criterion];
    worst = std::max(worst, f.worst);
  }
}

fovea_limits Case::limits() const {
  const Geometry geometry(args);
  fovea_limits limits{};
  limits.struct_size = sizeof limits;
  limits.dim = static_cast<int32_t>(settings.dim);
  limits.dim_v = static_cast<int32_t>(settings.dim_v);
  limits.heads_q = static_cast<int32_t>(std::max<int64_t>(settings.heads_q, 1));
  limits.heads_kv = static_cast<int32_t>(std::max<int64_t>(settings.heads_kv, 1));
  limits.sequences = std::max<int64_t>(sequences_, 1);
  limits.total_q = std::max<int64_t>(args.q.shape[0] * args.q.shape[1], 1);
  limits.len_kv = 1;
  limits.sm_count = args.sm_count;
  for (const Sequence &s : geometry.sequences()) {
    limits.len_kv = std::max(limits.len_kv, s.room);
  }
  const fovea_pages &pages = args.sequences.pages;
  if (pages.offsets != nullptr) {  // any sequence may own all of such a table
    limits.len_kv = std::max(limits.len_kv, pages.count * args.k.shape[1]);
  }
  return limits;
}

Outcome Case::run(const Device &device, uint8_t workspace_byte) {
  return run(handle_of(device), workspace_byte);
}

Outcome Case::run(fovea_handle *handle, uint8_t workspace_byte) {
  Outcome outcome;
  const fovea_limits bounds = limits();
  size_t bytes = 0;
  outcome.status = fovea_attention_workspace(handle, &bounds, &bytes);
  if (outcome.status != FOVEA_OK) return outcome;
  if (workspace_.size() != bytes || workspace_.data() == nullptr) {
    workspace_ = Block(bytes, 1, 256);
  }
  workspace_.fill(workspace_byte);
  const Geometry geometry(args);
  const std::vector<uint8_t> out_before = prefill(geometry, args.out, &out_);
  const std::vector<uint8_t> lse_before = prefill(geometry, args.lse, &lse_);
  errors_.assign(static_cast<size_t>(sequences_), kForeignErrorBit);
  fovea_attention_args call = args;
  call.workspace = bytes > 0 ? workspace_.data() : nullptr;
  call.workspace_bytes = bytes;
  call.errors = errors_.empty() ? nullptr : errors_.data();
  call.detail = detail_;
  call.detail_bytes = sizeof detail_;
  detail_[0] = '\0';
  outcome.status = attention_call(handle, &call);
  outcome.detail = detail_;
  outcome.out_type = args.out.dtype;
  outcome.out = collect(geometry, args.out);
  outcome.lse = collect(geometry, args.lse);
  outcome.heads = settings.heads_q;
  outcome.dim_v = settings.dim_v;
  int64_t row = 0;
  for (const Sequence &s : geometry.sequences()) {
    outcome.first_row.push_back(row);
    outcome.len_q.push_back(s.len_q);
    row += s.len_q * settings.heads_q;
  }
  for (uint32_t bits : errors_) {
    if ((bits & kForeignErrorBit) == 0) outcome.damage += "errors: a foreign bit was cleared; ";
    outcome.errors.push_back(bits & ~kForeignErrorBit);
  }
  outcome.damage += find_damage("out", geometry, args.out, out_, out_before);
  outcome.damage += find_damage("lse", geometry, args.lse, lse_, lse_before);
  if (!workspace_.margins_intact()) outcome.damage += "workspace: written outside; ";
  return outcome;
}

size_t Outcome::row(int64_t s, int64_t i, int64_t h) const {
  const size_t at = static_cast<size_t>(s);
  return static_cast<size_t>(first_row[at] + h * len_q[at] + i);
}
uint32_t Outcome::bits(int64_t s, int64_t i, int64_t h, int64_t d) const {
  return out[row(s, i, h) * static_cast<size_t>(dim_v) + static_cast<size_t>(d)];
}
double Outcome::at(int64_t s, int64_t i, int64_t h, int64_t d) const {
  return decode(out_type, bits(s, i, h, d));
}
float Outcome::lse_at(int64_t s, int64_t i, int64_t h) const {
  return static_cast<float>(decode(FOVEA_F32, lse[row(s, i, h)]));
}

std::string difference(const Outcome &a, const Outcome &b) {
  std::ostringstream text;
  if (a.status != b.status) return "status";
  if (a.out.size() != b.out.size()) return "number of results";
  for (size_t n = 0; n < a.out.size(); ++n) {
    if (a.out[n] == b.out[n]) continue;
    const size_t width = static_cast<size_t>(a.dim_v);
    text << "out, row " << n / width << " of sequence/head/row order, column " << n % width << ": "
         << decode(a.out_type, a.out[n]) << " (" << std::hex << a.out[n] << ") and "
         << decode(b.out_type, b.out[n]) << " (" << b.out[n] << ")";
    return text.str();
  }
  for (size_t n = 0; n < std::min(a.lse.size(), b.lse.size()); ++n) {
    if (a.lse[n] == b.lse[n]) continue;
    text << "lse, row " << n << ": " << decode(FOVEA_F32, a.lse[n]) << " and "
         << decode(FOVEA_F32, b.lse[n]);
    return text.str();
  }
  return "";
}

std::string difference(const Outcome &a, int64_t s, const Outcome &b, int64_t t, int64_t shift) {
  std::ostringstream text;
  for (int64_t h = 0; h < a.heads; ++h) {
    for (int64_t i = 0; i < b.len_q[static_cast<size_t>(t)]; ++i) {
      for (int64_t d = 0; d < a.dim_v; ++d) {
        if (a.bits(s, i + shift, h, d) == b.bits(t, i, h, d)) continue;
        text << "row " << i + shift << ", head " << h << ", column " << d << ": "
             << a.at(s, i + shift, h, d) << " and " << b.at(t, i, h, d);
        return text.str();
      }
      if (a.lse.empty() || a.lse[a.row(s, i + shift, h)] == b.lse[b.row(t, i, h)]) continue;
      text << "lse, row " << i + shift << ", head " << h << ": " << a.lse_at(s, i + shift, h)
           << " and " << b.lse_at(t, i, h);
      return text.str();
    }
  }
  return "";
}

Observed observe(const Outcome &outcome, const Settings &settings, const Device &device) {
  Observed observed;
  observed.out_dtype = settings.out_type;
  observed.q_dtype = settings.q_type;
  observed.work = device.work;
  observed.whole_dots = !device.exact_probabilities;  // tensor cores
  for (uint32_t bits : outcome.out) observed.out.push_back(decode(settings.out_type, bits));
  for (uint32_t bits : outcome.lse) observed.lse.push_back(decode(FOVEA_F32, bits));
  return observed;
}

}  // namespace fovea_test
