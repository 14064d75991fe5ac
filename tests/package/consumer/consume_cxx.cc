// A stranger's C++ program: the same as consume.c, but it initialises structs as C++ does.
#include <fovea.h>

#include <cstdio>
#include <memory>
#include <vector>

int main() {
  std::vector<float> q(16, 1.0f), k(16, 1.0f), v(16), out(16);
  for (int i = 0; i < 16; ++i) v[i] = static_cast<float>(i) - 7.5f;
  fovea_handle *opened = nullptr;
  fovea_options options = {};
  options.struct_size = sizeof options;
  options.device = FOVEA_DEVICE_REFERENCE;
  if (fovea_create(&options, &opened) != FOVEA_OK) return std::puts(fovea_error_detail()), 1;
  std::unique_ptr<fovea_handle, void (*)(fovea_handle *)> handle(opened, fovea_destroy);

  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = fovea_contiguous(q.data(), FOVEA_F32, 1, 1, 1, 16);
  args.k = fovea_contiguous(k.data(), FOVEA_F32, 1, 1, 1, 16);
  args.v = fovea_contiguous(v.data(), FOVEA_F32, 1, 1, 1, 16);
  args.out = fovea_contiguous(out.data(), FOVEA_F32, 1, 1, 1, 16);
  if (fovea_attention(handle.get(), &args, nullptr) != FOVEA_OK) {
    return std::puts(fovea_error_detail()), 1;
  }
  return out == v ? 0 : 1;
}
