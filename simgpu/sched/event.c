/* event.c - asynchronous events: see sched/event.h. PTX ISA, "Asynchronous Operations".
 *
 * Nothing says when they happen, or in what order. Here chance does, and at the latest they happen
 * when no warp of the CTA can go on without. */
#include "simgpu/sched/event.h"

#include <stdlib.h>

#include "simgpu/check/race.h"
#include "simgpu/memory/copy.h"
#include "simgpu/sched/mbarrier.h"

static void happen(struct sim_event *event) {
  struct sim_warp *warp = event->warp;
  sim_copy_land_before(warp, event->lanes, event->serial);
  sim_mbarrier_complete(warp, event->inst, event->address, event->lanes, &event->arrivals);
  sim_gathered_free(&event->arrivals);
}

static void happen_at(struct sim_cta *cta, u32 index) {
  struct sim_event event = cta->events[index];
  cta->events[index] = cta->events[--cta->event_count];
  happen(&event);
}

void sim_event_add(struct sim_cta *cta, const struct sim_event *event) {
  cta->events = sim_grow(cta->events, cta->event_count, &cta->event_capacity, sizeof *cta->events);
  cta->events[cta->event_count++] = *event;
  if (cta->launch->is_eager) happen_at(cta, cta->event_count - 1);
}

bool sim_event_happen(struct sim_cta *cta) {
  if (!cta->event_count) return false;
  happen_at(cta, (u32)(sim_random(&cta->random) % cta->event_count));
  return true;
}

void sim_event_flush(struct sim_warp *warp) {
  for (u32 i = 0; i < warp->cta->event_count; i++) {
    if (warp->cta->events[i].warp == warp) happen_at(warp->cta, i--);
  }
}

void sim_event_free(struct sim_cta *cta) {
  for (u32 i = 0; i < cta->event_count; i++) sim_gathered_free(&cta->events[i].arrivals);
  free(cta->events);
}
