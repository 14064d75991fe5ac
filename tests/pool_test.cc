// The thread pool calls every index once, for any caller, and in forked processes. Hangs are the
// likely failure here, so every test runs under an alarm, and every child under its own.
//
// The program is linked with -Wl,--wrap=pthread_create, so that a test can refuse threads to the
// pool. std::thread is in its own shared object, so it is not affected.
#include "csrc/host/pool.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

// How many more threads the system grants to the pool.
static std::atomic<int> thread_budget{INT_MAX};

extern "C" {
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*start)(void *),
                          void *argument) {
  if (thread_budget.fetch_sub(1) <= 0) return EAGAIN;
  return __real_pthread_create(id, attributes, start, argument);
}

// ThreadSanitizer refuses threads in a child of a threaded process unless told otherwise.
const char *__tsan_default_options() {
  return "die_after_fork=0";
}
}

namespace {

class Pool {
 public:
  explicit Pool(int threads) { error_ = fv_pool_create(&pool_, threads); }
  ~Pool() { fv_pool_destroy(pool_); }
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  int error() const { return error_; }
  fv_pool *get() const { return pool_; }
  int threads() const { return fv_pool_threads(pool_); }

  void run(int64_t count, const std::function<void(int64_t)> &body) const {
    fv_pool_run(
        pool_, count,
        [](void *context, int64_t index) {
          (*static_cast<const std::function<void(int64_t)> *>(context))(index);
        },
        const_cast<std::function<void(int64_t)> *>(&body));
  }

 private:
  fv_pool *pool_ = nullptr;
  int error_;
};

// True if one run calls every index once, and no other index.
bool covers(const Pool &pool, int64_t count) {
  std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
  std::atomic<bool> strayed{false};
  pool.run(count, [&](int64_t index) {
    if (index < 0 || index >= count) {
      strayed = true;
    } else {
      calls[static_cast<size_t>(index)]++;
    }
  });
  for (auto &n : calls) {
    if (n != 1) return false;
  }
  return !strayed;
}

// Runs `count` tasks that return only when all have begun, so each is on a thread of its own.
void meet(const Pool &pool, int count) {
  std::atomic<int> present{0};
  pool.run(count, [&](int64_t) {
    present++;
    while (present < count) std::this_thread::yield();
  });
}

// Runs body in a child and says whether it returned true, in time and without a signal.
::testing::AssertionResult succeeds_in_child(const std::function<bool()> &body) {
  pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(body() ? 0 : 1);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    return ::testing::AssertionFailure() << "no child: " << strerror(errno);
  }
  if (WIFSIGNALED(status)) {
    return ::testing::AssertionFailure() << "the child died: " << strsignal(WTERMSIG(status));
  }
  if (WEXITSTATUS(status) != 0) {
    return ::testing::AssertionFailure() << "the child exited with " << WEXITSTATUS(status);
  }
  return ::testing::AssertionSuccess();
}

// Another thread's job that keeps all threads of a pool until this object is destroyed.
class Occupation {
 public:
  explicit Occupation(const Pool &pool) {
    int count = pool.threads();
    thread_ = std::thread([this, &pool, count] {
      pool.run(count, [this](int64_t) {
        present_++;
        while (!over_) std::this_thread::yield();
      });
    });
    while (present_ < count) std::this_thread::yield();
  }
  ~Occupation() {
    over_ = true;
    thread_.join();
  }

 private:
  std::atomic<int> present_{0};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

class ThreadPool : public ::testing::Test {
 protected:
  void SetUp() override {
    alarm(120);
    thread_budget = INT_MAX;
  }
  void TearDown() override {
    alarm(0);
    thread_budget = INT_MAX;
  }
};

TEST_F(ThreadPool, CallsEachIndexOnceForEveryCountAndThreadNumber) {
  for (int threads = 1; threads <= 8; threads++) {
    Pool pool(threads);
    ASSERT_EQ(pool.error(), 0);
    ASSERT_EQ(pool.threads(), threads);
    for (int64_t count = 0; count <= 1000; count++) {
      ASSERT_TRUE(covers(pool, count)) << threads << " threads, count " << count;
    }
  }
}

TEST_F(ThreadPool, CallsNothingForNegativeCounts) {
  Pool pool(3);
  for (int64_t count : {INT64_C(-1), INT64_MIN}) {
    pool.run(count, [&](int64_t index) { FAIL() << index; });
  }
  EXPECT_TRUE(covers(pool, 7));
}

TEST_F(ThreadPool, ShowsTheCallerWhatTasksWrote) {
  Pool pool(4);
  std::vector<int64_t> written(257);  // plain memory: ThreadSanitizer judges too
  for (int64_t round = 0; round < 500; round++) {
    pool.run(257, [&](int64_t index) { written[static_cast<size_t>(index)] = round + index; });
    for (int64_t i = 0; i < 257; i++) ASSERT_EQ(written[static_cast<size_t>(i)], round + i);
  }
}

TEST_F(ThreadPool, RunsAsManyTasksAtOnceAsItHasThreads) {
  for (int threads = 2; threads <= 8; threads++) {
    Pool pool(threads);
    for (int count = 2; count <= threads; count++) meet(pool, count);
    EXPECT_TRUE(covers(pool, 100));
  }
}

TEST_F(ThreadPool, ServesManyCallersAtOnce) {
  Pool pool(3);
  std::atomic<int> failures{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; caller++) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 1000; round++) {
        if (!covers(pool, (caller * 37 + round) % 50)) failures++;
      }
    });
  }
  for (auto &caller : callers) caller.join();
  EXPECT_EQ(failures, 0);
}

TEST_F(ThreadPool, RunsInOrderOnTheCallersThreadWhileItIsBusy) {
  Pool pool(3);
  Occupation occupation(pool);
  std::vector<int64_t> order;
  pool.run(20, [&](int64_t index) { order.push_back(index); });
  std::vector<int64_t> expected(20);
  for (size_t i = 0; i < expected.size(); i++) expected[i] = static_cast<int64_t>(i);
  EXPECT_EQ(order, expected);
}

TEST_F(ThreadPool, RunsNestedLoopsOnTheTasksThread) {
  Pool pool(4);
  std::atomic<int> calls{0}, strangers{0};
  pool.run(50, [&](int64_t) {
    pthread_t outer = pthread_self();
    pool.run(20, [&](int64_t) {
      if (!pthread_equal(pthread_self(), outer)) strangers++;
      pool.run(3, [&](int64_t) { calls++; });
    });
  });
  EXPECT_EQ(calls, 50 * 20 * 3);
  EXPECT_EQ(strangers, 0);
}

TEST_F(ThreadPool, CallsATaskOfAnotherPoolFromATask) {
  Pool outer(3), inner(3);
  std::atomic<int> calls{0};
  for (int round = 0; round < 100; round++) {
    outer.run(6, [&](int64_t) {
      inner.run(6, [&](int64_t) { outer.run(2, [&](int64_t) { calls++; }); });
    });
  }
  EXPECT_EQ(calls, 100 * 6 * 6 * 2);
}

TEST_F(ThreadPool, WakesAfterPausesOfAnyLength) {
  Pool pool(2);
  std::mt19937 random(3);
  for (int round = 0; round < 1000; round++) {
    usleep(random() % 120);  // below and above the time after which workers stop spinning
    meet(pool, 2);
  }
  EXPECT_TRUE(covers(pool, 10));
}

TEST_F(ThreadPool, NamesWorkersAndLetsThemTakeNoSignalsButFaults) {
  Pool pool(3);
  pthread_t caller = pthread_self();
  std::mutex mutex;
  std::set<std::string> names;
  std::set<int> open;
  std::atomic<int> present{0};
  pool.run(3, [&](int64_t) {
    present++;
    while (present < 3) std::this_thread::yield();
    if (pthread_equal(pthread_self(), caller)) return;
    std::lock_guard<std::mutex> guard(mutex);
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    names.insert(name);
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    for (int s = 1; s <= SIGRTMAX; s++) {
      // glibc keeps 32 and 33 to itself; SIGKILL and SIGSTOP can't be blocked.
      if (s == 32 || s == 33 || s == SIGKILL || s == SIGSTOP) continue;
      if (!sigismember(&blocked, s)) open.insert(s);
    }
  });
  EXPECT_EQ(names, std::set<std::string>{"fovea"});
  EXPECT_EQ(open, (std::set<int>{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}));
}

TEST_F(ThreadPool, LeavesTheCreatorsSignalMaskAlone) {
  sigset_t mine, after;
  sigemptyset(&mine);
  sigaddset(&mine, SIGUSR2);
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &mine, &before);
  Pool pool(4);
  pthread_sigmask(SIG_SETMASK, &before, &after);
  for (int s = 1; s < 32; s++) EXPECT_EQ(sigismember(&after, s), sigismember(&mine, s)) << s;
}

int threads_of_process() {
  DIR *directory = opendir("/proc/self/task");
  int count = 0;
  while (dirent *entry = readdir(directory)) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

// The kernel still lists a joined thread for a moment. The alarm ends a wait without end.
void await_threads_of_process(int count) {
  while (threads_of_process() != count) std::this_thread::yield();
}

TEST_F(ThreadPool, LeavesNoThreadBehindWhenDestroyed) {
  // ThreadSanitizer starts its own thread with a program's first one. That must not be counted.
  std::thread([] {}).join();
  int before = threads_of_process();
  for (int round = 0; round < 50; round++) {
    {
      Pool pool(5);
      EXPECT_EQ(threads_of_process(), before + 4);
      if (round % 2) meet(pool, 5);
    }
    await_threads_of_process(before);
  }
  fv_pool_destroy(nullptr);
  EXPECT_EQ(threads_of_process(), before);
}

TEST_F(ThreadPool, RefusesANegativeThreadCount) {
  fv_pool *pool = reinterpret_cast<fv_pool *>(&thread_budget);
  EXPECT_EQ(fv_pool_create(&pool, -1), EINVAL);
  EXPECT_EQ(pool, nullptr);
}

TEST_F(ThreadPool, StartsOneThreadPerProcessorOfTheAffinityByDefault) {
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  {
    Pool pool(0);
    int allowed = std::min(CPU_COUNT(&all), fv_pool_quota("/sys/fs/cgroup/cpu.max"));
    EXPECT_EQ(pool.threads(), allowed);
  }
  int first = 0;
  while (!CPU_ISSET(first, &all)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  {
    Pool pool(0);
    EXPECT_EQ(pool.threads(), 1);
    Pool crowded(4);  // more threads than processors
    meet(crowded, 4);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

TEST_F(ThreadPool, ReadsTheCgroupQuotaAndRoundsItUp) {
  struct Row {
    const char *text;
    int processors;
  };
  const Row rows[] = {
      {"max 100000\n", INT_MAX},
      {"100000 100000\n", 1},
      {"100001 100000\n", 2},
      {"150000 100000\n", 2},
      {"400000 100000\n", 4},
      {"1000 100000\n", 1},
      {"50000", INT_MAX},
      {"", INT_MAX},
      {"0 100000\n", INT_MAX},
      {"-1 100000\n", INT_MAX},
      {"100000 0\n", INT_MAX},
      {"9223372036854775807 1\n", INT_MAX},
      {"99999999999999999999 1\n", INT_MAX},
  };
  char path[] = "/tmp/fovea-quota-XXXXXX";
  int file = mkstemp(path);
  ASSERT_GE(file, 0);
  for (const Row &row : rows) {
    ASSERT_EQ(ftruncate(file, 0), 0);
    ssize_t length = static_cast<ssize_t>(strlen(row.text));
    ASSERT_EQ(pwrite(file, row.text, strlen(row.text), 0), length);
    EXPECT_EQ(fv_pool_quota(path), row.processors) << row.text;
  }
  close(file);
  unlink(path);
  EXPECT_EQ(fv_pool_quota(path), INT_MAX);
  EXPECT_EQ(fv_pool_quota("/tmp"), INT_MAX);
}

TEST_F(ThreadPool, DoesWithoutThreadsThatTheSystemRefuses) {
  for (int granted = 0; granted <= 4; granted++) {
    thread_budget = granted;
    Pool pool(5);
    ASSERT_EQ(pool.error(), 0);
    EXPECT_EQ(pool.threads(), 5);
    EXPECT_TRUE(covers(pool, 200));
    meet(pool, granted + 1);
    std::mutex mutex;
    std::set<std::thread::id> seen;
    pool.run(200, [&](int64_t) {
      std::lock_guard<std::mutex> guard(mutex);
      seen.insert(std::this_thread::get_id());
    });
    EXPECT_LE(seen.size(), static_cast<size_t>(granted) + 1);
  }
}

TEST_F(ThreadPool, AsksForAtMost4096Threads) {
  thread_budget = 0;
  Pool pool(INT_MAX);
  ASSERT_EQ(pool.error(), 0);
  EXPECT_EQ(pool.threads(), 4096);
  EXPECT_TRUE(covers(pool, 100));
}

// --- fork

#if defined(__has_feature)
#define SANITIZED_BY(gcc, clang) (gcc || __has_feature(clang))
#else
#define SANITIZED_BY(gcc, clang) (gcc)
#endif
#if defined(__SANITIZE_THREAD__)
#define GCC_THREAD_SANITIZER 1
#else
#define GCC_THREAD_SANITIZER 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#define GCC_ADDRESS_SANITIZER 1
#else
#define GCC_ADDRESS_SANITIZER 0
#endif

class ForkedThreadPool : public ThreadPool {
 protected:
  void SetUp() override {
    ThreadPool::SetUp();
    // ThreadSanitizer's registry keeps the parent's threads, and fails on new ones at the same
    // addresses.
    if (SANITIZED_BY(GCC_THREAD_SANITIZER, thread_sanitizer)) {
      GTEST_SKIP() << "ThreadSanitizer does not support threads in a forked child";
    }
    // The child inherits AddressSanitizer's locks, held by threads that the child does not have.
    // Tests hung now and then, even without other threads at work. The C library takes care of its
    // own locks.
    if (SANITIZED_BY(GCC_ADDRESS_SANITIZER, address_sanitizer)) {
      GTEST_SKIP() << "AddressSanitizer does not support threads in a forked child";
    }
  }
};

// In these tests other threads start, end or allocate at the moment of the fork.
class ThreadPoolForkedInTheMidst : public ForkedThreadPool {};

TEST_F(ForkedThreadPool, WorksInTheChildOfAnIdleProcess) {
  Pool pool(4);
  meet(pool, 4);
  EXPECT_TRUE(succeeds_in_child([&] {
    meet(pool, 4);
    return covers(pool, 1000);
  }));
  meet(pool, 4);
  EXPECT_TRUE(covers(pool, 1000));
}

TEST_F(ThreadPoolForkedInTheMidst, WorksInTheChildWhenItWasNeverUsedBefore) {
  Pool pool(3);
  EXPECT_TRUE(succeeds_in_child([&] {
    meet(pool, 3);
    return covers(pool, 10);
  }));
  meet(pool, 3);
}

TEST_F(ForkedThreadPool, WorksInTheChildWhileAnotherThreadOfTheParentIsInsideARun) {
  Pool pool(4);
  for (int round = 0; round < 10; round++) {
    Occupation occupation(pool);
    EXPECT_TRUE(succeeds_in_child([&] {
      meet(pool, 4);
      return covers(pool, 100);
    }));
  }
  meet(pool, 4);
}

TEST_F(ForkedThreadPool, WorksInGrandchildren) {
  Pool pool(3);
  meet(pool, 3);
  EXPECT_TRUE(succeeds_in_child([&] {
    meet(pool, 3);
    Occupation occupation(pool);
    return succeeds_in_child([&] {
      meet(pool, 3);
      return succeeds_in_child([&] { return covers(pool, 100); }) && covers(pool, 100);
    });
  }));
}

TEST_F(ThreadPoolForkedInTheMidst, SurvivesForksInALoopWhileOthersUseIt) {
  Pool pool(3);
  std::atomic<bool> over{false};
  std::atomic<int> failures{0};
  std::vector<std::thread> users;
  for (int i = 0; i < 2; i++) {
    users.emplace_back([&] {
      while (!over) {
        if (!covers(pool, 40)) failures++;
      }
    });
  }
  for (int round = 0; round < 200; round++) {
    EXPECT_TRUE(succeeds_in_child([&] { return covers(pool, 40) && covers(pool, 40); })) << round;
  }
  over = true;
  for (auto &user : users) user.join();
  EXPECT_EQ(failures, 0);
}

TEST_F(ThreadPoolForkedInTheMidst, SurvivesForksWhileOtherThreadsCreateAndDestroyPools) {
  Pool pool(3);
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over) {
      Pool brief(3);
      meet(brief, 3);
    }
  });
  for (int round = 0; round < 200; round++) {
    EXPECT_TRUE(succeeds_in_child([&] {
      meet(pool, 3);
      Pool own(2);
      meet(own, 2);
      return true;
    })) << round;
  }
  over = true;
  other.join();
}

TEST_F(ForkedThreadPool, ServesManyFirstCallersInAChild) {
  Pool pool(3);
  meet(pool, 3);
  for (int round = 0; round < 20; round++) {
    EXPECT_TRUE(succeeds_in_child([&] {
      std::atomic<int> failures{0}, present{0};
      std::vector<std::thread> callers;
      for (int i = 0; i < 6; i++) {
        callers.emplace_back([&] {
          present++;
          while (present < 6) std::this_thread::yield();
          for (int n = 0; n < 20; n++) failures += !covers(pool, 30);
        });
      }
      for (auto &caller : callers) caller.join();
      meet(pool, 3);
      return failures == 0;
    }));
  }
}

TEST_F(ForkedThreadPool, DoesWithoutThreadsThatTheSystemRefusesInAChild) {
  Pool pool(4);
  meet(pool, 4);
  EXPECT_TRUE(succeeds_in_child([&] {
    thread_budget = 1;
    if (!covers(pool, 100)) return false;
    meet(pool, 2);
    return covers(pool, 100);
  }));
}

TEST_F(ThreadPoolForkedInTheMidst, CanBeDestroyedInAChild) {
  for (bool used : {false, true}) {
    for (bool busy : {false, true}) {
      fv_pool *pool = nullptr;
      ASSERT_EQ(fv_pool_create(&pool, 3), 0);
      std::atomic<bool> over{!busy};
      std::atomic<int> present{busy ? 0 : 1};
      std::thread user([&] {
        auto body = [&](int64_t) {
          present++;
          while (!over) std::this_thread::yield();
        };
        if (busy) {
          fv_pool_run(
              pool, 3, [](void *f, int64_t i) { (*static_cast<decltype(body) *>(f))(i); }, &body);
        }
      });
      while (present == 0) std::this_thread::yield();
      EXPECT_TRUE(succeeds_in_child([&] {
        if (used)
          fv_pool_run(
              pool, 9, [](void *, int64_t) {}, nullptr);
        fv_pool_destroy(pool);
        return true;
      }));
      over = true;
      user.join();
      fv_pool_destroy(pool);
    }
  }
}

TEST_F(ForkedThreadPool, LetsAChildCreatePoolsOfItsOwn) {
  Pool pool(3);
  meet(pool, 3);
  EXPECT_TRUE(succeeds_in_child([&] {
    Pool own(3);
    meet(own, 3);
    meet(pool, 3);
    return covers(own, 50) && covers(pool, 50);
  }));
}

}  // namespace
