// SPDX-License-Identifier: Apache-2.0
// Everything that can be wrong with an instruction is found here, once, when it is recorded; kernels trust their views.
// check_instruction applies the signatures (validate.cpp), each view's own rules (view_check.cpp) and those that one
// kernel has to itself (kernel_check.cpp).
#pragma once
#include <string>
#include <vector>

#include "../backend.h"
#include "signature.h"

namespace dlcore {

// Larger counts and strides are refused, so that extents computed in 128 bits cannot wrap.
constexpr int64_t FIELD_LIMIT = int64_t(1) << 48;

// What a recording touches of one arena, in bytes from its base.
struct ArenaNeed {
  int64_t low = 0, high = 0;  // low < 0 only where a data set is read backwards
  int64_t alignment = 1;
  bool used = false, written = false;
};

struct Footprint {
  std::vector<ArenaNeed> arenas;
  bool local = false;   // touches the local arena
  int64_t bytes = 0;    // moved by one execution: elements of operands, of the chain's views and of scratch
  int32_t members = 1;  // nets the instruction runs for
};

// f(view) for every view of an instruction but scratch, absent ones too.
template <class F>
void for_views(const Instruction& instruction, F f) {
  for (int32_t i = 0; i < instruction.operand_count; ++i) f(instruction.operands[i]);
  for (int32_t i = 0; i < instruction.stage_count; ++i) {
    const Stage& s = instruction.chain[i];
    for (const View* view : {&s.operand, &s.operand_scale, &s.operand_shift, &s.a, &s.b, &s.c, &s.out, &s.out2}) {
      f(*view);
    }
  }
}

// Checks all but scratch; `who` begins the message of a refusal.
Footprint check_instruction(const Instruction&, const Traits&, const std::string& who);

// Refuses a scratch view of fewer than `bytes` bytes, and adds the view to the footprint.
void check_scratch(const Instruction&, const Traits&, int64_t bytes, const std::string& who, Footprint&);

// Checks one view of an instruction against its spec and adds it to the footprint, whose members are known.
void check_view(const Instruction&, const Traits&, const std::string& who, const OperandSpec&, const View&, Footprint&);

// The rules of one kernel; counts, views and stages have been checked.
void check_kernel(const Instruction&, const Traits&, const std::string& who);

// The scale of a loss serves products of f16 alone, which GPUs have.
void check_loss_scale(const View&, const Traits&, const std::string& who);

// Adds `more` to `all`, arena by arena.
void merge(std::vector<ArenaNeed>& all, const std::vector<ArenaNeed>& more);

std::string shape_text(int64_t rows, int64_t cols);

}  // namespace dlcore
