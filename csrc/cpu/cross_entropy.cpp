// SPDX-License-Identifier: Apache-2.0
// softmax_cross_entropy of logits (rows, classes) with class indices or probabilities as targets: the gradient
// softmax - target goes through the chain, loss and counts to metrics. Row by row everything is there that the loss
// needs while the logits are in cache: max, sum of exponentials, and the target's logits.
#include "partials.h"
#include "softmax.h"

DLCORE_BEGIN

static bool contains(const real* x, int64_t cols, real value) {
  const vec never = splat(real(__builtin_nan("")));
  ivec found = {};
  for_columns(cols, [&](int64_t c, auto edge) { found |= within(load(x + c, edge), edge, never) == splat(value); });
  return any(found);
}

static int64_t argmax(const real* x, int64_t cols) {
  const real greatest = row_max(x, cols);
  int64_t c = 0;
  while (c < cols - 1 && x[c] != greatest) ++c;
  return c;
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

  bool dense() const { return soft || uniform != 0; }
  // -1: none
  int64_t class_of(int64_t r) const {
    const int64_t c = index ? index[r * ld] : -1;
    return c < classes ? max(-1, c) : -1;
  }
  real row_weight(int64_t r) const {
    if (index && class_of(r) < 0) return 0;
    return weight ? weight[r * weight_ld] : 1;
  }
  real weight_of_class(int64_t c) const { return class_weight && c >= 0 ? class_weight[c] : 1; }
};

// [logits, target, weight?, class_weight?, metrics!] numbers [smoothing, gradient]
static Targets targets_of(const Call& call, int64_t row) {
  const Instruction& instruction = *call.instruction;
  const View* views = instruction.operands;
  const double smoothing = instruction.numbers[0];
  Targets t = {};
  t.ld = views[1].ld;
  if (views[1].dtype == DType::i32) {
    t.index = at<int32_t>(call, views[1]) + row * t.ld;
  } else {
    t.soft = at<real>(call, views[1]) + row * t.ld;
  }
  t.weight_ld = views[2].ld;
  t.weight = at<real>(call, views[2]);
  if (t.weight) t.weight += row * t.weight_ld;
  t.class_weight = at<real>(call, views[3]);
  t.kept = real(1 - smoothing);
  t.classes = instruction.cols;
  t.uniform = real(smoothing / double(instruction.cols));
  return t;
}

// The target of the columns from c of row r, without the part of an index.
template <class Edge>
static inline vec dense_target(const Targets& t, int64_t r, int64_t c, Edge edge) {
  vec y = splat(t.uniform);
  if (t.soft) y = fma(splat(t.kept), load(t.soft + r * t.ld + c, edge), y);
  if (t.class_weight) y = y * load(t.class_weight + c, edge);
  return y;
}

// Sums of target and of target * (x - max).
template <class T>
struct TargetSums {
  T target, product;
};

// Of a block's columns of a row, in LANES parts, without the part of an index.
static TargetSums<vec> dense_sums(const Group& group, const Targets& t, int64_t r, int64_t col) {
  const real* x = group.at_row(r) + col;
  const real greatest = group.max[r];
  TargetSums<vec> sums = {};
  for_columns(min(BLOCK_COLUMNS, group.cols - col), [&](int64_t c, auto edge) {
    const vec y = within(dense_target(t, r, col + c, edge), edge, splat(0));
    sums.target += y;
    sums.product = fma(y, within(load(x + c, edge) - greatest, edge, splat(0)), sums.product);
  });
  return sums;
}

static TargetSums<real> target_sums(const Group& group, const Targets& t, int64_t r) {
  TargetSums<vec> dense = {};
  for (int64_t col = 0; t.dense() && col < group.cols; col += BLOCK_COLUMNS) {
    const TargetSums<vec> block = dense_sums(group, t, r, col);
    dense.target += block.target;
    dense.product += block.product;
  }
  TargetSums<real> sums = {reduce_add(dense.target), reduce_add(dense.product)};
  const int64_t c = t.class_of(r);
  if (c >= 0) {
    const real y = t.kept * t.weight_of_class(c);
    sums.target += y;
    sums.product += y * (group.at_row(r)[c] - group.max[r]);
  }
  return sums;
}

// Adds to the chunk's metrics row by row, so that the size of a group changes no bit; leaves the gradient's factors.
static void measure(Group& group, const Targets& t, double* metrics) {
  real log_sum[CHUNK_ROWS];
  for (int64_t r = group.rows; r < CHUNK_ROWS; ++r) group.sum[r] = 1;
  for (int64_t r = 0; r < CHUNK_ROWS; r += LANES) store(log_sum + r, log_(load(group.sum + r)));
  for (int64_t r = 0; r < group.rows; ++r) {
    const real* x = group.at_row(r);
    const real weight = t.row_weight(r);
    const int64_t c = t.soft ? argmax(t.soft + r * t.ld, group.cols) : t.class_of(r);
    const TargetSums<real> sums = target_sums(group, t, r);
    metrics[metric_loss] += double(weight) * (double(sums.target) * log_sum[r] - sums.product);
    metrics[metric_weight] += double(weight) * (t.soft ? 1 : t.weight_of_class(c));
    metrics[metric_correct] += c >= 0 && x[c] == group.max[r] && !contains(x, c, group.max[r]);
    group.factor[r] = weight * sums.target / group.sum[r];
  }
  metrics[metric_rows] += double(group.rows);
}

static void subtract_targets(const Targets& t, const Block& block) {
  for (int64_t r = 0; r < block.rows; ++r) {
    real* v = block.v + r * block.ld;
    const real weight = t.row_weight(r);
    if (t.dense()) {
      for_columns(block.cols, [&](int64_t c, auto edge) {
        store(v + c, fma(splat(-weight), dense_target(t, r, block.col + c, edge), load(v + c)));
      });
    }
    const int64_t hot = t.class_of(r), c = hot - block.col;
    if (c >= 0 && c < block.cols) v[c] -= weight * (t.kept * t.weight_of_class(hot));
  }
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  const bool gradient = instruction.numbers[1] != 0;
  for (int64_t chunk = begin; phase == 0 && chunk < end; ++chunk) {
    double* metrics = open_metrics(call, chunk);
    for (int64_t row = 0; row < chunk_rows(instruction, chunk); row += group_rows(instruction)) {
      Group group;
      open_group(call, chunk, row, workspace, gradient, group);
      const Targets targets = targets_of(call, group.row);
      measure(group, targets, metrics);
      if (gradient) run_group(call, group, [&](const Block& block) { subtract_targets(targets, block); });
    }
  }
  if (phase + 1 == metric_phases(instruction)) merge_metrics(call, instruction.operands[4], begin, end);
}

extern const KernelEntry softmax_cross_entropy_entry = {metric_phases, metric_items, metric_scratch, run};

DLCORE_END
