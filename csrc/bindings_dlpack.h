// SPDX-License-Identifier: Apache-2.0
// Capsules of DLPack, taken and given. Part of bindings.cpp, the only file that includes it.
#pragma once

namespace dlcore {
namespace {

constexpr const char *CAPSULE = "dltensor", *USED_CAPSULE = "used_dltensor";
constexpr const char *VERSIONED_CAPSULE = "dltensor_versioned", *USED_VERSIONED_CAPSULE = "used_dltensor_versioned";
constexpr int32_t MOST_DIMENSIONS = 32;

// Somebody's tensor, given back when this dies.
class Taken {
 public:
  explicit Taken(const py::object& capsule) {
    if (PyCapsule_IsValid(capsule.ptr(), CAPSULE)) {
      plain_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), CAPSULE));
      PyCapsule_SetName(capsule.ptr(), USED_CAPSULE);
      tensor_ = &plain_->tensor;
    } else if (PyCapsule_IsValid(capsule.ptr(), VERSIONED_CAPSULE)) {
      versioned_ = static_cast<dlpack::Versioned*>(PyCapsule_GetPointer(capsule.ptr(), VERSIONED_CAPSULE));
      PyCapsule_SetName(capsule.ptr(), USED_VERSIONED_CAPSULE);
      tensor_ = &versioned_->tensor;
    } else {
      throw std::invalid_argument(
          message("expected a capsule named ", CAPSULE, " or ", VERSIONED_CAPSULE, ", got ", describe(capsule)));
    }
    try {
      check();
    } catch (...) {
      give_back();
      throw;
    }
  }
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;
  ~Taken() { give_back(); }

  uintptr_t address() const { return reinterpret_cast<uintptr_t>(tensor_->data) + uintptr_t(tensor_->byte_offset); }
  py::tuple device() const { return py::make_tuple(tensor_->device.type, tensor_->device.id); }
  py::tuple type() const { return py::make_tuple(int(tensor_->type.code), int(tensor_->type.bits)); }
  py::tuple shape() const { return tuple_of(tensor_->shape); }
  py::object strides() const {
    return tensor_->strides == nullptr ? py::none() : py::object(tuple_of(tensor_->strides));
  }

 private:
  static std::string describe(const py::object& object) {
    if (!PyCapsule_CheckExact(object.ptr())) return type_name(object);
    const char* name = PyCapsule_GetName(object.ptr());
    return message("one named ", name == nullptr ? "nothing" : name);
  }

  py::tuple tuple_of(const int64_t* numbers) const {
    py::tuple made(static_cast<size_t>(tensor_->ndim));
    for (int32_t d = 0; d < tensor_->ndim; ++d) made[size_t(d)] = py::int_(numbers[d]);
    return made;
  }

  // What is read here; where it lies and whether that is there is for the caller.
  void check() const {
    CHECK_ARG(versioned_ == nullptr || versioned_->major == 1, "expected DLPack 1, got version ", versioned_->major);
    CHECK_ARG(tensor_->ndim >= 0 && tensor_->ndim <= MOST_DIMENSIONS, "expected 0 to ", MOST_DIMENSIONS,
              " dimensions, got ", tensor_->ndim);
    CHECK_ARG(tensor_->ndim == 0 || tensor_->shape != nullptr, "expected a shape, got none");
    CHECK_ARG(tensor_->type.lanes == 1, "expected single numbers, got vectors of ", tensor_->type.lanes);
  }

  void give_back() {
    if (plain_ != nullptr && plain_->deleter != nullptr) plain_->deleter(plain_);
    if (versioned_ != nullptr && versioned_->deleter != nullptr) versioned_->deleter(versioned_);
    plain_ = nullptr, versioned_ = nullptr;
  }

  dlpack::Managed* plain_ = nullptr;
  dlpack::Versioned* versioned_ = nullptr;
  dlpack::Tensor* tensor_ = nullptr;
};

// A tensor of ours with all that it points to. Its deleter may be called by any thread, with or without the GIL.
template <class Capsule>
struct Given {
  Capsule capsule;
  std::vector<int64_t> shape, strides;
  std::shared_ptr<Memory> memory;

  static void remove(Capsule* capsule) { delete static_cast<Given*>(capsule->context); }
};

template <class Capsule>
PyObject* wrap(Capsule* capsule, const char* name) {
  return PyCapsule_New(capsule, name, [](PyObject* object) {
    // Nobody took it, or its name says so.
    for (const char* unused : {CAPSULE, VERSIONED_CAPSULE}) {
      if (!PyCapsule_IsValid(object, unused)) continue;
      Capsule* left = static_cast<Capsule*>(PyCapsule_GetPointer(object, unused));
      left->deleter(left);
    }
  });
}

template <class Capsule>
py::object give(const Arena& arena, const std::vector<int64_t>& shape, dlpack::Type type, dlpack::Device device,
                const char* name) {
  auto given = std::make_unique<Given<Capsule>>();
  given->shape = given->strides = shape;
  int64_t elements = 1;
  for (size_t d = shape.size(); d-- > 0; elements *= shape[d]) given->strides[d] = elements;
  CHECK_ARG(elements * type.bits / 8 <= arena.memory->bytes, "dlpack: expected a shape of at most ",
            arena.memory->bytes, " bytes, got ", elements * type.bits / 8);
  given->memory = arena.memory;
  given->capsule.context = given.get();
  given->capsule.deleter = &Given<Capsule>::remove;
  given->capsule.tensor = {arena.memory->address, device, int32_t(shape.size()), type, given->shape.data(),
                           given->strides.data(), 0};
  if constexpr (std::is_same_v<Capsule, dlpack::Versioned>) given->capsule.major = 1;
  PyObject* made = wrap(&given->capsule, name);
  if (made == nullptr) throw py::error_already_set();
  given.release();
  return py::reinterpret_steal<py::object>(made);
}

py::object give_dlpack(const Arena& arena, const std::vector<int64_t>& shape, std::pair<uint8_t, uint8_t> type,
                       std::pair<int32_t, int32_t> device, bool versioned) {
  const dlpack::Type of = {type.first, type.second, 1};
  const dlpack::Device on = {device.first, device.second};
  return versioned ? give<dlpack::Versioned>(arena, shape, of, on, VERSIONED_CAPSULE)
                   : give<dlpack::Managed>(arena, shape, of, on, CAPSULE);
}

}  // namespace
}  // namespace dlcore
