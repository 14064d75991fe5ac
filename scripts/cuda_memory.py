"""numpy's arrays in the memory of a CUDA device, for scripts that call fovea there by fovea_ctypes.

  memory = cuda_memory.CudaMemory()
  handle = library.open("CUDA", allocate=memory.allocate)
  q = memory.view(library, array.transpose(0, 2, 1, 3))   # any view of an array: all of it is copied once
  ...
  memory.fetch(out)                                       # waits, and copies the device's numbers into the array
  memory.release()

The driver is the one that the library opens: FOVEA_CUDA_DRIVER, else libcuda.so.1. Both use the device's primary
context.
"""
import ctypes
import os

import numpy as np


class CudaMemory:
  """Copies of arrays on device 0, until they are released."""

  def __init__(self):
    self.driver = ctypes.CDLL(os.environ.get("FOVEA_CUDA_DRIVER") or "libcuda.so.1")
    self.copies = {}  # an array's address: the array, and that of its copy
    device, context = ctypes.c_int(), ctypes.c_void_p()
    self.call("cuInit", 0)
    self.call("cuDeviceGet", ctypes.byref(device), 0)
    self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    self.call("cuCtxSetCurrent", context)

  def call(self, name, *arguments):
    result = getattr(self.driver, name)(*arguments)
    if result:
      raise OSError(f"the CUDA driver's {name} returned {result}")

  def allocate(self, size):
    """The address of `size` bytes that nobody releases, for a handle's workspace."""
    address = ctypes.c_uint64()
    self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
    return address.value

  def address(self, array):
    """Of an array's first element on the device, where the whole array that it is a view of is copied."""
    whole = array
    while isinstance(whole.base, np.ndarray):
      whole = whole.base
    start = whole.ctypes.data
    if start not in self.copies:
      self.copies[start] = whole, self.allocate(whole.nbytes)
      self.call("cuMemcpyHtoD_v2", ctypes.c_uint64(self.copies[start][1]), ctypes.c_void_p(start),
                ctypes.c_size_t(whole.nbytes))
    return self.copies[start][1] + array.ctypes.data - start

  def view(self, library, array):
    view = library.view(array)
    view.data = self.address(array)
    return view

  def fetch(self, whole):
    self.call("cuMemcpyDtoH_v2", ctypes.c_void_p(whole.ctypes.data),
              ctypes.c_uint64(self.copies[whole.ctypes.data][1]), ctypes.c_size_t(whole.nbytes))

  def release(self):
    for _, there in self.copies.values():
      self.call("cuMemFree_v2", ctypes.c_uint64(there))
    self.copies.clear()


class HostMemory:
  """The same for a handle of the CPU, which works on the arrays themselves."""

  def __init__(self):
    self.kept = []
    self.allocate = None

  def address(self, array):
    self.kept.append(array)
    return array.ctypes.data

  def view(self, library, array):
    self.kept.append(array)
    return library.view(array)

  def fetch(self, whole):
    pass

  def release(self):
    self.kept.clear()
