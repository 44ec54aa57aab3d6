// SPDX-License-Identifier: Apache-2.0
// The library's own threads. A region runs one function on a team of them, the caller being thread 0; inside, the team
// shares out numbered items and meets at barriers. Waiting is bounded spinning, then sleep, so that a core taken by
// another process costs that core and no more.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace dlcore {

// A number that threads wait on until it changes.
class Gate {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  void advance();
  void wait(uint32_t seen, bool spin);  // until value() != seen

 private:
  std::atomic<uint32_t> value_{0};
  std::atomic<int32_t> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
};

// What the threads of one region share. Every thread calls barrier and share in the same order.
class Team {
 public:
  static constexpr int32_t MAX_THREADS = 256;

  void start(int32_t threads);
  bool spins() const { return spins_; }  // is there a core for every thread
  void barrier();

  // Calls work(begin, end, goes_on) for blocks of [0, total) until all are taken; goes_on: is more of the part left.
  // A thread takes from its own part first, so that it meets the same rows in step after step, then from the parts of
  // others. `round` counts the calls of share; a barrier lies between any two.
  template <class Work>
  void share(int32_t thread, int64_t round, int64_t total, const Work& work);

 private:
  struct alignas(64) Part {
    std::atomic<int64_t> taken[2];  // items taken in even and odd rounds
  };

  int32_t threads_ = 1;
  bool spins_ = true;
  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) Gate gate_;
  Part parts_[MAX_THREADS];
};

// `team` is nullptr where the caller works alone. Must not throw.
using RegionBody = void (*)(void* job, Team* team, int32_t thread);

// Runs body on `threads` threads; on fewer when the system refuses them; on the caller alone while another region runs.
void run_region(int32_t threads, RegionBody body, void* job);

// WORKSPACE_BYTES of the calling thread, and LOCAL_BYTES after them. The first call of a thread may throw
// std::bad_alloc.
char* thread_workspace();

template <class Work>
void Team::share(int32_t thread, int64_t round, int64_t total, const Work& work) {
  constexpr int64_t blocks_per_thread = 8;  // a thread that loses its core holds back an eighth of its part at most
  const int64_t block = (total - 1) / (blocks_per_thread * threads_) + 1;
  parts_[thread].taken[(round + 1) & 1].store(0, std::memory_order_relaxed);
  for (int32_t i = 0; i < threads_; ++i) {
    const int32_t owner = thread + i < threads_ ? thread + i : thread + i - threads_;
    const int64_t first = total * owner / threads_, size = total * (owner + 1) / threads_ - first;
    std::atomic<int64_t>& taken = parts_[owner].taken[round & 1];
    while (taken.load(std::memory_order_relaxed) < size) {
      const int64_t begin = taken.fetch_add(block, std::memory_order_relaxed);
      if (begin >= size) break;
      const int64_t end = begin + block < size ? begin + block : size;
      work(first + begin, first + end, end < size);
    }
  }
}

}  // namespace dlcore
