// SPDX-License-Identifier: Apache-2.0
// Reductions over rows: sum, dot and moments of a chunk of rows as a stage of a chain, and their merge.
//
// Rows are added in order within a chunk and chunks in order, whatever kernel runs the chain on however many threads.
// Moments take the mean of a chunk before its squared deviations; chunks merge by Chan, Golub and LeVeque (1979).
#include "totals.h"

DLCORE_BEGIN

bool is_reduction(const Stage& s) {
  return s.kind == StageKind::sum || s.kind == StageKind::dot || s.kind == StageKind::moments;
}

// to = f(to, v, column) over the rows in order, for W vectors from column c on
template <int W, class Edge, class F>
static void reduce_vectors(const Block& b, real* to, int64_t c, Edge edge, F f) {
  vec total[W];
  for (int w = 0; w < W; ++w) total[w] = load(to + c + w * LANES);
  for (int64_t r = 0; r < b.rows; ++r) {
    const real* v = b.from + r * b.from_ld + c;
    for (int w = 0; w < W; ++w) total[w] = f(total[w], load(v + w * LANES, edge), c + w * LANES);
  }
  for (int w = 0; w < W; ++w) store(to + c + w * LANES, total[w]);
}

// Of narrow rows the totals stay in registers: a row is over before a total could be loaded again.
template <class F>
static void reduce(const Block& b, real* to, F f) {
  constexpr int64_t W = 4;
  if (b.cols <= COLUMN_ALIGN) {
    const int64_t wide = b.cols / (W * LANES) * W * LANES;
    for (int64_t c = 0; c < wide; c += W * LANES) reduce_vectors<W>(b, to, c, Whole{}, f);
    return for_columns(b.cols - wide, [&](int64_t c, auto edge) { reduce_vectors<1>(b, to, wide + c, edge, f); });
  }
  for (int64_t r = 0; r < b.rows; ++r) {
    const real* v = b.from + r * b.from_ld;
    for_columns(b.cols, [&](int64_t c, auto edge) { store(to + c, f(load(to + c), load(v + c, edge), c)); });
  }
}

static void sum(const Call& call, const Stage& s, const Block& b) {
  accumulate(call, s, b, [&](real* total) { reduce(b, total, [](vec sum, vec v, int64_t) { return sum + v; }); });
}

static void dot(const Call& call, const Stage& s, const Block& b) {
  Operand o(call, s, b);
  accumulate(call, s, b, [&](real* total) {
    for (int64_t r = 0; r < b.rows; ++r) {
      const real *v = b.from + r * b.from_ld, *x = operand_row(o, r, b.cols);
      for_columns(b.cols, [&](int64_t c, auto edge) {
        store(total + c, fma(load(v + c, edge), load(x + c, edge), load(total + c)));
      });
    }
  });
}

static void moments(const Call& call, const Stage& s, const Block& b) {
  alignas(ALIGNMENT) real mean[SLAB_COLUMNS], squares[SLAB_COLUMNS];
  clear(mean, b.cols), clear(squares, b.cols);
  reduce(b, mean, [](vec sum, vec v, int64_t) { return sum + v; });
  for (int64_t c = 0; c < b.cols; c += LANES) store(mean + c, load(mean + c) / real(b.rows));
  reduce(b, squares, [&](vec sum, vec v, int64_t c) {
    const vec deviation = v - load(mean + c);
    return fma(deviation, deviation, sum);
  });
  write_columns(chunk_result(call, s, s.out, 0, b), mean, b.cols);
  write_columns(chunk_result(call, s, s.out2, 1, b), squares, b.cols);
}

void reduce_stage(const Call& call, const Stage& s, const Block& b) {
  if (s.kind == StageKind::sum) return sum(call, s, b);
  if (s.kind == StageKind::dot) return dot(call, s, b);
  moments(call, s, b);
}

bool has_moments(const Instruction& in) {
  for (int32_t i = 0; i < in.stage_count; ++i)
    if (in.chain[i].kind == StageKind::moments) return true;
  return false;
}

bool chain_reduces(const Instruction& in) {
  for (int32_t i = 0; i < in.stage_count; ++i)
    if (is_reduction(in.chain[i])) return chunk_count(in) > 1;
  return false;
}

int64_t chain_scratch(const Instruction& in) {
  if (!chain_reduces(in)) return 0;
  int64_t count = 0;
  for (int32_t i = 0; i < in.stage_count; ++i) count += is_reduction(in.chain[i]) ? results(in.chain[i]) : 0;
  return count * chunk_count(in) * partial_cols(in) * int64_t(sizeof(real));
}

int64_t merge_items(const Instruction& in) { return ceil_div(in.cols, COLUMN_ALIGN); }

// before: rows that mean and squares hold; rows: of the next chunk
static void merge_moments(vec& mean, vec& squares, vec next_mean, vec next_squares, int64_t before, int64_t rows) {
  const double total = double(before + rows);
  const vec delta = next_mean - mean;
  mean = fma(delta, splat(real(rows / total)), mean);
  squares = fma(delta * delta, splat(real(before * (rows / total))), squares + next_squares);
}

static void merge_stage(const Call& call, const Stage& s, int64_t first, int64_t last) {
  const Instruction& in = *call.instruction;
  const int64_t stride = results(s) * partial_cols(in);
  const bool two = s.kind == StageKind::moments;
  const real* partial = partials(call, s);
  for (int64_t c = first; c < last; c += LANES) {
    const real *p = partial + c, *p2 = p + partial_cols(in);
    vec total = load(p), squares = two ? load(p2) : vec{};
    for (int64_t k = 1; k < chunk_count(in); ++k) {
      if (two) {
        merge_moments(total, squares, load(p + k * stride), load(p2 + k * stride), k * CHUNK_ROWS,
                      min(CHUNK_ROWS, in.rows - k * CHUNK_ROWS));
      } else {
        total = total + load(p + k * stride);
      }
    }
    const int64_t n = min(LANES, in.cols - c);
    store_partial(at<real>(call, s.out) + c, total, n);
    if (two) store_partial(at<real>(call, s.out2) + c, squares, n);
  }
}

void merge_chain(const Call& call, int64_t begin, int64_t end) {
  const Instruction& in = *call.instruction;
  for (int32_t i = 0; i < in.stage_count; ++i)
    if (is_reduction(in.chain[i]))
      merge_stage(call, in.chain[i], begin * COLUMN_ALIGN, min(in.cols, end * COLUMN_ALIGN));
}

DLCORE_END
