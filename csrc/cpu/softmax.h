// SPDX-License-Identifier: Apache-2.0
// exp(x - max) of a group of rows of x (rows, cols), and its way through the chain. Bound by reading x and by one exp
// an element, so what memory does happens meanwhile: the next row is fetched, and where the chain's value may be made
// in place the exponentials go there at once. Else a panel of them stays in the workspace; rows longer than that pay a
// second exp.
#pragma once
#include "../math/functions.h"
#include "rows.h"

DLCORE_BEGIN

// Rows that are worked on together.
struct Group {
  const real* x;  // (rows, cols)
  int64_t ld, row, rows, cols;
  real* e;  // exp(x - max) (rows, panel)
  int64_t e_ld, panel;
  real max[CHUNK_ROWS], sum[CHUNK_ROWS];
  real factor[CHUNK_ROWS];  // of exp(x - max) in the value of the chain

  const real* at_row(int64_t r) const { return x + r * ld; }
};

// Sums along a row are sums of blocks: shorter sums round less.
constexpr int64_t BLOCK_COLUMNS = 2 * COLUMN_ALIGN;
constexpr int64_t LINE_COLUMNS = ALIGNMENT / int64_t(sizeof(real));  // of a line of a cache

// Half the workspace: the panel shares a cache with x.
inline int64_t panel_columns(int64_t rows, int64_t cols) {
  const int64_t room = WORKSPACE_BYTES / 2 / (rows * int64_t(sizeof(real)));
  return min(round_up(cols, LANES), (room - 1) / BLOCK_COLUMNS * BLOCK_COLUMNS);
}

inline real row_max(const real* x, int64_t cols) {
  constexpr int64_t N = 4;
  vec greatest[N];
  for (vec& lanes : greatest) lanes = splat(-INF);
  int64_t c = 0;
  for (; c + N * LANES <= cols; c += N * LANES) {
    for (int64_t i = 0; i < N; ++i) greatest[i] = max(greatest[i], load(x + c + i * LANES));
  }
  for_columns(cols - c, [&](int64_t i, auto edge) {
    greatest[0] = max(greatest[0], within(load(x + c + i, edge), edge, splat(-INF)));
  });
  return reduce_max(max(max(greatest[0], greatest[1]), max(greatest[2], greatest[3])));
}

// Returns the sum in LANES parts.
inline vec exponentials(const real* x, int64_t cols, real greatest, real* e) {
  vec sum = {};
  for_columns(cols, [&](int64_t c, auto edge) {
    const vec y = within(exp_below_(load(x + c, edge) - greatest), edge, splat(0));
    store(e + c, y);
    sum += y;
  });
  return sum;
}

// Of the panel from column col on, for one row; adds to its sum. Fetches the row below.
inline void fill_panel(const Group& group, int64_t r, int64_t col, vec& sum) {
  const real* x = group.at_row(r) + col;
  real* e = group.e + r * group.e_ld;
  const int64_t cols = min(group.panel, group.cols - col);
  for (int64_t c = 0; c < cols; c += BLOCK_COLUMNS) {
    for (int64_t i = 0; i < BLOCK_COLUMNS; i += LINE_COLUMNS) __builtin_prefetch(x + group.ld + c + i);
    sum += exponentials(x + c, min(BLOCK_COLUMNS, cols - c), group.max[r], e + c);
  }
}

// Max and sum of each row; the last panel stays filled. stores: whether the chain follows
inline void open_group(const Call& call, int64_t chunk, int64_t row, char* workspace, bool stores, Group& group) {
  const Instruction& instruction = *call.instruction;
  const View& view = instruction.operands[0];
  group.ld = view.ld;
  group.row = chunk * CHUNK_ROWS + row;
  group.rows = min(group_rows(instruction), chunk_rows(instruction, chunk) - row);
  group.cols = instruction.cols;
  group.x = at<real>(call, view) + group.row * view.ld;
  group.e = reinterpret_cast<real*>(workspace);
  group.panel = panel_columns(group.rows, group.cols);
  // An odd number of lines spreads a column over the sets of a cache.
  group.e_ld = round_up(group.panel, LINE_COLUMNS) | LINE_COLUMNS;
  if (stores && group.panel >= group.cols && stores_apart(instruction)) {
    const Block block = at_last_store(call, {group.e, group.e_ld, group.row, 0, group.rows, group.cols});
    group.e = block.v, group.e_ld = block.ld;
  }
  for (int64_t r = 0; r < group.rows; ++r) {
    group.max[r] = row_max(group.at_row(r), group.cols);
    vec sum = {};
    for (int64_t col = 0; col < group.cols; col += group.panel) fill_panel(group, r, col, sum);
    group.sum[r] = reduce_add(sum);
  }
}

// e (rows, cols) times the factors -> block, which may be e
inline void scale_block(const Group& group, const real* e, const Block& block) {
  for (int64_t r = 0; r < block.rows; ++r) {
    real* v = block.v + r * block.ld;
    const real factor = group.factor[r];
    for (int64_t c = 0; c < block.cols; c += LANES) store(v + c, load(e + r * group.e_ld + c) * factor);
  }
}

// exp(x - max) times the factors through the chain; finish(const Block&) comes before the chain.
template <class Finish>
inline void run_group(const Call& call, const Group& group, Finish finish) {
  const int64_t width = slab_columns(group.rows);
  vec unused = {};
  for (int64_t panel = 0; panel < group.cols; panel += group.panel) {
    const int64_t end = min(panel + group.panel, group.cols);
    for (int64_t r = 0; group.panel < group.cols && r < group.rows; ++r) fill_panel(group, r, panel, unused);
    for (int64_t col = panel; col < end; col += width) {
      real* e = group.e + (col - panel);
      const Block block = at_last_store(call, {e, group.e_ld, group.row, col, group.rows, min(width, end - col)});
      scale_block(group, e, block);
      finish(block);
      run_chain(call, block);
    }
  }
}

DLCORE_END
