// SPDX-License-Identifier: Apache-2.0
// grad_scale, update and tick: the step behind the seam. Weights, gradients and states are (1, P) over equal offsets.
// All are bound by memory: update reads and writes each array once, whatever decay, penalties and clipping it applies.
// The norm is merged in the order of blocks of fixed size, and an element is updated alone, so threads change no bit.
#include "../math/update_rules.h"
#include "kernels.h"
#include "rows.h"

DLCORE_BEGIN

static const int64_t BLOCK = 8192;  // elements of an item

static int64_t blocks(int64_t size) { return ceil_div(size, BLOCK); }

// ---- grad_scale: [metrics, gradients?, out]

enum { scale_metrics, scale_gradients, scale_out };

constexpr int64_t DOUBLES = VECTOR_BYTES / int64_t(sizeof(double));
typedef double doubles __attribute__((vector_size(VECTOR_BYTES)));
typedef real narrow __attribute__((vector_size(DOUBLES * sizeof(real))));

static double sum_of_squares(const real* g, int64_t n) {
  doubles sums[2] = {};
  int64_t i = 0;
  for (; i + 2 * DOUBLES <= n; i += 2 * DOUBLES) {
    for (int64_t k = 0; k < 2; ++k) {
      narrow x;
      __builtin_memcpy(&x, g + i + k * DOUBLES, sizeof x);
      const doubles y = __builtin_convertvector(x, doubles);
      sums[k] += y * y;
    }
  }
  double sum = 0;
  for (int64_t lane = 0; lane < DOUBLES; ++lane) sum += sums[0][lane] + sums[1][lane];
  for (; i < n; ++i) sum += double(g[i]) * double(g[i]);
  return sum;
}

static int64_t norm_blocks(const Instruction& instruction) {
  const View& gradients = instruction.operands[scale_gradients];
  return gradients.arena < 0 ? 0 : blocks(gradients.cols);
}

// A single block finishes at once.
static int32_t scale_phases(const Instruction& instruction) { return norm_blocks(instruction) > 1 ? 2 : 1; }

static int64_t scale_items(const Instruction& instruction, int32_t phase) {
  return phase + 1 < scale_phases(instruction) ? norm_blocks(instruction) : 1;
}

static int64_t scale_scratch(const Instruction& instruction) {
  return norm_blocks(instruction) * int64_t(sizeof(double));
}

static void block_norms(const Call& call, int64_t begin, int64_t end) {
  const View& view = call.instruction->operands[scale_gradients];
  const real* g = at<real>(call, view);  // (1, P)
  double* partial = at<double>(call, call.instruction->scratch);
  for (int64_t item = begin; item < min(end, norm_blocks(*call.instruction)); ++item) {
    const int64_t offset = item * BLOCK;
    partial[item] = sum_of_squares(g + offset, min(BLOCK, view.cols - offset));
  }
}

// Clips as torch.nn.utils.clip_grad_norm_ does.
static void finish_scale(const Call& call) {
  const Instruction& instruction = *call.instruction;
  double max_norm = instruction.numbers[0];
  double weight = at<double>(call, instruction.operands[scale_metrics])[metric_weight];
  double* out = at<double>(call, instruction.operands[scale_out]);  // (1, 2)
  double scale = weight != 0 ? 1 / weight : 0;
  double squares = 0;
  int64_t count = norm_blocks(instruction);
  const double* partial = at<double>(call, instruction.scratch);
  for (int64_t i = 0; i < count; ++i) squares += partial[i];
  double norm = __builtin_sqrt(squares) * scale;
  double clip = max_norm / (norm + 1e-6);
  out[0] = max_norm > 0 && clip < 1 ? scale * clip : scale;
  out[1] = norm;
}

static void run_scale(const Call& call, int32_t phase, int64_t begin, int64_t end, char*) {
  if (phase == 0) block_norms(call, begin, end);
  if (phase + 1 == scale_phases(*call.instruction)) finish_scale(call);
}

// ---- update: [w!, g!, s1!?, s2!?, grad_scale, hyper, counters]

enum { update_w, update_g, update_s1, update_s2, update_scale, update_hyper, update_counters };

struct Arrays {
  real *w, *g, *s1, *s2;  // (1, n); a state that the rule has not is absent
};

struct Step {
  RuleNumbers<vec> rule;
  vec lr, keep;  // keep = 1 - lr decay
  vec scale, clip, l1, l2;
  bool clear;
};

// The counters lie in memory that the caller owns: whatever stands there, no row outside a table is touched.
static int64_t table_row(int64_t updates, const View& table) { return max(0, min(updates, table.rows - 1)); }

static Step make_step(const Call& call, const double* segment) {
  const Instruction& instruction = *call.instruction;
  const View& view = instruction.operands[update_hyper];
  int64_t row = table_row(at<int64_t>(call, instruction.operands[update_counters])[counter_updates], view);
  const double* hyper = at<double>(call, view) + row * view.ld + int64_t(segment[segment_group]) * HYPER;
  double clip = instruction.numbers[update_clip];
  double decays = segment[segment_decay];
  Step step;
  step.rule.momentum = splat(real(hyper[hyper_momentum]));
  step.rule.rest1 = splat(real(1 - hyper[hyper_momentum]));
  step.rule.rest2 = splat(real(1 - hyper[hyper_beta2]));
  step.rule.eps = splat(real(hyper[hyper_eps]));
  step.rule.inverse1 = splat(real(1 / hyper[hyper_correction1]));
  step.rule.inverse2 = splat(real(1 / __builtin_sqrt(hyper[hyper_correction2])));
  step.lr = splat(real(hyper[hyper_lr]));
  step.keep = splat(real(1 - decays * hyper[hyper_lr] * hyper[hyper_decay]));
  step.scale = splat(real(at<double>(call, instruction.operands[update_scale])[0]));
  step.clip = splat(real(clip > 0 ? clip : __builtin_inf()));
  step.l1 = splat(real(decays * hyper[hyper_l1]));
  step.l2 = splat(real(decays * hyper[hyper_l2]));
  step.clear = instruction.numbers[update_clear] != 0;
  return step;
}

// A NaN passes the clip.
static inline vec penalized(vec w, vec g, const Step& step) {
  g = g * step.scale;
  g = select(g > step.clip, step.clip, select(g < -step.clip, -step.clip, g));
  g = fma(step.l2, w, g);
  return g + select(w > splat(0), step.l1, select(w < splat(0), -step.l1, splat(0)));
}

template <class Rule>
static void update_block(const Arrays& x, int64_t n, const Step& shared) {
  const Step step = shared;  // a copy that no store can alias stays in registers
  for_columns(n, [=](int64_t i, auto edge) {
    const vec w = load(x.w + i, edge), g = penalized(w, load(x.g + i, edge), step);
    vec s1 = {}, s2 = {};
    if (Rule::states > 0) s1 = load(x.s1 + i, edge);
    if (Rule::states > 1) s2 = load(x.s2 + i, edge);
    const vec u = Rule::direction(g, s1, s2, step.rule);
    store(x.w + i, fma(-step.lr, u, w * step.keep), edge);
    if (Rule::states > 0) store(x.s1 + i, s1, edge);
    if (Rule::states > 1) store(x.s2 + i, s2, edge);
    if (step.clear) store(x.g + i, vec{}, edge);
  });
}

#define DLCORE_UPDATE_BLOCK(name) update_block<rules::name>,
static void (*const update_blocks[])(const Arrays&, int64_t, const Step&) = {DLCORE_RULES(DLCORE_UPDATE_BLOCK)};
#undef DLCORE_UPDATE_BLOCK

static int32_t one_phase(const Instruction&) { return 1; }

static int64_t no_scratch(const Instruction&) { return 0; }

// Items go through the first share of every segment, then through the second and so on, so that a thread meets the
// gradients that it made when the rows of each weight were shared out (784-512-256-10, batch 128, two cores without a
// common cache: 3 to 6 % of a step); shares of a typical segment are long runs of memory (200 segments of 50000, AdamW,
// in 2 shares in place of 16: 1.4 times as fast).
constexpr int64_t ITEMS = 128, SHARES = 16, RUN = 16384, RUN_ALIGN = 64;

struct Segments {
  const double* numbers;
  int64_t count, total, shares;

  const double* at(int64_t i) const { return numbers + i * SEGMENT; }
  int64_t size(int64_t i) const { return int64_t(at(i)[segment_size]); }
  // Where a share begins, in elements of the segment.
  int64_t begin(int64_t i, int64_t share) const {
    return share == shares ? size(i) : size(i) * share / shares / RUN_ALIGN * RUN_ALIGN;
  }
};

static Segments segments_of(const Instruction& instruction) {
  Segments s = {instruction.numbers + update_first, int64_t(instruction.numbers[update_segments]), 0, 1};
  double squares = 0;
  for (int64_t i = 0; i < s.count; ++i) s.total += s.size(i), squares += double(s.size(i)) * double(s.size(i));
  const double typical = squares / max(1, s.total);  // size of the segment that holds an element
  if (s.total > BLOCK) s.shares = 2;
  while (s.shares < SHARES && typical >= double(2 * s.shares * RUN)) s.shares *= 2;
  return s;
}

static int64_t items_of(const Segments& s) { return max(int64_t(1), min(ITEMS, blocks(s.total))); }

static int64_t update_items(const Instruction& instruction, int32_t) { return items_of(segments_of(instruction)); }

static real* from(real* base, int64_t offset) { return base ? base + offset : nullptr; }

// n elements of the arenas from an offset on.
static void update_range(const Call& call, int64_t offset, int64_t n, const Step& step) {
  const Instruction& instruction = *call.instruction;
  const View* views = instruction.operands;
  const Arrays x = {at<real>(call, views[update_w]) + offset, at<real>(call, views[update_g]) + offset,
                    from(at<real>(call, views[update_s1]), offset), from(at<real>(call, views[update_s2]), offset)};
  update_blocks[int(instruction.numbers[update_rule])](x, n, step);
}

static void run_update(const Call& call, int32_t, int64_t begin, int64_t end, char*) {
  const Segments s = segments_of(*call.instruction);
  const int64_t items = items_of(s), first = s.total * begin / items, last = s.total * end / items;
  const double* made = nullptr;
  Step step;
  int64_t passed = 0;  // elements
  const auto cut = [&](int64_t to, int64_t n) {
    return to >= passed + n ? n : max(0, to - passed) / RUN_ALIGN * RUN_ALIGN;
  };
  for (int64_t share = 0; share < s.shares && passed < last; ++share) {
    for (int64_t i = 0; i < s.count && passed < last; ++i) {
      const double* segment = s.at(i);
      const int64_t start = s.begin(i, share), n = s.begin(i, share + 1) - start;
      const int64_t from = cut(first, n), to = cut(last, n);
      passed += n;
      if (from == to) continue;
      const bool same =
          made && made[segment_group] == segment[segment_group] && made[segment_decay] == segment[segment_decay];
      if (!same) step = make_step(call, segment), made = segment;
      update_range(call, int64_t(segment[segment_offset]) + start + from, to - from, step);
    }
  }
}

// ---- tick: [counters!, metrics!?, grad_scale?, results!?]

enum { tick_counters, tick_metrics, tick_scale, tick_results };

static int64_t one_item(const Instruction&, int32_t) { return 1; }

static void write_results(const Call& call, int64_t row) {
  const View* views = call.instruction->operands;
  double* metrics = at<double>(call, views[tick_metrics]);
  const double* scale = at<double>(call, views[tick_scale]);
  double* result = at<double>(call, views[tick_results]) + row * views[tick_results].ld;  // (1, RESULTS)
  for (int i = 0; i < METRICS; ++i) {
    result[i] = metrics[i];
    metrics[i] = 0;
  }
  result[result_norm] = scale ? scale[1] : 0;
}

static void run_tick(const Call& call, int32_t, int64_t, int64_t, char*) {
  const Instruction& instruction = *call.instruction;
  int64_t* counters = at<int64_t>(call, instruction.operands[tick_counters]);
  if (instruction.operands[tick_results].arena >= 0)
    write_results(call, table_row(counters[counter_updates], instruction.operands[tick_results]));
  counters[counter_draws] += int64_t(instruction.numbers[0]);
  counters[counter_updates] += int64_t(instruction.numbers[1]);
  counters[counter_position] += int64_t(instruction.numbers[2]);
}

extern const KernelEntry grad_scale_entry = {scale_phases, scale_items, scale_scratch, run_scale};
extern const KernelEntry update_entry = {one_phase, update_items, no_scratch, run_update};
extern const KernelEntry tick_entry = {one_phase, one_item, no_scratch, run_tick};

DLCORE_END
