/* instruction_case.c - one call of fovea_attention, on one thread, for a tool that counts its
 * instructions. usage: instruction_case ROW, a name in the form of bench/problem/problem.h, or
 * --compiler, which prints the compiler that built this. */
#include <stdio.h>
#include <string.h>

#include "bench/pipelines/pipeline.h"

static int call(const fv_bench_row_key *key) {
  fv_bench_machine machine = {.threads = 1};
  fv_bench_tensors tensors;
  fovea_options options = {.struct_size = sizeof options, .device = FOVEA_DEVICE_CPU, .threads = 1};
  if (fv_pool_create(&machine.pool, 1) || fovea_create(&options, &machine.handle)) return 1;
  if (!fv_bench_tensors_make(&tensors, &key->problem, machine.pool)) return 1;
  void *state = fv_bench_fovea_cpu.open(&machine, &tensors);
  int code = state && fv_bench_fovea_cpu.run(state) ? 0 : 1;
  fv_bench_fovea_cpu.close(state);
  fv_bench_tensors_free(&tensors);
  fovea_destroy(machine.handle);
  fv_pool_destroy(machine.pool);
  return code;
}

int main(int argc, char **argv) {
  fv_bench_row_key key;
  if (argc == 2 && !strcmp(argv[1], "--compiler")) return puts(FOVEA_BENCH_COMPILER) < 0;
  if (argc == 2 && fv_bench_row_parse(argv[1], &key)) return call(&key);
  fputs("usage: instruction_case ROW\n", stderr);
  return 2;
}
