// schedule_list_test.cc - the schedules that `fovea explain --schedule` prints, held to a committed
// list. No driver takes part; attention_graph_test compares such schedules with the device's.
//
// After an intended change: FOVEA_UPDATE_GOLDEN=1 build/tests/cuda/schedule_list_test, then read
// the diff of tests/golden/schedules.txt.
#include "cli/command/schedule_text.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "csrc/check/check.h"
#include "csrc/cuda/plan.h"

namespace {

const fv_cuda_facts kDevice = {90, 132, 232448, 233472};

// Rows that decode beside a chunk of 40 rows, over pages of 16 keys, on few multiprocessors.
struct Step {
  int32_t offsets[6] = {0, 1, 41, 42, 44, 44}, lengths[5] = {700, 200, 64, 129, 90};
  fovea_attention_args args = {};

  explicit Step(uint32_t level) {
    static char somewhere[16];
    static int32_t ids[5];
    args.struct_size = sizeof args;
    args.q = args.out = fovea_contiguous(somewhere, FOVEA_BF16, 1, 44, 8, 128);
    args.k = args.v = fovea_contiguous(somewhere, FOVEA_BF16, 100, 16, 2, 128);
    args.sequences.count = 5;
    args.sequences.q_offsets = offsets;
    args.sequences.kv_lengths = lengths;
    args.sequences.pages = {ids, nullptr, nullptr, 64, 64, 0, nullptr, {}};
    args.visibility.causal = 1;
    args.sm_count = 4;
    args.reproducible = level;
  }
};

std::string schedule_text(const fovea_attention_args &args) {
  fv_problem problem;
  fv_plan plan;
  fv_schedule_list list;
  if (fv_check_attention_shape(&args, &problem) != FOVEA_OK) return fovea_error_detail();
  if (fv_plan_cuda(&kDevice, &problem, &plan) != FOVEA_OK) return fovea_error_detail();
  if (!fv_schedule_list_make(&plan, &problem, &list)) return "out of memory";
  char *text = nullptr;
  size_t size = 0;
  FILE *memory = open_memstream(&text, &size);
  fv_schedule_print(memory, &plan, &problem, &list);
  fclose(memory);
  fv_schedule_list_free(&list);
  std::string result(text, size);
  free(text);
  return result;
}

TEST(ScheduleList, EqualsTheCommittedSchedules) {
  const struct {
    const char *name;
    uint32_t level;
  } levels[] = {{"equal shares", FOVEA_REPRODUCIBLE_RUN},
                {"chunks", FOVEA_REPRODUCIBLE_BATCH},
                {"whole tiles", FOVEA_REPRODUCIBLE_PHASE}};
  std::ostringstream text;
  for (const auto &level : levels) {
    text << "== " << level.name << "\n" << schedule_text(Step(level.level).args) << "\n";
  }
  const std::string path = FOVEA_SOURCE_DIR "/tests/golden/schedules.txt";
  if (getenv("FOVEA_UPDATE_GOLDEN")) std::ofstream(path) << text.str();
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(text.str(), golden.str());
}

}  // namespace
