// SPDX-License-Identifier: Apache-2.0
// Counts, operands and stages of an instruction against the signatures.
#include "validate.h"

#include <cmath>
#include <cstddef>

#include "../check.h"
#include "names.h"

namespace dlcore {
namespace {

constexpr int32_t STAGE_LIMIT = 256;

void check_counts(const Instruction& i, const Signature& signature, const std::string& who) {
  CHECK_ARG(i.operand_count == signature.operand_count(), who, ": expected ", signature.operand_count(),
            " operands, got ", i.operand_count);
  CHECK_ARG(i.stage_count == 0 || signature.chain, who, ": expected no chain, got ", i.stage_count, " stages");
  CHECK_ARG(i.stage_count <= STAGE_LIMIT, who, ": expected at most ", STAGE_LIMIT, " stages, got ", i.stage_count);
  CHECK_ARG(i.number_count >= signature.numbers, who, ": expected ", signature.numbers, " numbers, got ",
            i.number_count);
  const int64_t least = signature.sized ? 1 : 0;
  CHECK_ARG(i.rows >= least && i.cols >= least && i.rows <= FIELD_LIMIT && i.cols <= FIELD_LIMIT, who,
            ": expected 1 to 2^48 rows and columns, got ", shape_text(i.rows, i.cols));
  for (int32_t n = 0; n < i.number_count; ++n) {
    CHECK_ARG(!std::isnan(i.numbers[n]), who, " numbers[", n, "]: expected a number, got nan");
  }
}

int32_t members_of(const Instruction& instruction) {
  int32_t members = 1;
  for_views(instruction, [&members](const View& view) {
    if (view.arena >= 0 && view.members > members) members = view.members;
  });
  return members;
}

struct StageView {
  Use use;
  OperandSpec spec;
  const View* view;
};

void check_stage_views(const Instruction& instruction, const Stage& stage, const Traits& traits, const std::string& who,
                       Footprint& footprint) {
  const StageSignature& signature = signature_of(stage.kind);
  const bool random = stage.kind == StageKind::dropout, stores = stage.kind == StageKind::store;
  const int64_t a_cols = random ? int64_t(COUNTERS) : stage.kind == StageKind::scale ? int64_t(LOSS_SCALE) : COLS;
  const Use affine = stage.operand.arena >= 0 && !random ? Use::optional : Use::none;
  const StageView views[] = {
      {signature.operand,
       {"operand", random ? Element::u8 : Element::real, ROWS, random ? BITS : COLS, Access::read, false, Touch::all,
        random ? Layouts::row_major : Layouts::one_part},
       &stage.operand},
      {affine, {"operand_scale", Element::real, 1, COLS}, &stage.operand_scale},
      {affine, {"operand_shift", Element::real, 1, COLS}, &stage.operand_shift},
      {signature.a, {"a", random ? Element::i64 : Element::real, 1, a_cols}, &stage.a},
      {signature.b, {"b", Element::real, 1, COLS}, &stage.b},
      {signature.c, {"c", Element::real, 1, COLS}, &stage.c},
      {signature.out,
       {"out", random ? Element::u8 : Element::real, stores || random ? ROWS : 1, random ? BITS : COLS, Access::write,
        false, Touch::all, stores ? Layouts::parts : Layouts::row_major},
       &stage.out},
      {signature.out2, {"out2", Element::real, 1, COLS, Access::write}, &stage.out2}};
  for (const StageView& entry : views) {
    OperandSpec spec = entry.spec;
    spec.optional = entry.use != Use::required;
    CHECK_ARG(entry.use != Use::none || entry.view->arena < 0, who, " ", spec.name,
              ": expected none, got a view of arena ", entry.view->arena);
    check_view(instruction, traits, who, spec, *entry.view, footprint);
  }
}

void check_stage_numbers(const Stage& stage, const Traits& traits, const std::string& who) {
  if (stage.kind == StageKind::activate || stage.kind == StageKind::activate_grad) {
    CHECK_ARG(stage.function >= 0 && stage.function < traits.activation_count, who, ": expected a function below ",
              traits.activation_count, ", got ", stage.function);
  }
  if (stage.kind == StageKind::scale) check_loss_scale(stage.a, traits, who + " a");
  if (stage.kind == StageKind::store && stage.numbers[0] != 0) {
    CHECK_ARG(stage.out.layout == Layout::parts && stage.out.ld == 1, who,
              " out: expected one part for a value that goes on as it, got ", name_of(stage.out.layout));
  }
  if (stage.kind == StageKind::dropout) {
    CHECK_ARG(stage.numbers[0] >= 0 && stage.numbers[0] < 1, who, ": expected a probability in [0, 1), got ",
              stage.numbers[0]);
    CHECK_ARG(stage.random_op >= 0, who, ": expected a random_op of at least 0, got ", stage.random_op);
    const bool reads = stage.operand.arena >= 0, writes = stage.out.arena >= 0;
    CHECK_ARG(!(reads && writes), who, ": expected bits to read or bits to write, got both");
    CHECK_ARG(!(reads || writes) || traits.unit_layout != Layout::parts, who, ": expected no bits, as ", traits.name,
              " draws, got a view");
  }
}

void check_stage(const Instruction& instruction, int32_t index, const Traits& traits, const std::string& who,
                 Footprint& footprint) {
  const Stage& stage = instruction.chain[index];
  std::string name = message(who, " chain[", index, "]");
  CHECK_ARG(stage.kind >= StageKind(0) && stage.kind <= StageKind::moments, name, ": expected a stage, got number ",
            int32_t(stage.kind));
  name += message(" ", name_of(stage.kind));
  check_stage_views(instruction, stage, traits, name, footprint);
  check_stage_numbers(stage, traits, name);
}

std::string full_name(const Instruction& instruction, const std::string& who) {
  CHECK_ARG(instruction.kernel >= Kernel(0) && instruction.kernel < Kernel::count, who,
            ": expected a kernel, got number ", int32_t(instruction.kernel));
  return who + " " + name_of(instruction.kernel);
}

}  // namespace

void check_loss_scale(const View& view, const Traits& traits, const std::string& who) {
  CHECK_ARG(view.arena < 0 || traits.unit_layout == Layout::parts, who, ": expected none, as ", traits.name,
            " takes no products of f16, got a view");
}

Footprint check_instruction(const Instruction& instruction, const Traits& traits, const std::string& who) {
  const std::string name = full_name(instruction, who);
  const Signature& signature = signature_of(instruction.kernel);
  check_counts(instruction, signature, name);
  Footprint footprint;
  footprint.members = members_of(instruction);
  for (int32_t i = 0; i < instruction.operand_count; ++i) {
    check_view(instruction, traits, name, signature.operands[i], instruction.operands[i], footprint);
  }
  for (int32_t i = 0; i < instruction.stage_count; ++i) check_stage(instruction, i, traits, name, footprint);
  check_kernel(instruction, traits, name);
  return footprint;
}

void check_scratch(const Instruction& instruction, const Traits& traits, int64_t bytes, const std::string& who,
                   Footprint& footprint) {
  if (bytes == 0) return;
  const std::string name = full_name(instruction, who);
  const View& view = instruction.scratch;
  CHECK_ARG(view.arena != LOCAL_ARENA, name, " scratch: expected an arena below ", LOCAL_ARENA, ", got ", view.arena);
  check_view(instruction, traits, name, {"scratch", Element::any, ANY, ANY, Access::update}, view, footprint);
  const int64_t size = view.rows * view.cols * size_of(view.dtype);
  CHECK_ARG(size >= bytes && view.ld == view.cols, name, " scratch: expected ", bytes, " contiguous bytes, got ", size);
  CHECK_ARG(view.offset % ALIGNMENT == 0 && view.member_stride % ALIGNMENT == 0, name,
            " scratch: expected to begin at a multiple of ", ALIGNMENT, " bytes, got ", view.offset);
  int64_t& alignment = footprint.arenas[size_t(view.arena)].alignment;  // partial results may be of any type
  if (alignment < int64_t(alignof(std::max_align_t))) alignment = alignof(std::max_align_t);
}

}  // namespace dlcore
