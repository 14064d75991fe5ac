/* Prints the PTX of the rows of one architecture: conformance_text 80|90. The build compiles it. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/simgpu/conformance/conformance.h"

static const char PROLOGUE[] =
    ".reg .b32 %i<10>, %o<4>, %t<4>, %lane, %cta, %tile, %slot;\n"
    ".reg .b16 %h<2>;\n.reg .b64 %d<4>, %in, %out, %base, %at;\n.reg .pred %p<4>;\n"
    ".shared .align 16 .b8 tile[512];\n"
    "mov.u32 %lane, %tid.x; mov.u32 %cta, %ctaid.x; mov.u32 %tile, tile;\n"
    "shl.b32 %slot, %lane, 3; add.u32 %slot, %slot, %tile;\n"
    "ld.param.u64 %base, [inputs]; cvta.to.global.u64 %base, %base;\n"
    "ld.param.u64 %out, [outputs]; cvta.to.global.u64 %out, %out;\n";

/* %base: the CTA's inputs; %in, %out: the lane's first word; %slot: 8 bytes of shared memory. */
static void print_kernel(const struct conform_row *row) {
  printf("\n.visible .entry %s(.param .u64 inputs, .param .u64 outputs) {\n", row->name);
  fputs(PROLOGUE, stdout);
  printf("mul.wide.u32 %%at, %%cta, %d; add.u64 %%base, %%base, %%at;\n",
         row->inputs * CONFORM_LANES * 4);
  printf("mul.wide.u32 %%at, %%cta, %d; add.u64 %%out, %%out, %%at;\n",
         row->outputs * CONFORM_LANES * 4);
  puts("mul.wide.u32 %at, %lane, 4; add.u64 %in, %base, %at; add.u64 %out, %out, %at;");
  for (int i = 0; i < row->inputs; i++) {
    printf("ld.global.b32 %%i%d, [%%in+%d];\n", i, i * CONFORM_LANES * 4);
  }
  puts(row->text);
  for (int o = 0; o < row->outputs; o++) {
    printf("st.global.b32 [%%out+%d], %%o%d;\n", o * CONFORM_LANES * 4, o);
  }
  puts("ret;\n}");
}

int main(int count, char **arguments) {
  int sm = count == 2 ? atoi(arguments[1]) : 0;
  if (sm != 80 && sm != 90) {
    fputs("usage: conformance_text 80|90\n", stderr);
    return 2;
  }
  printf(".version 9.0\n.target sm_%d\n.address_size 64\n", sm);
  for (size_t i = 0; i < conform_row_count; i++) {
    if (conform_rows[i].sm == sm) print_kernel(&conform_rows[i]);
  }
  return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
