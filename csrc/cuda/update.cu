// SPDX-License-Identifier: Apache-2.0
// grad_scale, update and tick: the step behind the seam. Weights, gradients and states are (1, P) over equal offsets.
// All are bound by memory: update reads and writes each array once, whatever decay, penalties and clipping it applies.
// Work is cut into blocks of fixed size inside segments; the norm is merged in block order.
#include "../math/update_rules.h"
#include "gemm/parts.cuh"

DLCORE_BEGIN

// ---- grad_scale: [metrics, gradients?, out, loss_scale!?]

enum { scale_metrics, scale_gradients, scale_out, scale_state };

static const int64_t NORM_BLOCK = 8192;  // elements

DLCORE_HD static int64_t norm_blocks(const Instruction& in) {
  const View& gradients = in.operands[scale_gradients];
  return gradients.arena < 0 ? 0 : ceil_div(gradients.cols, NORM_BLOCK);
}

__global__ void __launch_bounds__(THREADS) sum_squares(const Instruction in) {
  double (&warps)[ROW_WARPS] = shared_memory<double[ROW_WARPS]>();
  const View& view = in.operands[scale_gradients];
  const real* g = at<real>(view);  // (1, P)
  const int64_t first = blockIdx.x * NORM_BLOCK, last = min(view.cols, first + NORM_BLOCK);
  double sum = 0;
  for (int64_t i = first + 4 * threadIdx.x; i < last; i += 4 * THREADS) {
    real x[4];
    load4(g + i, int(min(4, last - i)), x);
    DLCORE_UNROLL(4)
    for (int k = 0; k < 4; ++k) sum += double(x[k]) * double(x[k]);
  }
  sum = warp_sum(sum);
  if (lane_of() == 0) warps[threadIdx.x / WARP] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < ROW_WARPS; ++i) sum += warps[i];
  scratch_at<double>(in)[blockIdx.x] = sum;
}

// The scale of the next gradient, as torch.amp.GradScaler moves it (Micikevicius et al., "Mixed precision training",
// 2018); it stays a positive number.
__device__ static void adapt(const double* numbers, bool finite, real* state) {
  const real good = finite ? state[loss_scale_good] + 1 : real(0);
  const bool grows = good == real(numbers[scaling_interval]);
  const real factor = real(finite ? grows ? numbers[scaling_growth] : 1 : numbers[scaling_backoff]);
  const real next = state[loss_scale_value] * factor;
  if (next > 0 && next < INF) state[loss_scale_value] = next;
  state[loss_scale_good] = grows ? real(0) : good;
  state[loss_scale_skipped] = real(!finite);
}

// Clips as torch.nn.utils.clip_grad_norm_ does, after the scale of the loss is taken out. One warp.
__global__ void finish_scale(const Instruction in) {
  double squares = 0;
  for (int64_t i = lane_of(); i < norm_blocks(in); i += WARP) squares += scratch_at<double>(in)[i];
  squares = warp_sum(squares);
  if (lane_of() > 0) return;
  const double max_norm = in.numbers[0], weight = at<double>(in.operands[scale_metrics])[metric_weight];
  double* out = at<double>(in.operands[scale_out]);  // (1, 2)
  real* state = at<real>(in.operands[scale_state]);  // (1, LOSS_SCALE)
  const double unscaled = state ? in.numbers[scaling_rows] / state[loss_scale_value] : 1;
  const double scale = weight != 0 ? unscaled / weight : 0;
  const double norm = __builtin_sqrt(squares) * scale, clip = max_norm / (norm + 1e-6);
  out[0] = max_norm > 0 && clip < 1 ? scale * clip : scale;
  out[1] = norm;
  if (state) adapt(in.numbers, norm - norm == 0, state);
}

static int32_t scale_phases(const Instruction& in) { return norm_blocks(in) > 0 ? 2 : 1; }

static int64_t scale_items(const Instruction& in, int32_t phase) {
  return phase + 1 < scale_phases(in) ? norm_blocks(in) : 1;
}

static int64_t scale_scratch(const Instruction& in) { return norm_blocks(in) * int64_t(sizeof(double)); }

static void launch_scale(const Launch& l, int32_t phase) {
  const int64_t blocks = scale_items(*l.instruction, phase);
  if (phase + 1 == scale_phases(*l.instruction)) return launch_kernel(finish_scale, l, 1, WARP, 0);
  launch_kernel(sum_squares, l, blocks, THREADS, sizeof(double[ROW_WARPS]));
}

// ---- update: [w!, g!, s1!?, s2!?, grad_scale, hyper, counters, loss_scale?, copies>?]

enum {
  update_w,
  update_g,
  update_s1,
  update_s2,
  update_scale,
  update_hyper,
  update_counters,
  update_state,
  update_copies
};

static const int64_t UPDATE_BLOCK = 4 * THREADS;  // elements

struct Step {
  RuleNumbers<real> rule;
  real lr, keep;  // keep = 1 - lr decay
  real scale, clip, l1, l2;
  bool clear;
};

// The counters lie in memory that the caller owns: whatever stands there, no row outside a table is touched.
__device__ static int64_t table_row(int64_t updates, const View& table) { return max(0, min(updates, table.rows - 1)); }

__device__ static Step make_step(const Instruction& in, const double* segment) {
  const View& view = in.operands[update_hyper];
  const int64_t row = table_row(at<int64_t>(in.operands[update_counters])[counter_updates], view);
  const double* hyper = at<double>(view) + row * view.ld + int64_t(segment[segment_group]) * HYPER;
  const double clip = in.numbers[update_clip], decays = segment[segment_decay];
  Step step;
  step.rule.momentum = real(hyper[hyper_momentum]);
  step.rule.rest1 = real(1 - hyper[hyper_momentum]);
  step.rule.rest2 = real(1 - hyper[hyper_beta2]);
  step.rule.eps = real(hyper[hyper_eps]);
  step.rule.inverse1 = real(1 / hyper[hyper_correction1]);
  step.rule.inverse2 = real(1 / __builtin_sqrt(hyper[hyper_correction2]));
  step.lr = real(hyper[hyper_lr]);
  step.keep = real(1 - decays * hyper[hyper_lr] * hyper[hyper_decay]);
  step.scale = real(at<double>(in.operands[update_scale])[0]);
  step.clip = real(clip > 0 ? clip : __builtin_inf());
  step.l1 = real(decays * hyper[hyper_l1]);
  step.l2 = real(decays * hyper[hyper_l2]);
  step.clear = in.numbers[update_clear] != 0;
  return step;
}

// A NaN passes the clip.
__device__ static real penalized(real w, real g, const Step& step) {
  g = g * step.scale;
  g = g > step.clip ? step.clip : g < -step.clip ? -step.clip : g;
  g = fma(step.l2, w, g);
  return g + (w > 0 ? step.l1 : w < 0 ? -step.l1 : real(0));
}

// The parts of four weights of a segment, its parts behind one another; segments that are not whole rows of 8 have
// none.
__device__ static void copy_four(const Instruction& in, const double* segment, int64_t offset, const real (&w)[4]) {
  const View& copies = in.operands[update_copies];
  const int64_t first = int64_t(segment[segment_offset]), size = int64_t(segment[segment_size]);
  if (copies.arena < 0 || first % PART_ALIGN != 0 || size % PART_ALIGN != 0) return;
  const int parts = int(copies.cols / in.operands[update_w].cols);
  uint16_t* to = at<uint16_t>(copies) + first * parts + (offset - first);
  DLCORE_UNROLL(1)
  for (int p = 0; p < parts; ++p) store_part4(copies.dtype, to + p * size, p, w, 4);
}

struct Four {
  real w[4], g[4], s1[4], s2[4];
};

// Elements from `offset` on, the first n of them.
__device__ static void load_four(const Instruction& in, int64_t offset, int n, Four& x) {
  const View* views = in.operands;
  load4(at<real>(views[update_w]) + offset, n, x.w), load4(at<real>(views[update_g]) + offset, n, x.g);
  if (views[update_s1].arena >= 0) load4(at<real>(views[update_s1]) + offset, n, x.s1);
  if (views[update_s2].arena >= 0) load4(at<real>(views[update_s2]) + offset, n, x.s2);
}

template <class Rule>
__device__ static void update_four(const Instruction& in, const double* segment, const Step& step, int64_t offset,
                                   int n, Four& x) {
  const View* views = in.operands;
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    const real u = Rule::direction(penalized(x.w[i], x.g[i], step), x.s1[i], x.s2[i], step.rule);
    x.w[i] = fma(-step.lr, u, x.w[i] * step.keep);
    x.g[i] = 0;
  }
  store4_global(at<real>(views[update_w]) + offset, x.w, n);
  copy_four(in, segment, offset, x.w);
  if (Rule::states > 0) store4_global(at<real>(views[update_s1]) + offset, x.s1, n);
  if (Rule::states > 1) store4_global(at<real>(views[update_s2]) + offset, x.s2, n);
  if (step.clear) store4_global(at<real>(views[update_g]) + offset, x.g, n);
}

// (1, LOSS_SCALE), may be absent: did the gradients overflow?
__device__ static bool is_skipped(const View& view) {
  const real* state = at<real>(view);
  return state && state[loss_scale_skipped] != 0;
}

__device__ static void clear_four(const Instruction& in, int64_t offset, int n) {
  const real zeros[4] = {};
  if (in.numbers[update_clear] != 0) store4_global(at<real>(in.operands[update_g]) + offset, zeros, n);
}

enum Rule {
#define DLCORE_ENUMERATOR(name) rule_##name,
  DLCORE_RULES(DLCORE_ENUMERATOR)
#undef DLCORE_ENUMERATOR
};

DLCORE_HD static int64_t segment_blocks(const double* segment) {
  return ceil_div(int64_t(segment[segment_size]), UPDATE_BLOCK);
}

// On the device the first block of each segment comes behind the numbers.
static std::vector<double> first_blocks(const Instruction& in) {
  std::vector<double> firsts;
  int64_t blocks = 0;
  for (int64_t s = 0; s < int64_t(in.numbers[update_segments]); ++s) {
    firsts.push_back(double(blocks));
    blocks += segment_blocks(in.numbers + update_first + s * SEGMENT);
  }
  return firsts;
}

// The last of n segments that begins at this block or before: a warp looks at 32 at a time.
__device__ static int64_t find_segment(const double* firsts, int64_t n, double block) {
  int64_t found = 0;
  for (int64_t step = n; step > 1;) {
    step = ceil_div(step, WARP);
    const int64_t probe = found + lane_of() * step;
    const unsigned begun = __ballot_sync(ALL_LANES, probe < n && firsts[probe] <= block);
    found += (__popc(begun) - 1) * step;
  }
  return found;
}

// Of four blocks: without the number ptxas (13.0) aims at five on 12.0, and spills.
__global__ void __launch_bounds__(THREADS, 4) update_kernel(const Instruction in) {
  Step& shared = shared_memory<Step>();
  const int64_t segments = int64_t(in.numbers[update_segments]);
  const double* firsts = in.numbers + update_first + segments * SEGMENT;
  const int64_t found = find_segment(firsts, segments, blockIdx.x);
  const double* segment = in.numbers + update_first + found * SEGMENT;
  const int64_t first = (blockIdx.x - int64_t(firsts[found])) * UPDATE_BLOCK + 4 * threadIdx.x;
  const int64_t offset = int64_t(segment[segment_offset]) + first;
  const int n = int(max(0, min(4, int64_t(segment[segment_size]) - first)));
  if (is_skipped(in.operands[update_state])) return clear_four(in, offset, n);
  Four x = {};
  load_four(in, offset, n, x);
  if (threadIdx.x == 0) shared = make_step(in, segment);  // while the others' elements are on their way
  __syncthreads();
  if (n == 0) return;
  const Step step = shared;
  switch (Rule(int(in.numbers[update_rule]))) {
#define DLCORE_CASE(name) \
  case rule_##name:       \
    return update_four<rules::name>(in, segment, step, offset, n, x);
    DLCORE_RULES(DLCORE_CASE)
#undef DLCORE_CASE
  }
}

static int64_t update_items(const Instruction& in, int32_t) {
  int64_t blocks = 0;
  for (int64_t s = 0; s < int64_t(in.numbers[update_segments]); ++s) {
    blocks += segment_blocks(in.numbers + update_first + s * SEGMENT);
  }
  return blocks;
}

static void launch_update(const Launch& l, int32_t) {
  const int64_t blocks = update_items(*l.instruction, 0);
  if (blocks > 0) launch_kernel(update_kernel, l, blocks, THREADS, sizeof(Step));
}

// ---- tick: [counters!, metrics!?, grad_scale?, results!?, loss_scale?]

enum { tick_counters, tick_metrics, tick_scale, tick_results, tick_state };

static int64_t one_item(const Instruction&, int32_t) { return 1; }

__device__ static void write_results(const Instruction& in, int64_t row) {
  const View* views = in.operands;
  double* metrics = at<double>(views[tick_metrics]);
  const double* scale = at<double>(views[tick_scale]);
  double* result = at<double>(views[tick_results]) + row * views[tick_results].ld;  // (1, RESULTS)
  for (int i = 0; i < METRICS; ++i) {
    result[i] = metrics[i];
    metrics[i] = 0;
  }
  result[result_norm] = scale ? scale[1] : 0;
}

// One thread.
__global__ void tick_kernel(const Instruction in) {
  int64_t* counters = at<int64_t>(in.operands[tick_counters]);
  const bool scaled = in.operands[tick_state].arena >= 0;
  const int64_t row = counters[counter_updates] + (scaled ? counters[counter_skipped] : 0);
  if (in.operands[tick_results].arena >= 0) write_results(in, table_row(row, in.operands[tick_results]));
  counters[counter_draws] += int64_t(in.numbers[0]);
  counters[is_skipped(in.operands[tick_state]) ? counter_skipped : counter_updates] += int64_t(in.numbers[1]);
  counters[counter_position] += int64_t(in.numbers[2]);
}

static void launch_tick(const Launch& l, int32_t) { launch_kernel(tick_kernel, l, 1, 1, 0); }

extern const Entry grad_scale_entry = {{scale_phases, scale_items, scale_scratch, nullptr}, launch_scale};
extern const Entry update_entry = {
    {one_phase, update_items, no_scratch, nullptr}, launch_update, nullptr, first_blocks};
extern const Entry tick_entry = {{one_phase, one_item, no_scratch, nullptr}, launch_tick};

DLCORE_END
