// SPDX-License-Identifier: Apache-2.0
// The memory of Python objects: arenas of ours, and buffers of others, held while C++ reads or writes them. Part of
// bindings.cpp, the only file that includes it.
#pragma once

namespace dlcore {
namespace {

struct Arena {
  Arena(std::shared_ptr<Backend> owner, int64_t size)
      : backend(std::move(owner)), memory(backend->allocate(size)), bytes(size) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { backend->release(memory, bytes); }
  std::shared_ptr<Backend> backend;
  char* memory;
  int64_t bytes;
};

// The bytes of an arena and of contiguous host memory of the same size.
py::buffer_info same_bytes(const char* who, const Arena& arena, const py::buffer& host, bool writable) {
  py::buffer_info info = host.request(writable);
  CHECK_ARG(PyBuffer_IsContiguous(info.view(), 'C'), who, ": expected a C-contiguous array, got strides");
  CHECK_ARG(info.size * info.itemsize == arena.bytes, who, ": expected ", arena.bytes, " bytes, got ",
            info.size * info.itemsize);
  return info;
}

void write_arena(Arena& arena, const py::buffer& data) {
  const py::buffer_info info = same_bytes("Arena.write", arena, data, false);
  const py::gil_scoped_release release;
  arena.backend->copy(arena.memory, static_cast<const char*>(info.ptr), arena.bytes);
}

void read_arena(const Arena& arena, const py::buffer& into) {
  const py::buffer_info info = same_bytes("Arena.read", arena, into, true);
  const py::gil_scoped_release release;
  arena.backend->copy(static_cast<char*>(info.ptr), arena.memory, arena.bytes);
}

const char* type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// The memory of a Python object, held while this lives.
class HeldBase {
 public:
  HeldBase(py::handle object, int64_t index, bool written, const Backend& backend) {
    const std::string who =
        message("run: expected a ", written ? "writable " : "", "buffer for base ", index, ", got ");
    if (py::isinstance<Arena>(object)) {
      const Arena& arena = object.cast<const Arena&>();
      on_host_ = arena.backend->on_host();
      if (!on_host_ && arena.backend.get() != &backend) throw py::type_error(who + "an arena of another device");
      base_ = {arena.memory, 0, arena.bytes};
    } else if (PyObject_CheckBuffer(object.ptr())) {
      hold_buffer(object, who, written);
    } else if (py::hasattr(object, "__array_interface__")) {
      hold_buffer(py::module_::import("numpy").attr("asarray")(object), who, written);  // a view of its memory
    } else {
      throw py::type_error(who + type_name(object));
    }
  }
  HeldBase(const HeldBase&) = delete;
  HeldBase& operator=(const HeldBase&) = delete;
  ~HeldBase() {
    if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
  }
  const Base& base() const { return base_; }
  bool on_host() const { return on_host_; }

 private:
  void hold_buffer(py::handle object, const std::string& who, bool written) {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_STRIDED_RO) != 0) throw py::error_already_set();
    if (written && buffer_.readonly) {
      PyBuffer_Release(&buffer_);
      throw std::invalid_argument(message(who, "a read-only ", type_name(object)));
    }
    base_ = {static_cast<char*>(buffer_.buf), 0, buffer_.itemsize};
    for (int d = 0; d < buffer_.ndim; ++d) {
      if (buffer_.shape[d] == 0) return void(base_.low = base_.high = 0);
      (buffer_.strides[d] < 0 ? base_.low : base_.high) += (buffer_.shape[d] - 1) * buffer_.strides[d];
    }
  }

  Py_buffer buffer_{};
  Base base_{};
  bool on_host_ = true;
};

// A twin on the device of host memory that a run reads and writes.
class Twin {
 public:
  Twin(Backend& backend, const Base& host) : backend_(backend), host_(host), bytes_(host.high - host.low) {
    memory_ = backend_.allocate(bytes_);
  }
  Twin(const Twin&) = delete;
  Twin& operator=(const Twin&) = delete;
  ~Twin() { backend_.release(memory_, bytes_); }
  // Of other host memory of the same size: true, if it is.
  bool rebind(const Base& host) {
    if (host.low != host_.low || host.high != host_.high) return false;
    host_ = host;
    return true;
  }
  char* address() const { return memory_ - host_.low; }
  void bring() { backend_.copy(memory_, host_.address + host_.low, bytes_); }
  void take_back() { backend_.copy(host_.address + host_.low, memory_, bytes_); }

 private:
  Backend& backend_;
  Base host_;
  int64_t bytes_;
  char* memory_;
};

// The twin that a base needs, if any; one of the same size serves again.
void renew(std::unique_ptr<Twin>& twin, Backend& backend, const HeldBase& held) {
  const bool needed = held.on_host() && !backend.on_host();
  if (!needed || (twin && !twin->rebind(held.base()))) twin.reset();
  if (needed && !twin) twin = std::make_unique<Twin>(backend, held.base());
}

// x - x is 0 for every finite x; sums of lanes that are not zero or NaN tell.
template <class T>
bool finite(const T* x, int64_t count) {
  constexpr int64_t BLOCK = 4096;
  for (int64_t begin = 0; begin < count; begin += BLOCK) {
    const int64_t end = std::min(count, begin + BLOCK);
    bool all = true;
    for (int64_t i = begin; i < end; ++i) all &= x[i] - x[i] == T(0);
    if (!all) return false;
  }
  return true;
}

}  // namespace
}  // namespace dlcore
