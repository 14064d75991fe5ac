/* base.h - the short integer names that PTX itself uses, and memory that lives as long as its
 * owner. */
#ifndef SIM_BASE_H
#define SIM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int8_t s8;
typedef uint8_t u8;
typedef int16_t s16;
typedef uint16_t u16;
typedef int32_t s32;
typedef uint32_t u32;
typedef int64_t s64;
typedef uint64_t u64;
typedef float f32;
typedef double f64;

enum { SIM_LANES = 32, SIM_MAX_WARPS = 32 };

/* The inner loops run over 32 lanes; where the compiler can choose a version at load time they are
 * built twice. Sanitizers run before the choosing can, clang cannot mix it with static tables. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SIM_CLONES __attribute__((target_clones("avx2,fma", "default")))
#else
#define SIM_CLONES
#endif

/* Blocks that are freed together: a module's syntax, code and constants. */
struct sim_pool {
  struct sim_pool_block *blocks;
};

void *sim_pool_take(struct sim_pool *pool, size_t bytes); /* zeroed, aligned to 16 */
char *sim_pool_text(struct sim_pool *pool, const char *text, size_t length);
void sim_pool_free(struct sim_pool *pool);

/* A growing array: returns room for one more element, or ends the program when memory is out, which
 * a test tool may do. */
void *sim_grow(void *items, u32 count, u32 *capacity, size_t item_bytes);

static inline u32 sim_lowest_lane(u32 mask) {
  return (u32)__builtin_ctz(mask);
}
static inline u32 sim_lane_count(u32 mask) {
  return (u32)__builtin_popcount(mask);
}

#define SIM_EACH_LANE(lane, mask)                                                             \
  for (u32 sim_rest = (mask), lane = sim_rest ? sim_lowest_lane(sim_rest) : 0; sim_rest != 0; \
       sim_rest &= sim_rest - 1, lane = sim_rest ? sim_lowest_lane(sim_rest) : 0)

#endif
