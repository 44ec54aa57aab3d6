// SPDX-License-Identifier: Apache-2.0
// Partial results of a kernel's chunks of rows: in scratch behind those of the chain, merged in a last phase whose
// items are first the kernel's own and then the chain's.
#pragma once
#include "chain.h"
#include "kernels.h"
#include "rows.h"

DLCORE_BEGIN

inline int64_t partial_offset(const Instruction& instruction) {
  return round_up(chain_scratch(instruction), ALIGNMENT);
}

template <class T>
inline T* partials(const Call& call) {
  const Instruction& instruction = *call.instruction;
  return reinterpret_cast<T*>(at<char>(call, instruction.scratch) + partial_offset(instruction));
}

inline int64_t chain_items(const Instruction& instruction) {
  return chain_reduces(instruction) ? merge_items(instruction) : 0;
}

// Of the items begin to end of the last phase those that come after the kernel's own.
inline void merge_chain_after(const Call& call, int64_t own, int64_t begin, int64_t end) {
  if (end > own) merge_chain(call, max(begin - own, 0), end - own);
}

// Kernels that add to metrics: METRICS doubles a chunk, and one item to merge them; a single chunk does so at once.
inline int32_t metric_phases(const Instruction& instruction) { return chunk_count(instruction) > 1 ? 2 : 1; }

inline int64_t metric_items(const Instruction& instruction, int32_t phase) {
  return phase == 0 ? chunk_count(instruction) : 1 + chain_items(instruction);
}

inline int64_t metric_scratch(const Instruction& instruction) {
  return partial_offset(instruction) + chunk_count(instruction) * METRICS * int64_t(sizeof(double));
}

// (1, METRICS) of a chunk, zeroed
inline double* open_metrics(const Call& call, int64_t chunk) {
  double* metrics = partials<double>(call) + chunk * METRICS;
  for (int64_t i = 0; i < METRICS; ++i) metrics[i] = 0;
  return metrics;
}

inline void merge_metrics(const Call& call, const View& view, int64_t begin, int64_t end) {
  if (begin == 0) {
    double* metrics = at<double>(call, view);        // (1, METRICS)
    const double* partial = partials<double>(call);  // (chunks, METRICS)
    for (int64_t i = 0; i < chunk_count(*call.instruction) * METRICS; ++i) metrics[i % METRICS] += partial[i];
  }
  merge_chain_after(call, 1, begin, end);
}

DLCORE_END
