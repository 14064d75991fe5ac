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

/* Rows of `width` elements of `each` bytes, aligned to 256 bytes. While only counting it returns an
 * address that must not be used: never NULL, since absence has a meaning in many arguments, and
 * apart from those of other pieces. Sizes that overflow stay at SIZE_MAX, which is never there. */
static inline void *fv_arena_take(fv_arena *arena, int64_t rows, int64_t width, size_t each) {
  uintptr_t at = (arena->base ? (uintptr_t)arena->base : 256) + arena->used; /* may wrap */
  size_t bytes;
  if (__builtin_mul_overflow((size_t)rows, (size_t)width, &bytes) ||
      __builtin_mul_overflow(bytes, each, &bytes) ||
      __builtin_add_overflow(bytes, (size_t)255, &bytes) ||
      __builtin_add_overflow(arena->used, bytes / 256 * 256, &arena->used)) {
    arena->used = SIZE_MAX;
  }
  return (void *)at;
}

#endif /* FOVEA_LAYERS_ARENA_H */
