// SPDX-License-Identifier: Apache-2.0
// Chains on a tile of TILE x TILE elements, which the THREADS threads of a block hold in registers, 4 x 4 each. Every
// switch is outside of the loops over the 16 elements and takes the same way in the whole block.
//
// Reductions are those of cpu/chain.h, to the bit: rows in order within a chunk, chunks in order.
#pragma once
#include "../math/activations.h"
#include "stage.cuh"

DLCORE_BEGIN

// v = f(v, row, column)
template <class F>
__device__ inline void map(Square& v, F f) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) v[r][c] = f(v[r][c], r, c);
  }
}

template <class F>
__device__ inline void map(Tile& t, F f) {
  map(t.v, f);
}

__device__ inline void affine(const Stage& s, Tile& t) {
  const Columns a(s.a, t), shift(s.b, t);
  if (a.given && shift.given) {
    map(t, [&](real v, int, int c) { return fma(v, a.x[c], shift.x[c]); });
  } else if (a.given) {
    map(t, [&](real v, int, int c) { return v * a.x[c]; });
  } else if (shift.given) {
    map(t, [&](real v, int, int c) { return v + shift.x[c]; });
  }
}

__device__ inline void affine2(const Stage& s, const Square& x, Tile& t) {
  const Columns a(s.a, t), b(s.b, t), k(s.c, t);
  map(t, [&](real v, int r, int c) { return fma(v, a.x[c], fma(x[r][c], b.x[c], k.x[c])); });
}

struct Constants {
  real c[3];
};

// v = apply(v), or v grad(x), which spends x. Where grad is a function of the output, one copy of apply serves both.
template <class A>
__device__ inline void activate(const Stage& s, Square& x, Tile& t, const Constants& k) {
  const bool grad = s.kind == StageKind::activate_grad, holds_output = s.numbers[3] != 0;
  if (!A::from_output) {
    if (grad) {
      map(t, [&](real v, int r, int c) { return v * A::grad(x[r][c], k.c); });
    } else {
      map(t, [&](real v, int, int) { return A::apply(v, k.c); });
    }
    return;
  }
  map(x, [&](real operand, int r, int c) { return grad ? operand : t.v[r][c]; });
  if (!grad || !holds_output) map(x, [&](real input, int, int) { return A::apply(input, k.c); });
  map(t, [&](real v, int r, int c) { return grad ? v * A::grad(x[r][c], k.c) : x[r][c]; });
}

__device__ inline void activation(const Stage& s, Square& x, Tile& t) {
  const Constants k = {{real(s.numbers[0]), real(s.numbers[1]), real(s.numbers[2])}};
  switch (Activation(s.function)) {
#define DLCORE_CASE(name) \
  case Activation::name:  \
    return activate<activations::name>(s, x, t, k);
    DLCORE_ACTIVATIONS(DLCORE_CASE)
#undef DLCORE_CASE
    case Activation::count:
      return;
  }
}

__device__ inline void dropout(const Stage& s, Tile& t) {
  if (s.numbers[0] <= 0) return;
  const uint32_t threshold = dropout_threshold(s.numbers[0]);
  const real scale = dropout_scale(threshold);
  uint32_t draws[SIDE][2];
  draw_tile(s, t, draws);
  map(t, [&](real v, int r, int c) {
    const uint32_t draw = draws[r][c / 2] >> (c % 2 * 16) & 0xffff;
    return draw < threshold ? v * scale : real(0);
  });
}

// A row of a tile, which lies in registers, by a number that is not known when compiling.
__device__ inline void get_row(const Square& v, int row, real (&x)[SIDE]) {
  DLCORE_UNROLL(4)
  for (int c = 0; c < SIDE; ++c) x[c] = row == 0 ? v[0][c] : row == 1 ? v[1][c] : row == 2 ? v[2][c] : v[3][c];
}

__device__ inline void put_row(const real (&x)[SIDE], int row, Tile& t) {
  map(t, [&](real v, int r, int c) { return r == row ? x[c] : v; });
}

// One row of one part at a time: registers are short in a chain.
__device__ inline void store_parts(const View& out, const Tile& t) {
  const int64_t pitch = pitch_of(out);
  if (t.col >= pitch) return;
  DLCORE_UNROLL(1)
  for (int i = 0; i < int(out.ld) * t.rows; ++i) {
    const int p = i / t.rows, r = i % t.rows;
    real x[SIDE];
    get_row(t.v, r, x);
    store_part4(out.dtype, at<uint16_t>(out) + (p * out.rows + t.row + r) * pitch + t.col, p, x, t.cols);
  }
}

// v as one part holds it
__device__ inline void round_as(DType type, Tile& t) {
  DLCORE_UNROLL(1)
  for (int r = 0; r < SIDE; ++r) {
    real x[SIDE];
    get_row(t.v, r, x);
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) x[c] = type == DType::f16 ? from_f16(to_f16(x[c])) : round_bf16(x[c]);
    put_row(x, r, t);
  }
}

__device__ inline void store_tile(const Stage& s, Tile& t) {
  const View& out = s.out;
  if (out.layout == Layout::parts) {
    if (s.numbers[0] != 0) round_as(out.dtype, t);
    return store_parts(out, t);
  }
  real* to = at<real>(out);
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    if (r < t.rows) store4_global(to + (t.row + r) * out.ld + t.col, t.v[r], t.cols);
  }
}

__device__ inline void run_stage(const Instruction& in, const Stage& s, Tile& t, ChainMemory& memory) {
  Square x;  // in one place for all kinds: their code is most of a kernel
  if (s.operand.arena >= 0) load_operand(s, t, x);
  switch (s.kind) {
    case StageKind::affine:
      return affine(s, t);
    case StageKind::affine2:
      return affine2(s, x, t);
    case StageKind::add:
      return map(t, [&](real v, int r, int c) { return v + x[r][c]; });
    case StageKind::activate:
    case StageKind::activate_grad:
      return activation(s, x, t);
    case StageKind::dropout:
      return dropout(s, t);
    case StageKind::scale: {
      const real factor = real(s.numbers[0]) * (s.a.arena >= 0 ? *at<const real>(s.a) : real(1));
      return map(t, [factor](real v, int, int) { return v * factor; });
    }
    case StageKind::store:
      return store_tile(s, t);
    case StageKind::sum:
    case StageKind::dot:
    case StageKind::moments:
      return reduce_stage(in, s, x, t, memory);
  }
}

// Every stage in order. All threads of the block, those beyond the edges of the value too.
__device__ inline void run_chain(const Instruction& in, Tile& t, ChainMemory& memory) {
  DLCORE_UNROLL(1)
  for (int32_t i = 0; i < in.stage_count; ++i) run_stage(in, in.chain[i], t, memory);
}

DLCORE_END
