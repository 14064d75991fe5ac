// cxx.cc - fovea from C++17: a handle that closes itself, vectors as tensors, errors as exceptions.
#include <fovea.h>

#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Throws the status and the detail: which argument, its value, the rule.
void check(fovea_status status, const std::string &call) {
  if (status == FOVEA_OK) return;
  throw std::runtime_error(call + ": " + fovea_status_name(status) + ": " + fovea_error_detail());
}

struct destroy {
  void operator()(fovea_handle *handle) const { fovea_destroy(handle); }
};
using handle_owner = std::unique_ptr<fovea_handle, destroy>;

handle_owner open_device(fovea_device device) {
  fovea_options options = {};  // zero is every field's default
  options.struct_size = sizeof options;
  options.device = device;
  fovea_handle *handle = nullptr;
  check(fovea_create(&options, &handle), "fovea_create");
  return handle_owner(handle);
}

// The calls want a workspace that is aligned to 256 bytes; a vector promises less.
constexpr std::align_val_t workspace_alignment{256};

struct release {
  void operator()(void *memory) const { ::operator delete(memory, workspace_alignment); }
};
using workspace_owner = std::unique_ptr<void, release>;

constexpr int64_t heads = 2, dim = 8;

// One sequence [seq, head, dim]. The vector owns the numbers, and the view points to them.
fovea_tensor view(std::vector<float> &numbers) {
  int64_t seq = static_cast<int64_t>(numbers.size()) / (heads * dim);
  return fovea_contiguous(numbers.data(), FOVEA_F32, 1, seq, heads, dim);
}

std::vector<float> attend(fovea_handle *handle, std::vector<float> &q, std::vector<float> &k,
                          std::vector<float> &v) {
  std::vector<float> out(q.size());
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = view(q);
  args.k = view(k);
  args.v = view(v);
  args.out = view(out);
  args.visibility.causal = 1;
  check(fovea_attention_workspace_for(handle, &args, &args.workspace_bytes),
        "fovea_attention_workspace_for");
  workspace_owner workspace(::operator new(args.workspace_bytes, workspace_alignment));
  args.workspace = workspace.get();
  check(fovea_attention(handle, &args, nullptr), "fovea_attention");
  return out;
}

}  // namespace

int main() {
  try {
    handle_owner handle = open_device(FOVEA_DEVICE_CPU);
    std::vector<float> q(4 * heads * dim), k(q.size()), v(q.size());
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / (heads * dim));
    std::vector<float> out = attend(handle.get(), q, k, v);
    for (int i = 0; i < 4; ++i) std::printf("token %d: %.2f\n", i, out[i * heads * dim]);
    v.resize(3 * heads * dim);  // a token too few: attend throws
    attend(handle.get(), q, k, v);
  } catch (const std::exception &error) {
    std::puts(error.what());
  }
}
