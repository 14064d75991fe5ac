// The rules of fovea_attention for the storage of a batch: sequences, pages, trees, masks, biases.
#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

using Args = fovea_attention_args;

// ---- Sequences -------------------------------------------------------------------------------

TEST(AttentionSequences, FollowTheBatchUnlessPacked) {
  Attention checked(plain_attention());
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.sequences, 2);
  EXPECT_EQ(checked.problem.rows, 5);
  EXPECT_EQ(checked.problem.kv_capacity, 7);
  EXPECT_EQ(checked.problem.dim, 16);
  EXPECT_EQ(checked.problem.dim_v, 8);
  EXPECT_EQ(checked.problem.kv_position_stride, 1);
  EXPECT_FALSE(checked.problem.q_packed);
  EXPECT_FALSE(checked.problem.kv_packed);
  EXPECT_FALSE(checked.problem.paged);
  EXPECT_FALSE(checked.problem.empty);
  EXPECT_EQ(checked.problem.args.struct_size, sizeof(Args));
  Args every_third = plain_attention();
  every_third.positions.kv_stride = 3;
  EXPECT_EQ(Attention(every_third).problem.kv_position_stride, 3);
}

TEST(AttentionSequences, AreCountedByTheCallerWhenPacked) {
  Args args = packed_and_paged();
  for (int64_t sequences : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{12}}) {
    args.sequences.count = sequences;
    args.sequences.pages.row_stride = 4;
    Attention checked(args);
    EXPECT_THAT(checked, Passes());
    EXPECT_EQ(checked.problem.sequences, sequences);
    EXPECT_EQ(checked.problem.rows, 11);
    EXPECT_TRUE(checked.problem.q_packed);
    EXPECT_EQ(checked.problem.empty, sequences == 0) << "rows of no sequence are not written";
  }
  for (int64_t sequences : {kLeast, int64_t{-1}, kExtents, kMost}) {
    args.sequences.count = sequences;
    EXPECT_THAT(Attention(args), Refuses("sequences.count"));
  }
  args.sequences.count = kExtents - 1;
  EXPECT_THAT(Shape(args), Passes());
}

TEST(AttentionSequences, ArePackedInABatchOfOne) {
  for (int64_t batch : {0, 2, 3}) {
    Args args = packed_and_paged();
    args.q.shape[0] = args.out.shape[0] = batch;
    EXPECT_THAT(Attention(args), Refuses("q.shape[0] (batch)", "q_offsets"));
  }
  Args args = plain_attention();
  args.sequences.kv_offsets = at<int32_t>(region(9));
  EXPECT_THAT(Attention(args), Refuses("k.shape[0] (batch)", "kv_offsets"));
  args.k.shape[0] = args.v.shape[0] = 1;
  Attention checked(args);
  EXPECT_THAT(checked, Passes()) << "q and k may differ in how they are stored";
  EXPECT_EQ(checked.problem.sequences, 2);
  EXPECT_EQ(checked.problem.kv_capacity, 7);
  EXPECT_TRUE(checked.problem.kv_packed);
  EXPECT_FALSE(checked.problem.q_packed);
}

TEST(AttentionSequences, HaveARowOfKeysEach) {
  for (int64_t batch : {0, 1, 3}) {
    Args args = plain_attention();
    args.k.shape[0] = args.v.shape[0] = batch;
    EXPECT_THAT(Attention(args), Refuses("k.shape[0] (batch)", "sequences, which is 2"));
  }
  Args packed = plain_attention();
  packed.q.shape[0] = packed.out.shape[0] = 1;
  packed.sequences.q_offsets = at<int32_t>(region(9));
  packed.sequences.count = 2;
  EXPECT_THAT(Attention(packed), Passes()) << "packed queries, one batch row of keys each";
  packed.sequences.count = 3;
  EXPECT_THAT(Attention(packed), Refuses("k.shape[0] (batch)", "sequences, which is 3"));
}

// ---- Pages -----------------------------------------------------------------------------------

TEST(AttentionPages, HoldCountTimesPageLenKeys) {
  Args args = packed_and_paged();
  Attention checked(args);
  ASSERT_THAT(checked, Passes());
  EXPECT_TRUE(checked.problem.paged);
  EXPECT_EQ(checked.problem.kv_capacity, 24);
  args.sequences.pages.offsets = at<int32_t>(region(14));
  args.sequences.pages.row_stride = 0;
  args.sequences.pages.v_ids = at<int32_t>(region(15));
  EXPECT_THAT(Attention(args), Passes());
  EXPECT_EQ(Attention(args).problem.kv_capacity, 24);
  args.sequences.pages.count = kExtents - 1;
  EXPECT_EQ(Attention(args).problem.kv_capacity, INT32_MAX) << "lengths are 32-bit";
}

TEST(AttentionPages, NeedLengthsAndExcludePackedKeys) {
  Args lengths = packed_and_paged();
  lengths.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Attention(lengths), Refuses("sequences.kv_lengths", "pages.ids"));
  EXPECT_THAT(Shape(lengths), Refuses("sequences.kv_lengths", "pages.ids"));
  Args offsets = packed_and_paged();
  offsets.sequences.kv_offsets = at<int32_t>(region(14));
  EXPECT_THAT(Attention(offsets), Refuses("sequences.kv_offsets", "pages.ids"));
}

TEST(AttentionPages, AreAtLeastOneSlotLong) {
  Args args = packed_and_paged();
  args.k.shape[1] = args.v.shape[1] = 1;
  EXPECT_THAT(Attention(args), Passes());
  args.k.shape[1] = args.v.shape[1] = 0;
  EXPECT_THAT(Attention(args), Refuses("k.shape[1] (len_kv)", "page"));
}

TEST(AttentionPages, MayBeNone) {
  Args args = packed_and_paged();
  args.k.shape[0] = args.v.shape[0] = 0;
  args.k.data = args.v.data = nullptr;
  args.sequences.pages.count = args.sequences.pages.row_stride = 0;
  Attention checked(args);
  EXPECT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.kv_capacity, 0);
}

TEST(AttentionPages, AreCountedWhereThereIsSomethingToLookUp) {
  for (bool csr : {false, true}) {
    Args args = packed_and_paged();
    if (csr) args.sequences.pages.offsets = at<int32_t>(region(14));
    args.sequences.pages.count = 0;
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.count", "at least 1")) << csr;
    EXPECT_THAT(Shape(args), Refuses("sequences.pages.count", "at least 1")) << csr;
    args.sequences.count = 0;
    EXPECT_THAT(Attention(args), Passes()) << "no sequences";
    args.sequences.count = 3;
    args.sequences.pages.count = 1;
    EXPECT_THAT(Attention(args), Passes()) << csr;
  }
}

TEST(AttentionPages, HaveARowOfIdsPerSequenceWhenDense) {
  Args args = packed_and_paged();
  args.sequences.pages.row_stride = 4;
  EXPECT_THAT(Attention(args), Passes());
  args.sequences.pages.row_stride = 3;
  EXPECT_THAT(Attention(args),
              Refuses("sequences.pages.row_stride", "sequences.pages.count, which is 4"));
  args.sequences.count = 2;
  EXPECT_THAT(Attention(args), Refuses("sequences.pages.row_stride"));
  args.sequences.count = 1;
  EXPECT_THAT(Attention(args), Passes()) << "one row needs no stride";
  args.sequences.count = 3;
  args.sequences.pages.offsets = at<int32_t>(region(14));
  EXPECT_THAT(Attention(args), Passes()) << "nor does CSR";
  for (int64_t stride : {int64_t{-1}, kLeast}) {
    args.sequences.pages.row_stride = stride;
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.row_stride"));
  }
}

TEST(AttentionPages, HaveARowOfIdsPerKvHeadWhereAStrideSaysSo) {
  Args args = packed_and_paged();
  EXPECT_FALSE(Attention(args).problem.heads_differ);
  for (int64_t stride : {int64_t{4}, int64_t{5}, int64_t{15}, int64_t{1} << 40}) {
    args.sequences.pages.head_stride = stride;
    EXPECT_THAT(Attention(args), Passes()) << stride;
    EXPECT_TRUE(Attention(args).problem.heads_differ);
  }
  for (int64_t stride : {int64_t{1}, int64_t{3}}) {
    args.sequences.pages.head_stride = stride;
    EXPECT_THAT(Attention(args),
                Refuses("sequences.pages.head_stride", "sequences.pages.count, which is 4"));
    EXPECT_THAT(Shape(args), Refuses("sequences.pages.head_stride"));
  }
  Args one = args;
  one.k.shape[2] = one.v.shape[2] = 1;
  EXPECT_THAT(Attention(one), Passes()) << "one row needs no stride";
  for (int64_t stride : {int64_t{-1}, kLeast}) {
    args.sequences.pages.head_stride = stride;
    EXPECT_THAT(Attention(args), Refuses("sequences.pages.head_stride"));
  }
  args.sequences.pages.head_stride = kMost;
  EXPECT_THAT(Attention(args), Refuses("sequences.pages.ids", "address space"));
  args.sequences.pages.head_stride = 8;
  args.sequences.pages.offsets = at<int32_t>(region(14));
  EXPECT_THAT(Attention(args), Refuses("sequences.pages.head_stride", "with pages.offsets"));
}

TEST(AttentionPages, TakeLengthsOfSequencesOrOfKvHeads) {
  Args args = packed_and_paged();
  args.sequences.pages.head_lengths = at<int32_t>(region(15));
  EXPECT_THAT(Attention(args), Refuses("sequences.kv_lengths", "with pages.head_lengths"));
  EXPECT_THAT(Shape(args), Refuses("sequences.kv_lengths", "with pages.head_lengths"));
  args.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Attention(args), Passes());
  EXPECT_TRUE(Attention(args).problem.heads_differ);
  args.sequences.pages.offsets = at<int32_t>(region(14));
  EXPECT_THAT(Attention(args), Passes()) << "they may share a table of any form";
  Args plain = plain_attention();
  plain.sequences.pages.head_lengths = at<int32_t>(region(15));
  EXPECT_THAT(Attention(plain), Refuses("sequences.pages.head_lengths", "without pages.ids"));
}

TEST(AttentionPages, LeaveTheKeysOfAMaskToTheDevice) {
  Args args = packed_and_paged();
  args.visibility.mask = view(9, FOVEA_U8, 3, 1, 1, 2);
  EXPECT_THAT(Attention(args), Passes());
  args.sequences.pages.head_lengths = args.sequences.kv_lengths;
  args.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Attention(args), Passes());
}

TEST(AttentionPages, ThatAreNotThereHaveNoOtherTables) {
  Args ids = plain_attention();
  ids.sequences.pages.v_ids = at<int32_t>(region(9));
  EXPECT_THAT(Attention(ids), Refuses("sequences.pages.v_ids", "without pages.ids"));
  Args offsets = plain_attention();
  offsets.sequences.pages.offsets = at<int32_t>(region(9));
  EXPECT_THAT(Attention(offsets), Refuses("sequences.pages.offsets", "without pages.ids"));
}

TEST(AttentionTree, HasLengthsAndStartsOnlyWithBits) {
  Args lengths = plain_attention();
  lengths.visibility.tree.lengths = at<int32_t>(region(9));
  EXPECT_THAT(Attention(lengths), Refuses("visibility.tree.lengths", "without tree.bits"));
  Args starts = plain_attention();
  starts.visibility.tree.starts = at<int32_t>(region(9));
  EXPECT_THAT(Attention(starts), Refuses("visibility.tree.starts", "without tree.bits"));
  starts.visibility.tree.bits = at<uint32_t>(region(10));
  EXPECT_THAT(Attention(starts), Passes()) << "no words: for the device to find (BAD_MASK)";
}

// ---- Mask and bias ---------------------------------------------------------------------------

TEST(AttentionGrid, MatchesOrBroadcastsOrReachesFurther) {
  const auto mask = [](Args &args) -> fovea_tensor & { return args.visibility.mask; };
  const auto bias = [](Args &args) -> fovea_tensor & { return args.logits.bias; };
  for (fovea_tensor &(*grid_of)(Args &) : {+mask, +bias})
    for (int i = 0; i < 4; ++i)
      for (int64_t extent = 0; extent <= 12; ++extent) {
        Args args = attention();
        args.sequences.kv_lengths = nullptr;
        fovea_tensor &grid = grid_of(args);
        grid.shape[i] = extent;
        const int64_t whole[] = {2, 5, 4, 7};
        const bool exact = i == 0 || i == 2;
        const bool right = extent == 1 || (exact ? extent == whole[i] : extent >= whole[i]);
        const std::string name = std::string(grid_of == +mask ? "visibility.mask" : "logits.bias") +
                                 ".shape[" + std::to_string(i) + "]";
        Attention checked(args);
        if (!right) {
          EXPECT_THAT(checked, Refuses(name, "1, which broadcasts")) << extent;
          continue;
        }
        EXPECT_THAT(checked, Passes()) << name << " " << extent;
        EXPECT_EQ(grid_of(checked.problem.args).stride[i], extent == 1 ? 0 : grid.stride[i]);
      }
}

TEST(AttentionGrid, IsTheDevicesToJudgeWhereOnlyItKnowsTheLengths) {
  // Only it knows the keys with kv_lengths or packed keys, and the rows with packed queries.
  Args lengths = attention();
  lengths.visibility.mask.shape[3] = lengths.logits.bias.shape[3] = 3;
  EXPECT_THAT(Attention(lengths), Passes());
  lengths.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Attention(lengths), Refuses("visibility.mask.shape[3] (keys)"));

  Args keys = plain_attention();
  keys.k.shape[0] = keys.v.shape[0] = 1;
  keys.sequences.kv_offsets = at<int32_t>(region(9));
  keys.visibility.mask = view(10, FOVEA_U8, 2, 5, 4, 3);
  EXPECT_THAT(Attention(keys), Passes());

  Args rows = packed_and_paged();
  rows.logits.bias = view(10, FOVEA_F16, 3, 2, 4, 3);
  EXPECT_THAT(Attention(rows), Passes());
  rows.logits.bias.shape[0] = 2;
  EXPECT_THAT(Attention(rows),
              Refuses("logits.bias.shape[0] (sequences)", "sequences, which is 3"));
}

TEST(AttentionGrid, PadsByOneRowOfKeysPerSequence) {
  Args args = plain_attention();
  args.visibility.mask = view(9, FOVEA_U8, 2, 1, 1, 7);
  Attention checked(args);
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.args.visibility.mask.stride[0], 7);
  EXPECT_EQ(checked.problem.args.visibility.mask.stride[1], 0);
  EXPECT_EQ(checked.problem.args.visibility.mask.stride[2], 0);
  EXPECT_EQ(checked.problem.args.visibility.mask.stride[3], 1);
}

}  // namespace
}  // namespace fovea_test
