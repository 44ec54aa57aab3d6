// SPDX-License-Identifier: Apache-2.0
// layer_norm of the rows of x (rows, cols), and its gradient. Bound by memory: statistics run over a row while it is in
// the first-level cache, then blocks of columns of the whole chunk go through the chain. A row's sum is the sum of four
// vectors of partial sums in a fixed order; dgamma and dbeta are partial sums of chunks, merged in chunk order.
#include "../math/norms.h"
#include "partials.h"

DLCORE_BEGIN

static const int64_t ACCUMULATORS = 4;
static const int64_t MERGE_COLS = 256;  // of an item

// Of short rows some are read together, so that their statistics do not wait for each other: 65536x64, AVX2, one core,
// forward 1.2 times as fast with 8 as with one, 16 lose it again in the backward pass.
static int64_t rows_together(const Instruction& instruction) { return max(1, min(8, 1024 / instruction.cols)); }

// A real view from one row on.
struct Rows {
  real* p;  // (rows, cols), may be absent
  int64_t ld;

  Rows(const Call& call, const View& view, int64_t row) : p(at<real>(call, view)), ld(view.ld) {
    if (p) p += row * ld;
  }
  real* at_row(int64_t r) const { return p + r * ld; }
};

template <class Edge>
static inline vec load_or(const real* p, int64_t c, Edge edge, real absent) {
  return p ? load(p + c, edge) : splat(absent);
}

static inline real total(const vec (&sums)[ACCUMULATORS]) {
  return reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

static real row_sum(const real* x, int64_t cols) {
  vec sums[ACCUMULATORS] = {};
  int64_t c = 0;
  for (; c + ACCUMULATORS * LANES <= cols; c += ACCUMULATORS * LANES) {
    for (int64_t i = 0; i < ACCUMULATORS; ++i) sums[i] += load(x + c + i * LANES);
  }
  for_columns(cols - c, [&](int64_t i, auto edge) { sums[0] += load(x + c + i, edge); });
  return total(sums);
}

static real row_squared_deviations(const real* x, int64_t cols, real mean) {
  vec sums[ACCUMULATORS] = {};
  int64_t c = 0;
  for (; c + ACCUMULATORS * LANES <= cols; c += ACCUMULATORS * LANES) {
    for (int64_t i = 0; i < ACCUMULATORS; ++i) {
      const vec d = load(x + c + i * LANES) - mean;
      sums[i] = fma(d, d, sums[i]);
    }
  }
  for_columns(cols - c, [&](int64_t i, auto edge) {
    const vec d = within(load(x + c + i, edge) - mean, edge, splat(0));
    sums[0] = fma(d, d, sums[0]);
  });
  return total(sums);
}

// from (1, y.cols) -> row r of y
static void normalise_row(const Block& y, int64_t r, const real* from, real mean, real rstd, const real* gamma,
                          const real* beta) {
  real* to = y.v + r * y.ld;
  for_columns(y.cols, [=](int64_t c, auto edge) {
    const vec xhat = (load(from + c, edge) - mean) * rstd;
    const vec scale = load_or(gamma, y.col + c, edge, 1);
    store(to + c, fma(xhat, scale, load_or(beta, y.col + c, edge, real(-0.0))));
  });
}

// [x, gamma?, beta?, mean (rows, 1), rstd (rows, 1)] numbers [eps]
static void layer_norm_group(const Call& call, Block block) {
  const Instruction& instruction = *call.instruction;
  const View* views = instruction.operands;
  const Rows x(call, views[0], block.row), mean(call, views[3], block.row), rstd(call, views[4], block.row);
  const real *gamma = at<real>(call, views[1]), *beta = at<real>(call, views[2]);
  const real cols = real(instruction.cols), eps = real(instruction.numbers[0]);
  const int64_t together = rows_together(instruction);
  do {
    const Block y = at_last_store(call, block);
    for (int64_t row = 0, end; row < block.rows; row = end) {
      end = min(block.rows, row + together);
      for (int64_t r = row; block.col == 0 && r < end; ++r)
        *mean.at_row(r) = row_sum(x.at_row(r), instruction.cols) / cols;
      for (int64_t r = row; block.col == 0 && r < end; ++r) {
        const real squares = row_squared_deviations(x.at_row(r), instruction.cols, *mean.at_row(r));
        *rstd.at_row(r) = reciprocal_deviation(squares / cols, eps);
      }
      for (int64_t r = row; r < end; ++r) {
        normalise_row(y, r, x.at_row(r) + block.col, *mean.at_row(r), *rstd.at_row(r), gamma, beta);
      }
    }
    run_chain(call, y);
  } while (next_block(instruction, block));
}

static int32_t layer_norm_phases(const Instruction& instruction) { return chain_reduces(instruction) ? 2 : 1; }

static int64_t layer_norm_items(const Instruction& instruction, int32_t phase) {
  return phase == 0 ? chunk_count(instruction) : merge_items(instruction);
}

static void run_layer_norm(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  if (phase == 1) return merge_chain(call, begin, end);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    for (int64_t row = 0; row < chunk_rows(instruction, chunk); row += group_rows(instruction)) {
      layer_norm_group(call, first_block(instruction, chunk, row, workspace));
    }
  }
}

// ---- layer_norm_backward: [dy, x, gamma?, mean, rstd, dgamma?, dbeta?]

enum { backward_dy, backward_x, backward_gamma, backward_mean, backward_rstd, backward_dgamma, backward_dbeta };

static bool has_parameter_grads(const Instruction& instruction) {
  return instruction.operands[backward_dgamma].arena >= 0 || instruction.operands[backward_dbeta].arena >= 0;
}

// Partial sums of a chunk: dgamma (1, ld), then dbeta.
static int64_t partial_ld(const Instruction& instruction) {
  return round_up(instruction.cols, ALIGNMENT / int64_t(sizeof(real)));
}

static real* partial_grads(const Call& call, int64_t chunk) {
  return partials<real>(call) + chunk * 2 * partial_ld(*call.instruction);
}

// One row of dy and x, and its statistics.
struct BackwardRow {
  const real *dy, *x;
  real mean, rstd;
  real mean_g, mean_g_xhat;  // means over the columns; g = dy gamma
};

template <class Edge>
static inline vec normalised(const BackwardRow& row, int64_t c, Edge edge) {
  return (load(row.x + c, edge) - row.mean) * row.rstd;
}

static void find_means(BackwardRow& row, const real* gamma, int64_t cols) {
  vec g_sums[ACCUMULATORS] = {}, product_sums[ACCUMULATORS] = {};
  const auto add = [&](int64_t c, auto edge, int64_t i) {
    const vec g = load(row.dy + c, edge) * load_or(gamma, c, edge, 1);
    g_sums[i] += g;
    product_sums[i] = fma(g, normalised(row, c, edge), product_sums[i]);
  };
  int64_t c = 0;
  for (; c + ACCUMULATORS * LANES <= cols; c += ACCUMULATORS * LANES) {
    for (int64_t i = 0; i < ACCUMULATORS; ++i) add(c + i * LANES, Whole{}, i);
  }
  for_columns(cols - c, [&](int64_t i, auto edge) { add(c + i, edge, 0); });
  row.mean_g = total(g_sums) / real(cols);
  row.mean_g_xhat = total(product_sums) / real(cols);
}

// dx of one row of a block to v; adds the row to dgamma and dbeta (1, block.cols), where they are asked for.
static void backward_row(const BackwardRow& shared, const real* gamma, const Block& block, real* v, real* dgamma,
                         real* dbeta) {
  const BackwardRow row = shared;
  for_columns(block.cols, [&](int64_t c, auto edge) {
    const int64_t column = block.col + c;
    const vec dy = load(row.dy + column, edge), xhat = normalised(row, column, edge);
    const vec g = dy * load_or(gamma, column, edge, 1);
    store(v + c, row_norm_grad(g, xhat, splat(row.rstd), splat(row.mean_g), splat(row.mean_g_xhat)));
    if (dgamma) {
      store(dgamma + c, fma(dy, xhat, load(dgamma + c)));
      store(dbeta + c, load(dbeta + c) + dy);
    }
  });
}

// partial (2, ld): dgamma and dbeta of the chunk so far, or nullptr
static void backward_group(const Call& call, Block block, real* partial) {
  const Instruction& instruction = *call.instruction;
  const View* views = instruction.operands;
  const Rows dy(call, views[backward_dy], block.row), x(call, views[backward_x], block.row);
  const Rows mean(call, views[backward_mean], block.row), rstd(call, views[backward_rstd], block.row);
  const real* gamma = at<real>(call, views[backward_gamma]);
  const int64_t together = rows_together(instruction);
  BackwardRow rows[CHUNK_ROWS];
  do {
    const Block dx = at_last_store(call, block);
    real* dgamma = partial ? partial + block.col : nullptr;
    real* dbeta = partial ? dgamma + partial_ld(instruction) : nullptr;
    for (int64_t row = 0, end; row < block.rows; row = end) {
      end = min(block.rows, row + together);
      for (int64_t r = row; block.col == 0 && r < end; ++r) {
        rows[r] = {dy.at_row(r), x.at_row(r), *mean.at_row(r), *rstd.at_row(r), 0, 0};
        find_means(rows[r], gamma, instruction.cols);
      }
      for (int64_t r = row; r < end; ++r) backward_row(rows[r], gamma, dx, dx.v + r * dx.ld, dgamma, dbeta);
    }
    run_chain(call, dx);
  } while (next_block(instruction, block));
}

static void backward_chunk(const Call& call, int64_t chunk, char* workspace) {
  const Instruction& instruction = *call.instruction;
  real* partial = has_parameter_grads(instruction) ? partial_grads(call, chunk) : nullptr;
  for (int64_t c = 0; partial && c < 2 * partial_ld(instruction); c += LANES) store(partial + c, vec{});
  for (int64_t row = 0; row < chunk_rows(instruction, chunk); row += group_rows(instruction)) {
    backward_group(call, first_block(instruction, chunk, row, workspace), partial);
  }
}

static int64_t own_merge_items(const Instruction& instruction) {
  return has_parameter_grads(instruction) ? ceil_div(instruction.cols, MERGE_COLS) : 0;
}

// Columns [c, end) of dgamma or dbeta, where asked for; offset is its place in a chunk's partial sums.
static void merge_grad(const Call& call, const View& view, int64_t c, int64_t end, int64_t offset) {
  real* out = at<real>(call, view);  // (1, cols)
  if (!out) return;
  for_columns(end - c, [&](int64_t i, auto edge) {
    vec sum = {};
    for (int64_t k = 0; k < chunk_count(*call.instruction); ++k) sum += load(partial_grads(call, k) + offset + c + i);
    store(out + c + i, sum, edge);
  });
}

// A single chunk merges at once.
static int32_t backward_phases(const Instruction& instruction) {
  return chunk_count(instruction) > 1 && own_merge_items(instruction) + chain_items(instruction) > 0 ? 2 : 1;
}

static int64_t backward_items(const Instruction& instruction, int32_t phase) {
  return phase == 0 ? chunk_count(instruction) : own_merge_items(instruction) + chain_items(instruction);
}

static int64_t backward_scratch(const Instruction& instruction) {
  if (!has_parameter_grads(instruction)) return chain_scratch(instruction);
  const int64_t reals = chunk_count(instruction) * 2 * partial_ld(instruction);
  return partial_offset(instruction) + reals * int64_t(sizeof(real));
}

static void merge_backward(const Call& call, int64_t begin, int64_t end) {
  const Instruction& instruction = *call.instruction;
  const int64_t own = own_merge_items(instruction);
  const int64_t first = begin * MERGE_COLS, last = min(min(end, own) * MERGE_COLS, instruction.cols);
  merge_grad(call, instruction.operands[backward_dgamma], first, last, 0);
  merge_grad(call, instruction.operands[backward_dbeta], first, last, partial_ld(instruction));
  merge_chain_after(call, own, begin, end);
}

static void run_layer_norm_backward(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  if (phase == 1) return merge_backward(call, begin, end);
  for (int64_t i = begin; i < end; ++i) backward_chunk(call, i, workspace);
  if (chunk_count(instruction) == 1) merge_backward(call, 0, own_merge_items(instruction));
}

extern const KernelEntry layer_norm_entry = {layer_norm_phases, layer_norm_items, chain_scratch, run_layer_norm};
extern const KernelEntry layer_norm_backward_entry = {backward_phases, backward_items, backward_scratch,
                                                      run_layer_norm_backward};

DLCORE_END
