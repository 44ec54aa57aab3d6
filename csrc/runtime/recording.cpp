// SPDX-License-Identifier: Apache-2.0
// Recording: copy, check, ask each kernel for its phases and items, and lay the steps out flat.
#include "recording.h"

#include <algorithm>
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
  const int64_t depth = entry->depth != nullptr ? entry->depth(instruction) : 0;
  Planned planned{instruction, entry, footprint,
                  {},          depth, depth > 0 ? instruction.operands[0].rows : instruction.rows};
  if (entry->prepare != nullptr) entry->prepare(instruction, planned.prepared);
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

// One step for each phase from `phase` on. A single item needs no company, and no barrier to the next of its kind.
void add_phases(Recording& recording, int32_t index, int32_t phase, bool serial) {
  const Planned& planned = recording.planned[size_t(index)];
  for (; phase < int32_t(planned.items.size()); ++phase) {
    const int64_t total = planned.items[size_t(phase)] * planned.footprint.members;
    const bool begins = phase == 0;
    add_step(recording,
             {index, 1, phase, 0, 0, 0, serial || total == 1, total, begins, begins ? planned.footprint.bytes : 0});
  }
}

void add_instructions(Recording& recording, int32_t first, const Section& section) {
  for (int32_t i = first; i < first + section.count; ++i) {
    CHECK_ARG(!recording.planned[size_t(i)].footprint.local, name_of_instruction(size_t(i)),
              ": expected a section of row blocks for views of the local arena, got none");
    add_phases(recording, i, 0, section.serial != 0);
  }
}

// Does a block of rows of this operand serve a block of the work?
bool goes_by_rows(const Planned& planned, int64_t operand) {
  switch (planned.instruction.kernel) {
    case Kernel::product:
      return planned.depth > 0 || (operand == 0 && Role(int(planned.instruction.numbers[0])) != Role::tn);
    case Kernel::gather:
    case Kernel::gather_index:
      return operand > 2;
    case Kernel::pack:
      return operand == 0;
    default:
      return true;
  }
}

// What a block of rows must be able to do with an instruction. Where a depth is cut, the chain runs after all blocks.
void check_block(const Planned& planned, const Section& section, int64_t rows, const std::string& who) {
  const Instruction& instruction = planned.instruction;
  const int64_t cuts = rows > 0 ? (rows - 1) / (planned.depth > 0 ? planned.depth : CHUNK_ROWS) + 1 : 1;
  CHECK_ARG(planned.depth != NEITHER, who, ": expected a kernel that goes by rows, got ", name_of(instruction.kernel),
            " in larger panels or by its depth");
  CHECK_ARG(rows > 0 && planned.rows == rows && planned.items[0] % cuts == 0 && planned.footprint.members == 1, who,
            ": expected work in chunks of ", rows, " rows of one member, got ", planned.items[0], " items of ",
            planned.rows, " rows");
  CHECK_ARG(planned.depth % section.block_rows == 0, who, ": expected blocks that divide a depth of ", planned.depth,
            ", got ", section.block_rows);
  int64_t index = -1;
  for_views(instruction, [&](const View& view) {
    ++index;
    if (view.arena != LOCAL_ARENA) return;
    const int64_t item = size_of(view.dtype);
    const bool by_rows = index < instruction.operand_count ? goes_by_rows(planned, index) : planned.depth == 0;
    CHECK_ARG(view.rows == rows && view.layout == Layout::row_major && view.ld * item == section.row_bytes, who,
              ": expected local views of ", rows, " rows, ", section.row_bytes, " bytes apart, got ", view.rows,
              " rows, ", view.ld * item, " bytes apart");
    CHECK_ARG(by_rows && view.step == 1 && view.offset + view.cols * item <= section.row_bytes, who,
              ": expected local views inside their rows, of operands that go by rows, got one of ", view.cols,
              " columns at ", view.offset);
  });
}

// The instructions of a section of row blocks. A unit is what one thread takes: a block, or the rows of a cut depth.
void add_blocks(Recording& recording, int32_t first, const Section& section) {
  const int64_t rows = recording.planned[size_t(first)].rows;
  int64_t bytes = 0, unit = section.block_rows;
  for (int32_t i = first; i < first + section.count; ++i) {
    const Planned& planned = recording.planned[size_t(i)];
    check_block(planned, section, rows, name_of_instruction(size_t(i)));
    bytes += planned.footprint.bytes;
    unit = std::max(unit, planned.depth);
  }
  for (int32_t i = first; i < first + section.count; ++i) {
    const int64_t depth = recording.planned[size_t(i)].depth;
    CHECK_ARG(depth == 0 || unit % depth == 0, name_of_instruction(size_t(i)), ": expected depths that divide ", unit,
              ", got ", depth);
  }
  const int64_t total = (rows - 1) / unit + 1;
  add_step(recording, {first, section.count, 0, section.block_rows, unit / section.block_rows, section.row_bytes,
                       section.serial != 0 || total == 1, total, section.count, bytes});
  for (int32_t i = first; i < first + section.count; ++i) add_phases(recording, i, 1, section.serial != 0);
}

void check_section(const Section& section, int32_t index) {
  CHECK_ARG(section.block_rows >= 0 && section.block_rows % CHUNK_ROWS == 0 && section.block_rows <= LOCAL_BYTES,
            "section ", index, ": expected blocks of a multiple of ", CHUNK_ROWS, " rows, got ", section.block_rows);
  CHECK_ARG(section.row_bytes >= 0 && section.row_bytes <= LOCAL_BYTES / std::max<int64_t>(1, section.block_rows),
            "section ", index, ": expected at most ", LOCAL_BYTES, " bytes in a block of ", section.block_rows,
            " rows, got rows of ", section.row_bytes);
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
    check_section(section, s);
    (section.block_rows > 0 && section.count > 0 ? add_blocks : add_instructions)(*recording, first, section);
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
