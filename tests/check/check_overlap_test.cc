// Rules on memory: an output's own strides, spans that must not meet, tensors that may interleave,
// arrays. The judge is a list of every byte of small tensors.
#include <algorithm>
#include <random>
#include <set>

#include "tests/check/check_case.h"

extern "C" {
#include "csrc/check/view.h"
#include "csrc/dtype.h"
}

namespace fovea_test {
namespace {

using Args = fovea_attention_args;

// The address of every byte of every element. An address that two elements share is listed twice.
std::vector<uintptr_t> BytesOf(const fovea_tensor &t) {
  std::vector<uintptr_t> bytes;
  const int64_t size = fv_dtype_block_bytes(t.dtype);
  for (int64_t a = 0; a < t.shape[0]; ++a)
    for (int64_t b = 0; b < t.shape[1]; ++b)
      for (int64_t c = 0; c < t.shape[2]; ++c)
        for (int64_t d = 0; d < t.shape[3]; ++d)
          for (int64_t byte = 0; byte < size; ++byte)
            bytes.push_back(
                reinterpret_cast<uintptr_t>(t.data) + byte +
                size * (a * t.stride[0] + b * t.stride[1] + c * t.stride[2] + d * t.stride[3]));
  std::sort(bytes.begin(), bytes.end());
  return bytes;
}

bool MeetsItself(const fovea_tensor &t) {
  const std::vector<uintptr_t> bytes = BytesOf(t);
  return std::adjacent_find(bytes.begin(), bytes.end()) != bytes.end();
}

bool ShareAByte(const fovea_tensor &a, const fovea_tensor &b) {
  const std::vector<uintptr_t> x = BytesOf(a), y = BytesOf(b);
  std::vector<uintptr_t> both;
  std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(both));
  return !both.empty();
}

bool SpansMeet(const fovea_tensor &a, const fovea_tensor &b) {
  const std::vector<uintptr_t> x = BytesOf(a), y = BytesOf(b);
  return !x.empty() && !y.empty() && x.front() <= y.back() && y.front() <= x.back();
}

// Whether an order of the dimensions exists in which each steps over the span of those before it.
bool IsNested(const fovea_tensor &t) {
  int order[] = {0, 1, 2, 3};
  do {
    int64_t reach = 1;
    bool nested = true;
    for (int i : order) {
      if (t.shape[i] == 1) continue;
      nested = nested && t.stride[i] >= reach;
      reach += (t.shape[i] - 1) * t.stride[i];
    }
    if (nested) return true;
  } while (std::next_permutation(order, order + 4));
  return false;
}

fv_view_rule Written() {
  return {FV_DTYPES_PLAIN, false, true, FV_LAST_ANY};
}

// ---- An output and itself --------------------------------------------------------------------

TEST(SelfOverlap, IsFoundInEverySmallTensor) {
  int64_t accepted = 0, strict = 0;
  const fv_view_rule rule = Written();
  for (int64_t code = 0; code < 4 * 4 * 4 * 3 * 6 * 6 * 6 * 2; ++code) {
    int64_t rest = code;
    auto next = [&rest](int64_t below) {
      const int64_t digit = rest % below;
      rest /= below;
      return digit;
    };
    fovea_tensor t = {};
    t.data = at(region(0));
    t.dtype = FOVEA_F16;
    for (int i = 0; i < 4; ++i) t.shape[i] = next(i == 3 ? 3 : 4);
    for (int i = 0; i < 4; ++i) t.stride[i] = next(i == 3 ? 2 : 6);
    fovea_tensor copy = t;
    const bool passes = fv_view_check({"out", -1}, &rule, &copy, true) == FOVEA_OK;
    const bool empty = BytesOf(t).empty();
    if (passes) {
      ASSERT_FALSE(MeetsItself(t)) << "accepted an output that meets itself: " << code;
    }
    ASSERT_EQ(passes, empty || IsNested(t)) << code;
    accepted += passes && !empty;
    strict += !passes && !MeetsItself(t);
  }
  // The rule is stricter than distinct addresses, but only where dimensions interleave.
  EXPECT_GT(accepted, 3000);
  EXPECT_GT(strict, 0);
}

TEST(SelfOverlap, NamesTheStrideThatIsTooSmall) {
  Args args = plain_attention();
  args.out.stride[1] = 31;  // four heads of 8
  EXPECT_THAT(Attention(args), Refuses("out.stride[1]", "must be at least 32"));
  EXPECT_THAT(Shape(args), Refuses("out.stride[1]"));
  args.out.stride[1] = 0;
  EXPECT_THAT(Attention(args), Refuses("out.stride[1]"));
  args = attention();
  args.lse.stride[2] = 0;
  EXPECT_THAT(Attention(args), Refuses("lse.stride[2]", "must be at least 1"));
  args.lse.stride[2] = 10;  // heads first
  args.lse.stride[1] = 1;
  args.lse.stride[0] = 40;
  EXPECT_THAT(Attention(args), Passes());
  args.lse.stride[0] = 34;
  EXPECT_THAT(Attention(args), Refuses("lse.stride[0]", "must be at least 35"));
}

// ---- Spans -----------------------------------------------------------------------------------

struct Memory {
  const char *name;
  void (*place)(Args &, uintptr_t);
  int64_t bytes;
  bool written;
};
#define PLACE(path)      \
#path, [](Args & args, \
            uintptr_t    \
                address) { args.path = at<std::remove_pointer_t<decltype(args.path)>>(address); }
#define TENSOR(path) #path, [](Args & args, uintptr_t address) { args.path.data = at(address); }

// All memory of attention(), in bytes by the header: 2 sequences, 5 rows, 4 and 2 heads.
const std::vector<Memory> kMemory = {
    {TENSOR(q), 2 * 5 * 4 * 16, false},
    {TENSOR(k), 2 * 7 * 2 * 16, false},
    {TENSOR(v), 2 * 7 * 2 * 8, false},
    {TENSOR(out), 2 * 5 * 4 * 8, true},
    {TENSOR(lse), 2 * 5 * 4 * 4, true},
    {TENSOR(q_scale), 2 * 5 * 4 * 2 * 4, false},
    {TENSOR(k_scale), 2 * 7 * 2 * 4 * 2, false},
    {TENSOR(v_scale), 2 * 7 * 2 * 2 * 2, false},
    {TENSOR(out_scale), 2 * 5 * 4 * 8 * 4, false},
    {TENSOR(visibility.mask), 2 * 5 * 4 * 7, false},
    {TENSOR(logits.bias), 2 * 5 * 4 * 7 * 4, false},
    {PLACE(sequences.kv_lengths), 2 * 4, false},
    {PLACE(positions.q), 2 * 4, false},
    {PLACE(sequences.kv_first), 2 * 4, false},
    {PLACE(positions.kv), 2 * 4, false},
    {PLACE(visibility.prefix_lengths), 2 * 4, false},
    {PLACE(visibility.spans), 2 * 2 * 5 * 4, false},
    {PLACE(sequences.q_lengths), 2 * 4, false},
    {PLACE(logits.bias_scale), 4 * 4, false},
    {PLACE(logits.additive.vector), (3 * 17 + 16) * 4, false},
    {PLACE(logits.distances.table), (3 * 6 + 5) * 4, false},
    {PLACE(visibility.tree.bits), 10 * 4, false},
    {PLACE(visibility.tree.lengths), 2 * 4, false},
    {PLACE(visibility.tree.starts), 2 * 4, false},
    {PLACE(logits.alibi_slopes), 2 * 4 * 4, false},
    {PLACE(logits.sinks), 4 * 4, false},
    {PLACE(errors), 2 * 4, false},
    {PLACE(workspace), 512, true},
};

TEST(AttentionOverlap, KeepsWhatIsWrittenApartFromAllElseByTheByte) {
  const uintptr_t place = region(60);
  for (const Memory &written : kMemory) {
    if (!written.written) continue;
    for (const Memory &other : kMemory) {
      if (other.name == written.name) continue;
      Args args = attention();
      auto set = [&](int64_t distance) {
        written.place(args, place);
        other.place(args, place + distance);
        return Attention(args);
      };
      // 16 bytes suit every alignment except that of the workspace.
      const int64_t step = std::string(other.name) == "workspace" ? 256 : 16;
      const int64_t after = (written.bytes + step - 1) / step * step;
      const int64_t before = (other.bytes + step - 1) / step * step;
      EXPECT_THAT(set(after), Passes()) << written.name << " before " << other.name;
      EXPECT_THAT(set(-before), Passes()) << written.name << " after " << other.name;
      for (int64_t distance : {after - step, int64_t{0}, step - before}) {
        Attention checked = set(distance);
        EXPECT_EQ(checked.status, FOVEA_BAD_ARGUMENT) << written.name << " " << other.name;
        EXPECT_THAT(checked.detail, testing::HasSubstr("overlaps"));
        EXPECT_THAT(checked.detail, testing::HasSubstr(std::string(written.name) + " [0x"));
        EXPECT_THAT(checked.detail, testing::HasSubstr(std::string(other.name) + " [0x"));
        EXPECT_THAT(Shape(args), Passes());
      }
    }
  }
}

TEST(AttentionOverlap, ToTheByteOfTheLastElement) {
  // Both have elements of a byte. out ends where k begins, then one byte later; then they swap.
  Args args = attention();
  args.k.data = at(region(3) + 2 * 5 * 4 * 8);
  EXPECT_THAT(Attention(args), Passes());
  args.k.data = at(region(3) + 2 * 5 * 4 * 8 - 1);
  EXPECT_THAT(Attention(args), Refuses("out", "overlaps k"));
  args.k.data = at(region(3) - 2 * 7 * 2 * 16);
  EXPECT_THAT(Attention(args), Passes());
  args.k.data = at(region(3) - 2 * 7 * 2 * 16 + 1);
  EXPECT_THAT(Attention(args), Refuses("out", "overlaps k"));
}

TEST(AttentionOverlap, LetsInputsShareMemory) {
  Args args = packed_and_paged();
  args.v.data = args.k.data;
  args.q.data = args.k.data;
  args.sequences.q_offsets = args.sequences.kv_lengths = args.sequences.pages.ids;
  EXPECT_THAT(Attention(args), Passes()) << "v may lie inside k";
}

TEST(AttentionOverlap, IsAboutSpansEvenIfElementsInterleave) {
  Args args = plain_attention();
  args.q.stride[2] = 32;  // 16 of every 32 elements
  args.q.stride[1] = 32 * 4;
  args.q.stride[0] = 32 * 4 * 5;
  args.out.data = at(region(0) + 16 * 4);
  for (int i = 0; i < 3; ++i) args.out.stride[i] = args.q.stride[i];
  EXPECT_THAT(Attention(args), Refuses("out", "overlaps q"));
}

TEST(AttentionOverlap, MeetsNothingWhereNothingIsSpanned) {
  Args args = attention();
  args.workspace = at(region(0));
  args.workspace_bytes = 0;
  EXPECT_THAT(Attention(args), Passes());
  args.workspace = nullptr;
  EXPECT_THAT(Attention(args), Passes());
  Args rows = plain_attention();
  rows.q.shape[1] = rows.out.shape[1] = 0;
  rows.out.data = rows.k.data;
  EXPECT_THAT(Attention(rows), Passes());
}

TEST(AttentionOverlap, AgreesWithEveryByteOfSmallTensors) {
  std::mt19937 random(7);
  int met = 0, apart = 0;
  for (int round = 0; round < 20000; ++round) {
    const uint32_t dtypes[] = {FOVEA_F32, FOVEA_F16, FOVEA_E4M3};
    auto small = [&](uint32_t dtype) {
      fovea_tensor t = {};
      const int64_t size = fv_dtype_block_bytes(dtype);
      t.dtype = dtype;
      t.data = at(region(0) + size * (random() % 40));
      for (int i = 0; i < 4; ++i) {
        t.shape[i] = random() % 4;
        t.stride[i] = random() % 9;
      }
      return t;
    };
    fovea_tensor a = small(dtypes[random() % 3]), b = small(dtypes[random() % 3]);
    const fv_span x = fv_view_span({"a", -1}, &a), y = fv_view_span({"b", -1}, &b);
    const bool refused = fv_view_check_apart(&x, &y) != FOVEA_OK;
    ASSERT_EQ(refused, SpansMeet(a, b)) << round;
    (refused ? met : apart)++;
  }
  EXPECT_GT(met, 500);
  EXPECT_GT(apart, 1000);
}

// ---- Workspace -------------------------------------------------------------------------------

TEST(AttentionWorkspace, IsAlignedTo256) {
  for (uintptr_t offset : {1, 2, 64, 128, 255, 257}) {
    Args args = attention();
    args.workspace = at(region(22) + offset);
    EXPECT_THAT(Attention(args), Refuses("workspace", "256"));
  }
  Args args = attention();
  args.workspace = at(region(22) + 256);
  EXPECT_THAT(Attention(args), Passes());
  args.workspace = nullptr;
  EXPECT_THAT(Attention(args), Refuses("workspace", "workspace_bytes"));
  args.workspace = at(UINTPTR_MAX - 511);
  args.workspace_bytes = 511;
  EXPECT_THAT(Attention(args), Passes());
  args.workspace_bytes = 512;
  EXPECT_THAT(Attention(args), Refuses("workspace_bytes", "address space"));
}

// ---- Arrays ----------------------------------------------------------------------------------

TEST(AttentionArrays, AreAlignedToTheirElements) {
  for (const Memory &array : kMemory) {
    if (array.written || std::string(array.name).find("scale") != std::string::npos) continue;
    if (array.bytes > 100) continue;  // a tensor: see check_attention_test.cc
    for (uintptr_t offset : {1, 2, 3}) {
      Args args = attention();
      array.place(args, region(60) + offset);
      EXPECT_THAT(Attention(args), Refuses(array.name, "4 bytes")) << offset;
      EXPECT_THAT(Shape(args), Passes());
    }
  }
  for (uintptr_t offset : {1, 2, 3}) {
    Args args = packed_and_paged();
    args.sequences.q_offsets = at<int32_t>(region(60) + offset);
    EXPECT_THAT(Attention(args), Refuses("sequences.q_offsets"));
    args = packed_and_paged();
    args.sequences.pages.ids = at<int32_t>(region(60) + offset);
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.ids"));
    args = packed_and_paged();
    args.sequences.pages.v_ids = at<int32_t>(region(60) + offset);
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.v_ids"));
    args = packed_and_paged();
    args.sequences.pages.offsets = at<int32_t>(region(60) + offset);
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.offsets"));
    args = packed_and_paged();
    args.sequences.kv_lengths = nullptr;
    args.sequences.pages.head_lengths = at<int32_t>(region(60) + offset);
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.head_lengths"));
    args = plain_attention();
    args.k.shape[0] = args.v.shape[0] = 1;
    args.sequences.kv_offsets = at<int32_t>(region(60) + offset);
    EXPECT_THAT(Attention(args), Refuses("sequences.kv_offsets"));
  }
}

// Places the tensor out right behind an array of `bytes` bytes, then one element closer.
void ExpectArrayOf(int64_t bytes, const char *name, Args args, const int32_t *array) {
  args.out.data = at(reinterpret_cast<uintptr_t>(array) + bytes);
  EXPECT_THAT(Attention(args), Passes()) << name << " has more than " << bytes << " bytes";
  args.out.data = at(reinterpret_cast<uintptr_t>(array) + bytes - 4);
  EXPECT_THAT(Attention(args), Refuses("out", std::string("overlaps ") + name)) << bytes;
}

TEST(AttentionArrays, OfPackedAndPagedCallsHaveTheHeadersSizes) {
  const Args args = packed_and_paged();
  ExpectArrayOf((3 + 1) * 4, "sequences.q_offsets", args, args.sequences.q_offsets);
  ExpectArrayOf(3 * 4, "sequences.kv_lengths", args, args.sequences.kv_lengths);
  ExpectArrayOf((2 * 5 + 4) * 4, "sequences.pages.ids", args, args.sequences.pages.ids);
  Args v = args;
  v.sequences.pages.v_ids = at<int32_t>(region(30));
  ExpectArrayOf((2 * 5 + 4) * 4, "sequences.pages.v_ids", v, v.sequences.pages.v_ids);
  for (int64_t head_stride : {4, 15}) { /* heads within sequences need 8, and may overlap */
    Args heads = v;
    heads.sequences.pages.head_stride = head_stride;
    const int64_t bytes = (2 * 5 + head_stride + 4) * 4;
    ExpectArrayOf(bytes, "sequences.pages.ids", heads, heads.sequences.pages.ids);
    ExpectArrayOf(bytes, "sequences.pages.v_ids", heads, heads.sequences.pages.v_ids);
  }
  Args lengths = args;
  lengths.sequences.kv_lengths = nullptr;
  lengths.sequences.pages.head_lengths = at<int32_t>(region(31));
  ExpectArrayOf(3 * 2 * 4, "sequences.pages.head_lengths", lengths,
                lengths.sequences.pages.head_lengths);
  Args csr = args;
  csr.sequences.pages.offsets = at<int32_t>(region(30));
  ExpectArrayOf((3 + 1) * 4, "sequences.pages.offsets", csr, csr.sequences.pages.offsets);
  ExpectArrayOf(4 * 4, "sequences.pages.ids", csr, csr.sequences.pages.ids);
  Args keys = plain_attention();
  keys.k.shape[0] = keys.v.shape[0] = 1;
  keys.sequences.kv_offsets = at<int32_t>(region(30));
  ExpectArrayOf((2 + 1) * 4, "sequences.kv_offsets", keys, keys.sequences.kv_offsets);
  Args shared = plain_attention();
  shared.logits.alibi_slopes = at<float>(region(30));
  ExpectArrayOf(4 * 4, "logits.alibi_slopes", shared, at<int32_t>(region(30)));
}

TEST(AttentionArrays, OfNoSequencesHaveNoElements) {
  Args args = packed_and_paged();
  args.sequences.count = 0;
  const uintptr_t inside = region(3) + 64;  // of out
  args.sequences.kv_lengths = args.sequences.kv_first = args.sequences.pages.ids =
      at<int32_t>(inside);
  args.logits.alibi_slopes = at<float>(inside);
  args.logits.alibi_stride = 4;
  EXPECT_THAT(Attention(args), Passes());
  args.logits.sinks = at<float>(inside);
  EXPECT_THAT(Attention(args), Refuses("out", "overlaps logits.sinks"));
}

TEST(AttentionArrays, AreNoLongerThanTheAddressSpace) {
  Args slopes = attention();
  slopes.logits.alibi_stride = kMost;
  EXPECT_THAT(Attention(slopes), Refuses("logits.alibi_slopes", "too long"));
  EXPECT_THAT(Shape(slopes), Refuses("logits.alibi_slopes", "too long"));
  Args ids = packed_and_paged();
  ids.sequences.pages.row_stride = kMost;
  EXPECT_THAT(Attention(ids), Refuses("sequences.pages.ids", "too long"));
  Args words = attention();
  words.visibility.tree.words = int64_t{1} << 61;
  EXPECT_THAT(Attention(words), Refuses("visibility.tree.bits", "too long"));
  words.visibility.tree.words -= 1;
  words.visibility.tree.bits = at<uint32_t>(region(60));
  EXPECT_THAT(Attention(words), Passes());
  Args end = attention();
  end.logits.sinks = at<float>(UINTPTR_MAX - 15);
  EXPECT_THAT(Attention(end), Refuses("logits.sinks", "too long"));
  EXPECT_THAT(Shape(end), Passes());
}

// ---- Tensors that interleave -----------------------------------------------------------------

TEST(Interleaving, IsNeverSeenWhereAByteIsShared) {
  std::mt19937 random(11);
  int interleaved = 0, met = 0;
  for (int round = 0; round < 40000; ++round) {
    fovea_tensor a = {}, b = {};
    a.dtype = b.dtype = FOVEA_I8;
    if (random() % 4 == 0) b.dtype = FOVEA_F16;
    a.data = at(region(0) + 2 * (random() % 16));
    b.data = at(region(0) + 2 * (random() % 16));
    for (int i = 0; i < 4; ++i) {
      a.shape[i] = 1 + random() % 3;
      b.shape[i] = random() % 4 == 0 ? 1 + random() % 3 : a.shape[i];
      a.stride[i] = random() % 17;
      const bool same_bytes = random() % 8 != 0 && (b.dtype == FOVEA_I8 || a.stride[i] % 2 == 0);
      b.stride[i] = same_bytes ? a.stride[i] / (b.dtype == FOVEA_I8 ? 1 : 2) : random() % 17;
      if (a.shape[i] == 1) a.stride[i] = 0;
      if (b.shape[i] == 1) b.stride[i] = 0;
    }
    const bool apart = fv_view_interleaves(&a, &b);
    ASSERT_EQ(apart, fv_view_interleaves(&b, &a)) << round;
    if (apart) {
      ASSERT_FALSE(ShareAByte(a, b)) << round;
    }
    if (!SpansMeet(a, b)) {
      ASSERT_TRUE(apart) << round;
    }
    interleaved += apart && SpansMeet(a, b);
    met += !apart;
  }
  EXPECT_GT(interleaved, 100);
  EXPECT_GT(met, 500);
}

// Two views in one buffer of bytes.
struct Pair {
  const char *name;
  fovea_tensor a, b;
};

fovea_tensor In(int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> stride) {
  fovea_tensor t = {};
  t.data = at(region(0) + offset);
  t.dtype = FOVEA_I8;
  std::copy(shape.begin(), shape.end(), t.shape);
  std::copy(stride.begin(), stride.end(), t.stride);
  return t;
}

TEST(Interleaving, CoversTheUsualLayoutsOfKeysAndValuesInOneCache) {
  const std::vector<Pair> layouts = {
      {"[pages, 2, slots, heads, dim]", In(0, {5, 4, 2, 8}, {128, 16, 8, 1}),
       In(64, {5, 4, 2, 8}, {128, 16, 8, 1})},
      {"[pages, slots, 2, heads, dim]", In(0, {5, 4, 2, 8}, {128, 32, 8, 1}),
       In(16, {5, 4, 2, 8}, {128, 32, 8, 1})},
      {"[pages, slots, heads, dim + dim_v]", In(0, {5, 4, 2, 8}, {112, 28, 14, 1}),
       In(8, {5, 4, 2, 6}, {112, 28, 14, 1})},
      {"[pages, heads, slots, dim + dim_v], padded", In(3, {5, 4, 2, 8}, {150, 14, 56, 1}),
       In(11, {5, 4, 2, 6}, {150, 14, 56, 1})},
      {"v before k", In(64, {5, 4, 2, 8}, {128, 16, 8, 1}), In(0, {5, 4, 2, 8}, {128, 16, 8, 1})},
  };
  for (const Pair &pair : layouts) {
    EXPECT_TRUE(fv_view_interleaves(&pair.a, &pair.b)) << pair.name;
    EXPECT_TRUE(SpansMeet(pair.a, pair.b)) << pair.name;
    for (int64_t move : {-1, 1}) {
      fovea_tensor moved = pair.b;
      moved.data = at(reinterpret_cast<uintptr_t>(moved.data) + move);
      // In tight layouts the views share a byte if one moves; in a padded one on one side only.
      EXPECT_EQ(fv_view_interleaves(&pair.a, &moved), !ShareAByte(pair.a, moved))
          << pair.name << " moved by " << move;
    }
  }
}

}  // namespace
}  // namespace fovea_test
