// memory.h - memory that notices: guard pages on both sides, canaries where elements are not.
//
// A block ends (or begins) at a page that may not be touched, so a read or write outside it is a
// fault even without a sanitizer. Because blocks end at a page boundary, most are aligned only to
// their element, which is all that the header requires.
#ifndef FOVEA_TESTS_SUPPORT_MEMORY_H
#define FOVEA_TESTS_SUPPORT_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fovea_test {

class Block {
 public:
  Block() = default;
  // `alignment` 0: as close to the guard page behind it as the element size `unit` allows.
  Block(size_t bytes, size_t unit, size_t alignment = 0);
  ~Block();
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;
  Block(Block &&other) noexcept;
  Block &operator=(Block &&other) noexcept;

  uint8_t *data() { return data_; }
  const uint8_t *data() const { return data_; }
  size_t size() const { return bytes_; }
  void fill(uint8_t byte);
  void make_read_only();        // a write to an input is then a fault
  bool margins_intact() const;  // the bytes of its pages outside [data, data + size)

 private:
  uint8_t *pages_ = nullptr;  // with both guard pages
  size_t page_bytes_ = 0;     // without them
  uint8_t *data_ = nullptr;
  size_t bytes_ = 0;
};

// Counter-based random numbers: the same words give the same number, in any order of calls.
uint64_t mix(uint64_t a, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0,
             uint64_t f = 0);
double uniform(uint64_t bits);  // [0, 1)
double normal(uint64_t bits);   // mean 0, variance 1, within +-3.5

// A small sequential generator for choices.
class Choices {
 public:
  explicit Choices(uint64_t seed) : seed_(seed) {}
  uint64_t next() { return mix(seed_, ++count_); }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  bool one_in(int64_t n) { return below(n) == 0; }

 private:
  uint64_t seed_;
  uint64_t count_ = 0;
};

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_MEMORY_H
