// SPDX-License-Identifier: Apache-2.0
// Views, stages and instructions as Python makes them. Part of bindings.cpp, the only file that includes it.
#pragma once

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

}  // namespace
}  // namespace dlcore
