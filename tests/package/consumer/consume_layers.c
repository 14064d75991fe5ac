/* A stranger's layer: self-attention of one token, without projections. It attends to itself alone,
 * so the result is its value, bit for bit. */
#include <fovea_layers.h>
#include <stdio.h>
#include <string.h>

enum { DIM = 8 };

int main(void) {
  static _Alignas(256) char workspace[1 << 20];
  float x[DIM] = {1, -2, 3, -4, 5, -6, 7, -8}, out[DIM] = {0};
  fovea_source source;
  fovea_multihead_args args;
  fovea_handle *handle = NULL;
  fovea_options options;
  int wrong;

  memset(&options, 0, sizeof options);
  memset(&source, 0, sizeof source);
  memset(&args, 0, sizeof args);
  options.struct_size = sizeof options;
  options.device = FOVEA_DEVICE_CPU;
  args.struct_size = sizeof args;
  args.heads_q = args.heads_kv = 1;
  args.dim = args.dim_v = DIM;
  args.x = fovea_contiguous(x, FOVEA_F32, 1, 1, 1, DIM);
  args.out = fovea_contiguous(out, FOVEA_F32, 1, 1, 1, DIM);
  source.x_k = args.x;
  args.sources = &source;
  args.source_count = 1;
  args.workspace = workspace;
  args.workspace_bytes = sizeof workspace;
  wrong = fovea_layers_version() != fovea_version() || fovea_create(&options, &handle) != FOVEA_OK;
  if (!wrong) wrong = fovea_multihead(handle, &args, NULL) != FOVEA_OK;
  if (wrong) printf("%s\n", fovea_layers_error_detail());
  if (!wrong) wrong = memcmp(out, x, sizeof out) != 0;
  fovea_destroy(handle);
  printf("products by %s\n", fovea_layers_blas());
  return wrong;
}
