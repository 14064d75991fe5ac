"""Times PyTorch's attention on a GPU in turns with fovea, in one process.

usage: gpu_peers.py LIBRARY LIST OUTPUT.json

LIBRARY is libfovea_bench_peers.so, and LIST is the output of `fovea-bench list --device cuda`. Each problem
is computed by fovea, by PyTorch with cuDNN forced, by PyTorch with FlashAttention-2 forced, and by
FlashAttention-3 where fa3-fwd of PyPI is installed, on the same memory. Results are compared with fovea's before anything is timed. If a backend refuses a problem, the
line says why. Prints a line per problem, with the microseconds of each.
"""
import json
import pathlib
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import bench_peers

ROUNDS = 9
BACKENDS = {"torch-cudnn": SDPBackend.CUDNN_ATTENTION, "torch-flash": SDPBackend.FLASH_ATTENTION}


def flash3_call(problem, q, k, v):
  """A call of FlashAttention-3, which takes fovea's layout; None without its package."""
  try:
    from fa3_fwd_interface import flash_attn_func  # pylint: disable=import-outside-toplevel
  except ImportError:
    return None

  def call():
    result = flash_attn_func(q, k, v, causal=problem.causal)
    return (result[0] if isinstance(result, tuple) else result).transpose(1, 2)
  return call


def peers_of(problem, q, k, v):
  """{name: a call, whose result has heads before rows}"""
  calls = {name: peer_call(problem, backend, q, k, v) for name, backend in BACKENDS.items()}
  flash3 = flash3_call(problem, q, k, v)
  return {**calls, "flash-3": flash3} if flash3 else calls


def peer_call(problem, backend, q, k, v):
  """A call of PyTorch, which wants heads before rows. Its is_causal means top-left, which is the same as
  bottom-right where the lengths are equal."""
  turned = [tensor.transpose(1, 2) for tensor in (q, k, v)]

  def call():
    with sdpa_kernel(backend):
      return torch.nn.functional.scaled_dot_product_attention(
        *turned, is_causal=problem.causal, enable_gqa=problem.heads_q != problem.heads_kv)
  return call


def apart_enough(expected, other):
  """The root mean square of the difference, divided by the expected result's."""
  other = other.transpose(1, 2).double()
  return ((expected - other).square().mean() / expected.square().mean()).sqrt().item()


def microseconds(call, flush):
  begin, end = (torch.cuda.Event(enable_timing=True) for _ in "be")
  if flush is not None:
    flush.zero_()
  begin.record()
  call()
  end.record()
  end.synchronize()
  return 1e3 * begin.elapsed_time(end)


def measure(problem, fovea, flush):
  dtype = bench_peers.DTYPES[problem.dtype]
  p = problem
  tensor = lambda n, heads: (torch.rand(p.batch, n, heads, p.dim, device="cuda") * 2 - 1).to(dtype)
  q, k, v = tensor(p.len_q, p.heads_q), tensor(p.len_kv, p.heads_kv), tensor(p.len_kv, p.heads_kv)
  out = torch.full_like(q, float("nan"))
  workspace = []  # keeps the device's memory for as long as the state needs it

  def allocate(size):
    workspace.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    return workspace[-1].data_ptr()

  state = fovea.open(p, q, k, v, out, bench_peers.ALLOCATE(allocate))
  calls, refused = {"fovea@torch": lambda: fovea.run(state)}, {}
  calls["fovea@torch"]()
  torch.cuda.synchronize()
  expected = out.double()
  # Each side rounds the probabilities and the result to that dtype: four roundings.
  allowed = 4 * torch.finfo(dtype).eps
  for name, call in peers_of(p, q, k, v).items():
    try:
      apart = apart_enough(expected, call())
    except RuntimeError as why:
      refused[name] = str(why).splitlines()[0]
      continue
    if not apart <= allowed:
      sys.exit(f"{p.row_name(name)}: differs from fovea by {apart:.3g} of the result, allowed {allowed:.3g}")
    calls[name] = call
  times = {name: [] for name in calls}
  for _ in range(ROUNDS):
    for name, call in calls.items():
      call()  # warms the caches, and wakes the device before the clock starts
      times[name].append(microseconds(call, flush if p.cold else None))
  fovea.library.fv_bench_peer_close(state)
  return times, refused


def main():
  library, listed, output = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
  fovea = bench_peers.Fovea(library, 0)
  flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
  report = {"torch": torch.__version__, "device": torch.cuda.get_device_name(), "rows": []}
  failed = False
  with torch.inference_mode():
    problems, left_out = bench_peers.problems_of(listed.read_text())
    if left_out:
      print(left_out, flush=True)
    for problem in problems:
      times, refused = measure(problem, fovea, flush)
      report["rows"].append({"name": problem.name, "microseconds": times, "refused": refused})
      output.write_text(json.dumps(report, indent=1) + "\n")
      medians = "  ".join(f"{name} {statistics.median(t):10.1f} us" for name, t in times.items())
      print(f"{problem.name}  {medians}", *(f"{n}: {why}" for n, why in refused.items()), flush=True)
      failed = failed or not times
  sys.exit(1 if failed or not report["rows"] else 0)


main()
