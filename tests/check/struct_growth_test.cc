// struct_growth_test.cc - a future library, whose struct has grown, with callers of every release.
//
// Fields that a caller's struct lacks count as zero, and are not written. Memory ends with each
// caller's struct, so a byte read or written past it ends the test.
#include <gmock/gmock.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "tests/support/memory.h"

extern "C" {
#include "csrc/check/rule.h"
}

namespace fovea_test {
namespace {

struct Released {
  size_t struct_size;
  uint32_t number;
  uint32_t reserved;
  char text[16];
};

struct Grown {
  size_t struct_size;
  uint32_t number;
  uint32_t reserved;
  char text[16];
  int64_t later;      // of the second release
  char sentence[40];  // of the third
};

constexpr size_t kFirst = FV_FIRST_BYTES(Released, text);
constexpr uint8_t kForeign = 0xaa;
static_assert(kFirst == sizeof(Released) && offsetof(Grown, later) == kFirst, "grown at the end");

// A caller's struct of `size` bytes, filled with `byte` except for the size itself.
Block caller(size_t size, uint8_t byte) {
  Block block(size, 8);
  block.fill(byte);
  std::memcpy(block.data(), &size, sizeof size);
  return block;
}

TEST(StructOfArguments, FromEveryReleaseIsExtendedWithZeros) {
  for (size_t size = kFirst; size <= sizeof(Grown); size += 8) {
    SCOPED_TRACE(size);
    Block given = caller(size, 7);
    given.make_read_only();
    Grown copy;
    std::memset(&copy, kForeign, sizeof copy);
    ASSERT_EQ(fv_rule_copy_struct(&copy, sizeof copy, kFirst, given.data(), "grown"), FOVEA_OK);
    EXPECT_EQ(copy.struct_size, sizeof copy);
    const uint8_t *bytes = reinterpret_cast<const uint8_t *>(&copy);
    for (size_t i = sizeof size; i < sizeof copy; ++i)
      ASSERT_EQ(bytes[i], i < size ? 7 : 0) << "byte " << i;
  }
}

TEST(StructOfArguments, FromALaterReleaseMustEndWithZeros) {
  for (size_t extra : {1, 8, 100}) {
    const size_t size = sizeof(Grown) + extra;
    Block given = caller(size, 7);
    Grown copy;
    const auto take = [&] {
      return fv_rule_copy_struct(&copy, sizeof copy, kFirst, given.data(), "grown");
    };
    std::memset(given.data() + sizeof copy, 0, extra);
    ASSERT_EQ(take(), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(copy.struct_size, sizeof copy);
    EXPECT_EQ(copy.number, 0x07070707u);
    for (size_t i = sizeof copy; i < size; ++i) {
      given.data()[i] = 1;
      ASSERT_EQ(take(), FOVEA_BAD_ARGUMENT);
      EXPECT_THAT(fovea_error_detail(),
                  testing::HasSubstr("byte " + std::to_string(i) + " is not 0"));
      given.data()[i] = 0;
    }
  }
}

TEST(StructOfResults, IsFilledAsFarAsTheCallersReaches) {
  Grown known;
  std::memset(&known, 7, sizeof known);
  for (size_t size = kFirst; size <= sizeof(Grown) + 64; size += 8) {
    SCOPED_TRACE(size);
    Block room = caller(size, kForeign);
    ASSERT_EQ(fv_rule_check_room(room.data(), kFirst, "grown"), FOVEA_OK);
    fv_rule_write_struct(room.data(), &known, sizeof known);
    size_t kept;
    std::memcpy(&kept, room.data(), sizeof kept);
    EXPECT_EQ(kept, size) << "the size is the caller's";
    for (size_t i = sizeof size; i < size; ++i)
      ASSERT_EQ(room.data()[i], i < sizeof known ? 7 : kForeign) << "byte " << i;
    EXPECT_TRUE(room.margins_intact());
  }
}

TEST(StructOfResults, OfNoReleaseIsRefused) {
  for (size_t size : {size_t{0}, size_t{8}, kFirst - 1, size_t{FV_STRUCT_MAX} + 1, SIZE_MAX}) {
    Block room(sizeof size, 8);  // no more of it may be looked at
    std::memcpy(room.data(), &size, sizeof size);
    Grown copy;
    EXPECT_EQ(fv_rule_check_room(room.data(), kFirst, "grown"), FOVEA_BAD_ARGUMENT) << size;
    EXPECT_EQ(fv_rule_copy_struct(&copy, sizeof copy, kFirst, room.data(), "grown"),
              FOVEA_BAD_ARGUMENT);
    EXPECT_THAT(fovea_error_detail(),
                testing::StartsWith("grown.struct_size is " + std::to_string(size) +
                                    ", must be from 32 to 4096"));
  }
  EXPECT_EQ(fv_rule_check_room(nullptr, kFirst, "grown"), FOVEA_BAD_ARGUMENT);
  EXPECT_STREQ(fovea_error_detail(), "grown: the pointer is NULL");
}

}  // namespace
}  // namespace fovea_test
