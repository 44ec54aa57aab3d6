// SPDX-License-Identifier: Apache-2.0
// dlcore._core: the contract as Python objects. Enums are strings, views and stages are values, and nothing is copied
// silently: a base is read and written where it lies. python/dlcore/_core.pyi is the documentation.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "check.h"
#include "choose.h"
#include "cuda/cuda.h"
#include "runtime/host.h"
#include "runtime/machine.h"
#include "runtime/names.h"
#include "runtime/recording.h"

namespace py = pybind11;

using namespace py::literals;

#include "bindings_memory.h"  // after pybind11, which only this file includes

namespace dlcore {
namespace {

// ---- names

template <class Enum, int64_t n>
Enum parse(const char* what, const char* const (&names)[n], const std::string& name) {
  for (int32_t i = 0; i < n; ++i) {
    if (name == names[i]) return Enum(i);
  }
  std::string all;
  for (const char* known : names) all += (all.empty() ? "" : ", ") + std::string(known);
  throw std::invalid_argument(message(what, ": expected one of ", all, ", got '", name, "'"));
}

template <int64_t n>
py::tuple tuple_of(const char* const (&names)[n]) {
  py::tuple tuple(n);
  for (int64_t i = 0; i < n; ++i) tuple[size_t(i)] = names[i];
  return tuple;
}

void bind_constants(py::module_& m) {
  m.attr("KERNELS") = tuple_of(KERNEL_NAMES);
  m.attr("STAGES") = tuple_of(STAGE_NAMES);
  m.attr("DTYPES") = tuple_of(DTYPE_NAMES);
  m.attr("LAYOUTS") = tuple_of(LAYOUT_NAMES);
  m.attr("ROLES") = tuple_of(ROLE_NAMES);
  m.attr("CHUNK_ROWS") = CHUNK_ROWS;
  m.attr("COLUMN_ALIGN") = COLUMN_ALIGN;
  m.attr("ALIGNMENT") = ALIGNMENT;
  m.attr("METRICS") = int(METRICS);
  m.attr("COUNTERS") = int(COUNTERS);
  m.attr("RESULTS") = int(RESULTS);
  m.attr("HYPER") = int(HYPER);
  m.attr("METRIC") = py::dict("loss"_a = int(metric_loss), "weight"_a = int(metric_weight),
                              "correct"_a = int(metric_correct), "rows"_a = int(metric_rows));
  m.attr("COUNTER") = py::dict("draws"_a = int(counter_draws), "updates"_a = int(counter_updates),
                               "position"_a = int(counter_position), "seed"_a = int(counter_seed));
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

// ---- views, stages, instructions

View make_view(int32_t arena, const std::string& dtype, const std::string& layout, int64_t rows, int64_t cols,
               std::optional<int64_t> ld, int64_t step, int64_t offset, int32_t members, int64_t member_stride) {
  return {arena,
          parse<DType>("View dtype", DTYPE_NAMES, dtype),
          parse<Layout>("View layout", LAYOUT_NAMES, layout),
          members,
          offset,
          member_stride,
          rows,
          cols,
          ld.value_or(cols),
          step};
}

Stage make_stage(const std::string& kind, int32_t function, int32_t random_op, const View& operand,
                 const View& operand_scale, const View& operand_shift, const View& a, const View& b, const View& c,
                 const View& out, const View& out2, const std::vector<double>& numbers) {
  Stage stage{parse<StageKind>("Stage kind", STAGE_NAMES, kind),
              function,
              random_op,
              0,
              operand,
              operand_scale,
              operand_shift,
              a,
              b,
              c,
              out,
              out2,
              {}};
  CHECK_ARG(numbers.size() <= 4, "Stage numbers: expected at most 4, got ", numbers.size());
  std::copy(numbers.begin(), numbers.end(), stage.numbers);
  return stage;
}

OwnedInstruction make_instruction(const std::string& kernel, int64_t rows, int64_t cols, std::vector<View> operands,
                                  std::vector<Stage> chain, std::vector<double> numbers, const View& scratch) {
  OwnedInstruction made(parse<Kernel>("Instruction kernel", KERNEL_NAMES, kernel), rows, cols);
  made.operands = std::move(operands);
  made.chain = std::move(chain);
  made.numbers = std::move(numbers);
  made.scratch = scratch;
  return made;
}

std::string describe(const View& view) {
  if (view.arena < 0) return "View()";
  return message("View(arena=", view.arena, ", dtype='", name_of(view.dtype), "', layout='", name_of(view.layout),
                 "', rows=", view.rows, ", cols=", view.cols, ", ld=", view.ld, ", step=", view.step,
                 ", offset=", view.offset, ", members=", view.members, ", member_stride=", view.member_stride, ")");
}

// Without pybind11's metaclass, which serves Python subclasses: there are none.
template <class T, class... Extra>
py::class_<T> bind_class(py::module_& m, const char* name, const Extra&... extra) {
  return py::class_<T>(m, name, py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)), py::is_final(), extra...);
}

void bind_instructions(py::module_& m) {
  const View absent = absent_view();
  bind_class<View>(m, "View")
      .def(py::init(&make_view), "arena"_a = -1, "dtype"_a = "f32", "layout"_a = "row_major", "rows"_a = 0,
           "cols"_a = 0, "ld"_a = py::none(), "step"_a = 1, "offset"_a = 0, "members"_a = 1, "member_stride"_a = 0)
      .def_readonly("arena", &View::arena)
      .def_property_readonly("dtype", [](const View& view) { return name_of(view.dtype); })
      .def_property_readonly("layout", [](const View& view) { return name_of(view.layout); })
      .def_readonly("rows", &View::rows)
      .def_readonly("cols", &View::cols)
      .def_readonly("ld", &View::ld)
      .def_readonly("step", &View::step)
      .def_readonly("offset", &View::offset)
      .def_readonly("members", &View::members)
      .def_readonly("member_stride", &View::member_stride)
      .def("__repr__", &describe);
  bind_class<Stage>(m, "Stage")
      .def(py::init(&make_stage), "kind"_a, "function"_a = 0, "random_op"_a = 0, "operand"_a = absent,
           "operand_scale"_a = absent, "operand_shift"_a = absent, "a"_a = absent, "b"_a = absent, "c"_a = absent,
           "out"_a = absent, "out2"_a = absent, "numbers"_a = py::make_tuple(0, 0, 0, 0))
      .def_property_readonly("kind", [](const Stage& stage) { return name_of(stage.kind); })
      .def_readonly("function", &Stage::function)
      .def_readonly("random_op", &Stage::random_op)
      .def_readonly("operand", &Stage::operand)
      .def_readonly("operand_scale", &Stage::operand_scale)
      .def_readonly("operand_shift", &Stage::operand_shift)
      .def_readonly("a", &Stage::a)
      .def_readonly("b", &Stage::b)
      .def_readonly("c", &Stage::c)
      .def_readonly("out", &Stage::out)
      .def_readonly("out2", &Stage::out2)
      .def_property_readonly("numbers", [](const Stage& s) {
        return py::make_tuple(s.numbers[0], s.numbers[1], s.numbers[2], s.numbers[3]);
      });
  bind_class<OwnedInstruction>(m, "Instruction")
      .def(py::init(&make_instruction), "kernel"_a, "rows"_a, "cols"_a, "operands"_a, "chain"_a = py::tuple(),
           "numbers"_a = py::tuple(), "scratch"_a = absent)
      .def_property_readonly("kernel", [](const OwnedInstruction& i) { return name_of(i.kernel); })
      .def_readonly("rows", &OwnedInstruction::rows)
      .def_readonly("cols", &OwnedInstruction::cols)
      .def_readonly("operands", &OwnedInstruction::operands)
      .def_readonly("chain", &OwnedInstruction::chain)
      .def_readonly("numbers", &OwnedInstruction::numbers)
      .def_readwrite("scratch", &OwnedInstruction::scratch);
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
      : isa(isa_.empty() ? chosen_set() : isa_), real(real_), name(isa == "cuda" || isa == "emulated" ? isa : "cpu") {
    const DType type = real_of(real);
    if (name == "cpu") {
      backend = std::make_shared<HostBackend>(host_kernels(isa, type));
    } else {
      backend = {on_device(name), [](Backend*) {}};
      CHECK_ARG(backend->traits().real == type, "real: expected float32 on ", name, ", got ", real);
    }
  }

  std::unique_ptr<Recording> record(const py::iterable& sections) {
    std::vector<std::vector<Instruction>> instructions;
    std::vector<Section> made;
    std::vector<py::object> owners;
    for (py::handle item : sections) {
      const auto [list, serial, outer] =
          expect_tuple<bool, int64_t>(item, "record: expected (instructions, serial, outer)");
      instructions.emplace_back();
      for (py::handle instruction : list) {
        owners.push_back(py::reinterpret_borrow<py::object>(instruction));
        instructions.back().push_back(
            expect<OwnedInstruction>(instruction, "record: expected an Instruction").borrow());
      }
      made.push_back({nullptr, int32_t(instructions.back().size()), serial, outer});
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
      }
    }
    return held;
  }

  const Traits& traits() const { return backend->traits(); }

  std::string isa, real, name;
  std::shared_ptr<Backend> backend;

 private:
  // They live as long as the process.
  static Backend* on_device(const std::string& name) {
    Backend* found = name == "cuda" ? cuda_backend() : emulated_backend();
    if (found != nullptr) return found;
    throw std::runtime_error(message("device: expected an available device, got '", name, "' (",
                                     name == "cuda" ? cuda_info().absence : "built without the emulator", ")"));
  }

  static DType real_of(const std::string& name) {
    constexpr const char* names[] = {"float32", "float64"};
    return parse<DType>("real", names, name);
  }
};

// A program with the memory it runs over, held from run to run: only what changes is looked at again.
class Prepared {
 public:
  Prepared(py::object backend, const py::iterable& program, const py::sequence& bases)
      : owner_(std::move(backend)), backend_(owner_.cast<CoreBackend&>()), held_(backend_.hold_program(program)) {
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
    hold(size_t(index), base);
  }

  void run(int32_t threads) {
    CHECK_ARG(threads >= 1, "run: expected at least 1 thread, got ", threads);
    check_bases(needs_, found_, count_);
    const py::gil_scoped_release release;
    std::vector<char*> addresses;
    for (size_t i = 0; i < found_.size(); ++i) {
      addresses.push_back(twins_[i] ? twins_[i]->address() : found_[i].address);
      if (twins_[i]) twins_[i]->bring();
    }
    backend_.backend->run(programs_.data(), int32_t(programs_.size()), addresses.data(), threads);
    for (size_t i = 0; i < found_.size(); ++i) {
      if (twins_[i] && needs_[i].written) twins_[i]->take_back();
    }
  }

 private:
  void hold(size_t i, py::object object) {
    if (i < needs_.size()) {
      holders_[i].reset(), found_[i] = Base{};
      if (needs_[i].used && !object.is_none()) {
        holders_[i] = std::make_unique<HeldBase>(object, int64_t(i), needs_[i].written, *backend_.backend);
        found_[i] = holders_[i]->base();
        renew(twins_[i], *backend_.backend, *holders_[i]);
      }
    }
    objects_[i] = std::move(object);
  }

  py::object owner_;
  CoreBackend& backend_;
  std::vector<HeldProgram> held_;
  std::vector<Program> programs_;
  std::vector<ArenaNeed> needs_;
  int64_t count_ = 0;
  std::vector<py::object> objects_;
  std::vector<std::unique_ptr<HeldBase>> holders_;
  std::vector<std::unique_ptr<Twin>> twins_;  // of host memory, where the backend is not on the host
  std::vector<Base> found_;
};

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
      .def_property_readonly("nbytes", [](const Arena& arena) { return arena.bytes; })
      .def_property_readonly("address", [](const Arena& arena) { return reinterpret_cast<uintptr_t>(arena.memory); })
#if PY_VERSION_HEX < 0x030c0000  // later ones add it themselves
      .def("__buffer__", [](py::handle self, int) { return py::memoryview(py::reinterpret_borrow<py::object>(self)); })
#endif
      .def("write", &write_arena, "data"_a)
      .def("read", &read_arena, "into"_a)
      .def_buffer([](Arena& arena) {
        if (!arena.backend->on_host()) throw py::buffer_error("Arena: expected one of the host, got one of a device");
        return py::buffer_info(reinterpret_cast<uint8_t*>(arena.memory), arena.bytes);
      });
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
          "layout",
          [](const CoreBackend& b, const std::string& role, int64_t rows, int64_t cols, int64_t depth) {
            return name_of(b.backend->layout(parse<Role>("layout role", ROLE_NAMES, role), rows, cols, depth));
          },
          "role"_a, "m"_a, "n"_a, "k"_a)
      .def("record", &CoreBackend::record, "sections"_a)
      .def(
          "allocate",
          [](const CoreBackend& b, int64_t bytes) {
            CHECK_ARG(bytes >= 0, "allocate: expected 0 bytes or more, got ", bytes);
            try {
              return std::make_unique<Arena>(b.backend, bytes);
            } catch (const std::bad_alloc&) {
              py::set_error(PyExc_MemoryError, message("allocate: no memory for ", bytes, " bytes").c_str());
              throw py::error_already_set();
            }
          },
          "bytes"_a)
      .def(
          "run",
          [](py::object self, const py::iterable& program, const py::sequence& bases, int32_t threads) {
            Prepared(std::move(self), program, bases).run(threads);
          },
          "program"_a, "bases"_a, "threads"_a = 1)
      .def(
          "prepare",
          [](py::object self, const py::iterable& program, const py::sequence& bases) {
            return std::make_unique<Prepared>(std::move(self), program, bases);
          },
          "program"_a, "bases"_a);
  bind_class<Prepared>(m, "Prepared")
      .def("set", &Prepared::set, "index"_a, "base"_a)
      .def("run", &Prepared::run, "threads"_a = 1);
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

py::dict describe_cuda() {
  const CudaInfo info = cuda_info();
  return py::dict("built"_a = info.built, "available"_a = info.absence.empty(), "architectures"_a = info.architectures,
                  "devices"_a = info.devices, "reason"_a = info.absence);
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

// ---- the probes of the benchmarks

double fma_probe(const std::string& isa, int64_t rounds) {
  const HostKernels& kernels = host_kernels(isa, DType::f32);
  const py::gil_scoped_release release;
  double sink = 0;
  return kernels.fma_probe(rounds, &sink);
}

void read_probe(const std::string& isa, const py::buffer& buffer, int64_t times) {
  const HostKernels& kernels = host_kernels(isa, DType::f32);
  const py::buffer_info memory = buffer.request();
  CHECK_ARG(PyBuffer_IsContiguous(memory.view(), 'C'), "read_probe: expected a contiguous buffer, got strides");
  const py::gil_scoped_release release;
  double sink = 0;
  kernels.read_probe(static_cast<const char*>(memory.ptr), memory.size * memory.itemsize, times, &sink);
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
  m.def("cuda_info", &dlcore::describe_cuda);
  m.def("emulator_built", [] { return dlcore::emulated_backend() != nullptr; });
  m.def("emulate_fault", &dlcore::emulate_fault, "fault"_a, "schedule"_a);
  m.def("fma_probe", &dlcore::fma_probe, "isa"_a, "rounds"_a);
  m.def("read_probe", &dlcore::read_probe, "isa"_a, "buffer"_a, "times"_a);
  m.def("default_threads", &dlcore::default_threads);
  dlcore::default_threads();  // reads OMP_NUM_THREADS now
  dlcore::forced_set();       // reads DLCORE_CPU now
}
