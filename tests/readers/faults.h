/* faults.h - system calls and allocations that fail on demand.
 *
 * The linker's --wrap sends every call of these functions through faults.cc, from the code under
 * test and from the tests alike. It passes a call on unless a test has armed a failure. The product
 * itself carries no hooks. */
#ifndef FOVEA_TESTS_READERS_FAULTS_H
#define FOVEA_TESTS_READERS_FAULTS_H

#include <cstddef>

enum class Call { kOpen, kFstat, kPread, kWrite, kFsync, kClose, kRename, kMemory, kCount };
inline constexpr int kForEver = -1;

struct Faults {
  struct Arm {
    long skip = 0;  // calls that succeed first
    int times = 0;  // calls that then fail; kForEver for all
    int error = 0;  // errno; for kPread and kWrite 0 means: return 0 as if at the end
  };
  Arm arms[static_cast<int>(Call::kCount)];
  std::size_t max_transfer = 0;  // bytes per pread or write; 0 for no limit
  bool interrupt = false;        // every other open, pread, write, fsync returns EINTR first

  // What was observed since the last reset:
  long calls[static_cast<int>(Call::kCount)];
  long failures;
  long live_blocks;
  std::size_t live_bytes, peak_bytes;
};

/* Arms nothing and counts from zero. Between two resets all allocations of the code under test must
 * also have been released, or live_blocks tells. */
void reset_faults();
Faults &faults();
void arm(Call call, long skip, int times, int error);

#endif  // FOVEA_TESTS_READERS_FAULTS_H
