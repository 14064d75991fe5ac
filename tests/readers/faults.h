/* faults.h - system calls and allocations that fail on demand.
 *
 * The linker's --wrap sends every call of these functions through faults.cc, from the code under
 * test and from the tests alike. It passes a call on unless a test has armed a failure. The program
 * itself has no hooks. */
#ifndef FOVEA_TESTS_READERS_FAULTS_H
#define FOVEA_TESTS_READERS_FAULTS_H

#include <cstddef>

enum class Call { kOpen, kFstat, kPread, kWrite, kFsync, kClose, kRename, kMemory, kCount };
inline constexpr int kForEver = -1;

struct Faults {
  struct Arm {
    long skip = 0;  // calls that succeed first
    int times = 0;  // calls that then fail; kForEver for all
    int error = 0;  // errno; 0 makes kPread and kWrite return 0, as if at the end
  };
  Arm arms[static_cast<int>(Call::kCount)];
  std::size_t max_transfer = 0;  // bytes per pread or write; 0 for no limit
  bool interrupt = false;        // every other open, pread, write, fsync returns EINTR first

  // Observed since the last reset:
  long calls[static_cast<int>(Call::kCount)];
  long failures;
  long live_blocks;
  std::size_t live_bytes, peak_bytes;
};

/* Disarms everything and sets all counts to zero. live_blocks shows allocations of the code under
 * test since the last reset that were not released. */
void reset_faults();
Faults &faults();
void arm(Call call, long skip, int times, int error);

#endif  // FOVEA_TESTS_READERS_FAULTS_H
