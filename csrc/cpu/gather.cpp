// SPDX-License-Identifier: Apache-2.0
// gather: rows of the caller's data set, of any type, stride and order, converted to real; the chain follows.
// gather_index: the same for integers (class numbers), to i32. Bound by the latency of rows at random places in memory,
// so rows ahead are prefetched (784 columns of u8, in random order: 770 -> 650 ns a row).
#include "chain.h"

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
static int64_t clamp(int64_t i, int64_t n) { return max(0, min(i, n - 1)); }

static Source open_source(const Call& call) {
  const View* operands = call.instruction->operands;
  const int64_t* order = at<const int64_t>(call, operands[1]);
  const int64_t rows = order ? operands[1].rows * operands[1].cols : operands[0].rows;
  const int64_t position = at<const int64_t>(call, operands[2])[counter_position];
  return {&operands[0], at<const char>(call, operands[0]), order, min(position, rows), rows};
}

// Element (row of the batch, column) of the data.
static const char* element(const Source& s, int64_t row, int64_t col) {
  const int64_t at = clamp(s.position + row, s.rows);
  const int64_t from = s.order ? clamp(s.order[at], s.view->rows) : at;
  return s.data + (from * s.view->ld + col * s.view->step) * size_of(s.view->dtype);
}

static void prefetch(const Source& s, int64_t row, int64_t col, int64_t cols) {
  const char* p = element(s, row, col);
  for (int64_t byte = 0; byte < cols * size_of(s.view->dtype); byte += 64) __builtin_prefetch(p + byte);
}

static int32_t phases(const Instruction& in) { return chain_reduces(in) ? 2 : 1; }

static int64_t items(const Instruction& in, int32_t phase) { return phase == 0 ? block_items(in) : merge_items(in); }

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  constexpr int64_t AHEAD = 8;  // rows
  if (phase == 1) return merge_chain(call, begin, end);
  const Source source = open_source(call);
  const int64_t rows = call.instruction->rows;
  run_blocks(call, begin, end, workspace, [&](const Block& b) {
    for (int64_t r = 0; r < b.rows; ++r) {
      if (b.row + r + AHEAD < rows) prefetch(source, b.row + r + AHEAD, b.col, b.cols);
      load_as_real(source.view->dtype, element(source, b.row + r, b.col), source.view->step, b.cols, b.v + r * b.ld);
    }
  });
}

static int32_t one_phase(const Instruction&) { return 1; }
static int64_t chunks(const Instruction& in, int32_t) { return ceil_div(in.rows, CHUNK_ROWS); }
static int64_t no_scratch(const Instruction&) { return 0; }

static void run_index(const Call& call, int32_t, int64_t begin, int64_t end, char*) {
  const Source source = open_source(call);
  const View& out = call.instruction->operands[3];
  int32_t* to = at<int32_t>(call, out);
  for (int64_t r = begin * CHUNK_ROWS; r < min(out.rows, end * CHUNK_ROWS); ++r)
    load_as(source.view->dtype, element(source, r, 0), source.view->step, out.cols, to + r * out.ld);
}

extern const KernelEntry gather_entry = {phases, items, chain_scratch, run};
extern const KernelEntry gather_index_entry = {one_phase, chunks, no_scratch, run_index};

DLCORE_END
