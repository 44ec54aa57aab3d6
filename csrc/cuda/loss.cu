// SPDX-License-Identifier: Apache-2.0
// loss: an elementwise loss of prediction (rows, cols) and target, averaged over the columns of a row; the gradient
// goes through the chain. Bound by reading both; a warp takes the sums of a row, then tiles make the gradient.
#include "../math/losses.h"

#include "chain.cuh"
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

// What a row adds to the metrics; all lanes of its warp get it.
template <class Loss>
__device__ static RowMetrics measure(const Arguments& x, const real* prediction, const real* target, int64_t cols,
                                     double row_weight) {
  real loss = 0, weight = 0;
  bool right = true;
  along_rows(prediction, target, cols, [&](int64_t, real p, real t) {
    if constexpr (Loss::classifies) {
      weight += fma(t, x.weight1 - x.weight0, x.weight0);
      right = right && Loss::correct(p, t);
    }
    loss += Loss::value(p, t, x.weight0, x.weight1);
  });
  loss = warp_sum(loss), weight = warp_sum(weight);
  const bool correct = Loss::classifies && __ballot_sync(ALL_LANES, right) == ALL_LANES;
  return {row_weight * loss / double(cols), Loss::classifies ? row_weight * weight / double(cols) : row_weight,
          double(correct)};
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

__global__ void __launch_bounds__(THREADS) loss_rows(const Instruction in, const int64_t metrics) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  const Arguments x = arguments_of(in);
  const real* prediction = at<real>(in.operands[0]) + row * in.operands[0].ld;
  const real* target = at<real>(in.operands[1]) + row * in.operands[1].ld;
  RowMetrics found = {0, 0, 0};
  switch (Function(int(in.numbers[0]))) {
#define DLCORE_CASE(name)                                                                     \
  case function_##name:                                                                       \
    found = measure<losses::name>(x, prediction, target, in.cols, double(x.row_weight(row))); \
    break;
    DLCORE_LOSSES(DLCORE_CASE)
#undef DLCORE_CASE
  }
  if (lane_of() == 0) scratch_at<RowMetrics>(in, metrics)[row] = found;
}

__global__ void __launch_bounds__(THREADS, BLOCKS) loss_gradient(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x), target = t;
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
  run_chain(in, t, shared_memory<ChainMemory>());
}

static int32_t phases(const Instruction& in) { return in.numbers[1] == 0 ? 1 : 1 + chained_phases(in); }

static int64_t items(const Instruction& in, int32_t phase) {
  return phase == 0 ? row_items(in) : phase == 1 ? tile_items(in) : merge_items(in);
}

static int64_t metrics_offset(const Instruction& in) { return round_up(chain_scratch(in), ALIGNMENT); }
static int64_t scratch(const Instruction& in) { return metrics_offset(in) + row_metrics_scratch(in); }

static void launch(const Launch& l, int32_t phase) {
  const int64_t blocks = items(*l.instruction, phase), metrics = metrics_offset(*l.instruction);
  if (phase == 1) return launch_kernel(loss_gradient, l, blocks, THREADS, sizeof(ChainMemory));
  if (phase == 2) return launch_merge(l);
  launch_kernel(loss_rows, l, blocks, THREADS, 0, metrics);
  launch_metrics(l, 3, metrics);
}

extern const Entry loss_entry = {{phases, items, scratch, nullptr}, launch};

DLCORE_END
