// arena_test.cc - the workspace's pieces: where they lie, and sizes that no memory has.
#include "layers/arena.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace fovea_test {
namespace {

uintptr_t address(const void *p) {
  return reinterpret_cast<uintptr_t>(p);
}

TEST(Arena, HandsOutPiecesOf256Bytes) {
  alignas(256) static char memory[1024];
  fv_arena arena = {memory, 0};
  EXPECT_EQ(fv_arena_take(&arena, 3, 5, 4), memory);
  EXPECT_EQ(fv_arena_take(&arena, 65, 1, 4), memory + 256);
  EXPECT_EQ(fv_arena_take(&arena, 0, 7, 4), memory + 768);
  EXPECT_EQ(fv_arena_take(&arena, 1, 256, 1), memory + 768);
  EXPECT_EQ(arena.used, 1024U);
}

TEST(Arena, CountsWithoutMemory) {
  fv_arena arena = {};
  const uintptr_t first = address(fv_arena_take(&arena, 10, 10, 4));
  EXPECT_NE(first, 0U);
  EXPECT_EQ(address(fv_arena_take(&arena, 1, 1, 4)), first + 512);
  EXPECT_EQ(arena.used, 768U);
}

// Sizes are the caller's to choose, so each product and sum may overflow. Then no workspace is
// large enough, and what is taken later changes nothing.
TEST(Arena, NeedsMoreThanThereIsOfSizesThatOverflow) {
  const int64_t large = INT64_C(1) << 40;
  const struct {
    int64_t rows, width;
    size_t each;
  } sizes[] = {
      {large, large, 4}, {INT64_C(1) << 62, 1, 4}, {INT64_MAX, 2, 1}, {INT64_C(1) << 61, 4, 2}};
  for (const auto &size : sizes) {
    fv_arena arena = {};
    fv_arena_take(&arena, 1, 1, 4);
    fv_arena_take(&arena, size.rows, size.width, size.each);
    EXPECT_EQ(arena.used, SIZE_MAX) << size.rows;
    EXPECT_NE(fv_arena_take(&arena, 1, 1, 4), nullptr);
    EXPECT_EQ(fv_arena_take(&arena, 0, 1, 4), fv_arena_take(&arena, large, large, 4));
    EXPECT_EQ(arena.used, SIZE_MAX) << size.rows;
  }
}

}  // namespace
}  // namespace fovea_test
