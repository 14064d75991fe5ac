// The schedule of kernels/shared/schedule.h over random lists of tiles: it has every unit once, in
// equal shares, and each part has a place of its own.
#include "kernels/shared/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "tests/support/memory.h"

namespace fovea_test {
namespace {

struct Work {
  std::vector<fv_placed_tile> tiles;
  fv_schedule schedule{};
};

// Tiles as attention_prepare lists them. If `chunked`, some are split into chunks, others are not.
Work some_work(Choices *choices, bool chunked) {
  Work work;
  work.schedule.heads = static_cast<int32_t>(1 + choices->below(4));
  work.schedule.shares = static_cast<int32_t>(1 + choices->below(40));
  work.schedule.chunked = chunked;
  int64_t places = 0;
  for (int64_t n = choices->below(12); n > 0; --n) {
    fv_placed_tile tile{};
    tile.work_begin = work.schedule.work;
    tile.place_begin = places;
    tile.key_tile = static_cast<int32_t>(choices->below(9));
    tile.key_tiles = static_cast<int32_t>(1 + choices->below(choices->below(2) ? 3 : 60));
    if (chunked && choices->below(3)) tile.chunk = static_cast<int32_t>(1 + choices->below(8));
    const int32_t chunks = fv_chunks_of(tile.key_tile, tile.key_tiles, tile.chunk);
    if (chunks > 1) places += chunks * work.schedule.heads;
    work.schedule.work += tile.key_tiles;
    work.tiles.push_back(tile);
  }
  work.schedule.count = static_cast<int64_t>(work.tiles.size());
  work.schedule.tiles = work.tiles.data();
  return work;
}

std::vector<std::vector<fv_segment>> shares_of(const Work &work) {
  std::vector<std::vector<fv_segment>> shares;
  for (int64_t share = 0; share < work.schedule.shares; ++share) {
    shares.emplace_back();
    fv_cursor cursor = fv_start_share(&work.schedule, share);
    fv_segment segment;
    while (fv_next_segment(&work.schedule, share, &cursor, &segment)) {
      shares.back().push_back(segment);
    }
  }
  return shares;
}

using Place = std::tuple<int64_t, int32_t>;  // tile and head

// The parts of every tile and head, by part number.
std::map<Place, std::map<int32_t, fv_segment>> parts_of(const Work &work) {
  std::map<Place, std::map<int32_t, fv_segment>> parts;
  for (const auto &share : shares_of(work)) {
    for (const fv_segment &s : share) {
      const bool fresh = parts[{s.tile, s.head}].emplace(s.part, s).second;
      EXPECT_TRUE(fresh) << "two parts of one number";
    }
  }
  return parts;
}

TEST(Schedule, PartsOfEveryTileAreAllItsKeysInTheirOrder) {
  Choices choices(1);
  for (int n = 0; n < 4000; ++n) {
    const Work work = some_work(&choices, n % 2);
    const auto parts = parts_of(work);
    ASSERT_EQ(parts.size(), work.tiles.size() * static_cast<size_t>(work.schedule.heads));
    for (const auto &[place, list] : parts) {
      int32_t reached = 0, number = 0;
      for (const auto &[part, segment] : list) {
        ASSERT_EQ(part, number++);
        ASSERT_EQ(segment.parts, static_cast<int32_t>(list.size()));
        ASSERT_EQ(segment.first, reached);
        ASSERT_GT(segment.end, segment.first);
        reached = segment.end;
      }
      ASSERT_EQ(reached, work.tiles[static_cast<size_t>(std::get<0>(place))].key_tiles);
    }
  }
}

TEST(Schedule, EveryPartHasAPlaceOfItsOwnThatTheLastToComeFinds) {
  Choices choices(2);
  for (int n = 0; n < 4000; ++n) {
    const Work work = some_work(&choices, n % 2);
    std::set<int64_t> places;
    for (const auto &[place, list] : parts_of(work)) {
      if (list.size() == 1) continue;
      for (const auto &[part, segment] : list) {
        ASSERT_TRUE(places.insert(segment.place).second);
        ASSERT_EQ(segment.first_place, list.at(0).place);
        for (const auto &[other, its] : list) {
          ASSERT_EQ(fv_place_of_partial(work.schedule.chunked, segment.first_place, other),
                    its.place);
        }
      }
    }
    if (!work.schedule.chunked && !places.empty()) {
      ASSERT_LT(*places.rbegin(), 2 * work.schedule.shares);
    }
  }
}

TEST(Schedule, SharesDifferByOneUnitAtMost) {
  Choices choices(3);
  for (int n = 0; n < 4000; ++n) {
    const Work work = some_work(&choices, false);
    int64_t least = INT64_MAX, most = 0;
    for (const auto &share : shares_of(work)) {
      int64_t units = 0;
      for (const fv_segment &s : share) units += s.end - s.first;
      least = std::min(least, units);
      most = std::max(most, units);
      ASSERT_LE(std::count_if(share.begin(), share.end(),
                              [](const fv_segment &s) { return s.parts > 1; }),
                2);
    }
    ASSERT_LE(most - least, 1);
  }
}

// Only a tile's own keys decide its chunks. Other tiles and the shares change nothing.
TEST(Schedule, ChunksDoNotDependOnWhatElseThereIs) {
  Choices choices(4);
  for (int n = 0; n < 2000; ++n) {
    Work work = some_work(&choices, true);
    for (size_t i = 0; i < work.tiles.size(); ++i) {
      Work alone;
      alone.tiles = {work.tiles[i]};
      alone.tiles[0].work_begin = alone.tiles[0].place_begin = 0;
      alone.schedule = {alone.tiles.data(), 1, alone.tiles[0].key_tiles, 1, 3, 1};
      const auto parts = parts_of(alone).at({0, 0});
      const auto there = parts_of(work).at({static_cast<int64_t>(i), 0});
      ASSERT_EQ(parts.size(), there.size());
      for (const auto &[part, segment] : parts) {
        ASSERT_EQ(segment.first, there.at(part).first);
        ASSERT_EQ(segment.end, there.at(part).end);
      }
    }
  }
}

TEST(Schedule, ChunksAreFewAndLongAndMultiplesOfEveryTileOfKeys) {
  for (int64_t len = 0; len < 1 << 17; len += len < 5000 ? 1 : 777) {
    const int32_t chunk = fv_chunk_keys(static_cast<int32_t>(len));
    ASSERT_EQ(chunk % FV_CHUNK_KEYS, 0);
    ASSERT_LE(fv_ceil_div(len, chunk), FV_CHUNKS);
    ASSERT_TRUE(chunk == FV_CHUNK_KEYS || fv_ceil_div(len, chunk) > FV_CHUNKS / 2) << len;
  }
  EXPECT_GT(fv_chunk_keys(INT32_MAX), 0);
}

TEST(Schedule, ShareOfAUnitIsTheOneThatHoldsIt) {
  for (int64_t work : {1, 2, 7, 100, 101}) {
    for (int64_t shares : {1, 2, 7, 100, 300}) {
      for (int64_t i = 0; i < shares; ++i) {
        for (int64_t w = fv_share_begin(work, shares, i); w < fv_share_begin(work, shares, i + 1);
             ++w) {
          ASSERT_EQ(fv_share_of(work, shares, w), i);
        }
      }
      EXPECT_EQ(fv_share_begin(work, shares, shares), work);
    }
  }
  const int64_t much = int64_t{1} << 55;  // about as much as the longest calls have
  EXPECT_EQ(fv_share_of(much, 264, fv_share_begin(much, 264, 263)), 263);
}

// Few parts would leave most CTAs idle. With many the last CTA would merge for long.
TEST(Schedule, SharesAreLongEnoughToBeWorthJoining) {
  EXPECT_EQ(fv_shares_of_line(0, 0, 264), 1);
  EXPECT_EQ(fv_shares_of_line(264, 1, 264), 264);
  EXPECT_EQ(fv_shares_of_line(100000, 1024, 264), 264);
  EXPECT_EQ(fv_shares_of_line(64, 64, 264), 8);
  EXPECT_EQ(fv_shares_of_line(65, 65, 264), 5);
  EXPECT_EQ(fv_shares_of_line(int64_t{1} << 55, int64_t{1} << 26, 264), 264);
}

TEST(Schedule, EveryWorkerHasAnotherShareOfEachLine) {
  for (int64_t workers : {1, 2, 7, 264}) {
    int64_t wide_first = 0;
    for (int line = 0; line < FV_LINES; ++line) {
      std::set<int64_t> shares;
      for (int64_t i = 0; i < workers; ++i) {
        shares.insert(fv_share_of_worker(line, i, workers));
        wide_first += fv_first_line(i, workers) == FV_WIDE;
      }
      ASSERT_EQ(static_cast<int64_t>(shares.size()), workers);
      ASSERT_EQ(*shares.begin(), 0);
      ASSERT_EQ(*shares.rbegin(), workers - 1);
    }
    EXPECT_EQ(wide_first, 2 * ((workers + 1) / 2));
  }
  // If each line has only one share, two CTAs take them.
  EXPECT_NE(fv_share_of_worker(FV_WIDE, 0, 7), fv_share_of_worker(FV_NARROW, 0, 7));
}

// Lines of 8 kv heads, for 264 CTAs.
enum { HEADS = 8, WORKERS = 264 };

struct Line {
  Work work;
  int64_t longest = 0;
  explicit Line() { work.schedule.heads = HEADS; }
  void add(int64_t keys) {
    fv_placed_tile tile{};
    tile.work_begin = work.schedule.work;
    tile.key_tiles = static_cast<int32_t>(fv_ceil_div(keys, 64));
    longest = std::max<int64_t>(longest, tile.key_tiles);
    work.schedule.work += tile.key_tiles;
    work.tiles.push_back(tile);
  }
  std::vector<double> units_of_workers(int line) {
    work.schedule.tiles = work.tiles.data();
    work.schedule.count = static_cast<int64_t>(work.tiles.size());
    work.schedule.shares = fv_shares_of_line(work.schedule.work * HEADS, longest, WORKERS);
    std::vector<double> units;
    for (int64_t worker = 0; worker < WORKERS; ++worker) {
      const int64_t share = fv_share_of_worker(line, worker, WORKERS);
      fv_cursor cursor = fv_start_share(&work.schedule, share);
      units.push_back(static_cast<double>(cursor.end - cursor.w));
    }
    return units;
  }
};

// A narrow tile has a quarter of a wide tile's products, but reads as many keys.
void expect_balance(Line *wide, Line *narrow, const char *mix) {
  const auto of_wide = wide->units_of_workers(FV_WIDE);
  const auto of_narrow = narrow->units_of_workers(FV_NARROW);
  double bytes = 0, most_bytes = 0, flops = 0, most_flops = 0;
  for (size_t i = 0; i < WORKERS; ++i) {
    bytes += of_wide[i] + of_narrow[i];
    most_bytes = std::max(most_bytes, of_wide[i] + of_narrow[i]);
    flops += 4 * of_wide[i] + of_narrow[i];
    most_flops = std::max(most_flops, 4 * of_wide[i] + of_narrow[i]);
  }
  EXPECT_LE(most_bytes * WORKERS, 1.05 * bytes) << mix;
  EXPECT_LE(most_flops * WORKERS, 1.05 * flops) << mix;
}

// The balance is for steps in which chunks of prefill and rows of decode meet.
TEST(Schedule, BalancesServingSteps) {
  Choices choices(5);
  Line wide, narrow, none, one_long, prefills;
  for (int n = 0; n < 255; ++n) narrow.add(100 + choices.below(7900));  // a row each
  for (int n = 0; n < 32; ++n) wide.add(3584 + (n + 1) * 16);           // 512 rows of 4 heads
  for (int n = 0; n < 63; ++n) one_long.add(100 + choices.below(1900));
  one_long.add(131072);
  for (int n = 0; n < 5; ++n) {
    const int64_t rows = 300 + choices.below(3000);
    for (int64_t row = 16; row <= rows; row += 16) prefills.add(row);
  }
  expect_balance(&wide, &narrow, "a chunk of prefill and 255 rows");
  expect_balance(&none, &narrow, "255 rows");
  expect_balance(&none, &one_long, "64 rows, one after 131072 keys");
  expect_balance(&wide, &one_long, "the same beside a chunk of prefill");
  expect_balance(&prefills, &none, "five prompts");
}

}  // namespace
}  // namespace fovea_test
