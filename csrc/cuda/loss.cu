// SPDX-License-Identifier: Apache-2.0
// loss: an elementwise loss of prediction (rows, cols) and target, averaged over the columns of a row; the gradient
// goes through the chain. Bound by reading both.
#include "../math/losses.h"

#include "metrics.cuh"

DLCORE_BEGIN

// [prediction, target, weight?, metrics!] numbers [function, gradient, c0, c1]
struct Arguments {
  const real* weight;  // (rows, 1), may be absent
  int64_t weight_ld;
  real weight0, weight1;  // of the targets 0 and 1

  __device__ real row_weight(int64_t r) const { return weight ? weight[r * weight_ld] : 1; }
};

__device__ static Arguments arguments_of(const Instruction& in) {
  const View& weight = in.operands[2];
  return {at<real>(weight), weight.ld, real(in.numbers[2]), real(in.numbers[3])};
}

struct RowSums {
  real loss, weight;
  bool wrong;
};

template <class Loss>
__device__ static void add(const Arguments& x, real p, real t, RowSums& row) {
  if constexpr (Loss::classifies) {
    row.weight += fma(t, x.weight1 - x.weight0, x.weight0);
    row.wrong = row.wrong || !Loss::correct(p, t);
  }
  row.loss += Loss::value(p, t, x.weight0, x.weight1);
}

// Of so many neighbouring lanes; each gets it.
__device__ static RowSums add_lanes(const RowSums& row, int lanes) {
  return {warp_sum(row.loss, lanes), warp_sum(row.weight, lanes),
          warp_reduce(row.wrong, [](int a, int b) { return a | b; }, lanes)};
}

// What a row adds to the metrics.
template <class Loss>
__device__ static RowMetrics measure(const RowSums& row, real weight, int64_t cols) {
  return row_metrics(double(weight) * row.loss / double(cols),
                     Loss::classifies ? double(weight) * row.weight / double(cols) : double(weight),
                     double(Loss::classifies && !row.wrong));
}

template <class Loss>
__device__ static void gradient(const Arguments& x, const Tile& target, int64_t cols, Tile& t) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    const real scale = r < t.rows ? x.row_weight(t.row + r) / real(cols) : real(0);
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) {
      t.v[r][c] = Loss::grad(t.v[r][c], target.v[r][c], x.weight0, x.weight1) * scale;
    }
  }
}

enum Function {
#define DLCORE_ENUMERATOR(name) function_##name,
  DLCORE_LOSSES(DLCORE_ENUMERATOR)
#undef DLCORE_ENUMERATOR
};

__device__ static void run_gradient(const Instruction& in, Tile& t, ChainMemory& memory) {
  Tile target = t;
  load_tile(in.operands[0], t);
  load_tile(in.operands[1], target);
  switch (Function(int(in.numbers[0]))) {
#define DLCORE_CASE(name)                                         \
  case function_##name:                                           \
    gradient<losses::name>(arguments_of(in), target, in.cols, t); \
    break;
    DLCORE_LOSSES(DLCORE_CASE)
#undef DLCORE_CASE
  }
  run_chain(in, t, memory);
}

// ---- narrow rows

union LossMemory {
  ChainMemory chain;
  struct {
    RowSums rows[TILE];
    RowMetrics metrics[TILE];
  };
};

template <class Loss>
__device__ static void measure_panel(const Instruction& in, LossMemory& memory) {
  const Arguments x = arguments_of(in);
  RowSums rows[SIDE] = {};
  for (int i = 0; i < tiles_across(in); ++i) {
    Tile p = panel_tile(in, i), t = p;
    load_tile(in.operands[0], p);
    load_tile(in.operands[1], t);
    each(p, [&](int r, int c, int64_t) { add<Loss>(x, p.v[r][c], t.v[r][c], rows[r]); });
  }
  DLCORE_UNROLL(4)
  for (RowSums& row : rows) row = add_lanes(row, ACROSS);
  publish_rows(rows, memory.rows);
  const int64_t row = panel_row(in);
  if (row < 0) return;
  memory.metrics[threadIdx.x] = measure<Loss>(memory.rows[threadIdx.x], x.row_weight(row), in.cols);
}

// metrics: where those of chunks are in scratch
__global__ void __launch_bounds__(THREADS, FEWER_BLOCKS) loss_kernel(const Instruction in, const int64_t metrics) {
  LossMemory& memory = shared_memory<LossMemory>();
  switch (Function(int(in.numbers[0]))) {
#define DLCORE_CASE(name)                    \
  case function_##name:                      \
    measure_panel<losses::name>(in, memory); \
    break;
    DLCORE_LOSSES(DLCORE_CASE)
#undef DLCORE_CASE
  }
  __syncthreads();
  add_chunk(in, 3, metrics, memory.metrics);
  for (int i = 0; i < tiles_across(in) && in.numbers[1] != 0; ++i) {
    Tile t = panel_tile(in, i);
    run_gradient(in, t, memory.chain);
  }
}

// ---- wide rows

template <class Loss>
__device__ static RowMetrics measure_row(const Instruction& in, int64_t row) {
  const Arguments x = arguments_of(in);
  const real weight = x.row_weight(row);
  const real* prediction = at<real>(in.operands[0]) + row * in.operands[0].ld;
  const real* target = at<real>(in.operands[1]) + row * in.operands[1].ld;
  RowSums sums = {};
  along_rows(prediction, target, in.cols, [&](int64_t, real p, real t) { add<Loss>(x, p, t, sums); });
  return measure<Loss>(add_lanes(sums, WARP), weight, in.cols);
}

__global__ void __launch_bounds__(THREADS) loss_rows(const Instruction in, const int64_t metrics) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  RowMetrics found = {};
  switch (Function(int(in.numbers[0]))) {
#define DLCORE_CASE(name)                       \
  case function_##name:                         \
    found = measure_row<losses::name>(in, row); \
    break;
    DLCORE_LOSSES(DLCORE_CASE)
#undef DLCORE_CASE
  }
  if (lane_of() == 0) scratch_at<RowMetrics>(in, metrics)[row] = found;
}

__global__ void __launch_bounds__(THREADS, BLOCKS) loss_gradient(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  run_gradient(in, t, shared_memory<ChainMemory>());
}

static int64_t metrics_offset(const Instruction& in) { return round_up(chain_scratch(in), ALIGNMENT); }
static int64_t scratch(const Instruction& in) { return metrics_offset(in) + metrics_scratch(in); }

static void launch(const Launch& l, int32_t phase) {
  launch_loss(l, phase, {loss_kernel, sizeof(LossMemory), loss_rows, loss_gradient, 3}, metrics_offset(*l.instruction));
}

extern const Entry loss_entry = {{loss_phases, loss_items, scratch, nullptr}, launch};

DLCORE_END
