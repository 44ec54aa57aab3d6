// SPDX-License-Identifier: Apache-2.0
// softmax_cross_entropy of logits (rows, classes) with class indices or probabilities as targets: the gradient
// softmax - target goes through the chain, loss and counts to metrics. Narrow rows are read once; of wide ones the
// logits are read again from L2 for the gradient.
#include <cstddef>

#include "metrics.cuh"
#include "softmax.cuh"

DLCORE_BEGIN

// Of a row, and the first column that holds it. NaN is passed over.
struct Greatest {
  real value;
  int column;

  __device__ void offer(real v, int c) {
    if (v > value || (v == value && c < column)) value = v, column = c;
  }
  // Of so many neighbouring lanes; each gets it.
  __device__ void offer_lanes(int lanes) {
    while ((lanes /= 2) > 0) offer(__shfl_xor_sync(ALL_LANES, value, lanes), __shfl_xor_sync(ALL_LANES, column, lanes));
  }
};
constexpr Greatest NONE = {-INF, 0x7fffffff};

__device__ static Greatest row_greatest(const real* x, int64_t cols) {
  Greatest found = NONE;
  along_row(x, cols, [&](int64_t c, real v) { found.offer(v, int(c)); });
  found.offer_lanes(WARP);
  return found;
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

// Of one row.
struct Row {
  Greatest logit, soft;  // soft: of its probabilities
  real sum;              // of exp(x - max)
  real target, product;  // sums of target and of target * (x - max), at first without the part of an index
  real factor;           // of exp(x - max) in the gradient
};

// What a row adds to the metrics. x: (1, classes)
__device__ static RowMetrics measure(const Targets& t, const real* x, int64_t row, Row& found) {
  const int64_t hot = t.class_of(row), c = t.soft ? min(t.classes - 1, int64_t(found.soft.column)) : hot;
  if (hot >= 0) {
    const real y = t.kept * t.weight_of_class(hot);
    found.target += y;
    found.product += y * (x[hot] - found.logit.value);
  }
  const real weight = t.row_weight(row);
  found.factor = weight * found.target / found.sum;
  return row_metrics(double(weight) * (double(found.target) * log_(found.sum) - found.product),
                     double(weight) * (t.soft ? 1 : t.weight_of_class(c)), double(c >= 0 && found.logit.column == c));
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

// ---- narrow rows

struct EntropyMemory {
  union {
    ChainMemory chain;
    struct {
      Row rows[TILE];
      RowMetrics metrics[TILE];
    };
  };
  Kept tiles[PANEL_TILES];
};

static size_t memory_bytes(const Instruction& in) {
  return offsetof(EntropyMemory, tiles) + size_t(min(PANEL_TILES, tiles_across(in))) * sizeof(Kept);
}

// The greatest of each row; leaves the logits in the tiles.
__device__ static void load_rows(const Instruction& in, const Targets& t, EntropyMemory& memory, Row (&rows)[SIDE]) {
  for (Row& row : rows) row = {NONE, NONE, 0, 0, 0, 0};
  for (int i = 0; i < tiles_across(in); ++i) {
    Tile x = panel_tile(in, i);
    load_tile(in.operands[0], x);
    memory.tiles[i].put(x.v);
    each(x, [&](int r, int c, int64_t column) { rows[r].logit.offer(x.v[r][c], int(column)); });
    if (!t.soft) continue;
    load_tile(in.operands[1], x);
    each(x, [&](int r, int c, int64_t column) { rows[r].soft.offer(x.v[r][c], int(column)); });
  }
  DLCORE_UNROLL(4)
  for (Row& row : rows) row.logit.offer_lanes(ACROSS), row.soft.offer_lanes(ACROSS);
}

// The sums of each row; leaves exponentials in the tiles.
__device__ static void sum_rows(const Instruction& in, const Targets& t, EntropyMemory& memory, Row (&rows)[SIDE]) {
  for (int i = 0; i < tiles_across(in); ++i) {
    Tile x = panel_tile(in, i);
    memory.tiles[i].get(x.v);
    each(x, [&](int r, int c, int64_t column) {
      const real below = x.v[r][c] - rows[r].logit.value, y = t.dense() ? t.dense_target(x.row + r, column) : real(0);
      x.v[r][c] = exp_(below);
      rows[r].sum += x.v[r][c];
      rows[r].target += y;
      rows[r].product = t.dense() ? fma(y, below, rows[r].product) : real(0);
    });
    memory.tiles[i].put(x.v);
  }
  DLCORE_UNROLL(4)
  for (Row& row : rows) {
    row.sum = warp_sum(row.sum, ACROSS);
    row.target = warp_sum(row.target, ACROSS), row.product = warp_sum(row.product, ACROSS);
  }
}

// What the rows of a chunk add to the metrics.
__device__ static void measure_panel(const Instruction& in, const Targets& t, EntropyMemory& memory) {
  Row rows[SIDE];
  load_rows(in, t, memory, rows);
  sum_rows(in, t, memory, rows);
  publish_rows(rows, memory.rows);
  const int64_t row = panel_row(in);
  const View& x = in.operands[0];
  if (row >= 0) memory.metrics[threadIdx.x] = measure(t, at<real>(x) + row * x.ld, row, memory.rows[threadIdx.x]);
  __syncthreads();
}

// From exponentials to gradients.
__device__ static void finish_tiles(const Instruction& in, const Targets& t, EntropyMemory& memory) {
  for (int i = 0; i < tiles_across(in); ++i) {
    Tile e = panel_tile(in, i);
    memory.tiles[i].get(e.v);
    map(e, [&](real v, int r, int) { return v * memory.rows[e.row - e.first_row + r].factor; });
    subtract_targets(t, e);
    memory.tiles[i].put(e.v);
  }
}

// metrics: where those of chunks are in scratch
__global__ void __launch_bounds__(THREADS, FEWER_BLOCKS)
    cross_entropy_kernel(const Instruction in, const int64_t metrics) {
  EntropyMemory& memory = shared_memory<EntropyMemory>();
  measure_panel(in, targets_of(in), memory);
  add_chunk(in, 4, metrics, memory.metrics);
  if (in.numbers[1] == 0) return;
  finish_tiles(in, targets_of(in), memory);  // before a chain takes the memory of the rows
  for (int i = 0; i < tiles_across(in); ++i) {
    Tile t = panel_tile(in, i);
    memory.tiles[i].get(t.v);
    run_chain(in, t, memory.chain);
  }
}

// ---- wide rows

// What the rows add to the metrics, and the scales of their gradients.
__global__ void __launch_bounds__(THREADS) cross_entropy_rows(const Instruction in, const int64_t metrics) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  const Targets t = targets_of(in);
  const real* x = at<real>(in.operands[0]) + row * in.operands[0].ld;
  Row found = {row_greatest(x, in.cols), t.soft ? row_greatest(t.soft + row * t.ld, in.cols) : NONE, 0, 0, 0, 0};
  along_row(x, in.cols, [&](int64_t c, real v) {
    const real below = v - found.logit.value;
    found.sum += exp_(below);
    if (!t.dense()) return;
    const real y = t.dense_target(row, c);
    found.target += y;
    found.product = fma(y, below, found.product);
  });
  found.sum = warp_sum(found.sum), found.target = warp_sum(found.target), found.product = warp_sum(found.product);
  if (lane_of() > 0) return;
  scratch_at<RowMetrics>(in, metrics)[row] = measure(t, x, row, found);
  row_scales(in)[row] = {found.logit.value, found.factor};
}

__global__ void __launch_bounds__(THREADS, FEWER_BLOCKS) cross_entropy_gradient(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  load_exponentials(in, t);
  subtract_targets(targets_of(in), t);
  run_chain(in, t, shared_memory<ChainMemory>());
}

static int64_t metrics_offset(const Instruction& in) {
  return is_narrow(in) ? round_up(chain_scratch(in), ALIGNMENT) : row_scales_scratch(in);
}
static int64_t scratch(const Instruction& in) { return metrics_offset(in) + metrics_scratch(in); }

static void launch(const Launch& l, int32_t phase) {
  const LossKernels kernels = {cross_entropy_kernel, memory_bytes(*l.instruction), cross_entropy_rows,
                               cross_entropy_gradient, 4};
  launch_loss(l, phase, kernels, metrics_offset(*l.instruction));
}

extern const Entry softmax_cross_entropy_entry = {{loss_phases, loss_items, scratch, nullptr}, launch};

DLCORE_END
