/* event.h - what happens in a CTA by itself, some time after a thread has asked for it. */
#ifndef FOVEA_SIMGPU_SCHED_EVENT_H
#define FOVEA_SIMGPU_SCHED_EVENT_H

#include "simgpu/sched/machine.h"

/* The arrival of lanes at an mbarrier once their copies have landed (cp.async.mbarrier.arrive). */
struct sim_event {
  struct sim_warp *warp;
  const struct sim_inst *inst;
  u32 lanes, address;           /* of the mbarrier */
  u64 serial;                   /* of the first copy that is not waited for */
  struct sim_gathered arrivals; /* what the warp knew when it asked */
};

/* Takes what the event owns. In an eager launch it happens at once. */
void sim_event_add(struct sim_cta *cta, const struct sim_event *event);
/* Lets one happen, whichever chance says. False: there is none. */
bool sim_event_happen(struct sim_cta *cta);
/* Lets all happen that the warp has asked for: it ends. */
void sim_event_flush(struct sim_warp *warp);
void sim_event_free(struct sim_cta *cta);

#endif /* FOVEA_SIMGPU_SCHED_EVENT_H */
