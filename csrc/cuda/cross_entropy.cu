// SPDX-License-Identifier: Apache-2.0
// softmax_cross_entropy of logits (rows, classes) with class indices or probabilities as targets: the gradient
// softmax - target goes through the chain, loss and counts to metrics. A warp takes a row's max, sum of exponentials
// and target; then tiles make the gradient, the logits being read again from L2.
#include "metrics.cuh"
#include "softmax.cuh"

DLCORE_BEGIN

// The first column that holds value; cols: none.
__device__ static int64_t find_first(const real* x, int64_t cols, real value) {
  int64_t found = cols;
  along_row(x, cols, [&](int64_t c, real v) { found = v == value ? min(found, c) : found; });
  return warp_reduce(found, [](int64_t a, int64_t b) { return min(a, b); });
}

__device__ static int64_t argmax(const real* x, int64_t cols) {
  return min(cols - 1, find_first(x, cols, row_max(x, cols)));
}

// The target of a row is kept * target + uniform, times the class weight. A row whose index names no class has weight
// 0.
struct Targets {
  const int32_t* index;  // (rows, 1), or
  const real* soft;      // (rows, cols)
  int64_t ld;
  const real* weight;  // (rows, 1), may be absent
  int64_t weight_ld;
  const real* class_weight;  // (1, cols), may be absent
  real kept, uniform;
  int64_t classes;

  __device__ bool dense() const { return soft || uniform != 0; }
  // -1: none
  __device__ int64_t class_of(int64_t r) const {
    const int64_t c = index ? index[r * ld] : -1;
    return c < classes ? max(-1, c) : -1;
  }
  __device__ real row_weight(int64_t r) const {
    if (index && class_of(r) < 0) return 0;
    return weight ? weight[r * weight_ld] : 1;
  }
  __device__ real weight_of_class(int64_t c) const { return class_weight && c >= 0 ? class_weight[c] : 1; }
  // Of a column, without the part of an index.
  __device__ real dense_target(int64_t r, int64_t c) const {
    const real y = soft ? fma(kept, soft[r * ld + c], uniform) : uniform;
    return class_weight ? y * class_weight[c] : y;
  }
};

// [logits, target, weight?, class_weight?, metrics!] numbers [smoothing, gradient]
__device__ static Targets targets_of(const Instruction& in) {
  const View* views = in.operands;
  const double smoothing = in.numbers[0];
  const bool soft = views[1].dtype != DType::i32;
  return {soft ? nullptr : at<int32_t>(views[1]),
          soft ? at<real>(views[1]) : nullptr,
          views[1].ld,
          at<real>(views[2]),
          views[2].ld,
          at<real>(views[3]),
          real(1 - smoothing),
          real(smoothing / double(in.cols)),
          in.cols};
}

// Sums of target and of target * (x - max).
struct TargetSums {
  real target, product;
};

__device__ static TargetSums target_sums(const Targets& t, const real* x, int64_t row, real greatest) {
  TargetSums sums = {0, 0};
  along_row(x, t.dense() ? t.classes : 0, [&](int64_t c, real v) {
    const real y = t.dense_target(row, c);
    sums.target += y;
    sums.product = fma(y, v - greatest, sums.product);
  });
  sums = {warp_sum(sums.target), warp_sum(sums.product)};
  const int64_t c = t.class_of(row);
  if (c >= 0) {
    const real y = t.kept * t.weight_of_class(c);
    sums.target += y;
    sums.product += y * (x[c] - greatest);
  }
  return sums;
}

// What the rows add to the metrics, and the scales of their gradients.
__global__ void __launch_bounds__(THREADS) cross_entropy_rows(const Instruction in, const int64_t metrics) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  const Targets t = targets_of(in);
  const real* x = at<real>(in.operands[0]) + row * in.operands[0].ld;
  const real greatest = row_max(x, in.cols), sum = sum_of_exponentials(x, in.cols, greatest);
  const TargetSums sums = target_sums(t, x, row, greatest);
  const real weight = t.row_weight(row);
  const int64_t c = t.soft ? argmax(t.soft + row * t.ld, in.cols) : t.class_of(row);
  const bool correct = c >= 0 && find_first(x, in.cols, greatest) == c;
  if (lane_of() > 0) return;
  scratch_at<RowMetrics>(in, metrics)[row] = {double(weight) * (double(sums.target) * log_(sum) - sums.product),
                                              double(weight) * (t.soft ? 1 : t.weight_of_class(c)), double(correct)};
  row_scales(in)[row] = {greatest, weight * sums.target / sum};
}

__device__ static void subtract_targets(const Targets& t, Tile& tile) {
  for (int r = 0; r < SIDE; ++r) {
    if (r >= tile.rows) continue;
    const int64_t row = tile.row + r, hot = t.class_of(row);
    const real weight = t.row_weight(row);
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) {
      const int64_t column = tile.col + c;
      if (t.dense() && c < tile.cols) tile.v[r][c] = fma(-weight, t.dense_target(row, column), tile.v[r][c]);
      if (column == hot) tile.v[r][c] -= weight * (t.kept * t.weight_of_class(hot));
    }
  }
}

__global__ void __launch_bounds__(THREADS, FEWER_BLOCKS) cross_entropy_gradient(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  load_exponentials(in, t);
  subtract_targets(targets_of(in), t);
  run_chain(in, t, shared_memory<ChainMemory>());
}

static int32_t phases(const Instruction& in) { return in.numbers[1] == 0 ? 1 : 1 + chained_phases(in); }

static int64_t items(const Instruction& in, int32_t phase) {
  return phase == 0 ? row_items(in) : phase == 1 ? tile_items(in) : merge_items(in);
}

static int64_t scratch(const Instruction& in) { return row_scales_scratch(in) + row_metrics_scratch(in); }

static void launch(const Launch& l, int32_t phase) {
  const int64_t blocks = items(*l.instruction, phase), metrics = row_scales_scratch(*l.instruction);
  if (phase == 1) return launch_kernel(cross_entropy_gradient, l, blocks, THREADS, sizeof(ChainMemory));
  if (phase == 2) return launch_merge(l);
  launch_kernel(cross_entropy_rows, l, blocks, THREADS, 0, metrics);
  launch_metrics(l, 4, metrics);
}

extern const Entry softmax_cross_entropy_entry = {{phases, items, scratch, nullptr}, launch};

DLCORE_END
