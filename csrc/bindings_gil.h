// SPDX-License-Identifier: Apache-2.0
// Work without the GIL. Part of bindings.cpp, the only file that includes it.
#pragma once
#include <chrono>
#include <thread>

namespace dlcore {
namespace {

// Without the GIL while this lives. Up to Python 3.13 an interpreter that ends unwinds the thread that asks for the GIL
// (pthread_exit), which no destructor may let through: std::terminate. Such a thread waits here for the process to end,
// as Python 3.14 has it.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      while (true) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState* state_;
};

}  // namespace
}  // namespace dlcore
