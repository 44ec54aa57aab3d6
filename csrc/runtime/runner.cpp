// SPDX-License-Identifier: Apache-2.0
// Every thread of the team walks the same recordings. Before a step lies a barrier, unless thread 0 alone does both it
// and the step before; the items of a step are shared out, so any thread count computes the same items.
#include <algorithm>
#include <cfenv>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "pool.h"
#include "recording.h"

namespace dlcore {
namespace {

struct Job {
  const Program* programs;
  int32_t count;
  char* const* bases;
  int64_t arenas;
};

// Items [begin, end) of all members, member by member.
void run_items(const Planned& planned, int32_t phase, int64_t begin, int64_t end, bool goes_on, char* const* bases,
               char* workspace) {
  const int64_t items = planned.items[size_t(phase)];
  while (begin < end) {
    const int64_t member = begin / items, first = member * items;
    const int64_t stop = end < first + items ? end : first + items;
    const Call call{&planned.instruction, bases, member, 0, 0, goes_on && stop < first + items, planned.prepared};
    planned.entry->run(call, phase, begin - first, stop - first, workspace);
    begin = stop;
  }
}

// Rows [begin, end) of the first phase: chunks of them, or a part of the depth of one cut.
void run_rows(const Planned& planned, int64_t begin, int64_t end, char* const* bases, char* workspace) {
  const int64_t unit = planned.depth > 0 ? planned.depth : CHUNK_ROWS;
  const int64_t items = planned.items[0] / ((planned.rows - 1) / unit + 1);
  const Call call{&planned.instruction, bases, 0, begin, end, false, planned.prepared};
  planned.entry->run(call, 0, begin / unit * items, ((end - 1) / unit + 1) * items, workspace);
}

// Units [begin, end) of a section, block by block, each through all its instructions. bases: with room for LOCAL_ARENA
void run_units(const Recording& recording, const Step& step, int64_t begin, int64_t end, char** bases,
               char* workspace) {
  const int64_t rows = recording.planned[size_t(step.first)].rows;
  for (int64_t block = begin * step.unit_blocks; block < end * step.unit_blocks; ++block) {
    const int64_t row = block * step.block_rows, last = row + step.block_rows < rows ? row + step.block_rows : rows;
    if (row >= rows) return;
    bases[LOCAL_ARENA] = workspace + WORKSPACE_BYTES - row * step.row_bytes;
    for (int32_t i = step.first; i < step.first + step.count; ++i) {
      run_rows(recording.planned[size_t(i)], row, last, bases, workspace);
    }
  }
}

enum class Before { nothing, serial, shared };  // the step before, since the region began

struct Walker {
  char* workspace;
  Team* team;
  int32_t thread;
  Before before = Before::nothing;
  int64_t rounds = 0;            // shared steps so far
  char* bases[LOCAL_ARENA + 1];  // a thread's own: its local arena moves

  void walk(const Recording& recording) {
    int64_t calls = 0, bytes = 0;
    for (const Step& step : recording.steps) {
      take(recording, step);
      calls += step.calls;
      bytes += step.bytes;
    }
    if (thread > 0) return;
    recording.calls.fetch_add(calls, std::memory_order_relaxed);
    recording.bytes.fetch_add(bytes, std::memory_order_relaxed);
  }

  void take(const Recording& recording, const Step& step) {
    const auto work = [&](int64_t begin, int64_t end, bool goes_on) {
      if (step.block_rows > 0) {
        run_units(recording, step, begin, end, bases, workspace);
      } else {
        run_items(recording.planned[size_t(step.first)], step.phase, begin, end, goes_on, bases, workspace);
      }
    };
    if (team == nullptr) return work(0, step.total, false);
    const bool thread_zero_goes_on = step.serial && before == Before::serial;
    if (before != Before::nothing && !thread_zero_goes_on) team->barrier();
    before = step.serial ? Before::serial : Before::shared;
    if (!step.serial) {
      team->share(thread, rounds++, step.total, work);
    } else if (thread == 0) {
      work(0, step.total, false);
    }
  }
};

void run_job(void* argument, Team* team, int32_t thread) {
  const Job& job = *static_cast<const Job*>(argument);
  Walker walker;
  walker.workspace = thread_workspace(), walker.team = team, walker.thread = thread;
  for (int64_t i = 0; i < job.arenas; ++i) walker.bases[i] = job.bases[i];
  for (int32_t p = 0; p < job.count; ++p) {
    const Program& program = job.programs[p];
    for (int64_t time = 0; time < program.times; ++time) {
      for (int32_t r = 0; r < program.count; ++r) walker.walk(*program.recordings[r]);
    }
  }
}

// A caller's rounding or flush-to-zero mode must not make its share of the work differ from the others'. The kernels
// have no use for the x87, whose part of the environment takes 0.1 us.
class DefaultArithmetic {
 public:
#if defined(__x86_64__)
  DefaultArithmetic() : callers_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~DefaultArithmetic() { _mm_setcsr(callers_); }

 private:
  unsigned callers_;
#else
  DefaultArithmetic() {
    std::fegetenv(&callers_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultArithmetic() { std::fesetenv(&callers_); }

 private:
  std::fenv_t callers_;
#endif
};

// Threads that could find work at the same time.
int64_t width_of(const Job& job) {
  int64_t width = 1;
  for (int32_t p = 0; p < job.count; ++p) {
    for (int32_t r = 0; r < job.programs[p].count; ++r) {
      const Recording& recording = *job.programs[p].recordings[r];
      width = recording.width > width ? recording.width : width;
    }
  }
  return width;
}

}  // namespace

void run_programs(const Program* programs, int32_t count, char* const* bases, int32_t threads) {
  Job job{programs, count, bases, 0};
  for (int32_t p = 0; p < count; ++p) {
    for (int32_t r = 0; r < programs[p].count; ++r) {
      job.arenas = std::max(job.arenas, int64_t(programs[p].recordings[r]->arenas.size()));
    }
  }
  thread_workspace();  // throws here, where it may
  const DefaultArithmetic arithmetic;
  const int64_t width = width_of(job);
  if (threads > width) threads = int32_t(width);
  if (threads > 1) {
    run_region(threads, run_job, &job);
  } else {
    run_job(&job, nullptr, 0);
  }
}

}  // namespace dlcore
