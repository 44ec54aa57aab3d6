// SPDX-License-Identifier: Apache-2.0
// C (m, n) = A B, A B^T or A^T B from bf16 parts on the tensor cores of compute capability 9.0, then its chain. Bound
// by them.
//
// A block takes one tile of C after another. A thread of its last warpgroup, the producer, copies stages of the depth,
// all parts of both operands, into a ring in shared memory; two warpgroups multiply 64 rows each and run the chain, and
// the copies for the next tile go on meanwhile. Terms and sums are those of mma.cu: a stage's large term, half a stage
// at a time where three parts make a float, and its small ones are summed from zero and then added in float.
#include "../arch/sm90.cuh"
#include "terms.cuh"

DLCORE_BEGIN

namespace {

constexpr int DEPTH = int(WGMMA.stage_depth), STEP = 16;  // of a stage, of an instruction
constexpr int GROUP = 128, GROUP_ROWS = 64, GROUPS = THREADS / GROUP;
constexpr int RING_BYTES = 192 << 10;  // a chain takes 32 KB of the 227
// Of the 64 K registers of a multiprocessor, launched as 168 for each thread.
constexpr int PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232;

template <int terms_, int tile>
struct Config {
  static constexpr int terms = terms_, parts = PARTS_OF_TERMS[terms];
  static constexpr int rows = int(WGMMA.tiles[tile].rows), cols = int(WGMMA.tiles[tile].cols);
  static constexpr int stages = RING_BYTES / (2 * parts * (rows + cols) * DEPTH);
  static_assert(rows == GROUPS * GROUP_ROWS && DEPTH == SWIZZLED_ROW, "");
};

// Blocks of rows of 64 elements: rows of C (of A) or columns (of B) where the depth runs along them, else rows of the
// depth, [width / 64][DEPTH][64].
template <class C>
struct StageParts {
  uint16_t a[C::parts][C::rows * DEPTH], b[C::parts][C::cols * DEPTH];
};

template <class C>
struct Memory {
  StageParts<C> stages[C::stages];
  union {
    SpreadTile spread;
    ChainMemory chain;
  };
  Barrier full[C::stages], empty[C::stages];
};

// Which stage of the ring is next, and the parity of its phase.
template <class C>
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == C::stages) stage = 0, parity ^= 1;
  }
};

// The tiles of this block: f(where a tile lies, its first row, its first column, the depth [begin, end)).
template <class C, class F>
__device__ inline void for_tiles(const Instruction& in, const TermsCut& cut, F f) {
  const int64_t depth = depth_of(in), blocks = cut.down * cut.across * cut.splits;
  DLCORE_UNROLL(1)
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const TilePlace place = tile_place(cut, block);
    const int64_t begin = place.split * cut.split_depth;
    f(place, place.down * C::rows, place.across * C::cols, begin, min(depth, begin + cut.split_depth));
  }
}

// ---- the producer
// One part of an operand. i: its first row or column of C
template <bool along_depth, int width>
__device__ inline void copy_part(const TensorMap* map, int64_t i, int64_t k, int part, int member, uint16_t* to,
                                 Barrier& barrier) {
  if constexpr (along_depth) {
    copy_box(to, map, int(k), int(i), part, member, barrier);
  } else {
    DLCORE_UNROLL(4)
    for (int j = 0; j < width; j += SWIZZLED_ROW) {
      copy_box(to + j * DEPTH, map, int(i) + j, int(k), part, member, barrier);
    }
  }
}

template <Role role, class C>
__device__ inline void produce(const Instruction& in, const TermsCut& cut, const TensorMap* maps, Memory<C>& memory) {
  const int members[] = {in.operands[0].member_stride != 0 ? int(blockIdx.y) : 0,
                         in.operands[1].member_stride != 0 ? int(blockIdx.y) : 0};
  acquire_map(&maps[0]), acquire_map(&maps[1]);
  Turn<C> turn;
  for_tiles<C>(in, cut, [&](const TilePlace&, int64_t row, int64_t col, int64_t begin, int64_t end) {
    DLCORE_UNROLL(1)
    for (int64_t k = begin; k < end; k += DEPTH, turn.next()) {
      StageParts<C>& stage = memory.stages[turn.stage];
      Barrier& full = memory.full[turn.stage];
      wait_barrier(memory.empty[turn.stage], turn.parity ^ 1);
      arrive_expecting(full, int(sizeof stage));
      DLCORE_UNROLL(3)
      for (int part = 0; part < C::parts; ++part) {
        copy_part<role != Role::tn, C::rows>(&maps[0], row, k, part, members[0], stage.a[part], full);
        copy_part<role == Role::nt, C::cols>(&maps[1], col, k, part, members[1], stage.b[part], full);
      }
    }
  });
}

// ---- the consumers
template <class C>
struct Sums {
  float v[C::cols / 8][4];
};

// The descriptor of the operand from row or column i of the tile and depth k of the stage on.
template <bool along_depth>
__device__ inline uint64_t matrix_at(const uint16_t* tile, int i, int k) {
  const uint16_t* from = tile + (along_depth ? i * DEPTH + k : i * DEPTH + k * SWIZZLED_ROW);
  return describe_matrix(shared_address(from), along_depth ? 16 : 2 * SWIZZLED_ROW * DEPTH);
}

// sums += one part of A times one of B over the depth [begin, end) of a stage; = where it adds to nothing
template <Role role, class C>
__device__ inline void multiply_parts(const StageParts<C>& stage, int a, int b, bool adds, Sums<C>& sums, int begin = 0,
                                      int end = DEPTH) {
  const int row = int(threadIdx.x) / GROUP * GROUP_ROWS;
  DLCORE_UNROLL(4)
  for (int k = begin; k < end; k += STEP) {
    multiply_add<role == Role::tn, role != Role::nt>(sums.v, matrix_at<role != Role::tn>(stage.a[a], row, k),
                                                     matrix_at<role == Role::nt>(stage.b[b], 0, k), adds || k > begin);
  }
}

template <class C>
__device__ inline void add(const Sums<C>& from, Sums<C>& to) {
  DLCORE_UNROLL(128)
  for (int i = 0; i < C::cols / 2; ++i) to.v[i / 4][i % 4] += from.v[i / 4][i % 4];
}

// What large terms and small ones add up to, each from zero.
template <Role role, class C>
__device__ inline void multiply_stage(const StageParts<C>& stage, Sums<C>& part, Sums<C>& sums) {
  constexpr int large = C::parts == 3 ? DEPTH / 2 : DEPTH;
  DLCORE_UNROLL(2)
  for (int k = 0; k < DEPTH; k += large) {
    fence_sums();
    multiply_parts<role>(stage, H, H, false, part, k, k + large);
    commit_products();
    wait_products<0>();
    add(part, sums);
  }
  fence_sums();
  if constexpr (C::parts == 3) {
    multiply_parts<role>(stage, L, H, false, part);
    multiply_parts<role>(stage, M, M, true, part);
    multiply_parts<role>(stage, H, L, true, part);
  }
  multiply_parts<role>(stage, M, H, C::parts == 3, part);
  multiply_parts<role>(stage, H, M, true, part);
  commit_products();
  wait_products<0>();
  add(part, sums);
}

// A warp has read a stage.
__device__ inline void release(Barrier& empty) {
  if (lane_of() == 0) arrive(empty);
}

template <Role role, class C>
__device__ inline void multiply(int64_t begin, int64_t end, Memory<C>& memory, Turn<C>& turn, Sums<C>& sums) {
  if constexpr (C::terms > 1) {
    Sums<C> part = {};
    DLCORE_UNROLL(1)
    for (int64_t k = begin; k < end; k += DEPTH, turn.next()) {
      wait_barrier(memory.full[turn.stage], turn.parity);
      multiply_stage<role>(memory.stages[turn.stage], part, sums);
      release(memory.empty[turn.stage]);
    }
  } else {
    int read = turn.stage;  // the stage before, once its products are done
    DLCORE_UNROLL(1)
    for (int64_t k = begin; k < end; k += DEPTH, turn.next()) {
      wait_barrier(memory.full[turn.stage], turn.parity);
      fence_sums();
      multiply_parts<role>(memory.stages[turn.stage], H, H, true, sums);
      commit_products();
      wait_products<1>();
      if (k > begin) release(memory.empty[read]);
      read = turn.stage;
    }
    wait_products<0>();
    release(memory.empty[read]);
  }
}

// Tile by tile of the chain; a warpgroup has one row of them.
template <class C>
__device__ inline void finish(const Instruction& in, const TermsCut& cut, const TilePlace& place, const Sums<C>& sums,
                              Memory<C>& memory) {
  constexpr int across = C::cols / int(TILE), fragments = int(TILE) / 8;
  DLCORE_UNROLL(1)
  for (int i = 0; i < GROUPS * across; ++i) {
    Tile t = tile_at(in, place.down * C::rows + i / across * TILE, place.across * C::cols + i % across * TILE);
    sync_chain();
    DLCORE_UNROLL(32)
    for (int j = 0; j < C::cols / 8; ++j) {
      if (int(threadIdx.x) / GROUP * across + j / fragments != i) continue;
      spread_fragment(sums.v[j], int(threadIdx.x) % GROUP / WARP * 16, j % fragments * 8, memory.spread);
    }
    sync_chain();
    finish_spread(in, cut, place.split, memory.spread, t, memory.chain);
  }
}

template <Role role, class C>
__device__ inline void consume(const Instruction& in, const TermsCut& cut, Memory<C>& memory) {
  Turn<C> turn;
  for_tiles<C>(in, cut, [&](const TilePlace& place, int64_t, int64_t, int64_t begin, int64_t end) {
    Sums<C> sums = {};
    multiply<role>(begin, end, memory, turn, sums);
    finish(in, cut, place, sums, memory);
  });
}

template <class C>
__device__ inline void init_barriers(Memory<C>& memory) {
  for (int s = 0; s < C::stages; ++s) {
    init_barrier(memory.full[s], 1);
    init_barrier(memory.empty[s], THREADS / WARP);
  }
  publish_barriers();
}

}  // namespace

template <Role role, int terms, int tile>
__global__ void __launch_bounds__(THREADS + GROUP, 1)
    wgmma_kernel(const Instruction in, const TermsCut cut, const TensorMap* maps) {
  typedef Config<terms, tile> C;
  Memory<C>& memory = shared_memory<Memory<C>>();
  if (threadIdx.x == 0) init_barriers(memory);
  __syncthreads();
  if (threadIdx.x >= THREADS) {
    give_registers<PRODUCER_REGISTERS>();
    if (threadIdx.x == THREADS) produce<role>(in, cut, maps, memory);
  } else {
    take_registers<CONSUMER_REGISTERS>();
    consume<role>(in, cut, memory);
  }
}

// One part of a member at a time, in boxes of 64 columns: rows of C and of B^T, or stages of the depth.
static TensorMap map_of(const View& view, bool along_depth, int64_t width, int64_t members) {
  const int64_t row = 2 * pitch_of(view), part = view.rows * row, all = view.ld * part;
  return device_tensor_map(view.offset, {view.cols, view.rows, view.ld, view.member_stride > 0 ? members : 1},
                           {row, part, view.member_stride > 0 ? view.member_stride : all},
                           {SWIZZLED_ROW, along_depth ? width : DEPTH, 1, 1});
}

static std::vector<TensorMap> maps(const Instruction& in, const View* operands, int32_t members) {
  const TileSize& tile = WGMMA.tiles[cut_of<WGMMA>(in).tile];
  return {map_of(operands[0], role_of(in) != Role::tn, tile.rows, members),
          map_of(operands[1], role_of(in) == Role::nt, tile.cols, members)};
}

template <int terms, int tile>
static void launch_wgmma(const Launch& l, const TermsCut& c) {
  static_assert(sizeof(Memory<Config<terms, tile>>) <= 227 * 1024, "what a block may have");
  void (*const kernels[])(Instruction, TermsCut, const TensorMap*) = {
      wgmma_kernel<Role::nn, terms, tile>, wgmma_kernel<Role::nt, terms, tile>, wgmma_kernel<Role::tn, terms, tile>};
  const int64_t blocks = min(blocks_of(c), ceil_div(device_multiprocessors(), l.members));
  launch_kernel(kernels[int(role_of(*l.instruction))], l, blocks, THREADS + GROUP, sizeof(Memory<Config<terms, tile>>),
                c, l.maps);
}

static void launch(const Launch& l, int32_t phase) {
  const TermsCut c = cut_of<WGMMA>(*l.instruction);
  if (phase > 0) return launch_later(l, splits_of(c), phase);
  switch (terms_of(*l.instruction)) {
    case 1:
      return c.tile == 2 ? launch_wgmma<1, 2>(l, c) : c.tile == 1 ? launch_wgmma<1, 1>(l, c) : launch_wgmma<1, 0>(l, c);
    case 3:
      return c.tile == 1 ? launch_wgmma<3, 1>(l, c) : launch_wgmma<3, 0>(l, c);
    default:
      return c.tile == 1 ? launch_wgmma<6, 1>(l, c) : launch_wgmma<6, 0>(l, c);
  }
}

extern const Entry wgmma_product_entry = {
    {terms_phases<WGMMA>, terms_items<WGMMA>, terms_scratch<WGMMA>, nullptr}, launch, maps};

DLCORE_END
