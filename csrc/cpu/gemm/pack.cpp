// SPDX-License-Identifier: Apache-2.0
// pack: x (rows, cols) through the chain into the order that a product reads its B in, as it is and (or) transposed.
// Bound by reading x and writing each packed copy once: a block goes through the second-level cache, and each strip of
// it is one run of bytes.
#include "../chain.h"
#include "strip.h"
#if DLCORE_UNIT
#include "unit/planes.h"
#endif

DLCORE_BEGIN

static_assert(CHUNK_ROWS % STRIP == 0 && COLUMN_ALIGN % STRIP == 0, "a block holds whole strips");

// Columns of a block. Longer runs of x come faster from memory: 4096x1024, AVX2, 64 columns 2.0 ns an element, 128 1.9,
// 256 0.7, 512 0.7; from cache 0.2 for all.
constexpr int64_t BLOCK_COLUMNS = 256;

struct Workspace {
  real v[CHUNK_ROWS * BLOCK_COLUMNS];
  real transposed[CHUNK_ROWS * BLOCK_COLUMNS];
};
static_assert(sizeof(Workspace) <= WORKSPACE_BYTES, "");

// block -> its part of the strips of x, k = rows and n = cols; packed: strips of k rows
static void write_strips(const Block& block, int64_t k, real* packed) {
  for (int64_t c = 0; c < block.cols; c += STRIP) {
    copy_strip(block.v + c, block.ld, block.rows, block.cols - c, packed + (block.col + c) * k + block.row * STRIP);
  }
}

// The same of x^T, k = cols and n = rows.
static void write_transposed_strips(const Block& block, int64_t k, real* packed) {
  for (int64_t r = 0; r < block.rows; r += STRIP) {
    transpose_strip(block.v + r * block.ld, block.ld, block.cols, block.rows - r,
                    packed + (block.row + r) * k + block.col * STRIP);
  }
}

static void write_rows(const Block& block, int64_t ld, real* packed) {
  for (int64_t r = 0; r < block.rows; ++r) {
    __builtin_memcpy(packed + (block.row + r) * ld + block.col, block.v + r * block.ld, block.cols * sizeof(real));
  }
}

// transposed: room for the strips of the block
static void write_transposed_rows(const Block& block, int64_t ld, real* packed, real* transposed) {
  const Block alone = {block.v, block.ld, 0, 0, block.rows, block.cols};
  write_transposed_strips(alone, block.cols, transposed);
  for (int64_t c = 0; c < block.cols; ++c) {
    real* to = packed + (block.col + c) * ld + block.row;
    for (int64_t r = 0; r < block.rows; r += STRIP) {
      const int64_t count = min(STRIP, block.rows - r);
      __builtin_memcpy(to + r, transposed + r * block.cols + c * STRIP, count * sizeof(real));
    }
  }
}

#if DLCORE_UNIT
// block -> its steps of the planes of x, or of x^T
static void write_planes(const Block& block, const View& view, bool transposed, real* packed) {
  for (int64_t r = 0; r < block.rows; r += STEP) {
    for (int64_t c = 0; c < block.cols; c += STEP) {
      const int64_t row = (block.row + r) / STEP, col = (block.col + c) / STEP;
      write_step(block.v + r * block.ld + c, block.ld, min(STEP, block.rows - r), min(STEP, block.cols - c),
                 transposed ? Depth::columns : Depth::rows, Side::b, view.ld,
                 packed + step_at(transposed ? row : col, transposed ? col : row, view.rows, view.ld));
    }
  }
}
#endif

static void write_packed(const Block& block, const View& view, bool transposed, real* packed, Workspace* w) {
#if DLCORE_UNIT
  if (view.layout == Layout::planes) return write_planes(block, view, transposed, packed);
#endif
  const bool strips = view.layout == Layout::strips;
  if (strips && transposed) return write_transposed_strips(block, view.rows, packed);
  if (strips) return write_strips(block, view.rows, packed);
  if (transposed) return write_transposed_rows(block, view.ld, packed, w->transposed);
  write_rows(block, view.ld, packed);
}

static int32_t phases(const Instruction& in) { return chain_reduces(in) ? 2 : 1; }

static int64_t items(const Instruction& in, int32_t phase) {
  return phase == 0 ? ceil_div(in.rows, CHUNK_ROWS) * ceil_div(in.cols, BLOCK_COLUMNS) : merge_items(in);
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  if (phase == 1) return merge_chain(call, begin, end);
  const Instruction& in = *call.instruction;
  Workspace* w = reinterpret_cast<Workspace*>(workspace);
  const int64_t across = ceil_div(in.cols, BLOCK_COLUMNS);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / across * CHUNK_ROWS, col = item % across * BLOCK_COLUMNS;
    Block block = {w->v, BLOCK_COLUMNS, row, col, min(CHUNK_ROWS, in.rows - row), min(BLOCK_COLUMNS, in.cols - col)};
    block.keeps = true;
    load_block(call, block);
    run_chain(call, block);
    for (int i = 0; i < in.operand_count - 1; ++i) {
      const View& packed = in.operands[1 + i];
      real* to = at<real>(call, packed);
      if (to) write_packed(block, packed, in.numbers[i] != 0, to, w);
    }
  }
}

const KernelEntry pack_entry = {phases, items, chain_scratch, run};

// Packing costs 0.2 ns an element of B, 0.7 where it comes from memory. Without it a product loses, for each element
// and row chunk, 0.02 to 0.1 ns (nn) or 0.04 to 0.1 ns (nt) of 1.6: AVX2, B of 256x256 to 2048x2048. So 16 chunks gain
// 2 to 5 %. The B of tn is as long as the batch and comes from memory: nothing to gain. Packed once, for predictions,
// 64 rows gain 4 to 12 % (nets 256 to 4096 wide), one row up to 9 %.
constexpr int64_t PACK_CHUNKS = 16;

Layout operand_layout(Role role, int64_t m, int64_t, int64_t, bool kept) {
  return role != Role::tn && (kept || ceil_div(m, CHUNK_ROWS) >= PACK_CHUNKS) ? Layout::strips : Layout::row_major;
}

DLCORE_END
