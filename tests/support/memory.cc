// memory.cc - see memory.h.
#include "tests/support/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <new>
#include <utility>

namespace fovea_test {
namespace {

const uint8_t kMargin = 0xc5;

size_t page() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

Block::Block(size_t bytes, size_t unit, size_t alignment) : bytes_(bytes) {
  page_bytes_ = (bytes + page() - 1) / page() * page();
  if (page_bytes_ == 0) page_bytes_ = page();
  void *map =
      mmap(nullptr, page_bytes_ + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  pages_ = static_cast<uint8_t *>(map);
  uint8_t *first = pages_ + page();
  if (mprotect(first, page_bytes_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  std::memset(first, kMargin, page_bytes_);
  const size_t step = alignment != 0 ? alignment : (unit != 0 ? unit : 1);
  data_ = first + (page_bytes_ - bytes) / step * step;
}

Block::~Block() {
  if (pages_ != nullptr) munmap(pages_, page_bytes_ + 2 * page());
}

Block::Block(Block &&other) noexcept {
  *this = std::move(other);
}

Block &Block::operator=(Block &&other) noexcept {
  std::swap(pages_, other.pages_);
  std::swap(page_bytes_, other.page_bytes_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void Block::fill(uint8_t byte) {
  if (bytes_ > 0) std::memset(data_, byte, bytes_);
}

void Block::make_read_only() {
  mprotect(pages_ + page(), page_bytes_, PROT_READ);
}

bool Block::margins_intact() const {
  const uint8_t *end = pages_ + page() + page_bytes_;
  for (const uint8_t *at = pages_ + page(); at < end; ++at) {
    if (at == data_) at += bytes_;
    if (at < end && *at != kMargin) return false;
  }
  return true;
}

// splitmix64's finaliser, chained.
uint64_t mix(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (uint64_t word : {a, b, c, d, e, f}) {
    state += word + 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
    state ^= state >> 31;
  }
  return state;
}

double uniform(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// The sum of four uniform numbers, scaled to variance 1.
double normal(uint64_t bits) {
  double sum = 0.0;
  for (int n = 0; n < 4; ++n) sum += static_cast<double>((bits >> (16 * n)) & 0xffffu);
  return (sum / 65535.0 - 2.0) * std::sqrt(3.0);
}

}  // namespace fovea_test
