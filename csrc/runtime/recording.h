// SPDX-License-Identifier: Apache-2.0
// A replayable list of instructions: deep copies of what was recorded, the steps the runner walks, and what the arenas
// must hold.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "../backend.h"
#include "validate.h"

namespace dlcore {

// An instruction with its own views, stages and numbers.
struct OwnedInstruction {
  Kernel kernel;
  int64_t rows, cols;
  std::vector<View> operands;
  std::vector<Stage> chain;
  std::vector<double> numbers;
  View scratch;

  OwnedInstruction(Kernel, int64_t rows, int64_t cols);
  explicit OwnedInstruction(const Instruction&);
  Instruction borrow() const;  // valid while this lives unchanged
};

View absent_view();

// An instruction with what its kernel says of it once and for all.
struct Planned {
  Instruction instruction;
  const KernelEntry* entry;
  Footprint footprint;
  std::vector<int64_t> items;  // of each phase
  int64_t depth;               // rows that an item takes of a depth, 0: none
  int64_t rows;                // that the items of phase 0 are cut along
  alignas(int64_t) char prepared[PREPARED_BYTES] = {};
};

// What the threads of a team do between two barriers.
struct Step {
  int32_t first, count;  // instructions
  int32_t phase;
  int64_t block_rows;   // 0: its items are work items of one instruction, else units of blocks of rows
  int64_t unit_blocks;  // of a unit, one after another
  int64_t row_bytes;    // of the local arena
  bool serial;          // thread 0 does it
  int64_t total;        // items, of all members
  int32_t calls;        // instructions that begin here, and the bytes they move
  int64_t bytes;
};

// What a backend keeps with a recording.
struct Attachment {
  virtual ~Attachment() = default;
};

struct Recording {
  const Traits* traits = nullptr;
  const Backend* home = nullptr;  // the device that it stays on; nullptr: the host
  std::vector<OwnedInstruction> owned;
  std::vector<Planned> planned;
  std::vector<Step> steps;
  std::vector<ArenaNeed> arenas;
  int64_t width = 1;  // threads that could find work at the same time

  // Totals since the last reset: instructions executed, and the bytes they moved.
  mutable std::atomic<int64_t> calls{0}, bytes{0};
  mutable std::unique_ptr<Attachment> attachment;
};

Recording* record_sections(const Section*, int32_t count, const KernelEntry* const* table, const Traits&);

struct Base {
  char* address;      // nullptr: absent
  int64_t low, high;  // bytes around it that may be touched
};

// Refuses bases that are missing, misplaced or too small.
void check_bases(const std::vector<ArenaNeed>&, const std::vector<Base>&, int64_t given);

void run_programs(const Program*, int32_t count, char* const* bases, int32_t threads);

}  // namespace dlcore
