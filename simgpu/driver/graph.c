/* graph.c - the driver's functions for capture and graphs. A graph is the captured work in the
 * order of issue. The dependencies allow that order, so no edges are kept. Launching a graph queues
 * copies of its work. */
#include <stdlib.h>

#include "simgpu/driver/driver.h"

static CUresult begin_capture(struct sim_stream *stream) {
  if (stream == &sim_driver.legacy || stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  stream->capture = calloc(1, sizeof *stream->capture);
  stream->is_origin = true;
  return stream->capture ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

SIM_EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  (void)mode;
  SIM_CALL(true, begin_capture(sim_stream_of(stream)));
}

static void free_graph(struct sim_graph *graph) {
  while (graph->first) {
    struct sim_work *work = graph->first;
    graph->first = work->next;
    sim_work_free(work);
  }
  free(graph);
}

static CUresult end_capture(struct sim_stream *stream, CUgraph *result) {
  struct sim_graph *graph = stream->capture;
  *result = NULL;
  if (!graph || !stream->is_origin) return CUDA_ERROR_INVALID_VALUE;
  for (struct sim_stream *other = sim_driver.streams; other; other = other->next) {
    if (other->capture == graph) other->capture = NULL;
  }
  stream->is_origin = false;
  if (graph->is_invalid) {
    free_graph(graph);
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  *result = graph;
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  SIM_CALL(true, end_capture(sim_stream_of(stream), graph));
}

enum { CAPTURE_NONE = 0, CAPTURE_ACTIVE = 1, CAPTURE_INVALIDATED = 2 };

static int capture_status(const struct sim_stream *stream) {
  if (!stream->capture) return CAPTURE_NONE;
  return stream->capture->is_invalid ? CAPTURE_INVALIDATED : CAPTURE_ACTIVE;
}

SIM_EXPORT CUresult cuStreamIsCapturing(CUstream stream, int *status) {
  SIM_CALL(true, (*status = capture_status(sim_stream_of(stream)), CUDA_SUCCESS));
}

/* The executable graph is a copy, because it outlives the graph. */
static CUresult instantiate(CUgraphExec *result, const struct sim_graph *graph) {
  struct sim_graph *copy = calloc(1, sizeof *copy);
  if (!graph || !copy) {
    free(copy);
    return CUDA_ERROR_INVALID_VALUE;
  }
  struct sim_work **link = &copy->first;
  for (const struct sim_work *work = graph->first; work; work = work->next) {
    *link = copy->last = sim_work_copy(work);
    link = &copy->last->next;
  }
  copy->count = graph->count;
  *result = copy;
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *result, CUgraph graph,
                                                unsigned long long flags) {
  (void)flags;
  SIM_CALL(true, instantiate(result, graph));
}

static CUresult launch_graph(const struct sim_graph *graph, struct sim_stream *stream) {
  CUresult result = graph ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  for (const struct sim_work *work = graph ? graph->first : NULL; work && !result;
       work = work->next) {
    result = sim_queue(stream, sim_work_copy(work));
  }
  return result;
}

SIM_EXPORT CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
  SIM_CALL(true, launch_graph(graph, sim_stream_of(stream)));
}

static CUresult destroy(struct sim_graph *graph) {
  if (!graph) return CUDA_ERROR_INVALID_HANDLE;
  free_graph(graph);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  SIM_CALL(false, destroy(graph));
}
SIM_EXPORT CUresult cuGraphExecDestroy(CUgraphExec graph) {
  SIM_CALL(false, destroy(graph));
}

SIM_EXPORT CUresult cuGraphGetNodes(CUgraph graph, void **nodes, size_t *count) {
  SIM_CALL(false,
           nodes || !graph ? CUDA_ERROR_NOT_SUPPORTED : (*count = graph->count, CUDA_SUCCESS));
}
