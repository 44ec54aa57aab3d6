// SPDX-License-Identifier: Apache-2.0
// The first stages of a chain, done to the sums of a register tile before they are stored.
//
// A pass over a block of 64 x 128 costs 3 % of a product 128 deep; the bias, the scale and shift of a norm, relu and
// the store that follows are in most chains, and cost nothing here.
#pragma once
#include "../../math/activations.h"
#include "../chain.h"

DLCORE_BEGIN

constexpr int64_t AFFINES = 2;

// (rows, cols) of a block in whole vectors, rows ld apart; v = nullptr: absent
template <class T>
struct Rows {
  T* v;
  int64_t ld;

  T* at(int64_t row, int64_t col) const { return v + row * ld + col; }
};

// What is done to a sum, in this order.
struct Finish {
  Rows<const real> relu_output, tanh_output;  // v = v f'(x)
  int64_t affines;
  const real *scale[AFFINES], *shift[AFFINES];  // (1, cols) of the block, up to whole vectors; or nullptr
  Rows<const real> operand;                     // v = v + x
  bool relu;
  Rows<real> out;
  bool keeps;  // do the sums go to C too, for the rest of the chain
};

// sum (R, W vectors), from (row, col) of the block on.
template <int R, int W>
__attribute__((always_inline)) static inline void finish_sums(const Finish& f, int64_t row, int64_t col,
                                                              vec (&sum)[R][W]) {
  const auto map = [&](auto g) __attribute__((always_inline)) {
#pragma GCC unroll 32
    for (int i = 0; i < R * W; ++i) g(sum[i / W][i % W], row + i / W, col + i % W * LANES);
  };
  if (f.relu_output.v) {
    map([&](vec& v, int64_t r, int64_t c) { v = v * activations::relu::grad(load(f.relu_output.at(r, c)), nullptr); });
  }
  if (f.tanh_output.v) {
    map([&](vec& v, int64_t r, int64_t c) { v = v * activations::tanh::grad(load(f.tanh_output.at(r, c)), nullptr); });
  }
  for (int64_t i = 0; i < f.affines; ++i) {
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) {
      const real *scale = f.scale[i], *shift = f.shift[i];
      const vec a = scale ? load(scale + col + w * LANES) : vec{}, b = shift ? load(shift + col + w * LANES) : vec{};
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        vec& v = sum[r][w];
        v = !scale ? v + b : shift ? fma<vec>(v, a, b) : v * a;
      }
    }
  }
  if (f.operand.v) map([&](vec& v, int64_t r, int64_t c) { v = v + load(f.operand.at(r, c)); });
  if (f.relu) map([](vec& v, int64_t, int64_t) { v = activations::relu::apply(v, nullptr); });
  if (f.out.v) map([&](vec& v, int64_t r, int64_t c) { store(f.out.at(r, c), v); });
}

// The stages that a tile does, in the order that finish_sums has: how many of each, and of all.
struct FinishStages {
  int32_t relu_grad, tanh_grad, affines, add, relu, store, all;
};

static inline FinishStages finish_stages(const Instruction& in) {
  FinishStages f = {};
  const bool whole = in.cols % LANES == 0;
  const auto take = [&](StageKind kind, auto allowed) -> int32_t {
    const bool taken = f.all < in.stage_count && in.chain[f.all].kind == kind && allowed(in.chain[f.all]);
    f.all += taken;
    return taken;
  };
  const auto plain = [=](const View& v) { return whole && v.dtype == REAL && v.step == 1; };
  const auto plain_operand = [=](const Stage& s) {
    return plain(s.operand) && s.operand_scale.arena < 0 && s.operand_shift.arena < 0;
  };
  const auto is_relu = [](const Stage& s) { return Activation(s.function) == Activation::relu; };
  const auto grad_of = [&](Activation function) {
    return take(StageKind::activate_grad, [&](const Stage& s) {
      return Activation(s.function) == function && s.numbers[3] != 0 && plain_operand(s);
    });
  };
  f.relu_grad = grad_of(Activation::relu);
  f.tanh_grad = grad_of(Activation::tanh);
  const auto changes = [](const Stage& s) { return s.a.arena >= 0 || s.b.arena >= 0; };
  while (f.affines < AFFINES && take(StageKind::affine, changes)) ++f.affines;
  f.add = take(StageKind::add, plain_operand);
  f.relu = take(StageKind::activate, is_relu);
  f.store = take(StageKind::store, [=](const Stage& s) { return plain(s.out); });
  return f;
}

// Columns of a (1, cols) view under a block, and zeros up to a whole vector; nullptr where it is absent.
static inline const real* padded(const Call& call, const View& view, const Block& b, real* to) {
  const real* x = at<const real>(call, view);
  if (!x) return nullptr;
  for (int64_t c = 0; c < b.cols; c += LANES) store(to + c, load_partial(x + b.col + c, min(LANES, b.cols - c)));
  return to;
}

template <class T>
static Rows<T> rows_of(const Call& call, const View& view, const Block& b) {
  return {at<T>(call, view) + b.row * view.ld + b.col, view.ld};
}

// room: 2 AFFINES rows of `width` for column vectors
static inline Finish finish_of(const Call& call, const FinishStages& stages, const Block& b, real* room,
                               int64_t width) {
  const Stage* stage = call.instruction->chain;
  Finish f = {};
  if (stages.relu_grad) f.relu_output = rows_of<const real>(call, (stage++)->operand, b);
  if (stages.tanh_grad) f.tanh_output = rows_of<const real>(call, (stage++)->operand, b);
  f.affines = stages.affines;
  for (int64_t i = 0; i < f.affines; ++i, ++stage) {
    f.scale[i] = padded(call, stage->a, b, room + 2 * i * width);
    f.shift[i] = padded(call, stage->b, b, room + (2 * i + 1) * width);
  }
  if (stages.add) f.operand = rows_of<const real>(call, (stage++)->operand, b);
  f.relu = stages.relu != 0, stage += stages.relu;
  if (stages.store) f.out = rows_of<real>(call, stage->out, b);
  f.keeps = stages.all < call.instruction->stage_count;
  return f;
}

DLCORE_END
