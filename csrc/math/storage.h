// SPDX-License-Identifier: Apache-2.0
// Storage types of 16 bits, read as float.
#pragma once
#include "portable.h"

DLCORE_BEGIN

DLCORE_HD float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

struct Brain16 {
  uint16_t bits;
  DLCORE_HD operator float() const { return float_of_bits(uint32_t(bits) << 16); }
};

struct Half16 {
  uint16_t bits;
  // The product with 2^112 moves the exponent's bias from 15 to 127 and normalises what is subnormal.
  DLCORE_HD operator float() const {
    const uint32_t magnitude = uint32_t(bits & 0x7fff) << 13, sign = uint32_t(bits & 0x8000) << 16;
    const float scaled = float_of_bits(magnitude) * 5.192296858534828e33f;
    const float finite_or_not = (bits & 0x7c00) == 0x7c00 ? float_of_bits(magnitude | 0x7f800000) : scaled;
    return sign ? -finite_or_not : finite_or_not;
  }
};

DLCORE_END
