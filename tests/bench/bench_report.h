// bench_report.h - makes reports for tests, row by row, in the format of Google Benchmark.
#ifndef FOVEA_TESTS_BENCH_BENCH_REPORT_H
#define FOVEA_TESTS_BENCH_BENCH_REPORT_H

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "bench/report/result.h"

namespace fovea_test {

// A folder for one test, which is removed afterwards.
class Folder {
 public:
  Folder() : path_(testing::TempDir() + "/bench-XXXXXX") { mkdtemp(&path_[0]); }
  ~Folder() {
    std::string command = "rm -rf '" + path_ + "'";
    if (system(command.c_str())) abort();
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;
  std::string file(const std::string &name) const { return path_ + "/" + name; }
  const std::string &path() const { return path_; }

 private:
  std::string path_;
};

inline std::string text_of(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class ReportText {
 public:
  // Times in milliseconds, one per repetition.
  ReportText &row(const std::string &name, const std::vector<double> &times,
                  const std::string &more = "") {
    for (double time : times) {
      std::ostringstream run;
      run << "{\"name\": \"" << name << "\", \"run_type\": \"iteration\", \"iterations\": 1, "
          << "\"real_time\": " << time << ", \"cpu_time\": 1, \"time_unit\": \"ms\"" << more << "}";
      add(run.str());
    }
    return *this;
  }
  ReportText &skipped(const std::string &name, const std::string &why) {
    return add("{\"name\": \"" + name +
               "\", \"run_type\": \"iteration\", \"error_occurred\": true, \"error_message\": \"" +
               why + "\", \"real_time\": 0, \"cpu_time\": 0, \"time_unit\": \"ms\"}");
  }
  ReportText &add(const std::string &run) {
    runs_ += (runs_.empty() ? "" : ",\n") + run;
    return *this;
  }
  std::string text() const {
    return "{\"context\": {\"date\": \"2026-01-02T03:04:05+00:00\", \"machine\": \"Test "
           "Processor\", "
           "\"threads\": \"2\", \"isa\": \"avx2\", \"commit\": \"abc\"},\n\"benchmarks\": [" +
           runs_ + "]}";
  }
  void write(const std::string &path) const { std::ofstream(path) << text(); }

 private:
  std::string runs_;
};

// The name of a row cpu/PIPELINE/prefill/... of one head of 64 dims.
inline std::string prefill(const std::string &pipeline, int len, const std::string &mask = "full") {
  std::string length = std::to_string(len);
  return "cpu/" + pipeline + "/prefill/batch:1/heads:1:1/len:" + length + ":" + length +
         "/dim:64/f32/" + mask + "/warm";
}

inline std::string decode(const std::string &pipeline, int keys,
                          const std::string &cache = "cold") {
  return "cpu/" + pipeline + "/decode/batch:1/heads:4:1/len:1:" + std::to_string(keys) +
         "/dim:64/f32/full/" + cache;
}

// Batches of 16 unequal sequences, with 4 query heads per kv head.
inline std::string packed(const std::string &pipeline, int longest) {
  std::string length = std::to_string(longest);
  return "cpu/" + pipeline + "/packed/batch:16/heads:4:1/len:" + length + ":" + length +
         "/dim:64/f32/causal/warm";
}

inline std::string paged(const std::string &pipeline, int most_keys) {
  return "cpu/" + pipeline + "/paged/batch:16/heads:4:1/len:1:" + std::to_string(most_keys) +
         "/page:16/dim:64/f32/full/cold";
}

inline std::string mixed(const std::string &pipeline, int most_keys) {
  return "cpu/" + pipeline + "/mixed/batch:16/heads:4:1/len:64:" + std::to_string(most_keys) +
         "/page:16/dim:64/f32/causal/cold";
}

// A small report with rows of all kinds: 2 lengths, peers, decode, a row that was skipped.
inline ReportText small_report() {
  const char *work = ", \"flops\": 4e9, \"bytes\": 1e9, \"peak_bytes\": 1048576";
  return ReportText()
      .row(prefill("fovea", 128), {1, 2, 3, 4, 5, 6, 7, 8, 9}, work)
      .row(prefill("naive", 128), {10, 10, 10}, work)
      .row(prefill("peak", 128), {2, 2, 2}, ", \"flops\": 3.2e9")
      .row(prefill("fovea@torch", 128), {4, 4, 4}, work)
      .row(prefill("torch", 128), {6, 6, 6}, work)
      .row(prefill("fovea", 16384), {50, 50, 50}, work)
      .skipped(prefill("naive", 16384), "skipped: it needs 8.0 GiB")
      .row(prefill("fovea", 128, "causal"), {3, 3, 3}, work)
      .row(prefill("naive", 128, "causal"), {1.5, 1.5, 1.5}, work)
      .row(decode("fovea", 1024), {20, 20, 20}, work)
      .row(decode("read", 1024), {10, 10, 10}, ", \"bytes\": 1e9")
      .row(decode("fovea@torch", 1024), {20, 20, 20}, work)
      .row(decode("torch-folded", 1024), {40, 40, 40}, work);
}

// The same with batches as servers have them.
inline ReportText served_report() {
  const char *work = ", \"flops\": 4e9, \"bytes\": 1e9, \"peak_bytes\": 1048576";
  return small_report()
      .row(packed("fovea", 512), {5, 5, 5}, work)
      .row(packed("naive", 512), {10, 10, 10}, work)
      .row(paged("fovea", 1024), {20, 20, 20}, work)
      .row(paged("read", 1024), {10, 10, 10}, ", \"bytes\": 1e9")
      .row(paged("naive", 1024), {80, 80, 80}, work)
      .row(mixed("fovea", 1024), {40, 40, 40}, work)
      .row(mixed("read", 1024), {10, 10, 10}, ", \"bytes\": 1e9")
      .row(mixed("naive", 1024), {60, 60, 60}, work);
}

class Report {
 public:
  explicit Report(const ReportText &text) {
    Folder folder;
    text.write(folder.file("report.json"));
    char error[256] = "";
    good_ = fv_bench_result_read(&result_, folder.file("report.json").c_str(), error, sizeof error);
    error_ = error;
  }
  ~Report() {
    if (good_) fv_bench_result_free(&result_);
  }
  Report(const Report &) = delete;
  Report &operator=(const Report &) = delete;
  bool good() const { return good_; }
  const std::string &error() const { return error_; }
  const fv_bench_result *operator*() const { return &result_; }
  const fv_bench_row *find(const std::string &name) const {
    fv_bench_row_key key;
    if (!fv_bench_row_parse(name.c_str(), &key)) return nullptr;
    return fv_bench_result_find(&result_, key.device, key.pipeline, &key.problem);
  }

 private:
  fv_bench_result result_;
  std::string error_;
  bool good_;
};

}  // namespace fovea_test

#endif  // FOVEA_TESTS_BENCH_BENCH_REPORT_H
