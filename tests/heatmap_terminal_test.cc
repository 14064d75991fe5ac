// heatmap_terminal_test.cc: how a map looks in a terminal, and that no text of a file can send it
// escape sequences. A small terminal of our own reads coloured output. It fails on any sequence
// that the drawing should not use.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/heatmap/cells.h"
#include "cli/heatmap/label.h"
#include "tests/heatmap_map.h"

namespace {

std::string terminal(Map &map, size_t width, bool color, bool unicode, size_t height = 0) {
  char *bytes = nullptr;
  size_t count = 0;
  FILE *stream = open_memstream(&bytes, &count);
  fv_heatmap_terminal_options options = {width, height, color, unicode};
  EXPECT_EQ(fv_heatmap_terminal(map.get(), stream, &options), FV_HEATMAP_OK);
  fclose(stream);
  std::string text(bytes, count);
  free(bytes);
  return text;
}

TEST(HeatmapTerminal, DrawsAKnownMatrixAsAnExpectedText) {
  Map map(3, 4);
  map.values({0.0f, 0.1f, 0.5f, 0.9f, 0.9f, 0.0f, 0.0f, 0.0f, 0.2f, 0.3f, 0.4f, 0.6f});
  map.labels({"the", "cat", "##s"}, {"the", "cat", "##s", "."}).texts("layer 3", "head 5");
  EXPECT_EQ(terminal(map, 80, false, false),
            "layer 3\n"
            "head 5\n"
            "     t c #   \n"
            "     h a #   \n"
            "     e t s . \n"
            "the |  ..++@@|\n"
            "cat |@@      |\n"
            "##s |::--==**|\n"
            "  0 | .:-=+*#%@| 0.9\n");
}

TEST(HeatmapTerminal, ShowsNanNegativeAndTooLargeByMarksAndCountsThem) {
  Map map(1, 5);
  map.values({0.5f, kNaN, -1.0f, 1.5f, kNaN}).scale(FV_HEATMAP_SCALE_ONE);
  EXPECT_EQ(terminal(map, 80, false, false),
            "   0 1 2 3 4 \n"
            "0 |++!!<<>>!!|\n"
            "0 | .:-=+*#%@| 1\n"
            "   ! 2 not a number\n"
            "   < 1 below 0\n"
            "   > 1 above 1\n");
}

TEST(HeatmapTerminal, HatchesHiddenCellsAndSaysWhatItMeans) {
  Map map(2, 2);
  map.values({1.0f, FV_HEATMAP_HIDDEN, 0.0f, 0.5f});
  EXPECT_EQ(terminal(map, 80, false, false),
            "   0 1 \n"
            "0 |@@//|\n"
            "1 |  ++|\n"
            "0 | .:-=+*#%@| 1\n"
            "   / hidden from the query\n");
}

TEST(HeatmapTerminal, NamesTheScaleThatIsNotTheUsualOne) {
  Map map(1, 13, 2);
  map.at(0, 0, 0) = 0.5f, map.at(0, 12, 1) = 0.01f;
  map.scale(FV_HEATMAP_SCALE_PANEL);
  std::string text = terminal(map, 80, false, false);
  EXPECT_NE(text.find("head 0 (0.5)   head 1 (0.01)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("0 |@            ||            @|\n"), std::string::npos) << text;
  EXPECT_NE(text.find("each head to its largest weight\n"), std::string::npos) << text;
  Map root(1, 2);
  root.values({1.0f, 0.25f}).scale(FV_HEATMAP_SCALE_ROOT);
  text = terminal(root, 80, false, false);
  EXPECT_NE(text.find("0 |@@++|\n"), std::string::npos) << text;
  EXPECT_NE(text.find("root scale: shades by square root\n"), std::string::npos) << text;
}

TEST(HeatmapTerminal, BreaksALongSubtitleAtSpacesAndLosesNothing) {
  Map map(1, 1);
  map.texts("title", "a model, batch row 0, causal top-left, softcap 30");
  EXPECT_EQ(terminal(map, 32, false, false).substr(0, 56),
            "title\na model, batch row 0, causal\ntop-left, softcap 30\n");
}

TEST(HeatmapTerminal, ReadsRowsByTheirStrideAndNothingBetween) {
  Map map(2, 2);
  map.stride(3).values({1.0f, 0.0f, kNaN, 0.0f, 1.0f});
  EXPECT_EQ(terminal(map, 80, false, false),
            "   0 1 \n"
            "0 |@@  |\n"
            "1 |  @@|\n"
            "0 | .:-=+*#%@| 1\n");
}

TEST(HeatmapTerminal, ReducesByMaximumSoThatOneWeightIsNeverLost) {
  for (size_t spike = 0; spike < 2000; spike += 37) {
    Map map(1, 2000);
    map.at(0, spike) = 1.0f;
    std::string text = terminal(map, 60, false, false);
    // One is in the map and one in the legend.
    ASSERT_EQ(std::count(text.begin(), text.end(), '@'), 2) << spike << "\n" << text;
    Map tall(2000, 1);
    tall.at(spike, 0) = kNaN;
    text = terminal(tall, 60, false, false);
    ASSERT_EQ(std::count(text.begin(), text.end(), '!'), 3) << spike << "\n" << text;
    ASSERT_NE(text.find("each cell: the largest of"), std::string::npos);
  }
}

TEST(HeatmapTerminal, BlocksAtTheEdgesReadNothingBeyondTheMap) {
  // 5 x 35 weights lie inside 8 x 40, and the rest is NaN. Blocks of 2 x 2 reach beyond both edges.
  std::vector<float> weights(8 * 40, kNaN);
  for (size_t row = 0; row < 5; row++) {
    for (size_t col = 0; col < 35; col++) weights[row * 40 + col] = 0.5f;
  }
  Map map(5, 35);
  map.stride(40).values(weights);
  std::string text = terminal(map, 32, false, false, 3);
  EXPECT_NE(text.find("each cell: the largest of 2 x 2"), std::string::npos) << text;
  EXPECT_EQ(text.find('!'), std::string::npos) << text;
}

TEST(HeatmapTerminal, ABlockIsHiddenOnlyIfAllOfItIs) {
  Map map(1, 140);
  for (size_t col = 0; col < 140; col++) map.at(0, col) = FV_HEATMAP_HIDDEN;
  map.at(0, 1) = 0.0f, map.at(0, 7) = 1.0f;
  std::string text = terminal(map, 39, false, false);  // blocks of 4
  EXPECT_NE(text.find("0 | @/////"), std::string::npos) << text;
}

// What a terminal shows in one column of a line: the character and its colours.
struct Cell {
  std::string character;
  long front, back;  // -1: default
};

std::vector<std::vector<Cell>> screen(const std::string &text) {
  std::vector<std::vector<Cell>> lines(1);
  long front = -1, back = -1;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\n') {
      lines.emplace_back();
      i++;
    } else if (text[i] == '\033') {
      unsigned kind, r, g, b;
      int length = 0;
      if (sscanf(text.c_str() + i, "\033[%u;2;%u;%u;%um%n", &kind, &r, &g, &b, &length) == 4) {
        (kind == 48 ? back : front) = r << 16 | g << 8 | b;
      } else if (sscanf(text.c_str() + i, "\033[%um%n", &kind, &length) == 1) {
        if (kind == 0) front = -1;
        back = -1;
      } else {
        ADD_FAILURE() << "an escape sequence that the drawing does not use at byte " << i;
        return lines;
      }
      i += static_cast<size_t>(length);
    } else {
      size_t length = 1;
      while ((text[i + length] & 0xC0) == 0x80) length++;
      lines.back().push_back({text.substr(i, length), front, back});
      i += length;
    }
  }
  return lines;
}

uint32_t terminal_color(double level) {
  return expected_color(1 - level, 1);
}

TEST(HeatmapTerminal, HalfBlocksPutTwoRowsOfExactColorIntoOneLine) {
  for (size_t rows : {4, 5}) {
    Map map(rows, 60);
    map.fill(pattern);
    auto lines = screen(terminal(map, 80, true, true));
    size_t top = 0;
    while (lines[top].size() < 10 || lines[top][4].character != "\xE2\x96\x80") top++;
    for (size_t row = 0; row < rows; row++) {
      for (size_t col = 0; col < 60; col++) {
        const Cell &cell = lines[top + row / 2][3 + col];
        ASSERT_EQ(cell.character, "\xE2\x96\x80");
        long color = row % 2 == 0 ? cell.front : cell.back;
        ASSERT_EQ(color, terminal_color(map.at(row, col))) << row << " " << col;
      }
    }
    long below = lines[top + (rows - 1) / 2][3].back;
    EXPECT_EQ(below == -1, rows == 5) << "a last row without a partner has nothing below it";
  }
}

TEST(HeatmapTerminal, HiddenCellsHaveAColorThatNoWeightHas) {
  Map map(1, 2);
  map.values({FV_HEATMAP_HIDDEN, 1.0f});
  long hidden = screen(terminal(map, 80, true, true))[1][3].back;
  for (int level = 0; level < 256; level++) {
    long color = terminal_color(level / 255.0);
    int far = 0;
    for (int shift = 0; shift < 24; shift += 8) {
      far = std::max(far, std::abs(int(hidden >> shift & 0xFF) - int(color >> shift & 0xFF)));
    }
    EXPECT_GE(far, 24) << level;  // as on paper
  }
}

TEST(HeatmapTerminal, SmallMapsHaveTwoColumnsOfColorPerCell) {
  Map map(2, 2);
  map.values({0.0f, 0.4f, 1.0f, kNaN});
  auto lines = screen(terminal(map, 80, true, true));
  for (int half = 0; half < 2; half++) {
    EXPECT_EQ(lines[1][3 + half].back, terminal_color(0));
    EXPECT_EQ(lines[1][5 + half].back, terminal_color(0.4));
    EXPECT_EQ(lines[2][3 + half].back, terminal_color(1));
  }
  EXPECT_EQ(lines[2][5].character, "!");
  fv_heatmap_ramp ramp = {};
  EXPECT_EQ(lines[2][5].back, fv_heatmap_cells_color(&ramp, {FV_HEATMAP_KIND_NAN, 0}));
}

TEST(HeatmapTerminal, NoLineIsWiderThanTheTerminal) {
  const size_t sizes[] = {1, 2, 16, 40, 133, 500};
  for (size_t width : {0, 1, 32, 80, 250}) {
    size_t most = width == 0 ? 80 : std::max<size_t>(width, 32);
    for (size_t size : sizes) {
      for (int mode = 0; mode < 8; mode++) {
        Map map(size, size, mode & 4 ? 7 : 1);
        map.labels(words(size), words(size)).texts("A title that is rather long for some", "sub");
        map.at(0, 0) = 1.23e-5f;  // the longest number a scale can end with
        for (auto &line : screen(terminal(map, width, mode & 1, mode & 2))) {
          ASSERT_LE(line.size(), most) << width << " " << size << " " << mode;
        }
      }
    }
  }
}

TEST(HeatmapTerminal, KeepsToTheHeightThatIsAskedFor) {
  Map map(1000, 3);
  for (bool color : {false, true}) {
    auto lines = screen(terminal(map, 80, color, true, 20));
    EXPECT_LE(lines.size(), 20u + 5u + 3u);  // labels of up to 5 rows, reduction, legend, end
    EXPECT_GE(lines.size(), 20u);
  }
}

TEST(HeatmapTerminal, PanelsStandSideBySideWithTheirTitles) {
  Map map(2, 2, 3);
  map.at(0, 0, 0) = map.at(0, 1, 1) = map.at(1, 1, 2) = 1.0f;
  EXPECT_EQ(terminal(map, 24, false, false),
            "   h~  h~  h~\n"
            "   0   0   0 \n"
            "0 |@ || @||  |\n"
            "1 |  ||  || @|\n"
            "0 | .:-=+*#%@| 1\n");
}

TEST(HeatmapTerminal, AStreamThatIsFullIsAnError) {
  Map map(4, 4);
  FILE *full = fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  EXPECT_EQ(fv_heatmap_terminal(map.get(), full, nullptr), FV_HEATMAP_NOT_WRITABLE);
  fclose(full);
}

// ---- labels ----

std::string clean(const std::string &text, size_t columns = 40, bool ascii = false) {
  fv_heatmap_label label;
  fv_heatmap_label_clean(&label, text.c_str(), 0, columns, ascii);
  EXPECT_LE(label.columns, columns);
  return label.text;
}

TEST(HeatmapLabel, NeutralisesControlsEscapesAndInvisibleCharacters) {
  EXPECT_EQ(clean("\x1b[31mred\x07"), "^[[31mred^G");
  EXPECT_EQ(clean("a\nb\rc\x7f"), "a^Jb^Mc^?");
  EXPECT_EQ(clean("\xC2\x9B"
                  "31m"),
            "\xEF\xBF\xBD"
            "31m");  // CSI as one C1 control
  EXPECT_EQ(clean("\xC0\x9B"
                  "31m"),
            "\xEF\xBF\xBD\xEF\xBF\xBD"
            "31m");  // ESC, overlong
  EXPECT_EQ(clean("\xE2\x80\xAE"
                  "abc"),
            "\xEF\xBF\xBD"
            "abc");  // right-to-left override
  EXPECT_EQ(clean("a\xE2\x80\x8B"
                  "b"),
            "a\xEF\xBF\xBD"
            "b");                                                            // zero-width space
  EXPECT_EQ(clean("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // surrogate
  EXPECT_EQ(clean("\xF4\x90\x80\x80").substr(0, 3), "\xEF\xBF\xBD");         // beyond U+10FFFF
  EXPECT_EQ(clean("\xE2\x82"), "\xEF\xBF\xBD\xEF\xBF\xBD");                  // cut off
  EXPECT_EQ(clean("\x1b[31m\xC3\xA9", 40, true), "^[[31m?");
}

TEST(HeatmapLabel, NoByteSequenceGetsAControlCharacterThrough) {
  uint32_t state = 1;
  for (int round = 0; round < 20000; round++) {
    std::string text;
    for (int i = 0; i < 12; i++) {
      state = state * 1664525u + 1013904223u;
      static const unsigned char bytes[] = {0x1b, 0xC2, 0x9B, 0xC0, 0xE2, 0x80, 0xAE, 0xF0,
                                            0x9F, 0x7F, 0x07, 0x85, 'a',  0xCC, 0xED, 0xFF};
      text.push_back(static_cast<char>(bytes[state >> 28]));
    }
    for (bool ascii : {false, true}) {
      std::string safe = clean(text, 9, ascii);
      const char *at = safe.c_str();
      while (uint32_t code_point = fv_heatmap_label_decode(&at)) {
        ASSERT_FALSE(code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0));
        ASSERT_FALSE(code_point >= 0x200B && code_point <= 0x200F);
        ASSERT_FALSE(code_point >= 0x2028 && code_point <= 0x202E);
        ASSERT_TRUE(!ascii || code_point < 0x7F);
      }
    }
  }
}

TEST(HeatmapLabel, EscapesInAnyTextOfAMapNeverReachTheTerminal) {
  const char *const evil =
      "\x1b]0;owned\x07\xC2\x9B"
      "2J\r\n";
  for (int mode = 0; mode < 4; mode++) {
    Map map(2, 2, 2);
    map.labels({evil, evil}, {evil, evil}).texts(evil, evil);
    fv_heatmap with_titles = *map.get();
    std::vector<fv_heatmap_panel> panels(with_titles.panels, with_titles.panels + 2);
    panels[0].title = panels[1].title = evil;
    with_titles.panels = panels.data();
    char *bytes = nullptr;
    size_t count = 0;
    FILE *stream = open_memstream(&bytes, &count);
    fv_heatmap_terminal_options options = {80, 0, (mode & 1) != 0, (mode & 2) != 0};
    ASSERT_EQ(fv_heatmap_terminal(&with_titles, stream, &options), FV_HEATMAP_OK);
    fclose(stream);
    for (auto &line : screen(std::string(bytes, count))) {  // fails on any sequence not its own
      for (const Cell &cell : line) {
        unsigned char first = static_cast<unsigned char>(cell.character[0]);
        EXPECT_TRUE(first >= 0x20 && first != 0x7F && cell.character != "\xC2\x9B");
      }
    }
    free(bytes);
  }
}

TEST(HeatmapLabel, MeasuresAndCutsByColumnsNotBytes) {
  fv_heatmap_label label;
  fv_heatmap_label_clean(&label, "\xE6\xBC\xA2\xE5\xAD\x97", 0, 40, false);  // two wide characters
  EXPECT_EQ(label.columns, 4u);
  fv_heatmap_label_clean(&label, "e\xCC\x81t\xC3\xA9", 0, 40, false);  // a combining accent
  EXPECT_EQ(label.columns, 3u);
  EXPECT_EQ(clean("\xE6\xBC\xA2\xE5\xAD\x97", 3), "\xE6\xBC\xA2\xE2\x80\xA6");
  EXPECT_EQ(clean("conversations", 5), "conv\xE2\x80\xA6");
  EXPECT_EQ(clean("conversations", 5, true), "conv~");
  EXPECT_EQ(clean("  "), "\xE2\x90\xA3");
  EXPECT_EQ(clean(""), "");
  EXPECT_EQ(clean("\xCC\x81"), "\xE2\x97\x8C\xCC\x81");  // an accent without a letter
  std::string stack = "a";
  for (int i = 0; i < 500; i++) stack += "\xCC\x81";
  EXPECT_EQ(clean(stack), "a\xCC\x81\xCC\x81");
  for (int i = 0; i < 500000; i++) stack += "\xCC\x81";
  EXPECT_EQ(clean(stack), "a\xCC\x81\xCC\x81\xE2\x80\xA6");
  fv_heatmap_label_clean(&label, nullptr, 1234, 40, false);
  EXPECT_STREQ(label.text, "1234");
}

TEST(HeatmapLabel, AnyLengthFitsTheBuffer) {
  for (const char *piece : {"x", "\xF0\x9F\x90\x88", "e\xCC\x81\xCC\x81", "\xF0\xA0\x80\x80"}) {
    std::string text;
    for (int i = 0; i < 3000; i++) text += piece;
    for (size_t columns : {1, 2, 5, 120, 100000}) {
      EXPECT_LT(clean(text, columns).size(), size_t{FV_HEATMAP_LABEL_BYTES});
    }
  }
}

TEST(HeatmapLabel, GlyphsCarryTheirMarks) {
  fv_heatmap_label label;
  char glyph[16];
  fv_heatmap_label_clean(&label, "e\xCC\x81\xE6\xBC\xA2z", 0, 40, false);
  EXPECT_EQ(fv_heatmap_label_glyph(&label, 0, glyph), 1u);
  EXPECT_STREQ(glyph, "e\xCC\x81");
  EXPECT_EQ(fv_heatmap_label_glyph(&label, 1, glyph), 2u);
  EXPECT_STREQ(glyph, "\xE6\xBC\xA2");
  EXPECT_EQ(fv_heatmap_label_glyph(&label, 2, glyph), 1u);
  EXPECT_STREQ(glyph, "z");
  EXPECT_EQ(fv_heatmap_label_glyph(&label, 3, glyph), 0u);
  EXPECT_STREQ(glyph, "");
}

}  // namespace
