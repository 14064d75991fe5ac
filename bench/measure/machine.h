/* machine.h - the machine that a report is about, and how much memory something took. */
#ifndef FOVEA_BENCH_MEASURE_MACHINE_H
#define FOVEA_BENCH_MEASURE_MACHINE_H

#include "bench/pipelines/pipeline.h"
#include "bench/report/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* threads: 0 means as many as the process may use. False: the reason is on stderr. */
bool fv_bench_machine_open(fv_bench_machine *machine, int threads);
void fv_bench_machine_close(fv_bench_machine *machine);

/* machine, threads, isa, caches, memory, compiler, commit, BLAS, ... as lines of the context. */
void fv_bench_machine_describe(const fv_bench_machine *machine, fv_bench_json *json);

/* Is the device of its handle the software GPU? */
bool fv_bench_machine_is_simulated(const fv_bench_machine *machine);

/* The resident set of this process now, and its peak since the last call of reset_peak. In bytes; 0
 * where the system does not report it. */
double fv_bench_resident_bytes(void);
double fv_bench_resident_peak_bytes(void);
bool fv_bench_resident_reset_peak(void);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_MACHINE_H */
