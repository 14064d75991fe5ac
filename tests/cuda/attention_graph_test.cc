// attention_graph_test.cc - one captured graph of fovea_attention serves every step. The device
// reads offsets, lengths, positions and page tables, and works out how much work there is. Its
// schedule is compared with the one that the host would print.
// FOVEA_REPLAYS says how often the graph runs (default: 100 times).
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "cli/command/schedule_list.h"
#include "csrc/check/check.h"
#include "csrc/cuda/device.h"
#include "csrc/cuda/plan.h"
#include "csrc/cuda/schedule.h"
#include "tests/append_case.h"
#include "tests/cuda/driver_call.h"
#include "tests/cuda/mirrored.h"
#include "tests/handle_of.h"

namespace fovea_test {
namespace {

enum { SEQUENCES = 4, ROWS = 90, PAGES = 40, PAGE_LEN = 16, COLUMNS = 24, WORKSPACE = 4 << 20 };

// Up to 90 rows of 4 heads over 2, dim 32, in four sequences over pages of 16 keys.
struct Batch {
  Mirrored<uint8_t> q{std::vector<uint8_t>(ROWS * 4 * 32 * 2)};
  Mirrored<uint8_t> k{std::vector<uint8_t>(PAGES * PAGE_LEN * 2 * 32 * 2)};
  Mirrored<uint8_t> v{k.host};
  Mirrored<uint8_t> out{std::vector<uint8_t>(q.host.size())};
  Mirrored<uint8_t> workspace{std::vector<uint8_t>(WORKSPACE, 0xff)};
  Mirrored<int32_t> offsets{std::vector<int32_t>(SEQUENCES + 1)};
  Mirrored<int32_t> lengths{std::vector<int32_t>(SEQUENCES)};
  Mirrored<int32_t> positions{std::vector<int32_t>(SEQUENCES)};
  Mirrored<int32_t> ids{std::vector<int32_t>(SEQUENCES * COLUMNS)};
  Mirrored<uint32_t> errors{std::vector<uint32_t>(SEQUENCES)};

  fovea_attention_args args(uint32_t reproducible) {
    fovea_attention_args a = {};
    a.struct_size = sizeof a;
    a.reproducible = reproducible;
    a.q = fovea_contiguous(q.pointer(), FOVEA_F16, 1, ROWS, 4, 32);
    a.k = fovea_contiguous(k.pointer(), FOVEA_F16, PAGES, PAGE_LEN, 2, 32);
    a.v = fovea_contiguous(v.pointer(), FOVEA_F16, PAGES, PAGE_LEN, 2, 32);
    a.out = fovea_contiguous(out.pointer(), FOVEA_F16, 1, ROWS, 4, 32);
    a.sequences.count = SEQUENCES;
    a.sequences.q_offsets = offsets.pointer();
    a.sequences.kv_lengths = lengths.pointer();
    a.positions.q = positions.pointer();
    a.sequences.pages = {ids.pointer(), nullptr, nullptr, COLUMNS, COLUMNS, 0, nullptr, {}};
    a.visibility.causal = 1;
    a.errors = errors.pointer();
    a.workspace = workspace.pointer();
    a.workspace_bytes = WORKSPACE;
    return a;
  }
};

// Positive halves from 1/8 to less than 1: no NaN, no infinity.
void fill(Draw *draw, std::vector<uint8_t> *halves) {
  for (size_t i = 0; i < halves->size(); i += 2) {
    const uint16_t half = static_cast<uint16_t>(0x3000 + draw->upto(0x0bff));
    std::memcpy(&(*halves)[i], &half, sizeof half);
  }
}

// Every eighth step has a length beyond the page table. Invalid pages and offsets come by chance.
void change(Draw *draw, int step, Batch *batch) {
  int32_t end = 0;
  for (int32_t &offset : batch->offsets.host) {
    offset = end;
    end += static_cast<int32_t>(draw->upto(draw->chance(2) ? 3 : draw->chance(12) ? ROWS : 20));
  }
  for (int32_t &length : batch->lengths.host) {
    const int64_t most =
        draw->chance(3) ? PAGE_LEN * COLUMNS : 80;  // some are split, most cost little
    length = static_cast<int32_t>(draw->upto(most));
  }
  if (step % 8 == 7) {
    batch->lengths.host[static_cast<size_t>(draw->upto(SEQUENCES - 1))] =
        static_cast<int32_t>(draw->between(PAGE_LEN * COLUMNS + 1, PAGE_LEN * COLUMNS + 9));
  }
  for (int32_t &position : batch->positions.host) position = static_cast<int32_t>(draw->upto(400));
  for (int32_t &id : batch->ids.host) {
    id = static_cast<int32_t>(draw->upto(draw->chance(30) ? PAGES + 9 : PAGES - 1));
  }
  batch->offsets.put();
  batch->lengths.put();
  batch->positions.put();
  batch->ids.put();
}

struct Result {
  std::vector<uint8_t> out;
  std::vector<uint32_t> errors;
};

// What `call` writes over outputs that hold something else.
template <class Call>
Result result_of(Batch *batch, CUstream stream, Call call) {
  batch->out.put();
  batch->errors.put();
  call();
  EXPECT_EQ(driver()->cuStreamSynchronize(stream), CUDA_SUCCESS);
  return {batch->out.there(), batch->errors.there()};
}

CUgraphExec capture(fovea_handle *handle, const fovea_attention_args &args, CUstream stream) {
  CUgraph graph = nullptr;
  CUgraphExec ready = nullptr;
  EXPECT_EQ(DRIVER_CALL(cuStreamBeginCapture_v2)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL),
            CUDA_SUCCESS);
  EXPECT_EQ(fovea_attention(handle, &args, stream), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(DRIVER_CALL(cuStreamEndCapture)(stream, &graph), CUDA_SUCCESS);
  EXPECT_EQ(DRIVER_CALL(cuGraphInstantiateWithFlags)(&ready, graph, 0), CUDA_SUCCESS);
  EXPECT_EQ(DRIVER_CALL(cuGraphDestroy)(graph), CUDA_SUCCESS);
  return ready;
}

// The tiles of one kind in the workspace are those that the host would list.
void expect_line(const std::vector<uint8_t> &workspace, const fv_cuda_layout &layout, int line,
                 const fv_schedule_list &list) {
  fv_placed_line there[FV_LINES];
  std::memcpy(there, &workspace[layout.totals], sizeof there);
  const fv_placed_line &expected = list.lines[line];
  ASSERT_EQ(there[line].tiles, expected.tiles);
  ASSERT_EQ(there[line].work, expected.work);
  ASSERT_EQ(there[line].shares, expected.shares);
  for (int64_t i = 0; i < expected.tiles; ++i) {
    fv_placed_tile tile;
    std::memcpy(&tile, &workspace[layout.tiles[line] + static_cast<size_t>(i) * sizeof tile],
                sizeof tile);
    ASSERT_EQ(std::memcmp(&tile, &list.tiles[line][i], sizeof tile), 0) << line << " " << i;
  }
}

void expect_schedule(const fovea_handle *handle, Batch *batch, fovea_attention_args args) {
  fv_problem problem;
  fv_plan plan;
  fv_schedule_list list;
  args.sequences.q_offsets = batch->offsets.host.data();
  args.sequences.kv_lengths = batch->lengths.host.data();
  args.positions.q = batch->positions.host.data();
  ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK) << fovea_error_detail();
  ASSERT_EQ(fv_plan_cuda(&fv_cuda_device_of(handle)->facts, &problem, &plan), FOVEA_OK)
      << fovea_error_detail();
  ASSERT_TRUE(fv_schedule_list_make(&plan, &problem, &list));
  const fv_cuda_layout &layout = plan.cuda.layout;
  const std::vector<uint8_t> workspace = batch->workspace.there();
  for (int line = 0; line < FV_LINES; ++line) expect_line(workspace, layout, line, list);
  fv_schedule_list_free(&list);
}

int replays() {
  const char *wanted = getenv("FOVEA_REPLAYS");
  return wanted ? atoi(wanted) : 100;
}

class AttentionGraph : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    const std::string why = why_there_is_no(FOVEA_DEVICE_CUDA);
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

TEST_P(AttentionGraph, ServesEveryStepWithTheBitsOfACallOfItsOwn) {
  fovea_handle *handle = handle_of(FOVEA_DEVICE_CUDA, 0);
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  fovea_limits limits = {};
  limits.struct_size = sizeof limits;
  limits.heads_q = 4;
  limits.heads_kv = 2;
  limits.sequences = SEQUENCES;
  limits.total_q = ROWS;
  limits.len_kv = PAGE_LEN * COLUMNS;
  limits.dim = limits.dim_v = 32;
  limits.sm_count = 7;
  size_t bytes = 0;
  ASSERT_EQ(fovea_attention_workspace(handle, &limits, &bytes), FOVEA_OK);
  ASSERT_LE(bytes, size_t{WORKSPACE});
  ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK) << fovea_error_detail();
  ASSERT_EQ(driver()->cuCtxPushCurrent(fv_cuda_device_of(handle)->primary), CUDA_SUCCESS);
  ASSERT_EQ(DRIVER_CALL(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  {
    Batch batch;
    Draw draw(5);
    for (auto *tensor : {&batch.q, &batch.k, &batch.v}) {
      fill(&draw, &tensor->host);
      tensor->put();
    }
    fovea_attention_args args = batch.args(GetParam());
    args.sm_count = 7;
    CUgraphExec graph = capture(handle, args, stream);
    uint32_t met = 0;
    for (int i = 0; i < replays() && !HasFailure(); ++i) {
      change(&draw, i, &batch);
      const Result replayed = result_of(&batch, stream, [&] {
        EXPECT_EQ(DRIVER_CALL(cuGraphLaunch)(graph, stream), CUDA_SUCCESS);
      });
      const Result called = result_of(&batch, stream, [&] {
        EXPECT_EQ(fovea_attention(handle, &args, stream), FOVEA_OK) << fovea_error_detail();
      });
      ASSERT_EQ(replayed.out, called.out) << "step " << i;
      ASSERT_EQ(replayed.errors, called.errors) << "step " << i;
      ASSERT_NE(replayed.out, batch.out.host);  // something was computed
      expect_schedule(handle, &batch, args);
      for (uint32_t bits : called.errors) met |= bits;
    }
    EXPECT_EQ(met, uint32_t{FOVEA_BAD_PAGE | FOVEA_BAD_LENGTH | FOVEA_BAD_OFFSET});
    EXPECT_EQ(DRIVER_CALL(cuGraphExecDestroy)(graph), CUDA_SUCCESS);
  }
  EXPECT_EQ(DRIVER_CALL(cuStreamDestroy_v2)(stream), CUDA_SUCCESS);
  driver()->cuCtxPopCurrent(&context);
}

INSTANTIATE_TEST_SUITE_P(Levels, AttentionGraph,
                         testing::Values(FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_BATCH,
                                         FOVEA_REPRODUCIBLE_PHASE));

}  // namespace
}  // namespace fovea_test
