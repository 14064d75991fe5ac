/* A stranger's C program: one query row that sees one key. The weight of the key is 1, so the
 * result is the value, bit for bit, and the test needs no tolerance. */
#include <fovea.h>
#include <stdio.h>
#include <string.h>

enum { DIM = 8 };

int main(void) {
  static const float k[DIM] = {1, 2, 3, 4, 5, 6, 7, 8};
  static const float v[DIM] = {0.1f, -0.2f, 0.3f, -0.4f, 0.5f, -0.6f, 0.7f, -0.8f};
  static _Alignas(256) char workspace[1 << 20];
  float q[DIM] = {8, 7, 6, 5, 4, 3, 2, 1}, out[DIM] = {0};
  fovea_handle *handle = NULL;
  fovea_attention_args args;
  fovea_status status;
  int wrong;

  if (fovea_version() !=
      FOVEA_VERSION_MAJOR * 10000 + FOVEA_VERSION_MINOR * 100 + FOVEA_VERSION_PATCH) {
    printf("header and library are of different versions\n");
    return 1;
  }
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.q = fovea_contiguous(q, FOVEA_F32, 1, 1, 1, DIM);
  args.k = fovea_contiguous((void *)k, FOVEA_F32, 1, 1, 1, DIM);
  args.v = fovea_contiguous((void *)v, FOVEA_F32, 1, 1, 1, DIM);
  args.out = fovea_contiguous(out, FOVEA_F32, 1, 1, 1, DIM);
  args.workspace = workspace;
  args.workspace_bytes = sizeof workspace;
  status = fovea_create(NULL, &handle);
  if (status == FOVEA_OK) status = fovea_attention(handle, &args, NULL);
  if (status != FOVEA_OK) printf("%s: %s\n", fovea_status_name(status), fovea_error_detail());
  wrong = status != FOVEA_OK || memcmp(out, v, sizeof out) != 0;
  fovea_destroy(handle);
  if (wrong) printf("the result is not the value of the only key\n");
  return wrong;
}
