#include <fovea.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  float q[64] = {0}, k[64] = {0}, v[64], out[64];      /* 1 sequence, 4 tokens, 2 heads, dim 8 */
  for (int i = 0; i < 64; ++i) v[i] = (float)(i / 16); /* token 0 holds zeros, token 1 ones, ... */

  fovea_handle *handle; /* a device and its threads */
  if (fovea_create(NULL, &handle)) return 1;
  fovea_attention_args args = {.struct_size = sizeof args, .visibility.causal = 1};
  args.q = fovea_contiguous(q, FOVEA_F32, 1, 4, 2, 8); /* [batch, seq, head, dim] */
  args.k = fovea_contiguous(k, FOVEA_F32, 1, 4, 2, 8);
  args.v = fovea_contiguous(v, FOVEA_F32, 1, 4, 2, 8);
  args.out = fovea_contiguous(out, FOVEA_F32, 1, 4, 2, 8);
  if (fovea_attention_workspace_for(handle, &args, &args.workspace_bytes) ||
      posix_memalign(&args.workspace, 256, args.workspace_bytes) ||
      fovea_attention(handle, &args, NULL)) {
    fprintf(stderr, "%s\n", fovea_error_detail()); /* which argument, its value, the rule */
    return 1;
  }
  for (int i = 0; i < 4; ++i) printf("token %d: %.2f\n", i, out[16 * i]); /* the mean of 0 to i */
  free(args.workspace);
  fovea_destroy(handle);
}
