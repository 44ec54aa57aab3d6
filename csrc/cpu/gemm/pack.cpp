// SPDX-License-Identifier: Apache-2.0
// pack: x (rows, cols) through the chain into the order that a product reads its B in, as it is and (or) transposed.
// Bound by reading x and writing each packed copy once; blocks of 64 x 64 stay in the first-level cache between.
#include "../chain.h"
#include "strip.h"

DLCORE_BEGIN

static_assert(CHUNK_ROWS % STRIP == 0 && COLUMN_ALIGN % STRIP == 0, "a block holds whole strips");

// block -> its strips of a (k, n) operand; transposed: k = cols, n = rows, else k = rows, n = cols
static void write_strips(const Block& block, const View& packed, bool transposed, real* to) {
  const int64_t k = packed.rows;
  const int64_t first = transposed ? block.row : block.col, count = transposed ? block.rows : block.cols;
  for (int64_t c = 0; c < count; c += STRIP) {
    real* strip = to + (first + c) * k;
    if (transposed) {
      transpose_strip(block.v + c * block.ld, block.ld, block.cols, count - c, strip + block.col * STRIP);
    } else {
      copy_strip(block.v + c, block.ld, block.rows, count - c, strip + block.row * STRIP);
    }
  }
}

static void write_rows(const Block& block, const View& packed, bool transposed, real* to) {
  for (int64_t r = 0; r < block.rows; ++r) {
    for (int64_t c = 0; c < block.cols; ++c) {
      const int64_t row = transposed ? block.col + c : block.row + r, col = transposed ? block.row + r : block.col + c;
      to[row * packed.ld + col] = block.v[r * block.ld + c];
    }
  }
}

// [x, packed, packed2?] numbers [transposed, transposed2]
static void write_packed(const Call& call, const Block& block) {
  const Instruction& in = *call.instruction;
  for (int i = 0; i < 2; ++i) {
    const View& packed = in.operands[1 + i];
    real* to = at<real>(call, packed);
    if (to == nullptr) continue;
    const bool transposed = in.numbers[i] != 0;
    if (packed.layout == Layout::strips)
      write_strips(block, packed, transposed, to);
    else
      write_rows(block, packed, transposed, to);
  }
}

constexpr int64_t ITEM_COLUMNS = 512;

static int32_t phases(const Instruction& in) { return chain_reduces(in) ? 2 : 1; }

static int64_t items(const Instruction& in, int32_t phase) {
  return phase == 0 ? ceil_div(in.rows, CHUNK_ROWS) * ceil_div(in.cols, ITEM_COLUMNS) : merge_items(in);
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  if (phase == 1) return merge_chain(call, begin, end);
  const Instruction& in = *call.instruction;
  const int64_t across = ceil_div(in.cols, ITEM_COLUMNS);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / across * CHUNK_ROWS, first = item % across * ITEM_COLUMNS;
    for (int64_t col = first; col < min(in.cols, first + ITEM_COLUMNS); col += COLUMN_ALIGN) {
      const Block block = {reinterpret_cast<real*>(workspace), COLUMN_ALIGN, row, col, min(CHUNK_ROWS, in.rows - row),
                           min(COLUMN_ALIGN, in.cols - col)};
      load_block(call, block);
      run_chain(call, block);
      write_packed(call, block);
    }
  }
}

extern const KernelEntry pack_entry = {phases, items, chain_scratch, run};

// Row chunks that must share a packed B before packing it once beats copying each strip to the workspace where it is
// used.
constexpr int64_t PACK_CHUNKS = 8;

Layout operand_layout(Role role, int64_t m, int64_t n, int64_t k) {
  (void)role, (void)n, (void)k;
  return ceil_div(m, CHUNK_ROWS) >= PACK_CHUNKS ? Layout::strips : Layout::row_major;
}

DLCORE_END
