/* base.h - what every file of the simulator uses: PTX's short names of types, pools of memory, and
 * loops over the lanes of a mask.
 *
 * A lane mask is a u32: bit l stands for lane l of a warp. */
#ifndef FOVEA_SIMGPU_BASE_H
#define FOVEA_SIMGPU_BASE_H

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

/* Builds a loop over 32 lanes twice, with and without AVX2; the loader chooses one. Not under
 * sanitizers: the choice would run before their runtime is ready. Not with clang: it cannot put
 * such functions into static tables. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SIM_CLONES __attribute__((target_clones("avx2,fma", "default")))
#else
#define SIM_CLONES
#endif

/* Memory that is freed all at once, by the pool's owner. A module owns two: one for its syntax, one
 * for its decoded kernels. Instructions are not in a pool, because their arrays grow. */
struct sim_pool {
  struct sim_pool_block *blocks;
};

void *sim_pool_take(struct sim_pool *pool, size_t bytes); /* zeroed, aligned to 16 */
char *sim_pool_text(struct sim_pool *pool, const char *text, size_t length);
void sim_pool_free(struct sim_pool *pool);

/* Makes room for one more element of a growing array and returns the array, which may have moved.
 * Aborts when host memory is exhausted, which a test tool may do. The caller frees the array. */
void *sim_grow(void *items, u32 count, u32 *capacity, size_t item_bytes);

static inline u32 sim_lowest_lane(u32 mask) {
  return (u32)__builtin_ctz(mask);
}
static inline u32 sim_lane_count(u32 mask) {
  return (u32)__builtin_popcount(mask);
}

/* Runs the next statement once per set bit of the mask, lowest lane first. */
#define SIM_EACH_LANE(lane, mask)                                                             \
  for (u32 sim_rest = (mask), lane = sim_rest ? sim_lowest_lane(sim_rest) : 0; sim_rest != 0; \
       sim_rest &= sim_rest - 1, lane = sim_rest ? sim_lowest_lane(sim_rest) : 0)

#endif /* FOVEA_SIMGPU_BASE_H */
