// SPDX-License-Identifier: Apache-2.0
// The contract between the planner (Python) and the kernels (cpu/, cuda/): plain data and a few methods.
//
// A View is a block of memory without a pointer; a Stage is one step of a chain; an Instruction is a kernel with
// its views, chain and numbers; a Section is a run of instructions over one outer range without a barrier inside;
// a Recording is a list of sections that can be replayed over any arenas of the right sizes.
#pragma once
#include <cstdint>

namespace dlcore {

// Reductions over rows are partial results of this many rows, merged in row order: the same bits at any thread count.
constexpr int64_t CHUNK_ROWS = 64;
// Column blocks start at multiples of this (dropout draws 8 columns at a time).
constexpr int64_t COLUMN_ALIGN = 64;
// Private memory of one thread: while it runs a kernel, and for what lives inside a block of a section.
constexpr int64_t WORKSPACE_BYTES = 1 << 20, LOCAL_BYTES = 1 << 20;
constexpr int32_t LOCAL_ARENA = 255;  // the arena of the latter: never among the bases given to run
constexpr int64_t ALIGNMENT = 64;     // bytes, of arenas and of every placed value

enum class DType : int32_t { f32, f64, f16, bf16, u8, i8, u16, i16, u32, i32, u64, i64 };

// row_major: element (r, c) at r * ld + c * step.
// strips:    a (k, n) operand of a product in strips of ld columns, [ceil(n / ld)][k][ld], short strips padded with
// zeros.
// planes:    a (k, n) operand of a product as the sum of ld bf16 parts, in the order of a matrix unit:
// [ceil(n / PLANE_STEP)][ceil(k / PLANE_STEP)][ld][2][16][16][2], the last three pairs of rows, columns, rows of a
// pair; absent elements are zero.
// parts:     a matrix as the sum of ld bf16 parts, each row major: [ld][rows][cols rounded up to PART_ALIGN], zeros
// behind the last column. Either operand of a product, in every role; begins at a multiple of 16 bytes, as each row
// does. One part, of bf16 or f16, may also stand for a value that is read and stored in 16 bits.
enum class Layout : int32_t { row_major, strips, planes, parts };
constexpr int64_t PLANE_STEP = 32, PART_ALIGN = 8;
constexpr int64_t MASK_ALIGN = 16;  // columns whose bits are whole bytes in every instruction set

struct View {
  int32_t arena;  // index into the bases given to run; -1: absent
  DType dtype;
  Layout layout;
  int32_t members;        // outermost dimension: nets trained in one plan, 1 normally
  int64_t offset;         // bytes from the base
  int64_t member_stride;  // bytes
  int64_t rows, cols;
  int64_t ld;    // elements
  int64_t step;  // elements; 1 except where a caller's array is read in place
};

enum class StageKind : int32_t {
  affine,         // v = v * a + b           a, b (1, cols), either may be absent
  affine2,        // v = a v + b operand + c a, b, c (1, cols)
  add,            // v = v + operand
  activate,       // v = f(v)
  activate_grad,  // v = v * f'(operand)     numbers[3] != 0: operand is f's output, else its input
  dropout,        // v = kept ? v / keep : 0 numbers[0] = drop probability; a = counters; on a CPU out? = what is kept,
            //   a bit each, u8 (rows, cols rounded up to MASK_ALIGN / 8), or operand? = such bits, not drawn again
  scale,   // v = v * numbers[0]; on GPUs times the first element of a where it is given
  store,   // out = v, or its parts; numbers[0] != 0: v goes on as the one part that is stored
  sum,     // out (1, cols) = sum over rows of v
  dot,     // out (1, cols) = sum over rows of v * operand
  moments  // out (1, cols) = mean over rows, out2 (1, cols) = sum of squared deviations
};

struct Stage {
  StageKind kind;
  int32_t function;   // Activation, of activate and activate_grad
  int32_t random_op;  // number of the random op in the trace, of dropout
  int32_t unused;
  View operand;                       // (rows, cols)
  View operand_scale, operand_shift;  // (1, cols): the operand is read as operand * scale + shift; absent: as it is
  View a, b, c;                       // (1, cols)
  View out, out2;
  double numbers[4];  // activation constants in 0..2
};

// How products are made, where the real is f32: float32 errs no more than multiply-adds in f32, bf16x3 by at most 1e-5
// and bf16 by 4e-3 of the result's norm, on normal data.
enum class Precision : int32_t { float32, bf16x3, bf16 };
// A product of so many terms sums products of bf16 parts of its operands, of one term of f16 parts too; 0:
// multiply-adds of the real type. The parts of an operand, by terms; 0: no such product.
constexpr int32_t PARTS_OF_TERMS[] = {0, 1, 0, 2, 0, 0, 3};

// Whose kernels make products on a GPU: simt, multiply-adds; mma, bf16 terms on tensor cores (mma.sync), for GPUs of
// compute capability 8.0 or later; wgmma, the same by warpgroups, for 9.0 alone; cublaslt, NVIDIA's library in float32,
// where it is installed; automatic, the best that has passed its tests on a GPU: simt.
enum class Gemm : int32_t { automatic, simt, mma, wgmma, cublaslt };

enum class Role : int32_t { nn, nt, tn };  // C = A B; A B^T; A^T B: forward, input gradient, weight gradient

// Every kernel, in the order of the table in cpu/kernels.h. Operands in brackets; `?` may be absent; `!` in place;
// chain: the value that enters the instruction's chain, of shape (rows, cols).
enum class Kernel : int32_t {
  product,                // [A, B] numbers [role, terms?, gemm?]; chain: C (m, n). B row major, or with role nn, tn
                          // strips of (k, n), of 0 terms, or planes; or, of terms and on GPUs, both in parts
  pointwise,              // [x]; chain: x
  pack,                   // [x, packed, packed2?] numbers [transposed, transposed2]; chain: x. transposed: packs x^T,
                          // but not in parts
  gather,                 // [data, order?, counters]; chain: row order[position + r] of data, converted to real
  gather_index,           // [data, order?, counters, out i32 (rows, cols)]: the same for integers
  moments_finish,         // [mean, m2, gamma, beta, running_mean!?, running_var!?, scale, shift, rstd, center]
                          //   numbers [rows, eps, momentum]; center = -mean * rstd. At evaluation:
                          //   the running mean and variance as mean and m2, rows = 1
  norm_backward_finish,   // [sum, dot, gamma, mean, rstd, a, b, c, dgamma, dbeta] numbers [rows]
  layer_norm,             // [x, gamma?, beta?, mean (rows, 1), rstd (rows, 1)] numbers [eps]; chain: y
  layer_norm_backward,    // [dy, x, gamma?, mean, rstd, dgamma?, dbeta?]; chain: dx
  softmax_cross_entropy,  // [logits, target, weight?, class_weight?, metrics!] numbers [smoothing, gradient]; chain:
                          // dlogits
                          //   target i32 (rows, 1) or real (rows, classes)
  loss,        // [prediction, target (rows, cols), weight?, metrics!] numbers [function, gradient, c0, c1]; chain:
               // dprediction
  grad_scale,  // [metrics, gradients?, out f64 (1, 2), loss_scale!?] numbers [max_norm, ScalingNumbers]: out = {scale,
               // gradient norm}
  update,      // [w!, g!, s1!?, s2!?, grad_scale, hyper, counters, loss_scale?, copies>?] numbers: see UpdateNumbers
               //   copies (1, parts * size of w), on GPUs: of a segment of whole rows of 8, at parts * its offset, the
               //   parts of the new weights
  tick,     // [counters!, metrics!?, grad_scale?, results!?, loss_scale?] numbers [draws, updates, rows]: see Counter
  softmax,  // [x]; chain: softmax of each row of x
  count
};

// metrics: f64 (1, METRICS), summed over the batches since the last tick with results
enum Metric { metric_loss, metric_weight, metric_correct, metric_rows, METRICS = 4 };
// counters: i64 (1, COUNTERS). draws keys the random masks, updates indexes hyper, with skipped results, position the
// order.
enum Counter { counter_draws, counter_updates, counter_position, counter_seed, counter_skipped, COUNTERS = 8 };
// loss_scale: real (1, LOSS_SCALE), on GPUs: what the gradient of the loss is multiplied by, updates in a row without
// an overflow, and whether the last one overflowed and was skipped: weights, states and the count of updates stay.
enum LossScale { loss_scale_value, loss_scale_good, loss_scale_skipped, LOSS_SCALE = 4 };
// rows: what the loss is divided by beside its scale; the others as torch.amp.GradScaler names them
enum ScalingNumbers { scaling_rows = 1, scaling_growth, scaling_backoff, scaling_interval, SCALING_NUMBERS };
// results: f64 (updates, RESULTS), one row an update: the metrics and the gradient norm
enum Result { result_norm = METRICS, RESULTS = 8 };
// hyper: f64 (updates, groups * HYPER): one row an update
enum Hyper {
  hyper_lr,
  hyper_decay,
  hyper_momentum,
  hyper_beta2,
  hyper_eps,
  hyper_correction1,
  hyper_correction2,
  hyper_l2,
  hyper_l1,
  HYPER = 12
};
// numbers of update: rule, value clip (0: none), clear (1: zero the gradient after use), groups, count of segments,
// then SEGMENT numbers for each segment
enum UpdateNumbers { update_rule, update_clip, update_clear, update_groups, update_segments, update_first };
enum SegmentNumbers {
  segment_offset,
  segment_size,
  segment_group,
  segment_decay,
  SEGMENT = 4
};  // elements; decay 0 or 1

struct Instruction {
  Kernel kernel;
  int32_t operand_count, stage_count, number_count;
  int64_t rows, cols;  // of the value that enters the chain
  const View* operands;
  const Stage* chain;
  const double* numbers;
  View scratch;  // bytes as asked by Backend::scratch; absent when none
};

struct Section {
  const Instruction* instructions;
  int32_t count;
  int32_t serial;  // 1: one thread, no barrier
  // 0: instructions run one after another, each cut into its own items. Else blocks of so many rows, a multiple of
  // CHUNK_ROWS, go through the first phases of all instructions without a barrier; the later phases come after.
  int64_t block_rows;
  int64_t row_bytes;  // of the local arena: its views are (rows, cols) with this row stride, and only a block is kept
};

// What a kernel receives: the instruction and where its arenas lie for this member.
struct Call {
  const Instruction* instruction;
  char* const* bases;
  int64_t member;
  int64_t row_begin, row_end;  // of a block of a section: of the value, or of the depth where items are cut along it
  bool goes_on;                // with the items that follow, as far as this thread knows
  const void* prepared;        // by the entry's prepare
};

constexpr int64_t NEITHER = -1;  // of KernelEntry::depth
constexpr int64_t PREPARED_BYTES = 128;

// One kernel of a backend that runs on host threads. Phases are separated by barriers; items of a phase are independent
// and a function of the shapes alone.
struct KernelEntry {
  int32_t (*phases)(const Instruction&);
  int64_t (*items)(const Instruction&, int32_t phase);
  int64_t (*scratch)(const Instruction&);  // bytes
  void (*run)(const Call&, int32_t phase, int64_t begin, int64_t end, char* workspace);
  // Where items of phase 0 are cut along the depth of a product: rows of it that an item takes; 0: all. Else items are
  // chunks of rows, or NEITHER.
  int64_t (*depth)(const Instruction&) = nullptr;
  // What every run would compute again: at most PREPARED_BYTES, aligned as int64_t.
  void (*prepare)(const Instruction&, void* to) = nullptr;
};

// A named formula of math/, and how the planner may use it.
struct Formula {
  const char* name;  // "relu"
  int32_t number;    // activation: 1 when the derivative is a function of the output; rule: state arrays; loss: unused
};

struct Traits {
  const char* name;  // "avx2_f32"
  DType real;
  int32_t lanes;               // reals in a vector
  int32_t strip;               // columns of a strip
  const Formula* activations;  // in the order of their enums
  const Formula* rules;
  const Formula* losses;
  int32_t activation_count, rule_count, loss_count;
  const char* unit;    // that multiplies bf16: "amx", "stand-in", "tensor cores"; nullptr: none
  Layout unit_layout;  // in which it reads operands: planes, B alone, or parts, both
};

struct Recording;  // runtime/recording.h

// A program is a list of (recordings run in order, times).
struct Program {
  const Recording* const* recordings;
  int32_t count;
  int64_t times;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Traits& traits() const = 0;
  virtual bool on_host() const = 0;           // is its memory the host's, which the caller may read and write
  virtual char* allocate(int64_t bytes) = 0;  // ALIGNMENT-aligned, zeroed; throws NoMemory
  virtual void release(char* memory, int64_t bytes) = 0;
  virtual void copy(char* to, const char* from, int64_t bytes) = 0;  // between host and its memory, in any direction
  // To its memory; the next run waits for it, the caller need not, unless that fails: then `settle` does.
  virtual void put(char* to, const char* from, int64_t bytes) { copy(to, from, bytes); }
  virtual void settle() noexcept {}
  virtual int64_t scratch(const Instruction&) const = 0;
  // Of the B operand, of 0 terms; kept: it is packed once for many products.
  virtual Layout layout(Role, int64_t m, int64_t n, int64_t k, bool kept) const = 0;
  // Terms of the fastest product that errs no more than the precision allows, of the kernels that are asked for.
  virtual int32_t terms(Precision, int64_t m, int64_t n, int64_t k, Gemm) const = 0;
  virtual int64_t depth(const Instruction&) const { return 0; }  // as KernelEntry's
  virtual Recording* record(const Section*, int32_t count) = 0;
  virtual void run(const Program*, int32_t count, char* const* bases, int32_t threads) = 0;
};

}  // namespace dlcore
