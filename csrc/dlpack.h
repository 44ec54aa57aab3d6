// SPDX-License-Identifier: Apache-2.0
// How DLPack lays out a tensor that one library hands to another (dmlc/dlpack, version 1.0 and the one before).
#pragma once
#include <cstdint>

namespace dlcore {
namespace dlpack {

enum DeviceType : int32_t { on_cpu = 1, on_cuda = 2 };
enum TypeCode : uint8_t { code_int = 0, code_uint = 1, code_float = 2, code_bool = 6 };

struct Device {
  int32_t type, id;
};

struct Type {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  Type type;
  int64_t* shape;
  int64_t* strides;  // elements; nullptr: row major
  uint64_t byte_offset;
};

struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

struct Versioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(Versioned*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace dlpack
}  // namespace dlcore
