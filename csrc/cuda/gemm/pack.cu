// SPDX-License-Identifier: Apache-2.0
// pack: x (rows, cols) through the chain into the order that a product reads an operand in, as it is and (or)
// transposed. Bound by reading x and writing each packed copy once; a tile is transposed in shared memory.
#include "../chain.cuh"

DLCORE_BEGIN

// An odd number of words apart, the elements of a column lie in different banks.
typedef real Transposed[TILE][TILE + 1];
static_assert(sizeof(Transposed) <= sizeof(ChainMemory), "");

// Beyond the edges of the value: the padding of a short strip.
__device__ static void clear_outside(Tile& t) {
  map(t, [&](real v, int r, int c) { return r < t.rows && c < t.cols ? v : real(0); });
}

// tile -> its part of the strips of x, k = rows and n = cols; packed: strips of k rows
__device__ static void write_strips(const Tile& t, int64_t k, real* packed) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    if (r < t.rows) store4(packed + t.first_col * k + (t.row + r) * TILE + (t.col - t.first_col), t.v[r], SIDE);
  }
}

__device__ static void write_rows(const Tile& t, int64_t ld, real* packed) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    if (r < t.rows) store4(packed + (t.row + r) * ld + t.col, t.v[r], t.cols);
  }
}

// x^T: columns of the tile become rows of TILE elements, `left` of which exist; the others are padding.
__device__ static void write_transposed(const Instruction& in, const Tile& t, const View& view, real* packed,
                                        const Transposed& tile) {
  const bool strips = view.layout == Layout::strips;
  const int across = int(threadIdx.x) % ACROSS * SIDE, down = int(threadIdx.x) / ACROSS * SIDE;
  const int left = strips ? SIDE : int(max(0, min(SIDE, in.rows - t.first_row - across)));
  for (int i = 0; i < SIDE; ++i) {
    const int64_t column = t.first_col + down + i;
    if (column >= in.cols) return;
    real x[SIDE];
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) x[r] = tile[across + r][down + i];
    store4(packed + (strips ? t.first_row * in.cols + column * TILE : column * view.ld + t.first_row) + across, x,
           left);
  }
}

__device__ static void spread_odd(const Tile& t, Transposed& tile) {
  for (int r = 0; r < SIDE; ++r) {
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) tile[t.row - t.first_row + r][t.col - t.first_col + c] = t.v[r][c];
  }
}

__global__ void __launch_bounds__(THREADS, FEWER_BLOCKS) pack_kernel(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  load_tile(in.operands[0], t);
  run_chain(in, t, shared_memory<ChainMemory>());
  clear_outside(t);
  Transposed& tile = shared_memory<Transposed>();
  __syncthreads();
  spread_odd(t, tile);
  __syncthreads();
  for (int i = 0; i < 2; ++i) {
    const View& view = in.operands[1 + i];
    real* packed = at<real>(view);
    if (!packed) continue;
    if (view.layout == Layout::parts) {
      store_parts(view, t);
    } else if (in.numbers[i] != 0) {
      write_transposed(in, t, view, packed, tile);
    } else if (view.layout == Layout::strips) {
      write_strips(t, in.rows, packed);
    } else {
      write_rows(t, view.ld, packed);
    }
  }
}

static int64_t items(const Instruction& in, int32_t phase) { return phase == 0 ? tile_items(in) : merge_items(in); }

static void launch(const Launch& l, int32_t phase) {
  if (phase == 1) return launch_merge(l);
  launch_kernel(pack_kernel, l, items(*l.instruction, 0), THREADS, sizeof(ChainMemory));
}

extern const Entry pack_entry = {{chained_phases, items, chain_scratch, nullptr}, launch};

DLCORE_END
