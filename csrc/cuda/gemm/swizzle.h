// SPDX-License-Identifier: Apache-2.0
// Where chunks of 8 bf16 (16 bytes) of a tile lie in shared memory, so that 8 chunks below or beside each other, what
// ldmatrix reads and what cp.async writes at a time, are in different banks: eight of them fill a line of all banks,
// and the place in the line is XORed with the row, counted in lines where a line holds several rows.
#pragma once
#include "../../math/portable.h"

DLCORE_BEGIN

constexpr int CHUNK = 8, LINE_CHUNKS = 8;  // elements of a chunk, chunks of a line

// across: chunks of a row, a power of two
DLCORE_HD int swizzle(int row, int chunk, int across) {
  const int key = across < LINE_CHUNKS ? row * across / LINE_CHUNKS : row;
  return (row * across + chunk) ^ (key % LINE_CHUNKS);
}

DLCORE_END
