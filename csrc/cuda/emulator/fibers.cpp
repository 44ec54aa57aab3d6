// SPDX-License-Identifier: Apache-2.0
// A block is a set of fibers and a scheduler. A fiber runs until it waits or returns; the scheduler resumes those that
// may go on, in an order drawn anew for each round, and lets go a barrier or an exchange when all have come.
//
// Fibers begin by makecontext and switch by _setjmp and _longjmp, which make no system call: 20 ns a switch.
#undef _FORTIFY_SOURCE  // its longjmp refuses another stack
#include <ucontext.h>
#include <csetjmp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
// The compiler's own: before a longjmp of the library the sanitizer makes a system call and forgets the frames of the
// stack that is left.
typedef void* Context[5];
#define SET(context) __builtin_setjmp(context)
#define GO(context) __builtin_longjmp(context, 1)
#define NOT_SANITIZED __attribute__((no_sanitize_address, noinline))
#else
typedef jmp_buf Context;
#define SET(context) _setjmp(context)
#define GO(context) _longjmp(context, 1)
#define NOT_SANITIZED
#endif

namespace dlcore {
namespace emulator {

Here here;
int capability = 90;

namespace {

constexpr unsigned WARP = 32, MAX_THREADS = 1024;
constexpr size_t STACK = 128 << 10, SHARED_ALIGN = 1024;  // bytes
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t GUARD = 0;  // the sanitizer guards better
#else
constexpr size_t GUARD = SHARED_ALIGN;  // bytes
#endif
constexpr int POISON = 0xff, GUARD_BYTE = 0xa5;  // a word of POISON is a NaN

enum class State { ready, barrier, waiting, exchange, faulty, returned };

struct Copy {
  void* to;
  const void* from;
  int valid;
};

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack;
  bool begun = false;  // stands in its loop, ready for another thread
  State state = State::returned;
  unsigned expected;           // threads at its barrier
  std::function<bool()> done;  // what it waits for
  Exchange kind;
  uint32_t mask, source;
  uint64_t word;  // given to an exchange, then received
  Work* work;
  std::vector<std::vector<Copy>> groups;  // of copies to come, the last one open
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;
  Context scheduler;
  unsigned threads = 0, current = 0;
  void (*thread)(void*);
  void* argument;
  uint64_t schedule = 0, random = 0;
  const char* fault;
};

Block block;

// SplitMix64 (Steele, Lea and Flood, 2014)
uint64_t draw() {
  uint64_t x = block.random += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// 0 ... count - 1 in a random order; schedule 0: in order
std::vector<unsigned> permutation(unsigned count) {
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; ++i) order[i] = i;
  for (unsigned i = count; block.schedule != 0 && i > 1; --i) std::swap(order[i - 1], order[draw() % i]);
  return order;
}

// Of things that are all possible; schedule 0: the first
uint64_t draw_or_first() { return block.schedule == 0 ? 0 : draw(); }

#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
size_t scheduler_size;
#endif

// From the scheduler to a fiber and back; the sanitizer is told on which stack the program goes on.
NOT_SANITIZED void enter(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), STACK);
  if (SET(block.scheduler) == 0) GO(fiber.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  if (SET(block.scheduler) == 0) GO(fiber.context);
#endif
}

NOT_SANITIZED void leave(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_size);
  if (SET(fiber.context) == 0) GO(block.scheduler);
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
#else
  if (SET(fiber.context) == 0) GO(block.scheduler);
#endif
}

// The life of a fiber: one thread after another.
void live() {
  Fiber& fiber = *block.fibers[block.current];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
  for (;;) {
    fiber.state = State::returned;
    leave(fiber);
    block.thread(block.argument);
  }
}

void begin(Fiber& fiber) {
  fiber.stack.reset(new char[STACK]);
  ucontext_t context;
  ucontext_t back;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = STACK;
  context.uc_link = nullptr;
  makecontext(&context, live, 0);
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), STACK);
#endif
  if (SET(block.scheduler) == 0) swapcontext(&back, &context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  fiber.begun = true;
}

void wait(State state) {
  Fiber& fiber = *block.fibers[block.current];
  fiber.state = state;
  leave(fiber);
}

std::string at_block() { return "block (" + std::to_string(here.block.x) + ", " + std::to_string(here.block.y) + ")"; }

// Fibers that stand inside a kernel cannot be used again.
[[noreturn]] void fail(const std::string& what) {
  block.fibers.clear();
  throw std::runtime_error("emulator: " + at_block() + ": " + what);
}

// Runs every fiber that is ready; false when there was none.
bool run_ready() {
  bool any = false;
  for (unsigned i : permutation(block.threads)) {
    Fiber& fiber = *block.fibers[i];
    if (fiber.state != State::ready) continue;
    any = true;
    block.current = here.thread.x = i;
    enter(fiber);
    if (block.fault != nullptr) fail(block.fault);
    if (block.schedule != 0 && draw() % 16 == 0) land_box(draw());
  }
  return any;
}

unsigned count(State state) {
  unsigned n = 0;
  for (unsigned i = 0; i < block.threads; ++i) n += block.fibers[i]->state == state;
  return n;
}

// The first barrier at which all have come; they differ by the number of threads.
bool release_barrier() {
  unsigned tried = 0;
  for (unsigned i = 0; i < block.threads; ++i) {
    const unsigned expected = block.fibers[i]->expected;
    if (block.fibers[i]->state != State::barrier || expected == tried) continue;
    std::vector<Fiber*> come;
    for (unsigned j = i; j < block.threads; ++j) {
      Fiber& fiber = *block.fibers[j];
      if (fiber.state == State::barrier && fiber.expected == expected) come.push_back(&fiber);
    }
    tried = expected;
    if (come.size() != expected) continue;
    for (Fiber* fiber : come) fiber->state = State::ready;
    return true;
  }
  return false;
}

bool release_waiting() {
  bool any = false;
  for (unsigned i = 0; i < block.threads; ++i) {
    Fiber& fiber = *block.fibers[i];
    if (fiber.state == State::waiting && fiber.done()) fiber.state = State::ready, any = true;
  }
  return any;
}

void run_together(Work* work, const uint64_t (&words)[WARP]) {
  void* lanes[WARP];
  for (unsigned lane = 0; lane < WARP; ++lane) lanes[lane] = from_word<void*>(words[lane]);
  if (const char* fault = work(lanes)) fail(fault);
}

// Of the lanes that the first waiting lane of a warp names, when all of them wait with the same words.
bool release_exchange(unsigned first) {
  const Fiber& one = *block.fibers[first];
  const unsigned warp = first / WARP * WARP;
  if ((one.mask >> (first - warp) & 1) == 0) return false;
  uint64_t words[WARP] = {}, ballot = 0;
  for (unsigned lane = 0; lane < WARP; ++lane) {
    if ((one.mask >> lane & 1) == 0) continue;
    if (warp + lane >= block.threads) return false;
    const Fiber& fiber = *block.fibers[warp + lane];
    if (fiber.state != State::exchange || fiber.kind != one.kind || fiber.mask != one.mask) return false;
    if (fiber.kind == Exchange::together && fiber.work != one.work) return false;
    words[lane] = fiber.word;
    ballot |= (fiber.word & 1) << lane;
  }
  const uint32_t mask = one.mask;
  if (one.kind == Exchange::together) run_together(one.work, words);
  for (unsigned lane = 0; lane < WARP; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    Fiber& fiber = *block.fibers[warp + lane];
    // The lane read from must take part: what the hardware returns else is undefined.
    fiber.word = fiber.kind == Exchange::ballot ? ballot : words[fiber.source];
    fiber.state = State::ready;
  }
  return true;
}

bool release_exchanges() {
  bool any = false;
  for (unsigned i = 0; i < block.threads; ++i) {
    if (block.fibers[i]->state == State::exchange) any = release_exchange(i) || any;
  }
  return any;
}

void check_copies() {
  for (unsigned i = 0; i < block.threads; ++i) {
    for (const std::vector<Copy>& group : block.fibers[i]->groups) {
      if (!group.empty()) fail("expected threads to wait for their copies, got one that did not");
    }
  }
  if (const char* left = left_async()) fail(left);
}

void run_block() {
  for (unsigned i = 0; i < block.threads; ++i) {
    block.fibers[i]->state = State::ready;
    block.fibers[i]->groups.assign(1, {});
  }
  block.fault = nullptr;
  while (run_ready() || release_waiting() || release_barrier() || release_exchanges() || land_box(draw_or_first())) {
  }
  const unsigned returned = count(State::returned), waiting = count(State::barrier) + count(State::waiting);
  if (returned == block.threads) return check_copies();
  fail("expected all " + std::to_string(block.threads) + " threads to go on, got " + std::to_string(waiting) +
       " at a barrier, " + std::to_string(block.threads - returned - waiting) + " in a warp operation and " +
       std::to_string(returned) + " that have returned");
}

void check_guards(size_t size) {
  for (size_t i = 0; i < GUARD; ++i) {
    if (*(here.shared - 1 - i) == char(GUARD_BYTE) && here.shared[size + i] == char(GUARD_BYTE)) continue;
    fail("expected no thread to write outside of its " + std::to_string(size) + " bytes of shared memory, got one");
  }
}

}  // namespace

void barrier() { barrier(block.threads); }

void barrier(unsigned threads) {
  block.fibers[block.current]->expected = threads;
  wait(State::barrier);
}

void report(const char* fault) {
  block.fault = fault;
  for (;;) wait(State::faulty);
}

void wait_until(std::function<bool()> done) {
  if (done() && block.schedule == 0) return;
  block.fibers[block.current]->done = std::move(done);
  wait(State::waiting);
}

uint64_t exchange(Exchange kind, uint32_t mask, uint64_t value, uint32_t source) {
  Fiber& fiber = *block.fibers[block.current];
  fiber.kind = kind, fiber.mask = mask, fiber.word = value, fiber.source = source;
  wait(State::exchange);
  return fiber.word;
}

void together(Work* work, void* given) {
  block.fibers[block.current]->work = work;
  exchange(Exchange::together, 0xffffffffu, to_word(given), 0);
}

void copy_later(void* to, const void* from, int valid) {
  block.fibers[block.current]->groups.back().push_back({to, from, valid});
}

void commit_copies() { block.fibers[block.current]->groups.emplace_back(); }

void wait_copies(int pending) {
  std::vector<std::vector<Copy>>& groups = block.fibers[block.current]->groups;
  while (int(groups.size()) - 1 > pending) {
    for (const Copy& copy : groups.front()) {
      std::memset(copy.to, 0, 16);
      std::memcpy(copy.to, copy.from, size_t(copy.valid));
    }
    groups.erase(groups.begin());
  }
}

void set_schedule(uint64_t seed) { block.schedule = block.random = seed; }

void run_grid(Index grid, unsigned threads, size_t shared_bytes, void (*thread)(void*), void* argument) {
  if (threads < 1 || threads > MAX_THREADS) throw std::runtime_error("emulator: expected 1 to 1024 threads in a block");
  block.threads = threads, block.thread = thread, block.argument = argument;
  while (block.fibers.size() < threads) block.fibers.push_back(std::make_unique<Fiber>());
  for (unsigned i = 0; i < threads; ++i) {
    block.current = i;
    if (!block.fibers[i]->begun) begin(*block.fibers[i]);
  }
  here.grid = grid, here.block_size = {threads, 1, 1}, here.thread = {0, 0, 0};
  void* memory = nullptr;
  if (posix_memalign(&memory, SHARED_ALIGN, shared_bytes + 2 * GUARD) != 0) throw std::bad_alloc();
  const std::unique_ptr<void, void (*)(void*)> owner(memory, std::free);
  std::memset(memory, GUARD_BYTE, shared_bytes + 2 * GUARD);
  here.shared = static_cast<char*>(memory) + GUARD;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x : permutation(grid.x)) {
      here.block = {x, y, 0};
      std::fill_n(here.shared, shared_bytes, char(POISON));
      begin_async(shared_bytes, threads);
      run_block();
      check_guards(shared_bytes);
    }
  }
}

}  // namespace emulator
}  // namespace dlcore
