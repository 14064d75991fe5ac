// heatmap_map.h: maps with known weights and labels, for the tests of their drawing.
#ifndef FOVEA_TESTS_HEATMAP_MAP_H
#define FOVEA_TESTS_HEATMAP_MAP_H

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "cli/heatmap/heatmap.h"
#include "cli/heatmap/ramp.h"

const float kNaN = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

// A map with the memory it points to.
class Map {
 public:
  Map(size_t rows, size_t cols, size_t panels = 1) : rows_(rows), cols_(cols), stride_(cols) {
    weights_.assign(panels, std::vector<float>(rows * cols, 0.0f));
    for (size_t i = 0; i < panels; i++) titles_.push_back("head " + std::to_string(i));
  }
  Map &fill(float (*weight)(size_t row, size_t col)) {
    for (size_t panel = 0; panel < weights_.size(); panel++) {
      for (size_t row = 0; row < rows_; row++) {
        for (size_t col = 0; col < cols_; col++) at(row, col, panel) = weight(row, col);
      }
    }
    return *this;
  }
  Map &values(std::vector<float> weights) {
    weights_[0] = std::move(weights);
    return *this;
  }
  Map &stride(size_t stride) {
    stride_ = stride;
    return *this;
  }
  Map &labels(std::vector<std::string> rows, std::vector<std::string> cols) {
    row_labels_ = std::move(rows);
    col_labels_ = std::move(cols);
    return *this;
  }
  Map &texts(const char *title, const char *subtitle) {
    title_ = title;
    subtitle_ = subtitle;
    return *this;
  }
  Map &scale(fv_heatmap_scale scale) {
    scale_ = scale;
    return *this;
  }
  // Each given weight is the largest of a cell of this size.
  Map &reduced(size_t rows_per_cell, size_t cols_per_cell) {
    rows_per_cell_ = rows_per_cell;
    cols_per_cell_ = cols_per_cell;
    return *this;
  }
  float &at(size_t row, size_t col, size_t panel = 0) {
    return weights_[panel][row * stride_ + col];
  }
  const fv_heatmap *get() {
    panels_.clear(), row_pointers_.clear(), col_pointers_.clear();
    // Callers write 0 for "without gaps".
    ptrdiff_t stride = stride_ == cols_ ? 0 : static_cast<ptrdiff_t>(stride_);
    for (size_t i = 0; i < weights_.size(); i++) {
      panels_.push_back({weights_[i].data(), stride, titles_[i].c_str()});
    }
    for (const std::string &label : row_labels_) row_pointers_.push_back(label.c_str());
    for (const std::string &label : col_labels_) col_pointers_.push_back(label.c_str());
    map_ = fv_heatmap();
    map_.panels = panels_.data();
    map_.panel_count = panels_.size();
    map_.rows = rows_;
    map_.cols = cols_;
    map_.rows_per_cell = rows_per_cell_;
    map_.cols_per_cell = cols_per_cell_;
    map_.row_labels = row_labels_.empty() ? nullptr : row_pointers_.data();
    map_.col_labels = col_labels_.empty() ? nullptr : col_pointers_.data();
    map_.title = title_;
    map_.subtitle = subtitle_;
    map_.scale = scale_;
    return &map_;
  }

 private:
  size_t rows_, cols_, stride_, rows_per_cell_ = 0, cols_per_cell_ = 0;
  std::vector<std::vector<float>> weights_;
  std::vector<std::string> titles_, row_labels_, col_labels_;
  std::vector<const char *> row_pointers_, col_pointers_;
  std::vector<fv_heatmap_panel> panels_;
  const char *title_ = nullptr, *subtitle_ = nullptr;
  fv_heatmap_scale scale_ = FV_HEATMAP_SCALE_MAX;
  fv_heatmap map_;
};

// Weights between 0 and 1 that differ between neighbours and reach 1 in cell (0, 0).
inline float pattern(size_t row, size_t col) {
  return 1.0f - static_cast<float>((row * 37 + col * 11) % 101) / 101.0f;
}

// The colour of a weight on paper, on the scale 0..top.
inline uint32_t expected_color(double weight, double top) {
  static const fv_heatmap_ramp ramp = [] {
    fv_heatmap_ramp filled;
    fv_heatmap_ramp_fill(&filled);
    return filled;
  }();
  return ramp.rgb[static_cast<size_t>(std::floor(weight / top * 255 + 0.5))];
}

// Labels of different lengths.
inline std::vector<std::string> words(size_t count) {
  static const char *const some[] = {"[CLS]", "the", "conversations", "##ing", ",", "unbelievably"};
  std::vector<std::string> labels;
  for (size_t i = 0; i < count; i++) labels.push_back(some[i * 7 % 6]);
  return labels;
}

#endif  // FOVEA_TESTS_HEATMAP_MAP_H
