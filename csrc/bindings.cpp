// SPDX-License-Identifier: Apache-2.0
// dlcore._core: the contract as Python objects. Enums are strings, views and stages are values, and nothing is copied
// silently: a base is read and written where it lies. python/dlcore/_core.pyi is the documentation.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>

#include "check.h"
#include "choose.h"
#include "cuda/cuda.h"
#include "dlpack.h"
#include "runtime/host.h"
#include "runtime/machine.h"
#include "runtime/names.h"
#include "runtime/recording.h"

namespace py = pybind11;

using namespace py::literals;

#include "bindings_cuda.h"  // after pybind11, which only this file includes
#include "bindings_gil.h"
#include "bindings_instructions.h"
#include "bindings_memory.h"
#include "bindings_probe.h"

#include "bindings_dlpack.h"  // after the memory

namespace dlcore {
namespace {

// ---- constants

void bind_constants(py::module_& m) {
  m.attr("KERNELS") = tuple_of(KERNEL_NAMES);
  m.attr("STAGES") = tuple_of(STAGE_NAMES);
  m.attr("DTYPES") = tuple_of(DTYPE_NAMES);
  m.attr("LAYOUTS") = tuple_of(LAYOUT_NAMES);
  m.attr("PRECISIONS") = tuple_of(PRECISION_NAMES);
  m.attr("ROLES") = tuple_of(ROLE_NAMES);
  m.attr("GEMMS") = tuple_of(GEMM_NAMES);
  m.attr("PARTS") = py::dict();  // by terms
  for (int32_t terms = 1; terms < int32_t(length(PARTS_OF_TERMS)); ++terms) {
    if (PARTS_OF_TERMS[terms] > 0) m.attr("PARTS")[py::int_(terms)] = PARTS_OF_TERMS[terms];
  }
  m.attr("CHUNK_ROWS") = CHUNK_ROWS;
  m.attr("LOCAL_ARENA") = LOCAL_ARENA;
  m.attr("LOCAL_BYTES") = LOCAL_BYTES;
  m.attr("COLUMN_ALIGN") = COLUMN_ALIGN;
  m.attr("PART_ALIGN") = PART_ALIGN;
  m.attr("MASK_ALIGN") = MASK_ALIGN;
  m.attr("ALIGNMENT") = ALIGNMENT;
  m.attr("METRICS") = int(METRICS);
  m.attr("COUNTERS") = int(COUNTERS);
  m.attr("RESULTS") = int(RESULTS);
  m.attr("HYPER") = int(HYPER);
  m.attr("LOSS_SCALE") = int(LOSS_SCALE);
  m.attr("METRIC") = py::dict("loss"_a = int(metric_loss), "weight"_a = int(metric_weight),
                              "correct"_a = int(metric_correct), "rows"_a = int(metric_rows));
  m.attr("COUNTER") =
      py::dict("draws"_a = int(counter_draws), "updates"_a = int(counter_updates), "position"_a = int(counter_position),
               "seed"_a = int(counter_seed), "skipped"_a = int(counter_skipped));
  m.attr("LOSS_SCALE_INDEX") = py::dict("value"_a = int(loss_scale_value), "good"_a = int(loss_scale_good),
                                        "skipped"_a = int(loss_scale_skipped));
  m.attr("RESULT") = py::dict(**m.attr("METRIC"), "norm"_a = int(result_norm));
  m.attr("HYPER_INDEX") =
      py::dict("lr"_a = int(hyper_lr), "decay"_a = int(hyper_decay), "momentum"_a = int(hyper_momentum),
               "beta2"_a = int(hyper_beta2), "eps"_a = int(hyper_eps), "correction1"_a = int(hyper_correction1),
               "correction2"_a = int(hyper_correction2), "l2"_a = int(hyper_l2), "l1"_a = int(hyper_l1));
  m.attr("UPDATE") = py::dict("rule"_a = int(update_rule), "clip"_a = int(update_clip), "clear"_a = int(update_clear),
                              "groups"_a = int(update_groups), "segments"_a = int(update_segments));
  m.attr("UPDATE_FIRST") = int(update_first);
  m.attr("SEGMENT") = py::dict("offset"_a = int(segment_offset), "size"_a = int(segment_size),
                               "group"_a = int(segment_group), "decay"_a = int(segment_decay));
}

// ---- backend

template <class T>
const T& expect(py::handle object, const char* what) {
  if (!py::isinstance<T>(object)) throw py::type_error(message(what, ", got ", type_name(object)));
  return object.cast<const T&>();
}

// A tuple of a list and more.
template <class... Rest>
std::tuple<py::iterable, Rest...> expect_tuple(py::handle object, const char* what) {
  try {
    return object.cast<std::tuple<py::iterable, Rest...>>();
  } catch (const py::cast_error&) {
    throw py::type_error(message(what, ", got ", type_name(object)));
  }
}

struct HeldProgram {
  std::vector<py::object> owners;
  std::vector<const Recording*> recordings;
  int64_t times;
};

class CoreBackend {
 public:
  CoreBackend(const std::string& isa_, const std::string& real_)
      : isa(isa_.empty() ? chosen_set() : isa_), real(real_) {
    const DType type = real_of(real);
    const std::string kind = isa.substr(0, isa.find(':'));
    if (kind != "cuda" && kind != "emulated") {
      backend = std::make_shared<HostBackend>(host_kernels(isa, type));
    } else {
      name = isa;
      device = on_device(kind, isa.substr(std::min(isa.size(), kind.size() + 1)));
      backend = {device, [](Backend*) {}};  // lives as long as the process
      CHECK_ARG(backend->traits().real == type, "real: expected float32 on ", name, ", got ", real);
    }
  }

  std::unique_ptr<Recording> record(const py::iterable& sections) {
    std::vector<std::vector<Instruction>> instructions;
    std::vector<Section> made;
    std::vector<py::object> owners;
    for (py::handle item : sections) {
      const auto [list, serial, block_rows, row_bytes] =
          expect_tuple<bool, int64_t, int64_t>(item, "record: expected (instructions, serial, block_rows, row_bytes)");
      instructions.emplace_back();
      for (py::handle instruction : list) {
        owners.push_back(py::reinterpret_borrow<py::object>(instruction));
        instructions.back().push_back(
            expect<OwnedInstruction>(instruction, "record: expected an Instruction").borrow());
      }
      made.push_back({nullptr, int32_t(instructions.back().size()), serial, block_rows, row_bytes});
    }
    for (size_t s = 0; s < made.size(); ++s) made[s].instructions = instructions[s].data();
    return std::unique_ptr<Recording>(backend->record(made.data(), int32_t(made.size())));
  }

  std::vector<HeldProgram> hold_program(const py::iterable& program) const {
    std::vector<HeldProgram> held;
    for (py::handle item : program) {
      const auto [recordings, times] = expect_tuple<int64_t>(item, "run: expected (recordings, times)");
      CHECK_ARG(times >= 0, "run: expected 0 times or more, got ", times);
      held.push_back({{}, {}, times});
      for (py::handle recording : recordings) {
        held.back().owners.push_back(py::reinterpret_borrow<py::object>(recording));
        const Recording& cast = expect<Recording>(recording, "run: expected a Recording");
        held.back().recordings.push_back(&cast);
        CHECK_ARG(cast.traits == &traits(), "run: expected recordings of ", traits().name, ", got one of ",
                  cast.traits->name);
        CHECK_ARG(cast.home == device, "run: expected recordings of ", name, ", got one of another device");
      }
    }
    return held;
  }

  const Traits& traits() const { return backend->traits(); }

  DeviceDoor& door(const char* who) const {
    CHECK_ARG(device != nullptr, who, ": expected a device with memory of its own, got ", name);
    return *device;
  }

  std::string isa, real, name = "cpu";
  std::shared_ptr<Backend> backend;
  DeviceDoor* device = nullptr;

 private:
  static DeviceDoor* on_device(const std::string& kind, const std::string& number) {
    const bool plain = number.size() < 4 && number.find_first_not_of("0123456789") == std::string::npos;
    const int index = !plain ? -1 : number.empty() ? 0 : std::stoi(number);
    DeviceDoor* found = kind == "cuda" ? cuda_backend(index) : emulated_backend(index);
    if (found != nullptr) return found;
    const CudaInfo info = kind == "cuda" ? cuda_info() : emulator_info();
    throw std::runtime_error(message("device: expected an available device, got '", kind, ":", number, "' (",
                                     info.absence.empty() ? "no such number" : info.absence, ")"));
  }

  static DType real_of(const std::string& name) {
    constexpr const char* names[] = {"float32", "float64"};
    return parse<DType>("real", names, name);
  }
};

// A program with the memory it runs over, held from run to run: only what changes is looked at again.
class Prepared {
 public:
  Prepared(py::object backend, const py::iterable& program, const py::sequence& bases, std::vector<std::string> names)
      : owner_(std::move(backend)),
        backend_(owner_.cast<CoreBackend&>()),
        names_(std::move(names)),
        held_(backend_.hold_program(program)) {
    for (const HeldProgram& part : held_) {
      programs_.push_back({part.recordings.data(), int32_t(part.recordings.size()), part.times});
      for (const Recording* recording : part.recordings) merge(needs_, recording->arenas);
    }
    count_ = int64_t(bases.size());
    objects_.resize(bases.size()), holders_.resize(bases.size()), twins_.resize(needs_.size());
    found_.resize(needs_.size());
    for (size_t i = 0; i < bases.size(); ++i) hold(i, bases[i]);
  }

  void set(int64_t index, const py::object& base) {
    CHECK_ARG(index >= 0 && index < count_, "set: expected a base in [0, ", count_, "), got ", index);
    if (base.is(objects_[size_t(index)])) return;
    if (!exchange(size_t(index), base, [](const Py_buffer&) { return true; })) hold(size_t(index), base);
  }

  // Another array as a base that is only read. False, and nothing done, unless it is of the kind (type, format, shape,
  // strides) of the one before and contiguous, its floats are finite, and its numbers in [0, limit - 1], limit 0 for
  // any.
  bool accept(size_t index, const py::object& base, int64_t limit) {
    if (index < needs_.size() && needs_[index].written) return false;
    if (index < objects_.size() && Py_TYPE(base.ptr()) != Py_TYPE(objects_[index].ptr())) return false;
    return exchange(index, base, [limit](const Py_buffer& buffer) { return plain_numbers(buffer, limit); });
  }

  // times: of each part, other than before; 0 makes everything ready and runs nothing.
  void run(int32_t threads, const std::vector<int64_t>& times) {
    CHECK_ARG(threads >= 1, "run: expected at least 1 thread, got ", threads);
    CHECK_ARG(times.empty() || times.size() == programs_.size(), "run: expected ", programs_.size(), " times, got ",
              times.size());
    check_bases(needs_, found_, count_);
    for (size_t i = 0; i < times.size(); ++i) {
      CHECK_ARG(times[i] >= 0, "run: expected 0 times or more, got ", times[i]);
      programs_[i].times = times[i];
    }
    const WithoutGil without_gil;
    std::vector<char*> addresses;
    for (size_t i = 0; i < found_.size(); ++i) {
      addresses.push_back(twins_[i] ? twins_[i]->address() : found_[i].address);
    }
    run_with(*backend_.backend, twins_, [&](Backend& backend) {
      backend.run(programs_.data(), int32_t(programs_.size()), addresses.data(), threads);
    });
    for (size_t i = 0; i < found_.size(); ++i) {
      if (twins_[i] && needs_[i].written) twins_[i]->take_back();
    }
  }

 private:
  // Another array of the same kind, if it is allowed: 0.3 us, against 0.75 of `hold`.
  template <class Allowed>
  bool exchange(size_t i, const py::object& base, Allowed allowed) {
    if (i >= holders_.size() || holders_[i] == nullptr) return false;
    if (!holders_[i]->exchange(base, needs_[i].written, allowed)) return false;
    found_[i] = holders_[i]->base();
    if (twins_[i]) twins_[i]->rebind(found_[i]);
    objects_[i] = base;
    return true;
  }

  // All of it or nothing: what throws leaves the base that was held before.
  void hold(size_t i, const py::object& object) {
    std::unique_ptr<HeldBase> holder;
    std::unique_ptr<Twin> twin;
    if (i < needs_.size() && needs_[i].used && !object.is_none()) {
      holder = std::make_unique<HeldBase>(object, int64_t(i), needs_[i].written, *backend_.backend);
      const bool apart = holder->on_host() && !backend_.backend->on_host();
      if (apart && !(twins_[i] && twins_[i]->rebind(holder->base()))) {
        const std::string name = i < names_.size() ? names_[i] : message("base ", i);
        twin = naming("run: " + name, [&] { return std::make_unique<Twin>(backend_.backend, holder->base()); });
      } else if (apart) {
        twin = std::move(twins_[i]);
      }
    }
    if (i < needs_.size()) {
      found_[i] = holder ? holder->base() : Base{};
      twins_[i] = std::move(twin);
    }
    holders_[i] = std::move(holder);
    objects_[i] = object;
  }

  py::object owner_;
  CoreBackend& backend_;
  std::vector<std::string> names_;  // of the bases, for messages
  std::vector<HeldProgram> held_;
  std::vector<Program> programs_;
  std::vector<ArenaNeed> needs_;
  int64_t count_ = 0;
  std::vector<py::object> objects_;
  std::vector<std::unique_ptr<HeldBase>> holders_;
  std::vector<std::unique_ptr<Twin>> twins_;  // of host memory, where the backend is not on the host
  std::vector<Base> found_;
};

int64_t checked_bytes(const char* who, int64_t bytes) {
  CHECK_ARG(bytes >= 0, who, ": expected 0 bytes or more, got ", bytes);
  return bytes;
}

std::unique_ptr<HeldFeed> feed_of(const CoreBackend& b, int64_t bytes) {
  return std::make_unique<HeldFeed>(b.backend, b.door("feed"), checked_bytes("feed", bytes));
}

// Somebody's memory, which has to lie on the device from its first byte to its last.
std::unique_ptr<Arena> borrow(const CoreBackend& b, uintptr_t address, int64_t bytes) {
  char* first = reinterpret_cast<char*>(address);
  const int holder = b.door("borrow").holder(first);
  CHECK_ARG(bytes > 0, "borrow: expected 1 byte or more, got ", bytes);
  CHECK_ARG(holder == b.door("borrow").number() && b.door("borrow").holder(first + bytes - 1) == holder,
            "borrow: expected ", bytes, " bytes of ", b.name, ", got ", bytes, " at ", static_cast<void*>(first));
  return std::make_unique<Arena>(b.backend, first, bytes, nullptr);
}

py::dict formulas(const Formula* list, int32_t count, bool flag) {
  py::dict dict;
  for (int32_t i = 0; i < count; ++i) {
    const py::object about = flag ? py::object(py::bool_(list[i].number != 0)) : py::object(py::int_(list[i].number));
    dict[list[i].name] = py::make_tuple(i, about);
  }
  return dict;
}

void bind_backend(py::module_& m) {
  bind_class<Arena>(m, "Arena", py::buffer_protocol())
      .def_property_readonly("nbytes", [](const Arena& arena) { return arena.memory->bytes; })
      .def_property_readonly("address",
                             [](const Arena& arena) { return reinterpret_cast<uintptr_t>(arena.memory->address); })
#if PY_VERSION_HEX < 0x030c0000  // later ones add it themselves
      .def("__buffer__", [](py::handle self, int) { return py::memoryview(py::reinterpret_borrow<py::object>(self)); })
#endif
      .def("part", &part_of, "offset"_a, "bytes"_a)
      .def("dlpack", &give_dlpack, "shape"_a, "type"_a, "device"_a, "versioned"_a)
      .def("write", &write_arena, "data"_a, "offset"_a = 0)
      .def("read", &read_arena, "into"_a, "offset"_a = 0)
      .def_buffer([](Arena& arena) {
        if (!arena.backend().on_host()) throw py::buffer_error("Arena: expected one of the host, got one of a device");
        return py::buffer_info(reinterpret_cast<uint8_t*>(arena.memory->address), arena.memory->bytes);
      });
  bind_class<HeldFeed>(m, "Feed", py::buffer_protocol())
#if PY_VERSION_HEX < 0x030c0000
      .def("__buffer__", [](py::handle self, int) { return py::memoryview(py::reinterpret_borrow<py::object>(self)); })
#endif
      .def_property_readonly("arena", [](const HeldFeed& held) { return Arena(held.memory); })
      .def("send", &HeldFeed::send, "bytes"_a, py::call_guard<WithoutGil>())
      .def(
          "settle", [](HeldFeed& held) { held.feed->settle(); }, py::call_guard<WithoutGil>())
      .def(
          "expect", [](HeldFeed& held) { held.feed->expect(); }, py::call_guard<WithoutGil>())
      .def_buffer([](HeldFeed& held) {
        return py::buffer_info(reinterpret_cast<uint8_t*>(held.feed->host()), held.memory->bytes);
      });
  bind_class<Taken>(m, "Taken")
      .def(py::init<const py::object&>(), "capsule"_a)
      .def_property_readonly("address", &Taken::address)
      .def_property_readonly("device", &Taken::device)
      .def_property_readonly("type", &Taken::type)
      .def_property_readonly("shape", &Taken::shape)
      .def_property_readonly("strides", &Taken::strides);
  bind_class<Recording>(m, "Recording")
      .def_property_readonly("sizes",
                             [](const Recording& r) {
                               std::vector<int64_t> sizes;
                               for (const ArenaNeed& need : r.arenas) sizes.push_back(need.high);
                               return sizes;
                             })
      .def_property_readonly("written",
                             [](const Recording& r) {
                               std::vector<bool> written;
                               for (const ArenaNeed& need : r.arenas) written.push_back(need.written);
                               return written;
                             })
      .def_property_readonly("calls", [](const Recording& r) { return r.calls.load(); })
      .def_property_readonly("bytes", [](const Recording& r) { return r.bytes.load(); })
      .def("reset_counters", [](const Recording& r) { r.calls = r.bytes = 0; });
  bind_class<CoreBackend>(m, "Backend")
      .def(py::init<const std::string&, const std::string&>(), "isa"_a = "", "real"_a = "float32")
      .def_readonly("name", &CoreBackend::name)
      .def_readonly("isa", &CoreBackend::isa)
      .def_readonly("real", &CoreBackend::real)
      .def_property_readonly("unit", [](const CoreBackend& b) { return b.traits().unit; })
      .def_property_readonly("unit_layout", [](const CoreBackend& b) { return name_of(b.traits().unit_layout); })
      .def_property_readonly("lanes", [](const CoreBackend& b) { return b.traits().lanes; })
      .def_property_readonly("strip", [](const CoreBackend& b) { return b.traits().strip; })
      .def_property_readonly(
          "activations",
          [](const CoreBackend& b) { return formulas(b.traits().activations, b.traits().activation_count, true); })
      .def_property_readonly(
          "rules", [](const CoreBackend& b) { return formulas(b.traits().rules, b.traits().rule_count, false); })
      .def_property_readonly("losses",
                             [](const CoreBackend& b) {
                               py::dict dict;
                               for (int32_t i = 0; i < b.traits().loss_count; ++i) dict[b.traits().losses[i].name] = i;
                               return dict;
                             })
      .def(
          "scratch", [](const CoreBackend& b, const OwnedInstruction& i) { return b.backend->scratch(i.borrow()); },
          "instruction"_a)
      .def(
          "depth", [](const CoreBackend& b, const OwnedInstruction& i) { return b.backend->depth(i.borrow()); },
          "instruction"_a)
      .def(
          "layout",
          [](const CoreBackend& b, const std::string& role, int64_t rows, int64_t cols, int64_t depth, bool kept) {
            return name_of(b.backend->layout(parse<Role>("layout role", ROLE_NAMES, role), rows, cols, depth, kept));
          },
          "role"_a, "m"_a, "n"_a, "k"_a, "kept"_a = false)
      .def(
          "terms",
          [](const CoreBackend& b, const std::string& precision, int64_t rows, int64_t cols, int64_t depth,
             const std::string& gemm) {
            return b.backend->terms(parse<Precision>("precision", PRECISION_NAMES, precision), rows, cols, depth,
                                    parse<Gemm>("gemm", GEMM_NAMES, gemm));
          },
          "precision"_a, "m"_a, "n"_a, "k"_a, "gemm"_a = "auto")
      .def("record", &CoreBackend::record, "sections"_a)
      .def_property_readonly("room", [](const CoreBackend& b) { return b.door("room").room(); })
      .def_property_readonly("stream", [](const CoreBackend& b) { return b.door("stream").stream(); })
      .def(
          "follow", [](const CoreBackend& b, uintptr_t stream) { b.door("follow").follow(stream); }, "stream"_a)
      .def(
          "holder",
          [](const CoreBackend& b, uintptr_t address) {
            return b.door("holder").holder(reinterpret_cast<const char*>(address));
          },
          "address"_a)
      .def("feed", &feed_of, "bytes"_a)
      .def("borrow", &borrow, "address"_a, "bytes"_a)
      .def(
          "allocate",
          [](const CoreBackend& b, int64_t bytes) {
            return std::make_unique<Arena>(b.backend, checked_bytes("allocate", bytes));
          },
          "bytes"_a)
      .def(
          "run",
          [](py::object self, const py::iterable& program, const py::sequence& bases, int32_t threads) {
            Prepared(std::move(self), program, bases, {}).run(threads, {});
          },
          "program"_a, "bases"_a, "threads"_a = 1)
      .def(
          "prepare",
          [](py::object self, const py::iterable& program, const py::sequence& bases, std::vector<std::string> names) {
            return std::make_unique<Prepared>(std::move(self), program, bases, std::move(names));
          },
          "program"_a, "bases"_a, "names"_a = py::tuple());
  bind_class<Prepared>(m, "Prepared")
      .def("set", &Prepared::set, "index"_a, "base"_a)
      .def("accept", &Prepared::accept, "index"_a, "base"_a, "limit"_a = 0)
      .def("run", &Prepared::run, "threads"_a = 1, "times"_a = py::tuple());
}

// ---- the machine

py::dict cpu_info() {
  py::object chosen = py::none(), forced = py::none();
  if (!forced_set().empty()) forced = py::str(forced_set());
  try {
    chosen = py::str(chosen_set());
  } catch (const std::invalid_argument&) {  // DLCORE_CPU asks for what is not available; Backend() says so
  }
  return py::dict("vendor"_a = cpu_vendor(), "instruction_sets"_a = instruction_sets(), "chosen"_a = chosen,
                  "available"_a = available_sets(), "forced"_a = forced);
}

}  // namespace
}  // namespace dlcore

PYBIND11_MODULE(_core, m, py::mod_gil_used()) {
  m.doc() = "The planner's door to the kernels; private.";
  dlcore::bind_constants(m);
  dlcore::bind_instructions(m);
  dlcore::bind_backend(m);
  m.def("cpu_info", &dlcore::cpu_info);
  m.def("all_finite", &dlcore::all_finite, "array"_a);
  dlcore::bind_cuda(m);
  dlcore::bind_probes(m);
  m.def("default_threads", &dlcore::default_threads);
  dlcore::default_threads();  // reads OMP_NUM_THREADS now
  dlcore::forced_set();       // reads DLCORE_CPU now
}
