// SPDX-License-Identifier: Apache-2.0
// Kernels that take a chunk of whole rows a block: what is summed along a row is there before its chain. Of narrow rows
// alone, as the blocks of a small batch are few. ACROSS neighbouring lanes share SIDE rows.
#pragma once
#include "chain.cuh"

DLCORE_BEGIN

constexpr int PANEL_TILES = 2;  // across: with a chain's memory they are the 64 KB that every GPU has

DLCORE_HD bool is_narrow(const Instruction& in) { return in.cols <= PANEL_TILES * TILE; }

DLCORE_HD int tiles_across(const Instruction& in) { return int(ceil_div(in.cols, TILE)); }

__device__ inline Tile panel_tile(const Instruction& in, int i) {
  return tile_at(in, int64_t(blockIdx.x) * TILE, i * TILE);
}

// f(r, c, column) of the elements of a thread that exist
template <class F>
__device__ inline void each(const Tile& t, F f) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) {
      if (r < t.rows && c < t.cols) f(r, c, t.col + c);
    }
  }
}

// What a thread knows of its rows, for the block: the first of those that share them writes.
template <class Row>
__device__ inline void publish_rows(const Row (&rows)[SIDE], Row (&to)[TILE]) {
  const int i = int(threadIdx.x);
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    if (i % ACROSS == 0) to[i / ACROSS * SIDE + r] = rows[r];
  }
  __syncthreads();
}

// The row that a thread finishes; -1: none
__device__ inline int64_t panel_row(const Instruction& in) {
  const int64_t row = int64_t(blockIdx.x) * TILE + threadIdx.x;
  return threadIdx.x < TILE && row < in.rows ? row : -1;
}

// Tiles of a panel between two loops over them; a thread reads what it wrote.
struct Kept {
  float4 rows[SIDE][THREADS];

  __device__ void put(const Square& v) {
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) rows[r][threadIdx.x] = make_float4(v[r][0], v[r][1], v[r][2], v[r][3]);
  }
  __device__ void get(Square& v) const {
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) {
      const float4 q = rows[r][threadIdx.x];
      v[r][0] = q.x, v[r][1] = q.y, v[r][2] = q.z, v[r][3] = q.w;
    }
  }
};

DLCORE_END
