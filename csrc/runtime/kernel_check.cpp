// SPDX-License-Identifier: Apache-2.0
// The rules of single kernels: numbers that select or count something, and shapes that depend on them.
#include <cmath>

#include "../check.h"
#include "names.h"
#include "validate.h"

namespace dlcore {
namespace {

struct Subject {
  const Instruction& instruction;
  const Traits& traits;
  const std::string& who;

  const View& operand(int32_t i) const { return instruction.operands[i]; }
  const char* operand_name(int32_t i) const { return signature_of(instruction.kernel).operands[i].name; }

  void expect_shape(int32_t i, int64_t rows, int64_t cols) const {
    CHECK_ARG(operand(i).rows == rows && operand(i).cols == cols, who, " ", operand_name(i), ": expected shape ",
              shape_text(rows, cols), ", got ", shape_text(operand(i).rows, operand(i).cols));
  }

  // numbers[i] as an integer in [0, limit).
  int64_t integer(int32_t i, const char* name, int64_t limit) const {
    const double number = instruction.numbers[i];
    CHECK_ARG(number >= 0 && number < double(limit) && number == std::floor(number), who, " ", name,
              ": expected an integer in [0, ", limit, "), got ", number);
    return int64_t(number);
  }
};

// The layout of an operand of a product: row major, strips (of B) for no terms, planes (of B) or parts for some.
void check_factor(const Subject& s, int32_t i, int64_t terms) {
  const View& view = s.operand(i);
  const bool parts = terms > 0 && s.traits.unit_layout == Layout::parts;
  const Layout packed = parts       ? Layout::parts
                        : i == 0    ? Layout::row_major
                        : terms > 0 ? Layout::planes
                                    : Layout::strips;
  CHECK_ARG(view.layout == packed || (view.layout == Layout::row_major && !parts), s.who, " ", s.operand_name(i),
            ": expected ", name_of(packed), " for ", terms, " terms, got ", name_of(view.layout));
  CHECK_ARG(terms == 0 || view.layout == Layout::row_major || view.ld == PARTS_OF_TERMS[terms], s.who, " ",
            s.operand_name(i), ": expected ", PARTS_OF_TERMS[terms], " ", name_of(packed), " for ", terms,
            " terms, got ", view.ld);
}

void check_product(const Subject& s) {
  const Role role = Role(s.integer(0, "role", length(ROLE_NAMES)));
  const int64_t terms = s.instruction.number_count > 1 ? s.integer(1, "terms", length(PARTS_OF_TERMS)) : 0;
  CHECK_ARG(terms == 0 || PARTS_OF_TERMS[terms] > 0, s.who, " terms: expected 0, 1, 3 or 6, got ", terms);
  CHECK_ARG(terms == 0 || s.traits.unit != nullptr, s.who, " terms: expected 0, as ", s.traits.name,
            " has no matrix unit, got ", terms);
  const Gemm gemm = s.instruction.number_count > 2 ? Gemm(s.integer(2, "gemm", length(GEMM_NAMES))) : Gemm::automatic;
  CHECK_ARG(terms == 0 || gemm != Gemm::cublaslt, s.who, " terms: expected 0 for 'cublaslt', got ", terms);
  CHECK_ARG(terms == 0 || gemm != Gemm::simt, s.who, " gemm: expected kernels of terms, got 'simt'");
  for (int32_t i = 0; i < 2; ++i) check_factor(s, i, terms);
  CHECK_ARG(s.operand(0).dtype == s.operand(1).dtype || terms == 0 || s.traits.unit_layout != Layout::parts, s.who,
            " B: expected ", name_of(s.operand(0).dtype), " as A, got ", name_of(s.operand(1).dtype));
  const Layout layout = s.operand(1).layout;
  const int64_t m = s.instruction.rows, n = s.instruction.cols;
  const int64_t k = role == Role::tn ? s.operand(0).rows : s.operand(0).cols;
  CHECK_ARG(layout == Layout::row_major || layout == Layout::parts || role != Role::nt, s.who,
            " B: expected role nn or tn with layout ", name_of(layout), ", got ", ROLE_NAMES[int32_t(role)]);
  s.expect_shape(0, role == Role::tn ? k : m, role == Role::tn ? m : k);
  s.expect_shape(1, role == Role::nt ? n : k, role == Role::nt ? k : n);
}

void check_pack(const Subject& s) {
  const int64_t rows = s.instruction.rows, cols = s.instruction.cols;
  for (int32_t i = 0; i < 2; ++i) {
    const bool transposed = s.integer(i, "transposed", 2) != 0;
    CHECK_ARG(!transposed || s.operand(i + 1).layout != Layout::parts, s.who, " ", s.operand_name(i + 1),
              ": expected parts as they are, which serve every role, got them transposed");
    if (s.operand(i + 1).arena >= 0) s.expect_shape(i + 1, transposed ? cols : rows, transposed ? rows : cols);
  }
}

void check_order(const Subject& s) {
  const View &data = s.operand(0), &order = s.operand(1);
  const int64_t rows = order.arena < 0 ? data.rows : order.cols;
  CHECK_ARG(rows >= s.instruction.rows, s.who, ": expected at most ", rows, " rows, got ", s.instruction.rows);
}

void check_batch_rows(const Subject& s) {
  CHECK_ARG(s.instruction.numbers[0] >= 1, s.who, ": expected at least one row, got ", s.instruction.numbers[0]);
}

void check_softmax_cross_entropy(const Subject& s) {
  s.expect_shape(1, s.instruction.rows, s.operand(1).dtype == DType::i32 ? 1 : s.instruction.cols);
  s.integer(1, "gradient", 2);
}

void check_loss(const Subject& s) {
  s.integer(0, "function", s.traits.loss_count);
  s.integer(1, "gradient", 2);
}

void check_grad_scale(const Subject& s) {
  enum { metrics, gradients, out, loss_scale };
  check_loss_scale(s.operand(loss_scale), s.traits, s.who + " loss_scale");
  if (s.operand(loss_scale).arena < 0) return;
  CHECK_ARG(s.operand(gradients).arena >= 0, s.who, " gradients: expected a view beside loss_scale, got none");
  CHECK_ARG(s.instruction.number_count == SCALING_NUMBERS, s.who, ": expected ", int32_t(SCALING_NUMBERS),
            " numbers beside loss_scale, got ", s.instruction.number_count);
}

void check_segment(const Subject& s, int64_t segment, int64_t elements, int64_t groups) {
  const int32_t first = int32_t(update_first + segment * SEGMENT);
  const int64_t offset = s.integer(first + segment_offset, "segment offset", FIELD_LIMIT);
  const int64_t size = s.integer(first + segment_size, "segment size", FIELD_LIMIT);
  CHECK_ARG(offset + size <= elements, s.who, " segment ", segment, ": expected to end within ", elements,
            " elements, got ", offset, " + ", size);
  s.integer(first + segment_group, "segment group", groups);
}

// One to three parts of all weights, each segment's beginning at a multiple of 16 bytes.
void check_copies(const Subject& s, const View& copies, int64_t elements) {
  if (copies.arena < 0) return;
  CHECK_ARG(s.traits.unit_layout == Layout::parts, s.who, " copies: expected none, as ", s.traits.name,
            " reads no parts, got a view");
  const int64_t parts = copies.cols / elements;
  CHECK_ARG(copies.dtype == DType::bf16 || (copies.dtype == DType::f16 && parts == 1), s.who,
            " copies: expected bf16, or one part of f16, got ", name_of(copies.dtype));
  CHECK_ARG(parts >= 1 && parts <= 3 && copies.cols % elements == 0, s.who, " copies: expected 1 to 3 times ", elements,
            " columns, got ", copies.cols);
  CHECK_ARG(copies.offset % (2 * PART_ALIGN) == 0 && copies.member_stride % (2 * PART_ALIGN) == 0, s.who,
            " copies: expected to begin at a multiple of ", 2 * PART_ALIGN, " bytes, got ", copies.offset);
}

void check_update(const Subject& s) {
  enum { w, g, s1, s2, grad_scale, hyper, counters, loss_scale, copies };
  check_loss_scale(s.operand(loss_scale), s.traits, s.who + " loss_scale");
  check_copies(s, s.operand(copies), s.operand(w).cols);
  const Formula& rule = s.traits.rules[s.integer(update_rule, "rule", s.traits.rule_count)];
  const int64_t groups = s.integer(update_groups, "groups", FIELD_LIMIT);
  const int64_t segments = s.integer(update_segments, "segments", FIELD_LIMIT);
  CHECK_ARG(s.instruction.number_count == update_first + segments * SEGMENT, s.who, ": expected ", int32_t(SEGMENT),
            " numbers for each of ", segments, " segments, got ", s.instruction.number_count - update_first);
  for (int32_t i = g; i <= s2; ++i) {
    CHECK_ARG(s.operand(i).arena >= 0 || i - g > rule.number, s.who, " ", s.operand_name(i),
              ": expected a view for rule ", rule.name, ", got none");
    if (s.operand(i).arena >= 0) s.expect_shape(i, 1, s.operand(w).cols);
  }
  s.expect_shape(hyper, s.operand(hyper).rows, groups * HYPER);
  for (int64_t i = 0; i < segments; ++i) check_segment(s, i, s.operand(w).cols, groups);
}

void check_tick(const Subject& s) {
  enum { counters, metrics, grad_scale, results, loss_scale };
  check_loss_scale(s.operand(loss_scale), s.traits, s.who + " loss_scale");
  const char* names[] = {"draws", "updates", "rows"};
  for (int32_t i = 0; i < 3; ++i) s.integer(i, names[i], FIELD_LIMIT);
  CHECK_ARG(s.operand(results).arena < 0 || s.operand(metrics).arena >= 0, s.who,
            " metrics: expected a view beside results, got none");
}

}  // namespace

void check_kernel(const Instruction& instruction, const Traits& traits, const std::string& who) {
  const Subject subject{instruction, traits, who};
  switch (instruction.kernel) {
    case Kernel::product:
      return check_product(subject);
    case Kernel::pack:
      return check_pack(subject);
    case Kernel::gather:
    case Kernel::gather_index:
      return check_order(subject);
    case Kernel::moments_finish:
    case Kernel::norm_backward_finish:
      return check_batch_rows(subject);
    case Kernel::softmax_cross_entropy:
      return check_softmax_cross_entropy(subject);
    case Kernel::loss:
      return check_loss(subject);
    case Kernel::grad_scale:
      return check_grad_scale(subject);
    case Kernel::update:
      return check_update(subject);
    case Kernel::tick:
      return check_tick(subject);
    default:
      return;
  }
}

}  // namespace dlcore
