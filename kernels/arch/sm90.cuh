// sm90.cuh - the instructions of sm_90 that the kernels use. Before sm_90 the functions do nothing.
// PTX ISA 9.0, section 9.7.13 (griddepcontrol).
#ifndef FOVEA_KERNELS_ARCH_SM90_CUH
#define FOVEA_KERNELS_ARCH_SM90_CUH

// griddepcontrol.wait; sm_90; per thread: the launches before this one have ended, and all that
// they wrote is visible to the thread. If this launch was allowed to start early, it must touch
// nothing of theirs before this.
__device__ __forceinline__ void fv_wait_for_launches_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// griddepcontrol.launch_dependents; sm_90; per CTA: the next launch may start. It waits for this
// launch's end before it touches what this one writes.
__device__ __forceinline__ void fv_allow_next_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif  // FOVEA_KERNELS_ARCH_SM90_CUH
