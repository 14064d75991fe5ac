// heatmap_test.cc: files of drawn maps have the right pixels and format, and are whole or absent.
//
// Cairo reads PNG files back, and they are compared pixel by pixel. The positions come from the
// layout under test. The colours are computed here.

#include <cairo.h>
#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/heatmap/cells.h"
#include "cli/heatmap/heatmap.h"
#include "cli/heatmap/page.h"
#include "cli/heatmap/paint.h"
#include "cli/heatmap/ramp.h"
#include "tests/heatmap_map.h"

namespace {

// Without this, the fonts that fontconfig caches would count as leaks.
class FontCaches : public ::testing::Environment {
  void TearDown() override { fv_heatmap_release(); }
};
const auto *const font_caches = ::testing::AddGlobalTestEnvironment(new FontCaches);

// A folder that is empty at first and gone afterwards.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/fovea-heatmap-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() {
    for (const std::string &name : names()) unlink(in(name).c_str());
    rmdir(path_.c_str());
  }
  std::string in(const std::string &name) const { return path_ + "/" + name; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    DIR *folder = opendir(path_.c_str());
    while (dirent *entry = readdir(folder)) {
      if (entry->d_name[0] != '.') found.push_back(entry->d_name);
    }
    closedir(folder);
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

std::string read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

fv_heatmap_status write_map(Map &map, const std::string &path, std::string *error = nullptr) {
  char text[256] = "untouched";
  fv_heatmap_status status = fv_heatmap_write(map.get(), path.c_str(), text, sizeof text);
  if (error != nullptr) *error = text;
  return status;
}

fv_heatmap_page layout_with_cairo(const fv_heatmap *map) {
  fv_heatmap_canvas ruler = fv_heatmap_cairo_ruler();
  fv_heatmap_page page;
  fv_heatmap_page_layout(&page, map, &ruler);
  fv_heatmap_cairo_ruler_release(&ruler);
  return page;
}

// ---- PNG read back ----

class Png {
 public:
  explicit Png(const std::string &path)
      : surface_(cairo_image_surface_create_from_png(path.c_str())) {
    EXPECT_EQ(cairo_surface_status(surface_), CAIRO_STATUS_SUCCESS) << path;
  }
  ~Png() { cairo_surface_destroy(surface_); }
  int width() const { return cairo_image_surface_get_width(surface_); }
  int height() const { return cairo_image_surface_get_height(surface_); }
  uint32_t at(double x, double y) const {
    const unsigned char *row = cairo_image_surface_get_data(surface_) +
                               static_cast<int>(y) * cairo_image_surface_get_stride(surface_);
    uint32_t pixel;
    memcpy(&pixel, row + 4 * static_cast<int>(x), sizeof pixel);
    return pixel & 0xFFFFFF;
  }

 private:
  cairo_surface_t *surface_;
};

// The colour at the centre of a block of a panel.
uint32_t block_color(const Png &png, const fv_heatmap_page &page, size_t panel, size_t row,
                     size_t col) {
  double density = fv_heatmap_cairo_density(&page);
  fv_heatmap_box box = fv_heatmap_page_panel(&page, panel);
  return png.at((box.x + page.cell_width * (static_cast<double>(col) + 0.5)) * density,
                (box.y + page.cell_height * (static_cast<double>(row) + 0.5)) * density);
}

void expect_every_cell_has_its_color(Map &map, size_t rows, size_t cols, size_t panels,
                                     double top) {
  Folder folder;
  ASSERT_EQ(write_map(map, folder.in("map.png")), FV_HEATMAP_OK);
  Png png(folder.in("map.png"));
  fv_heatmap_page page = layout_with_cairo(map.get());
  for (size_t panel = 0; panel < panels; panel++) {
    for (size_t row = 0; row < rows; row++) {
      for (size_t col = 0; col < cols; col++) {
        ASSERT_EQ(block_color(png, page, panel, row, col),
                  expected_color(map.at(row, col, panel), top))
            << "panel " << panel << " row " << row << " col " << col;
      }
    }
  }
}

TEST(HeatmapPng, EveryCellHasTheColorOfItsWeight) {
  for (size_t size : {1, 2, 16, 64, 65, 133, 400}) {
    SCOPED_TRACE(size);
    Map map(size, size);
    map.fill(pattern).texts("title", "subtitle");
    expect_every_cell_has_its_color(map, size, size, 1, 1.0);
  }
}

TEST(HeatmapPng, CellsOfAllPanelsShareOneScale) {
  Map map(16, 16, 12);
  map.fill(pattern);
  for (size_t panel = 0; panel < 12; panel++) {
    for (size_t row = 0; row < 16; row++) {
      for (size_t col = 0; col < 16; col++) map.at(row, col, panel) *= 0.05f * (1.0f + panel);
    }
  }
  expect_every_cell_has_its_color(map, 16, 16, 12, map.at(0, 0, 11));
}

TEST(HeatmapPng, RectangularMapsKeepRowsAndColumnsApart) {
  Map map(3, 20);
  map.fill(pattern);
  expect_every_cell_has_its_color(map, 3, 20, 1, 1.0);
}

TEST(HeatmapPng, ScaleOneColorsByTheWeightItself) {
  Map map(1, 2);
  map.values({0.5f, 0.25f}).scale(FV_HEATMAP_SCALE_ONE);
  expect_every_cell_has_its_color(map, 1, 2, 1, 1.0);
}

TEST(HeatmapPng, NanNegativeAndInfiniteCellsHaveColorsOutsideTheRamp) {
  Map map(2, 3);
  map.values({1.0f, kNaN, 0.5f, -0.25f, kInfinity, 0.0f});
  Folder folder;
  ASSERT_EQ(write_map(map, folder.in("map.png")), FV_HEATMAP_OK);
  Png png(folder.in("map.png"));
  fv_heatmap_page page = layout_with_cairo(map.get());
  uint32_t marks[] = {block_color(png, page, 0, 0, 1), block_color(png, page, 0, 1, 0),
                      block_color(png, page, 0, 1, 1)};
  EXPECT_NE(marks[0], marks[1]);
  EXPECT_NE(marks[1], marks[2]);
  EXPECT_NE(marks[0], marks[2]);
  fv_heatmap_ramp ramp;
  fv_heatmap_ramp_fill(&ramp);
  for (uint32_t mark : marks) {
    for (uint32_t color : ramp.rgb) {
      int far = 0;  // 64 in a channel is seen at a glance
      for (int shift = 0; shift < 24; shift += 8) {
        far = std::max(far, std::abs(int(mark >> shift & 0xFF) - int(color >> shift & 0xFF)));
      }
      EXPECT_GE(far, 64) << std::hex << mark << " " << color;
    }
  }
  EXPECT_EQ(block_color(png, page, 0, 0, 0), ramp.rgb[255]);
  EXPECT_EQ(block_color(png, page, 0, 1, 2), ramp.rgb[0]);
}

TEST(HeatmapPng, HiddenCellsHaveAGreyThatNoWeightHas) {
  Map map(2, 2);
  map.values({1.0f, FV_HEATMAP_HIDDEN, 0.0f, 0.5f});
  Folder folder;
  ASSERT_EQ(write_map(map, folder.in("map.png")), FV_HEATMAP_OK);
  Png png(folder.in("map.png"));
  fv_heatmap_page page = layout_with_cairo(map.get());
  fv_heatmap_ramp ramp;
  fv_heatmap_ramp_fill(&ramp);
  EXPECT_EQ(block_color(png, page, 0, 0, 1), ramp.hidden);
  EXPECT_EQ(block_color(png, page, 0, 1, 0), ramp.rgb[0]);
  for (uint32_t color : ramp.rgb) {
    int far = 0;  // 24 levels of a channel suffice: weight 0 and paper differ by less
    for (int shift = 0; shift < 24; shift += 8) {
      far = std::max(far, std::abs(int(ramp.hidden >> shift & 0xFF) - int(color >> shift & 0xFF)));
    }
    EXPECT_GE(far, 24) << std::hex << color;
  }
}

TEST(HeatmapPng, EachPanelCanHaveItsOwnScale) {
  Map map(2, 2, 2);
  map.at(0, 0, 0) = 0.5f, map.at(0, 1, 0) = 0.25f;
  map.at(0, 0, 1) = 0.002f, map.at(1, 1, 1) = 0.001f;
  map.scale(FV_HEATMAP_SCALE_PANEL);
  Folder folder;
  ASSERT_EQ(write_map(map, folder.in("map.png")), FV_HEATMAP_OK);
  ASSERT_EQ(write_map(map, folder.in("map.svg")), FV_HEATMAP_OK);
  Png png(folder.in("map.png"));
  fv_heatmap_page page = layout_with_cairo(map.get());
  EXPECT_EQ(block_color(png, page, 0, 0, 0), expected_color(1, 1));
  EXPECT_EQ(block_color(png, page, 0, 0, 1), expected_color(0.5, 1));
  EXPECT_EQ(block_color(png, page, 1, 0, 0), expected_color(1, 1));
  EXPECT_EQ(block_color(png, page, 1, 1, 1), expected_color(0.5, 1));
  std::string svg = read_file(folder.in("map.svg"));
  for (const char *text : {">head 0 (0.5)<", ">head 1 (0.002)<", "largest weight (in brackets)"}) {
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  }
}

TEST(HeatmapPng, ARootScaleColorsByTheSquareRootAndSaysSo) {
  Map map(1, 3);
  map.values({0.64f, 0.16f, 0.01f}).scale(FV_HEATMAP_SCALE_ROOT);
  Folder folder;
  ASSERT_EQ(write_map(map, folder.in("map.png")), FV_HEATMAP_OK);
  ASSERT_EQ(write_map(map, folder.in("map.svg")), FV_HEATMAP_OK);
  Png png(folder.in("map.png"));
  fv_heatmap_page page = layout_with_cairo(map.get());
  EXPECT_EQ(block_color(png, page, 0, 0, 0), expected_color(1, 1));
  EXPECT_EQ(block_color(png, page, 0, 0, 1), expected_color(0.5, 1));
  EXPECT_EQ(block_color(png, page, 0, 0, 2), expected_color(0.125, 1));
  EXPECT_NE(read_file(folder.in("map.svg")).find("root scale"), std::string::npos);
}

TEST(HeatmapPng, AMapTooLargeForThePageShowsTheMaximumOfEachBlock) {
  Map map(1, 4096);
  map.at(0, 4095) = 1.0f;
  map.at(0, 0) = kNaN;
  Folder folder;
  ASSERT_EQ(write_map(map, folder.in("map.png")), FV_HEATMAP_OK);
  Png png(folder.in("map.png"));
  fv_heatmap_page page = layout_with_cairo(map.get());
  ASSERT_EQ(page.blocks.cols, 1024u);
  ASSERT_EQ(write_map(map, folder.in("map.svg")), FV_HEATMAP_OK);
  EXPECT_NE(read_file(folder.in("map.svg")).find("largest of 1 \xC3\x97 4 weights"),
            std::string::npos);
  EXPECT_EQ(block_color(png, page, 0, 0, 1023), expected_color(1, 1));
  EXPECT_EQ(block_color(png, page, 0, 0, 1), expected_color(0, 1));
  fv_heatmap_ramp ramp = {};
  EXPECT_EQ(block_color(png, page, 0, 0, 0),
            fv_heatmap_cells_color(&ramp, {FV_HEATMAP_KIND_NAN, 0}));
}

// ---- files ----

TEST(HeatmapWrite, WritesTheFormatThatTheExtensionNames) {
  Folder folder;
  Map map(4, 4);
  map.fill(pattern).texts("A title", "a subtitle");
  for (const char *name : {"a.png", "a.svg", "a.pdf", "B.PNG"}) {
    EXPECT_EQ(write_map(map, folder.in(name)), FV_HEATMAP_OK) << name;
  }
  EXPECT_EQ(read_file(folder.in("a.png")).substr(0, 4), "\x89PNG");
  EXPECT_EQ(read_file(folder.in("B.PNG")), read_file(folder.in("a.png")));
  EXPECT_EQ(read_file(folder.in("a.pdf")).substr(0, 5), "%PDF-");
  std::string svg = read_file(folder.in("a.svg"));
  EXPECT_EQ(svg.substr(0, 5), "<?xml");
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"B.PNG", "a.pdf", "a.png", "a.svg"}));
}

TEST(HeatmapWrite, RefusesOtherExtensionsAndNamesTheThree) {
  Folder folder;
  Map map(2, 2);
  for (const char *name : {"a.jpg", "a", "png", ".png.gz", "a.png "}) {
    std::string error;
    EXPECT_EQ(write_map(map, folder.in(name), &error), FV_HEATMAP_UNKNOWN_FORMAT) << name;
    for (const char *part : {name, ".png", ".svg", ".pdf"}) {
      EXPECT_NE(error.find(part), std::string::npos) << error;
    }
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(HeatmapWrite, ReplacesAnOldFileAndIsReadableLikeAnyNewFile) {
  Folder folder;
  Map map(2, 2);
  std::ofstream(folder.in("a.svg")) << "old";
  mode_t mask = umask(027);
  EXPECT_EQ(write_map(map, folder.in("a.svg")), FV_HEATMAP_OK);
  umask(mask);
  struct stat there;
  ASSERT_EQ(stat(folder.in("a.svg").c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 0777, 0640u);
  EXPECT_EQ(read_file(folder.in("a.svg")).substr(0, 5), "<?xml");
}

TEST(HeatmapWrite, AFolderThatDoesNotExistIsAnErrorThatNamesThePath) {
  Folder folder;
  Map map(2, 2);
  std::string error;
  EXPECT_EQ(write_map(map, folder.in("none/a.png"), &error), FV_HEATMAP_NOT_WRITABLE);
  EXPECT_NE(error.find(folder.in("none/a.png")), std::string::npos) << error;
  EXPECT_NE(error.find("No such file or directory"), std::string::npos) << error;
  EXPECT_TRUE(folder.names().empty());
}

TEST(HeatmapWrite, DoesNotReplaceWhatIsNotARegularFile) {
  Folder folder;
  Map map(2, 2);
  ASSERT_EQ(mkdir(folder.in("a.png").c_str(), 0700), 0);
  std::string error;
  EXPECT_EQ(write_map(map, folder.in("a.png"), &error), FV_HEATMAP_NOT_WRITABLE);
  EXPECT_NE(error.find("not a regular file"), std::string::npos) << error;
  ASSERT_EQ(rmdir(folder.in("a.png").c_str()), 0);
  EXPECT_TRUE(folder.names().empty());
}

TEST(HeatmapWrite, AFileThatCannotBeWrittenInFullLeavesTheOldOneAndNothingElse) {
  for (const char *name : {"a.png", "a.svg", "a.pdf"}) {
    Folder folder;
    Map map(16, 16);
    map.fill(pattern);
    std::ofstream(folder.in(name)) << "old";
    rlimit before;
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit tight = {100, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);  // SIGXFSZ would end the program
    std::string error;
    fv_heatmap_status status = write_map(map, folder.in(name), &error);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_EQ(status, FV_HEATMAP_NOT_WRITABLE) << name;
    EXPECT_NE(error.find("File too large"), std::string::npos) << error;
    EXPECT_EQ(read_file(folder.in(name)), "old");
    EXPECT_EQ(folder.names(), std::vector<std::string>{name});
  }
}

// The temporary name must not be longer, so it is not made of the target's.
TEST(HeatmapWrite, ANameAsLongAsTheFileSystemAllowsIsWritten) {
  Folder folder;
  Map map(2, 2);
  std::string name = std::string(251, 'a') + ".svg", error;
  EXPECT_EQ(write_map(map, folder.in(name), &error), FV_HEATMAP_OK) << error;
  EXPECT_EQ(folder.names(), std::vector<std::string>{name});
}

TEST(HeatmapWrite, EveryPainterReportsAStreamThatIsFull) {
  Map map(16, 16);
  map.fill(pattern);
  for (auto paint : {fv_heatmap_cairo_png, fv_heatmap_cairo_pdf, fv_heatmap_svg}) {
    FILE *full = fopen("/dev/full", "w");
    ASSERT_NE(full, nullptr);
    EXPECT_EQ(paint(map.get(), full), FV_HEATMAP_NOT_WRITABLE);
    fclose(full);
  }
}

TEST(HeatmapWrite, RefusesMapsWithoutCellsOrWeights) {
  Folder folder;
  fv_heatmap_panel panel = {nullptr, 0, nullptr};
  float weight = 1;
  fv_heatmap_panel good = {&weight, 0, nullptr};
  std::vector<fv_heatmap_panel> many(FV_HEATMAP_MAX_PANELS + 1, good);
  fv_heatmap maps[5] = {};
  maps[1].panels = &panel, maps[1].panel_count = 1, maps[1].rows = maps[1].cols = 1;
  maps[2].panels = &good, maps[2].panel_count = 1, maps[2].rows = 1;
  maps[3].panels = &good, maps[3].panel_count = 1, maps[3].cols = 1;
  maps[4].panels = many.data(), maps[4].panel_count = many.size();
  maps[4].rows = maps[4].cols = 1;
  for (const fv_heatmap &map : maps) {
    char error[200] = "";
    EXPECT_EQ(fv_heatmap_write(&map, folder.in("a.png").c_str(), error, sizeof error),
              FV_HEATMAP_BAD_MAP);
    EXPECT_NE(std::string(error).find("cannot draw"), std::string::npos) << error;
    EXPECT_EQ(fv_heatmap_terminal(&map, stderr, nullptr), FV_HEATMAP_BAD_MAP);
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(HeatmapWrite, ALongErrorIsCutToTheBuffer) {
  Map map(1, 1);
  char error[8] = "1234567";
  EXPECT_EQ(fv_heatmap_write(map.get(), "/nowhere/at/all.jpg", error, 6),
            FV_HEATMAP_UNKNOWN_FORMAT);
  EXPECT_STREQ(error, "/nowh");
  EXPECT_EQ(error[6], '7');
  EXPECT_EQ(fv_heatmap_write(map.get(), "a.jpg", nullptr, 0), FV_HEATMAP_UNKNOWN_FORMAT);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // sanitizers reserve more addresses than a limit can leave
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

TEST(HeatmapWrite, RunningOutOfMemoryIsAnErrorAndLeavesNothing) {
  if (kSanitized) GTEST_SKIP() << "the limit on addresses does not work under this sanitizer";
  Folder folder;
  Map map(2048, 2048);                                              // its pixels alone take 16.8 MB
  ASSERT_EQ(write_map(map, folder.in("warm.png")), FV_HEATMAP_OK);  // fonts are loaded
  ASSERT_EQ(unlink(folder.in("warm.png").c_str()), 0);
  for (size_t megabytes : {1, 2, 4, 8, 15}) {
    pid_t child = fork();
    if (child == 0) {
      std::ifstream statm("/proc/self/statm");
      size_t pages;
      statm >> pages;
      rlim_t most = pages * static_cast<size_t>(getpagesize()) + (megabytes << 20);
      rlimit tight = {most, most};
      setrlimit(RLIMIT_AS, &tight);
      char error[200];
      _exit(fv_heatmap_write(map.get(), folder.in("a.png").c_str(), error, sizeof error));
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), FV_HEATMAP_NO_MEMORY) << megabytes << " MB";
    EXPECT_TRUE(folder.names().empty());
  }
}

TEST(HeatmapWrite, ExtremeShapesWorkInEveryFormat) {
  const std::pair<size_t, size_t> shapes[] = {{1, 1}, {1, 2000}, {2000, 1}, {3, 4100}};
  for (auto shape : shapes) {
    Folder folder;
    Map map(shape.first, shape.second);
    map.fill(pattern);
    for (const char *name : {"a.png", "a.svg", "a.pdf"}) {
      ASSERT_EQ(write_map(map, folder.in(name)), FV_HEATMAP_OK) << name;
    }
    fv_heatmap_page page = layout_with_cairo(map.get());
    double density = fv_heatmap_cairo_density(&page);
    Png png(folder.in("a.png"));
    EXPECT_EQ(png.width(), page.width * density);
    EXPECT_EQ(png.height(), page.height * density);
    EXPECT_EQ(block_color(png, page, 0, 0, 0), expected_color(1, 1));
  }
}

TEST(HeatmapSvg, KeepsTextAsTextAndEscapesMarkup) {
  Folder folder;
  Map map(2, 2);
  map.labels({"<script>alert(1)</script>", "\"q\" & 'a'"}, {"##ing", "\x1b]0;x\x07\xff\x01"});
  map.texts("Title <b>", nullptr);
  ASSERT_EQ(write_map(map, folder.in("a.svg")), FV_HEATMAP_OK);
  std::string svg = read_file(folder.in("a.svg"));
  EXPECT_NE(svg.find(">##ing</text>"), std::string::npos);
  EXPECT_NE(svg.find(">&lt;script&gt;alert(1)&lt;/s\xE2\x80\xA6</text>"), std::string::npos) << svg;
  EXPECT_NE(svg.find(">&quot;q&quot; &amp; 'a'</text>"), std::string::npos);
  EXPECT_NE(svg.find("<title>Title &lt;b&gt;</title>"), std::string::npos);
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  for (char byte : svg) EXPECT_TRUE(byte == '\n' || static_cast<unsigned char>(byte) >= 0x20);
}

TEST(HeatmapSvg, EmbedsAPngOfTheCells) {
  Folder folder;
  Map map(2, 3);
  map.values({0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f});
  ASSERT_EQ(write_map(map, folder.in("a.svg")), FV_HEATMAP_OK);
  std::string svg = read_file(folder.in("a.svg"));
  const std::string before = "data:image/png;base64,";
  size_t start = svg.find(before) + before.size();
  std::string bytes;
  uint32_t bits = 0, count = 0;
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = start; svg[i] != '"' && svg[i] != '='; i++) {
    ASSERT_NE(digits.find(svg[i]), std::string::npos);
    bits = bits << 6 | static_cast<uint32_t>(digits.find(svg[i]));
    if ((count += 6) >= 8) bytes.push_back(static_cast<char>(bits >> (count -= 8) & 0xFF));
  }
  std::ofstream(folder.in("cells.png"), std::ios::binary) << bytes;
  Png cells(folder.in("cells.png"));
  for (int row = 0; row < 2; row++) {
    for (int col = 0; col < 3; col++) {
      EXPECT_EQ(cells.at((col + 0.5) * cells.width() / 3, (row + 0.5) * cells.height() / 2),
                expected_color(map.at(row, col), 1));
    }
  }
}

}  // namespace
