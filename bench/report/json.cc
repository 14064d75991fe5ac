// json.cc - see json.h.
//
// Google Benchmark's own loop runs one benchmark to its end before the next, or shuffles all of a
// program's, with all their tensors alive; contestants in turns on one problem's tensors it can't.
// So the rounds are ours, and its reporter is given what its loop would have given it.
#include "bench/report/json.h"

#include <benchmark/benchmark.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

struct fv_bench_json {
  std::vector<benchmark::BenchmarkReporter::Run> runs;
  int64_t families = 0;
};

namespace {

benchmark::BenchmarkReporter::Run run_of(fv_bench_json *json, const fv_bench_row_key *key) {
  char name[FV_BENCH_NAME];
  fv_bench_row_name(key, name);
  benchmark::BenchmarkReporter::Run run;
  run.run_name.function_name = name;
  run.family_index = json->families++;
  run.per_family_instance_index = 0;
  run.run_type = benchmark::BenchmarkReporter::Run::RT_Iteration;
  run.time_unit = benchmark::kMillisecond;
  run.statistics = nullptr;
  run.repetition_index = 0;
  run.repetitions = 1;
  return run;
}

}  // namespace

extern "C" fv_bench_json *fv_bench_json_open(void) {
  return new fv_bench_json;
}

extern "C" void fv_bench_json_close(fv_bench_json *json) {
  delete json;
}

extern "C" void fv_bench_json_context(fv_bench_json *, const char *key, const char *value) {
  benchmark::AddCustomContext(key, value);
}

extern "C" void fv_bench_json_row(fv_bench_json *json, const fv_bench_row_key *key,
                                  const fv_bench_contestant *contestant, int repetitions) {
  benchmark::BenchmarkReporter::Run run = run_of(json, key);
  run.iterations = contestant->iterations;
  run.repetitions = repetitions;
  if (contestant->flops > 0) run.counters["flops"] = contestant->flops;
  if (contestant->bytes > 0) run.counters["bytes"] = contestant->bytes;
  if (contestant->peak_bytes > 0) run.counters["peak_bytes"] = contestant->peak_bytes;
  for (int i = 0; i < repetitions; ++i) {
    run.repetition_index = i;
    run.real_accumulated_time = contestant->seconds[i] * static_cast<double>(run.iterations);
    run.cpu_accumulated_time = contestant->cpu_seconds[i] * static_cast<double>(run.iterations);
    json->runs.push_back(run);
  }
}

extern "C" void fv_bench_json_skipped(fv_bench_json *json, const fv_bench_row_key *key,
                                      const char *why) {
  benchmark::BenchmarkReporter::Run run = run_of(json, key);
  run.error_occurred = true;
  run.error_message = why;
  json->runs.push_back(run);
}

extern "C" bool fv_bench_json_write(fv_bench_json *json, const char *path) {
  std::string partial = std::string(path) + ".partial";
  {
    std::ofstream file(partial);
    benchmark::JSONReporter reporter;
    reporter.SetOutputStream(&file);
    reporter.ReportContext(benchmark::BenchmarkReporter::Context());
    reporter.ReportRuns(json->runs);
    reporter.Finalize();
    file.flush();
    if (!file) {
      int reason = errno;
      std::remove(partial.c_str());
      errno = reason;
      return false;
    }
  }
  return std::rename(partial.c_str(), path) == 0;
}
