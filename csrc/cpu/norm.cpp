// SPDX-License-Identifier: Apache-2.0
// moments_finish, norm_backward_finish: from the moments of a batch to columns for the next chain.
// All operands are (1, cols): a few flops a column; items are runs of columns.
#include "../math/norms.h"

#include "kernels.h"
#include "rows.h"

DLCORE_BEGIN

static const int64_t ITEM_COLS = 1024;

static int32_t one_phase(const Instruction&) { return 1; }

static int64_t column_items(const Instruction& instruction, int32_t) { return ceil_div(instruction.cols, ITEM_COLS); }

static int64_t no_scratch(const Instruction&) { return 0; }

// The columns of items begin to end, and the operands there.
struct Columns {
  const Call& call;
  int64_t first, count;

  Columns(const Call& c, int64_t begin, int64_t end)
      : call(c), first(begin * ITEM_COLS), count(min(end * ITEM_COLS, c.instruction->cols) - first) {}

  real* operand(int i) const {
    real* p = at<real>(call, call.instruction->operands[i]);
    return p ? p + first : nullptr;
  }
};

// running = (1 - momentum) running + momentum batch
template <class Edge>
static inline void move_running(real* running, vec batch, double momentum, Edge edge) {
  const vec kept = load(running, edge) * real(1 - momentum);
  store(running, fma(splat(real(momentum)), batch, kept), edge);
}

// [mean, m2, gamma, beta, running_mean!?, running_var!?, scale, shift, rstd, center]
static void run_moments_finish(const Call& call, int32_t, int64_t begin, int64_t end, char*) {
  const Columns columns(call, begin, end);
  const double* numbers = call.instruction->numbers;
  const double rows = numbers[0], unbiased = rows > 1 ? rows - 1 : 1, momentum = numbers[2];
  const vec eps = splat(real(numbers[1]));
  const real *means = columns.operand(0), *m2s = columns.operand(1);
  const real *gammas = columns.operand(2), *betas = columns.operand(3);
  real *running_mean = columns.operand(4), *running_var = columns.operand(5);
  real *scales = columns.operand(6), *shifts = columns.operand(7);
  real *rstds = columns.operand(8), *centers = columns.operand(9);
  for_columns(columns.count, [&](int64_t c, auto edge) {
    const vec mean = load(means + c, edge), m2 = load(m2s + c, edge);
    const vec rstd = reciprocal_deviation(m2 / real(rows), eps);
    const Affine<vec> y = normalisation(load(gammas + c, edge), load(betas + c, edge), mean, rstd);
    store(scales + c, y.scale, edge);
    store(shifts + c, y.shift, edge);
    store(rstds + c, rstd, edge);
    store(centers + c, -mean * rstd, edge);
    if (running_mean) move_running(running_mean + c, mean, momentum, edge);
    if (running_var) move_running(running_var + c, m2 / real(unbiased), momentum, edge);
  });
}

// [sum, dot, gamma, mean, rstd, a, b, c, dgamma, dbeta]
static void run_norm_backward_finish(const Call& call, int32_t, int64_t begin, int64_t end, char*) {
  const Columns columns(call, begin, end);
  const real rows = real(call.instruction->numbers[0]);
  const real *sums = columns.operand(0), *dots = columns.operand(1);
  const real *gammas = columns.operand(2), *means = columns.operand(3), *rstds = columns.operand(4);
  real *as = columns.operand(5), *bs = columns.operand(6), *cs = columns.operand(7);
  real *dgammas = columns.operand(8), *dbetas = columns.operand(9);
  for_columns(columns.count, [&](int64_t c, auto edge) {
    const vec sum = load(sums + c, edge), dot = load(dots + c, edge);
    const NormGrad<vec> dz =
        norm_grad(load(gammas + c, edge), load(means + c, edge), load(rstds + c, edge), sum / rows, dot / rows);
    store(as + c, dz.a, edge);
    store(bs + c, dz.b, edge);
    store(cs + c, dz.c, edge);
    store(dgammas + c, dot, edge);
    store(dbetas + c, sum, edge);
  });
}

extern const KernelEntry moments_finish_entry = {one_phase, column_items, no_scratch, run_moments_finish};
extern const KernelEntry norm_backward_finish_entry = {one_phase, column_items, no_scratch, run_norm_backward_finish};

DLCORE_END
