/* memory.c - the arena's allocator: see memory/memory.h.
 *
 * Allocations are an array in the order of their offsets. A search for room goes on where the last
 * one ended (next fit). So freed memory stays unused for as long as possible, and an access to it
 * is recognised. Freed pages go back to the system. */
#include "simgpu/memory/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { RED_ZONE = 1024, ALIGNMENT = 512 };

/* Allocations of this size and more do not set their states: that would take some ms for 64 MiB. */
enum { LARGE = 1 << 20 };

struct sim_memory sim_memory;

struct allocation {
  u64 offset, bytes;
};
static struct allocation *allocations; /* by offset */
static u32 allocation_count, allocation_capacity;
/* Ring of the latest large allocations that were freed, because their states do not say so. */
static struct allocation freed[4096];
static u32 freed_count;
static u64 cursor; /* where the search for room goes on */
/* States of freed memory take host memory. They are dropped, a window at a time, once the cursor is
 * two windows ahead; freed memory there counts as never allocated. `forgotten`: dropped up to
 * here. */
static const u64 window = (u64)1 << 30;
static u64 forgotten;

static void *reserve(u64 bytes) {
  void *memory =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

bool sim_memory_open(void) {
  enum { STAMP_BYTES_PER_BYTE = sizeof(u64) / SIM_GRANULE };
  if (sim_memory.bytes) return true;
  sim_memory.state = reserve(SIM_GLOBAL_BYTES);
  sim_memory.write_stamps = reserve(SIM_GLOBAL_BYTES * STAMP_BYTES_PER_BYTE);
  for (int i = 0; i < 2; i++) {
    sim_memory.read_stamps[i] = reserve(SIM_GLOBAL_BYTES * STAMP_BYTES_PER_BYTE);
  }
  u8 *bytes = reserve(SIM_GLOBAL_BYTES);
  if (!sim_memory.state || !sim_memory.write_stamps || !sim_memory.read_stamps[0] ||
      !sim_memory.read_stamps[1] || !bytes) {
    return false;
  }
  sim_memory.bytes = bytes;
  return true;
}

/* Index of the first allocation at or behind an offset. */
static u32 find_index(u64 offset) {
  u32 low = 0, high = allocation_count;
  while (low < high) {
    u32 middle = (low + high) / 2;
    if (allocations[middle].offset < offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static u64 find_room(u64 from, u64 bytes) {
  u64 at = from;
  for (u32 i = find_index(from); i <= allocation_count; i++) {
    if (i > 0) {
      u64 end = allocations[i - 1].offset + allocations[i - 1].bytes + RED_ZONE;
      if (end > at) at = end;
    }
    at = (at + RED_ZONE + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    u64 limit = i < allocation_count ? allocations[i].offset : SIM_GLOBAL_BYTES;
    if (at + bytes + RED_ZONE <= limit) return at;
  }
  return 0;
}

/* Gives whole pages back to the system. Parts of pages at both ends keep their contents. */
static void release_pages(u8 *start, u64 bytes) {
  enum { PAGE = 4096 };
  uintptr_t first = ((uintptr_t)start + PAGE - 1) / PAGE * PAGE;
  uintptr_t end = ((uintptr_t)start + bytes) / PAGE * PAGE;
  if (end > first) madvise((void *)first, end - first, MADV_DONTNEED);
}

static void release_all(u64 offset, u64 bytes) {
  u64 first = offset / SIM_GRANULE, stamps = bytes / SIM_GRANULE * sizeof(u64);
  release_pages(sim_memory.bytes + offset, bytes);
  release_pages((u8 *)(sim_memory.write_stamps + first), stamps);
  release_pages((u8 *)(sim_memory.read_stamps[0] + first), stamps);
  release_pages((u8 *)(sim_memory.read_stamps[1] + first), stamps);
}

static void forget_gap(u64 begin, u64 end) {
  if (begin >= end) return;
  release_pages(sim_memory.state + begin, end - begin);
  release_all(begin, end - begin);
}

/* Drops everything in [begin, end) that is not allocated. */
static void forget(u64 begin, u64 end) {
  u32 i = find_index(begin);
  if (i > 0) {
    u64 reached = allocations[i - 1].offset + allocations[i - 1].bytes;
    if (reached > begin) begin = reached;
  }
  for (; i < allocation_count && allocations[i].offset < end; i++) {
    forget_gap(begin, allocations[i].offset);
    begin = allocations[i].offset + allocations[i].bytes;
  }
  forget_gap(begin, end);
}

static void forget_what_is_old(void) {
  if (cursor < forgotten) forgotten = 0;
  for (; cursor - forgotten > 2 * window; forgotten += window) {
    forget(forgotten, forgotten + window);
  }
}

u64 sim_memory_allocate(u64 bytes) {
  if (bytes == 0 || bytes > SIM_GLOBAL_BYTES) return 0;
  u64 offset = find_room(cursor, bytes);
  if (!offset) offset = find_room(0, bytes);
  if (!offset) return 0;
  allocations = sim_grow(allocations, allocation_count, &allocation_capacity, sizeof *allocations);
  u32 index = find_index(offset);
  memmove(allocations + index + 1, allocations + index,
          sizeof *allocations * (allocation_count - index));
  allocations[index] = (struct allocation){offset, bytes};
  allocation_count++;
  if (bytes < LARGE) memset(sim_memory.state + offset, SIM_BYTE_UNINITIALISED, bytes);
  cursor = offset + bytes;
  forget_what_is_old();
  sim_memory.used += bytes;
  return SIM_GLOBAL_BASE + offset;
}

bool sim_memory_find(u64 address, u64 *base, u64 *bytes) {
  if (!sim_in_arena(address, 1)) return false;
  u64 offset = address - SIM_GLOBAL_BASE;
  u32 index = find_index(offset + 1);
  if (index == 0) return false;
  const struct allocation *allocation = &allocations[index - 1];
  if (offset >= allocation->offset + allocation->bytes) return false;
  *base = SIM_GLOBAL_BASE + allocation->offset;
  *bytes = allocation->bytes;
  return true;
}

bool sim_memory_holds(u64 address, u64 bytes) {
  u64 base, size;
  return sim_memory_find(address, &base, &size) && bytes <= size - (address - base);
}

static bool lies_in_freed(u64 offset) {
  u32 max = sizeof freed / sizeof *freed, count = freed_count < max ? freed_count : max;
  for (u32 i = 0; i < count; i++) {
    if (offset - freed[i].offset < freed[i].bytes) return true;
  }
  return false;
}

enum sim_byte_state sim_memory_state(u64 offset, u32 bytes) {
  if (sim_memory_holds(SIM_GLOBAL_BASE + offset, bytes)) return SIM_BYTE_UNINITIALISED;
  bool is_freed = memchr(sim_memory.state + offset, SIM_BYTE_FREED, bytes) != NULL;
  return is_freed || lies_in_freed(offset) ? SIM_BYTE_FREED : SIM_BYTE_UNALLOCATED;
}

static void forget_states(u64 offset, u64 bytes) {
  if (bytes < LARGE) {
    memset(sim_memory.state + offset, SIM_BYTE_FREED, bytes);
    return;
  }
  enum { PAGE = 4096 };
  memset(sim_memory.state + offset, SIM_BYTE_FREED, PAGE);
  memset(sim_memory.state + offset + bytes - PAGE, SIM_BYTE_FREED, PAGE);
  release_pages(sim_memory.state + offset, bytes);
  freed[freed_count++ % (sizeof freed / sizeof *freed)] = (struct allocation){offset, bytes};
}

bool sim_memory_free(u64 address) {
  u64 offset = address - SIM_GLOBAL_BASE;
  u32 index = find_index(offset);
  if (index == allocation_count || allocations[index].offset != offset) return false;
  u64 bytes = allocations[index].bytes;
  forget_states(offset, bytes);
  release_all(offset, bytes);
  memmove(allocations + index, allocations + index + 1,
          sizeof *allocations * (allocation_count - index - 1));
  allocation_count--;
  sim_memory.used -= bytes;
  return true;
}

void sim_memory_free_all(void) {
  while (allocation_count) {
    sim_memory_free(SIM_GLOBAL_BASE + allocations[allocation_count - 1].offset);
  }
}

void sim_memory_forget_stamps(void) {
  u64 bytes = SIM_GLOBAL_BYTES / SIM_GRANULE * sizeof(u64);
  madvise(sim_memory.write_stamps, bytes, MADV_DONTNEED);
  madvise(sim_memory.read_stamps[0], bytes, MADV_DONTNEED);
  madvise(sim_memory.read_stamps[1], bytes, MADV_DONTNEED);
}
