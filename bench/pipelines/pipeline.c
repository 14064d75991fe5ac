/* pipeline.c - see pipeline.h: the table of contestants. */
#include "bench/pipelines/pipeline.h"

static const fv_bench_pipeline *const pipelines[] = {
    &fv_bench_fovea_cpu,       &fv_bench_layer_cpu,    &fv_bench_naive_cpu,
    &fv_bench_naive_layer_cpu, &fv_bench_selected_cpu, &fv_bench_spans_cpu,
    &fv_bench_mass_cpu,        &fv_bench_q8_0_cpu,     &fv_bench_q4_0_cpu};

const fv_bench_pipeline *fv_bench_pipeline_at(int index) {
  int count = (int)(sizeof pipelines / sizeof pipelines[0]);
  return index < count ? pipelines[index] : NULL;
}
