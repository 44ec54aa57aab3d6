// SPDX-License-Identifier: Apache-2.0
// softmax of x (rows, cols), and softmax_cross_entropy of logits (rows, classes) with its gradient, by chunks of rows.
// Bound by reading x and by one exp an element: a panel of exp(x - max) of the whole chunk stays in the workspace and
// becomes the chain's value there. Rows longer than a panel pay a second exp.
#include "../math/functions.h"
#include "partials.h"

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
static const int64_t BLOCK_COLUMNS = 2 * COLUMN_ALIGN;

// Half the workspace: the panel shares a cache with x.
static int64_t panel_columns(int64_t rows, int64_t cols) {
  const int64_t room = WORKSPACE_BYTES / 2 / (rows * int64_t(sizeof(real)));
  return min(round_up(cols, LANES), (room - 1) / BLOCK_COLUMNS * BLOCK_COLUMNS);
}

static real row_max(const real* x, int64_t cols) {
  vec greatest = splat(-INF);
  for_columns(cols, [&](int64_t c, auto edge) {
    greatest = max(greatest, within(load(x + c, edge), edge, splat(-INF)));
  });
  return reduce_max(greatest);
}

static bool contains(const real* x, int64_t cols, real value) {
  const vec never = splat(real(__builtin_nan("")));
  ivec found = {};
  for_columns(cols, [&](int64_t c, auto edge) {
    found |= within(load(x + c, edge), edge, never) == splat(value);
  });
  return any(found);
}

static int64_t argmax(const real* x, int64_t cols) {
  const real greatest = row_max(x, cols);
  int64_t c = 0;
  while (c < cols - 1 && x[c] != greatest) ++c;
  return c;
}

// Returns the sum in LANES parts.
static vec exponentials(const real* x, int64_t cols, real greatest, real* e) {
  vec sum = {};
  for_columns(cols, [&](int64_t c, auto edge) {
    const vec y = within(exp_(load(x + c, edge) - greatest), edge, splat(0));
    store(e + c, y);
    sum += y;
  });
  return sum;
}

// Of the panel from column col on, for one row; adds to its sum.
static void fill_panel(const Group& group, int64_t r, int64_t col, vec& sum) {
  const real* x = group.at_row(r) + col;
  real* e = group.e + r * group.e_ld;
  const int64_t cols = min(group.panel, group.cols - col);
  for (int64_t c = 0; c < cols; c += BLOCK_COLUMNS) {
    sum += exponentials(x + c, min(BLOCK_COLUMNS, cols - c), group.max[r], e + c);
  }
}

// Max and sum of each row; the last panel stays filled.
static void open_group(const Call& call, int64_t chunk, int64_t row, char* workspace, Group& group) {
  const Instruction& instruction = *call.instruction;
  const View& view = instruction.operands[0];
  const int64_t line = ALIGNMENT / int64_t(sizeof(real));
  group.ld = view.ld;
  group.row = chunk * CHUNK_ROWS + row;
  group.rows = min(group_rows(instruction), chunk_rows(instruction, chunk) - row);
  group.cols = instruction.cols;
  group.x = at<real>(call, view) + group.row * view.ld;
  group.e = reinterpret_cast<real*>(workspace);
  group.panel = panel_columns(group.rows, group.cols);
  group.e_ld = round_up(group.panel, line) | line;  // an odd number of lines spreads a column over the sets of a cache
  for (int64_t r = 0; r < group.rows; ++r) {
    group.max[r] = row_max(group.at_row(r), group.cols);
    vec sum = {};
    for (int64_t col = 0; col < group.cols; col += group.panel) fill_panel(group, r, col, sum);
    group.sum[r] = reduce_add(sum);
  }
}

// The target of a row is kept * target + uniform, times the class weight.
struct Targets {
  const int32_t* index;  // (rows, 1), or
  const real* soft;      // (rows, cols)
  int64_t ld;
  const real* weight;  // (rows, 1), may be absent
  int64_t weight_ld;
  const real* class_weight;  // (1, cols), may be absent
  real kept, uniform;

  bool dense() const { return soft || uniform != 0; }
  real row_weight(int64_t r) const { return weight ? weight[r * weight_ld] : 1; }
  real weight_of_class(int64_t c) const { return class_weight ? class_weight[c] : 1; }
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
  if (t.index) {
    const int64_t c = t.index[r * t.ld];
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
    const int64_t c = t.index ? t.index[r * t.ld] : argmax(t.soft + r * t.ld, group.cols);
    const TargetSums<real> sums = target_sums(group, t, r);
    metrics[metric_loss] += double(weight) * (double(sums.target) * log_sum[r] - sums.product);
    metrics[metric_weight] += double(weight) * (t.index ? t.weight_of_class(c) : 1);
    metrics[metric_correct] += x[c] == group.max[r] && !contains(x, c, group.max[r]);
    group.factor[r] = weight * sums.target / group.sum[r];
  }
  metrics[metric_rows] += double(group.rows);
}

static void scale_block(const Group& group, const Block& block) {
  for (int64_t r = 0; r < block.rows; ++r) {
    real* v = block.v + r * block.ld;
    const real factor = group.factor[r];
    for (int64_t c = 0; c < block.cols; c += LANES) store(v + c, load(v + c) * factor);
  }
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
    const int64_t hot = t.index ? t.index[r * t.ld] : -1;
    const int64_t c = hot - block.col;
    if (c >= 0 && c < block.cols) v[c] -= weight * (t.kept * t.weight_of_class(hot));
  }
}

// softmax of the group, less the targets where there are any, through the chain.
static void emit(const Call& call, const Group& group, const Targets* targets) {
  const int64_t width = slab_columns(group.rows);
  vec unused = {};
  for (int64_t panel = 0; panel < group.cols; panel += group.panel) {
    const int64_t end = min(panel + group.panel, group.cols);
    for (int64_t r = 0; group.panel < group.cols && r < group.rows; ++r) fill_panel(group, r, panel, unused);
    for (int64_t col = panel; col < end; col += width) {
      const Block block = {group.e + (col - panel), group.e_ld, group.row, col, group.rows, min(width, end - col)};
      scale_block(group, block);
      if (targets) subtract_targets(*targets, block);
      run_chain(call, block);
    }
  }
}

static void run_softmax_cross_entropy(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  for (int64_t chunk = begin; phase == 0 && chunk < end; ++chunk) {
    double* metrics = open_metrics(call, chunk);
    for (int64_t row = 0; row < chunk_rows(instruction, chunk); row += group_rows(instruction)) {
      Group group;
      open_group(call, chunk, row, workspace, group);
      const Targets targets = targets_of(call, group.row);
      measure(group, targets, metrics);
      if (instruction.numbers[1] != 0) emit(call, group, &targets);
    }
  }
  if (phase + 1 == metric_phases(instruction)) merge_metrics(call, instruction.operands[4], begin, end);
}

static int32_t softmax_phases(const Instruction& instruction) { return chain_reduces(instruction) ? 2 : 1; }

static int64_t softmax_items(const Instruction& instruction, int32_t phase) {
  return phase == 0 ? chunk_count(instruction) : merge_items(instruction);
}

static void run_softmax(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  if (phase == 1) return merge_chain(call, begin, end);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    for (int64_t row = 0; row < chunk_rows(instruction, chunk); row += group_rows(instruction)) {
      Group group;
      open_group(call, chunk, row, workspace, group);
      for (int64_t r = 0; r < group.rows; ++r) group.factor[r] = 1 / group.sum[r];
      emit(call, group, nullptr);
    }
  }
}

const KernelEntry softmax_cross_entropy_entry = {metric_phases, metric_items, metric_scratch,
                                                 run_softmax_cross_entropy};
const KernelEntry softmax_entry = {softmax_phases, softmax_items, chain_scratch, run_softmax};

DLCORE_END
