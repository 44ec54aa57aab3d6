// SPDX-License-Identifier: Apache-2.0
// layer_norm of the rows of x (rows, cols), and its gradient. Bound by memory: a warp takes the statistics of a row,
// then tiles go through the chain, x being read again from L2. dgamma and dbeta are partial sums of chunks, merged in
// order.
#include "../math/norms.h"
#include "chain.cuh"

DLCORE_BEGIN

// f(x) summed along a row by a warp
template <class F>
__device__ static real row_sum(const Elements& x, int64_t cols, F f) {
  real sum = 0;
  along_row(x, cols, [&](int64_t, real v) { sum += f(v); });
  return warp_sum(sum);
}

// [x, gamma?, beta?, mean (rows, 1), rstd (rows, 1)] numbers [eps]
__global__ void __launch_bounds__(THREADS) layer_norm_statistics(const Instruction in) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  const View *views = in.operands, &mean = views[3], &rstd = views[4];
  const Elements x(views[0], row, 0);
  const real cols = real(in.cols), mu = row_sum(x, in.cols, [](real v) { return v; }) / cols;
  const real squares = row_sum(x, in.cols, [mu](real v) { return (v - mu) * (v - mu); });
  if (lane_of() > 0) return;
  at<real>(mean)[row * mean.ld] = mu;
  at<real>(rstd)[row * rstd.ld] = reciprocal_deviation(squares / cols, real(in.numbers[0]));
}

__global__ void __launch_bounds__(THREADS, BLOCKS) layer_norm_kernel(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  const View *views = in.operands, &mean = views[3], &rstd = views[4];
  const Columns gamma(views[1], t), beta(views[2], t);
  load_tile(views[0], t);
  for (int r = 0; r < SIDE; ++r) {
    const int64_t row = min(t.row + r, in.rows - 1);
    const real mu = at<real>(mean)[row * mean.ld], factor = at<real>(rstd)[row * rstd.ld];
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) {
      const real xhat = (t.v[r][c] - mu) * factor;
      t.v[r][c] = fma(xhat, gamma.given ? gamma.x[c] : real(1), beta.given ? beta.x[c] : real(-0.0));
    }
  }
  run_chain(in, t, shared_memory<ChainMemory>());
}

static int32_t layer_norm_phases(const Instruction& in) { return 1 + chained_phases(in); }

static int64_t layer_norm_items(const Instruction& in, int32_t phase) {
  return phase == 0 ? row_items(in) : phase == 1 ? tile_items(in) : merge_items(in);
}

static void launch_layer_norm(const Launch& l, int32_t phase) {
  const int64_t blocks = layer_norm_items(*l.instruction, phase);
  if (phase == 0) return launch_kernel(layer_norm_statistics, l, blocks, THREADS, 0);
  if (phase == 1) return launch_kernel(layer_norm_kernel, l, blocks, THREADS, sizeof(ChainMemory));
  launch_merge(l);
}

// ---- layer_norm_backward: [dy, x, gamma?, mean, rstd, dgamma?, dbeta?]

enum { backward_dy, backward_x, backward_gamma, backward_mean, backward_rstd, backward_dgamma, backward_dbeta };

DLCORE_HD static bool has_parameter_grads(const Instruction& in) {
  return in.operands[backward_dgamma].arena >= 0 || in.operands[backward_dbeta].arena >= 0;
}

// In scratch after the chain's: the two means of each row, then dgamma and dbeta of each chunk.
DLCORE_HD static int64_t means_offset(const Instruction& in) {
  return chain_reduces(in) ? partials_before(in, in.chain + in.stage_count) : 0;
}
DLCORE_HD static int64_t grads_offset(const Instruction& in) { return means_offset(in) + round_up(2 * in.rows, 4); }

static int64_t backward_scratch(const Instruction& in) {
  const int64_t grads = has_parameter_grads(in) ? 2 * chunk_count(in) * partial_cols(in) : 0;
  return (grads_offset(in) + grads) * int64_t(sizeof(real));
}

// One row's statistics, and its means over the columns of g = dy gamma and of g xhat.
struct BackwardRow {
  real mean, rstd, mean_g, mean_g_xhat;
};

__device__ static BackwardRow backward_row(const Instruction& in, int64_t row) {
  const View &mean = in.operands[backward_mean], &rstd = in.operands[backward_rstd];
  const real* means = scratch_at<real>(in) + means_offset(in) + 2 * row;
  return {at<real>(mean)[row * mean.ld], at<real>(rstd)[row * rstd.ld], means[0], means[1]};
}

__global__ void __launch_bounds__(THREADS) layer_norm_backward_means(const Instruction in) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  const View* views = in.operands;
  const Elements dy(views[backward_dy], row, 0), x(views[backward_x], row, 0);
  const real *gamma = at<real>(views[backward_gamma]), cols = real(in.cols);
  const real mu = at<real>(views[backward_mean])[row * views[backward_mean].ld];
  const real factor = at<real>(views[backward_rstd])[row * views[backward_rstd].ld];
  real sum_g = 0, sum_g_xhat = 0;
  along_rows(dy, x, in.cols, [&](int64_t c, real d, real v) {
    const real g = gamma ? d * gamma[c] : d;
    sum_g += g;
    sum_g_xhat += g * ((v - mu) * factor);
  });
  sum_g = warp_sum(sum_g), sum_g_xhat = warp_sum(sum_g_xhat);
  if (lane_of() > 0) return;
  real* means = scratch_at<real>(in) + means_offset(in) + 2 * row;
  means[0] = sum_g / cols;
  means[1] = sum_g_xhat / cols;
}

// dgamma or dbeta (1, cols) of a chunk
__device__ static real* chunk_grad(const Instruction& in, int64_t chunk, int64_t which) {
  return scratch_at<real>(in) + grads_offset(in) + (2 * chunk + which) * partial_cols(in);
}

__device__ static void add_parameter_grads(const Instruction& in, const Tile& t, const Square& xhat,
                                           ChainMemory& memory) {
  spread(t, t.v, memory.v);
  spread(t, xhat, memory.x);
  __syncthreads();
  if (!has_column(in, t)) return;
  const int rows = tile_rows(in, t);
  const int64_t chunk = t.first_row / CHUNK_ROWS, column = t.first_col + threadIdx.x;
  const real(&x)[TILE][TILE] = memory.x;
  chunk_grad(in, chunk, 0)[column] =
      column_total(memory.v, rows, [&](real sum, real dy, int r) { return fma(dy, x[r][threadIdx.x], sum); });
  chunk_grad(in, chunk, 1)[column] = column_total(memory.v, rows, [](real sum, real dy, int) { return sum + dy; });
}

__global__ void __launch_bounds__(THREADS, FEWER_BLOCKS) layer_norm_backward_kernel(const Instruction in) {
  ChainMemory& memory = shared_memory<ChainMemory>();
  Tile t = tile_of(in, blockIdx.x);
  Square x;
  load_tile(in.operands[backward_dy], t);
  load_square(in.operands[backward_x], t, x);
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    const BackwardRow row = backward_row(in, min(t.row + r, in.rows - 1));
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) x[r][c] = (x[r][c] - row.mean) * row.rstd;
  }
  if (has_parameter_grads(in)) add_parameter_grads(in, t, x, memory);
  const Columns gamma(in.operands[backward_gamma], t);
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    const BackwardRow row = backward_row(in, min(t.row + r, in.rows - 1));
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) {
      const real g = gamma.given ? t.v[r][c] * gamma.x[c] : t.v[r][c];
      t.v[r][c] = row_norm_grad(g, x[r][c], row.rstd, row.mean_g, row.mean_g_xhat);
    }
  }
  run_chain(in, t, memory);
}

__global__ void merge_grads(const Instruction in) {
  const int64_t c = int64_t(blockIdx.x) * COLUMN_ALIGN + threadIdx.x;
  for (int which = 0; which < 2 && c < in.cols; ++which) {
    real* out = at<real>(in.operands[backward_dgamma + which]);
    if (!out) continue;
    real sum = 0;
    for (int64_t k = 0; k < chunk_count(in); ++k) sum += chunk_grad(in, k, which)[c];
    out[c] = sum;
  }
}

static int32_t backward_phases(const Instruction& in) { return 2 + (has_parameter_grads(in) || chain_reduces(in)); }

static void launch_backward(const Launch& l, int32_t phase) {
  const Instruction& in = *l.instruction;
  const int64_t blocks = layer_norm_items(in, phase);
  if (phase == 0) return launch_kernel(layer_norm_backward_means, l, blocks, THREADS, 0);
  if (phase == 1) return launch_kernel(layer_norm_backward_kernel, l, blocks, THREADS, sizeof(ChainMemory));
  if (has_parameter_grads(in)) launch_kernel(merge_grads, l, blocks, int(COLUMN_ALIGN), 0);
  if (chain_reduces(in)) launch_merge(l);
}

extern const Entry layer_norm_entry = {{layer_norm_phases, layer_norm_items, chain_scratch, nullptr},
                                       launch_layer_norm};
extern const Entry layer_norm_backward_entry = {{backward_phases, layer_norm_items, backward_scratch, nullptr},
                                                launch_backward};

DLCORE_END
