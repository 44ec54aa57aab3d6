// SPDX-License-Identifier: Apache-2.0
// run_chain: one loop over the block for each stage or run of stages, with every switch outside of it. A stage reads
// and writes L1, so a chain costs about as much as the memory that its operands and stores touch.
#include "../math/activations.h"
#include "stage.h"

DLCORE_BEGIN

// map(row, from (1, cols), to) for each row; the value is in v then.
template <class F>
static void map_rows(Block& b, F map) {
  for (int64_t r = 0; r < b.rows; ++r) map(r, b.from + r * b.from_ld, b.v + r * b.ld);
  b.from = b.v, b.from_ld = b.ld;
}

// v = f(v, column, edge)
template <class F>
static void map(Block& b, F f) {
  map_rows(b, [&](int64_t, const real* from, real* v) {
    for_columns(b.cols, [&](int64_t c, auto edge) { store(v + c, f(load(from + c, edge), c, edge)); });
  });
}

// v = f(v, operand, column, edge)
template <class F>
static void map_with_operand(const Call& call, const Stage& s, Block& b, F f) {
  Operand o(call, s, b);
  map_rows(b, [&](int64_t r, const real* from, real* v) {
    const real* x = operand_row(o, r, b.cols);
    for_columns(b.cols,
                [&](int64_t c, auto edge) { store(v + c, f(load(from + c, edge), load(x + c, edge), c, edge)); });
  });
}

static void affine(const Call& call, const Stage& s, Block& b) {
  const real *a = columns(call, s.a, b), *shift = columns(call, s.b, b);
  if (a && shift) {
    map(b, [=](vec v, int64_t c, auto edge) { return fma(v, load(a + c, edge), load(shift + c, edge)); });
  } else if (a) {
    map(b, [=](vec v, int64_t c, auto edge) { return v * load(a + c, edge); });
  } else if (shift) {
    map(b, [=](vec v, int64_t c, auto edge) { return v + load(shift + c, edge); });
  }
}

static void affine2(const Call& call, const Stage& s, Block& b) {
  const real *x = columns(call, s.a, b), *y = columns(call, s.b, b), *z = columns(call, s.c, b);
  map_with_operand(call, s, b, [=](vec v, vec operand, int64_t c, auto edge) {
    return fma(v, load(x + c, edge), fma(operand, load(y + c, edge), load(z + c, edge)));
  });
}

struct Constants {
  real c[3];
};

template <class A>
static void activate(Block& b, Constants k) {
  map(b, [k](vec v, int64_t, auto) { return A::apply(v, k.c); });
}

template <class A>
static void activate_grad(const Call& call, const Stage& s, Block& b, Constants k) {
  const bool holds_output = s.numbers[3] != 0;
  if (A::from_output && !holds_output) {
    map_with_operand(call, s, b, [k](vec v, vec x, int64_t, auto) { return v * A::grad(A::apply(x, k.c), k.c); });
  } else {
    map_with_operand(call, s, b, [k](vec v, vec x, int64_t, auto) { return v * A::grad(x, k.c); });
  }
}

static void activation(const Call& call, const Stage& s, Block& b) {
  const Constants k = {{real(s.numbers[0]), real(s.numbers[1]), real(s.numbers[2])}};
  const bool grad = s.kind == StageKind::activate_grad;
  switch (Activation(s.function)) {
#define DLCORE_CASE(name) \
  case Activation::name:  \
    return grad ? activate_grad<activations::name>(call, s, b, k) : activate<activations::name>(b, k);
    DLCORE_ACTIVATIONS(DLCORE_CASE)
#undef DLCORE_CASE
    case Activation::count:
      return;
  }
}

static void store_block(const Call& call, const Stage& s, const Block& b) {
  const View& out = s.out;
  char* base = at<char>(call, out);
  for (int64_t r = 0; r < b.rows; ++r) {
    const real* v = b.from + r * b.from_ld;
    char* row = base + ((b.row + r) * out.ld + b.col) * size_of(out.dtype);
    if (out.dtype != REAL) {
      store_from_real(out.dtype, v, b.cols, row);
      continue;
    }
    real* to = reinterpret_cast<real*>(row);
    if (to == v) return;
    for_columns(b.cols, [&](int64_t c, auto edge) { store(to + c, load(v + c, edge), edge); });
  }
}

static void run_stage(const Call& call, const Stage& s, Block& b) {
  switch (s.kind) {
    case StageKind::affine:
      return affine(call, s, b);
    case StageKind::affine2:
      return affine2(call, s, b);
    case StageKind::add:
      return map_with_operand(call, s, b, [](vec v, vec x, int64_t, auto) { return v + x; });
    case StageKind::activate:
    case StageKind::activate_grad:
      return activation(call, s, b);
    case StageKind::scale: {
      const vec factor = splat(real(s.numbers[0]));
      return map(b, [factor](vec v, int64_t, auto) { return v * factor; });
    }
    case StageKind::store:
      return store_block(call, s, b);
    case StageKind::dropout:  // run_pass
      return;
    case StageKind::sum:
    case StageKind::dot:
    case StageKind::moments:
      return reduce_stage(call, s, b);
  }
}

static bool overlap(const View& a, const View& b) {
  const int64_t a_end = a.offset + ((a.rows - 1) * a.ld + a.cols) * size_of(a.dtype);
  const int64_t b_end = b.offset + ((b.rows - 1) * b.ld + b.cols) * size_of(b.dtype);
  return a.arena == b.arena && a.offset < b_end && b.offset < a_end;
}

Block at_last_store(const Call& call, const Block& b) {
  const Instruction& in = *call.instruction;
  int32_t last = in.stage_count - 1;
  while (last >= 0 && is_reduction(in.chain[last])) --last;
  if (last < 0 || in.chain[last].kind != StageKind::store || in.cols % LANES != 0) return b;
  const View& out = in.chain[last].out;
  if (out.dtype != REAL) return b;
  for (int32_t i = 0; i < in.stage_count; ++i)
    if (overlap(in.chain[i].operand, out) || (i != last && overlap(in.chain[i].out, out))) return b;
  return {at<real>(call, out) + b.row * out.ld + b.col, out.ld, b.row, b.col, b.rows, b.cols};
}

bool stores_apart(const Instruction& in) {
  for (int32_t i = 0; i < in.stage_count; ++i) {
    for (int32_t k = 0; k < in.operand_count; ++k)
      if (in.chain[i].kind == StageKind::store && overlap(in.chain[i].out, in.operands[k])) return false;
  }
  return true;
}

void run_chain(const Call& call, const Block& b, int32_t first) {
  const Instruction& in = *call.instruction;
  const int64_t width = slab_columns(b.rows);
  for (int64_t c = 0; c < b.cols; c += width) {
    Block slab = {b.v + c, b.ld, b.row, b.col + c, b.rows, min(width, b.cols - c), b.v + c, b.ld};
    if (b.from) slab.from = b.from + c, slab.from_ld = b.from_ld;
    slab.keeps = b.keeps;
    for (int32_t i = first; i < in.stage_count;) {
      const int32_t done = run_pass(call, i, slab);
      if (done == 0) run_stage(call, in.chain[i], slab);
      i += max(1, done);
    }
  }
}

DLCORE_END
