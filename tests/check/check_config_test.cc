// The rules of fovea_options and fovea_limits, and how structs grow.
#include "tests/check/check_case.h"

extern "C" {
#include "csrc/check/rule.h"
#include "csrc/check/view.h"
#include "csrc/dtype.h"
}

namespace fovea_test {
namespace {

template <class Args>
struct Field {
  const char *name;
  void (*set)(Args &, int64_t);
  std::vector<int64_t> good, bad;
};

#define SET(Args, path) \
#path, [](Args & args, int64_t value) { args.path = static_cast<decltype(args.path)>(value); }

// ---- Limits ----------------------------------------------------------------------------------

fovea_limits limits() {
  fovea_limits args = {};
  args.struct_size = sizeof args;
  args.heads_q = args.heads_kv = 1;
  args.sequences = args.total_q = args.len_kv = 1;
  return args;
}

TEST(Limits, LieInTheirRanges) {
  const int64_t i32 = INT32_MAX, low = INT32_MIN, u32 = UINT32_MAX;
  const std::vector<Field<fovea_limits>> fields = {
      {SET(fovea_limits, q_dtype), {0, 1, 2, 3, 4}, {5, 6, 7, 8, u32}},
      {SET(fovea_limits, k_dtype), {0, 1, 2, 3, 4, 5, 6, 8, 9}, {7, 10, u32}},
      {SET(fovea_limits, v_dtype), {0, 1, 2, 3, 4, 5, 6, 8, 9}, {7, 10, u32}},
      {SET(fovea_limits, out_dtype), {0, 1, 2, 3, 4}, {5, 6, 7, 8, u32}},
      {SET(fovea_limits, dim), {0, 1, 60, 576, 577, i32}, {-1, low}},
      {SET(fovea_limits, dim_v), {0, 1, 60, 512, 513, i32}, {-1, low}},
      {SET(fovea_limits, heads_q), {1, 2, i32}, {0, -1, low}},
      {SET(fovea_limits, heads_kv), {1, 2, i32}, {0, -1, low}},
      {SET(fovea_limits, sequences), {1, 2, kMost}, {0, -1, kLeast}},
      {SET(fovea_limits, total_q), {1, 2, kMost}, {0, -1, kLeast}},
      {SET(fovea_limits, len_kv), {1, 2, kMost}, {0, -1, kLeast}},
      {SET(fovea_limits, sm_count), {0, 1, i32}, {-1, low}},
  };
  for (const auto &field : fields) {
    for (int64_t value : field.good) {
      fovea_limits args = limits();
      field.set(args, value);
      EXPECT_THAT(Limits(args), Passes()) << field.name << " = " << value;
    }
    for (int64_t value : field.bad) {
      fovea_limits args = limits();
      field.set(args, value);
      EXPECT_THAT(Limits(args), Refuses(field.name)) << field.name << " = " << value;
    }
  }
  for (int i = 0; i < 3; ++i) {
    fovea_limits args = limits();
    args.reserved[i] = 1;
    EXPECT_THAT(Limits(args), Refuses("limits.reserved[" + std::to_string(i) + "]"));
  }
}

TEST(Limits, OfDimDefaultToTheHeadersLargest) {
  Limits checked(limits());
  EXPECT_EQ(checked.problem.dim, 576);
  EXPECT_EQ(checked.problem.dim_v, 512);
}

TEST(Limits, BeyondWhatACallCanBringAreBroughtDownToIt) {
  fovea_limits args = limits();
  args.dim = 577;
  args.dim_v = 513;
  args.sequences = args.len_kv = kExtents;
  args.total_q = kMost;
  Limits checked(args);
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.dim, 576);
  EXPECT_EQ(checked.problem.dim_v, 512);
  EXPECT_EQ(checked.problem.sequences, kExtents - 1);
  EXPECT_EQ(checked.problem.len_kv, kExtents - 1);
  EXPECT_EQ(checked.problem.total_q, (kExtents - 1) * (kExtents - 1));
  args.dim = 575;
  args.dim_v = 511;
  args.sequences = kExtents - 2;
  args.len_kv = kExtents - 3;
  args.total_q = (kExtents - 1) * (kExtents - 1) - 1;
  Limits below(args);
  EXPECT_EQ(below.problem.dim, 575);
  EXPECT_EQ(below.problem.dim_v, 511);
  EXPECT_EQ(below.problem.sequences, kExtents - 2);
  EXPECT_EQ(below.problem.len_kv, kExtents - 3);
  EXPECT_EQ(below.problem.total_q, (kExtents - 1) * (kExtents - 1) - 1);
}

// ---- Options ---------------------------------------------------------------------------------

fovea_options options() {
  fovea_options args = {};
  args.struct_size = sizeof args;
  return args;
}

TEST(Options, OfNoneAreTheDefaults) {
  fovea_options copy;
  memset(static_cast<void *>(&copy), 0xa5, sizeof copy);
  ASSERT_EQ(fv_check_options(nullptr, &copy), FOVEA_OK);
  const fovea_options expected = options();
  EXPECT_EQ(memcmp(&copy, &expected, sizeof copy), 0);
}

TEST(Options, LieInTheirRanges) {
  const int64_t i32 = INT32_MAX, low = INT32_MIN, u32 = UINT32_MAX;
  const std::vector<Field<fovea_options>> fields = {
      {SET(fovea_options, device), {0, 1, 2, 3}, {4, 5, u32}},
      {SET(fovea_options, ordinal), {0, 1, i32}, {-1, low}},
      {SET(fovea_options, threads), {0, 1, 1024, 4096}, {-1, low, 4097, i32}},
      {SET(fovea_options, reserved), {0}, {1, u32}},
  };
  for (const auto &field : fields) {
    for (int64_t value : field.good) {
      fovea_options args = options();
      field.set(args, value);
      EXPECT_THAT(Options(args), Passes()) << field.name << " = " << value;
    }
    for (int64_t value : field.bad) {
      fovea_options args = options();
      field.set(args, value);
      EXPECT_THAT(Options(args), Refuses(field.name)) << field.name << " = " << value;
    }
  }
}

TEST(Options, NumberOnlyCudaDevices) {
  for (uint32_t device : {FOVEA_DEVICE_CPU, FOVEA_DEVICE_REFERENCE}) {
    fovea_options args = options();
    args.device = device;
    EXPECT_THAT(Options(args), Passes());
    args.ordinal = 1;
    EXPECT_THAT(Options(args), Refuses("ordinal"));
  }
  for (uint32_t device : {FOVEA_DEVICE_AUTO, FOVEA_DEVICE_CUDA}) {
    fovea_options args = options();
    args.device = device;
    args.ordinal = 1;
    EXPECT_THAT(Options(args), Passes());
  }
}

// ---- Growth ----------------------------------------------------------------------------------

// A struct as a newer header would have it: ours, then `extra` bytes.
template <class Args>
std::vector<unsigned char> Grown(const Args &args, size_t extra) {
  std::vector<unsigned char> bytes(sizeof args + extra);
  memcpy(bytes.data(), &args, sizeof args);
  const size_t size = bytes.size();
  memcpy(bytes.data(), &size, sizeof size);
  return bytes;
}

// first: the size of the struct in its first release.
template <class Args, class Check>
void ExpectGrowth(const char *type, const Args &args, Check check, size_t first = sizeof(Args)) {
  const std::string field = std::string(type) + ".struct_size";
  using testing::HasSubstr;
  using testing::StartsWith;
  // The size of this header, and larger ones if the tail is zero.
  for (size_t extra : {0, 1, 7, 8, 96, 1000}) {
    const std::vector<unsigned char> bytes = Grown(args, extra);
    EXPECT_EQ(check(bytes.data()), FOVEA_OK) << type << " + " << extra;
  }
  // Those of every release since the first: what they lack is zero in `args`.
  for (size_t size = first; size < sizeof args; size += 8) {
    std::vector<unsigned char> bytes = Grown(args, 0);
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(), 0xee);
    memcpy(bytes.data(), &size, sizeof size);
    EXPECT_EQ(check(bytes.data()), FOVEA_OK) << type << " of " << size;
  }
  // A byte that this library does not know is set.
  for (size_t extra : {1, 8, 33}) {
    for (size_t i = 0; i < extra; ++i) {
      std::vector<unsigned char> bytes = Grown(args, extra);
      bytes[sizeof args + i] = 1;
      EXPECT_EQ(check(bytes.data()), FOVEA_BAD_ARGUMENT) << type << " byte " << i;
      EXPECT_THAT(fovea_error_detail(), StartsWith(field));
      EXPECT_THAT(fovea_error_detail(), HasSubstr("newer"));
    }
  }
  for (size_t size = first; size <= sizeof args; size += 8) {
    std::vector<unsigned char> bytes = Grown(args, 0);
    memcpy(bytes.data(), &size, sizeof size);
    EXPECT_EQ(check(bytes.data()), FOVEA_OK) << type << " of " << size;
  }
  // No release had these sizes: forgotten, too small, absurd.
  for (size_t size : {size_t{0}, size_t{1}, size_t{8}, first - 8, size_t{4097}, SIZE_MAX}) {
    std::vector<unsigned char> bytes = Grown(args, 4200);
    memcpy(bytes.data(), &size, sizeof size);
    EXPECT_EQ(check(bytes.data()), FOVEA_BAD_ARGUMENT) << type << " of " << size;
    EXPECT_THAT(fovea_error_detail(), StartsWith(field));
    EXPECT_THAT(fovea_error_detail(), HasSubstr(std::to_string(size)));
  }
  std::vector<unsigned char> largest = Grown(args, 4096 - sizeof args);
  EXPECT_EQ(check(largest.data()), FOVEA_OK) << type;
}

TEST(StructGrowth, WorksForEveryStructOfArguments) {
  const fovea_attention_args attention_args = attention();
  ExpectGrowth("fovea_attention_args", attention_args, [](const void *args) {
    fv_problem problem;
    return fv_check_attention(static_cast<const fovea_attention_args *>(args), &problem);
  });
  fovea_weights_args weights = {};
  weights.struct_size = sizeof weights;
  weights.attention = &attention_args;
  weights.weights = view(40, FOVEA_F32, 1, 1, 1, 8);
  ExpectGrowth(
      "fovea_weights_args", weights,
      [](const void *args) {
        fv_weights_problem problem;
        return fv_check_weights(static_cast<const fovea_weights_args *>(args), &problem);
      },
      offsetof(fovea_weights_args, kind));
  const fovea_tensor outs[] = {view(0, FOVEA_F32, 1, 1, 1, 8), view(1, FOVEA_F32, 1, 1, 1, 8)};
  const fovea_tensor lses[] = {view(2, FOVEA_F32, 1, 1, 1, 1), view(3, FOVEA_F32, 1, 1, 1, 1)};
  fovea_merge_args merge = {};
  merge.struct_size = sizeof merge;
  merge.count = 2;
  merge.outs = outs;
  merge.lses = lses;
  merge.out = view(4, FOVEA_F32, 1, 1, 1, 8);
  ExpectGrowth("fovea_merge_args", merge, [](const void *args) {
    fv_merge_problem problem;
    return fv_check_merge(static_cast<const fovea_merge_args *>(args), &problem);
  });
  ExpectGrowth(
      "fovea_kv_append_args", append(),
      [](const void *args) {
        fv_append_problem problem;
        return fv_check_append(static_cast<const fovea_kv_append_args *>(args), &problem);
      },
      FV_FIRST_BYTES(fovea_kv_append_args, detail_bytes));
  ExpectGrowth("fovea_limits", limits(), [](const void *args) {
    fovea_limits copy;
    return fv_check_limits(static_cast<const fovea_limits *>(args), &copy);
  });
  ExpectGrowth("fovea_options", options(), [](const void *args) {
    fovea_options copy;
    return fv_check_options(static_cast<const fovea_options *>(args), &copy);
  });
}

TEST(StructGrowth, RefusesNoStructAtAll) {
  fv_problem problem;
  EXPECT_EQ(fv_check_attention(nullptr, &problem), FOVEA_BAD_ARGUMENT);
  EXPECT_THAT(fovea_error_detail(), testing::StartsWith("fovea_attention_args: "));
  EXPECT_EQ(fv_check_attention_shape(nullptr, &problem), FOVEA_BAD_ARGUMENT);
  fv_weights_problem weights;
  EXPECT_EQ(fv_check_weights(nullptr, &weights), FOVEA_BAD_ARGUMENT);
  fv_merge_problem merge;
  EXPECT_EQ(fv_check_merge(nullptr, &merge), FOVEA_BAD_ARGUMENT);
  fv_append_problem append;
  EXPECT_EQ(fv_check_append(nullptr, &append), FOVEA_BAD_ARGUMENT);
  fovea_limits limits;
  EXPECT_EQ(fv_check_limits(nullptr, &limits), FOVEA_BAD_ARGUMENT);
  EXPECT_THAT(fovea_error_detail(), testing::StartsWith("fovea_limits: "));
}

// A struct whose first release ended after `a`.
struct Toy {
  size_t struct_size;
  int32_t a;
  int32_t b;
};

TEST(StructGrowth, ExtendsAnOlderStructWithZeros) {
  const Toy given = {sizeof(size_t) + 4, 5, 77};
  Toy copy = {1, 2, 3};
  ASSERT_EQ(fv_rule_copy_struct(&copy, sizeof copy, sizeof(size_t) + 4, &given, "toy"), FOVEA_OK);
  EXPECT_EQ(copy.struct_size, sizeof copy);
  EXPECT_EQ(copy.a, 5);
  EXPECT_EQ(copy.b, 0) << "not a byte behind the caller's struct is read";
  const Toy short_one = {sizeof(size_t) + 3, 5, 0};
  EXPECT_EQ(fv_rule_copy_struct(&copy, sizeof copy, sizeof(size_t) + 4, &short_one, "toy"),
            FOVEA_BAD_ARGUMENT);
  EXPECT_STREQ(fovea_error_detail(),
               "toy.struct_size is 11, must be from 12 to 4096; start with `toy x = {.struct_size "
               "= sizeof x};`");
}

// ---- Texts -----------------------------------------------------------------------------------

TEST(RuleText, CutsALongNameInsteadOfOverrunningIt) {
  // No field has so long a name, but the buffers must be safe all the same.
  const std::string longer(200, 'n');
  const fv_rule rule = {"shape", "==", "args->q.shape[0]", "", 1, 2};
  EXPECT_EQ(fv_rule_broken_at({longer.c_str(), 7}, 3, &rule), FOVEA_BAD_ARGUMENT);
  EXPECT_THAT(fovea_error_detail(), testing::StartsWith(longer.substr(0, 63)));
  EXPECT_THAT(fovea_error_detail(),
              testing::EndsWith(" is 1, must equal q.shape[0] (batch), which is 2"));
}

// The choices do not follow the order of the enum: k may be 5 and 6 (e5m2, i8), q may not.
TEST(RuleText, NamesTheChoicesOfAWord) {
  fovea_limits limit = limits();
  limit.q_dtype = FOVEA_E5M2;
  EXPECT_EQ(Limits(limit).detail, "q_dtype is 5 (e5m2), must be one of: any (0) f32 f16 bf16 e4m3");
  limit = limits();
  limit.v_dtype = 77;
  EXPECT_EQ(Limits(limit).detail,
            "v_dtype is 77 (unknown), must be one of: any (0) f32 f16 bf16 e4m3 e5m2 i8 q8_0 q4_0");
  fovea_options option = options();
  option.device = 4;
  EXPECT_EQ(Options(option).detail,
            "device is 4, must be one of: FOVEA_DEVICE_AUTO, FOVEA_DEVICE_CPU, "
            "FOVEA_DEVICE_REFERENCE, FOVEA_DEVICE_CUDA");
  option = options();
  option.threads = INT32_MAX;
  EXPECT_EQ(Options(option).detail,
            "threads is 2147483647, must be at most 4096; 0 takes as many as the process may use");
  fovea_kv_append_args appended = append();
  appended.rope.style = 2;
  EXPECT_EQ(Append(appended).detail,
            "rope.style is 2, must be one of: FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED");
}

TEST(ElementBytes, AreThoseOfTheFormats) {
  const int64_t bytes[] = {0, 4, 2, 2, 1, 1, 1, 1, 34, 18, 0, 0};
  for (uint32_t dtype = 0; dtype < 12; ++dtype) {
    const bool blocks = dtype == FOVEA_Q8_0 || dtype == FOVEA_Q4_0;
    EXPECT_EQ(fv_dtype_block_bytes(dtype), bytes[dtype]) << dtype;
    EXPECT_EQ(fv_dtype_block_len(dtype), blocks ? 32 : 1) << dtype;
    EXPECT_EQ(fv_dtype_is_blocks(dtype), blocks) << dtype;
    EXPECT_EQ(fv_dtype_size(dtype, 96), (blocks ? 3 : 96) * bytes[dtype]) << dtype;
    EXPECT_EQ(fv_dtype_alignment(dtype), blocks ? 2 : bytes[dtype]) << dtype;
  }
  EXPECT_EQ(fv_dtype_size(UINT32_MAX, 64), 0);
}

TEST(RuleText, SaysFieldValueRuleAndRemedy) {
  fovea_attention_args args = plain_attention();
  args.q.shape[2] = 3;
  EXPECT_EQ(Attention(args).detail,
            "q.shape[2] (heads_q) is 3, must be a multiple of k.shape[2] (heads_kv), which is 2");
  args = plain_attention();
  args.q.shape[3] = 577;
  EXPECT_EQ(Attention(args).detail, "q.shape[3] (dim) is 577, must be at most 576");
  args = plain_attention();
  args.k.shape[3] = 24;
  EXPECT_EQ(Attention(args).detail,
            "k.shape[3] (dim) is 24, must equal q.shape[3] (dim), which is 16");
  args = plain_attention();
  args.positions.alignment = 2;
  EXPECT_EQ(
      Attention(args).detail,
      "positions.alignment is 2, must be one of: FOVEA_ALIGN_BOTTOM_RIGHT, FOVEA_ALIGN_TOP_LEFT");
  args = plain_attention();
  args.visibility.causal = 2;
  EXPECT_EQ(Attention(args).detail, "visibility.causal is 2, must be one of: 0, 1");
  args = plain_attention();
  args.sequences.count = -4;
  EXPECT_EQ(Attention(args).detail, "sequences.count is -4, must be at least 0");
  args = plain_attention();
  args.flags = 6;
  EXPECT_EQ(Attention(args).detail,
            "flags is 0x6, must have no bit but those of FOVEA_ALLOW_DEPENDENT_LAUNCH");
  args = plain_attention();
  args.q.dtype = FOVEA_I8;
  EXPECT_EQ(Attention(args).detail, "q.dtype is 6 (i8), must be one of: f32 f16 bf16 e4m3");
  args = plain_attention();
  args.lse.dtype = FOVEA_F16;
  EXPECT_EQ(Attention(args).detail, "lse.dtype is 2 (f16), must be one of: none f32");
  args = plain_attention();
  args.logits.scale = -1;
  EXPECT_EQ(Attention(args).detail, "logits.scale is -1, must be finite and at least 0");
  args = attention();
  args.v.dtype = FOVEA_BF16;
  EXPECT_EQ(Attention(args).detail,
            "v_scale.dtype must be none: v.dtype is bf16, and only e4m3, e5m2 and i8 have scales");
  args = attention();
  args.q_scale.shape[3] = 3;
  EXPECT_EQ(Attention(args).detail,
            "q_scale.shape[3] (blocks) is 3, must divide q.shape[3], which is 16");
  args = attention();
  args.visibility.mask.shape[1] = 4;
  EXPECT_EQ(Attention(args).detail,
            "visibility.mask.shape[1] (rows) is 4, must be at least q.shape[1] (len_q), which is "
            "5; or be 1, "
            "which broadcasts");
  args = attention();
  args.visibility.window_left = {FOVEA_WINDOW_LIMITED, -1};
  EXPECT_EQ(Attention(args).detail,
            "visibility.window_left.count is -1, must be at least 0; kind 0 has no limit");
  args.visibility.window_left = {FOVEA_WINDOW_UNLIMITED, 128};
  EXPECT_EQ(Attention(args).detail,
            "visibility.window_left.count is 128, must be 0 while kind is FOVEA_WINDOW_UNLIMITED; "
            "a window "
            "needs kind FOVEA_WINDOW_LIMITED");
  args = packed_and_paged();
  args.sequences.pages.count = 0;
  EXPECT_EQ(Attention(args).detail,
            "sequences.pages.count is 0, must be at least 1; it counts the ids of a sequence, or "
            "with offsets "
            "all ids");
  args = packed_and_paged();
  args.sequences.kv_lengths = nullptr;
  EXPECT_EQ(
      Attention(args).detail,
      "sequences.kv_lengths is NULL, must be given with pages.ids, or else pages.head_lengths");
  args = packed_and_paged();
  args.sequences.kv_offsets = at<int32_t>(region(30));
  EXPECT_EQ(Attention(args).detail, "sequences.kv_offsets is given, must be NULL with pages.ids");
  args = plain_attention();
  args.q.data = at(0x1001);
  EXPECT_EQ(Attention(args).detail, "q.data is 0x1001, must be aligned to its elements of 4 bytes");
  args = plain_attention();
  args.out.data = at(region(0) + 64);
  EXPECT_EQ(Attention(args).detail,
            "out [0x1000000040, 0x1000000540) overlaps q [0x1000000000, 0x1000000a00): what is "
            "written needs memory of its own");
}

}  // namespace
}  // namespace fovea_test
