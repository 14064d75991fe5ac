// random_test.cc - random combinations of features against the oracle.
//
// Half of the cases have up to 299 keys in a sequence, the others up to 19. Each case draws its
// types, its layout and any number of features. A case that fails prints the line that repeats it.
#include <gtest/gtest.h>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

Ints draw_list(Choices *choices, int64_t count, int64_t low, int64_t high) {
  Ints list;
  for (int64_t n = 0; n < count; ++n) list.push_back(low + choices->below(high - low + 1));
  return list;
}

uint32_t draw_type(Choices *choices, int64_t count) {
  static const uint32_t types[] = {FOVEA_F32,  FOVEA_F16, FOVEA_BF16, FOVEA_E4M3,
                                   FOVEA_E5M2, FOVEA_I8,  FOVEA_Q8_0, FOVEA_Q4_0};
  return types[choices->below(count)];
}

std::string draw_form(Choices *choices, const char *letters) {
  std::string form;
  for (const char *at = letters; *at != '\0'; ++at) {
    if (choices->one_in(2)) form += *at;
  }
  return form;
}

void draw_sizes(Choices *c, Attention *a) {
  static const int64_t dims[] = {8, 16, 24, 64, 72, 128, 160};
  const int64_t kv = 1 + c->below(3);
  a->batch(1 + c->below(4)).heads(kv * (1 + c->below(5)), kv);
  a->dim(dims[c->below(7)]).dim_v(dims[c->below(7)]);
  a->len_q(c->one_in(2) ? 1 + c->below(4) : c->below(40));
  a->len_kv(c->one_in(2) ? c->below(20) : c->below(300));
}

void draw_types(Choices *c, Attention *a) {
  a->types(draw_type(c, 4), draw_type(c, 8), draw_type(c, 8), draw_type(c, 4));
  const int64_t block = block_of(a->s.k_type), block_v = block_of(a->s.v_type);
  const int64_t dim = (a->s.dim + block - 1) / block * block;
  const int64_t dim_v = (a->s.dim_v + block_v - 1) / block_v * block_v;
  a->dim(dim).dim_v(dim_v);
  const auto scale = [&](const char *which, uint32_t type, double factor) {
    if (size_of(type) != 1 || c->one_in(3)) return;
    const int64_t blocks = c->one_in(2) ? 1 : (c->one_in(2) ? 2 : 8);
    a->scales(which, draw_form(c, "bsh").c_str(), blocks, factor,
              c->one_in(3) ? FOVEA_F16 : FOVEA_F32);
  };
  scale("q", a->s.q_type, 1.0);
  scale("k", a->s.k_type, a->s.k_type == FOVEA_I8 ? 1.0 / 30 : 1.0);
  scale("v", a->s.v_type, a->s.v_type == FOVEA_I8 ? 1.0 / 30 : 1.0);
  scale("o", a->s.out_type, 0.05);
}

void draw_sequences(Choices *c, Attention *a) {
  const int64_t count = a->s.batch;
  if (c->one_in(3)) a->rows(draw_list(c, count, 0, a->s.len_q));
  if (c->one_in(3)) {
    static const int64_t pages[] = {1, 3, 16, 64, 100};
    a->paged(pages[c->below(5)], c->one_in(2), c->one_in(3));
    a->lengths(draw_list(c, count, 0, a->s.len_kv));
  } else {
    if (c->one_in(3)) a->keys(draw_list(c, count, 0, a->s.len_kv));
    if (c->one_in(3)) a->lengths(draw_list(c, count, -1, a->s.len_kv + 2));
  }
}

void draw_visibility(Choices *c, Attention *a) {
  const int64_t count = a->s.batch;
  const int64_t len = a->s.len_kv;
  if (c->one_in(2)) a->causal(c->one_in(3) ? FOVEA_ALIGN_TOP_LEFT : FOVEA_ALIGN_BOTTOM_RIGHT);
  if (c->one_in(4)) a->top_left();
  if (c->one_in(4)) a->window(c->below(len + 2) - 1, c->one_in(2) ? -1 : c->below(len + 1));
  if (c->one_in(5)) a->q_position(draw_list(c, count, -10, len + 10));
  if (c->one_in(5)) a->kv_first(draw_list(c, count, 0, len / 2));
  if (c->one_in(6)) {
    a->kv_position(draw_list(c, count, -50, 50), static_cast<int32_t>(c->below(4)));
  }
  if (c->one_in(5)) a->prefix(draw_list(c, count, -2, len + 5));
  if (c->one_in(5))
    a->distances(c->below(2 * len + 20) - len - 10, 1 + c->below(len + 9), c->one_in(3));
  if (c->one_in(15)) a->additive(c->one_in(2));
  if (c->one_in(5)) a->spans(static_cast<uint32_t>(c->below(2)));
  if (c->one_in(5)) a->mask(0.3, draw_form(c, "srhk").c_str());
  if (c->one_in(6)) a->tree(c->below(70));
}

void draw_logits(Choices *c, Attention *a) {
  if (c->one_in(5)) {
    a->bias(draw_type(c, 3), c->one_in(2) ? 0.3 : 0.0, draw_form(c, "srhk").c_str());
  }
  if (c->one_in(5)) a->alibi(c->one_in(2));
  if (c->one_in(5)) a->sinks();
  if (c->one_in(5)) a->softcap(0.5 + static_cast<double>(c->below(40)));
  if (c->one_in(4)) a->scale(0.01 * static_cast<double>(1 + c->below(300)));
  if (c->one_in(10)) a->no_lse();
  a->reproducible(static_cast<uint32_t>(c->below(3)));
}

// Problems per device. Sanitizers look for other faults and take five times as long.
#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kProblems = 250;
#else
constexpr uint64_t kProblems = 700;
#endif

class RandomProblem : public testing::TestWithParam<Device> {};

TEST_P(RandomProblem, MatchesTheOracle) {
  for (uint64_t seed = 1; seed <= kProblems; ++seed) {
    Choices choices(mix(seed, 2026));
    Attention a;
    a.on(GetParam()).seed(seed);
    draw_sizes(&choices, &a);
    draw_types(&choices, &a);
    draw_sequences(&choices, &a);
    draw_visibility(&choices, &a);
    draw_logits(&choices, &a);
    a.expect_matches_oracle();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RandomProblem, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
