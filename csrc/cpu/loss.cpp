// SPDX-License-Identifier: Apache-2.0
// loss: an elementwise loss of prediction (rows, cols) and target, averaged over the columns of a row; the gradient
// goes through the chain. Bound by reading both and by the exp and log of the loss; chunks of rows, blocks of columns.
#include "../math/losses.h"

#include "partials.h"

DLCORE_BEGIN

struct Arguments {
  const real* prediction;  // (rows, cols)
  const real* target;      // (rows, cols)
  const real* weight;      // (rows, 1), may be absent
  int64_t prediction_ld, target_ld, weight_ld;
  real weight0, weight1;  // of the targets 0 and 1
  bool gradient;

  real row_weight(int64_t r) const { return weight ? weight[r * weight_ld] : 1; }
};

static const real* rows_from(const Call& call, const View& view, int64_t row) {
  const real* p = at<real>(call, view);
  return p ? p + row * view.ld : nullptr;
}

// [prediction, target, weight?, metrics!] numbers [function, gradient, c0, c1]
static Arguments arguments_of(const Call& call, int64_t row) {
  const View* views = call.instruction->operands;
  const double* numbers = call.instruction->numbers;
  Arguments x = {};
  x.prediction = rows_from(call, views[0], row);
  x.target = rows_from(call, views[1], row);
  x.weight = rows_from(call, views[2], row);
  x.prediction_ld = views[0].ld;
  x.target_ld = views[1].ld;
  x.weight_ld = views[2].ld;
  x.gradient = numbers[1] != 0;
  x.weight0 = real(numbers[2]);
  x.weight1 = real(numbers[3]);
  return x;
}

// Of one row, in LANES parts.
struct RowSums {
  vec loss, weight;
  ivec wrong;
};

// One row of a block; the gradient goes to v.
template <class Loss>
static void loss_row(const Arguments& x, const Block& block, int64_t r, real scale, RowSums& row) {
  const real* prediction = x.prediction + r * x.prediction_ld + block.col;
  const real* target = x.target + r * x.target_ld + block.col;
  real* v = block.v + r * block.ld;
  const vec w0 = splat(x.weight0), w1 = splat(x.weight1), more = splat(x.weight1 - x.weight0);
  const bool gradient = x.gradient;
  RowSums sums = row;
  for_columns(block.cols, [&](int64_t c, auto edge) {
    const vec p = load(prediction + c, edge), t = load(target + c, edge);
    if constexpr (Loss::classifies) {
      sums.weight += within(fma(t, more, w0), edge, splat(0));
      sums.wrong |= ~Loss::correct(p, t);
    }
    sums.loss += within(Loss::value(p, t, w0, w1), edge, splat(0));
    if (gradient) store(v + c, Loss::grad(p, t, w0, w1) * scale);
  });
  row = sums;
}

// Row by row, so that the size of a group changes no bit. metrics (1, METRICS) of the chunk so far
template <class Loss>
static void add_metrics(const Arguments& x, const RowSums* sums, int64_t rows, double cols, double* metrics) {
  for (int64_t r = 0; r < rows; ++r) {
    const double weight = double(x.row_weight(r));
    metrics[metric_loss] += weight * reduce_add(sums[r].loss) / cols;
    metrics[metric_weight] += Loss::classifies ? weight * reduce_add(sums[r].weight) / cols : weight;
    metrics[metric_correct] += Loss::classifies && !any(sums[r].wrong);
  }
  metrics[metric_rows] += double(rows);
}

template <class Loss>
static void loss_group(const Call& call, Block block, double* metrics) {
  const Instruction& instruction = *call.instruction;
  const Arguments x = arguments_of(call, block.row);
  RowSums sums[CHUNK_ROWS] = {};
  do {
    for (int64_t r = 0; r < block.rows; ++r) {
      loss_row<Loss>(x, block, r, x.row_weight(r) / real(instruction.cols), sums[r]);
    }
    if (x.gradient) run_chain(call, block);
  } while (next_block(instruction, block));
  add_metrics<Loss>(x, sums, block.rows, double(instruction.cols), metrics);
}

#define DLCORE_LOSS_GROUP(name) loss_group<losses::name>,
static void (*const loss_groups[])(const Call&, Block, double*) = {DLCORE_LOSSES(DLCORE_LOSS_GROUP)};
#undef DLCORE_LOSS_GROUP

static void run_loss(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  const Instruction& instruction = *call.instruction;
  for (int64_t i = begin; phase == 0 && i < end; ++i) {
    double* metrics = open_metrics(call, i);
    for (int64_t row = 0; row < chunk_rows(instruction, i); row += group_rows(instruction)) {
      loss_groups[int(instruction.numbers[0])](call, first_block(instruction, i, row, workspace), metrics);
    }
  }
  if (phase + 1 == metric_phases(instruction)) merge_metrics(call, instruction.operands[3], begin, end);
}

extern const KernelEntry loss_entry = {metric_phases, metric_items, metric_scratch, run_loss};

DLCORE_END
