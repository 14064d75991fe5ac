/* arena.h - a workspace handed out piece by piece. Without a base it only counts, so that the call
 * and the question how much it needs share one layout. */
#ifndef FOVEA_LAYERS_ARENA_H
#define FOVEA_LAYERS_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct fv_arena {
  char *base; /* aligned to 256; NULL: count only */
  size_t used;
} fv_arena;

/* Elements of `each` bytes, aligned to 256 bytes. While only counting it returns an address that
 * must not be used: never NULL, since absence has a meaning in many arguments, and apart from those
 * of other pieces. Sizes that overflow stay at SIZE_MAX, which no workspace has. */
static inline void *fv_arena_take(fv_arena *arena, int64_t count, size_t each) {
  char *at = (arena->base ? arena->base : (char *)256) + arena->used;
  size_t bytes;
  if (__builtin_mul_overflow((size_t)count, each, &bytes) ||
      __builtin_add_overflow(bytes, (size_t)255, &bytes) ||
      __builtin_add_overflow(arena->used, bytes / 256 * 256, &arena->used)) {
    arena->used = SIZE_MAX;
  }
  return at;
}

#endif /* FOVEA_LAYERS_ARENA_H */
