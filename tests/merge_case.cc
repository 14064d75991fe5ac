// merge_case.cc - see merge_case.h.
#include "tests/merge_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/handle_of.h"

namespace fovea_test::merges {
namespace {

fovea_status call(fovea_handle *handle, const fovea_merge_args *args) {
  return fovea_merge(handle, args, nullptr);
}

}  // namespace

fovea_status (*merge_call)(fovea_handle *handle, const fovea_merge_args *args) = call;

View view_of(uint32_t dtype, int64_t batch, int64_t rows, int64_t heads, int64_t dim,
             bool by_head) {
  View v;
  v.shape = fovea_contiguous(nullptr, static_cast<fovea_dtype>(dtype), batch, rows, heads, dim);
  if (by_head) {  // heads first, with a gap of 3 elements after each row
    v.shape.stride[1] = dim + 3;
    v.shape.stride[2] = rows * (dim + 3);
    v.shape.stride[0] = heads * rows * (dim + 3);
  }
  const int64_t elements = by_head ? batch * heads * rows * (dim + 3) : batch * heads * rows * dim;
  v.memory.assign(static_cast<size_t>(elements) * size_of(dtype), kCanary);
  return v;
}

Case make_case(size_t count, uint32_t dtype, Size s, bool by_head) {
  Case c;
  for (size_t n = 0; n < count; ++n) {
    c.outs.push_back(view_of(dtype, s.batch, s.rows, s.heads, s.dim, by_head && n % 2 == 0));
    c.lses.push_back(view_of(FOVEA_F32, s.batch, s.rows, s.heads, 1, by_head && n % 2 == 1));
  }
  c.out = view_of(dtype, s.batch, s.rows, s.heads, s.dim, by_head);
  c.lse = view_of(FOVEA_F32, s.batch, s.rows, s.heads, 1, by_head);
  return c;
}

void merge(Case *c, int threads, fovea_device device) {
  std::vector<fovea_tensor> outs, lses;
  for (View &v : c->outs) outs.push_back(v.tensor());
  for (View &v : c->lses) lses.push_back(v.tensor());
  fovea_merge_args args = {};
  args.struct_size = sizeof args;
  args.count = static_cast<int32_t>(outs.size());
  args.outs = outs.data();
  args.lses = lses.data();
  args.out = c->result().tensor();
  if (c->wants_lse) args.lse = c->result_lse().tensor();
  EXPECT_EQ(merge_call(handle_of(device, threads), &args), FOVEA_OK) << fovea_error_detail();
}

Case scalars(const std::vector<float> &lses, const std::vector<float> &values, uint32_t dtype) {
  Case c = make_case(lses.size(), dtype, {1, 1, 1, 1});
  for (size_t n = 0; n < lses.size(); ++n) {
    c.lses[n].set(0, 0, 0, 0, lses[n]);
    c.outs[n].set(0, 0, 0, 0, values[n]);
  }
  return c;
}

Case random_case(uint64_t seed) {
  std::mt19937_64 random(seed);
  auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
  const uint32_t dtypes[3] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  const Size size = {1 + below(2), 1 + below(5), 1 + below(3), 1 + below(seed % 7 ? 20 : 300)};
  Case c = make_case(static_cast<size_t>(2 + below(5)), dtypes[below(3)], size, below(2) == 0);
  if (below(3) == 0) {  // parts of another type than the result
    for (View &out : c.outs) {
      out = view_of(dtypes[below(3)], size.batch, size.rows, size.heads, size.dim, false);
    }
  }
  const double spread = std::ldexp(1.0, static_cast<int>(below(9)) - 3);
  for (size_t n = 0; n < c.outs.size(); ++n) {
    for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
      const bool empty = below(6) == 0;
      const double lse = 3 + spread * (static_cast<double>(below(2001)) - 1000) / 1000;
      c.lses[n].set(b, i, h, 0, empty ? -kInf : static_cast<float>(lse));
      for (int64_t d = 0; d < size.dim; ++d) {
        const double value = (static_cast<double>(below(200001)) - 100000) / 9973;
        c.outs[n].set(b, i, h, d, empty ? NAN : static_cast<float>(value));
      }
    });
  }
  c.wants_lse = below(8) != 0;
  return c;
}

// ---- Judges ----------------------------------------------------------------------------------

namespace {

uint32_t canonical(uint32_t dtype, float value) {
  if (std::isnan(value)) return dtype == FOVEA_F32 ? 0x7fffffffu : 0x7fffu;
  return encode(dtype, value);
}

// The sums of the weights in the order that the header states, every operation rounded by itself.
struct Row {
  float m = -kInf;
  double z = 0;
  bool empty = true;
};

Row row_by_steps(Case *c, int64_t b, int64_t i, int64_t h) {
  Row row;
  for (View &lse : c->lses) row.m = std::max(row.m, lse.get(b, i, h, 0));
  for (View &lse : c->lses) {
    if (lse.get(b, i, h, 0) == -kInf) continue;
    const volatile float shifted = lse.get(b, i, h, 0) - row.m;
    const volatile double sum = row.z + std::exp(static_cast<float>(shifted));
    row.z = sum;
    row.empty = false;
  }
  return row;
}

}  // namespace

void merge_by_steps(Case *c) {
  std::vector<float> x(c->outs.size());
  for_each_row(c->out.shape, [&](int64_t b, int64_t i, int64_t h) {
    const Row row = row_by_steps(c, b, i, h);
    for (int64_t d = 0; d < c->out.shape.shape[3]; ++d) {
      volatile double a = 0;
      for (size_t n = 0; n < x.size(); ++n) {
        if (c->lses[n].get(b, i, h, 0) == -kInf) continue;
        const volatile float shifted = c->lses[n].get(b, i, h, 0) - row.m;
        const volatile double weight = std::exp(static_cast<float>(shifted));
        const volatile double product = weight * c->outs[n].get(b, i, h, d);
        a = a + product;
      }
      const volatile float quotient = row.empty ? 0 : static_cast<float>(a / row.z);
      store_bits(c->out.shape.dtype, c->out.at(b, i, h, d),
                 canonical(c->out.shape.dtype, quotient));
    }
    if (!c->wants_lse) return;
    const volatile float lse = row.empty ? -kInf : static_cast<float>(row.m + std::log(row.z));
    store_bits(FOVEA_F32, c->lse.at(b, i, h, 0), canonical(FOVEA_F32, lse));
  });
}

namespace {

// The formula in double, and the error that f32 may add.
struct Exact {
  double m = -HUGE_VAL, z = 0, lost_z = 0;
};

// The argument of exp is rounded: u32 * |argument| becomes a relative error of the weight.
// The result of exp is off by up to exp_ulps ulp, 2 u32 each. Sums are in double. The use of the
// bound doubles it, and second order terms are far below that.
double weight_loss(const Case &c, double shifted) {
  return kU32 * (std::fabs(shifted) + 2 * c.exp_ulps);
}

Exact exact_row(Case *c, int64_t b, int64_t i, int64_t h) {
  Exact e;
  for (View &lse : c->lses) e.m = std::max<double>(e.m, lse.get(b, i, h, 0));
  if (e.m == -HUGE_VAL) return e;
  for (View &lse : c->lses) {
    const double shifted = lse.get(b, i, h, 0) - e.m;
    if (shifted == -HUGE_VAL) continue;
    e.z += std::exp(shifted);
    e.lost_z += std::exp(shifted) * weight_loss(*c, shifted);
  }
  return e;
}

double worst_ratio(Case *c, int64_t b, int64_t i, int64_t h, int64_t d, const Exact &e) {
  const uint32_t dtype = c->out.shape.dtype;
  double a = 0, lost = 0;
  for (size_t n = 0; n < c->outs.size(); ++n) {
    const double shifted = c->lses[n].get(b, i, h, 0) - e.m;
    if (shifted == -HUGE_VAL) continue;
    const double term = std::exp(shifted) * c->outs[n].get(b, i, h, d);
    a += term;
    // Underflow loses at most the least subnormal times the value.
    lost += std::fabs(term) * weight_loss(*c, shifted) +
            0x1p-149 * std::fabs(c->outs[n].get(b, i, h, d));
  }
  const double out = a / e.z;
  const double f32_error = lost / e.z + std::fabs(out) * (e.lost_z / e.z + kU32);
  const double limit = 2 * f32_error + unit_roundoff(dtype) * std::fabs(out) + half_step(dtype);
  return std::fabs(c->result().get(b, i, h, d) - out) / limit;
}

double worst_lse_ratio(Case *c, int64_t b, int64_t i, int64_t h, const Exact &e) {
  const double lse = e.m + std::log(e.z);
  const double limit = 2 * e.lost_z / e.z + kU32 * std::fabs(lse);
  const double error = std::fabs(c->result_lse().get(b, i, h, 0) - lse);
  return error == 0 ? 0 : error / limit;
}

}  // namespace

Ratios worst_ratios(Case *c, int64_t b, int64_t i, int64_t h) {
  const Exact e = exact_row(c, b, i, h);
  if (e.z == 0) return {0, 0};
  Ratios worst = {0, c->wants_lse ? worst_lse_ratio(c, b, i, h, e) : 0};
  for (int64_t d = 0; d < c->out.shape.shape[3]; ++d) {
    const double ratio = worst_ratio(c, b, i, h, d, e);
    if (std::isnan(ratio)) return {ratio, worst.lse};
    worst.out = std::max(worst.out, ratio);
  }
  return worst;
}

}  // namespace fovea_test::merges
