// SPDX-License-Identifier: Apache-2.0
// The two tables, in the order of enum Kernel and enum StageKind.
#include "signature.h"

namespace dlcore {
namespace {

constexpr Access write = Access::write, update = Access::update, read = Access::read;
constexpr bool optional = true, chain = true, no_chain = false, sized = true, unsized = false;

constexpr OperandSpec value(const char* name, Layouts layouts = Layouts::one_part) {
  return {name, Element::real, ROWS, COLS, read, false, Touch::all, layouts};
}
constexpr OperandSpec column(const char* name, Access access = read, bool is_optional = false) {
  return {name, Element::real, 1, COLS, access, is_optional};
}
constexpr OperandSpec row_scalar(const char* name, Access access = read, bool is_optional = false) {
  return {name, Element::real, ROWS, 1, access, is_optional};
}
constexpr OperandSpec flat(const char* name, Access access = read, bool is_optional = false) {
  return {name, Element::real, 1, ANY, access, is_optional};
}
constexpr OperandSpec counters(Access access = read) { return {"counters", Element::i64, 1, COUNTERS, access}; }
constexpr OperandSpec metrics(Access access = read, bool is_optional = false) {
  return {"metrics", Element::f64, 1, METRICS, access, is_optional};
}
constexpr OperandSpec grad_scale(Access access = read, bool is_optional = false) {
  return {"grad_scale", Element::f64, 1, 2, access, is_optional};
}
constexpr OperandSpec loss_scale(Access access = read) {
  return {"loss_scale", Element::real, 1, LOSS_SCALE, access, optional};
}
constexpr OperandSpec packed(const char* name, Access access, Layouts layouts = Layouts::all,
                             bool is_optional = false) {
  return {name, Element::real, ANY, ANY, access, is_optional, Touch::all, layouts};
}
constexpr OperandSpec order{"order", Element::i64, 1, ANY, read, optional, Touch::elements};

const Signature KERNELS[] = {
    {chain, sized, 1, {packed("A", read, Layouts::parts), packed("B", read)}},
    {chain, sized, 0, {value("x")}},
    {chain, sized, 2, {value("x"), packed("packed", write), packed("packed2", write, Layouts::all, optional)}},
    {chain, sized, 0, {{"data", Element::any, ANY, COLS, read, false, Touch::rows}, order, counters()}},
    {no_chain,
     sized,
     0,
     {{"data", Element::integer, ANY, COLS, read, false, Touch::rows},
      order,
      counters(),
      {"out", Element::i32, ROWS, COLS, write}}},
    {no_chain,
     sized,
     3,
     {column("mean"), column("m2"), column("gamma"), column("beta"), column("running_mean", update, optional),
      column("running_var", update, optional), column("scale", write), column("shift", write), column("rstd", write),
      column("center", write)}},
    {no_chain,
     sized,
     1,
     {column("sum"), column("dot"), column("gamma"), column("mean"), column("rstd"), column("a", write),
      column("b", write), column("c", write), column("dgamma", write), column("dbeta", write)}},
    {chain,
     sized,
     1,
     {value("x"), column("gamma", read, optional), column("beta", read, optional), row_scalar("mean", write),
      row_scalar("rstd", write)}},
    {chain,
     sized,
     0,
     {value("dy"), value("x"), column("gamma", read, optional), row_scalar("mean"), row_scalar("rstd"),
      column("dgamma", write, optional), column("dbeta", write, optional)}},
    {chain,
     sized,
     2,
     {value("logits", Layouts::row_major),
      {"target", Element::real_or_i32, ROWS, ANY},
      row_scalar("weight", read, optional),
      column("class_weight", read, optional),
      metrics(update)}},
    {chain,
     sized,
     4,
     {value("prediction", Layouts::row_major), value("target", Layouts::row_major),
      row_scalar("weight", read, optional), metrics(update)}},
    {no_chain, unsized, 1, {metrics(), flat("gradients", read, optional), grad_scale(write), loss_scale(update)}},
    {no_chain,
     unsized,
     update_first,
     {flat("w", update),
      flat("g", update),
      flat("s1", update, optional),
      flat("s2", update, optional),
      grad_scale(),
      {"hyper", Element::f64, ANY, ANY, read, false, Touch::row},
      counters(),
      loss_scale(),
      {"copies", Element::any, 1, ANY, write, optional}}},
    {no_chain,
     unsized,
     3,
     {counters(update),
      metrics(update, optional),
      grad_scale(read, optional),
      {"results", Element::f64, ANY, RESULTS, write, optional, Touch::row},
      loss_scale()}},
    {chain, sized, 0, {value("x", Layouts::row_major)}},
};
static_assert(int64_t(sizeof(KERNELS) / sizeof(KERNELS[0])) == int64_t(Kernel::count));

constexpr Use none = Use::none, some = Use::optional, must = Use::required;

const StageSignature STAGES[] = {
    // operand, a, b, c, out, out2
    {none, some, some, none, none, none},  // affine
    {must, must, must, must, none, none},  // affine2
    {must, none, none, none, none, none},  // add
    {none, none, none, none, none, none},  // activate
    {must, none, none, none, none, none},  // activate_grad
    {some, must, none, none, some, none},  // dropout
    {none, some, none, none, none, none},  // scale
    {none, none, none, none, must, none},  // store
    {none, none, none, none, must, none},  // sum
    {must, none, none, none, must, none},  // dot
    {none, none, none, none, must, must},  // moments
};
static_assert(int64_t(sizeof(STAGES) / sizeof(STAGES[0])) == int64_t(StageKind::moments) + 1);

}  // namespace

int32_t Signature::operand_count() const {
  int32_t count = 0;
  while (count < MAX_OPERANDS && operands[count].name != nullptr) ++count;
  return count;
}

const Signature& signature_of(Kernel kernel) { return KERNELS[int32_t(kernel)]; }
const StageSignature& signature_of(StageKind kind) { return STAGES[int32_t(kind)]; }

}  // namespace dlcore
