// heatmap_page_test.cc: the colours of a drawn map, and where its texts go.
//
// The layout is drawn on a canvas that records its calls. All characters of its font are equally
// wide. So nothing here depends on fonts, and overlaps are decided exactly.

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/heatmap/label.h"
#include "cli/heatmap/page.h"
#include "tests/heatmap_map.h"

namespace {

// ---- colours ----

struct Lab {
  double l, a, b;
};

double decode_channel(uint32_t byte) {
  double encoded = byte / 255.0;
  return encoded <= 0.04045 ? encoded / 12.92 : std::pow((encoded + 0.055) / 1.055, 2.4);
}

Lab oklab(uint32_t rgb) {
  double r = decode_channel(rgb >> 16 & 0xFF), g = decode_channel(rgb >> 8 & 0xFF);
  double b = decode_channel(rgb & 0xFF);
  double l = std::cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  double m = std::cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  double s = std::cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return {0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
          1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
          0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

double distance(Lab from, Lab to) {
  return std::sqrt((from.l - to.l) * (from.l - to.l) + (from.a - to.a) * (from.a - to.a) +
                   (from.b - to.b) * (from.b - to.b));
}

TEST(HeatmapRamp, LightnessFallsFromEveryEntryToTheNext) {
  fv_heatmap_ramp ramp;
  fv_heatmap_ramp_fill(&ramp);
  for (int i = 1; i < FV_HEATMAP_RAMP_LEVELS; i++) {
    EXPECT_LT(oklab(ramp.rgb[i]).l, oklab(ramp.rgb[i - 1]).l) << "entry " << i;
  }
  EXPECT_GT(oklab(ramp.rgb[0]).l, 0.95);
  EXPECT_LT(oklab(ramp.rgb[255]).l, 0.25);
}

TEST(HeatmapRamp, EqualStepsOfWeightAreEqualStepsOfColor) {
  fv_heatmap_ramp ramp;
  fv_heatmap_ramp_fill(&ramp);
  // Rounding to a byte moves a channel by at most half of 1/255 of encoded light. That is at most
  // 0.004 in Oklab near black, where its slope is steepest. The two ends of a stretch double it.
  const double rounding = 0.008;
  const int stretch = 15;  // 255 = 17 * 15
  double mean = 0;
  for (int i = 0; i < 255; i += stretch) {
    mean += distance(oklab(ramp.rgb[i]), oklab(ramp.rgb[i + stretch])) / (255.0 / stretch);
  }
  for (int i = 0; i < 255; i += stretch) {
    EXPECT_NEAR(distance(oklab(ramp.rgb[i]), oklab(ramp.rgb[i + stretch])), mean, rounding) << i;
  }
}

TEST(HeatmapRamp, NoEntryIsClippedByTheGamut) {
  fv_heatmap_ramp ramp;
  fv_heatmap_ramp_fill(&ramp);
  for (int i = 0; i < FV_HEATMAP_RAMP_LEVELS; i++) {
    for (int shift = 0; shift < 24; shift += 8) {
      uint32_t byte = ramp.rgb[i] >> shift & 0xFF;
      EXPECT_GT(byte, 0u) << "entry " << i;
      EXPECT_LT(byte, 255u) << "entry " << i;
    }
  }
}

// ---- layout, on a canvas that records its calls ----

struct Mark {
  std::string text;
  double x, y, width, height, angle;  // the box has its centre at x, y
  double reach() const { return std::hypot(width, height) / 2; }
};

struct Recording {
  std::vector<Mark> texts;
  std::vector<fv_heatmap_box> images;
};

double record_measure(void *, const char *text, double size, bool) {
  size_t characters = 0;
  for (; *text != 0; text++) characters += (*text & 0xC0) != 0x80;
  return 0.62 * size * static_cast<double>(characters);  // DejaVu Sans's digits and most letters
}

void record_text(void *state, const fv_heatmap_text *mark) {
  double width = record_measure(nullptr, mark->text, mark->size, mark->bold);
  double middle = width * (mark->anchor == FV_HEATMAP_ANCHOR_START    ? 0.5
                           : mark->anchor == FV_HEATMAP_ANCHOR_MIDDLE ? 0.0
                                                                      : -0.5);
  double radians = mark->angle * M_PI / 180;
  static_cast<Recording *>(state)->texts.push_back(
      {mark->text, mark->x + middle * std::cos(radians), mark->y - middle * std::sin(radians),
       width, mark->size, radians});
}

void record_rectangle(void *, fv_heatmap_box, uint32_t) {}
void record_grid(void *, fv_heatmap_box, size_t, size_t, uint32_t) {}
void record_image(void *state, fv_heatmap_box box, const fv_heatmap_image *) {
  static_cast<Recording *>(state)->images.push_back(box);
}

Recording record(Map &map, fv_heatmap_page *page) {
  Recording recording;
  fv_heatmap_canvas canvas = {&recording,  record_measure, record_rectangle,
                              record_grid, record_text,    record_image};
  fv_heatmap_page_layout(page, map.get(), &canvas);
  fv_heatmap_page_draw(page, map.get(), &canvas);
  return recording;
}

// The corners of a mark's box. y points down.
std::vector<std::pair<double, double>> corners(const Mark &mark) {
  std::vector<std::pair<double, double>> points;
  double c = std::cos(mark.angle), s = std::sin(mark.angle);
  for (int i = 0; i < 4; i++) {
    double u = mark.width * (i == 0 || i == 3 ? -0.5 : 0.5), v = mark.height * (i < 2 ? -0.5 : 0.5);
    points.push_back({mark.x + u * c + v * s, mark.y - u * s + v * c});
  }
  return points;
}

// Two boxes are apart if a side of one of them separates them.
bool apart(const Mark &first, const Mark &second) {
  double between = std::hypot(first.x - second.x, first.y - second.y);
  if (between > first.reach() + second.reach()) return true;  // nearly all pairs end here
  auto a = corners(first), b = corners(second);
  for (const Mark *mark : {&first, &second}) {
    for (double turn : {0.0, M_PI / 2}) {
      double c = std::cos(mark->angle + turn), s = -std::sin(mark->angle + turn);
      double a_low = INFINITY, a_high = -INFINITY, b_low = INFINITY, b_high = -INFINITY;
      for (auto &p : a) a_low = std::min(a_low, p.first * c + p.second * s);
      for (auto &p : a) a_high = std::max(a_high, p.first * c + p.second * s);
      for (auto &p : b) b_low = std::min(b_low, p.first * c + p.second * s);
      for (auto &p : b) b_high = std::max(b_high, p.first * c + p.second * s);
      if (a_high <= b_low + 1e-9 || b_high <= a_low + 1e-9) return true;
    }
  }
  return false;
}

void expect_no_overlap_and_margins_kept(Map &map) {
  const double margin = 16;
  fv_heatmap_page page;
  Recording drawn = record(map, &page);
  for (size_t i = 0; i < drawn.texts.size(); i++) {
    for (auto &corner : corners(drawn.texts[i])) {
      ASSERT_TRUE(corner.first >= margin && corner.first <= page.width - margin &&
                  corner.second >= margin && corner.second <= page.height - margin)
          << "\"" << drawn.texts[i].text << "\" is too near to the edge of the page";
    }
    for (size_t j = i + 1; j < drawn.texts.size(); j++) {
      ASSERT_TRUE(apart(drawn.texts[i], drawn.texts[j]))
          << "\"" << drawn.texts[i].text << "\" touches \"" << drawn.texts[j].text << "\"";
    }
    for (const fv_heatmap_box &box : drawn.images) {
      Mark cells = {"", box.x + box.width / 2, box.y + box.height / 2, box.width, box.height, 0};
      ASSERT_TRUE(apart(drawn.texts[i], cells)) << "\"" << drawn.texts[i].text << "\" covers cells";
    }
  }
}

TEST(HeatmapLayout, TextsNeverTouchWhateverTheNumberOfTokens) {
  std::vector<size_t> sizes = {400, 511, 512, 513, 900, 901, 2048, 2049};
  for (size_t size = 1; size <= 140; size += size < 20 ? 1 : 3) sizes.push_back(size);
  for (size_t size : sizes) {
    for (size_t panels : {1, 12}) {
      SCOPED_TRACE(std::to_string(panels) + " panels of " + std::to_string(size));
      Map map(1, 1, panels);
      map = Map(std::min<size_t>(size, 600), size, panels);
      map.labels(words(std::min<size_t>(size, 600)), words(size)).texts("A title", "a subtitle");
      map.at(0, 0) = kNaN;
      expect_no_overlap_and_margins_kept(map);
    }
  }
}

TEST(HeatmapLayout, NumbersOfTheScaleNeverTouchWhateverItsTop) {
  for (float top : {1.0f, 0.993f, 0.947f, 0.81f, 0.5f, 0.3f, 2.1e-5f, 3.9e-5f, 7.77e-30f, 1e-45f,
                    12345.0f, FLT_MAX}) {
    SCOPED_TRACE(top);
    Map map(2, 2);
    map.at(0, 0) = top;
    expect_no_overlap_and_margins_kept(map);
  }
}

TEST(HeatmapLayout, NumbersOfARootScaleNeverTouchEither) {
  for (float top : {1.0f, 0.993f, 0.11f, 0.1f, 2.1e-5f, 7.77e-30f, 1e-45f, FLT_MAX}) {
    SCOPED_TRACE(top);
    Map map(2, 2);
    map.scale(FV_HEATMAP_SCALE_ROOT).at(0, 0) = top;
    expect_no_overlap_and_margins_kept(map);
  }
}

TEST(HeatmapLayout, TheLineUnderTheScaleFitsThePage) {
  Map map(2, 2, 2);
  map.scale(FV_HEATMAP_SCALE_PANEL).at(0, 0) = kNaN;
  map.at(0, 1) = -1, map.at(1, 0) = kInfinity, map.at(1, 1) = FV_HEATMAP_HIDDEN;
  map.reduced(100, 100000);
  expect_no_overlap_and_margins_kept(map);
}

TEST(HeatmapLayout, LabelsOfAMapReducedBeforeAreThoseOfItsWeights) {
  Map map(2, 3);
  map.reduced(10, 7);
  fv_heatmap_page page;
  Recording drawn = record(map, &page);
  for (const char *label : {"0", "10", "7", "14"}) {
    size_t seen = 0;
    for (const Mark &mark : drawn.texts) seen += mark.text == label;
    EXPECT_GE(seen, 1u) << label;
  }
}

TEST(HeatmapLayout, EveryTokenHasALabelUpToSixtyFour) {
  for (size_t size = 1; size <= 64; size++) {
    Map map(size, size);
    fv_heatmap_page page;
    record(map, &page);
    EXPECT_EQ(page.row_step, 1u) << size;
    EXPECT_EQ(page.col_step, 1u) << size;
  }
}

TEST(HeatmapLayout, CellsAreWholeUnitsSoThatNoneIsSmeared) {
  for (size_t size = 1; size < 5000; size += 37) {
    for (size_t panels : {1, 3, 40}) {
      Map map(1, size, panels);
      fv_heatmap_page page;
      record(map, &page);
      ASSERT_GE(page.cell_width, 1.0);
      ASSERT_EQ(page.cell_width, std::floor(page.cell_width));
      ASSERT_EQ(page.map_x, std::floor(page.map_x));
      ASSERT_LE(page.width, 10000);
    }
  }
}

TEST(HeatmapLayout, LabelStepsAreTheSmallestOfOneTwoFive) {
  EXPECT_EQ(fv_heatmap_label_step(10, 10), 1u);
  EXPECT_EQ(fv_heatmap_label_step(10, 10.01), 2u);
  EXPECT_EQ(fv_heatmap_label_step(10, 21), 5u);
  EXPECT_EQ(fv_heatmap_label_step(1, 10.8), 20u);
  EXPECT_EQ(fv_heatmap_label_step(1, 201), 500u);
  EXPECT_GT(fv_heatmap_label_step(0, 1), 1000u);
}

}  // namespace
