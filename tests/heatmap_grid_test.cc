// heatmap_grid_test.cc: folding rows of weights into cells loses nothing that must be seen.

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "cli/heatmap/grid.h"
#include "tests/heatmap_map.h"

namespace {

class Grid {
 public:
  Grid(size_t panels, size_t rows, size_t cols) {
    EXPECT_TRUE(fv_heatmap_grid_make(&grid_, panels, rows, cols));
  }
  ~Grid() { free(grid_.cells); }
  void add(size_t panel, size_t row, const std::vector<float> &weights) {
    fv_heatmap_grid_add(&grid_, panel, row, weights.data());
  }
  float at(size_t panel, size_t row, size_t col) const {
    return grid_.cells[(panel * grid_.cell_rows + row) * grid_.cell_cols + col];
  }
  const fv_heatmap_grid *operator->() const { return &grid_; }

 private:
  fv_heatmap_grid grid_;
};

TEST(HeatmapGrid, SmallMapsAreKeptAsTheyAre) {
  Grid grid(2, 2, 3);
  grid.add(1, 1, {0.1f, FV_HEATMAP_HIDDEN, 0.0f});
  EXPECT_EQ(grid->cell_rows, 2u);
  EXPECT_EQ(grid->cell_cols, 3u);
  EXPECT_EQ(grid.at(1, 1, 0), 0.1f);
  EXPECT_EQ(grid.at(1, 1, 1), FV_HEATMAP_HIDDEN);
  EXPECT_EQ(grid.at(1, 1, 2), 0.0f);
  EXPECT_EQ(grid.at(0, 0, 0), FV_HEATMAP_HIDDEN);  // no weight came
}

TEST(HeatmapGrid, OneBrightWeightIsSeenWhereverItIs) {
  const size_t size = 3000;
  for (size_t spike = 0; spike < size; spike += 7) {
    Grid grid(1, size, size);
    std::vector<float> weights(size, 1e-4f);
    weights[spike] = 1;
    grid.add(0, spike, weights);
    ASSERT_EQ(grid->rows_per_cell, 3u);
    ASSERT_EQ(grid.at(0, spike / 3, spike / 3), 1) << spike;
    ASSERT_EQ(grid.at(0, spike / 3, (spike / 3 + 1) % 1000), 1e-4f) << spike;
  }
}

TEST(HeatmapGrid, NanThenNegativeThenTheLargestWinAndHiddenLoses) {
  Grid grid(1, 1, 4096);
  ASSERT_EQ(grid->cols_per_cell, 4u);
  std::vector<float> weights(4096, FV_HEATMAP_HIDDEN);
  auto block = [&](size_t index, std::vector<float> values) {
    std::copy(values.begin(), values.end(), weights.begin() + 4 * static_cast<long>(index));
  };
  block(0, {0.5f, kNaN, -1.0f, kInfinity});
  block(1, {0.5f, -0.25f, -1.0f, kInfinity});
  block(2, {0.5f, FV_HEATMAP_HIDDEN, 0.0f, kInfinity});
  block(3, {FV_HEATMAP_HIDDEN, 0.0f, FV_HEATMAP_HIDDEN, FV_HEATMAP_HIDDEN});
  grid.add(0, 0, weights);
  EXPECT_TRUE(std::isnan(grid.at(0, 0, 0)));
  EXPECT_EQ(grid.at(0, 0, 1), -1.0f);
  EXPECT_EQ(grid.at(0, 0, 2), kInfinity);
  EXPECT_EQ(grid.at(0, 0, 3), 0.0f);
  EXPECT_EQ(grid.at(0, 0, 4), FV_HEATMAP_HIDDEN);
}

TEST(HeatmapGrid, KeepsWhatEarlierRowsOfACellHeld) {
  Grid grid(1, 2048, 1);
  grid.add(0, 0, {kNaN});
  grid.add(0, 1, {0.5f});
  grid.add(0, 2, {-1.0f});
  grid.add(0, 3, {0.5f});
  grid.add(0, 4, {0.75f});
  grid.add(0, 5, {0.5f});
  EXPECT_TRUE(std::isnan(grid.at(0, 0, 0)));
  EXPECT_EQ(grid.at(0, 1, 0), -1.0f);
  EXPECT_EQ(grid.at(0, 2, 0), 0.75f);
}

TEST(HeatmapGrid, TheLastCellMayHoldFewerWeights) {
  Grid grid(1, 1, 1025);
  std::vector<float> weights(1025, 0.0f);
  weights[1024] = 1;
  grid.add(0, 0, weights);
  EXPECT_EQ(grid->cell_cols, 513u);
  EXPECT_EQ(grid.at(0, 0, 512), 1);
}

}  // namespace
