// SPDX-License-Identifier: Apache-2.0
// Recording: copy, check, ask each kernel for its phases and items, and lay the steps out flat.
#include "recording.h"

#include <memory>

#include "../check.h"
#include "names.h"

namespace dlcore {
namespace {

constexpr int64_t ITEM_LIMIT = int64_t(1) << 48;  // the runner multiplies items by threads

std::string name_of_instruction(size_t index) { return message("instruction ", index); }

Planned plan(const OwnedInstruction& owned, const KernelEntry* const* table, const Traits& traits,
             const std::string& who) {
  const Instruction instruction = owned.borrow();
  Footprint footprint = check_instruction(instruction, traits, who);
  const KernelEntry* entry = table[int32_t(instruction.kernel)];
  check_scratch(instruction, traits, entry->scratch(instruction), who, footprint);
  Planned planned{instruction, entry, footprint, {}};
  const int32_t phases = entry->phases(instruction);
  for (int32_t phase = 0; phase < phases; ++phase) {
    planned.items.push_back(entry->items(instruction, phase));
    CHECK_ARG(planned.items.back() <= ITEM_LIMIT / footprint.members, who, ": expected fewer than 2^48 items, got ",
              planned.items.back());
  }
  return planned;
}

void add_step(Recording& recording, const Step& step) {
  recording.steps.push_back(step);
  if (!step.serial && step.total > recording.width) recording.width = step.total;
}

// The instructions of a section whose runs need no barrier.
void add_outer(Recording& recording, int32_t first, const Section& section) {
  int64_t bytes = 0;
  for (int32_t i = first; i < first + section.count; ++i) {
    const Planned& planned = recording.planned[size_t(i)];
    CHECK_ARG(planned.items.size() == 1, name_of_instruction(size_t(i)), " ", name_of(planned.instruction.kernel),
              ": expected one phase in a section with an outer range, got ", planned.items.size());
    bytes += planned.footprint.bytes;
  }
  const bool serial = section.serial != 0 || section.outer == 1;
  add_step(recording, {first, section.count, 0, true, serial, section.outer, section.count, bytes});
}

// One step for each phase. A single item needs no company, and no barrier to the next of its kind.
void add_phases(Recording& recording, int32_t first, const Section& section) {
  for (int32_t i = first; i < first + section.count; ++i) {
    const Planned& planned = recording.planned[size_t(i)];
    for (int32_t phase = 0; phase < int32_t(planned.items.size()); ++phase) {
      const int64_t total = planned.items[size_t(phase)] * planned.footprint.members;
      const bool begins = phase == 0, serial = section.serial != 0 || total == 1;
      add_step(recording, {i, 1, phase, false, serial, total, begins, begins ? planned.footprint.bytes : 0});
    }
  }
}

}  // namespace

View absent_view() { return {-1, DType::f32, Layout::row_major, 1, 0, 0, 0, 0, 0, 1}; }

OwnedInstruction::OwnedInstruction(Kernel kernel_, int64_t rows_, int64_t cols_)
    : kernel(kernel_), rows(rows_), cols(cols_), scratch(absent_view()) {}

OwnedInstruction::OwnedInstruction(const Instruction& i)
    : kernel(i.kernel),
      rows(i.rows),
      cols(i.cols),
      operands(i.operands, i.operands + i.operand_count),
      chain(i.chain, i.chain + i.stage_count),
      numbers(i.numbers, i.numbers + i.number_count),
      scratch(i.scratch) {}

Instruction OwnedInstruction::borrow() const {
  return {kernel, int32_t(operands.size()), int32_t(chain.size()), int32_t(numbers.size()), rows,
          cols,   operands.data(),          chain.data(),          numbers.data(),          scratch};
}

Recording* record_sections(const Section* sections, int32_t count, const KernelEntry* const* table,
                           const Traits& traits) {
  std::unique_ptr<Recording> recording(new Recording);
  recording->traits = &traits;
  for (int32_t s = 0; s < count; ++s) {
    for (int32_t i = 0; i < sections[s].count; ++i) recording->owned.emplace_back(sections[s].instructions[i]);
  }
  for (const OwnedInstruction& owned : recording->owned) {
    const std::string who = name_of_instruction(recording->planned.size());
    recording->planned.push_back(plan(owned, table, traits, who));
    merge(recording->arenas, recording->planned.back().footprint.arenas);
  }
  int32_t first = 0;
  for (int32_t s = 0; s < count; ++s) {
    const Section& section = sections[s];
    CHECK_ARG(section.outer >= 0 && section.outer <= ITEM_LIMIT, "section ", s,
              ": expected an outer range in [0, 2^48], got ", section.outer);
    (section.outer > 0 ? add_outer : add_phases)(*recording, first, section);
    first += section.count;
  }
  return recording.release();
}

void check_bases(const std::vector<ArenaNeed>& needs, const std::vector<Base>& bases, int64_t given) {
  CHECK_ARG(int64_t(needs.size()) <= given, "run: expected ", needs.size(), " bases, got ", given);
  for (size_t i = 0; i < needs.size(); ++i) {
    const ArenaNeed& need = needs[i];
    const Base& base = bases[i];
    if (!need.used) continue;
    CHECK_ARG(base.address != nullptr, "run: expected a buffer for base ", i, ", got None");
    CHECK_ARG(base.high >= need.high, "run: expected at least ", need.high, " bytes in base ", i, ", got ", base.high);
    CHECK_ARG(base.low <= need.low, "run: expected ", -need.low, " bytes before base ", i, ", got ", -base.low);
    CHECK_ARG(reinterpret_cast<uintptr_t>(base.address) % uintptr_t(need.alignment) == 0, "run: expected base ", i,
              " at a multiple of ", need.alignment, " bytes, got address ", static_cast<void*>(base.address));
  }
}

}  // namespace dlcore
