// SPDX-License-Identifier: Apache-2.0
// C (m, n) = A B, A B^T or A^T B from bf16 parts, or one of f16, on tensor cores, then its chain. Bound by them.
//
// Stages of the depth, all parts of both operands, go through shared memory by asynchronous copies; each part is loaded
// once for all the terms it is in. As in cpu/gemm/unit/multiply.h x y = hh + (hm + mh) + (hl + mm + lh); tensor cores
// cut instead of rounding, so the large term and the small ones of a stage are summed from zero, where the large one is
// nearly exact, and then added to the sums in float. One term, which errs more than cutting does, stays in the cores.
#include "../arch/sm80.cuh"
#include "swizzle.h"
#include "terms.cuh"

DLCORE_BEGIN

constexpr int DEPTH = int(MMA.stage_depth);
constexpr int WARPS_DOWN = 2, WARPS_ACROSS = THREADS / WARP / WARPS_DOWN;

// A block. A stage of 128 + 128 rows is 16 KB a part: 4, 3 and 2 of them fit into the 99 KB of sm_86, 89 and 120, and
// with three parts 2 x 192 instructions of a warp outlast a load. Sums and accumulators take 2 x 64 registers of 255;
// of tiles of 64 x 64 a multiprocessor has two.
template <int terms_, int tile, DType type_ = DType::bf16>
struct Config {
  static constexpr DType type = type_;
  static constexpr int terms = terms_, parts = PARTS_OF_TERMS[terms], stages = 5 - parts;
  static constexpr int rows = int(MMA.tiles[tile].rows), cols = int(MMA.tiles[tile].cols);
  static constexpr int warp_rows = rows / WARPS_DOWN, warp_cols = cols / WARPS_ACROSS;
};

template <class C>
struct StageParts {
  uint16_t a[C::parts][C::rows * DEPTH], b[C::parts][C::cols * DEPTH];
};

// What a thread copies of an operand: chunks below each other, of a matrix in which the depth runs along rows or down.
template <bool along_depth, int width>
struct Copier {
  static constexpr int across = (along_depth ? DEPTH : width) / CHUNK;  // chunks of a row of the tile
  static constexpr int apart = THREADS / across;                        // rows between the chunks of a thread
  static constexpr int count = (along_depth ? width : DEPTH) / apart;

  const uint16_t* from;
  int64_t rows, cols, pitch, row, col;  // row, col: of the first chunk at depth 0

  // i: the first row or column of C in the tile
  __device__ Copier(const View& view, int64_t i)
      : from(at<const uint16_t>(view)), rows(view.rows), cols(view.cols), pitch(pitch_of(view)) {
    row = int(threadIdx.x) / across + (along_depth ? i : 0);
    col = int(threadIdx.x) % across * CHUNK + (along_depth ? 0 : i);
  }

  __device__ void copy(int64_t k, int part, uint16_t* tile) const {
    const int64_t c = along_depth ? col + k : col;
    DLCORE_UNROLL(8)
    for (int i = 0; i < count; ++i) {
      const int64_t r = (along_depth ? row : row + k) + i * apart;
      const bool there = r < rows && c < cols;
      const int place = swizzle(int(threadIdx.x) / across + i * apart, int(threadIdx.x) % across, across);
      copy16(tile + place * CHUNK, there ? from + (part * rows + r) * pitch + c : from, there);
    }
  }
};

// The 16 rows of A or columns of B from i on, at depth k of a stage, as fragments: a whole one of A, two of B.
template <bool is_a, bool along_depth, int width>
__device__ inline void load_fragment(const uint16_t* tile, int i, int k, uint32_t (&x)[4]) {
  const int lane = lane_of(), first = along_depth ? i : k, column = along_depth ? k : i;
  const int down = is_a == along_depth ? lane % 16 : lane / 16 * 8 + lane % 8;
  const int right = is_a == along_depth ? lane / 16 : lane / 8 % 2;
  const int place = swizzle(first + down, column / CHUNK + right, (along_depth ? DEPTH : width) / CHUNK);
  load_matrices<!along_depth>(tile + place * CHUNK, x);
}

template <class C>
struct Accumulators {
  float v[C::warp_rows / 16][C::warp_cols / 8][4];
};

template <class C>
__device__ inline void add(const Accumulators<C>& from, Accumulators<C>& to) {
  constexpr int down = C::warp_rows / 16, across = C::warp_cols / 8;
  DLCORE_UNROLL(128)
  for (int i = 0; i < down * across * 4; ++i) {
    to.v[i / 4 / across][i / 4 % across][i % 4] += from.v[i / 4 / across][i / 4 % across][i % 4];
  }
}

// Parts of A and of B under a warp at one step of the depth, and what they are summed into.
template <Role role, class C>
struct Dots {
  const StageParts<C>& stage;
  int k;
  Accumulators<C>& sums;
  uint32_t a[C::warp_rows / 16][4], b[C::warp_cols / 16][4];

  __device__ Dots(const StageParts<C>& stage_, int k_, Accumulators<C>& sums_) : stage(stage_), k(k_), sums(sums_) {}

  __device__ void load_a(int part) {
    const int first = int(threadIdx.x) / WARP / WARPS_ACROSS * C::warp_rows;
    DLCORE_UNROLL(8)
    for (int i = 0; i < C::warp_rows / 16; ++i) {
      load_fragment<true, role != Role::tn, C::rows>(stage.a[part], first + 16 * i, k, a[i]);
    }
  }
  __device__ void load_b(int part) {
    const int first = int(threadIdx.x) / WARP % WARPS_ACROSS * C::warp_cols;
    DLCORE_UNROLL(8)
    for (int i = 0; i < C::warp_cols / 16; ++i) {
      load_fragment<false, role == Role::nt, C::cols>(stage.b[part], first + 16 * i, k, b[i]);
    }
  }
  __device__ void dot() {
    DLCORE_UNROLL(8)
    for (int i = 0; i < C::warp_rows / 16; ++i) {
      DLCORE_UNROLL(8)
      for (int j = 0; j < C::warp_cols / 8; ++j) {
        const uint32_t b0 = b[j / 2][j % 2 * 2], b1 = b[j / 2][j % 2 * 2 + 1];
        if constexpr (C::type == DType::f16) {
          multiply_add_f16(sums.v[i][j], a[i], b0, b1);
        } else {
          multiply_add(sums.v[i][j], a[i], b0, b1);
        }
      }
    }
  }
};

template <Role role, class C>
__device__ inline void large_term(Dots<role, C> d) {
  d.load_a(H), d.load_b(H), d.dot();
}

template <Role role, class C>
__device__ inline void small_terms(Dots<role, C> d) {
  if constexpr (C::parts == 3) {
    d.load_a(L), d.load_b(H), d.dot();
    d.load_a(M), d.dot();
    d.load_b(M), d.dot();
    d.load_a(H), d.dot();
    d.load_b(L), d.dot();
  } else {
    d.load_a(M), d.load_b(H), d.dot();
    d.load_a(H), d.load_b(M), d.dot();
  }
}

template <Role role, class C>
__device__ inline void multiply_stage(const StageParts<C>& stage, Accumulators<C>& sums) {
  constexpr int STEP = 16;  // of an instruction
  if constexpr (C::terms == 1) {
    for (int k = 0; k < DEPTH; k += STEP) large_term(Dots<role, C>(stage, k, sums));
  } else {
    Accumulators<C> large = {}, small = {};
    DLCORE_UNROLL(1)  // two steps at once would not leave registers
    for (int k = 0; k < DEPTH; k += STEP) large_term(Dots<role, C>(stage, k, large));
    add(large, sums);
    DLCORE_UNROLL(1)
    for (int k = 0; k < DEPTH; k += STEP) small_terms(Dots<role, C>(stage, k, small));
    add(small, sums);
  }
}

// The depth [begin, end) of the tile at (row, col).
template <Role role, class C>
__device__ inline void multiply(const Instruction& in, int64_t row, int64_t col, int64_t begin, int64_t end,
                                StageParts<C> (&stages)[C::stages], Accumulators<C>& sums) {
  const Copier<role != Role::tn, C::rows> a(in.operands[0], row);
  const Copier<role == Role::nt, C::cols> b(in.operands[1], col);
  const auto copy = [&](int64_t k, int stage) {
    for (int part = 0; part < C::parts && k < end; ++part) {
      a.copy(k, part, stages[stage].a[part]), b.copy(k, part, stages[stage].b[part]);
    }
    commit_copies();
  };
  for (int s = 0; s < C::stages - 1; ++s) copy(begin + s * DEPTH, s);
  int turn = 0, next = C::stages - 1;
  DLCORE_UNROLL(1)
  for (int64_t k = begin; k < end; k += DEPTH) {
    wait_copies<C::stages - 2>();
    __syncthreads();  // the copies of all are here, and all have read the stage that is written next
    copy(k + (C::stages - 1) * DEPTH, next);
    multiply_stage<role>(stages[turn], sums);
    turn = turn + 1 < C::stages ? turn + 1 : 0, next = next + 1 < C::stages ? next + 1 : 0;
  }
  wait_copies<0>();
}

template <class C>
union MmaMemory {
  StageParts<C> stages[C::stages];
  SpreadTile spread;
  ChainMemory chain;
};

// The sums of a warp to their place in a tile of the chain.
template <class C>
__device__ inline void spread_sums(const Accumulators<C>& sums, int row, int col, SpreadTile& to) {
  DLCORE_UNROLL(8)
  for (int i = 0; i < C::warp_rows / 16; ++i) {
    DLCORE_UNROLL(8)
    for (int j = 0; j < C::warp_cols / 8; ++j) spread_fragment(sums.v[i][j], row + 16 * i, col + 8 * j, to);
  }
}

// Tile by tile of the chain; those of a warp lie in one.
template <class C>
__device__ inline void finish(const Instruction& in, const TermsCut& cut, const TilePlace& place,
                              const Accumulators<C>& sums, MmaMemory<C>& memory) {
  constexpr int across = C::cols / int(TILE);
  const int warp = int(threadIdx.x) / WARP, row = warp / WARPS_ACROSS * C::warp_rows,
            col = warp % WARPS_ACROSS * C::warp_cols;
  DLCORE_UNROLL(1)
  for (int i = 0; i < C::rows / int(TILE) * across; ++i) {
    const int first_row = i / across * int(TILE), first_col = i % across * int(TILE);
    Tile t = tile_at(in, place.down * C::rows + first_row, place.across * C::cols + first_col);
    __syncthreads();
    if (row / TILE * TILE == first_row && col / TILE * TILE == first_col) {
      spread_sums(sums, row % int(TILE), col % int(TILE), memory.spread);
    }
    __syncthreads();
    finish_spread(in, cut, place.split, memory.spread, t, memory.chain);
  }
}

template <Role role, class C>
__device__ inline void multiply_tile(const Instruction& in, const TermsCut& cut) {
#ifdef DLCORE_SM80
  MmaMemory<C>& memory = shared_memory<MmaMemory<C>>();
  const TilePlace place = tile_place(cut, blockIdx.x);
  const int64_t begin = place.split * cut.split_depth, end = min(depth_of(in), begin + cut.split_depth);
  Accumulators<C> sums = {};
  multiply<role, C>(in, place.down * C::rows, place.across * C::cols, begin, end, memory.stages, sums);
  finish(in, cut, place, sums, memory);
#endif
}

template <Role role, int terms, int tile>
__global__ void __launch_bounds__(THREADS, tile == 0 ? 2 : 1) mma_kernel(const Instruction in, const TermsCut cut) {
  multiply_tile<role, Config<terms, tile>>(in, cut);
}

template <Role role, int tile>
__global__ void __launch_bounds__(THREADS, tile == 0 ? 2 : 1) mma_f16_kernel(const Instruction in, const TermsCut cut) {
  multiply_tile<role, Config<1, tile, DType::f16>>(in, cut);
}

template <int terms, int tile>
static void launch_mma(const Launch& l, const TermsCut& c) {
  static_assert(sizeof(MmaMemory<Config<terms, tile>>) <= 99 * 1024, "what a block of sm_86 may have");
  void (*const kernels[])(Instruction, TermsCut) = {
      mma_kernel<Role::nn, terms, tile>, mma_kernel<Role::nt, terms, tile>, mma_kernel<Role::tn, terms, tile>};
  void (*const of_f16[])(Instruction, TermsCut) = {mma_f16_kernel<Role::nn, tile>, mma_f16_kernel<Role::nt, tile>,
                                                   mma_f16_kernel<Role::tn, tile>};
  const bool f16 = terms == 1 && l.instruction->operands[0].dtype == DType::f16;
  launch_kernel((f16 ? of_f16 : kernels)[int(role_of(*l.instruction))], l, blocks_of(c), THREADS,
                sizeof(MmaMemory<Config<terms, tile>>), c);
}

static void launch(const Launch& l, int32_t phase) {
  const TermsCut c = cut_of<MMA>(*l.instruction);
  if (phase > 0) return launch_later(l, splits_of(c), phase);
  switch (terms_of(*l.instruction)) {
    case 1:
      return c.tile == 2 ? launch_mma<1, 2>(l, c) : c.tile == 1 ? launch_mma<1, 1>(l, c) : launch_mma<1, 0>(l, c);
    case 3:
      return c.tile == 1 ? launch_mma<3, 1>(l, c) : launch_mma<3, 0>(l, c);
    default:
      return c.tile == 1 ? launch_mma<6, 1>(l, c) : launch_mma<6, 0>(l, c);
  }
}

extern const Entry mma_product_entry = {{terms_phases<MMA>, terms_items<MMA>, terms_scratch<MMA>, nullptr}, launch};

DLCORE_END
