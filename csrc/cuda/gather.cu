// SPDX-License-Identifier: Apache-2.0
// gather: rows of the caller's data set, of any type, stride and order, converted to real; the chain follows.
// gather_index: the same for integers (class numbers), to i32. Bound by reading rows at random places.
#include "../math/storage.h"
#include "chain.cuh"

DLCORE_BEGIN

// operands of both: data, order?, counters
struct Source {
  const View* view;
  const char* data;
  const int64_t* order;  // (1, n)
  int64_t position;      // of row 0 of the batch
  int64_t rows;          // of the order, else of the data
};

// Positions come from a table in memory that the caller owns: whatever stands there, no row outside is read.
__device__ static int64_t clamp(int64_t i, int64_t n) { return max(0, min(i, n - 1)); }

__device__ static Source open_source(const Instruction& in) {
  const View* operands = in.operands;
  const int64_t* order = at<const int64_t>(operands[1]);
  const int64_t rows = order ? operands[1].rows * operands[1].cols : operands[0].rows;
  const int64_t position = at<const int64_t>(operands[2])[counter_position];
  return {&operands[0], at<const char>(operands[0]), order, min(position, rows), rows};
}

// The row of the data that row `row` of the batch is.
__device__ static int64_t row_of(const Source& s, int64_t row) {
  const int64_t at = clamp(s.position + row, s.rows);
  return s.order ? clamp(s.order[at], s.view->rows) : at;
}

// f(pointer to the data in its type)
template <class F>
__device__ static void with_type(const Source& s, F f) {
  switch (s.view->dtype) {
    case DType::f32:
      return f(reinterpret_cast<const float*>(s.data));
    case DType::f64:
      return f(reinterpret_cast<const double*>(s.data));
    case DType::f16:
      return f(reinterpret_cast<const Half16*>(s.data));
    case DType::bf16:
      return f(reinterpret_cast<const Brain16*>(s.data));
    case DType::u8:
      return f(reinterpret_cast<const uint8_t*>(s.data));
    case DType::i8:
      return f(reinterpret_cast<const int8_t*>(s.data));
    case DType::u16:
      return f(reinterpret_cast<const uint16_t*>(s.data));
    case DType::i16:
      return f(reinterpret_cast<const int16_t*>(s.data));
    case DType::u32:
      return f(reinterpret_cast<const uint32_t*>(s.data));
    case DType::i32:
      return f(reinterpret_cast<const int32_t*>(s.data));
    case DType::u64:
      return f(reinterpret_cast<const uint64_t*>(s.data));
    case DType::i64:
      return f(reinterpret_cast<const int64_t*>(s.data));
  }
}

// The first n <= 4 elements of a row; the others are 0.
template <class T>
__device__ static void read4(const T* row, int64_t step, int n, real (&x)[SIDE]) {
  DLCORE_UNROLL(4)
  for (int c = 0; c < SIDE; ++c) x[c] = c < n ? real(row[c * step]) : real(0);
}

__device__ static void read4(const real* row, int64_t step, int n, real (&x)[SIDE]) {
  step == 1 ? load4(row, n, x) : read4<real>(row, step, n, x);
}

__global__ void __launch_bounds__(THREADS, BLOCKS) gather_kernel(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  const Source source = open_source(in);
  int64_t from[SIDE];
  for (int r = 0; r < SIDE; ++r) from[r] = r < t.rows ? row_of(source, t.row + r) : 0;
  with_type(source, [&](auto data) {
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) {
      const int64_t step = source.view->step;
      read4(data + from[r] * source.view->ld + t.col * step, step, r < t.rows ? t.cols : 0, t.v[r]);
    }
  });
  run_chain(in, t, shared_memory<ChainMemory>());
}

static int64_t items(const Instruction& in, int32_t phase) { return phase == 0 ? tile_items(in) : merge_items(in); }

static void launch_gather(const Launch& l, int32_t phase) {
  if (phase == 1) return launch_merge(l);
  launch_kernel(gather_kernel, l, items(*l.instruction, 0), THREADS, sizeof(ChainMemory));
}

__global__ void __launch_bounds__(THREADS) gather_index_kernel(const Instruction in) {
  const View& out = in.operands[3];
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x, row = i / out.cols, col = i % out.cols;
  if (row >= out.rows) return;
  const Source source = open_source(in);
  const int64_t from = row_of(source, row) * source.view->ld + col * source.view->step;
  with_type(source, [&](auto data) { at<int32_t>(out)[row * out.ld + col] = int32_t(data[from]); });
}

static int64_t index_items(const Instruction& in, int32_t) { return ceil_div(in.rows * in.cols, THREADS); }

static void launch_index(const Launch& l, int32_t) {
  launch_kernel(gather_index_kernel, l, index_items(*l.instruction, 0), THREADS, 0);
}

extern const Entry gather_entry = {{chained_phases, items, chain_scratch, nullptr}, launch_gather};
extern const Entry gather_index_entry = {{one_phase, index_items, no_scratch, nullptr}, launch_index};

DLCORE_END
