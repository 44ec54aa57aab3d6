// SPDX-License-Identifier: Apache-2.0
// The probes of the benchmarks as Python sees them. Part of bindings.cpp, the only file that includes it.
#pragma once

namespace dlcore {
namespace {

double fma_probe(const std::string& isa, int64_t rounds) {
  const HostKernels& kernels = host_kernels(isa, DType::f32);
  const WithoutGil without_gil;
  double sink = 0;
  return kernels.fma_probe(rounds, &sink);
}

void memory_probe(const std::string& isa, const std::vector<py::buffer>& read, const std::vector<py::buffer>& written,
                  int64_t times) {
  const HostKernels& kernels = host_kernels(isa, DType::f32);
  CHECK_ARG(!read.empty(), "memory_probe: expected buffers to read, got none");
  std::vector<py::buffer_info> held;
  const auto pointers = [&held](const std::vector<py::buffer>& buffers, bool writable) {
    std::vector<char*> found;
    for (const py::buffer& buffer : buffers) {
      held.push_back(buffer.request(writable));
      const py::buffer_info& memory = held.back();
      CHECK_ARG(PyBuffer_IsContiguous(memory.view(), 'C'), "memory_probe: expected contiguous buffers, got strides");
      const int64_t bytes = memory.size * memory.itemsize, first = held[0].size * held[0].itemsize;
      CHECK_ARG(bytes == first, "memory_probe: expected buffers of ", first, " bytes as the first has, got ", bytes);
      found.push_back(static_cast<char*>(memory.ptr));
    }
    return found;
  };
  const std::vector<char*> from = pointers(read, false), to = pointers(written, true);
  const int64_t bytes = held[0].size * held[0].itemsize;
  const WithoutGil without_gil;
  double sink = 0;
  kernels.memory_probe(from.data(), int32_t(from.size()), to.data(), int32_t(to.size()), bytes, times, &sink);
}

void bind_probes(py::module_& m) {
  m.def("fma_probe", &fma_probe, "isa"_a, "rounds"_a);
  m.def("memory_probe", &memory_probe, "isa"_a, "read"_a, "written"_a, "times"_a);
}

}  // namespace
}  // namespace dlcore
