/* room.h - a cache of memory blocks for CTAs. Launches ask for the same sizes again and again, and
 * new pages may cost more than a CTA's work. All threads share it; a block has one owner at a
 * time. */
#ifndef FOVEA_SIMGPU_MEMORY_ROOM_H
#define FOVEA_SIMGPU_MEMORY_ROOM_H

#include <stddef.h>

enum { SIM_ROOM_ALIGN = 64 };

/* A block of at least `*bytes`, a multiple of SIM_ROOM_ALIGN. Sets `*bytes` to its size. Its
 * contents are undefined. NULL: no host memory. */
void *sim_room_take(size_t *bytes);

/* Takes a block back. */
void sim_room_give(void *room, size_t bytes);

#endif /* FOVEA_SIMGPU_MEMORY_ROOM_H */
