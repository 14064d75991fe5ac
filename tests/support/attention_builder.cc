// attention_builder.cc - the builder's settings and the comparison with the oracle.
#include "tests/support/attention_builder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <sstream>

#include "tests/support/formats.h"

namespace fovea_test {
namespace {

std::string text_of(const Ints &list) {
  std::ostringstream text;
  text << '{';
  for (size_t n = 0; n < list.size(); ++n) text << (n > 0 ? ", " : "") << list[n];
  text << '}';
  return text.str();
}

template <typename... Parts>
std::string join(const Parts &...parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

const char *constant_of(uint32_t dtype) {
  static const char *const names[] = {"FOVEA_NONE", "FOVEA_F32",  "FOVEA_F16", "FOVEA_BF16",
                                      "FOVEA_E4M3", "FOVEA_E5M2", "FOVEA_I8",  "FOVEA_U8",
                                      "FOVEA_Q8_0", "FOVEA_Q4_0"};
  return names[dtype <= FOVEA_Q4_0 ? dtype : 0];
}

void read_full(const char *full, MaskForm *form) {
  form->present = true;
  form->sequences = std::strchr(full, 's') != nullptr;
  form->rows = std::strchr(full, 'r') != nullptr;
  form->heads = std::strchr(full, 'h') != nullptr;
  form->keys = std::strchr(full, 'k') != nullptr;
}

}  // namespace

Attention &Attention::note(const std::string &text) {
  text_ += text;
  return *this;
}

Attention &Attention::on(const Device &device) {
  device_ = device;
  s.reproducible = std::max(s.reproducible, device.reproducible);
  return note(join(".on(device_named(\"", device.name, "\"))"));
}
Attention &Attention::seed(uint64_t n) {
  s.seed = n;
  return note(join(".seed(", n, ")"));
}
Attention &Attention::layout_seed(uint64_t n) {
  s.layout_seed = n;
  return note(join(".layout_seed(", n, ")"));
}
Attention &Attention::type(uint32_t all) {
  return types(all, all, all, all);
}
Attention &Attention::types(uint32_t q, uint32_t k, uint32_t v, uint32_t out) {
  s.q_type = q;
  s.k_type = k;
  s.v_type = v;
  s.out_type = out;
  return note(join(".types(", constant_of(q), ", ", constant_of(k), ", ", constant_of(v), ", ",
                   constant_of(out), ")"));
}
Attention &Attention::batch(int64_t n) {
  s.batch = n;
  return note(join(".batch(", n, ")"));
}
Attention &Attention::len_q(int64_t n) {
  s.len_q = n;
  return note(join(".len_q(", n, ")"));
}
Attention &Attention::len_kv(int64_t n) {
  s.len_kv = n;
  return note(join(".len_kv(", n, ")"));
}
Attention &Attention::heads(int64_t q, int64_t kv) {
  s.heads_q = q;
  s.heads_kv = kv;
  return note(join(".heads(", q, ", ", kv, ")"));
}
Attention &Attention::dim(int64_t n) {
  s.dim = n;
  s.dim_v = n;
  return note(join(".dim(", n, ")"));
}
Attention &Attention::dim_v(int64_t n) {
  s.dim_v = n;
  return note(join(".dim_v(", n, ")"));
}
Attention &Attention::rows(const Ints &packed) {
  s.rows = packed;
  return note(join(".rows(", text_of(packed), ")"));
}
Attention &Attention::keys(const Ints &packed) {
  s.keys = packed;
  return note(join(".keys(", text_of(packed), ")"));
}
Attention &Attention::lengths(const Ints &n) {
  s.lengths = n;
  s.head_lengths.clear();
  return note(join(".lengths(", text_of(n), ")"));
}
Attention &Attention::q_lengths(const Ints &n) {
  s.q_lengths = n;
  return note(join(".q_lengths(", text_of(n), ")"));
}
Attention &Attention::paged(int64_t page_len, bool csr, bool v_table) {
  s.page_len = page_len;
  s.csr = csr;
  s.v_table = v_table;
  return note(join(".paged(", page_len, ", ", csr, ", ", v_table, ")"));
}
Attention &Attention::head_pages(char outer) {
  s.head_pages = outer;
  return note(join(".head_pages('", outer, "')"));
}
Attention &Attention::head_lengths(const Ints &n) {
  s.head_lengths = n;
  s.lengths.clear();
  return note(join(".head_lengths(", text_of(n), ")"));
}
Attention &Attention::selected() {
  s.selected = true;
  return note(".selected()");
}
Attention &Attention::v_in_k() {
  s.v_in_k = true;
  return note(".v_in_k()");
}
Attention &Attention::contiguous() {
  s.contiguous = true;
  return note(".contiguous()");
}
Attention &Attention::askew(char tensor, int dimension) {
  s.contiguous = true;
  s.askew = tensor;
  s.askew_dimension = dimension;
  return note(join(".askew('", tensor, "', ", dimension, ")"));
}
Attention &Attention::causal(uint32_t alignment) {
  s.causal = 1;
  s.alignment = alignment;
  return note(join(".causal(", alignment, ")"));
}
Attention &Attention::top_left() {
  s.alignment = FOVEA_ALIGN_TOP_LEFT;
  return note(".top_left()");
}
Attention &Attention::window(int64_t left, int64_t right) {
  s.left = left;
  s.right = right;
  return note(join(".window(", left, ", ", right, ")"));
}
Attention &Attention::q_position(const Ints &n) {
  s.q_position = n;
  return note(join(".q_position(", text_of(n), ")"));
}
Attention &Attention::kv_first(const Ints &n) {
  s.kv_first = n;
  return note(join(".kv_first(", text_of(n), ")"));
}
Attention &Attention::kv_position(const Ints &n, int32_t stride) {
  s.kv_position = n;
  s.position_stride = stride;
  return note(join(".kv_position(", text_of(n), ", ", stride, ")"));
}
Attention &Attention::prefix(const Ints &n) {
  s.prefix = n;
  return note(join(".prefix(", text_of(n), ")"));
}
Attention &Attention::spans(uint32_t rule) {
  s.span_rule = rule;
  return note(join(".spans(", rule, ")"));
}
Attention &Attention::spans(uint32_t rule, SpanFill f) {
  s.span_rule = rule;
  s.span_fill = std::move(f);
  return note(join(".spans(", rule, ", ...)"));
}
Attention &Attention::mask(double hidden, const char *full) {
  read_full(full, &s.mask);
  s.mask.hidden = hidden;
  return note(join(".mask(", hidden, ", \"", full, "\")"));
}
Attention &Attention::bias(uint32_t dtype, double hidden, const char *full) {
  read_full(full, &s.bias);
  s.bias.dtype = dtype;
  s.bias.hidden = hidden;
  return note(join(".bias(", constant_of(dtype), ", ", hidden, ", \"", full, "\")"));
}
Attention &Attention::tree(int64_t columns) {
  s.tree = columns;
  return note(join(".tree(", columns, ")"));
}
Attention &Attention::alibi(bool shared) {
  s.alibi = true;
  s.alibi_shared = shared;
  return note(join(".alibi(", shared, ")"));
}
Attention &Attention::distances(int64_t first, int64_t count, bool shared) {
  s.first_distance = first;
  s.distances = count;
  s.distances_shared = shared;
  return note(join(".distances(", first, ", ", count, ", ", shared, ")"));
}
Attention &Attention::bias_scale() {
  s.bias_scale = true;
  return note(".bias_scale()");
}
Attention &Attention::additive(bool shared) {
  s.additive = true;
  s.additive_shared = shared;
  return note(join(".additive(", shared, ")"));
}
Attention &Attention::sinks() {
  s.sinks = true;
  return note(".sinks()");
}
Attention &Attention::scale(double x) {
  s.scale = x;
  return note(join(".scale(", x, ")"));
}
Attention &Attention::softcap(double x) {
  s.softcap = x;
  return note(join(".softcap(", x, ")"));
}
Attention &Attention::scales(const char *which, const char *full, int64_t blocks, double factor,
                             uint32_t dtype) {
  ScaleForm form;
  form.present = true;
  form.batch = std::strchr(full, 'b') != nullptr;
  form.seq = std::strchr(full, 's') != nullptr;
  form.head = std::strchr(full, 'h') != nullptr;
  form.blocks = blocks;
  form.factor = factor;
  form.dtype = dtype;
  if (std::strchr(which, 'q') != nullptr) s.q_scale = form;
  if (std::strchr(which, 'k') != nullptr) s.k_scale = form;
  if (std::strchr(which, 'v') != nullptr) s.v_scale = form;
  if (std::strchr(which, 'o') != nullptr) s.out_scale = form;
  return note(join(".scales(\"", which, "\", \"", full, "\", ", blocks, ", ", factor, ", ",
                   constant_of(dtype), ")"));
}
Attention &Attention::fixed_scales() {
  for (ScaleForm *form : {&s.q_scale, &s.k_scale, &s.v_scale, &s.out_scale}) form->fixed = true;
  return note(".fixed_scales()");
}
Attention &Attention::wide_scales(double octaves) {
  for (ScaleForm *form : {&s.q_scale, &s.k_scale, &s.v_scale, &s.out_scale}) {
    form->octaves = octaves;
    form->signs = true;
  }
  return note(join(".wide_scales(", octaves, ")"));
}
Attention &Attention::no_lse() {
  s.lse = false;
  return note(".no_lse()");
}
Attention &Attention::reproducible(uint32_t level) {
  s.reproducible = std::max(level, device_.reproducible);
  return note(join(".reproducible(", level, ")"));
}
Attention &Attention::sm_count(int32_t n) {
  s.sm_count = n;
  return note(join(".sm_count(", n, ")"));
}
Attention &Attention::clean() {
  s.clean = true;
  return note(".clean()");
}
Attention &Attention::tags(const Ints &n) {
  s.tags = n;
  return note(join(".tags(", text_of(n), ")"));
}
Attention &Attention::row_shift(int64_t n) {
  s.row_shift = n;
  return note(join(".row_shift(", n, ")"));
}
Attention &Attention::pick(const Ints &sequences) {
  Ints tags;
  for (int64_t n : sequences) tags.push_back(s.tags.empty() ? n : s.tags[static_cast<size_t>(n)]);
  for (Ints *list : {&s.rows, &s.q_lengths, &s.keys, &s.lengths, &s.q_position, &s.kv_first,
                     &s.kv_position, &s.prefix}) {
    if (list->empty()) continue;
    Ints picked;
    for (int64_t n : sequences) picked.push_back((*list)[static_cast<size_t>(n)]);
    *list = picked;
  }
  Ints head_lengths;
  for (int64_t n : sequences) {
    for (int64_t g = 0; g < s.heads_kv && !s.head_lengths.empty(); ++g) {
      head_lengths.push_back(s.head_lengths[static_cast<size_t>(n * s.heads_kv + g)]);
    }
  }
  s.head_lengths = head_lengths;
  s.tags = tags;
  s.batch = static_cast<int64_t>(sequences.size());
  return note(join(".pick(", text_of(sequences), ")"));
}
Attention &Attention::fill(const char *which, Fill f) {
  const std::string name = which;
  if (name == "q") s.q_fill = f;
  if (name == "k") s.k_fill = f;
  if (name == "v") s.v_fill = f;
  if (name == "v_scale") s.v_scale.fill = f;
  if (name == "sink") s.sink_fill = f;
  if (name == "bias") s.bias_fill = f;
  if (name == "mask") s.mask_fill = f;
  if (name == "slope") s.slope_fill = f;
  if (name == "tree") s.tree_fill = f;
  if (name == "distance") s.distance_fill = f;
  if (name == "bias_scale") s.bias_scale_fill = f;
  if (name == "vector") s.vector_fill = f;
  return note(join(".fill(\"", which, "\", <the test's>)"));
}

Outcome Attention::run() const {
  Case problem(s);
  Outcome outcome = problem.run(device_);
  EXPECT_EQ(outcome.status, FOVEA_OK) << outcome.detail << "\n" << text();
  EXPECT_EQ(outcome.damage, "") << text();
  return outcome;
}

Truth Attention::truth() const {
  return attend(Case(s).args);
}

void Attention::expect_matches_oracle() const {
  Case problem(s);
  expect_matches(problem, device_, text());
}

void expect_matches(Case &problem, const Device &device, const std::string &text) {
  const Outcome first = problem.run(device, 0xff);
  const Outcome second = problem.run(device, 0x00);
  ASSERT_EQ(first.status, FOVEA_OK) << first.detail << "\n" << text;
  EXPECT_EQ(first.damage, "") << text;
  EXPECT_EQ(difference(first, second), "") << "the second run differs\n" << text;
  const Truth truth = attend(problem.args);
  const std::vector<Finding> findings =
      judge(truth, observe(first, problem.settings, device), device.exact_probabilities);
  EXPECT_TRUE(passes(findings, truth)) << describe(findings) << "seed " << problem.settings.seed
                                       << "; to repeat:\n  " << text << ".expect_matches_oracle();";
  note_worst(findings, device);
  for (size_t n = 0; n < first.errors.size(); ++n) {
    EXPECT_EQ(first.errors[n] & truth.errors_required[n], truth.errors_required[n])
        << "errors[" << n << "] lacks bits\n"
        << text;
    EXPECT_EQ(first.errors[n] & ~truth.errors_allowed[n], 0u)
        << "errors[" << n << "] has bits without a cause\n"
        << text;
  }
}

}  // namespace fovea_test
