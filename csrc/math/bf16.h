// SPDX-License-Identifier: Apache-2.0
// bf16 parts of a float: h + m + l, each what is left rounded to nearest even, hold its 24 bits.
#pragma once
#include "scalar.h"

DLCORE_BEGIN

#if !DLCORE_REAL_F64

// x as the nearest bf16, its low 16 bits zero. Beyond the largest bf16 a finite x is cut, not rounded, so that it stays
// finite; below the smallest normal number it is zero, as matrix units read it. In integers alone, each mask 0 or -1.
template <class T>
DLCORE_HD typename Lanes<T>::type round_bf16(T x) {
  const auto i = bits(x);
  const auto magnitude = i & ~SIGN_BIT;
  const auto rounds = (magnitude - 0x7f7f8000) >> 31, is_nan = (0x7f800000 - magnitude) >> 31;
  const auto up = ((i & 0xffff) + 0x7fff + ((i >> 16) & 1)) >> 16 & rounds;
  const auto y = (i & ~0xffff) + (up << 16);
  const auto is_normal = (0x007fffff - (y & ~SIGN_BIT)) >> 31;
  return from_bits<T>((y & is_normal) | (is_nan & 0x00400000));
}

// Two bf16 in one word, the first in the low half.
template <class T>
DLCORE_HD typename Lanes<T>::type pair_bf16(T first, T second) {
  return from_bits<T>((bits(first) >> 16 & 0xffff) | bits(second));
}

#endif

DLCORE_END
