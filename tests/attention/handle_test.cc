// handle_test.cc - handles: opening, threads, fork, several callers at once.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

fovea_status create(uint32_t device, fovea_handle **handle, int32_t threads = 1) {
  fovea_options options{};
  options.struct_size = sizeof options;
  options.device = device;
  options.threads = threads;
  return fovea_create(&options, handle);
}

Attention large(const Device &device, uint64_t seed = 3) {
  return Attention()
      .on(device)
      .batch(2)
      .len_q(40)
      .len_kv(200)
      .heads(4, 2)
      .dim(32)
      .seed(seed)
      .causal();
}

class Handle : public testing::TestWithParam<Device> {};

TEST(HandleOpening, TakesTheCpuWhereThereIsNoGpu) {
  fovea_handle *handle = nullptr;
  ASSERT_EQ(fovea_create(nullptr, &handle), FOVEA_OK) << fovea_error_detail();
  fovea_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(fovea_get_info(handle, &info), FOVEA_OK);
  EXPECT_NE(info.device, static_cast<uint32_t>(FOVEA_DEVICE_AUTO));
  EXPECT_GE(info.threads, 1);
  EXPECT_STRNE(info.isa, "");
  EXPECT_STRNE(info.name, "");
  EXPECT_STRNE(info.cuda, "");
  fovea_destroy(handle);
}

TEST(HandleOpening, NamesTheProcessor) {
  std::string expected = "CPU", line;
  for (std::ifstream file("/proc/cpuinfo"); std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    expected = line.substr(line.find(": ") + 2);
    break;
  }
  fovea_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(fovea_get_info(handle_of(cpu_devices().front()), &info), FOVEA_OK);
  EXPECT_EQ(info.name, expected.substr(0, sizeof info.name - 1));
}

TEST(HandleOpening, SaysWhichInstructionSetIsForced) {
  for (const Device &device : cpu_devices()) {
    fovea_handle *handle = open(device);
    fovea_info info{};
    info.struct_size = sizeof info;
    ASSERT_EQ(fovea_get_info(handle, &info), FOVEA_OK);
    EXPECT_EQ(std::string(info.isa), device.isa);
    EXPECT_EQ(info.device, static_cast<uint32_t>(FOVEA_DEVICE_CPU));
    fovea_destroy(handle);
  }
}

TEST(HandleOpening, RefusesAnUnknownInstructionSet) {
  for (const char *isa : {"sse9", "", "AVX2", "avx2 ", "avx51"}) {
    setenv("FOVEA_CPU_ISA", isa, 1);
    fovea_handle *handle = reinterpret_cast<fovea_handle *>(8);
    const fovea_status status = create(FOVEA_DEVICE_CPU, &handle);
    unsetenv("FOVEA_CPU_ISA");
    if (isa[0] == '\0' && status == FOVEA_OK) {  // empty may count as unset
      fovea_destroy(handle);
      continue;
    }
    EXPECT_EQ(status, FOVEA_BAD_ARGUMENT) << isa;
    EXPECT_EQ(handle, nullptr);
    EXPECT_NE(std::string(fovea_error_detail()).find("FOVEA_CPU_ISA"), std::string::npos);
  }
}

TEST(HandleOpening, RefusesOptionsOutOfRangeAndClearsTheHandle) {
  for (uint32_t device : {4u, 0xffffffffu}) {
    fovea_handle *handle = reinterpret_cast<fovea_handle *>(8);
    EXPECT_EQ(create(device, &handle), FOVEA_BAD_ARGUMENT);
    EXPECT_EQ(handle, nullptr);
  }
  fovea_handle *handle = reinterpret_cast<fovea_handle *>(8);
  EXPECT_EQ(create(FOVEA_DEVICE_CPU, &handle, -1), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(handle, nullptr);
  EXPECT_EQ(fovea_create(nullptr, nullptr), FOVEA_BAD_ARGUMENT);
  fovea_options options{};  // struct_size 0
  EXPECT_EQ(fovea_create(&options, &handle), FOVEA_BAD_ARGUMENT);
}

TEST(HandleOpening, OpensAndClosesManyTimes) {
  for (int n = 0; n < 200; ++n) {
    fovea_handle *handle = nullptr;
    ASSERT_EQ(create(FOVEA_DEVICE_CPU, &handle, 3), FOVEA_OK);
    fovea_destroy(handle);
  }
  fovea_destroy(nullptr);
}

TEST(KernelNames, AreDistinctAndEndWithNull) {
  std::set<std::string> names;
  int32_t count = 0;
  while (fovea_kernel_name(count) != nullptr) names.insert(fovea_kernel_name(count++));
  EXPECT_GE(count, 2);
  EXPECT_EQ(names.size(), static_cast<size_t>(count));
  EXPECT_EQ(fovea_kernel_name(-1), nullptr);
  EXPECT_EQ(fovea_kernel_name(count + 1), nullptr);
  EXPECT_EQ(fovea_kernel_name(0x7fffffff), nullptr);
}

TEST_P(Handle, IsUsedByManyThreadsAtOnce) {
  const int kThreads = 6;
  fovea_handle *handle = open(GetParam());
  std::vector<std::unique_ptr<Case>> cases;
  std::vector<Outcome> alone;
  for (int n = 0; n < kThreads; ++n) {
    cases.push_back(std::make_unique<Case>(large(GetParam(), static_cast<uint64_t>(n + 1)).s));
    alone.push_back(cases.back()->run(handle));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) {
    threads.emplace_back([&, n] {
      for (int turn = 0; turn < 10; ++turn) {
        const size_t at = static_cast<size_t>(n);
        if (!difference(alone[at], cases[at]->run(handle)).empty()) ++wrong;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  fovea_destroy(handle);
}

TEST_P(Handle, KeepsTheErrorDetailOfEachThreadApart) {
  fovea_attention_args args{};
  args.struct_size = sizeof args;
  fovea_handle *handle = handle_of(GetParam());
  ASSERT_EQ(fovea_attention(handle, &args, nullptr), FOVEA_BAD_ARGUMENT);
  const std::string mine = fovea_error_detail();
  EXPECT_NE(mine, "");
  std::thread([&] {
    EXPECT_STREQ(fovea_error_detail(), "");
    EXPECT_NE(fovea_attention(handle, nullptr, nullptr), FOVEA_OK);
    EXPECT_STRNE(fovea_error_detail(), "");
  }).join();
  EXPECT_EQ(mine, fovea_error_detail());
}

TEST_P(Handle, CopiesTheDetailIntoTheCallersBufferAndCutsIt) {
  char detail[8];
  std::memset(detail, 'x', sizeof detail);
  fovea_attention_args args{};
  args.struct_size = sizeof args;
  args.detail = detail;
  args.detail_bytes = 5;
  ASSERT_EQ(fovea_attention(handle_of(GetParam()), &args, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(std::string(detail), std::string(fovea_error_detail()).substr(0, 4));
  EXPECT_EQ(detail[5], 'x');
}

#if !defined(__has_feature)
#define __has_feature(x) 0
#endif
// ThreadSanitizer cannot follow a process that forks with threads and starts more in the child.
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
const bool kCanFork = false;
#else
const bool kCanFork = true;
#endif
// AddressSanitizer's allocator keeps its locks across fork(). A lock that another thread held then
// stays locked in the child, whose next allocation waits for ever.
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
const bool kCanForkWhileOthersAllocate = false;
#else
const bool kCanForkWhileOthersAllocate = kCanFork;
#endif

// Runs `body` in a child process; a hang ends it by SIGALRM.
int in_child(const std::function<bool()> &body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(body() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

TEST_P(Handle, GoesOnInAChildOfForkAndInTheParent) {
  if (!kCanFork) GTEST_SKIP() << "ThreadSanitizer does not support it";
  Device device = GetParam();
  device.threads = 4;
  fovea_handle *handle = open(device);
  Case problem(large(device).s);
  const Outcome before = problem.run(handle);
  for (int n = 0; n < 3; ++n) {
    EXPECT_EQ(in_child([&] {
                const bool same = difference(before, problem.run(handle)).empty() &&
                                  difference(before, problem.run(handle)).empty();
                const bool grandchild =
                    in_child([&] { return difference(before, problem.run(handle)).empty(); }) == 0;
                fovea_destroy(handle);
                return same && grandchild;
              }),
              0);
    EXPECT_EQ(difference(before, problem.run(handle)), "");
  }
  fovea_destroy(handle);
}

TEST_P(Handle, GoesOnInAChildForkedBeforeTheFirstCall) {
  if (!kCanFork) GTEST_SKIP() << "ThreadSanitizer does not support it";
  fovea_handle *handle = open(GetParam());
  Case problem(large(GetParam()).s);
  const Outcome expected = problem.run(GetParam());
  EXPECT_EQ(in_child([&] { return difference(expected, problem.run(handle)).empty(); }), 0);
  EXPECT_EQ(difference(expected, problem.run(handle)), "");
  fovea_destroy(handle);
}

// The fork happens while other threads are inside calls on the same handle.
TEST_P(Handle, GoesOnInAChildForkedDuringOtherCalls) {
  if (!kCanForkWhileOthersAllocate) GTEST_SKIP() << "the sanitizer does not support it";
  fovea_handle *handle = open(GetParam());
  Case problem(large(GetParam()).s);
  const Outcome expected = problem.run(handle);
  Case busy(large(GetParam(), 9).s);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) busy.run(handle);
  });
  for (int n = 0; n < 20; ++n) {
    EXPECT_EQ(in_child([&] { return difference(expected, problem.run(handle)).empty(); }), 0);
  }
  stop = true;
  other.join();
  EXPECT_EQ(difference(expected, problem.run(handle)), "");
  fovea_destroy(handle);
}

TEST_P(Handle, ReportsItsThreads) {
  for (int32_t threads : {1, 2, 7}) {
    Device device = GetParam();
    device.threads = threads;
    fovea_handle *handle = open(device);
    fovea_info info{};
    info.struct_size = sizeof info;
    ASSERT_EQ(fovea_get_info(handle, &info), FOVEA_OK);
    EXPECT_GE(info.threads, 1);
    EXPECT_LE(info.threads, threads);
    if (device.kind == FOVEA_DEVICE_CPU) {
      EXPECT_EQ(info.threads, threads);
    }
    fovea_destroy(handle);
  }
}

TEST_P(Handle, FillsTheInfoOfCallersOlderAndNewerThanIt) {
  struct {
    fovea_info info;
    char later[64];
  } room;
  std::memset(&room, 0x5a, sizeof room);
  room.info.struct_size = sizeof room.info;
  ASSERT_EQ(fovea_get_info(handle_of(GetParam()), &room.info), FOVEA_OK);
  EXPECT_EQ(room.later[0], 0x5a);
  EXPECT_EQ(room.info.struct_size, sizeof room.info);
  room.info.struct_size = sizeof room;
  EXPECT_EQ(fovea_get_info(handle_of(GetParam()), &room.info), FOVEA_OK);
  room.info.struct_size = 0;
  EXPECT_EQ(fovea_get_info(handle_of(GetParam()), &room.info), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_get_info(nullptr, &room.info), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_get_info(handle_of(GetParam()), nullptr), FOVEA_BAD_ARGUMENT);
}

INSTANTIATE_TEST_SUITE_P(Devices, Handle, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
