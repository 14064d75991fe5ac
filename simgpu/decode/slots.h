/* slots.h - assigns slots of the register file to a function's registers. */
#ifndef FOVEA_SIMGPU_DECODE_SLOTS_H
#define FOVEA_SIMGPU_DECODE_SLOTS_H

#include "simgpu/decode/decode.h"

/* Sets slots[register] for every register that a statement names. */
void sim_place_registers(struct sim_decode *decode, const struct sim_function *function,
                         u32 *slots);

#endif /* FOVEA_SIMGPU_DECODE_SLOTS_H */
