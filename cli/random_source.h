/* random_source.h - random numbers that depend on a seed alone, the same on every machine:
 * SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
#ifndef FOVEA_CLI_RANDOM_SOURCE_H
#define FOVEA_CLI_RANDOM_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fv_random {
  uint64_t state;
} fv_random;

static inline uint64_t fv_random_bits(fv_random *random) {
  uint64_t z = random->state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* Case `index` of a run has its own sequence, whatever the other cases draw. */
static inline fv_random fv_random_for(uint64_t seed, uint64_t index) {
  fv_random seeds = {seed};
  fv_random random = {fv_random_bits(&seeds) ^ (index * 0xd1342543de82ef95u)};
  fv_random_bits(&random);
  return random;
}

/* A whole number in [low, high]. */
static inline int64_t fv_random_between(fv_random *random, int64_t low, int64_t high) {
  return low + (int64_t)(fv_random_bits(random) % (uint64_t)(high - low + 1));
}

static inline bool fv_random_percent(fv_random *random, int percent) {
  return fv_random_between(random, 0, 99) < percent;
}

static inline float fv_random_uniform(fv_random *random, float low, float high) {
  float part = (float)(fv_random_bits(random) >> 40) * 0x1p-24f; /* first: no range overflows */
  return low + (high - low) * part;
}

#endif /* FOVEA_CLI_RANDOM_SOURCE_H */
