// SPDX-License-Identifier: Apache-2.0
// Storage types of 16 bits, read as float, and made of it.
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

// The nearest half, ties to even; beyond the largest one it is infinite.
DLCORE_HD Half16 half_of(float x) {
  uint32_t i;
  __builtin_memcpy(&i, &x, sizeof i);
  const uint32_t sign = i >> 16 & 0x8000, magnitude = i & 0x7fffffff;
  if (magnitude > 0x7f800000) return {uint16_t(sign | 0x7e00)};
  if (magnitude >= 0x477ff000) return {uint16_t(sign | 0x7c00)};
  if (magnitude < 0x38800000) {  // subnormal halves are multiples of the last bit of 1/2
    const float sum = float_of_bits(magnitude) + 0.5f;
    __builtin_memcpy(&i, &sum, sizeof i);
    return {uint16_t(sign | (i - 0x3f000000))};
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return {uint16_t(sign | (rounded - 0x38000000) >> 13)};
}

DLCORE_END
