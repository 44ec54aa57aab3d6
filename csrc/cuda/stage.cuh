// SPDX-License-Identifier: Apache-2.0
// A thread's part of a tile, and what a stage of a chain reads under it: column vectors, its operand, draws of dropout;
// and the reductions over the rows of a tile.
#pragma once
#include "../math/philox.h"
#include "gemm/parts.cuh"
#include "reduce.cuh"

DLCORE_BEGIN

constexpr int SIDE = 4;                   // rows and columns of a thread
constexpr int ACROSS = int(TILE) / SIDE;  // threads across a tile
static_assert(ACROSS * ACROSS == THREADS, "");
static_assert(TILE == CHUNK_ROWS && TILE % COLUMN_ALIGN == 0, "a tile holds whole chunks of rows");

typedef real Square[SIDE][SIDE];

struct Tile {
  int64_t first_row, first_col;  // of the block
  int64_t row, col;              // of this thread
  int rows, cols;                // of this thread inside the value, at most SIDE
  Square v;
};

__device__ inline Tile tile_at(const Instruction& in, int64_t first_row, int64_t first_col) {
  Tile t;
  t.first_row = first_row, t.first_col = first_col;
  t.row = first_row + int(threadIdx.x) / ACROSS * SIDE;
  t.col = first_col + int(threadIdx.x) % ACROSS * SIDE;
  t.rows = int(max(0, min(SIDE, in.rows - t.row)));
  t.cols = int(max(0, min(SIDE, in.cols - t.col)));
  return t;
}

// The items of a kernel that makes its value tile by tile.
inline int64_t tile_items(const Instruction& in) { return ceil_div(in.rows, TILE) * ceil_div(in.cols, TILE); }

__device__ inline Tile tile_of(const Instruction& in, int64_t item) {
  const int64_t across = ceil_div(in.cols, TILE);
  return tile_at(in, item / across * TILE, item % across * TILE);
}

// x (rows, cols), of reals or in one part, under the tile
__device__ inline void load_square(const View& view, const Tile& t, Square& x) {
  if (view.layout == Layout::parts) {
    const int64_t pitch = pitch_of(view);
    const uint16_t* from = at<const uint16_t>(view) + t.row * pitch + t.col;
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) load_part4(view.dtype, from + r * pitch, r < t.rows ? t.cols : 0, x[r]);
    return;
  }
  const real* from = at<const real>(view) + t.row * view.ld + t.col;
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) load4(from + r * view.ld, r < t.rows ? t.cols : 0, x[r]);
}

__device__ inline void load_tile(const View& view, Tile& t) { load_square(view, t, t.v); }

// A (1, cols) view under the thread.
struct Columns {
  bool given;
  real x[SIDE] = {};

  __device__ Columns(const View& view, const Tile& t) : given(view.arena >= 0) {
    if (given) load4(at<const real>(view) + t.col, t.cols, x);
  }
};

// The operand of a stage under the tile, as its scale and shift make it.
__device__ inline void load_operand(const Stage& s, const Tile& t, Square& x) {
  load_square(s.operand, t, x);
  const Columns scale(s.operand_scale, t), shift(s.operand_shift, t);
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) {
      if (scale.given && shift.given) {
        x[r][c] = fma(x[r][c], scale.x[c], shift.x[c]);
      } else if (scale.given || shift.given) {
        x[r][c] = scale.given ? x[r][c] * scale.x[c] : x[r][c] + shift.x[c];
      }
    }
  }
}

// The draws of 4 x 4 elements, two of 16 bits in a word. Philox gives those of 8 columns at once: two neighbours draw
// two rows each, for both, and exchange halves.
__device__ inline void draw_tile(const Stage& s, const Tile& t, uint32_t (&draws)[SIDE][2]) {
  const int64_t* counters = at<const int64_t>(s.a);
  const PhiloxKey<uint64_t> key = philox_key<uint64_t>(uint64_t(counters[counter_seed]));
  const uint32_t left = threadIdx.x % 2 == 0;
  uint64_t x[2][4];
  for (int r = 0; r < 2; ++r) {
    x[r][0] = uint64_t(t.col) / 8;
    x[r][1] = uint32_t(t.row + (left ? 0 : 2) + r);
    x[r][2] = uint32_t(s.random_op);
    x[r][3] = uint32_t(counters[counter_draws]);
  }
  philox(key, x);
  DLCORE_UNROLL(2)
  for (int r = 0; r < 2; ++r) {
    DLCORE_UNROLL(2)
    for (int i = 0; i < 2; ++i) {
      const uint32_t first = uint32_t(x[r][i]), second = uint32_t(x[r][2 + i]);
      const uint32_t received = __shfl_xor_sync(ALL_LANES, left ? second : first, 1);
      draws[r][i] = left ? first : received;
      draws[2 + r][i] = left ? received : second;
    }
  }
}

// A tile of values, rows together, and a second one for products of two.
struct ChainMemory {
  real v[TILE][TILE], x[TILE][TILE];
};

__device__ inline void spread(const Tile& t, const Square& v, real (&to)[TILE][TILE]) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) store4(&to[t.row - t.first_row + r][t.col - t.first_col], v[r], SIDE);
}

// The columns of a block of threads, and the rows of the tile that exist.
__device__ inline bool has_column(const Instruction& in, const Tile& t) {
  return threadIdx.x < TILE && t.first_col + threadIdx.x < in.cols;
}
__device__ inline int tile_rows(const Instruction& in, const Tile& t) { return int(min(TILE, in.rows - t.first_row)); }

// from + f(v) + ... of the thread's column, in row order
template <class F>
__device__ inline real column_total(const real (&v)[TILE][TILE], int rows, F f) {
  real total = 0;
  for (int r = 0; r < rows; ++r) total = f(total, v[r][threadIdx.x], r);
  return total;
}

// x: the operand of a dot
__device__ inline void reduce_stage(const Instruction& in, const Stage& s, const Square& x, const Tile& t,
                                    ChainMemory& memory) {
  sync_chain();  // those who read the memory last are done
  spread(t, t.v, memory.v);
  if (s.kind == StageKind::dot) spread(t, x, memory.x);
  sync_chain();
  if (!has_column(in, t)) return;
  const int rows = tile_rows(in, t);
  const int64_t column = t.first_col + threadIdx.x;
  real* to = chunk_result(in, s, t.first_row / CHUNK_ROWS, 0) + column;
  if (s.kind == StageKind::dot) {
    const real(&other)[TILE][TILE] = memory.x;
    *to = column_total(memory.v, rows, [&](real sum, real v, int r) { return fma(v, other[r][threadIdx.x], sum); });
    return;
  }
  const real sum = column_total(memory.v, rows, [](real sum, real v, int) { return sum + v; });
  if (s.kind == StageKind::sum) {
    *to = sum;
    return;
  }
  const real mean = sum / real(rows);
  *to = mean;
  chunk_result(in, s, t.first_row / CHUNK_ROWS, 1)[column] =
      column_total(memory.v, rows, [mean](real sum, real v, int) {
        const real deviation = v - mean;
        return fma(deviation, deviation, sum);
      });
}

DLCORE_END
