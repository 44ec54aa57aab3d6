// SPDX-License-Identifier: Apache-2.0
// C (m, n) = A B, A B^T or A^T B, then its chain. Bound by the FMA units; with few rows by reading B.
//
// An item is a block of C: a chunk of rows, a block of columns and, where C is small and the depth long, a split of the
// depth. Its depth is cut into blocks of at most DEPTH, each summed in registers and added to C in order. All cuts are
// functions of the role and the shape, so threads, instruction sets with FMA and layouts give the same bits.
#include "../chain.h"
#include "stream.h"

DLCORE_BEGIN

constexpr int64_t DEPTH_ALIGN = 16;

// Columns of a block; half of them cost nothing (128x512x784, AVX2: 83 GFLOP/s both) and make more items.
constexpr int64_t COLUMNS = 128, WIDEST_COLUMNS = 512, MANY_ITEMS = 32;

// The depth is split to have so many items, each of so much depth and so many multiplications (5 us).
constexpr int64_t SPLIT_ITEMS = 16, SPLIT_DEPTH = 512, SPLIT_WORK = 1 << 18;
constexpr int64_t ALONE_WORK = 5;     // a single block of so many times that is split in two, however deep
constexpr int64_t STREAM_DEPTH = 64;  // of a split, where few rows read a far B

// A weight gradient is split by the depth alone, so that all of a net are cut at the same rows: into so many splits, of
// depth blocks that sections can be cut into, unless C has more elements (its splits would not stay in cache) or adding
// the splits would read more than an eighth of what the product reads.
constexpr int64_t GRADIENT_SPLITS = 32, GRADIENT_BLOCK = 128, GRADIENT_SIZE = 1 << 16;

// An operand of fewer bytes is not fetched ahead: it stays in the second-level cache or close to it. Without and with,
// AVX2, one core: 1024x1024x128 (B 0.5 MB) 84 and 82 GFLOP/s; 128x512x784 (1.6 MB) 82 and 84; two cores: 256x2000x1000
// (8 MB) 69 and 80; 2048x2048x2048 54 and 77.
constexpr int64_t FAR_BYTES = 1 << 20;

// How a product is cut.
struct Cut {
  int64_t m, n, k;
  int64_t columns;                // of a block
  int64_t column_blocks, blocks;  // of a chunk, in all
  int64_t splits, split_depth;
  int64_t depth;    // of a depth block
  bool along_rows;  // are the splits those that sections can be cut into
  bool far_a, far_b, streams;
  bool strip_by_strip;  // an item goes through all splits of its columns
  int64_t slots;        // of kept strips; a column block goes to the slot of its number modulo slots
  bool by_columns;      // items that follow each other have the same columns, else the same rows
};

struct Workspace {
  Buffers buffers;
  alignas(ALIGNMENT) real c[CHUNK_ROWS * WIDEST_COLUMNS];
  alignas(ALIGNMENT) real columns[2 * AFFINES * WIDEST_COLUMNS];
  real sum[STREAM_SIZE];
};
static_assert(sizeof(Workspace) <= WORKSPACE_BYTES && STREAM_SIZE <= CHUNK_ROWS * COLUMNS, "");

static Role role(const Instruction& in) { return Role(int(in.numbers[0])); }

// Of a split, or 0 for none.
static int64_t gradient_depth(int64_t m, int64_t n, int64_t k) {
  const int64_t depth = max(SPLIT_DEPTH, round_up(ceil_div(k, GRADIENT_SPLITS), GRADIENT_BLOCK));
  return 2 * k >= 3 * depth && m * n <= GRADIENT_SIZE && depth * (m + n) >= 8 * m * n ? depth : 0;
}

// The order of items, and what they keep. Where strips of a block of columns can be kept, and its row chunks follow
// each other, B is copied once: 1024x1024x1024, AVX2, 1.03 times as fast. Else of the smaller operand more is read
// again. A^T is copied for each row chunk, so where the strips of all columns can be kept its items follow each other.
static void order(const Instruction& in, Cut* c) {
  const bool again = c->blocks > c->column_blocks;  // are there other row chunks
  const bool keeps = again && in.operands[1].layout == Layout::row_major && c->splits == 1 && !c->streams;
  const bool columns_of_a = role(in) == Role::tn;
  const int64_t slots = keeps ? min(SLOTS, KEPT / (c->k * c->columns)) : 0;
  const bool all = slots >= c->column_blocks, once = slots > 0 && !all && !columns_of_a;
  c->by_columns = !c->along_rows && (c->n > c->m || once) && !(all && columns_of_a);
  c->slots = c->by_columns ? min(slots, 1) : all ? c->column_blocks : 0;
}

// Columns of a block of A^T B of several depth blocks, for each of which A^T is copied again: as many as leave items
// enough, and room for the strips of B where row chunks follow each other. 1024x1024x4096, AVX2: 512 columns take 0.9
// of the time of 128.
static int64_t wider(const Cut& c, int64_t chunks) {
  int64_t columns = c.columns;
  const bool keeps = c.n > c.m && c.k * columns <= KEPT;
  while (columns < min(c.n, WIDEST_COLUMNS) && chunks * ceil_div(c.n, 2 * columns) >= MANY_ITEMS &&
         !(keeps && 2 * c.k * columns > KEPT)) {
    columns *= 2;
  }
  return columns;
}

// Few rows and far strips of B, with columns enough for SPLIT_ITEMS.
static bool is_strip_by_strip(const Instruction& in, const Cut& c) {
  const bool strips = in.operands[1].layout == Layout::strips && role(in) != Role::tn;
  return strips && c.far_b && streams_strips(c.m) && c.n >= SPLIT_ITEMS * COLUMN_ALIGN;
}

static Cut cut(const Instruction& in) {
  Cut c = {};
  const View& a = in.operands[0];
  c.m = in.rows, c.n = in.cols, c.k = role(in) == Role::tn ? a.rows : a.cols;
  c.far_a = c.m * c.k * int64_t(sizeof(real)) >= FAR_BYTES;
  c.far_b = c.n * c.k * int64_t(sizeof(real)) >= FAR_BYTES;
  c.streams = c.m <= STREAM_ROWS && c.far_b;
  const int64_t chunks = ceil_div(c.m, CHUNK_ROWS);
  c.columns = chunks * ceil_div(c.n, COLUMNS) < MANY_ITEMS ? COLUMNS / 2 : COLUMNS;
  if (role(in) == Role::tn && c.k > DEPTH) c.columns = wider(c, chunks);
  if (c.streams) c.columns = min(STREAM_SIZE / c.m / COLUMN_ALIGN * COLUMN_ALIGN, round_up(c.n, COLUMN_ALIGN));
  c.column_blocks = ceil_div(c.n, c.columns);
  c.blocks = chunks * c.column_blocks;
  c.split_depth = role(in) == Role::tn ? gradient_depth(c.m, c.n, c.k) : 0;
  c.along_rows = c.split_depth > 0;
  if (!c.along_rows) {
    const int64_t work = c.m * c.n * c.k / SPLIT_WORK, least = c.blocks == 1 && work >= ALONE_WORK ? 2 : 1;
    const int64_t most = c.streams ? c.k / STREAM_DEPTH : min(max(c.k / SPLIT_DEPTH, least), work);
    const int64_t splits = min(ceil_div(SPLIT_ITEMS, c.blocks), most);
    c.split_depth = round_up(ceil_div(c.k, max(1, splits)), DEPTH_ALIGN);
  }
  c.splits = ceil_div(c.k, c.split_depth);
  const int64_t blocks = ceil_div(c.split_depth, c.along_rows ? GRADIENT_BLOCK : DEPTH);
  c.depth = round_up(ceil_div(c.split_depth, blocks), DEPTH_ALIGN);
  c.strip_by_strip = is_strip_by_strip(in, c);
  if (c.strip_by_strip) {
    c.columns = COLUMN_ALIGN, c.blocks = c.column_blocks = ceil_div(c.n, COLUMN_ALIGN);
    c.splits = 1;
  }
  order(in, &c);
  return c;
}

static Operands operands(const Call& call) {
  const Instruction& in = *call.instruction;
  const View *a = &in.operands[0], *b = &in.operands[1];
  return {role(in), a, b, at<const real>(call, *a), at<const real>(call, *b)};
}

// The first depth block of an item.
static Area first_area(const Cut& cut, int64_t item) {
  const int64_t block = item % cut.blocks, split = item / cut.blocks, chunks = cut.blocks / cut.column_blocks;
  Area area = {};
  area.row = (cut.by_columns ? block % chunks : block / cut.column_blocks) * CHUNK_ROWS;
  area.col = (cut.by_columns ? block / chunks : block % cut.column_blocks) * cut.columns;
  area.rows = min(CHUNK_ROWS, cut.m - area.row);
  area.cols = min(cut.columns, cut.n - area.col);
  area.k = split * cut.split_depth;
  area.depth = min(cut.depth, cut.k - area.k);
  return area;
}

// Elements of a block in scratch.
static int64_t partial_size(const Cut& cut) { return min(CHUNK_ROWS, cut.m) * cut.columns; }

// The split of a block, (rows, columns), after the partial results of the chain.
static real* partial(const Call& call, const Cut& cut, int64_t item) {
  char* own = at<char>(call, call.instruction->scratch) + chain_scratch(*call.instruction);
  return reinterpret_cast<real*>(own) + item * partial_size(cut);
}

// The place of the strips of an area whose column block is in a slot, or goes there.
static Strips strips_at(const Cut& cut, const Area& area, Buffers* buffers) {
  if (cut.slots == 0) return {};
  const int64_t block = area.col / cut.columns, slot = block % cut.slots;
  return {buffers->b + slot * cut.k * cut.columns + area.k * STRIP, cut.k * STRIP, buffers->col[slot] == block, true};
}

// Whether the strips of an item are there; if not, they are after it. (Of the last chunk, which may be so short that it
// reads B in place, no chunk has need.)
static bool has_strips(const Cut& cut, const Area& area, Buffers* buffers) {
  if (cut.slots == 0) return false;
  const int64_t block = area.col / cut.columns;
  int64_t& slot = buffers->col[block % cut.slots];
  const bool made = slot == block;
  slot = block;
  return made;
}

static void run_strips(const Call& call, const Cut& cut, int64_t item, Workspace* w) {
  const Area area = first_area(cut, item);
  const Block block = {w->c, cut.columns, area.row, area.col, area.rows, area.cols};
  stream_strips(operands(call), block, {cut.k, cut.split_depth, cut.depth}, w->sum);
  run_chain(call, block);
}

// last: whether the thread has no item after it
static void run_item(const Call& call, const Cut& cut, int64_t item, bool last, Workspace* w) {
  if (cut.strip_by_strip) return run_strips(call, cut, item, w);
  const Operands o = operands(call);
  const bool streams = cut.streams && o.role != Role::nt && o.b->layout == Layout::row_major;
  Area area = first_area(cut, item);
  int64_t end = min(cut.k, area.k + cut.split_depth);
  Block block = {w->c, cut.columns, area.row, area.col, area.rows, area.cols};
  if (cut.splits == 1 && !streams && cut.column_blocks == 1 && cut.depth >= cut.k) block = at_last_store(call, block);
  Tile t = {};
  t.c = cut.splits > 1 ? partial(call, cut, item) : block.v, t.ldc = block.ld;
  const bool part = cut.along_rows && call.row_end > 0, made = has_strips(cut, area, &w->buffers);
  const FinishStages stages = cut.splits == 1 && !cut.streams ? finish_stages(*call.instruction) : FinishStages{};
  const Finish finish = finish_of(call, stages, block, w->columns, WIDEST_COLUMNS);
  if (part) {
    t.sum = call.row_begin > area.k ? Sum::add : Sum::assign;
    area.k = call.row_begin, end = call.row_end;
    area.depth = min(cut.depth, end - area.k);
  }
  while (area.depth > 0) {
    Area next = area;
    next.k += area.depth, next.depth = min(cut.depth, end - next.k);
    if (streams) {
      stream(o, area, t, w->sum, &w->buffers);
    } else {
      const bool deeper = next.depth > 0;
      const Area then = deeper ? next : last ? Area{} : first_area(cut, item + 1);
      const bool new_a = deeper || then.row != area.row;
      const bool new_b = !(deeper ? made : strips_at(cut, then, &w->buffers).made);
      const bool far_b = !part && cut.far_b && !cut.streams;
      Strips kept = strips_at(cut, area, &w->buffers);
      kept.made = made;
      const AreaFetches fetched = {!part && cut.far_a && new_a ? ahead_a(o, then) : Ahead{}, far_b && !made,
                                   far_b && new_b ? ahead_b(o, then) : Ahead{}};
      if (!deeper && stages.all > 0) t.finish = &finish;
      multiply(o, area, t, fetched, kept, &w->buffers);
    }
    t.sum = Sum::add;
    area = next;
  }
  if (cut.splits == 1) run_chain(call, block, stages.all);
}

// Adds the splits of a block in order and runs its chain.
static void sum_splits(const Call& call, const Cut& cut, int64_t block, Workspace* w) {
  const Area area = first_area(cut, block);
  const real* first = partial(call, cut, block);
  for (int64_t i = 0; i < area.rows * cut.columns; i += LANES) {
    vec sum = load(first + i);
    for (int64_t s = 1; s < cut.splits; ++s) sum += load(first + s * cut.blocks * partial_size(cut) + i);
    store(w->c + i, sum);
  }
  run_chain(call, Block{w->c, cut.columns, area.row, area.col, area.rows, area.cols});
}

static int32_t phases(const Instruction& in) { return 1 + (cut(in).splits > 1) + chain_reduces(in); }

static int64_t items(const Instruction& in, int32_t phase) {
  const Cut c = cut(in);
  if (phase == 0) return c.blocks * c.splits;
  return phase == 1 && c.splits > 1 ? c.blocks : merge_items(in);
}

static int64_t scratch(const Instruction& in) {
  const Cut c = cut(in);
  const int64_t partials = c.splits > 1 ? c.blocks * c.splits * partial_size(c) : 0;
  return chain_scratch(in) + partials * int64_t(sizeof(real));
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  Cut c = *static_cast<const Cut*>(call.prepared);
  Workspace* w = reinterpret_cast<Workspace*>(workspace);
  if (phase > 0 && (phase > 1 || c.splits == 1)) return merge_chain(call, begin, end);
  if (call.row_end > 0) c.by_columns = false, c.slots = 0;  // one row chunk, all columns
  w->buffers.depth = 0;
  for (int64_t i = 0; i < c.slots; ++i) w->buffers.col[i] = -1;
  for (int64_t i = begin; i < end; ++i) {
    if (phase == 0) {
      run_item(call, c, i, i + 1 == end && !call.goes_on, w);
    } else {
      sum_splits(call, c, i, w);
    }
  }
}

static int64_t depth(const Instruction& in) {
  const Cut c = cut(in);
  return c.along_rows ? c.split_depth : c.splits > 1 || c.strip_by_strip ? NEITHER : 0;
}

// Its divisions take 4 % of a product of 32 x 32 x 32.
static void prepare(const Instruction& in, void* to) {
  static_assert(sizeof(Cut) <= PREPARED_BYTES, "");
  *static_cast<Cut*>(to) = cut(in);
}

#if DLCORE_UNIT

static const KernelEntry fma_product_entry = {phases, items, scratch, run, depth, prepare};
extern const KernelEntry unit_product_entry;  // unit/product.cpp

static const KernelEntry& entry_of(const Instruction& in) {
  return in.number_count > 1 && in.numbers[1] > 0 ? unit_product_entry : fma_product_entry;
}

const KernelEntry product_entry = {[](const Instruction& in) { return entry_of(in).phases(in); },
                                   [](const Instruction& in, int32_t phase) { return entry_of(in).items(in, phase); },
                                   [](const Instruction& in) { return entry_of(in).scratch(in); },
                                   [](const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
                                     entry_of(*call.instruction).run(call, phase, begin, end, workspace);
                                   },
                                   [](const Instruction& in) { return entry_of(in).depth(in); },
                                   [](const Instruction& in, void* to) {
                                     if (entry_of(in).prepare != nullptr) entry_of(in).prepare(in, to);
                                   }};

// From so many rows and columns together, m n / (m + n), and from so much depth, the unit pays for packing A and B.
// Computed from 0.5 ns to pack an element of a plane and the rates 226 (multiply-adds), 430, 815 and 1800 GFLOP/s of a
// prototype on one core of a Sapphire Rapids; to be measured on a machine with AMX before they are believed.
constexpr int64_t LEAST_DEPTH = 64;
static int64_t least_share(int32_t terms) { return terms == 6 ? 360 : terms == 3 ? 156 : 65; }

int32_t product_terms(Precision precision, int64_t m, int64_t n, int64_t k) {
  const int32_t terms = precision == Precision::float32 ? 6 : precision == Precision::bf16x3 ? 3 : 1;
  return k >= LEAST_DEPTH && m / (double(m) + double(n)) * n >= least_share(terms) ? terms : 0;
}

#else

const KernelEntry product_entry = {phases, items, scratch, run, depth, prepare};

int32_t product_terms(Precision, int64_t, int64_t, int64_t) { return 0; }

#endif

DLCORE_END
