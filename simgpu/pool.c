/* pool.c - pools and growing arrays: see base.h. A pool is a list of blocks, the newest first. A
 * request is cut from the newest block; where it does not fit, a new block is allocated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/base.h"

struct sim_pool_block {
  struct sim_pool_block *next;
  size_t used, size;
  _Alignas(16) u8 bytes[];
};

static void *allocate(size_t bytes) {
  void *memory = calloc(1, bytes);
  if (!memory) {
    fputs("simgpu: out of host memory\n", stderr);
    abort();
  }
  return memory;
}

void *sim_pool_take(struct sim_pool *pool, size_t bytes) {
  enum { BLOCK_BYTES = 1 << 16 }; /* a module's syntax is a few hundred KB */
  bytes = (bytes + 15) & ~(size_t)15;
  struct sim_pool_block *block = pool->blocks;
  if (!block || block->size - block->used < bytes) {
    size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    block = allocate(sizeof *block + size);
    block->size = size;
    block->next = pool->blocks;
    pool->blocks = block;
  }
  void *result = block->bytes + block->used;
  block->used += bytes;
  return result;
}

char *sim_pool_text(struct sim_pool *pool, const char *text, size_t length) {
  char *copy = sim_pool_take(pool, length + 1);
  memcpy(copy, text, length);
  return copy;
}

void sim_pool_free(struct sim_pool *pool) {
  while (pool->blocks) {
    struct sim_pool_block *next = pool->blocks->next;
    free(pool->blocks);
    pool->blocks = next;
  }
}

void *sim_grow(void *items, u32 count, u32 *capacity, size_t item_bytes) {
  if (count < *capacity) return items;
  *capacity = *capacity ? *capacity * 2 : 16;
  items = realloc(items, *capacity * item_bytes);
  if (!items) {
    fputs("simgpu: out of host memory\n", stderr);
    abort();
  }
  return items;
}
