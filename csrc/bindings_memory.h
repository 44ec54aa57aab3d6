// SPDX-License-Identifier: Apache-2.0
// The memory of Python objects: arenas of ours, and buffers of others, held while C++ reads or writes them. Part of
// bindings.cpp, the only file that includes it.
#pragma once

namespace dlcore {
namespace {

// An allocation; or part of another, which it keeps; or what somebody else keeps and nobody here writes.
struct Memory {
  Memory(std::shared_ptr<Backend> backend_, int64_t bytes_)
      : backend(std::move(backend_)), address(backend->allocate(bytes_)), bytes(bytes_), kind(own) {}
  Memory(std::shared_ptr<Backend> backend_, char* address_, int64_t bytes_, std::shared_ptr<void> keeper_)
      : backend(std::move(backend_)),
        address(address_),
        bytes(bytes_),
        kind(keeper_ ? part : borrowed),
        keeper(std::move(keeper_)) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (kind == own) backend->release(address, bytes);
  }
  std::shared_ptr<Backend> backend;
  char* address;
  int64_t bytes;
  enum { own, part, borrowed } kind;
  std::shared_ptr<void> keeper;
};

// Memory as Python sees it; what is exported shares it, and may die later.
struct Arena {
  template <class... Given>
  explicit Arena(const Given&... given) : memory(std::make_shared<Memory>(given...)) {}
  explicit Arena(std::shared_ptr<Memory> shared) : memory(std::move(shared)) {}
  const Backend& backend() const { return *memory->backend; }
  std::shared_ptr<Memory> memory;
};

// A feed of a device, and its side of it as an arena.
struct HeldFeed {
  HeldFeed(std::shared_ptr<Backend> backend, const DeviceDoor& door, int64_t bytes)
      : feed(door.feed(bytes)), memory(std::make_shared<Memory>(std::move(backend), feed->memory(), bytes, feed)) {}
  void send(int64_t bytes) {
    CHECK_ARG(bytes >= 0 && bytes <= memory->bytes, "Feed.send: expected at most ", memory->bytes, " bytes, got ",
              bytes);
    feed->send(bytes);
  }
  std::shared_ptr<Feed> feed;
  std::shared_ptr<Memory> memory;
};

// Contiguous host memory that fits into the bytes of an arena from an offset on.
py::buffer_info bytes_within(const char* who, const Arena& arena, int64_t offset, const py::buffer& host,
                             bool writable) {
  py::buffer_info info = host.request(writable);
  const int64_t bytes = info.size * info.itemsize, room = arena.memory->bytes;
  CHECK_ARG(PyBuffer_IsContiguous(info.view(), 'C'), who, ": expected a C-contiguous array, got strides");
  CHECK_ARG(offset >= 0 && offset <= room && bytes <= room - offset, who, ": expected at most ", room, " bytes, got ",
            bytes, " at ", offset);
  return info;
}

std::unique_ptr<Arena> part_of(const Arena& arena, int64_t offset, int64_t bytes) {
  const Memory& whole = *arena.memory;
  CHECK_ARG(offset >= 0 && bytes >= 0 && offset <= whole.bytes && bytes <= whole.bytes - offset,
            "Arena.part: expected bytes within ", whole.bytes, ", got ", bytes, " at ", offset);
  const bool borrowed = whole.kind == Memory::borrowed;
  return std::make_unique<Arena>(whole.backend, whole.address + offset, bytes,
                                 borrowed ? nullptr : std::shared_ptr<void>(arena.memory));
}

void write_arena(Arena& arena, const py::buffer& data, int64_t offset) {
  const py::buffer_info info = bytes_within("Arena.write", arena, offset, data, false);
  const WithoutGil without_gil;
  arena.memory->backend->copy(arena.memory->address + offset, static_cast<const char*>(info.ptr),
                              info.size * info.itemsize);
}

void read_arena(const Arena& arena, const py::buffer& into, int64_t offset) {
  const py::buffer_info info = bytes_within("Arena.read", arena, offset, into, true);
  const WithoutGil without_gil;
  arena.memory->backend->copy(static_cast<char*>(info.ptr), arena.memory->address + offset, info.size * info.itemsize);
}

const char* type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// x - x is zero for every finite x and NaN otherwise. The bits of the differences are collected, and looked at once a
// block: 44 GB/s on one core, against 6 with a comparison for each number.
template <class T, class Bits>
bool finite(const T* x, int64_t count) {
  constexpr int64_t BLOCK = 4096;
  for (int64_t begin = 0; begin < count; begin += BLOCK) {
    const int64_t end = std::min(count, begin + BLOCK);
    Bits all = 0;
    for (int64_t i = begin; i < end; ++i) {
      const T difference = x[i] - x[i];
      Bits bits;
      std::memcpy(&bits, &difference, sizeof bits);
      all |= bits;
    }
    if (all << 1 != 0) return false;  // but for a sign, which depends on how the caller rounds
  }
  return true;
}
inline bool finite(const float* x, int64_t count) { return finite<float, uint32_t>(x, count); }
inline bool finite(const double* x, int64_t count) { return finite<double, uint64_t>(x, count); }

template <class T>
bool below(const T* x, int64_t count, int64_t limit) {
  bool all = true;
  for (int64_t i = 0; i < count; ++i) all &= x[i] >= T(0) && uint64_t(x[i]) < uint64_t(limit);
  return all;
}

template <class T>
bool finite_below(const T* x, int64_t count, int64_t limit) {
  if (limit == 0) return finite(x, count);
  bool all = true;
  for (int64_t i = 0; i < count; ++i) all &= x[i] >= T(0) && x[i] <= T(limit - 1);
  return all;
}

// Are the numbers of a contiguous buffer finite, and in [0, limit - 1] where there is a limit? Formats that are not
// read here say no.
bool plain_numbers(const Py_buffer& buffer, int64_t limit) {
  if (!PyBuffer_IsContiguous(&buffer, 'A') || buffer.format == nullptr || buffer.format[1] != 0) return false;
  const int64_t count = buffer.len / buffer.itemsize;
  switch (buffer.format[0]) {
#define DLCORE_CASE(code, type) \
  case code:                    \
    return limit == 0 || below(static_cast<const type*>(buffer.buf), count, limit);
    DLCORE_CASE('b', signed char)
    DLCORE_CASE('B', unsigned char)
    DLCORE_CASE('h', short)
    DLCORE_CASE('H', unsigned short)
    DLCORE_CASE('i', int)
    DLCORE_CASE('I', unsigned)
    DLCORE_CASE('l', long)
    DLCORE_CASE('L', unsigned long)
    DLCORE_CASE('q', long long)
    DLCORE_CASE('Q', unsigned long long)
#undef DLCORE_CASE
    case 'f':
      return finite_below(static_cast<const float*>(buffer.buf), count, limit);
    case 'd':
      return finite_below(static_cast<const double*>(buffer.buf), count, limit);
  }
  return false;
}

// Is every number of a C-contiguous float32 or float64 array finite?
bool all_finite(const py::buffer& array) {
  const py::buffer_info info = array.request();
  CHECK_ARG(PyBuffer_IsContiguous(info.view(), 'C'), "all_finite: expected a C-contiguous array, got strides");
  if (info.format == py::format_descriptor<float>::format()) {
    return finite(static_cast<const float*>(info.ptr), info.size);
  }
  CHECK_ARG(info.format == py::format_descriptor<double>::format(), "all_finite: expected float32 or float64, got ",
            info.format);
  return finite(static_cast<const double*>(info.ptr), info.size);
}

// Do two buffers differ in their address only?
bool same_kind(const Py_buffer& a, const Py_buffer& b) {
  if (a.ndim != b.ndim || a.format == nullptr || b.format == nullptr || std::strcmp(a.format, b.format) != 0)
    return false;
  return std::equal(a.shape, a.shape + a.ndim, b.shape) && std::equal(a.strides, a.strides + a.ndim, b.strides);
}

// The memory of a Python object, held while this lives.
class HeldBase {
 public:
  HeldBase(py::handle object, int64_t index, bool written, const Backend& backend) {
    const std::string who =
        message("run: expected a ", written ? "writable " : "", "buffer for base ", index, ", got ");
    if (py::isinstance<Arena>(object)) {
      const Arena& arena = object.cast<const Arena&>();
      on_host_ = arena.backend().on_host();
      if (!on_host_ && &arena.backend() != &backend) throw py::type_error(who + "an arena of another device");
      if (written && arena.memory->kind == Memory::borrowed) throw std::invalid_argument(who + "borrowed memory");
      base_ = {arena.memory->address, 0, arena.memory->bytes};
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

  // Takes the memory of another object instead, if that is the same but for its address and is allowed.
  template <class Allowed>
  bool exchange(py::handle object, bool written, Allowed allowed) {
    Py_buffer other;
    if (buffer_.obj == nullptr || PyObject_GetBuffer(object.ptr(), &other, BUFFER_FLAGS) != 0) {
      PyErr_Clear();
      return false;
    }
    if (!same_kind(buffer_, other) || (written && other.readonly) || !allowed(other)) {
      PyBuffer_Release(&other);
      return false;
    }
    const ptrdiff_t low = base_.low, high = base_.high;
    PyBuffer_Release(&buffer_);
    buffer_ = other;
    base_ = {static_cast<char*>(buffer_.buf), low, high};
    return true;
  }

 private:
  static constexpr int BUFFER_FLAGS = PyBUF_STRIDED_RO | PyBUF_FORMAT;

  void hold_buffer(py::handle object, const std::string& who, bool written) {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, BUFFER_FLAGS) != 0) throw py::error_already_set();
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
  Twin(std::shared_ptr<Backend> backend, const Base& host)
      : memory_(std::move(backend), host.high - host.low), host_(host) {}
  // Of other host memory of the same size: true, if it is.
  bool rebind(const Base& host) {
    if (host.low != host_.low || host.high != host_.high) return false;
    host_ = host;
    return true;
  }
  char* address() const { return memory_.address - host_.low; }
  void bring() { memory_.backend->put(memory_.address, host_.address + host_.low, memory_.bytes); }
  void take_back() { memory_.backend->copy(host_.address + host_.low, memory_.address, memory_.bytes); }

 private:
  Memory memory_;
  Base host_;
};

// Where it fails, copies from pinned memory may be on their way, and the caller may write there again.
template <class Run>
void run_with(Backend& backend, const std::vector<std::unique_ptr<Twin>>& twins, Run run) {
  try {
    for (const std::unique_ptr<Twin>& twin : twins) {
      if (twin) twin->bring();
    }
    run(backend);
  } catch (...) {
    backend.settle();
    throw;
  }
}

}  // namespace
}  // namespace dlcore
