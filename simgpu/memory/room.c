/* room.c - a fixed number of kept blocks behind a lock: see memory/room.h. */
#include "simgpu/memory/room.h"

#include <pthread.h>
#include <stdlib.h>

struct room {
  void *memory;
  size_t bytes;
};

/* Enough for the threads of one launch. When all places are taken, blocks are freed in turn. */
enum { KEPT_MAX = 16, BYTES_MAX = 16 << 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct room kept[KEPT_MAX];
static unsigned next_given_up;

/* The first block that is large enough and not more than about twice as large. */
static struct room kept_room(size_t bytes) {
  struct room found = {0};
  pthread_mutex_lock(&lock);
  for (unsigned i = 0; i < KEPT_MAX && !found.memory; i++) {
    if (!kept[i].memory || kept[i].bytes < bytes || kept[i].bytes / 2 > bytes) continue;
    found = kept[i];
    kept[i] = (struct room){0};
  }
  pthread_mutex_unlock(&lock);
  return found;
}

void *sim_room_take(size_t *bytes) {
  struct room found = kept_room(*bytes);
  if (!found.memory) return aligned_alloc(SIM_ROOM_ALIGN, *bytes);
  *bytes = found.bytes;
  return found.memory;
}

void sim_room_give(void *room, size_t bytes) {
  if (bytes > BYTES_MAX) {
    free(room);
    return;
  }
  pthread_mutex_lock(&lock);
  unsigned place = next_given_up;
  for (unsigned i = 0; i < KEPT_MAX; i++) {
    if (!kept[i].memory) place = i;
  }
  void *leaves = kept[place].memory;
  kept[place] = (struct room){room, bytes};
  if (leaves) next_given_up = (place + 1) % KEPT_MAX;
  pthread_mutex_unlock(&lock);
  free(leaves);
}
