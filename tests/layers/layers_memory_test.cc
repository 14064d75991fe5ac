// layers_memory_test.cc - no call of the layers allocates: all memory is the caller's.
//
// The linker leads the library's calls of malloc and its kin here. A BLAS is a shared library: its
// own calls do not come this way.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "tests/layers/tokens_case.h"

namespace {
std::atomic<int> allocations{0};
}

extern "C" {
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes) {
  ++allocations;
  return __real_malloc(bytes);
}
void *__wrap_calloc(size_t count, size_t bytes) {
  ++allocations;
  return __real_calloc(count, bytes);
}
void *__wrap_realloc(void *memory, size_t bytes) {
  ++allocations;
  return __real_realloc(memory, bytes);
}
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  ++allocations;
  return __real_aligned_alloc(alignment, bytes);
}
}

namespace fovea_test {
namespace {

// Runs a call whose workspace has been measured, and says how often it allocated.
template <typename Args>
int allocations_of(fovea_status (*measure)(fovea_handle *, const Args *, size_t *),
                   fovea_status (*call)(fovea_handle *, const Args *, fovea_stream), Args args) {
  fovea_handle *handle = shared_cpu();
  size_t bytes = 0;
  EXPECT_EQ(measure(handle, &args, &bytes), FOVEA_OK) << fovea_layers_error_detail();
  Workspace workspace(bytes);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  const int before = allocations;
  EXPECT_EQ(measure(handle, &args, &bytes), FOVEA_OK);
  EXPECT_EQ(call(handle, &args, nullptr), FOVEA_OK) << fovea_layers_error_detail();
  return allocations - before;
}

TEST(Allocation, IsNoticed) {
  const int before = allocations;
  fovea_handle *handle = nullptr;
  ASSERT_EQ(fovea_create(nullptr, &handle), FOVEA_OK);
  fovea_destroy(handle);
  EXPECT_GT(allocations, before);
}

TEST(Allocation, IsMadeByNoCall) {
  Tokens x(FOVEA_BF16, {2, 300, 1, 24}), weight(FOVEA_F16, {1, 24, 1, 24});
  Tokens out(FOVEA_F32, {2, 300, 1, 24}), k(FOVEA_F32, {2, 300, 3, 8}),
      v(FOVEA_F32, {2, 300, 3, 8});
  Tokens weights(FOVEA_F32, {2, 300, 1, 600}), gates(FOVEA_F32, {1, 72, 1, 24});
  Tokens square(FOVEA_F32, {2, 30, 2, 30}), rolled(FOVEA_F32, {2, 30, 1, 30});
  x.fill_random(1), weight.fill_random(2), gates.fill_random(3), square.fill_integers(4, 1);
  fovea_linear linear = {};
  linear.weight = weight.view();

  fovea_linear_args apply = {};
  apply.struct_size = sizeof apply;
  apply.linear = linear, apply.x = x.view(), apply.out = out.view();
  EXPECT_EQ(allocations_of(fovea_linear_workspace, fovea_linear_apply, apply), 0);

  fovea_memory_args memory = {};
  memory.struct_size = sizeof memory;
  memory.heads_kv = 3, memory.dim = 8, memory.dim_v = 8;
  memory.x_k = x.view(), memory.k_proj = memory.v_proj = linear;
  memory.k = k.view(), memory.v = v.view();
  EXPECT_EQ(allocations_of(fovea_memory_workspace, fovea_memory, memory), 0);

  fovea_source sources[2] = {};
  sources[0].x_k = x.view(), sources[0].k_proj = sources[0].v_proj = linear;
  sources[1].k = k.view(), sources[1].v = v.view();
  fovea_multihead_args layer = {};
  layer.struct_size = sizeof layer;
  layer.heads_q = layer.heads_kv = 3, layer.dim = layer.dim_v = 8;
  layer.x = x.view(), layer.q_proj = layer.out_proj = linear;
  layer.source_count = 2, layer.sources = sources;
  layer.out = out.view(), layer.weights = weights.view();
  EXPECT_EQ(allocations_of(fovea_multihead_workspace, fovea_multihead, layer), 0);

  fovea_recurrent_args cell = {};
  cell.struct_size = sizeof cell;
  cell.cell = FOVEA_CELL_GRU;
  cell.x = x.view(), cell.weight_x = cell.weight_h = gates.view(), cell.states = out.view();
  EXPECT_EQ(allocations_of(fovea_recurrent_workspace, fovea_recurrent, cell), 0);

  const fovea_tensor stack[2] = {square.view(), square.view()};
  fovea_rollout_args rollout = {};
  rollout.struct_size = sizeof rollout;
  rollout.count = 2, rollout.residual = 0.5f, rollout.weights = stack, rollout.out = rolled.view();
  EXPECT_EQ(allocations_of(fovea_rollout_workspace, fovea_rollout, rollout), 0);

  fovea_normalise_args norm = {};
  norm.struct_size = sizeof norm;
  norm.eps = 1e-5f;
  norm.x = x.view(), norm.out = out.view();
  const int before = allocations;
  EXPECT_EQ(fovea_normalise(shared_cpu(), &norm, nullptr), FOVEA_OK) << fovea_layers_error_detail();
  EXPECT_EQ(allocations, before);
}

}  // namespace
}  // namespace fovea_test
