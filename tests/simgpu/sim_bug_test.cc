// Clean kernels cause no report in any order of execution; planted bugs are named.
#include <gtest/gtest.h>

#include <cstdio>
#include <regex>

#include "tests/simgpu/sim_bug.h"

using namespace simgpu;

static std::string kernels() {
  return read_file(SIMGPU_KERNELS "sim_tile_kernels.ptx");
}

static std::string kinds(const Outcome &outcome) {
  std::string text;
  for (const Report &report : outcome.reports) {
    if (text.find(report.kind) == std::string::npos)
      text += (text.empty() ? "" : ", ") + report.kind;
  }
  return text.empty() ? "-" : text;
}

class SimgpuClean : public testing::TestWithParam<const char *> {};

TEST_P(SimgpuClean, IsSilentAndRightUnderTwentyFiveSeeds) {
  std::string ptx = kernels();
  for (unsigned seed = 0; seed < 25; seed++) {
    Outcome outcome = run_scenario(ptx, GetParam(), "", seed);
    EXPECT_EQ("-", kinds(outcome)) << "seed " << seed;
    EXPECT_TRUE(outcome.numbers_right) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, SimgpuClean,
                         testing::Values("attend", "split_sum", "hand_over", "rotate_lanes",
                                         "add_after"));

class SimgpuBug : public testing::TestWithParam<Bug> {};

TEST_P(SimgpuBug, IsFound) {
  const Bug &bug = GetParam();
  std::string ptx = plant(kernels(), bug);
  Outcome outcome = run_scenario(ptx, bug.kernel, bug.launch, 1);
  // Would a comparison find the bug on a device whose copies are quick?
  auto set_eager = Gpu::instance().function<void (*)(int)>("simgpu_set_eager");
  set_eager(1);
  bool numbers_right = run_scenario(ptx, bug.kernel, bug.launch, 0).numbers_right;
  set_eager(0);
  printf("| %s | %s | %s | %s |\n", bug.name, bug.kernel, kinds(outcome).c_str(),
         numbers_right ? "right" : "wrong");
  if (std::string(bug.kind) == "numbers") {
    EXPECT_FALSE(outcome.numbers_right) << bug.name;
    return;
  }
  bool found = false;
  for (const Report &report : outcome.reports) {
    if (report.kind != bug.kind) continue;
    found = true;
    EXPECT_NE(std::string::npos, report.source.find("sim_tile_kernels.cu:")) << report.source;
  }
  EXPECT_TRUE(found) << bug.name << " shows as: " << kinds(outcome);
}

static std::string name_of(const testing::TestParamInfo<Bug> &info) {
  return std::regex_replace(std::string(info.param.name), std::regex("[^A-Za-z0-9]+"), "_");
}
INSTANTIATE_TEST_SUITE_P(Planted, SimgpuBug, testing::ValuesIn(planted_bugs()), name_of);

TEST(SimgpuBugs, AreManyAndSomeLieBetweenCtas) {
  int all = 0, between_ctas = 0;
  for (const Bug &bug : planted_bugs()) {
    all++;
    std::string kind = bug.kind;
    between_ctas += kind == "global-race" || kind == "early-dependent";
  }
  EXPECT_GE(all, 40);
  EXPECT_GE(between_ctas, 6);
}
