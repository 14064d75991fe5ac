// stream_test.cc - the two ways through the CPU backend, and the number of rows where they meet.
//
// Few rows are streams of keys, split into chunks if there are fewer than 4 streams per thread.
// More rows are tiles, whose size follows from the number of threads. None of this may change the
// bits of a row.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

const int64_t kChunk = 512;  // FV_STREAM_CHUNK_KEYS
const int64_t kChunks = 16;  // FV_STREAM_CHUNKS
const int64_t kStreamRows = 12;

class Stream : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).seed(4).dim(16); }
  Device with_threads(int32_t threads) {
    Device device = GetParam();
    device.threads = threads;
    return device;
  }
};

// One thread splits no stream. Two threads split the streams of 3 sequences, not those of 10.
TEST_P(Stream, CutAndWholeStreamsGiveTheSameBits) {
  for (int64_t len_kv : {kChunk - 1, kChunk, kChunk + 1, 3 * kChunk, kChunk * kChunks,
                         kChunk * kChunks + 1, kChunk * kChunks * 3 / 2 + 7}) {
    for (int64_t len_q : {1, 5}) {
      const auto problem = [&](int32_t threads) {
        return base().on(with_threads(threads)).len_q(len_q).len_kv(len_kv).heads(2, 1).causal();
      };
      const Outcome whole = problem(1).batch(3).run();
      EXPECT_EQ(difference(whole, problem(2).batch(3).run()), "") << len_kv;
      EXPECT_EQ(difference(whole, problem(3).batch(3).run()), "") << len_kv;
      const Outcome many = problem(2).batch(3).pick({0, 1, 2, 0, 1, 2, 0, 1, 2, 0}).run();
      for (int64_t i = 0; i < len_q; ++i) {
        for (int64_t d = 0; d < 16; ++d) {
          ASSERT_EQ(whole.bits(2, i, 1, d), many.bits(8, i, 1, d)) << len_kv;
        }
      }
    }
  }
}

// Every head looks for a key at an edge of a tile or a chunk, so a shift by one key shows.
TEST_P(Stream, NoKeyIsLostAtTheEdgesOfTilesAndChunks) {
  for (int64_t len_kv : {513, 8192, 8193, 9217}) {
    const int64_t share = (len_kv + kChunks - 1) / kChunks;
    const int64_t chunk = std::max(kChunk, (share + 63) / 64 * 64);
    const Ints targets = {0,         1,         63,         64,         chunk - 1,  chunk,
                          chunk + 1, 2 * chunk, len_kv - 2, len_kv - 1, len_kv / 2, 448};
    const auto bit = [](int64_t number, int64_t d) { return (number >> d & 1) != 0 ? 8.0 : -8.0; };
    const auto target = [&](int64_t head) {
      return std::min(targets[static_cast<size_t>(head)], len_kv - 1);
    };
    for (int32_t threads : {1, 2}) {
      Attention a = base().on(with_threads(threads)).len_q(1).len_kv(len_kv).heads(12, 1);
      a.dim(16).dim_v(8).scale(1.0);
      a.fill("q", [&](const At &at) { return bit(target(at.h), at.d); });
      a.fill("k", [&](const At &at) { return bit(at.i, at.d); });
      a.fill("v", [](const At &at) { return static_cast<double>(at.i * 8 + at.d); });
      const Outcome outcome = a.run();
      for (int64_t h = 0; h < 12; ++h) {
        EXPECT_EQ(outcome.at(0, 0, h, 3), static_cast<double>(target(h) * 8 + 3)) << len_kv;
        EXPECT_EQ(outcome.lse_at(0, 0, h), 64.0f * 16) << len_kv;
      }
    }
  }
}

TEST_P(Stream, RowsRoundTheThresholdMatchTheOracle) {
  for (int64_t rows = 1; rows <= kStreamRows + 2; ++rows) {
    for (uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
      base().type(type).len_q(rows).len_kv(90).heads(2, 2).causal().expect_matches_oracle();
      base().type(type).len_q(1).len_kv(90).heads(rows, 1).dim_v(104).expect_matches_oracle();
    }
  }
}

TEST_P(Stream, ChunksOfWindowsAndPagesMatchTheOracle) {
  const int64_t len_kv = 2 * kChunk + 100;
  for (int64_t left : {3, 64, 600}) {
    base().len_q(3).len_kv(len_kv).causal().window(left, -1).expect_matches_oracle();
    base()
        .len_q(3)
        .len_kv(len_kv)
        .batch(2)
        .lengths({len_kv, kChunk + 1})
        .paged(48)
        .causal()
        .window(left, -1)
        .expect_matches_oracle();
  }
  base().len_q(2).len_kv(len_kv).mask(0.5).sinks().expect_matches_oracle();
  base().len_q(2).len_kv(len_kv).bias(FOVEA_BF16, 0.3, "rhk").alibi().expect_matches_oracle();
  base().len_q(2).len_kv(len_kv).softcap(2).prefix({70}).causal().expect_matches_oracle();
  base()
      .types(FOVEA_F16, FOVEA_E4M3, FOVEA_I8, FOVEA_F32)
      .scales("kv", "bsh", 1, 0.1)
      .len_q(2)
      .len_kv(len_kv)
      .expect_matches_oracle();
}

// kv_first lies behind the last key that the rows may see, in the same tile.
TEST_P(Stream, RangesThatEndBeforeTheyBeginAreEmpty) {
  for (int64_t first : {40, 70, 590}) {
    for (int64_t rows : {2, 20}) {
      Attention a = base().len_q(rows).len_kv(600).kv_first({first});
      a.causal(FOVEA_ALIGN_TOP_LEFT).expect_matches_oracle();
    }
  }
}

TEST_P(Stream, SequencesOfBothKindsShareACall) {
  base().rows({1, 40, 6, 0, 7}).keys({700, 50, 1100, 3, 0}).causal().expect_matches_oracle();
  base().rows({1, 40, 6, 0, 7}).keys({700, 50, 1100, 3, 0}).mask(0.2).expect_matches_oracle();
}

// The numbers of heads, rows and threads decide how many heads share a work tile, and whether it is
// a chunk. On one thread 13 heads of 5 rows are blocks of 7 and 6 heads. On two threads the streams
// of 7 heads are split into chunks.
TEST_P(Stream, HeadsThatShareAPieceMatchTheOracleAndChangeNoBit) {
  for (int64_t heads : {2, 7, 13}) {
    for (int64_t rows : {1, 5, 12}) {
      const auto problem = [&](int32_t threads) {
        Attention a = base().on(with_threads(threads)).len_q(rows).len_kv(1100);
        if (rows == 5) a.types(FOVEA_F32, FOVEA_E4M3, FOVEA_E5M2, FOVEA_F32);
        return a.dim(8).heads(heads, heads).paged(7).causal().mask(0.2, "h").alibi();
      };
      problem(1).expect_matches_oracle();
      const Outcome whole = problem(1).run();
      for (int32_t threads : {2, 3, 16}) {
        EXPECT_EQ(difference(whole, problem(threads).run()), "") << heads << " " << threads;
      }
    }
  }
}

// One thread has the largest tiles, many threads have smaller ones.
TEST_P(Stream, SizesOfTilesChangeNoBit) {
  const auto with = [&](int32_t threads) {
    return base().on(with_threads(threads)).len_q(590).len_kv(700).heads(2, 1).causal().run();
  };
  const Outcome whole = with(1);
  for (int32_t threads : {2, 3, 5, 16}) EXPECT_EQ(difference(whole, with(threads)), "") << threads;
}

// A key tile has 512 keys up to dim 64, 256 keys up to dim 256, and 128 keys above.
TEST_P(Stream, RowsOfTilesMatchTheOracleRoundTheEdgesOfKeyTiles) {
  for (int64_t dim : {64, 72, 264}) {
    const int64_t tile = dim <= 64 ? 512 : dim <= 256 ? 256 : 128;
    for (int64_t len_kv : {tile - 1, tile, tile + 1, 2 * tile + 17}) {
      base().dim(dim).len_q(1).len_kv(len_kv).window(0, 0).expect_matches_oracle();
      base().dim(dim).dim_v(24).len_q(14).len_kv(len_kv).causal().expect_matches_oracle();
    }
  }
}

// These rows end with 8 elements, which a vector of 16 lanes takes with zeros beside them.
TEST_P(Stream, RowsThatEndInHalfAVectorMatchTheOracle) {
  for (uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int64_t dim : {8, 24, 72, 136}) {
      for (int64_t rows : {1, 2, 7}) {
        base().type(type).dim(dim).dim_v(dim + 16).len_q(rows).len_kv(70).expect_matches_oracle();
      }
    }
  }
}

// Where positions decide, a panel masks its last vectors of keys by ranges and leaves out the keys
// beyond. A mask in memory is read for every key. Both ways give the same bits.
TEST_P(Stream, RangesAndMasksOfTheSameKeysGiveTheSameBits) {
  for (int64_t len : {33, 64, 97, 530}) {
    for (int64_t left : {3, 17, 40}) {
      const auto seen = [=](const At &at) { return at.d <= at.i && at.i - at.d <= left; };
      Attention by_range, by_mask;
      by_range.on(GetParam()).dim(16).len_q(len).len_kv(len).window(left, 0);
      by_mask.on(GetParam()).dim(16).len_q(len).len_kv(len).mask().fill("mask", seen);
      EXPECT_EQ(difference(by_range.run(), by_mask.run()), "") << len << ' ' << left;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Stream, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
