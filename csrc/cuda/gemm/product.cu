// SPDX-License-Identifier: Apache-2.0
// C (m, n) = A B, A B^T or A^T B in float32 on the general units, then its chain. Bound by the FMA units.
//
// A block makes SIDES x SIDES tiles of C: slices of A and B go through shared memory, two in turn, and a thread sums
// SIDES x SIDES times 4 x 4 elements in registers. All cuts are functions of the shape.
#include "splits.cuh"

DLCORE_BEGIN

constexpr int64_t DEPTH_ALIGN = 16;

// How a product is cut.
struct Cut {
  int sides;
  int64_t k, across, blocks;  // across: blocks of a row
  Splits splits;
};

DLCORE_HD static Cut cut(const Instruction& in) {
  Cut c = {};
  c.k = depth_of(in);
  c.sides = ceil_div(in.rows, 2 * TILE) * ceil_div(in.cols, 2 * TILE) >= FULL / 2 ? 2 : 1;
  c.across = ceil_div(in.cols, c.sides * TILE);
  c.blocks = ceil_div(in.rows, c.sides * TILE) * c.across;
  c.splits = split_depth(c.k, min(ceil_div(FULL, c.blocks), c.k / SPLIT_DEPTH), DEPTH_ALIGN);
  return c;
}

constexpr int64_t PAD = 4;  // keeps rows of 16 bytes and spreads columns over banks

template <int sides>
struct Slices {
  static constexpr int depth = 16 / sides, width = int(TILE) * sides;
  real a[2][depth][width + PAD], b[2][depth][width + PAD];
};

// What a thread reads of the slices of an operand: 4 elements of each, along the depth where that is contiguous, else
// along the rows of C (of A) or its columns (of B).
template <bool along_depth, int sides>
struct Reader {
  const real* from;  // at depth 0
  int64_t step;      // between slices
  int at_k, at_i;    // in the slice
  int valid;         // of the 4, across the depth; along it: 1 or 0

  // i: the first row or column of the block, of `count`
  __device__ Reader(const View& view, int64_t i, int64_t count) {
    constexpr int depth = Slices<sides>::depth, groups = along_depth ? depth / 4 : Slices<sides>::width / 4;
    const int down = int(threadIdx.x) / groups, across = int(threadIdx.x) % groups * 4;
    at_k = along_depth ? across : down, at_i = along_depth ? down : across;
    const int64_t left = count - i - at_i;
    valid = int(max(0, min(left, along_depth ? 1 : 4)));
    const real* x = at<const real>(view);
    if (along_depth) {
      from = x + (i + at_i) * view.ld + at_k;
    } else if (view.layout == Layout::strips) {
      from = x + (i + at_i) / TILE * TILE * view.rows + (i + at_i) % TILE + at_k * TILE;
    } else {
      from = x + at_k * view.ld + i + at_i;
    }
    step = along_depth ? 1 : view.ld;
  }

  // The slice from k on, of a depth that ends at `end`.
  __device__ void read(int64_t k, int64_t end, real (&x)[4]) const {
    const int64_t left = end - k - at_k;
    const int n = along_depth ? int(max(0, min(4, left))) * valid : left > 0 ? valid : 0;
    load4(from + k * step, n, x);
  }

  __device__ void write(const real (&x)[4], real (&slice)[Slices<sides>::depth][Slices<sides>::width + PAD]) const {
    if constexpr (along_depth) {
      DLCORE_UNROLL(4)
      for (int i = 0; i < 4; ++i) slice[at_k + i][at_i] = x[i];
    } else {
      store4(&slice[at_k][at_i], x, 4);
    }
  }
};

template <int sides>
struct Sums {
  real v[sides][sides][SIDE][SIDE];
};

// sums += a slice of A times one of B
template <int sides>
__device__ inline void multiply_slice(const Slices<sides>& slices, int turn, Sums<sides>& sums) {
  const int down = int(threadIdx.x) / ACROSS * SIDE, across = int(threadIdx.x) % ACROSS * SIDE;
  DLCORE_UNROLL(8)  // more is loaded ahead than registers hold
  for (int k = 0; k < Slices<sides>::depth; ++k) {
    real a[sides][SIDE], b[sides][SIDE];
    DLCORE_UNROLL(2)
    for (int s = 0; s < sides; ++s) {
      load4(&slices.a[turn][k][s * TILE + down], SIDE, a[s]);
      load4(&slices.b[turn][k][s * TILE + across], SIDE, b[s]);
    }
    DLCORE_UNROLL(4)
    for (int i = 0; i < sides * sides; ++i) {
      DLCORE_UNROLL(16)
      for (int e = 0; e < SIDE * SIDE; ++e) {
        real& sum = sums.v[i / sides][i % sides][e / SIDE][e % SIDE];
        sum = fma(a[i / sides][e / SIDE], b[i % sides][e % SIDE], sum);
      }
    }
  }
}

// The depth [begin, end) of the block at (row, col).
template <Role role, int sides>
__device__ inline void multiply(const Instruction& in, int64_t row, int64_t col, int64_t begin, int64_t end,
                                Slices<sides>& slices, Sums<sides>& sums) {
  constexpr int depth = Slices<sides>::depth;
  const Reader<role != Role::tn, sides> a(in.operands[0], row, in.rows);
  const Reader<role == Role::nt, sides> b(in.operands[1], col, in.cols);
  real next_a[4], next_b[4];
  a.read(begin, end, next_a), b.read(begin, end, next_b);
  a.write(next_a, slices.a[0]), b.write(next_b, slices.b[0]);
  __syncthreads();
  int turn = 0;
  for (int64_t k = begin; k < end; k += depth, turn ^= 1) {
    const bool more = k + depth < end;
    if (more) a.read(k + depth, end, next_a), b.read(k + depth, end, next_b);
    multiply_slice(slices, turn, sums);
    if (more) a.write(next_a, slices.a[turn ^ 1]), b.write(next_b, slices.b[turn ^ 1]);
    __syncthreads();
  }
}

template <int sides>
union ProductMemory {
  Slices<sides> slices;
  ChainMemory chain;
};

// With four tiles the sums fill the registers; a product that is cut into single tiles has few blocks.
template <Role role, int sides>
__global__ void __launch_bounds__(THREADS, sides == 2 ? 1 : FEWER_BLOCKS) product_kernel(const Instruction in) {
  ProductMemory<sides>& memory = shared_memory<ProductMemory<sides>>();
  const Cut c = cut(in);
  const int64_t block = blockIdx.x % c.blocks, split = blockIdx.x / c.blocks;
  const int64_t row = block / c.across * sides * TILE, col = block % c.across * sides * TILE;
  const int64_t begin = split * c.splits.depth, end = min(c.k, begin + c.splits.depth);
  Sums<sides> sums = {};
  multiply<role, sides>(in, row, col, begin, end, memory.slices, sums);
  DLCORE_UNROLL(1)
  for (int i = 0; i < sides * sides; ++i) {
    Tile t = tile_at(in, row + i / sides * TILE, col + i % sides * TILE);
    DLCORE_UNROLL(4)
    for (int j = 0; j < sides * sides; ++j) {
      if (i == j) map(t, [&](real, int r, int e) { return sums.v[j / sides][j % sides][r][e]; });
    }
    finish_tile(in, c.splits, split, t, memory.chain);
  }
}

static int32_t phases(const Instruction& in) { return split_phases(in, cut(in).splits); }

static int64_t items(const Instruction& in, int32_t phase) {
  const Cut c = cut(in);
  return phase == 0 ? c.blocks * c.splits.count : later_items(in, c.splits, phase);
}

static int64_t scratch(const Instruction& in) { return split_scratch(in, cut(in).splits); }

template <int sides>
static void launch_product(const Launch& l, int64_t blocks) {
  void (*const kernels[])(Instruction) = {product_kernel<Role::nn, sides>, product_kernel<Role::nt, sides>,
                                          product_kernel<Role::tn, sides>};
  launch_kernel(kernels[int(role_of(*l.instruction))], l, blocks, THREADS, sizeof(ProductMemory<sides>));
}

static void launch(const Launch& l, int32_t phase) {
  const Cut c = cut(*l.instruction);
  if (phase > 0) return launch_later(l, c.splits, phase);
  const int64_t blocks = c.blocks * c.splits.count;
  return c.sides == 2 ? launch_product<2>(l, blocks) : launch_product<1>(l, blocks);
}

static const Entry simt_entry = {{phases, items, scratch, nullptr}, launch};

static const Entry& entry_of(const Instruction& in) {
  if (is_library(in)) return library_product_entry;
  if (in.number_count < 2 || in.numbers[1] == 0) return simt_entry;
#if DLCORE_CUDA_90a
  if (in.number_count > 2 && Gemm(int(in.numbers[2])) == Gemm::wgmma) return wgmma_product_entry;
#endif
  return mma_product_entry;
}

extern const Entry product_entry = {{[](const Instruction& in) { return entry_of(in).phases(in); },
                                     [](const Instruction& in, int32_t phase) { return entry_of(in).items(in, phase); },
                                     [](const Instruction& in) { return entry_of(in).scratch(in); }, nullptr},
                                    [](const Launch& l, int32_t phase) { entry_of(*l.instruction).launch(l, phase); },
                                    [](const Instruction& in, const View* operands, int32_t members) {
                                      return entry_of(in).maps(in, operands, members);
                                    }};

DLCORE_END
