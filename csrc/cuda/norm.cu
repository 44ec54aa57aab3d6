// SPDX-License-Identifier: Apache-2.0
// moments_finish, norm_backward_finish: from the moments of a batch to columns for the next chain.
// All operands are (1, cols): a few flops a column; a thread a column.
#include "../math/norms.h"

#include "launch.cuh"

DLCORE_BEGIN

static const int COLUMN_THREADS = 128;

static int64_t column_items(const Instruction& in, int32_t) { return ceil_div(in.cols, COLUMN_THREADS); }

__device__ static int64_t column() { return int64_t(blockIdx.x) * COLUMN_THREADS + threadIdx.x; }

// running = (1 - momentum) running + momentum batch
__device__ static void move_running(real* running, real batch, double momentum) {
  if (running) running[column()] = fma(real(momentum), batch, running[column()] * real(1 - momentum));
}

// [mean, m2, gamma, beta, running_mean!?, running_var!?, scale, shift, rstd, center]
__global__ void moments_finish_kernel(const Instruction in) {
  const int64_t c = column();
  if (c >= in.cols) return;
  const double rows = in.numbers[0], unbiased = rows > 1 ? rows - 1 : 1, momentum = in.numbers[2];
  const View* views = in.operands;
  const real mean = at<real>(views[0])[c], m2 = at<real>(views[1])[c];
  const real rstd = reciprocal_deviation(m2 / real(rows), real(in.numbers[1]));
  const Affine<real> y = normalisation(at<real>(views[2])[c], at<real>(views[3])[c], mean, rstd);
  move_running(at<real>(views[4]), mean, momentum);
  move_running(at<real>(views[5]), m2 / real(unbiased), momentum);
  at<real>(views[6])[c] = y.scale;
  at<real>(views[7])[c] = y.shift;
  at<real>(views[8])[c] = rstd;
  at<real>(views[9])[c] = -mean * rstd;
}

static void launch_moments_finish(const Launch& l, int32_t) {
  launch_kernel(moments_finish_kernel, l, column_items(*l.instruction, 0), COLUMN_THREADS, 0);
}

// [sum, dot, gamma, mean, rstd, a, b, c, dgamma, dbeta]
__global__ void norm_backward_finish_kernel(const Instruction in) {
  const int64_t c = column();
  if (c >= in.cols) return;
  const real rows = real(in.numbers[0]);
  const View* views = in.operands;
  const real sum = at<real>(views[0])[c], dot = at<real>(views[1])[c];
  const NormGrad<real> dz =
      norm_grad(at<real>(views[2])[c], at<real>(views[3])[c], at<real>(views[4])[c], sum / rows, dot / rows);
  at<real>(views[5])[c] = dz.a;
  at<real>(views[6])[c] = dz.b;
  at<real>(views[7])[c] = dz.c;
  at<real>(views[8])[c] = dot;
  at<real>(views[9])[c] = sum;
}

static void launch_norm_backward_finish(const Launch& l, int32_t) {
  launch_kernel(norm_backward_finish_kernel, l, column_items(*l.instruction, 0), COLUMN_THREADS, 0);
}

extern const Entry moments_finish_entry = {{one_phase, column_items, no_scratch, nullptr}, launch_moments_finish};
extern const Entry norm_backward_finish_entry = {{one_phase, column_items, no_scratch, nullptr},
                                                 launch_norm_backward_finish};

DLCORE_END
