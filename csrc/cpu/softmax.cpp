// SPDX-License-Identifier: Apache-2.0
// softmax: of each row of x (rows, cols); items are chunks of rows.
#include "softmax.h"

DLCORE_BEGIN

static int32_t phases(const Instruction& instruction) { return chain_reduces(instruction) ? 2 : 1; }

static int64_t items(const Instruction& instruction, int32_t phase) {
  return phase == 0 ? chunk_count(instruction) : merge_items(instruction);
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  if (phase == 1) return merge_chain(call, begin, end);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    for (int64_t row = 0; row < chunk_rows(instruction, chunk); row += group_rows(instruction)) {
      Group group;
      open_group(call, chunk, row, workspace, true, group);
      for (int64_t r = 0; r < group.rows; ++r) group.factor[r] = 1 / group.sum[r];
      run_group(call, group, [](const Block&) {});
    }
  }
}

extern const KernelEntry softmax_entry = {phases, items, chain_scratch, run};

DLCORE_END
