// SPDX-License-Identifier: Apache-2.0
// What a stage of a chain reads under a block: vectors up to the right edge, column vectors, and its operand by rows.
#pragma once
#include "chain.h"

DLCORE_BEGIN

// How much of a vector lies inside a row: all of it, or n lanes at the right edge.
struct Whole {};
struct Part {
  int64_t n;
};

inline vec load(const real* p, Whole) { return load(p); }
inline vec load(const real* p, Part edge) { return load_partial(p, edge.n); }
inline void store(real* p, vec x, Whole) { store(p, x); }
inline void store(real* p, vec x, Part edge) { store_partial(p, x, edge.n); }

// f(column, Whole or Part)
template <class F>
inline void for_columns(int64_t cols, F f) {
  int64_t c = 0;
  for (; c + LANES <= cols; c += LANES) f(c, Whole{});
  if (c < cols) f(c, Part{cols - c});
}

// A (1, cols) view from the block's first column on, or nullptr.
inline const real* columns(const Call& call, const View& view, const Block& b) {
  const real* x = at<const real>(call, view);
  return x ? x + b.col : nullptr;
}

// The operand of a stage, row by row: in place where it is read as it is.
struct Operand {
  const View* view;
  const char* from;
  const real *scale, *shift;  // (1, cols) or nullptr
  alignas(ALIGNMENT) real row[SLAB_COLUMNS];

  Operand(const Call& call, const Stage& s, const Block& b)
      : view(&s.operand),
        from(at<const char>(call, s.operand) + (b.row * view->ld + b.col * view->step) * size_of(view->dtype)),
        scale(columns(call, s.operand_scale, b)),
        shift(columns(call, s.operand_shift, b)) {}
};

inline const real* operand_row(Operand& o, int64_t r, int64_t cols) {
  const char* from = o.from + r * o.view->ld * size_of(o.view->dtype);
  const real* x = reinterpret_cast<const real*>(from);
  if (o.view->dtype != REAL || o.view->step != 1) {
    load_as_real(o.view->dtype, from, o.view->step, cols, o.row);
    x = o.row;
  }
  if (!o.scale && !o.shift) return x;
  for_columns(cols, [&](int64_t c, auto edge) {
    vec y = load(x + c, edge);
    if (o.scale && o.shift) {
      y = fma(y, load(o.scale + c, edge), load(o.shift + c, edge));
    } else {
      y = o.scale ? y * load(o.scale + c, edge) : y + load(o.shift + c, edge);
    }
    store(o.row + c, y);
  });
  return o.row;
}

// Stages from the first one on in a single loop, of pass.cpp: how many; 0: run_stage has it.
int32_t run_pass(const Call& call, int32_t first, Block& block);

// The reductions, of reduce.cpp.
bool is_reduction(const Stage& stage);
void reduce_stage(const Call& call, const Stage& stage, const Block& block);

DLCORE_END
