"""Times PyTorch's attention beside fovea, in one process, and adds the rows to a report.

usage: bench_peers.py REPORT.json LIBRARY LIST [REPETITIONS]

REPORT is a report of fovea-bench, LIBRARY is libfovea_bench_peers.so (fovea, and fovea-bench's code for
flushing caches), and LIST is the output of `fovea-bench list`. Pipelines:

  torch         scaled_dot_product_attention, with enable_gqa where there are fewer kv heads
  torch-folded  decoding only: the query heads of a group as rows of one head, which torch can't do itself
  fovea@torch   fovea in this process, with which the other two are compared

Layers are torch.nn.MultiheadAttention in inference mode without weights as a result, which takes PyTorch's fast
path, against fovea_multihead. Problems with unequal sequences (packed, paged and mixed) or additive scores are left
out, and a line says so.

The pipelines take turns on the same memory, with as many threads as the report's. PyTorch works on views
with heads before rows. Results are compared with fovea's before anything is timed.
"""
import ctypes
import json
import math
import os
import pathlib
import re
import signal
import sys
import time

import torch

NAME = re.compile(r"(?P<device>\w+)/\w+/(?P<kind>\w+)/batch:(?P<batch>\d+)"
                  r"/heads:(?P<heads_q>\d+):(?P<heads_kv>\d+)/len:(?P<len_q>\d+):(?P<len_kv>\d+)"
                  r"(?:/page:\d+)?/dim:(?P<dim>\d+)/(?P<dtype>\w+)/(?P<mask>\w+)/(?P<cache>\w+)$")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SECONDS_MIN = 0.01  # shortest sample in a warm cache, as in fovea-bench
LONGEST_TO_PRECEDE = 0.02
SETTLE = 0.005  # libgomp's threads spin for some milliseconds after a loop
SETTLE_BLAS = 0.05  # OpenBLAS's threads yield for 2^26 cycles before they sleep


class Problem:
  """One line of the list: the fields of its name, its FLOPs, its bytes, and the differences that are allowed: the
  largest, and the typical one by the size of results."""

  def __init__(self, line):
    self.name, *numbers = line.split("\t")
    self.flops, self.bytes, self.allowed, self.typical = map(float, numbers)
    fields = NAME.match(self.name).groupdict()
    for key in ("batch", "heads_q", "heads_kv", "len_q", "len_kv", "dim"):
      setattr(self, key, int(fields[key]))
    self.dtype, self.causal = fields["dtype"], fields["mask"] == "causal"
    self.kind, self.cold = fields["kind"], fields["cache"] == "cold"
    self.decode = self.kind == "decode"
    self.settle = SETTLE_BLAS if self.kind == "layer" else SETTLE

  def row_name(self, pipeline):
    device, _, rest = self.name.split("/", 2)
    return f"{device}/{pipeline}/{rest}"


def problems_of(listed):
  """The problems that PyTorch's attention can compute, and a line about the others, or None."""
  problems = [Problem(line) for line in listed.splitlines()]
  taken = [problem for problem in problems if problem.kind in ("prefill", "decode", "layer")]
  left = len(problems) - len(taken)
  return taken, (f"PyTorch takes no part in {left} problems that are packed, paged, mixed or additive: "
                 f"its attention knows neither offsets nor page tables, and dot products only" if left else None)


ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)


class Fovea:
  """The library's calls on one problem, through three C functions that take addresses."""

  def __init__(self, library, threads):
    self.library = ctypes.CDLL(library)
    self.library.fv_bench_peer_open.restype = ctypes.c_void_p
    self.library.fv_bench_peer_open.argtypes = ([ctypes.c_int, ctypes.c_char_p] +
                                                4 * [ctypes.c_void_p] + [ALLOCATE])
    self.library.fv_bench_peer_run.argtypes = [ctypes.c_void_p]
    self.library.fv_bench_peer_run.restype = ctypes.c_int
    self.library.fv_bench_peer_close.argtypes = [ctypes.c_void_p]
    self.library.fv_bench_flush.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    self.library.fv_bench_flush.restype = None
    self.threads = threads

  def open(self, problem, q, k, v, out, allocate=ALLOCATE()):
    state = self.library.fv_bench_peer_open(self.threads, problem.name.encode(), q.data_ptr(),
                                            k.data_ptr(), v.data_ptr(), out.data_ptr(), allocate)
    if not state:
      sys.exit(f"scripts/bench: fovea cannot run {problem.name}")
    return state

  def run(self, state):
    if not self.library.fv_bench_peer_run(state):
      sys.exit("scripts/bench: fovea_attention failed")

  def flush(self, tensor):
    self.library.fv_bench_flush(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def random_tensor(*shape, dtype):
  return (torch.rand(*shape, dtype=torch.float32) * 2 - 1).to(dtype)


class Absent:
  """In place of a tensor that a call does not have."""

  @staticmethod
  def data_ptr():
    return None


def layer_contestants(p, fovea):
  """As below, of a layer. Projections have the variance that fovea-bench gives them."""
  model, dtype = p.heads_q * p.dim, DTYPES[p.dtype]
  x = random_tensor(p.batch, p.len_q, model, dtype=dtype)
  projections = (random_tensor(4 * model * (model + 1), dtype=torch.float32) * math.sqrt(3 / model)).to(dtype)
  out = torch.full_like(x, math.nan)
  state = fovea.open(p, x, projections, Absent, out)
  layer = torch.nn.MultiheadAttention(model, p.heads_q, batch_first=True, dtype=dtype).eval()
  weights, biases = projections[:4 * model * model].view(4 * model, model), projections[4 * model * model:]
  with torch.no_grad():
    for parameter, values in ((layer.in_proj_weight, weights[:3 * model]), (layer.in_proj_bias, biases[:3 * model]),
                              (layer.out_proj.weight, weights[3 * model:]), (layer.out_proj.bias, biases[3 * model:])):
      parameter.copy_(values)
  return [("fovea@torch", lambda: fovea.run(state), lambda _: out.clone()),
          ("torch", lambda: layer(x, x, x, need_weights=False)[0], lambda result: result)], (x, projections), state


def contestants(problem, fovea):
  """[(pipeline, call, result of the call)], the tensors to flush and to keep, and the state to close at the
  end."""
  p, dtype = problem, DTYPES[problem.dtype]
  if p.kind == "layer":
    return layer_contestants(p, fovea)
  q = random_tensor(p.batch, p.len_q, p.heads_q, p.dim, dtype=dtype)
  k, v = (random_tensor(p.batch, p.len_kv, p.heads_kv, p.dim, dtype=dtype) for _ in "kv")
  out = torch.full_like(q, math.nan)
  state = fovea.open(p, q, k, v, out)
  turned = [tensor.transpose(1, 2) for tensor in (q, k, v)]
  attend = torch.nn.functional.scaled_dot_product_attention
  shared = p.heads_q != p.heads_kv

  def torch_call():
    return attend(*turned, is_causal=p.causal, enable_gqa=shared)

  def folded_call():
    # One position: [batch, 1, heads_q, dim] is [batch, heads_kv, group, dim] without a copy.
    rows = q.view(p.batch, p.heads_kv, p.heads_q // p.heads_kv, p.dim)
    return attend(rows, *turned[1:])

  found = [("fovea@torch", lambda: fovea.run(state), lambda _: out.clone()),
           ("torch", torch_call, lambda result: result.transpose(1, 2))]
  if p.decode and shared:
    found.append(("torch-folded", folded_call, lambda result: result.reshape(q.shape)))
  return found, (k, v), state


def check(problem, found):
  """Runs each pipeline once, which also warms it up, and compares the results."""
  results = [result(call()) for _, call, result in found]
  for (pipeline, _, _), other in zip(found[1:], results[1:]):
    difference = (results[0].double() - other.double()).abs()
    apart, typical = difference.max().item(), (difference.norm() / results[0].double().norm()).item()
    if not typical <= problem.typical:  # a NaN fails, too
      sys.exit(f"scripts/bench: {problem.row_name(pipeline)}: its result differs from fovea's by {typical:.3g} of its "
               f"size, and {problem.typical:.3g} is allowed; nothing is timed")
    if not apart <= problem.allowed:
      sys.exit(f"scripts/bench: {problem.row_name(pipeline)}: its result differs from fovea's by "
               f"{apart:.3g}, and {problem.allowed:.3g} is allowed; nothing is timed")


def timed(call, runs, settle):
  time.sleep(settle)
  start, cpu = time.perf_counter(), time.process_time()
  for _ in range(runs):
    call()
  return (time.perf_counter() - start) / runs, (time.process_time() - cpu) / runs


def runs_per_sample(problem, call):
  if problem.cold:
    return 1
  first = timed(call, 1, problem.settle)[0]
  if first > SECONDS_MIN:
    return 1
  return math.ceil(SECONDS_MIN / max(min(first, timed(call, 1, problem.settle)[0]), 1e-7))


def measure(problem, fovea, repetitions):
  """[(pipeline, runs per sample, [(seconds, seconds of processors)])] of one problem."""
  found, caches, state = contestants(problem, fovea)
  check(problem, found)
  rows = [(pipeline, runs_per_sample(problem, call), []) for pipeline, call, _ in found]
  for _ in range(repetitions):
    for (_, call, _), (_, runs, samples) in zip(found, rows):
      if problem.cold:
        for tensor in caches:
          fovea.flush(tensor)
      elif not samples or samples[-1][0] < LONGEST_TO_PRECEDE:
        call()
      samples.append(timed(call, runs, problem.settle))
  fovea.library.fv_bench_peer_close(state)
  return rows


def entries(problem, rows, family):
  """The rows as Google Benchmark writes them."""
  for offset, (pipeline, runs, samples) in enumerate(rows):
    name = problem.row_name(pipeline)
    for index, (seconds, cpu_seconds) in enumerate(samples):
      yield {"name": name, "family_index": family + offset, "per_family_instance_index": 0,
             "run_name": name, "run_type": "iteration", "repetitions": len(samples),
             "repetition_index": index, "threads": 1, "iterations": runs,
             "real_time": 1e3 * seconds, "cpu_time": 1e3 * cpu_seconds, "time_unit": "ms",
             "bytes": problem.bytes, "flops": problem.flops}


def write_whole(path, report):
  """Writes all or nothing: an interruption leaves the old file."""
  partial = path.with_name(path.name + ".partial")
  try:
    partial.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def main():
  path, library, listed = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
  repetitions = int(sys.argv[4]) if len(sys.argv) > 4 else 9
  signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
  report = json.loads(path.read_text())
  threads = int(report["context"]["threads"])
  torch.set_num_threads(threads)
  torch.manual_seed(1)
  fovea = Fovea(library, threads)
  problems, left_out = problems_of(listed.read_text())
  if left_out:
    print(f"scripts/bench: {left_out}", file=sys.stderr)
  family = 1 + max((row["family_index"] for row in report["benchmarks"]), default=-1)
  start = time.monotonic()
  with torch.inference_mode():
    for index, problem in enumerate(problems):
      if sys.stderr.isatty():
        print(f"\r\033[K{index + 1:3}/{len(problems)}  {time.monotonic() - start:4.0f} s  "
              f"{problem.row_name('torch')}", end="", file=sys.stderr, flush=True)
      rows = measure(problem, fovea, repetitions)
      report["benchmarks"] += entries(problem, rows, family)
      family += len(rows)
  if sys.stderr.isatty():
    print("\r\033[K", end="", file=sys.stderr)
  report["context"]["torch"] = (f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
                                f"{torch.get_num_threads()} threads")
  write_whole(path, report)


if __name__ == "__main__":
  main()
