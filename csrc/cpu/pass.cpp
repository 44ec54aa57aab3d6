// SPDX-License-Identifier: Apache-2.0
// Runs of stages in one loop: what nets with relu, batch norm and dropout do between their products. Each stage by
// itself is a pass over the first-level cache.
#include "../math/activations.h"
#include "dropout.h"
#include "totals.h"

DLCORE_BEGIN

// What is done to a value, in this order; nullptr: absent. Masks are drawn on the way forward, read on the way back.
struct Run {
  const Stage *affine, *relu, *dropout, *relu_grad, *out, *sum, *dot;
  int32_t stages;
  bool drawn;
};

static Run find_run(const Instruction& in, int32_t first, const Block& b) {
  Run p = {};
  const auto take = [&](StageKind kind, auto fits) -> const Stage* {
    const int32_t i = first + p.stages;
    if (i == in.stage_count || in.chain[i].kind != kind || !fits(in.chain[i])) return nullptr;
    ++p.stages;
    return &in.chain[i];
  };
  const auto both = [](const View& a, const View& b) { return a.arena >= 0 && b.arena >= 0; };
  const auto is_relu = [](const Stage& s) { return Activation(s.function) == Activation::relu; };
  const auto plain = [=](const Stage& s) {
    const bool as_it_is = s.operand_scale.arena < 0 && s.operand_shift.arena < 0;
    return s.operand.dtype == REAL && s.operand.step == 1 && (as_it_is || both(s.operand_scale, s.operand_shift));
  };
  // What keeps its value in the block stores by itself: the value goes on from where a run has put it.
  const auto stored = [&](const Stage& s) { return s.out.dtype == REAL && !b.keeps; };
  p.affine = take(StageKind::affine, [=](const Stage& s) { return both(s.a, s.b); });
  p.relu = take(StageKind::activate, is_relu);
  p.dropout = take(StageKind::dropout, [&](const Stage& s) {
    const bool forth = s.operand.arena < 0;
    return s.numbers[0] > 0 && (forth ? p.relu || !p.affine : !p.relu && !p.affine);
  });
  p.drawn = p.dropout && p.dropout->operand.arena < 0;
  if (p.affine || p.relu || p.drawn) {
    p.out = take(StageKind::store, stored);
    return p;
  }
  p.relu_grad = take(StageKind::activate_grad, [=](const Stage& s) { return is_relu(s) && plain(s); });
  p.out = take(StageKind::store, stored);
  p.sum = take(StageKind::sum, [](const Stage&) { return true; });
  if (p.sum) p.dot = take(StageKind::dot, plain);
  return p;
}

// Where the rows of a block go.
struct Place {
  real* v;
  int64_t ld;
};

typedef uint16_t draw_vec __attribute__((vector_size(LANES * 2)));

template <bool AFFINE, bool RELU, bool DROPOUT>
static void forward(const Call& call, const Run& p, const Block& b, Place to) {
  const real* scale = AFFINE ? columns(call, p.affine->a, b) : nullptr;
  const real* shift = AFFINE ? columns(call, p.affine->b, b) : nullptr;
  alignas(ALIGNMENT) uint16_t draws[DROPOUT ? SLAB_COLUMNS + DROPOUT_COLUMNS : 1];
  Dropout d = {};
  integer threshold = 0;
  uint8_t* kept_bits = nullptr;
  if (DROPOUT) {
    const int64_t* counters = at<const int64_t>(call, p.dropout->a);
    d = {philox_key<wide>(uint64_t(counters[counter_seed])), uint32_t(counters[counter_draws]),
         uint32_t(p.dropout->random_op)};
    threshold = integer(dropout_threshold(p.dropout->numbers[0]));
    kept_bits = at<uint8_t>(call, p.dropout->out);
    if (kept_bits) kept_bits += b.row * p.dropout->out.ld + b.col / 8;
  }
  const vec factor = splat(DROPOUT ? dropout_scale(uint32_t(threshold)) : 1);
  for (int64_t r = 0; r < b.rows; ++r) {
    if (DROPOUT) dropout_draws(d, b.row + r, b.col, b.cols, draws);
    const real* from = b.from + r * b.from_ld;
    real* row = to.v + r * to.ld;
    uint8_t* bits = DROPOUT && kept_bits ? kept_bits + r * p.dropout->out.ld : nullptr;
    for_columns(b.cols, [=, &draws](int64_t c, auto edge) __attribute__((always_inline)) {
      vec v = load(from + c, edge);
      if (AFFINE) v = fma(v, load(scale + c, edge), load(shift + c, edge));
      if (RELU) v = activations::relu::apply(v, nullptr);
      if (DROPOUT) {
        draw_vec draw;
        __builtin_memcpy(&draw, draws + c, sizeof draw);
        const ivec kept = __builtin_convertvector(draw, ivec) < threshold;
        v = select(kept, v * factor, vec{});
        if (bits) store_kept(bits, c, bits_of(kept));
      }
      store(row + c, v, edge);
    });
  }
}

enum class Form { none, plain, scaled };

static Form kind_of(const Stage* s) {
  return !s ? Form::none : s->operand_scale.arena < 0 ? Form::plain : Form::scaled;
}

// The operand of a stage under a block, read as v * scale + shift where it is scaled.
template <Form KIND>
struct Reader {
  const real* v = nullptr;
  int64_t ld = 0;
  const real *scale = nullptr, *shift = nullptr;  // (1, cols)

  Reader(const Call& call, const Stage* s, const Block& b) {
    if (KIND == Form::none) return;
    ld = s->operand.ld, v = at<const real>(call, s->operand) + b.row * ld + b.col;
    if (KIND == Form::scaled) scale = columns(call, s->operand_scale, b), shift = columns(call, s->operand_shift, b);
  }

  template <class Edge>
  vec at_column(int64_t r, int64_t c, Edge edge) const {
    const vec x = load(v + r * ld + c, edge);
    return KIND == Form::scaled ? fma(x, load(scale + c, edge), load(shift + c, edge)) : x;
  }
};

// sum, dot: totals (1, cols)
template <bool AGAIN, Form GRAD, bool SUM, Form DOT>
static void backward(const Call& call, const Run& p, const Block& b, Place to, real* sum, real* dot) {
  const vec factor = splat(AGAIN ? dropout_scale(dropout_threshold(p.dropout->numbers[0])) : 1);
  const int64_t bits_ld = AGAIN ? p.dropout->operand.ld : 0;
  const uint8_t* kept_bits =
      AGAIN ? at<const uint8_t>(call, p.dropout->operand) + b.row * bits_ld + b.col / 8 : nullptr;
  const Reader<GRAD> relu_of(call, p.relu_grad, b);
  const Reader<DOT> other(call, p.dot, b);
  for (int64_t r = 0; r < b.rows; ++r) {
    const real* from = b.from + r * b.from_ld;
    real* row = to.v + r * to.ld;
    const uint8_t* bits = kept_bits + r * bits_ld;
    for_columns(b.cols, [=](int64_t c, auto edge) __attribute__((always_inline)) {
      vec v = load(from + c, edge);
      if (AGAIN) v = select(mask_of(load_kept(bits, c)), v * factor, vec{});
      if (GRAD != Form::none) v = v * activations::relu::grad(relu_of.at_column(r, c, edge), nullptr);
      store(row + c, v, edge);
      if (SUM) store(sum + c, load(sum + c) + v);
      if (DOT != Form::none) store(dot + c, fma(v, other.at_column(r, c, edge), load(dot + c)));
    });
  }
}

static void run_forward(const Call& call, const Run& p, const Block& b, Place to) {
  if (p.affine && p.relu && p.dropout) return forward<true, true, true>(call, p, b, to);
  if (p.affine && p.relu) return forward<true, true, false>(call, p, b, to);
  if (p.affine) return forward<true, false, false>(call, p, b, to);
  if (p.relu && p.dropout) return forward<false, true, true>(call, p, b, to);
  if (p.relu) return forward<false, true, false>(call, p, b, to);
  forward<false, false, true>(call, p, b, to);
}

template <bool AGAIN, Form GRAD>
static void run_backward(const Call& call, const Run& p, const Block& b, Place to) {
  if (!p.sum) return backward<AGAIN, GRAD, false, Form::none>(call, p, b, to, nullptr, nullptr);
  accumulate(call, *p.sum, b, [&](real* sum) {
    if (!p.dot) return backward<AGAIN, GRAD, true, Form::none>(call, p, b, to, sum, nullptr);
    accumulate(call, *p.dot, b, [&](real* dot) {
      if (kind_of(p.dot) == Form::plain) return backward<AGAIN, GRAD, true, Form::plain>(call, p, b, to, sum, dot);
      backward<AGAIN, GRAD, true, Form::scaled>(call, p, b, to, sum, dot);
    });
  });
}

static void run_backward(const Call& call, const Run& p, const Block& b, Place to) {
  const Form grad = kind_of(p.relu_grad);
  if (p.dropout && grad == Form::none) return run_backward<true, Form::none>(call, p, b, to);
  if (p.dropout && grad == Form::plain) return run_backward<true, Form::plain>(call, p, b, to);
  if (p.dropout) return run_backward<true, Form::scaled>(call, p, b, to);
  if (grad == Form::plain) return run_backward<false, Form::plain>(call, p, b, to);
  run_backward<false, Form::scaled>(call, p, b, to);
}

int32_t run_pass(const Call& call, int32_t first, Block& b) {
  const Run p = find_run(*call.instruction, first, b);
  const bool forth = p.affine || p.relu || p.drawn, back = p.relu_grad || (p.dropout && !p.drawn);
  if (!p.dropout && (p.stages < 2 || !(forth || back))) return 0;
  Place to = {b.v, b.ld};
  if (p.out) to = {at<real>(call, p.out->out) + b.row * p.out->out.ld + b.col, p.out->out.ld};
  if (back) {
    run_backward(call, p, b, to);
  } else {
    run_forward(call, p, b, to);
  }
  b.from = to.v, b.from_ld = to.ld;
  return p.stages;
}

DLCORE_END
