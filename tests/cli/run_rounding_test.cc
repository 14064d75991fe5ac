// run_rounding_test.cc - --dtype and the types of files. With a single key, out is v and the LSE is
// the scaled product. Both show exactly what the inputs were rounded to.
#include "tests/cli/made_file.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

struct Computed {
  ReadTensor out, lse;
};

// q and v hold the values, k holds ones. Each value has a head of its own, whose rest is zeros.
Computed compute(fv_file_dtype type, const Values &values, std::vector<std::string> flags) {
  const int64_t heads = (int64_t)values.size();
  Directory directory;
  MadeFile file;
  auto alone = [&values](int64_t i) { return i % 8 ? 0.0 : values[(size_t)(i / 8)]; };
  file.tensor("q", type, {1, heads, 1, 8}, alone);
  file.tensor("k", type, {1, heads, 1, 8}, [](int64_t) { return 1.0; });
  file.tensor("v", type, {1, heads, 1, 8}, alone);
  std::string output = directory.file("o.safetensors");
  flags.insert(flags.begin(), {"run", file.write(directory), "--scale", "1", "--output", output});
  Ran ran = fovea(flags);
  EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  return {read_tensor(output, "out"), read_tensor(output, "lse")};
}

// out and lse are these values. For out, the first element of each head is compared.
void expect_values(const Computed &computed, fv_file_dtype type, const Values &expected) {
  EXPECT_EQ(computed.out.dtype, type) << fv_file_dtype_name(computed.out.dtype);
  ASSERT_EQ(computed.out.values.size(), expected.size() * 8);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(computed.out.values[i * 8], expected[i]) << "out " << i;
    EXPECT_EQ(computed.lse.values[i], expected[i]) << "lse " << i;
  }
}

// Halfway cases go to the even neighbour; just past halfway, to the nearer one.
TEST(RunRounding, ToBf16IsToNearestEven) {
  expect_values(compute(FV_FILE_DTYPE_F32,
                        {1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-20, 1 + 0x1p-9,
                         -(1 + 3 * 0x1p-8), 3.14159},
                        {"--dtype", "bf16"}),
                FV_FILE_DTYPE_BF16, {1, 1 + 0x1p-6, 1 + 0x1p-7, 1, -(1 + 0x1p-6), 3.140625});
}

TEST(RunRounding, ToF16IsToNearestEvenAlsoBelowTheNormalRange) {
  expect_values(
      compute(FV_FILE_DTYPE_F32,
              {1 + 0x1p-11, 1 + 3 * 0x1p-11, 1 + 0x1p-11 + 0x1p-22, 0x1p-25, 3 * 0x1p-25, 65519},
              {"--dtype", "f16"}),
      FV_FILE_DTYPE_F16, {1, 1 + 0x1p-9, 1 + 0x1p-10, 0, 0x1p-23, 65504});
}

TEST(RunRounding, BetweenThe16BitTypesGoesByValue) {
  expect_values(
      compute(FV_FILE_DTYPE_F16, {1 + 0x1p-8, 1 + 3 * 0x1p-8, 0x1p-24}, {"--dtype", "bf16"}),
      FV_FILE_DTYPE_BF16, {1, 1 + 0x1p-6, 0x1p-24});
  expect_values(compute(FV_FILE_DTYPE_BF16, {1 + 0x1p-7, 0x1p-25}, {"--dtype", "f16"}),
                FV_FILE_DTYPE_F16, {1 + 0x1p-7, 0});
}

TEST(RunRounding, TheFilesTypeIsTheDefault) {
  expect_values(compute(FV_FILE_DTYPE_F32, {1 + 0x1p-23}, {}), FV_FILE_DTYPE_F32, {1 + 0x1p-23});
  expect_values(compute(FV_FILE_DTYPE_F16, {1 + 0x1p-10}, {}), FV_FILE_DTYPE_F16, {1 + 0x1p-10});
  expect_values(compute(FV_FILE_DTYPE_BF16, {1 + 0x1p-7}, {}), FV_FILE_DTYPE_BF16, {1 + 0x1p-7});
}

TEST(RunRounding, WideningTo32BitsLosesNothing) {
  expect_values(compute(FV_FILE_DTYPE_BF16, {1 + 0x1p-7, 0x1p-126}, {"--dtype", "f32"}),
                FV_FILE_DTYPE_F32, {1 + 0x1p-7, 0x1p-126});
}

TEST(RunRounding, DifferentTypesInOneFileAreComputedIn32Bits) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("k", FV_FILE_DTYPE_BF16, {1, 2, 3, 8}, [](int64_t) { return 0.0; });
  file.tensor("v", FV_FILE_DTYPE_F16, {1, 2, 3, 8}, [](int64_t) { return 1 + 0x1p-10; });
  std::string output = directory.file("o.safetensors");
  ASSERT_EQ(fovea({"run", file.write(directory), "--output", output}).code, 0);
  ReadTensor out = read_tensor(output, "out");
  EXPECT_EQ(out.dtype, FV_FILE_DTYPE_F32);
  // Criterion C5 for the mean of equal numbers: 8 u32 of the number.
  for (double value : out.values) EXPECT_NEAR(value, 1 + 0x1p-10, 0x1p-20);
}

}  // namespace
}  // namespace fovea_test
