// SPDX-License-Identifier: Apache-2.0
// What the module says of GPUs, and the emulator's knobs for tests. Part of bindings.cpp, the only file that includes
// it.
#pragma once

namespace dlcore {
namespace {

py::dict describe_gpus(const CudaInfo& info) {
  return py::dict("built"_a = info.built, "available"_a = info.absence.empty(), "architectures"_a = info.architectures,
                  "devices"_a = info.devices, "reason"_a = info.absence);
}

void bind_cuda(py::module_& m) {
  m.def("cuda_info", [] { return describe_gpus(cuda_info()); });
  m.def("emulator_info", [] { return describe_gpus(emulator_info()); });
  m.def("emulator_built", [] { return emulator_info().built; });
  m.def("emulated_launches", &emulated_launches);
  m.def("emulate_fault", &emulate_fault, "fault"_a, "schedule"_a);
  m.def("emulator_count", &emulator_count, "what"_a);
  m.def("emulator_set", &emulator_set, "what"_a, "value"_a);
  m.def("emulator_stream", &emulator_stream);
  m.def(
      "emulator_write",
      [](uintptr_t stream, uintptr_t address, const py::bytes& bytes) { emulator_write(stream, address, bytes); },
      "stream"_a, "address"_a, "bytes"_a);
  m.def("emulate_capability", &emulate_capability, "capability"_a);
  m.def("emulate_cut", &emulate_cut, "product"_a);
  m.def("emulate_place", &emulate_place, "product"_a, "block"_a);
  m.def("emulate_swizzle", &emulate_swizzle, "row"_a, "chunk"_a, "across"_a);
  m.def("emulate_descriptor", &emulate_descriptor, "address"_a, "leading"_a);
}

}  // namespace
}  // namespace dlcore
