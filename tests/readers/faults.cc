#include "tests/readers/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace {
Faults state;
bool interrupt_next = true;

// Counts the call; true if it is to fail, with errno set.
bool fails(Call call) {
  int row = static_cast<int>(call);
  ++state.calls[row];
  Faults::Arm &arm = state.arms[row];
  if (arm.times == 0) return false;
  if (arm.skip > 0) {
    --arm.skip;
    return false;
  }
  if (arm.times > 0) --arm.times;
  ++state.failures;
  if (arm.error != 0) errno = arm.error;
  return true;
}

// The return value of a transfer that fails. If no error is armed it is 0, and errno stays.
ssize_t failure(Call call) {
  return state.arms[static_cast<int>(call)].error == 0 ? 0 : -1;
}

// Every other call is interrupted: EINTR first, then the call itself.
bool interrupted() {
  if (!state.interrupt) return false;
  bool now = interrupt_next;
  interrupt_next = !interrupt_next;
  if (now) errno = EINTR;
  return now;
}

std::size_t limited(std::size_t size) {
  return state.max_transfer > 0 ? std::min(size, state.max_transfer) : size;
}

void *count_block(void *block) {
  if (block == nullptr) return block;
  ++state.live_blocks;
  state.live_bytes += malloc_usable_size(block);
  state.peak_bytes = std::max(state.peak_bytes, state.live_bytes);
  return block;
}
}  // namespace

Faults &faults() {
  return state;
}

void reset_faults() {
  state = Faults{};
  interrupt_next = true;
}

void arm(Call call, long skip, int times, int error) {
  state.arms[static_cast<int>(call)] = {skip, times, error};
}

extern "C" {
int __real_open(const char *path, int flags, mode_t mode);
int __real_fstat(int fd, struct stat *facts);
ssize_t __real_pread(int fd, void *out, size_t size, off_t offset);
ssize_t __real_write(int fd, const void *bytes, size_t size);
int __real_fsync(int fd);
int __real_close(int fd);
int __real_rename(const char *from, const char *to);
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *block);

int __wrap_open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (interrupted() || fails(Call::kOpen)) return -1;
  return __real_open(path, flags, mode);
}

int __wrap_fstat(int fd, struct stat *facts) {
  return fails(Call::kFstat) ? -1 : __real_fstat(fd, facts);
}

ssize_t __wrap_pread(int fd, void *out, size_t size, off_t offset) {
  if (interrupted()) return -1;
  if (fails(Call::kPread)) return failure(Call::kPread);
  return __real_pread(fd, out, limited(size), offset);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size) {
  if (interrupted()) return -1;
  if (fails(Call::kWrite)) return failure(Call::kWrite);
  return __real_write(fd, bytes, limited(size));
}

int __wrap_fsync(int fd) {
  return interrupted() || fails(Call::kFsync) ? -1 : __real_fsync(fd);
}

// As on Linux, a close that fails has closed the file all the same.
int __wrap_close(int fd) {
  int result = __real_close(fd);
  return fails(Call::kClose) ? -1 : result;
}

int __wrap_rename(const char *from, const char *to) {
  return fails(Call::kRename) ? -1 : __real_rename(from, to);
}

void *__wrap_malloc(size_t size) {
  return fails(Call::kMemory) ? nullptr : count_block(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
  return fails(Call::kMemory) ? nullptr : count_block(__real_calloc(count, size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
  return fails(Call::kMemory) ? nullptr : count_block(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *block) {
  if (block != nullptr) {
    --state.live_blocks;
    state.live_bytes -= malloc_usable_size(block);
  }
  __real_free(block);
}
}
