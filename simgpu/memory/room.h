/* room.h - aligned memory for CTAs, kept for the next one: launch after launch asks for the same
 * sizes, and new pages cost more than many a CTA's work. */
#ifndef SIM_ROOM_H
#define SIM_ROOM_H

#include <stddef.h>

enum { SIM_ROOM_ALIGN = 64 };

/* At least `*bytes`, a multiple of SIM_ROOM_ALIGN, with any contents; `*bytes` says how many. NULL:
 * no memory. */
void *sim_room_take(size_t *bytes);

void sim_room_give(void *room, size_t bytes);

#endif
