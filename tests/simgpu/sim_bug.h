// A planted bug: a kernel's PTX with one change, or a launch with one mistake.
#ifndef FOVEA_TESTS_SIMGPU_SIM_BUG_H
#define FOVEA_TESTS_SIMGPU_SIM_BUG_H

#include <string>
#include <vector>

#include "tests/simgpu/gpu.h"

namespace simgpu {

struct Bug {
  const char *name;
  const char *kernel;   // whose text is changed
  const char *pattern;  // regular expression in the kernel's PTX; "" for bugs of the launch
  int occurrence;       // which match is replaced, from 0; -1: all
  const char *replacement;
  const char *kind;         // the report that names it; "numbers": only the result shows it
  const char *launch = "";  // what is wrong with the launch
};

const std::vector<Bug> &planted_bugs();

// The module's text with the bug planted. Fails the test if the pattern is not there.
std::string plant(const std::string &ptx, const Bug &bug);

struct Outcome {
  std::vector<Report> reports;
  bool numbers_right = false;
};

// Runs the scenario of a kernel: launches with checked results.
Outcome run_scenario(const std::string &ptx, const std::string &kernel, const std::string &launch,
                     unsigned seed);

}  // namespace simgpu

#endif  // FOVEA_TESTS_SIMGPU_SIM_BUG_H
