// SPDX-License-Identifier: Apache-2.0
// Chains: what a kernel does to its value, block by block, before it goes anywhere; and their reductions over rows.
//
// A reduction is a partial result of each chunk of CHUNK_ROWS rows, in scratch, merged in row order by one more phase;
// with a single chunk it is final at once and there is no such phase.
#pragma once
#include "convert.h"
#include "simd.h"

DLCORE_BEGIN

// The part at (row, col) of the (instruction.rows, instruction.cols) value. The blocks of a chunk come in the order of
// their rows; a chain that takes moments needs all rows of the chunk at once.
struct Block {
  real* v;  // (rows, cols); v[r * ld + c] may be read and written for c < round_up(cols, LANES)
  int64_t ld;
  int64_t row, col;    // col % COLUMN_ALIGN == 0
  int64_t rows, cols;  // rows <= CHUNK_ROWS
  // (rows, cols), no further: where the value lies until a stage changes it; nullptr: in v
  const real* from = nullptr;
  int64_t from_ld = 0;
  bool keeps = false;  // the value is wanted in v when the chain is over
};

// Every stage in order from the one that comes first. The value is in v then, if a stage changes it and the block keeps
// it.
void run_chain(const Call& call, const Block& block, int32_t first = 0);

// The block where its last store puts it, if whole vectors may be written there, nothing changes the value after and
// the chain reads nothing of that memory: the value is then made in place. Else the block as it is.
Block at_last_store(const Call& call, const Block& block);

// Whether no stage stores where an operand of the kernel lies.
bool stores_apart(const Instruction& instruction);

// Bytes of partial results. They come first in instruction.scratch.
int64_t chain_scratch(const Instruction& instruction);

// Whether a stage takes moments.
bool has_moments(const Instruction& instruction);

// The kernel then ends with a phase of merge_items, which calls merge_chain.
bool chain_reduces(const Instruction& instruction);
int64_t merge_items(const Instruction& instruction);
void merge_chain(const Call& call, int64_t begin, int64_t end);

constexpr int64_t SLAB_ELEMENTS = 32768 / int64_t(sizeof(real));  // stay in L1 or L2 from stage to stage
constexpr int64_t SLAB_COLUMNS = 2048;                            // at most

// Columns of a slab of so many rows.
inline int64_t slab_columns(int64_t rows) {
  return min(SLAB_COLUMNS, SLAB_ELEMENTS / rows / COLUMN_ALIGN * COLUMN_ALIGN);
}

// The items of a kernel that makes its value element by element: a chunk of rows by item_columns. Whole rows, one after
// another, come fastest from memory (4096 x 4096, dropout again and store: 2048 columns of 4 rows at a time 0.30, whole
// rows 0.14 ns an element), narrow items feed more threads.
inline int64_t item_columns(const Instruction& in) { return in.rows < 16 * CHUNK_ROWS ? 512 : in.cols; }

inline int64_t item_rows(const Instruction& in, int64_t width) {
  if (has_moments(in)) return CHUNK_ROWS;
  return width > SLAB_COLUMNS ? 1 : max(4, min(CHUNK_ROWS, SLAB_ELEMENTS / width));
}

inline int64_t block_items(const Instruction& in) {
  return ceil_div(in.rows, CHUNK_ROWS) * ceil_div(in.cols, item_columns(in));
}

// Fills v with its part of the first operand, of any dtype.
inline void load_block(const Call& call, const Block& block) {
  const View& view = call.instruction->operands[0];
  const char* x = at<const char>(call, view);
  for (int64_t r = 0; r < block.rows; ++r) {
    const char* row = x + ((block.row + r) * view.ld + block.col * view.step) * size_of(view.dtype);
    load_as_real(view.dtype, row, view.step, block.cols, block.v + r * block.ld);
  }
}

// load(Block&) fills v, or says where the value lies; the chain follows.
template <class Load>
inline void run_blocks(const Call& call, int64_t begin, int64_t end, char* workspace, Load load) {
  const Instruction& in = *call.instruction;
  const int64_t width = min(in.cols, item_columns(in)), across = ceil_div(in.cols, width);
  const int64_t rows = item_rows(in, width), cols = slab_columns(rows);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / across * CHUNK_ROWS, last_row = min(in.rows, row + CHUNK_ROWS);
    const int64_t col = item % across * width, last_col = min(in.cols, col + width);
    for (int64_t r = row; r < last_row; r += rows) {
      for (int64_t c = col; c < last_col; c += cols) {
        Block block = at_last_store(
            call, {reinterpret_cast<real*>(workspace), cols, r, c, min(rows, last_row - r), min(cols, last_col - c)});
        load(block);
        run_chain(call, block);
      }
    }
  }
}

DLCORE_END
