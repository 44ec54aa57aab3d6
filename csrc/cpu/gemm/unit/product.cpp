// SPDX-License-Identifier: Apache-2.0
// The product from planes of bf16 on the matrix unit, then its chain. Bound by loading tiles from the second-level
// cache.
//
// An item is a panel of rows, a block of columns and, where C is small and the depth long, a split of the depth. For
// each block of the depth its part of A is packed into the workspace and meets every strip of B; between such blocks C
// stays in scratch, with rows apart that are no power of two. B is packed by the plan, or first of all into scratch.
#include "../../chain.h"
#include "multiply.h"

DLCORE_BEGIN

// A panel of 786 KB and a strip of B of 196 KB, all three planes, lie in 2 MB of second-level cache together: 252
// GFLOP/s a core with so much depth and so few rows, 178 to 216 with less depth and more rows (2048^3, six terms).
constexpr int64_t PANEL_ROWS = 128;

// Columns that go through the chain at a time, and floats between rows that are no power of two apart.
constexpr int64_t GROUP = 128, APART = 16;

// To have so many items columns are cut into blocks, not too small as each packs A again, and the depth is split.
constexpr int64_t UNIT_ITEMS = 16, BLOCK_COLUMNS = 512, SPLIT_DEPTH = 2048;

// What an item of the packing of B packs.
constexpr int64_t PACK_DEPTH = 128, PACK_COLUMNS = 256;

struct Workspace {
  real a[PANEL_ROWS / STEP * PANEL_DEPTH / STEP * 3 * PLANE_WORDS];
  real c[PANEL_ROWS * (GROUP + APART)];
  real room[STEP * STEP];
};
static_assert(sizeof(Workspace) <= WORKSPACE_BYTES, "");

struct UnitCut {
  Role role;
  int64_t m, n, k, planes;
  bool packs;                      // B
  int64_t columns, column_blocks;  // of a block
  int64_t blocks;                  // of C
  int64_t splits, split_depth, depth;
  int64_t ld;  // of C in scratch; 0: it needs none
};

static UnitCut unit_cut(const Instruction& in) {
  const View &a = in.operands[0], &b = in.operands[1];
  UnitCut c = {};
  c.role = Role(int(in.numbers[0])), c.planes = PARTS_OF_TERMS[int(in.numbers[1])];
  c.m = in.rows, c.n = in.cols, c.k = c.role == Role::tn ? a.rows : a.cols;
  c.packs = b.layout == Layout::row_major;
  const int64_t panels = ceil_div(c.m, PANEL_ROWS);
  const int64_t across = max(1, min(ceil_div(UNIT_ITEMS, panels), c.n / BLOCK_COLUMNS));
  c.columns = round_up(ceil_div(c.n, across), GROUP);
  c.column_blocks = ceil_div(c.n, c.columns);
  c.blocks = panels * c.column_blocks;
  const int64_t splits = max(1, min(ceil_div(UNIT_ITEMS, c.blocks), c.k / SPLIT_DEPTH));
  c.split_depth = round_up(ceil_div(c.k, splits), STEP);
  c.splits = ceil_div(c.k, c.split_depth);
  c.depth = round_up(ceil_div(c.split_depth, ceil_div(c.split_depth, PANEL_DEPTH)), STEP);
  c.ld = c.depth < c.split_depth || c.splits > 1 ? c.columns + APART : 0;
  return c;
}

// ---- scratch: partial results of the chain, planes of B, blocks of C

static int64_t planes_offset(const Instruction& in) { return round_up(chain_scratch(in), ALIGNMENT); }

static int64_t blocks_offset(const Instruction& in, const UnitCut& c) {
  return planes_offset(in) + (c.packs ? step_at(ceil_div(c.n, STEP), 0, c.k, c.planes) * int64_t(sizeof(real)) : 0);
}

static int64_t block_size(const UnitCut& c) { return round_up(min(c.m, PANEL_ROWS), STEP) * c.ld; }

static real* scratch_at(const Call& call, int64_t offset) {
  return reinterpret_cast<real*>(at<char>(call, call.instruction->scratch) + offset);
}

static const real* planes_of_b(const Call& call, const UnitCut& c) {
  return c.packs ? scratch_at(call, planes_offset(*call.instruction))
                 : at<const real>(call, call.instruction->operands[1]);
}

// ---- packing

// The parts of x (rows, cols) from (row, col) on that are there, 32 by 32, as a step.
static void pack_step(const View& x, const real* data, int64_t row, int64_t col, Depth depth, Side side, int64_t planes,
                      real* to) {
  write_step(data + row * x.ld + col, x.ld, min(STEP, x.rows - row), min(STEP, x.cols - col), depth, side, planes, to);
}

// A (rows from row, depth from k) -> (strips of 32 rows, steps, planes)
static void pack_a(const Call& call, const UnitCut& c, int64_t row, int64_t rows, int64_t k, int64_t depth, real* to) {
  const View& a = call.instruction->operands[0];
  const real* data = at<const real>(call, a);
  const bool columns = c.role == Role::tn;
  const int64_t strips = ceil_div(rows, STEP), steps = ceil_div(depth, STEP);
  for (int64_t i = 0; i < strips * steps; ++i) {  // along the rows of a
    const int64_t strip = columns ? i % strips : i / steps, step = columns ? i / strips : i % steps;
    const int64_t r = row + strip * STEP, d = k + step * STEP;
    pack_step(a, data, columns ? d : r, columns ? r : d, columns ? Depth::rows : Depth::columns, Side::a, c.planes,
              to + step_at(strip, step, depth, c.planes));
  }
}

static int64_t pack_items(const UnitCut& c) { return ceil_div(c.k, PACK_DEPTH) * ceil_div(c.n, PACK_COLUMNS); }

static void pack_b(const Call& call, const UnitCut& c, int64_t item) {
  const View& b = call.instruction->operands[1];
  const real* data = at<const real>(call, b);
  real* to = scratch_at(call, planes_offset(*call.instruction));
  const int64_t across = ceil_div(c.n, PACK_COLUMNS);
  const int64_t row = item / across * PACK_DEPTH, col = item % across * PACK_COLUMNS;
  for (int64_t k = row; k < min(c.k, row + PACK_DEPTH); k += STEP) {
    for (int64_t n = col; n < min(c.n, col + PACK_COLUMNS); n += STEP) {
      const bool transposed = c.role == Role::nt;
      pack_step(b, data, transposed ? n : k, transposed ? k : n, transposed ? Depth::columns : Depth::rows, Side::b,
                c.planes, to + step_at(n / STEP, k / STEP, c.k, c.planes));
    }
  }
}

// ---- multiplying

// Where an item lies in C and in the depth.
struct Part {
  int64_t row, col, rows, cols, k, end;
};

static Part part_of(const UnitCut& c, int64_t item) {
  const int64_t block = item % c.blocks, k = item / c.blocks * c.split_depth;
  const int64_t row = block / c.column_blocks * PANEL_ROWS, col = block % c.column_blocks * c.columns;
  return {row, col, min(PANEL_ROWS, c.m - row), min(c.columns, c.n - col), k, min(c.k, k + c.split_depth)};
}

// c: (rows, GROUP) from column col of the part on
static void finish_group(const Call& call, const Part& p, int64_t col, real* c, int64_t ld) {
  for (int64_t r = 0; r < p.rows; r += CHUNK_ROWS) {
    run_chain(call,
              Block{c + r * ld, ld, p.row + r, p.col + col, min(CHUNK_ROWS, p.rows - r), min(GROUP, p.cols - col)});
  }
}

// A packed (rows, depth from k), all of it in w, times a strip of B: c (rows, 32)
static void multiply_strip(MatrixUnit& unit, const UnitCut& cut, const Part& p, int64_t k, int64_t depth, const real* b,
                           real* c, int64_t ld, Workspace* w) {
  for (int64_t r = 0; r < p.rows; r += STEP) {
    const real* a = w->a + step_at(r / STEP, 0, depth, cut.planes);
    multiply_planes(unit, a, b, ceil_div(depth, STEP), cut.planes, c + r * ld, ld, k > p.k ? Sum::add : Sum::assign,
                    w->room);
  }
}

static void run_item(const Call& call, const UnitCut& cut, int64_t item, Workspace* w, MatrixUnit& unit) {
  const Part p = part_of(cut, item);
  const real* planes = planes_of_b(call, cut);
  real* block = cut.ld ? scratch_at(call, blocks_offset(*call.instruction, cut)) + item * block_size(cut) : w->c;
  const int64_t ld = cut.ld ? cut.ld : GROUP + APART;
  for (int64_t k = p.k; k < p.end; k += cut.depth) {
    const int64_t depth = min(cut.depth, p.end - k);
    pack_a(call, cut, p.row, p.rows, k, depth, w->a);
    for (int64_t col = 0; col < p.cols; col += GROUP) {
      real* c = cut.ld ? block + col : block;
      for (int64_t s = col; s < min(p.cols, col + GROUP); s += STEP) {
        const real* b = planes + step_at((p.col + s) / STEP, k / STEP, cut.k, cut.planes);
        multiply_strip(unit, cut, p, k, depth, b, c + s - col, ld, w);
      }
      if (k + depth == p.end && cut.splits == 1) finish_group(call, p, col, c, ld);
    }
  }
}

// Adds the splits of a block in order and runs its chain.
static void sum_splits(const Call& call, const UnitCut& cut, int64_t item, Workspace* w) {
  const Part p = part_of(cut, item);
  const int64_t ld = GROUP + APART, size = block_size(cut);
  const real* first = scratch_at(call, blocks_offset(*call.instruction, cut)) + item * size;
  for (int64_t col = 0; col < p.cols; col += GROUP) {
    for (int64_t i = 0; i < p.rows * GROUP; i += LANES) {
      const int64_t at = i / GROUP * cut.ld + col + i % GROUP;
      vec sum = load(first + at);
      for (int64_t s = 1; s < cut.splits; ++s) sum += load(first + s * cut.blocks * size + at);
      store(w->c + i / GROUP * ld + i % GROUP, sum);
    }
    finish_group(call, p, col, w->c, ld);
  }
}

// ---- the kernel: phases to pack B, to multiply, to add splits, and to merge the chain's reductions, where needed

static int32_t phases(const Instruction& in) {
  const UnitCut c = unit_cut(in);
  return c.packs + 1 + (c.splits > 1) + chain_reduces(in);
}

enum class Phase { pack, multiply, sum, merge };

static Phase phase_of(const UnitCut& c, int32_t phase) {
  if (!c.packs) ++phase;
  return phase == 2 && c.splits == 1 ? Phase::merge : Phase(phase);
}

static int64_t items(const Instruction& in, int32_t phase) {
  const UnitCut c = unit_cut(in);
  switch (phase_of(c, phase)) {
    case Phase::pack:
      return pack_items(c);
    case Phase::multiply:
      return c.blocks * c.splits;
    case Phase::sum:
      return c.blocks;
    case Phase::merge:
      break;
  }
  return merge_items(in);
}

static int64_t scratch(const Instruction& in) {
  const UnitCut c = unit_cut(in);
  if (!c.packs && c.ld == 0) return chain_scratch(in);
  return blocks_offset(in, c) + c.blocks * c.splits * block_size(c) * int64_t(sizeof(real));
}

static void multiply_items(const Call& call, const UnitCut& c, int64_t begin, int64_t end, Workspace* w) {
  MatrixUnit unit;
  unit.begin();
  for (int64_t i = begin; i < end; ++i) run_item(call, c, i, w, unit);
  unit.end();
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const UnitCut c = unit_cut(*call.instruction);
  Workspace* w = reinterpret_cast<Workspace*>(workspace);
  switch (phase_of(c, phase)) {
    case Phase::pack:
      for (int64_t i = begin; i < end; ++i) pack_b(call, c, i);
      return;
    case Phase::multiply:
      return multiply_items(call, c, begin, end, w);
    case Phase::sum:
      for (int64_t i = begin; i < end; ++i) sum_splits(call, c, i, w);
      return;
    case Phase::merge:
      return merge_chain(call, begin, end);
  }
}

static int64_t depth(const Instruction&) { return NEITHER; }  // items are panels of rows

extern const KernelEntry unit_product_entry = {phases, items, scratch, run, depth};

DLCORE_END
