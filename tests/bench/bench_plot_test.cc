// The plots of reports that the tests make.
#include "bench/report/plot.h"

#include "bench/report/group.h"

#include <cairo.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/bench/bench_report.h"

namespace fovea_test {
namespace {

struct SurfaceRelease {
  void operator()(cairo_surface_t *surface) const { cairo_surface_destroy(surface); }
};
using Surface = std::unique_ptr<cairo_surface_t, SurfaceRelease>;

std::vector<std::string> names_of(const Report &report) {
  fv_bench_picture pictures[FV_BENCH_PICTURES_MAX];
  std::vector<std::string> names;
  int count = fv_bench_plot_pictures(*report, pictures);
  for (int i = 0; i < count; ++i) {
    char name[FV_BENCH_PICTURE_NAME];
    fv_bench_plot_name(&pictures[i], name);
    names.push_back(name);
  }
  return names;
}

TEST(BenchPlot, HasTwoPicturesPerPhaseDtypeAndRatioOfHeads) {
  std::vector<std::string> expected = {"prefill-f32-time", "prefill-f32-speedup",
                                       "decode-f32-group4-time", "decode-f32-group4-speedup"};
  EXPECT_EQ(names_of(Report(small_report())), expected);
}

TEST(BenchPlot, PackedAndPagedBatchesHavePicturesAndMixedOnesNone) {
  Folder folder;
  char error[256] = "";
  Report report(served_report());
  std::vector<std::string> names = names_of(report);
  std::vector<std::string> expected = {"packed-f32-group4-time", "packed-f32-group4-speedup",
                                       "paged-f32-group4-time", "paged-f32-group4-speedup"};
  names.erase(names.begin(), names.begin() + 4);
  EXPECT_EQ(names, expected);
  ASSERT_TRUE(fv_bench_plot_all(*report, folder.path().c_str(), error, sizeof error)) << error;
  for (const std::string &name : expected) {
    EXPECT_EQ(access(folder.file(name + ".png").c_str(), F_OK), 0) << name;
  }
  EXPECT_NE(text_of(folder.file("paged-f32-group4-time.svg")).find("</svg>"), std::string::npos);
}

TEST(BenchPlot, APageShowsAtMostSixOfTheLastDtypeAndTheLargestGroup) {
  const char *work = ", \"flops\": 4e9, \"bytes\": 1e9";
  ReportText rows = served_report();
  std::string name = prefill("fovea", 128);
  name.replace(name.find("/f32/"), 5, "/bf16/");
  rows.row(name, {1}, work);
  name.replace(name.find("heads:1:1"), 9, "heads:2:1");
  rows.row(name, {1}, work);
  Report report(rows);
  fv_bench_picture shown[FV_BENCH_PICTURES_SHOWN];
  std::vector<std::string> names;
  int count = fv_bench_plot_shown(*report, shown);
  for (int i = 0; i < count; ++i) {
    char text[FV_BENCH_PICTURE_NAME];
    fv_bench_plot_name(&shown[i], text);
    names.push_back(text);
  }
  std::vector<std::string> expected = {"decode-f32-group4-time",    "decode-f32-group4-speedup",
                                       "packed-f32-group4-speedup", "paged-f32-group4-speedup",
                                       "prefill-bf16-group2-time",  "prefill-bf16-group2-speedup"};
  EXPECT_EQ(names, expected);
}

TEST(BenchPlot, EveryKindHasATitleInPicturesAndTables) {
  std::set<std::string> pictures, tables;
  for (int kind = 0; kind < FV_BENCH_KINDS; ++kind) {
    fv_bench_picture picture = {};
    picture.kind = static_cast<fv_bench_kind>(kind);
    picture.dtype = FOVEA_F32;
    picture.group = 1;
    fv_bench_problem problem = {1, 8, 8, 64, 64, 0, 64, FOVEA_F32, picture.kind, false, false};
    char title[200];
    fv_bench_plot_title(&picture, title, sizeof title);
    pictures.insert(title);
    EXPECT_EQ(std::string(title).find("null"), std::string::npos);
    fv_bench_group_title(&problem, title, sizeof title);
    tables.insert(title);
    EXPECT_EQ(std::string(title).find("null"), std::string::npos);
    ASSERT_NE(fv_bench_group_shape_title(picture.kind), nullptr);
  }
  EXPECT_EQ(pictures.size(), static_cast<size_t>(FV_BENCH_KINDS));
  EXPECT_EQ(tables.size(), static_cast<size_t>(FV_BENCH_KINDS));
}

TEST(BenchPlot, RowsOfTheMachineAloneMakeNoPicture) {
  ReportText rows;
  rows.row(prefill("peak", 128), {1}).row(decode("read", 1024), {1}).row(decode("peak", 1024), {1});
  EXPECT_TRUE(names_of(Report(rows)).empty());
}

TEST(BenchPlot, WritesEachPictureAsPngAndSvg) {
  Folder folder;
  Report report(small_report());
  char error[256] = "";
  ASSERT_TRUE(fv_bench_plot_all(*report, folder.path().c_str(), error, sizeof error)) << error;
  for (const std::string &name : names_of(report)) {
    EXPECT_NE(text_of(folder.file(name + ".svg")).find("</svg>"), std::string::npos) << name;
    Surface png(cairo_image_surface_create_from_png(folder.file(name + ".png").c_str()));
    EXPECT_EQ(cairo_surface_status(png.get()), CAIRO_STATUS_SUCCESS) << name;
    EXPECT_GE(cairo_image_surface_get_width(png.get()), 1000) << name;
  }
}

std::set<uint32_t> colors_of(const std::string &path) {
  Surface png(cairo_image_surface_create_from_png(path.c_str()));
  std::set<uint32_t> colors;
  const unsigned char *data = cairo_image_surface_get_data(png.get());
  for (int y = 0; y < cairo_image_surface_get_height(png.get()); ++y) {
    for (int x = 0; x < cairo_image_surface_get_width(png.get()); ++x) {
      uint32_t pixel;
      memcpy(&pixel, data + y * cairo_image_surface_get_stride(png.get()) + 4 * x, sizeof pixel);
      colors.insert(pixel & 0xffffff);
    }
  }
  return colors;
}

TEST(BenchPlot, DrawsALineForEachPipelineThatWasTimed) {
  Folder folder;
  char error[256] = "";
  const uint32_t fovea = 0x6a3d9a, naive = 0x6b7280, torch = 0xd95f02, beside = 0xb9a0d8;
  fv_bench_plot_all(*Report(small_report()), folder.path().c_str(), error, sizeof error);
  std::set<uint32_t> colors = colors_of(folder.file("prefill-f32-time.png"));
  EXPECT_TRUE(colors.count(fovea) && colors.count(naive) && colors.count(torch));
  EXPECT_TRUE(colors.count(beside));
  colors = colors_of(folder.file("prefill-f32-speedup.png"));
  EXPECT_FALSE(colors.count(fovea) || colors.count(beside));
  colors = colors_of(folder.file("decode-f32-group4-time.png"));
  EXPECT_TRUE(colors.count(fovea));
  EXPECT_FALSE(colors.count(naive));
}

TEST(BenchPlot, OneLengthAndOneTimeAreDrawnToo) {
  Folder folder;
  char error[256] = "";
  Report report(ReportText().row(prefill("fovea", 128), {1}).row(prefill("naive", 128), {1}));
  EXPECT_TRUE(fv_bench_plot_all(*report, folder.path().c_str(), error, sizeof error)) << error;
}

TEST(BenchPlot, SaysWhichFileItCouldNotWrite) {
  char error[256] = "";
  Report report(small_report());
  EXPECT_FALSE(fv_bench_plot_all(*report, "/nonexistent/folder", error, sizeof error));
  EXPECT_NE(std::string(error).find("/nonexistent/folder/prefill-f32-time.png"), std::string::npos);
}

TEST(BenchPlot, AxesEndAtRoundNumbers) {
  EXPECT_DOUBLE_EQ(fv_bench_plot_ceiling(1.2), 1.5);
  EXPECT_DOUBLE_EQ(fv_bench_plot_ceiling(2), 2);
  EXPECT_DOUBLE_EQ(fv_bench_plot_ceiling(3.3), 4);
  EXPECT_DOUBLE_EQ(fv_bench_plot_ceiling(9.1), 10);
  EXPECT_DOUBLE_EQ(fv_bench_plot_ceiling(11), 15);
}

}  // namespace
}  // namespace fovea_test
