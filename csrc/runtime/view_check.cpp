// SPDX-License-Identifier: Apache-2.0
// Dtype, shape, members, strides and extent of one view.
#include "../check.h"
#include "names.h"
#include "validate.h"

namespace dlcore {
namespace {

using int128 = __int128;
constexpr int64_t BYTES_LIMIT = int64_t(1) << 62;
constexpr int32_t ARENA_LIMIT = 256, MEMBER_LIMIT = 1 << 20;

bool matches(Element element, DType dtype, DType real) {
  switch (element) {
    case Element::real:
      return dtype == real;
    case Element::real_or_i32:
      return dtype == real || dtype == DType::i32;
    case Element::f64:
      return dtype == DType::f64;
    case Element::i32:
      return dtype == DType::i32;
    case Element::i64:
      return dtype == DType::i64;
    case Element::u8:
      return dtype == DType::u8;
    case Element::integer:
      return dtype >= DType::u8;
    case Element::any:
      return true;
  }
  return false;
}

const char* describe(Element element, DType real) {
  switch (element) {
    case Element::real:
      return name_of(real);
    case Element::real_or_i32:
      return real == DType::f32 ? "f32 or i32" : "f64 or i32";
    case Element::f64:
      return "f64";
    case Element::i32:
      return "i32";
    case Element::i64:
      return "i64";
    case Element::u8:
      return "u8";
    case Element::integer:
      return "an integer dtype";
    case Element::any:
      return "any dtype";
  }
  return "";
}

int64_t whole(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

int64_t resolve(int64_t extent, const Instruction& instruction) {
  if (extent == BITS) return whole(instruction.cols, MASK_ALIGN) / 8;
  return extent == ROWS ? instruction.rows : extent == COLS ? instruction.cols : extent;
}

bool within(int64_t n, int64_t low) { return n >= low && n <= FIELD_LIMIT; }

bool may_lie(const OperandSpec& spec, Layout layout) {
  return layout == Layout::row_major || spec.layouts == Layouts::all ||
         (layout == Layout::parts && spec.layouts != Layouts::row_major);
}

bool of_bf16(const View& view) { return view.layout == Layout::planes || view.layout == Layout::parts; }
bool of_f16(const View& view) { return view.layout == Layout::parts && view.ld == 1 && view.dtype == DType::f16; }

void check_type(const std::string& who, const OperandSpec& spec, const View& view, DType real) {
  CHECK_ARG(view.arena < ARENA_LIMIT, who, ": expected an arena below ", ARENA_LIMIT, ", got ", view.arena);
  CHECK_ARG(view.dtype >= DType(0) && view.dtype <= DType::i64, who, ": expected a dtype, got number ",
            int32_t(view.dtype));
  const bool bf16 = may_lie(spec, view.layout) && of_bf16(view);
  CHECK_ARG(bf16 ? view.dtype == DType::bf16 || of_f16(view) : matches(spec.element, view.dtype, real), who,
            ": expected ", bf16 ? "bf16" : describe(spec.element, real), ", got ", name_of(view.dtype));
}

void check_shape(const std::string& who, const OperandSpec& spec, const View& view, const Instruction& instruction) {
  const int64_t rows = resolve(spec.rows, instruction), cols = resolve(spec.cols, instruction);
  CHECK_ARG((rows == ANY || rows == view.rows) && (cols == ANY || cols == view.cols), who, ": expected shape ",
            shape_text(rows, cols), ", got ", shape_text(view.rows, view.cols));
  CHECK_ARG(within(view.rows, 1) && within(view.cols, 1), who, ": expected 1 to 2^48 rows and columns, got ",
            shape_text(view.rows, view.cols));
}

// What is written must be each member's own.
void check_members(const std::string& who, const OperandSpec& spec, const View& view, int32_t members) {
  CHECK_ARG(members <= MEMBER_LIMIT, who, ": expected at most ", MEMBER_LIMIT, " members, got ", members);
  CHECK_ARG(view.members == members || (view.members == 1 && spec.access == Access::read), who, ": expected ", members,
            " members, got ", view.members);
  CHECK_ARG(view.members > 1 ? within(view.member_stride, 0) : view.member_stride == 0, who,
            ": expected a member_stride of 0 for one member, 0 or more for several, got ", view.member_stride);
  CHECK_ARG(view.member_stride % size_of(view.dtype) == 0, who, ": expected a member_stride of whole elements, got ",
            view.member_stride, " bytes");
}

// Bytes; rows of parts are read 16 at a time.
int64_t alignment_of(const View& view) { return size_of(view.dtype) * (view.layout == Layout::parts ? PART_ALIGN : 1); }

// Only a data set may have strides of its own; only an operand of products may have another layout than row major.
void check_strides(const std::string& who, const OperandSpec& spec, const View& view, const Traits& traits) {
  CHECK_ARG(within(view.offset, 0) && view.offset % size_of(view.dtype) == 0, who,
            ": expected an offset of whole elements, got ", view.offset, " bytes");
  CHECK_ARG(view.layout >= Layout(0) && view.layout <= Layout::parts, who, ": expected a layout, got number ",
            int32_t(view.layout));
  CHECK_ARG(may_lie(spec, view.layout), who, ": expected layout row_major, got ", name_of(view.layout));
  if (of_bf16(view)) {
    const char* name = name_of(view.layout);
    CHECK_ARG(traits.unit != nullptr, who, ": expected no ", name, ", as ", traits.name, " has no matrix unit");
    CHECK_ARG(view.layout == traits.unit_layout, who, ": expected ", name_of(traits.unit_layout), " on ", traits.name,
              ", got ", name);
    CHECK_ARG(view.ld >= 1 && view.ld <= 3 && view.step == 1, who, ": expected 1 to 3 ", name, ", got ", view.ld);
    CHECK_ARG(spec.layouts != Layouts::one_part || view.ld == 1, who, ": expected 1 of the ", name, ", got ", view.ld);
    CHECK_ARG(view.offset % alignment_of(view) == 0 && view.member_stride % alignment_of(view) == 0, who,
              ": expected an offset and a member_stride of whole ", alignment_of(view), " bytes, got ", view.offset,
              " and ", view.member_stride);
    return;
  }
  if (view.layout == Layout::strips) {
    CHECK_ARG(view.ld == traits.strip && view.step == 1, who, ": expected strips of ", traits.strip, " columns, got ",
              view.ld);
    return;
  }
  if (spec.touch == Touch::rows) {
    CHECK_ARG(within(view.ld, -FIELD_LIMIT) && within(view.step, -FIELD_LIMIT), who, ": expected strides below ",
              FIELD_LIMIT, ", got ld ", view.ld, " and step ", view.step);
  } else {
    CHECK_ARG(view.step == 1, who, ": expected step 1, got ", view.step);
    CHECK_ARG(within(view.ld, view.cols), who, ": expected ld of at least ", view.cols, ", got ", view.ld);
  }
}

// Bytes from the base that the view spans.
ArenaNeed span_of(const std::string& who, const OperandSpec& spec, const View& view) {
  const int64_t item = size_of(view.dtype);
  int128 low = 0, high = 0;  // elements
  if (view.layout == Layout::strips) {
    high = int128((view.cols + view.ld - 1) / view.ld) * view.rows * view.ld;
  } else if (view.layout == Layout::planes) {
    high = int128(whole(view.cols, PLANE_STEP)) * whole(view.rows, PLANE_STEP) * view.ld;
  } else if (view.layout == Layout::parts) {
    high = int128(whole(view.cols, PART_ALIGN)) * view.rows * view.ld;
  } else {
    const int128 down = int128(view.rows - 1) * view.ld, across = int128(view.cols - 1) * view.step;
    low = (down < 0 ? down : 0) + (across < 0 ? across : 0);
    high = (down > 0 ? down : 0) + (across > 0 ? across : 0) + 1;
  }
  CHECK_ARG(low > -BYTES_LIMIT && high < BYTES_LIMIT / item, who, ": expected fewer than 2^62 bytes, got ",
            shape_text(view.rows, view.cols), " with ld ", view.ld);
  const bool own_place = spec.access == Access::read || view.members == 1 || view.member_stride >= high * item;
  CHECK_ARG(own_place, who, ": expected a member_stride of at least ", int64_t(high * item), " bytes, got ",
            view.member_stride);
  const int128 from = low * item + view.offset;
  const int128 to = high * item + view.offset + int128(view.members - 1) * view.member_stride;
  CHECK_ARG(from > -BYTES_LIMIT && to < BYTES_LIMIT, who, ": expected to end before byte 2^62, got ",
            shape_text(view.rows, view.cols), " with ld ", view.ld, " at ", view.offset);
  return {int64_t(from < 0 ? from : 0), int64_t(to), alignment_of(view), true, spec.access != Access::read};
}

int64_t bytes_touched(const std::string& who, const OperandSpec& spec, const View& view,
                      const Instruction& instruction) {
  const int64_t rows = spec.touch == Touch::all ? view.rows : spec.touch == Touch::row ? 1 : instruction.rows;
  const int64_t cols = spec.touch == Touch::elements ? 1 : view.cols;
  const int128 bytes = int128(rows) * cols * size_of(view.dtype) * (of_bf16(view) ? view.ld : 1);
  CHECK_ARG(bytes < FIELD_LIMIT, who, ": expected fewer than 2^48 bytes, got ", shape_text(rows, cols));
  return int64_t(bytes);
}

}  // namespace

std::string shape_text(int64_t rows, int64_t cols) {
  const auto text = [](int64_t n) { return n == ANY ? std::string("any") : std::to_string(n); };
  return "(" + text(rows) + ", " + text(cols) + ")";
}

void check_view(const Instruction& instruction, const Traits& traits, const std::string& who, const OperandSpec& spec,
                const View& view, Footprint& footprint) {
  const std::string name = who + " " + spec.name;
  CHECK_ARG(view.arena >= 0 || spec.optional, name, ": expected a view, got none");
  if (view.arena < 0) return;
  check_type(name, spec, view, traits.real);
  check_shape(name, spec, view, instruction);
  check_members(name, spec, view, footprint.members);
  check_strides(name, spec, view, traits);
  const ArenaNeed span = span_of(name, spec, view);
  footprint.local |= view.arena == LOCAL_ARENA;
  if (view.arena != LOCAL_ARENA) {
    std::vector<ArenaNeed> needs(size_t(view.arena) + 1);
    needs.back() = span;
    merge(footprint.arenas, needs);
  }
  footprint.bytes += bytes_touched(name, spec, view, instruction) * footprint.members;
}

void merge(std::vector<ArenaNeed>& all, const std::vector<ArenaNeed>& more) {
  if (all.size() < more.size()) all.resize(more.size());
  for (size_t i = 0; i < more.size(); ++i) {
    ArenaNeed& need = all[i];
    need.low = more[i].low < need.low ? more[i].low : need.low;
    need.high = more[i].high > need.high ? more[i].high : need.high;
    need.alignment = more[i].alignment > need.alignment ? more[i].alignment : need.alignment;
    need.used = need.used || more[i].used;
    need.written = need.written || more[i].written;
  }
}

}  // namespace dlcore
