// SPDX-License-Identifier: Apache-2.0
// Threads are made on first need, detached, and never joined: the pool outlives main and needs nothing at exit. After a
// fork the child has none of them and starts a pool of its own. Workers take no signals, so Ctrl-C reaches Python.
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <cfenv>
#include <chrono>
#include <memory>
#include <new>

#include "../backend.h"
#include "arena.h"
#include "machine.h"

namespace dlcore {
namespace {

// What it takes to wake a sleeper, by itself, and where a hypervisor has to bring its core back as well. The longer one
// holds while sleepers were woken so soon that spinning would have met them, unless another process of this system has
// taken a core from a thread of ours within the last CALM sleeps. Two threads; predictions of 64 rows (W2) where cores
// were taken away, and a step (W3) beside a busy process as a multiple of its time alone: 30 us 1.20 ms, 2.2; 200 us
// 0.71, 3.6 to 5.0; as here 0.78, 2.2. Yielding the core while spinning cost up to 1.5 ms a barrier beside a process.
constexpr std::chrono::microseconds SPIN{30}, LONG_SPIN{150}, SOON{400};
constexpr int32_t CALM = 256;

// How long a thread spins before it sleeps.
struct Patience {
  std::chrono::microseconds spin = SPIN;
  long preemptions = -1;  // of the process, when the thread last slept
  int32_t calm = CALM;    // times that it has slept since the number changed

  void learn(bool woken_soon) {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    const bool taken = preemptions >= 0 && usage.ru_nivcsw != preemptions;
    calm = taken ? 0 : calm < CALM ? calm + 1 : CALM;
    preemptions = usage.ru_nivcsw;
    spin = woken_soon && calm == CALM ? LONG_SPIN : SPIN;
  }
};

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

class Pool {
 public:
  void run(int32_t threads, RegionBody body, void* job);

 private:
  struct Worker {
    Pool* pool;
    int32_t thread;  // in the team
    char* workspace;
    Gate start;
  };

  int32_t grow(int32_t threads);
  static bool start_thread(Worker* worker);
  static void* work(void* worker);

  std::mutex busy_;
  Worker* workers_[Team::MAX_THREADS] = {};  // index 0, the caller's, stays empty
  int32_t size_ = 1;
  RegionBody body_ = nullptr;
  void* job_ = nullptr;
  alignas(64) std::atomic<int32_t> running_{0};
  Gate finished_;
  Team team_;
};

std::atomic<Pool*> current_pool{nullptr};

Pool& pool() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current_pool.store(nullptr); });
  (void)registered;
  Pool* existing = current_pool.load();
  if (existing == nullptr) {
    Pool* created = new Pool;
    if (current_pool.compare_exchange_strong(existing, created)) return *created;
    delete created;
  }
  return *existing;
}

struct Workspace {
  char* memory = nullptr;
  ~Workspace() {
    if (memory != nullptr) free_memory(memory, WORKSPACE_BYTES + LOCAL_BYTES);
  }
};
thread_local Workspace workspace;

void Pool::run(int32_t threads, RegionBody body, void* job) {
  std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
  threads = lock.owns_lock() ? grow(threads < Team::MAX_THREADS ? threads : Team::MAX_THREADS) : 1;
  if (threads == 1) {
    if (lock.owns_lock()) lock.unlock();
    return body(job, nullptr, 0);
  }
  team_.start(threads);
  body_ = body;
  job_ = job;
  running_.store(threads - 1, std::memory_order_relaxed);
  const uint32_t seen = finished_.value();
  for (int32_t i = 1; i < threads; ++i) workers_[i]->start.advance();
  body(job, &team_, 0);
  finished_.wait(seen, team_.spins());
}

// Number of threads there are, at most `threads`.
int32_t Pool::grow(int32_t threads) {
  for (; size_ < threads; ++size_) {
    std::unique_ptr<Worker> worker(new (std::nothrow) Worker);
    if (worker == nullptr) break;
    worker->pool = this;
    worker->thread = size_;
    try {
      worker->workspace = allocate_memory(WORKSPACE_BYTES + LOCAL_BYTES);
    } catch (const std::bad_alloc&) {
      break;
    }
    if (!start_thread(worker.get())) {
      free_memory(worker->workspace, WORKSPACE_BYTES + LOCAL_BYTES);
      break;
    }
    workers_[size_] = worker.release();
  }
  return size_ < threads ? size_ : threads;
}

bool Pool::start_thread(Worker* worker) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t handle;
  const bool started = pthread_create(&handle, nullptr, &Pool::work, worker) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started) pthread_detach(handle);
  return started;
}

void* Pool::work(void* argument) {
  Worker& self = *static_cast<Worker*>(argument);
  Pool& pool = *self.pool;
  workspace.memory = self.workspace;
  std::fesetenv(FE_DFL_ENV);
  bool spin = true;
  for (uint32_t seen = 0;; ++seen) {
    self.start.wait(seen, spin);
    spin = pool.team_.spins();
    pool.body_(pool.job_, &pool.team_, self.thread);
    if (pool.running_.fetch_sub(1, std::memory_order_acq_rel) == 1) pool.finished_.advance();
  }
  return nullptr;
}

}  // namespace

void Gate::advance() {
  value_.fetch_add(1);
  if (sleepers_.load() == 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
  }  // a sleeper has either not looked yet or is waiting
  changed_.notify_all();
}

void Gate::wait(uint32_t seen, bool spin) {
  using Clock = std::chrono::steady_clock;
  if (value() != seen) return;
  static thread_local Patience patience;
  const Clock::time_point begin = Clock::now(), end = begin + patience.spin;
  while (spin && Clock::now() < end) {
    for (int i = 0; i < 16; ++i, relax()) {
      if (value() != seen) return;
    }
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  changed_.wait(lock, [&] { return value_.load() != seen; });
  sleepers_.fetch_sub(1);
  patience.learn(Clock::now() - begin < SOON);
}

void Team::start(int32_t threads) {
  threads_ = threads;
  spins_ = threads <= usable_cores();
  arrived_.store(0, std::memory_order_relaxed);
  for (int32_t i = 0; i < threads; ++i) {
    for (auto& taken : parts_[i].taken) taken.store(0, std::memory_order_relaxed);
  }
}

void Team::barrier() {
  const uint32_t seen = gate_.value();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    gate_.advance();
  } else {
    gate_.wait(seen, spins_);
  }
}

void run_region(int32_t threads, RegionBody body, void* job) { pool().run(threads, body, job); }

char* thread_workspace() {
  if (workspace.memory == nullptr) workspace.memory = allocate_memory(WORKSPACE_BYTES + LOCAL_BYTES);
  return workspace.memory;
}

}  // namespace dlcore
