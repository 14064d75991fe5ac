// interrupt_test.cc - an interrupted program says so, ends with 130 and leaves nothing behind.
#include <signal.h>
#include <time.h>

#include <cstdlib>
#include <cstring>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// The masks of a process in /proc, by name: "SigCgt", "SigIgn".
bool has_signal(pid_t process, const char *mask, int number) {
  std::string status = read_file("/proc/" + std::to_string(process) + "/status");
  size_t line = status.find(mask);
  if (line == std::string::npos) return false;
  return strtoull(&status[line + strlen(mask) + 1], nullptr, 16) >> (number - 1) & 1;
}

// The program ignores SIGPIPE after it has set up SIGINT. From then on it can be interrupted.
bool is_ready(pid_t process) {
  for (int i = 0; i < 6000; ++i) { /* a minute, in case the machine is busy */
    if (has_signal(process, "SigIgn", SIGPIPE)) return true;
    const struct timespec pause = {0, 10000000};
    nanosleep(&pause, nullptr);
  }
  ADD_FAILURE() << "the program never set up its signals";
  return false;
}

// Long enough to be interrupted: it keeps the reference busy for at least a minute.
std::string long_input(const Directory &directory) {
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_BF16, {1, 1, 20000, 64}, [](int64_t) { return 0.0; });
  }
  return file.write(directory);
}

TEST(Interrupt, EndsARunWith130AndLeavesNoOutput) {
  Directory directory, logs;
  std::string input = long_input(directory), output = directory.file("o.safetensors");
  pid_t process = start({FOVEA_PROGRAM, "run", input, "--device", "reference", "--output", output},
                        logs.file("log"));
  ASSERT_TRUE(is_ready(process));
  kill(process, SIGINT);
  EXPECT_EQ(wait_for(process).code, 130);
  EXPECT_EQ(read_file(logs.file("log")), "fovea: interrupted\n");
  EXPECT_EQ(directory.names(), std::vector<std::string>{"in.safetensors"});
}

TEST(Interrupt, EndsAMapWith130AndLeavesNoPicture) {
  Directory directory, logs;
  std::string input = long_input(directory);
  pid_t process = start(
      {FOVEA_PROGRAM, "map", input, "--device", "reference", "--output", directory.file("o.png")},
      logs.file("log"));
  ASSERT_TRUE(is_ready(process));
  kill(process, SIGINT);
  EXPECT_EQ(wait_for(process).code, 130);
  EXPECT_EQ(directory.names(), std::vector<std::string>{"in.safetensors"});
}

TEST(Interrupt, EndsAValidationWith130) {
  Directory logs;
  pid_t process = start({FOVEA_PROGRAM, "validate", "--cases", "1000000"}, logs.file("log"));
  ASSERT_TRUE(is_ready(process));
  kill(process, SIGINT);
  EXPECT_EQ(wait_for(process).code, 130);
  std::string said = read_file(logs.file("log"));
  EXPECT_NE(said.find("interrupted"), std::string::npos) << said;
  EXPECT_EQ(said.find("verdict"), std::string::npos) << said;
}

TEST(Interrupt, BySigtermSaysSoAndEndsByThatSignal) {
  Directory directory, logs;
  pid_t process = start({FOVEA_PROGRAM, "run", long_input(directory), "--device", "reference"},
                        logs.file("log"));
  ASSERT_TRUE(is_ready(process));
  kill(process, SIGTERM);
  EXPECT_EQ(wait_for(process).signal, SIGTERM);
  EXPECT_EQ(read_file(logs.file("log")), "fovea: interrupted\n");
}

// Shells start background commands with signals ignored, and so does nohup. The program keeps that.
TEST(Interrupt, StaysIgnoredWhereItWasIgnored) {
  Directory directory, logs;
  std::string command = std::string("trap '' INT; exec '") + FOVEA_PROGRAM + "' run '" +
                        long_input(directory) + "' --device reference";
  pid_t process = start({"/bin/sh", "-c", command}, logs.file("log"));
  bool ready = is_ready(process);
  EXPECT_TRUE(has_signal(process, "SigIgn", SIGINT));
  EXPECT_FALSE(has_signal(process, "SigCgt", SIGINT));
  kill(process, SIGKILL);
  EXPECT_EQ(wait_for(process).signal, SIGKILL);
  EXPECT_TRUE(ready);
}

}  // namespace
}  // namespace fovea_test
