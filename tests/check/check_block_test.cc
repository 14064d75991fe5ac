// The rules of q8_0 and q4_0: whole blocks, two-byte alignment, no scales.
#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

const uint32_t kBlocks[] = {FOVEA_Q8_0, FOVEA_Q4_0};

int64_t bytes_of_block(uint32_t dtype) {
  return dtype == FOVEA_Q8_0 ? 34 : 18;
}

// Keys of 64 and values of 96 elements, that is 2 and 3 blocks.
fovea_attention_args attention_to(uint32_t k, uint32_t v) {
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = view(0, FOVEA_F16, 2, 5, 4, 64);
  args.k = view(1, k, 2, 7, 2, 64);
  args.v = view(2, v, 2, 7, 2, 96);
  args.out = view(3, FOVEA_F16, 2, 5, 4, 96);
  return args;
}

fovea_kv_append_args append_to(uint32_t k, uint32_t v) {
  fovea_kv_append_args args = {};
  args.struct_size = sizeof args;
  args.k_new = view(0, FOVEA_F32, 2, 3, 2, 64);
  args.v_new = view(1, FOVEA_F16, 2, 3, 2, 96);
  args.k_cache = view(2, k, 2, 7, 2, 64);
  args.v_cache = view(3, v, 2, 7, 2, 96);
  args.sequences.kv_lengths = at<int32_t>(region(6));
  return args;
}

TEST(BlockTensors, MayBeKeysAndValuesEachOfTheirOwnKind) {
  for (uint32_t k : kBlocks)
    for (uint32_t v : kBlocks) {
      EXPECT_THAT(Attention(attention_to(k, v)), Passes());
      EXPECT_THAT(Attention(attention_to(k, FOVEA_F16)), Passes());
      EXPECT_THAT(Attention(attention_to(FOVEA_I8, v)), Passes());
      EXPECT_THAT(Append(append_to(k, v)), Passes());
      EXPECT_THAT(Append(append_to(FOVEA_F32, v)), Passes());
    }
}

TEST(BlockTensors, AreNothingElse) {
  for (uint32_t dtype : kBlocks) {
    for (auto tensor : {&fovea_attention_args::q, &fovea_attention_args::out}) {
      fovea_attention_args args = attention_to(dtype, dtype);
      (args.*tensor).dtype = dtype;
      EXPECT_THAT(Attention(args),
                  Refuses(tensor == &fovea_attention_args::q ? "q.dtype" : "out.dtype"));
    }
    fovea_kv_append_args args = append_to(dtype, dtype);
    args.k_new.dtype = dtype;
    EXPECT_THAT(Append(args), Refuses("k_new.dtype", dtype == FOVEA_Q8_0 ? "q8_0" : "q4_0"));
  }
}

TEST(BlockTensors, HaveRowsOfWholeBlocks) {
  for (uint32_t dtype : kBlocks)
    for (int64_t dim : {1, 8, 16, 31, 33, 48, 63, 80}) {
      fovea_attention_args keys = attention_to(dtype, FOVEA_F16);
      keys.q = view(0, FOVEA_F16, 2, 5, 4, dim);
      keys.k = view(1, dtype, 2, 7, 2, dim);
      for (int i = 0; i < 3; ++i) keys.k.stride[i] = keys.k.stride[i] * 32;
      EXPECT_THAT(Attention(keys), Refuses("k.shape[3] (dim)", "must be a multiple of 32"));
      fovea_kv_append_args values = append_to(FOVEA_F32, dtype);
      values.v_new = view(1, FOVEA_F16, 2, 3, 2, dim);
      values.v_cache = view(3, dtype, 2, 7, 2, dim);
      for (int i = 0; i < 3; ++i) values.v_cache.stride[i] = values.v_cache.stride[i] * 32;
      EXPECT_THAT(Append(values), Refuses("v_cache.shape[3] (dim_v)", "whole blocks"));
    }
}

TEST(BlockTensors, HaveStridesOfWholeBlocks) {
  for (uint32_t dtype : kBlocks)
    for (int i = 0; i < 3; ++i) {
      for (int64_t step : {1, 8, 16, 31}) {
        fovea_attention_args args = attention_to(dtype, dtype);
        args.k.stride[i] += step;
        EXPECT_THAT(Attention(args), Refuses("k.stride[" + std::to_string(i) + "]",
                                             "must be a multiple of 32; rows of q8_0 and q4_0"));
        args.k.shape[i] = 1;  // then it is never looked at
        EXPECT_THAT(Attention(args), testing::Not(Refuses("k.stride[" + std::to_string(i) + "]")));
      }
      fovea_attention_args args = attention_to(dtype, dtype);
      args.k.stride[i] += 32;
      EXPECT_THAT(Attention(args), Passes());
      args.k.stride[i] = 0;
      EXPECT_THAT(Attention(args), Passes()) << "an input may repeat";
    }
  fovea_attention_args args = attention_to(FOVEA_Q8_0, FOVEA_Q8_0);
  args.v.stride[3] = 32;
  EXPECT_THAT(Attention(args), Refuses("v.stride[3]", "must equal 1"));
}

TEST(BlockTensors, AreAlignedToTheirScales) {
  for (uint32_t dtype : kBlocks) {
    fovea_attention_args args = attention_to(dtype, dtype);
    args.k.data = at(region(1) + 2);
    EXPECT_THAT(Attention(args), Passes());
    args.k.data = at(region(1) + 1);
    EXPECT_THAT(Attention(args), Refuses("k.data", "2 bytes"));
  }
}

TEST(BlockTensors, HaveNoScalesBesideTheirOwn) {
  for (uint32_t dtype : kBlocks) {
    fovea_attention_args args = attention_to(dtype, FOVEA_I8);
    args.v_scale = view(7, FOVEA_F32, 1, 1, 1, 1);
    EXPECT_THAT(Attention(args), Passes());
    args.k_scale = view(6, FOVEA_F32, 1, 1, 1, 1);
    EXPECT_THAT(Attention(args), Refuses("k_scale.dtype", "only e4m3, e5m2 and i8 have scales"));
    fovea_kv_append_args append = append_to(dtype, dtype);
    append.v_scale = view(7, FOVEA_F16, 1, 1, 1, 3);
    EXPECT_THAT(Append(append), Refuses("v_scale.dtype", dtype == FOVEA_Q8_0 ? "q8_0" : "q4_0"));
  }
}

TEST(BlockTensors, SpanWholeBlocks) {
  for (uint32_t dtype : kBlocks) {
    const int64_t bytes = 2 * 7 * 2 * 2 * bytes_of_block(dtype);
    fovea_attention_args args = attention_to(dtype, FOVEA_F16);
    args.out.data = at(region(1) + static_cast<uintptr_t>(bytes));
    EXPECT_THAT(Attention(args), Passes());
    args.out.data = at(region(1) + static_cast<uintptr_t>(bytes) - 2);
    EXPECT_THAT(Attention(args), Refuses("out", "overlaps k"));
    fovea_kv_append_args append = append_to(dtype, FOVEA_F16);
    append.sequences.kv_lengths = at<int32_t>(region(2) - 8);
    EXPECT_THAT(Append(append), Passes());
    append.sequences.kv_lengths =
        at<int32_t>(region(2) + (static_cast<uintptr_t>(bytes) - 4) / 4 * 4);
    EXPECT_THAT(Append(append), Refuses("k_cache", "overlaps sequences.kv_lengths"));
    append = append_to(dtype, FOVEA_F16);
    append.k_cache.data = at(region(60));
    append.k_cache.stride[0] = int64_t{1} << 62;
    EXPECT_THAT(Append(append), Passes()) << "34/32 of 2^62 bytes";
    append.k_cache.shape[0] = append.v_cache.shape[0] = 3;
    append.slots = at<int64_t>(region(20));
    append.sequences.kv_lengths = nullptr;
    EXPECT_THAT(Append(append), Refuses("k_cache.stride", "2^63 bytes")) << "or elements, in q4_0";
  }
}

TEST(BlockTensors, OfCachesKeepApartFromThemselves) {
  fovea_kv_append_args args = append_to(FOVEA_Q8_0, FOVEA_Q4_0);
  args.k_cache.stride[1] = 96;
  EXPECT_THAT(Append(args), Refuses("k_cache.stride[1]", "at least 128"));
}

// A page's slots hold a block of keys and one of values: 306 bytes are 9 of the one and 17 of the
// other kind.
TEST(BlockTensors, OfTwoKindsMayInterleaveInAPage) {
  fovea_kv_append_args args = append_to(FOVEA_Q8_0, FOVEA_Q4_0);
  args.k_new = view(0, FOVEA_F32, 2, 3, 1, 32);
  args.v_new = view(1, FOVEA_F16, 2, 3, 1, 32);
  args.k_cache = view(2, FOVEA_Q8_0, 2, 7, 1, 32);
  args.v_cache = view(2, FOVEA_Q4_0, 2, 7, 1, 32);
  args.k_cache.stride[1] = 9 * 32;
  args.v_cache.stride[1] = 17 * 32;
  args.k_cache.stride[0] = 10 * args.k_cache.stride[1];
  args.v_cache.stride[0] = 10 * args.v_cache.stride[1];
  args.v_cache.data = at(region(2) + 34);
  EXPECT_THAT(Append(args), Passes());
  args.v_cache.data = at(region(2) + 306 - 18);
  EXPECT_THAT(Append(args), Passes());
  args.v_cache.data = at(region(2) + 32);
  EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache"));
  args.v_cache.data = at(region(2) + 306 - 16);
  EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache"));
}

TEST(BlockTensors, OfOneKindMayInterleaveHeadByHead) {
  for (uint32_t dtype : kBlocks) {
    fovea_kv_append_args args = append_to(dtype, dtype);
    const uintptr_t size = static_cast<uintptr_t>(bytes_of_block(dtype));
    for (fovea_tensor *cache : {&args.k_cache, &args.v_cache}) {
      cache->stride[2] = 160;
      cache->stride[1] = 320;
      cache->stride[0] = 320 * 7;
    }
    args.v_cache.data = at(region(2) + 2 * size);
    EXPECT_THAT(Append(args), Passes());
    args.v_cache.data = at(region(2) + 2 * size - 2);
    EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache"));
    args.v_cache.data = at(region(2) + 2 * size + 2);
    EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache")) << "the next head's keys";
  }
}

// Two rows alone have the stride of their blocks in common, and yet meet.
TEST(BlockTensors, OfOneRowMeetWhereTheirBytesDo) {
  for (uint32_t dtype : kBlocks) {
    fovea_kv_append_args args = append_to(dtype, dtype);
    args.k_new = args.v_new = view(0, FOVEA_F32, 1, 1, 1, 64);
    args.k_cache = args.v_cache = view(2, dtype, 1, 1, 1, 64);
    const uintptr_t bytes = 2 * static_cast<uintptr_t>(bytes_of_block(dtype));
    for (uintptr_t offset = 0; offset <= bytes; offset += 2) {
      args.v_cache.data = at(region(2) + offset);
      if (offset < bytes) {
        EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache")) << offset;
      } else {
        EXPECT_THAT(Append(args), Passes());
      }
    }
  }
}

TEST(BlockTensors, WithoutElementsHaveAnyStrides) {
  fovea_attention_args args = attention_to(FOVEA_Q8_0, FOVEA_Q4_0);
  args.k.shape[1] = args.v.shape[1] = 0;
  args.k.stride[0] = args.k.stride[2] = 7;
  args.k.data = args.v.data = nullptr;
  EXPECT_THAT(Attention(args), Passes());
}

TEST(BlockTensors, AreDtypesOfLimits) {
  fovea_limits limits = {};
  limits.struct_size = sizeof limits;
  limits.heads_q = limits.heads_kv = 1;
  limits.sequences = limits.total_q = limits.len_kv = 1;
  limits.k_dtype = FOVEA_Q8_0;
  limits.v_dtype = FOVEA_Q4_0;
  EXPECT_THAT(Limits(limits), Passes());
  limits.q_dtype = FOVEA_Q8_0;
  EXPECT_THAT(Limits(limits), Refuses("q_dtype"));
}

}  // namespace
}  // namespace fovea_test
