// SPDX-License-Identifier: Apache-2.0
// What each kernel and each stage expects of its operands, as data: backend.h's comments in a form that can be checked.
#pragma once
#include "../backend.h"

namespace dlcore {

enum class Element { real, real_or_i32, f64, i32, i64, u8, integer, any };  // real: of the backend
enum class Access { read, write, update };

// Rows and columns of an operand: a number, or one of these.
constexpr int64_t ANY = INT64_MIN, ROWS = ANY + 1, COLS = ANY + 2;  // anything; those of the instruction
constexpr int64_t BITS = ANY + 3;                                   // bytes of a bit for each column

// How much of the operand one call touches.
enum class Touch { all, rows, elements, row };  // all of it; instruction.rows rows, or elements, of it; one row of it

// In which an operand may lie: row major alone; or also in one part; or in parts; or in any.
enum class Layouts { row_major, one_part, parts, all };

struct OperandSpec {
  const char* name;
  Element element;
  int64_t rows, cols;
  Access access = Access::read;
  bool optional = false;
  Touch touch = Touch::all;
  Layouts layouts = Layouts::row_major;
};

constexpr int32_t MAX_OPERANDS = 10;

struct Signature {
  bool chain;       // may a chain follow
  bool sized;       // do instruction.rows and cols mean something
  int32_t numbers;  // at least so many
  OperandSpec operands[MAX_OPERANDS];
  int32_t operand_count() const;
};

enum class Use { none, optional, required };

struct StageSignature {
  Use operand, a, b, c, out, out2;  // an operand may have a scale and a shift
};

const Signature& signature_of(Kernel);
const StageSignature& signature_of(StageKind);

}  // namespace dlcore
