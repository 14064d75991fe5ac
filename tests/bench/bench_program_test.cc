// fovea-bench as users call it. No test asserts a time.
#include <gtest/gtest.h>
#include <jansson.h>
#include <sys/wait.h>

#include <cstring>
#include <memory>
#include <set>

#include "bench/measure/host.h"
#include "tests/bench/bench_report.h"

namespace fovea_test {
namespace {

struct Ran {
  int code;
  std::string out;  // stdout and stderr
};

Ran bench(const std::string &arguments) {
  std::string command = std::string("'") + FOVEA_BENCH_PROGRAM + "' " + arguments + " 2>&1";
  FILE *pipe = popen(command.c_str(), "r");
  std::string out;
  char buffer[4096];
  for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    out.append(buffer, count);
  int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out};
}

const char kSmall[] = "--quick --filter batch:32/heads:8:8/len:128:128/dim:64/f32/full ";

struct Release {
  void operator()(json_t *json) const { json_decref(json); }
};

TEST(BenchProgram, WritesWhatGoogleBenchmarkWrites) {
  Folder folder;
  Ran ran = bench(kSmall + ("--output " + folder.file("report.json")));
  ASSERT_EQ(ran.code, 0) << ran.out;
  EXPECT_NE(ran.out.find("x naive"), std::string::npos) << ran.out;
  std::unique_ptr<json_t, Release> report(
      json_load_file(folder.file("report.json").c_str(), 0, nullptr));
  ASSERT_TRUE(report);
  json_t *context = json_object_get(report.get(), "context");
  for (const char *key : {"date", "machine", "threads", "isa", "compiler", "commit", "fovea",
                          "command", "grid", "blas", "system", "memory"}) {
    EXPECT_TRUE(json_is_string(json_object_get(context, key))) << key;
  }
  std::map<std::string, std::set<json_int_t>> repetitions;
  size_t index;
  json_t *run;
  json_array_foreach(json_object_get(report.get(), "benchmarks"), index, run) {
    std::string name = json_string_value(json_object_get(run, "name"));
    repetitions[name].insert(json_integer_value(json_object_get(run, "repetition_index")));
    EXPECT_STREQ(json_string_value(json_object_get(run, "run_type")), "iteration");
    EXPECT_EQ(json_integer_value(json_object_get(run, "repetitions")), 9);
    EXPECT_GT(json_number_value(json_object_get(run, "real_time")), 0) << name;
    EXPECT_TRUE(json_is_number(json_object_get(run, "cpu_time"))) << name;
  }
  EXPECT_EQ(repetitions.size(), 4u); /* fovea, naive, mass, peak */
  for (const auto &row : repetitions) EXPECT_EQ(row.second.size(), 9u) << row.first;
}

TEST(BenchProgram, AMismatchEndsTheRunBeforeAnythingIsWritten) {
  Folder folder;
  Ran ran = bench(kSmall + ("--break-naive --output " + folder.file("report.json")));
  EXPECT_EQ(ran.code, 1) << ran.out;
  EXPECT_NE(ran.out.find("cpu/naive/prefill"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("differs from fovea's by"), std::string::npos) << ran.out;
  EXPECT_NE(access(folder.file("report.json").c_str(), F_OK), 0);
}

TEST(BenchProgram, AReportThatCannotBeWrittenIsAnError) {
  Ran ran = bench(std::string(kSmall) + "--output /nonexistent/report.json");
  EXPECT_EQ(ran.code, 5) << ran.out;
  EXPECT_NE(ran.out.find("/nonexistent/report.json: No such file"), std::string::npos) << ran.out;
}

TEST(BenchProgram, ListsTheProblemsOfAGridWithTheirWork) {
  Ran ran = bench("list --quick --filter decode");
  EXPECT_EQ(ran.code, 0);
  std::istringstream lines(ran.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    fv_bench_row_key key;
    ASSERT_TRUE(fv_bench_row_parse(line.substr(0, line.find('\t')).c_str(), &key)) << line;
    EXPECT_EQ(key.problem.kind, FV_BENCH_DECODE);
    EXPECT_EQ(strtod(line.c_str() + line.find('\t'), nullptr), fv_bench_flops(&key.problem));
  }
  EXPECT_GE(count, 4);
}

TEST(BenchProgram, TimesBatchesAsServersHaveThem) {
  for (const char *kind : {"packed", "paged", "mixed"}) {
    Folder folder;
    const std::string wanted = std::string("--quick --filter ") + kind + " --output ";
    Ran ran = bench(wanted + folder.file("report.json"));
    ASSERT_EQ(ran.code, 0) << ran.out;
    EXPECT_NE(ran.out.find("x naive"), std::string::npos) << ran.out;
    const std::string report = text_of(folder.file("report.json"));
    for (const char *pipeline : {"fovea", "naive", "peak", "read"}) {
      const bool expected = strcmp(pipeline, "read") || strcmp(kind, "packed");
      const std::string row = std::string("cpu/") + pipeline + "/" + kind + "/";
      EXPECT_EQ(report.find(row) != std::string::npos, expected) << row;
    }
    ran = bench("--break-naive " + wanted + folder.file("broken.json"));
    EXPECT_EQ(ran.code, 1) << ran.out;
    EXPECT_NE(ran.out.find("differs from fovea's by"), std::string::npos) << ran.out;
  }
}

TEST(BenchProgram, TimesAdditiveScoresBesideTheirNaiveForm) {
  Folder folder;
  Ran ran = bench("--quick --filter additive --output " + folder.file("report.json"));
  ASSERT_EQ(ran.code, 0) << ran.out;
  EXPECT_NE(ran.out.find("additive scores f32, full, dim 64"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("x naive"), std::string::npos) << ran.out;
  const std::string report = text_of(folder.file("report.json"));
  for (const char *pipeline : {"fovea", "naive", "peak"}) {
    EXPECT_NE(report.find(std::string("cpu/") + pipeline + "/additive/"), std::string::npos);
  }
  ran = bench("page " + folder.file("report.json") + " here");
  EXPECT_NE(ran.out.find("Additive scores are Bahdanau's"), std::string::npos) << ran.out;
  EXPECT_EQ(bench("plot " + folder.file("report.json") + " " + folder.path()).code, 0);
  EXPECT_EQ(access(folder.file("additive-f32-speedup.svg").c_str(), F_OK), 0);
}

TEST(BenchProgram, TimesLayersBesideTheirSteps) {
  Folder folder;
  Ran ran = bench("--quick --filter layer --output " + folder.file("report.json"));
  ASSERT_EQ(ran.code, 0) << ran.out;
  EXPECT_NE(ran.out.find("multi-head layer f32, full, dim 64"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("x naive"), std::string::npos) << ran.out;
  const std::string report = text_of(folder.file("report.json"));
  for (const char *pipeline : {"fovea", "naive", "peak"}) {
    EXPECT_NE(report.find(std::string("cpu/") + pipeline + "/layer/"), std::string::npos);
  }
  ran = bench("page " + folder.file("report.json") + " here");
  EXPECT_NE(ran.out.find("Multi-head layers are self-attention"), std::string::npos) << ran.out;
  EXPECT_EQ(bench("plot " + folder.file("report.json") + " " + folder.path()).code, 0);
  EXPECT_EQ(access(folder.file("layer-f32-speedup.svg").c_str(), F_OK), 0);
  ran = bench("--break-naive --quick --filter layer --output " + folder.file("broken.json"));
  EXPECT_EQ(ran.code, 1) << ran.out;
  EXPECT_NE(ran.out.find("differs from fovea's by"), std::string::npos) << ran.out;
}

TEST(BenchProgram, ShowsAReportAsTableAndPageAndPictures) {
  Folder folder;
  std::string path = folder.file("report.json");
  small_report().write(path);
  EXPECT_NE(bench("table " + path).out.find("prefill f32, full"), std::string::npos);
  Ran page = bench("page " + path + " ../here");
  EXPECT_EQ(page.code, 0);
  EXPECT_EQ(page.out.rfind("# Performance\n", 0), 0u) << page.out;
  EXPECT_NE(page.out.find("(../here/prefill-f32-time.svg)"), std::string::npos) << page.out;
  EXPECT_NE(page.out.find("Test Processor, 2 threads"), std::string::npos) << page.out;
  EXPECT_EQ(page.out.find("Packed, paged and mixed"), std::string::npos) << page.out;
  EXPECT_EQ(bench("plot " + path + " " + folder.path()).code, 0);
  EXPECT_EQ(access(folder.file("decode-f32-group4-time.svg").c_str(), F_OK), 0);
  EXPECT_EQ(bench("plot " + path + " /nonexistent").code, 5);
  served_report().write(path);
  page = bench("page " + path + " ../here");
  EXPECT_NE(page.out.find("Packed, paged and mixed"), std::string::npos) << page.out;
  EXPECT_NE(page.out.find("### mixed batch f32"), std::string::npos) << page.out;
}

TEST(BenchProgram, ASummaryMakesTheSameTableAndPageAndLeavesOutRepetitions) {
  Folder folder;
  std::string path = folder.file("report.json"), summary = folder.file("summary.json");
  served_report().write(path);
  ASSERT_EQ(bench("summary " + path + " >" + summary).code, 0);
  for (const char *how : {"table ", "summary ", "page "}) {
    const std::string more = strcmp(how, "page ") ? "" : " ../here";
    Ran full = bench(how + path + more), small = bench(how + summary + more);
    EXPECT_EQ(full.code, 0) << full.out;
    EXPECT_EQ(small.out, full.out) << how;
  }
  std::unique_ptr<json_t, Release> read(json_load_file(summary.c_str(), 0, nullptr));
  ASSERT_TRUE(read);
  json_t *rows = json_object_get(read.get(), "rows");
  json_t *columns = json_object_get(read.get(), "columns");
  EXPECT_EQ(json_array_size(rows), 21u);
  EXPECT_EQ(json_array_size(json_array_get(rows, 0)), json_array_size(columns));
  EXPECT_EQ(bench("table " + folder.path()).code, 3);
}

TEST(BenchProgram, ThePeakThatIsNamedIsTheOneThatSharesAreOf) {
  Folder folder;
  ReportText text;
  text.row(prefill("fovea", 128), {1, 1, 1}, ", \"flops\": 4e9")
      .row(prefill("peak", 128), {2, 2, 2}, ", \"flops\": 16e9")
      .write(folder.file("report.json"));
  Ran ran = bench("table " + folder.file("report.json"));
  EXPECT_NE(ran.out.find("peak_gflops        8000 (median of 1 rows"), std::string::npos)
      << ran.out;
  EXPECT_NE(ran.out.find("4000.0     50 %"), std::string::npos) << ran.out;
}

#if defined(FOVEA_BENCH_SIMGPU)
// The software GPU can run only the plain products, so cuBLAS is not used.
TEST(BenchProgram, TimesTheNaivePipelineOnCudaAndCallsASimulationOne) {
  Folder folder;
  setenv("FOVEA_BENCH_CUBLAS", "", 1);
  setenv("FOVEA_SIMGPU", "1", 1);
  setenv("FOVEA_CUDA_DRIVER", FOVEA_BENCH_SIMGPU, 1);
  const std::string wanted = "--quick --device cuda --filter /bf16/ --output ";
  Ran ran = bench(wanted + folder.file("report.json"));
  Ran broken = bench("--break-naive " + wanted + folder.file("broken.json"));
  for (const char *name : {"FOVEA_BENCH_CUBLAS", "FOVEA_SIMGPU", "FOVEA_CUDA_DRIVER"}) {
    unsetenv(name);
  }
  ASSERT_EQ(ran.code, 0) << ran.out;
  EXPECT_NE(ran.out.find("simulated          all times are the software GPU's"), std::string::npos);
  const std::string report = text_of(folder.file("report.json"));
  for (const char *row :
       {"cuda/fovea/prefill/", "cuda/naive/prefill/", "cuda/fovea/decode/", "cuda/naive/decode/",
        "cuda/read/decode/", "cuda/fovea/packed/", "cuda/naive/packed/", "cuda/fovea/paged/",
        "cuda/naive/paged/", "cuda/read/paged/", "cuda/fovea/mixed/", "cuda/naive/mixed/"}) {
    EXPECT_NE(report.find(row), std::string::npos) << row;
  }
  EXPECT_EQ(broken.code, 1) << broken.out;
  EXPECT_NE(broken.out.find("cuda/naive/prefill"), std::string::npos) << broken.out;
}

TEST(BenchProgram, ACallOnTheHostAllocatesNothing) {
  Ran ran = bench("--host");
  ASSERT_EQ(ran.code, 0) << ran.out;
  std::istringstream lines(ran.out);
  std::string line, call, in;
  std::getline(lines, line);
  int rows = 0;
  for (double us, spread, allocations; std::getline(lines, line); ++rows) {
    std::istringstream words(line);
    std::string percent;
    ASSERT_TRUE(words >> call >> us >> spread >> percent >> allocations >> in) << line;
    EXPECT_EQ(allocations, 0) << line;
    EXPECT_GT(us, 0) << line;
  }
  EXPECT_EQ(rows, 2) << ran.out;
}

TEST(BenchProgram, CountsWhatIsAllocated) {
  const int64_t before = fv_bench_host_allocations();
  void *volatile memory = malloc(8);
  free(memory);
  EXPECT_EQ(fv_bench_host_allocations(), before + 1);
}

TEST(BenchProgram, SaysWhyThereIsNoDevice) {
  setenv("FOVEA_CUDA_DRIVER", "/nonexistent/libcuda.so", 1);
  Ran ran = bench("--quick --device cuda");
  unsetenv("FOVEA_CUDA_DRIVER");
  EXPECT_EQ(ran.code, 4) << ran.out;
  EXPECT_NE(ran.out.find("there is no CUDA driver"), std::string::npos) << ran.out;
}
#endif

TEST(BenchProgram, SaysWhichReportIsNone) {
  Ran ran = bench("table /nonexistent.json");
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.out.find("/nonexistent.json"), std::string::npos) << ran.out;
}

TEST(BenchProgram, RefusesArgumentsItDoesNotKnow) {
  for (const char *arguments :
       {"--repetitions 8", "--repetitions 100", "--repetitions nine", "--threads 0", "--threads 2x",
        "--unknown", "--device gpu", "dance", "table", "table a b", "page a", "plot a b c",
        "summary", "list a", "--quick --filter no-such-problem"}) {
    EXPECT_EQ(bench(arguments).code, 2) << arguments;
  }
}

TEST(BenchProgram, HelpTeachesItsCommands) {
  Ran ran = bench("--help");
  EXPECT_EQ(ran.code, 0);
  for (const char *word :
       {"--quick", "--full", "--device", "--host", "--output", "--filter", "packed", "paged",
        "mixed", "--threads", "--repetitions", "table FILE", "summary FILE", "plot FILE FOLDER"}) {
    EXPECT_NE(ran.out.find(word), std::string::npos) << word;
  }
  EXPECT_EQ(ran.out.find("--break-naive"), std::string::npos);
}

}  // namespace
}  // namespace fovea_test
